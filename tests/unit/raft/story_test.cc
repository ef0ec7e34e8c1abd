// What the machine says in the situations of the thesis, word by word.
#include "unit/raft/story.h"

using namespace millrace;
using namespace millrace::raft;

TEST_CASE("story: three nodes elect a leader and commit an entry") {
  Story s(3);
  s.time_out(1);
  s.settle();
  CHECK(s.tell() == R"(
1 times out
1->2 t1 pre-vote? 0@0
1->3 t1 pre-vote? 0@0
2->1 t1 pre-vote yes
1 writes term 1 vote 1
3->1 t1 pre-vote yes
1->2 t1 vote? 0@0
2 writes term 1 vote 1
1->3 t1 vote? 0@0
3 writes term 1 vote 1
2->1 t1 vote yes
1 writes [1@1]
1->2 t1 append 0@0 [1@1] commit 0
2 writes [1@1]
1->3 t1 append 0@0 [1@1] commit 0
3 writes [1@1]
3->1 t1 vote yes
2->1 t1 has 1
1 leads in term 1
3->1 t1 has 1
1->2 t1 append 1@1 [] commit 1
1->3 t1 append 1@1 [] commit 1
2->1 t1 has 1
3->1 t1 has 1
)");
  s.propose(1, "a");
  s.settle();
  CHECK(s.tell() == R"(
1 writes [2@1=a]
1->2 t1 append 1@1 [2@1=a] commit 1
2 writes [2@1=a]
1->3 t1 append 1@1 [2@1=a] commit 1
3 writes [2@1=a]
2->1 t1 has 2
1 applies a
1->2 t1 append 2@1 [] commit 2
2 applies a
1->3 t1 append 2@1 [] commit 2
3 applies a
3->1 t1 has 2
2->1 t1 has 2
3->1 t1 has 2
)");
}

TEST_CASE("story: a single voter leads at once, and commits what it has written") {
  Story s(1);
  s.tick(1);
  s.settle();
  s.propose(1, "a");
  CHECK(s[1].commit_index() == LogIndex(1));
  s.settle();
  CHECK(s.tell() == R"(
1 writes term 1 vote 1
1 writes [1@1]
1 leads in term 1
1 writes [2@1=a]
1 applies a
)");
}

TEST_CASE("story: what an isolated leader wrote is overwritten") {
  Story s(3);
  s.time_out(1);
  s.settle();
  s.isolate(1);
  s.propose(1, "lost");
  s.propose(1, "lost too");
  s.settle();
  s.forget();
  s.pass(1000);
  s.time_out(2);
  s.settle();
  s.propose(2, "kept");
  s.settle();
  CHECK(s.tell() == R"(
2 times out
2->3 t2 pre-vote? 1@1
3->2 t2 pre-vote yes
2 writes term 2 vote 2
2->3 t2 vote? 1@1
3 writes term 2 vote 2
3->2 t2 vote yes
2 writes [2@2]
2->3 t2 append 1@1 [2@2] commit 1
3 writes [2@2]
3->2 t2 has 2
2 leads in term 2
2->3 t2 append 2@2 [] commit 2
3->2 t2 has 2
2 writes [3@2=kept]
2->3 t2 append 2@2 [3@2=kept] commit 2
3 writes [3@2=kept]
3->2 t2 has 3
2 applies kept
2->3 t2 append 3@2 [] commit 3
3 applies kept
3->2 t2 has 3
)");
  s.rejoin(1);
  s.pass(250);
  s.tick(2);
  s.settle();
  CHECK(s.tell() == R"(
2->1 t2 append 1@1 [2@2 3@2=kept] commit 3
1 writes term 2 vote -1 [2@2 3@2=kept]
1 stops in term 2
2->3 t2 append 3@2 [] commit 3
1 applies kept
1->2 t2 has 3
3->2 t2 has 3
)");
}

