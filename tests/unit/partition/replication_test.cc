// Doors of several brokers joined by a network of plain calls: what acks=all waits for, how logs are cut, who
// may be believed.

#include "support/partition_rig.h"

namespace millrace::partition {
namespace {

using namespace rig;

struct ReplicaNode : Rig {
  explicit ReplicaNode(int id) {
    self = BrokerId(id);
    config.min_insync_replicas = 2;
  }
  std::vector<std::pair<int64_t, int32_t>> batches() {
    std::vector<std::pair<int64_t, int32_t>> out;
    Offsets seen_here;
    const EpochCheck any{kNoLeaderEpoch, true};
    for (Offset at{0};;) {
      Result<Fetched> got = partition->fetch_cold(at, 1 << 20, true, Isolation::replica, any, seen_here);
      REQUIRE(got.ok());
      if (got->verified.empty()) return out;
      record::BatchIterator it(got->verified);
      while (true) {
        const auto next = it.next();
        REQUIRE(next.ok());
        if (!*next) break;
        out.emplace_back((*next)->base_offset().v, (*next)->leader_epoch().v);
        at = (*next)->next_offset();
      }
    }
  }
  void fetched_by(std::shared_ptr<CountingWaiter> who, uint64_t tag) {
    fetcher = std::move(who);
    partition->set_fetcher(fetcher, tag);
  }
  std::shared_ptr<CountingWaiter> fetcher;  // who follows; nobody: the tests themselves
  Offset durable() const { return partition->usage().durable_end; }
  Offset end() const { return partition->usage().offsets.log_end; }
  Offset mark() const { return partition->usage().offsets.high_watermark; }
};

struct Cluster {
  Cluster() {
    for (ReplicaNode* n : {&one, &two, &three}) n->open();
  }

