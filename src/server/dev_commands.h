// What `millrace dev kill 2` says to the process that runs the brokers, and what that answers: one line
// there, "ok" or "error" and some lines of text back. Text to values only.
//
//   kill 2              kill, start, stop, pause, resume, isolate, heal with a broker's number
//   isolate 2 clients   from clients, too
//   status
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace millrace::server {

enum class DevVerb : uint8_t { kill, start, stop, pause, resume, isolate, heal, status };

struct DevCommand {
  DevVerb verb = DevVerb::status;
  int broker = 0;        // 0: none is meant
  bool clients = false;  // isolate: from clients, too

  bool operator==(const DevCommand&) const = default;
};

inline constexpr size_t kDevLineMax = 128;
inline constexpr size_t kDevAnswerMax = 64 * 1024;

std::string_view dev_verb_name(DevVerb verb);
/// Whether the command is about one broker.
bool names_broker(DevVerb verb);

/// The line without its end.
std::string dev_line(const DevCommand& command);
/// Error: invalid_argument, saying what was expected.
Result<DevCommand> parse_dev_line(std::string_view line);

/// A whole answer: `text` may be empty and need not end a line.
std::string dev_answer(const Result<std::string>& text);
/// The text of an answer; the error it carries, as invalid_argument; corrupt if it is none.
Result<std::string> parse_dev_answer(std::string_view answer);

}  // namespace millrace::server
