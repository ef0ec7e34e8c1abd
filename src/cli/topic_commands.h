// `millrace topic`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"

namespace millrace::cli {

struct TopicCreate {
  std::vector<std::string> names;
  int32_t partitions = -1;  // the broker's default
  int16_t replication_factor = -1;
  std::vector<std::string> configs;  // key=value
  bool if_not_exists = false;
  bool dry_run = false;
};
struct TopicList {
  bool internal = false;
};
struct TopicDescribe {
  std::vector<std::string> names;
};
struct TopicAlter {
  std::string name;
  std::vector<std::string> set;    // key=value
  std::vector<std::string> unset;  // key
  bool dry_run = false;
};
struct TopicDelete {
  std::vector<std::string> names;
  bool if_exists = false;
  bool yes = false;
};
struct TopicAddPartitions {
  std::string name;
  int32_t total = 0;
  bool dry_run = false;
};
struct TopicDeleteRecords {
  std::string name;
  std::string partitions;  // "0,3,5-7"; empty: all
  std::string before;      // offset, or "end"
  bool yes = false;
};

ExitCode run(const TopicCreate& options, const Context& context);
ExitCode run(const TopicList& options, const Context& context);
ExitCode run(const TopicDescribe& options, const Context& context);
ExitCode run(const TopicAlter& options, const Context& context);
ExitCode run(const TopicDelete& options, const Context& context);
ExitCode run(const TopicAddPartitions& options, const Context& context);
ExitCode run(const TopicDeleteRecords& options, const Context& context);

}  // namespace millrace::cli
