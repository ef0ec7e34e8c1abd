#include "partition/replica_fetcher.h"

#include <algorithm>

namespace millrace::partition {
namespace {

constexpr int16_t kFetchVersion = 17;
constexpr int64_t kConnectTimeoutMs = 2'000;
constexpr int64_t kConnectBackoffMs = 50;
// Above replica.fetch.response.max.bytes: one batch may be larger, and the frame has more than records.
constexpr size_t kResponseSlack = size_t{128} << 20;
constexpr size_t kNudgesMax = 4;  // unanswered; what comes later goes together

}  // namespace

ReplicaFetcher::ReplicaFetcher(Environment environment, BrokerId leader, io::Endpoint at, Settings settings)
    : env_(std::move(environment)), leader_(leader), at_(std::move(at)), settings_(settings) {}

void ReplicaFetcher::follow(std::shared_ptr<Partition> partition) {
  env_.loop->post([self = shared_from_this(), p = std::move(partition)] { self->do_follow(p); });
}

void ReplicaFetcher::forget(const std::shared_ptr<Partition>& partition) {
  env_.loop->post([self = shared_from_this(), partition] { self->do_forget(partition); });
}

void ReplicaFetcher::set_broker_epoch(BrokerEpoch epoch) {
  env_.loop->post([self = shared_from_this(), epoch] { self->broker_epoch_ = epoch; });
}

void ReplicaFetcher::close() {
  env_.loop->post([self = shared_from_this()] {
    self->closed_ = true;
    if (self->timer_ != 0) self->env_.loop->cancel(self->timer_);
    self->timer_ = 0;
    for (auto& [tag, e] : self->entries_) e.partition->set_fetcher(nullptr, 0);
    self->entries_.clear();
    self->tags_.clear();
    self->idle_.clear();
    self->owing_.clear();
    if (auto connection = std::exchange(self->connection_, nullptr)) connection->close();
  });
}

void ReplicaFetcher::do_follow(const std::shared_ptr<Partition>& partition) {
  if (closed_) return;
  const Key key{partition->topic_id(), partition->name().partition.v};
  const auto [it, added] = tags_.emplace(key, last_tag_ + 1);
  if (added) ++last_tag_;
  const uint64_t tag = it->second;
  Entry& e = entries_[tag];
  e.partition = partition;
  e.key = key;
  e.out = false;  // what was asked before is given up
  e.owes = false;
  owing_.erase(tag);
  std::erase(forgotten_, key);
  partition->set_fetcher(shared_from_this(), tag);
  partition->sync_tail(*env_.loop);
  if (!e.cutting) idle_.insert(tag);
  kick();
  pump();
}

// The parked fetch does not ask for what is new: it is to come back.
void ReplicaFetcher::kick() {
  if (!fetching_ || kicking_ || !connection_ || !connection_->open()) return;
  wire::FetchRequest request = blank();
  request.session_epoch = -1;
  kicking_ = true;
  connection_->send(kFetchVersion, request, settings_.socket_timeout_ms,
                    [self = shared_from_this(), connection = connection_](Result<wire::FetchResponse>) {
                      if (self->connection_ == connection) self->kicking_ = false;
                    });
}

void ReplicaFetcher::do_forget(const std::shared_ptr<Partition>& partition) {
  const Key key{partition->topic_id(), partition->name().partition.v};
  const auto it = tags_.find(key);
  if (it == tags_.end()) return;
  const uint64_t tag = it->second;
  if (entries_[tag].in_session) forgotten_.push_back(key);
  entries_.erase(tag);
  idle_.erase(tag);
  owing_.erase(tag);
  tags_.erase(it);
}

void ReplicaFetcher::on_data(uint64_t tag) {
  const auto it = entries_.find(tag);
  if (closed_ || it == entries_.end()) return;
  owing_.insert(tag);
  if (fetching_) {
    nudge();
  } else {
    pump();
  }
}

void ReplicaFetcher::connect() {
  if (connecting_ || closed_) return;
  connecting_ = true;
  env_.network->connect(
      *env_.loop, at_, kConnectTimeoutMs,
      [self = shared_from_this()](Result<std::unique_ptr<io::Stream>> stream) {
        self->connecting_ = false;
        if (self->closed_) return;
        if (!stream.ok()) {
          if (stream.code() == ErrorCode::closed) self->tell(link::PeerNews::refused);
          self->on_lost();
          return;
        }
        self->backoff_ms_ = 0;
        self->tell(link::PeerNews::reached);
        const size_t frame_max = static_cast<size_t>(self->settings_.response_bytes_max) + kResponseSlack;
        self->connection_ = link::ClientConnection::create(
            *self->env_.loop, std::move(*stream), "replica-" + std::to_string(self->env_.self.v), frame_max);
        self->lose_session();
        self->pump();
      });
}

// What is out is answered by nobody: each partition backs off for itself.
void ReplicaFetcher::on_lost() {
  const bool was_connected = connection_ != nullptr;
  if (was_connected) tell(link::PeerNews::lost);
  if (auto connection = std::exchange(connection_, nullptr)) connection->close();
  fetching_ = false;
  lose_session();
  const Now now = env_.clock->now();
  // A lost connection is tried again at once: a refusal then tells that the process is gone.
  backoff_ms_ = was_connected ? 0
                              : std::clamp(backoff_ms_ * 2, kConnectBackoffMs,
                                           std::max(settings_.backoff_ms, kConnectBackoffMs));
  retry_at_ms_ = now.mono_ms + backoff_ms_;
  std::vector<uint64_t> out;
  for (const auto& [tag, e] : entries_)
    if (e.out) out.push_back(tag);
  for (const uint64_t tag : out) {
    const Entry& e = entries_.at(tag);
    ReplicaAnswer answer;
    answer.number = e.position.number;
    answer.leader_epoch = e.position.leader_epoch;
    answer.error = ErrorCode::network_exception;
    answered(tag, answer);
  }
  arm(retry_at_ms_);
}

void ReplicaFetcher::lose_session() {
  session_id_ = 0;
  session_epoch_ = 0;
  kicking_ = false;
  forgotten_.clear();
  for (auto& [tag, e] : entries_) e.in_session = false;
}

void ReplicaFetcher::arm(int64_t at_mono_ms) {
  if (closed_ || at_mono_ms == kNoDeadline || (timer_ != 0 && timer_at_ms_ <= at_mono_ms)) return;
  if (timer_ != 0) env_.loop->cancel(timer_);
  timer_at_ms_ = at_mono_ms;
  timer_ = env_.loop->call_after(std::max<int64_t>(at_mono_ms - env_.clock->now().mono_ms, 1),
                                 [self = shared_from_this()] {
                                   self->timer_ = 0;
                                   self->pump();
                                 });
}

wire::FetchRequest ReplicaFetcher::blank() const {
  wire::FetchRequest request;
  request.replica_state.replica_id = env_.self.v;
  request.replica_state.replica_epoch = broker_epoch_.v;
  request.min_bytes = settings_.bytes_min;
  request.max_bytes = settings_.response_bytes_max;
  return request;
}

void ReplicaFetcher::add(wire::FetchRequest& request, const Entry& e, bool bytes) {
  if (request.topics.empty() || request.topics.back().topic_id != e.key.first) {
    request.topics.emplace_back().topic_id = e.key.first;
  }
  auto& p = request.topics.back().partitions.emplace_back();
  p.partition = e.key.second;
  p.current_leader_epoch = e.position.leader_epoch.v;
  p.fetch_offset = e.position.fetch_offset.v;
  p.last_fetched_epoch = e.position.last_fetched_epoch.v;
  p.log_start_offset = e.position.log_start.v;
  p.partition_max_bytes = bytes ? settings_.partition_bytes_max : 0;
  if (e.throttled) {
    p.partition_max_bytes =
        static_cast<int32_t>(std::min<int64_t>(p.partition_max_bytes, env_.throttle->bytes_at_once()));
  }
  p.durable_end_offset = e.position.durable_end.v;
}

// Newcomers alone: who is in sync is waited for by producers.
bool ReplicaFetcher::is_throttled(const Entry& e) const {
  return env_.throttle && env_.throttle->is_limited() && !e.partition->noted_in_sync() &&
         e.partition->config()->throttled_as_follower.contains(e.key.second);
}

// The next request of the session. False if there is nothing to be fetched at all.
bool ReplicaFetcher::fill(wire::FetchRequest& request) {
  const Now now = env_.clock->now();
  int64_t next_ms = kNoDeadline;
  std::vector<uint64_t> asked;
  const bool whole = session_id_ == 0;
  for (auto it = idle_.begin(); it != idle_.end();) {
    const uint64_t tag = *it;
    Entry& e = entries_.at(tag);
    e.throttled = is_throttled(e);
    const bool held_back = e.throttled && !env_.throttle->is_open(now.mono_ms);
    const std::optional<replica::FetchPosition> position =
        held_back ? std::nullopt : e.partition->next_fetch(now, this);
    if (!position) {
      next_ms = std::min(next_ms, held_back ? env_.throttle->open_at_mono_ms(now.mono_ms)
                                            : e.partition->next_fetch_mono_ms());
      if (e.in_session) forgotten_.push_back(e.key);
      e.in_session = false;
      ++it;
      continue;
    }
    e.position = *position;
    e.out = true;
    owing_.erase(tag);
    asked.push_back(tag);
    it = idle_.erase(it);
  }
  for (const uint64_t tag : std::exchange(owing_, {})) {
    Entry& e = entries_.at(tag);
    if (!e.out) continue;
    if (const auto position = e.partition->owed_durable_end(this)) {
      e.position = *position;
      asked.push_back(tag);
    }
  }
  if (whole) {
    asked.clear();
    for (const auto& [tag, e] : entries_)
      if (e.out) asked.push_back(tag);
  }
  arm(next_ms);
  std::sort(asked.begin(), asked.end(),
            [this](uint64_t a, uint64_t b) { return entries_.at(a).key < entries_.at(b).key; });
  for (const uint64_t tag : asked) {
    Entry& e = entries_.at(tag);
    add(request, e, true);
    e.in_session = true;
    std::erase(forgotten_, e.key);
  }
  if (!whole) {
    std::sort(forgotten_.begin(), forgotten_.end());
    for (const Key& key : forgotten_) {
      if (request.forgotten_topics_data.empty() || request.forgotten_topics_data.back().topic_id != key.first)
        request.forgotten_topics_data.emplace_back().topic_id = key.first;
      request.forgotten_topics_data.back().partitions.push_back(key.second);
    }
  }
  forgotten_.clear();
  const bool any = !asked.empty() || std::any_of(entries_.begin(), entries_.end(),
                                                 [](const auto& entry) { return entry.second.out; });
  request.max_wait_ms = static_cast<int32_t>(
      next_ms == kNoDeadline ? settings_.wait_max_ms
                             : std::clamp<int64_t>(next_ms - now.mono_ms, 0, settings_.wait_max_ms));
  return any;
}

void ReplicaFetcher::pump() {
  if (closed_ || fetching_ || entries_.empty()) return;
  if (!connection_ || !connection_->open()) {
    const int64_t now_ms = env_.clock->now().mono_ms;
    if (now_ms < retry_at_ms_) {
      arm(retry_at_ms_);
    } else {
      connect();
    }
    return;
  }
  wire::FetchRequest request = blank();
  request.session_id = session_id_;
  request.session_epoch = session_epoch_;
  if (!fill(request)) {
    // The session would hold nothing: the next one begins anew.
    if (session_id_ != 0) lose_session();
    return;
  }
  fetching_ = true;
  connection_->send(kFetchVersion, request, settings_.socket_timeout_ms,
                    [self = shared_from_this(), connection = connection_](Result<wire::FetchResponse> r) {
                      if (self->connection_ != connection) return;
                      self->fetching_ = false;
                      self->on_response(std::move(r));
                    });
}

void ReplicaFetcher::on_response(Result<wire::FetchResponse> response) {
  if (closed_) return;
  if (!response.ok()) {
    uint64_t held_back = 0;
    if (complaints_.admit(env_.clock->now().mono_ms, held_back))
      env_.trace.warn("fetching from broker {}: {}", leader_.v, response.error().message);
    on_lost();
    return;
  }
  const auto error = static_cast<ErrorCode>(response->error_code);
  if (error != ErrorCode::none) {
    const bool session_only = error == ErrorCode::fetch_session_id_not_found ||
                              error == ErrorCode::invalid_fetch_session_epoch ||
                              error == ErrorCode::fetch_session_topic_id_error;
    uint64_t held_back = 0;
    if (complaints_.admit(env_.clock->now().mono_ms, held_back))
      env_.trace.warn("broker {} answers a replica's fetch with {}", leader_.v, error_name(error));
    if (session_only && session_id_ != 0) {
      lose_session();
      pump();
    } else {
      on_lost();
    }
    return;
  }
  if (response->session_id != 0) {
    session_epoch_ = session_id_ == response->session_id ? session_epoch_ : 0;
    session_id_ = response->session_id;
    session_epoch_ = session_epoch_ == INT32_MAX ? 1 : session_epoch_ + 1;
  } else {
    // It keeps none: everything is asked for every time.
    session_id_ = 0;
    session_epoch_ = 0;
  }
  for (const auto& topic : response->responses) {
    for (const auto& p : topic.partitions) {
      const auto tag = tags_.find({topic.topic_id, p.partition_index});
      if (tag != tags_.end() && entries_.at(tag->second).out) on_partition(tag->second, p);
    }
  }
  pump();
}

void ReplicaFetcher::on_partition(uint64_t tag, const wire::FetchResponse::PartitionData& p) {
  const Entry& e = entries_.at(tag);
  ReplicaAnswer answer;
  answer.number = e.position.number;
  answer.leader_epoch = e.position.leader_epoch;
  answer.error = static_cast<ErrorCode>(p.error_code);
  if (p.diverging_epoch.end_offset >= 0)
    answer.diverging =
        log::EpochEnd{LeaderEpoch(p.diverging_epoch.epoch), Offset(p.diverging_epoch.end_offset)};
  if (!p.records.null) answer.records = p.records.view;
  if (e.throttled) env_.throttle->take(answer.records.size(), env_.clock->now().mono_ms);
  answer.high_watermark = Offset(std::max<int64_t>(p.high_watermark, 0));
  answer.log_start = Offset(p.log_start_offset);
  answered(tag, answer);
}

void ReplicaFetcher::answered(uint64_t tag, const ReplicaAnswer& answer) {
  Entry& e = entries_.at(tag);
  e.out = false;
  ErrorCode problem = ErrorCode::none;
  const auto followed = e.partition->on_replica_answer(answer, *env_.loop, env_.clock->now(), problem);
  uint64_t held_back = 0;
  if (problem != ErrorCode::none && problem != ErrorCode::network_exception &&
      complaints_.admit(env_.clock->now().mono_ms, held_back)) {
    env_.trace.info("{}: fetching from broker {}: {}", e.partition->name().text(), leader_.v,
                    error_name(problem));
  }
  if (followed == Partition::Followed::done) {
    idle_.insert(tag);
    return;
  }
  e.cutting = true;
  env_.disk->run(
      *env_.loop, [partition = e.partition, clock = env_.clock] { partition->cut_log(clock->now()); },
      [self = shared_from_this(), tag] {
        const auto it = self->entries_.find(tag);
        if (it == self->entries_.end()) return;
        it->second.cutting = false;
        self->idle_.insert(tag);
        self->pump();
      });
}

// Beside the parked fetch: durable ends alone.
void ReplicaFetcher::nudge() {
  if (!connection_ || !connection_->open() || nudges_ >= kNudgesMax) return;  // the next fetch tells them
  wire::FetchRequest request = blank();
  request.session_id = 0;
  request.session_epoch = -1;
  request.min_bytes = 0;
  request.max_wait_ms = 0;
  std::vector<uint64_t> tags(owing_.begin(), owing_.end());
  std::sort(tags.begin(), tags.end(),
            [this](uint64_t a, uint64_t b) { return entries_.at(a).key < entries_.at(b).key; });
  owing_.clear();
  for (const uint64_t tag : tags) {
    Entry& e = entries_.at(tag);
    if (!e.out) continue;
    const auto position = e.partition->owed_durable_end(this);
    if (!position) continue;
    e.position = *position;
    add(request, e, false);
  }
  if (request.topics.empty()) return;
  ++nudges_;
  connection_->send(kFetchVersion, request, settings_.socket_timeout_ms,
                    [self = shared_from_this(), connection = connection_](Result<wire::FetchResponse>) {
                      --self->nudges_;
                      if (self->connection_ != connection || self->closed_) return;
                      if (!self->owing_.empty() && self->fetching_) self->nudge();
                    });
}

}  // namespace millrace::partition
