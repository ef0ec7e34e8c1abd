// What the tool reads and prints, without a broker.
#include "cli/arguments.h"
#include "cli/completion.h"
#include "cli/exit_codes.h"
#include "cli/json.h"
#include "cli/produce_command.h"
#include "cli/record_format.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "support/catch.h"

namespace millrace::cli {
namespace {

constexpr int64_t kNow = 1'700'000'000'000;

client::ConsumedRecord sample_record() {
  client::ConsumedRecord r;
  r.topic = "t";
  r.partition = 3;
  r.offset = 42;
  r.timestamp_ms = kNow;
  r.key = to_bytes(std::string_view("k"));
  r.value = to_bytes(std::string_view("value"));
  r.headers = {{"a", to_bytes(std::string_view("1"))}, {"b", std::nullopt}};
  return r;
}

std::string formatted(const char* format, const client::ConsumedRecord& record) {
  const auto f = RecordFormat::parse(format);
  REQUIRE(f.ok());
  std::string out;
  f->append(out, record);
  return out;
}

TEST_CASE("format strings") {
  client::ConsumedRecord r = sample_record();
  CHECK(formatted("%t %p %o %k %s %h %T %K %S %%\\n", r) == "t 3 42 k value a=1,b= 1700000000000 1 5 %\n");
  CHECK(formatted("\\t\\r\\\\\\x41\\0", r) == std::string("\t\r\\A\0", 5));
  CHECK(formatted("", r).empty());
  CHECK(formatted("plain", r) == "plain");
  r.key.reset();
  r.value.reset();
  r.headers.clear();
  CHECK(formatted("[%k|%s|%h|%K|%S]", r) == "[|||-1|-1]");
  r.value = Bytes{};
  CHECK(formatted("%S", r) == "0");
  for (const char* bad : {"%", "%q", "\\", "\\z", "\\x", "\\x4", "\\x4g", "abc%"}) {
    CAPTURE(bad);
    CHECK(RecordFormat::parse(bad).code() == ErrorCode::invalid_argument);
  }
  CHECK(RecordFormat::parse("ab%q").error().message.find("character 3") != std::string::npos);
}

TEST_CASE("records as JSON") {
  client::ConsumedRecord r = sample_record();
  CHECK(
      record_json(r) ==
      R"({"topic":"t","partition":3,"offset":42,"timestamp_ms":1700000000000,"timestamp_type":"create_time",)"
      R"("key":"k","value":"value","headers":[{"key":"a","value":"1"},{"key":"b","value":null}]})"
      "\n");
  r.value = Bytes{0xff, 0x00};
  const Json j = Json::parse(record_json(r));
  CHECK(j["value"] == "/wA=");
  CHECK(j["value_encoding"] == "base64");
  CHECK_FALSE(j.contains("key_encoding"));
  r.key.reset();
  CHECK(Json::parse(record_json(r))["key"].is_null());
}

TEST_CASE("tables") {
  Table t({{"name", "NAME"}, {"count", "COUNT"}, {"on", "ON"}});
  t.add({std::string("a"), int64_t{5}, true});
  t.add({std::string("lönger"), int64_t{12345}, false});
  t.add({std::string("x\x1b[2J"), {}, {}});
  CHECK(t.text() ==
        "NAME      COUNT  ON\n"
        "a             5  yes\n"
        "lönger    12345  no\n"
        "x\\x1b[2J      -  -\n");
  const Json j = Json::parse(t.json());
  CHECK(j[0]["count"] == 5);
  CHECK(j[0]["on"] == true);
  CHECK(j[2]["count"].is_null());
  CHECK(j[2]["name"] == "x\x1b[2J");
  CHECK(t.json().find("\"name\"") < t.json().find("\"count\""));
  CHECK(Table(std::vector<Column>{{"a", "A"}}).text() == "A\n");
  CHECK(Table(std::vector<Column>{{"a", "A"}}).json() == "[]\n");
}

TEST_CASE("offsets as people write them") {
  using Kind = OffsetSpec::Kind;
  CHECK(*parse_offset_spec("beginning", kNow) == OffsetSpec{Kind::beginning, 0});
  CHECK(*parse_offset_spec("end", kNow) == OffsetSpec{Kind::end, 0});
  CHECK(*parse_offset_spec("0", kNow) == OffsetSpec{Kind::offset, 0});
  CHECK(*parse_offset_spec("9223372036854775807", kNow) == OffsetSpec{Kind::offset, INT64_MAX});
  CHECK(*parse_offset_spec("-7", kNow) == OffsetSpec{Kind::before_end, 7});
  CHECK(*parse_offset_spec("@1700000000123", kNow) == OffsetSpec{Kind::timestamp, 1'700'000'000'123});
  CHECK(*parse_offset_spec("@-15m", kNow) == OffsetSpec{Kind::timestamp, kNow - 900'000});
  for (const char* bad :
       {"", "x", "1x", "--1", "9223372036854775808", "-9223372036854775808", "@", "@x", "1.5", " 1"}) {
    CAPTURE(bad);
    CHECK(parse_offset_spec(bad, kNow).code() == ErrorCode::invalid_argument);
  }
}

TEST_CASE("times as people write them") {
  CHECK(*parse_time("2023-11-14", 0) == 1'699'920'000'000);
  CHECK(*parse_time("2023-11-14T22:13:20Z", 0) == kNow);
  CHECK(*parse_time("2023-11-14T22:13:20", 0) == kNow);
  CHECK(*parse_time("2023-11-14 22:13", 0) == kNow - 20'000);
  CHECK(*parse_time("2023-11-14T22:13:20.123Z", 0) == kNow + 123);
  CHECK(*parse_time("2023-11-15T00:13:20+02:00", 0) == kNow);
  CHECK(*parse_time("2024-02-29", 0) == 1'709'164'800'000);
  CHECK(*parse_time("-2d", kNow) == kNow - 172'800'000);
  CHECK(*parse_time("0", kNow) == 0);
  for (const char* bad : {"", "2023", "2023-13-01", "2023-02-29", "2023-11-14T", "2023-11-14T25:00",
                          "2023-11-14T22:13:61", "2023-11-14T22:13:20.1Z", "2023-11-14T22:13:20+2",
                          "2023-11-14x", "-", "-m", "-5", "-5y", "--5m", "-99999999999d", "now"}) {
    CAPTURE(bad);
    CHECK(parse_time(bad, kNow).code() == ErrorCode::invalid_argument);
  }
  CHECK(utc_time(kNow + 7) == "2023-11-14T22:13:20.007Z");
  CHECK(utc_time(-1) == "-");
}

TEST_CASE("pairs and lists of partitions") {
  CHECK(*parse_pair("a=b=c") == std::pair<std::string, std::string>("a", "b=c"));
  CHECK(parse_pair("a=")->second.empty());
  CHECK(parse_pair("=b").code() == ErrorCode::invalid_argument);
  CHECK(parse_pair("ab").code() == ErrorCode::invalid_argument);
  CHECK(*parse_partitions("0,3,5-7") == std::vector<int32_t>{0, 3, 5, 6, 7});
  for (const char* bad : {"", ",", "a", "1-", "-1", "7-5", "1,,2", "0-2147483648", "0-99999999"}) {
    CAPTURE(bad);
    CHECK(parse_partitions(bad).code() == ErrorCode::invalid_argument);
  }
  CHECK(parse_topic_partitions("t")->second.empty());
  CHECK(parse_topic_partitions("t:1,2")->second == std::vector<int32_t>{1, 2});
  CHECK(parse_topic_partitions(":1").code() == ErrorCode::invalid_argument);
  CHECK(parse_topic_partitions("t:").code() == ErrorCode::invalid_argument);
  CHECK(parse_topic_partitions("").code() == ErrorCode::invalid_argument);
}

TEST_CASE("lines become records") {
  Produce o;
  o.topic = "t";
  CHECK(as_text(*record_of_line(o, "a:b")->value) == "a:b");
  CHECK_FALSE(record_of_line(o, "a:b")->key.has_value());
  o.key_separator = "::";
  CHECK(as_text(*record_of_line(o, "a::b::c")->key) == "a");
  CHECK(as_text(*record_of_line(o, "a::b::c")->value) == "b::c");
  CHECK(record_of_line(o, "::")->value->empty());
  CHECK(record_of_line(o, "a:b").code() == ErrorCode::invalid_argument);
  o.tombstone = true;
  CHECK(as_text(*record_of_line(o, "a:b")->key) == "a:b");
  CHECK_FALSE(record_of_line(o, "a::b")->value.has_value());
  Produce keyed;
  keyed.topic = "t";
  keyed.has_key = true;
  keyed.key = "K";
  keyed.headers = {"h=1"};
  keyed.partition = 4;
  const auto r = record_of_line(keyed, "v");
  CHECK(as_text(*r->key) == "K");
  CHECK(r->partition == 4);
  CHECK(r->headers.size() == 1);
}

TEST_CASE("text that may be shown") {
  CHECK(is_utf8("plain, ö, €, 😀"));
  CHECK(is_utf8(""));
  for (const char* bad :
       {"\x80", "\xc3", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff", "a\xc3z"}) {
    CAPTURE(bad);
    CHECK_FALSE(is_utf8(bad));
  }
  CHECK(printable("a\nb\x7f") == "a\\x0ab\\x7f");
  // RFC 4648, section 10.
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) CHECK(base64(plain) == encoded);
}

TEST_CASE("errors have exit codes and advice") {
  const std::pair<ErrorCode, ExitCode> known[] = {
      {ErrorCode::closed, ExitCode::unreachable},
      {ErrorCode::timed_out, ExitCode::unreachable},
      {ErrorCode::unknown_topic_or_partition, ExitCode::not_found},
      {ErrorCode::group_id_not_found, ExitCode::not_found},
      {ErrorCode::not_found, ExitCode::not_found},
      {ErrorCode::topic_already_exists, ExitCode::refused},
      {ErrorCode::unknown_server_error, ExitCode::refused},
      {ErrorCode::invalid_argument, ExitCode::usage},
      {ErrorCode::cancelled, ExitCode::interrupted},
      {ErrorCode::io_error, ExitCode::failed},
      {ErrorCode::corrupt, ExitCode::failed},
      {ErrorCode::none, ExitCode::ok}};
  for (const auto& [code, exit_code] : known) {
    CAPTURE(error_name(code));
    CHECK(exit_code_of(Error(code)) == exit_code);
  }
  CHECK(advice(Error(ErrorCode::closed)).find("MILLRACE_BOOTSTRAP") != std::string::npos);
  for (const ExitCode c : {ExitCode::ok, ExitCode::failed, ExitCode::usage, ExitCode::unreachable,
                           ExitCode::not_found, ExitCode::refused, ExitCode::interrupted}) {
    CHECK(std::string_view(kExitCodesHelp).find(std::to_string(static_cast<int>(c)) + " ") !=
          std::string_view::npos);
  }
}

TEST_CASE("completion scripts know the tree") {
  CommandTree root{"millrace",
                   "",
                   {"--help"},
                   {{"topic", "It's topics", {"-h"}, {{"create", "Make", {"--config", "-c"}, {}}}},
                    {"dump", "Files", {"--records"}, {}}}};
  const auto bash = completion_script(root, "bash");
  REQUIRE(bash.ok());
  CHECK(bash->find("\"topic create\") words=\"--config -c\"") != std::string::npos);
  CHECK(bash->find("complete -o default -F _millrace_complete millrace") != std::string::npos);
  const auto fish = completion_script(root, "fish");
  CHECK(fish->find("-l config") != std::string::npos);
  CHECK(fish->find("'It\\'s topics'") != std::string::npos);
  CHECK(completion_script(root, "zsh")->starts_with("#compdef millrace"));
  CHECK(completion_script(root, "cmd").code() == ErrorCode::invalid_argument);
}

TEST_CASE("reassignments are read as people write them") {
  CHECK(parse_reassignment("t:0=1,2,3").value() == ReassignmentSpec{"t", {0}, {1, 2, 3}});
  CHECK(parse_reassignment("a.b:0,2-3=4").value() == ReassignmentSpec{"a.b", {0, 2, 3}, {4}});
  for (const char* wrong : {"t:0", "t=1", ":0=1", "t:0=", "t:0=1,1", "t:x=1", "t:0=a", "", "t:-1=2"})
    CHECK(parse_reassignment(wrong).code() == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace millrace::cli
