// What a broker tells the controller about its directories: once each, again when it could not be told.
#include "broker/directory_reports.h"

#include <deque>

#include "support/catch.h"
#include "support/manual_loop.h"

namespace millrace::broker {
namespace {

Uuid directory_uuid(uint8_t n) {
  Uuid u;
  u.bytes.fill(n);
  return u;
}

struct ReportRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  std::deque<std::pair<control::AssignDirectories, DirectoryReports::Done>> asked;
  DirectoryReports reports{loop, [this](control::AssignDirectories r, DirectoryReports::Done d) {
                             asked.emplace_back(std::move(r), std::move(d));
                           }};

  control::AssignDirectories answer(Result<control::AssignDirectoriesReply> r) {
    REQUIRE(!asked.empty());
    auto [request, done] = std::move(asked.front());
    asked.pop_front();
    done(std::move(r));
    return request;
  }
};

control::PartitionKey partition_key(int32_t n) {
  return {directory_uuid(9), PartitionId(n)};
}

}  // namespace

TEST_CASE("directories are reported once", "[directory_reports]") {
  ReportRig rig;
  rig.reports.note(partition_key(0), directory_uuid(1));
  rig.reports.note(partition_key(1), directory_uuid(2));
  rig.reports.send(BrokerId(3), BrokerEpoch(-1));
  CHECK(rig.asked.empty());  // it has not registered
  rig.reports.send(BrokerId(3), BrokerEpoch(4));
  rig.reports.send(BrokerId(3), BrokerEpoch(4));
  REQUIRE(rig.asked.size() == 1);
  const control::AssignDirectories request = rig.answer(control::AssignDirectoriesReply{});
  CHECK(request.broker == BrokerId(3));
  CHECK(request.epoch == BrokerEpoch(4));
  CHECK(request.directories.at(directory_uuid(1)) == std::vector{partition_key(0)});
  CHECK(request.directories.at(directory_uuid(2)) == std::vector{partition_key(1)});
  rig.loop.advance(5'000);
  CHECK(rig.asked.empty());
}

TEST_CASE("a report that failed is sent again, with what is newer", "[directory_reports]") {
  ReportRig rig;
  rig.reports.note(partition_key(0), directory_uuid(1));
  rig.reports.note(partition_key(1), directory_uuid(1));
  rig.reports.send(BrokerId(3), BrokerEpoch(4));
  rig.reports.note(partition_key(1), directory_uuid(2));
  (void)rig.answer(Error(ErrorCode::closed, "lost"));
  CHECK(rig.asked.empty());
  rig.loop.advance(1'000);
  const control::AssignDirectories again = rig.answer(control::AssignDirectoriesReply{});
  CHECK(again.directories.at(directory_uuid(1)) == std::vector{partition_key(0)});
  CHECK(again.directories.at(directory_uuid(2)) == std::vector{partition_key(1)});
}

TEST_CASE("many directories are reported in pieces", "[directory_reports]") {
  ReportRig rig;
  for (int32_t i = 0; i < 4'500; ++i) rig.reports.note(partition_key(i), directory_uuid(1));
  rig.reports.send(BrokerId(3), BrokerEpoch(4));
  size_t told = 0;
  while (!rig.asked.empty())
    told += rig.answer(control::AssignDirectoriesReply{}).directories.at(directory_uuid(1)).size();
  CHECK(told == 4'500);
}

}  // namespace millrace::broker
