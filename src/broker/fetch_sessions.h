// Incremental fetch sessions (KIP-227) of one loop's connections: what a client or a follower asked for is
// kept, so that the next request names only what changed and the answer only what is new. Pure: time is a
// parameter. A session that is not found (it was evicted, or the client came back through another loop) costs
// its client one full fetch.
//
// A replica's session watches its partitions for as long as it lasts. What its next answer has to look at is
// what was named, what has changed since, and what was not settled the last time: however many partitions
// there are, quiet ones cost nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/uuid.h"
#include "partition/partition.h"
#include "wire/messages/fetch.h"

namespace millrace::broker {

struct FetchSession {
  struct Partition {
    std::string topic;  // below version 13
    Uuid topic_id;
    wire::FetchRequest::FetchPartition asked;
    // What was told last; none: nothing.
    std::optional<int64_t> high_watermark;
    std::optional<int64_t> log_start;
    bool had_error = false;
    bool fresh = true;  // named by the latest request
    std::shared_ptr<partition::Partition> watched;
    partition::DataWatches::Id watch = 0;
    uint64_t tag = 0;
  };
  using Key = std::pair<std::string, int32_t>;  // topic name or the id's bytes, partition

  FetchSession() = default;
  ~FetchSession();
  FetchSession(const FetchSession&) = delete;
  FetchSession& operator=(const FetchSession&) = delete;
  /// Puts `waiter`, whose tags note_change() knows, in place at `partition`, and arms it: what changes from
  /// now on is told.
  void watch(const Key& key, const std::shared_ptr<partition::Partition>& partition,
             const std::shared_ptr<partition::DataWaiter>& waiter);
  /// Key of what has changed; nullptr: it was forgotten meanwhile.
  const Key* note_change(uint64_t tag);
  void forget(const Key& key);

  int32_t id = 0;
  int32_t epoch = 0;  // of the next request
  bool by_id = false;
  bool of_replica = false;
  int64_t created_ms = 0;
  int64_t used_ms = 0;
  std::map<Key, Partition> partitions;
  /// Where the next answer begins, so that no partition starves behind the byte limit.
  Key first;
  std::set<Key> due;                              // of a replica: what the next answer has to look at
  std::shared_ptr<partition::DataWaiter> waiter;  // of a replica
  uint64_t looks = 0;                             // partitions that answers have looked at, in all

 private:
  static void unwatch(Partition& p);

  std::unordered_map<uint64_t, Key> by_tag_;
  uint64_t last_tag_ = 0;
};

class FetchSessions {
 public:
  struct Settings {
    size_t slots = 1'000;           // max.incremental.fetch.session.cache.slots, of this loop
    int64_t eviction_ms = 120'000;  // min.incremental.fetch.session.eviction.ms
  };
  /// What a request means. No session: everything is in the request, nothing is kept.
  struct Opened {
    /// fetch_session_id_not_found, invalid_fetch_session_epoch, fetch_session_topic_id_error.
    ErrorCode error = ErrorCode::none;
    std::shared_ptr<FetchSession> session;
    bool incremental = false;  // the answer names only what is new
  };

  /// `fresh_id`: a random number, used if a session is to begin.
  Opened open(const wire::FetchRequest& request, int16_t version, uint64_t fresh_id, const Settings& settings,
              int64_t now_mono_ms);
  size_t size() const { return sessions_.size(); }
  size_t partitions() const;
  /// FetchSession::looks of a session; 0 if there is none.
  uint64_t looks(int32_t session) const;
  uint64_t evictions() const { return evictions_; }

 private:
  bool make_room(const FetchSession& candidate, const Settings& settings, int64_t now_ms);

  std::map<int32_t, std::shared_ptr<FetchSession>> sessions_;
  uint64_t evictions_ = 0;
};

}  // namespace millrace::broker
