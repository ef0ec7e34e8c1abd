// The API table and the choice of header versions.
#include "wire/api_table.h"

#include "support/catch.h"
#include "wire/headers.h"
#include "wire/message.h"

namespace millrace::wire {
namespace {

TEST_CASE("the table is ascending, its ranges are sane, and every row is found") {
  int last = -1;
  for (const ApiInfo& api : all_apis()) {
    INFO(api.name);
    CHECK(static_cast<int>(api.key) > last);
    last = static_cast<int>(api.key);
    CHECK(find_api(api.key) == &api);
    CHECK(find_api(api.name) == &api);
    CHECK(api_name(api.key) == api.name);
    CHECK(api.min <= api.max);
    if (!api.served()) {
      CHECK(api.advertised_min == -1);
      CHECK_FALSE(api.serves(api.max));
      continue;
    }
    CHECK(api.served_min >= api.min);
    CHECK(api.served_max <= api.max);
    CHECK(api.advertised_min <= api.served_min);
    CHECK(api.serves(api.served_min));
    CHECK(api.serves(api.served_max));
    CHECK_FALSE(api.serves(static_cast<int16_t>(api.served_max + 1)));
    CHECK_FALSE(api.serves(static_cast<int16_t>(api.served_min - 1)));
    if (api.latest_unstable) CHECK(api.served_max < api.max);
  }
}

TEST_CASE("keys that are not there are not found") {
  for (const int key : {-32768, -1, 4, 5, 6, 7, 95, 32767}) {
    INFO(key);
    CHECK(find_api(static_cast<int16_t>(key)) == nullptr);
    CHECK(api_name(static_cast<ApiKey>(key)) == "Unknown");
  }
  CHECK(find_api("produce") == nullptr);
  CHECK(find_api(int16_t{20000}) == nullptr);
  CHECK(api_name(static_cast<ApiKey>(20000)) == "Private");
  CHECK(is_private_api(static_cast<ApiKey>(20099)));
  CHECK_FALSE(is_private_api(static_cast<ApiKey>(20100)));
  CHECK_FALSE(is_private_api(ApiKey::produce));
}

TEST_CASE("Produce is advertised from 0, which is refused, and only Produce") {
  for (const ApiInfo& api : all_apis()) {
    INFO(api.name);
    if (api.key == ApiKey::produce) {
      CHECK(api.advertised_min == 0);
      CHECK(api.served_min == 3);
    } else {
      CHECK(api.advertised_min == api.served_min);
    }
  }
}

TEST_CASE("header versions follow the body's, but for ApiVersions' reply") {
  CHECK(request_header_version(ApiKey::produce, 8) == 1);
  CHECK(request_header_version(ApiKey::produce, 9) == 2);
  CHECK(response_header_version(ApiKey::produce, 8) == 0);
  CHECK(response_header_version(ApiKey::produce, 9) == 1);
  CHECK(request_header_version(ApiKey::sasl_handshake, 1) == 1);
  CHECK(find_api(ApiKey::sasl_handshake)->flexible_from == kNeverFlexible);
  CHECK(request_header_version(ApiKey::api_versions, 3) == 2);
  CHECK(request_header_version(ApiKey::api_versions, 77) == 2);  // answered although unknown
  CHECK(response_header_version(ApiKey::api_versions, 3) == 0);
  CHECK(request_header_version(static_cast<ApiKey>(20001), 0) == 2);
  CHECK(response_header_version(static_cast<ApiKey>(20001), 0) == 1);
  CHECK(request_header_version(static_cast<ApiKey>(4), 0) == -1);
  CHECK(response_header_version(static_cast<ApiKey>(999), 0) == -1);
}

TEST_CASE("request headers: unknown keys and cut headers are errors, a null client id is fine") {
  Bytes unknown{0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0, 0};
  Reader r(unknown);
  CHECK(decode_request_header(r).code() == ErrorCode::unsupported_version);
  Bytes whole{0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff};
  for (size_t n = 0; n < whole.size(); ++n) {
    Reader cut(MutableByteView(whole).first(n));
    CHECK(decode_request_header(cut).code() == ErrorCode::corrupt);
  }
  Reader good(whole);
  const Result<RequestHeader> header = decode_request_header(good);
  REQUIRE(header.ok());
  CHECK(api_key(*header) == ApiKey::metadata);
  CHECK(header->correlation_id == 9);
  CHECK(header->client_id == std::nullopt);
  CHECK(good.at_end());
}

TEST_CASE("response headers are read as they are written") {
  for (const ApiKey key : {ApiKey::produce, ApiKey::api_versions, static_cast<ApiKey>(20005)}) {
    for (const int16_t version : {int16_t{3}, int16_t{12}}) {
      Writer w;
      encode_response_header(w, key, version, -5);
      Bytes bytes = w.take_bytes();
      Reader r(bytes);
      const Result<ResponseHeader> header = decode_response_header(r, key, version);
      REQUIRE(header.ok());
      CHECK(header->correlation_id == -5);
      CHECK(r.at_end());
    }
  }
}

}  // namespace
}  // namespace millrace::wire
