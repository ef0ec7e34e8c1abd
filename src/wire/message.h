// What every generated message header needs: the vocabulary of field types. Kept thin; Reader and Writer are
// only named.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/uuid.h"
#include "wire/api_key.h"
#include "wire/records.h"

namespace millrace::wire {

class Reader;
class Writer;

/// kFlexibleFrom of a message that never is.
inline constexpr int16_t kNeverFlexible = std::numeric_limits<int16_t>::max();

// Every message T comes with
//
//   Status decode(Reader&, int16_t version, T&)   fields that the version lacks take their defaults; errors:
//   corrupt,
//                                                 unsupported_version. What follows the message is left
//                                                 unread.
//   void encode(Writer&, int16_t version, const T&)   fields that the version lacks are left out; null where
//   the
//                                                     version knows no null is written as empty.
//
// and constants kMinVersion, kMaxVersion (what the codec knows, not what is served), kFlexibleFrom.

}  // namespace millrace::wire
