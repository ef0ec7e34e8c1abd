// errno -> Error, for the POSIX implementations of this room and of `net`.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace millrace::io {

/// Whether this errno says that the medium or its file system fails, so that nothing more is to be entrusted
/// to it; unlike what passes (no space, no descriptors) or names a mistake (no such file).
bool is_medium_failure(int number);

/// ENOENT: not_found; EEXIST: already_exists; ENOSPC, EDQUOT: no_space; everything else: io_error.
/// The message reads "<what> <path>: <the system's text>".
Error posix_error(int number, std::string_view what, std::string_view path);
/// The system's text for an errno value.
std::string posix_message(int number);

}  // namespace millrace::io
