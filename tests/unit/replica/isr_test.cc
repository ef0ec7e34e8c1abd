// The leader machine with followers: fetches, membership, the controller's answers.
#include "replica/leader.h"
#include "support/catch.h"

namespace millrace::replica {
namespace {

Now at_ms(int64_t ms) {
  return {ms, 0};
}
Assignment three(std::vector<int32_t> isr, int32_t partition_epoch = 1) {
  Assignment a;
  a.partition_epoch = partition_epoch;
  for (int i = 1; i <= 3; ++i) a.replicas.push_back({BrokerId(i), BrokerEpoch(10 + i), true});
  for (const int32_t id : isr) a.isr.push_back(BrokerId(id));
  return a;
}
Ends both(int64_t end) {
  return {Offset(end), Offset(end)};
}
Leader leading(std::vector<int32_t> isr, size_t min_insync, int64_t end, int64_t mark) {
  return {BrokerId(1),  LeaderEpoch(5), three(std::move(isr)), {min_insync, 100}, both(end),
          Offset(mark), at_ms(0)};
}
log::EpochCache leader_epochs() {
  log::EpochCache c;
  c.assign(LeaderEpoch(2), Offset(0));
  c.assign(LeaderEpoch(4), Offset(6));
  c.assign(LeaderEpoch(5), Offset(10));
  return c;
}
FollowerFetch by(int32_t id, int64_t offset, int64_t durable) {
  return {BrokerId(id),   BrokerEpoch(10 + id), LeaderEpoch(5),
          Offset(offset), Offset(durable),      LeaderEpoch(offset > 10 ? 5 : 4)};
}
FetchOutcome fetched(Leader& l, FollowerFetch f, int64_t ms = 1) {
  return l.on_fetch(f, Offset(0), leader_epochs(), at_ms(ms));
}
IsrAnswer confirmed(const IsrProposal& p, int32_t partition_epoch) {
  IsrAnswer a;
  a.number = p.number;
  a.leader_epoch = p.leader_epoch;
  a.partition_epoch = partition_epoch;
  for (const IsrMember& m : p.isr) a.isr.push_back(m.id);
  return a;
}

}  // namespace

TEST_CASE("the high watermark follows the smallest durable end of the ISR") {
  Leader l = leading({1, 2, 3}, 2, 10, 4);
  CHECK(l.high_watermark() == Offset(4));
  CHECK_FALSE(l.knows_committed_end());
  CHECK_FALSE(fetched(l, by(2, 10, 10)).high_watermark_advanced);
  CHECK(fetched(l, by(3, 10, 7)).high_watermark_advanced);
  CHECK(l.high_watermark() == Offset(7));
  CHECK(fetched(l, by(3, 10, 10)).high_watermark_advanced);
  CHECK(l.knows_committed_end());
  (void)fetched(l, by(3, 8, 8));  // an older fetch, late
  CHECK(l.high_watermark() == Offset(10));
}

TEST_CASE("a durable end beyond the fetch offset is not believed") {
  Leader l = leading({1, 2}, 1, 10, 0);
  (void)fetched(l, by(2, 8, 10));
  CHECK(l.ends_of(BrokerId(2)) == both(8));
}

TEST_CASE("what a follower said of its log in one reign counts for nothing in the next") {
  Leader before = leading({1, 2, 3}, 2, 10, 4);
  (void)fetched(before, by(2, 10, 10));
  (void)fetched(before, by(3, 10, 10));
  REQUIRE(before.ends_of(BrokerId(3)) == both(10));
  // 3 gave up its log; the controller took it out and began an epoch under the same leader.
  Leader l(BrokerId(1), LeaderEpoch(6), three({1, 2}, 2), {2, 100}, both(12), before.high_watermark(),
           at_ms(2));
  CHECK_FALSE(l.ends_of(BrokerId(3)));
  log::EpochCache epochs = leader_epochs();
  epochs.assign(LeaderEpoch(6), Offset(12));
  const auto ask = [&](FollowerFetch f, LeaderEpoch epoch) {
    f.leader_epoch = epoch;
    return l.on_fetch(f, Offset(0), epochs, at_ms(3));
  };
  // Late on the wire: of all that the old log had.
  CHECK(ask(by(3, 12, 12), LeaderEpoch(5)).error == ErrorCode::fenced_leader_epoch);
  CHECK_FALSE(l.ends_of(BrokerId(3)));
  CHECK_FALSE(l.tick(at_ms(4)));
  CHECK_FALSE(l.take_proposal());
  FollowerFetch empty = by(3, 0, 0);
  empty.last_fetched_epoch = kNoLeaderEpoch;
  CHECK(ask(empty, LeaderEpoch(6)).accepted());
  CHECK(l.ends_of(BrokerId(3)) == both(0));
  CHECK_FALSE(l.take_proposal());
  // The empty log does not hold back what the others have.
  CHECK(ask(by(2, 12, 12), LeaderEpoch(6)).high_watermark_advanced);
  CHECK(l.high_watermark() == Offset(12));
  CHECK(ask(by(3, 12, 12), LeaderEpoch(6)).accepted());
  const std::optional<IsrProposal> proposal = l.take_proposal();
  REQUIRE(proposal);
  CHECK(proposal->leader_epoch == LeaderEpoch(6));
  CHECK(proposal->isr.size() == 3);
}

TEST_CASE("fetches that cannot be believed are refused") {
  Leader l = leading({1, 2, 3}, 2, 10, 4);
  FollowerFetch f = by(2, 10, 10);
  f.leader_epoch = LeaderEpoch(4);
  CHECK(fetched(l, f).error == ErrorCode::fenced_leader_epoch);
  f.leader_epoch = LeaderEpoch(6);
  CHECK(fetched(l, f).error == ErrorCode::unknown_leader_epoch);
  f = by(9, 10, 10);
  CHECK(fetched(l, f).error == ErrorCode::unknown_leader_epoch);
  f = by(2, 10, 10);
  f.broker_epoch = BrokerEpoch(11);
  CHECK(fetched(l, f).error == ErrorCode::stale_broker_epoch);
  f = by(2, -1, 0);
  CHECK(fetched(l, f).error == ErrorCode::invalid_request);
  f = by(2, 10, 10);
  f.last_fetched_epoch = LeaderEpoch(6);
  CHECK(fetched(l, f).error == ErrorCode::invalid_request);
  f = by(2, 11, 11);
  f.last_fetched_epoch = kNoLeaderEpoch;
  CHECK(fetched(l, f).error == ErrorCode::offset_out_of_range);
  CHECK(l.on_fetch(by(2, 3, 3), Offset(4), leader_epochs(), at_ms(1)).error ==
        ErrorCode::offset_out_of_range);
  CHECK_FALSE(l.ends_of(BrokerId(2)));
}

TEST_CASE("a log that parts from the leader's is told where") {
  Leader l = leading({1, 2, 3}, 2, 10, 4);
  FollowerFetch f = by(2, 8, 8);
  f.last_fetched_epoch = LeaderEpoch(3);
  CHECK(fetched(l, f).diverging == log::EpochEnd{LeaderEpoch(2), Offset(6)});
  f.last_fetched_epoch = LeaderEpoch(2);
  CHECK(fetched(l, f).diverging == log::EpochEnd{LeaderEpoch(2), Offset(6)});
  CHECK_FALSE(l.ends_of(BrokerId(2)));
  CHECK(fetched(l, by(2, 8, 8)).accepted());
}

TEST_CASE("a follower joins when its durable end has reached the mark and the epoch's start") {
  Leader l = leading({1}, 1, 10, 4);
  CHECK(l.high_watermark() == Offset(10));
  (void)fetched(l, by(2, 10, 9));
  CHECK_FALSE(l.take_proposal());
  (void)fetched(l, by(2, 10, 10));
  const auto p = l.take_proposal();
  REQUIRE(p);
  CHECK(p->isr == std::vector<IsrMember>{{BrokerId(1), BrokerEpoch(11)}, {BrokerId(2), BrokerEpoch(12)}});
  CHECK(p->partition_epoch == 1);
  CHECK(p->leader_epoch == LeaderEpoch(5));
  CHECK_FALSE(l.take_proposal());
  // It counts already, and does not count as a member yet.
  CHECK_FALSE(l.on_local(both(20)));
  CHECK(l.isr() == std::vector<BrokerId>{BrokerId(1)});
  CHECK(l.maximal_isr().size() == 2);
  // One at a time.
  (void)fetched(l, by(3, 10, 10));
  CHECK_FALSE(l.take_proposal());
  CHECK_FALSE(l.on_answer(confirmed(*p, 2), at_ms(2)));
  CHECK(l.isr().size() == 2);
  CHECK(l.partition_epoch() == 2);
  (void)fetched(l, by(3, 10, 10));
  CHECK(l.take_proposal()->isr.size() == 3);
}

TEST_CASE("fenced, leaving and outdated brokers are not proposed") {
  Assignment a = three({1});
  a.replicas[1].may_join = false;
  Leader l(BrokerId(1), LeaderEpoch(5), a, {1, 100}, both(10), Offset(10), at_ms(0));
  (void)fetched(l, by(2, 10, 10));
  CHECK_FALSE(l.take_proposal());
  FollowerFetch f = by(3, 10, 10);
  f.broker_epoch = BrokerEpoch(99);  // of a registration the image does not have yet
  (void)fetched(l, f);
  CHECK_FALSE(l.take_proposal());
  a.replicas[2].epoch = BrokerEpoch(99);
  (void)l.on_assignment(a, at_ms(2));
  (void)fetched(l, f);
  CHECK(l.take_proposal());
}

TEST_CASE("who has not caught up for the lag time is proposed out, and counts until it is confirmed") {
  Leader l = leading({1, 2, 3}, 1, 10, 10);
  (void)fetched(l, by(2, 10, 10), 10);
  (void)l.on_local(both(12));
  (void)fetched(l, by(2, 12, 12), 90);
  CHECK_FALSE(l.tick(at_ms(100)));
  CHECK_FALSE(l.take_proposal());
  CHECK_FALSE(l.tick(at_ms(101)));
  const auto p = l.take_proposal();
  REQUIRE(p);
  CHECK(p->isr == std::vector<IsrMember>{{BrokerId(1), BrokerEpoch(11)}, {BrokerId(2), BrokerEpoch(12)}});
  CHECK(l.high_watermark() == Offset(10));
  CHECK(l.on_answer(confirmed(*p, 2), at_ms(102)));
  CHECK(l.high_watermark() == Offset(12));
}

TEST_CASE("one that has all there was at its previous fetch is not behind") {
  Leader l = leading({1, 2}, 1, 10, 10);
  (void)fetched(l, by(2, 10, 10), 0);
  for (int64_t ms = 50; ms <= 1000; ms += 50) {
    (void)l.on_local(both(10 + ms));
    (void)fetched(l, by(2, 10 + ms - 50, 10 + ms - 50), ms);
    (void)l.tick(at_ms(ms));
    CHECK_FALSE(l.take_proposal());
  }
  CHECK(l.last_caught_up_mono_ms(BrokerId(2)) == 950);
}

TEST_CASE("one follower's fetches do not put off the look at another's lag") {
  Leader l = leading({1, 2, 3}, 1, 10, 10);
  const int64_t due = l.next_deadline_mono_ms();
  CHECK(due == 50);
  (void)fetched(l, by(2, 10, 10), 40);
  CHECK(l.next_deadline_mono_ms() == due);
  (void)l.tick(at_ms(due));
  CHECK(l.next_deadline_mono_ms() == 100);
}

TEST_CASE("the mark waits for one that is about to join, as long as it keeps up") {
  Leader l = leading({1}, 1, 10, 10);
  (void)fetched(l, by(2, 10, 8), 0);  // behind the mark
  CHECK(l.on_local(both(12)));
  (void)fetched(l, by(2, 12, 10), 10);  // has what there was at 0
  CHECK_FALSE(l.on_local(both(14)));
  (void)fetched(l, by(2, 14, 12), 20);
  REQUIRE(l.take_proposal());
  IsrAnswer no;
  no.number = (uint64_t{5} << 32) + 1;
  no.error = ErrorCode::ineligible_replica;
  (void)l.on_answer(no, at_ms(20));
  CHECK(l.high_watermark() == Offset(12));
  CHECK(l.tick(at_ms(500)));  // silent for the lag time
  CHECK(l.high_watermark() == Offset(14));
}

TEST_CASE("answers of the controller") {
  Leader l = leading({1}, 1, 10, 10);
  (void)fetched(l, by(2, 10, 10));
  const auto p = l.take_proposal();
  REQUIRE(p);
  IsrAnswer a;
  a.number = p->number;
  SECTION("none at all: asked again, the same") {
    a.error = ErrorCode::request_timed_out;
    (void)l.on_answer(a, at_ms(10));
    CHECK_FALSE(l.take_proposal());
    (void)l.tick(at_ms(l.next_deadline_mono_ms()));
    CHECK(l.take_proposal()->number == p->number);
    CHECK_FALSE(l.on_local(both(11)));
  }
  SECTION("ineligible: nothing was applied") {
    a.error = ErrorCode::ineligible_replica;
    (void)l.on_answer(a, at_ms(10));
    CHECK_FALSE(l.proposal_pending());
    (void)fetched(l, by(2, 10, 10), 11);
    CHECK_FALSE(l.take_proposal());  // not at once
    (void)fetched(l, by(2, 10, 10), 300);
    CHECK(l.take_proposal()->number != p->number);
  }
  SECTION("the controller knows more: an image ends it") {
    for (const ErrorCode e :
         {ErrorCode::invalid_update_version, ErrorCode::fenced_leader_epoch, ErrorCode::new_leader_elected}) {
      a.error = e;
      (void)l.on_answer(a, at_ms(10));
      (void)l.tick(at_ms(10'000));
      CHECK_FALSE(l.take_proposal());
      CHECK(l.proposal_pending());
    }
    CHECK_FALSE(l.on_local(both(11)));
    CHECK(l.on_assignment(three({1, 3}, 1), at_ms(10'001)) == false);  // the same partition epoch
    CHECK(l.proposal_pending());
    (void)l.on_assignment(three({1}, 2), at_ms(10'001));
    CHECK_FALSE(l.proposal_pending());
  }
  SECTION("an answer that the image has overtaken is ignored") {
    (void)l.on_assignment(three({1, 2, 3}, 4), at_ms(10));
    CHECK_FALSE(l.on_answer(confirmed(*p, 2), at_ms(11)));
    CHECK(l.isr().size() == 3);
    CHECK(l.partition_epoch() == 4);
  }
}

TEST_CASE("below the minimum the mark stands still whatever the followers hold") {
  Leader l = leading({1}, 2, 10, 4);
  CHECK_FALSE(l.enough_in_sync());
  (void)fetched(l, by(2, 10, 10));
  CHECK(l.high_watermark() == Offset(4));
  const auto p = l.take_proposal();
  REQUIRE(p);
  CHECK(l.on_answer(confirmed(*p, 2), at_ms(2)));
  CHECK(l.high_watermark() == Offset(10));
}

}  // namespace millrace::replica
