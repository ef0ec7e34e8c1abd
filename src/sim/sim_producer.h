// A simulated producer: one batch at a time to one partition, each value used once in the whole run. The
// idempotent one repeats a batch, with the same sequence number, until its fate is known or its time is up.
#pragma once

#include "sim/client_process.h"
#include "wire/messages/produce.h"

namespace millrace::sim {

class SimProducer final : public ClientProcess {
 public:
  SimProducer(World& world, std::string name, bool idempotent, int16_t acks)
      : ClientProcess(world, std::move(name)), idempotent_(idempotent), acks_(acks) {}

  bool idle() const override { return batch_ == nullptr; }

 private:
  struct Batch {
    std::string topic;
    int32_t partition = 0;
    Bytes bytes;
    int32_t records = 0;
    Recorder::Id operation = 0;
    int64_t deadline_ms = 0;
    bool doubtful = false;  // an attempt may have been stored
    int attempts = 0;
    bool gap = false;            // out of order on purpose
    int32_t first_broker = -1;   // the leader as it was known at the first attempt
    int64_t end_at_attempt = 0;  // of the partition, when this attempt began
  };
  void begin() override { next(); }
  void drop() override;
  void next();
  void ask_id();
  void make_batch();
  void attempt();
  void answered(Result<wire::ProduceResponse> response);
  int32_t known_leader();
  void note_rare(ErrorCode code, int64_t base_offset);
  void end(check::Outcome outcome, int64_t base_offset = -1);

  const bool idempotent_;
  const int16_t acks_;
  int64_t id_ = -1;
  int16_t epoch_ = -1;
  std::map<std::pair<std::string, int32_t>, int32_t> sequences_;
  std::unique_ptr<Batch> batch_;
};

}  // namespace millrace::sim
