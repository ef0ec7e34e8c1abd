#include "io/posix_error.h"

#include <errno.h>

#include <system_error>

namespace millrace::io {

bool is_medium_failure(int number) {
  switch (number) {
    case EIO:
    case EROFS:
    case ENXIO:
    case ENODEV:
    case ENOMEDIUM:
    case EMEDIUMTYPE:
    case EREMOTEIO:
    case EUCLEAN:  // the file system's own structures are damaged
    case EBADMSG:  // ... or a checksum of it
    case ESTALE:
    case ESHUTDOWN:
    case ENOTCONN:  // a file system in user space ended
    case EACCES:
    case EPERM:
      return true;
    default:
      return false;
  }
}

std::string posix_message(int number) {
  return std::generic_category().message(number);
}

Error posix_error(int number, std::string_view what, std::string_view path) {
  ErrorCode code = ErrorCode::io_error;
  switch (number) {
    case ENOENT:
      code = ErrorCode::not_found;
      break;
    case EEXIST:
      code = ErrorCode::already_exists;
      break;
    case ENOSPC:
    case EDQUOT:
      code = ErrorCode::no_space;
      break;
    default:
      break;
  }
  std::string message(what);
  message.append(" ").append(path).append(": ").append(posix_message(number));
  return Error(code, std::move(message));
}

}  // namespace millrace::io
