// An image as bytes. Layout, big-endian:
//
//   0  magic "MRSNAP01"
//   8  frames: length u32 | CRC-32C of the message u32 | message
//      first a SnapshotHeader, then MetadataEntry messages (proto/snapshot.proto)
#include <algorithm>
#include <functional>

#include "base/crc32c.h"
#include "base/endian.h"
#include "meta/image.h"
#include "proto/snapshot.pb.h"

namespace millrace::meta {
namespace {

namespace pb = millrace::internal::v1;

constexpr std::string_view kSnapshotMagic = "MRSNAP01";
constexpr uint32_t kSnapshotFormat = 1;
constexpr size_t kFrameHead = 8;
constexpr size_t kRecordsPerFrame = 1000;

Error bad_snapshot(const char* what) {
  return Error(ErrorCode::corrupt, std::string("metadata snapshot: ") + what);
}

void append_frame(ByteView message, Bytes& out) {
  uint8_t head[kFrameHead];
  store_be<uint32_t>(head, static_cast<uint32_t>(message.size()));
  store_be<uint32_t>(head + 4, crc32c(message));
  out.insert(out.end(), head, head + kFrameHead);
  out.insert(out.end(), message.begin(), message.end());
}

Result<ByteView> take_frame(ByteView& rest) {
  if (rest.size() < kFrameHead) return bad_snapshot("ends within a frame");
  const auto length = load_be<uint32_t>(rest.data());
  const auto crc = load_be<uint32_t>(rest.data() + 4);
  if (length > rest.size() - kFrameHead) return bad_snapshot("ends within a frame");
  const ByteView message = rest.subspan(kFrameHead, length);
  if (crc32c(message) != crc) return bad_snapshot("checksum mismatch");
  rest = rest.subspan(kFrameHead + length);
  return message;
}

}  // namespace

void for_each_record(const Image& image, const std::function<void(Record)>& out) {
  if (!image.cluster_id().is_zero() || image.next_broker_epoch() != Image().next_broker_epoch()) {
    out(ClusterRecord{image.cluster_id(), image.next_broker_epoch()});
  }
  image.features().for_each(
      [&](const std::string& name, int16_t level) { out(FeatureLevelRecord{name, level}); });
  image.brokers().for_each([&](BrokerId, const BrokerRef& b) { out(RegisterBrokerRecord{*b}); });
  if (image.next_producer_id().v > 0)
    out(ProducerIdsRecord{kNoBroker, BrokerEpoch(-1), image.next_producer_id()});
  image.topics().for_each([&](const std::string& name, const TopicRef& topic) {
    out(TopicRecord{name, topic->id});
    int32_t number = 0;
    for (const Partition& p : topic->partitions) out(PartitionRecord{topic->id, PartitionId(number++), p});
  });
  image.configs().for_each(
      [&](const ConfigResource& resource, const std::shared_ptr<const ConfigValues>& values) {
        for (const auto& [key, value] : *values) out(ConfigRecord{resource, key, value});
      });
}

bool same_state(const Image& a, const Image& b) {
  if (a.partition_count() != b.partition_count()) return false;
  std::vector<Record> left;
  for_each_record(a, [&left](Record r) { left.push_back(std::move(r)); });
  size_t at = 0;
  bool same = true;
  for_each_record(b, [&](const Record& r) {
    same = same && at < left.size() && left[at] == r;
    ++at;
  });
  return same && at == left.size();
}

Bytes encode_snapshot(const Image& image) {
  Bytes frames;
  std::vector<Record> pending;
  uint64_t count = 0;
  const auto flush = [&] {
    if (!pending.empty()) append_frame(encode_entry(pending), frames);
    pending.clear();
  };
  for_each_record(image, [&](Record r) {
    pending.push_back(std::move(r));
    ++count;
    if (pending.size() == kRecordsPerFrame) flush();
  });
  flush();

  pb::SnapshotHeader header;
  header.set_format(kSnapshotFormat);
  header.set_last_index(image.applied_index().v);
  header.set_last_term(image.applied_term().v);
  header.set_record_count(count);
  Bytes out = to_bytes(kSnapshotMagic);
  append_frame(as_bytes(header.SerializeAsString()), out);
  out.insert(out.end(), frames.begin(), frames.end());
  return out;
}

Result<Image> decode_snapshot(ByteView bytes) {
  if (bytes.size() < kSnapshotMagic.size() || as_text(bytes.first(kSnapshotMagic.size())) != kSnapshotMagic) {
    return bad_snapshot("not a snapshot");
  }
  ByteView rest = bytes.subspan(kSnapshotMagic.size());
  TRY_ASSIGN(const ByteView head, take_frame(rest));
  pb::SnapshotHeader header;
  if (!header.ParseFromArray(head.data(), static_cast<int>(head.size()))) return bad_snapshot("bad header");
  if (header.format() != kSnapshotFormat) return bad_snapshot("a format this version does not know");

  Image image;
  uint64_t count = 0;
  while (!rest.empty()) {
    TRY_ASSIGN(const ByteView message, take_frame(rest));
    TRY_ASSIGN(const std::vector<Record> records, decode_entry(message));
    for (const Record& r : records) TRY(image.apply(r));
    count += records.size();
  }
  if (count != header.record_count()) return bad_snapshot("records are missing");
  image.set_applied(LogIndex(header.last_index()), Term(header.last_term()));
  return image;
}

}  // namespace millrace::meta
