// The trace facade: how the program logs. A Trace is handed down, never global; where lines go is decided by
// the TraceSink that `server` (spdlog) or a test supplies. Costs one comparison when the level is off.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace {

enum class TraceLevel : uint8_t { debug, info, warn, error, off };

class TraceSink {
 public:
  virtual ~TraceSink() = default;
  /// Thread-safe. `component` is the room or object that speaks.
  virtual void write(TraceLevel level, std::string_view component, std::string_view message) = 0;
};

class Trace {
 public:
  /// Says nothing.
  Trace() = default;
  Trace(TraceSink* sink, std::string component, TraceLevel level = TraceLevel::info)
      : sink_(sink), level_(level), component_(std::move(component)) {}

  Trace named(std::string component) const { return Trace(sink_, std::move(component), level_); }
  bool on(TraceLevel level) const { return sink_ != nullptr && level >= level_; }
  void line(TraceLevel level, fmt::string_view format, fmt::format_args args) const;

  template <class... A>
  void debug(fmt::format_string<A...> f, A&&... a) const {
    if (on(TraceLevel::debug)) line(TraceLevel::debug, f, fmt::make_format_args(a...));
  }
  template <class... A>
  void info(fmt::format_string<A...> f, A&&... a) const {
    if (on(TraceLevel::info)) line(TraceLevel::info, f, fmt::make_format_args(a...));
  }
  template <class... A>
  void warn(fmt::format_string<A...> f, A&&... a) const {
    if (on(TraceLevel::warn)) line(TraceLevel::warn, f, fmt::make_format_args(a...));
  }
  template <class... A>
  void error(fmt::format_string<A...> f, A&&... a) const {
    if (on(TraceLevel::error)) line(TraceLevel::error, f, fmt::make_format_args(a...));
  }

 private:
  TraceSink* sink_ = nullptr;
  TraceLevel level_ = TraceLevel::off;
  std::string component_;
};

/// At most `burst` lines a `period_ms`; what was held back is counted into the next line that goes out.
class TraceLimit {
 public:
  explicit TraceLimit(uint32_t burst = 1, int64_t period_ms = 10'000)
      : burst_(burst), period_ms_(period_ms) {}
  /// True if a line may be written at `mono_ms`; `held_back` is then the number suppressed since the last
  /// one.
  bool admit(int64_t mono_ms, uint64_t& held_back) {
    if (mono_ms - window_start_ms_ >= period_ms_) {
      window_start_ms_ = mono_ms;
      used_ = 0;
    }
    if (used_ >= burst_) {
      ++held_back_;
      return false;
    }
    ++used_;
    held_back = held_back_;
    held_back_ = 0;
    return true;
  }

 private:
  uint32_t burst_;
  int64_t period_ms_;
  int64_t window_start_ms_ = INT64_MIN / 2;
  uint32_t used_ = 0;
  uint64_t held_back_ = 0;
};

}  // namespace millrace
