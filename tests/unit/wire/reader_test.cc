// Reader: truncated, negative, overlong and lying input.
#include "wire/reader.h"

#include "support/catch.h"

namespace millrace::wire {
namespace {

Bytes hex(std::initializer_list<int> values) {
  Bytes b;
  for (const int v : values) b.push_back(static_cast<uint8_t>(v));
  return b;
}

TEST_CASE("fixed-size values are big-endian") {
  Bytes b = hex({0x01, 0xfe, 0x12, 0x34, 0xff, 0xff, 0x80, 0, 0, 0, 0xff,
                 0xff, 0xff, 0xff, 0,    0,    0,    0,    0, 0, 1, 0,  //
                 0x3f, 0xf8, 0,    0,    0,    0,    0,    0});
  Reader r(b);
  CHECK(r.read_bool());
  CHECK(r.read_i8() == -2);
  CHECK(r.read_i16() == 0x1234);
  CHECK(r.read_u16() == 0xffff);
  CHECK(r.read_i32() == INT32_MIN);
  CHECK(r.read_u32() == UINT32_MAX);
  CHECK(r.read_i64() == 256);
  CHECK(r.read_f64() == 1.5);
  CHECK(r.ok());
  CHECK(r.at_end());
}

TEST_CASE("the first error sticks, empties the reader and is told with its place") {
  Bytes b = hex({0, 7, 1});
  Reader r(b);
  CHECK(r.read_i16() == 7);
  CHECK(r.read_i32() == 0);
  CHECK_FALSE(r.ok());
  CHECK(r.remaining() == 0);
  CHECK(r.read_i8() == 0);
  r.fail("something else");
  CHECK(r.status().code() == ErrorCode::corrupt);
  CHECK(r.status().error().message == "truncated at byte 2");
}

TEST_CASE("every fixed-size read refuses one byte less") {
  const auto fails = [](size_t size, auto read) {
    Bytes b(size, 1);
    Reader r(b);
    read(r);
    return !r.ok();
  };
  CHECK(fails(0, [](Reader& r) { r.read_bool(); }));
  CHECK(fails(0, [](Reader& r) { r.read_i8(); }));
  CHECK(fails(1, [](Reader& r) { r.read_i16(); }));
  CHECK(fails(1, [](Reader& r) { r.read_u16(); }));
  CHECK(fails(3, [](Reader& r) { r.read_i32(); }));
  CHECK(fails(3, [](Reader& r) { r.read_u32(); }));
  CHECK(fails(7, [](Reader& r) { r.read_i64(); }));
  CHECK(fails(7, [](Reader& r) { r.read_f64(); }));
  CHECK(fails(15, [](Reader& r) { (void)r.read_uuid(); }));
  CHECK_FALSE(fails(16, [](Reader& r) { (void)r.read_uuid(); }));
}

TEST_CASE("unsigned varints: up to five bytes and 32 bits") {
  const auto read = [](std::initializer_list<int> values, uint32_t& out) {
    Bytes b = hex(values);
    Reader r(b);
    out = r.read_uvarint();
    return r.ok();
  };
  uint32_t v = 0;
  CHECK(read({0}, v));
  CHECK(v == 0);
  CHECK(read({0xac, 0x02}, v));
  CHECK(v == 300);
  CHECK(read({0xff, 0xff, 0xff, 0xff, 0x0f}, v));
  CHECK(v == UINT32_MAX);
  CHECK_FALSE(read({0xff, 0xff, 0xff, 0xff, 0x1f}, v));
  CHECK_FALSE(read({0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, v));
  CHECK_FALSE(read({0x80}, v));
  CHECK_FALSE(read({}, v));
}

TEST_CASE("strings, old and compact") {
  Bytes b = hex({0, 2, 'h', 'i', 0xff, 0xff, 3, 'y', 'o', 0, 1});
  Reader r(b);
  CHECK(r.read_string(false) == "hi");
  CHECK(r.read_nullable_string(false) == std::nullopt);
  CHECK(r.read_nullable_string(true) == "yo");
  CHECK(r.read_nullable_string(true) == std::nullopt);
  CHECK(r.read_string(true).empty());
  CHECK(r.ok());
  CHECK(r.at_end());
}

TEST_CASE("a null where none is allowed is an error") {
  const auto fails = [](Bytes b, auto read) {
    Reader r(b);
    read(r);
    return !r.ok();
  };
  CHECK(fails(hex({0xff, 0xff}), [](Reader& r) { (void)r.read_string(false); }));
  CHECK(fails(hex({0}), [](Reader& r) { (void)r.read_string(true); }));
  CHECK(fails(hex({0xff, 0xff, 0xff, 0xff}), [](Reader& r) { (void)r.read_bytes(false); }));
  CHECK(fails(hex({0}), [](Reader& r) { (void)r.read_bytes(true); }));
  CHECK(fails(hex({0}), [](Reader& r) { (void)r.read_records(true, false); }));
  CHECK_FALSE(fails(hex({0}), [](Reader& r) { CHECK(r.read_records(true, true).null); }));
  CHECK(fails(hex({0xff, 0xff, 0xff, 0xff}), [](Reader& r) { (void)r.read_count(false, 1); }));
  CHECK(fails(hex({0}), [](Reader& r) { (void)r.read_count(true, 1); }));
}

TEST_CASE("lengths below -1 or beyond the end are errors") {
  const auto fails = [](Bytes b, auto read) {
    Reader r(b);
    read(r);
    return !r.ok();
  };
  const auto string = [](Reader& r) { (void)r.read_nullable_string(false); };
  CHECK(fails(hex({0xff, 0xfe, 1, 2}), string));
  CHECK(fails(hex({0x80, 0x00}), string));
  CHECK(fails(hex({0, 3, 1, 2}), string));
  CHECK(fails(hex({4, 1, 2}), [](Reader& r) { (void)r.read_string(true); }));
  CHECK(fails(hex({0xff, 0xff, 0xff, 0xff, 0x0f, 1}), [](Reader& r) { (void)r.read_bytes(true); }));
  CHECK(fails(hex({0x7f, 0xff, 0xff, 0xff, 1}), [](Reader& r) { (void)r.read_bytes(false); }));
  CHECK(fails(hex({0x80, 0, 0, 0, 1}), [](Reader& r) { (void)r.read_records(false, true); }));
  CHECK(fails(hex({0xff, 0xff, 0xff, 0xfe, 1}), [](Reader& r) { (void)r.read_nullable_count(false, 1); }));
}

TEST_CASE("an array count is checked against the least its elements take") {
  Bytes b = hex({0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2});
  Reader fits(b);
  CHECK(fits.read_count(false, 4) == 2);
  Reader too_many(b);
  CHECK(too_many.read_count(false, 5) == 0);
  CHECK_FALSE(too_many.ok());
  Bytes bomb = hex({0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0});
  Reader r(bomb);
  CHECK(r.read_nullable_count(false, 1) == 0U);
  CHECK_FALSE(r.ok());
}

TEST_CASE("records are a writable view into a frame, a copy of read-only bytes") {
  Bytes b = hex({0, 0, 0, 3, 7, 8, 9});
  Reader frame(b);
  const Records in_place = frame.read_records(false, true);
  REQUIRE(in_place.view.size() == 3);
  CHECK(in_place.view.data() == b.data() + 4);
  CHECK(in_place.payload.empty());
  Reader read_only{ByteView(b)};
  const Records copied = read_only.read_records(false, true);
  CHECK(copied.view.empty());
  CHECK(copied == in_place);
  in_place.view[0] = 1;
  CHECK(b[4] == 1);
  CHECK_FALSE(copied == in_place);
}

TEST_CASE("tagged blocks: unknown tags skipped, order and sizes checked") {
  const auto skip = [](std::initializer_list<int> values) {
    Bytes b = hex(values);
    Reader r(b);
    r.skip_tags();
    return r.ok() && r.at_end();
  };
  CHECK(skip({0}));
  CHECK(skip({2, 0, 1, 9, 5, 0}));
  CHECK_FALSE(skip({2, 5, 0, 0, 0}));  // descending
  CHECK_FALSE(skip({2, 5, 0, 5, 0}));  // twice
  CHECK_FALSE(skip({1, 0, 3, 1, 2}));  // value beyond the end
  CHECK_FALSE(skip({0x7f, 0, 0}));     // count beyond the end
  CHECK_FALSE(skip({1, 0}));           // no size
  CHECK_FALSE(skip({}));
}

TEST_CASE("a known tag must use its value up and cannot read past it") {
  Bytes b = hex({1, 0, 2, 0x12, 0x34, 0x55});
  Reader r(b);
  int64_t last = -1;
  REQUIRE(r.read_tag_count() == 1);
  Reader::Tag tag = r.begin_tag(last);
  CHECK(tag.tag == 0);
  CHECK(r.remaining() == 2);
  CHECK(r.read_i16() == 0x1234);
  r.end_tag(tag);
  CHECK(r.remaining() == 1);

  Reader too_little(b);
  last = -1;
  (void)too_little.read_tag_count();
  tag = too_little.begin_tag(last);
  too_little.read_i8();
  too_little.end_tag(tag);
  CHECK_FALSE(too_little.ok());

  Reader too_much(b);
  last = -1;
  (void)too_much.read_tag_count();
  tag = too_much.begin_tag(last);
  too_much.read_i32();
  too_much.end_tag(tag);
  CHECK_FALSE(too_much.ok());
  CHECK(too_much.remaining() == 0);
}

}  // namespace
}  // namespace millrace::wire
