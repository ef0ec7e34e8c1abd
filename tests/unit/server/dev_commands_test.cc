#include "server/dev_commands.h"

#include <string>
#include <vector>

#include "support/catch.h"

namespace millrace::server {
namespace {

TEST_CASE("every command comes back from its line", "[dev_commands]") {
  const std::vector<std::pair<DevCommand, std::string>> all = {
      {{DevVerb::kill, 2, false}, "kill 2"},
      {{DevVerb::start, 1, false}, "start 1"},
      {{DevVerb::stop, 3, false}, "stop 3"},
      {{DevVerb::pause, 9, false}, "pause 9"},
      {{DevVerb::resume, 9, false}, "resume 9"},
      {{DevVerb::isolate, 2, false}, "isolate 2"},
      {{DevVerb::isolate, 2, true}, "isolate 2 clients"},
      {{DevVerb::heal, 2, false}, "heal 2"},
      {{DevVerb::status, 0, false}, "status"},
  };
  for (const auto& [command, line] : all) {
    INFO(line);
    CHECK(dev_line(command) == line);
    const Result<DevCommand> parsed = parse_dev_line(line);
    REQUIRE(parsed.ok());
    CHECK(*parsed == command);
  }
}

TEST_CASE("a line that is none is refused, saying why", "[dev_commands]") {
  const auto why = [](std::string_view line) {
    const Result<DevCommand> parsed = parse_dev_line(line);
    return parsed.ok() ? std::string("taken") : parsed.error().message;
  };
  CHECK(why("") == "there is no such command");
  CHECK(why("Kill 2") == "there is no such command");
  CHECK(why(" kill 2") == "there is no such command");
  CHECK(why("kill") == "kill: which broker?");
  CHECK(why("kill two") == "kill: which broker?");
  CHECK(why("kill -1") == "kill: which broker?");
  CHECK(why("kill  2") == "kill: which broker?");
  CHECK(why("kill 99999999999") == "kill: which broker?");
  CHECK(why("kill 2 clients") == "kill: more words than it takes");
  CHECK(why("isolate 2 client") == "isolate: more words than it takes");
  CHECK(why("isolate 2 clients 3") == "isolate: more words than it takes");
  CHECK(why("status 1") == "status: more words than it takes");
  CHECK(why(std::string(kDevLineMax + 1, 'k')) == "the line is too long");
  CHECK(why(std::string("kill 2\0", 7)) == "kill: which broker?");
}

TEST_CASE("answers carry a text or an error", "[dev_commands]") {
  CHECK(*parse_dev_answer(dev_answer(std::string("two\nlines\n"))) == "two\nlines\n");
  CHECK(parse_dev_answer(dev_answer(std::string()))->empty());
  const Result<std::string> refused =
      parse_dev_answer(dev_answer(Error(ErrorCode::timed_out, "broker 2 is stopped")));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message == "broker 2 is stopped");
  for (const std::string_view garbled : {"", "o", "ok", "HTTP/1.1 400 Bad Request\n"})
    CHECK(parse_dev_answer(garbled).code() == ErrorCode::corrupt);
}

}  // namespace
}  // namespace millrace::server
