#include "meta/records.h"

#include <limits>

#include "base/protobuf_bytes.h"
#include "proto/metadata.pb.h"

namespace millrace::meta {
namespace {

namespace pb = millrace::internal::v1;

Error corrupt_record(const char* what) {
  return Error(ErrorCode::corrupt, std::string("metadata record: ") + what);
}

// --- small pieces ---

Status uuid_from_pb(const std::string& in, Uuid& out) {
  return parse_protobuf_uuid(in, out) ? Status() : corrupt_record("a uuid has 16 bytes");
}

template <class Field>
void brokers_to_pb(const std::vector<BrokerId>& in, Field* out) {
  out->Reserve(static_cast<int>(in.size()));
  for (const BrokerId b : in) out->Add(b.v);
}

template <class Field>
std::vector<BrokerId> brokers_from_pb(const Field& in) {
  std::vector<BrokerId> out;
  out.reserve(static_cast<size_t>(in.size()));
  for (const int32_t b : in) out.emplace_back(b);
  return out;
}

template <class Field>
Status uuids_from_pb(const Field& in, std::vector<Uuid>& out) {
  out.reserve(static_cast<size_t>(in.size()));
  for (const std::string& id : in) TRY(uuid_from_pb(id, out.emplace_back()));
  return {};
}

template <class Narrow, class Wide>
Status narrow_from_pb(Wide in, Narrow& out) {
  if (in < static_cast<Wide>(std::numeric_limits<Narrow>::min()) ||
      in > static_cast<Wide>(std::numeric_limits<Narrow>::max())) {
    return corrupt_record("a number is out of range");
  }
  out = static_cast<Narrow>(in);
  return {};
}

// --- each record: struct -> message beside message -> struct ---

void put_record(const NoOpRecord&, pb::Record& out) {
  out.mutable_no_op();
}

void put_record(const ClusterRecord& in, pb::Record& out) {
  pb::Cluster& m = *out.mutable_cluster();
  m.set_cluster_id(protobuf_uuid(in.cluster_id));
  m.set_next_broker_epoch(in.next_broker_epoch.v);
}

Result<Record> get_record(const pb::Cluster& in) {
  ClusterRecord r;
  TRY(uuid_from_pb(in.cluster_id(), r.cluster_id));
  r.next_broker_epoch = BrokerEpoch(in.next_broker_epoch());
  return Record(std::move(r));
}

void put_record(const FeatureLevelRecord& in, pb::Record& out) {
  pb::FeatureLevel& m = *out.mutable_feature_level();
  m.set_name(in.name);
  m.set_level(in.level);
}

Result<Record> get_record(const pb::FeatureLevel& in) {
  FeatureLevelRecord r;
  r.name = in.name();
  TRY(narrow_from_pb(in.level(), r.level));
  return Record(std::move(r));
}

void put_record(const TopicRecord& in, pb::Record& out) {
  pb::Topic& m = *out.mutable_topic();
  m.set_name(in.name);
  m.set_topic_id(protobuf_uuid(in.id));
}

Result<Record> get_record(const pb::Topic& in) {
  TopicRecord r;
  r.name = in.name();
  TRY(uuid_from_pb(in.topic_id(), r.id));
  return Record(std::move(r));
}

void put_record(const PartitionRecord& in, pb::Record& out) {
  pb::Partition& m = *out.mutable_partition();
  m.set_topic_id(protobuf_uuid(in.topic_id));
  m.set_partition(in.partition.v);
  const Partition& p = in.state;
  brokers_to_pb(p.replicas, m.mutable_replicas());
  brokers_to_pb(p.isr, m.mutable_isr());
  brokers_to_pb(p.adding_replicas, m.mutable_adding_replicas());
  brokers_to_pb(p.removing_replicas, m.mutable_removing_replicas());
  brokers_to_pb(p.elr, m.mutable_elr());
  brokers_to_pb(p.last_known_elr, m.mutable_last_known_elr());
  m.set_leader(p.leader.v);
  m.set_leader_epoch(p.leader_epoch.v);
  m.set_partition_epoch(p.partition_epoch);
  m.set_leader_recovering(p.leader_recovering);
  for (const Uuid& d : p.directories) m.add_directories(protobuf_uuid(d));
}

Result<Record> get_record(const pb::Partition& in) {
  PartitionRecord r;
  TRY(uuid_from_pb(in.topic_id(), r.topic_id));
  r.partition = PartitionId(in.partition());
  Partition& p = r.state;
  p.replicas = brokers_from_pb(in.replicas());
  p.isr = brokers_from_pb(in.isr());
  p.adding_replicas = brokers_from_pb(in.adding_replicas());
  p.removing_replicas = brokers_from_pb(in.removing_replicas());
  p.elr = brokers_from_pb(in.elr());
  p.last_known_elr = brokers_from_pb(in.last_known_elr());
  p.leader = BrokerId(in.leader());
  p.leader_epoch = LeaderEpoch(in.leader_epoch());
  p.partition_epoch = in.partition_epoch();
  p.leader_recovering = in.leader_recovering();
  TRY(uuids_from_pb(in.directories(), p.directories));
  return Record(std::move(r));
}

void put_record(const PartitionChangeRecord& in, pb::Record& out) {
  pb::PartitionChange& m = *out.mutable_partition_change();
  m.set_topic_id(protobuf_uuid(in.topic_id));
  m.set_partition(in.partition.v);
  if (in.leader) m.set_leader(in.leader->v);
  if (in.replicas) brokers_to_pb(*in.replicas, m.mutable_replicas()->mutable_ids());
  if (in.isr) brokers_to_pb(*in.isr, m.mutable_isr()->mutable_ids());
  if (in.adding_replicas) brokers_to_pb(*in.adding_replicas, m.mutable_adding_replicas()->mutable_ids());
  if (in.removing_replicas)
    brokers_to_pb(*in.removing_replicas, m.mutable_removing_replicas()->mutable_ids());
  if (in.elr) brokers_to_pb(*in.elr, m.mutable_elr()->mutable_ids());
  if (in.last_known_elr) brokers_to_pb(*in.last_known_elr, m.mutable_last_known_elr()->mutable_ids());
  if (in.leader_recovering) m.set_leader_recovering(*in.leader_recovering);
  if (in.directories) {
    pb::UuidList& list = *m.mutable_directories();
    for (const Uuid& d : *in.directories) list.add_ids(protobuf_uuid(d));
  }
}

Result<Record> get_record(const pb::PartitionChange& in) {
  PartitionChangeRecord r;
  TRY(uuid_from_pb(in.topic_id(), r.topic_id));
  r.partition = PartitionId(in.partition());
  if (in.has_leader()) r.leader = BrokerId(in.leader());
  if (in.has_replicas()) r.replicas = brokers_from_pb(in.replicas().ids());
  if (in.has_isr()) r.isr = brokers_from_pb(in.isr().ids());
  if (in.has_adding_replicas()) r.adding_replicas = brokers_from_pb(in.adding_replicas().ids());
  if (in.has_removing_replicas()) r.removing_replicas = brokers_from_pb(in.removing_replicas().ids());
  if (in.has_elr()) r.elr = brokers_from_pb(in.elr().ids());
  if (in.has_last_known_elr()) r.last_known_elr = brokers_from_pb(in.last_known_elr().ids());
  if (in.has_leader_recovering()) r.leader_recovering = in.leader_recovering();
  if (in.has_directories()) TRY(uuids_from_pb(in.directories().ids(), r.directories.emplace()));
  return Record(std::move(r));
}

void put_record(const RemoveTopicRecord& in, pb::Record& out) {
  out.mutable_remove_topic()->set_topic_id(protobuf_uuid(in.id));
}

Result<Record> get_record(const pb::RemoveTopic& in) {
  RemoveTopicRecord r;
  TRY(uuid_from_pb(in.topic_id(), r.id));
  return Record(std::move(r));
}

void put_record(const ConfigRecord& in, pb::Record& out) {
  pb::Config& m = *out.mutable_config();
  m.set_resource_type(static_cast<int32_t>(in.resource.type));
  m.set_resource_name(in.resource.name);
  m.set_key(in.key);
  if (in.value) m.set_value(*in.value);
}

Result<Record> get_record(const pb::Config& in) {
  ConfigRecord r;
  int8_t type = 0;
  TRY(narrow_from_pb(in.resource_type(), type));
  r.resource = {static_cast<ResourceType>(type), in.resource_name()};
  r.key = in.key();
  if (in.has_value()) r.value = in.value();
  return Record(std::move(r));
}

void put_record(const RegisterBrokerRecord& in, pb::Record& out) {
  pb::RegisterBroker& m = *out.mutable_register_broker();
  const Broker& b = in.broker;
  m.set_broker_id(b.id.v);
  m.set_broker_epoch(b.epoch.v);
  m.set_incarnation_id(protobuf_uuid(b.incarnation));
  for (const Endpoint& e : b.endpoints) {
    pb::Endpoint& p = *m.add_endpoints();
    p.set_name(e.name);
    p.set_host(e.host);
    p.set_port(e.port);
    p.set_security_protocol(static_cast<int32_t>(e.protocol));
  }
  for (const auto& [name, range] : b.features) {
    pb::FeatureRange& f = *m.add_features();
    f.set_name(name);
    f.set_min_level(range.min_level);
    f.set_max_level(range.max_level);
  }
  if (b.rack) m.set_rack(*b.rack);
  for (const Uuid& d : b.log_dirs) m.add_log_dirs(protobuf_uuid(d));
  m.set_fenced(b.fenced);
  m.set_in_controlled_shutdown(b.in_controlled_shutdown);
  m.set_decommissioning(b.decommissioning);
}

Result<Record> get_record(const pb::RegisterBroker& in) {
  RegisterBrokerRecord r;
  Broker& b = r.broker;
  b.id = BrokerId(in.broker_id());
  b.epoch = BrokerEpoch(in.broker_epoch());
  TRY(uuid_from_pb(in.incarnation_id(), b.incarnation));
  for (const pb::Endpoint& p : in.endpoints()) {
    Endpoint& e = b.endpoints.emplace_back();
    e.name = p.name();
    e.host = p.host();
    TRY(narrow_from_pb(p.port(), e.port));
    int16_t protocol = 0;
    TRY(narrow_from_pb(p.security_protocol(), protocol));
    e.protocol = static_cast<SecurityProtocol>(protocol);
  }
  for (const pb::FeatureRange& p : in.features()) {
    FeatureRange range;
    TRY(narrow_from_pb(p.min_level(), range.min_level));
    TRY(narrow_from_pb(p.max_level(), range.max_level));
    b.features[p.name()] = range;
  }
  if (in.has_rack()) b.rack = in.rack();
  TRY(uuids_from_pb(in.log_dirs(), b.log_dirs));
  b.fenced = in.fenced();
  b.in_controlled_shutdown = in.in_controlled_shutdown();
  b.decommissioning = in.decommissioning();
  return Record(std::move(r));
}

void put_record(const BrokerChangeRecord& in, pb::Record& out) {
  pb::BrokerChange& m = *out.mutable_broker_change();
  m.set_broker_id(in.id.v);
  m.set_broker_epoch(in.epoch.v);
  if (in.fenced) m.set_fenced(*in.fenced);
  if (in.in_controlled_shutdown) m.set_in_controlled_shutdown(*in.in_controlled_shutdown);
  if (in.log_dirs) {
    pb::UuidList& list = *m.mutable_log_dirs();
    for (const Uuid& d : *in.log_dirs) list.add_ids(protobuf_uuid(d));
  }
  if (in.decommissioning) m.set_decommissioning(*in.decommissioning);
}

Result<Record> get_record(const pb::BrokerChange& in) {
  BrokerChangeRecord r;
  r.id = BrokerId(in.broker_id());
  r.epoch = BrokerEpoch(in.broker_epoch());
  if (in.has_fenced()) r.fenced = in.fenced();
  if (in.has_in_controlled_shutdown()) r.in_controlled_shutdown = in.in_controlled_shutdown();
  if (in.has_log_dirs()) TRY(uuids_from_pb(in.log_dirs().ids(), r.log_dirs.emplace()));
  if (in.has_decommissioning()) r.decommissioning = in.decommissioning();
  return Record(std::move(r));
}

void put_record(const UnregisterBrokerRecord& in, pb::Record& out) {
  pb::UnregisterBroker& m = *out.mutable_unregister_broker();
  m.set_broker_id(in.id.v);
  m.set_broker_epoch(in.epoch.v);
}

Result<Record> get_record(const pb::UnregisterBroker& in) {
  return Record(UnregisterBrokerRecord{BrokerId(in.broker_id()), BrokerEpoch(in.broker_epoch())});
}

void put_record(const ProducerIdsRecord& in, pb::Record& out) {
  pb::ProducerIds& m = *out.mutable_producer_ids();
  m.set_broker_id(in.broker.v);
  m.set_broker_epoch(in.broker_epoch.v);
  m.set_next_producer_id(in.next_producer_id.v);
}

Result<Record> get_record(const pb::ProducerIds& in) {
  return Record(ProducerIdsRecord{BrokerId(in.broker_id()), BrokerEpoch(in.broker_epoch()),
                                  ProducerId(in.next_producer_id())});
}

Result<Record> from_message(const pb::Record& in) {
  switch (in.kind_case()) {
    case pb::Record::kNoOp:
      return Record(NoOpRecord{});
    case pb::Record::kCluster:
      return get_record(in.cluster());
    case pb::Record::kFeatureLevel:
      return get_record(in.feature_level());
    case pb::Record::kTopic:
      return get_record(in.topic());
    case pb::Record::kPartition:
      return get_record(in.partition());
    case pb::Record::kPartitionChange:
      return get_record(in.partition_change());
    case pb::Record::kRemoveTopic:
      return get_record(in.remove_topic());
    case pb::Record::kConfig:
      return get_record(in.config());
    case pb::Record::kRegisterBroker:
      return get_record(in.register_broker());
    case pb::Record::kBrokerChange:
      return get_record(in.broker_change());
    case pb::Record::kUnregisterBroker:
      return get_record(in.unregister_broker());
    case pb::Record::kProducerIds:
      return get_record(in.producer_ids());
    case pb::Record::KIND_NOT_SET:
      break;
  }
  return corrupt_record("a kind that this version does not know");
}

}  // namespace

Bytes encode_entry(std::span<const Record> records) {
  pb::MetadataEntry entry;
  for (const Record& r : records) {
    pb::Record& out = *entry.add_records();
    std::visit([&out](const auto& record) { put_record(record, out); }, r);
  }
  return protobuf_bytes(entry);
}

Result<std::vector<Record>> decode_entry(ByteView bytes) {
  pb::MetadataEntry entry;
  if (!parse_protobuf(bytes, entry)) return corrupt_record("not an entry");
  std::vector<Record> records;
  records.reserve(static_cast<size_t>(entry.records_size()));
  for (const pb::Record& r : entry.records()) {
    TRY_ASSIGN(Record record, from_message(r));
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace millrace::meta
