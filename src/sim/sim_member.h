// A simulated member of a consumer group (classic protocol): polls what the group gives it, commits what it
// has read, and notes both; sometimes dies, so that others take over from what it committed.
#pragma once

#include "client/consumer.h"
#include "sim/client_process.h"
#include "wire/messages/offset_commit.h"

namespace millrace::sim {

class SimMember final : public ClientProcess {
 public:
  SimMember(World& world, std::string name, std::string group)
      : ClientProcess(world, std::move(name)), group_(std::move(group)) {}

  bool idle() const override { return !polling_ && !committing_; }
  const std::string& group() const { return group_; }
  /// Whether it has been given partitions (maybe none) in the group's present generation, as far as it knows.
  bool settled() const;
  int32_t generation() const;
  /// It has asked to join, or waits for its assignment.
  bool joins() const { return consumer_ && !settled(); }
  bool commits() const { return committing_; }
  std::vector<client::TopicPartition> owned() const;

 private:
  void begin() override;
  void drop() override;
  void next();
  void poll();
  void polled(Recorder::Id operation, Result<std::vector<client::ConsumedRecord>> records);
  void note_assignment();
  void commit();

  const std::string group_;
  std::unique_ptr<client::Consumer> consumer_;
  int32_t noted_generation_ = -1;
  std::vector<client::TopicPartition> noted_;
  bool polling_ = false;
  bool committing_ = false;
};

}  // namespace millrace::sim
