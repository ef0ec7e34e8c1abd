// ApiVersions (18), versions 0-4.
//   3 flexible, client software name and version (KIP-511) | 4 features whose lowest level is 0 are allowed
// Never closes the connection: an unknown version is answered in the v0 layout with UNSUPPORTED_VERSION and
// the range served (KIP-511), because clients take a close for a broker older than 0.10.
#include <algorithm>

#include "broker/broker.h"
#include "broker/dispatcher.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

// Letters and digits, with '-' and '.' inside.
bool is_software_text(std::string_view text) {
  const auto alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (text.empty() || !alnum(text.front()) || !alnum(text.back())) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) { return alnum(c) || c == '-' || c == '.'; });
}

}  // namespace

wire::ApiVersionsResponse unsupported_api_versions() {
  wire::ApiVersionsResponse r;
  r.error_code = static_cast<int16_t>(ErrorCode::unsupported_version);
  const wire::ApiInfo* self = wire::find_api(wire::ApiKey::api_versions);
  r.api_keys.push_back({static_cast<int16_t>(self->key), self->advertised_min, self->served_max});
  return r;
}

void handle(Call call, wire::ApiVersionsRequest& request) {
  wire::ApiVersionsResponse r;
  if (call.version() >= 3) {
    if (!is_software_text(request.client_software_name) ||
        !is_software_text(request.client_software_version)) {
      r.error_code = static_cast<int16_t>(ErrorCode::invalid_request);
      call.reply(r);
      return;
    }
    call.connection().software_name = request.client_software_name;
    call.connection().software_version = request.client_software_version;
  }
  for (const wire::ApiInfo& api : wire::all_apis()) {
    if (!api.served() || !is_handled(static_cast<int16_t>(api.key))) continue;
    r.api_keys.push_back({static_cast<int16_t>(api.key), api.advertised_min, api.served_max});
  }
  call.reply(r);
}

}  // namespace millrace::broker
