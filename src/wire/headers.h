// Request and response headers. Which version of a header is spoken follows from the API and the body's
// version; the exceptions (client id never compact, ApiVersions always with response header 0) live here and
// in headers.schema.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "wire/api_table.h"
#include "wire/messages/headers.h"
#include "wire/reader.h"
#include "wire/writer.h"

namespace millrace::wire {

inline ApiKey api_key(const RequestHeader& header) {
  return static_cast<ApiKey>(header.request_api_key);
}

/// Header versions for a body of this API and version; for a version above the table's as Kafka does, by
/// whether it is past the first flexible one. -1 for a key that is neither in the table nor private.
int16_t request_header_version(ApiKey key, int16_t version);
int16_t response_header_version(ApiKey key, int16_t version);

/// Reads a request header and stops at the body. Errors: corrupt, unsupported_version (unknown key). Whether
/// the version is served is for the caller to say: ApiVersions answers even versions it does not know.
Result<RequestHeader> decode_request_header(Reader& reader);
/// The header's own key and version choose its layout. A null client id is written as null.
void encode_request_header(Writer& writer, const RequestHeader& header);

Result<ResponseHeader> decode_response_header(Reader& reader, ApiKey key, int16_t version);
void encode_response_header(Writer& writer, ApiKey key, int16_t version, int32_t correlation_id);
inline void encode_response_header(Writer& writer, const ApiInfo& api, int16_t version,
                                   int32_t correlation_id) {
  encode_response_header(writer, api.key, version, correlation_id);
}

}  // namespace millrace::wire
