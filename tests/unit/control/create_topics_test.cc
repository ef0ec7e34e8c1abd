#include <set>

#include "control/topic_name.h"
#include "unit/control/controller_fixture.h"

using namespace millrace;
using namespace millrace::control;

namespace {

NewTopic manual_topic(std::vector<Assignment> assignments) {
  NewTopic t;
  t.name = "manual";
  t.assignments = std::move(assignments);
  return t;
}

ErrorCode creation_error(Fixture& f, const NewTopic& t) {
  const CreatedTopic done = f.create(t);
  if (done.outcome.ok()) {
    CHECK(done.outcome.message.empty());
  } else {
    CHECK_FALSE(done.outcome.message.empty());
    CHECK(f.last_records() == 0);
    CHECK(done.id.is_zero());
  }
  return done.outcome.error;
}

NewTopic sized(const std::string& name, int32_t partitions, int16_t factor) {
  NewTopic t;
  t.name = name;
  t.partitions = partitions;
  t.replication_factor = factor;
  return t;
}

NewTopic configured(std::vector<NamedValue> configs) {
  NewTopic t = sized("configured", 1, 1);
  t.configs = std::move(configs);
  return t;
}

}  // namespace

TEST_CASE("topic names") {
  CHECK(topic_name_fault("a").empty());
  CHECK(topic_name_fault("A-z_0.9").empty());
  CHECK(topic_name_fault("...").empty());
  CHECK(topic_name_fault(std::string(249, 'x')).empty());
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string(250, 'x'), std::string("a b"),
        std::string("a/b"), std::string("\xc3\xa4"), std::string("a\0b", 3)}) {
    INFO(bad);
    CHECK_FALSE(topic_name_fault(bad).empty());
  }
}

TEST_CASE("a topic is created with what was asked for, and described") {
  Fixture f(3);
  NewTopic t = sized("orders", 4, 2);
  t.configs = {{"retention.ms", "1000"}};
  const CreatedTopic done = f.create(t);
  REQUIRE(done.outcome.ok());
  CHECK(done.partitions == 4);
  CHECK(done.replication_factor == 2);
  const meta::Topic* topic = f.image().topic("orders");
  REQUIRE(topic != nullptr);
  CHECK(topic->id == done.id);
  REQUIRE(topic->partitions.size() == 4);
  for (const meta::Partition& p : topic->partitions) {
    CHECK(p.replicas.size() == 2);
    CHECK(p.isr == p.replicas);
    CHECK(p.leader == p.replicas[0]);
    CHECK(p.leader_epoch == LeaderEpoch(0));
    CHECK(p.partition_epoch == 0);
  }
  CHECK(f.image().topic_config("orders")->at("retention.ms") == "1000");

  CHECK(done.configs.size() == meta::topic_options().size());
  for (const DescribedConfig& c : done.configs) {
    if (c.name == "retention.ms") {
      CHECK(c.value == "1000");
      CHECK(c.source == meta::ConfigSource::dynamic_topic);
    }
    if (c.name == "cleanup.policy") CHECK(c.source == meta::ConfigSource::default_config);
  }
}

TEST_CASE("-1 takes the broker's defaults, dynamic ones included") {
  Fixture f(3, {{"num.partitions", "5"}, {"default.replication.factor", "2"}});
  const CreatedTopic done = f.create("d", -1, -1);
  REQUIRE(done.outcome.ok());
  CHECK(done.partitions == 5);
  CHECK(done.replication_factor == 2);
  Fixture bare(1);
  CHECK(bare.create("d", -1, -1).partitions == 1);
}

