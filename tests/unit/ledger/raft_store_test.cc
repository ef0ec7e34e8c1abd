#include "ledger/raft_store.h"

#include "log/file_names.h"
#include "record/builder.h"
#include "support/catch.h"
#include "support/manual_loop.h"
#include "support/memory_disk.h"

namespace millrace::ledger {
namespace {

const std::string kMetadata = "/data/__cluster_metadata-0";
const std::string kQuorumState = kMetadata + "/quorum-state";

raft::Entry entry(int64_t index, int64_t term, std::string_view payload,
                  raft::EntryKind kind = raft::EntryKind::payload) {
  return {LogIndex(index), Term(term), kind, Slice(to_bytes(payload))};
}

struct StoreRig {
  test::ManualClock clock;
  test::MemoryDisk disk;
  std::unique_ptr<RaftStore> store;

  StoreRig() {
    REQUIRE(disk.make_directories("/data").ok());
    disk.settle();
  }
  Status try_open() {
    store = std::make_unique<RaftStore>(disk, clock, Trace());
    return store->open(kMetadata);
  }
  /// What is found there, as "index/term/kind/payload".
  std::vector<std::string> open() {
    const Status opened = try_open();
    INFO((opened.ok() ? std::string() : opened.error().message));
    REQUIRE(opened.ok());
    std::vector<std::string> out;
    for (const raft::Entry& e : store->take_entries()) {
      out.push_back(std::to_string(e.index.v) + "/" + std::to_string(e.term.v) + "/" +
                    std::to_string(static_cast<int>(e.kind)) + "/" + std::string(as_text(e.payload.view())));
    }
    return out;
  }
  void append(const std::vector<raft::Entry>& entries) {
    const Status appended = store->append(entries);
    INFO((appended.ok() ? std::string() : appended.error().message));
    REQUIRE(appended.ok());
  }
  std::string segment() const { return kMetadata + "/" + log::file_name(Offset(0), log::FileKind::log); }
};

using Found = std::vector<std::string>;

TEST_CASE("a new store is empty", "[ledger]") {
  StoreRig r;
  CHECK(r.open().empty());
  CHECK(r.store->hard_state() == raft::HardState{});
  CHECK(r.store->append({}).ok());
}

TEST_CASE("entries of every kind come back with index, term and payload", "[ledger]") {
  StoreRig r;
  (void)r.open();
  const Bytes membership = raft::encode_membership({{raft::NodeId(1)}, {}});
  r.append({entry(1, 1, "", raft::EntryKind::no_op),
            entry(2, 1, as_text(membership), raft::EntryKind::membership)});
  r.append({entry(3, 1, "one"), entry(4, 2, "two")});
  const Found expected = {"1/1/1/", "2/1/2/" + std::string(as_text(membership)), "3/1/0/one", "4/2/0/two"};
  SECTION("after a clean close") {
    REQUIRE(r.store->close().ok());
    CHECK(r.store->close().ok());
  }
  SECTION("after a power cut") {
    r.disk.crash();
  }
  CHECK(r.open() == expected);
  CHECK(r.store->take_entries().empty());  // handed over once
  r.append({entry(5, 2, "three")});
  REQUIRE(r.open().size() == 5);
}

TEST_CASE("an entry at a known index takes the place of it and all behind it", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c"), entry(4, 1, "d")});
  r.append({entry(3, 2, "C")});
  r.disk.crash();
  CHECK(r.open() == Found{"1/1/0/a", "2/1/0/b", "3/2/0/C"});
  r.append({entry(1, 3, "everything")});
  r.disk.crash();
  CHECK(r.open() == Found{"1/3/0/everything"});
}

TEST_CASE("a torn last entry is cut, the rest stays", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, "a"), entry(2, 1, "b")});
  const size_t two = r.disk.content(r.segment()).size();
  // What was known to be durable when the third was being written.
  const std::string commits = kMetadata + "/" + std::string(log::kCommitFileName);
  const Bytes known = r.disk.content(commits);
  r.append({entry(3, 1, "torn")});
  const Bytes whole = r.disk.content(r.segment());
  for (size_t left = two; left < whole.size(); ++left) {
    r.store.reset();
    r.disk.put(commits, known);
    r.disk.put(r.segment(), Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(left)));
    REQUIRE(r.open() == Found{"1/1/0/a", "2/1/0/b"});
  }
  r.append({entry(3, 2, "again")});
  CHECK(r.open() == Found{"1/1/0/a", "2/1/0/b", "3/2/0/again"});
}

