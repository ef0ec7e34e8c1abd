// IncrementalAlterConfigs and the older AlterConfigs: all of a resource's changes or none.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "control/controller.h"
#include "control/draft.h"
#include "meta/options.h"

namespace millrace::control {
namespace {

using meta::ConfigResource;
using meta::ResourceType;

Outcome refuse_config(ErrorCode code, std::string why) {
  return {code, std::move(why)};
}

std::string joined(const std::vector<std::string>& items) {
  return fmt::format("{}", fmt::join(items, ","));
}

Outcome check_resource(const meta::Image& image, const ConfigResource& resource) {
  if (resource.type == ResourceType::topic) {
    if (image.topic(resource.name) != nullptr) return {};
    return refuse_config(ErrorCode::unknown_topic_or_partition, "This server does not host this topic.");
  }
  if (resource.type == ResourceType::broker) {
    if (resource.name.empty()) return {};
    const Result<int64_t> id = meta::parse_config_int(resource.name);
    if (!id.ok() || std::to_string(*id) != resource.name || *id < 0 ||
        *id > std::numeric_limits<int32_t>::max()) {
      return refuse_config(ErrorCode::invalid_request, fmt::format("Invalid broker name {}", resource.name));
    }
    if (image.broker(BrokerId(static_cast<int32_t>(*id))) == nullptr) {
      return refuse_config(ErrorCode::broker_id_not_registered,
                           fmt::format("No broker with id {} found.", *id));
    }
    return {};
  }
  return refuse_config(ErrorCode::invalid_request,
                       fmt::format("Unsupported resource type {}", static_cast<int>(resource.type)));
}

const meta::OptionDef* find_key(const ConfigResource& resource, std::string_view key) {
  return resource.type == ResourceType::topic ? meta::find_topic_option(key) : meta::find_broker_option(key);
}

Outcome check_key(const ConfigResource& resource, const std::string& key) {
  const meta::OptionDef* option = find_key(resource, key);
  if (resource.type == ResourceType::topic) {
    if (option != nullptr) return {};
    return refuse_config(ErrorCode::invalid_config, fmt::format("Unknown topic config name: {}", key));
  }
  if (option == nullptr) {
    return refuse_config(ErrorCode::invalid_config,
                         meta::is_kafka_known_key(key)
                             ? fmt::format("Broker config {} is not used by this server", key)
                             : fmt::format("Unknown broker config name: {}", key));
  }
  if (option->mode == meta::OptionMode::read_only) {
    return refuse_config(ErrorCode::invalid_config,
                         fmt::format("Cannot update these configs dynamically: {}", key));
  }
  // Controller and leaders must mean the same number (KIP-966).
  if (key == "min.insync.replicas" && !resource.name.empty()) {
    return refuse_config(ErrorCode::invalid_config,
                         "min.insync.replicas can be set for topics and for the whole cluster only");
  }
  if (option->mode == meta::OptionMode::per_broker && resource.name.empty()) {
    return refuse_config(ErrorCode::invalid_config,
                         fmt::format("{} can be set for single brokers only", key));
  }
  return {};
}

// The value an APPEND or SUBTRACT starts from: the override, or what is in force without one.
std::string base_value(const meta::ConfigView& view, const meta::ConfigValues* overrides,
                       const ConfigResource& resource, const meta::OptionDef& option) {
  if (overrides != nullptr) {
    const auto at = overrides->find(option.name);
    if (at != overrides->end()) return at->second;
  }
  const meta::EffectiveConfig e =
      resource.type == ResourceType::topic ? view.topic(resource.name, option) : view.broker(option);
  return e.value.value_or("");
}

std::string combined(AlterOp op, std::string_view base, std::string_view items) {
  std::vector<std::string> list = meta::parse_config_list(base);
  for (std::string& item : meta::parse_config_list(items)) {
    const auto at = std::find(list.begin(), list.end(), item);
    if (op == AlterOp::subtract) {
      if (at != list.end()) list.erase(at);
    } else if (at == list.end()) {
      list.push_back(std::move(item));
    }
  }
  return joined(list);
}

// Key -> new value, or nothing for a removal.
using Changes = std::map<std::string, std::optional<std::string>>;

void record_changes(Draft& draft, const ConfigResource& resource, const Changes& changes) {
  for (const auto& [key, value] : changes) {
    const meta::ConfigValues* now = draft.image().config(resource);
    const bool present = now != nullptr && now->contains(key);
    if (value ? present && now->at(key) == *value : !present) continue;
    draft.add(meta::ConfigRecord{resource, key, value});
  }
}

Outcome check_value(const meta::OptionDef& option, const std::string& value, size_t bytes_max) {
  if (value.size() > bytes_max) {
    return refuse_config(ErrorCode::invalid_config, fmt::format("The value of {} is too long", option.name));
  }
  const Status fine = meta::check_option_value(option, value);
  return fine.ok() ? Outcome{} : Outcome{fine.code(), fine.error().message};
}

Outcome alter(const Alteration& a, const ConfigResource& resource, const meta::ConfigView& view,
              const meta::ConfigValues* overrides, size_t bytes_max, Changes& changes) {
  if (a.op == AlterOp::remove) {
    const bool present = overrides != nullptr && overrides->contains(a.name);
    if (!present) {
      if (Outcome known = check_key(resource, a.name); !known.ok()) return known;
    }
    changes[a.name] = std::nullopt;
    return {};
  }
  if (a.op != AlterOp::set && a.op != AlterOp::append && a.op != AlterOp::subtract) {
    return refuse_config(ErrorCode::invalid_request,
                         fmt::format("Unknown operation {}", static_cast<int>(a.op)));
  }
  if (!a.value)
    return refuse_config(ErrorCode::invalid_request,
                         fmt::format("Null value not supported for : {}", a.name));
  if (Outcome known = check_key(resource, a.name); !known.ok()) return known;
  const meta::OptionDef& option = *find_key(resource, a.name);
  std::string value = *a.value;
  if (a.op != AlterOp::set) {
    if (option.type != meta::ConfigType::list) {
      return refuse_config(ErrorCode::invalid_config,
                           fmt::format("Can't {} key {} because its type is not LIST.",
                                       a.op == AlterOp::append ? "APPEND to" : "SUBTRACT from", a.name));
    }
    value = combined(a.op, base_value(view, overrides, resource, option), value);
  }
  if (Outcome fine = check_value(option, value, bytes_max); !fine.ok()) return fine;
  changes[a.name] = std::move(value);
  return {};
}

}  // namespace

// A lower minimum lets the high watermark pass replicas outside the ISR: they are eligible no more, from the
// entry on that lowers it.
void Controller::settle_min_isr(Draft& draft, const ConfigResource& resource) const {
  const meta::Image after = draft.image();
  TopicRules rules(view(after));
  index_.with_elr().for_each([&](const PartitionKey& key) {
    const meta::Topic* topic = after.topic(key.topic);
    if (topic == nullptr) return;
    if (resource.type == ResourceType::topic && topic->name != resource.name) return;
    PartitionChange change(after, key.topic, key.partition, rules.of(*topic));
    if (auto record = change.build()) draft.add(std::move(*record));
  });
}

Decision<AlterConfigsReply> Controller::handle(const IncrementalAlterConfigs& request, Now) {
  Decision<AlterConfigsReply> decision;
  std::map<ConfigResource, size_t> named;
  for (const AlteredResource& r : request.resources) ++named[r.resource];

  Draft draft(image_);
  for (const AlteredResource& r : request.resources) {
    const auto decide = [&]() -> Outcome {
      if (request.resources.size() > limits_.resources_per_request) {
        return refuse_config(
            ErrorCode::policy_violation,
            fmt::format("A request may alter at most {} resources", limits_.resources_per_request));
      }
      if (named[r.resource] > 1) {
        return refuse_config(ErrorCode::invalid_request, "Each resource must appear at most once.");
      }
      if (Outcome fine = check_resource(draft.image(), r.resource); !fine.ok()) return fine;
      Changes changes;
      std::set<std::string_view> keys;
      for (const Alteration& a : r.alterations) {
        if (!keys.insert(a.name).second) {
          return refuse_config(ErrorCode::invalid_request, fmt::format("Duplicate config key {}", a.name));
        }
        const meta::ConfigView now = view(draft.image());
        Outcome fine =
            alter(a, r.resource, now, draft.image().config(r.resource), limits_.config_value_bytes, changes);
        if (!fine.ok()) return fine;
      }
      record_changes(draft, r.resource, changes);
      if (changes.contains("min.insync.replicas")) settle_min_isr(draft, r.resource);
      return {};
    };
    Outcome outcome = decide();
    decision.reply.resources.push_back({r.resource, std::move(outcome)});
  }
  if (!request.validate_only) decision.records = draft.take();
  return decision;
}

Decision<AlterConfigsReply> Controller::handle(const ReplaceConfigs& request, Now) {
  Decision<AlterConfigsReply> decision;
  std::map<ConfigResource, size_t> named;
  for (const ReplacedResource& r : request.resources) ++named[r.resource];

  Draft draft(image_);
  for (const ReplacedResource& r : request.resources) {
    const auto decide = [&]() -> Outcome {
      if (request.resources.size() > limits_.resources_per_request) {
        return refuse_config(
            ErrorCode::policy_violation,
            fmt::format("A request may alter at most {} resources", limits_.resources_per_request));
      }
      if (named[r.resource] > 1) {
        return refuse_config(ErrorCode::invalid_request, "Each resource must appear at most once.");
      }
      if (Outcome fine = check_resource(draft.image(), r.resource); !fine.ok()) return fine;
      Changes changes;
      if (const meta::ConfigValues* now = draft.image().config(r.resource)) {
        for (const auto& [key, value] : *now) changes[key] = std::nullopt;
      }
      std::set<std::string_view> keys;
      for (const NamedValue& v : r.values) {
        if (!keys.insert(v.name).second) {
          return refuse_config(ErrorCode::invalid_request, fmt::format("Duplicate config key {}", v.name));
        }
        if (!v.value) {
          return refuse_config(ErrorCode::invalid_request,
                               fmt::format("Null value not supported for : {}", v.name));
        }
        if (Outcome known = check_key(r.resource, v.name); !known.ok()) return known;
        Outcome fine = check_value(*find_key(r.resource, v.name), *v.value, limits_.config_value_bytes);
        if (!fine.ok()) return fine;
        changes[v.name] = v.value;
      }
      record_changes(draft, r.resource, changes);
      if (changes.contains("min.insync.replicas")) settle_min_isr(draft, r.resource);
      return {};
    };
    Outcome outcome = decide();
    decision.reply.resources.push_back({r.resource, std::move(outcome)});
  }
  if (!request.validate_only) decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
