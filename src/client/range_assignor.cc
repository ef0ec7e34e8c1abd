#include "client/range_assignor.h"

#include <algorithm>
#include <set>

#include "wire/reader.h"
#include "wire/records/consumer_protocol.h"
#include "wire/writer.h"

namespace millrace::client {
namespace {

/// Both blobs begin with their version. Members of newer versions add fields at the end: what is known is
/// read.
template <class Blob>
Result<Blob> decode_blob(ByteView bytes) {
  wire::Reader reader(bytes);
  const int16_t version = reader.read_i16();
  if (!reader.ok() || version < 0)
    return Error(ErrorCode::corrupt, "a group protocol blob without a version");
  Blob blob;
  TRY(wire::decode(reader, std::min(version, Blob::kMaxVersion), blob));
  return blob;
}

template <class Blob>
Bytes encode_blob(int16_t version, const Blob& blob) {
  wire::Writer writer;
  writer.write_i16(version);
  wire::encode(writer, version, blob);
  return writer.take_bytes();
}

}  // namespace

Assignment assign_range(std::vector<MemberSubscription> members,
                        const std::map<std::string, int32_t>& partition_counts) {
  Assignment out;
  // Static members come first, by their lasting name: then a restart moves nothing.
  std::sort(members.begin(), members.end(), [](const MemberSubscription& a, const MemberSubscription& b) {
    if (a.instance_id.has_value() != b.instance_id.has_value()) return a.instance_id.has_value();
    if (a.instance_id && *a.instance_id != *b.instance_id) return *a.instance_id < *b.instance_id;
    return a.member_id < b.member_id;
  });
  std::map<std::string, std::vector<const MemberSubscription*>> interested;
  for (const MemberSubscription& m : members) {
    out[m.member_id];
    for (const std::string& topic : std::set<std::string>(m.topics.begin(), m.topics.end())) {
      interested[topic].push_back(&m);
    }
  }
  for (const auto& [topic, subscribers] : interested) {
    const auto count = partition_counts.find(topic);
    if (count == partition_counts.end()) continue;
    const auto many = static_cast<int32_t>(subscribers.size());
    const int32_t share = count->second / many;
    const int32_t larger = count->second % many;  // so many members get one more
    int32_t next = 0;
    for (int32_t i = 0; i < many; ++i) {
      const int32_t end = next + share + (i < larger ? 1 : 0);
      std::vector<TopicPartition>& to = out[subscribers[static_cast<size_t>(i)]->member_id];
      for (; next < end; ++next) to.push_back({topic, next});
    }
  }
  return out;
}

Bytes encode_subscription(const std::vector<std::string>& topics) {
  wire::ConsumerProtocolSubscription s;
  s.topics = topics;
  return encode_blob(1, s);
}

Result<std::vector<std::string>> decode_subscription(ByteView blob) {
  TRY_ASSIGN(wire::ConsumerProtocolSubscription s, decode_blob<wire::ConsumerProtocolSubscription>(blob));
  return std::move(s.topics);
}

Bytes encode_assignment(const std::vector<TopicPartition>& partitions) {
  std::map<std::string, std::vector<int32_t>> by_topic;
  for (const TopicPartition& p : partitions) by_topic[p.topic].push_back(p.partition);
  wire::ConsumerProtocolAssignment a;
  for (auto& [topic, numbers] : by_topic) {
    auto& entry = a.assigned_partitions.emplace_back();
    entry.topic = topic;
    entry.partitions = std::move(numbers);
  }
  return encode_blob(1, a);
}

Result<std::vector<TopicPartition>> decode_assignment(ByteView blob) {
  std::vector<TopicPartition> out;
  if (blob.empty()) return out;
  TRY_ASSIGN(wire::ConsumerProtocolAssignment a, decode_blob<wire::ConsumerProtocolAssignment>(blob));
  for (const auto& topic : a.assigned_partitions) {
    for (const int32_t p : topic.partitions) out.push_back({topic.topic, p});
  }
  return out;
}

}  // namespace millrace::client
