#include "unit/control/controller_fixture.h"

using namespace millrace;
using namespace millrace::control;

TEST_CASE("a cluster is founded once") {
  Fixture f(0);
  CHECK(f.image().cluster_id() == Fixture::cluster_id());
  CHECK(f.image().feature_level("metadata.version") == 1);
  CHECK(f.run(FoundCluster{Fixture::cluster_id(), {}}).outcome.ok());
  CHECK(f.last_records() == 0);
  CHECK(f.run(FoundCluster{Fixture::numbered(1), {}}).outcome.error == ErrorCode::inconsistent_cluster_id);
  CHECK(f.run(FoundCluster{}).outcome.error == ErrorCode::invalid_request);
}

TEST_CASE("registration gives a new epoch to every incarnation") {
  Fixture f(0);
  const BrokerEpoch first = f.run(Fixture::registration(1)).epoch;
  const BrokerEpoch again = f.run(Fixture::registration(1)).epoch;
  CHECK(again == first);
  CHECK(f.last_records() == 0);
  const BrokerEpoch other = f.run(Fixture::registration(2)).epoch;
  const BrokerEpoch reborn = f.run(Fixture::registration(1, {}, 42)).epoch;
  CHECK(first < other);
  CHECK(other < reborn);
  CHECK_FALSE(f.image().broker(BrokerId(1))->fenced);

  RegisterBroker moved = Fixture::registration(1, "rack", 42);
  CHECK(f.run(moved).epoch == reborn);  // the same incarnation with news keeps its epoch
  CHECK(f.image().broker(BrokerId(1))->rack == "rack");
}

TEST_CASE("a new incarnation leads its partitions in a new leader epoch") {
  Fixture f(2);
  REQUIRE(f.create("t", 4, 2).outcome.ok());
  meta::PartitionChangeRecord lost;
  lost.topic_id = f.image().topic("t")->id;
  lost.partition = PartitionId(0);
  lost.leader = kNoBroker;
  f.apply({lost});
  const meta::PartitionList before = f.image().topic("t")->partitions;
  REQUIRE(f.run(Fixture::registration(1, {}, 42)).outcome.ok());
  const meta::PartitionList& after = f.image().topic("t")->partitions;
  for (size_t i = 0; i < 4; ++i) {
    INFO(i);
    if (i == 0) {
      CHECK(after[i].leader == after[i].replicas.front());
      CHECK(after[i].leader_epoch == before[i].leader_epoch + 1);
    } else if (before[i].leader == BrokerId(2)) {
      CHECK(after[i] == before[i]);
    } else {
      CHECK(after[i].leader == BrokerId(1));
      CHECK(after[i].leader_epoch == before[i].leader_epoch + 1);
      CHECK(after[i].isr == before[i].isr);
    }
  }
}

TEST_CASE("registration is refused, with the code that is true") {
  Fixture f(0);
  const auto code = [&f](const RegisterBroker& r) {
    const RegisterBrokerReply reply = f.run(r);
    CHECK(f.last_records() == 0);
    CHECK(reply.epoch == BrokerEpoch(-1));
    return reply.outcome.error;
  };
  RegisterBroker r = Fixture::registration(1);
  r.cluster_id = Fixture::numbered(1);
  CHECK(code(r) == ErrorCode::inconsistent_cluster_id);
  CHECK(code(Fixture::registration(-1)) == ErrorCode::invalid_registration);
  r = Fixture::registration(1);
  r.incarnation = {};
  CHECK(code(r) == ErrorCode::invalid_registration);
  r = Fixture::registration(1);
  r.endpoints.push_back(r.endpoints.front());
  CHECK(code(r) == ErrorCode::invalid_registration);
  r.endpoints.clear();
  CHECK(code(r) == ErrorCode::invalid_registration);

  Controller unfounded(BrokerId(1), std::make_shared<meta::ConfigValues>());
  CHECK(unfounded.handle(Fixture::registration(1), Now{}).reply.outcome.error == ErrorCode::invalid_request);
}

TEST_CASE("producer ids are given in blocks that never overlap") {
  Fixture f(2);
  const BrokerEpoch epoch = f.image().broker(BrokerId(1))->epoch;
  const auto first = f.run(AllocateProducerIds{BrokerId(1), epoch});
  const auto second = f.run(AllocateProducerIds{BrokerId(2), f.image().broker(BrokerId(2))->epoch});
  REQUIRE(first.outcome.ok());
  CHECK(first.first == ProducerId(0));
  CHECK(first.count == Controller::kProducerIdBlock);
  CHECK(second.first == ProducerId(Controller::kProducerIdBlock));
  CHECK(f.run(AllocateProducerIds{BrokerId(1), epoch + 1}).outcome.error == ErrorCode::stale_broker_epoch);
  CHECK(f.run(AllocateProducerIds{BrokerId(9), epoch}).outcome.error == ErrorCode::broker_id_not_registered);
  f.apply({meta::ProducerIdsRecord{BrokerId(1), epoch, ProducerId(INT64_MAX - 10)}});
  CHECK(f.run(AllocateProducerIds{BrokerId(1), epoch}).outcome.error == ErrorCode::unknown_server_error);
}
