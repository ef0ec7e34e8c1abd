// Layers the sources of the configuration over each other, judges every key, and derives what the composition
// root asks for. Every fault is collected, so that one start shows all of them.
#include <fmt/format.h>

#include <algorithm>

#include "meta/options.h"
#include "server/config.h"
#include "server/properties.h"

namespace millrace::server {
namespace {

// Keys of Kafka before 4.0 that its 4.x brokers no longer know but that people's files still hold, and whole
// families of keys that belong to other programs in the same file.
constexpr std::string_view kRetiredKeys[] = {
    "broker.id.generation.enable",   "control.plane.listener.name",
    "inter.broker.protocol.version", "log.message.downconversion.enable",
    "log.message.format.version",    "log.message.timestamp.difference.max.ms",
    "reserved.broker.max.id",
};
constexpr std::string_view kForeignPrefixes[] = {"confluent.", "zookeeper.", "client.quota.callback.",
                                                 "config.providers."};
constexpr std::string_view kMechanismPrefixes[] = {"plain.", "scram-sha-256.", "scram-sha-512.", "gssapi.",
                                                   "oauthbearer."};

template <size_t N>
bool starts_with_any(const std::string_view (&prefixes)[N], std::string_view key) {
  return std::any_of(std::begin(prefixes), std::end(prefixes),
                     [&](std::string_view prefix) { return key.starts_with(prefix); });
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n\f\v";
  const size_t first = text.find_first_not_of(kBlanks);
  return first == std::string_view::npos ? std::string_view()
                                         : text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

/// Of a vector of listeners, const or not.
template <class Listeners>
auto find_listener(Listeners& listeners, std::string_view name) -> decltype(listeners.data()) {
  const auto at =
      std::find_if(listeners.begin(), listeners.end(), [&](const Listener& l) { return l.name == name; });
  return at == listeners.end() ? nullptr : &*at;
}

TraceLevel trace_level(std::string_view name) {
  if (name == "debug") return TraceLevel::debug;
  if (name == "warn") return TraceLevel::warn;
  if (name == "error") return TraceLevel::error;
  if (name == "off") return TraceLevel::off;
  return TraceLevel::info;
}

}  // namespace

class ConfigLoader {
 public:
  Result<ServerConfig> load(const ConfigInputs& inputs) {
    for (const meta::OptionDef& option : meta::broker_options()) {
      ConfigValue value;
      if (option.default_value) value.text = std::string(*option.default_value);
      config_.values_.emplace(option.name, std::move(value));
    }
    read_file(inputs);
    read_environment(inputs);
    read_settings(inputs);
    if (errors_.empty()) derive();
    if (!errors_.empty())
      return Error(ErrorCode::invalid_config, fmt::format("{}", fmt::join(errors_, "\n")));
    if (!ignored_.empty()) {
      std::sort(ignored_.begin(), ignored_.end());
      ignored_.erase(std::unique(ignored_.begin(), ignored_.end()), ignored_.end());
      note(TraceLevel::warn,
           fmt::format("known to Kafka, without effect here: {}", fmt::join(ignored_, ", ")));
    }
    return std::move(config_);
  }

 private:
  void note(TraceLevel level, std::string message) { config_.notes_.push_back({level, std::move(message)}); }
  void fault(std::string message) { errors_.push_back(std::move(message)); }
  /// A fault of `key`, with the place it was given at.
  void fault_at(std::string_view key, std::string_view message) {
    const std::string& origin = config_.value(key).origin;
    fault(origin.empty() ? std::string(message) : fmt::format("{}: {}", origin, message));
  }

  // -- sources, weakest first

  void read_file(const ConfigInputs& inputs) {
    const Result<std::vector<Property>> properties = parse_properties(inputs.file_text);
    if (!properties.ok()) {
      fault(fmt::format("{}: {}", inputs.file_name, properties.error().message));
      return;
    }
    std::map<std::string_view, uint32_t> seen;
    for (const Property& p : *properties) {
      const auto [at, fresh] = seen.emplace(p.key, p.line);
      if (!fresh) {
        note(TraceLevel::warn, fmt::format("{}: {} stands on lines {} and {}; the last one counts",
                                           inputs.file_name, p.key, at->second, p.line));
        at->second = p.line;
      }
    }
    for (const Property& p : *properties) {
      if (seen[p.key] != p.line) continue;
      take(p.key, p.value, ConfigSource::file, fmt::format("{}:{}", inputs.file_name, p.line));
    }
  }

