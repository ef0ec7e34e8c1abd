#include "control/controller.h"

#include "base/assert.h"

namespace millrace::control {

Controller::Controller(BrokerId self, std::shared_ptr<const meta::ConfigValues> settings, meta::Image image,
                       Limits limits)
    : self_(self), settings_(std::move(settings)), image_(std::move(image)), limits_(limits) {
  ASSERT(settings_ != nullptr);
}

}  // namespace millrace::control