  ReplicaNode& node(int id) { return id == 1 ? one : id == 2 ? two : three; }
  Status lead(int id, int epoch, std::vector<int> isr, int partition_epoch = 0) {
    return node(id).partition->lead(leadership(epoch, isr, partition_epoch));
  }
  Partition::Leadership leadership(int epoch, const std::vector<int>& isr, int partition_epoch) {
    Partition::Leadership l;
    l.epoch = LeaderEpoch(epoch);
    for (const int i : isr) l.isr.emplace_back(i);
    l.replicas = 3;
    l.partition_epoch = partition_epoch;
    for (int i = 1; i <= 3; ++i) l.brokers.push_back({BrokerId(i), BrokerEpoch(10 + i), true});
    return l;
  }
  void follow(int id, int epoch, int leader) {
    node(id).partition->follow(LeaderEpoch(epoch), BrokerId(leader));
  }
  static replica::FollowerFetch said(int id, const replica::FetchPosition& p) {
    return {BrokerId(id),   BrokerEpoch(10 + id), p.leader_epoch,
            p.fetch_offset, p.durable_end,        p.last_fetched_epoch};
  }
  /// One fetch of `id` from `from` and what comes of it; nothing is synced. False if it asks for nothing.
  bool round(int id, int from) {
    ReplicaNode& f = node(id);
    ReplicaNode& l = node(from);
    f.clock.advance(5'000);  // any back-off is over
    const auto position = f.partition->next_fetch(f.clock.now(), f.fetcher.get());
    if (!position) return false;
    ReplicaAnswer answer;
    answer.number = position->number;
    answer.leader_epoch = position->leader_epoch;
    bool proposes = false;
    const replica::FetchOutcome heard =
        l.partition->on_replica_fetch(said(id, *position), l.clock.now(), proposes);
    l.loop.settle();
    answer.error = heard.error;
    answer.diverging = heard.diverging;
    Bytes bytes;
    Offsets at;
    if (heard.accepted()) {
      const EpochCheck check{position->leader_epoch};
      Result<Fetched> got =
          l.partition->fetch(position->fetch_offset, 1 << 20, true, Isolation::replica, check, at);
      answer.error = got.code();
      if (got.ok()) {
        for (const auto& region : got->regions) {
          Bytes piece(region->length);
          REQUIRE(region->file->read_at(region->position, piece).ok());
          bytes.insert(bytes.end(), piece.begin(), piece.end());
        }
      }
    } else if (const auto offsets = l.partition->offsets(); offsets.ok()) {
      at = *offsets;
    }
    if (corrupt_next && bytes.size() > 70) {
      bytes[bytes.size() - 1] ^= 1;
      corrupt_next = false;
    }
    answer.records = bytes;
    answer.high_watermark = at.high_watermark;
    answer.log_start = at.log_start;
    Partition::Followed followed{};
    f.loop.in_tick(
        [&] { followed = f.partition->on_replica_answer(answer, f.loop, f.clock.now(), problem); });
    if (followed == Partition::Followed::cut) {
      f.partition->cut_log(f.clock.now());
      ++cuts;
    }
    return true;
  }
  /// Rounds and syncs until nothing more comes of it.
  void catch_up(int id, int from) {
    for (int i = 0; i < 8; ++i) {
      (void)round(id, from);
      node(id).run_all();
    }
  }

  ReplicaNode one{1};
  ReplicaNode two{2};
  ReplicaNode three{3};
  ErrorCode problem = ErrorCode::none;
  int cuts = 0;
  bool corrupt_next = false;
};

TEST_CASE("acks=all waits for the durable ends of the whole ISR", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2, 3}).ok());
  c.follow(2, 1, 1);
  c.follow(3, 1, 1);
  (void)c.one.append({.count = 4});
  CHECK_FALSE(c.one.await_commit(Offset(4), 7));
  c.one.run_all();
  CHECK(c.one.durable() == Offset(4));
  CHECK(c.one.mark() == Offset(0));
  REQUIRE(c.round(2, 1));
  REQUIRE(c.round(3, 1));
  CHECK(c.two.end() == Offset(4));
  CHECK(c.three.end() == Offset(4));
  // Both hold it; neither has synced it.
  REQUIRE(c.round(2, 1));
  REQUIRE(c.round(3, 1));
  CHECK(c.one.mark() == Offset(0));
  c.two.run_all();
  c.three.run_all();
  REQUIRE(c.round(2, 1));
  CHECK(c.one.mark() == Offset(0));
  CHECK(c.one.waiter->commits.empty());
  REQUIRE(c.round(3, 1));
  CHECK(c.one.mark() == Offset(4));
  CHECK(c.one.waiter->commits == Told{{7, ErrorCode::none}});
  // The followers hear of it with their next answer.
  CHECK(c.two.mark() == Offset(0));
  REQUIRE(c.round(2, 1));
  CHECK(c.two.mark() == Offset(4));
  CHECK(c.two.batches() == c.one.batches());
}

TEST_CASE("with replicated durability the log ends count", "[replication]") {
  Cluster c;
  for (ReplicaNode* n : {&c.one, &c.two, &c.three}) {
    n->config.fsync = false;
    n->configure();
  }
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  REQUIRE(c.round(2, 1));
  CHECK(c.one.mark() == Offset(0));
  REQUIRE(c.round(2, 1));
  CHECK(c.one.mark() == Offset(2));
}

TEST_CASE("a durable end that was reached while a fetch is out is owed, once", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  c.two.fetched_by(c.two.waiter, 9);
  (void)c.one.append({.count = 2});
  c.one.run_all();
  REQUIRE(c.round(2, 1));
  const auto parked = c.two.partition->next_fetch(c.two.clock.now(), c.two.fetcher.get());
  REQUIRE(parked.has_value());
  CHECK(parked->durable_end == Offset(0));
  bool proposes = false;
  (void)c.one.partition->on_replica_fetch(Cluster::said(2, *parked), c.one.clock.now(), proposes);
  CHECK(c.two.waiter->data.empty());
  c.two.run_all();
  CHECK(c.two.waiter->data == std::vector<uint64_t>{9});
  const auto owed = c.two.partition->owed_durable_end(c.two.fetcher.get());
  REQUIRE(owed.has_value());
  CHECK(owed->durable_end == Offset(2));
  CHECK(owed->fetch_offset == Offset(2));
  CHECK_FALSE(c.two.partition->owed_durable_end(c.two.fetcher.get()).has_value());
  const auto heard = c.one.partition->on_replica_fetch(Cluster::said(2, *owed), c.one.clock.now(), proposes);
  CHECK(heard.high_watermark_advanced);
  CHECK(c.one.mark() == Offset(2));
}

