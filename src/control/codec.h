// The bytes of what brokers ask the controller of another node for themselves, and of its replies
// (proto/controller.proto): register, heartbeat, ISR changes and so on. Carried by a private API of the
// internal listener. What operators ask travels as the Kafka request it came as, not in this form.
#pragma once

#include <variant>

#include "base/bytes.h"
#include "base/result.h"
#include "control/broker_requests.h"
#include "control/partition_requests.h"
#include "control/requests.h"

namespace millrace::control {

using BrokerRequest = std::variant<RegisterBroker, BrokerHeartbeat, BrokerUnreachable, AssignDirectories,
                                   AllocateProducerIds, AlterPartition, CreateTopics>;
using BrokerReply =
    std::variant<RegisterBrokerReply, BrokerHeartbeatReply, BrokerUnreachableReply, AssignDirectoriesReply,
                 AllocateProducerIdsReply, AlterPartitionReply, CreateTopicsReply>;  // as BrokerRequest

namespace detail {
template <class T, class Variant>
struct PositionIn;
template <class T, class... Ts>
struct PositionIn<T, std::variant<Ts...>> {
  static constexpr size_t value = [] {
    size_t i = 0;
    (void)((std::is_same_v<T, Ts> || (++i, false)) || ...);
    return i;
  }();
};
}  // namespace detail

/// Whether a broker sends this kind of request to the controller of another node.
template <class Request>
inline constexpr bool kTravels =
    detail::PositionIn<Request, BrokerRequest>::value < std::variant_size_v<BrokerRequest>;
/// What such a request is answered with.
template <class Request>
using ReplyTo = std::variant_alternative_t<detail::PositionIn<Request, BrokerRequest>::value, BrokerReply>;

struct BrokerAnswer {
  /// An error: the request as a whole was refused and nothing was recorded by it.
  Result<BrokerReply> reply = Error(ErrorCode::unknown_server_error);
  LogIndex applied{0};  // the entry of the metadata log that the answer rests on
};

/// `own` and `alone` of a registration do not travel: who sends it is neither. Of CreateTopics only what
/// brokers ask for: no assignments, no validate_only; of its reply no configs.
Bytes encode(const BrokerRequest& request);
Bytes encode(const BrokerAnswer& answer);

// Error of both: corrupt.
Result<BrokerRequest> decode_broker_request(ByteView bytes);
Result<BrokerAnswer> decode_broker_answer(ByteView bytes);

}  // namespace millrace::control
