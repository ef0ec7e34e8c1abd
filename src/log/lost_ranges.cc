#include "log/lost_ranges.h"

#include <fmt/format.h>

#include "log/text_lines.h"

namespace millrace::log {

namespace {

constexpr size_t kLostDigits = 20;

/// Digits with leading zeros, which parse_decimal() does not take.
std::optional<int64_t> padded_decimal(std::string_view digits) {
  if (digits.size() != kLostDigits) return std::nullopt;
  const size_t first = digits.find_first_not_of('0');
  return first == std::string_view::npos ? std::optional<int64_t>(0) : parse_decimal(digits.substr(first));
}

}  // namespace

std::string lost_name(const LostRange& range) {
  return fmt::format("{:020}-{:020}-{:020}{}", range.from.v, range.to.v, range.position, kLostSuffix);
}

std::optional<LostRange> parse_lost_name(std::string_view name) {
  if (name.size() != 3 * kLostDigits + 2 + kLostSuffix.size() || !name.ends_with(kLostSuffix) ||
      name[kLostDigits] != '-' || name[2 * kLostDigits + 1] != '-') {
    return std::nullopt;
  }
  const std::optional<int64_t> from = padded_decimal(name.substr(0, kLostDigits));
  const std::optional<int64_t> to = padded_decimal(name.substr(kLostDigits + 1, kLostDigits));
  const std::optional<int64_t> position = padded_decimal(name.substr(2 * kLostDigits + 2, kLostDigits));
  if (!from || !to || !position || *from < 0 || *from > *to || *position < 0) return std::nullopt;
  return LostRange{Offset(*from), Offset(*to), static_cast<uint64_t>(*position)};
}

}  // namespace millrace::log
