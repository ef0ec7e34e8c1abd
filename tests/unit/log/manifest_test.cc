// What a clean stop writes down of every log, and what opening one does on the first write.
#include "log/manifest.h"
#include "log/data_directory.h"
#include "log/partition_metadata.h"
#include "log_fixture.h"

namespace millrace::log {
namespace {

using namespace fixture;

Uuid manifest_id(uint8_t fill) {
  Uuid id;
  id.bytes.fill(fill);
  return id;
}

RestingLog some_log(int64_t end) {
  RestingLog l;
  l.log_start = Offset(2);
  l.last_stable = Offset(end - 1);
  l.log_end = Offset(end);
  l.first_epoch = LeaderEpoch(1);
  l.last_epoch = LeaderEpoch(4);
  l.last_epoch_start = Offset(3);
  l.bytes = 4'000;
  l.segments = 3;
  l.oldest_timestamp = kT0;
  l.oldest_bytes = 1'000;
  l.oldest_end = Offset(5);
  return l;
}

Manifest some_manifest() {
  Manifest m;
  m.broker_epoch = BrokerEpoch(17);
  m.topics.push_back({"payments", manifest_id(2), {{PartitionId(0), some_log(9)}}});
  m.topics.push_back(
      {"orders", manifest_id(1), {{PartitionId(3), some_log(8)}, {PartitionId(1), some_log(7)}}});
  return m;
}

TEST_CASE("a manifest comes back as it was, sorted") {
  const Result<Manifest> parsed = parse_manifest(encode_manifest(some_manifest()));
  REQUIRE(parsed.ok());
  Manifest expected = some_manifest();
  expected.sort();
  CHECK(*parsed == expected);
  const Manifest::Topic* orders = parsed->find("orders");
  REQUIRE(orders != nullptr);
  CHECK(orders->id == manifest_id(1));
  REQUIRE(Manifest::find(*orders, PartitionId(3)) != nullptr);
  CHECK(Manifest::find(*orders, PartitionId(3))->log_end == Offset(8));
  CHECK(Manifest::find(*orders, PartitionId(2)) == nullptr);
  CHECK(parsed->find("order") == nullptr);
  const Result<Manifest> empty = parse_manifest(encode_manifest({}));
  REQUIRE(empty.ok());
  CHECK(empty->topics.empty());
}

TEST_CASE("a manifest with any byte changed or cut off is refused") {
  const Bytes whole = encode_manifest(some_manifest());
  for (size_t i = 0; i < whole.size(); ++i) {
    Bytes damaged = whole;
    damaged[i] ^= 0x41;
    CHECK_FALSE(parse_manifest(damaged).ok());
    CHECK_FALSE(parse_manifest(ByteView(whole).first(i)).ok());
  }
}

TEST_CASE("a manifest whose numbers contradict each other is refused") {
  const auto refused = [](const std::function<void(RestingLog&)>& spoil) {
    Manifest m = some_manifest();
    spoil(m.topics[0].partitions[0].log);
    return !parse_manifest(encode_manifest(m)).ok();
  };
  CHECK_FALSE(refused([](RestingLog&) {}));
  CHECK(refused([](RestingLog& l) { l.log_start = Offset(-1); }));
  CHECK(refused([](RestingLog& l) { l.log_start = l.log_end + 1; }));
  CHECK(refused([](RestingLog& l) { l.last_stable = l.log_end + 1; }));
  CHECK(refused([](RestingLog& l) { l.segments = 0; }));
  CHECK(refused([](RestingLog& l) { l.oldest_bytes = l.bytes + 1; }));
}

struct Home {
  test::MemoryDisk disk;
  std::unique_ptr<DataDirectory> directory;

