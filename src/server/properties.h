// The .properties text that Kafka's users bring: `key=value` lines as java.util.Properties reads them, with
// the line each key stands on, so that a message can point there.
//
//   comment     first non-blank character is # or !; a comment does not continue
//   key         up to the first =, : or blank that is not escaped
//   value       what follows, without the blanks around the separator; blanks at its end are kept
//   continued   a line that ends in an odd number of backslashes; leading blanks of the next line are dropped
//   escapes     \t \n \r \f \uXXXX (a surrogate pair gives one character); \c is c for any other c
//
// The text is taken as UTF-8; a byte order mark at its start is skipped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace millrace::server {

struct Property {
  std::string key;
  std::string value;
  /// Line of its first character, from 1.
  uint32_t line = 0;
};

inline constexpr size_t kPropertiesBytesMax = 1 << 20;
inline constexpr size_t kPropertiesCountMax = 10'000;

/// Every property in the order of the text, duplicates included. Errors: parse_error naming the line (a bad
/// \u escape, a NUL byte, an empty key), limit_exceeded.
Result<std::vector<Property>> parse_properties(std::string_view text);

}  // namespace millrace::server
