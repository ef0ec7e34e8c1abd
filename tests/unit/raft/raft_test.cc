#include "raft/raft.h"

#include "support/catch.h"
#include "unit/raft/story.h"

using namespace millrace;
using namespace millrace::raft;

namespace {

Slice slice_of(const std::string& text) {
  return Slice(to_bytes(text));
}

Entry plain_entry(int64_t index, int64_t term, const std::string& text = "x") {
  return {LogIndex(index), Term(term), EntryKind::payload, slice_of(text)};
}

ErrorCode open_error(Restored restored) {
  Options o;
  o.self = NodeId(1);
  restored.initial.voters = {NodeId(1)};
  return Raft::open(o, std::move(restored), Now{}).code();
}

// An elected leader 1 of three.
std::unique_ptr<Story> elected(Options options = {}) {
  auto s = std::make_unique<Story>(3, options);
  s->time_out(1);
  s->settle();
  REQUIRE((*s)[1].leads());
  s->forget();
  return s;
}

size_t appends_with_entries(const Output& out, int to) {
  size_t n = 0;
  for (const Message& m : out.send) {
    const auto* a = std::get_if<AppendRequest>(&m.body);
    if (m.to == NodeId(to) && a != nullptr && !a->entries.empty()) ++n;
  }
  return n;
}

}  // namespace

TEST_CASE("memberships survive encoding, and damage is noticed") {
  const Membership m{{NodeId(1), NodeId(2), NodeId(7)}, {NodeId(3)}};
  const Bytes bytes = encode_membership(m);
  CHECK(decode_membership(bytes).value() == m);
  for (size_t n = 0; n < bytes.size(); ++n)
    CHECK(decode_membership(ByteView(bytes).first(n)).code() == ErrorCode::corrupt);
  Bytes longer = bytes;
  longer.push_back(0);
  CHECK(decode_membership(longer).code() == ErrorCode::corrupt);
  CHECK(decode_membership(encode_membership({{}, {NodeId(1)}})).code() == ErrorCode::corrupt);
  CHECK(decode_membership(encode_membership({{NodeId(2), NodeId(1)}, {}})).code() == ErrorCode::corrupt);
  CHECK(decode_membership(encode_membership({{NodeId(1), NodeId(1)}, {}})).code() == ErrorCode::corrupt);
  CHECK(decode_membership(encode_membership({{NodeId(1)}, {NodeId(1)}})).code() == ErrorCode::corrupt);
  const Bytes huge{0xff, 0xff, 0xff, 0xff};
  CHECK(decode_membership(huge).code() == ErrorCode::corrupt);
}

TEST_CASE("the directories of voters survive encoding, and damage is noticed") {
  const Membership m{
      {NodeId(1), NodeId(2), NodeId(7)}, {NodeId(3)}, {{NodeId(2), {{5}}}, {NodeId(7), {{6}}}}};
  const Bytes bytes = encode_membership(m);
  CHECK(decode_membership(bytes).value() == m);
  CHECK(*m.directory_of(NodeId(7)) == Uuid{{6}});
  CHECK(m.directory_of(NodeId(1)) == nullptr);
  const size_t without = encode_membership({m.voters, m.learners}).size();
  for (size_t n = 0; n < bytes.size(); ++n) {
    // What came before there were directories is whole without them.
    CHECK(decode_membership(ByteView(bytes).first(n)).ok() == (n == without));
  }
  Bytes longer = bytes;
  longer.push_back(0);
  CHECK(decode_membership(longer).code() == ErrorCode::corrupt);
  const auto wrong = [&m](std::vector<std::pair<NodeId, Uuid>> directories) {
    return decode_membership(encode_membership({m.voters, m.learners, std::move(directories)})).code();
  };
  CHECK(wrong({{NodeId(3), {{5}}}}) == ErrorCode::corrupt);
  CHECK(wrong({{NodeId(9), {{5}}}}) == ErrorCode::corrupt);
  CHECK(wrong({{NodeId(7), {{5}}}, {NodeId(2), {{5}}}}) == ErrorCode::corrupt);
  CHECK(wrong({{NodeId(2), {{5}}}, {NodeId(2), {{5}}}}) == ErrorCode::corrupt);
}

