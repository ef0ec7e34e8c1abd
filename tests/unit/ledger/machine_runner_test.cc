#include "ledger/machine_runner.h"

#include <algorithm>
#include <map>

#include "base/endian.h"
#include "support/partition_rig.h"

namespace millrace::ledger {
namespace {

// A machine of named sums.
using SumToken = Strong<struct SumTokenTag, uint64_t>;

struct SumOutput {
  struct Reply {
    SumToken token;
    int64_t response = 0;
  };
  struct Record {
    Bytes key;
    std::optional<Bytes> value;
  };
  std::vector<Reply> replies;
  std::vector<Record> records;
};

struct Add {
  std::string name;
  uint8_t amount = 0;
};
struct Look {
  std::string name;
};
struct Forget {
  std::string name;
};
struct Context {};

class SumMachine {
 public:
  std::map<std::string, int64_t> sums;
  int64_t deadline_ms = kNoDeadline;
  int ticks = 0;
  int loads = 0;
  std::vector<int64_t> stamps;

  void handle(SumToken token, const Add& request, const Context&, Now, SumOutput& out) {
    out.records.push_back({to_bytes(request.name), Bytes{request.amount}});
    out.replies.push_back({token, sums[request.name] + request.amount});
  }
  void handle(SumToken token, const Look& request, const Context&, Now, SumOutput& out) {
    out.replies.push_back({token, sums.contains(request.name) ? sums.at(request.name) : -1});
  }
  void handle(SumToken token, const Forget& request, const Context&, Now, SumOutput& out) {
    out.records.push_back({to_bytes(request.name), std::nullopt});
    out.replies.push_back({token, 0});
  }
  void apply(ByteView key, std::optional<ByteView> value, Now now) {
    stamps.push_back(now.wall_ms);
    const std::string name(as_text(key));
    if (!value) {
      sums.erase(name);
    } else {
      sums[name] += value->front();
    }
  }
  void tick(Now, SumOutput& out) {
    ++ticks;
    deadline_ms = kNoDeadline;
    out.records.push_back({to_bytes(std::string_view("ticks")), Bytes{1}});
  }
  int64_t next_deadline_mono_ms() const { return deadline_ms; }
  void on_loaded(Now) { ++loads; }
};

using Runner = MachineRunner<SumMachine, SumToken, SumOutput, Context, int64_t>;

struct RunnerLines final : TraceSink {
  std::vector<std::string> lines;
  void write(TraceLevel, std::string_view, std::string_view message) override { lines.emplace_back(message); }
  size_t count(std::string_view what) const {
    return static_cast<size_t>(std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
      return line.find(what) != std::string::npos;
    }));
  }
};

struct MachineRig : partition::rig::Rig {
  RunnerLines trace;
  std::shared_ptr<Runner> runner;
  int made = 0;
  int64_t first_deadline_ms = kNoDeadline;
  std::vector<std::pair<std::string, int64_t>> answers;  // name of the request, sum
  std::vector<std::pair<std::string, ErrorCode>> errors;

  void make() {
    Runner::Environment environment;
    environment.loop = &loop;
    environment.disk = &disk;
    environment.clock = &clock;
    environment.trace = Trace(&trace, "ledger");
    runner = std::make_shared<Runner>(environment, partition, [this] {
      ++made;
      auto machine = std::make_unique<SumMachine>();
      machine->deadline_ms = first_deadline_ms;
      return machine;
    });
  }
  void start() {
    if (!partition) lead();
    make();
    loop.in_tick([&] { runner->start(); });
    run_all();
  }
  template <class Request>
  void ask(const std::string& name, const Request& request) {
    loop.in_tick([&] {
      runner->submit(request, Context{}, [this, name](Result<int64_t> answer) {
        if (answer.ok()) {
          answers.emplace_back(name, *answer);
        } else {
          errors.emplace_back(name, answer.code());
        }
      });
    });
  }
};

using Answers = std::vector<std::pair<std::string, int64_t>>;
using Errors = std::vector<std::pair<std::string, ErrorCode>>;

