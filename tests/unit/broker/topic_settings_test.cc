// Configuration values as partitions are told them.
#include "broker/topic_settings.h"

#include "support/catch.h"

namespace millrace::broker {
namespace {

TEST_CASE("of throttled replicas each broker takes its own") {
  const std::vector<std::string> list{"3:1", "0:1", "1:2", "7:12"};
  const partition::ThrottledPartitions one = throttled_partitions(list, BrokerId(1));
  CHECK(one.numbers == std::vector<int32_t>{0, 3});
  CHECK_FALSE(one.all);
  CHECK(throttled_partitions(list, BrokerId(2)).numbers == std::vector<int32_t>{1});
  CHECK(throttled_partitions(list, BrokerId(5)).numbers.empty());
  CHECK(throttled_partitions({"*"}, BrokerId(5)).all);
  CHECK_FALSE(throttled_partitions({}, BrokerId(5)).contains(0));
  // What the check of the option lets through from elsewhere does no harm.
  CHECK(throttled_partitions({"", ":", "x:1", "1:x", "-1:1", "99999999999:1", "5:1"}, BrokerId(1)).numbers ==
        std::vector<int32_t>{5});
}

TEST_CASE("a partition's configuration has the throttles of this broker") {
  meta::TopicConfig topic;
  topic.leader_throttled_replicas = {"0:1", "1:2"};
  topic.follower_throttled_replicas = {"*"};
  const partition::PartitionConfig config = partition_config_of(topic, BrokerId(2));
  CHECK_FALSE(config.throttled_as_leader.contains(0));
  CHECK(config.throttled_as_leader.contains(1));
  CHECK(config.throttled_as_follower.contains(0));
}

}  // namespace
}  // namespace millrace::broker
