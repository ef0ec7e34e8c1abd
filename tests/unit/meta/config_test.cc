#include "meta/topic_config.h"
#include "support/catch.h"

using namespace millrace;
using namespace millrace::meta;

namespace {

constexpr BrokerId kSelf{1};

void set_config(Image& image, ResourceType type, const char* name, const char* key, const char* value) {
  REQUIRE(image.apply(ConfigRecord{{type, name}, key, value}).ok());
}

EffectiveConfig effective_topic(const Image& image, const ConfigValues& settings, const char* key) {
  return ConfigView(image, kSelf, settings).topic("t", *find_topic_option(key));
}

}  // namespace

TEST_CASE("a topic key takes its value from the strongest place that has one") {
  Image image;
  ConfigValues settings;
  EffectiveConfig e = effective_topic(image, settings, "retention.ms");
  CHECK(e.value == "604800000");
  CHECK(e.source == ConfigSource::default_config);
  REQUIRE(e.synonyms.size() == 1);
  CHECK(e.synonyms[0].name == "log.retention.hours");
  CHECK(e.synonyms[0].value == "168");

  settings["log.retention.hours"] = "2";
  e = effective_topic(image, settings, "retention.ms");
  CHECK(e.value == "7200000");
  CHECK(e.source == ConfigSource::static_broker);
  settings["log.retention.minutes"] = "3";
  CHECK(effective_topic(image, settings, "retention.ms").value == "180000");
  settings["log.retention.ms"] = "4";
  CHECK(effective_topic(image, settings, "retention.ms").value == "4");

  set_config(image, ResourceType::broker, "", "log.retention.ms", "5");
  e = effective_topic(image, settings, "retention.ms");
  CHECK(e.value == "5");
  CHECK(e.source == ConfigSource::dynamic_default_broker);
  set_config(image, ResourceType::broker, "2", "log.retention.ms", "99");  // another broker's
  CHECK(effective_topic(image, settings, "retention.ms").value == "5");
  set_config(image, ResourceType::broker, "1", "log.retention.ms", "6");
  e = effective_topic(image, settings, "retention.ms");
  CHECK(e.value == "6");
  CHECK(e.source == ConfigSource::dynamic_broker);
  set_config(image, ResourceType::topic, "t", "retention.ms", "7");
  e = effective_topic(image, settings, "retention.ms");
  CHECK(e.value == "7");
  CHECK(e.source == ConfigSource::dynamic_topic);

  std::vector<std::pair<std::string, std::string>> chain;
  for (const ConfigSynonym& s : e.synonyms) chain.emplace_back(s.name, *s.value);
  CHECK(chain == std::vector<std::pair<std::string, std::string>>{{"retention.ms", "7"},
                                                                  {"log.retention.ms", "6"},
                                                                  {"log.retention.ms", "5"},
                                                                  {"log.retention.ms", "4"},
                                                                  {"log.retention.minutes", "3"},
                                                                  {"log.retention.hours", "2"},
                                                                  {"log.retention.hours", "168"}});
}

TEST_CASE("for ever stays for ever in every unit, and huge values do not wrap") {
  CHECK(effective_topic({}, {{"log.retention.hours", "-1"}}, "retention.ms").value == "-1");
  CHECK(effective_topic({}, {{"log.retention.hours", "9000000000000000"}}, "retention.ms").value ==
        "9223372036854775807");
}

TEST_CASE("a broker key without a value of its own takes that of its other spelling") {
  const Image image;
  const ConfigValues settings{{"broker.id", "7"}, {"log.dir", "/d"}};
  const ConfigView view(image, kSelf, settings);
  CHECK(view.broker_value("log.dirs") == "/d");
  CHECK(view.broker_value("node.id") == "7");
  CHECK(view.broker_value("no.such.key") == std::nullopt);
  CHECK(view.topic_value("t", "no.such.key") == std::nullopt);

  const ConfigValues none;
  const ConfigView defaults(image, kSelf, none);
  CHECK(defaults.broker_value("log.dirs") == "/var/lib/millrace");
  CHECK(defaults.broker_value("log.retention.ms") == "604800000");
  CHECK(defaults.broker_value("broker.rack") == std::nullopt);
  CHECK(defaults.broker_default(*find_broker_option("log.retention.ms")).synonyms.empty());
}

TEST_CASE("the typed topic configuration of an empty image is the built-in one") {
  const Image image;
  const ConfigValues none;
  CHECK(topic_config(ConfigView(image, kSelf, none), "t") == TopicConfig{});
}

TEST_CASE("every override reaches the typed topic configuration") {
  Image image;
  const char* values[][2] = {{"cleanup.policy", "compact"},
                             {"compression.type", "zstd"},
                             {"compression.zstd.level", "7"},
                             {"delete.retention.ms", "1"},
                             {"durability", "replicated"},
                             {"file.delete.delay.ms", "2"},
                             {"index.interval.bytes", "3"},
                             {"max.compaction.lag.ms", "4"},
                             {"max.message.bytes", "5"},
                             {"message.timestamp.after.max.ms", "6"},
                             {"message.timestamp.before.max.ms", "7"},
                             {"message.timestamp.type", "LogAppendTime"},
                             {"min.cleanable.dirty.ratio", "0.75"},
                             {"min.compaction.lag.ms", "8"},
                             {"min.insync.replicas", "9"},
                             {"preallocate", "true"},
                             {"retention.bytes", "10"},
                             {"retention.ms", "11"},
                             {"segment.bytes", "1048577"},
                             {"segment.index.bytes", "12"},
                             {"segment.jitter.ms", "13"},
                             {"segment.ms", "14"},
                             {"unclean.leader.election.enable", "true"},
                             {"validation", "strict"}};
  for (const auto& [key, value] : values) set_config(image, ResourceType::topic, "t", key, value);
  const ConfigValues settings{{"producer.id.expiration.ms", "15"}};
  TopicConfig want;
  want.log = {1'048'577, 14, 13, 3, 12, 11, 10, false, true, 2, 15, true};
  want.validation = {5, 7, 6, TopicCompression::zstd, 7, true};
  want.compaction = {1, 8, 4, 0.75};
  want.fsync = false;
  want.log_append_time = true;
  want.min_insync_replicas = 9;
  want.unclean_leader_election = true;
  CHECK(topic_config(ConfigView(image, kSelf, settings), "t") == want);
}

TEST_CASE("a stored value that does not parse counts as the default") {
  Image image;
  set_config(image, ResourceType::topic, "t", "retention.ms", "soon");
  const ConfigValues none;
  CHECK(topic_config(ConfigView(image, kSelf, none), "t") == TopicConfig{});
}
