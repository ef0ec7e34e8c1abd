#include "broker/metadata_ledger.h"

#include "meta/records.h"

namespace millrace::broker {

void MetadataLedger::start(BrokerId self, std::shared_ptr<const meta::ConfigValues> settings,
                           OnCommitted on_committed, std::function<void(Status)> ready) {
  self_ = self;
  settings_ = std::move(settings);
  on_committed_ = std::move(on_committed);
  ready_ = std::move(ready);
  ledger::RaftRunner::Handlers handlers;
  handlers.on_commit = [this](const std::vector<raft::Entry>& entries) { on_commit(entries); };
  handlers.on_leadership = [this](bool leading) { on_leadership(leading); };
  handlers.on_failure = [this](const Error& why) { fail(why); };
  runner_.start(self, std::move(handlers));
}

Status MetadataLedger::append(const std::vector<meta::Record>& records) {
  const Result<LogIndex> proposed = runner_.propose(meta::encode_entry(records));
  if (!proposed.ok()) return proposed.error();
  const LogIndex index = *proposed;
  for (const meta::Record& r : records) {
    const Status applied = controller_->apply(r);
    ASSERT(applied.ok());  // the machine made it
  }
  controller_->set_applied(index, runner_.term());
  appended_ = index;
  return {};
}

void MetadataLedger::hold(std::function<void(ErrorCode)> release_one) {
  held_.push_back({appended_, std::move(release_one)});
  release();
}

void MetadataLedger::on_commit(const std::vector<raft::Entry>& entries) {
  for (const raft::Entry& e : entries) {
    if (e.kind == raft::EntryKind::payload) {
      const Result<std::vector<meta::Record>> records = meta::decode_entry(e.payload.view());
      if (!records.ok()) return fail(records.error());
      if (const Status applied = committed_.apply(*records, &delta_); !applied.ok())
        return fail(applied.error());
    }
    committed_.set_applied(e.index, e.term);
  }
  publish();
}

// A new leader begins from what is committed: its first own entry has committed everything before it.
void MetadataLedger::on_leadership(bool leading) {
  leading_ = leading;
  if (!leading) {
    controller_.reset();
    std::deque<Held> held = std::exchange(held_, {});
    for (Held& h : held) h.release(ErrorCode::not_controller);
    return;
  }
  controller_ = std::make_unique<control::Controller>(self_, settings_, committed_);
  appended_ = committed_.applied_index();
  publish();
}

void MetadataLedger::publish() {
  if (publishing_) return;
  if (published_ == committed_.applied_index()) {
    release();
    return;
  }
  publishing_ = true;
  const LogIndex index = committed_.applied_index();
  on_committed_(std::make_shared<const meta::Image>(committed_), std::exchange(delta_, {}), [this, index] {
    publishing_ = false;
    published_ = index;
    release();
    publish();
  });
}

void MetadataLedger::release() {
  while (!held_.empty() && held_.front().at <= published_) {
    Held h = std::move(held_.front());
    held_.pop_front();
    h.release(ErrorCode::none);
  }
  if (leading_ && ready_ && published_ >= appended_) std::exchange(ready_, nullptr)({});
}

void MetadataLedger::fail(const Error& why) {
  env_.trace.error("the metadata log failed: {}; restart the broker when the cause is mended", why.message);
  failure_ = why.message;
  on_leadership(false);
  if (ready_) std::exchange(ready_, nullptr)(why);
}

}  // namespace millrace::broker
