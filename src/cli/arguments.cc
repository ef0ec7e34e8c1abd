#include "cli/arguments.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <limits>
#include <optional>

namespace millrace::cli {
namespace {

constexpr size_t kPartitionsMax = 100'000;

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t out = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
    return std::nullopt;
  return out;
}

/// Exactly `digits` digits at the front, taken off.
std::optional<int> take_digits(std::string_view& text, size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int out = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    out = out * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return out;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<int64_t> calendar_time(std::string_view text) {
  std::tm t{};
  const auto year = take_digits(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  const auto month = take_digits(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_digits(text, 2);
  if (!day || *month < 1 || *month > 12 || *day < 1 || *day > 31) return std::nullopt;
  t.tm_year = *year - 1900;
  t.tm_mon = *month - 1;
  t.tm_mday = *day;
  int64_t ms = 0;
  int64_t zone_minutes = 0;
  if (take(text, 'T') || take(text, ' ')) {
    const auto hour = take_digits(text, 2);
    if (!hour || !take(text, ':')) return std::nullopt;
    const auto minute = take_digits(text, 2);
    if (!minute || *hour > 23 || *minute > 59) return std::nullopt;
    t.tm_hour = *hour;
    t.tm_min = *minute;
    if (take(text, ':')) {
      const auto second = take_digits(text, 2);
      if (!second || *second > 59) return std::nullopt;
      t.tm_sec = *second;
      if (take(text, '.')) {
        const auto fraction = take_digits(text, 3);
        if (!fraction) return std::nullopt;
        ms = *fraction;
      }
    }
    if (!text.empty() && (text.front() == '+' || text.front() == '-')) {
      const int sign = text.front() == '+' ? 1 : -1;
      text.remove_prefix(1);
      const auto hours = take_digits(text, 2);
      if (!hours || !take(text, ':')) return std::nullopt;
      const auto minutes = take_digits(text, 2);
      if (!minutes || *hours > 14 || *minutes > 59) return std::nullopt;
      zone_minutes = sign * (*hours * 60 + *minutes);
    } else {
      (void)take(text, 'Z');
    }
  }
  if (!text.empty()) return std::nullopt;
  const int day_before = t.tm_mday;
  const std::time_t seconds = ::timegm(&t);
  if (t.tm_mday != day_before) return std::nullopt;  // the 31st of a month that has 30 days
  return (static_cast<int64_t>(seconds) - zone_minutes * 60) * 1000 + ms;
}

std::optional<int64_t> unit_ms(char unit) {
  switch (unit) {
    case 's':
      return 1'000;
    case 'm':
      return 60'000;
    case 'h':
      return 3'600'000;
    case 'd':
      return 86'400'000;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<int64_t> parse_time(std::string_view text, int64_t wall_now_ms) {
  if (!text.empty() && text.front() == '-') {
    const auto unit = unit_ms(text.back());
    const auto count = whole_number(text.substr(1, text.size() - 2));
    if (unit && count && *count >= 0 && *count <= wall_now_ms / *unit) return wall_now_ms - *count * *unit;
  } else if (const auto ms = whole_number(text); ms && text.size() != 4) {
    return *ms;
  } else if (const auto calendar = calendar_time(text)) {
    return *calendar;
  }
  return Error(
      ErrorCode::invalid_argument,
      "\"" + std::string(text) +
          "\" is no time: Unix milliseconds, 2026-11-21, 2026-11-21T13:45:00Z, or -15m (s, m, h, d)");
}

Result<OffsetSpec> parse_offset_spec(std::string_view text, int64_t wall_now_ms) {
  if (text == "beginning" || text == "earliest" || text == "start")
    return OffsetSpec{OffsetSpec::Kind::beginning, 0};
  if (text == "end" || text == "latest") return OffsetSpec{OffsetSpec::Kind::end, 0};
  if (!text.empty() && text.front() == '@') {
    TRY_ASSIGN(const int64_t ms, parse_time(text.substr(1), wall_now_ms));
    return OffsetSpec{OffsetSpec::Kind::timestamp, ms};
  }
  const auto number = whole_number(text);
  if (!number || *number == std::numeric_limits<int64_t>::min()) {
    return Error(ErrorCode::invalid_argument,
                 "\"" + std::string(text) +
                     "\" is no offset: beginning, end, a number, -N (N before the "
                     "end) or @TIME");
  }
  if (*number < 0) return OffsetSpec{OffsetSpec::Kind::before_end, -*number};
  return OffsetSpec{OffsetSpec::Kind::offset, *number};
}

Result<std::pair<std::string, std::string>> parse_pair(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return Error(ErrorCode::invalid_argument, "\"" + std::string(text) + "\" is no key=value");
  }
  return std::pair<std::string, std::string>(text.substr(0, equals), text.substr(equals + 1));
}

Result<std::vector<int32_t>> parse_partitions(std::string_view text) {
  const Error wrong(ErrorCode::invalid_argument,
                    "\"" + std::string(text) + "\" is no list of partitions such as 0,3,5-7");
  std::vector<int32_t> out;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    const std::string_view one = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    const size_t dash = one.find('-');
    const auto first = whole_number(one.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : whole_number(one.substr(dash + 1));
    if (!first || !last || *first < 0 || *last < *first || *last > std::numeric_limits<int32_t>::max() ||
        static_cast<size_t>(*last - *first) >= kPartitionsMax - out.size()) {
      return Error(wrong.code, wrong.message);
    }
    for (int64_t p = *first; p <= *last; ++p) out.push_back(static_cast<int32_t>(p));
  }
  if (out.empty()) return Error(wrong.code, wrong.message);
  return out;
}

Result<std::pair<std::string, std::vector<int32_t>>> parse_topic_partitions(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == 0 || text.empty()) {
    return Error(ErrorCode::invalid_argument, "\"" + std::string(text) + "\" names no topic");
  }
  std::pair<std::string, std::vector<int32_t>> out(std::string(text.substr(0, colon)),
                                                   std::vector<int32_t>{});
  if (colon != std::string_view::npos) {
    TRY_ASSIGN(out.second, parse_partitions(text.substr(colon + 1)));
  }
  return out;
}

Result<ReassignmentSpec> parse_reassignment(std::string_view text) {
  const auto wrong = [&text](std::string_view why) {
    return Error(ErrorCode::invalid_argument, "\"" + std::string(text) + "\": " + std::string(why) +
                                                  "; say TOPIC:PARTITION=BROKER,BROKER,...");
  };
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return wrong("it does not say which brokers");
  TRY_ASSIGN(auto where, parse_topic_partitions(text.substr(0, equals)));
  if (where.second.empty()) return wrong("it names no partition");
  TRY_ASSIGN(std::vector<int32_t> replicas, parse_partitions(text.substr(equals + 1)));
  for (size_t i = 0; i < replicas.size(); ++i) {
    if (std::find(replicas.begin(), replicas.begin() + static_cast<std::ptrdiff_t>(i), replicas[i]) !=
        replicas.begin() + static_cast<std::ptrdiff_t>(i)) {
      return wrong("a broker is named twice");
    }
  }
  return ReassignmentSpec{std::move(where.first), std::move(where.second), std::move(replicas)};
}

}  // namespace millrace::cli
