// A controller of a cluster whose brokers register, send heartbeats and stop as processes do. Time is a
// number that tests move; every entry has an index.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/controller.h"
#include "control/views.h"
#include "support/catch.h"

namespace millrace::control {

class Cluster {
 public:
  explicit Cluster(int32_t brokers = 3, meta::ConfigValues settings = {}, Limits limits = {});

  static Uuid uuid(uint64_t n) {
    Uuid u;
    for (size_t i = 0; i < 8; ++i) u.bytes[15 - i] = static_cast<uint8_t>(n >> (8 * i));
    return u;
  }
  static Uuid directory(int32_t broker) { return uuid(5000 + static_cast<uint64_t>(broker)); }

  Controller& controller() { return *controller_; }
  const meta::Image& image() const { return controller_->image(); }
  const std::vector<meta::Record>& log() const { return log_; }
  std::vector<meta::Record>& last() { return last_; }
  Now now() const { return {now_ms_, now_ms_}; }
  LogIndex applied() const { return image().applied_index(); }
  const meta::Broker& broker(int32_t id) const {
    const meta::Broker* b = image().broker(BrokerId(id));
    REQUIRE(b != nullptr);
    return *b;
  }
  const meta::Partition& partition(const std::string& topic, int32_t number = 0) const {
    const meta::Topic* t = image().topic(topic);
    REQUIRE(t != nullptr);
    return t->partitions[static_cast<size_t>(number)];
  }

  template <class Request>
  auto run(const Request& request) {
    auto decision = [&] {
      if constexpr (std::is_same_v<Request, CreateTopics>) {
        return controller_->handle(request, [this] { return uuid(++last_uuid_); }, now());
      } else {
        return controller_->handle(request, now());
      }
    }();
    append(std::move(decision.records), decision.atomic);
    return decision.reply;
  }
  Ticked pass(int64_t ms) {
    now_ms_ += ms;
    auto decision = controller_->tick(now());
    append(std::move(decision.records), decision.atomic);
    return decision.reply;
  }
  /// Time goes by, and the brokers named are heard.
  void live(int64_t ms, const std::vector<int32_t>& heard) {
    now_ms_ += ms;
    for (const int32_t b : heard) {
      if (image().broker(BrokerId(b)) != nullptr) (void)heartbeat(b);
    }
    (void)pass(0);
  }
  /// The next decision that may be cut is: after so many records the controller is another.
  void cut_next(size_t records) { cut_after_ = records; }
  /// Another controller takes over from what is recorded.
  void fail_over() {
    meta::Image image = controller_->image();
    controller_ = std::make_unique<Controller>(BrokerId(101), settings_, std::move(image), limits_);
  }

  RegisterBroker registration(int32_t id) {
    RegisterBroker r;
    r.id = BrokerId(id);
    r.cluster_id = uuid(9000);
    r.incarnation = uuid(++last_uuid_ + 1'000'000);
    r.endpoints = {{"PLAINTEXT", "h", 9092, meta::SecurityProtocol::plaintext},
                   {"CONTROLLER", "h", 9093, meta::SecurityProtocol::plaintext}};
    r.log_dirs = {directory(id)};
    return r;
  }
  BrokerHeartbeat beat(int32_t id) {
    BrokerHeartbeat h;
    h.broker = BrokerId(id);
    h.epoch = broker(id).epoch;
    h.applied = applied();
    return h;
  }
  BrokerHeartbeatReply heartbeat(int32_t id) { return run(beat(id)); }
  /// Registered and unfenced.
  void join(int32_t id, std::optional<std::string> rack = {}) {
    RegisterBroker r = registration(id);
    r.rack = std::move(rack);
    REQUIRE(run(r).outcome.ok());
    REQUIRE(heartbeat(id).outcome.ok());
    REQUIRE_FALSE(broker(id).fenced);
  }
  /// Its process is gone, and somebody noticed (if there is somebody).
  void crash(int32_t id) { REQUIRE(crash_if_others(id)); }
  bool crash_if_others(int32_t id) {
    BrokerUnreachable u;
    u.broker = BrokerId(id);
    u.epoch = broker(id).epoch;
    image().brokers().for_each([&](BrokerId b, const meta::BrokerRef& ref) {
      if (b != u.broker) {
        u.reporter = b;
        u.reporter_epoch = ref->epoch;
      }
    });
    return run(u).outcome.ok();
  }
  /// A new process on the same disk; `clean`: with a marker of the epoch before.
  RegisterBrokerReply restart(int32_t id, bool clean = false, std::vector<PartitionKey> damaged = {}) {
    RegisterBroker r = registration(id);
    if (clean) r.clean_epoch = broker(id).epoch;
    r.damaged = std::move(damaged);
    const RegisterBrokerReply reply = run(r);
    REQUIRE(reply.outcome.ok());
    REQUIRE(heartbeat(id).outcome.ok());
    return reply;
  }

