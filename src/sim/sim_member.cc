#include "sim/sim_member.h"

#include "base/endian.h"

namespace millrace::sim {

namespace {

constexpr int16_t kLastCommitByName = 9;

/// The code says that nothing was committed.
bool surely_not_committed(ErrorCode code) {
  switch (code) {
    case ErrorCode::illegal_generation:
    case ErrorCode::unknown_member_id:
    case ErrorCode::rebalance_in_progress:
    case ErrorCode::fenced_instance_id:
    case ErrorCode::not_coordinator:
    case ErrorCode::coordinator_load_in_progress:
      return true;
    default:
      return false;
  }
}

}  // namespace

void SimMember::begin() {
  client::ConsumerOptions options;
  options.fetch_wait_ms = 100;
  options.fetch_bytes_max = world_.knobs.fetch_bytes;
  options.partition_bytes_max = world_.knobs.fetch_bytes;
  options.start = client::StartAt::beginning;
  options.commit = false;
  consumer_ = std::make_unique<client::Consumer>(client(), options);
  client::GroupOptions group;
  group.group = group_;
  for (const auto& [topic, partitions] : world_.topics) group.topics.push_back(topic);
  if (group.topics.empty()) {
    consumer_.reset();
    return later(500, [this] { begin(); });
  }
  group.session_timeout_ms = world_.knobs.group_session_ms;
  group.rebalance_timeout_ms = 5'000;
  group.heartbeat_interval_ms = 500;
  group.give_up_ms = 600'000;
  consumer_->subscribe(group);
  next();
}

void SimMember::drop() {
  consumer_.reset();
  noted_generation_ = -1;
  noted_.clear();
  polling_ = committing_ = false;
}

bool SimMember::settled() const {
  return consumer_ && consumer_->assigned() && consumer_->member() != nullptr &&
         consumer_->member()->stable();
}

int32_t SimMember::generation() const {
  return consumer_ && consumer_->member() != nullptr ? consumer_->member()->identity().generation : -1;
}

std::vector<client::TopicPartition> SimMember::owned() const {
  std::vector<client::TopicPartition> all;
  if (!consumer_) return all;
  for (const auto& [where, position] : consumer_->positions()) all.push_back(where);
  return all;
}

void SimMember::next() {
  later(dice_.skewed(5, 100), [this] { poll(); });
}

void SimMember::note_assignment() {
  if (!settled()) return;
  const int32_t generation = this->generation();
  if (generation == noted_generation_) return;
  noted_generation_ = generation;
  noted_ = owned();
  check::Operation o;
  o.kind = check::Kind::assign;
  o.client = world_.recorder.client(name_);
  o.group = world_.recorder.group(group_);
  o.generation = generation;
  std::vector<check::Item> items;
  for (const client::TopicPartition& where : noted_) {
    check::Item item;
    item.partition = world_.recorder.partition(where.topic, where.partition);
    items.push_back(item);
  }
  world_.recorder.finish(world_.recorder.invoke(o, std::move(items)), check::Outcome::ok);
  world_.count("group assignment taken");
  if (world_.blocked_links > 0) world_.meet(rare("rebalance-in-partition"));
}

void SimMember::poll() {
  note_assignment();
  check::Operation o;
  o.kind = check::Kind::poll;
  o.client = world_.recorder.client(name_);
  // Records of a new assignment begin at what was committed.
  o.position_reset = true;
  polling_ = true;
  const Recorder::Id operation = world_.recorder.invoke(o);
  consumer_->poll(200, 50, [this, operation](Result<std::vector<client::ConsumedRecord>> records) {
    polled(operation, std::move(records));
  });
}

void SimMember::polled(Recorder::Id operation, Result<std::vector<client::ConsumedRecord>> records) {
  polling_ = false;
  if (!records.ok()) {
    world_.recorder.finish(operation, check::Outcome::info);
    world_.count("member failed: " + std::string(error_name(records.code())));
    // What ended it ends this consumer; a new one joins.
    loop_.post([this] {
      drop();
      begin();
    });
    return;
  }
  std::vector<check::Item> items;
  for (const client::ConsumedRecord& r : *records) {
    check::Item item;
    item.partition = world_.recorder.partition(r.topic, r.partition);
    item.offset = r.offset;
    if (r.value && r.value->size() >= 8) item.value = load_be<int64_t>(r.value->data());
    items.push_back(item);
  }
  world_.recorder.finish(operation, check::Outcome::ok, std::move(items));
  note_assignment();
  if (!records->empty() && dice_.percent(40) && settled()) return commit();
  next();
}

void SimMember::commit() {
  const client::GroupIdentity identity = consumer_->member()->identity();
  wire::OffsetCommitRequest request;
  request.group_id = group_;
  request.generation_id_or_member_epoch = identity.generation;
  request.member_id = identity.member_id;
  std::vector<check::Item> items;
  for (const auto& [where, position] : consumer_->positions()) {
    if (request.topics.empty() || request.topics.back().name != where.topic) {
      request.topics.emplace_back().name = where.topic;
    }
    auto& p = request.topics.back().partitions.emplace_back();
    p.partition_index = where.partition;
    p.committed_offset = position;
    check::Item item;
    item.partition = world_.recorder.partition(where.topic, where.partition);
    item.offset = position;
    items.push_back(item);
  }
  if (items.empty()) return next();
  check::Operation o;
  o.kind = check::Kind::commit;
  o.client = world_.recorder.client(name_);
  o.group = world_.recorder.group(group_);
  o.generation = identity.generation;
  committing_ = true;
  const Recorder::Id operation = world_.recorder.invoke(o, std::move(items));
  client::CallOptions options;
  options.timeout_ms = 4'000;
  options.request_timeout_ms = 4'000;
  options.repeat_after_loss = false;
  options.version_max = kLastCommitByName;
  client().call<wire::OffsetCommitRequest>(
      client::Target::coordinator(group_), std::move(request), options, nullptr,
      [this, operation](Result<wire::OffsetCommitResponse> response) {
        committing_ = false;
        check::Outcome outcome = check::Outcome::info;
        if (response.ok()) {
          bool all = true, none = true;
          for (const auto& topic : response->topics) {
            for (const auto& p : topic.partitions) {
              const ErrorCode code = error_from_wire(p.error_code);
              all = all && code == ErrorCode::none;
              none = none && surely_not_committed(code);
              if (code != ErrorCode::none) {
                world_.count("commit: " + std::string(error_name(code)));
                if (code == ErrorCode::illegal_generation || code == ErrorCode::unknown_member_id)
                  world_.meet(rare("commit-of-old-member"));
                client().distrust(client::Target::coordinator(group_), code);
              }
            }
          }
          if (all) outcome = check::Outcome::ok;
          if (none) outcome = check::Outcome::fail;
        }
        world_.recorder.finish(operation, outcome);
        world_.count("commits: " + std::string(check::word(outcome)));
        next();
      });
}

}  // namespace millrace::sim
