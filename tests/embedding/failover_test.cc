// The public header in a test of one's own: a cluster, a client, and what happens when brokers go. The client
// is that of this repository; any other would do.
#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "cli/session.h"
#include "client/consumer.h"
#include "client/producer.h"
#include "millrace/cluster.h"
#include "support/catch.h"
#include "wire/messages/create_topics.h"

namespace millrace {
namespace {

using namespace std::chrono_literals;
using client::Delivery;
using client::Done;

Bytes bytes_of(const std::string& text) {
  return Bytes(text.begin(), text.end());
}

// A client of the cluster, with the few calls that the tests make.
class TestClient {
 public:
  explicit TestClient(const std::string& bootstrap) {
    auto opened = cli::Session::open({bootstrap, 4'000});
    REQUIRE(opened.ok());
    session_ = std::move(*opened);
    session_->on_loop([this] {
      client::ProducerOptions options;
      options.idempotent = true;
      options.request_timeout_ms = 2'000;  // of a broker that stands still
      producer_ = std::make_unique<client::Producer>(session_->client(), options);
    });
  }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;
  ~TestClient() {
    session_->on_loop([this] { producer_.reset(); });
  }

  void create_topic(const std::string& name) {
    wire::CreateTopicsRequest request;
    wire::CreateTopicsRequest::CreatableTopic topic;
    topic.name = name;
    topic.num_partitions = 1;
    topic.replication_factor = -1;
    request.topics.push_back(topic);
    request.timeout_ms = 10'000;
    const auto made = session_->call<wire::CreateTopicsRequest>(client::Target::controller(), request);
    REQUIRE(made.ok());
    REQUIRE(made->topics.size() == 1);
    REQUIRE(made->topics[0].error_code == 0);
  }

  /// Sends with acks=all and waits; what it was acknowledged as.
  Delivery send(const std::string& topic, const std::string& value) {
    const Result<Delivery> sent = session_->wait<Delivery>([&](Done<Delivery> done) {
      client::ProducerRecord record;
      record.topic = topic;
      record.partition = 0;
      record.value = bytes_of(value);
      producer_->send(std::move(record), std::move(done));
    });
    INFO((sent.ok() ? std::string() : sent.error().message));
    REQUIRE(sent.ok());
    return *sent;
  }

  /// The first `count` values of the partition, from its beginning.
  std::vector<std::string> read(const std::string& topic, size_t count) {
    std::unique_ptr<client::Consumer> consumer;
    session_->on_loop([&] {
      client::ConsumerOptions options;
      options.commit = false;
      consumer = std::make_unique<client::Consumer>(session_->client(), options);
      consumer->assign({{{topic, 0}, 0}});
    });
    std::vector<std::string> values;
    while (values.size() < count) {
      using Records = std::vector<client::ConsumedRecord>;
      const auto got = session_->wait<Records>(
          [&](Done<Records> done) { consumer->poll(10'000, 1'000, std::move(done)); });
      REQUIRE(got.ok());
      if (got->empty()) break;
      for (const auto& r : *got) values.emplace_back(r.value->begin(), r.value->end());
    }
    session_->on_loop([&] { consumer.reset(); });
    return values;
  }

 private:
  std::unique_ptr<cli::Session> session_;
  std::unique_ptr<client::Producer> producer_;
};

std::vector<std::string> numbers(int count) {
  std::vector<std::string> all;
  for (int i = 0; i < count; ++i) all.push_back("record " + std::to_string(i));
  return all;
}

TEST_CASE("the leader is killed, producing goes on, everything is there", "[cluster]") {
  Cluster cluster({.brokers = 3});
  TestClient client(cluster.bootstrap_servers());
  client.create_topic("orders");
  cluster.wait_until_ready(20s);

  int sent = 0;
  for (; sent < 20; ++sent) CHECK(client.send("orders", "record " + std::to_string(sent)).offset == sent);
  const int leader = cluster.leader("orders", 0).value();
  cluster.kill(leader);
  for (; sent < 40; ++sent) (void)client.send("orders", "record " + std::to_string(sent));
  CHECK(cluster.leader("orders", 0).value() != leader);
  cluster.start(leader);
  cluster.wait_until_ready(20s);
  CHECK(client.read("orders", 40) == numbers(40));
}

TEST_CASE("a leader that stands still or is cut off is replaced, and comes back", "[cluster]") {
  Cluster cluster({.brokers = 3});
  TestClient client(cluster.bootstrap_servers());
  client.create_topic("orders");
  cluster.wait_until_ready(20s);

  int sent = 0;
  const auto send_some = [&] {
    for (const int end = sent + 10; sent < end; ++sent)
      (void)client.send("orders", "record " + std::to_string(sent));
  };
  send_some();
  const int first = cluster.leader("orders", 0).value();
  cluster.pause(first);
  CHECK_THROWS_AS(cluster.pause(first), ClusterError);
  send_some();
  cluster.resume(first);
  cluster.wait_until_ready(20s);

  const int second = cluster.leader("orders", 0).value();
  cluster.isolate(second, true);
  send_some();
  cluster.heal(second);
  cluster.wait_until_ready(20s);
  CHECK(client.read("orders", static_cast<size_t>(sent)) == numbers(sent));
}

TEST_CASE("all brokers are killed at once and come back", "[cluster]") {
  Cluster cluster({.brokers = 3});
  TestClient client(cluster.bootstrap_servers());
  client.create_topic("orders");
  cluster.wait_until_ready(20s);
  for (int i = 0; i < 20; ++i) (void)client.send("orders", "record " + std::to_string(i));
  for (int broker = 1; broker <= 3; ++broker) cluster.kill(broker);
  CHECK_FALSE(cluster.controller());
  CHECK_THROWS_AS(cluster.wait_until_ready(0s), ClusterError);
  for (int broker = 1; broker <= 3; ++broker) cluster.start(broker);
  cluster.wait_until_ready(30s);
  CHECK(client.send("orders", "record 20").offset == 20);
  CHECK(client.read("orders", 21) == numbers(21));
}

TEST_CASE("data in a directory of one's own outlive the cluster", "[cluster]") {
  const std::filesystem::path directory =
      std::filesystem::temp_directory_path() / ("millrace-embedding-" + std::to_string(::getpid()));
  {
    Cluster cluster({.brokers = 1, .directory = directory.string()});
    TestClient client(cluster.bootstrap_servers());
    client.create_topic("orders");
    (void)client.send("orders", "record 0");
    cluster.kill(1);
    CHECK_THROWS_AS(cluster.kill(1), ClusterError);
    cluster.start(1);
    (void)client.send("orders", "record 1");
  }
  {
    Cluster cluster({.brokers = 1, .directory = directory.string()});
    CHECK(TestClient(cluster.bootstrap_servers()).read("orders", 2) == numbers(2));
  }
  std::filesystem::remove_all(directory);
}

TEST_CASE("a temporary directory goes with its cluster; mistakes are told", "[cluster]") {
  std::string directory;
  {
    Cluster cluster({.brokers = 1});
    directory = cluster.directory();
    CHECK(std::filesystem::exists(directory));
    CHECK_THROWS_WITH(cluster.kill(2), "there is no broker 2: they are 1 to 1");
    CHECK_THROWS_WITH(cluster.resume(1), "broker 1 is running");
    CHECK_FALSE(cluster.leader("no-such-topic", 0));
    CHECK(cluster.controller() == 1);
  }
  CHECK_FALSE(std::filesystem::exists(directory));
  CHECK_THROWS_AS(Cluster({.brokers = 0}), ClusterError);
  CHECK_THROWS_AS(Cluster({.brokers = 10}), ClusterError);
  CHECK_THROWS_AS(Cluster({.brokers = 1, .settings = {"no.such.key=1"}}), ClusterError);
}

}  // namespace
}  // namespace millrace
