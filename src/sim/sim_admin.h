// The simulated administrator: creates the topics that are judged, then does what administrators do: makes
// and deletes other topics, adds partitions, changes settings, moves replicas, elects leaders.
#pragma once

#include "sim/client_process.h"

namespace millrace::sim {

class SimAdmin final : public ClientProcess {
 public:
  SimAdmin(World& world, std::string name) : ClientProcess(world, std::move(name)) {}

  bool idle() const override { return !busy_; }
  /// Every judged topic is there.
  bool prepared() const { return prepared_; }
  /// No more moves from now on; those that are under way are called off or finished by the cluster.
  void rest() { resting_ = true; }

 private:
  void begin() override;
  void drop() override { busy_ = false; }
  void create_next();
  void create(const std::string& topic, int32_t partitions, std::function<void(ErrorCode)> done);
  void next();
  void act();
  void create_scratch();
  void delete_scratch();
  void add_partitions();
  void change_settings();
  void reassign();
  void elect();
  /// Calls and goes on, whatever comes of it.
  template <class Request>
  void call(Request request, std::function<void(const typename Request::Response&)> then = nullptr);

  bool prepared_ = false;
  bool busy_ = false;
  bool resting_ = false;
  int32_t created_ = 0;
  uint64_t scratch_made_ = 0;
  std::vector<std::string> scratch_;
};

}  // namespace millrace::sim
