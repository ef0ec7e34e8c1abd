// OffsetCommit (8), versions 2-8: the group's rules live in group/; here unknown topics are set aside.
//   2-4 retention time (ignored) | 6 leader epoch | 7 group instance id | 8 flexible
#include "broker/group_shards.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using CommitTopics = std::vector<wire::OffsetCommitRequest::OffsetCommitRequestTopic>;

wire::OffsetCommitResponse commit_refused(const CommitTopics& topics, ErrorCode code) {
  wire::OffsetCommitResponse r;
  for (const auto& t : topics) {
    auto& out = r.topics.emplace_back();
    out.name = t.name;
    for (const auto& p : t.partitions)
      out.partitions.push_back({p.partition_index, static_cast<int16_t>(code)});
  }
  return r;
}

// Partitions of topics that do not exist: answered with 3, without bothering the group.
CommitTopics take_unknown(const meta::Image& image, CommitTopics& topics) {
  CommitTopics unknown;
  for (auto& t : topics) {
    const meta::Topic* known = image.topic(t.name);
    auto& bad = unknown.emplace_back();
    bad.name = t.name;
    std::erase_if(t.partitions, [&](const auto& p) {
      const bool exists = known != nullptr && p.partition_index >= 0 &&
                          static_cast<size_t>(p.partition_index) < known->partitions.size();
      if (!exists) bad.partitions.push_back(p);
      return !exists;
    });
    if (bad.partitions.empty()) unknown.pop_back();
  }
  std::erase_if(topics, [](const auto& t) { return t.partitions.empty(); });
  return unknown;
}

void merge_commit(wire::OffsetCommitResponse& into, wire::OffsetCommitResponse more) {
  for (auto& t : more.topics) {
    auto it = std::find_if(into.topics.begin(), into.topics.end(),
                           [&](const auto& have) { return have.name == t.name; });
    if (it == into.topics.end()) {
      into.topics.push_back(std::move(t));
    } else {
      it->partitions.insert(it->partitions.end(), t.partitions.begin(), t.partitions.end());
    }
  }
}

}  // namespace

void handle(Call call, wire::OffsetCommitRequest& request) {
  const CommitTopics unknown = take_unknown(*call.view().image, request.topics);
  wire::OffsetCommitResponse refused = commit_refused(unknown, ErrorCode::unknown_topic_or_partition);
  if (request.topics.empty()) {
    call.reply(refused);
    return;
  }
  const Result<std::shared_ptr<GroupRunner>> runner = find_group_runner(call, request.group_id);
  if (!runner.ok()) {
    merge_commit(refused, commit_refused(request.topics, wire_code(runner.code())));
    call.reply(refused);
    return;
  }
  const SharedCall shared = share(std::move(call));
  const CommitTopics topics = request.topics;
  ask_runner(shared, *runner, std::move(request),
             [shared, topics, refused = std::move(refused)](Result<group::Response> answer) mutable {
               merge_commit(refused, answer.ok() ? std::get<wire::OffsetCommitResponse>(std::move(*answer))
                                                 : commit_refused(topics, wire_code(answer.code())));
               shared->reply(refused);
             });
}

}  // namespace millrace::broker
