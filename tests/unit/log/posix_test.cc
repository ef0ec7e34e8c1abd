// The same log on a real file system.
#include <sys/stat.h>

#include <cstdlib>

#include "io/posix_disk.h"
#include "log/verify.h"
#include "log_fixture.h"
#include "record/control_batch.h"
#include "unit/io/temp_directory.h"

namespace millrace::log {
namespace {

using namespace fixture;

void fill_posix_log(Log& log) {
  for (int i = 0; i < 300; ++i) {
    BatchSpec spec;
    spec.count = 1 + i % 5;
    spec.timestamp = kT0 + 10 * i;
    spec.codec = static_cast<record::Codec>(i % 5);
    if (i % 3 == 0) {
      spec.producer = ProducerId(9);
      spec.epoch = ProducerEpoch(0);
      const ProducerEntry* known = log.producers().find(spec.producer);
      spec.sequence = known == nullptr || known->batch_count == 0 ? 0 : known->last_sequence() + 1;
      spec.transactional = true;
    }
    Bytes bytes = batch(spec);
    const auto appended = log.append_as_leader(bytes, LeaderEpoch(i / 100), at_ms(i));
    REQUIRE(appended.ok());
    if (i % 15 == 12) {
      record::EndTransactionMarker m;
      m.producer_id = ProducerId(9);
      m.producer_epoch = ProducerEpoch(0);
      m.commit = i % 2 == 0;
      m.coordinator_epoch = 1;
      Bytes marker_bytes = record::build_marker(m, kT0 + 10 * i);
      REQUIRE(log.append_as_leader(marker_bytes, LeaderEpoch(i / 100), at_ms(i)).ok());
    }
  }
}

OpenParams posix_params(const std::string& directory) {
  OpenParams p;
  p.directory = directory;
  p.config.segment_bytes = 8000;
  p.config.index_interval_bytes = 300;
  p.config.retention_ms = 1000;
  p.config.file_delete_delay_ms = 0;
  p.config.preallocate = true;
  p.now = at_ms(0);
  p.create = true;
  return p;
}

TEST_CASE("a large segment has blocks beyond its end, until it is closed or rolled") {
  io::TempDirectory directory;
  io::PosixDisk disk({.descriptors_max = 5, .threads = 1});
  OpenParams p = posix_params(directory.at("orders-0"));
  p.config.preallocate = false;
  p.config.segment_bytes = 3 << 20;
  const auto open = [&] {
    auto opened = Log::open(disk, p, Trace());
    REQUIRE(opened.ok());
    return std::move(*opened);
  };
  const auto beyond = [&](int64_t base) {
    struct stat status{};
    const std::string path = io::join_path(p.directory, file_name(Offset(base), FileKind::log));
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_blocks * 512 - status.st_size;
  };
  std::unique_ptr<Log> log = open();
  BatchSpec large;
  large.value_bytes = 100'000;
  const auto append = [&](int count) {
    for (int i = 0; i < count; ++i) {
      Bytes bytes = batch(large);
      REQUIRE(log->append_as_leader(bytes, LeaderEpoch(0), at_ms(0)).ok());
    }
  };
  append(8);
  CHECK(beyond(0) < 50'000);  // small ones have none
  append(8);
  CHECK(beyond(0) > 50'000);
  REQUIRE(log->close(true).ok());
  CHECK(beyond(0) < 50'000);
  log = open();
  append(20);
  REQUIRE(log->segment_count() == 2);
  CHECK(beyond(0) < 50'000);
}

TEST_CASE("a log on a real file system: written, killed, reopened, retired, removed") {
  io::TempDirectory directory;
  io::PosixDisk disk({.descriptors_max = 5, .threads = 1});  // fewer than there are files
  OpenParams p = posix_params(directory.at("orders-0"));
  Bytes all;
  {
    auto log = Log::open(disk, p, Trace());
    REQUIRE(log.ok());
    fill_posix_log(**log);
    REQUIRE((*log)->segment_count() > 3);
    REQUIRE((*log)->flush().ok());
    for (Offset at(0); at < (*log)->log_end_offset();) {
      const auto r = (*log)->read(at, 10'000, (*log)->log_end_offset(), true);
      REQUIRE(r.ok());
      const Bytes bytes = *Log::read_bytes(*r);
      all.insert(all.end(), bytes.begin(), bytes.end());
      at = r->next_offset;
    }
    REQUIRE(all.size() == (*log)->size_bytes());
    p.recovery_point = (*log)->recovery_point();
  }
  // Killed while it wrote.
  {
    const auto entries = disk.list(p.directory);
    std::string last;
    for (const auto& entry : *entries) {
      if (entry.name.ends_with(".log")) last = entry.name;
    }
    const auto file = disk.open(io::join_path(p.directory, last), io::OpenMode::write);
    REQUIRE((*file)->write_at(*(*file)->size(), Bytes(77, 3)).ok());
  }
  RecoveryStats stats;
  auto log = Log::open(disk, p, Trace(), &stats);
  REQUIRE(log.ok());
  CHECK(stats.bytes_cut == 77);
  CHECK((*log)->size_bytes() == all.size());
  const Offset end = (*log)->log_end_offset();
  CHECK_FALSE((*log)->aborted_transactions(Offset(0), end)->empty());
  CHECK((*(*log)->offset_for_timestamp(kT0 + 1000, end))->timestamp == kT0 + 1000);
  REQUIRE((*log)->close(true).ok());
  const auto verified = verify_partition(disk, p.directory);
  REQUIRE(verified.ok());
  for (const Finding& finding : verified->findings.list) UNSCOPED_INFO(text_of(finding));
  CHECK(verified->findings.damages == 0);

  p.clean_shutdown = true;
  p.recovery_point = end;
  log = Log::open(disk, p, Trace(), &stats);
  REQUIRE(log.ok());
  const auto held = (*log)->read(Offset(0), 10'000, end, true);
  const auto deleted = (*log)->delete_old_segments(at_ms(10'000'000), end);
  REQUIRE(deleted.ok());
  CHECK(deleted->base_offsets.size() > 3);
  CHECK((*log)->remove_pending(at_ms(10'000'000)) > 8);
  CHECK(*Log::read_bytes(*held) ==
        Bytes(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(held->bytes)));
  CHECK((*log)->truncate_to(Offset(5), at_ms(0)).ok());
  CHECK((*log)->log_end_offset() == Offset(5));
  REQUIRE((*log)->rename_for_removal(directory.at("orders-0.gone-delete")).ok());
  CHECK_FALSE(disk.exists(p.directory));
  REQUIRE(disk.remove_tree(directory.at("orders-0.gone-delete")).ok());
}

// Not run by itself: writes a partition for another program to look at (kafka-dump-log).
TEST_CASE("export a partition", "[.export]") {
  const char* target = std::getenv("MILLRACE_EXPORT_DIRECTORY");
  if (target == nullptr) return;
  io::PosixDisk disk({.descriptors_max = 100, .threads = 1});
  OpenParams p = posix_params(std::string(target) + "/orders-0");
  auto log = Log::open(disk, p, Trace());
  REQUIRE(log.ok());
  fill_posix_log(**log);
  REQUIRE((*log)->close(true).ok());
}

}  // namespace
}  // namespace millrace::log
