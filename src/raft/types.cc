#include "raft/types.h"

#include <algorithm>

#include "base/endian.h"

namespace millrace::raft {
namespace {

constexpr size_t kUuidBytes = sizeof(Uuid::bytes);

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

void put_directories(const std::vector<std::pair<NodeId, Uuid>>& directories, Bytes& out) {
  if (directories.empty()) return;
  size_t at = out.size();
  out.resize(at + 4 + (4 + kUuidBytes) * directories.size());
  store_be<uint32_t>(out.data() + at, static_cast<uint32_t>(directories.size()));
  at += 4;
  for (const auto& [node, directory] : directories) {
    store_be<int32_t>(out.data() + at, node.v);
    std::copy(directory.bytes.begin(), directory.bytes.end(),
              out.begin() + static_cast<std::ptrdiff_t>(at) + 4);
    at += 4 + kUuidBytes;
  }
}

bool take_directories(ByteView& rest, Membership& m) {
  if (rest.empty()) return true;
  if (rest.size() < 4) return false;
  const auto count = load_be<uint32_t>(rest.data());
  rest = rest.subspan(4);
  if (count == 0 || count != rest.size() / (4 + kUuidBytes)) return false;
  m.directories.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    auto& [node, directory] = m.directories.emplace_back();
    node = NodeId(load_be<int32_t>(rest.data()));
    std::copy_n(rest.begin() + 4, kUuidBytes, directory.bytes.begin());
    rest = rest.subspan(4 + kUuidBytes);
    if (!m.is_voter(node) || (i > 0 && m.directories[i - 1].first >= node)) return false;
  }
  return true;
}

}  // namespace

const Uuid* Membership::directory_of(NodeId node) const {
  for (const auto& [n, directory] : directories) {
    if (n == node) return &directory;
  }
  return nullptr;
}

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
  put_directories(membership.directories, out);
  return out;
}

Result<Membership> decode_membership(ByteView bytes) {
  Membership m;
  if (!take_nodes(bytes, m.voters) || !take_nodes(bytes, m.learners) || !take_directories(bytes, m) ||
      !bytes.empty() || m.voters.empty()) {
    return Error(ErrorCode::corrupt, "not a membership");
  }
  for (const NodeId n : m.learners) {
    if (m.is_voter(n)) return Error(ErrorCode::corrupt, "a node is both voter and learner");
  }
  return m;
}

}  // namespace millrace::raft