TEST_CASE("a store that does not hang together does not open") {
  const HardState hard{Term(5), kNobody};
  CHECK(open_error({hard, {}, {plain_entry(1, 1), plain_entry(2, 3)}, {}}) == ErrorCode::none);
  CHECK(open_error({hard, {}, {plain_entry(1, 1), plain_entry(3, 1)}, {}}) == ErrorCode::corrupt);
  CHECK(open_error({hard, {}, {plain_entry(1, 3), plain_entry(2, 1)}, {}}) == ErrorCode::corrupt);
  CHECK(open_error({hard, {}, {plain_entry(1, 6)}, {}}) == ErrorCode::corrupt);
  CHECK(open_error({hard, {}, {{LogIndex(1), Term(1), EntryKind::membership, slice_of("?")}}, {}}) ==
        ErrorCode::corrupt);
  Snapshot snapshot{{LogIndex(3), Term(2), {{NodeId(1)}, {}}}, slice_of("state")};
  CHECK(open_error({hard, snapshot, {plain_entry(2, 1), plain_entry(3, 2), plain_entry(4, 2)}, {}}) ==
        ErrorCode::none);
  CHECK(open_error({hard, snapshot, {plain_entry(5, 2)}, {}}) == ErrorCode::corrupt);
}

TEST_CASE("only a leader takes proposals, changes and transfers, and only sensible ones") {
  auto s = elected();
  const Slice p = slice_of("x");
  CHECK((*s)[2].propose(std::span(&p, 1), s->now()).code() == ErrorCode::not_controller);
  CHECK((*s)[2].change_membership(ChangeKind::add_learner, NodeId(9), s->now()).code() ==
        ErrorCode::not_controller);
  CHECK((*s)[2].transfer_leadership(NodeId(3), s->now()).code() == ErrorCode::not_controller);
  Raft& leader = (*s)[1];
  CHECK(leader.transfer_leadership(NodeId(1), s->now()).code() == ErrorCode::invalid_argument);
  CHECK(leader.transfer_leadership(NodeId(9), s->now()).code() == ErrorCode::invalid_argument);
  CHECK(leader.change_membership(ChangeKind::add_learner, NodeId(2), s->now()).code() ==
        ErrorCode::invalid_argument);
  CHECK(leader.change_membership(ChangeKind::add_learner, NodeId(-5), s->now()).code() ==
        ErrorCode::invalid_argument);
  CHECK(leader.change_membership(ChangeKind::promote_learner, NodeId(2), s->now()).code() ==
        ErrorCode::invalid_argument);
  CHECK(leader.change_membership(ChangeKind::remove, NodeId(9), s->now()).code() ==
        ErrorCode::invalid_argument);
  CHECK(leader.peers().size() == 2);

  Story single(1);
  single.tick(1);
  single.settle();
  CHECK(single[1].change_membership(ChangeKind::remove, NodeId(1), single.now()).code() ==
        ErrorCode::invalid_argument);
}

TEST_CASE("a learner far behind is not promoted") {
  Options o;
  o.promotable_lag = 2;
  Story s(1, o);
  s.tick(1);
  s.settle();
  REQUIRE(s[1].change_membership(ChangeKind::add_learner, NodeId(2), s.now()).ok());  // nobody answers there
  s.settle();
  for (int i = 0; i < 3; ++i) s.propose(1, "x");
  s.settle();
  CHECK(s[1].change_membership(ChangeKind::promote_learner, NodeId(2), s.now()).code() ==
        ErrorCode::invalid_argument);
  s.add(2);
  s.pass(250);
  s.tick(1);
  s.settle();
  CHECK(s[1].change_membership(ChangeKind::promote_learner, NodeId(2), s.now()).ok());
  s.settle();
  CHECK(s[2].membership().is_voter(NodeId(2)));
}

TEST_CASE("a transfer to a node that does not answer is given up") {
  auto s = elected();
  s->isolate(3);
  s->propose(1, "x");
  REQUIRE((*s)[1].transfer_leadership(NodeId(3), s->now()).ok());
  const Slice p = slice_of("y");
  for (int i = 0; i < 5; ++i) {
    s->pass(250);
    s->tick(1);
    s->settle();
  }
  CHECK((*s)[1].leads());
  CHECK((*s)[1].propose(std::span(&p, 1), s->now()).ok());
}

TEST_CASE("proposals beyond the limit of uncommitted bytes are refused until some commit") {
  Options o;
  o.uncommitted_bytes_max = 10;
  auto s = elected(o);
  Raft& leader = (*s)[1];
  const Slice six = slice_of("123456");
  CHECK(leader.propose(std::span(&six, 1), s->now()).ok());
  CHECK(leader.propose(std::span(&six, 1), s->now()).code() == ErrorCode::limit_exceeded);
  s->settle();
  CHECK(leader.propose(std::span(&six, 1), s->now()).ok());
  s->settle();
  const Slice large = slice_of(std::string(100, 'x'));  // one alone may be larger
  CHECK(leader.propose(std::span(&large, 1), s->now()).ok());
}