TEST_CASE("a batch that is no entry is damage", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, "a")});
  REQUIRE(r.store->close().ok());
  Bytes content = r.disk.content(r.segment());
  record::BatchOptions options;
  options.base_offset = Offset(1);
  options.leader_epoch = LeaderEpoch(1);
  record::BatchBuilder builder(options);
  const Bytes key = {0};
  SECTION("an unknown kind") {
    const Bytes other = {9};
    builder.append(1, ByteView(other), as_bytes("x"));
  }
  SECTION("no key") {
    builder.append(1, std::nullopt, as_bytes("x"));
  }
  SECTION("a long key") {
    builder.append(1, as_bytes("ab"), as_bytes("x"));
  }
  SECTION("no value") {
    builder.append(1, ByteView(key), std::nullopt);
  }
  SECTION("two records") {
    builder.append(1, ByteView(key), as_bytes("x"));
    builder.append(1, ByteView(key), as_bytes("y"));
  }
  const Bytes bad = builder.build();
  content.insert(content.end(), bad.begin(), bad.end());
  r.disk.put(r.segment(), content);
  const Status opened = r.try_open();
  REQUIRE(opened.code() == ErrorCode::corrupt);
  CHECK(opened.error().message.find("offset 1") != std::string::npos);
}

TEST_CASE("the hard state is durable when the write returns", "[ledger]") {
  StoreRig r;
  (void)r.open();
  REQUIRE(r.store->write_hard_state({Term(3), BrokerId(2)}).ok());
  r.disk.crash();
  (void)r.open();
  CHECK(r.store->hard_state() == raft::HardState{Term(3), BrokerId(2)});
  REQUIRE(r.store->write_hard_state({Term(4), kNoBroker}).ok());
  r.disk.crash();
  (void)r.open();
  CHECK(r.store->hard_state() == raft::HardState{Term(4), kNoBroker});
}

TEST_CASE("a hard state that cannot be written leaves the one before", "[ledger]") {
  StoreRig r;
  (void)r.open();
  REQUIRE(r.store->write_hard_state({Term(3), BrokerId(2)}).ok());
  r.disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  CHECK_FALSE(r.store->write_hard_state({Term(4), BrokerId(1)}).ok());
  CHECK(r.store->hard_state().term == Term(3));
  r.disk.fault = nullptr;
  r.disk.crash();
  (void)r.open();
  CHECK(r.store->hard_state() == raft::HardState{Term(3), BrokerId(2)});
}

TEST_CASE("a damaged hard state is not guessed at", "[ledger]") {
  StoreRig r;
  (void)r.open();
  REQUIRE(r.store->close().ok());
  const std::string text =
      GENERATE(as<std::string>(), "", "version: 0\n", "version: 0\nterm: 1\n", "version: 0\nvote: 1\n",
               "version: 1\nterm: 1\nvote: 1\n", "term: 1\nvote: 1\n", "version: 0\nterm: x\nvote: 1\n",
               "version: 0\nterm: 1x\nvote: 1\n", "version: 0\nterm: \nvote: 1\n",
               "version: 0\nterm: 99999999999999999999\nvote: 1\n", "version: 0\nterm: -1\nvote: 1\n",
               "version: 0\nterm: 1\nvote: -2\n", "version: 0\nterm: 1\nvote: 4294967297\n",
               "version: 0\nterm 1\nvote: 1\n");
  INFO(text);
  r.disk.put(kQuorumState, to_bytes(text));
  const Status opened = r.try_open();
  REQUIRE(opened.code() == ErrorCode::corrupt);
  CHECK(opened.error().message.find("quorum-state") != std::string::npos);
}

