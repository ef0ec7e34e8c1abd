// A consumer: fetches assigned partitions from their leaders ahead of the reader, within a bound, and hands
// out records in order per partition. Partitions are assigned by the caller, or by a group.
//
// In a group offsets are committed every commit_interval_ms, before partitions are given up, and on close: as
// far as the reader said it is done.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "client/group_member.h"
#include "client/offsets.h"
#include "client/topic_partition.h"
#include "record/batch.h"
#include "record/codec.h"
#include "wire/messages/fetch.h"

namespace millrace::client {

/// Where to begin when nothing else says so.
enum class StartAt : uint8_t { beginning, end, fail };

struct ConsumerOptions {
  int32_t fetch_wait_ms = 500;  // how long a leader holds a fetch that has nothing
  int32_t fetch_bytes_max = 16 << 20;
  int32_t partition_bytes_max = 1 << 20;
  size_t buffered_bytes_max = size_t{32} << 20;   // fetched and not handed out
  size_t inflated_bytes_max = size_t{128} << 20;  // of one batch
  bool read_committed = false;
  StartAt start = StartAt::end;  // without a committed offset, or when the offset is gone
  bool commit = true;            // in a group
  int64_t commit_interval_ms = 5'000;
};

struct ConsumedRecord {
  std::string topic;
  int32_t partition = 0;
  int64_t offset = 0;
  int64_t timestamp_ms = -1;
  record::TimestampType timestamp_type = record::TimestampType::create_time;
  std::optional<Bytes> key;
  std::optional<Bytes> value;
  std::vector<std::pair<std::string, std::optional<Bytes>>> headers;
};

class Consumer {
 public:
  Consumer(Client& client, ConsumerOptions options);
  ~Consumer();

  /// Reads these partitions from these offsets. Replaces what was assigned.
  void assign(const std::map<TopicPartition, int64_t>& offsets);
  /// Joins a group; partitions come and go with it. Once, instead of assign().
  void subscribe(GroupOptions group);

  /// At most `records_max` records, as soon as there are any; none after `wait_ms`. One poll at a time
  /// (asserted). Errors: what ended the membership; offset_out_of_range with StartAt::fail; corrupt (a batch
  /// that does not verify); unknown_topic_or_partition; authorization. After an error the consumer is of no
  /// further use.
  void poll(int64_t wait_ms, size_t records_max, Done<std::vector<ConsumedRecord>> done);

  /// Per assigned partition, the offset after the last record handed out (past what had no records).
  std::map<TopicPartition, int64_t> positions() const;
  /// Whether the group has given us an assignment (perhaps an empty one), and positions() knows all of it.
  bool assigned() const { return assigned_; }
  /// Another one after every assignment, also if it is the same in the same generation: positions begin anew.
  uint64_t assignment() const { return assignment_; }
  const GroupMember* member() const { return member_.get(); }

  /// The reader is done with what precedes these offsets. Partitions that are no longer assigned are skipped.
  void done_with(const std::map<TopicPartition, int64_t>& next_offsets);
  /// Commits what the reader is done with; `done` gets the first error of any partition.
  void commit(std::function<void(Status)> done);
  /// Commits (in a group, if it is to commit), leaves, stops. The last call.
  void close(std::function<void(Status)> done);

 private:
  struct Partition {
    int64_t fetch_offset = 0;
    bool fetching = false;
    int32_t bytes_max = 0;
    int64_t not_before_ms = 0;  // after an error
    std::deque<ConsumedRecord> ready;
    size_t ready_bytes = 0;
  };

  void drop_assignment();
  void take_assignment(std::vector<TopicPartition> partitions);
  void begin_at(std::map<TopicPartition, int64_t> offsets);
  void pump();
  void fetch_from(int32_t leader, std::vector<TopicPartition> partitions);
  void fetched(uint64_t assignment, const std::vector<TopicPartition>& asked,
               const std::vector<std::pair<Uuid, std::string>>& names, Result<wire::FetchResponse> response);
  void take(const TopicPartition& where, Partition& p, const wire::FetchResponse::PartitionData& data);
  /// The records of what was fetched, and how far it reached. Errors: corrupt, limit_exceeded.
  Status read_batches(const TopicPartition& where, Partition& p,
                      const wire::FetchResponse::PartitionData& data);
  void reset_offset(const TopicPartition& where, ErrorCode code);
  void pump_later(int64_t delay_ms);
  void look_for_leader(const std::string& topic);
  void answer_poll();
  void fail(Error why);
  void arm_commit();
  std::map<TopicPartition, int64_t> uncommitted() const;

  Client& client_;
  const ConsumerOptions options_;
  record::Codecs codecs_;
  std::map<TopicPartition, Partition> partitions_;
  std::map<int32_t, bool> leaders_busy_;
  std::map<std::string, bool> looking_;
  uint64_t assignment_ = 0;  // counts assignments: answers to older ones are ignored
  bool assigned_ = false;
  size_t ready_bytes_ = 0;
  TopicPartition last_given_;  // partitions take turns
  Done<std::vector<ConsumedRecord>> poll_;
  size_t poll_records_max_ = 0;
  io::TimerId poll_timer_ = 0;
  std::optional<Error> failed_;
  bool closed_ = false;
  bool pumping_later_ = false;

  std::unique_ptr<GroupMember> member_;
  std::map<TopicPartition, int64_t> done_with_;  // by the reader: next offsets
  std::map<TopicPartition, int64_t> committed_;
  io::TimerId commit_timer_ = 0;
  std::shared_ptr<void> life_ = std::make_shared<char>();
};

}  // namespace millrace::client
