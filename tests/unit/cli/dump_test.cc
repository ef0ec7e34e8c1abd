// Dumping files made by hand, sound and damaged.
#include "cli/dump_command.h"

#include "cli/internal_records.h"
#include "cli/json.h"
#include "client/range_assignor.h"
#include "log/checkpoints.h"
#include "log/offset_index.h"
#include "record/builder.h"
#include "support/catch.h"
#include "support/memory_disk.h"
#include "wire/records/group_metadata.h"
#include "wire/records/offset_commit.h"
#include "wire/records/transaction_log.h"
#include "wire/writer.h"

namespace millrace::cli {
namespace {

template <class T>
Bytes with_number(int16_t number, int16_t version, const T& x) {
  wire::Writer w;
  w.write_i16(number);
  encode(w, version, x);
  return w.take_bytes();
}

Bytes commit_key() {
  wire::OffsetCommitKey k;
  k.group = "g";
  k.topic = "t";
  k.partition = 2;
  return with_number(1, 0, k);
}

Bytes commit_value() {
  wire::OffsetCommitValue v;
  v.offset = 77;
  v.metadata = "m";
  v.commit_timestamp = 5;
  return with_number(3, 3, v);
}

TEST_CASE("records of __consumer_offsets") {
  const Bytes key = commit_key();
  const Bytes value = commit_value();
  const Json j = decode_offsets_record(ByteView(key), ByteView(value));
  CHECK(j["kind"] == "offset_commit");
  CHECK(j["key"]["group"] == "g");
  CHECK(j["key"]["partition"] == 2);
  CHECK(j["value"]["offset"] == 77);
  CHECK(decode_offsets_record(ByteView(key), std::nullopt)["value"].is_null());

  wire::GroupMetadataKey group;
  group.group = "g";
  wire::GroupMetadataValue metadata;
  metadata.generation = 4;
  metadata.members.emplace_back().member_id = "m1";
  metadata.members[0].assignment = client::encode_assignment({{"t", 1}});
  const Bytes group_key = with_number(2, 0, group);
  const Bytes group_value = with_number(3, 3, metadata);
  const Json g = decode_offsets_record(ByteView(group_key), ByteView(group_value));
  CHECK(g["kind"] == "group_metadata");
  CHECK(g["value"]["generation"] == 4);
  CHECK(g["value"]["members"][0]["assignment"][0] == "t-1");

  // Nothing that is cut off or strange stops a dump.
  for (size_t n = 0; n < key.size(); ++n) {
    const Json cut = decode_offsets_record(ByteView(key).first(n), ByteView(value));
    CHECK(cut.contains("error"));
  }
  for (size_t n = 0; n < value.size(); ++n) {
    CHECK(decode_offsets_record(ByteView(key), ByteView(value).first(n))["value"].contains("error"));
  }
  CHECK(decode_offsets_record(std::nullopt, std::nullopt).contains("error"));
  const Bytes other = {0, 99, 0, 1, 'x'};
  CHECK(decode_offsets_record(ByteView(other), std::nullopt)["kind"] == "unknown");
}

TEST_CASE("records of __transaction_state") {
  wire::TransactionLogKey k;
  k.transactional_id = "tx";
  wire::TransactionLogValue v;
  v.producer_id = 9;
  v.transaction_status = 4;
  v.transaction_partitions->emplace_back().topic = "t";
  v.transaction_partitions->back().partition_ids = {3};
  const Bytes key = with_number(0, 0, k);
  const Bytes value = with_number(1, 1, v);
  const Json j = decode_transaction_record(ByteView(key), ByteView(value));
  CHECK(j["key"]["transactional_id"] == "tx");
  CHECK(j["value"]["state"] == "complete_commit");
  CHECK(j["value"]["partitions"][0] == "t-3");
  CHECK(decode_transaction_record(ByteView(value), std::nullopt).contains("error"));
}

struct DumpRig {
  test::MemoryDisk disk;
  std::string out;
  std::vector<std::string> problems;

