#include "chaos/workers.h"

#include <charconv>
#include <set>
#include <utility>

#include "check/refusal.h"
#include "client/offsets.h"
#include "record/builder.h"
#include "wire/messages/produce.h"

namespace millrace::chaos {
namespace {

using check::Kind;
using check::Outcome;

constexpr int64_t kTickMs = 20;
constexpr size_t kHeldBytesMax = 1 << 20;  // a producer that nobody answers gathers no more than this
constexpr int64_t kRequestTimeoutMs = 5'000;
constexpr int64_t kDeliveryTimeoutMs = 90'000;
constexpr int kPlainBatch = 4;  // records
constexpr int64_t kPauseAfterErrorMs = 100;
constexpr int64_t kCommitEveryUs = 400'000;
constexpr int64_t kStaysUs = 25'000'000;  // a member stays between half of it and one and a half
constexpr int64_t kLookEveryMs = 300;
constexpr int64_t kPollMs = 200;
constexpr size_t kPollRecordsMax = 2'000;

Bytes text_of(check::Value value) {
  // Of different lengths, so that batches and segments end anywhere.
  return to_bytes(std::to_string(value) + ":" + std::string(static_cast<size_t>(value % 180), 'x'));
}

check::Value value_of(const client::ConsumedRecord& record) {
  check::Value out = check::kUnknown;
  if (record.value) {
    const std::string_view text = as_text(*record.value);
    (void)std::from_chars(text.data(), text.data() + text.size(), out);
  }
  return out;
}

std::vector<Entry> entries_of(const std::vector<client::ConsumedRecord>& records) {
  std::vector<Entry> out;
  out.reserve(records.size());
  for (const auto& r : records) out.push_back({r.topic, r.partition, r.offset, value_of(r)});
  return out;
}

}  // namespace

client::ClientOptions Stage::client_options(const std::string& name) const {
  client::ClientOptions o;
  o.bootstrap = bootstrap;
  o.client_id = name;
  o.connect_timeout_ms = 2'000;
  o.request_timeout_ms = kRequestTimeoutMs;
  return o;
}

// IdempotentWriter

struct IdempotentWriter::Burst {
  int32_t partition = 0;
  int64_t invoked = 0;
  size_t missing = 0;
  std::vector<Entry> acknowledged;
  std::vector<Entry> unknown;
};

IdempotentWriter::IdempotentWriter(Stage& stage, std::string name, Topic topic, int rate)
    : stage_(stage),
      name_(std::move(name)),
      topic_(std::move(topic)),
      rate_(rate),
      client_(stage.loop, stage.network, stage.clock, stage.client_options(name_)),
      producer_(client_, {.idempotent = true,
                          .delivery_timeout_ms = kDeliveryTimeoutMs,
                          .request_timeout_ms = kRequestTimeoutMs,
                          .create_topics = false}),
      last_tick_us_(clock_us()) {}

void IdempotentWriter::tick() {
  if (stopping_) return;
  const int64_t now = clock_us();
  owed_us_ = std::min<int64_t>(owed_us_ + now - std::exchange(last_tick_us_, now), 100'000);
  const auto count = static_cast<int>(owed_us_ * rate_ / 1'000'000);
  if (count > 0 && producer_.held_bytes() < kHeldBytesMax) {
    owed_us_ -= int64_t{count} * 1'000'000 / rate_;
    send(count);
  }
  stage_.loop.call_after(kTickMs, [this] { tick(); });
}

void IdempotentWriter::send(int count) {
  auto burst = std::make_shared<Burst>();
  burst->partition = next_partition_;
  next_partition_ = (next_partition_ + 1) % topic_.partitions;
  burst->invoked = clock_us();
  burst->missing = static_cast<size_t>(count);
  for (int i = 0; i < count; ++i) {
    const check::Value value = stage_.book.next_value();
    client::ProducerRecord record;
    record.topic = topic_.name;
    record.partition = burst->partition;
    record.value = text_of(value);
    producer_.send(std::move(record), [this, burst, value](Result<client::Delivery> d) {
      Entry e{topic_.name, burst->partition, d.ok() ? d->offset : check::kUnknown, value};
      if (!d.ok()) stage_.book.error("produce (idempotent)", d.code());
      (d.ok() ? burst->acknowledged : burst->unknown).push_back(e);
      if (--burst->missing == 0) over(*burst);
    });
  }
}

void IdempotentWriter::over(const Burst& burst) {
  // A partition's records keep their order, not those of the writer: each partition is a client of its own.
  const std::string client = name_ + "." + std::to_string(burst.partition);
  Note note{.kind = Kind::send, .outcome = Outcome::ok, .client = client};
  note.invoked = burst.invoked;
  note.returned = clock_us();
  note.idempotent = true;
  if (!burst.acknowledged.empty()) stage_.book.add(note, burst.acknowledged);
  note.outcome = Outcome::info;
  if (!burst.unknown.empty()) stage_.book.add(note, burst.unknown);
  stage_.book.acknowledged += static_cast<int64_t>(burst.acknowledged.size());
  stage_.book.unknown += static_cast<int64_t>(burst.unknown.size());
}

void IdempotentWriter::stop(std::function<void()> done) {
  stopping_ = true;
  producer_.flush(std::move(done));
}

// PlainWriter

PlainWriter::PlainWriter(Stage& stage, std::string name, Topic topic, int rate, int16_t acks)
    : stage_(stage),
      name_(std::move(name)),
      topic_(std::move(topic)),
      rate_(rate),
      acks_(acks),
      client_(stage.loop, stage.network, stage.clock, stage.client_options(name_)) {
  for (int32_t p = 0; p < topic_.partitions; ++p) names_.push_back(name_ + "." + std::to_string(p));
}

void PlainWriter::start() {
  for (int32_t p = 0; p < topic_.partitions; ++p) send(p);
}

void PlainWriter::stop(std::function<void()> done) {
  stopping_ = true;
  if (under_way_ == 0) return done();
  stopped_ = std::move(done);
}

void PlainWriter::send(int32_t partition) {
  if (stopping_) return;
  record::BatchBuilder builder;
  std::vector<check::Value> values;
  for (int i = 0; i < kPlainBatch; ++i) {
    values.push_back(stage_.book.next_value());
    const Bytes text = text_of(values.back());
    builder.append(stage_.clock.now().wall_ms, std::nullopt, ByteView(text));
  }
  wire::ProduceRequest request;
  request.acks = acks_;
  request.timeout_ms = static_cast<int32_t>(kRequestTimeoutMs - 1'000);
  auto& topic = request.topic_data.emplace_back();
  topic.name = topic_.name;
  auto& data = topic.partition_data.emplace_back();
  data.index = partition;
  data.records.payload.append(Slice(builder.build()));
  client::CallOptions options;
  options.timeout_ms = 10'000;  // to find the leader; a request that was sent is not sent again
  options.request_timeout_ms = kRequestTimeoutMs;
  options.version_max = 12;  // topics by name
  options.repeat_after_loss = false;
  ++under_way_;
  client_.call<wire::ProduceRequest>(
      client::Target::leader(topic_.name, partition), std::move(request), options, nullptr,
      [this, partition, values, invoked = clock_us()](Result<wire::ProduceResponse> response) {
        answered(partition, invoked, values, std::move(response));
      });
}

void PlainWriter::answered(int32_t partition, int64_t invoked, const std::vector<check::Value>& values,
                           Result<wire::ProduceResponse> response) {
  Note note{.kind = Kind::send, .outcome = Outcome::info, .client = names_[static_cast<size_t>(partition)]};
  note.invoked = invoked;
  note.returned = clock_us();
  int64_t offset = check::kUnknown;
  ErrorCode code = response.code();
  if (response.ok() && response->responses.size() == 1 &&
      response->responses[0].partition_responses.size() == 1) {
    const auto& p = response->responses[0].partition_responses[0];
    code = error_from_wire(p.error_code);
    if (code == ErrorCode::none && acks_ == -1) {
      note.outcome = Outcome::ok;
      offset = p.base_offset;
    } else if (code != ErrorCode::none && check::says_nothing_stored(code)) {
      note.outcome = Outcome::fail;
    }
  }
  std::vector<Entry> entries;
  for (const check::Value v : values) {
    entries.push_back({topic_.name, partition, offset == check::kUnknown ? offset : offset++, v});
  }
  stage_.book.add(note, entries);
  const auto count = static_cast<int64_t>(values.size());
  if (code == ErrorCode::none) {
    stage_.book.acknowledged += count;
  } else {
    (note.outcome == Outcome::fail ? stage_.book.refused : stage_.book.unknown) += count;
    stage_.book.error(acks_ == -1 ? "produce" : "produce (acks=1)", code);
    client_.distrust(client::Target::leader(topic_.name, partition), ErrorCode::not_leader_or_follower);
  }
  if (--under_way_ == 0 && stopped_) return std::exchange(stopped_, nullptr)();
  const int64_t pause =
      code == ErrorCode::none ? int64_t{1'000} * kPlainBatch * topic_.partitions / rate_ : kPauseAfterErrorMs;
  stage_.loop.call_after(pause, [this, partition] { send(partition); });
}

// Member

Member::Member(Stage& stage, std::string name, std::string group, Topic topic, uint64_t seed)
    : stage_(stage),
      name_(std::move(name)),
      group_(std::move(group)),
      topic_(std::move(topic)),
      random_(seed),
      client_(stage.loop, stage.network, stage.clock, stage.client_options(name_)) {}

Member::~Member() = default;

void Member::join() {
  client::ConsumerOptions options;
  options.start = client::StartAt::beginning;
  options.commit = false;  // it commits itself, to note it
  consumer_ = std::make_unique<client::Consumer>(client_, options);
  client::GroupOptions group;
  group.group = group_;
  group.topics = {topic_.name};
  group.session_timeout_ms = 6'000;
  group.rebalance_timeout_ms = 10'000;
  group.heartbeat_interval_ms = 1'000;
  consumer_->subscribe(group);
  generation_ = -1;
  reset_ = true;
  const int64_t now = clock_us();
  leave_at_us_ = now + kStaysUs / 2 + static_cast<int64_t>(random_() % kStaysUs);
  commit_at_us_ = now + kCommitEveryUs;
  poll();
}

void Member::poll() {
  consumer_->poll(kPollMs, kPollRecordsMax,
                  [this, invoked = clock_us()](Result<std::vector<client::ConsumedRecord>> records) {
                    polled(invoked, std::move(records));
                  });
}

void Member::note_assignment(int64_t now) {
  const client::GroupMember* member = consumer_->member();
  // What was just polled may be of an assignment that is over already, and was never noted.
  const bool settled = member != nullptr && member->stable() && consumer_->assigned();
  const int32_t generation = settled ? member->identity().generation : -1;
  if (generation == generation_ && consumer_->assignment() == assignment_ && settled) return;
  reset_ = true;
  generation_ = generation;
  assignment_ = consumer_->assignment();
  if (!settled) return;
  std::vector<Entry> entries;
  for (const auto& [where, offset] : consumer_->positions())
    entries.push_back({where.topic, where.partition});
  Note note{.kind = Kind::assign, .outcome = Outcome::ok, .client = name_, .group = group_};
  note.generation = generation;
  note.invoked = note.returned = now;
  stage_.book.add(note, entries);
}

void Member::polled(int64_t invoked, Result<std::vector<client::ConsumedRecord>> records) {
  const int64_t now = clock_us();
  if (!records.ok()) {
    stage_.book.error("group poll", records.code());
    return stage_.loop.call_after(kPauseAfterErrorMs,
                                  [this] { leave([this] { stopped_ ? stopped_() : join(); }); }),
           void();
  }
  note_assignment(now);
  if (!records->empty()) {
    Note note{.kind = Kind::poll, .outcome = Outcome::ok, .client = name_};
    note.invoked = invoked;
    note.returned = now;
    note.reset = std::exchange(reset_, false);
    stage_.book.add(note, entries_of(*records));
    stage_.book.polled += static_cast<int64_t>(records->size());
  }
  // Callbacks of a consumer must not destroy it.
  stage_.loop.post([this, now] {
    if (stopped_) {
      return commit([this] { leave([this] { stopped_(); }); });
    }
    if (now >= leave_at_us_) {
      return commit([this] { leave([this] { stopped_ ? stopped_() : join(); }); });
    }
    if (now >= commit_at_us_) {
      commit_at_us_ = now + kCommitEveryUs;
      return commit([this] { poll(); });
    }
    poll();
  });
}

void Member::commit(std::function<void()> then) {
  if (consumer_->member() == nullptr || !consumer_->assigned()) return then();
  const std::map<client::TopicPartition, int64_t> positions = consumer_->positions();
  if (positions.empty()) return then();
  const client::GroupIdentity identity = consumer_->member()->identity();
  client::commit_offsets(
      client_, identity, positions, kRequestTimeoutMs,
      [this, positions, generation = identity.generation, invoked = clock_us(),
       then = std::move(then)](Result<std::map<client::TopicPartition, ErrorCode>> answer) {
        Note note{.kind = Kind::commit, .outcome = Outcome::ok, .client = name_, .group = group_};
        note.generation = generation;
        note.invoked = invoked;
        note.returned = clock_us();
        std::vector<Entry> done;
        std::vector<Entry> unknown;
        for (const auto& [where, offset] : positions) {
          ErrorCode code = answer.code();
          if (answer.ok()) {
            const auto found = answer->find(where);
            code = found == answer->end() ? ErrorCode::corrupt : found->second;
          }
          (code == ErrorCode::none ? done : unknown).push_back({where.topic, where.partition, offset});
          if (code != ErrorCode::none) stage_.book.error("commit", code);
        }
        if (!done.empty()) {
          stage_.book.add(note, done);
          ++stage_.book.commits;
        }
        note.outcome = Outcome::info;  // it may have been repeated: an earlier attempt may count
        if (!unknown.empty()) stage_.book.add(note, unknown);
        stage_.loop.post(then);
      });
}

void Member::leave(std::function<void()> then) {
  consumer_->close([this, then = std::move(then)](Status) {
    stage_.loop.post([this, then] {
      consumer_.reset();
      then();
    });
  });
}

void Member::stop(std::function<void()> done) {
  stopped_ = std::move(done);
}

// Reader

Reader::Reader(Stage& stage, std::string name, std::vector<Topic> topics)
    : stage_(stage),
      name_(std::move(name)),
      client_(stage.loop, stage.network, stage.clock, stage.client_options(name_)) {
  for (const Topic& t : topics) {
    for (int32_t p = 0; p < t.partitions; ++p) positions_[{t.name, p}] = 0;
  }
}

Reader::~Reader() = default;

void Reader::start() {
  open();
  poll();
}

void Reader::open() {
  client::ConsumerOptions options;
  options.start = client::StartAt::fail;  // an offset that is gone was lost
  consumer_ = std::make_unique<client::Consumer>(client_, options);
  consumer_->assign(positions_);
}

void Reader::poll() {
  consumer_->poll(kPollMs, kPollRecordsMax,
                  [this, invoked = clock_us()](Result<std::vector<client::ConsumedRecord>> records) {
                    if (!records.ok()) {
                      stage_.book.error("read", records.code());
                      stage_.loop.call_after(kPauseAfterErrorMs, [this] {
                        open();
                        poll();
                      });
                      return;
                    }
                    if (!records->empty()) {
                      Note note{.kind = Kind::poll, .outcome = Outcome::ok, .client = name_};
                      note.invoked = invoked;
                      note.returned = clock_us();
                      stage_.book.add(note, entries_of(*records));
                      stage_.book.polled += static_cast<int64_t>(records->size());
                    }
                    for (const auto& [where, position] : consumer_->positions()) positions_[where] = position;
                    stage_.loop.post([this] {
                      if (stopped_ && at_ends()) return std::exchange(stopped_, nullptr)();
                      poll();
                    });
                  });
}

bool Reader::at_ends() const {
  for (const auto& [where, position] : positions_) {
    const auto end = ends_.find(where);
    if (end == ends_.end() || position < end->second) return false;
  }
  return true;
}

void Reader::ask_ends() {
  std::map<client::TopicPartition, int64_t> wanted;
  for (const auto& [where, position] : positions_) {
    if (!ends_.contains(where)) wanted[where] = client::kLatest;
  }
  if (wanted.empty()) return;
  client::list_offsets(client_, wanted, false, 10'000,
                       [this](Result<std::map<client::TopicPartition, client::OffsetAt>> found) {
                         if (found.ok()) {
                           for (const auto& [where, at] : *found) {
                             if (at.error == ErrorCode::none) ends_[where] = at.offset;
                           }
                         }
                         stage_.loop.call_after(kPauseAfterErrorMs, [this] { ask_ends(); });
                       });
}

void Reader::stop(std::function<void()> done) {
  stopped_ = std::move(done);
  ask_ends();
}

// Observer

Observer::Observer(Stage& stage, std::string name, std::vector<Topic> topics,
                   std::map<std::string, Topic> groups)
    : stage_(stage),
      name_(std::move(name)),
      topics_(std::move(topics)),
      groups_(std::move(groups)),
      client_(stage.loop, stage.network, stage.clock, stage.client_options(name_)) {}

void Observer::look() {
  if (stopped_) return std::exchange(stopped_, nullptr)();
  under_way_ = 1 + groups_.size();
  std::map<client::TopicPartition, int64_t> wanted;
  for (const Topic& t : topics_) {
    for (int32_t p = 0; p < t.partitions; ++p) wanted[{t.name, p}] = client::kLatest;
  }
  client::list_offsets(
      client_, wanted, false, kRequestTimeoutMs,
      [this, invoked = clock_us()](Result<std::map<client::TopicPartition, client::OffsetAt>> found) {
        if (!found.ok()) {
          stage_.book.error("list offsets", found.code());
          return over();
        }
        Note note{.kind = Kind::list_end, .outcome = Outcome::ok, .client = name_};
        note.invoked = invoked;
        note.returned = clock_us();
        std::vector<Entry> entries;
        for (const auto& [where, at] : *found) {
          if (at.error == ErrorCode::none)
            entries.push_back({where.topic, where.partition, at.offset, check::kUnknown, at.leader_epoch});
        }
        if (!entries.empty()) stage_.book.add(note, entries);
        over();
      });
  for (const auto& [group, topic] : groups_) {
    std::set<client::TopicPartition> partitions;
    for (int32_t p = 0; p < topic.partitions; ++p) partitions.insert({topic.name, p});
    client::fetch_committed(
        client_, group, partitions, kRequestTimeoutMs,
        [this, name = group,
         invoked = clock_us()](Result<std::map<client::TopicPartition, client::CommittedOffset>> found) {
          if (!found.ok()) {
            stage_.book.error("committed offsets", found.code());
            return over();
          }
          Note note{.kind = Kind::fetch_commit, .outcome = Outcome::ok, .client = name_, .group = name};
          note.invoked = invoked;
          note.returned = clock_us();
          std::vector<Entry> entries;
          for (const auto& [where, at] : *found) {
            if (at.error == ErrorCode::none) entries.push_back({where.topic, where.partition, at.offset});
          }
          if (!entries.empty()) stage_.book.add(note, entries);
          over();
        });
  }
}

void Observer::over() {
  if (--under_way_ == 0) stage_.loop.call_after(kLookEveryMs, [this] { look(); });
}

void Observer::stop(std::function<void()> done) {
  stopped_ = std::move(done);
}

}  // namespace millrace::chaos
