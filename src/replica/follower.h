// The follower's half of one partition's replication, as a pure machine: what to ask the leader for, and what
// to do with its answer. It knows nothing of locks, connections or clocks; the door does what a Step says
// and tells the machine with on_local() how the log ends then.
//
// A log is cut only where the leader's epochs say that it differs (KIP-101, -279, -320), never to the high
// watermark. One answer may not be enough: after several missed epochs each round goes one epoch further back
// (KAFKA-7164), and every fetch carries the epoch of the last record for the leader to check again.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "base/ids.h"
#include "base/time.h"
#include "log/epoch_cache.h"
#include "replica/leader.h"

namespace millrace::replica {

/// How the own log stands.
struct LocalLog {
  Ends ends;
  Offset log_start{0};
  LeaderEpoch last_epoch = kNoLeaderEpoch;  // of the last record (not of a reign without any); none: empty
};

struct FetchPosition {
  uint64_t number = 0;
  LeaderEpoch leader_epoch;
  Offset fetch_offset{0};
  Offset durable_end{0};
  LeaderEpoch last_fetched_epoch = kNoLeaderEpoch;
  Offset log_start{0};
};

/// The records of an answer: whole batches, already checked (CRC, lengths).
struct FetchedRange {
  Offset base_offset{0};
  Offset next_offset{0};
  LeaderEpoch first_epoch;  // partition leader epochs of the first and the last batch
  LeaderEpoch last_epoch;
};

struct FetchAnswer {
  /// Of the question, as next_fetch() gave them.
  uint64_t number = 0;
  LeaderEpoch leader_epoch;
  ErrorCode error = ErrorCode::none;  // network_exception and the like too
  std::optional<log::EpochEnd> diverging;
  std::optional<FetchedRange> records;
  Offset high_watermark{0};
  Offset log_start = kNoOffset;  // none: not said
};

/// What to do, in this order; then on_local().
struct Step {
  /// Log::truncate_to. What was lost of it had never been committed, or lost_committed says so.
  std::optional<Offset> truncate_to;
  /// Log::truncate_fully_and_start_at. Before, the caller records log start, recovery point and durable end
  /// as this offset, so that a crash in between finds no log that claims more than it holds.
  std::optional<Offset> reset_to;
  /// Append the answer's records.
  bool append = false;
  /// Log::advance_log_start.
  std::optional<Offset> advance_log_start;
  /// What is thrown away was known to be committed: an unclean election, or a leader that lost its log.
  /// To be traced and counted.
  bool lost_committed = false;
  /// The answer contradicts itself or the log (corrupt_message), or the leader's error.
  ErrorCode problem = ErrorCode::none;
};

struct FollowerSettings {
  int64_t backoff_min_ms = 20;
  int64_t backoff_max_ms = 1'000;  // replica.fetch.backoff.ms
};

class Follower {
 public:
  /// `high_watermark`: from the checkpoint, or of the reign before.
  Follower(LocalLog local, Offset high_watermark, FollowerSettings settings = {});

  /// Whom to follow. kNoBroker: nobody leads. False: an epoch that is over, ignored.
  bool on_leader(LeaderEpoch epoch, BrokerId leader, Now now);
  /// The log changed: a Step was done, or a sync finished. True if the high watermark advanced.
  bool on_local(const LocalLog& local);

  /// What to fetch; nothing: no leader, one fetch is out already, or it is not time yet.
  std::optional<FetchPosition> next_fetch(Now now);
  /// When next_fetch() may have something; kNoDeadline: not before news.
  int64_t next_deadline_mono_ms() const;
  /// The answer, or its failure, to what next_fetch() gave. Late and repeated answers do nothing.
  Step on_answer(const FetchAnswer& answer, const log::EpochCache& epochs, Now now);
  /// Nobody waits for the answer to what was asked: it is asked anew.
  void give_up_fetch() { fetching_ = false; }
  /// What on_answer() wanted could not be done (disk): ask again later.
  void on_failed_step(Now now);

  /// The leader waits for a durable end that no fetch has told it: worth a fetch that is not parked.
  bool owes_durable_end() const;
  /// Whether a durable end was reached that no fetch has told, wanted or not.
  bool durable_end_untold() const { return fetching_ && told_durable_end_ < local_.ends.durable_end; }
  /// What tells it, beside the fetch that is out: the same position with the new durable end. Whatever is
  /// answered to it is of no interest.
  std::optional<FetchPosition> tell_durable_end();

  Offset high_watermark() const { return high_watermark_; }
  /// As far as it was told in this reign; may lie beyond the own end.
  Offset leader_high_watermark() const { return leader_high_watermark_; }
  LeaderEpoch epoch() const { return epoch_; }
  BrokerId leader() const { return leader_; }
  const LocalLog& local() const { return local_; }

 private:
  Step back_off(Step step, ErrorCode problem, Now now);
  Step on_diverging(const FetchAnswer& answer, const log::EpochCache& epochs, Now now);
  Step on_out_of_range(const FetchAnswer& answer, Now now);
  Step on_records(const FetchAnswer& answer, Now now);
  void learn(const FetchAnswer& answer, Step& step, Offset end);

  LocalLog local_;
  Offset high_watermark_;
  Offset leader_high_watermark_{0};  // of this reign
  FollowerSettings settings_;
  LeaderEpoch epoch_ = kNoLeaderEpoch;
  BrokerId leader_ = kNoBroker;
  bool fetching_ = false;
  uint64_t fetches_ = 0;  // the number of the last one
  Offset asked_offset_ = kNoOffset;
  Offset told_durable_end_ = kNoOffset;
  int64_t fetch_at_ms_ = 0;
  int64_t backoff_ms_ = 0;
};

}  // namespace millrace::replica
