// Which coordinators go on when the metadata change.
#include "broker/group_shards.h"

#include "support/catch.h"
#include "support/partition_rig.h"

namespace millrace::broker {

TEST_CASE("a coordinator goes on in its own epoch of its own partition", "[groups]") {
  partition::rig::Rig one;
  partition::rig::Rig other;
  one.lead();
  other.lead();
  GroupRunner::Environment environment{&one.loop, &one.disk, &one.clock, Trace()};
  const auto runner = std::make_shared<GroupRunner>(std::move(environment), one.partition, [] {
    return std::make_unique<group::GroupShard>(group::GroupLimits(), Trace());
  });
  GroupShards shards;
  shards.by_partition = {runner, nullptr};
  shards.epochs = {LeaderEpoch(5), LeaderEpoch(5)};
  CHECK(shards.kept(0, one.partition, LeaderEpoch(5)) == runner);
  // Another broker led in epoch 6, which no image showed: what it wrote is to be read.
  CHECK(shards.kept(0, one.partition, LeaderEpoch(7)) == nullptr);
  CHECK(shards.kept(0, other.partition, LeaderEpoch(5)) == nullptr);
  CHECK(shards.kept(1, one.partition, LeaderEpoch(5)) == nullptr);
  CHECK(shards.kept(2, one.partition, LeaderEpoch(5)) == nullptr);
}

}  // namespace millrace::broker
