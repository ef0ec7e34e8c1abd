// The clients of the workload, on room `client`. Each has connections of its own and lives on the one loop of
// the program; each notes in the book what it asked and what it was told.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "chaos/book.h"
#include "client/client.h"
#include "client/consumer.h"
#include "client/producer.h"

namespace millrace::chaos {

struct Topic {
  std::string name;
  int32_t partitions = 1;
};

/// What all workers are made with.
struct Stage {
  io::Loop& loop;
  io::Network& network;
  const io::Clock& clock;
  Book& book;
  std::vector<io::Endpoint> bootstrap;

  client::ClientOptions client_options(const std::string& name) const;
};

class Worker {
 public:
  virtual ~Worker() = default;
  virtual void start() = 0;
  /// Begins nothing new; `done` runs when nothing is under way any more.
  virtual void stop(std::function<void()> done) = 0;
};

/// client::Producer with idempotence and acks=all: it repeats until its deadline.
class IdempotentWriter final : public Worker {
 public:
  IdempotentWriter(Stage& stage, std::string name, Topic topic, int rate);
  void start() override { tick(); }
  void stop(std::function<void()> done) override;

 private:
  struct Burst;
  void tick();
  void send(int count);
  void over(const Burst& burst);

  Stage& stage_;
  const std::string name_;
  const Topic topic_;
  const int rate_;  // records a second
  client::Client client_;
  client::Producer producer_;
  int32_t next_partition_ = 0;
  int64_t owed_us_ = 0;
  int64_t last_tick_us_ = 0;
  bool stopping_ = false;
};

/// Asks once and believes the answer: what says that nothing was written is noted as such. Without
/// idempotence.
class PlainWriter final : public Worker {
 public:
  PlainWriter(Stage& stage, std::string name, Topic topic, int rate, int16_t acks);
  void start() override;
  void stop(std::function<void()> done) override;

 private:
  void send(int32_t partition);
  void answered(int32_t partition, int64_t invoked, const std::vector<check::Value>& values,
                Result<wire::ProduceResponse> response);

  Stage& stage_;
  const std::string name_;
  const Topic topic_;
  const int rate_;
  const int16_t acks_;
  client::Client client_;
  std::vector<std::string> names_;  // in the history, by partition
  int under_way_ = 0;
  bool stopping_ = false;
  std::function<void()> stopped_;
};

/// A member of a group that reads and commits, and leaves and joins again now and then.
class Member final : public Worker {
 public:
  Member(Stage& stage, std::string name, std::string group, Topic topic, uint64_t seed);
  ~Member() override;
  void start() override { join(); }
  void stop(std::function<void()> done) override;

 private:
  void join();
  void poll();
  void polled(int64_t invoked, Result<std::vector<client::ConsumedRecord>> records);
  void note_assignment(int64_t now);
  void commit(std::function<void()> then);
  void leave(std::function<void()> then);

  Stage& stage_;
  const std::string name_;
  const std::string group_;
  const Topic topic_;
  std::mt19937_64 random_;
  client::Client client_;
  std::unique_ptr<client::Consumer> consumer_;
  int32_t generation_ = -1;  // whose assignment was noted
  uint64_t assignment_ = 0;
  bool reset_ = true;  // the next poll may begin anywhere
  int64_t leave_at_us_ = 0;
  int64_t commit_at_us_ = 0;
  bool committing_ = false;
  std::function<void()> stopped_;
};

/// Reads all partitions from their beginning; at the end to where they end.
class Reader final : public Worker {
 public:
  Reader(Stage& stage, std::string name, std::vector<Topic> topics);
  ~Reader() override;
  void start() override;
  /// `done` runs when every partition was read to the end that it has now.
  void stop(std::function<void()> done) override;

 private:
  void open();
  void poll();
  void ask_ends();
  bool at_ends() const;

  Stage& stage_;
  const std::string name_;
  client::Client client_;
  std::map<client::TopicPartition, int64_t> positions_;
  std::map<client::TopicPartition, int64_t> ends_;
  std::unique_ptr<client::Consumer> consumer_;
  std::function<void()> stopped_;
};

/// Asks for the ends of partitions and the committed offsets of groups.
class Observer final : public Worker {
 public:
  Observer(Stage& stage, std::string name, std::vector<Topic> topics, std::map<std::string, Topic> groups);
  void start() override { look(); }
  void stop(std::function<void()> done) override;

 private:
  void look();
  void over();

  Stage& stage_;
  const std::string name_;
  const std::vector<Topic> topics_;
  const std::map<std::string, Topic> groups_;
  client::Client client_;
  size_t under_way_ = 0;
  std::function<void()> stopped_;
};

}  // namespace millrace::chaos
