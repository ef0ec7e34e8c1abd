// Writer: bytes, growth, pieces that are not copied, frame sizes.
#include "wire/writer.h"

#include "support/catch.h"
#include "wire/reader.h"

namespace millrace::wire {
namespace {

struct FakeRegion : ForeignBytes {
  explicit FakeRegion(size_t n) : n_(n) {}
  size_t size() const override { return n_; }
  size_t n_;
};

TEST_CASE("what is written is read back, whatever room there was") {
  for (const size_t expected : {size_t{0}, size_t{1}, size_t{7}, size_t{300}}) {
    Writer w(expected);
    w.write_bool(true);
    w.write_i8(-3);
    w.write_i16(INT16_MIN);
    w.write_u16(UINT16_MAX);
    w.write_i32(-70000);
    w.write_u32(UINT32_MAX);
    w.write_i64(INT64_MIN);
    w.write_f64(-0.25);
    w.write_uvarint(UINT32_MAX);
    w.write_string("old", false);
    w.write_string("compact", true);
    w.write_nullable_string(std::nullopt, false);
    w.write_nullable_string(std::nullopt, true);
    w.write_bytes(Bytes(500, 7), false);
    w.write_nullable_bytes(std::nullopt, true);
    const size_t size = w.size();
    Bytes b = w.take_bytes();
    CHECK(b.size() == size);
    Reader r(b);
    CHECK(r.read_bool());
    CHECK(r.read_i8() == -3);
    CHECK(r.read_i16() == INT16_MIN);
    CHECK(r.read_u16() == UINT16_MAX);
    CHECK(r.read_i32() == -70000);
    CHECK(r.read_u32() == UINT32_MAX);
    CHECK(r.read_i64() == INT64_MIN);
    CHECK(r.read_f64() == -0.25);
    CHECK(r.read_uvarint() == UINT32_MAX);
    CHECK(r.read_string(false) == "old");
    CHECK(r.read_string(true) == "compact");
    CHECK(r.read_nullable_string(false) == std::nullopt);
    CHECK(r.read_nullable_string(true) == std::nullopt);
    CHECK(r.read_bytes(false) == Bytes(500, 7));
    CHECK(r.read_nullable_bytes(true) == std::nullopt);
    CHECK(r.ok());
    CHECK(r.at_end());
  }
}

TEST_CASE("a string too long for the old encoding is cut, not lied about") {
  Writer w;
  w.write_string(std::string(40000, 'x'), false);
  Bytes b = w.take_bytes();
  Reader r(b);
  CHECK(r.read_string(false).size() == 32767);
  CHECK(r.at_end());
}

TEST_CASE("large slices and foreign bytes become pieces, small slices are copied") {
  const Slice large(Bytes(Writer::kCopyBelow, 1));
  const Slice small(Bytes(Writer::kCopyBelow - 1, 2));
  const auto region = std::make_shared<FakeRegion>(100);
  Payload records;
  records.append(large);
  records.append(small);
  records.append(region);
  Writer w;
  w.write_i32(5);
  w.write_records(Records(records), false, true);
  w.write_i16(6);
  const size_t body = 4 + 4 + large.size() + small.size() + 100 + 2;
  CHECK(w.size() == body);
  const Payload p = w.take_framed();
  REQUIRE(p.size() == body + 4);
  REQUIRE(p.pieces().size() == 5);
  const auto slice = [&](size_t i) { return std::get<Slice>(p.pieces()[i]); };
  CHECK(load_be<int32_t>(slice(0).data()) == static_cast<int32_t>(body));
  CHECK(slice(0).size() == 12);
  CHECK(slice(1).data() == large.data());
  CHECK(slice(2).size() == small.size());
  CHECK(slice(2).data() != small.data());
  CHECK(std::get<1>(p.pieces()[3]) == region);
  CHECK(slice(4).size() == 2);
}

TEST_CASE("take, take_framed and take_bytes agree") {
  const auto write = [](Writer& w) {
    w.write_i16(1);
    w.append(Payload(Bytes(2000, 3)));
    w.write_i16(2);
  };
  Writer a, b, c;
  write(a);
  write(b);
  write(c);
  const Bytes plain = a.take().flatten();
  const Bytes framed = b.take_framed().flatten();
  CHECK(plain.size() == 2004);
  CHECK(c.take_bytes() == plain);
  REQUIRE(framed.size() == 2008);
  CHECK(load_be<int32_t>(framed.data()) == 2004);
  CHECK(Bytes(framed.begin() + 4, framed.end()) == plain);
  Writer empty;
  CHECK(empty.take_framed().flatten() == Bytes{0, 0, 0, 0});
  Writer nothing;
  CHECK(nothing.take().empty());
}

TEST_CASE("a tagged field is sized after it is written, however long") {
  for (const size_t n : {size_t{0}, size_t{127}, size_t{128}, size_t{20000}}) {
    Writer w(1);
    w.write_uvarint(1);
    const size_t mark = w.begin_tag(300);
    for (size_t i = 0; i < n; ++i) w.write_i8(static_cast<int8_t>(i));
    w.end_tag(mark);
    w.write_i8(99);
    Bytes b = w.take_bytes();
    Reader r(b);
    int64_t last = -1;
    REQUIRE(r.read_tag_count() == 1);
    const Reader::Tag tag = r.begin_tag(last);
    CHECK(tag.tag == 300);
    CHECK(r.remaining() == n);
    bool same = true;
    for (size_t i = 0; i < n; ++i) same = same && r.read_i8() == static_cast<int8_t>(i);
    CHECK(same);
    r.end_tag(tag);
    CHECK(r.read_i8() == 99);
    CHECK(r.ok());
  }
}

TEST_CASE("records: null only where the version has it") {
  Writer w;
  w.write_records(Records::none(), false, true);
  w.write_records(Records::none(), true, true);
  w.write_records(Records::none(), false, false);
  CHECK(w.take_bytes() == Bytes{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0});
}

TEST_CASE("records compare by nullness and bytes, foreign pieces by identity") {
  Bytes frame{1, 2, 3, 4};
  const Records view{MutableByteView(frame)};
  Payload split{Bytes{1, 2}};
  split.append(Slice(Bytes{3, 4}));
  CHECK(view == Records(split));
  CHECK(view.flatten() == frame);
  CHECK_FALSE(view == Records(Payload(Bytes{1, 2, 3, 5})));
  CHECK_FALSE(Records() == Records::none());
  const auto region = std::make_shared<FakeRegion>(9);
  Payload a, b, c;
  a.append(region);
  b.append(region);
  c.append(std::make_shared<FakeRegion>(9));
  CHECK(Records(a) == Records(b));
  CHECK_FALSE(Records(a) == Records(c));
}

}  // namespace
}  // namespace millrace::wire
