#include "log/epoch_cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "log/text_lines.h"

namespace millrace::log {

Result<EpochCache> EpochCache::parse(std::string_view file) {
  const Error damaged(ErrorCode::parse_error, "leader-epoch-checkpoint does not parse");
  TextLines lines(file);
  if (lines.next() != "0") return damaged;
  const std::optional<std::string_view> count_line = lines.next();
  if (!count_line) return damaged;
  const std::optional<int64_t> count = parse_decimal(*count_line);
  if (!count || *count < 0) return damaged;
  EpochCache cache;
  for (int64_t i = 0; i < *count; ++i) {
    const std::optional<std::string_view> line = lines.next();
    const size_t space = line ? line->find(' ') : std::string_view::npos;
    if (space == std::string_view::npos) return damaged;
    const std::optional<int64_t> epoch = parse_decimal(line->substr(0, space));
    const std::optional<int64_t> start = parse_decimal(line->substr(space + 1));
    if (!epoch || !start || *epoch < 0 || *epoch > INT32_MAX || *start < 0) return damaged;
    const EpochStart entry{LeaderEpoch(static_cast<int32_t>(*epoch)), Offset(*start)};
    if (!cache.entries_.empty() && (entry.epoch <= cache.entries_.back().epoch ||
                                    entry.start_offset < cache.entries_.back().start_offset)) {
      return damaged;
    }
    cache.entries_.push_back(entry);
  }
  return cache;
}

std::string EpochCache::encode() const {
  std::string out = fmt::format("0\n{}\n", entries_.size());
  for (const EpochStart& e : entries_) out += fmt::format("{} {}\n", e.epoch.v, e.start_offset.v);
  return out;
}

bool EpochCache::assign(LeaderEpoch epoch, Offset start) {
  if (epoch.v < 0 || start.v < 0) return false;
  if (!entries_.empty() && entries_.back().epoch == epoch && start >= entries_.back().start_offset)
    return false;
  while (!entries_.empty() && (entries_.back().epoch >= epoch || entries_.back().start_offset >= start)) {
    entries_.pop_back();
  }
  entries_.push_back({epoch, start});
  return true;
}

bool EpochCache::truncate_from_end(Offset end) {
  const size_t before = entries_.size();
  while (!entries_.empty() && entries_.back().start_offset >= end) entries_.pop_back();
  return entries_.size() != before;
}

bool EpochCache::truncate_from_start(Offset start) {
  const auto after = std::upper_bound(entries_.begin(), entries_.end(), start,
                                      [](Offset o, const EpochStart& e) { return o < e.start_offset; });
  if (after == entries_.begin()) return false;
  const auto spanning = after - 1;
  if (spanning == entries_.begin() && spanning->start_offset == start) return false;
  spanning->start_offset = start;
  entries_.erase(entries_.begin(), spanning);
  return true;
}

std::optional<EpochStart> EpochCache::latest() const {
  if (entries_.empty()) return std::nullopt;
  return entries_.back();
}

LeaderEpoch EpochCache::epoch_of(Offset offset) const {
  const auto after = std::upper_bound(entries_.begin(), entries_.end(), offset,
                                      [](Offset o, const EpochStart& e) { return o < e.start_offset; });
  return after == entries_.begin() ? kNoLeaderEpoch : (after - 1)->epoch;
}

EpochEnd EpochCache::end_offset_for(LeaderEpoch requested, Offset log_end) const {
  if (requested == kNoLeaderEpoch || entries_.empty()) return {};
  if (requested == entries_.back().epoch) return {requested, log_end};
  const auto higher = std::upper_bound(entries_.begin(), entries_.end(), requested,
                                       [](LeaderEpoch e, const EpochStart& s) { return e < s.epoch; });
  if (higher == entries_.end()) return {};
  if (higher == entries_.begin()) return {requested, higher->start_offset};
  return {(higher - 1)->epoch, higher->start_offset};
}

}  // namespace millrace::log
