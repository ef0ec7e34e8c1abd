#include "broker/internal_service.h"

#include <utility>

#include "base/endian.h"
#include "broker/broker.h"
#include "ledger/quorum_messages.h"
#include "ledger/raft_codec.h"
#include "wire/headers.h"
#include "wire/writer.h"

namespace millrace::broker {
namespace {

void answer(link::Responder& responder, const wire::RequestHeader& header, const Bytes& body) {
  wire::Writer writer;
  wire::encode_response_header(writer, wire::api_key(header), header.request_api_version,
                               header.correlation_id);
  writer.write_raw(body);
  responder.reply(writer.take_framed());
}

}  // namespace

bool begins_private(ByteView first_bytes) {
  return first_bytes.size() >= kFirstBytes &&
         wire::is_private_api(static_cast<wire::ApiKey>(load_be<int16_t>(&first_bytes[4])));
}

void InternalService::on_request(const std::shared_ptr<link::ConnectionContext>& context,
                                 link::Request request) {
  const wire::ApiKey api = wire::api_key(request.header);
  const auto refuse = [&](const std::string& why) {
    uint64_t held_back = 0;
    if (complaints_.admit(broker_.environment().clock->now().mono_ms, held_back)) {
      broker_.environment().trace.warn(
          "closing the internal connection from {}:{}: {} ({} such lines held back)", context->peer.host,
          context->peer.port, why, held_back);
    }
    request.responder.close_connection();
  };
  if (request.header.request_api_version != 0)
    return refuse("a version of the internal protocol that is not known here");
  if (api == ledger::kRaftApi) {
    Result<raft::Message> message = ledger::decode_raft_message(request.body);
    if (!message.ok()) return refuse(message.error().message);
    request.responder.no_reply();
    broker_.on_raft_message(std::move(*message));
  } else if (api == ledger::kHelloApi) {
    const Result<ledger::HelloRequest> hello = ledger::decode_hello_request(request.body);
    if (!hello.ok()) return refuse(hello.error().message);
    answer(request.responder, request.header, ledger::encode(broker_.on_hello(*hello)));
  } else if (api == ledger::kJoinApi) {
    const Result<ledger::JoinRequest> join = ledger::decode_join_request(request.body);
    if (!join.ok()) return refuse(join.error().message);
    answer(request.responder, request.header, ledger::encode(broker_.on_join(*join)));
  } else if (api == ledger::kControllerApi) {
    Result<control::BrokerRequest> asked = control::decode_broker_request(request.body);
    if (!asked.ok()) return refuse(asked.error().message);
    auto slot = std::make_shared<link::Responder>(std::move(request.responder));
    broker_.on_broker_request(std::move(*asked),
                              [slot, header = std::move(request.header)](const control::BrokerAnswer& a) {
                                answer(*slot, header, control::encode(a));
                              });
  } else if (api == ledger::kForwardApi) {
    Result<ledger::ForwardRequest> passed = ledger::decode_forward_request(request.body);
    if (!passed.ok()) return refuse(passed.error().message);
    auto slot = std::make_shared<link::Responder>(std::move(request.responder));
    broker_.on_forward(std::move(*passed),
                       [slot, header = std::move(request.header)](const ledger::ForwardReply& r) {
                         answer(*slot, header, ledger::encode(r));
                       });
  } else if (api == ledger::kPublishedApi) {
    const Result<ledger::PublishedRequest> asked = ledger::decode_published_request(request.body);
    if (!asked.ok()) return refuse(asked.error().message);
    auto slot = std::make_shared<link::Responder>(std::move(request.responder));
    broker_.on_published_request(asked->index, [slot, header = std::move(request.header)](bool published) {
      if (published) {
        answer(*slot, header, {});
      } else {
        slot->close_connection();
      }
    });
  } else {
    refuse("api " + std::to_string(request.header.request_api_key) + " is not served here");
  }
}

}  // namespace millrace::broker
