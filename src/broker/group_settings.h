// The group coordinators' limits as the configuration has them.
#pragma once

#include "group/limits.h"
#include "meta/config_view.h"

namespace millrace::broker {

group::GroupLimits group_limits(const meta::ConfigView& view);

}  // namespace millrace::broker