  void read_environment(const ConfigInputs& inputs) {
    for (const std::string_view prefix : {"CLUSTER_ID", "KAFKA_", "MILLRACE_"}) {
      for (const auto& [name, value] : inputs.environment) {
        if (prefix == "CLUSTER_ID") {
          if (name == prefix && config_.value("cluster.id").source == ConfigSource::default_value) {
            take("cluster.id", value, ConfigSource::environment, name);
          }
          continue;
        }
        if (!std::string_view(name).starts_with(prefix)) continue;
        const std::optional<std::string> key = property_of_variable(name);
        if (key) take(*key, value, ConfigSource::environment, name);
      }
    }
  }

  void read_settings(const ConfigInputs& inputs) {
    for (const std::string& setting : inputs.settings) {
      const size_t equals = setting.find('=');
      if (equals == std::string::npos || trim(std::string_view(setting).substr(0, equals)).empty()) {
        fault(fmt::format("--set {}: expected key=value", setting));
        continue;
      }
      take(trim(std::string_view(setting).substr(0, equals)), std::string_view(setting).substr(equals + 1),
           ConfigSource::command_line, "--set");
    }
  }

  // -- one key

  void take(std::string_view key, std::string_view raw, ConfigSource source, std::string origin) {
    const std::string value(trim(raw));
    if (const meta::OptionDef* option = meta::find_broker_option(key)) {
      if (const Status status = meta::check_option_value(*option, value); !status.ok()) {
        fault(fmt::format("{}: {}", origin, status.error().message));
        return;
      }
      if (!option->used) ignored_.emplace_back(key);
      config_.values_.find(key)->second = ConfigValue{value, source, std::move(origin)};
      config_.given_.insert_or_assign(std::string(key), value);
      return;
    }
    if (is_understood(key)) {
      ignored_.emplace_back(key);
      config_.given_.insert_or_assign(std::string(key), value);
      return;
    }
    if (key.starts_with("listener.name.")) {
      take_listener_key(key, value, origin);
      return;
    }
    refuse(key, source, origin);
  }

  static bool is_understood(std::string_view key) {
    return meta::is_kafka_known_key(key) || starts_with_any(kForeignPrefixes, key) ||
           std::find(std::begin(kRetiredKeys), std::end(kRetiredKeys), key) != std::end(kRetiredKeys);
  }

  /// listener.name.<listener>.[<mechanism>.]<key>: the key alone is judged. Which listener it names is seen
  /// in derive().
  void take_listener_key(std::string_view key, const std::string& value, const std::string& origin) {
    std::string_view rest = key.substr(14);
    const size_t dot = rest.find('.');
    if (dot == 0 || dot == std::string_view::npos) {
      fault(fmt::format("{}: {} is not of the form listener.name.<listener>.<key>", origin, key));
      return;
    }
    const std::string listener = upper(rest.substr(0, dot));
    rest.remove_prefix(dot + 1);
    for (const std::string_view mechanism : kMechanismPrefixes) {
      if (rest.starts_with(mechanism)) rest.remove_prefix(mechanism.size());
    }
    if (const meta::OptionDef* option = meta::find_broker_option(rest)) {
      if (const Status status = meta::check_option_value(*option, value); !status.ok()) {
        fault(fmt::format("{}: {}", origin, status.error().message));
        return;
      }
      if (!option->used) ignored_.emplace_back(key);
    } else if (is_understood(rest)) {
      ignored_.emplace_back(key);
    } else {
      const std::string near = nearest_key(rest);
      fault(fmt::format("{}: {}: no key is called {}{}", origin, key, rest,
                        near.empty() ? "" : fmt::format("; did you mean {}?", near)));
      return;
    }
    listener_keys_.emplace_back(listener, origin);
    config_.given_.insert_or_assign(std::string(key), value);
  }

  void refuse(std::string_view key, ConfigSource source, std::string_view origin) {
    if (const meta::OptionDef* topic = meta::find_topic_option(key)) {
      fault(fmt::format("{}: {} is a topic key{}", origin, key,
                        topic->synonyms.empty() ? std::string("; set it on topics")
                                                : fmt::format("; the broker's default for it is {}",
                                                              topic->synonyms.front().name)));
      return;
    }
    const std::string near = nearest_key(key);
    if (near.empty() && source == ConfigSource::environment) {
      // Not ours and like nothing we know: some other program's variable.
      note(TraceLevel::warn, fmt::format("{} is ignored: no key is called {}", origin, key));
      return;
    }
    fault(fmt::format("{}: no key is called {}{}", origin, key,
                      near.empty() ? "" : fmt::format("; did you mean {}?", near)));
  }

  // -- what follows from the values

  void derive() {
    derive_node();
    derive_quorum();
    derive_listeners();
    derive_directories();
    const std::optional<std::string>& admin = config_.value("admin.listener").text;
    if (admin && !admin->empty()) {
      Result<HostPort> address = parse_host_port(*admin);
      if (address.ok()) {
        config_.admin_listener = std::move(*address);
      } else {
        fault_at("admin.listener", fmt::format("admin.listener: {}", address.error().message));
      }
    }
    config_.loops = static_cast<uint32_t>(config_.number("loops"));
    config_.recovery_threads = static_cast<uint32_t>(config_.number("num.recovery.threads.per.data.dir"));
    config_.log_level = trace_level(config_.text("log.level"));
  }