TEST_CASE("story: conflicting terms are skipped whole") {
  // Node 2 followed another leader in term 2; the two agree up to entry 2 only.
  Restored mine;
  Restored its;
  mine.hard_state.term = Term(4);
  its.hard_state.term = Term(4);
  const auto entry = [](int64_t index, int64_t term) {
    return Entry{LogIndex(index), Term(term), EntryKind::no_op, {}};
  };
  for (int64_t i = 1; i <= 2; ++i) its.entries.push_back(entry(i, 1));
  for (int64_t i = 3; i <= 7; ++i) its.entries.push_back(entry(i, 2));
  for (int64_t i = 1; i <= 2; ++i) mine.entries.push_back(entry(i, 1));
  for (int64_t i = 3; i <= 9; ++i) mine.entries.push_back(entry(i, 3));
  Story s(2);
  s.open(1, mine);
  s.open(2, its);
  s.time_out(1);
  s.settle();
  CHECK(s.tell() == R"(
1 times out
1->2 t5 pre-vote? 9@3
2->1 t5 pre-vote yes
1 writes term 5 vote 1
1->2 t5 vote? 9@3
2 writes term 5 vote 1
2->1 t5 vote yes
1 writes [10@5]
1->2 t5 append 9@3 [10@5] commit 0
2->1 t5 not 9, try 7@2
1->2 t5 append 2@1 [3@3 4@3 5@3 6@3 7@3 8@3 9@3 10@5] commit 0
2 writes [3@3 4@3 5@3 6@3 7@3 8@3 9@3 10@5]
2->1 t5 has 10
1 leads in term 5
1->2 t5 append 10@5 [] commit 10
2->1 t5 has 10
)");
}

TEST_CASE("story: a follower far behind gets the snapshot in pieces") {
  Options o;
  o.trailing_entries = 0;
  o.snapshot_chunk_bytes = 4;
  Story s(3, o);
  s.time_out(1);
  s.settle();
  s.isolate(3);
  s.propose(1, "a");
  s.propose(1, "b");
  s.settle();
  s[1].snapshot_taken({s[1].snapshot_meta(LogIndex(3)).value(), Slice(to_bytes("a and b"))});
  s.propose(1, "c");
  s.settle();
  s.forget();
  s.rejoin(3);
  s.pass(250);
  s.tick(1);
  s.settle();
  CHECK(s.tell() == R"(
1->2 t1 append 4@1 [] commit 4
1->3 t1 append 4@1 [] commit 4
2->1 t1 has 4
3->1 t1 not 4, try 1@1
1->3 t1 snapshot 3@1 bytes 0+4 of 7
3->1 t1 snapshot 3 next 4
1->3 t1 snapshot 3@1 bytes 4+3 of 7
3 writes snapshot 3
3 restores a and b
3->1 t1 has 3
1->3 t1 append 3@1 [4@1=c] commit 4
3 writes [4@1=c]
3 applies c
3->1 t1 has 4
)");
}

TEST_CASE("story: leadership is handed over without an election timeout") {
  Story s(3);
  s.time_out(1);
  s.settle();
  s.forget();
  s.propose(1, "a");
  REQUIRE(s[1].transfer_leadership(NodeId(3), s.now()).ok());
  const Slice late(to_bytes("late"));
  CHECK(s[1].propose(std::span(&late, 1), s.now()).code() == ErrorCode::not_controller);
  s.settle();
  CHECK(s.tell() == R"(
1 writes [2@1=a]
1->2 t1 append 1@1 [2@1=a] commit 1
2 writes [2@1=a]
1->3 t1 append 1@1 [2@1=a] commit 1
3 writes [2@1=a]
2->1 t1 has 2
1 applies a
1->2 t1 append 2@1 [] commit 2
2 applies a
1->3 t1 append 2@1 [] commit 2
3 applies a
3->1 t1 has 2
2->1 t1 has 2
3->1 t1 has 2
1->3 t1 time out now
3 writes term 2 vote 3
3->1 t2 transfer-vote? 2@1
1 writes term 2 vote 3
1 stops in term 2
3->2 t2 transfer-vote? 2@1
2 writes term 2 vote 3
1->3 t2 vote yes
3 writes [3@2]
2->3 t2 vote yes
3->1 t2 append 2@1 [3@2] commit 2
1 writes [3@2]
3->2 t2 append 2@1 [3@2] commit 2
2 writes [3@2]
1->3 t2 has 3
3 leads in term 2
2->3 t2 has 3
3->1 t2 append 3@2 [] commit 3
3->2 t2 append 3@2 [] commit 3
1->3 t2 has 3
2->3 t2 has 3
)");
}

