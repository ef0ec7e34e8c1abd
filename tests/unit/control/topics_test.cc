#include "unit/control/controller_fixture.h"

using namespace millrace;
using namespace millrace::control;

namespace {

Outcome more_partitions(Fixture& f, const MorePartitions& m, bool validate_only = false) {
  return f.run(CreatePartitions{{m}, validate_only}).topics.at(0).outcome;
}

}  // namespace

TEST_CASE("topics are deleted by name or id, with their configuration") {
  Fixture f(1);
  NewTopic t;
  t.name = "t";
  t.configs = {{"retention.ms", "1"}, {"segment.ms", "2"}};
  const CreatedTopic first = f.create(t);
  const CreatedTopic second = f.create("u");
  auto reply = f.run(DeleteTopics{{{"t", {}}, {std::nullopt, second.id}}});
  REQUIRE(reply.topics.size() == 2);
  CHECK(reply.topics[0].outcome.ok());
  CHECK(reply.topics[0].id == first.id);
  CHECK(reply.topics[1].outcome.ok());
  CHECK(reply.topics[1].name == "u");
  CHECK(f.image().topics().empty());
  CHECK(f.image().topic_config("t") == nullptr);

  // A topic of the same name is another topic.
  CHECK(f.create("t").id != first.id);
  CHECK(f.image().topic(first.id) == nullptr);
}

TEST_CASE("DeleteTopics refuses, with the code that is true") {
  Fixture f(1);
  const CreatedTopic t = f.create("t");
  const auto codes = [&f](std::vector<TopicHandle> topics) {
    std::vector<ErrorCode> out;
    for (const DeletedTopic& d : f.run(DeleteTopics{std::move(topics)}).topics)
      out.push_back(d.outcome.error);
    CHECK(f.last_records() == 0);
    return out;
  };
  using Codes = std::vector<ErrorCode>;
  CHECK(codes({{"nope", {}}}) == Codes{ErrorCode::unknown_topic_or_partition});
  CHECK(codes({{std::nullopt, Fixture::numbered(555)}}) == Codes{ErrorCode::unknown_topic_id});
  CHECK(codes({{std::nullopt, {}}}) == Codes{ErrorCode::invalid_request});
  CHECK(codes({{"t", {}}, {"t", {}}}) == Codes(2, ErrorCode::invalid_request));
  CHECK(codes({{"t", {}}, {std::nullopt, t.id}}) == Codes(2, ErrorCode::invalid_request));
  CHECK(codes({{"nope", {}}, {"nope", {}}}) == Codes(2, ErrorCode::invalid_request));
  CHECK(f.image().topic("t") != nullptr);

  Fixture off(1, {{"delete.topic.enable", "false"}});
  REQUIRE(off.create("t").outcome.ok());
  CHECK(off.run(DeleteTopics{{{"t", {}}}}).topics[0].outcome.error == ErrorCode::topic_deletion_disabled);

  Limits limits;
  limits.topics_per_request = 1;
  Fixture few(1, {}, limits);
  CHECK(few.run(DeleteTopics{{{"a", {}}, {"b", {}}}}).topics[0].outcome.error == ErrorCode::policy_violation);
}

TEST_CASE("partitions are added at the end and the others stay as they are") {
  Fixture f(3);
  REQUIRE(f.create("t", 2, 2).outcome.ok());
  const meta::Partition before = f.image().topic("t")->partitions[1];
  CHECK(more_partitions(f, {"t", 5, std::nullopt}).ok());
  const meta::Topic& t = *f.image().topic("t");
  CHECK(t.partitions.size() == 5);
  CHECK(t.partitions[1] == before);
  for (const meta::Partition& p : t.partitions) CHECK(p.replicas.size() == 2);

  CHECK(more_partitions(f, {"t", 6, {{broker_ids({3, 1})}}}).ok());
  CHECK(f.image().topic("t")->partitions[5].replicas == broker_ids({3, 1}));
  CHECK(more_partitions(f, {"t", 9, std::nullopt}, true).ok());
  CHECK(f.image().topic("t")->partitions.size() == 6);
}

TEST_CASE("CreatePartitions refuses, with the code that is true") {
  Limits limits;
  limits.partitions_per_topic = 20;
  limits.partitions_per_request = 10;
  Fixture f(2, {}, limits);
  REQUIRE(f.create("t", 3, 2).outcome.ok());
  const auto code = [&f](MorePartitions m) {
    const Outcome o = more_partitions(f, m);
    CHECK_FALSE(o.message.empty());
    CHECK(f.last_records() == 0);
    return o.error;
  };
  CHECK(code({"nope", 3, {}}) == ErrorCode::unknown_topic_or_partition);
  CHECK(code({"t", 3, {}}) == ErrorCode::invalid_partitions);
  CHECK(code({"t", 2, {}}) == ErrorCode::invalid_partitions);
  CHECK(code({"t", 0, {}}) == ErrorCode::invalid_partitions);
  CHECK(code({"t", -1, {}}) == ErrorCode::invalid_partitions);
  CHECK(code({"t", 21, {}}) == ErrorCode::invalid_partitions);
  CHECK(code({"t", 14, {}}) == ErrorCode::policy_violation);
  CHECK(code({"t", 5, {{broker_ids({1, 2})}}}) == ErrorCode::invalid_replica_assignment);
  CHECK(code({"t", 4, {{broker_ids({1})}}}) == ErrorCode::invalid_replica_assignment);
  CHECK(code({"t", 4, {{broker_ids({1, 7})}}}) == ErrorCode::invalid_replica_assignment);
  CHECK(code({"t", 4, {{broker_ids({1, 1})}}}) == ErrorCode::invalid_replica_assignment);

  const auto reply = f.run(CreatePartitions{{{"t", 4, {}}, {"t", 5, {}}}, false});
  REQUIRE(reply.topics.size() == 1);
  CHECK(reply.topics[0].outcome.error == ErrorCode::invalid_request);

  f.fence(1);
  f.fence(2);
  CHECK(code({"t", 4, {}}) == ErrorCode::invalid_replication_factor);
}
