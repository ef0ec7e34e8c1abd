#include "server/properties.h"

#include "support/catch.h"

using millrace::ErrorCode;
using millrace::server::kPropertiesBytesMax;
using millrace::server::kPropertiesCountMax;
using millrace::server::parse_properties;
using millrace::server::Property;

namespace {

/// The single property of `text`.
Property only(std::string_view text) {
  const auto parsed = parse_properties(text);
  REQUIRE(parsed.ok());
  REQUIRE(parsed->size() == 1);
  return parsed->front();
}

}  // namespace

TEST_CASE("keys and values part at =, : or blanks") {
  for (const char* text :
       {"log.dirs=/data", "log.dirs:/data", "log.dirs /data", "  log.dirs \t=  /data", "log.dirs\f/data",
        "log.dirs : /data\n", "log.dirs=/data\r\n", "\xEF\xBB\xBFlog.dirs=/data"}) {
    INFO(text);
    const Property p = only(text);
    CHECK(p.key == "log.dirs");
    CHECK(p.value == "/data");
    CHECK(p.line == 1);
  }
}

TEST_CASE("only the first separator parts; the rest belongs to the value") {
  CHECK(only("listeners=PLAINTEXT://:9092").value == "PLAINTEXT://:9092");
  CHECK(only("a==b").value == "=b");
  CHECK(only("a = = b").value == "= b");
  CHECK(only("a: :b").value == ":b");
  CHECK(only("a=b  ").value == "b  ");
  CHECK(only("a=b # no comment").value == "b # no comment");
}

TEST_CASE("a key without a value has an empty one") {
  CHECK(only("broker.rack").key == "broker.rack");
  CHECK(only("broker.rack").value.empty());
  CHECK(only("broker.rack=").value.empty());
}

TEST_CASE("comments and blank lines are skipped, line numbers go on") {
  const auto parsed = parse_properties("# one\n\n  ! two \\\na=1\r\r\n\t\nb=2");
  REQUIRE(parsed.ok());
  REQUIRE(parsed->size() == 2);
  CHECK((*parsed)[0].key == "a");
  CHECK((*parsed)[0].line == 4);
  CHECK((*parsed)[1].key == "b");
  CHECK((*parsed)[1].line == 7);
}

TEST_CASE("an odd number of backslashes continues a line") {
  CHECK(only("a=1,\\\n   2,\\\n\t3").value == "1,2,3");
  CHECK(only("a=1\\\r\n2").value == "12");
  CHECK(only("a\\\n  bc=1").key == "abc");
  CHECK(only("a=1\\").value == "1");
  const auto two = parse_properties("a=x\\\\\nb=2");
  REQUIRE(two.ok());
  REQUIRE(two->size() == 2);
  CHECK((*two)[0].value == "x\\");
  // The continued line counts, and a comment sign inside it is text.
  const auto three = parse_properties("a=1\\\n#2\nb=3");
  REQUIRE(three.ok());
  REQUIRE(three->size() == 2);
  CHECK((*three)[0].value == "1#2");
  CHECK((*three)[1].line == 3);
}

TEST_CASE("escapes") {
  const Property p = only("a\\ b\\=c\\:d=\\t\\n\\r\\f\\q\\\\");
  CHECK(p.key == "a b=c:d");
  CHECK(p.value == "\t\n\r\fq\\");
  CHECK(only("k=caf\\u00e9").value == "caf\xC3\xA9");
  CHECK(only("k=\\u0041").value == "A");
  CHECK(only("k=\\u20AC").value == "\xE2\x82\xAC");
  CHECK(only("k=\\ud83d\\ude00!").value == "\xF0\x9F\x98\x80!");
  CHECK(only("k=\\ leading").value == " leading");
  CHECK(only("k=caf\xC3\xA9").value == "caf\xC3\xA9");
}

TEST_CASE("duplicates are all there, in order") {
  const auto parsed = parse_properties("a=1\na=2\n");
  REQUIRE(parsed.ok());
  REQUIRE(parsed->size() == 2);
  CHECK((*parsed)[1].value == "2");
  CHECK((*parsed)[1].line == 2);
}

TEST_CASE("malformed text is refused with its line") {
  for (const char* text :
       {"ok=1\nk=\\u12", "ok=1\nk=\\u12g4", "ok=1\nk=\\ud83d", "ok=1\nk=\\ud83dx", "ok=1\nk=\\ude00",
        "ok=1\nk=\\ud83d\\u0041", "ok=1\nk\\u=1", "ok=1\n=value", "ok=1\n:value"}) {
    INFO(text);
    const auto parsed = parse_properties(text);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.code() == ErrorCode::parse_error);
    CHECK(parsed.error().message.find("line 2") == 0);
  }
  CHECK(parse_properties(std::string_view("a=\0b", 4)).code() == ErrorCode::parse_error);
}

TEST_CASE("size and number are limited") {
  CHECK(parse_properties(std::string(kPropertiesBytesMax + 1, '#')).code() == ErrorCode::limit_exceeded);
  CHECK(parse_properties(std::string(kPropertiesBytesMax, '#')).ok());
  std::string many;
  for (size_t i = 0; i < kPropertiesCountMax; ++i) many += "a=1\n";
  CHECK(parse_properties(many)->size() == kPropertiesCountMax);
  CHECK(parse_properties(many + "b=1\n").code() == ErrorCode::limit_exceeded);
}

TEST_CASE("an empty text has no properties") {
  CHECK(parse_properties("")->empty());
  CHECK(parse_properties("\\")->empty());
  CHECK(parse_properties(" \t\\\n\\\n").value().empty());
}
