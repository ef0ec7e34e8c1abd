// InitProducerId (22), versions 0-4: ids for idempotent producers. A transactional id is refused:
// transactions are not served yet.
//   2 flexible | 3 the producer's id and epoch (KIP-360): without a transactional id it gets a fresh id | 4
//   PRODUCER_FENCED
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::InitProducerIdRequest& request) {
  wire::InitProducerIdResponse refusal;
  refusal.producer_epoch = -1;
  if (request.transactional_id) {
    refusal.error_code = static_cast<int16_t>(
        request.transactional_id->empty() ? ErrorCode::invalid_request : ErrorCode::unsupported_version);
    call.reply(refusal);
    return;
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().next_producer_id(shared->loop(), [shared, refusal](Result<ProducerId> id) mutable {
    if (!id.ok()) {
      refusal.error_code = static_cast<int16_t>(wire_code(id.code()));
      shared->reply(refusal);
      return;
    }
    wire::InitProducerIdResponse r;
    r.producer_id = id->v;
    r.producer_epoch = 0;
    shared->reply(r);
  });
}

}  // namespace millrace::broker
