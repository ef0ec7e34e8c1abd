#include "control/codec.h"

#include <algorithm>
#include <limits>

#include "base/assert.h"
#include "base/protobuf_bytes.h"
#include "proto/controller.pb.h"

namespace millrace::control {
namespace {

namespace pb = millrace::internal::v1;

// What is longer is not what a broker sends. The controller has limits of its own; these keep a decoded
// message from being much larger than its bytes.
constexpr size_t kPartitionsMax = 1'000'000;
constexpr int kListMax = 10'000;

Error not_asked(const char* what) {
  return Error(ErrorCode::corrupt, std::string("controller request: ") + what);
}

template <class Message>
Status parse_bytes(ByteView bytes, Message& message) {
  return parse_protobuf(bytes, message) ? Status() : not_asked("not protobuf");
}

// --- parts ---

Status take_uuid(const std::string& in, Uuid& out) {
  out = {};
  if (in.empty()) return {};
  return parse_protobuf_uuid(in, out) ? Status() : not_asked("a uuid of a wrong length");
}

template <class Repeated>
Status take_uuids(const Repeated& in, std::vector<Uuid>& out) {
  if (in.size() > kListMax) return not_asked("too many directories");
  for (const std::string& d : in) TRY(take_uuid(d, out.emplace_back()));
  return {};
}

template <class Number>
Status take_number(int64_t in, Number& out) {
  if (in < std::numeric_limits<Number>::min() || in > std::numeric_limits<Number>::max())
    return not_asked("a number out of range");
  out = static_cast<Number>(in);
  return {};
}

void put_outcome(const Outcome& in, pb::ControllerOutcome& out) {
  out.set_error_code(static_cast<int32_t>(wire_code(in.error)));
  out.set_message(in.message);
}

Status take_outcome(const pb::ControllerOutcome& in, Outcome& out) {
  int16_t code = 0;
  TRY(take_number(in.error_code(), code));
  out.error = error_from_wire(code);
  out.message = in.message();
  return {};
}

void put_partitions(const std::vector<PartitionKey>& in,
                    google::protobuf::RepeatedPtrField<pb::TopicPartitions>& out) {
  pb::TopicPartitions* topic = nullptr;
  for (size_t i = 0; i < in.size(); ++i) {
    if (topic == nullptr || in[i].topic != in[i - 1].topic) {
      topic = out.Add();
      topic->set_topic_id(protobuf_uuid(in[i].topic));
    }
    topic->add_partitions(in[i].partition.v);
  }
}

Status take_partitions(const google::protobuf::RepeatedPtrField<pb::TopicPartitions>& in,
                       std::vector<PartitionKey>& out) {
  size_t count = 0;
  for (const pb::TopicPartitions& t : in) count += static_cast<size_t>(t.partitions_size());
  if (count > kPartitionsMax) return not_asked("too many partitions");
  out.reserve(count);
  for (const pb::TopicPartitions& t : in) {
    Uuid topic;
    TRY(take_uuid(t.topic_id(), topic));
    for (const int32_t p : t.partitions()) out.push_back({topic, PartitionId(p)});
  }
  return {};
}

// --- register ---

void put(const RegisterBroker& m, pb::BrokerRequest& request) {
  pb::RegisterBrokerRequest& out = *request.mutable_register_broker();
  out.set_broker(m.id.v);
  out.set_cluster_id(protobuf_uuid(m.cluster_id));
  out.set_incarnation(protobuf_uuid(m.incarnation));
  for (const meta::Endpoint& e : m.endpoints) {
    pb::BrokerEndpoint& to = *out.add_endpoints();
    to.set_name(e.name);
    to.set_host(e.host);
    to.set_port(e.port);
    to.set_protocol(static_cast<int32_t>(e.protocol));
  }
  for (const auto& [name, range] : m.features) {
    pb::BrokerFeature& to = *out.add_features();
    to.set_name(name);
    to.set_min_level(range.min_level);
    to.set_max_level(range.max_level);
  }
  if (m.rack) out.set_rack(*m.rack);
  for (const Uuid& d : m.log_dirs) out.add_log_dirs(protobuf_uuid(d));
  if (m.clean_epoch) out.set_clean_epoch(m.clean_epoch->v);
  put_partitions(m.damaged, *out.mutable_damaged());
  put_partitions(m.unsynced, *out.mutable_unsynced());
  if (m.min_insync_replicas) out.set_min_insync_replicas(*m.min_insync_replicas);
}

Result<BrokerRequest> take(const pb::RegisterBrokerRequest& in) {
  RegisterBroker m;
  m.id = BrokerId(in.broker());
  TRY(take_uuid(in.cluster_id(), m.cluster_id));
  TRY(take_uuid(in.incarnation(), m.incarnation));
  if (in.endpoints_size() > kListMax || in.features_size() > kListMax) return not_asked("a list too long");
  for (const pb::BrokerEndpoint& e : in.endpoints()) {
    meta::Endpoint& to = m.endpoints.emplace_back();
    to.name = e.name();
    to.host = e.host();
    TRY(take_number(e.port(), to.port));
    if (e.protocol() < 0 || e.protocol() > static_cast<int32_t>(meta::SecurityProtocol::sasl_ssl))
      return not_asked("an unknown security protocol");
    to.protocol = static_cast<meta::SecurityProtocol>(e.protocol());
  }
  for (const pb::BrokerFeature& f : in.features()) {
    meta::FeatureRange range;
    TRY(take_number(f.min_level(), range.min_level));
    TRY(take_number(f.max_level(), range.max_level));
    m.features[f.name()] = range;
  }
  if (in.has_rack()) m.rack = in.rack();
  TRY(take_uuids(in.log_dirs(), m.log_dirs));
  if (in.has_clean_epoch()) m.clean_epoch = BrokerEpoch(in.clean_epoch());
  TRY(take_partitions(in.damaged(), m.damaged));
  TRY(take_partitions(in.unsynced(), m.unsynced));
  if (in.has_min_insync_replicas()) m.min_insync_replicas = in.min_insync_replicas();
  return BrokerRequest(std::move(m));
}

void put(const RegisterBrokerReply& m, pb::BrokerReply& reply) {
  pb::RegisterBrokerAnswer& out = *reply.mutable_register_broker();
  put_outcome(m.outcome, *out.mutable_outcome());
  out.set_epoch(m.epoch.v);
}

Result<BrokerReply> take(const pb::RegisterBrokerAnswer& in) {
  RegisterBrokerReply m;
  TRY(take_outcome(in.outcome(), m.outcome));
  m.epoch = BrokerEpoch(in.epoch());
  return BrokerReply(std::move(m));
}

// --- heartbeat ---

void put(const BrokerHeartbeat& m, pb::BrokerRequest& request) {
  pb::HeartbeatRequest& out = *request.mutable_heartbeat();
  out.set_broker(m.broker.v);
  out.set_epoch(m.epoch.v);
  out.set_applied(m.applied.v);
  out.set_want_fence(m.want_fence);
  out.set_want_shutdown(m.want_shutdown);
  for (const Uuid& d : m.offline_log_dirs) out.add_offline_log_dirs(protobuf_uuid(d));
  for (const DamagedReplica& r : m.damaged) {
    pb::DamagedReplica& to = *out.add_damaged();
    to.set_topic_id(protobuf_uuid(r.partition.topic));
    to.set_partition(r.partition.partition.v);
    to.set_leader_epoch(r.leader_epoch.v);
  }
}

Result<BrokerRequest> take(const pb::HeartbeatRequest& in) {
  BrokerHeartbeat m;
  m.broker = BrokerId(in.broker());
  m.epoch = BrokerEpoch(in.epoch());
  m.applied = LogIndex(in.applied());
  m.want_fence = in.want_fence();
  m.want_shutdown = in.want_shutdown();
  TRY(take_uuids(in.offline_log_dirs(), m.offline_log_dirs));
  if (in.damaged_size() > kListMax) return not_asked("a list too long");
  for (const pb::DamagedReplica& r : in.damaged()) {
    DamagedReplica& to = m.damaged.emplace_back();
    TRY(take_uuid(r.topic_id(), to.partition.topic));
    to.partition.partition = PartitionId(r.partition());
    to.leader_epoch = LeaderEpoch(r.leader_epoch());
  }
  return BrokerRequest(std::move(m));
}

void put(const BrokerHeartbeatReply& m, pb::BrokerReply& reply) {
  pb::HeartbeatAnswer& out = *reply.mutable_heartbeat();
  put_outcome(m.outcome, *out.mutable_outcome());
  out.set_caught_up(m.caught_up);
  out.set_fenced(m.fenced);
  out.set_should_shutdown(m.should_shutdown);
}

Result<BrokerReply> take(const pb::HeartbeatAnswer& in) {
  BrokerHeartbeatReply m;
  TRY(take_outcome(in.outcome(), m.outcome));
  m.caught_up = in.caught_up();
  m.fenced = in.fenced();
  m.should_shutdown = in.should_shutdown();
  return BrokerReply(std::move(m));
}

// --- unreachable ---

void put(const BrokerUnreachable& m, pb::BrokerRequest& request) {
  pb::UnreachableRequest& out = *request.mutable_unreachable();
  out.set_broker(m.broker.v);
  out.set_epoch(m.epoch.v);
  out.set_reporter(m.reporter.v);
  out.set_reporter_epoch(m.reporter_epoch.v);
}

Result<BrokerRequest> take(const pb::UnreachableRequest& in) {
  return BrokerRequest(BrokerUnreachable{BrokerId(in.broker()), BrokerEpoch(in.epoch()),
                                         BrokerId(in.reporter()), BrokerEpoch(in.reporter_epoch())});
}

void put(const BrokerUnreachableReply& m, pb::BrokerReply& reply) {
  pb::UnreachableAnswer& out = *reply.mutable_unreachable();
  put_outcome(m.outcome, *out.mutable_outcome());
  out.set_fenced(m.fenced);
}

Result<BrokerReply> take(const pb::UnreachableAnswer& in) {
  BrokerUnreachableReply m;
  TRY(take_outcome(in.outcome(), m.outcome));
  m.fenced = in.fenced();
  return BrokerReply(std::move(m));
}

// --- directories ---

void put(const AssignDirectories& m, pb::BrokerRequest& request) {
  pb::AssignDirectoriesRequest& out = *request.mutable_assign_directories();
  out.set_broker(m.broker.v);
  out.set_epoch(m.epoch.v);
  for (const auto& [directory, partitions] : m.directories) {
    pb::DirectoryPartitions& to = *out.add_directories();
    to.set_directory(protobuf_uuid(directory));
    put_partitions(partitions, *to.mutable_topics());
  }
}

Result<BrokerRequest> take(const pb::AssignDirectoriesRequest& in) {
  AssignDirectories m;
  m.broker = BrokerId(in.broker());
  m.epoch = BrokerEpoch(in.epoch());
  if (in.directories_size() > kListMax) return not_asked("too many directories");
  size_t count = 0;
  for (const pb::DirectoryPartitions& d : in.directories()) {
    Uuid directory;
    TRY(take_uuid(d.directory(), directory));
    std::vector<PartitionKey> partitions;
    TRY(take_partitions(d.topics(), partitions));
    count += partitions.size();
    if (count > kPartitionsMax) return not_asked("too many partitions");
    std::vector<PartitionKey>& all = m.directories[directory];
    all.insert(all.end(), partitions.begin(), partitions.end());
  }
  return BrokerRequest(std::move(m));
}

void put(const AssignDirectoriesReply& m, pb::BrokerReply& reply) {
  pb::AssignDirectoriesAnswer& out = *reply.mutable_assign_directories();
  put_outcome(m.outcome, *out.mutable_outcome());
  for (const AssignedReplica& r : m.replicas) {
    pb::AssignedReplicaAnswer& to = *out.add_replicas();
    to.set_topic_id(protobuf_uuid(r.partition.topic));
    to.set_partition(r.partition.partition.v);
    put_outcome(r.outcome, *to.mutable_outcome());
  }
}

Result<BrokerReply> take(const pb::AssignDirectoriesAnswer& in) {
  AssignDirectoriesReply m;
  TRY(take_outcome(in.outcome(), m.outcome));
  if (static_cast<size_t>(in.replicas_size()) > kPartitionsMax) return not_asked("too many partitions");
  for (const pb::AssignedReplicaAnswer& r : in.replicas()) {
    AssignedReplica& to = m.replicas.emplace_back();
    TRY(take_uuid(r.topic_id(), to.partition.topic));
    to.partition.partition = PartitionId(r.partition());
    TRY(take_outcome(r.outcome(), to.outcome));
  }
  return BrokerReply(std::move(m));
}

// --- producer ids ---

void put(const AllocateProducerIds& m, pb::BrokerRequest& request) {
  pb::ProducerIdsRequest& out = *request.mutable_producer_ids();
  out.set_broker(m.broker.v);
  out.set_epoch(m.broker_epoch.v);
}

Result<BrokerRequest> take(const pb::ProducerIdsRequest& in) {
  return BrokerRequest(AllocateProducerIds{BrokerId(in.broker()), BrokerEpoch(in.epoch())});
}

void put(const AllocateProducerIdsReply& m, pb::BrokerReply& reply) {
  pb::ProducerIdsAnswer& out = *reply.mutable_producer_ids();
  put_outcome(m.outcome, *out.mutable_outcome());
  out.set_first(m.first.v);
  out.set_count(m.count);
}

Result<BrokerReply> take(const pb::ProducerIdsAnswer& in) {
  AllocateProducerIdsReply m;
  TRY(take_outcome(in.outcome(), m.outcome));
  m.first = ProducerId(in.first());
  m.count = in.count();
  if (m.outcome.ok() &&
      (m.count < 0 || m.first.v < 0 || m.first.v > std::numeric_limits<int64_t>::max() - m.count)) {
    return not_asked("producer ids out of range");
  }
  return BrokerReply(std::move(m));
}

// --- alter partition ---

void put(const AlterPartition& m, pb::BrokerRequest& request) {
  pb::AlterPartitionRequest& out = *request.mutable_alter_partition();
  out.set_broker(m.broker.v);
  out.set_epoch(m.broker_epoch.v);
  for (const AlterPartitionTopic& t : m.topics) {
    pb::AlterPartitionTopic& topic = *out.add_topics();
    topic.set_topic_id(protobuf_uuid(t.id));
    for (const AlterPartitionItem& p : t.partitions) {
      pb::AlterPartitionItem& to = *topic.add_partitions();
      to.set_partition(p.partition.v);
      to.set_leader_epoch(p.leader_epoch.v);
      to.set_partition_epoch(p.partition_epoch);
      for (const IsrMember& i : p.isr) {
        pb::IsrMember& member = *to.add_isr();
        member.set_broker(i.broker.v);
        member.set_epoch(i.epoch.v);
      }
      to.set_leader_recovering(p.leader_recovering);
    }
  }
}

Result<BrokerRequest> take(const pb::AlterPartitionRequest& in) {
  AlterPartition m;
  m.broker = BrokerId(in.broker());
  m.broker_epoch = BrokerEpoch(in.epoch());
  size_t count = 0;
  for (const pb::AlterPartitionTopic& t : in.topics()) {
    AlterPartitionTopic& topic = m.topics.emplace_back();
    TRY(take_uuid(t.topic_id(), topic.id));
    count += static_cast<size_t>(t.partitions_size());
    if (count > kPartitionsMax) return not_asked("too many partitions");
    for (const pb::AlterPartitionItem& p : t.partitions()) {
      AlterPartitionItem& to = topic.partitions.emplace_back();
      to.partition = PartitionId(p.partition());
      to.leader_epoch = LeaderEpoch(p.leader_epoch());
      to.partition_epoch = p.partition_epoch();
      if (p.isr_size() > kListMax) return not_asked("an ISR too long");
      for (const pb::IsrMember& i : p.isr()) to.isr.push_back({BrokerId(i.broker()), BrokerEpoch(i.epoch())});
      to.leader_recovering = p.leader_recovering();
    }
  }
  return BrokerRequest(std::move(m));
}

void put(const AlterPartitionReply& m, pb::BrokerReply& reply) {
  pb::AlterPartitionAnswer& out = *reply.mutable_alter_partition();
  put_outcome(m.outcome, *out.mutable_outcome());
  for (const AlteredPartition& p : m.partitions) {
    pb::AlteredPartitionAnswer& to = *out.add_partitions();
    to.set_topic_id(protobuf_uuid(p.partition.topic));
    to.set_partition(p.partition.partition.v);
    put_outcome(p.outcome, *to.mutable_outcome());
    to.set_leader(p.leader.v);
    to.set_leader_epoch(p.leader_epoch.v);
    to.set_partition_epoch(p.partition_epoch);
    for (const BrokerId b : p.isr) to.add_isr(b.v);
    to.set_leader_recovering(p.leader_recovering);
  }
}

Result<BrokerReply> take(const pb::AlterPartitionAnswer& in) {
  AlterPartitionReply m;
  TRY(take_outcome(in.outcome(), m.outcome));
  if (static_cast<size_t>(in.partitions_size()) > kPartitionsMax) return not_asked("too many partitions");
  for (const pb::AlteredPartitionAnswer& p : in.partitions()) {
    AlteredPartition& to = m.partitions.emplace_back();
    TRY(take_uuid(p.topic_id(), to.partition.topic));
    to.partition.partition = PartitionId(p.partition());
    TRY(take_outcome(p.outcome(), to.outcome));
    to.leader = BrokerId(p.leader());
    to.leader_epoch = LeaderEpoch(p.leader_epoch());
    to.partition_epoch = p.partition_epoch();
    if (p.isr_size() > kListMax) return not_asked("an ISR too long");
    for (const int32_t b : p.isr()) to.isr.emplace_back(b);
    to.leader_recovering = p.leader_recovering();
  }
  return BrokerReply(std::move(m));
}

// --- topics ---

void put(const CreateTopics& m, pb::BrokerRequest& request) {
  ASSERT(!m.validate_only);
  pb::NewTopicsRequest& out = *request.mutable_new_topics();
  for (const NewTopic& t : m.topics) {
    ASSERT(t.assignments.empty());
    pb::NewTopicRequest& to = *out.add_topics();
    to.set_name(t.name);
    to.set_partitions(t.partitions);
    to.set_replication_factor(t.replication_factor);
    for (const NamedValue& c : t.configs) {
      pb::NewTopicConfig& config = *to.add_configs();
      config.set_name(c.name);
      if (c.value) config.set_value(*c.value);
    }
    to.set_fit_single_broker(t.fit_single_broker);
  }
}

Result<BrokerRequest> take(const pb::NewTopicsRequest& in) {
  CreateTopics m;
  if (in.topics_size() > kListMax) return not_asked("too many topics");
  for (const pb::NewTopicRequest& t : in.topics()) {
    NewTopic& to = m.topics.emplace_back();
    to.name = t.name();
    to.partitions = t.partitions();
    TRY(take_number(t.replication_factor(), to.replication_factor));
    if (t.configs_size() > kListMax) return not_asked("too many configurations");
    for (const pb::NewTopicConfig& c : t.configs()) {
      NamedValue& config = to.configs.emplace_back();
      config.name = c.name();
      if (c.has_value()) config.value = c.value();
    }
    to.fit_single_broker = t.fit_single_broker();
  }
  return BrokerRequest(std::move(m));
}

void put(const CreateTopicsReply& m, pb::BrokerReply& reply) {
  pb::NewTopicsAnswer& out = *reply.mutable_new_topics();
  for (const CreatedTopic& t : m.topics) {
    pb::NewTopicAnswer& to = *out.add_topics();
    to.set_name(t.name);
    put_outcome(t.outcome, *to.mutable_outcome());
    to.set_topic_id(protobuf_uuid(t.id));
    to.set_partitions(t.partitions);
    to.set_replication_factor(t.replication_factor);
  }
}

Result<BrokerReply> take(const pb::NewTopicsAnswer& in) {
  CreateTopicsReply m;
  if (in.topics_size() > kListMax) return not_asked("too many topics");
  for (const pb::NewTopicAnswer& t : in.topics()) {
    CreatedTopic& to = m.topics.emplace_back();
    to.name = t.name();
    TRY(take_outcome(t.outcome(), to.outcome));
    TRY(take_uuid(t.topic_id(), to.id));
    to.partitions = t.partitions();
    TRY(take_number(t.replication_factor(), to.replication_factor));
  }
  return BrokerReply(std::move(m));
}

Result<BrokerReply> take_reply(const pb::BrokerReply& in) {
  switch (in.body_case()) {
    case pb::BrokerReply::kRegisterBroker:
      return take(in.register_broker());
    case pb::BrokerReply::kHeartbeat:
      return take(in.heartbeat());
    case pb::BrokerReply::kUnreachable:
      return take(in.unreachable());
    case pb::BrokerReply::kAssignDirectories:
      return take(in.assign_directories());
    case pb::BrokerReply::kProducerIds:
      return take(in.producer_ids());
    case pb::BrokerReply::kAlterPartition:
      return take(in.alter_partition());
    case pb::BrokerReply::kNewTopics:
      return take(in.new_topics());
    case pb::BrokerReply::kRefused:
    case pb::BrokerReply::BODY_NOT_SET:
      break;
  }
  return not_asked("an unknown reply");
}

}  // namespace

Bytes encode(const BrokerRequest& request) {
  pb::BrokerRequest out;
  std::visit([&](const auto& m) { put(m, out); }, request);
  return protobuf_bytes(out);
}

Result<BrokerRequest> decode_broker_request(ByteView bytes) {
  pb::BrokerRequest in;
  TRY(parse_bytes(bytes, in));
  switch (in.body_case()) {
    case pb::BrokerRequest::kRegisterBroker:
      return take(in.register_broker());
    case pb::BrokerRequest::kHeartbeat:
      return take(in.heartbeat());
    case pb::BrokerRequest::kUnreachable:
      return take(in.unreachable());
    case pb::BrokerRequest::kAssignDirectories:
      return take(in.assign_directories());
    case pb::BrokerRequest::kProducerIds:
      return take(in.producer_ids());
    case pb::BrokerRequest::kAlterPartition:
      return take(in.alter_partition());
    case pb::BrokerRequest::kNewTopics:
      return take(in.new_topics());
    case pb::BrokerRequest::BODY_NOT_SET:
      break;
  }
  return not_asked("an unknown request");
}

Bytes encode(const BrokerAnswer& answer) {
  pb::BrokerReply out;
  out.set_applied_index(answer.applied.v);
  if (answer.reply.ok()) {
    std::visit([&](const auto& m) { put(m, out); }, *answer.reply);
  } else {
    put_outcome({answer.reply.code(), answer.reply.error().message}, *out.mutable_refused());
  }
  return protobuf_bytes(out);
}

Result<BrokerAnswer> decode_broker_answer(ByteView bytes) {
  pb::BrokerReply in;
  TRY(parse_bytes(bytes, in));
  BrokerAnswer answer;
  answer.applied = LogIndex(in.applied_index());
  if (in.has_refused()) {
    Outcome outcome;
    TRY(take_outcome(in.refused(), outcome));
    if (outcome.ok()) return not_asked("refused without a reason");
    answer.reply = Error(outcome.error, std::move(outcome.message));
    return answer;
  }
  TRY_ASSIGN(BrokerReply reply, take_reply(in));
  answer.reply = std::move(reply);
  return answer;
}

}  // namespace millrace::control