  void derive_node() {
    const ConfigValue& node = config_.value("node.id");
    const ConfigValue& broker = config_.value("broker.id");
    if (node.source != ConfigSource::default_value && broker.source != ConfigSource::default_value &&
        *node.text != *broker.text) {
      fault_at("broker.id", fmt::format("broker.id {} and node.id {} differ; give node.id alone",
                                        *broker.text, *node.text));
    }
    if (const int64_t id = config_.number("node.id"); id >= 0) {
      config_.node_id = BrokerId(static_cast<int32_t>(id));
      config_.node_id_given = true;
    }
    const std::optional<std::string>& cluster = config_.value("cluster.id").text;
    if (cluster && !cluster->empty()) config_.cluster_id = *cluster;
    const std::optional<std::string>& rack = config_.value("broker.rack").text;
    if (rack && !rack->empty()) config_.rack = *rack;
    const std::vector<std::string> roles = config_.list("process.roles");
    const auto has = [&](std::string_view role) {
      return std::find(roles.begin(), roles.end(), role) != roles.end();
    };
    config_.is_broker = has("broker");
    config_.is_controller = has("controller");
    if (roles.empty()) fault_at("process.roles", "process.roles: a node is a broker, a controller or both");
  }

  void derive_quorum() {
    constexpr std::string_view kVoters = "controller.quorum.voters";
    for (const std::string& item : config_.list(kVoters)) {
      const size_t at = item.find('@');
      const Result<int64_t> id = meta::parse_config_int(item.substr(0, at));
      Result<HostPort> address = at == std::string::npos
                                     ? Result<HostPort>(ErrorCode::invalid_config)
                                     : parse_host_port(std::string_view(item).substr(at + 1));
      if (!id.ok() || *id < 0 || *id > INT32_MAX || !address.ok()) {
        fault_at(kVoters, fmt::format("{}: {} is not of the form id@host:port", kVoters, item));
        continue;
      }
      const BrokerId voter(static_cast<int32_t>(*id));
      if (std::any_of(config_.voters.begin(), config_.voters.end(),
                      [&](const QuorumVoter& v) { return v.id == voter; })) {
        fault_at(kVoters, fmt::format("{}: the id {} is there twice", kVoters, voter.v));
        continue;
      }
      config_.voters.push_back({voter, std::move(*address)});
    }
    constexpr std::string_view kBootstrap = "controller.quorum.bootstrap.servers";
    for (const std::string& item : config_.list(kBootstrap)) {
      Result<HostPort> address = parse_host_port(item);
      if (address.ok()) {
        config_.bootstrap_controllers.push_back(std::move(*address));
      } else {
        fault_at(kBootstrap, fmt::format("{}: {}", kBootstrap, address.error().message));
      }
    }
    const bool listed = std::any_of(config_.voters.begin(), config_.voters.end(),
                                    [&](const QuorumVoter& v) { return v.id == config_.node_id; });
    if (config_.is_controller && !config_.voters.empty() && !listed) {
      fault_at(kVoters, fmt::format("{}: this controller's node.id {} is not among the voters", kVoters,
                                    config_.node_id.v));
    }
  }

  void derive_listeners() {
    constexpr std::string_view kMap = "listener.security.protocol.map";
    const auto protocols = parse_protocol_map(config_.text(kMap));
    if (!protocols.ok()) return fault_at(kMap, protocols.error().message);
    const auto addresses = parse_listeners("listeners", config_.text("listeners"));
    if (!addresses.ok()) return fault_at("listeners", addresses.error().message);
    std::vector<std::string> controller_names = config_.list("controller.listener.names");
    for (std::string& name : controller_names) name = upper(name);

    const bool defaulted = config_.value("listeners").source == ConfigSource::default_value;
    for (const ListenerAddress& a : *addresses) {
      const bool controller =
          std::find(controller_names.begin(), controller_names.end(), a.name) != controller_names.end();
      if (defaulted && !config_.is_broker) continue;
      Listener listener{a.name, a.address, SecurityProtocol::plaintext, a.address};
      if (is_wildcard(listener.advertised.host)) listener.advertised.host.clear();
      if (const auto p = protocols->find(a.name); p != protocols->end()) {
        listener.protocol = p->second;
      } else if (!controller || config_.value(kMap).source != ConfigSource::default_value) {
        fault_at("listeners",
                 fmt::format("listeners: {} has no protocol; add {}:PLAINTEXT to {}", a.name, a.name, kMap));
        continue;
      }
      if (listener.protocol != SecurityProtocol::plaintext) {
        fault_at("listeners",
                 fmt::format("listeners: {} speaks {}, which is not served yet; only PLAINTEXT is", a.name,
                             security_protocol_name(listener.protocol)));
        continue;
      }
      (controller ? config_.controller_listeners : config_.listeners).push_back(std::move(listener));
    }
    if (!errors_.empty()) return;
    advertise();
    judge_listeners();
  }

