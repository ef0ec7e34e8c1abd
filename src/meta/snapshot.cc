// An image as bytes. Layout, big-endian:
//
//   0  magic "MRSNAP01"
//   8  frames: length u32 | CRC-32C of the message u32 | message
//      first a SnapshotHeader, then MetadataEntry messages (proto/snapshot.proto)
#include <algorithm>
#include <functional>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/protobuf_bytes.h"
#include "meta/image.h"
#include "proto/snapshot.pb.h"

namespace millrace::meta {
namespace {

namespace pb = millrace::internal::v1;

constexpr std::string_view kSnapshotMagic = "MRSNAP01";
constexpr uint32_t kSnapshotFormat = 1;
constexpr size_t kFrameHead = 8;
constexpr size_t kRecordsPerFrame = 1000;
constexpr size_t kFrameMax = 64 * 1024 * 1024;  // what a reader takes

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

// The bytes a record takes, roughly; frames are closed by it.
size_t weight(const Record& record) {
  if (const auto* p = std::get_if<PartitionRecord>(&record)) {
    return 64 + 8 * (p->state.replicas.size() + p->state.isr.size()) + 18 * p->state.directories.size();
  }
  if (const auto* c = std::get_if<ConfigRecord>(&record)) {
    return 32 + c->resource.name.size() + c->key.size() + (c->value ? c->value->size() : 0);
  }
  return 256;
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
  Bytes out;
  const Status written = write_snapshot(image, [&out](ByteView piece) {
    out.insert(out.end(), piece.begin(), piece.end());
    return Status();
  });
  ASSERT(written.ok());
  return out;
}

Status write_snapshot(const Image& image, const std::function<Status(ByteView)>& out) {
  uint64_t count = 0;
  for_each_record(image, [&count](const Record&) { ++count; });
  pb::SnapshotHeader header;
  header.set_format(kSnapshotFormat);
  header.set_last_index(image.applied_index().v);
  header.set_last_term(image.applied_term().v);
  header.set_record_count(count);
  Bytes piece = to_bytes(kSnapshotMagic);
  append_frame(protobuf_bytes(header), piece);
  TRY(out(piece));

  std::vector<Record> pending;
  size_t pending_bytes = 0;
  Status status;
  const auto flush = [&] {
    if (pending.empty() || !status.ok()) return;
    piece.clear();
    append_frame(encode_entry(pending), piece);
    status = out(piece);
    pending.clear();
    pending_bytes = 0;
  };
  for_each_record(image, [&](Record r) {
    if (!status.ok()) return;
    pending_bytes += weight(r);
    pending.push_back(std::move(r));
    if (pending.size() == kRecordsPerFrame || pending_bytes >= kSnapshotPiece) flush();
  });
  flush();
  return status;
}

Status SnapshotReader::add(ByteView piece) {
  // No frame is longer than kFrameMax, and whole ones are taken at once: so much is held at most.
  while (!piece.empty()) {
    const size_t step = std::min(piece.size(), kSnapshotPiece);
    pending_.insert(pending_.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(step));
    piece = piece.subspan(step);
    TRY(take_frames());
  }
  return {};
}

Status SnapshotReader::take_frames() {
  ByteView rest = pending_;
  if (!magic_seen_) {
    if (rest.size() < kSnapshotMagic.size()) return {};
    if (as_text(rest.first(kSnapshotMagic.size())) != kSnapshotMagic) return bad_snapshot("not a snapshot");
    rest = rest.subspan(kSnapshotMagic.size());
    magic_seen_ = true;
  }
  while (rest.size() >= kFrameHead) {
    const auto length = load_be<uint32_t>(rest.data());
    const auto crc = load_be<uint32_t>(rest.data() + 4);
    if (length > kFrameMax) return bad_snapshot("a frame is too long");
    if (length > rest.size() - kFrameHead) break;
    const ByteView message = rest.subspan(kFrameHead, length);
    if (crc32c(message) != crc) return bad_snapshot("checksum mismatch");
    TRY(take_message(message));
    rest = rest.subspan(kFrameHead + length);
  }
  pending_.erase(pending_.begin(), pending_.end() - static_cast<std::ptrdiff_t>(rest.size()));
  return {};
}

Status SnapshotReader::take_message(ByteView message) {
  if (!header_seen_) {
    pb::SnapshotHeader header;
    if (!parse_protobuf(message, header)) return bad_snapshot("bad header");
    if (header.format() != kSnapshotFormat) return bad_snapshot("a format this version does not know");
    header_seen_ = true;
    expected_ = header.record_count();
    last_index_ = LogIndex(header.last_index());
    last_term_ = Term(header.last_term());
    return {};
  }
  TRY_ASSIGN(const std::vector<Record> records, decode_entry(message));
  for (const Record& r : records) TRY(image_.apply(r));
  count_ += records.size();
  return {};
}

Result<Image> SnapshotReader::finish() {
  if (!magic_seen_) return bad_snapshot("not a snapshot");
  if (!pending_.empty()) return bad_snapshot("ends within a frame");
  if (!header_seen_ || count_ != expected_) return bad_snapshot("records are missing");
  image_.set_applied(last_index_, last_term_);
  return std::move(image_);
}

Result<Image> decode_snapshot(ByteView bytes) {
  SnapshotReader reader;
  TRY(reader.add(bytes));
  return reader.finish();
}

}  // namespace millrace::meta
