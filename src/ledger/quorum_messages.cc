#include "ledger/quorum_messages.h"

#include <limits>

#include "base/contains.h"
#include "base/endian.h"
#include "base/protobuf_bytes.h"
#include "proto/controller.pb.h"

namespace millrace::ledger {
namespace {

namespace pb = millrace::internal::v1;

constexpr int kVotersMax = 1000;
constexpr int kAddressesMax = 10'000;

Error not_quorum(const char* what) {
  return Error(ErrorCode::corrupt, std::string("quorum message: ") + what);
}

template <class Message>
Status parse_into(ByteView bytes, Message& message) {
  return parse_protobuf(bytes, message) ? Status() : not_quorum("not protobuf");
}

/// An absent one is zero.
Status get_uuid(const std::string& in, Uuid& out) {
  out = {};
  if (in.empty()) return {};
  return parse_protobuf_uuid(in, out) ? Status() : not_quorum("a uuid of a wrong length");
}

void put_address(const NodeAddress& in, pb::NodeAddress& out) {
  out.set_node_id(in.node.v);
  out.set_host(in.endpoint.host);
  out.set_port(in.endpoint.port);
}

Status get_address(const pb::NodeAddress& in, NodeAddress& out) {
  if (in.port() > std::numeric_limits<uint16_t>::max()) return not_quorum("a port out of range");
  out.node = BrokerId(in.node_id());
  out.endpoint = {in.host(), static_cast<uint16_t>(in.port())};
  return {};
}

void put_founding(const Founding& in, pb::Founding& out) {
  out.set_cluster_id(protobuf_uuid(in.cluster_id));
  for (const FoundingVoter& v : in.voters) {
    pb::FoundingVoter& voter = *out.add_voters();
    voter.set_node_id(v.node.v);
    voter.set_directory_id(protobuf_uuid(v.directory));
  }
  out.set_may_vote(in.may_vote);
}

Status get_founding(const pb::Founding& in, Founding& out) {
  TRY(get_uuid(in.cluster_id(), out.cluster_id));
  if (in.voters_size() == 0 || in.voters_size() > kVotersMax)
    return not_quorum("a number of voters out of range");
  for (const pb::FoundingVoter& v : in.voters()) {
    FoundingVoter voter;
    voter.node = BrokerId(v.node_id());
    TRY(get_uuid(v.directory_id(), voter.directory));
    if (!out.voters.empty() && !(out.voters.back().node < voter.node))
      return not_quorum("voters out of order");
    out.voters.push_back(voter);
  }
  out.may_vote = in.may_vote();
  return {};
}

ErrorCode get_error(int32_t code) {
  if (code < std::numeric_limits<int16_t>::min() || code > std::numeric_limits<int16_t>::max())
    return ErrorCode::unknown_server_error;
  return error_from_wire(static_cast<int16_t>(code));
}

Slice slice_of(const std::string& bytes) {
  return Slice::copy_of(as_bytes(bytes));
}

}  // namespace

std::vector<BrokerId> Founding::nodes() const {
  std::vector<BrokerId> out;
  for (const FoundingVoter& v : voters) out.push_back(v.node);
  return out;
}

bool Founding::names(BrokerId node, const Uuid& directory) const {
  return contains(voters, FoundingVoter{node, directory});
}

Bytes encode(const Founding& m) {
  pb::Founding out;
  put_founding(m, out);
  return protobuf_bytes(out);
}

Result<Founding> decode_founding(ByteView bytes) {
  pb::Founding in;
  TRY(parse_into(bytes, in));
  Founding m;
  TRY(get_founding(in, m));
  return m;
}

Bytes encode(const HelloRequest& m) {
  pb::HelloRequest out;
  out.set_node_id(m.node.v);
  out.set_directory_id(protobuf_uuid(m.directory));
  return protobuf_bytes(out);
}

Result<HelloRequest> decode_hello_request(ByteView bytes) {
  pb::HelloRequest in;
  TRY(parse_into(bytes, in));
  HelloRequest m;
  m.node = BrokerId(in.node_id());
  TRY(get_uuid(in.directory_id(), m.directory));
  return m;
}

Bytes encode(const HelloReply& m) {
  pb::HelloReply out;
  out.set_node_id(m.node.v);
  out.set_directory_id(protobuf_uuid(m.directory));
  out.set_cluster_id(protobuf_uuid(m.cluster_id));
  out.set_proposed_cluster(protobuf_uuid(m.proposed_cluster));
  if (m.founding) put_founding(*m.founding, *out.mutable_founding());
  out.set_leader(m.leader.v);
  for (const NodeAddress& a : m.addresses) put_address(a, *out.add_addresses());
  return protobuf_bytes(out);
}

Result<HelloReply> decode_hello_reply(ByteView bytes) {
  pb::HelloReply in;
  TRY(parse_into(bytes, in));
  HelloReply m;
  m.node = BrokerId(in.node_id());
  TRY(get_uuid(in.directory_id(), m.directory));
  TRY(get_uuid(in.cluster_id(), m.cluster_id));
  TRY(get_uuid(in.proposed_cluster(), m.proposed_cluster));
  if (in.has_founding()) TRY(get_founding(in.founding(), m.founding.emplace()));
  m.leader = BrokerId(in.leader());
  if (in.addresses_size() > kAddressesMax) return not_quorum("too many addresses");
  for (const pb::NodeAddress& a : in.addresses()) TRY(get_address(a, m.addresses.emplace_back()));
  return m;
}

Bytes encode(const JoinRequest& m) {
  pb::JoinRequest out;
  out.set_node_id(m.address.node.v);
  out.set_directory_id(protobuf_uuid(m.directory));
  out.set_cluster_id(protobuf_uuid(m.cluster_id));
  put_address(m.address, *out.mutable_address());
  return protobuf_bytes(out);
}

Result<JoinRequest> decode_join_request(ByteView bytes) {
  pb::JoinRequest in;
  TRY(parse_into(bytes, in));
  JoinRequest m;
  TRY(get_uuid(in.directory_id(), m.directory));
  TRY(get_uuid(in.cluster_id(), m.cluster_id));
  TRY(get_address(in.address(), m.address));
  if (m.address.node.v < 0) return not_quorum("no node id");
  return m;
}

Bytes encode(const JoinReply& m) {
  pb::JoinReply out;
  out.set_error_code(static_cast<int32_t>(wire_code(m.error)));
  out.set_message(m.message);
  out.set_leader(m.leader.v);
  return protobuf_bytes(out);
}

Result<JoinReply> decode_join_reply(ByteView bytes) {
  pb::JoinReply in;
  TRY(parse_into(bytes, in));
  return JoinReply{get_error(in.error_code()), in.message(), BrokerId(in.leader())};
}

Bytes encode(const ForwardRequest& m) {
  pb::ForwardRequest out;
  out.set_api_key(m.api_key);
  out.set_api_version(m.api_version);
  out.set_client_id(m.client_id);
  out.set_listener(m.listener);
  out.set_body(m.body.data(), m.body.size());
  return protobuf_bytes(out);
}

Result<ForwardRequest> decode_forward_request(ByteView bytes) {
  pb::ForwardRequest in;
  TRY(parse_into(bytes, in));
  constexpr int32_t kMax = std::numeric_limits<int16_t>::max();
  if (in.api_key() < 0 || in.api_key() > kMax || in.api_version() < 0 || in.api_version() > kMax)
    return not_quorum("not an api");
  return ForwardRequest{static_cast<int16_t>(in.api_key()), static_cast<int16_t>(in.api_version()),
                        in.client_id(), in.listener(), slice_of(in.body())};
}

Bytes encode(const ForwardReply& m) {
  pb::ForwardReply out;
  out.set_error_code(static_cast<int32_t>(wire_code(m.error)));
  out.set_body(m.body.data(), m.body.size());
  out.set_applied_index(m.applied_index.v);
  return protobuf_bytes(out);
}

Result<ForwardReply> decode_forward_reply(ByteView bytes) {
  pb::ForwardReply in;
  TRY(parse_into(bytes, in));
  return ForwardReply{get_error(in.error_code()), slice_of(in.body()), LogIndex(in.applied_index())};
}

Bytes encode(const PublishedRequest& m) {
  Bytes out(sizeof(int64_t));
  store_be(out.data(), m.index.v);
  return out;
}

Result<PublishedRequest> decode_published_request(ByteView bytes) {
  if (bytes.size() != sizeof(int64_t)) return Error(ErrorCode::corrupt, "not the index of an entry");
  return PublishedRequest{LogIndex(load_be<int64_t>(bytes.data()))};
}

}  // namespace millrace::ledger