  void advertise() {
    constexpr std::string_view kKey = "advertised.listeners";
    const std::optional<std::string>& text = config_.value(kKey).text;
    if (!text) return;
    const auto advertised = parse_listeners(kKey, *text);
    if (!advertised.ok()) return fault_at(kKey, advertised.error().message);
    for (const ListenerAddress& a : *advertised) {
      Listener* listener = find_listener(config_.listeners, a.name);
      if (listener == nullptr) listener = find_listener(config_.controller_listeners, a.name);
      if (listener == nullptr && config_.value(kKey).source < config_.value("listeners").source) {
        // An image's file advertises its own listeners; who replaces those need not repeat this.
        note(TraceLevel::warn, fmt::format("{}: {} names {}, which is no listener any more",
                                           config_.value(kKey).origin, kKey, a.name));
        continue;
      }
      if (listener == nullptr) {
        fault_at(kKey, fmt::format("{}: no listener is called {}", kKey, a.name));
      } else if (a.address.host == "0.0.0.0" || a.address.host == "::") {
        fault_at(kKey, fmt::format("{}: no client can connect to {}; name an address of this machine", kKey,
                                   a.address.host));
      } else {
        listener->advertised = a.address;
      }
    }
  }

  void judge_listeners() {
    if (config_.is_broker && config_.listeners.empty()) {
      fault_at("listeners", "listeners: a broker needs a listener that is not in controller.listener.names");
    }
    if (!config_.is_broker && !config_.listeners.empty()) {
      fault_at("listeners", fmt::format("listeners: {} is no controller listener, and this node is no broker",
                                        config_.listeners.front().name));
    }
    const bool cluster = config_.voters.size() > 1;
    if (config_.is_controller && config_.controller_listeners.empty() && (cluster || !config_.is_broker)) {
      fault_at("controller.listener.names",
               "controller.listener.names: a controller of a cluster needs a listener of its own");
    }
    if (!config_.is_controller && config_.controller_listeners.empty()) {
      fault_at("controller.listener.names",
               "controller.listener.names: a broker whose controllers are elsewhere needs such a listener, "
               "too: other nodes reach it there");
    }
    const std::optional<std::string>& inter_broker = config_.value("inter.broker.listener.name").text;
    if (inter_broker && !inter_broker->empty() &&
        find_listener(config_.listeners, upper(*inter_broker)) == nullptr && config_.is_broker) {
      fault_at("inter.broker.listener.name",
               fmt::format("inter.broker.listener.name: no client listener is called {}", *inter_broker));
    }
    for (const auto& [name, origin] : listener_keys_) {
      if (find_listener(config_.listeners, name) == nullptr &&
          find_listener(config_.controller_listeners, name) == nullptr) {
        note(TraceLevel::warn,
             fmt::format("{}: no listener is called {}; the key has no effect", origin, name));
      }
    }
    for (const Listener& l : config_.listeners) {
      if (is_loopback(l.address.host)) continue;
      note(TraceLevel::warn,
           fmt::format("listener {} ({}) takes anybody who can reach it: no authentication, no "
                       "encryption",
                       l.name, l.address.to_string()));
    }
  }

  void derive_directories() {
    const std::string_view key =
        config_.value("log.dirs").source == ConfigSource::default_value ? "log.dir" : "log.dirs";
    for (const std::string& directory : config_.list("log.dirs")) {
      if (directory.empty() ||
          std::find(config_.log_dirs.begin(), config_.log_dirs.end(), directory) != config_.log_dirs.end()) {
        fault_at(key, fmt::format("{}: '{}' is empty or there twice", key, directory));
        continue;
      }
      config_.log_dirs.push_back(directory);
    }
    if (config_.log_dirs.empty()) {
      fault_at(key, fmt::format("{}: at least one data directory is needed", key));
      return;
    }
    const std::optional<std::string>& metadata = config_.value("metadata.log.dir").text;
    config_.metadata_log_dir = metadata && !metadata->empty() ? *metadata : config_.log_dirs.front();
  }

  ServerConfig config_;
  std::vector<std::string> errors_;
  std::vector<std::string> ignored_;
  std::vector<std::pair<std::string, std::string>> listener_keys_;  // listener, origin
};

Result<ServerConfig> load_config(const ConfigInputs& inputs) {
  return ConfigLoader().load(inputs);
}

}  // namespace millrace::server
