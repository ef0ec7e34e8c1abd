// DescribeConfigs (32), versions 1-4: topics (2) and brokers (4; the empty name is the cluster-wide default).
//   1 synonyms, source | 3 documentation, type | 4 flexible
#include "base/contains.h"
#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "meta/config_view.h"

namespace millrace::broker {
namespace {

using ConfigsResponse = wire::DescribeConfigsResponse;
using ConfigsResult = ConfigsResponse::DescribeConfigsResult;

class DescribeConfigsRun {
 public:
  DescribeConfigsRun(Call& call, const wire::DescribeConfigsRequest& request)
      : call_(call),
        request_(request),
        view_(*call.view().image, call.broker().config().node_id, *call.broker().config().settings) {}

  ConfigsResponse run() const {
    ConfigsResponse r;
    for (const auto& resource : request_.resources) r.results.push_back(one(resource));
    return r;
  }

 private:
  ConfigsResult one(const wire::DescribeConfigsRequest::DescribeConfigsResource& asked) const {
    ConfigsResult out;
    out.resource_type = asked.resource_type;
    out.resource_name = asked.resource_name;
    out.error_message.reset();
    const auto refuse = [&](ErrorCode code, std::string message) {
      out.error_code = static_cast<int16_t>(code);
      out.error_message = std::move(message);
      return out;
    };
    switch (static_cast<meta::ResourceType>(asked.resource_type)) {
      case meta::ResourceType::topic:
        if (call_.view().image->topic(asked.resource_name) == nullptr) {
          return refuse(ErrorCode::unknown_topic_or_partition, "there is no topic " + asked.resource_name);
        }
        for (const meta::OptionDef& o : meta::topic_options()) {
          add(out, asked, o, [&] { return view_.topic(asked.resource_name, o); }, false);
        }
        return out;
      case meta::ResourceType::broker: {
        if (asked.resource_name.empty()) {
          for (const meta::OptionDef& o : meta::broker_options()) {
            const meta::EffectiveConfig c = view_.broker_default(o);
            if (c.source == meta::ConfigSource::dynamic_default_broker)
              add(out, asked, o, [&] { return c; }, false);
          }
          return out;
        }
        if (asked.resource_name != std::to_string(call_.broker().config().node_id.v)) {
          return refuse(ErrorCode::invalid_request, "ask broker " + asked.resource_name + " itself");
        }
        for (const meta::OptionDef& o : meta::broker_options()) {
          add(out, asked, o, [&] { return view_.broker(o); }, o.mode == meta::OptionMode::read_only);
        }
        return out;
      }
      case meta::ResourceType::broker_logger:
      case meta::ResourceType::client_metrics:
      case meta::ResourceType::group:
        return out;  // nothing can be set there
      default:
        return refuse(ErrorCode::invalid_request,
                      "unknown resource type " + std::to_string(asked.resource_type));
    }
  }

  template <class Effective>
  void add(ConfigsResult& out, const wire::DescribeConfigsRequest::DescribeConfigsResource& asked,
           const meta::OptionDef& o, Effective effective, bool read_only) const {
    const auto& keys = asked.configuration_keys;
    if (keys && !contains(*keys, o.name)) return;
    meta::EffectiveConfig c = effective();
    auto& e = out.configs.emplace_back();
    e.name = o.name;
    e.value = o.sensitive ? std::nullopt : std::move(c.value);
    e.read_only = read_only;
    e.config_source = static_cast<int8_t>(c.source);
    e.is_sensitive = o.sensitive;
    e.config_type = static_cast<int8_t>(o.type);
    e.documentation.reset();
    if (request_.include_documentation) e.documentation = std::string(o.doc);
    if (!request_.include_synonyms) return;
    for (meta::ConfigSynonym& s : c.synonyms) {
      e.synonyms.push_back({std::move(s.name), o.sensitive ? std::nullopt : std::move(s.value),
                            static_cast<int8_t>(s.source)});
    }
  }

  Call& call_;
  const wire::DescribeConfigsRequest& request_;
  const meta::ConfigView view_;
};

}  // namespace

void handle(Call call, wire::DescribeConfigsRequest& request) {
  const ConfigsResponse response = DescribeConfigsRun(call, request).run();
  call.reply(response);
}

}  // namespace millrace::broker
