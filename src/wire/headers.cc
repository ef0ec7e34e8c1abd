#include "wire/headers.h"

#include "base/assert.h"

namespace millrace::wire {

int16_t request_header_version(ApiKey key, int16_t version) {
  if (is_private_api(key)) return 2;
  const ApiInfo* api = find_api(key);
  if (api == nullptr) return -1;
  return api->flexible(version) ? 2 : 1;
}

int16_t response_header_version(ApiKey key, int16_t version) {
  if (key == ApiKey::api_versions) return 0;
  const int16_t request_version = request_header_version(key, version);
  return request_version < 0 ? int16_t{-1} : static_cast<int16_t>(request_version - 1);
}

Result<RequestHeader> decode_request_header(Reader& reader) {
  Reader ahead = reader;
  const auto key = static_cast<ApiKey>(ahead.read_i16());
  const int16_t version = ahead.read_i16();
  TRY(ahead.status());
  const int16_t header_version = request_header_version(key, version);
  if (header_version < 0) return Error(ErrorCode::unsupported_version, "unknown API key");
  RequestHeader header;
  TRY(decode(reader, header_version, header));
  return header;
}

void encode_request_header(Writer& writer, const RequestHeader& header) {
  const int16_t header_version = request_header_version(api_key(header), header.request_api_version);
  ASSERT(header_version >= 0);
  encode(writer, header_version, header);
}

Result<ResponseHeader> decode_response_header(Reader& reader, ApiKey key, int16_t version) {
  const int16_t header_version = response_header_version(key, version);
  ASSERT(header_version >= 0);
  ResponseHeader header;
  TRY(decode(reader, header_version, header));
  return header;
}

void encode_response_header(Writer& writer, ApiKey key, int16_t version, int32_t correlation_id) {
  const int16_t header_version = response_header_version(key, version);
  ASSERT(header_version >= 0);
  ResponseHeader header;
  header.correlation_id = correlation_id;
  encode(writer, header_version, header);
}

}  // namespace millrace::wire
