// Whether a broker that asks is the registration it says it is.
#pragma once

#include "control/requests.h"
#include "meta/image.h"

namespace millrace::control {

/// broker_id_not_registered, stale_broker_epoch.
Outcome check_broker_epoch(const meta::Image& image, BrokerId broker, BrokerEpoch epoch);

}  // namespace millrace::control
