#include "raft/types.h"

#include <algorithm>

#include "base/endian.h"

namespace millrace::raft {
namespace {

void put_nodes(const std::vector<NodeId>& nodes, Bytes& out) {
  size_t at = out.size();
  out.resize(at + 4 + 4 * nodes.size());
  store_be<uint32_t>(out.data() + at, static_cast<uint32_t>(nodes.size()));
  for (const NodeId n : nodes) store_be<int32_t>(out.data() + (at += 4), n.v);
}

bool take_nodes(ByteView& rest, std::vector<NodeId>& nodes) {
  if (rest.size() < 4) return false;
  const auto count = load_be<uint32_t>(rest.data());
  rest = rest.subspan(4);
  if (count > rest.size() / 4) return false;
  nodes.reserve(count);
  for (uint32_t i = 0; i < count; ++i) nodes.emplace_back(load_be<int32_t>(rest.data() + 4 * i));
  rest = rest.subspan(size_t{4} * count);
  return std::is_sorted(nodes.begin(), nodes.end()) &&
         std::adjacent_find(nodes.begin(), nodes.end()) == nodes.end();
}

}  // namespace

bool Membership::is_voter(NodeId node) const {
  return std::binary_search(voters.begin(), voters.end(), node);
}

bool Membership::is_learner(NodeId node) const {
  return std::binary_search(learners.begin(), learners.end(), node);
}

Bytes encode_membership(const Membership& membership) {
  Bytes out;
  put_nodes(membership.voters, out);
  put_nodes(membership.learners, out);
  return out;
}

Result<Membership> decode_membership(ByteView bytes) {
  Membership m;
  if (!take_nodes(bytes, m.voters) || !take_nodes(bytes, m.learners) || !bytes.empty() || m.voters.empty()) {
    return Error(ErrorCode::corrupt, "not a membership");
  }
  for (const NodeId n : m.learners) {
    if (m.is_voter(n)) return Error(ErrorCode::corrupt, "a node is both voter and learner");
  }
  return m;
}

}  // namespace millrace::raft
