#include "check/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace millrace::check {
namespace {

constexpr int64_t kOffsetsAround = 3;  // beside the violation's own
constexpr size_t kBarWidth = 40;

bool touches(const History& history, const Operation& o, const Violation& v) {
  if (v.partition == UINT32_MAX || v.offset == kUnknown) return false;
  return std::any_of(history.begin_of(o), history.end_of(o), [&v](const Item& i) {
    return i.partition == v.partition && i.offset >= v.offset - kOffsetsAround &&
           i.offset <= v.offset + kOffsetsAround;
  });
}

/// The operation's time as a bar within [from, to].
std::string bar(const Operation& o, int64_t from, int64_t to) {
  const double width = std::max(1.0, static_cast<double>(to) - static_cast<double>(from));
  const auto place = [&](int64_t t) {
    const double at = (static_cast<double>(t) - static_cast<double>(from)) / width;
    return static_cast<size_t>(std::clamp(at, 0.0, 1.0) * static_cast<double>(kBarWidth - 1));
  };
  std::string text(kBarWidth, ' ');
  const size_t first = place(o.invoked);
  const size_t last = place(std::min(o.returned, to));
  for (size_t i = first; i <= last; ++i) text[i] = '-';
  text[first] = '[';
  text[last] = o.returned > to ? '>' : first == last ? '|' : ']';
  return text;
}

}  // namespace

std::string describe(const History& history, const Operation& o, size_t items_max) {
  std::string out =
      fmt::format("{} {} {} {}..", history.clients.name(o.client), word(o.kind), word(o.outcome), o.invoked);
  out += o.returned == INT64_MAX ? std::string("never") : std::to_string(o.returned);
  if (o.isolation == Isolation::read_committed) out += " committed";
  if (o.txn != kUnknown) out += fmt::format(" txn {}", o.txn);
  if (o.group >= 0) out += " group " + history.groups.name(static_cast<uint32_t>(o.group));
  if (o.generation != kUnknown) out += fmt::format(" generation {}", o.generation);
  size_t told = 0;
  for (const Item* i = history.begin_of(o); i != history.end_of(o); ++i) {
    if (told++ == items_max) {
      out += fmt::format(" ... {} more", o.items - items_max);
      break;
    }
    out += " " + history.partitions.name(i->partition);
    out += i->offset == kUnknown ? std::string("@?") : fmt::format("@{}", i->offset);
    if (i->value != kUnknown) out += fmt::format("={}", i->value);
  }
  return out;
}

std::string timeline(const History& history, const Violation& violation, size_t lines_max) {
  std::set<uint32_t> chosen(violation.operations.begin(), violation.operations.end());
  const std::set<uint32_t> evidence = chosen;
  for (uint32_t n = 0; n < history.operations.size() && chosen.size() < lines_max; ++n) {
    if (touches(history, history.operations[n], violation)) chosen.insert(n);
  }
  int64_t from = INT64_MAX;
  int64_t to = INT64_MIN;
  for (const uint32_t n : chosen) {
    const Operation& o = history.operations[n];
    from = std::min(from, o.invoked);
    to = std::max(to, o.returned == INT64_MAX ? o.invoked : o.returned);
  }
  std::string out = fmt::format("{}: {}\n", rule_name(violation.rule), violation.what);
  size_t told = 0;
  for (const uint32_t n : chosen) {  // indices are in order of invocation
    if (told++ == lines_max) {
      out += "  ...\n";
      break;
    }
    const Operation& o = history.operations[n];
    out +=
        fmt::format("{} {} {}\n", evidence.contains(n) ? '>' : ' ', bar(o, from, to), describe(history, o));
  }
  return out;
}

}  // namespace millrace::check
