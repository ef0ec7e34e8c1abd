#include "check/history_file.h"

#include "support/catch.h"
#include "unit/check/history_rig.h"

namespace millrace::check {
namespace {

constexpr std::string_view kStart = "{\"history\":1}\n";

Status read_error(std::string_view text) {
  HistoryReader reader;
  TRY(reader.feed(text));
  const Result<History> h = reader.finish();
  return h.ok() ? Status() : Status(h.error());
}

}  // namespace

TEST_CASE("a history survives its file, in pieces of any size") {
  HistoryRig r;
  r.h.set_compacted(r.h.partitions.number("t-0"));
  Operation& s = r.send({1, 2}, 5, 10);
  s.idempotent = true;
  s.txn = 3;
  r.send({2, INT64_MAX}, kUnknown, 11, Outcome::info);
  Item full = r.keyed(7, 12, "k \"é\"");
  full.epoch = 4;
  full.tombstone = true;
  Operation& p = r.poll({3, 4}, {r.item(0, 10), full});
  p.isolation = Isolation::read_committed;
  p.position_reset = true;
  Operation& c = r.add(Kind::commit, "m", {5, 6}, {r.item(9, kUnknown)}, Outcome::fail);
  c.group = static_cast<int32_t>(r.h.groups.number("g"));
  c.generation = 2;
  r.h.final_reads_complete = true;
  const std::string text = encode_history(r.h);
  for (const size_t piece : {size_t{1}, size_t{7}, text.size()}) {
    HistoryReader reader;
    for (size_t at = 0; at < text.size(); at += piece) {
      REQUIRE(reader.feed(std::string_view(text).substr(at, piece)).ok());
    }
    const auto h = reader.finish();
    REQUIRE(h.ok());
    CHECK(encode_history(*h) == text);
    CHECK(h->operations[0].idempotent);
    CHECK(h->operations[1].returned == INT64_MAX);
    CHECK(h->items[3].tombstone);
    CHECK(h->final_reads_complete);
    CHECK(h->compacted(0));
  }
}

TEST_CASE("operations come in order of invocation, a torn last line is ignored") {
  const std::string a = R"({"op":"send","result":"ok","client":"p","from":9,"to":10})";
  const std::string b = R"({"op":"poll","result":"ok","client":"c","from":3,"to":4})";
  HistoryReader reader;
  REQUIRE(reader.feed(std::string(kStart) + a + "\n" + b + "\r\n\n" + a.substr(0, 20)).ok());
  const auto h = reader.finish();
  REQUIRE(h.ok());
  REQUIRE(h->operations.size() == 2);
  CHECK(h->operations[0].kind == Kind::poll);
}

TEST_CASE("what is no history is refused, with the line") {
  CHECK(read_error("").code() == ErrorCode::parse_error);
  CHECK(read_error("{\"history\":2}\n").code() == ErrorCode::unsupported_version);
  CHECK(read_error("[]\n").code() == ErrorCode::parse_error);
  const std::vector<std::string> lines{
      "nonsense",
      "{}",
      "[1]",
      R"({"op":"fly","result":"ok","client":"p","from":1,"to":2})",
      R"({"op":"send","result":"perhaps","client":"p","from":1,"to":2})",
      R"({"op":"send","result":"ok","from":1,"to":2})",
      R"({"op":"send","result":"ok","client":"p","to":2})",
      R"({"op":"send","result":"ok","client":"p","from":1})",
      R"({"op":"send","result":"ok","client":"p","from":3,"to":2})",
      R"({"op":"send","result":"ok","client":7,"from":1,"to":2})",
      R"({"op":"send","result":"ok","client":"p","from":1.5,"to":2})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":99999999999999999999})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":18446744073709551615})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"idempotent":1})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":3})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[[]]})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[["t",-5,1]]})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[["t",1,"x"]]})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[["t",1,1,5000000000]]})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[["t",1,1,1,2]]})",
      R"({"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[["t",1,1,1,"k",2]]})",
      R"({"compacted":"t-0"})",
      R"({"compacted":[1]})",
      R"({"final_reads":"yes"})",
      std::string(100'000, '['),
  };
  for (const std::string& line : lines) {
    const Status s = read_error(std::string(kStart) + line + "\n");
    INFO(line.substr(0, 100));
    REQUIRE_FALSE(s.ok());
    CHECK(s.code() == ErrorCode::parse_error);
    CHECK(s.error().message.find("line 2: ") == 0);
  }
}

TEST_CASE("a line without end is refused at its limit") {
  HistoryReader reader;
  const std::string piece(1 << 20, 'x');
  Status s;
  for (size_t i = 0; i < 20 && s.ok(); ++i) s = reader.feed(piece);
  CHECK(s.code() == ErrorCode::limit_exceeded);
}

}  // namespace millrace::check
