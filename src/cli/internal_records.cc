#include "cli/internal_records.h"

#include "client/range_assignor.h"
#include "wire/reader.h"
#include "wire/records/consumer_group.h"
#include "wire/records/group_metadata.h"
#include "wire/records/offset_commit.h"
#include "wire/records/transaction_log.h"

namespace millrace::cli {
namespace {

/// A key behind its type, which the caller has read.
template <class Key>
bool read_key(wire::Reader& reader, Key& out) {
  return wire::decode(reader, Key::kMaxVersion, out).ok();
}

/// A value: version, then fields. False if it does not read; `tombstone` if it is null.
template <class Value>
bool read_value(const record::OptionalBytes& bytes, Value& out, int16_t& version) {
  wire::Reader reader(*bytes);
  version = reader.read_i16();
  if (!reader.ok() || version < Value::kMinVersion || version > Value::kMaxVersion) return false;
  return wire::decode(reader, version, out).ok();
}

Json broken(const char* kind, const char* what) {
  Json j = Json::object();
  j["kind"] = kind;
  j["error"] = what;
  return j;
}

Json offset_value(const record::OptionalBytes& bytes) {
  wire::OffsetCommitValue v;
  int16_t version = 0;
  if (!read_value(bytes, v, version)) return broken("offset_commit", "the value does not parse");
  Json j = Json::object();
  j["version"] = version;
  j["offset"] = v.offset;
  j["leader_epoch"] = v.leader_epoch;
  j["metadata"] = v.metadata;
  j["commit_timestamp_ms"] = v.commit_timestamp;
  if (version == 1) j["expire_timestamp_ms"] = v.expire_timestamp;
  if (!v.topic_id.is_zero()) j["topic_id"] = v.topic_id.to_string();
  return j;
}

Json assignment_json(const Bytes& blob) {
  const auto partitions = client::decode_assignment(blob);
  if (!partitions.ok()) return nullptr;
  Json out = Json::array();
  for (const auto& p : *partitions) out.push_back(to_string(p));
  return out;
}

Json group_value(const record::OptionalBytes& bytes) {
  wire::GroupMetadataValue v;
  int16_t version = 0;
  if (!read_value(bytes, v, version)) return broken("group_metadata", "the value does not parse");
  Json j = Json::object();
  j["version"] = version;
  j["protocol_type"] = v.protocol_type;
  j["generation"] = v.generation;
  if (v.protocol) j["protocol"] = *v.protocol;
  if (v.leader) j["leader"] = *v.leader;
  j["state_timestamp_ms"] = v.current_state_timestamp;
  Json members = Json::array();
  for (const auto& m : v.members) {
    Json member = Json::object();
    member["member_id"] = m.member_id;
    if (m.group_instance_id) member["instance_id"] = *m.group_instance_id;
    member["client_id"] = m.client_id;
    member["client_host"] = m.client_host;
    member["session_timeout_ms"] = m.session_timeout;
    member["rebalance_timeout_ms"] = m.rebalance_timeout;
    member["assignment"] = assignment_json(m.assignment);
    members.push_back(std::move(member));
  }
  j["members"] = std::move(members);
  return j;
}

Json consumer_value(const record::OptionalBytes& bytes) {
  wire::ConsumerGroupMetadataValue v;
  int16_t version = 0;
  if (!read_value(bytes, v, version)) return broken("consumer_group", "the value does not parse");
  Json j = Json::object();
  j["version"] = version;
  j["epoch"] = v.epoch;
  return j;
}

/// Record types of the KIP-848 group machine, by their number.
const char* consumer_kind(int16_t type) {
  switch (type) {
    case 3:
      return "consumer_group_metadata";
    case 4:
      return "consumer_group_partition_metadata";
    case 5:
      return "consumer_group_member_metadata";
    case 6:
      return "consumer_group_target_assignment_metadata";
    case 7:
      return "consumer_group_target_assignment_member";
    case 8:
      return "consumer_group_current_member_assignment";
    case 16:
      return "consumer_group_regular_expression";
    default:
      return "unknown";
  }
}

std::string transaction_state(int8_t status) {
  static constexpr const char* kNames[] = {
      "empty",           "ongoing",        "prepare_commit", "prepare_abort",
      "complete_commit", "complete_abort", "dead",           "prepare_epoch_fence"};
  return status >= 0 && static_cast<size_t>(status) < std::size(kNames) ? kNames[status]
                                                                        : std::to_string(status);
}

}  // namespace

Json decode_offsets_record(const record::OptionalBytes& key, const record::OptionalBytes& value) {
  if (!key) return broken("unknown", "the record has no key");
  wire::Reader reader(*key);
  const int16_t type = reader.read_i16();
  if (!reader.ok()) return broken("unknown", "the key is too short");
  Json j = Json::object();
  Json k = Json::object();
  k["type"] = type;
  if (type <= wire::OffsetCommitKey::kRecordType && type >= 0) {
    wire::OffsetCommitKey parsed;
    if (!read_key(reader, parsed)) return broken("offset_commit", "the key does not parse");
    k["group"] = parsed.group;
    k["topic"] = parsed.topic;
    k["partition"] = parsed.partition;
    j["kind"] = "offset_commit";
    j["key"] = std::move(k);
    j["value"] = value ? offset_value(value) : Json(nullptr);
  } else if (type == wire::GroupMetadataKey::kRecordType) {
    wire::GroupMetadataKey parsed;
    if (!read_key(reader, parsed)) return broken("group_metadata", "the key does not parse");
    k["group"] = parsed.group;
    j["kind"] = "group_metadata";
    j["key"] = std::move(k);
    j["value"] = value ? group_value(value) : Json(nullptr);
  } else {
    // All of them begin with the group's name.
    k["group"] = reader.read_string(false);
    if (!reader.ok()) return broken(consumer_kind(type), "the key does not parse");
    j["kind"] = consumer_kind(type);
    j["key"] = std::move(k);
    if (!value) {
      j["value"] = nullptr;
    } else if (type == 3) {
      j["value"] = consumer_value(value);
    } else {
      j["value_bytes"] = value->size();
    }
  }
  return j;
}

Json decode_transaction_record(const record::OptionalBytes& key, const record::OptionalBytes& value) {
  if (!key) return broken("unknown", "the record has no key");
  wire::Reader reader(*key);
  const int16_t type = reader.read_i16();
  wire::TransactionLogKey parsed;
  if (!reader.ok() || type != wire::TransactionLogKey::kRecordType || !read_key(reader, parsed)) {
    return broken("unknown", "the key does not parse");
  }
  Json j = Json::object();
  j["kind"] = "transaction";
  j["key"]["transactional_id"] = parsed.transactional_id;
  if (!value) {
    j["value"] = nullptr;
    return j;
  }
  wire::TransactionLogValue v;
  int16_t version = 0;
  if (!read_value(value, v, version)) return broken("transaction", "the value does not parse");
  Json out = Json::object();
  out["version"] = version;
  out["producer_id"] = v.producer_id;
  out["producer_epoch"] = v.producer_epoch;
  out["state"] = transaction_state(v.transaction_status);
  out["timeout_ms"] = v.transaction_timeout_ms;
  out["start_timestamp_ms"] = v.transaction_start_timestamp_ms;
  out["update_timestamp_ms"] = v.transaction_last_update_timestamp_ms;
  Json partitions = Json::array();
  if (v.transaction_partitions) {
    for (const auto& t : *v.transaction_partitions) {
      for (const int32_t p : t.partition_ids) partitions.push_back(t.topic + "-" + std::to_string(p));
    }
  }
  out["partitions"] = std::move(partitions);
  j["value"] = std::move(out);
  return j;
}

}  // namespace millrace::cli
