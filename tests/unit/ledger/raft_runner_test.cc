#include "ledger/raft_runner.h"

#include "support/catch.h"
#include "support/deferred_disk.h"
#include "support/manual_loop.h"
#include "support/memory_disk.h"

namespace millrace::ledger {
namespace {

struct RunnerRig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  test::MemoryDisk files;
  test::DeferredDisk disk{files};
  test::SeededRandom random;
  std::unique_ptr<RaftRunner> runner;
  std::vector<std::string> committed;  // payload entries, "index:payload"
  std::vector<std::string> snapshots;  // "index:state"
  std::vector<BrokerId> leaders;
  std::vector<bool> leadership;
  std::vector<ErrorCode> failures;

  RunnerRig() {
    REQUIRE(files.make_directories("/data").ok());
    files.settle();
  }
  void start() {
    committed.clear();
    leadership.clear();
    RaftRunner::Environment environment;
    environment.loop = &loop;
    environment.disk = &disk;
    environment.clock = &clock;
    environment.random = &random;
    runner = std::make_unique<RaftRunner>(environment);
    REQUIRE(runner->open("/data/__cluster_metadata-0").ok());
    RaftRunner::Handlers handlers;
    handlers.on_commit = [this](const std::vector<raft::Entry>& entries) {
      for (const raft::Entry& e : entries) {
        if (e.kind != raft::EntryKind::payload) continue;
        committed.push_back(std::to_string(e.index.v) + ":" + std::string(as_text(e.payload.view())));
      }
    };
    handlers.on_leadership = [this](bool leading) { leadership.push_back(leading); };
    handlers.on_failure = [this](const Error& e) { failures.push_back(e.code); };
    handlers.send = [](const std::vector<raft::Message>&) {};
    handlers.on_leader = [this](BrokerId leader) { leaders.push_back(leader); };
    handlers.on_snapshot = [this](const raft::SnapshotMeta& meta, const Slice& state) {
      snapshots.push_back(std::to_string(meta.index.v) + ":" + std::string(as_text(state.view())));
      committed.clear();
    };
    RaftRunner::Quorum quorum;
    quorum.self = BrokerId(1);
    quorum.initial.voters = {BrokerId(1)};
    loop.in_tick([&] { runner->start(std::move(quorum), std::move(handlers)); });
  }
  /// Everything the pool has to do and what follows from it.
  void run_disk() {
    loop.settle();
    while (disk.run_one()) loop.settle();
  }
  void lead() {
    start();
    for (int i = 0; i < 100 && !(runner->leading() && leadership == std::vector<bool>{true}); ++i) {
      run_disk();
      loop.advance(100);
    }
    run_disk();
    REQUIRE(runner->leading());
    REQUIRE(leadership == std::vector<bool>{true});
  }
  Result<LogIndex> propose(std::string_view payload) {
    Result<LogIndex> index = ErrorCode::unknown_server_error;
    loop.in_tick([&] { index = runner->propose(to_bytes(payload)); });
    return index;
  }
};

TEST_CASE("the only voter leads after its own word is durable", "[ledger]") {
  RunnerRig r;
  r.start();
  r.loop.advance(10'000);
  CHECK(r.leadership.empty());  // its vote is not on the disk
  CHECK(r.propose("early").code() == ErrorCode::not_controller);
  r.run_disk();
  r.loop.advance(10'000);
  r.run_disk();
  CHECK(r.leadership == std::vector<bool>{true});
  CHECK(r.runner->leading());
  CHECK(r.runner->term() >= Term(1));
  CHECK(r.failures.empty());
}

TEST_CASE("a proposal is committed when it is durable, not before", "[ledger]") {
  RunnerRig r;
  r.lead();
  const Result<LogIndex> index = r.propose("one");
  REQUIRE(index.ok());
  r.loop.settle();
  CHECK(r.disk.waiting() == 1);
  CHECK(r.committed.empty());
  r.run_disk();
  CHECK(r.committed == std::vector<std::string>{std::to_string(index->v) + ":one"});
}

TEST_CASE("proposals during a write go into the next, together and in order", "[ledger]") {
  RunnerRig r;
  r.lead();
  const size_t before = r.disk.runs;
  const Result<LogIndex> first = r.propose("a");
  REQUIRE(first.ok());
  CHECK(r.disk.runs == before + 1);
  REQUIRE(r.propose("b").ok());
  REQUIRE(r.propose("c").ok());
  CHECK(r.disk.runs == before + 1);
  r.run_disk();
  CHECK(r.disk.runs == before + 2);
  const int64_t at = first->v;
  CHECK(r.committed == std::vector<std::string>{std::to_string(at) + ":a", std::to_string(at + 1) + ":b",
                                                std::to_string(at + 2) + ":c"});
}

TEST_CASE("proposals of one tick share a write", "[ledger]") {
  RunnerRig r;
  r.lead();
  const size_t before = r.disk.runs;
  r.loop.in_tick([&] {
    for (int i = 0; i < 10; ++i) REQUIRE(r.runner->propose(to_bytes("x")).ok());
    CHECK(r.committed.empty());
  });
  r.run_disk();
  CHECK(r.disk.runs == before + 1);
  CHECK(r.committed.size() == 10);
}

TEST_CASE("a restart replays what was committed and nothing that was not durable", "[ledger]") {
  RunnerRig r;
  r.lead();
  REQUIRE(r.propose("one").ok());
  REQUIRE(r.propose("two").ok());
  r.run_disk();
  const std::vector<std::string> before = r.committed;
  REQUIRE(before.size() == 2);
  const Term term = r.runner->term();
  SECTION("cleanly") {
    REQUIRE(r.runner->close().ok());
  }
  SECTION("after a power cut") {
    REQUIRE(r.propose("never written").ok());
    r.files.crash();
  }
  // The old world ends with its loop: nothing of it runs on.
  RunnerRig after;
  after.files = r.files;
  after.lead();
  CHECK(after.committed == before);
  CHECK(after.runner->term() > term);
  const Result<LogIndex> next = after.propose("three");
  REQUIRE(next.ok());
  after.run_disk();
  CHECK(after.committed.size() == 3);
  CHECK(after.committed.back() == std::to_string(next->v) + ":three");
}

TEST_CASE("a snapshot takes the place of the entries before it", "[ledger]") {
  RunnerRig r;
  r.lead();
  CHECK(r.leaders.back() == BrokerId(1));
  LogIndex last{0};
  for (int i = 0; i < 50; ++i) {
    const Result<LogIndex> index = r.propose("p" + std::to_string(i));
    REQUIRE(index.ok());
    last = *index;
  }
  r.run_disk();
  REQUIRE(r.committed.size() == 50);
  r.loop.in_tick([&] { r.runner->keep_snapshot(last, [] { return to_bytes("the whole state"); }); });
  r.run_disk();
  REQUIRE(r.propose("after").ok());
  r.run_disk();
  REQUIRE(r.runner->close().ok());
  RunnerRig after;
  after.files = r.files;
  after.lead();
  CHECK(after.snapshots == std::vector<std::string>{std::to_string(last.v) + ":the whole state"});
  CHECK(after.committed == std::vector<std::string>{std::to_string(last.v + 1) + ":after"});
}

TEST_CASE("a store that fails ends the runner, once", "[ledger]") {
  RunnerRig r;
  r.lead();
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  REQUIRE(r.propose("lost").ok());
  r.run_disk();
  CHECK(r.failures == std::vector<ErrorCode>{ErrorCode::io_error});
  CHECK(r.committed.empty());
  CHECK_FALSE(r.runner->leading());
  CHECK(r.propose("refused").code() == ErrorCode::kafka_storage_error);
  r.files.fault = nullptr;
  r.loop.advance(60'000);
  r.run_disk();
  CHECK(r.failures.size() == 1);
  CHECK(r.committed.empty());
}

TEST_CASE("a full disk holds entries back and refuses more, until there is room", "[ledger]") {
  RunnerRig r;
  r.lead();
  REQUIRE(r.propose("one").ok());
  r.run_disk();
  REQUIRE(r.committed.size() == 1);
  r.files.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::write ? ErrorCode::no_space : ErrorCode::none;
  };
  r.files.torn_bytes = 17;
  REQUIRE(r.propose("two").ok());
  r.run_disk();
  CHECK(r.committed.size() == 1);
  const Result<LogIndex> refused = r.propose("three");
  CHECK(refused.code() == ErrorCode::kafka_storage_error);
  CHECK(refused.error().message.find("full") != std::string::npos);
  for (int i = 0; i < 20; ++i) {
    r.loop.advance(250);
    r.run_disk();
  }
  CHECK(r.failures.empty());
  CHECK(r.runner->leading());
  r.files.fault = nullptr;
  r.loop.advance(250);
  r.run_disk();
  REQUIRE(r.committed.size() == 2);
  CHECK(r.committed.back().ends_with(":two"));
  CHECK(r.propose("four").ok());
  r.run_disk();
  CHECK(r.committed.back().ends_with(":four"));
  // What was refused was never written, and nothing is there twice.
  REQUIRE(r.runner->close().ok());
  r.lead();
  CHECK(r.committed.size() == 3);
}

TEST_CASE("a metadata log whose directory failed elsewhere writes nothing more", "[ledger]") {
  RunnerRig r;
  r.lead();
  r.loop.in_tick([&] { r.runner->abandon(Error(ErrorCode::kafka_storage_error, "the directory failed")); });
  CHECK(r.failures == std::vector<ErrorCode>{ErrorCode::kafka_storage_error});
  CHECK_FALSE(r.runner->leading());
  CHECK(r.propose("x").code() == ErrorCode::kafka_storage_error);
  r.run_disk();
  const uint64_t writes = r.files.writes;
  CHECK(r.runner->close().ok());
  CHECK(r.files.writes == writes);
}

}  // namespace
}  // namespace millrace::ledger