TEST_CASE("story: a new voter comes as a learner, an old one leaves, the leader itself at last") {
  Story s(2);
  s.time_out(1);
  s.settle();
  s.add(3);
  REQUIRE(s[1].change_membership(ChangeKind::add_learner, NodeId(3), s.now()).ok());
  s.settle();
  CHECK(s[1].membership() == Membership{{NodeId(1), NodeId(2)}, {NodeId(3)}});
  REQUIRE(s[1].change_membership(ChangeKind::promote_learner, NodeId(3), s.now()).ok());
  s.settle();
  s.forget();
  REQUIRE(s[1].change_membership(ChangeKind::remove, NodeId(1), s.now()).ok());
  CHECK(s[1].change_membership(ChangeKind::remove, NodeId(2), s.now()).code() ==
        ErrorCode::concurrent_transactions);
  s.settle();
  CHECK(s.tell() == R"(
1 writes [4@1=members]
1->2 t1 append 3@1 [4@1=members] commit 3
2 writes [4@1=members]
1->3 t1 append 3@1 [4@1=members] commit 3
3 writes [4@1=members]
2->1 t1 has 4
3->1 t1 has 4
1 stops in term 1
1->2 t1 append 4@1 [] commit 4
1->3 t1 append 4@1 [] commit 4
2->1 t1 has 4
3->1 t1 has 4
)");
  CHECK_FALSE(s[1].leads());
  CHECK(s[2].membership() == Membership{{NodeId(2), NodeId(3)}, {}});
  s.pass(1000);
  s.time_out(3);
  s.settle();
  CHECK(s[3].leads());
  CHECK(s[1].next_deadline_mono_ms() == kNoDeadline);  // it never stands again
}

TEST_CASE("story: a voter that lost its directory follows, and votes once it has been replaced") {
  const Uuid fresh{{7}};
  Story s(3);
  s.time_out(1);
  s.settle();
  s.propose(1, "a");
  s.settle();
  s.come_back_empty(3, fresh);
  // The leader thinks that it has everything: it is told otherwise, or finds out with the next entry.
  CHECK(s[3].log().last_index() == LogIndex(0));
  s[1].restart_peer(NodeId(3));
  s.settle();
  CHECK(s[3].log().last_index() == s[1].log().last_index());
  s.come_back_empty(3, fresh);
  s.propose(1, "b");
  s.settle();
  CHECK(s[3].log().last_index() == s[1].log().last_index());
  CHECK_FALSE(s[3].may_vote());
  s.isolate(1);
  s.pass(5000);
  s.time_out(2);
  s.settle();
  CHECK_FALSE(s[2].leads());  // one of three
  s.rejoin(1);
  s.pass(5000);
  s.time_out(1);
  s.settle();
  CHECK_FALSE(s[1].leads());  // the newcomer gives no vote, and 2 has heard of nobody: asked again it does
  s.time_out(1);
  s.settle();
  REQUIRE(s[1].leads());

  REQUIRE(s[1].change_membership(ChangeKind::remove, NodeId(3), s.now()).ok());
  s.settle();
  REQUIRE(s[1].change_membership(ChangeKind::add_learner, NodeId(3), s.now()).ok());
  s.settle();
  CHECK_FALSE(s[3].may_vote());
  REQUIRE(s[1].change_membership(ChangeKind::promote_learner, NodeId(3), s.now(), fresh).ok());
  s.settle();
  CHECK(*s[2].membership().directory_of(NodeId(3)) == fresh);
  CHECK(s[3].may_vote());
  s.isolate(1);
  s.pass(5000);
  s.time_out(2);
  s.settle();
  s.time_out(2);
  s.settle();
  CHECK(s[2].leads());  // with its vote

  // Lost again: what the log says of the directory before gives the next one no vote.
  s.come_back_empty(3, Uuid{{8}});
  s[2].restart_peer(NodeId(3));
  s.settle();
  CHECK(s[3].log().last_index() == s[2].log().last_index());
  CHECK(s[3].membership().is_voter(NodeId(3)));
  CHECK_FALSE(s[3].may_vote());
  s.rejoin(1);
}

