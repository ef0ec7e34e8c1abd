// A simulated consumer without a group: reads every judged partition from its beginning, one fetch at a time,
// with fetch sessions or without (KIP-227), and notes what it was given.
#pragma once

#include <optional>
#include <set>

#include "sim/client_process.h"
#include "wire/messages/fetch.h"

namespace millrace::sim {

class SimReader final : public ClientProcess {
 public:
  SimReader(World& world, std::string name) : ClientProcess(world, std::move(name)) {}

  using Place = std::pair<std::string, int32_t>;
  /// It is idle when it has come so far.
  void read_up_to(std::map<Place, int64_t> ends) { ends_ = std::move(ends); }
  bool idle() const override;
  /// Runs `f` with its client, on its loop.
  void with_client(std::function<void(client::Client&)> f) {
    loop_.post([this, f = std::move(f)] { f(client()); });
  }
  /// Where it is.
  std::string standing() const;

 private:
  struct Session {
    int32_t id = 0;
    int32_t epoch = 0;
    std::map<Place, int64_t> known;  // what the broker was told
  };
  void begin() override;
  void drop() override;
  void next();
  void step();
  void fetch(int32_t broker, const std::vector<Place>& places);
  void answered(int32_t broker, Recorder::Id operation, const std::vector<Place>& places,
                Result<wire::FetchResponse> response);
  void take(int32_t broker, const Place& place, const wire::FetchResponse::PartitionData& data,
            std::vector<check::Item>& items);
  void jump();

  std::map<Place, int64_t> positions_;
  std::map<Place, int64_t> not_before_ms_;
  std::map<int32_t, Session> sessions_;
  std::optional<std::map<Place, int64_t>> ends_;
  size_t turn_ = 0;
  bool reset_ = true;
};

}  // namespace millrace::sim