  void open() {
    directory.reset();
    DataDirectory::Params p;
    p.path = "/data";
    p.cluster_id = "c";
    p.node_id = BrokerId(1);
    p.new_directory_id = manifest_id(9);
    Result<std::unique_ptr<DataDirectory>> opened = DataDirectory::open(disk, p, Trace());
    REQUIRE(opened.ok());
    directory = std::move(*opened);
  }
  std::optional<Manifest> manifest() {
    Result<std::optional<Manifest>> read = directory->read_manifest();
    REQUIRE(read.ok());
    return std::move(*read);
  }
};

TEST_CASE("a manifest counts only beside the marker of its own stop") {
  Home h;
  h.open();
  CHECK_FALSE(h.manifest());
  REQUIRE(h.directory->write_manifest(some_manifest()).ok());
  h.open();
  CHECK_FALSE(h.manifest());  // no marker: the stop was not clean
  REQUIRE(h.directory->write_clean_marker(BrokerEpoch(18)).ok());
  h.open();
  CHECK_FALSE(h.manifest());  // of another stop
  REQUIRE(h.directory->write_clean_marker(BrokerEpoch(17)).ok());
  h.open();
  REQUIRE(h.manifest());
  CHECK(h.manifest()->topics.size() == 2);
  REQUIRE(h.directory->remove_clean_marker().ok());
  h.open();
  CHECK_FALSE(h.manifest());
  h.disk.put("/data/log-manifest", to_bytes("noise"));
  REQUIRE(h.directory->write_clean_marker(BrokerEpoch(17)).ok());
  h.open();
  CHECK_FALSE(h.manifest());
}

TEST_CASE("partitions that the manifest names are listed without reading a file") {
  Home h;
  h.open();
  h.disk.put("/data/orders-1/partition.metadata",
             to_bytes(encode_partition_metadata({.topic_id = manifest_id(1)})));
  h.disk.put("/data/users-0/partition.metadata",
             to_bytes(encode_partition_metadata({.topic_id = manifest_id(7)})));
  Manifest known = some_manifest();
  known.sort();
  std::vector<std::string> opened;
  h.disk.fault = [&](test::DiskOp op, const std::string& path) {
    if (op == test::DiskOp::open || op == test::DiskOp::read) opened.push_back(path);
    return ErrorCode::none;
  };
  const Result<DirectoryListing> listing = h.directory->list(&known);
  REQUIRE(listing.ok());
  REQUIRE(listing->partitions.size() == 2);
  CHECK(listing->partitions[0].topic_id == manifest_id(1));
  CHECK(listing->partitions[1].topic_id == manifest_id(7));
  for (const std::string& path : opened) CHECK(path.find("orders") == std::string::npos);
}

// --- a log at rest ---

TEST_CASE("a log at rest is told as it is found when it is opened") {
  Fixture f;
  f.config.segment_bytes = 600;
  f.open();
  for (int i = 0; i < 12; ++i) f.append(BatchSpec{.count = 2, .timestamp = kT0 + 1'000 * i});
  REQUIRE(f.log->segment_count() > 2);
  const Result<RestingLog> rest = f.log->at_rest();
  REQUIRE(rest.ok());
  CHECK(rest->log_end == f.log->log_end_offset());
  CHECK(rest->last_stable == f.log->log_end_offset());
  CHECK(rest->segments == f.log->segment_count());
  CHECK(rest->bytes == f.log->size_bytes());
  CHECK(rest->oldest_end == f.log->segments().front().next_offset);
  CHECK(rest->oldest_bytes == f.log->segments().front().bytes);
  CHECK(rest->oldest_timestamp >= kT0);
  CHECK(rest->oldest_timestamp < kT0 + 12'000);
}

TEST_CASE("an epoch begun lazily is not written down before its first record") {
  Fixture f;
  f.open();
  f.append(BatchSpec{});
  REQUIRE(f.log->flush().ok());
  CHECK(f.log->settled());
  f.log->begin_epoch(LeaderEpoch(9), true);
  CHECK(f.log->settled());
  CHECK(f.log->latest_epoch() == LeaderEpoch(9));
  const Result<RestingLog> rest = f.log->at_rest();
  REQUIRE(rest.ok());
  CHECK(rest->last_epoch < LeaderEpoch(9));
}

}  // namespace
}  // namespace millrace::log
