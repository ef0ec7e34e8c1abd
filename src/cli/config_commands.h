// `millrace config`: the configuration of a topic, of one broker, or of all brokers.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace millrace::cli {

struct ConfigResource {
  std::string topic;
  int32_t broker = -1;
  bool broker_default = false;
};
struct ConfigGet {
  ConfigResource resource;
  std::vector<std::string> keys;
  bool all = false;  // also what is as it is by default
};
struct ConfigSet {
  ConfigResource resource;
  std::vector<std::string> pairs;
  bool dry_run = false;
};
struct ConfigUnset {
  ConfigResource resource;
  std::vector<std::string> keys;
  bool dry_run = false;
};

ExitCode run(const ConfigGet& options, const Context& context);
ExitCode run(const ConfigSet& options, const Context& context);
ExitCode run(const ConfigUnset& options, const Context& context);

/// IncrementalAlterConfigs for one resource: what `topic alter` does too.
Status alter_configs(Session& session, const ConfigResource& resource, const std::vector<std::string>& set,
                     const std::vector<std::string>& unset, bool dry_run);

}  // namespace millrace::cli
