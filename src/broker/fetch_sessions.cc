#include "broker/fetch_sessions.h"

#include <tuple>

namespace millrace::broker {
namespace {

constexpr int32_t kInitialEpoch = 0;
constexpr int32_t kFinalEpoch = -1;
constexpr int16_t kSessionsVersion = 7;
constexpr int16_t kTopicIdsVersion = 13;
constexpr size_t kPartitionsMax = 200'000;  // of one session; more are served without one

FetchSession::Key session_key(bool by_id, const std::string& topic, const Uuid& id, int32_t partition) {
  return {by_id ? id.to_string() : topic, partition};
}

// Adds what the request names; forgets what it says.
void update(FetchSession& session, const wire::FetchRequest& request) {
  for (const auto& t : request.topics) {
    for (const auto& p : t.partitions) {
      FetchSession::Partition& kept =
          session.partitions[session_key(session.by_id, t.topic, t.topic_id, p.partition)];
      kept.topic = t.topic;
      kept.topic_id = t.topic_id;
      kept.asked = p;
      kept.fresh = true;
      if (session.of_replica)
        session.due.insert(session_key(session.by_id, t.topic, t.topic_id, p.partition));
    }
  }
  for (const auto& t : request.forgotten_topics_data) {
    for (const int32_t p : t.partitions) session.forget(session_key(session.by_id, t.topic, t.topic_id, p));
  }
}

size_t partition_count(const wire::FetchRequest& request) {
  size_t count = 0;
  for (const auto& t : request.topics) count += t.partitions.size();
  return count;
}

}  // namespace

FetchSession::~FetchSession() {
  for (auto& [key, p] : partitions) unwatch(p);
}

void FetchSession::unwatch(Partition& p) {
  if (p.watched) p.watched->unwatch(p.watch);
  p.watched = nullptr;
}

void FetchSession::watch(const Key& key, const std::shared_ptr<partition::Partition>& partition,
                         const std::shared_ptr<partition::DataWaiter>& told) {
  const auto it = partitions.find(key);
  if (it == partitions.end()) return;
  Partition& p = it->second;
  if (p.watched == partition) return partition->rearm(p.watch);
  unwatch(p);
  if (p.tag == 0) by_tag_.emplace(p.tag = ++last_tag_, key);
  p.watched = partition;
  p.watch = partition->watch_as_replica(told, p.tag);
}

const FetchSession::Key* FetchSession::note_change(uint64_t tag) {
  const auto it = by_tag_.find(tag);
  if (it == by_tag_.end()) return nullptr;
  due.insert(it->second);
  return &it->second;
}

void FetchSession::forget(const Key& key) {
  const auto it = partitions.find(key);
  if (it == partitions.end()) return;
  unwatch(it->second);
  by_tag_.erase(it->second.tag);
  due.erase(key);
  partitions.erase(it);
}

FetchSessions::Opened FetchSessions::open(const wire::FetchRequest& request, int16_t version,
                                          uint64_t fresh_id, const Settings& settings, int64_t now_mono_ms) {
  Opened out;
  if (version < kSessionsVersion) return out;
  const bool by_id = version >= kTopicIdsVersion;
  if (request.session_epoch == kFinalEpoch || request.session_epoch == kInitialEpoch) {
    // A full fetch: what the session was is over.
    if (request.session_id != 0) sessions_.erase(request.session_id);
    if (request.session_epoch == kFinalEpoch || request.topics.empty() ||
        partition_count(request) > kPartitionsMax) {
      return out;
    }
    auto session = std::make_shared<FetchSession>();
    session->by_id = by_id;
    session->of_replica = (version >= 15 ? request.replica_state.replica_id : request.replica_id) >= 0;
    session->created_ms = session->used_ms = now_mono_ms;
    session->epoch = 1;
    update(*session, request);
    if (!make_room(*session, settings, now_mono_ms)) return out;
    int32_t id = static_cast<int32_t>(fresh_id & 0x7fff'ffff);
    while (id == 0 || sessions_.contains(id)) id = id == INT32_MAX ? 1 : id + 1;
    session->id = id;
    sessions_[id] = session;
    out.session = std::move(session);
    return out;
  }
  const auto it = sessions_.find(request.session_id);
  if (it == sessions_.end()) {
    out.error = ErrorCode::fetch_session_id_not_found;
    return out;
  }
  FetchSession& session = *it->second;
  if (session.by_id != by_id) {
    out.error = ErrorCode::fetch_session_topic_id_error;
    return out;
  }
  if (session.epoch != request.session_epoch) {
    out.error = ErrorCode::invalid_fetch_session_epoch;
    return out;
  }
  if (session.partitions.size() + partition_count(request) > kPartitionsMax) {
    sessions_.erase(it);
    out.error = ErrorCode::fetch_session_id_not_found;
    return out;
  }
  session.used_ms = now_mono_ms;
  session.epoch = session.epoch == INT32_MAX ? 1 : session.epoch + 1;
  update(session, request);
  out.session = it->second;
  out.incremental = true;
  // Nothing is left of it; the answer still bears its id.
  if (session.partitions.empty()) sessions_.erase(it);
  return out;
}

size_t FetchSessions::partitions() const {
  size_t count = 0;
  for (const auto& [id, session] : sessions_) count += session->partitions.size();
  return count;
}

uint64_t FetchSessions::looks(int32_t session) const {
  const auto it = sessions_.find(session);
  return it == sessions_.end() ? 0 : it->second->looks;
}

// A follower's session goes before a client's, then a larger one before a smaller; what was used lately
// stays, but for a client's when a follower comes.
bool FetchSessions::make_room(const FetchSession& candidate, const Settings& settings, int64_t now_ms) {
  if (sessions_.size() < settings.slots) return true;
  auto worst = sessions_.end();
  const auto rank = [&](const FetchSession& s) {
    const bool idle = now_ms - s.used_ms > settings.eviction_ms;
    return std::tuple(!idle, s.of_replica, s.partitions.size(), s.used_ms);
  };
  for (auto it = sessions_.begin(); it != sessions_.end(); ++it) {
    if (worst == sessions_.end() || rank(*it->second) < rank(*worst->second)) worst = it;
  }
  if (worst == sessions_.end()) return false;
  const FetchSession& s = *worst->second;
  const bool idle = now_ms - s.used_ms > settings.eviction_ms;
  const bool settled = now_ms - s.created_ms > settings.eviction_ms;
  const bool outranks = candidate.of_replica && !s.of_replica;
  const bool larger =
      candidate.of_replica == s.of_replica && settled && s.partitions.size() < candidate.partitions.size();
  if (!idle && !outranks && !larger) return false;
  sessions_.erase(worst);
  ++evictions_;
  return true;
}

}  // namespace millrace::broker