TEST_CASE("a reply waits for the commit of its records", "[ledger]") {
  MachineRig r;
  r.start();
  REQUIRE(r.runner->active());
  r.ask("add", Add{"a", 5});
  r.loop.settle();
  CHECK(r.answers.empty());
  CHECK(r.runner->machine()->sums.at("a") == 5);  // applied at once: later requests build on it
  r.run_all();
  CHECK(r.answers == Answers{{"add", 5}});
}

TEST_CASE("replies keep the order of their requests", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("first", Add{"a", 1});
  r.ask("look", Look{"a"});  // saw what is not committed: it waits, too
  r.ask("second", Add{"a", 2});
  r.loop.settle();
  CHECK(r.answers.empty());
  r.run_disk();
  CHECK(r.answers == Answers{{"first", 1}, {"look", 1}});
  r.run_all();
  CHECK(r.answers == Answers{{"first", 1}, {"look", 1}, {"second", 3}});
  r.ask("free", Look{"a"});  // nothing is open: at once
  CHECK(r.answers.back() == std::pair<std::string, int64_t>{"free", 3});
}

TEST_CASE("requests before the end of loading are told to come again", "[ledger]") {
  MachineRig r;
  r.lead();
  r.make();
  r.ask("never started", Look{"a"});
  (void)r.append();
  r.run_all();
  r.loop.in_tick([&] { r.runner->start(); });
  r.ask("loading", Look{"a"});
  CHECK(r.errors == Errors{{"never started", ErrorCode::coordinator_load_in_progress},
                           {"loading", ErrorCode::coordinator_load_in_progress}});
  r.run_all();
  CHECK(r.runner->active());
}

