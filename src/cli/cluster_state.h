// What the commands that operate a cluster look at: its brokers, where replicas lie and where they are
// moving, its metadata quorum.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "cli/placement_plan.h"
#include "cli/session.h"
#include "client/topic_partition.h"

namespace millrace::cli {

struct BrokerState {
  io::Endpoint endpoint;
  std::optional<std::string> rack;
  bool alive = true;  // false: registered and fenced
};

struct OngoingMove {
  std::vector<int32_t> replicas;  // all of them, while it lasts
  std::vector<int32_t> adding;
  std::vector<int32_t> removing;

  /// What it ends with.
  std::vector<int32_t> target() const;
};

using OngoingMoves = std::map<client::TopicPartition, OngoingMove>;

struct ClusterState {
  std::map<int32_t, BrokerState> brokers;
  client::ClusterView view;
  OngoingMoves moves;

  /// Partitions under way are where they go.
  Layout layout() const;
  int64_t living() const;
};

struct QuorumReplica {
  int32_t node = -1;
  Uuid directory;
  int64_t end = 0;
  int64_t heard_ms = -1;  // Unix; -1: never
};

struct QuorumState {
  int32_t leader = -1;
  int32_t epoch = 0;
  int64_t committed = 0;
  std::vector<QuorumReplica> voters;
  std::vector<QuorumReplica> observers;

  int64_t end() const;  // of the leader
  const QuorumReplica* voter(int32_t node) const;
  const QuorumReplica* observer(int32_t node) const;
};

/// Topics of `names`, or all.
Result<ClusterState> read_cluster(Session& session,
                                  std::optional<std::vector<std::string>> names = std::nullopt);
Result<std::map<int32_t, BrokerState>> read_brokers(Session& session);
Result<OngoingMoves> read_moves(Session& session);
Result<QuorumState> read_quorum(Session& session);

/// Whether what failed may succeed in a moment: while a controller or a broker changes.
bool is_passing(ErrorCode code);

/// Runs `f`, which gives a Result, again while its error is passing and `deadline_mono_ms` is not over.
template <class F>
auto patiently(Session& session, int64_t deadline_mono_ms, F f) -> decltype(f()) {
  constexpr int64_t kAgainMs = 200;
  while (true) {
    auto result = f();
    if (result.ok() || !is_passing(result.code()) || session.mono_ms() >= deadline_mono_ms) return result;
    if (Status paused = session.pause(kAgainMs); !paused.ok()) return std::move(paused).error();
  }
}

}  // namespace millrace::cli
