// The consumer against a log made of batches, alone and as a member of a group.
#include "client/consumer.h"

#include "record/builder.h"
#include "record/control_batch.h"
#include "support/catch.h"
#include "unit/client/fake_cluster.h"
#include "wire/messages/find_coordinator.h"
#include "wire/messages/heartbeat.h"
#include "wire/messages/leave_group.h"
#include "wire/messages/list_offsets.h"
#include "wire/messages/offset_commit.h"
#include "wire/messages/offset_fetch.h"

namespace millrace::client::testing {
namespace {

/// One partition's batches; serves Fetch and ListOffsets.
struct FakeLog {
  std::vector<std::pair<int64_t, Bytes>> batches;  // by base offset
  int64_t end = 0;
  std::vector<wire::FetchResponse::AbortedTransaction> aborted;

  void append(const std::vector<std::string>& values, record::BatchOptions o = {}) {
    o.base_offset = Offset(end);
    record::BatchBuilder b(o);
    for (const std::string& v : values) b.append(1'000, std::nullopt, as_bytes(v));
    record::Codecs codecs;
    batches.emplace_back(end, std::move(b.build(codecs)).value());
    end += static_cast<int64_t>(values.size());
  }
  void append_marker(int64_t producer, bool commit) {
    record::EndTransactionMarker m;
    m.producer_id = ProducerId(producer);
    m.producer_epoch = ProducerEpoch(0);
    m.commit = commit;
    Bytes b = record::build_marker(m, 1'000);
    record::set_base_offset(b, Offset(end));
    batches.emplace_back(end, std::move(b));
    ++end;
  }
  Bytes from(int64_t offset) const {
    Bytes out;
    for (size_t i = 0; i < batches.size(); ++i) {
      const int64_t next = i + 1 < batches.size() ? batches[i + 1].first : end;
      if (next > offset) out.insert(out.end(), batches[i].second.begin(), batches[i].second.end());
    }
    return out;
  }
};

struct ConsumerRig {
  VirtualLoop loop;
  FakeCluster cluster{loop, 2};
  Client client{loop, cluster, loop, fake_options()};
  std::map<int32_t, FakeLog> logs;
  std::map<int32_t, ErrorCode> fetch_errors;
  int64_t start = 0;
  std::vector<Bytes> kept;  // what answers refer to
  std::unique_ptr<Consumer> consumer;

  explicit ConsumerRig(ConsumerOptions options = {}) {
    cluster.add_topic("t", {1, 2});
    cluster.on<wire::FetchRequest>(
        [this](int broker, const wire::FetchRequest& q) { return fetch(broker, q); });
    cluster.on<wire::ListOffsetsRequest>([this](int, const wire::ListOffsetsRequest& q) {
      wire::ListOffsetsResponse r;
      auto& t = r.topics.emplace_back();
      t.name = "t";
      for (const auto& p : q.topics.at(0).partitions) {
        auto& out = t.partitions.emplace_back();
        out.partition_index = p.partition_index;
        out.offset = p.timestamp == kEarliest ? start : logs[p.partition_index].end;
      }
      return r;
    });
    consumer = std::make_unique<Consumer>(client, options);
    client.refresh(std::nullopt, false, 0, [](Status) {});
    loop.run(50);
  }

  wire::FetchResponse fetch(int broker, const wire::FetchRequest& q) {
    wire::FetchResponse r;
    for (const auto& topic : q.topics) {
      auto& t = r.responses.emplace_back();
      t.topic_id = topic.topic_id;
      for (const auto& p : topic.partitions) {
        CHECK(p.partition + 1 == broker);  // each leader is asked for its own
        auto& out = t.partitions.emplace_back();
        out.partition_index = p.partition;
        FakeLog& log = logs[p.partition];
        out.high_watermark = log.end;
        if (const auto e = fetch_errors.find(p.partition); e != fetch_errors.end()) {
          out.error_code = static_cast<int16_t>(e->second);
          fetch_errors.erase(e);
        } else if (p.fetch_offset > log.end || p.fetch_offset < start) {
          out.error_code = static_cast<int16_t>(ErrorCode::offset_out_of_range);
        } else {
          kept.push_back(log.from(p.fetch_offset));
          out.records.payload.append(Slice(kept.back()));
          if (q.isolation_level == 1) out.aborted_transactions = log.aborted;
        }
      }
    }
    return r;
  }
  std::vector<std::string> poll(int64_t ms = 2'000, size_t records_max = 100) {
    std::vector<std::string> out;
    error = ErrorCode::none;
    bool called = false;
    consumer->poll(ms, records_max, [&](Result<std::vector<ConsumedRecord>> r) {
      called = true;
      error = r.code();
      if (!r.ok()) return;
      for (const ConsumedRecord& x : *r) {
        out.push_back(std::to_string(x.partition) + "/" + std::to_string(x.offset) + "=" +
                      (x.value ? std::string(as_text(*x.value)) : "(null)"));
        next[{x.topic, x.partition}] = x.offset + 1;
      }
    });
    loop.run(ms + 1);
    CHECK(called);
    return out;
  }
  std::map<TopicPartition, int64_t> next;
  ErrorCode error = ErrorCode::none;
};

using Lines = std::vector<std::string>;

TEST_CASE("records come in order, from the offset asked for, across codecs") {
  ConsumerRig rig;
  rig.logs[0].append({"a", "b", "c"});
  record::BatchOptions o;
  o.codec = record::Codec::lz4;
  rig.logs[0].append({"d"}, o);
  rig.consumer->assign({{{"t", 0}, 1}});
  CHECK(rig.poll(2'000, 2) == Lines{"0/1=b", "0/2=c"});
  CHECK(rig.consumer->positions().at({"t", 0}) == 3);
  CHECK(rig.poll() == Lines{"0/3=d"});
  CHECK(rig.poll().empty());
  CHECK(rig.error == ErrorCode::none);
  rig.logs[0].append({"e"});
  CHECK(rig.poll() == Lines{"0/4=e"});
}

TEST_CASE("partitions of several leaders are read together") {
  ConsumerRig rig;
  rig.logs[0].append({"a"});
  rig.logs[1].append({"b"});
  rig.consumer->assign({{{"t", 0}, 0}, {{"t", 1}, 0}});
  Lines all = rig.poll();
  const Lines more = rig.poll();
  all.insert(all.end(), more.begin(), more.end());
  std::sort(all.begin(), all.end());
  CHECK(all == Lines{"0/0=a", "1/0=b"});
}

TEST_CASE("a partition without a leader does not hold up those that have one") {
  ConsumerRig rig;
  rig.logs[0].append({"a"});
  rig.logs[1].append({"b"});
  rig.cluster.add_topic("t", {1, -1});
  rig.client.refresh(std::nullopt, false, 0, [](Status) {});
  rig.loop.run(50);
  rig.consumer->assign({{{"t", 0}, 0}, {{"t", 1}, 0}});
  CHECK(rig.poll() == Lines{"0/0=a"});
  rig.cluster.add_topic("t", {1, 2});
  CHECK(rig.poll(5'000) == Lines{"1/0=b"});
}

TEST_CASE("an offset that is gone is answered as the options say") {
  for (const StartAt at : {StartAt::beginning, StartAt::end, StartAt::fail}) {
    CAPTURE(static_cast<int>(at));
    ConsumerOptions o;
    o.start = at;
    ConsumerRig rig(o);
    rig.logs[0].append({"a", "b"});
    rig.logs[0].append({"c"});
    rig.start = 2;
    rig.consumer->assign({{{"t", 0}, 0}});
    const Lines got = rig.poll();
    if (at == StartAt::beginning) CHECK(got == Lines{"0/2=c"});
    if (at != StartAt::beginning) CHECK(got.empty());
    CHECK(rig.error == (at == StartAt::fail ? ErrorCode::offset_out_of_range : ErrorCode::none));
    if (at == StartAt::end) CHECK(rig.consumer->positions().at({"t", 0}) == 3);
  }
}

TEST_CASE("a moved leader is found again, a refusal is told") {
  ConsumerRig rig;
  rig.logs[0].append({"a"});
  rig.fetch_errors[0] = ErrorCode::not_leader_or_follower;
  rig.consumer->assign({{{"t", 0}, 0}});
  CHECK(rig.poll(5'000) == Lines{"0/0=a"});
  rig.fetch_errors[0] = ErrorCode::topic_authorization_failed;
  CHECK(rig.poll(5'000).empty());
  CHECK(rig.error == ErrorCode::topic_authorization_failed);
}

TEST_CASE("a batch that does not verify ends the reading") {
  ConsumerRig rig;
  rig.logs[0].append({"a"});
  rig.logs[0].batches[0].second.back() ^= 1;
  rig.consumer->assign({{{"t", 0}, 0}});
  CHECK(rig.poll().empty());
  CHECK(rig.error == ErrorCode::corrupt_message);
}

TEST_CASE("aborted transactions and markers are left out, the position passes them") {
  for (const bool committed_only : {false, true}) {
    CAPTURE(committed_only);
    ConsumerOptions o;
    o.read_committed = committed_only;
    ConsumerRig rig(o);
    record::BatchOptions txn;
    txn.transactional = true;
    txn.producer_id = ProducerId(9);
    txn.producer_epoch = ProducerEpoch(0);
    txn.base_sequence = 0;
    FakeLog& log = rig.logs[0];
    log.append({"plain"});
    log.append({"aborted"}, txn);
    log.append_marker(9, false);
    log.append({"committed"}, txn);
    log.append_marker(9, true);
    log.aborted.push_back({9, 1});
    rig.consumer->assign({{{"t", 0}, 0}});
    if (committed_only) {
      CHECK(rig.poll() == Lines{"0/0=plain", "0/3=committed"});
    } else {
      CHECK(rig.poll() == Lines{"0/0=plain", "0/1=aborted", "0/3=committed"});
    }
    CHECK(rig.consumer->positions().at({"t", 0}) == 5);
  }
}

TEST_CASE("a lost connection is survived") {
  ConsumerRig rig;
  rig.logs[0].append({"a"});
  rig.consumer->assign({{{"t", 0}, 0}});
  CHECK(rig.poll() == Lines{"0/0=a"});
  rig.cluster.drop_connections();
  rig.logs[0].append({"b"});
  CHECK(rig.poll(5'000) == Lines{"0/1=b"});
}

/// A coordinator with one member to deal with.
struct GroupRig : ConsumerRig {
  int joins = 0;
  int32_t generation = 0;
  std::vector<std::string> calls;
  std::map<int32_t, int64_t> committed;
  ErrorCode heartbeat = ErrorCode::none;
  Bytes assignment;
  std::vector<TopicPartition> other_wants;

  explicit GroupRig(ConsumerOptions options = {}) : ConsumerRig(options) {
    cluster.on<wire::FindCoordinatorRequest>([](int, const wire::FindCoordinatorRequest&) {
      wire::FindCoordinatorResponse r;
      r.coordinators.push_back({"g", 2, "broker-2", 9092, 0, std::nullopt});
      return r;
    });
    cluster.on<wire::JoinGroupRequest>([this](int, const wire::JoinGroupRequest& q) {
      wire::JoinGroupResponse r;
      calls.push_back("join " + q.member_id);
      if (q.member_id.empty()) {
        r.error_code = static_cast<int16_t>(ErrorCode::member_id_required);
        r.member_id = "m" + std::to_string(++joins);
        return r;
      }
      heartbeat = ErrorCode::none;
      r.generation_id = ++generation;
      r.protocol_type = "consumer";
      r.protocol_name = "range";
      r.leader = q.member_id;
      r.member_id = q.member_id;
      r.members.push_back({q.member_id, std::nullopt, q.protocols.at(0).metadata});
      r.members.push_back({"zz-strange", std::nullopt, {1, 2}});  // its subscription cannot be read
      return r;
    });
    cluster.on<wire::SyncGroupRequest>([this](int, const wire::SyncGroupRequest& q) {
      calls.push_back("sync " + std::to_string(q.generation_id));
      wire::SyncGroupResponse r;
      for (const auto& a : q.assignments) {
        if (a.member_id == q.member_id) r.assignment = a.assignment;
        if (a.member_id == "zz-strange") CHECK(decode_assignment(a.assignment)->empty());
      }
      return r;
    });
    cluster.on<wire::HeartbeatRequest>([this](int, const wire::HeartbeatRequest&) {
      wire::HeartbeatResponse r;
      r.error_code = static_cast<int16_t>(heartbeat);
      return r;
    });
    cluster.on<wire::OffsetFetchRequest>([this](int, const wire::OffsetFetchRequest& q) {
      CHECK_FALSE(consumer->assigned());  // nobody knows yet where reading stands
      wire::OffsetFetchResponse r;
      auto& g = r.groups.emplace_back();
      g.group_id = "g";
      for (const auto& topic : *q.groups.at(0).topics) {
        auto& t = g.topics.emplace_back();
        t.name = topic.name;
        for (const int32_t p : topic.partition_indexes) {
          auto& out = t.partitions.emplace_back();
          out.partition_index = p;
          out.committed_offset = committed.contains(p) ? committed[p] : -1;
        }
      }
      return r;
    });
    cluster.on<wire::OffsetCommitRequest>([this](int, const wire::OffsetCommitRequest& q) {
      wire::OffsetCommitResponse r;
      auto& t = r.topics.emplace_back();
      t.name = "t";
      for (const auto& p : q.topics.at(0).partitions) {
        calls.push_back("commit " + std::to_string(p.partition_index) + "@" +
                        std::to_string(p.committed_offset) + " generation " +
                        std::to_string(q.generation_id_or_member_epoch));
        committed[p.partition_index] = p.committed_offset;
        t.partitions.emplace_back().partition_index = p.partition_index;
      }
      return r;
    });
    cluster.on<wire::LeaveGroupRequest>([this](int, const wire::LeaveGroupRequest& q) {
      calls.push_back("leave " + q.members.at(0).member_id);
      return wire::LeaveGroupResponse{};
    });
  }
  /// Records, within a minute.
  Lines first_records(size_t records_max = 100) {
    Lines got;
    for (int i = 0; i < 120 && got.empty(); ++i) got = poll(500, records_max);
    return got;
  }
  void subscribe() {
    cluster.drop_connections();  // so that the client learns of the coordinator's APIs
    GroupOptions g;
    g.group = "g";
    g.topics = {"t"};
    consumer->subscribe(g);
  }
};

TEST_CASE("a member joins, reads from what was committed, commits what it is done with, leaves") {
  ConsumerOptions o;
  o.start = StartAt::beginning;
  GroupRig rig(o);
  rig.logs[0].append({"a", "b", "c"});
  rig.logs[1].append({"x"});
  rig.committed[0] = 1;
  rig.subscribe();
  CHECK_FALSE(rig.consumer->assigned());
  Lines all;
  for (int i = 0; i < 4; ++i) {
    for (std::string& s : rig.poll(500)) all.push_back(std::move(s));
  }
  std::sort(all.begin(), all.end());
  CHECK(all == Lines{"0/1=b", "0/2=c", "1/0=x"});
  CHECK(rig.consumer->assigned());
  CHECK(rig.consumer->member()->leads());
  CHECK(rig.calls == Lines{"join ", "join m1", "sync 1"});

  // Only what the reader says it is done with is committed.
  rig.calls.clear();
  rig.loop.run(6'000);
  CHECK(rig.calls.empty());
  rig.consumer->done_with({{{"t", 0}, 2}, {{"gone", 0}, 5}});
  rig.loop.run(6'000);
  CHECK(rig.calls == Lines{"commit 0@2 generation 1"});
  rig.calls.clear();
  rig.loop.run(6'000);
  CHECK(rig.calls.empty());  // nothing new

  rig.consumer->done_with(rig.next);
  Status closed = Error(ErrorCode::internal);
  rig.consumer->close([&](Status s) { closed = std::move(s); });
  rig.loop.run(1'000);
  CHECK(closed.ok());
  CHECK(rig.calls == Lines{"commit 0@3 generation 1", "commit 1@1 generation 1", "leave m1"});
}

TEST_CASE("a rebalance commits first, then joins again and goes on where it was") {
  ConsumerOptions o;
  o.start = StartAt::beginning;
  GroupRig rig(o);
  rig.logs[0].append({"a", "b"});
  rig.subscribe();
  CHECK(rig.first_records(1) == Lines{"0/0=a"});
  rig.consumer->done_with(rig.next);
  rig.calls.clear();
  rig.heartbeat = ErrorCode::rebalance_in_progress;
  rig.loop.run(3'500);
  CHECK(rig.calls == Lines{"commit 0@1 generation 1", "join m1", "sync 2"});
  CHECK(rig.poll() == Lines{"0/1=b"});
}

TEST_CASE("a member that was thrown out joins anew, and commits nothing in its old name") {
  ConsumerOptions o;
  o.start = StartAt::beginning;
  GroupRig rig(o);
  rig.logs[0].append({"a"});
  rig.subscribe();
  CHECK(rig.first_records() == Lines{"0/0=a"});
  rig.consumer->done_with(rig.next);
  rig.calls.clear();
  rig.heartbeat = ErrorCode::unknown_member_id;
  rig.loop.run(3'500);
  CHECK(rig.calls == Lines{"join ", "join m2", "sync 2"});
  CHECK(rig.poll() == Lines{"0/0=a"});  // it was never committed: read again
}

TEST_CASE("a group that refuses ends the consumer") {
  GroupRig rig;
  rig.cluster.on<wire::JoinGroupRequest>([](int, const wire::JoinGroupRequest&) {
    wire::JoinGroupResponse r;
    r.error_code = static_cast<int16_t>(ErrorCode::group_authorization_failed);
    return r;
  });
  rig.subscribe();
  CHECK(rig.poll().empty());
  CHECK(rig.error == ErrorCode::group_authorization_failed);
  bool closed = false;
  rig.consumer->close([&](Status) { closed = true; });
  rig.loop.run(5'000);
  CHECK(closed);
}

}  // namespace
}  // namespace millrace::client::testing