TEST_CASE("a follower is sent so many messages and no more before it answers") {
  Options o;
  o.inflight_max = 4;
  o.append_bytes_max = 1;
  auto s = elected(o);
  Raft& leader = (*s)[1];
  for (int i = 0; i < 10; ++i) {
    const Slice p = slice_of("entry");
    REQUIRE(leader.propose(std::span(&p, 1), s->now()).ok());
  }
  const Output out = leader.take_output();
  CHECK(appends_with_entries(out, 2) == 4);
  CHECK(appends_with_entries(out, 3) == 4);
  CHECK(out.entries.size() == 10);
  leader.step({NodeId(2), NodeId(1), Term(1), AppendReply{true, LogIndex(1), LogIndex(2), {}, {}}}, s->now());
  CHECK(appends_with_entries(leader.take_output(), 2) == 1);
}

TEST_CASE("with a write under way only messages come out") {
  auto s = elected();
  Raft& leader = (*s)[1];
  const Slice p = slice_of("x");
  REQUIRE(leader.propose(std::span(&p, 1), s->now()).ok());
  Output out = leader.take_output(false);
  CHECK(out.ticket == 0);
  CHECK(out.entries.empty());
  CHECK(out.send.size() == 2);
  out = leader.take_output();
  CHECK(out.ticket != 0);
  CHECK(out.entries.size() == 1);
  CHECK(leader.take_output().ticket == 0);
}

TEST_CASE("messages that no honest node sends change nothing") {
  auto s = elected();
  Raft& follower = (*s)[2];
  s->propose(1, "a");
  s->settle();
  const LogIndex last = follower.log().last_index();
  const LogIndex commit = follower.commit_index();
  const auto from_leader = [&](AppendRequest a) {
    follower.step({NodeId(1), NodeId(2), Term(1), std::move(a)}, s->now());
    (void)follower.take_output();
    CHECK(follower.log().last_index() == last);
    CHECK(follower.commit_index() == commit);
  };
  from_leader({last, Term(1), commit, {plain_entry(last.v + 2, 1)}});  // a gap
  from_leader({last, Term(1), commit, {plain_entry(last.v + 1, 2)}});  // a term to come
  from_leader({last, Term(1), commit, {plain_entry(last.v + 1, 0)}});  // a term that went back
  from_leader({last, Term(1), commit, {{last + 1, Term(1), EntryKind::membership, slice_of("?")}}});
  from_leader({LogIndex(-5), Term(0), LogIndex(INT64_MIN), {}});
  from_leader({LogIndex(INT64_MAX), Term(1), LogIndex(INT64_MAX), {}});
  from_leader({LogIndex(0), Term(0), commit, {plain_entry(1, 0, "other")}});  // against what is committed
  follower.step({NodeId(1), NodeId(2), Term(1), SnapshotRequest{{LogIndex(99), Term(1), {}}, 0, 0, {}}},
                s->now());
  CHECK(follower.commit_index() == commit);

  Raft& leader = (*s)[1];
  leader.step({NodeId(2), NodeId(1), Term(1), AppendReply{true, LogIndex(0), LogIndex(1000), {}, {}}},
              s->now());
  leader.step({NodeId(9), NodeId(1), Term(1), AppendReply{true, LogIndex(0), LogIndex(1), {}, {}}}, s->now());
  leader.step({NodeId(2), NodeId(1), Term(1), SnapshotReply{LogIndex(5), 77}}, s->now());
  leader.step({NodeId(2), NodeId(1), Term(1), AppendRequest{LogIndex(0), Term(0), LogIndex(0), {}}},
              s->now());
  leader.step({NodeId(2), NodeId(7), Term(9), AppendReply{}}, s->now());  // not for us
  CHECK(leader.leads());
  CHECK(leader.term() == Term(1));
  CHECK(leader.commit_index() == commit);
}

TEST_CASE("a snapshot larger than the limit is not gathered") {
  Options o;
  o.snapshot_bytes_max = 10;
  Story s(2, o);
  const SnapshotMeta meta{LogIndex(5), Term(1), {{NodeId(1), NodeId(2)}, {}}};
  s[2].step({NodeId(1), NodeId(2), Term(1), SnapshotRequest{meta, 0, 11, slice_of("x")}}, s.now());
  s.settle();
  CHECK(s.tell().find("snapshot") == std::string::npos);
}

