#include "client/offsets.h"

#include <memory>
#include <utility>

#include "wire/messages/list_offsets.h"
#include "wire/messages/offset_commit.h"
#include "wire/messages/offset_fetch.h"

namespace millrace::client {
namespace {

constexpr int16_t kLastOffsetsByName = 9;  // OffsetCommit and OffsetFetch 10 name topics by id
constexpr int64_t kRoundPauseMs = 100;

/// Rounds of ListOffsets: each asks the leaders for what is still missing.
class OffsetQuery : public std::enable_shared_from_this<OffsetQuery> {
 public:
  OffsetQuery(Client& client, std::map<TopicPartition, int64_t> timestamps, bool read_committed,
              int64_t timeout_ms, Done<std::map<TopicPartition, OffsetAt>> done)
      : client_(client),
        missing_(std::move(timestamps)),
        read_committed_(read_committed),
        deadline_ms_(client.deadline_after(timeout_ms)),
        done_(std::move(done)) {
    for (const auto& [where, timestamp] : missing_) topics_.insert(where.topic);
  }

  void round() {
    auto left = std::make_shared<std::set<std::string>>(topics_);
    look_up(left);
  }

 private:
  int64_t left_ms() const { return std::max<int64_t>(1, deadline_ms_ - client_.now_ms()); }

  void look_up(const std::shared_ptr<std::set<std::string>>& left) {
    if (left->empty()) return ask();
    const std::string topic = *left->begin();
    left->erase(left->begin());
    client_.with_topic(topic, false, left_ms(), [self = shared_from_this(), left](Result<TopicInfo> info) {
      if (!info.ok()) return self->done_(std::move(info).error());
      self->look_up(left);
    });
  }

  void ask() {
    std::map<int32_t, wire::ListOffsetsRequest> requests;
    for (const auto& [where, timestamp] : missing_) {
      const TopicInfo* topic = client_.view().topic(where.topic);
      const PartitionInfo* partition = topic == nullptr ? nullptr : topic->partition(where.partition);
      OffsetAt& answer = found_[where];
      if (partition == nullptr || partition->leader < 0) {
        answer.error =
            partition == nullptr ? ErrorCode::unknown_topic_or_partition : ErrorCode::leader_not_available;
        continue;
      }
      wire::ListOffsetsRequest& request = requests[partition->leader];
      if (request.topics.empty() || request.topics.back().name != where.topic) {
        request.topics.emplace_back().name = where.topic;
      }
      auto& p = request.topics.back().partitions.emplace_back();
      p.partition_index = where.partition;
      p.timestamp = timestamp;
    }
    pending_ = requests.size();
    if (requests.empty()) return round_over();
    for (auto& [leader, request] : requests) {
      request.replica_id = -1;
      request.isolation_level = read_committed_ ? 1 : 0;
      request.timeout_ms = static_cast<int32_t>(std::min<int64_t>(left_ms(), INT32_MAX));
      CallOptions options;
      options.timeout_ms = left_ms();
      client_.call<wire::ListOffsetsRequest>(
          Target::broker(leader), std::move(request), options, nullptr,
          [self = shared_from_this()](Result<wire::ListOffsetsResponse> response) {
            if (!response.ok()) {
              self->failed_ = response.error();
            } else {
              self->take(*response);
            }
            if (--self->pending_ == 0) self->round_over();
          });
    }
  }

  void take(const wire::ListOffsetsResponse& response) {
    for (const auto& topic : response.topics) {
      for (const auto& p : topic.partitions) {
        const auto asked = missing_.find({topic.name, p.partition_index});
        if (asked == missing_.end()) continue;
        found_[asked->first] = {error_from_wire(p.error_code), p.offset, p.timestamp, p.leader_epoch};
        if (!is_retriable(error_from_wire(p.error_code))) missing_.erase(asked);
      }
    }
  }

  void round_over() {
    if (failed_.code != ErrorCode::none) return done_(Error(failed_.code, failed_.message));
    if (missing_.empty() || client_.now_ms() + kRoundPauseMs >= deadline_ms_) return done_(std::move(found_));
    // A partition that the topic does not have will not come.
    bool hope = false;
    for (const auto& [where, timestamp] : missing_) {
      const TopicInfo* topic = client_.view().topic(where.topic);
      if (topic == nullptr || topic->partition(where.partition) != nullptr) hope = true;
    }
    if (!hope) return done_(std::move(found_));
    topics_.clear();
    for (const auto& [where, timestamp] : missing_) {
      topics_.insert(where.topic);
      client_.distrust(Target::leader(where.topic, where.partition), ErrorCode::not_leader_or_follower);
    }
    client_.loop().call_after(kRoundPauseMs, [self = shared_from_this(), life = client_.life()] {
      if (!life.expired()) self->round();
    });
  }

