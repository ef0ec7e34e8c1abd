#include "ledger/raft_codec.h"

#include <string>

#include "base/protobuf_bytes.h"
#include "proto/raft.pb.h"

namespace millrace::ledger {
namespace {

namespace pb = millrace::internal::v1;

Error not_raft(const char* what) {
  return Error(ErrorCode::corrupt, std::string("raft message: ") + what);
}

// --- parts ---

void put_part(const raft::Membership& in, pb::RaftMembership& out) {
  for (const raft::NodeId n : in.voters) out.add_voters(n.v);
  for (const raft::NodeId n : in.learners) out.add_learners(n.v);
  for (const auto& [node, directory] : in.directories) {
    pb::RaftVoterDirectory& d = *out.add_directories();
    d.set_node(node.v);
    d.set_directory(directory.bytes.data(), directory.bytes.size());
  }
}

Status get_part(const pb::RaftMembership& in, raft::Membership& out) {
  for (const int32_t n : in.voters()) out.voters.emplace_back(n);
  for (const int32_t n : in.learners()) out.learners.emplace_back(n);
  for (const pb::RaftVoterDirectory& d : in.directories()) {
    auto& [node, directory] = out.directories.emplace_back();
    if (d.directory().size() != directory.bytes.size()) return not_raft("not a directory's id");
    node = raft::NodeId(d.node());
    std::copy(d.directory().begin(), d.directory().end(), directory.bytes.begin());
  }
  // Sorted, disjoint, with voters: the core's own codec has the rules.
  return raft::decode_membership(raft::encode_membership(out)).ok() ? Status() : not_raft("not a membership");
}

void put_part(const raft::SnapshotMeta& in, pb::RaftSnapshotMeta& out) {
  out.set_index(in.index.v);
  out.set_term(in.term.v);
  put_part(in.membership, *out.mutable_membership());
}

Status get_part(const pb::RaftSnapshotMeta& in, raft::SnapshotMeta& out) {
  out.index = LogIndex(in.index());
  out.term = Term(in.term());
  return get_part(in.membership(), out.membership);
}

void put_part(const raft::Entry& in, pb::RaftEntry& out) {
  out.set_index(in.index.v);
  out.set_term(in.term.v);
  out.set_kind(static_cast<uint32_t>(in.kind));
  out.set_payload(in.payload.data(), in.payload.size());
}

Status get_part(const pb::RaftEntry& in, raft::Entry& out) {
  if (in.kind() > static_cast<uint32_t>(raft::EntryKind::membership))
    return not_raft("an entry of unknown kind");
  out.index = LogIndex(in.index());
  out.term = Term(in.term());
  out.kind = static_cast<raft::EntryKind>(in.kind());
  out.payload = Slice(to_bytes(in.payload()));
  return {};
}

// --- bodies ---

void put_body(const raft::VoteRequest& in, pb::RaftMessage& out) {
  pb::RaftVoteRequest& m = *out.mutable_vote_request();
  m.set_pre(in.pre);
  m.set_transfer(in.transfer);
  m.set_last_index(in.last_index.v);
  m.set_last_term(in.last_term.v);
  if (!in.voter_directory.is_zero()) m.set_voter_directory(protobuf_uuid(in.voter_directory));
}

void put_body(const raft::VoteReply& in, pb::RaftMessage& out) {
  pb::RaftVoteReply& m = *out.mutable_vote_reply();
  m.set_pre(in.pre);
  m.set_granted(in.granted);
}

void put_body(const raft::AppendRequest& in, pb::RaftMessage& out) {
  pb::RaftAppendRequest& m = *out.mutable_append_request();
  m.set_prev_index(in.prev_index.v);
  m.set_prev_term(in.prev_term.v);
  m.set_commit(in.commit.v);
  for (const raft::Entry& e : in.entries) put_part(e, *m.add_entries());
}

void put_body(const raft::AppendReply& in, pb::RaftMessage& out) {
  pb::RaftAppendReply& m = *out.mutable_append_reply();
  m.set_success(in.success);
  m.set_prev_index(in.prev_index.v);
  m.set_match(in.match.v);
  m.set_hint_index(in.hint_index.v);
  m.set_hint_term(in.hint_term.v);
}

void put_body(const raft::SnapshotRequest& in, pb::RaftMessage& out) {
  pb::RaftSnapshotRequest& m = *out.mutable_snapshot_request();
  put_part(in.meta, *m.mutable_meta());
  m.set_offset(in.offset);
  m.set_total(in.total);
  m.set_data(in.data.data(), in.data.size());
}

void put_body(const raft::SnapshotReply& in, pb::RaftMessage& out) {
  pb::RaftSnapshotReply& m = *out.mutable_snapshot_reply();
  m.set_index(in.index.v);
  m.set_next_offset(in.next_offset);
}

void put_body(const raft::TimeoutNow&, pb::RaftMessage& out) {
  out.mutable_timeout_now();
}

Status get_body(const pb::RaftMessage& in, raft::Message& out) {
  switch (in.body_case()) {
    case pb::RaftMessage::kVoteRequest: {
      const pb::RaftVoteRequest& m = in.vote_request();
      raft::VoteRequest request{m.pre(), m.transfer(), LogIndex(m.last_index()), Term(m.last_term())};
      if (!m.voter_directory().empty() && !parse_protobuf_uuid(m.voter_directory(), request.voter_directory))
        return not_raft("not a directory");
      out.body = request;
      return {};
    }
    case pb::RaftMessage::kVoteReply:
      out.body = raft::VoteReply{in.vote_reply().pre(), in.vote_reply().granted()};
      return {};
    case pb::RaftMessage::kAppendRequest: {
      const pb::RaftAppendRequest& m = in.append_request();
      raft::AppendRequest r{LogIndex(m.prev_index()), Term(m.prev_term()), LogIndex(m.commit()), {}};
      for (const pb::RaftEntry& e : m.entries()) TRY(get_part(e, r.entries.emplace_back()));
      out.body = std::move(r);
      return {};
    }
    case pb::RaftMessage::kAppendReply: {
      const pb::RaftAppendReply& m = in.append_reply();
      out.body = raft::AppendReply{m.success(), LogIndex(m.prev_index()), LogIndex(m.match()),
                                   LogIndex(m.hint_index()), Term(m.hint_term())};
      return {};
    }
    case pb::RaftMessage::kSnapshotRequest: {
      const pb::RaftSnapshotRequest& m = in.snapshot_request();
      raft::SnapshotRequest r;
      TRY(get_part(m.meta(), r.meta));
      r.offset = m.offset();
      r.total = m.total();
      r.data = Slice(to_bytes(m.data()));
      out.body = std::move(r);
      return {};
    }
    case pb::RaftMessage::kSnapshotReply:
      out.body =
          raft::SnapshotReply{LogIndex(in.snapshot_reply().index()), in.snapshot_reply().next_offset()};
      return {};
    case pb::RaftMessage::kTimeoutNow:
      out.body = raft::TimeoutNow{};
      return {};
    case pb::RaftMessage::BODY_NOT_SET:
      break;
  }
  return not_raft("a kind that this version does not know");
}

}  // namespace

Bytes encode_raft_message(const raft::Message& message) {
  pb::RaftMessage m;
  m.set_from(message.from.v);
  m.set_to(message.to.v);
  m.set_term(message.term.v);
  m.set_asked_ms(message.asked_mono_ms);
  std::visit([&m](const auto& body) { put_body(body, m); }, message.body);
  return protobuf_bytes(m);
}

Result<raft::Message> decode_raft_message(ByteView bytes) {
  pb::RaftMessage m;
  if (!parse_protobuf(bytes, m)) return not_raft("not a message");
  raft::Message out;
  out.from = raft::NodeId(m.from());
  out.to = raft::NodeId(m.to());
  out.term = Term(m.term());
  out.asked_mono_ms = m.asked_ms();
  TRY(get_body(m, out));
  return out;
}

Bytes encode_hard_state(const raft::HardState& state) {
  pb::RaftHardState m;
  m.set_term(state.term.v);
  m.set_vote(state.vote.v);
  return protobuf_bytes(m);
}

Result<raft::HardState> decode_hard_state(ByteView bytes) {
  pb::RaftHardState m;
  if (!parse_protobuf(bytes, m)) return not_raft("not a hard state");
  return raft::HardState{Term(m.term()), raft::NodeId(m.vote())};
}

Bytes encode_snapshot_meta(const raft::SnapshotMeta& meta) {
  pb::RaftSnapshotMeta m;
  put_part(meta, m);
  return protobuf_bytes(m);
}

Result<raft::SnapshotMeta> decode_snapshot_meta(ByteView bytes) {
  pb::RaftSnapshotMeta m;
  if (!parse_protobuf(bytes, m)) return not_raft("not a snapshot label");
  raft::SnapshotMeta out;
  TRY(get_part(m, out));
  return out;
}

}  // namespace millrace::ledger