TEST_CASE("entries behind a snapshot are kept for followers that lag a little") {
  Options o;
  o.trailing_entries = 2;
  auto s = elected(o);
  for (int i = 0; i < 6; ++i) s->propose(1, "x");
  s->settle();
  Raft& leader = (*s)[1];
  leader.snapshot_taken({leader.snapshot_meta(LogIndex(6)).value(), slice_of("state")});
  CHECK(leader.log().base_index() == LogIndex(4));
  CHECK_FALSE(leader.snapshot_meta(LogIndex(3)).has_value());  // the log no longer knows
  leader.snapshot_taken({leader.snapshot_meta(LogIndex(5)).value(), slice_of("older")});  // changes nothing
  CHECK(leader.log().base_index() == LogIndex(4));
}

TEST_CASE("a majority that holds an entry of an earlier term commits nothing by that alone") {
  // Figure 8 of the paper: only an entry of the leader's own term commits by counting.
  Restored restored;
  restored.hard_state.term = Term(2);
  restored.entries = {plain_entry(1, 1), plain_entry(2, 2)};
  Story s(3);
  s.open(1, restored);
  s.isolate(3);
  s.time_out(1);
  Raft& leader = s[1];
  const auto round = [&] {
    Output out = leader.take_output();
    if (out.ticket != 0) leader.persisted(out.ticket, s.now());
  };
  leader.step({NodeId(2), NodeId(1), Term(3), VoteReply{true, true}}, s.now());
  round();
  leader.step({NodeId(2), NodeId(1), Term(3), VoteReply{false, true}}, s.now());
  REQUIRE(leader.leads());
  round();
  leader.step({NodeId(2), NodeId(1), Term(3), AppendReply{true, LogIndex(0), LogIndex(2), {}, {}}}, s.now());
  CHECK(leader.commit_index() == LogIndex(0));
  CHECK(leader.change_membership(ChangeKind::add_learner, NodeId(4), s.now()).code() ==
        ErrorCode::concurrent_transactions);
  leader.step({NodeId(2), NodeId(1), Term(3), AppendReply{true, LogIndex(2), LogIndex(3), {}, {}}}, s.now());
  CHECK(leader.commit_index() == LogIndex(3));
  CHECK(leader.change_membership(ChangeKind::add_learner, NodeId(4), s.now()).ok());
}

TEST_CASE("a follower commits no further than the log is known to agree") {
  // Two entries of an old leader lie beyond what the new one has compared; its commit index does not vouch
  // for them.
  Restored restored;
  restored.hard_state.term = Term(3);
  restored.entries = {plain_entry(1, 1), plain_entry(2, 2), plain_entry(3, 2)};
  Story s(3);
  s.open(1, restored);
  s[1].step({NodeId(2), NodeId(1), Term(3), AppendRequest{LogIndex(1), Term(1), LogIndex(3), {}}}, s.now());
  CHECK(s[1].commit_index() == LogIndex(1));
}

TEST_CASE("a membership that is cut from the log is no longer in force") {
  const Membership four{{NodeId(1), NodeId(2), NodeId(3)}, {NodeId(4)}};
  Restored restored;
  restored.hard_state.term = Term(2);
  restored.entries = {plain_entry(1, 1),
                      {LogIndex(2), Term(1), EntryKind::membership, Slice(encode_membership(four))}};
  Story s(3);
  s.open(1, restored);
  CHECK(s[1].membership() == four);
  s[1].step(
      {NodeId(2), NodeId(1), Term(2), AppendRequest{LogIndex(1), Term(1), LogIndex(0), {plain_entry(2, 2)}}},
      s.now());
  CHECK(s[1].membership() == Membership{{NodeId(1), NodeId(2), NodeId(3)}, {}});
}

TEST_CASE("a vote is not looked at while the leader is heard, unless the leader wishes it") {
  auto s = elected();
  Raft& follower = (*s)[2];
  follower.step({NodeId(3), NodeId(2), Term(9), VoteRequest{false, false, LogIndex(99), Term(8)}}, s->now());
  CHECK(follower.term() == Term(1));
  CHECK(follower.leader() == NodeId(1));
  follower.step({NodeId(3), NodeId(2), Term(9), VoteRequest{false, true, LogIndex(99), Term(8)}}, s->now());
  CHECK(follower.term() == Term(9));
  CHECK(follower.vote() == NodeId(3));
}

