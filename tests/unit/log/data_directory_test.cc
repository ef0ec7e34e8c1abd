// A data directory: whose it is, who uses it, what it holds.
#include "log/data_directory.h"

#include "log/partition_metadata.h"
#include "support/catch.h"
#include "support/memory_disk.h"

namespace millrace::log {
namespace {

DataDirectory::Params directory_params() {
  DataDirectory::Params p;
  p.path = "/var/lib/millrace";
  p.cluster_id = "MkU3OEVBNTcwNTJENDM2Qg";
  p.node_id = BrokerId(3);
  p.new_directory_id.bytes.fill(0x42);
  return p;
}

TEST_CASE("a new directory gets an identity, an old one keeps it") {
  test::MemoryDisk disk;
  {
    auto made = DataDirectory::open(disk, directory_params(), Trace());
    REQUIRE(made.ok());
    CHECK((*made)->is_new());
    CHECK_FALSE((*made)->was_clean());
    CHECK((*made)->id() == directory_params().new_directory_id);
    const std::string text(as_text(disk.content("/var/lib/millrace/meta.properties")));
    CHECK(text.find("version=1\n") != std::string::npos);
    CHECK(text.find("cluster.id=MkU3OEVBNTcwNTJENDM2Qg\n") != std::string::npos);
    CHECK(text.find("node.id=3\n") != std::string::npos);
    CHECK(text.find("directory.id=QkJCQkJCQkJCQkJCQkJCQg\n") != std::string::npos);
    CHECK(DataDirectory::open(disk, directory_params(), Trace()).code() == ErrorCode::already_exists);
  }
  REQUIRE(disk.sync_directory("/").ok());
  REQUIRE(disk.sync_directory("/var").ok());
  disk.crash();
  DataDirectory::Params again = directory_params();
  again.new_directory_id.bytes.fill(0x43);
  again.create = false;
  auto opened = DataDirectory::open(disk, again, Trace());
  REQUIRE(opened.ok());
  CHECK_FALSE((*opened)->is_new());
  CHECK((*opened)->id() == directory_params().new_directory_id);
}

TEST_CASE("another cluster's or node's directory is refused in words") {
  test::MemoryDisk disk;
  REQUIRE(DataDirectory::open(disk, directory_params(), Trace()).ok());
  DataDirectory::Params p = directory_params();
  p.cluster_id = "other";
  auto refused = DataDirectory::open(disk, p, Trace());
  CHECK(refused.code() == ErrorCode::inconsistent_cluster_id);
  CHECK(refused.error().message.find("MkU3OEVBNTcwNTJENDM2Qg") != std::string::npos);
  CHECK(refused.error().message.find("other") != std::string::npos);
  p = directory_params();
  p.node_id = BrokerId(4);
  refused = DataDirectory::open(disk, p, Trace());
  CHECK(refused.code() == ErrorCode::invalid_config);
  CHECK(refused.error().message.find("node 3") != std::string::npos);
}

TEST_CASE("absent or damaged identities") {
  test::MemoryDisk disk;
  DataDirectory::Params p = directory_params();
  p.create = false;
  CHECK(DataDirectory::open(disk, p, Trace()).code() == ErrorCode::not_found);
  disk.put("/var/lib/millrace/meta.properties", to_bytes("version=1\nnode.id=x\n"));
  CHECK(DataDirectory::open(disk, p, Trace()).code() == ErrorCode::corrupt);
  disk.erase("/var/lib/millrace/meta.properties");
  disk.put("/var/lib/millrace/orders-0/00000000000000000000.log", {});
  // Partitions of nobody are not adopted.
  CHECK(DataDirectory::open(disk, directory_params(), Trace()).code() == ErrorCode::corrupt);
}

TEST_CASE("meta.properties as Java writes it") {
  const auto meta = parse_meta_properties(
      "#\n#Mon Nov 16 10:00:00 UTC 2026\n! comment\ncluster.id = abc\r\n\nnode.id=0\ndirectory.id="
      "QkJCQkJCQkJCQkJCQkJCQg\nversion=1\nunknown=1\n");
  REQUIRE(meta.ok());
  CHECK(meta->cluster_id == "abc");
  CHECK(meta->node_id == BrokerId(0));
  CHECK(parse_meta_properties(encode_meta_properties(*meta))->directory_id == meta->directory_id);
  for (const char* bad : {"", "version=0\ncluster.id=a\nnode.id=1\ndirectory.id=QkJCQkJCQkJCQkJCQkJCQg\n",
                          "version=1\ncluster.id=a\nnode.id=-1\ndirectory.id=QkJCQkJCQkJCQkJCQkJCQg\n",
                          "version=1\ncluster.id=a\nnode.id=1\n", "nonsense\n"}) {
    INFO(bad);
    CHECK(parse_meta_properties(bad).code() == ErrorCode::parse_error);
  }
}

TEST_CASE("a directory is claimed for a cluster once") {
  test::MemoryDisk disk;
  const auto open = [&](const std::string& cluster) {
    return DataDirectory::open(disk, {"/d", cluster, BrokerId(1), Uuid{{7}}, true}, Trace());
  };
  const std::string a = Uuid{{1}}.to_string();
  {
    const auto unclaimed = open("");
    REQUIRE(unclaimed.ok());
    CHECK((*unclaimed)->meta().cluster_id.empty());
    REQUIRE((*unclaimed)->claim(a).ok());
    CHECK((*unclaimed)->claim(a).ok());
    CHECK((*unclaimed)->claim("other").code() == ErrorCode::inconsistent_cluster_id);
  }
  disk.crash();
  {
    const auto again = open("");
    REQUIRE(again.ok());
    CHECK((*again)->meta().cluster_id == a);
    CHECK((*again)->id() == Uuid{{7}});
  }
  CHECK(open("other").code() == ErrorCode::inconsistent_cluster_id);
  // Partitions in a directory that names no cluster: somebody's data.
  disk.put("/d/meta.properties",
           to_bytes("version=1\nnode.id=1\ndirectory.id=" + Uuid{{7}}.to_string() + "\n"));
  disk.put("/d/t-0/00000000000000000000.log", {});
  CHECK(open(a).code() == ErrorCode::corrupt);
}

TEST_CASE("the clean-shutdown marker holds the broker epoch and is gone, durably, before the first append") {
  test::MemoryDisk disk;
  {
    auto d = DataDirectory::open(disk, directory_params(), Trace());
    REQUIRE((*d)->write_clean_marker(BrokerEpoch(77)).ok());
  }
  disk.settle();
  const std::string path = "/var/lib/millrace/.kafka_cleanshutdown";
  CHECK(as_text(disk.content(path)) == "{\"version\":0,\"brokerEpoch\":77}");
  {
    auto d = DataDirectory::open(disk, directory_params(), Trace());
    CHECK((*d)->was_clean());
    CHECK((*d)->last_broker_epoch() == BrokerEpoch(77));
    REQUIRE((*d)->remove_clean_marker().ok());
    REQUIRE((*d)->remove_clean_marker().ok());
  }
  disk.crash();
  {
    auto d = DataDirectory::open(disk, directory_params(), Trace());
    CHECK_FALSE((*d)->was_clean());
    CHECK((*d)->last_broker_epoch() == std::nullopt);
  }
  for (const char* odd :
       {"", "{}", "{\"brokerEpoch\":x}", "{\"brokerEpoch\"", "{\"brokerEpoch\":99999999999999999999}"}) {
    INFO(odd);
    disk.put(path, to_bytes(odd));
    auto d = DataDirectory::open(disk, directory_params(), Trace());
    REQUIRE(d.ok());
    CHECK((*d)->was_clean());
    CHECK((*d)->last_broker_epoch() == std::nullopt);
  }
}

TEST_CASE("listing partitions") {
  test::MemoryDisk disk;
  auto d = DataDirectory::open(disk, directory_params(), Trace());
  REQUIRE(d.ok());
  Uuid id;
  id.bytes.fill(7);
  for (const char* name :
       {"b-topic-10", "b-topic-2", "a-0", "lost+found", "a-0.0123456789abcdef0123456789abcdef-delete"}) {
    REQUIRE(disk.make_directories("/var/lib/millrace/" + std::string(name)).ok());
  }
  REQUIRE(write_partition_metadata(disk, (*d)->partition_path("b-topic", PartitionId(2)), id).ok());
  disk.put("/var/lib/millrace/a-0/partition.metadata", to_bytes("garbage"));
  const auto listing = (*d)->list();
  REQUIRE(listing.ok());
  REQUIRE(listing->partitions.size() == 3);
  CHECK(listing->partitions[0].topic == "a");
  CHECK(listing->partitions[0].topic_id == std::nullopt);
  CHECK(listing->partitions[1].topic == "b-topic");
  CHECK(listing->partitions[1].partition == PartitionId(2));
  CHECK(listing->partitions[1].topic_id == id);
  CHECK(listing->partitions[2].partition == PartitionId(10));
  CHECK(listing->being_deleted ==
        std::vector<std::string>{"/var/lib/millrace/a-0.0123456789abcdef0123456789abcdef-delete"});
  CHECK(listing->unknown == std::vector<std::string>{"/var/lib/millrace/lost+found"});
}

TEST_CASE("checkpoints: absent, written, torn, damaged") {
  test::MemoryDisk disk;
  auto d = DataDirectory::open(disk, directory_params(), Trace());
  CHECK((*d)->read_checkpoint(kRecoveryPointCheckpoint)->empty());
  const OffsetCheckpoint one{{{"t", PartitionId(0)}, Offset(5)}};
  const OffsetCheckpoint two{{{"t", PartitionId(0)}, Offset(9)}, {{"u", PartitionId(1)}, Offset(1)}};
  REQUIRE((*d)->write_checkpoint(kRecoveryPointCheckpoint, one).ok());
  CHECK(*(*d)->read_checkpoint(kRecoveryPointCheckpoint) == one);
  disk.torn_bytes = 4;
  disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  CHECK((*d)->write_checkpoint(kRecoveryPointCheckpoint, two).code() == ErrorCode::no_space);
  disk.fault = nullptr;
  CHECK(*(*d)->read_checkpoint(kRecoveryPointCheckpoint) == one);  // the old one or the new one
  REQUIRE((*d)->write_checkpoint(kRecoveryPointCheckpoint, two).ok());
  CHECK(*(*d)->read_checkpoint(kRecoveryPointCheckpoint) == two);
  disk.put("/var/lib/millrace/" + std::string(kLogStartCheckpoint), to_bytes("0\n5\n"));
  const auto damaged = (*d)->read_checkpoint(kLogStartCheckpoint);
  CHECK(damaged.code() == ErrorCode::corrupt);
  CHECK(damaged.error().message.find(kLogStartCheckpoint) != std::string::npos);
}

}  // namespace
}  // namespace millrace::log
