#include "server/process_exit.h"

namespace millrace::server {

int exit_code_of(const Error& error) {
  switch (error.code) {
    case ErrorCode::invalid_config:
    case ErrorCode::parse_error:
      return kExitConfig;
    case ErrorCode::inconsistent_cluster_id:
      return kExitDirectory;
    case ErrorCode::already_exists:
      return error.message.starts_with("listener ") || error.message.starts_with("admin.listener ")
                 ? kExitPort
                 : kExitDirectory;
    default:
      return kExitFailed;
  }
}

}  // namespace millrace::server
