#include "base/trace.h"

namespace millrace {

void Trace::line(TraceLevel level, fmt::string_view format, fmt::format_args args) const {
  if (!on(level)) return;
  sink_->write(level, component_, fmt::vformat(format, args));
}

}  // namespace millrace
