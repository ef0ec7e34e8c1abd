// DescribeAcls (29), CreateAcls (30), DeleteAcls (31), versions 1-3: there is no authorizer, so each answers
// SECURITY_DISABLED, which tools know to tolerate.
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

constexpr auto kSecurityDisabled = static_cast<int16_t>(ErrorCode::security_disabled);
const std::string kNoAuthorizer = "no authorizer is configured";

}  // namespace

void handle(Call call, wire::DescribeAclsRequest&) {
  wire::DescribeAclsResponse r;
  r.error_code = kSecurityDisabled;
  r.error_message = kNoAuthorizer;
  call.reply(r);
}

void handle(Call call, wire::CreateAclsRequest& request) {
  wire::CreateAclsResponse r;
  for (size_t i = 0; i < request.creations.size(); ++i) {
    r.results.push_back({kSecurityDisabled, kNoAuthorizer});
  }
  call.reply(r);
}

void handle(Call call, wire::DeleteAclsRequest& request) {
  wire::DeleteAclsResponse r;
  for (size_t i = 0; i < request.filters.size(); ++i) {
    auto& result = r.filter_results.emplace_back();
    result.error_code = kSecurityDisabled;
    result.error_message = kNoAuthorizer;
  }
  call.reply(r);
}

}  // namespace millrace::broker
