#include "control/broker_epoch.h"

#include <fmt/format.h>

namespace millrace::control {

Outcome check_broker_epoch(const meta::Image& image, BrokerId broker, BrokerEpoch epoch) {
  const meta::Broker* known = image.broker(broker);
  if (known == nullptr) {
    return {ErrorCode::broker_id_not_registered, fmt::format("No broker with id {}", broker.v)};
  }
  if (known->epoch != epoch) {
    return {ErrorCode::stale_broker_epoch,
            fmt::format("Broker {} is registered in epoch {}, not {}", broker.v, known->epoch.v, epoch.v)};
  }
  return {};
}

}  // namespace millrace::control
