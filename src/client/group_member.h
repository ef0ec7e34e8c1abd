// One member of a consumer group, classic protocol: joins, assigns by range if it is chosen to lead, keeps
// its membership alive, joins again when the group changes (all partitions are given up before: "eager").
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"
#include "client/offsets.h"
#include "client/range_assignor.h"
#include "client/topic_partition.h"
#include "wire/messages/join_group.h"
#include "wire/messages/sync_group.h"

namespace millrace::client {

struct GroupOptions {
  std::string group;
  std::vector<std::string> topics;
  std::optional<std::string> instance_id;  // static membership (KIP-345)
  int32_t session_timeout_ms = 10'000;
  int32_t rebalance_timeout_ms = 60'000;
  int64_t heartbeat_interval_ms = 3'000;
  int64_t give_up_ms = 60'000;  // how long it tries when the coordinator does not answer
};

class GroupMember {
 public:
  struct Events {
    /// Partitions are about to be given up: commit, then call `ready`. Not called when membership is lost.
    std::function<void(std::function<void()> ready)> on_giving_up;
    /// Membership or generation is gone: partitions belong to others already.
    std::function<void()> on_lost;
    std::function<void(std::vector<TopicPartition>)> on_assigned;
    /// It will not go on by itself.
    std::function<void(Error)> on_failed;
  };

  GroupMember(Client& client, GroupOptions options, Events events);
  ~GroupMember();

  void start() { join(); }
  /// Leaves the group (a dynamic member does; a static one stays, its session runs out) and stops.
  void leave(std::function<void()> done);
  GroupIdentity identity() const;
  bool stable() const { return state_ == State::stable; }
  bool leads() const { return leads_; }

 private:
  enum class State : uint8_t { out, joining, stable, giving_up, stopped };

  void join();
  void joined(Result<wire::JoinGroupResponse> response);
  void lead(const wire::JoinGroupResponse& response);
  void sync(std::vector<wire::SyncGroupRequest::SyncGroupRequestAssignment> assignments);
  void synced(Result<wire::SyncGroupResponse> response);
  void arm_heartbeat();
  void beat();
  void rebalance();
  void lost();
  /// Joins again after a pause, or fails if the coordinator has been silent for too long.
  void join_later(Error why);
  void failed(Error why);

  Client& client_;
  const GroupOptions options_;
  const Events events_;
  State state_ = State::out;
  std::string member_id_;
  int32_t generation_ = -1;
  std::string protocol_;
  bool leads_ = false;
  int64_t silent_since_ms_ = -1;
  io::TimerId heartbeat_ = 0;
  std::shared_ptr<void> life_ = std::make_shared<char>();
};

}  // namespace millrace::client
