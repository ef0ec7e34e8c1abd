// millrace_options_dump: the option table as JSON, for the documentation and for the test that compares it
// with config/; with --check FILE... it loads properties files and prints what the broker would say of them.
#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "meta/options.h"
#include "server/config.h"

namespace {

using millrace::meta::OptionDef;
using millrace::meta::OptionMode;
using nlohmann::ordered_json;

ordered_json describe(const OptionDef& option) {
  ordered_json j;
  j["name"] = option.name;
  j["type"] = millrace::meta::config_type_name(option.type);
  j["default"] =
      option.default_value ? ordered_json(std::string(*option.default_value)) : ordered_json(nullptr);
  j["doc"] = option.doc;
  j["min"] =
      option.min == std::numeric_limits<int64_t>::min() ? ordered_json(nullptr) : ordered_json(option.min);
  j["max"] =
      option.max == std::numeric_limits<int64_t>::max() ? ordered_json(nullptr) : ordered_json(option.max);
  j["allowed"] = millrace::meta::parse_config_list(option.allowed);
  j["mode"] = option.mode == OptionMode::read_only    ? "read-only"
              : option.mode == OptionMode::per_broker ? "per-broker"
                                                      : "cluster-wide";
  j["importance"] = option.importance == millrace::meta::Importance::high     ? "high"
                    : option.importance == millrace::meta::Importance::medium ? "medium"
                                                                              : "low";
  j["synonyms"] = ordered_json::array();
  for (const auto& s : option.synonyms) j["synonyms"].push_back({{"name", s.name}, {"scale", s.scale}});
  j["sensitive"] = option.sensitive;
  j["used"] = option.used;
  return j;
}

int dump() {
  ordered_json all;
  all["broker"] = ordered_json::array();
  for (const OptionDef& option : millrace::meta::broker_options()) all["broker"].push_back(describe(option));
  all["topic"] = ordered_json::array();
  for (const OptionDef& option : millrace::meta::topic_options()) all["topic"].push_back(describe(option));
  all["kafka_known"] = ordered_json::array();
  for (const std::string_view key : millrace::meta::kafka_known_keys()) all["kafka_known"].push_back(key);
  fmt::print("{}\n", all.dump(1));
  return 0;
}

int check(const std::string& path) {
  const auto text = millrace::server::read_config_file(path);
  if (!text.ok()) {
    fmt::print(stderr, "{}\n", text.error().message);
    return 1;
  }
  const auto config = millrace::server::load_config({path, *text, {}, {}});
  if (!config.ok()) {
    fmt::print(stderr, "{}\n", config.error().message);
    return 1;
  }
  for (const auto& note : config->notes()) fmt::print("{}: {}\n", path, note.message);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return dump();
  if (std::string_view(argv[1]) != "--check" || argc < 3) {
    fmt::print(stderr, "usage: millrace_options_dump [--check FILE...]\n");
    return 2;
  }
  int worst = 0;
  for (int i = 2; i < argc; ++i) worst = std::max(worst, check(argv[i]));
  return worst;
}