TEST_CASE("CreateTopics refuses, with the code that is true") {
  Fixture f(2);
  REQUIRE(f.create("here").outcome.ok());
  CHECK(creation_error(f, sized("here", 1, 1)) == ErrorCode::topic_already_exists);
  CHECK(creation_error(f, sized("bad name", 1, 1)) == ErrorCode::invalid_topic_exception);
  REQUIRE(f.create("a.b").outcome.ok());
  CHECK(creation_error(f, sized("a_b", 1, 1)) == ErrorCode::invalid_topic_exception);
  CHECK(creation_error(f, sized("t", 0, 1)) == ErrorCode::invalid_partitions);
  CHECK(creation_error(f, sized("t", -2, 1)) == ErrorCode::invalid_partitions);
  CHECK(creation_error(f, sized("t", 1, 0)) == ErrorCode::invalid_replication_factor);
  CHECK(creation_error(f, sized("t", 1, -2)) == ErrorCode::invalid_replication_factor);
  CHECK(creation_error(f, sized("t", 1, 3)) == ErrorCode::invalid_replication_factor);
  CHECK(creation_error(f, configured({{"retention.ms", "x"}})) == ErrorCode::invalid_config);
  CHECK(creation_error(f, configured({{"no.such", "x"}})) == ErrorCode::invalid_config);
  CHECK(creation_error(f, configured({{"log.retention.ms", "5"}})) ==
        ErrorCode::invalid_config);  // a broker key
  CHECK(creation_error(f, configured({{"retention.ms", std::nullopt}})) == ErrorCode::invalid_config);
  CHECK(creation_error(f, configured({{"cleanup.policy", std::string(40'000, 'x')}})) ==
        ErrorCode::invalid_config);

  const NewTopic both_numbers = [] {
    NewTopic t = manual_topic({{0, broker_ids({1})}});
    t.partitions = 1;
    return t;
  }();
  CHECK(creation_error(f, both_numbers) == ErrorCode::invalid_request);
  NewTopic with_factor = manual_topic({{0, broker_ids({1})}});
  with_factor.replication_factor = 1;
  CHECK(creation_error(f, with_factor) == ErrorCode::invalid_request);
  CHECK(creation_error(f, manual_topic({{1, broker_ids({1})}})) == ErrorCode::invalid_replica_assignment);
  CHECK(creation_error(f, manual_topic({{0, broker_ids({1})}, {0, broker_ids({2})}})) ==
        ErrorCode::invalid_replica_assignment);
  CHECK(creation_error(f, manual_topic({{0, {}}})) == ErrorCode::invalid_replica_assignment);
  CHECK(creation_error(f, manual_topic({{0, broker_ids({1, 1})}})) == ErrorCode::invalid_replica_assignment);
  CHECK(creation_error(f, manual_topic({{0, broker_ids({9})}})) == ErrorCode::invalid_replica_assignment);
  CHECK(creation_error(f, manual_topic({{0, broker_ids({1})}, {1, broker_ids({1, 2})}})) ==
        ErrorCode::invalid_replica_assignment);
  f.fence(2);
  CHECK(creation_error(f, manual_topic({{0, broker_ids({2})}})) == ErrorCode::invalid_replica_assignment);
  f.fence(1);
  CHECK(creation_error(f, sized("t", 1, 1)) == ErrorCode::invalid_replication_factor);

  Fixture empty(0);
  CHECK(creation_error(empty, sized("t", 1, 1)) == ErrorCode::invalid_replication_factor);
}

TEST_CASE("a manual assignment is taken as it is, in any order") {
  Fixture f(3);
  f.fence(3);
  const CreatedTopic done = f.create(manual_topic({{1, broker_ids({3, 2})}, {0, broker_ids({1, 3})}}));
  REQUIRE(done.outcome.ok());
  CHECK(done.partitions == 2);
  CHECK(done.replication_factor == 2);
  const meta::Topic& t = *f.image().topic("manual");
  CHECK(t.partitions[0].replicas == broker_ids({1, 3}));
  CHECK(t.partitions[0].isr == broker_ids({1}));
  CHECK(t.partitions[1].replicas == broker_ids({3, 2}));
  CHECK(t.partitions[1].leader == BrokerId(2));  // 3 is fenced
}

TEST_CASE("topics of one request see each other, and fail one by one") {
  Fixture f(1);
  const auto reply = f.run(CreateTopics{{sized("twice", 1, 1), sized("a.b", 1, 1), sized("a_b", 1, 1),
                                         sized("twice", 1, 1), sized("fine", 2, 1)},
                                        false});
  REQUIRE(reply.topics.size() == 4);
  CHECK(reply.topics[0].outcome.error == ErrorCode::invalid_request);
  CHECK(reply.topics[1].outcome.ok());
  CHECK(reply.topics[2].outcome.error == ErrorCode::invalid_topic_exception);
  CHECK(reply.topics[3].name == "fine");
  CHECK(reply.topics[3].outcome.ok());
  CHECK(f.image().topic("twice") == nullptr);
  CHECK(f.image().topics().size() == 2);
}

TEST_CASE("validate_only answers the same and records nothing") {
  Fixture f(1);
  const CreatedTopic done = f.create(sized("t", 3, 1), true);
  CHECK(done.outcome.ok());
  CHECK(done.partitions == 3);
  CHECK(done.id.is_zero());
  CHECK(f.last_records() == 0);
  CHECK(f.image().topic("t") == nullptr);
}

TEST_CASE("creation has limits") {
  Limits limits;
  limits.topics_per_request = 2;
  limits.partitions_per_request = 10;
  limits.partitions_per_topic = 8;
  limits.partitions_total = 20;
  Fixture f(1, {}, limits);
  auto reply = f.run(CreateTopics{{sized("a", 1, 1), sized("b", 1, 1), sized("c", 1, 1)}, false});
  for (const CreatedTopic& t : reply.topics) CHECK(t.outcome.error == ErrorCode::policy_violation);
  CHECK(creation_error(f, sized("a", 9, 1)) == ErrorCode::policy_violation);
  reply = f.run(CreateTopics{{sized("a", 8, 1), sized("b", 3, 1)}, false});
  CHECK(reply.topics[0].outcome.ok());
  CHECK(reply.topics[1].outcome.error == ErrorCode::policy_violation);
  REQUIRE(f.create("b", 8).outcome.ok());
  CHECK(creation_error(f, sized("c", 5, 1)) == ErrorCode::policy_violation);  // 21 in all
  CHECK(f.create("c", 4).outcome.ok());
  CHECK(creation_error(f, sized("d", 1, 1)) == ErrorCode::policy_violation);
}

TEST_CASE("an internal topic makes do with a single broker, but only with a single one") {
  Fixture one(1);
  NewTopic t = sized("__internal", 2, 3);
  t.fit_single_broker = true;
  CHECK(one.create(t).replication_factor == 1);
  Fixture two(2);
  CHECK(two.create(t).outcome.error == ErrorCode::invalid_replication_factor);
  Fixture three(3);
  CHECK(three.create(t).replication_factor == 3);
}

TEST_CASE("placement spreads leaders over brokers and replicas over racks") {
  Fixture f(0);
  const char* racks[] = {"a", "b", "c"};
  for (int32_t b = 1; b <= 6; ++b) (void)f.run(Fixture::registration(b, racks[(b - 1) / 2]));
  REQUIRE(f.create("t", 60, 3).outcome.ok());
  std::map<BrokerId, int> leaders;
  std::map<BrokerId, int> replicas;
  for (const meta::Partition& p : f.image().topic("t")->partitions) {
    ++leaders[p.leader];
    std::set<std::string> used;
    for (const BrokerId b : p.replicas) {
      ++replicas[b];
      used.insert(*f.image().broker(b)->rack);
    }
    CHECK(used.size() == 3);
  }
  for (const auto& [b, n] : leaders) CHECK(n == 10);
  CHECK(leaders.size() == 6);
  for (const auto& [b, n] : replicas) {
    CHECK(n >= 20);
    CHECK(n <= 40);
  }
  // More replicas than racks: still no broker twice.
  REQUIRE(f.create("wide", 12, 5).outcome.ok());
  for (const meta::Partition& p : f.image().topic("wide")->partitions) {
    CHECK(std::set<BrokerId>(p.replicas.begin(), p.replicas.end()).size() == 5);
  }
  // Fenced brokers come last and never lead.
  f.fence(1);
  f.fence(2);
  REQUIRE(f.create("late", 12, 5).outcome.ok());
  for (const meta::Partition& p : f.image().topic("late")->partitions) {
    CHECK(p.leader.v > 2);
    CHECK(p.isr.size() == 4);
  }
  // Single-partition topics do not all land on one broker.
  std::set<BrokerId> starts;
  for (int i = 0; i < 8; ++i) {
    const std::string name = "single-" + std::to_string(i);
    REQUIRE(f.create(name).outcome.ok());
    starts.insert(f.image().topic(name)->partitions[0].leader);
  }
  CHECK(starts.size() == 4);
}