TEST_CASE("a machine is loaded from its log", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("1", Add{"a", 1});
  r.ask("2", Add{"b", 10});
  r.ask("3", Add{"c", 7});
  r.loop.advance(5'000);
  r.ask("4", Add{"a", 2});
  r.ask("5", Forget{"b"});
  r.run_all();
  REQUIRE(r.answers.size() == 5);
  const SumMachine& before = *r.runner->machine();
  const auto sums = before.sums;
  const auto stamps = before.stamps;
  CHECK(sums == std::map<std::string, int64_t>{{"a", 3}, {"c", 7}});
  r.loop.advance(60'000);
  r.loop.in_tick([&] { r.runner->stop(ErrorCode::not_coordinator); });
  const std::shared_ptr<Runner> old = r.runner;
  r.start();
  REQUIRE(r.runner->active());
  CHECK(r.runner->machine()->sums == sums);
  CHECK(r.runner->machine()->stamps == stamps);  // the records' times, not today's
  CHECK(r.runner->machine()->loads == 1);
  r.ask("look", Look{"a"});
  CHECK(r.answers.back() == std::pair<std::string, int64_t>{"look", 3});
}

TEST_CASE("a log of many steps is read whole, from its start", "[ledger]") {
  MachineRig r;
  r.config.log.segment_bytes = 2'000;  // a read never goes beyond a segment
  r.start();
  for (int i = 0; i < 300; ++i) {
    r.ask("n", Add{"n" + std::to_string(i % 7), 1});
    r.run_all();
  }
  REQUIRE(r.answers.size() == 300);
  const auto sums = r.runner->machine()->sums;
  CHECK(r.partition->usage().segments > 5);
  SECTION("all of it") {
    r.start();
    CHECK(r.runner->machine()->sums == sums);
  }
  SECTION("what was deleted is not read") {
    REQUIRE(r.partition->delete_records(Offset(290)).ok());
    r.start();
    int64_t total = 0;
    for (const auto& [name, sum] : r.runner->machine()->sums) total += sum;
    CHECK(total == 10);
  }
}

TEST_CASE("an append that fails discards the machine and loads it again", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("kept", Add{"a", 1});
  r.run_all();
  CHECK(r.answers == Answers{{"kept", 1}});
  r.files.capacity = r.files.used();
  r.ask("refused", Add{"a", 100});
  CHECK(r.errors ==
        Errors{{"refused", ErrorCode::coordinator_not_available}});  // for want of space: ask again
  CHECK_FALSE(r.runner->active());
  r.ask("meanwhile", Look{"a"});
  CHECK(r.errors.back() ==
        std::pair<std::string, ErrorCode>{"meanwhile", ErrorCode::coordinator_load_in_progress});
  r.files.capacity = UINT64_MAX;
  r.loop.advance(1'000);
  r.run_all();
  REQUIRE(r.runner->active());
  CHECK(r.made == 2);
  r.ask("look", Look{"a"});
  r.ask("again", Add{"a", 2});
  r.run_all();
  CHECK(r.answers == Answers{{"kept", 1}, {"look", 1}, {"again", 3}});
}

TEST_CASE("too few replicas: the coordinator is not available", "[ledger]") {
  MachineRig r;
  r.start();
  r.config.min_insync_replicas = 2;
  r.partition->configure(std::make_shared<const partition::PartitionConfig>(r.config), 3);
  r.ask("refused", Add{"a", 1});
  CHECK(r.errors == Errors{{"refused", ErrorCode::coordinator_not_available}});
}

TEST_CASE("a partition that stops answers all who wait and discards the machine", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("a", Add{"a", 1});
  r.ask("b", Look{"a"});
  ErrorCode told = ErrorCode::coordinator_not_available;
  SECTION("while they wait: it may or may not have happened") {
    r.loop.in_tick([&] { r.partition->stop(ErrorCode::not_leader_or_follower); });
    CHECK(r.errors.size() == 2);
  }
  SECTION("by a failed disk") {
    r.files.fault = [](test::DiskOp op, const std::string&) {
      return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
    };
    r.run_disk();
    CHECK(r.failures.size() == 1);
  }
  REQUIRE(r.errors.size() == 2);
  CHECK(r.errors[0].second == told);
  CHECK(r.errors[1].second == told);
  CHECK(r.answers.empty());
  CHECK_FALSE(r.runner->active());
  // It tries again, in vain, and tells nobody twice.
  r.loop.advance(5'000);
  CHECK(r.made > 3);
  CHECK(r.trace.count("loading failed") == 1);
  CHECK_FALSE(r.runner->active());
  CHECK(r.errors.size() == 2);
}

TEST_CASE("an append after the partition stopped: another broker coordinates", "[ledger]") {
  MachineRig r;
  r.start();
  r.loop.in_tick([&] { r.partition->stop(ErrorCode::not_leader_or_follower); });
  r.ask("late", Add{"a", 1});
  CHECK(r.errors == Errors{{"late", ErrorCode::not_coordinator}});
}

TEST_CASE("loading waits until everything appended is committed", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("slow", Add{"a", 1});  // its sync takes long
  r.loop.settle();
  REQUIRE(r.disk.waiting() == 1);
  r.files.capacity = r.files.used();
  r.ask("refused", Add{"a", 100});
  CHECK(r.errors.size() == 2);
  r.files.capacity = UINT64_MAX;
  r.loop.advance(3'000);
  CHECK_FALSE(r.runner->active());
  r.run_all();  // and no time passes
  REQUIRE(r.runner->active());
  CHECK(r.runner->machine()->sums.at("a") == 1);  // it was committed after all
  const int made = r.made;
  r.loop.advance(Runner::kRestartMs * 2);
  r.run_all();
  CHECK(r.made == made);  // nothing begins it again
}

TEST_CASE("who is told of a failure may ask again at once", "[ledger]") {
  MachineRig r;
  r.start();
  r.files.capacity = r.files.used();
  int asked = 0;
  std::vector<ErrorCode> codes;
  r.loop.in_tick([&] {
    r.runner->submit(Add{"a", 1}, Context{}, [&](Result<int64_t> first) {
      codes.push_back(first.code());
      ++asked;
      r.runner->submit(Look{"a"}, Context{}, [&](Result<int64_t> second) { codes.push_back(second.code()); });
    });
  });
  CHECK(asked == 1);
  CHECK(codes == std::vector<ErrorCode>{ErrorCode::coordinator_not_available,
                                        ErrorCode::coordinator_load_in_progress});
}

TEST_CASE("stopping answers who waits and refuses the rest", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("open", Add{"a", 1});
  r.loop.in_tick([&] { r.runner->stop(ErrorCode::not_coordinator); });
  r.ask("late", Look{"a"});
  // What is appended may be found by the next coordinator; what comes now surely not.
  CHECK(r.errors ==
        Errors{{"open", ErrorCode::coordinator_not_available}, {"late", ErrorCode::not_coordinator}});
  r.run_all();  // the commit comes; nobody is left to be told
  r.loop.advance(5'000);
  CHECK(r.answers.empty());
  CHECK(r.errors.size() == 2);
}

TEST_CASE("the machine's deadline wakes it, and what it records is committed", "[ledger]") {
  MachineRig r;
  r.lead();
  r.first_deadline_ms = r.clock.now().mono_ms + 500;
  r.start();
  r.loop.advance(499);
  CHECK(r.runner->machine()->ticks == 0);
  r.loop.advance(1);
  CHECK(r.runner->machine()->ticks == 1);
  r.run_all();
  CHECK(r.runner->machine()->sums.at("ticks") == 1);
  CHECK(r.high_watermark() == Offset(1));
  r.loop.advance(10'000);
  CHECK(r.runner->machine()->ticks == 1);
}

TEST_CASE("a log that cannot be read leaves the coordinator loading", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("a", Add{"a", 1});
  r.run_all();
  r.loop.in_tick([&] { r.runner->stop(ErrorCode::not_coordinator); });
  bool broken = true;
  r.files.fault = [&](test::DiskOp op, const std::string&) {
    return broken && op == test::DiskOp::read ? ErrorCode::io_error : ErrorCode::none;
  };
  r.start();
  CHECK_FALSE(r.runner->active());
  broken = false;
  r.loop.advance(1'000);
  r.run_all();
  REQUIRE(r.runner->active());
  CHECK(r.runner->machine()->sums.at("a") == 1);
}

TEST_CASE("a batch whose bytes changed is found before the machine sees it", "[ledger]") {
  MachineRig r;
  r.start();
  r.ask("a", Add{"a", 1});
  r.run_all();
  std::string path;
  for (const std::string& p : r.files.paths()) {
    if (p.ends_with(".log")) path = p;
  }
  r.files.flip_bit(path, r.files.content(path).size() - 2, 3);
  auto reader = std::make_shared<PartitionReader>(r.disk, r.loop, r.partition);
  std::optional<ErrorCode> end;
  int records = 0;
  r.loop.in_tick([&] {
    reader->run([&](const StoredRecord&) { ++records; }, [&](Status s, uint64_t) { end = s.code(); });
  });
  r.run_all();
  REQUIRE(end.has_value());
  CHECK(*end == ErrorCode::kafka_storage_error);  // what the partition's door says of damage
  CHECK(records == 0);
}

TEST_CASE("a reader gives offsets, tombstones and the count, and skips what has no key", "[ledger]") {
  MachineRig r;
  r.lead();
  record::BatchBuilder builder;
  builder.append(1'000, as_bytes("k"), as_bytes("v"));
  builder.append(1'001, as_bytes("k"), std::nullopt);
  builder.append(1'002, std::nullopt, as_bytes("nameless"));
  builder.append(1'003, as_bytes("last"), as_bytes(""));
  Bytes bytes = builder.build();
  r.loop.in_tick([&] { REQUIRE(r.partition->append(bytes, true, r.loop, r.clock.now()).ok()); });
  r.run_all();
  auto reader = std::make_shared<PartitionReader>(r.disk, r.loop, r.partition);
  std::vector<std::string> seen;
  std::optional<uint64_t> count;
  r.loop.in_tick([&] {
    reader->run(
        [&](const StoredRecord& record) {
          seen.push_back(std::to_string(record.offset.v) + "@" + std::to_string(record.timestamp_ms) + " " +
                         std::string(as_text(record.key)) + "=" +
                         (record.value ? std::string(as_text(*record.value)) : "(none)"));
        },
        [&](Status s, uint64_t n) {
          CHECK(s.ok());
          count = n;
        });
  });
  r.run_all();
  REQUIRE(count.has_value());
  CHECK(*count == 3);
  REQUIRE(seen.size() == 3);
  CHECK(seen[0] == "0@1000 k=v");
  CHECK(seen[1] == "1@1001 k=(none)");
  CHECK(seen[2] == "3@1003 last=");
}

}  // namespace
}  // namespace millrace::ledger
