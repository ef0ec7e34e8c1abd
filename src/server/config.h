// The configuration of one node: defaults < properties file < environment < command line, checked against the
// option table of meta. Pure text work; the two functions at the end are the only ones that look at the
// machine.
//
// Environment: KAFKA_LOG_DIRS is log.dirs and MILLRACE_LOG_DIRS the same and stronger; one underscore is a
// dot, two are an underscore, three a dash, as in Kafka's own container image. Variables that image uses for
// the JVM (KAFKA_HEAP_OPTS, ...) and those an orchestrator adds for a service of our name are ignored.
// CLUSTER_ID is cluster.id if nothing else gives one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/trace.h"
#include "server/listeners.h"

namespace millrace::server {

/// Weakest first.
enum class ConfigSource : uint8_t { default_value, file, environment, command_line };
/// "default", "file", "environment", "command line".
std::string_view config_source_name(ConfigSource source);

/// The value of one broker key.
struct ConfigValue {
  /// nullopt: the key has no value (Kafka's null).
  std::optional<std::string> text;
  ConfigSource source = ConfigSource::default_value;
  /// Where it was given: "broker.properties:12", "KAFKA_LOG_DIRS", "--set"; empty for a default.
  std::string origin;
};

struct QuorumVoter {
  BrokerId id;
  HostPort address;
};

/// Something to tell the operator at start.
struct ConfigNote {
  TraceLevel level = TraceLevel::info;
  std::string message;
};

struct ConfigInputs {
  /// Shown in messages; empty: there is no file.
  std::string file_name;
  std::string_view file_text;
  /// Name and value; see process_environment().
  std::vector<std::pair<std::string, std::string>> environment;
  /// "key=value", a later one wins.
  std::vector<std::string> settings;
};

class ServerConfig {
 public:
  // -- what the composition root needs

  /// 1 if neither node.id nor broker.id was given.
  BrokerId node_id{1};
  bool node_id_given = false;
  std::optional<std::string> cluster_id;
  std::optional<std::string> rack;
  bool is_broker = true;
  bool is_controller = true;
  /// Client listeners, in the order given. At least one if is_broker.
  std::vector<Listener> listeners;
  /// Those of controller.listener.names.
  std::vector<Listener> controller_listeners;
  std::vector<QuorumVoter> voters;              // controller.quorum.voters
  std::vector<HostPort> bootstrap_controllers;  // controller.quorum.bootstrap.servers
  /// Of log.dirs or log.dir, in the order given, none twice; the first also holds the metadata log unless
  /// metadata.log.dir names another.
  std::vector<std::string> log_dirs;
  std::string metadata_log_dir;
  /// nullopt: switched off.
  std::optional<HostPort> admin_listener;
  /// 0: one per core.
  uint32_t loops = 0;
  uint32_t recovery_threads = 1;  // per data directory
  TraceLevel log_level = TraceLevel::info;

  // -- any key of meta::broker_options()

  /// The key's own value. `key` must be in the table.
  const ConfigValue& value(std::string_view key) const;
  /// The key's value if it was given, else that of the strongest of its other spellings that was given, else
  /// a default: its own, or the first that one of its spellings has. Not scaled.
  const ConfigValue& effective(std::string_view key) const;
  /// The effective value by type; the key must have one. Checked when the configuration was loaded.
  int64_t number(std::string_view key) const;
  double real(std::string_view key) const;
  bool flag(std::string_view key) const;
  std::string text(std::string_view key) const;
  std::vector<std::string> list(std::string_view key) const;
  const std::map<std::string, ConfigValue, std::less<>>& values() const { return values_; }
  /// What was given, without defaults: the STATIC_BROKER_CONFIG layer of DescribeConfigs. Holds the keys that
  /// are accepted and ignored, too; listener.name.* keys stand there under their whole name.
  const std::map<std::string, std::string, std::less<>>& given() const { return given_; }
  /// `listener.name.<listener>.<key>` if given, else the effective value of `key`.
  std::optional<std::string> listener_value(std::string_view listener, std::string_view key) const;

  const std::vector<ConfigNote>& notes() const { return notes_; }

 private:
  friend class ConfigLoader;

  std::map<std::string, ConfigValue, std::less<>> values_;
  std::map<std::string, std::string, std::less<>> given_;
  std::vector<ConfigNote> notes_;
};

/// The configuration of `inputs`. Error: invalid_config or parse_error; the message has a line for every
/// fault found, each naming key and place.
Result<ServerConfig> load_config(const ConfigInputs& inputs);

/// The property an environment variable stands for (`KAFKA_LOG_DIRS` -> `log.dirs`); nullopt: it is none.
std::optional<std::string> property_of_variable(std::string_view variable);

/// The key a misspelt one most probably meant; empty if none is near.
std::string nearest_key(std::string_view key);

/// The text of a properties file. Error: not_found, io_error, limit_exceeded.
Result<std::string> read_config_file(const std::string& path);
/// This process's environment.
std::vector<std::pair<std::string, std::string>> process_environment();

}  // namespace millrace::server