  Client& client_;
  std::map<TopicPartition, int64_t> missing_;
  std::map<TopicPartition, OffsetAt> found_;
  std::set<std::string> topics_;
  const bool read_committed_;
  const int64_t deadline_ms_;
  Done<std::map<TopicPartition, OffsetAt>> done_;
  size_t pending_ = 0;
  Error failed_{ErrorCode::none};
};

ErrorCode group_error(const wire::OffsetFetchResponse& r) {
  return error_from_wire(r.groups.empty() ? r.error_code : r.groups[0].error_code);
}

void read_committed_topics(const auto& topics, std::map<TopicPartition, CommittedOffset>& out) {
  for (const auto& topic : topics) {
    for (const auto& p : topic.partitions) {
      out[{topic.name, p.partition_index}] = {error_from_wire(p.error_code), p.committed_offset,
                                              p.metadata.value_or("")};
    }
  }
}

}  // namespace

void list_offsets(Client& client, std::map<TopicPartition, int64_t> timestamps, bool read_committed,
                  int64_t timeout_ms, Done<std::map<TopicPartition, OffsetAt>> done) {
  if (timestamps.empty()) return done(std::map<TopicPartition, OffsetAt>{});
  std::make_shared<OffsetQuery>(client, std::move(timestamps), read_committed, timeout_ms, std::move(done))
      ->round();
}

void fetch_committed(Client& client, const std::string& group,
                     std::optional<std::set<TopicPartition>> partitions, int64_t timeout_ms,
                     Done<std::map<TopicPartition, CommittedOffset>> done) {
  wire::OffsetFetchRequest request;
  request.group_id = group;
  auto& g = request.groups.emplace_back();
  g.group_id = group;
  if (!partitions) {
    request.topics.reset();
    g.topics.reset();
  } else {
    for (const TopicPartition& where : *partitions) {
      if (g.topics->empty() || g.topics->back().name != where.topic) {
        g.topics->emplace_back().name = where.topic;
        request.topics->emplace_back().name = where.topic;
      }
      g.topics->back().partition_indexes.push_back(where.partition);
      request.topics->back().partition_indexes.push_back(where.partition);
    }
  }
  CallOptions options;
  options.timeout_ms = timeout_ms;
  options.version_max = kLastOffsetsByName;
  client.call<wire::OffsetFetchRequest>(
      Target::coordinator(group), std::move(request), options, group_error,
      [group, done = std::move(done)](Result<wire::OffsetFetchResponse> response) {
        if (!response.ok()) return done(std::move(response).error());
        const ErrorCode code = group_error(*response);
        if (code != ErrorCode::none) {
          return done(
              Error(code, "committed offsets of group " + group + ": " + std::string(error_name(code))));
        }
        std::map<TopicPartition, CommittedOffset> out;
        if (response->groups.empty()) {
          read_committed_topics(response->topics, out);
        } else {
          read_committed_topics(response->groups[0].topics, out);
        }
        done(std::move(out));
      });
}

void commit_offsets(Client& client, const GroupIdentity& identity,
                    const std::map<TopicPartition, int64_t>& offsets, int64_t timeout_ms,
                    Done<std::map<TopicPartition, ErrorCode>> done) {
  if (offsets.empty()) return done(std::map<TopicPartition, ErrorCode>{});
  wire::OffsetCommitRequest request;
  request.group_id = identity.group;
  request.generation_id_or_member_epoch = identity.generation;
  request.member_id = identity.member_id;
  request.group_instance_id = identity.instance_id;
  for (const auto& [where, offset] : offsets) {
    if (request.topics.empty() || request.topics.back().name != where.topic) {
      request.topics.emplace_back().name = where.topic;
    }
    auto& p = request.topics.back().partitions.emplace_back();
    p.partition_index = where.partition;
    p.committed_offset = offset;
  }
  CallOptions options;
  options.timeout_ms = timeout_ms;
  options.version_max = kLastOffsetsByName;
  const auto first_error = [](const wire::OffsetCommitResponse& r) {
    for (const auto& topic : r.topics) {
      for (const auto& p : topic.partitions) {
        if (p.error_code != 0) return error_from_wire(p.error_code);
      }
    }
    return ErrorCode::none;
  };
  client.call<wire::OffsetCommitRequest>(
      Target::coordinator(identity.group, Lane::group), std::move(request), options, first_error,
      [done = std::move(done)](Result<wire::OffsetCommitResponse> response) {
        if (!response.ok()) return done(std::move(response).error());
        std::map<TopicPartition, ErrorCode> out;
        for (const auto& topic : response->topics) {
          for (const auto& p : topic.partitions)
            out[{topic.name, p.partition_index}] = error_from_wire(p.error_code);
        }
        done(std::move(out));
      });
}

}  // namespace millrace::client
