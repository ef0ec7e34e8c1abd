// OffsetCommit (8), TxnOffsetCommit (28) and OffsetFetch (9).
// OffsetCommit v2-4: retention time; v6: leader epoch; v7: instance id; v9: an unknown group is 69 instead of
// 22; v10: topic ids. OffsetFetch v2: null means all topics; v5: leader epoch; v7: require_stable; v8:
// several groups.
#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/plants.h"
#include "group/shard.h"

namespace millrace::group {
namespace {

constexpr int16_t kGroupIdNotFoundFrom = 9;

/// The answer in the shape of the request, every partition with `code`.
template <class Response, class Request>
Response commit_response(const Request& request, ErrorCode code) {
  Response response;
  for (const auto& topic : request.topics) {
    auto& t = response.topics.emplace_back();
    t.name = topic.name;
    t.topic_id = topic.topic_id;
    for (const auto& partition : topic.partitions) {
      auto& p = t.partitions.emplace_back();
      p.partition_index = partition.partition_index;
      p.error_code = wire_number(code);
    }
  }
  return response;
}

template <class Request>
size_t partition_count(const Request& request) {
  size_t n = 0;
  for (const auto& topic : request.topics) n += topic.partitions.size();
  return n;
}

}  // namespace

ErrorCode GroupShard::check_commit(const std::string& group_id, int32_t generation,
                                   const std::string& member_id,
                                   const std::optional<std::string>& group_instance_id, bool transactional,
                                   int16_t api_version, Now now) {
  if (group_id.size() > kIdBytesMax) return ErrorCode::invalid_group_id;
  if (!exists(group_id)) {
    if (generation >= 0) {
      return !transactional && api_version >= kGroupIdNotFoundFrom ? ErrorCode::group_id_not_found
                                                                   : ErrorCode::illegal_generation;
    }
    // A consumer without group management, or an admin: the commit makes a simple group.
    if (std::max({records_.size(), offsets_.group_count(), groups_.size()}) >= limits_.groups_max) {
      ++counters_.limit_refusals;
      return ErrorCode::policy_violation;
    }
    return ErrorCode::none;
  }
  const auto it = groups_.find(group_id);
  if (generation < 0 && (it == groups_.end() || it->second.state == GroupState::empty))
    return ErrorCode::none;
  if (generation < 0 && member_id.empty() && !group_instance_id) {
    return transactional ? ErrorCode::none : ErrorCode::unknown_member_id;
  }
  if (planted(Plant::commit_of_old_generation)) return ErrorCode::none;
  if (it == groups_.end()) return ErrorCode::unknown_member_id;
  ClassicGroup& group = it->second;
  if (const ErrorCode code = check_member(group, member_id, group_instance_id); code != ErrorCode::none)
    return code;
  // In a transaction -1 stands for a producer that does not tell (below v3).
  if ((!transactional || generation >= 0) && generation != group.generation)
    return ErrorCode::illegal_generation;
  if (!transactional && group.state == GroupState::completing_rebalance)
    return ErrorCode::rebalance_in_progress;
  if (group.state == GroupState::stable || group.state == GroupState::preparing_rebalance) {
    group.find(member_id)->touch(now);
  }
  return ErrorCode::none;
}

void GroupShard::handle(Token token, const OffsetCommitRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  ErrorCode code = check_commit(request.group_id, request.generation_id_or_member_epoch, request.member_id,
                                request.group_instance_id, false, client.api_version, now);
  if (code == ErrorCode::none && partition_count(request) > limits_.offsets_per_commit_max) {
    ++counters_.limit_refusals;
    code = ErrorCode::invalid_commit_offset_size;
  }
  auto response = commit_response<OffsetCommitResponse>(request, code);
  if (code == ErrorCode::none) {
    const int64_t expires = request.retention_time_ms < 0 ? -1 : now.wall_ms + request.retention_time_ms;
    append_offsets(request, response, expires, now, out);
  }
  out.reply(token, std::move(response));
}

void GroupShard::handle(Token token, const TxnOffsetCommitRequest& request, const ClientContext& client,
                        Now now, Output& out) {
  ErrorCode code = check_commit(request.group_id, request.generation_id_or_member_epoch, request.member_id,
                                request.group_instance_id, true, client.api_version, now);
  if (code == ErrorCode::none && partition_count(request) > limits_.offsets_per_commit_max) {
    ++counters_.limit_refusals;
    code = ErrorCode::invalid_commit_offset_size;
  }
  auto response = commit_response<TxnOffsetCommitResponse>(request, code);
  if (code == ErrorCode::none) {
    out.producer =
        TransactionalProducer{ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch)};
    append_offsets(request, response, -1, now, out);
  }
  out.reply(token, std::move(response));
}

