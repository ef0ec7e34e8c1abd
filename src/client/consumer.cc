#include "client/consumer.h"

#include <algorithm>
#include <set>

#include "record/batch_iterator.h"
#include "record/control_batch.h"
#include "record/opened_batch.h"

namespace millrace::client {
namespace {

constexpr int16_t kLastFetchByName = 12;
constexpr int64_t kPauseAfterErrorMs = 200;
constexpr int64_t kFetchSlackMs = 30'000;  // on top of the wait that the broker was asked for
constexpr int64_t kLookUpTimeoutMs = 30'000;
constexpr int64_t kCommitTimeoutMs = 10'000;
constexpr int32_t kPartitionBytesLimit = 256 << 20;  // no batch is larger

bool is_final(ErrorCode code) {
  return code == ErrorCode::topic_authorization_failed || code == ErrorCode::group_authorization_failed ||
         code == ErrorCode::unsupported_version || code == ErrorCode::invalid_topic_exception;
}

size_t size_of(const ConsumedRecord& r) {
  return sizeof(ConsumedRecord) + (r.key ? r.key->size() : 0) + (r.value ? r.value->size() : 0);
}

ConsumedRecord copy_record(const TopicPartition& where, const record::OpenedBatch& batch,
                           const record::Record& r) {
  ConsumedRecord out;
  out.topic = where.topic;
  out.partition = where.partition;
  out.offset = batch.offset_of(r).v;
  out.timestamp_ms = batch.timestamp_of(r);
  out.timestamp_type = batch.batch().timestamp_type();
  if (r.key) out.key = to_bytes(*r.key);
  if (r.value) out.value = to_bytes(*r.value);
  for (const record::Header& h : r.headers) {
    out.headers.emplace_back(std::string(as_text(h.key)),
                             h.value ? std::optional<Bytes>(to_bytes(*h.value)) : std::nullopt);
  }
  return out;
}

}  // namespace

Consumer::Consumer(Client& client, ConsumerOptions options) : client_(client), options_(options) {}

Consumer::~Consumer() {
  if (poll_timer_ != 0) client_.loop().cancel(poll_timer_);
  if (commit_timer_ != 0) client_.loop().cancel(commit_timer_);
}

void Consumer::assign(const std::map<TopicPartition, int64_t>& offsets) {
  drop_assignment();
  begin_at(offsets);
  assigned_ = true;
}

void Consumer::begin_at(std::map<TopicPartition, int64_t> offsets) {
  for (const auto& [where, offset] : offsets) {
    Partition& p = partitions_[where];
    p.fetch_offset = offset;
    p.bytes_max = options_.partition_bytes_max;
  }
  pump();
}

void Consumer::drop_assignment() {
  ++assignment_;
  partitions_.clear();
  done_with_.clear();
  committed_.clear();
  leaders_busy_.clear();
  ready_bytes_ = 0;
  assigned_ = false;
}

void Consumer::subscribe(GroupOptions group) {
  ASSERT(member_ == nullptr);
  GroupMember::Events events;
  events.on_giving_up = [this](std::function<void()> ready) {
    // Records that are still with the reader will be read again, by whoever gets their partition.
    const auto then = [this, life = std::weak_ptr<void>(life_), ready = std::move(ready)](Status) {
      if (life.expired()) return;
      drop_assignment();
      ready();
    };
    if (!options_.commit) return then({});
    commit(then);
  };
  events.on_lost = [this] { drop_assignment(); };
  events.on_assigned = [this](std::vector<TopicPartition> partitions) {
    take_assignment(std::move(partitions));
  };
  events.on_failed = [this](Error why) { fail(std::move(why)); };
  member_ = std::make_unique<GroupMember>(client_, std::move(group), std::move(events));
  member_->start();
  arm_commit();
}

void Consumer::take_assignment(std::vector<TopicPartition> partitions) {
  drop_assignment();
  assigned_ = partitions.empty();
  if (assigned_) return;
  const uint64_t mine = assignment_;
  std::set<TopicPartition> wanted(partitions.begin(), partitions.end());
  const std::string group = member_->identity().group;
  fetch_committed(
      client_, group, wanted, 0,
      [this, life = std::weak_ptr<void>(life_), mine,
       wanted](Result<std::map<TopicPartition, CommittedOffset>> r) {
        if (life.expired() || mine != assignment_) return;
        if (!r.ok()) return fail(std::move(r).error());
        std::map<TopicPartition, int64_t> offsets;
        std::map<TopicPartition, int64_t> unknown;
        for (const TopicPartition& where : wanted) {
          const auto found = r->find(where);
          if (found != r->end() && found->second.offset >= 0) {
            offsets[where] = found->second.offset;
          } else {
            unknown[where] = options_.start == StartAt::beginning ? kEarliest : kLatest;
          }
        }
        if (!unknown.empty() && options_.start == StartAt::fail) {
          return fail(Error(ErrorCode::offset_out_of_range,
                            "the group has committed no offset for " + to_string(unknown.begin()->first)));
        }
        committed_ = offsets;
        begin_at(std::move(offsets));
        assigned_ = unknown.empty();
        if (assigned_) return;
        list_offsets(
            client_, std::move(unknown), options_.read_committed, 0,
            [this, life, mine](Result<std::map<TopicPartition, OffsetAt>> found) {
              if (life.expired() || mine != assignment_) return;
              if (!found.ok()) return fail(std::move(found).error());
              std::map<TopicPartition, int64_t> begin;
              for (const auto& [where, at] : *found) {
                if (at.error != ErrorCode::none) {
                  return fail(Error(at.error, to_string(where) + ": " + std::string(error_name(at.error))));
                }
                begin[where] = at.offset;
              }
              begin_at(std::move(begin));
              assigned_ = true;
            });
      });
}

void Consumer::pump_later(int64_t delay_ms) {
  if (pumping_later_) return;
  pumping_later_ = true;
  client_.loop().call_after(delay_ms, [this, life = std::weak_ptr<void>(life_)] {
    if (life.expired()) return;
    pumping_later_ = false;
    pump();
  });
}

void Consumer::look_for_leader(const std::string& topic) {
  bool& looking = looking_[topic];
  if (looking) return;
  looking = true;
  client_.distrust(Target::leader(topic, 0), ErrorCode::not_leader_or_follower);
  client_.with_topic(topic, false, kLookUpTimeoutMs,
                     [this, life = std::weak_ptr<void>(life_), topic](Result<TopicInfo> info) {
                       if (life.expired()) return;
                       looking_[topic] = false;
                       if (!info.ok() && !is_retriable(info.code())) return fail(std::move(info).error());
                       if (info.code() == ErrorCode::unknown_topic_or_partition)
                         return fail(std::move(info).error());
                       pump_later(kPauseAfterErrorMs);
                     });
}

void Consumer::pump() {
  if (closed_ || failed_ || ready_bytes_ >= options_.buffered_bytes_max) return;
  const int64_t now = client_.now_ms();
  std::map<int32_t, std::vector<TopicPartition>> by_leader;
  bool waiting = false;
  std::set<std::string> leaderless;
  for (auto& [where, p] : partitions_) {
    if (p.fetching || p.ready_bytes >= options_.buffered_bytes_max / 2) continue;
    if (p.not_before_ms > now) {
      waiting = true;
      continue;
    }
    const TopicInfo* topic = client_.view().topic(where.topic);
    if (topic != nullptr && topic->partition(where.partition) == nullptr) {
      return fail(Error(ErrorCode::unknown_topic_or_partition, "there is no partition " + to_string(where)));
    }
    const PartitionInfo* info = topic == nullptr ? nullptr : topic->partition(where.partition);
    if (info == nullptr || info->leader < 0) {
      leaderless.insert(where.topic);
      continue;
    }
    if (leaders_busy_[info->leader]) continue;
    by_leader[info->leader].push_back(where);
  }
  for (auto& [leader, partitions] : by_leader) fetch_from(leader, std::move(partitions));
  for (const std::string& topic : leaderless) look_for_leader(topic);
  if (waiting) pump_later(kPauseAfterErrorMs);
}

void Consumer::fetch_from(int32_t leader, std::vector<TopicPartition> partitions) {
  wire::FetchRequest request;
  request.max_wait_ms = options_.fetch_wait_ms;
  request.min_bytes = 1;
  request.max_bytes = options_.fetch_bytes_max;
  request.isolation_level = options_.read_committed ? 1 : 0;
  CallOptions options;
  options.request_timeout_ms = options_.fetch_wait_ms + kFetchSlackMs;
  options.timeout_ms = options.request_timeout_ms;
  options.repeat_after_loss = false;
  // A fetch from another leader may have failed a moment ago, at once, and with it what was known.
  std::set<std::string> forgotten;
  std::erase_if(partitions, [this, &forgotten](const TopicPartition& where) {
    const TopicInfo* topic = client_.view().topic(where.topic);
    if (topic != nullptr && topic->partition(where.partition) != nullptr) return false;
    forgotten.insert(where.topic);
    return true;
  });
  for (const std::string& topic : forgotten) look_for_leader(topic);
  if (partitions.empty()) return;
  std::vector<std::pair<Uuid, std::string>> names;
  for (const TopicPartition& where : partitions) {
    const TopicInfo* topic = client_.view().topic(where.topic);
    if (request.topics.empty() || request.topics.back().topic != where.topic) {
      auto& t = request.topics.emplace_back();
      t.topic = where.topic;
      t.topic_id = topic->id;
      names.emplace_back(topic->id, where.topic);
      if (t.topic_id.is_zero()) options.version_max = kLastFetchByName;
    }
    Partition& p = partitions_[where];
    p.fetching = true;
    auto& f = request.topics.back().partitions.emplace_back();
    f.partition = where.partition;
    f.fetch_offset = p.fetch_offset;
    f.partition_max_bytes = p.bytes_max;
    f.current_leader_epoch = topic->partition(where.partition)->leader_epoch;
  }
  leaders_busy_[leader] = true;
  client_.call<wire::FetchRequest>(
      Target::broker(leader, Lane::fetch), std::move(request), options, nullptr,
      [this, life = std::weak_ptr<void>(life_), leader, mine = assignment_, names = std::move(names),
       asked = std::move(partitions)](Result<wire::FetchResponse> response) {
        if (life.expired()) return;
        if (mine == assignment_) leaders_busy_[leader] = false;
        fetched(mine, asked, names, std::move(response));
      });
}

void Consumer::fetched(uint64_t assignment, const std::vector<TopicPartition>& asked,
                       const std::vector<std::pair<Uuid, std::string>>& names,
                       Result<wire::FetchResponse> response) {
  if (assignment != assignment_ || closed_ || failed_) return;
  for (const TopicPartition& where : asked) partitions_[where].fetching = false;
  const ErrorCode code = response.ok() ? error_from_wire(response->error_code) : response.code();
  if (code != ErrorCode::none) {
    if (is_final(code))
      return fail(response.ok() ? Error(code, "Fetch was refused") : std::move(response).error());
    for (const TopicPartition& where : asked) {
      partitions_[where].not_before_ms = client_.now_ms() + kPauseAfterErrorMs;
      look_for_leader(where.topic);
    }
    return pump_later(kPauseAfterErrorMs);
  }
  for (const auto& topic : response->responses) {
    // From version 13 on the answer has the id alone.
    const auto by_id = std::find_if(names.begin(), names.end(),
                                    [&topic](const auto& n) { return n.first == topic.topic_id; });
    const std::string name = topic.topic.empty() && by_id != names.end() ? by_id->second : topic.topic;
    for (const auto& data : topic.partitions) {
      const TopicPartition where{name, data.partition_index};
      if (std::find(asked.begin(), asked.end(), where) == asked.end()) continue;
      take(where, partitions_[where], data);
      if (failed_ || assignment != assignment_) return;
    }
  }
  answer_poll();
  pump();
}

void Consumer::take(const TopicPartition& where, Partition& p,
                    const wire::FetchResponse::PartitionData& data) {
  const ErrorCode code = error_from_wire(data.error_code);
  switch (code) {
    case ErrorCode::none: {
      const Status read = read_batches(where, p, data);
      if (!read.ok()) fail(Error(read.code(), to_string(where) + ": " + read.error().message));
      return;
    }
    case ErrorCode::offset_out_of_range:
      return reset_offset(where, code);
    default:
      if (is_final(code)) return fail(Error(code, to_string(where) + ": " + std::string(error_name(code))));
      p.not_before_ms = client_.now_ms() + kPauseAfterErrorMs;
      look_for_leader(where.topic);
      return;
  }
}

Status Consumer::read_batches(const TopicPartition& where, Partition& p,
                              const wire::FetchResponse::PartitionData& data) {
  // Aborted transactions (read_committed): records of a producer between the first offset listed and its
  // abort marker are not handed out.
  std::multimap<int64_t, int64_t> aborted;  // first offset -> producer
  std::set<int64_t> aborting;
  if (options_.read_committed && data.aborted_transactions) {
    for (const auto& a : *data.aborted_transactions) aborted.emplace(a.first_offset, a.producer_id);
  }
  record::BatchIterator batches(data.records.view);
  while (true) {
    TRY_ASSIGN(std::optional<record::BatchView> batch, batches.next());
    if (!batch) break;
    if (!batch->crc_matches()) {
      return Error(ErrorCode::corrupt_message,
                   "the batch at offset " + std::to_string(batch->base_offset().v) + " has a wrong checksum");
    }
    for (auto it = aborted.begin(); it != aborted.end() && it->first <= batch->last_offset().v;
         it = aborted.erase(it)) {
      aborting.insert(it->second);
    }
    if (batch->next_offset().v <= p.fetch_offset) continue;
    const bool skipped = batch->is_transactional() && aborting.contains(batch->producer_id().v);
    if (batch->is_control()) {
      if (Result<record::ControlType> type = record::control_type(*batch);
          type.ok() && *type == record::ControlType::abort) {
        aborting.erase(batch->producer_id().v);
      }
    } else if (!skipped) {
      TRY_ASSIGN(record::OpenedBatch opened,
                 record::OpenedBatch::open(*batch, codecs_, options_.inflated_bytes_max));
      record::RecordReader reader = opened.reader();
      record::Record r;
      while (true) {
        TRY_ASSIGN(const bool more, reader.next(r));
        if (!more) break;
        if (opened.offset_of(r).v < p.fetch_offset || opened.offset_of(r).v > batch->last_offset().v)
          continue;
        p.ready.push_back(copy_record(where, opened, r));
        const size_t size = size_of(p.ready.back());
        p.ready_bytes += size;
        ready_bytes_ += size;
      }
    }
    p.fetch_offset = batch->next_offset().v;
  }
  if (batches.position() == 0 && batches.torn_bytes() > 0) {
    // Not even one batch fitted: ask for more.
    if (p.bytes_max >= kPartitionBytesLimit) {
      return Error(ErrorCode::limit_exceeded,
                   "a batch of " + std::to_string(batches.torn_batch_size()) + " bytes");
    }
    p.bytes_max *= 2;
  }
  return {};
}

void Consumer::reset_offset(const TopicPartition& where, ErrorCode code) {
  Partition& p = partitions_[where];
  if (options_.start == StartAt::fail) {
    return fail(Error(code, "offset " + std::to_string(p.fetch_offset) + " is not in " + to_string(where)));
  }
  p.fetching = true;
  list_offsets(client_, {{where, options_.start == StartAt::beginning ? kEarliest : kLatest}},
               options_.read_committed, 0,
               [this, life = std::weak_ptr<void>(life_), where,
                mine = assignment_](Result<std::map<TopicPartition, OffsetAt>> found) {
                 if (life.expired() || mine != assignment_) return;
                 Partition& late = partitions_[where];
                 late.fetching = false;
                 if (found.ok() && found->at(where).error == ErrorCode::none) {
                   late.fetch_offset = found->at(where).offset;
                 } else {
                   late.not_before_ms = client_.now_ms() + kPauseAfterErrorMs;
                 }
                 pump();
               });
}

void Consumer::poll(int64_t wait_ms, size_t records_max, Done<std::vector<ConsumedRecord>> done) {
  ASSERT(!poll_ && records_max > 0);
  poll_records_max_ = records_max;
  poll_ = std::move(done);
  answer_poll();
  if (!poll_) return;
  poll_timer_ = client_.loop().call_after(wait_ms, [this] {
    poll_timer_ = 0;
    if (poll_) std::exchange(poll_, nullptr)(std::vector<ConsumedRecord>{});
  });
}

void Consumer::answer_poll() {
  if (!poll_) return;
  if (ready_bytes_ == 0 && !failed_) return;
  if (poll_timer_ != 0) client_.loop().cancel(std::exchange(poll_timer_, 0));
  const auto done = std::exchange(poll_, nullptr);
  if (ready_bytes_ == 0) return done(Error(failed_->code, failed_->message));
  std::vector<ConsumedRecord> out;
  auto at = partitions_.upper_bound(last_given_);
  for (size_t seen = 0; seen < partitions_.size() && out.size() < poll_records_max_; ++seen, ++at) {
    if (at == partitions_.end()) at = partitions_.begin();
    Partition& p = at->second;
    if (p.ready.empty()) continue;
    while (!p.ready.empty() && out.size() < poll_records_max_) {
      const size_t size = size_of(p.ready.front());
      p.ready_bytes -= size;
      ready_bytes_ -= size;
      out.push_back(std::move(p.ready.front()));
      p.ready.pop_front();
    }
    last_given_ = at->first;
  }
  const std::weak_ptr<void> life = life_;
  done(std::move(out));
  if (!life.expired()) pump();
}

void Consumer::fail(Error why) {
  if (failed_ || closed_) return;
  failed_ = std::move(why);
  answer_poll();
}

std::map<TopicPartition, int64_t> Consumer::positions() const {
  std::map<TopicPartition, int64_t> out;
  for (const auto& [where, p] : partitions_)
    out[where] = p.ready.empty() ? p.fetch_offset : p.ready.front().offset;
  return out;
}

void Consumer::done_with(const std::map<TopicPartition, int64_t>& next_offsets) {
  for (const auto& [where, next] : next_offsets) {
    if (partitions_.contains(where)) done_with_[where] = next;
  }
}

std::map<TopicPartition, int64_t> Consumer::uncommitted() const {
  std::map<TopicPartition, int64_t> out;
  for (const auto& [where, next] : done_with_) {
    const auto before = committed_.find(where);
    if (before == committed_.end() || before->second != next) out[where] = next;
  }
  return out;
}

void Consumer::commit(std::function<void(Status)> done) {
  std::map<TopicPartition, int64_t> offsets = uncommitted();
  if (member_ == nullptr || offsets.empty()) return done({});
  commit_offsets(
      client_, member_->identity(), offsets, kCommitTimeoutMs,
      [this, life = std::weak_ptr<void>(life_), offsets, mine = assignment_,
       done = std::move(done)](Result<std::map<TopicPartition, ErrorCode>> r) {
        if (life.expired()) return;
        if (!r.ok()) return done(std::move(r).error());
        for (const auto& [where, code] : *r) {
          const auto sent = offsets.find(where);
          if (sent == offsets.end()) continue;
          if (code != ErrorCode::none) {
            return done(Error(code, "offsets were not committed: " + std::string(error_name(code))));
          }
          if (mine == assignment_) committed_[where] = sent->second;
        }
        done({});
      });
}

void Consumer::arm_commit() {
  if (!options_.commit) return;
  commit_timer_ =
      client_.loop().call_after(options_.commit_interval_ms, [this, life = std::weak_ptr<void>(life_)] {
        commit_timer_ = 0;
        if (closed_ || failed_) return;
        // A commit that fails is repeated by the next one, or the membership ends.
        commit([this, life](Status) {
          if (!life.expired() && !closed_) arm_commit();
        });
      });
}

void Consumer::close(std::function<void(Status)> done) {
  ASSERT(!closed_);
  closed_ = true;
  if (poll_timer_ != 0) client_.loop().cancel(std::exchange(poll_timer_, 0));
  if (poll_) std::exchange(poll_, nullptr)(Error(ErrorCode::closed, "the consumer was closed"));
  if (member_ == nullptr) return done({});
  const auto leave = [this, life = std::weak_ptr<void>(life_), done = std::move(done)](Status committed) {
    if (life.expired()) return;
    const auto outcome = std::make_shared<Status>(std::move(committed));
    member_->leave([outcome, done] { done(std::move(*outcome)); });
  };
  if (!options_.commit || !member_->stable()) return leave({});
  commit(leave);
}

}  // namespace millrace::client
