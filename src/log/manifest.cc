#include "log/manifest.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/endian.h"

namespace millrace::log {

namespace {

constexpr std::string_view kManifestMagic = "MRLM";
constexpr int32_t kManifestVersion = 1;
constexpr size_t kManifestChecked = 12;  // the checksum covers the file from here
constexpr size_t kManifestHead = 24;
constexpr size_t kManifestTopicHead = 16 + 2;
constexpr size_t kManifestEntry = 88;
constexpr size_t kTopicNameMax = 255;

void encode_entry(uint8_t* p, const Manifest::Entry& e) {
  const RestingLog& l = e.log;
  store_be(p, e.partition.v);
  store_be(p + 4, l.log_start.v);
  store_be(p + 12, l.last_stable.v);
  store_be(p + 20, l.log_end.v);
  store_be(p + 28, l.first_epoch.v);
  store_be(p + 32, l.last_epoch.v);
  store_be(p + 36, l.last_epoch_start.v);
  store_be(p + 44, l.bytes);
  store_be(p + 52, l.segments);
  store_be(p + 56, l.oldest_timestamp);
  store_be(p + 64, l.oldest_bytes);
  store_be(p + 72, l.oldest_end.v);
  store_be(p + 80, l.cleaned_end.v);
}

Manifest::Entry decode_entry(const uint8_t* p) {
  Manifest::Entry e;
  RestingLog& l = e.log;
  e.partition = PartitionId(load_be<int32_t>(p));
  l.log_start = Offset(load_be<int64_t>(p + 4));
  l.last_stable = Offset(load_be<int64_t>(p + 12));
  l.log_end = Offset(load_be<int64_t>(p + 20));
  l.first_epoch = LeaderEpoch(load_be<int32_t>(p + 28));
  l.last_epoch = LeaderEpoch(load_be<int32_t>(p + 32));
  l.last_epoch_start = Offset(load_be<int64_t>(p + 36));
  l.bytes = load_be<uint64_t>(p + 44);
  l.segments = load_be<uint32_t>(p + 52);
  l.oldest_timestamp = load_be<int64_t>(p + 56);
  l.oldest_bytes = load_be<uint64_t>(p + 64);
  l.oldest_end = Offset(load_be<int64_t>(p + 72));
  l.cleaned_end = Offset(load_be<int64_t>(p + 80));
  return e;
}

bool plausible(const Manifest::Entry& e) {
  const RestingLog& l = e.log;
  return e.partition.v >= 0 && l.segments > 0 && l.log_start >= Offset(0) && l.log_start <= l.last_stable &&
         l.last_stable <= l.log_end && l.last_epoch_start <= l.log_end && l.oldest_bytes <= l.bytes &&
         l.oldest_end <= l.log_end;
}

Error damaged_manifest(const char* what) {
  return Error(ErrorCode::parse_error, std::string("the manifest does not parse: ") + what);
}

}  // namespace

void Manifest::sort() {
  std::sort(topics.begin(), topics.end(), [](const Topic& a, const Topic& b) { return a.name < b.name; });
  for (Topic& t : topics) {
    std::sort(t.partitions.begin(), t.partitions.end(),
              [](const Entry& a, const Entry& b) { return a.partition < b.partition; });
  }
}

const Manifest::Topic* Manifest::find(std::string_view topic) const {
  const auto it = std::lower_bound(topics.begin(), topics.end(), topic,
                                   [](const Topic& t, std::string_view name) { return t.name < name; });
  return it == topics.end() || it->name != topic ? nullptr : &*it;
}

const RestingLog* Manifest::find(const Topic& topic, PartitionId partition) {
  const auto it = std::lower_bound(topic.partitions.begin(), topic.partitions.end(), partition,
                                   [](const Entry& e, PartitionId p) { return e.partition < p; });
  return it == topic.partitions.end() || it->partition != partition ? nullptr : &it->log;
}

Bytes encode_manifest(const Manifest& manifest) {
  size_t size = kManifestHead;
  for (const Manifest::Topic& t : manifest.topics) {
    ASSERT(t.name.size() <= kTopicNameMax);
    size += kManifestTopicHead + t.name.size() + 4 + t.partitions.size() * kManifestEntry;
  }
  Bytes out(size);
  uint8_t* p = out.data();
  std::copy(kManifestMagic.begin(), kManifestMagic.end(), p);
  store_be(p + 4, kManifestVersion);
  store_be(p + 12, manifest.broker_epoch.v);
  store_be(p + 20, static_cast<int32_t>(manifest.topics.size()));
  p += kManifestHead;
  for (const Manifest::Topic& t : manifest.topics) {
    p = std::copy(t.id.bytes.begin(), t.id.bytes.end(), p);
    store_be(p, static_cast<uint16_t>(t.name.size()));
    p = std::copy(t.name.begin(), t.name.end(), p + 2);
    store_be(p, static_cast<int32_t>(t.partitions.size()));
    p += 4;
    for (const Manifest::Entry& e : t.partitions) {
      encode_entry(p, e);
      p += kManifestEntry;
    }
  }
  ASSERT(p == out.data() + out.size());
  store_be(&out[8], crc32c(ByteView(out).subspan(kManifestChecked)));
  return out;
}

Result<Manifest> parse_manifest(ByteView file) {
  if (file.size() < kManifestHead || as_text(file.first(4)) != kManifestMagic)
    return damaged_manifest("its head");
  if (load_be<int32_t>(&file[4]) != kManifestVersion) return damaged_manifest("its version is not 1");
  if (load_be<uint32_t>(&file[8]) != crc32c(file.subspan(kManifestChecked)))
    return damaged_manifest("its checksum does not match");
  Manifest out;
  out.broker_epoch = BrokerEpoch(load_be<int64_t>(&file[12]));
  const auto topics = load_be<int32_t>(&file[20]);
  ByteView rest = file.subspan(kManifestHead);
  if (topics < 0 || static_cast<size_t>(topics) > rest.size() / (kManifestTopicHead + 4))
    return damaged_manifest("more topics than bytes");
  out.topics.reserve(static_cast<size_t>(topics));
  for (int32_t i = 0; i < topics; ++i) {
    if (rest.size() < kManifestTopicHead) return damaged_manifest("it ends in a topic");
    Manifest::Topic t;
    std::copy_n(rest.begin(), t.id.bytes.size(), t.id.bytes.begin());
    const size_t name = load_be<uint16_t>(&rest[16]);
    rest = rest.subspan(kManifestTopicHead);
    if (name > kTopicNameMax || rest.size() < name + 4) return damaged_manifest("it ends in a topic's name");
    t.name = as_text(rest.first(name));
    const auto partitions = load_be<int32_t>(&rest[name]);
    rest = rest.subspan(name + 4);
    if (partitions < 0 || static_cast<size_t>(partitions) > rest.size() / kManifestEntry)
      return damaged_manifest("more partitions than bytes");
    t.partitions.reserve(static_cast<size_t>(partitions));
    for (int32_t k = 0; k < partitions; ++k) {
      t.partitions.push_back(decode_entry(rest.data()));
      if (!plausible(t.partitions.back())) return damaged_manifest("a log's offsets contradict each other");
      rest = rest.subspan(kManifestEntry);
    }
    out.topics.push_back(std::move(t));
  }
  if (!rest.empty()) return damaged_manifest("bytes behind its end");
  out.sort();
  return out;
}

}  // namespace millrace::log