template <class Request, class Response>
void GroupShard::append_offsets(const Request& request, Response& response, int64_t expires_ms, Now now,
                                Output& out) {
  size_t room = limits_.offsets_per_group_max -
                std::min(limits_.offsets_per_group_max, offsets_.count(request.group_id));
  for (size_t t = 0; t < request.topics.size(); ++t) {
    const auto& topic = request.topics[t];
    for (size_t p = 0; p < topic.partitions.size(); ++p) {
      const auto& partition = topic.partitions[p];
      const auto refuse = [&](ErrorCode code) {
        ++counters_.limit_refusals;
        response.topics[t].partitions[p].error_code = wire_number(code);
      };
      const std::string& metadata =
          partition.committed_metadata ? *partition.committed_metadata : std::string();
      if (topic.name.size() > kIdBytesMax) {
        refuse(ErrorCode::invalid_topic_exception);
        continue;
      }
      if (metadata.size() > limits_.offset_metadata_bytes_max) {
        refuse(ErrorCode::offset_metadata_too_large);
        continue;
      }
      if (offsets_.find(request.group_id, topic.name, partition.partition_index) == nullptr) {
        if (room == 0) {
          refuse(ErrorCode::invalid_commit_offset_size);
          continue;
        }
        --room;
      }
      CommittedOffset value;
      value.offset = partition.committed_offset;
      value.leader_epoch = partition.committed_leader_epoch;
      value.metadata = std::move(metadata);
      value.commit_timestamp_ms = now.wall_ms;
      value.expire_timestamp_ms = expires_ms;
      value.topic_id = topic.topic_id;
      out.records.push_back({encode_key(OffsetKey{request.group_id, topic.name, partition.partition_index}),
                             encode_value(value)});
      ++counters_.offsets_committed;
    }
  }
}

void GroupShard::handle(Token token, const OffsetFetchRequest& request, const ClientContext& client, Now now,
                        Output& out) {
  (void)client;
  (void)now;
  const std::string& group_id = request.group.group_id;
  OffsetFetchResponse response;
  response.group_id = group_id;
  const auto add = [&](auto& topic, int32_t partition, const CommittedOffset* committed) {
    auto& p = topic.partitions.emplace_back();
    p.partition_index = partition;
    p.committed_offset = -1;
    p.committed_leader_epoch = -1;
    p.metadata = "";  // clients take null for a fault
    if (request.require_stable && offsets_.has_pending(group_id, topic.name, partition)) {
      p.error_code = wire_number(ErrorCode::unstable_offset_commit);
    } else if (committed != nullptr) {
      p.committed_offset = committed->offset;
      p.committed_leader_epoch = committed->leader_epoch;
      p.metadata = committed->metadata;
    }
  };
  if (request.group.topics) {
    for (const auto& topic : *request.group.topics) {
      auto& t = response.topics.emplace_back();
      t.name = topic.name;
      t.topic_id = topic.topic_id;
      for (const int32_t partition : topic.partition_indexes) {
        add(t, partition, offsets_.find(group_id, topic.name, partition));
      }
    }
  } else if (const OffsetStore::Topics* topics = offsets_.topics_of(group_id)) {
    for (const auto& [name, partitions] : *topics) {
      auto& t = response.topics.emplace_back();
      t.name = name;
      for (const auto& [partition, committed] : partitions) {
        t.topic_id = committed.topic_id;
        add(t, partition, &committed);
      }
    }
  }
  out.reply(token, std::move(response));
}

}  // namespace millrace::group
