#include <map>
#include <random>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/error.h"
#include "base/metrics.h"
#include "base/persistent_map.h"
#include "base/result.h"
#include "base/trace.h"
#include "base/uuid.h"
#include "base/varint.h"
#include "support/catch.h"

namespace millrace {

TEST_CASE("crc32c matches the vectors of RFC 3720 B.4") {
  CHECK(crc32c(Bytes(32, 0x00)) == 0x8a9136aau);
  CHECK(crc32c(Bytes(32, 0xff)) == 0x62a8ab43u);
  Bytes up(32);
  Bytes down(32);
  for (size_t i = 0; i < 32; ++i) {
    up[i] = static_cast<uint8_t>(i);
    down[i] = static_cast<uint8_t>(31 - i);
  }
  CHECK(crc32c(up) == 0x46dd794eu);
  CHECK(crc32c(down) == 0x113fdb5cu);
  CHECK(crc32c(as_bytes("123456789")) == 0xe3069283u);
}

TEST_CASE("the hardware crc equals the table at every length and split") {
  std::mt19937 random(7);
  Bytes data(10'000);
  for (uint8_t& b : data) b = static_cast<uint8_t>(random());
  for (size_t n = 0; n < data.size(); n += 1 + n / 7) {
    const ByteView v = ByteView(data).first(n);
    REQUIRE(crc32c(v) == crc32c_table(v));
    REQUIRE(crc32c(v.subspan(n / 3), crc32c(v.first(n / 3))) == crc32c_table(v));
  }
}

TEST_CASE("varints round trip and refuse what is overlong") {
  for (const uint64_t u : {uint64_t{0}, uint64_t{1}, uint64_t{127}, uint64_t{128}, uint64_t{UINT32_MAX},
                           uint64_t{UINT32_MAX} + 1, UINT64_MAX}) {
    std::array<uint8_t, kMaxVarint64> b{};
    const size_t n = encode_varint(u, b.data());
    CHECK(n == varint_size(u));
    uint64_t back = 0;
    CHECK(decode_varint(ByteView(b).first(n), kMaxVarint64, back) == n);
    CHECK(back == u);
    CHECK(decode_varint(ByteView(b).first(n - 1), kMaxVarint64, back) == 0);
    CHECK((decode_varint(ByteView(b).first(n), kMaxVarint32, back) != 0) == (u <= UINT32_MAX));
  }
  uint64_t out = 0;
  CHECK(decode_varint(Bytes{0x80, 0x80, 0x80, 0x80, 0x80}, kMaxVarint32, out) == 0);
  CHECK(decode_varint(Bytes{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, kMaxVarint64, out) ==
        0);
  for (const int64_t v : {int64_t{0}, int64_t{-1}, int64_t{1}, INT64_MIN, INT64_MAX})
    CHECK(unzigzag(zigzag(v)) == v);
}

TEST_CASE("a uuid reads and writes Kafka's text") {
  const Result<Uuid> u = Uuid::parse("4L6g3nShT-eMCtK--X86sw");
  REQUIRE(u.ok());
  CHECK(u->to_string() == "4L6g3nShT-eMCtK--X86sw");
  CHECK_FALSE(Uuid::parse("4L6g3nShT-eMCtK--X86s").ok());
  CHECK_FALSE(Uuid::parse("4L6g3nShT+eMCtK--X86sw").ok());
  CHECK_FALSE(Uuid::parse("4L6g3nShT-eMCtK--X86sx").ok());  // bits beyond the 16 bytes
  std::mt19937 random(3);
  for (int i = 0; i < 500; ++i) {
    std::array<uint8_t, 16> raw{};
    for (uint8_t& b : raw) b = static_cast<uint8_t>(random());
    const Uuid id = Uuid::from_random(raw);
    REQUIRE(id.to_string().front() != '-');
    REQUIRE(*Uuid::parse(id.to_string()) == id);
  }
}

TEST_CASE("persistent maps share structure and keep every version") {
  std::mt19937 random(11);
  PersistentMap<int, int> map;
  std::map<int, int> model;
  std::vector<std::pair<PersistentMap<int, int>, std::map<int, int>>> versions;
  for (int step = 0; step < 4000; ++step) {
    const int key = static_cast<int>(random() % 300);
    if (random() % 3 == 0) {
      CHECK(map.erase(key) == (model.erase(key) == 1));
    } else {
      map.insert_or_assign(key, step);
      model[key] = step;
    }
    if (step % 500 == 0) versions.emplace_back(map, model);
  }
  versions.emplace_back(map, model);
  for (const auto& [m, want] : versions) {
    CHECK(m.size() == want.size());
    auto it = want.begin();
    m.for_each([&](int k, int v) {
      REQUIRE(it != want.end());
      REQUIRE(it->first == k);
      REQUIRE(it->second == v);
      ++it;
    });
    CHECK(it == want.end());
    std::vector<int> from_100;
    m.scan(100, [&](int k, int) {
      from_100.push_back(k);
      return from_100.size() < 5;
    });
    auto expect = want.lower_bound(100);
    for (const int k : from_100) CHECK(k == (expect++)->first);
    for (int k = 0; k < 300; ++k) {
      const int* v = m.find(k);
      REQUIRE((v != nullptr) == want.contains(k));
    }
  }
}

TEST_CASE("error codes keep Kafka's numbers and never leak private ones") {
  CHECK(static_cast<int16_t>(ErrorCode::not_leader_or_follower) == 6);
  CHECK(static_cast<int16_t>(ErrorCode::rebootstrap_required) == 129);
  CHECK(error_name(ErrorCode::unknown_topic_or_partition) == "UNKNOWN_TOPIC_OR_PARTITION");
  for (int16_t n = 1000; n < 1013; ++n)
    CHECK(static_cast<int16_t>(wire_code(static_cast<ErrorCode>(n))) < 1000);
  CHECK(error_from_wire(6) == ErrorCode::not_leader_or_follower);
  CHECK(error_from_wire(1000) == ErrorCode::unknown_server_error);
  CHECK(is_retriable(ErrorCode::kafka_storage_error));
  CHECK_FALSE(is_retriable(ErrorCode::invalid_topic_exception));
}

TEST_CASE("TRY hands errors up and values on") {
  const auto half = [](int n) -> Result<int> {
    if (n % 2 != 0) return Error(ErrorCode::invalid_argument, "odd");
    return n / 2;
  };
  const auto quarter = [&](int n) -> Result<int> {
    TRY_ASSIGN(const int h, half(n));
    TRY(half(h));
    return *half(h);
  };
  CHECK(*quarter(12) == 3);
  CHECK(quarter(6).code() == ErrorCode::invalid_argument);
}

TEST_CASE("big-endian loads and stores") {
  std::array<uint8_t, 8> b{};
  store_be<int64_t>(b.data(), -2);
  CHECK(load_be<int64_t>(b.data()) == -2);
  store_be<int16_t>(b.data(), 0x1234);
  CHECK(b[0] == 0x12);
  CHECK(b[1] == 0x34);
  CHECK(load_be<uint16_t>(b.data()) == 0x1234);
}

TEST_CASE("payloads add up and flatten in order") {
  Payload p(to_bytes("ab"));
  p.append(Slice(to_bytes("cdef")).sub(1, 2));
  Payload q(to_bytes("!"));
  p.append(std::move(q));
  CHECK(p.size() == 5);
  CHECK(as_text(p.flatten()) == "abde!");
}

TEST_CASE("metrics expose sums, histograms and computed values") {
  MetricsRegistry r;
  r.counter("requests_total", "Requests.", {{"api", "Fetch"}}).add(2);
  r.counter("requests_total", "Requests.", {{"api", "Fetch"}}).add(3);
  Histogram& h = r.histogram("latency_seconds", "Latency.");
  h.observe_ns(1'500);
  h.observe_ns(100'000'000'000);
  r.gauge("topics", "Topics.", [](MetricsRegistry::Samples& s) { s.push_back({{{"name", "a\"b"}}, 7}); });
  const std::string text = r.expose();
  CHECK(text.find("requests_total{api=\"Fetch\"} 5\n") != std::string::npos);
  CHECK(text.find("latency_seconds_bucket{le=\"2e-06\"} 1\n") != std::string::npos);
  CHECK(text.find("latency_seconds_count 2\n") != std::string::npos);
  CHECK(text.find("topics{name=\"a\\\"b\"} 7\n") != std::string::npos);
  CHECK(h.quantile(0.0) < 1e-5);
}

TEST_CASE("a trace limit holds lines back and counts them") {
  TraceLimit limit(2, 1000);
  uint64_t held = 0;
  CHECK(limit.admit(0, held));
  CHECK(limit.admit(1, held));
  CHECK_FALSE(limit.admit(2, held));
  CHECK_FALSE(limit.admit(3, held));
  CHECK(limit.admit(1001, held));
  CHECK(held == 2);
}

}  // namespace millrace
