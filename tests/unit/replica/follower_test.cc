#include "replica/follower.h"

#include "replica/read_replica.h"
#include "support/catch.h"

namespace millrace::replica {
namespace {

constexpr Now kFollowerStart{1'000, 0};

LocalLog log_of(int64_t end, int32_t last_epoch, int64_t start = 0) {
  return {{Offset(end), Offset(end)}, Offset(start), LeaderEpoch(last_epoch)};
}
Follower following(LocalLog local, int32_t epoch, int64_t mark = 0) {
  Follower f(local, Offset(mark), {10, 1'000});
  CHECK(f.on_leader(LeaderEpoch(epoch), BrokerId(1), kFollowerStart));
  return f;
}
FetchAnswer answer_to(const FetchPosition& p) {
  FetchAnswer a;
  a.number = p.number;
  a.leader_epoch = p.leader_epoch;
  a.log_start = Offset(0);
  return a;
}
log::EpochCache epochs_of(std::initializer_list<std::pair<int32_t, int64_t>> entries) {
  log::EpochCache c;
  for (const auto& [epoch, start] : entries) c.assign(LeaderEpoch(epoch), Offset(start));
  return c;
}

}  // namespace

TEST_CASE("a follower asks from its log end, once at a time") {
  Follower f = following(log_of(10, 2), 3);
  const auto p = f.next_fetch(kFollowerStart);
  REQUIRE(p);
  CHECK(p->fetch_offset == Offset(10));
  CHECK(p->last_fetched_epoch == LeaderEpoch(2));
  CHECK(p->leader_epoch == LeaderEpoch(3));
  CHECK_FALSE(f.next_fetch(kFollowerStart));
  CHECK(f.next_deadline_mono_ms() == kNoDeadline);
}

TEST_CASE("records are appended and the high watermark is the smaller of the leader's and the own end") {
  Follower f = following(log_of(10, 2), 3, 4);
  FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
  a.records = FetchedRange{Offset(10), Offset(15), LeaderEpoch(2), LeaderEpoch(3)};
  a.high_watermark = Offset(99);
  a.log_start = Offset(3);
  const Step s = f.on_answer(a, epochs_of({{2, 0}}), kFollowerStart);
  CHECK(s.append);
  CHECK(s.advance_log_start == Offset(3));
  CHECK(s.problem == ErrorCode::none);
  CHECK(f.high_watermark() == Offset(4));  // not before they are there
  CHECK(f.on_local({{Offset(15), Offset(12)}, Offset(3), LeaderEpoch(3)}));
  CHECK(f.high_watermark() == Offset(15));
  CHECK(f.next_fetch(kFollowerStart)->durable_end == Offset(12));
  CHECK_FALSE(f.owes_durable_end());
}

TEST_CASE("a repeated or late answer does nothing") {
  Follower f = following(log_of(10, 2), 3);
  FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
  a.diverging = log::EpochEnd{LeaderEpoch(1), Offset(5)};
  CHECK(f.on_answer(a, epochs_of({{1, 0}, {2, 5}}), kFollowerStart).truncate_to == Offset(5));
  (void)f.on_local(log_of(5, 1));
  CHECK_FALSE(f.on_answer(a, epochs_of({{1, 0}}), kFollowerStart).truncate_to);
  REQUIRE(f.next_fetch(kFollowerStart));
  CHECK_FALSE(f.on_answer(a, epochs_of({{1, 0}}), kFollowerStart).truncate_to);
  CHECK(f.on_leader(LeaderEpoch(4), BrokerId(2), kFollowerStart));
  CHECK_FALSE(f.on_leader(LeaderEpoch(3), BrokerId(1), kFollowerStart));
  CHECK(f.leader() == BrokerId(2));
}

TEST_CASE("several missed epochs are walked back one answer at a time") {
  // Own: epoch 1 [0,4) 2 [4,7) 5 [7,12). The leader had 1 [0,6) 3 [6,9) 6 [9,...).
  Follower f = following(log_of(12, 5), 6, 2);
  const log::EpochCache own = epochs_of({{1, 0}, {2, 4}, {5, 7}});
  FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
  a.diverging = log::EpochEnd{LeaderEpoch(3), Offset(9)};
  Step s = f.on_answer(a, own, kFollowerStart);
  CHECK(s.truncate_to == Offset(7));  // the end of epoch 2, the largest not above 3
  CHECK_FALSE(s.lost_committed);
  (void)f.on_local(log_of(7, 2));
  const auto p = f.next_fetch(kFollowerStart);
  CHECK(p->last_fetched_epoch == LeaderEpoch(2));
  a = answer_to(*p);
  a.diverging = log::EpochEnd{LeaderEpoch(1), Offset(6)};
  s = f.on_answer(a, epochs_of({{1, 0}, {2, 4}}), kFollowerStart);
  CHECK(s.truncate_to == Offset(4));
}

TEST_CASE("a cut below what is known to be committed is said") {
  Follower f = following(log_of(12, 5), 6, 8);
  FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
  a.diverging = log::EpochEnd{LeaderEpoch(5), Offset(6)};
  const Step s = f.on_answer(a, epochs_of({{5, 0}}), kFollowerStart);
  CHECK(s.truncate_to == Offset(6));
  CHECK(s.lost_committed);
  CHECK(f.high_watermark() == Offset(6));
}

TEST_CASE("a divergence that cuts nothing is a contradiction, not a loop") {
  Follower f = following(log_of(12, 5), 6);
  FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
  a.diverging = log::EpochEnd{LeaderEpoch(5), Offset(40)};
  const Step s = f.on_answer(a, epochs_of({{5, 0}}), kFollowerStart);
  CHECK_FALSE(s.truncate_to);
  CHECK(s.problem == ErrorCode::corrupt_message);
  CHECK(f.next_deadline_mono_ms() > kFollowerStart.mono_ms);
}

TEST_CASE("retention at the leader has overtaken the log: all over from its start") {
  Follower f = following(log_of(12, 5, 3), 6, 12);
  FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
  a.error = ErrorCode::offset_out_of_range;
  a.log_start = Offset(50);
  const Step s = f.on_answer(a, epochs_of({{5, 0}}), kFollowerStart);
  CHECK(s.reset_to == Offset(50));
  CHECK_FALSE(s.lost_committed);
  (void)f.on_local({{Offset(50), Offset(50)}, Offset(50), kNoLeaderEpoch});
  CHECK(f.high_watermark() == Offset(50));
  CHECK(f.next_fetch(kFollowerStart)->fetch_offset == Offset(50));
}

TEST_CASE("out of range without a reason is no ground to throw a log away") {
  Follower f = following(log_of(12, 5, 3), 6, 12);
  for (const int64_t start : {-1, 0, 3, 12}) {
    FetchAnswer a = answer_to(*f.next_fetch({f.next_deadline_mono_ms(), 0}));
    a.error = ErrorCode::offset_out_of_range;
    a.log_start = Offset(start);
    const Step s = f.on_answer(a, epochs_of({{5, 0}}), kFollowerStart);
    CHECK_FALSE(s.reset_to);
    CHECK(s.problem == ErrorCode::offset_out_of_range);
  }
}

TEST_CASE("a gap of compaction is taken over, an overlap or a foreign epoch is not") {
  const auto with = [](FetchedRange r) {
    Follower f = following(log_of(12, 5), 6);
    FetchAnswer a = answer_to(*f.next_fetch(kFollowerStart));
    a.records = r;
    return f.on_answer(a, epochs_of({{5, 0}}), kFollowerStart);
  };
  CHECK(with({Offset(20), Offset(21), LeaderEpoch(5), LeaderEpoch(5)}).append);
  CHECK_FALSE(with({Offset(11), Offset(21), LeaderEpoch(5), LeaderEpoch(5)}).append);
  CHECK_FALSE(with({Offset(12), Offset(12), LeaderEpoch(5), LeaderEpoch(5)}).append);
  CHECK_FALSE(with({Offset(12), Offset(13), LeaderEpoch(4), LeaderEpoch(5)}).append);
  CHECK_FALSE(with({Offset(12), Offset(13), LeaderEpoch(6), LeaderEpoch(5)}).append);
  CHECK(with({Offset(12), Offset(13), LeaderEpoch(5), LeaderEpoch(7)}).problem == ErrorCode::corrupt_message);
}

TEST_CASE("failures wait longer each time, up to the limit, and are forgotten at the first success") {
  Follower f = following(log_of(12, 5), 6);
  int64_t now = kFollowerStart.mono_ms;
  std::vector<int64_t> waits;
  for (int i = 0; i < 9; ++i) {
    FetchAnswer a = answer_to(*f.next_fetch({now, 0}));
    a.error = ErrorCode::not_leader_or_follower;
    (void)f.on_answer(a, {}, {now, 0});
    waits.push_back(f.next_deadline_mono_ms() - now);
    CHECK_FALSE(f.next_fetch({now, 0}));
    now = f.next_deadline_mono_ms();
  }
  CHECK(waits == std::vector<int64_t>{10, 20, 40, 80, 160, 320, 640, 1000, 1000});
  (void)f.on_answer(answer_to(*f.next_fetch({now, 0})), {}, {now, 0});
  CHECK(f.next_deadline_mono_ms() == now);
}

TEST_CASE("a sync that ends while a fetch is parked is owed to the leader") {
  Follower f = following({{Offset(12), Offset(9)}, Offset(0), LeaderEpoch(5)}, 6, 9);
  REQUIRE(f.next_fetch(kFollowerStart));
  CHECK_FALSE(f.owes_durable_end());
  (void)f.on_local(log_of(12, 5));
  CHECK(f.owes_durable_end());
}

TEST_CASE("nobody leads: nothing is fetched") {
  Follower f(log_of(1, 0), Offset(0));
  CHECK_FALSE(f.next_fetch(kFollowerStart));
  CHECK(f.on_leader(LeaderEpoch(2), kNoBroker, kFollowerStart));
  CHECK_FALSE(f.next_fetch(kFollowerStart));
  CHECK(f.next_deadline_mono_ms() == kNoDeadline);
}

TEST_CASE("the nearest replica is in sync, covers the offset, and is the furthest of its rack") {
  const std::vector<ReadCandidate> all{
      {BrokerId(1), "a", true, true, Offset(0), Offset(100), 0},
      {BrokerId(2), "b", true, true, Offset(0), Offset(90), 0},
      {BrokerId(3), "b", true, true, Offset(0), Offset(95), 9},
      {BrokerId(4), "b", false, true, Offset(0), Offset(100), 0},
      {BrokerId(5), "b", true, false, Offset(0), Offset(100), 0},
      {BrokerId(6), "b", true, true, Offset(50), Offset(95), 3},
  };
  CHECK(preferred_read_replica("b", BrokerId(1), Offset(60), all) == BrokerId(6));
  CHECK(preferred_read_replica("b", BrokerId(1), Offset(10), all) == BrokerId(3));
  CHECK_FALSE(preferred_read_replica("b", BrokerId(1), Offset(96), all));
  CHECK_FALSE(preferred_read_replica("a", BrokerId(1), Offset(60), all));
  CHECK_FALSE(preferred_read_replica("c", BrokerId(1), Offset(60), all));
  CHECK_FALSE(preferred_read_replica("", BrokerId(1), Offset(60), all));
}

}  // namespace millrace::replica
