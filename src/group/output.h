// What goes into a group shard beside the request, and what comes out. The runner that hosts the machine
// appends `records` as one batch, applies each of them, and releases the replies when the last is committed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/uuid.h"
#include "group/messages.h"

namespace millrace::group {

/// Names one request of one connection; chosen by the runner, never reused while unanswered.
using Token = Strong<struct TokenTag, uint64_t>;

/// Who asks, and the random bits that the machine may not draw itself.
struct ClientContext {
  std::string client_id;
  std::string client_host;  // as Kafka shows it: "/127.0.0.1"
  int16_t api_version = 0;
  std::string listener;
  Uuid fresh_uuid;  // becomes part of a new member's id
};

using Response =
    std::variant<JoinGroupResponse, SyncGroupResponse, HeartbeatResponse, LeaveGroupResponse,
                 OffsetCommitResponse, TxnOffsetCommitResponse, OffsetFetchResponse, DescribeGroupsResponse,
                 ListGroupsResponse, DeleteGroupsResponse, OffsetDeleteResponse>;

struct Reply {
  Token token;
  Response response;
};

struct RecordOut {
  Bytes key;
  std::optional<Bytes> value;  // nullopt: tombstone
};

/// The batch is transactional when set.
struct TransactionalProducer {
  ProducerId id = kNoProducerId;
  ProducerEpoch epoch = kNoProducerEpoch;
};

struct Output {
  std::vector<Reply> replies;
  std::vector<RecordOut> records;
  std::optional<TransactionalProducer> producer;

  void reply(Token token, Response response) { replies.push_back({token, std::move(response)}); }
};

}  // namespace millrace::group