TEST_CASE("a replica's parked fetch is told of appends and of the mark, a consumer's of the mark",
          "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  const auto replica_watch = c.one.partition->watch_as_replica(c.one.waiter, 1);
  const auto watch = c.one.partition->watch(c.one.waiter, 2);
  (void)c.one.append();
  c.one.loop.settle();
  CHECK(c.one.waiter->data == std::vector<uint64_t>{1});
  c.one.partition->rearm(replica_watch);
  c.one.run_all();
  c.catch_up(2, 1);
  CHECK(c.one.waiter->data == std::vector<uint64_t>{1, 2, 1});
  c.one.partition->unwatch(replica_watch);
  c.one.partition->unwatch(watch);
  CHECK(c.one.partition->usage().data_watches == 0);
}

TEST_CASE("too small an ISR refuses acks=all before anything is appended", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1}).ok());
  CHECK(c.one.try_append().code() == ErrorCode::not_enough_replicas);
  CHECK(c.one.end() == Offset(0));
  CHECK(c.one.try_append({}, false).ok());
  c.one.run_all();
  // With fewer than min.insync.replicas nothing becomes committed either.
  CHECK(c.one.mark() == Offset(0));
  CHECK(c.one.partition->usage().under_min_isr);
}

TEST_CASE("a follower that has caught up is proposed, and counts from then on", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  c.follow(3, 1, 1);
  (void)c.one.append({.count = 3});
  c.one.run_all();
  c.catch_up(2, 1);
  CHECK(c.one.mark() == Offset(3));
  CHECK_FALSE(c.one.partition->tick(c.one.clock.now()).has_value());
  c.catch_up(3, 1);
  const auto proposal = c.one.partition->tick(c.one.clock.now());
  REQUIRE(proposal.has_value());
  CHECK(proposal->isr.size() == 3);
  CHECK(proposal->isr.back().epoch == BrokerEpoch(13));
  // From the proposal on it is waited for.
  (void)c.one.append();
  c.one.run_all();
  c.catch_up(2, 1);
  CHECK(c.one.mark() == Offset(3));
  replica::IsrAnswer answer;
  answer.number = proposal->number;
  answer.leader_epoch = LeaderEpoch(1);
  answer.partition_epoch = 1;
  answer.isr = {BrokerId(1), BrokerId(2), BrokerId(3)};
  c.one.partition->on_isr_answer(answer, c.one.clock.now());
  CHECK(c.one.partition->usage().isr_expands == 1);
  CHECK_FALSE(c.one.partition->usage().under_replicated);
  c.catch_up(3, 1);
  CHECK(c.one.mark() == Offset(4));
  // Who is not heard of for long is proposed to go; the mark waits for the answer.
  c.one.clock.advance(40'000);
  (void)c.one.append();
  c.one.run_all();
  c.catch_up(2, 1);
  const auto shrink = c.one.partition->tick(c.one.clock.now());
  REQUIRE(shrink.has_value());
  CHECK(shrink->isr.size() == 2);
  CHECK(c.one.mark() == Offset(4));
  answer.number = shrink->number;
  answer.partition_epoch = 2;
  answer.isr = {BrokerId(1), BrokerId(2)};
  c.one.partition->on_isr_answer(answer, c.one.clock.now());
  CHECK(c.one.mark() == Offset(5));
  CHECK(c.one.partition->usage().isr_shrinks == 1);
}

TEST_CASE("a follower that comes back from a crash joins without waiting for an append", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  c.follow(3, 1, 1);
  (void)c.one.append({.count = 3});
  c.one.run_all();
  c.catch_up(2, 1);
  c.catch_up(3, 1);
  c.three.partition.reset();
  c.three.open();  // knowing of no durable end: the commit file was behind
  CHECK(c.three.end() == Offset(3));
  CHECK(c.three.durable() == Offset(0));
  REQUIRE(c.lead(1, 2, {1, 2}, 1).ok());
  c.follow(2, 2, 1);
  c.follow(3, 2, 1);
  c.catch_up(2, 1);
  c.catch_up(3, 1);
  CHECK_FALSE(c.one.partition->tick(c.one.clock.now()).has_value());
  c.three.loop.in_tick([&] { c.three.partition->sync_tail(c.three.loop); });
  c.three.run_all();
  CHECK(c.three.durable() == Offset(3));
  c.catch_up(3, 1);
  const auto proposal = c.one.partition->tick(c.one.clock.now());
  REQUIRE(proposal.has_value());
  CHECK(proposal->isr.size() == 3);
  // All is synced: it does nothing a second time.
  c.three.loop.in_tick([&] { c.three.partition->sync_tail(c.three.loop); });
  CHECK_FALSE(c.three.run_disk());
}

TEST_CASE("a leader that hears neither the controller nor its ISR takes nothing in", "[replication]") {
  Cluster c;
  ReplicaNode& one = c.one;
  const auto now = [&] { return one.clock.now(); };
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)one.append();
  one.run_all();
  c.catch_up(2, 1);
  one.standing->hold_until(now().mono_ms + 3'000, 3'000);
  one.standing->note_fetch(BrokerId(2), now().mono_ms);
  one.clock.advance(1'000);
  one.standing->note_fetch(BrokerId(2), now().mono_ms);
  (void)one.append();
  CHECK_FALSE(one.await_commit(Offset(2), 7));
  one.run_all();

  one.clock.advance(2'000);
  one.standing->note_fetch(BrokerId(2), now().mono_ms);
  CHECK_FALSE(one.partition->in_doubt(now()));
  one.clock.advance(1'500);  // the session is over; but the whole ISR has fetched a moment ago
  CHECK(one.standing->session_over(now().mono_ms));
  CHECK_FALSE(one.partition->in_doubt(now()));
  CHECK(one.try_append().ok());
  CHECK(one.try_fetch(Offset(9)).code() == ErrorCode::offset_not_available);  // a successor may have it
  (void)one.partition->tick(now());
  one.loop.settle();
  CHECK(one.waiter->commits.empty());

  one.clock.advance(2'000);
  CHECK(one.partition->in_doubt(now()));
  CHECK(one.try_append().code() == ErrorCode::not_leader_or_follower);
  CHECK(one.try_append({}, false).code() == ErrorCode::not_leader_or_follower);
  CHECK(one.end() == Offset(3));
  CHECK(one.try_fetch(Offset(0)).code() == ErrorCode::not_leader_or_follower);
  CHECK(one.partition->delete_records(Offset(1)).code() == ErrorCode::not_leader_or_follower);
  Offsets seen;
  CHECK(one.partition->fetch(Offset(0), 1 << 20, true, Isolation::replica, {LeaderEpoch(1)}, seen).ok());
  // What was appended may survive: only that its time is up is true.
  (void)one.partition->tick(now());
  one.loop.settle();
  CHECK(one.waiter->commits == Told{{7, ErrorCode::request_timed_out}});

  // One fetch may have lain in the socket for as long as this process was stopped.
  one.standing->note_fetch(BrokerId(2), now().mono_ms);
  CHECK(one.partition->in_doubt(now()));
  one.clock.advance(500);
  one.standing->note_fetch(BrokerId(2), now().mono_ms);
  CHECK_FALSE(one.partition->in_doubt(now()));
  CHECK(one.try_append().ok());

  one.clock.advance(60'000);
  CHECK(one.try_append().code() == ErrorCode::not_leader_or_follower);
  one.standing->hold_until(now().mono_ms + 3'000, 3'000);  // the controller answers again
  CHECK(one.try_append().ok());
  CHECK(one.try_fetch(Offset(0)).ok());
  CHECK(one.try_fetch(Offset(9)).code() == ErrorCode::offset_out_of_range);
}

TEST_CASE("without the controller a leader goes on where nobody else could be elected", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1}).ok());
  c.one.standing->hold_until(c.one.clock.now().mono_ms - 1, 3'000);
  CHECK(c.one.standing->session_over(c.one.clock.now().mono_ms));
  CHECK_FALSE(c.one.partition->in_doubt(c.one.clock.now()));
  CHECK(c.one.try_append({}, false).ok());
  // One who follows is asked for its own epoch, not for this.
  c.follow(1, 2, 2);
  CHECK_FALSE(c.one.partition->in_doubt(c.one.clock.now()));
}

TEST_CASE("who was in sync before it might join is proposed without another fetch", "[replication]") {
  Cluster c;
  Partition::Leadership fenced = c.leadership(1, {1, 2}, 0);
  fenced.brokers[2].may_join = false;
  REQUIRE(c.one.partition->lead(fenced).ok());
  c.follow(3, 1, 1);
  c.catch_up(3, 1);
  CHECK_FALSE(c.one.partition->tick(c.one.clock.now()).has_value());
  REQUIRE(c.one.partition->on_assignment(c.leadership(1, {1, 2}, 0)));
  const auto proposal = c.one.partition->tick(c.one.clock.now());
  REQUIRE(proposal.has_value());
  CHECK(proposal->isr.size() == 3);
}

TEST_CASE("while a partition is handed over producers wait, then are refused", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  CHECK_FALSE(c.one.await_commit(Offset(2), 3));
  Partition& p = *c.one.partition;
  CHECK(p.awake_for(c.one.loop));
  REQUIRE(p.hold_appends());
  CHECK_FALSE(p.hold_appends());
  CHECK_FALSE(c.two.partition->hold_appends());  // it leads nothing
  CHECK_FALSE(p.awake_for(c.one.loop));
  std::vector<int> went_on;
  for (int i = 0; i < 2; ++i)
    CHECK_FALSE(
        p.wake(c.one.loop, [&went_on, i](const Status& open) { went_on.push_back(open.ok() ? i : -1); }));

  // What was appended before is committed meanwhile.
  CHECK(p.commits_awaited());
  c.one.run_all();
  c.catch_up(2, 1);
  c.one.loop.settle();
  CHECK_FALSE(p.commits_awaited());
  CHECK(c.one.waiter->commits == Told{{3, ErrorCode::none}});
  CHECK(went_on.empty());

  REQUIRE(c.lead(2, 2, {1, 2}).ok());
  c.follow(1, 2, 2);
  c.one.loop.settle();
  CHECK(went_on.empty());
  p.release_appends();
  c.one.loop.settle();
  CHECK(went_on == std::vector<int>{0, 1});
  CHECK(p.awake_for(c.one.loop));
  CHECK(c.one.try_append().code() == ErrorCode::not_leader_or_follower);
  CHECK(c.one.end() == Offset(2));
  CHECK(c.two.end() == Offset(2));
}

TEST_CASE("a hand-over that comes to nothing lets producers go on", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  Partition& p = *c.one.partition;
  p.release_appends();  // of nothing
  REQUIRE(p.hold_appends());
  p.release_appends();
  CHECK(p.awake_for(c.one.loop));
  REQUIRE(p.hold_appends());
  bool went_on = false;
  CHECK_FALSE(p.wake(c.one.loop, [&went_on](const Status& open) { went_on = open.ok(); }));
  p.release_appends();
  c.one.loop.settle();
  CHECK(went_on);
  CHECK(p.awake_for(c.one.loop));
  CHECK(c.one.try_append().ok());
}

TEST_CASE("what the old leader had alone is cut by epoch when it follows", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  c.one.run_all();
  c.catch_up(2, 1);
  CHECK(c.one.mark() == Offset(2));
  (void)c.one.append({.count = 3});  // nobody has it
  CHECK_FALSE(c.one.await_commit(Offset(5), 3));
  c.one.run_all();
  CHECK(c.one.end() == Offset(5));

  REQUIRE(c.lead(2, 2, {1, 2}).ok());
  CHECK(c.two.end() == Offset(2));
  c.follow(1, 2, 2);
  // It was appended, and its fate is open.
  c.one.loop.settle();
  CHECK(c.one.waiter->commits == Told{{3, ErrorCode::request_timed_out}});
  CHECK(c.one.try_append().code() == ErrorCode::not_leader_or_follower);
  (void)c.two.append({.count = 1});
  c.two.run_all();
  c.catch_up(1, 2);
  CHECK(c.cuts >= 1);
  CHECK(c.one.batches() == c.two.batches());
  CHECK(c.one.batches().back() == std::pair<int64_t, int32_t>(2, 2));
  CHECK(c.two.mark() == Offset(3));
}

TEST_CASE("a wait for what was appended under another tenure is not answered by this one's marks",
          "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  const Appended lost = c.one.append({.count = 1});
  // Between the append and the wait another led, and had other records.
  REQUIRE(c.lead(2, 2, {1, 2}).ok());
  c.follow(1, 2, 2);
  (void)c.two.append({.count = 1});
  c.two.run_all();
  c.catch_up(1, 2);
  c.one.run_all();
  REQUIRE(c.lead(1, 3, {1, 2}).ok());
  c.follow(2, 3, 1);
  c.catch_up(2, 1);
  CHECK(c.one.mark() == Offset(1));
  bool done = true;
  c.one.loop.in_tick([&] {
    done = c.one.partition->await_commit(lost.last_offset + 1, c.one.waiter, 4, {true, false, lost.tenure});
  });
  CHECK_FALSE(done);
  c.one.loop.settle();
  CHECK(c.one.waiter->commits == Told{{4, ErrorCode::request_timed_out}});
}

TEST_CASE("a leader that crashes and comes back follows without what it had not synced", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  c.one.run_all();
  c.catch_up(2, 1);
  (void)c.one.append({.count = 4}, false);
  c.one.files.crash();
  c.one.partition.reset();
  c.one.open();
  CHECK(c.one.end() == Offset(2));
  REQUIRE(c.lead(2, 2, {2, 1}).ok());
  (void)c.two.append({.count = 2});
  c.two.run_all();
  c.follow(1, 2, 2);
  c.catch_up(1, 2);
  CHECK(c.one.batches() == c.two.batches());
  CHECK(c.two.mark() == Offset(4));
}

TEST_CASE("a new leader does not tell the end before its reign has begun to commit", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  c.one.run_all();
  (void)c.round(2, 1);
  c.two.run_all();
  (void)c.round(2, 1);  // the leader knows, and answers with its mark
  (void)c.one.append({.count = 1});
  c.one.run_all();
  (void)c.round(2, 1);
  c.two.run_all();
  REQUIRE(c.lead(2, 2, {1, 2}).ok());
  CHECK(c.two.offsets().high_watermark == Offset(2));
  CHECK_FALSE(c.two.offsets().end_known);
  c.follow(1, 2, 2);
  c.catch_up(1, 2);
  CHECK(c.two.offsets().end_known);
  CHECK(c.two.offsets().high_watermark == Offset(3));
}

TEST_CASE("a follower serves consumers to its mark, and knows that it may be behind", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  c.one.run_all();
  c.catch_up(2, 1);
  (void)c.one.append({.count = 2});
  (void)c.round(2, 1);
  CHECK(c.two.end() == Offset(4));
  const EpochCheck consumer{LeaderEpoch(1), true};
  Offsets at;
  const auto fetch = [&](Offset from, EpochCheck check) {
    return c.two.partition->fetch(from, 1 << 20, true, Isolation::read_uncommitted, check, at);
  };
  const auto some = fetch(Offset(0), consumer);
  REQUIRE(some.ok());
  CHECK(some->bytes > 0);
  CHECK(at.high_watermark == Offset(2));
  const auto none = fetch(Offset(2), consumer);
  REQUIRE(none.ok());
  CHECK(none->bytes == 0);
  CHECK(fetch(Offset(9), consumer).code() == ErrorCode::offset_not_available);
  CHECK(fetch(Offset(0), {LeaderEpoch(0), true}).code() == ErrorCode::fenced_leader_epoch);
  CHECK(fetch(Offset(0), {LeaderEpoch(2), true}).code() == ErrorCode::unknown_leader_epoch);
  CHECK(fetch(Offset(0), {LeaderEpoch(1), false}).code() == ErrorCode::not_leader_or_follower);
  CHECK(c.two.partition->offsets().code() == ErrorCode::not_leader_or_follower);
}

TEST_CASE("records whose checksum is wrong are not appended", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 2});
  c.one.run_all();
  c.corrupt_next = true;
  REQUIRE(c.round(2, 1));
  CHECK(c.problem == ErrorCode::corrupt_message);
  CHECK(c.two.end() == Offset(0));
  c.catch_up(2, 1);
  CHECK(c.two.batches() == c.one.batches());
}

TEST_CASE("the fetcher of the leader before does not take the question away", "[replication]") {
  Cluster c;
  const auto old = std::make_shared<CountingWaiter>(c.two.loop);
  REQUIRE(c.lead(1, 1, {1, 2, 3}).ok());
  c.follow(2, 1, 1);
  c.two.fetched_by(old, 1);
  REQUIRE(c.two.partition->next_fetch(c.two.clock.now(), old.get()).has_value());
  // Another leads. The fetcher of the first one has not heard of it yet and asks for what is next.
  REQUIRE(c.lead(3, 2, {1, 2, 3}).ok());
  c.follow(2, 2, 3);
  REQUIRE(c.two.partition->next_fetch(c.two.clock.now(), old.get()).has_value());
  c.two.fetched_by(c.two.waiter, 2);
  CHECK_FALSE(c.two.partition->next_fetch(c.two.clock.now(), old.get()).has_value());
  CHECK_FALSE(c.two.partition->owed_durable_end(old.get()).has_value());
  const auto asked = c.two.partition->next_fetch(c.two.clock.now(), c.two.waiter.get());
  REQUIRE(asked.has_value());
  CHECK(asked->leader_epoch == LeaderEpoch(2));
}

TEST_CASE("a fetcher that begins anew in the same epoch asks again, and a late answer does nothing",
          "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  c.two.fetched_by(c.two.waiter, 1);
  const auto first = c.two.partition->next_fetch(c.two.clock.now(), c.two.waiter.get());
  REQUIRE(first.has_value());
  c.two.fetched_by(c.two.waiter, 1);
  const auto second = c.two.partition->next_fetch(c.two.clock.now(), c.two.waiter.get());
  REQUIRE(second.has_value());
  CHECK(second->number > first->number);
  ReplicaAnswer late;
  late.number = first->number;
  late.leader_epoch = first->leader_epoch;
  late.error = ErrorCode::not_leader_or_follower;
  ErrorCode problem = ErrorCode::none;
  (void)c.two.partition->on_replica_answer(late, c.two.loop, c.two.clock.now(), problem);
  CHECK(problem == ErrorCode::none);
  CHECK_FALSE(c.two.partition->next_fetch(c.two.clock.now(), c.two.waiter.get()).has_value());
}

TEST_CASE("roles of epochs that are over are refused", "[replication]") {
  Cluster c;
  c.follow(1, 5, 2);
  CHECK(c.lead(1, 4, {1, 2}).code() == ErrorCode::not_leader_or_follower);
  CHECK(c.one.partition->role() == Partition::Role::follower);
  CHECK(c.lead(1, 6, {2, 3}).code() == ErrorCode::not_leader_or_follower);  // not in the ISR
  REQUIRE(c.lead(1, 6, {1, 2}).ok());
  c.follow(1, 6, 2);
  CHECK(c.one.partition->role() == Partition::Role::leader);
  CHECK_FALSE(c.one.partition->on_assignment(c.leadership(7, {1, 2}, 3)));
  CHECK(c.one.partition->on_assignment(c.leadership(6, {1, 2, 3}, 3)));
  c.one.partition->stop(ErrorCode::unknown_topic_or_partition);
  c.follow(1, 8, 2);
  CHECK(c.one.partition->role() == Partition::Role::none);
  CHECK_FALSE(c.one.partition->next_fetch(c.one.clock.now(), nullptr).has_value());
}

TEST_CASE("an empty follower behind retention begins where the leader's log does", "[replication]") {
  Cluster c;
  REQUIRE(c.lead(1, 1, {1, 2}).ok());
  c.follow(2, 1, 1);
  (void)c.one.append({.count = 5});
  c.one.run_all();
  c.catch_up(2, 1);
  CHECK(c.one.mark() == Offset(5));
  REQUIRE(c.one.partition->delete_records(Offset(5)).ok());
  (void)c.one.append({.count = 1});
  c.one.run_all();
  c.follow(3, 1, 1);
  c.catch_up(3, 1);
  CHECK(c.cuts == 1);
  CHECK(c.three.partition->usage().offsets.log_start == Offset(5));
  CHECK(c.three.end() == Offset(6));
  // Who has records learns the new start instead.
  c.catch_up(2, 1);
  CHECK(c.two.partition->usage().offsets.log_start == Offset(5));
  CHECK(c.two.end() == Offset(6));
}

}  // namespace
}  // namespace millrace::partition
