// What an error code says of a write: part of the contract between a broker and its clients.
#pragma once

#include "base/error.h"

namespace millrace::check {

/// Whether a produce that was answered with this code has certainly stored nothing: its operation is
/// Outcome::fail. After any other error it may be there or come to be there: Outcome::info.
bool says_nothing_stored(ErrorCode code);

}  // namespace millrace::check
