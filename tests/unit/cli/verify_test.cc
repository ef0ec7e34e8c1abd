// Reading histories from a disk and printing verdicts.
#include "cli/verify_command.h"

#include "check/history_file.h"
#include "cli/json.h"
#include "support/catch.h"
#include "support/memory_disk.h"

namespace millrace::cli {
namespace {

constexpr std::string_view kBrokenHistory =
    "{\"history\":1}\n"
    R"({"op":"send","result":"ok","client":"p\u001b[2J","from":1,"to":2,"items":[["t-0",0,7]]})"
    "\n"
    R"({"op":"poll","result":"ok","client":"c","from":3,"to":4,"items":[["t-0",0,8]]})"
    "\n";

}  // namespace

TEST_CASE("a history is read in pieces and judged") {
  test::MemoryDisk disk;
  REQUIRE(disk.make_directories("/d").ok());
  REQUIRE(disk.replace_file("/d/h", as_bytes(kBrokenHistory)).ok());
  const auto history = read_history(disk, "/d/h");
  REQUIRE(history.ok());
  const check::Verdict verdict = check::check(*history);
  const VerifyHistory options{"h", 1};
  const std::string text = render_verdict(*history, verdict, options, Output::text);
  CHECK(text.find("inconsistent-offset: t-0 offset 0 holds 7 and 8") == 0);
  CHECK(text.find('\x1b') == std::string::npos);
  CHECK(text.find("violated: 2 operations, 1 values, 0 transactions\n") != std::string::npos);
  const Json j = Json::parse(render_verdict(*history, verdict, options, Output::json));
  CHECK(j["ok"] == false);
  CHECK(j["found"]["inconsistent-offset"] == 1);
  CHECK(j["found"]["lost-write"] == 1);
  CHECK(j["violations"].size() == 2);
  CHECK(j["violations"][0]["operations"].size() == 2);
}

TEST_CASE("a history that cannot be read says why") {
  test::MemoryDisk disk;
  REQUIRE(disk.make_directories("/d").ok());
  CHECK(read_history(disk, "/d/h").code() == ErrorCode::not_found);
  REQUIRE(disk.replace_file("/d/h", as_bytes(std::string_view("{\"history\":1}\nnonsense\n"))).ok());
  const auto history = read_history(disk, "/d/h");
  REQUIRE_FALSE(history.ok());
  CHECK(history.code() == ErrorCode::parse_error);
  CHECK(history.error().message.find("line 2") == 0);
}

}  // namespace millrace::cli
