#include "meta/records.h"

#include "proto/metadata.pb.h"
#include "support/catch.h"

using namespace millrace;
using namespace millrace::meta;

namespace {

Uuid record_uuid(uint8_t n) {
  Uuid u;
  u.bytes.fill(n);
  return u;
}

std::vector<BrokerId> ids(std::initializer_list<int32_t> list) {
  std::vector<BrokerId> out;
  for (const int32_t i : list) out.emplace_back(i);
  return out;
}

std::vector<Record> one_of_each() {
  Partition p;
  p.replicas = ids({1, 2, 3});
  p.isr = ids({1, 2});
  p.adding_replicas = ids({3});
  p.removing_replicas = ids({2});
  p.elr = ids({3});
  p.last_known_elr = ids({2});
  p.leader = BrokerId(1);
  p.leader_epoch = LeaderEpoch(7);
  p.partition_epoch = 9;
  p.leader_recovering = true;
  p.directories = {record_uuid(10), record_uuid(11), record_uuid(12)};

  PartitionChangeRecord all{.topic_id = record_uuid(1), .partition = PartitionId(4)};
  all.leader = kNoBroker;
  all.replicas = ids({5});
  all.isr = ids({});
  all.adding_replicas = ids({6});
  all.removing_replicas = ids({7});
  all.elr = ids({8});
  all.last_known_elr = ids({9});
  all.leader_recovering = false;
  all.directories = std::vector<Uuid>{record_uuid(13)};

  Broker b;
  b.id = BrokerId(1);
  b.epoch = BrokerEpoch(5);
  b.incarnation = record_uuid(20);
  b.endpoints = {{"PLAINTEXT", "localhost", 65535, SecurityProtocol::sasl_ssl}};
  b.features = {{"metadata.version", {1, 7}}};
  b.rack = "";
  b.log_dirs = {record_uuid(21)};
  b.fenced = false;
  b.in_controlled_shutdown = true;
  b.decommissioning = true;
  Broker bare;
  bare.id = BrokerId(2);

  BrokerChangeRecord change{.id = BrokerId(1), .epoch = BrokerEpoch(5)};
  change.fenced = false;
  change.log_dirs = std::vector<Uuid>{};
  change.decommissioning = false;
  return {NoOpRecord{},
          ClusterRecord{record_uuid(2), BrokerEpoch(3)},
          FeatureLevelRecord{"f", 3},
          TopicRecord{"t", record_uuid(1)},
          PartitionRecord{record_uuid(1), PartitionId(0), p},
          all,
          PartitionChangeRecord{.topic_id = record_uuid(1), .partition = PartitionId(0)},
          RemoveTopicRecord{record_uuid(1)},
          ConfigRecord{{ResourceType::topic, "t"}, "k", "v"},
          ConfigRecord{{ResourceType::broker, ""}, "k", std::nullopt},
          RegisterBrokerRecord{b},
          RegisterBrokerRecord{bare},
          change,
          UnregisterBrokerRecord{BrokerId(1), BrokerEpoch(5)},
          ProducerIdsRecord{BrokerId(1), BrokerEpoch(5), ProducerId(1000)}};
}

}  // namespace

TEST_CASE("every kind of record survives encoding") {
  const std::vector<Record> records = one_of_each();
  const auto back = decode_entry(encode_entry(records));
  REQUIRE(back.ok());
  CHECK(*back == records);
}

TEST_CASE("bytes that are no entry are corrupt") {
  CHECK(decode_entry(as_bytes("\xff\xff\xff")).code() == ErrorCode::corrupt);

  const Bytes whole = encode_entry(one_of_each());
  for (size_t n = 1; n < whole.size(); ++n) {
    const auto cut = decode_entry(ByteView(whole).first(n));
    if (cut.ok()) CHECK(cut->size() < one_of_each().size());  // cut between two records
  }
}

TEST_CASE("records of unknown kind and values out of range are corrupt") {
  namespace pb = millrace::internal::v1;
  const auto code = [](const pb::MetadataEntry& e) {
    return decode_entry(as_bytes(e.SerializeAsString())).code();
  };
  pb::MetadataEntry unknown;
  unknown.add_records();
  CHECK(code(unknown) == ErrorCode::corrupt);

  pb::MetadataEntry short_id;
  short_id.add_records()->mutable_remove_topic()->set_topic_id("short");
  CHECK(code(short_id) == ErrorCode::corrupt);

  pb::MetadataEntry level;
  level.add_records()->mutable_feature_level()->set_level(40'000);
  CHECK(code(level) == ErrorCode::corrupt);

  pb::MetadataEntry port;
  auto* broker = port.add_records()->mutable_register_broker();
  broker->set_incarnation_id(std::string(16, 'x'));
  broker->add_endpoints()->set_port(65'536);
  CHECK(code(port) == ErrorCode::corrupt);
}
