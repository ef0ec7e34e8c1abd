#include "cli/reassignment.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "cli/terminal.h"
#include "wire/messages/alter_partition_reassignments.h"
#include "wire/messages/elect_leaders.h"

namespace millrace::cli {
namespace {

constexpr int64_t kLookEveryMs = 100;
// A move that has ended elsewhere than it should, for so long, was ended by somebody else: what is read may
// be a little old.
constexpr int64_t kDisplacedMs = 5'000;
constexpr size_t kComplaintsMax = 20;

enum class Stage : uint8_t { pending, moving, done, failed };

struct Item {
  const PartitionMove* move = nullptr;
  client::TopicPartition partition;
  Stage stage = Stage::pending;
  int64_t astray_since_ms = -1;
  Error error{ErrorCode::none};
};

using AlterRequest = wire::AlterPartitionReassignmentsRequest;
using AlterResponse = wire::AlterPartitionReassignmentsResponse;

std::string list_of(const std::vector<int32_t>& numbers) {
  return fmt::format("{}", fmt::join(numbers, ","));
}

AlterRequest alter_request(const std::vector<Item*>& items, bool cancel) {
  AlterRequest request;
  std::map<std::string, size_t> topics;
  for (const Item* item : items) {
    const auto [at, added] = topics.emplace(item->partition.topic, request.topics.size());
    if (added) request.topics.emplace_back().name = item->partition.topic;
    auto& p = request.topics[at->second].partitions.emplace_back();
    p.partition_index = item->partition.partition;
    if (!cancel) p.replicas = item->move->to;
  }
  return request;
}

/// What was said of each; the whole request's error is everyone's.
Result<std::map<client::TopicPartition, Error>> alter(Session& session, const std::vector<Item*>& items,
                                                      bool cancel) {
  TRY_ASSIGN(const AlterResponse answer,
             session.call<AlterRequest>(client::Target::any(), alter_request(items, cancel)));
  if (answer.error_code != 0)
    return Error(error_from_wire(answer.error_code), answer.error_message.value_or(""));
  std::map<client::TopicPartition, Error> out;
  for (const auto& t : answer.responses) {
    for (const auto& p : t.partitions) {
      out.emplace(client::TopicPartition{t.name, p.partition_index},
                  Error(error_from_wire(p.error_code), p.error_message.value_or("")));
    }
  }
  return out;
}

/// What has become of a move, as the cluster has it now.
void look_at(Item& item, const ClusterState& state, int64_t now_ms) {
  if (item.stage == Stage::done || item.stage == Stage::failed) return;
  const client::TopicInfo* topic = state.view.topic(item.partition.topic);
  if (topic == nullptr) {
    if (state.view.topic_error(item.partition.topic) == ErrorCode::unknown_topic_or_partition)
      item.stage = Stage::done;
    return;
  }
  const auto move = state.moves.find(item.partition);
  if (move != state.moves.end()) {
    const bool ours = move->second.target() == item.move->to;
    if (ours) item.stage = Stage::moving;
    if (ours || item.stage == Stage::pending) {
      item.astray_since_ms = -1;
      return;
    }
  } else {
    const client::PartitionInfo* p = topic->partition(item.partition.partition);
    if (p != nullptr && p->replicas == item.move->to) {
      item.stage = Stage::done;
      return;
    }
    if (item.stage == Stage::pending) return;
  }
  if (item.astray_since_ms < 0) item.astray_since_ms = now_ms;
  if (now_ms - item.astray_since_ms < kDisplacedMs) return;
  item.stage = Stage::failed;
  item.error = Error(ErrorCode::no_reassignment_in_progress,
                     "the move to " + list_of(item.move->to) + " was cancelled or replaced by another");
}

}  // namespace

Result<MoveReport> carry_out(Session& session, const std::vector<PartitionMove>& moves,
                             const MoveLimits& limits) {
  std::vector<Item> items;
  std::set<std::string> names;
  for (const PartitionMove& m : moves) {
    items.push_back({&m, {m.topic, m.partition}});
    names.insert(m.topic);
  }
  const std::vector<std::string> topics(names.begin(), names.end());
  const int64_t began_ms = session.mono_ms();
  const auto count = [&items](Stage stage) {
    return static_cast<size_t>(
        std::count_if(items.begin(), items.end(), [stage](const Item& i) { return i.stage == stage; }));
  };
  while (true) {
    const int64_t asked_ms = session.mono_ms();
    TRY_ASSIGN(const ClusterState state,
               patiently(session, limits.deadline_mono_ms, [&] { return read_cluster(session, topics); }));
    for (Item& item : items) look_at(item, state, session.mono_ms());
    std::vector<Item*> next;
    size_t moving = count(Stage::moving);
    for (Item& item : items) {
      if (moving >= limits.at_once) break;
      if (item.stage != Stage::pending) continue;
      next.push_back(&item);
      ++moving;
    }
    if (!next.empty() && session.mono_ms() < limits.deadline_mono_ms) {
      const auto said = alter(session, next, false);
      if (!said.ok() && !is_passing(said.code())) return said.error();
      for (Item* item : next) {
        if (!said.ok()) continue;
        const auto at = said->find(item->partition);
        if (at == said->end() || at->second.code == ErrorCode::none) {
          item->stage = Stage::moving;
        } else if (at->second.code == ErrorCode::unknown_topic_or_partition) {
          item->stage = Stage::done;
        } else if (!is_passing(at->second.code)) {
          item->stage = Stage::failed;
          item->error = at->second;
        }
      }
    }
    const size_t done = count(Stage::done);
    const size_t open = count(Stage::pending) + count(Stage::moving);
    progress(fmt::format("{} of {} partitions moved, {} under way, {} s", done, items.size(),
                         count(Stage::moving), (session.mono_ms() - began_ms) / 1000));
    if (open == 0 || session.mono_ms() >= limits.deadline_mono_ms) {
      progress("");
      MoveReport report;
      report.done = done;
      report.unfinished = open;
      for (Item& item : items) {
        if (item.stage == Stage::failed) report.failed.emplace_back(item.partition, std::move(item.error));
      }
      return report;
    }
    // Not more than half of the time is spent asking.
    TRY(session.pause(std::max(kLookEveryMs, session.mono_ms() - asked_ms)));
  }
}

Result<std::vector<std::pair<client::TopicPartition, Error>>> cancel_moves(
    Session& session, const std::vector<client::TopicPartition>& partitions) {
  std::vector<Item> items;
  std::vector<Item*> all;
  items.reserve(partitions.size());
  for (const client::TopicPartition& p : partitions) {
    items.push_back({nullptr, p});
    all.push_back(&items.back());
  }
  TRY_ASSIGN(const auto said, patiently(session, session.mono_ms() + session.timeout_ms(),
                                        [&] { return alter(session, all, true); }));
  std::vector<std::pair<client::TopicPartition, Error>> out;
  for (const client::TopicPartition& p : partitions) {
    const auto at = said.find(p);
    out.emplace_back(p, at == said.end() ? Error(ErrorCode::none) : at->second);
  }
  return out;
}

Result<std::vector<Election>> elect_leaders(Session& session,
                                            const std::optional<std::vector<client::TopicPartition>>& which,
                                            bool unclean, int64_t deadline_mono_ms) {
  constexpr int8_t kUnclean = 1;
  const auto ask = [&]() -> Result<std::vector<Election>> {
    wire::ElectLeadersRequest request;
    request.election_type = unclean ? kUnclean : int8_t{0};
    request.topic_partitions.reset();
    if (which) {
      request.topic_partitions.emplace();
      for (const client::TopicPartition& p : *which) {
        if (request.topic_partitions->empty() || request.topic_partitions->back().topic != p.topic)
          request.topic_partitions->push_back({p.topic, {}});
        request.topic_partitions->back().partitions.push_back(p.partition);
      }
    }
    TRY_ASSIGN(const auto answer,
               session.call<wire::ElectLeadersRequest>(client::Target::any(), std::move(request)));
    if (answer.error_code != 0) return Error(error_from_wire(answer.error_code));
    std::vector<Election> out;
    for (const auto& t : answer.replica_election_results) {
      for (const auto& p : t.partition_result) {
        out.push_back(
            {{t.topic, p.partition_id}, error_from_wire(p.error_code), p.error_message.value_or("")});
      }
    }
    return out;
  };
  return patiently(session, deadline_mono_ms, ask);
}

ExitCode complain_about(const MoveReport& report, int64_t timeout_ms) {
  ExitCode code = ExitCode::ok;
  size_t told = 0;
  for (const auto& [partition, error] : report.failed) {
    if (code == ExitCode::ok) code = exit_code_of(error);
    if (told++ < kComplaintsMax) (void)fail_about(client::to_string(partition), error);
  }
  if (told > kComplaintsMax) complain(fmt::format("and {} more failed", told - kComplaintsMax));
  if (report.unfinished > 0) {
    complain(
        fmt::format("{} partitions have not been moved within {} s; what has been begun goes on: repeat the "
                    "command to wait "
                    "for it, or \"millrace partition list --reassigning\" to look at it",
                    report.unfinished, timeout_ms / 1000));
    if (code == ExitCode::ok) code = ExitCode::unfinished;
  }
  return code;
}

}  // namespace millrace::cli
