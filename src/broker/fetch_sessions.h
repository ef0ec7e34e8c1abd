// Incremental fetch sessions (KIP-227) of one loop's connections: what a client or a follower asked for is
// kept, so that the next request names only what changed and the answer only what is new. Pure: time is a
// parameter. A session that is not found (it was evicted, or the client came back through another loop) costs
// its client one full fetch.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ids.h"
#include "base/uuid.h"
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
  };
  using Key = std::pair<std::string, int32_t>;  // topic name or the id's bytes, partition

  int32_t id = 0;
  int32_t epoch = 0;  // of the next request
  bool by_id = false;
  bool of_replica = false;
  int64_t created_ms = 0;
  int64_t used_ms = 0;
  std::map<Key, Partition> partitions;
  /// Where the next answer begins, so that no partition starves behind the byte limit.
  Key first;
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
  uint64_t evictions() const { return evictions_; }

 private:
  bool make_room(const FetchSession& candidate, const Settings& settings, int64_t now_ms);

  std::map<int32_t, std::shared_ptr<FetchSession>> sessions_;
  uint64_t evictions_ = 0;
};

}  // namespace millrace::broker