TEST_CASE("story: a voter that has not heard of its own return votes for who knows of it") {
  const Uuid fresh{{7}};
  Story s(3);
  s.time_out(1);
  s.settle();
  REQUIRE(s[1].change_membership(ChangeKind::remove, NodeId(3), s.now()).ok());
  s.settle();
  s.come_back_empty(3, fresh);
  REQUIRE(s[1].change_membership(ChangeKind::add_learner, NodeId(3), s.now()).ok());
  s.settle();
  s.isolate(3);
  REQUIRE(s[1].change_membership(ChangeKind::promote_learner, NodeId(3), s.now(), fresh).ok());
  s.settle();
  REQUIRE(s[2].membership().is_voter(NodeId(3)));
  // The leader goes, and of the three voters one has missed that it is one.
  s.isolate(1);
  s.rejoin(3);
  REQUIRE_FALSE(s[3].may_vote());
  s.pass(5000);
  for (int i = 0; i < 3 && !s[2].leads(); ++i) {
    s.time_out(2);
    s.settle();
  }
  CHECK(s[2].leads());
  CHECK(s[3].may_vote());

  // Nobody votes with another directory than the one that was let in.
  s.come_back_empty(3, Uuid{{8}});
  s[3].step({NodeId(2), NodeId(3), Term(90), VoteRequest{false, true, LogIndex(99), Term(80), fresh}},
            s.now());
  CHECK(s[3].vote() == kNobody);
}

TEST_CASE("what a removed voter voted with is forgotten") {
  Story s(2);
  s.time_out(1);
  s.settle();
  s.add(3);
  REQUIRE(s[1].change_membership(ChangeKind::add_learner, NodeId(3), s.now()).ok());
  s.settle();
  REQUIRE(s[1].change_membership(ChangeKind::promote_learner, NodeId(3), s.now(), Uuid{{9}}).ok());
  s.settle();
  REQUIRE(s[1].membership().directory_of(NodeId(3)) != nullptr);
  CHECK(s[1].membership().directory_of(NodeId(1)) == nullptr);
  REQUIRE(s[1].change_membership(ChangeKind::remove, NodeId(3), s.now()).ok());
  s.settle();
  CHECK(s[2].membership().directories.empty());
}

TEST_CASE("story: nobody votes while the leader is heard") {
  Story s(3);
  s.time_out(1);
  s.settle();
  s.forget();
  s.time_out(2);  // its heartbeats were lost; the others' were not
  s[3].step({NodeId(1), NodeId(3), Term(1), AppendRequest{LogIndex(1), Term(1), LogIndex(1), {}}}, s.now());
  s.settle();
  CHECK(s.tell() == R"(
2 times out
2->1 t2 pre-vote? 1@1
2->3 t2 pre-vote? 1@1
3->1 t1 has 1
1->2 t1 pre-vote no
3->2 t1 pre-vote no
)");
  CHECK(s[1].leads());
}
