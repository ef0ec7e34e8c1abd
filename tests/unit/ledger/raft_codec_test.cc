#include "ledger/raft_codec.h"

#include "proto/raft.pb.h"
#include "support/catch.h"

using namespace millrace;
using namespace millrace::ledger;

namespace {

raft::Message raft_message(decltype(raft::Message::body) body) {
  return {raft::NodeId(1), raft::NodeId(2), Term(7), std::move(body), 15};
}

const raft::Membership kThree{
    {raft::NodeId(1), raft::NodeId(2)}, {raft::NodeId(3)}, {{raft::NodeId(2), Uuid{{4, 2}}}}};

}  // namespace

TEST_CASE("every raft message survives encoding") {
  const raft::SnapshotMeta meta{LogIndex(9), Term(4), kThree};
  const std::vector<raft::Message> messages = {
      raft_message(raft::VoteRequest{true, true, LogIndex(3), Term(2)}),
      raft_message(raft::VoteReply{true, true}),
      raft_message(raft::AppendRequest{
          LogIndex(3),
          Term(2),
          LogIndex(1),
          {{LogIndex(4), Term(2), raft::EntryKind::membership, Slice(raft::encode_membership(kThree))},
           {LogIndex(5), Term(3), raft::EntryKind::payload, Slice(to_bytes("x"))}}}),
      raft_message(raft::AppendReply{true, LogIndex(1), LogIndex(2), LogIndex(3), Term(4)}),
      raft_message(raft::SnapshotRequest{meta, 5, 10, Slice(to_bytes("piece"))}),
      raft_message(raft::SnapshotReply{LogIndex(9), 5}),
      raft_message(raft::TimeoutNow{}),
      raft_message(raft::VoteRequest{false, true, LogIndex(3), Term(2), Uuid{{7}}})};
  for (const raft::Message& m : messages) {
    const Bytes bytes = encode_raft_message(m);
    const auto back = decode_raft_message(bytes);
    REQUIRE(back.ok());
    CHECK(back->from == m.from);
    CHECK(back->to == m.to);
    CHECK(back->term == m.term);
    CHECK(back->asked_mono_ms == 15);
    CHECK(back->body.index() == m.body.index());
    CHECK(encode_raft_message(*back) == bytes);
  }
  const auto vote = decode_raft_message(encode_raft_message(messages.back()));
  CHECK(std::get<raft::VoteRequest>(vote->body).voter_directory == Uuid{{7}});
  const auto append = decode_raft_message(encode_raft_message(messages[2]));
  const auto& entries = std::get<raft::AppendRequest>(append->body).entries;
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].kind == raft::EntryKind::membership);
  CHECK(as_text(entries[1].payload.view()) == "x");
  const auto snapshot = decode_raft_message(encode_raft_message(messages[4]));
  CHECK(std::get<raft::SnapshotRequest>(snapshot->body).meta == meta);
}

TEST_CASE("hard state and snapshot labels survive encoding") {
  const raft::HardState state{Term(7), raft::kNobody};
  CHECK(decode_hard_state(encode_hard_state(state)).value() == state);
  const raft::SnapshotMeta meta{LogIndex(9), Term(4), kThree};
  CHECK(decode_snapshot_meta(encode_snapshot_meta(meta)).value() == meta);
}

TEST_CASE("what is no raft message is corrupt") {
  namespace pb = millrace::internal::v1;
  CHECK(decode_raft_message(as_bytes("\xff\xff")).code() == ErrorCode::corrupt);
  CHECK(decode_raft_message({}).code() == ErrorCode::corrupt);  // no body
  CHECK(decode_hard_state(as_bytes("\xff\xff")).code() == ErrorCode::corrupt);
  CHECK(decode_snapshot_meta(as_bytes("\xff\xff")).code() == ErrorCode::corrupt);
  CHECK(decode_snapshot_meta({}).code() == ErrorCode::corrupt);  // no voters

  pb::RaftMessage unknown_kind;
  unknown_kind.mutable_append_request()->add_entries()->set_kind(9);
  CHECK(decode_raft_message(as_bytes(unknown_kind.SerializeAsString())).code() == ErrorCode::corrupt);

  pb::RaftMessage unsorted;
  auto* membership = unsorted.mutable_snapshot_request()->mutable_meta()->mutable_membership();
  membership->add_voters(2);
  membership->add_voters(1);
  CHECK(decode_raft_message(as_bytes(unsorted.SerializeAsString())).code() == ErrorCode::corrupt);
}
