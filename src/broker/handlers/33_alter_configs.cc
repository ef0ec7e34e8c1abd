// AlterConfigs (33), versions 0-2: the values given become all overrides of the resource (older tools).
// IncrementalAlterConfigs (44), versions 0-1: set, delete, append and subtract single keys (KIP-339).
// A resource changes as a whole or not at all; the change is in force when the reply leaves.
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

template <class Response>
void reply_alter(Call& call, const std::vector<meta::ConfigResource>& asked,
                 const Result<control::AlterConfigsReply>& r) {
  Response response;
  const auto add = [&](const meta::ConfigResource& resource, ErrorCode code, const std::string& message) {
    auto& out = response.responses.emplace_back();
    out.resource_type = static_cast<int8_t>(resource.type);
    out.resource_name = resource.name;
    out.error_code = static_cast<int16_t>(wire_code(code));
    out.error_message.reset();
    if (code != ErrorCode::none) out.error_message = message;
  };
  if (r.ok()) {
    for (const control::ResourceOutcome& o : r->resources)
      add(o.resource, o.outcome.error, o.outcome.message);
  } else {
    for (const meta::ConfigResource& resource : asked) add(resource, r.code(), r.error().message);
  }
  call.reply(response);
}

meta::ConfigResource config_resource(int8_t type, const std::string& name) {
  return {static_cast<meta::ResourceType>(type), name};
}

}  // namespace

void handle(Call call, wire::AlterConfigsRequest& request) {
  control::ReplaceConfigs ask;
  ask.validate_only = request.validate_only;
  std::vector<meta::ConfigResource> asked;
  for (auto& r : request.resources) {
    control::ReplacedResource& out = ask.resources.emplace_back();
    out.resource = config_resource(r.resource_type, r.resource_name);
    for (auto& c : r.configs) out.values.push_back({std::move(c.name), std::move(c.value)});
    asked.push_back(out.resource);
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(shared->loop(), std::move(ask),
                                  [shared, asked](Result<control::AlterConfigsReply> r) {
                                    reply_alter<wire::AlterConfigsResponse>(*shared, asked, r);
                                  });
}

void handle(Call call, wire::IncrementalAlterConfigsRequest& request) {
  control::IncrementalAlterConfigs ask;
  ask.validate_only = request.validate_only;
  std::vector<meta::ConfigResource> asked;
  for (auto& r : request.resources) {
    control::AlteredResource& out = ask.resources.emplace_back();
    out.resource = config_resource(r.resource_type, r.resource_name);
    for (auto& c : r.configs) {
      out.alterations.push_back(
          {std::move(c.name), static_cast<control::AlterOp>(c.config_operation), std::move(c.value)});
    }
    asked.push_back(out.resource);
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(shared->loop(), std::move(ask),
                                  [shared, asked](Result<control::AlterConfigsReply> r) {
                                    reply_alter<wire::IncrementalAlterConfigsResponse>(*shared, asked, r);
                                  });
}

}  // namespace millrace::broker
