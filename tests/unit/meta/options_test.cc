#include "meta/options.h"

#include <algorithm>
#include <set>

#include "support/catch.h"

using namespace millrace;
using namespace millrace::meta;

namespace {

bool accepts(const char* key, const char* value, bool broker = false) {
  const OptionDef* option = broker ? find_broker_option(key) : find_topic_option(key);
  REQUIRE(option != nullptr);
  return check_option_value(*option, value).ok();
}

}  // namespace

TEST_CASE("option tables are sorted, described and consistent") {
  for (const auto table : {topic_options(), broker_options()}) {
    REQUIRE(!table.empty());
    CHECK(std::is_sorted(table.begin(), table.end(), [](auto& a, auto& b) { return a.name < b.name; }));
    std::set<std::string_view> names;
    for (const OptionDef& o : table) {
      INFO(o.name);
      CHECK(names.insert(o.name).second);
      CHECK(o.doc.size() > 20);
      CHECK(o.doc.back() == '.');
      if (o.default_value) CHECK(check_option_value(o, *o.default_value).ok());
      for (const OptionSynonym& s : o.synonyms) {
        INFO(s.name);
        const OptionDef* other = find_broker_option(s.name);
        REQUIRE(other != nullptr);
        if (s.scale == 1) CHECK(other->allowed == o.allowed);
      }
    }
  }
}

TEST_CASE("a topic key and the broker keys behind it agree on the default") {
  for (const OptionDef& o : topic_options()) {
    INFO(o.name);
    CHECK(o.scope == OptionScope::topic);
    for (const OptionSynonym& s : o.synonyms) {
      const OptionDef* b = find_broker_option(s.name);
      REQUIRE(b != nullptr);
      if (!b->default_value) continue;
      if (s.scale == 1) {
        CHECK(*b->default_value == *o.default_value);
      } else {
        CHECK(parse_config_int(*b->default_value).value() * s.scale ==
              parse_config_int(*o.default_value).value());
      }
    }
  }
}

TEST_CASE("known keys are sorted and none of them is in the broker table") {
  const auto keys = kafka_known_keys();
  CHECK(std::is_sorted(keys.begin(), keys.end()));
  CHECK(is_kafka_known_key("num.io.threads"));
  CHECK_FALSE(is_kafka_known_key("num.io.thread"));
  for (const std::string_view k : keys) {
    INFO(k);
    CHECK(find_broker_option(k) == nullptr);
  }
}

TEST_CASE("values are checked by type, range, choice and special rule") {
  CHECK(accepts("retention.ms", "-1"));
  CHECK(accepts("retention.ms", " 1000 "));
  CHECK(accepts("retention.ms", "+5"));
  CHECK_FALSE(accepts("retention.ms", "-2"));
  CHECK_FALSE(accepts("retention.ms", "1h"));
  CHECK_FALSE(accepts("retention.ms", ""));
  CHECK_FALSE(accepts("retention.ms", "9223372036854775808"));
  CHECK_FALSE(accepts("segment.bytes", "2147483648"));  // an INT in Kafka
  CHECK_FALSE(accepts("segment.bytes", "1048575"));
  CHECK(accepts("segment.bytes", "1048576"));
  CHECK(accepts("cleanup.policy", "compact, delete"));
  CHECK(accepts("cleanup.policy", ""));
  CHECK_FALSE(accepts("cleanup.policy", "compact,compact"));
  CHECK_FALSE(accepts("cleanup.policy", "compact,,delete"));
  CHECK_FALSE(accepts("cleanup.policy", "shred"));
  CHECK(accepts("preallocate", "TRUE"));
  CHECK_FALSE(accepts("preallocate", "yes"));
  CHECK(accepts("min.cleanable.dirty.ratio", "0.25"));
  CHECK_FALSE(accepts("min.cleanable.dirty.ratio", "1.5"));
  CHECK_FALSE(accepts("min.cleanable.dirty.ratio", "nan"));
  CHECK_FALSE(accepts("compression.gzip.level", "0"));
  CHECK(accepts("compression.gzip.level", "-1"));
  CHECK_FALSE(accepts("compression.type", "none"));
  CHECK(accepts("durability", "replicated"));
  CHECK_FALSE(accepts("durability", "maybe"));
  CHECK(accepts("leader.replication.throttled.replicas", "0:1,1:2"));
  CHECK_FALSE(accepts("leader.replication.throttled.replicas", "0-1"));
  CHECK_FALSE(accepts("offsets.topic.replication.factor", "40000", true));

  const Status bad = check_option_value(*find_topic_option("retention.ms"), "soon");
  REQUIRE(bad.code() == ErrorCode::invalid_config);
  CHECK(bad.error().message.find("retention.ms") != std::string::npos);
  CHECK(bad.error().message.find("soon") != std::string::npos);
}

TEST_CASE("a sensitive value is not repeated in the message") {
  OptionDef secret{.name = "secret", .type = ConfigType::int32, .sensitive = true};
  const Status bad = check_option_value(secret, "hunter2");
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.error().message.find("hunter2") == std::string::npos);
}
