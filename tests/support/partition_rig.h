// One partition on a memory disk, its pool and its loop driven by the test.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "partition/partition.h"
#include "record/batch_iterator.h"
#include "record/builder.h"
#include "support/catch.h"
#include "support/deferred_disk.h"
#include "support/manual_loop.h"
#include "support/memory_disk.h"

namespace millrace::partition::rig {

inline const std::string kHome = "/data";
inline const std::string kLogDirectory = "/data/orders-0";
inline constexpr EpochCheck kAnyEpoch{};

struct CountingWaiter final : CommitWaiter, DataWaiter {
  explicit CountingWaiter(io::Loop& l) : home(l) {}
  io::Loop& loop() override { return home; }
  void on_commit(uint64_t tag, ErrorCode outcome) override {
    CHECK(home.is_here());
    commits.emplace_back(tag, outcome);
  }
  void on_data(uint64_t tag) override {
    CHECK(home.is_here());
    data.push_back(tag);
  }
  io::Loop& home;
  std::vector<std::pair<uint64_t, ErrorCode>> commits;
  std::vector<uint64_t> data;
};

struct BatchSpec {
  int count = 1;
  size_t value_bytes = 20;
  ProducerId producer = kNoProducerId;
  int32_t sequence = record::kNoSequence;
};

inline Bytes batch(const BatchSpec& spec = {}) {
  record::BatchOptions options;
  if (spec.producer != kNoProducerId) {
    options.producer_id = spec.producer;
    options.producer_epoch = ProducerEpoch(0);
    options.base_sequence = spec.sequence;
  }
  record::BatchBuilder builder(options);
  const std::string value(spec.value_bytes, 'v');
  for (int i = 0; i < spec.count; ++i) {
    builder.append(1'700'000'000'000 + i, as_bytes("key"), as_bytes(value));
  }
  return builder.build();
}

struct Rig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  test::MemoryDisk files;
  test::DeferredDisk disk{files};
  std::vector<std::pair<std::string, ErrorCode>> failures;  // on_storage_failure
  PartitionConfig config;
  BrokerId self{1};
  std::shared_ptr<DirectoryState> directory_state;  // none: a directory that is never full and never fails
  std::shared_ptr<Standing> standing = std::make_shared<Standing>();  // a session without end
  std::shared_ptr<Partition> partition;
  std::shared_ptr<CountingWaiter> waiter = std::make_shared<CountingWaiter>(loop);

  Rig() {
    standing->hold_until(kNoDeadline, 0);
    REQUIRE(files.make_directories(kHome).ok());
    files.settle();
  }

  void open() {
    log::OpenParams params;
    params.directory = kLogDirectory;
    params.config = config.log;
    params.now = clock.now();
    params.create = true;
    Result<std::unique_ptr<log::Log>> opened = log::Log::open(disk, std::move(params), Trace());
    REQUIRE(opened.ok());
    Partition::Environment environment;
    environment.disk = &disk;
    environment.clock = &clock;
    environment.self = self;
    environment.directory_state = directory_state;
    environment.standing = standing;
    environment.on_storage_failure = [this](const std::string& directory, const Error& error) {
      failures.emplace_back(directory, error.code);
    };
    partition =
        std::make_shared<Partition>(environment, PartitionName{"orders", PartitionId(0)}, Uuid{}, kHome,
                                    std::make_shared<const PartitionConfig>(config), std::move(*opened));
  }
  /// Opens and leads in epoch 5, alone.
  void lead() {
    if (!partition) open();
    const Status led = partition->lead({LeaderEpoch(5), {BrokerId(1)}, 1});
    REQUIRE(led.ok());
  }
  void configure() { partition->configure(std::make_shared<const PartitionConfig>(config), 1); }

  Result<Appended> try_append(const BatchSpec& spec = {}, bool acks_all = true) {
    Result<Appended> result = ErrorCode::unknown_server_error;
    Bytes bytes = batch(spec);
    loop.in_tick([&] { result = partition->append(bytes, acks_all, loop, clock.now()); });
    return result;
  }
  Appended append(const BatchSpec& spec = {}, bool acks_all = true) {
    Result<Appended> result = try_append(spec, acks_all);
    INFO((result.ok() ? std::string() : result.error().message));
    REQUIRE(result.ok());
    return *result;
  }
  bool await_commit(Offset at, uint64_t tag) {
    bool done = false;
    loop.in_tick([&] { done = partition->await_commit(at, waiter, tag); });
    return done;
  }
  /// The oldest work of the pool, and what comes of it.
  bool run_disk() {
    loop.settle();
    const bool some = disk.run_one();
    loop.settle();
    return some;
  }
  void run_all() {
    while (run_disk()) {
    }
  }
  Offsets offsets() const {
    const Result<Offsets> o = partition->offsets();
    REQUIRE(o.ok());
    return *o;
  }
  Offset high_watermark() const { return offsets().high_watermark; }
  Result<Fetched> try_fetch(Offset from, size_t bytes_max = 1 << 20, bool at_least_one = true,
                            EpochCheck check = {}) {
    return partition->fetch(from, bytes_max, at_least_one, Isolation::read_uncommitted, check, seen);
  }
  /// Base offsets of what a fetch gives.
  std::vector<int64_t> fetch(Offset from, size_t bytes_max = 1 << 20, bool at_least_one = true) {
    Result<Fetched> fetched = try_fetch(from, bytes_max, at_least_one);
    REQUIRE(fetched.ok());
    std::vector<int64_t> out;
    size_t bytes = 0;
    for (const auto& region : fetched->regions) {
      Bytes content(region->length);
      const Result<size_t> got = region->file->read_at(region->position, content);
      REQUIRE(got.ok());
      REQUIRE(*got == content.size());
      bytes += content.size();
      record::BatchIterator batches(content);
      while (true) {
        const auto next = batches.next();
        REQUIRE(next.ok());
        if (!*next) break;
        out.push_back((*next)->base_offset().v);
      }
      CHECK(batches.torn_bytes() == 0);
    }
    CHECK(bytes == fetched->bytes);
    return out;
  }
  Offsets seen;  // by the last fetch
};

using Told = std::vector<std::pair<uint64_t, ErrorCode>>;

}  // namespace millrace::partition::rig
