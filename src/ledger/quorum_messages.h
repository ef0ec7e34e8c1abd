// How nodes find, found and join the metadata quorum, and how one passes a request on to another: plain
// structs and their bytes (proto/controller.proto). Carried by private APIs of the internal listener.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/uuid.h"
#include "io/network.h"
#include "wire/api_table.h"

namespace millrace::ledger {

// Private APIs; all of version 0. Raft messages get no response.
inline constexpr auto kRaftApi = static_cast<wire::ApiKey>(wire::kFirstPrivateApi);
inline constexpr auto kHelloApi = static_cast<wire::ApiKey>(wire::kFirstPrivateApi + 1);
inline constexpr auto kJoinApi = static_cast<wire::ApiKey>(wire::kFirstPrivateApi + 2);
inline constexpr auto kControllerApi = static_cast<wire::ApiKey>(wire::kFirstPrivateApi + 3);
inline constexpr auto kForwardApi = static_cast<wire::ApiKey>(wire::kFirstPrivateApi + 4);
/// Answered, with nothing, when the node has published an entry of the metadata log.
inline constexpr auto kPublishedApi = static_cast<wire::ApiKey>(wire::kFirstPrivateApi + 5);

struct NodeAddress {
  BrokerId node = kNoBroker;
  io::Endpoint endpoint;
};

struct FoundingVoter {
  BrokerId node = kNoBroker;
  Uuid directory;
  bool operator==(const FoundingVoter&) const = default;
};

/// How the quorum of this node began.
struct Founding {
  Uuid cluster_id;
  std::vector<FoundingVoter> voters;  // ascending by node
  bool may_vote = true;               // false: this directory took the place of one that a voter lost

  std::vector<BrokerId> nodes() const;
  /// Whether `node` founded with this directory.
  bool names(BrokerId node, const Uuid& directory) const;
  bool operator==(const Founding&) const = default;
};

struct HelloRequest {
  BrokerId node = kNoBroker;
  Uuid directory;
};

struct HelloReply {
  BrokerId node = kNoBroker;
  Uuid directory;
  Uuid cluster_id;                   // configured; zero: none
  Uuid proposed_cluster;             // for a cluster that is not founded yet
  std::optional<Founding> founding;  // absent: the directory is empty
  BrokerId leader = kNoBroker;
  std::vector<NodeAddress> addresses;
};

struct JoinRequest {
  Uuid cluster_id;
  Uuid directory;
  NodeAddress address;
};

struct JoinReply {
  ErrorCode error = ErrorCode::none;
  std::string message;
  BrokerId leader = kNoBroker;
};

struct ForwardRequest {
  int16_t api_key = 0;
  int16_t api_version = 0;
  std::string client_id;
  std::string listener;
  Slice body;
};

struct ForwardReply {
  ErrorCode error = ErrorCode::none;
  Slice body;
  LogIndex applied_index{0};
};

struct PublishedRequest {
  LogIndex index{0};  // 8 bytes, big endian, are all of it
};

Bytes encode(const PublishedRequest& m);
Bytes encode(const Founding& m);
Bytes encode(const HelloRequest& m);
Bytes encode(const HelloReply& m);
Bytes encode(const JoinRequest& m);
Bytes encode(const JoinReply& m);
Bytes encode(const ForwardRequest& m);
Bytes encode(const ForwardReply& m);

// Error of every decode: corrupt.
Result<Founding> decode_founding(ByteView bytes);
Result<HelloRequest> decode_hello_request(ByteView bytes);
Result<HelloReply> decode_hello_reply(ByteView bytes);
Result<JoinRequest> decode_join_request(ByteView bytes);
Result<JoinReply> decode_join_reply(ByteView bytes);
Result<ForwardRequest> decode_forward_request(ByteView bytes);
Result<PublishedRequest> decode_published_request(ByteView bytes);
Result<ForwardReply> decode_forward_reply(ByteView bytes);

}  // namespace millrace::ledger