  void create(const std::string& name, std::vector<std::vector<int32_t>> places,
              std::vector<NamedValue> configs = {}) {
    NewTopic t;
    t.name = name;
    for (const auto& replicas : places) {
      Assignment a;
      a.partition = static_cast<int32_t>(t.assignments.size());
      for (const int32_t b : replicas) a.replicas.emplace_back(b);
      t.assignments.push_back(std::move(a));
    }
    t.configs = std::move(configs);
    const CreateTopicsReply reply = run(CreateTopics{{std::move(t)}, false});
    INFO(reply.topics[0].outcome.message);
    REQUIRE(reply.topics[0].outcome.ok());
  }
  PartitionKey key(const std::string& topic, int32_t number = 0) const {
    return {image().topic(topic)->id, PartitionId(number)};
  }

  /// What the leader would send to have this ISR.
  AlterPartition proposal(const std::string& topic, int32_t number, const std::vector<int32_t>& isr) {
    const meta::Partition& p = partition(topic, number);
    AlterPartition a;
    a.broker = p.leader;
    if (const meta::Broker* b = image().broker(p.leader)) a.broker_epoch = b->epoch;
    AlterPartitionItem item;
    item.partition = PartitionId(number);
    item.leader_epoch = p.leader_epoch;
    item.partition_epoch = p.partition_epoch;
    for (const int32_t b : isr) item.isr.push_back({BrokerId(b), broker(b).epoch});
    a.topics = {{image().topic(topic)->id, {item}}};
    return a;
  }
  AlteredPartition alter(const std::string& topic, int32_t number, const std::vector<int32_t>& isr) {
    const AlterPartitionReply reply = run(proposal(topic, number, isr));
    REQUIRE(reply.outcome.ok());
    return reply.partitions.at(0);
  }
  Outcome reassign(const std::string& topic, std::optional<std::vector<int32_t>> target, int32_t number = 0) {
    Reassignment r;
    r.partition = {topic, PartitionId(number)};
    if (target) {
      r.replicas.emplace();
      for (const int32_t b : *target) r.replicas->emplace_back(b);
    }
    return run(AlterReassignments{{r}, true}).partitions.at(0).outcome;
  }
  Outcome set_config(const meta::ConfigResource& resource, const std::string& key,
                     std::optional<std::string> value) {
    const AlterOp op = value ? AlterOp::set : AlterOp::remove;
    return run(IncrementalAlterConfigs{{{resource, {{key, op, std::move(value)}}}}, false})
        .resources[0]
        .outcome;
  }

  void append(std::vector<meta::Record> records, bool atomic) {
    last_ = records;
    if (records.empty()) return;
    // What need not be one entry is cut where it hurts most: after every record.
    for (size_t i = 0; i < records.size(); ++i) {
      if (!atomic && cut_after_ && i == *cut_after_) {
        cut_after_.reset();
        fail_over();
        (void)pass(0);
        return;
      }
      REQUIRE(controller_->apply(records[i]).ok());
      log_.push_back(records[i]);
      if (!atomic || i + 1 == records.size()) controller_->set_applied(image().applied_index() + 1, Term(1));
    }
  }

 private:
  std::shared_ptr<const meta::ConfigValues> settings_;
  Limits limits_;
  std::unique_ptr<Controller> controller_;
  std::vector<meta::Record> log_;
  std::vector<meta::Record> last_;
  std::optional<size_t> cut_after_;
  int64_t now_ms_ = 1'000'000;
  uint64_t last_uuid_ = 0;
};

inline Cluster::Cluster(int32_t brokers, meta::ConfigValues settings, Limits limits)
    : settings_(std::make_shared<meta::ConfigValues>(std::move(settings))), limits_(limits) {
  controller_ = std::make_unique<Controller>(BrokerId(100), settings_, meta::Image{}, limits_);
  REQUIRE(run(FoundCluster{uuid(9000), {}}).outcome.ok());
  for (int32_t b = 1; b <= brokers; ++b) join(b);
}

inline std::vector<BrokerId> ids(std::initializer_list<int32_t> list) {
  std::vector<BrokerId> out;
  for (const int32_t i : list) out.emplace_back(i);
  return out;
}

}  // namespace millrace::control
