#include "broker/metadata_ledger.h"

#include <algorithm>
#include <utility>

#include "base/plants.h"
#include "meta/records.h"

namespace millrace::broker {

namespace {

// A decision that need not be one entry is cut: so that no entry keeps others waiting.
constexpr size_t kRecordsPerEntry = 1'000;
constexpr int64_t kTickMinMs = 10;
// A tick so late says that this node did not run. What brokers said meanwhile waits to be read: before that
// nobody's session is over.
constexpr int64_t kStoodStillMs = 500;
constexpr int64_t kTickMaxMs = 250;  // what is asked meanwhile may make something due sooner

// Its time may have been up before.
void tell_once(std::function<void()>& waiter) {
  if (waiter) std::exchange(waiter, nullptr)();
}

// Everything that either image has.
void add_everything(const meta::Image& image, meta::Delta& delta) {
  image.topics().for_each([&](const std::string&, const meta::TopicRef& t) { delta.topics.insert(t->id); });
  image.brokers().for_each([&](const BrokerId& id, const meta::BrokerRef&) { delta.brokers.insert(id); });
  image.configs().for_each(
      [&](const meta::ConfigResource& r, const std::shared_ptr<const meta::ConfigValues>&) {
        delta.configs.insert(r);
      });
  delta.features = delta.producer_ids = delta.cluster = true;
}

}  // namespace

void MetadataLedger::start(Start start) {
  start_ = std::move(start);
  ledger::RaftRunner::Handlers handlers;
  handlers.send = [this](std::vector<raft::Message> messages) { peers_.send(messages); };
  handlers.on_snapshot = [this](const raft::SnapshotMeta& meta, const Slice& state) {
    on_snapshot(meta, state);
  };
  handlers.on_commit = [this](const std::vector<raft::Entry>& entries) { on_commit(entries); };
  handlers.on_leader = [this](BrokerId leader) { on_leader(leader); };
  handlers.on_leadership = [this](bool leading) { on_leadership(leading); };
  handlers.on_failure = [this](const Error& why) { fail(why); };
  runner_.start(start_.quorum, std::move(handlers));
}

Status MetadataLedger::append(std::span<const meta::Record> records, bool atomic) {
  while (!records.empty()) {
    const size_t count = atomic ? records.size() : std::min(records.size(), kRecordsPerEntry);
    const std::span<const meta::Record> entry = records.first(count);
    records = records.subspan(count);
    const Result<LogIndex> proposed = runner_.propose(meta::encode_entry(entry));
    if (!proposed.ok()) return proposed.error();
    const LogIndex index = *proposed;
    for (const meta::Record& r : entry) {
      const Status applied = controller_->apply(r);
      ASSERT(applied.ok());  // the machine made it
    }
    controller_->set_applied(index, runner_.term());
    appended_ = index;
  }
  return {};
}

void MetadataLedger::arm_tick(int64_t at_mono_ms) {
  const int64_t wait_ms = std::clamp<int64_t>(at_mono_ms - env_.clock->now().mono_ms, kTickMinMs, kTickMaxMs);
  if (tick_timer_ != 0) env_.loop->cancel(tick_timer_);
  tick_timer_ = env_.loop->call_after(wait_ms, [this, due_ms = env_.clock->now().mono_ms + wait_ms] {
    tick_timer_ = 0;
    const int64_t late_ms = env_.clock->now().mono_ms - due_ms;
    if (late_ms >= kStoodStillMs) return arm_tick(env_.clock->now().mono_ms + kTickMaxMs);
    tick();
  });
}

// A failed append is no harm: the next tick finds the same.
void MetadataLedger::tick() {
  if (!leading_ || stopped_) return;
  const control::Decision<control::Ticked> decision = controller_->tick(env_.clock->now());
  for (const BrokerId b : decision.reply.fenced)
    env_.trace.warn("broker {} has not been heard of: it is fenced", b.v);
  if (const Status appended = append(decision.records, decision.atomic); !appended.ok()) {
    if (appended.code() != ErrorCode::not_controller)
      env_.trace.warn("what time brought could not be recorded yet: {}", appended.error().message);
  }
  arm_tick(decision.reply.next_mono_ms);
}

void MetadataLedger::stop() {
  stopped_ = true;
  if (tick_timer_ != 0) env_.loop->cancel(std::exchange(tick_timer_, 0));
  for (auto& [index, waiter] : std::exchange(waiting_, {})) tell_once(*waiter);
}

void MetadataLedger::when_published(LogIndex index, int64_t timeout_ms, std::function<void()> f) {
  if (published_ >= index || stopped_) {
    f();
    return;
  }
  auto shared = std::make_shared<std::function<void()>>(std::move(f));
  waiting_.emplace(index, shared);
  if (timeout_ms == INT64_MAX) return;
  env_.loop->call_after(timeout_ms, [weak = std::weak_ptr<std::function<void()>>(shared)] {
    if (const auto waiter = weak.lock()) tell_once(*waiter);
  });
}

void MetadataLedger::hold(Until until, std::function<void(ErrorCode)> release_one) {
  if (planted(Plant::metadata_reply_early)) return release_one(ErrorCode::none);
  (until == Until::committed ? held_committed_ : held_).push_back({appended_, std::move(release_one)});
  release();
}

void MetadataLedger::release_up_to(std::deque<Held>& held, LogIndex index) {
  while (!held.empty() && held.front().at <= index) {
    Held h = std::move(held.front());
    held.pop_front();
    h.release(ErrorCode::none);
  }
}

void MetadataLedger::on_commit(const std::vector<raft::Entry>& entries) {
  for (const raft::Entry& e : entries) {
    if (e.kind == raft::EntryKind::payload) {
      const Result<std::vector<meta::Record>> records = meta::decode_entry(e.payload.view());
      if (!records.ok()) return fail(records.error());
      if (const Status applied = committed_.apply(*records, &delta_); !applied.ok())
        return fail(applied.error());
      bytes_since_snapshot_ += e.payload.size();
    }
    committed_.set_applied(e.index, e.term);
  }
  if (bytes_since_snapshot_ >= start_.snapshot_every_bytes) keep_snapshot();
  publish();
}

void MetadataLedger::on_snapshot(const raft::SnapshotMeta& meta, const Slice& state) {
  Result<meta::Image> image = meta::decode_snapshot(state.view());
  if (!image.ok()) return fail(image.error());
  add_everything(committed_, delta_);
  committed_ = std::move(*image);
  committed_.set_applied(meta.index, meta.term);
  add_everything(committed_, delta_);
  bytes_since_snapshot_ = 0;
  publish();
}

// The image is a value: encoding a copy of it elsewhere disturbs nobody.
void MetadataLedger::keep_snapshot() {
  bytes_since_snapshot_ = 0;
  runner_.keep_snapshot(committed_.applied_index(),
                        [image = committed_] { return meta::encode_snapshot(image); });
}

// A new leader begins from what is committed: its first own entry has committed everything before it.
void MetadataLedger::on_leadership(bool leading) {
  leading_ = leading;
  if (!leading) {
    if (tick_timer_ != 0) env_.loop->cancel(std::exchange(tick_timer_, 0));
    controller_.reset();
    for (std::deque<Held>* all : {&held_, &held_committed_}) {
      std::deque<Held> held = std::exchange(*all, {});
      for (Held& h : held) h.release(failed() ? ErrorCode::kafka_storage_error : ErrorCode::not_controller);
    }
    return;
  }
  controller_ = std::make_unique<control::Controller>(start_.quorum.self, start_.settings, committed_);
  appended_ = committed_.applied_index();
  if (committed_.cluster_id().is_zero()) {
    submit(control::FoundCluster{start_.cluster_id, {}}, [this](Result<control::FoundClusterReply> r) {
      if (r.ok() && r->outcome.ok()) return;
      env_.trace.error("the cluster could not be recorded: {}",
                       r.ok() ? r->outcome.message : r.error().message);
    });
  }
  publish();
  tick();
  // Whoever waits for a controller may ask it now.
  start_.on_leader(start_.quorum.self);
}

// Of this node itself it is told when the machine is ready.
void MetadataLedger::on_leader(BrokerId leader) {
  if (leader != start_.quorum.self || leading_) start_.on_leader(leader);
}

void MetadataLedger::publish() {
  release_up_to(held_committed_, committed_.applied_index());
  if (publishing_) return;
  if (published_ == committed_.applied_index()) {
    release();
    return;
  }
  publishing_ = true;
  const LogIndex index = committed_.applied_index();
  start_.on_committed(std::make_shared<const meta::Image>(committed_), std::exchange(delta_, {}),
                      [this, index] {
                        publishing_ = false;
                        published_ = index;
                        release();
                        publish();
                      });
}

void MetadataLedger::release() {
  release_up_to(held_committed_, committed_.applied_index());
  release_up_to(held_, published_);
  while (!waiting_.empty() && waiting_.begin()->first <= published_) {
    const std::shared_ptr<std::function<void()>> waiter = waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    tell_once(*waiter);
  }
}

void MetadataLedger::fail(const Error& why) {
  env_.trace.error("the metadata log failed: {}; restart the broker when the cause is mended", why.message);
  failure_ = why.message;
  on_leadership(false);
  start_.on_failure(why);
}

}  // namespace millrace::broker
