// A producer: gathers records into one batch per partition, sends batches to the leaders, repeats what may be
// repeated, tells every record where it went.
//
// One batch per partition is under way at a time and the next one gathers meanwhile: order, repetition and
// sequence numbers are then plain, and under load batches grow by themselves. With `idempotent` the broker
// drops what a repetition doubled (KIP-98); after a batch whose fate is unknown the producer takes a new id.
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
#include "client/partitioner.h"
#include "client/topic_partition.h"
#include "record/builder.h"
#include "record/codec.h"
#include "wire/messages/init_producer_id.h"
#include "wire/messages/produce.h"

namespace millrace::client {

struct ProducerOptions {
  int16_t acks = -1;        // -1: all, 1: the leader, 0: nobody answers
  bool idempotent = false;  // needs acks -1
  record::Codec codec = record::Codec::none;
  int level = record::kDefaultLevel;
  size_t batch_bytes_max = 512 * 1024;  // before compression; a larger record goes alone
  int64_t linger_ms = 5;                // how long a batch that is not full waits for more
  int64_t delivery_timeout_ms = 120'000;
  int64_t request_timeout_ms = 30'000;
  bool create_topics = true;  // let the broker create what is missing, if it does that
  uint64_t seed = 1;          // for records without a key
};

struct ProducerRecord {
  std::string topic;
  std::optional<int32_t> partition;  // else by key, else sticky
  std::optional<Bytes> key;
  std::optional<Bytes> value;
  std::vector<std::pair<std::string, std::optional<Bytes>>> headers;
  int64_t timestamp_ms = -1;  // Unix milliseconds; -1: now
};

struct Delivery {
  int32_t partition = -1;
  int64_t offset = -1;  // -1: the broker did not say (acks 0, a duplicate long ago)
};

class Producer {
 public:
  Producer(Client& client, ProducerOptions options);
  /// Records under way are dropped, their callbacks too.
  ~Producer() = default;

  /// `done` runs when the record is stored as `acks` asks, or with the error that ended it.
  void send(ProducerRecord record, Done<Delivery> done);
  /// Sends what waits without lingering; `done` runs when nothing is under way any more.
  void flush(std::function<void()> done);
  /// `done` runs when at most `bytes` are held, at once if so: how a source is slowed down.
  void when_below(size_t bytes, std::function<void()> done);
  /// Keys and values held, bytes.
  size_t held_bytes() const { return held_bytes_; }

 private:
  struct Item {
    Done<Delivery> done;
    size_t bytes = 0;
  };
  struct Batch {
    record::BatchBuilder builder;
    std::vector<Item> items;
    int64_t deadline_ms = 0;
  };
  struct Partition {
    std::unique_ptr<Batch> gathering;
    std::deque<std::unique_ptr<Batch>> full;
    bool lingering = false;
    bool sending = false;
    int32_t next_sequence = 0;
  };
  struct Waiting {
    ProducerRecord record;
    Done<Delivery> done;
  };

  void place(const TopicInfo& topic, ProducerRecord record, Done<Delivery> done);
  void resolved(const std::string& topic, const Result<TopicInfo>& info);
  void close_batch(const TopicPartition& where, Partition& p);
  void send_all();
  void pump(const TopicPartition& where);
  void transmit(const TopicPartition& where, Partition& p);
  void transmit_without_answer(const TopicPartition& where, wire::ProduceRequest request,
                               std::shared_ptr<Batch> batch);
  /// False: not now, pump() comes again when the id is there.
  bool have_producer_id();
  void id_arrived(const Result<wire::InitProducerIdResponse>& response);
  void settle(const TopicPartition& where, const std::shared_ptr<Batch>& batch, Result<int64_t> base_offset);
  void finish_item(Item& item, Result<Delivery> outcome);
  void tell_waiters();

  Client& client_;
  const ProducerOptions options_;
  record::Codecs codecs_;
  StickyPartitions sticky_;
  std::map<TopicPartition, Partition> partitions_;
  std::map<std::string, std::vector<Waiting>> unresolved_;  // records of topics that are being looked up
  size_t held_bytes_ = 0;
  size_t outstanding_ = 0;  // records
  size_t sending_ = 0;      // batches
  std::vector<std::function<void()>> flushes_;
  std::vector<std::pair<size_t, std::function<void()>>> below_;
  int64_t producer_id_ = -1;
  int16_t producer_epoch_ = -1;
  bool asking_id_ = false;
  bool renew_id_ = false;
  std::shared_ptr<void> life_ = std::make_shared<char>();
};

}  // namespace millrace::client
