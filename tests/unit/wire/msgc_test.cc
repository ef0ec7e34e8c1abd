// msgc's complaints: every mistake in a schema stops it with file and line.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/catch.h"

namespace millrace::wire {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  int exit_code = -1;
  std::string output;
};

/// Runs msgc on one file of that text.
Outcome run_msgc(const std::string& text, const std::string& name = "x.schema") {
  const fs::path dir = fs::path(MILLRACE_BINARY_DIR) / "msgc_test";
  fs::create_directories(dir);
  const fs::path file = dir / name;
  std::ofstream(file) << text;
  const std::string command = std::string(MILLRACE_BINARY_DIR) + "/msgc --root " + dir.string() +
                              " --dump-json " + file.string() + " 2>&1";
  Outcome out;
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[512];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) out.output += buffer;
  out.exit_code = pclose(pipe);
  fs::remove(file);
  return out;
}

void check_complaint(const std::string& text, int line, const std::string& about) {
  const Outcome out = run_msgc(text);
  INFO(text << "\n-> " << out.output);
  CHECK(out.exit_code != 0);
  const std::string place = line > 0 ? "x.schema:" + std::to_string(line) + ": " : "x.schema: ";
  CHECK(out.output.find(place) != std::string::npos);
  CHECK(out.output.find(about) != std::string::npos);
}

TEST_CASE("a sound schema passes, and is understood") {
  const Outcome out = run_msgc(
      "# a comment\n"
      "record Thing  key 3  versions 0-4  flexible 2+\n"
      "  Name  string  1+  nullable 2-3  # behind a field\n"
      "  Parts []Part?  3+  tag 7 = null\n"
      "    Size int64 = -1\n"
      "  Other Shared\n"
      "  struct Shared\n"
      "    Flag bool 0-2 = true\n");
  INFO(out.output);
  CHECK(out.exit_code == 0);
  CHECK(out.output.find("\"name\":\"Name\",\"type\":\"string\",\"versions\":[1,4],\"nullable\":[2,3]") !=
        std::string::npos);
  CHECK(out.output.find(
            "\"name\":\"Parts\",\"type\":\"[]Part\",\"versions\":[3,4],\"nullable\":[3,4],\"tag\":7") !=
        std::string::npos);
}

TEST_CASE("mistakes are told with their line") {
  const std::string head = "record X  versions 0-2  flexible 1+\n";
  check_complaint("", 0, "no message");
  check_complaint("nonsense\n", 1, "expected api");
  check_complaint("record X\n  A int8\n", 1, "versions A-B is missing");
  check_complaint("record X versions 0+\n  A int8\n", 1, "versions A-B is missing");
  check_complaint("record X versions 2-1\n", 1, "empty range");
  check_complaint("record X versions one\n", 1, "expected a number");
  check_complaint("record X versions 0-1 flexible 1\n", 1, "open range");
  check_complaint("record X versions 0 colour red\n", 1, "unknown word 'colour'");
  check_complaint(head + "   A int8\n", 2, "two spaces");
  check_complaint(head + "  a int8\n", 2, "UpperCamelCase");
  check_complaint(head + "  A\n", 2, "expected a type");
  check_complaint(head + "  A int7\n", 2, "unknown type");
  check_complaint(head + "  A int8 3+\n", 2, "versions outside");
  check_complaint(head + "  A int8 0-9\n", 2, "versions outside");
  check_complaint(head + "  A int8 blue\n", 2, "unknown word 'blue'");
  check_complaint(head + "  A int8 = 200\n", 2, "does not fit");
  check_complaint(head + "  A bool = 1\n", 2, "true or false");
  check_complaint(head + "  A int8 = null\n", 2, "null is not allowed");
  check_complaint(head + "  A int8?\n", 2, "cannot be null");
  check_complaint(head + "  A string 1+ nullable 0+\n", 2, "nullable in versions");
  check_complaint(head + "  A []bool\n", 2, "no arrays");
  check_complaint(head + "  A string tag 0\n", 2, "flexible versions");
  check_complaint(head + "  A int8 1+ tag 0\n  B int8 1+ tag 0\n", 3, "tag 0 is there twice");
  check_complaint(head + "  A int8 private\n", 2, "must be tagged");
  check_complaint(head + "  A int8\n  A int16\n", 3, "there twice");
  check_complaint(head + "  A int8\n    B int8\n", 3, "only a field of a struct type");
  check_complaint(head + "  A Missing\n", 2, "no struct Missing");
  check_complaint(head + "  A int8\n  struct Unused\n    B int8\n", 3, "not used");
  check_complaint(head + "  A Part\n    B int8\n  C Part\n    D int8\n", 4, "there twice");
  check_complaint(head + "  A Loop\n  struct Loop\n    B []Loop\n", 3, "contains itself");
  check_complaint("request\n  A int8\n", 1, "api line must come first");
  const std::string api = "api 1 X versions 0-2 ";
  check_complaint("api 1 X versions 0-2\nrequest\nresponse\n", 1, "serves");
  check_complaint(api + "serves 0-3\nrequest\nresponse\n", 1, "do not exist");
  check_complaint(api + "serves 1-2 advertises-from 2\nrequest\nresponse\n", 1, "advertises-from");
  check_complaint(api + "serves none\nresponse\n", 2, "one request, then one response");
  check_complaint(api + "serves none\nrequest\n", 0, "needs a request and a response");
  check_complaint("api 1 Y versions 0 serves none\nrequest\nresponse\n", 0, "should be named y.schema");
}

}  // namespace
}  // namespace millrace::wire
