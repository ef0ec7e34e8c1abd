#include "cli/exit_codes.h"

namespace millrace::cli {

ExitCode exit_code_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::none:
      return ExitCode::ok;
    case ErrorCode::closed:
    case ErrorCode::timed_out:
    case ErrorCode::network_exception:
    case ErrorCode::broker_not_available:
      return ExitCode::unreachable;
    case ErrorCode::not_found:
    case ErrorCode::unknown_topic_or_partition:
    case ErrorCode::unknown_topic_id:
    case ErrorCode::group_id_not_found:
    case ErrorCode::resource_not_found:
      return ExitCode::not_found;
    case ErrorCode::invalid_argument:
      return ExitCode::usage;
    case ErrorCode::cancelled:
      return ExitCode::interrupted;
    case ErrorCode::unsupported_version:
    case ErrorCode::corrupt_message:
      return ExitCode::failed;
    default:
      // The private range is about this machine; everything else a broker has said.
      return static_cast<int>(error.code) >= 1000 ? ExitCode::failed : ExitCode::refused;
  }
}

}  // namespace millrace::cli
