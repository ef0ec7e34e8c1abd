// errno -> Error, for the POSIX implementations of this room and of `net`.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace millrace::io {

/// ENOENT: not_found; EEXIST: already_exists; ENOSPC, EDQUOT: no_space; everything else: io_error.
/// The message reads "<what> <path>: <the system's text>".
Error posix_error(int number, std::string_view what, std::string_view path);
/// The system's text for an errno value.
std::string posix_message(int number);

}  // namespace millrace::io