TEST_CASE("a hard state of unreasonable size is refused", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.disk.put(kQuorumState, Bytes(10'000, 'x'));
  CHECK_FALSE(r.try_open().ok());
}

TEST_CASE("a failed append ends the store's writing", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, "a")});
  r.disk.fault = [](test::DiskOp op, const std::string&) {
    return op == test::DiskOp::sync ? ErrorCode::io_error : ErrorCode::none;
  };
  CHECK_FALSE(r.store->append({entry(2, 1, "b")}).ok());
  r.disk.fault = nullptr;
  CHECK(r.store->append({entry(3, 1, "c")}).code() == ErrorCode::kafka_storage_error);
  CHECK(r.store->close().ok());
  r.disk.crash();
  CHECK(r.open() == Found{"1/1/0/a"});
}

raft::Snapshot snapshot_at(int64_t index, int64_t term, std::string_view state) {
  return {{LogIndex(index), Term(term), {{raft::NodeId(1)}, {}}}, Slice(to_bytes(state))};
}

TEST_CASE("a snapshot of our own leaves the entries behind it readable", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 2, "c")});
  REQUIRE(r.store->write_snapshot(snapshot_at(2, 1, "ab"), LogIndex(1)).ok());
  REQUIRE(r.store->write_snapshot(snapshot_at(3, 2, "abc"), LogIndex(1)).ok());
  r.append({entry(4, 2, "d")});
  r.disk.crash();
  CHECK(r.open() == Found{"1/1/0/a", "2/1/0/b", "3/2/0/c", "4/2/0/d"});
  const std::optional<raft::Snapshot> found = r.store->take_snapshot();
  REQUIRE(found.has_value());
  CHECK(found->meta == snapshot_at(3, 2, "").meta);
  CHECK(as_text(found->data.view()) == "abc");
}

TEST_CASE("a leader's snapshot replaces the log, whenever the power fails", "[ledger]") {
  for (int stop_after = 0; stop_after < 40; ++stop_after) {
    INFO(stop_after);
    StoreRig r;
    (void)r.open();
    r.append({entry(1, 1, "a"), entry(2, 1, "b")});
    int done = 0;
    r.disk.fault = [&](test::DiskOp op, const std::string&) {
      const bool changes = op == test::DiskOp::write || op == test::DiskOp::rename ||
                           op == test::DiskOp::sync || op == test::DiskOp::remove ||
                           op == test::DiskOp::truncate;
      return changes && ++done > stop_after ? ErrorCode::io_error : ErrorCode::none;
    };
    const Status installed = r.store->install_snapshot(snapshot_at(10, 3, "state"));
    r.disk.fault = nullptr;
    r.disk.crash();
    const Found found = r.open();
    const std::optional<raft::Snapshot> snapshot = r.store->take_snapshot();
    if (installed.ok()) REQUIRE(snapshot.has_value());
    if (snapshot) {
      REQUIRE(found.empty());
      CHECK(snapshot->meta.index == LogIndex(10));
      r.append({entry(11, 3, "next")});
      CHECK(r.open() == Found{"11/3/0/next"});
    } else {
      CHECK(found == Found{"1/1/0/a", "2/1/0/b"});
    }
    if (installed.ok()) break;
    REQUIRE(stop_after < 39);
  }
}

TEST_CASE("a damaged snapshot is not an empty one", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, "a")});
  REQUIRE(r.store->write_snapshot(snapshot_at(1, 1, "state"), LogIndex(1)).ok());
  REQUIRE(r.store->close().ok());
  for (const std::string& path : r.disk.paths()) {
    if (path.ends_with(".checkpoint")) r.disk.flip_bit(path, 20, 3);
  }
  CHECK(r.try_open().code() == ErrorCode::corrupt);
}

TEST_CASE("damage below what was durable is not cut away", "[ledger]") {
  StoreRig r;
  (void)r.open();
  r.append({entry(1, 1, std::string(300, 'a')), entry(2, 1, "b")});
  REQUIRE(r.store->close().ok());  // says how far it was durable
  r.disk.flip_bit(r.segment(), 100, 1);
  CHECK(r.try_open().code() == ErrorCode::corrupt);
}

}  // namespace
}  // namespace millrace::ledger
