// UnregisterBroker (64), version 0: forgets a broker that will not come back.
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::UnregisterBrokerRequest& request) {
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(shared->loop(), control::UnregisterBroker{BrokerId(request.broker_id)},
                                  [shared](Result<control::UnregisterBrokerReply> r) {
                                    wire::UnregisterBrokerResponse response;
                                    const control::Outcome outcome =
                                        r.ok() ? r->outcome : control::Outcome{r.code(), r.error().message};
                                    response.error_code = static_cast<int16_t>(wire_code(outcome.error));
                                    response.error_message.reset();
                                    if (!outcome.ok()) response.error_message = outcome.message;
                                    shared->reply(response);
                                  });
}

}  // namespace millrace::broker
