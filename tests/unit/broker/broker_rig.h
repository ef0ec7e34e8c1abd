// A broker that was never started: its loops see what a test shows them, and handlers answer from it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/broker.h"
#include "broker/call.h"
#include "broker/handlers/handlers.h"
#include "support/catch.h"
#include "support/manual_loop.h"
#include "support/memory_disk.h"

namespace millrace::broker::test_rig {

inline constexpr const char* kClients = "PLAINTEXT";
inline constexpr const char* kInternal = "CONTROLLER";

struct BrokerRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  test::MemoryDisk files;
  test::SeededRandom random;
  MetricsRegistry metrics;
  Broker broker{environment(), config()};
  std::shared_ptr<link::ConnectionContext> connection = std::make_shared<link::ConnectionContext>();
  const Uuid topic{{7}};
  std::vector<meta::Record> records;

  BrokerRig() {
    connection->loop = &loop;
    connection->listener = kClients;
    for (const int n : {1, 2, 3}) records.emplace_back(meta::RegisterBrokerRecord{known_broker(n)});
    records.emplace_back(meta::TopicRecord{"orders", topic});
  }
  BrokerEnvironment environment() {
    BrokerEnvironment e;
    e.loops = {&loop};
    e.control_loop = &loop;
    e.disk = &files;
    e.clock = &clock;
    e.random = &random;
    e.metrics = &metrics;
    return e;
  }
  static BrokerConfig config() {
    BrokerConfig c;
    c.node_id = BrokerId(1);
    c.log_dirs = {"/data"};
    c.internal = meta::Endpoint{kInternal, "n1", 9093};
    c.settings = std::make_shared<const meta::ConfigValues>();
    return c;
  }
  static meta::Broker known_broker(int n) {
    meta::Broker b;
    b.id = BrokerId(n);
    b.epoch = BrokerEpoch(10 + n);
    b.endpoints = {{kClients, "n" + std::to_string(n), 9092}, {kInternal, "n" + std::to_string(n), 9093}};
    b.fenced = false;
    return b;
  }
  /// The next partition of the topic, on all three brokers.
  void add_partition(int leader, int epoch = 1) {
    meta::Partition p;
    p.replicas = p.isr = {BrokerId(1), BrokerId(2), BrokerId(3)};
    p.directories.resize(3);
    p.leader = BrokerId(leader);
    p.leader_epoch = LeaderEpoch(epoch);
    records.emplace_back(meta::PartitionRecord{topic, PartitionId(partitions_++), p});
  }
  /// What `records` come to.
  std::shared_ptr<View> view() {
    auto image = std::make_shared<meta::Image>();
    meta::Delta delta;
    const Status applied = image->apply(records, &delta);
    REQUIRE(applied.ok());
    auto v = std::make_shared<View>();
    v->image = image;
    v->controller = BrokerId(2);
    return v;
  }
  void show(std::shared_ptr<const View> v) {
    loop.in_tick([&] { broker.shard(0).show(std::move(v)); });
  }
  /// The answer, when it has come.
  template <class Request>
  std::shared_ptr<std::optional<typename Request::Response>> ask(Request request, int16_t version) {
    auto out = std::make_shared<std::optional<typename Request::Response>>();
    wire::RequestHeader header;
    header.request_api_key = static_cast<int16_t>(Request::kApiKey);
    header.request_api_version = version;
    const wire::ApiInfo* api = wire::find_api(header.request_api_key);
    REQUIRE(api != nullptr);
    ForwardSink sink([out, version](std::optional<Bytes> body) {
      if (!body) return;
      wire::Reader reader{MutableByteView(*body)};
      typename Request::Response response;
      const Status decoded = decode(reader, version, response);
      CHECK(decoded.ok());
      *out = std::move(response);
    });
    loop.in_tick([&] {
      handle(Call(broker.shard(0), connection, *api, std::move(header), std::move(sink), 0), request);
    });
    return out;
  }

 private:
  int partitions_ = 0;
};

}  // namespace millrace::broker::test_rig
