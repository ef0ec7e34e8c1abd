#include "log/checkpoints.h"
#include "log/data_directory.h"
#include "support/catch.h"
#include "support/memory_disk.h"

namespace millrace::log {
namespace {

TEST_CASE("topic ids beside the checkpoints") {
  const Uuid id = Uuid::from_random({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  const TopicIdCheckpoint ids{{{"orders", PartitionId(0)}, id}, {{"with space", PartitionId(7)}, Uuid{}}};
  const Result<TopicIdCheckpoint> parsed = parse_topic_ids(encode_topic_ids(ids));
  REQUIRE(parsed.ok());
  CHECK(*parsed == ids);
  for (const std::string_view bad :
       {"", "1\n0\n", "0\n1\n", "0\n1\norders 0 short\n", "0\n1\norders -1 AAAAAAAAAAAAAAAAAAAAAA\n",
        "0\n0\norders 0 AAAAAAAAAAAAAAAAAAAAAA\n"}) {
    INFO(bad);
    CHECK(parse_topic_ids(bad).code() == ErrorCode::parse_error);
  }
}

TEST_CASE("a data directory whose topic ids are missing or damaged says nothing about them") {
  test::MemoryDisk disk;
  DataDirectory::Params params;
  params.path = "/data";
  params.cluster_id = "c";
  params.node_id = BrokerId(1);
  params.new_directory_id = Uuid::from_random({});
  Result<std::unique_ptr<DataDirectory>> opened = DataDirectory::open(disk, params, Trace());
  REQUIRE(opened.ok());
  DataDirectory& directory = **opened;
  auto ids = directory.read_topic_ids();
  REQUIRE(ids.ok());
  CHECK_FALSE(ids->has_value());
  const TopicIdCheckpoint some{{{"orders", PartitionId(0)}, params.new_directory_id}};
  REQUIRE(directory.write_topic_ids(some).ok());
  ids = directory.read_topic_ids();
  REQUIRE((ids.ok() && ids->has_value()));
  CHECK(**ids == some);
  REQUIRE(disk.replace_file("/data/topic-id-checkpoint", as_bytes("nonsense")).ok());
  ids = directory.read_topic_ids();
  REQUIRE(ids.ok());
  CHECK_FALSE(ids->has_value());
}

}  // namespace
}  // namespace millrace::log
