#include "server/dev_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace millrace::server {
namespace {

constexpr DevVerb kVerbs[] = {DevVerb::kill,   DevVerb::start,   DevVerb::stop, DevVerb::pause,
                              DevVerb::resume, DevVerb::isolate, DevVerb::heal, DevVerb::status};
constexpr std::string_view kClients = "clients";
constexpr std::string_view kOk = "ok\n";
constexpr std::string_view kError = "error\n";
constexpr size_t kWordsMax = 4;
constexpr size_t kBrokerDigitsMax = 3;

Error bad(std::string why) {
  return Error(ErrorCode::invalid_argument, std::move(why));
}

// Separated by single blanks; a word too many is kept, the rest is not looked at.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (words.size() < kWordsMax) {
    const size_t end = line.find(' ');
    words.push_back(line.substr(0, end));
    if (end == std::string_view::npos) break;
    line.remove_prefix(end + 1);
  }
  return words;
}

}  // namespace

std::string_view dev_verb_name(DevVerb verb) {
  switch (verb) {
    case DevVerb::kill:
      return "kill";
    case DevVerb::start:
      return "start";
    case DevVerb::stop:
      return "stop";
    case DevVerb::pause:
      return "pause";
    case DevVerb::resume:
      return "resume";
    case DevVerb::isolate:
      return "isolate";
    case DevVerb::heal:
      return "heal";
    case DevVerb::status:
      return "status";
  }
  return "?";
}

bool names_broker(DevVerb verb) {
  return verb != DevVerb::status;
}

std::string dev_line(const DevCommand& command) {
  std::string line(dev_verb_name(command.verb));
  if (names_broker(command.verb)) line += fmt::format(" {}", command.broker);
  if (command.clients) line += fmt::format(" {}", kClients);
  return line;
}

Result<DevCommand> parse_dev_line(std::string_view line) {
  if (line.size() > kDevLineMax) return bad("the line is too long");
  const std::vector<std::string_view> words = words_of(line);
  const auto verb = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                 [&](DevVerb v) { return dev_verb_name(v) == words.front(); });
  if (verb == std::end(kVerbs)) return bad("there is no such command");
  DevCommand command;
  command.verb = *verb;
  size_t used = 1;
  if (names_broker(command.verb)) {
    const std::string_view digits = words.size() > used ? words[used] : std::string_view();
    const bool number =
        !digits.empty() && digits.size() <= kBrokerDigitsMax &&
        std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!number) return bad(fmt::format("{}: which broker?", words.front()));
    for (const char c : digits) command.broker = 10 * command.broker + (c - '0');
    ++used;
  }
  if (command.verb == DevVerb::isolate && words.size() > used && words[used] == kClients) {
    command.clients = true;
    ++used;
  }
  if (words.size() > used) return bad(fmt::format("{}: more words than it takes", words.front()));
  return command;
}

std::string dev_answer(const Result<std::string>& text) {
  return text.ok() ? std::string(kOk) + *text : std::string(kError) + text.error().message;
}

Result<std::string> parse_dev_answer(std::string_view answer) {
  if (answer.starts_with(kOk)) return std::string(answer.substr(kOk.size()));
  if (answer.starts_with(kError)) return bad(std::string(answer.substr(kError.size())));
  return Error(ErrorCode::corrupt, "the process that runs the brokers gave no answer");
}

}  // namespace millrace::server