TEST_CASE("a write from before a snapshot was installed makes nothing after it durable") {
  Story s(3);
  Raft& r = s[1];
  AppendRequest junk{LogIndex(0), Term(0), LogIndex(0), {}};
  for (int64_t i = 1; i <= 9; ++i) junk.entries.push_back(plain_entry(i, 1));
  r.step({NodeId(2), NodeId(1), Term(1), junk}, s.now());
  const uint64_t old_write = r.take_output().ticket;
  REQUIRE(old_write != 0);

  const SnapshotMeta meta{LogIndex(5), Term(2), {{NodeId(1), NodeId(2), NodeId(3)}, {}}};
  r.step({NodeId(3), NodeId(1), Term(2), SnapshotRequest{meta, 0, 1, slice_of("s")}}, s.now());
  AppendRequest rest{LogIndex(5), Term(2), LogIndex(9), {}};
  for (int64_t i = 6; i <= 9; ++i) rest.entries.push_back(plain_entry(i, 2));
  r.step({NodeId(3), NodeId(1), Term(2), rest}, s.now());
  const Output out = r.take_output();
  REQUIRE(out.snapshot.has_value());
  CHECK(out.entries.size() == 4);
  CHECK(out.send.empty());

  r.persisted(old_write, s.now());
  Output then = r.take_output();
  CHECK(then.committed.empty());
  CHECK(then.send.empty());
  r.persisted(out.ticket, s.now());
  then = r.take_output();
  CHECK(then.committed.size() == 4);
  CHECK(then.send.size() == 2);
}

TEST_CASE("entries of one proposal are split over messages by size") {
  Options o;
  o.append_bytes_max = 10;
  auto s = elected(o);
  const std::vector<Slice> payloads(5, slice_of("12345"));
  REQUIRE((*s)[1].propose(payloads, s->now()).ok());
  CHECK(appends_with_entries((*s)[1].take_output(), 2) == 3);
}

TEST_CASE("a leader is sure of the time at which it asked, not of that at which it heard") {
  auto s = elected();
  s->propose(1, "first");
  s->settle();
  Raft& leader = (*s)[1];
  CHECK((*s)[2].led_until_mono_ms() == INT64_MIN);
  // It stands still while an answer lies in its socket.
  s->pass(250);
  s->tick(1);
  const int64_t asked = s->now().mono_ms;
  for (Message& m : leader.take_output().send) {
    if (m.to == NodeId(2)) (*s)[2].step(std::move(m), s->now());
  }
  const Output answer = (*s)[2].take_output();
  REQUIRE(answer.send.size() == 1);
  CHECK(leader.led_until_mono_ms() < asked);
  s->pass(15'000);
  leader.step(answer.send.front(), s->now());
  CHECK(leader.leads());
  CHECK(leader.led_until_mono_ms() == asked);
}

TEST_CASE("a sole voter is always sure to lead") {
  Story s(1);
  s.time_out(1);
  s.settle();
  CHECK(s[1].led_until_mono_ms() == INT64_MAX);
}

TEST_CASE("one follower that takes the leader for gone moves nothing while the other hears it") {
  auto s = elected();
  (*s)[2].node_gone(NodeId(1), s->now());
  CHECK((*s)[2].leader() == kNobody);
  CHECK((*s)[2].next_deadline_mono_ms() < s->now().mono_ms + 500);
  s->time_out(2);
  s->settle();
  CHECK((*s)[2].role() == Role::pre_candidate);
  CHECK((*s)[2].term() == Term(1));
  CHECK((*s)[1].leads());
  // It is heard again: all is as it was.
  s->propose(1, "on");
  s->settle();
  CHECK((*s)[2].role() == Role::follower);
  CHECK((*s)[2].leader() == NodeId(1));
}

TEST_CASE("voters stand one after the other when their leader is gone") {
  auto s = elected();
  s->isolate(1);
  (*s)[3].node_gone(NodeId(1), s->now());
  (*s)[2].node_gone(NodeId(1), s->now());
  CHECK((*s)[2].next_deadline_mono_ms() < (*s)[3].next_deadline_mono_ms());
  CHECK((*s)[3].next_deadline_mono_ms() < s->now().mono_ms + 100);
  s->time_out(2);
  s->settle();
  CHECK((*s)[2].leads());
  CHECK((*s)[3].leader() == NodeId(2));
}

TEST_CASE("word of a node that does not lead, or of nobody, changes nothing") {
  auto s = elected();
  const int64_t deadline = (*s)[2].next_deadline_mono_ms();
  (*s)[2].node_gone(NodeId(3), s->now());
  (*s)[2].node_gone(kNobody, s->now());
  (*s)[1].node_gone(NodeId(1), s->now());
  CHECK((*s)[2].next_deadline_mono_ms() == deadline);
  CHECK((*s)[2].leader() == NodeId(1));
  CHECK((*s)[1].leads());
}