  void put(const std::string& path, ByteView content) {
    REQUIRE(disk.make_directories(io::parent_path(path)).ok());
    const auto file = disk.open(path, io::OpenMode::create);
    REQUIRE(file.ok());
    REQUIRE((*file)->truncate(0).ok());
    if (!content.empty()) REQUIRE((*file)->write_at(0, content).ok());
  }
  Status dump(const std::string& path, Dump options = {}, Output output = Output::json) {
    out.clear();
    problems.clear();
    return dump_path(disk, path, options, output, out, problems);
  }
  Json json() const { return Json::parse(out); }
};

Bytes segment_of(const std::vector<std::pair<Bytes, Bytes>>& records) {
  record::BatchBuilder b;
  for (const auto& [key, value] : records) b.append(1'000, ByteView(key), ByteView(value));
  return b.build();
}

TEST_CASE("a segment, its records, its damage") {
  DumpRig rig;
  const std::string path = "data/t-3/00000000000000000000.log";
  Bytes segment = segment_of({{Bytes{'k'}, Bytes{'v'}}});
  rig.put(path, segment);
  Dump options;
  options.records = true;
  REQUIRE(rig.dump(path, options).ok());
  const Json j = rig.json();
  CHECK(rig.problems.empty());
  CHECK(j["kind"] == "segment");
  CHECK(j["record_count"] == 1);
  CHECK(j["batches"][0]["crc_ok"] == true);
  CHECK(j["batches"][0]["producer_id"].is_null());
  CHECK(j["records"][0]["key"] == "k");
  CHECK(j["records"][0]["topic"] == "t");
  CHECK(j["records"][0]["partition"] == 3);
  REQUIRE(rig.dump(path, options, Output::text).ok());
  CHECK(rig.out.find("1 batches, 1 records") != std::string::npos);

  segment.back() ^= 1;
  rig.put(path, segment);
  REQUIRE(rig.dump(path, options).ok());
  CHECK_FALSE(rig.problems.empty());
}

TEST_CASE("what the directory's name says decides how records are read") {
  DumpRig rig;
  const Bytes segment = segment_of({{commit_key(), commit_value()}});
  const std::string path = "data/__consumer_offsets-7/00000000000000000000.log";
  rig.put(path, segment);
  Dump options;
  options.records = true;
  REQUIRE(rig.dump(path, options).ok());
  CHECK(rig.json()["records"][0]["kind"] == "offset_commit");
  options.decode = "none";
  REQUIRE(rig.dump(path, options).ok());
  CHECK(rig.json()["records"][0].contains("value_encoding"));
  options.decode = "sideways";
  CHECK(rig.dump(path, options).code() == ErrorCode::invalid_argument);
}

TEST_CASE("indexes, room at their end, checkpoints, strangers") {
  DumpRig rig;
  log::OffsetIndex index;
  index.append(4, 100);
  index.append(9, 250);
  Bytes bytes = index.encode();
  bytes.resize(4096);  // room
  rig.put("data/t-0/00000000000000000010.index", bytes);
  REQUIRE(rig.dump("data/t-0/00000000000000000010.index").ok());
  CHECK(rig.problems.empty());
  CHECK(rig.json()["entries"].size() == 2);
  CHECK(rig.json()["entries"][0]["offset"] == 14);
  CHECK(rig.json()["entries"][0]["position"] == 100);
  bytes[20] = 7;
  rig.put("data/t-0/00000000000000000010.index", bytes);
  REQUIRE(rig.dump("data/t-0/00000000000000000010.index").ok());
  CHECK(rig.problems.size() == 1);

  const std::string checkpoint = log::encode_checkpoint({{{"a", PartitionId(1)}, Offset(5)}});
  rig.put("data/replication-offset-checkpoint", as_bytes(checkpoint));
  REQUIRE(rig.dump("data/replication-offset-checkpoint").ok());
  CHECK(rig.json()["entries"][0]["offset"] == 5);
  rig.put("data/replication-offset-checkpoint", as_bytes("rubbish"));
  CHECK(rig.dump("data/replication-offset-checkpoint").code() == ErrorCode::parse_error);
  rig.put("data/t-0/leader-epoch-checkpoint", as_bytes("0\n1\n3 17\n"));
  REQUIRE(rig.dump("data/t-0/leader-epoch-checkpoint").ok());
  CHECK(rig.json()["entries"][0]["start_offset"] == 17);
  rig.put("data/t-0/partition.metadata", as_bytes("version: 0\ntopic_id: 4L6g3nShT-eMCtK--X86sw\n"));
  REQUIRE(rig.dump("data/t-0/partition.metadata").ok());
  CHECK(rig.json()["entries"][0]["topic_id"] == "4L6g3nShT-eMCtK--X86sw");
  rig.put("data/t-0/00000000000000000010.snapshot", as_bytes("short"));
  CHECK(rig.dump("data/t-0/00000000000000000010.snapshot").code() == ErrorCode::corrupt);

  rig.put("data/notes.txt", as_bytes("x"));
  CHECK(rig.dump("data/notes.txt").code() == ErrorCode::invalid_argument);
  CHECK(rig.dump("data/nothing").code() == ErrorCode::not_found);
  // A directory: what is not ours is left out, what is damaged is a problem and no end.
  REQUIRE(rig.dump("data/t-0").ok());
  CHECK(rig.problems.size() == 2);
  CHECK(std::count(rig.out.begin(), rig.out.end(), '\n') == 3);
}

}  // namespace
}  // namespace millrace::cli
