#include "cli/config_commands.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/arguments.h"
#include "cli/table.h"
#include "wire/messages/describe_configs.h"
#include "wire/messages/incremental_alter_configs.h"

namespace millrace::cli {
namespace {

// Resource types and operations on the wire.
constexpr int8_t kTopicResource = 2;
constexpr int8_t kBrokerResource = 4;
constexpr int8_t kSetOperation = 0;
constexpr int8_t kDeleteOperation = 1;
constexpr int8_t kDefaultSource = 5;

std::string source_name(int8_t source) {
  switch (source) {
    case 1:
      return "topic";
    case 2:
      return "broker";
    case 3:
      return "broker-default";
    case 4:
      return "static";
    case kDefaultSource:
      return "default";
    case 6:
      return "broker-logger";
    case 7:
      return "client-metrics";
    case 8:
      return "group";
    default:
      return "unknown";
  }
}

struct WireResource {
  int8_t type = 0;
  std::string name;
  client::Target target;
};

Result<WireResource> wire_resource(const ConfigResource& r) {
  const int named = (r.topic.empty() ? 0 : 1) + (r.broker >= 0 ? 1 : 0) + (r.broker_default ? 1 : 0);
  if (named != 1) {
    return Error(ErrorCode::invalid_argument, "say one of --topic NAME, --broker ID, --broker-default");
  }
  if (!r.topic.empty()) return WireResource{kTopicResource, r.topic, client::Target::any()};
  if (r.broker_default) return WireResource{kBrokerResource, "", client::Target::any()};
  // Only the broker itself knows its static configuration.
  return WireResource{kBrokerResource, std::to_string(r.broker), client::Target::broker(r.broker)};
}

}  // namespace

ExitCode run(const ConfigGet& options, const Context& context) {
  Result<WireResource> resource = wire_resource(options.resource);
  if (!resource.ok()) return fail(resource.error());
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  wire::DescribeConfigsRequest request;
  auto& r = request.resources.emplace_back();
  r.resource_type = resource->type;
  r.resource_name = resource->name;
  r.configuration_keys.reset();
  if (!options.keys.empty()) r.configuration_keys = options.keys;
  const auto response = (*session)->call<wire::DescribeConfigsRequest>(resource->target, std::move(request));
  if (!response.ok()) return fail(response.error());
  if (response->results.empty()) return fail(Error(ErrorCode::corrupt, "the broker's answer is empty"));
  const auto& result = response->results[0];
  if (result.error_code != 0) {
    return fail(Error(error_from_wire(result.error_code), result.error_message.value_or("")));
  }
  auto configs = result.configs;
  std::sort(configs.begin(), configs.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  Table table({{"key", "KEY"},
               {"value", "VALUE"},
               {"source", "SOURCE"},
               {"read_only", "READ ONLY"},
               {"sensitive", "SENSITIVE"}});
  for (const auto& c : configs) {
    if (c.config_source == kDefaultSource && !options.all && options.keys.empty()) continue;
    table.add({c.name, c.value ? Cell(*c.value) : Cell(), source_name(c.config_source), c.read_only,
               c.is_sensitive});
  }
  if (!options.keys.empty() && table.size() == 0) {
    return fail(Error(ErrorCode::resource_not_found, "there is no such key"));
  }
  if (table.size() == 0 && context.output == Output::text) {
    complain("everything is as it is by default; --all shows it");
    return ExitCode::ok;
  }
  const Status printed = print(table.render(context.output));
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

Status alter_configs(Session& session, const ConfigResource& resource, const std::vector<std::string>& set,
                     const std::vector<std::string>& unset, bool dry_run) {
  TRY_ASSIGN(const WireResource where, wire_resource(resource));
  wire::IncrementalAlterConfigsRequest request;
  request.validate_only = dry_run;
  auto& r = request.resources.emplace_back();
  r.resource_type = where.type;
  r.resource_name = where.name;
  for (const std::string& text : set) {
    TRY_ASSIGN(const auto pair, parse_pair(text));
    auto& c = r.configs.emplace_back();
    c.name = pair.first;
    c.config_operation = kSetOperation;
    c.value = pair.second;
  }
  for (const std::string& key : unset) {
    auto& c = r.configs.emplace_back();
    c.name = key;
    c.config_operation = kDeleteOperation;
    c.value.reset();
  }
  const auto error_of = [](const wire::IncrementalAlterConfigsResponse& response) {
    return response.responses.empty() ? ErrorCode::none : error_from_wire(response.responses[0].error_code);
  };
  TRY_ASSIGN(const auto response,
             session.call<wire::IncrementalAlterConfigsRequest>(where.target, std::move(request), error_of));
  if (response.responses.empty()) return Error(ErrorCode::corrupt, "the broker's answer is empty");
  if (response.responses[0].error_code != 0) {
    return Error(error_from_wire(response.responses[0].error_code),
                 response.responses[0].error_message.value_or(""));
  }
  return {};
}

namespace {

ExitCode alter_and_tell(const ConfigResource& resource, const std::vector<std::string>& set,
                        const std::vector<std::string>& unset, bool dry_run, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const Status done = alter_configs(**session, resource, set, unset, dry_run);
  return done.ok() ? ExitCode::ok : fail(done.error());
}

}  // namespace

ExitCode run(const ConfigSet& options, const Context& context) {
  return alter_and_tell(options.resource, options.pairs, {}, options.dry_run, context);
}

ExitCode run(const ConfigUnset& options, const Context& context) {
  return alter_and_tell(options.resource, {}, options.keys, options.dry_run, context);
}

}  // namespace millrace::cli
