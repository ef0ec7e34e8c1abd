#include "unit/control/controller_fixture.h"

using namespace millrace;
using namespace millrace::control;
using meta::ConfigResource;
using meta::ResourceType;

namespace {

const ConfigResource kTopicT{ResourceType::topic, "t"};
const ConfigResource kBroker1{ResourceType::broker, "1"};
const ConfigResource kAllBrokers{ResourceType::broker, ""};

Outcome alter_one(Fixture& f, const ConfigResource& resource, std::vector<Alteration> alterations,
                  bool validate_only = false) {
  const auto reply = f.run(IncrementalAlterConfigs{{{resource, std::move(alterations)}}, validate_only});
  CHECK(reply.resources.at(0).resource == resource);
  return reply.resources.at(0).outcome;
}

Outcome replace_all(Fixture& f, const ConfigResource& resource, std::vector<NamedValue> values) {
  return f.run(ReplaceConfigs{{{resource, std::move(values)}}, false}).resources.at(0).outcome;
}

std::string override_of(const Fixture& f, const ConfigResource& resource, const char* key) {
  const meta::ConfigValues* values = f.image().config(resource);
  return values == nullptr || !values->contains(key) ? "(none)" : values->at(key);
}

}  // namespace

TEST_CASE("overrides are set, changed and removed") {
  Fixture f(1);
  REQUIRE(f.create("t").outcome.ok());
  CHECK(alter_one(f, kTopicT, {{"retention.ms", AlterOp::set, "5"}}).ok());
  CHECK(override_of(f, kTopicT, "retention.ms") == "5");
  CHECK(alter_one(f, kTopicT, {{"retention.ms", AlterOp::set, "5"}}).ok());
  CHECK(f.last_records() == 0);  // it is so already
  CHECK(alter_one(f, kTopicT, {{"retention.ms", AlterOp::set, "6"}}, true).ok());
  CHECK(override_of(f, kTopicT, "retention.ms") == "5");
  CHECK(alter_one(f, kTopicT, {{"retention.ms", AlterOp::remove, {}}, {"segment.ms", AlterOp::remove, {}}})
            .ok());
  CHECK(f.last_records() == 1);
  CHECK(override_of(f, kTopicT, "retention.ms") == "(none)");

  CHECK(alter_one(f, kAllBrokers, {{"log.retention.ms", AlterOp::set, "7"}}).ok());
  CHECK(alter_one(f, kBroker1, {{"log.retention.ms", AlterOp::set, "8"}}).ok());
  CHECK(override_of(f, kAllBrokers, "log.retention.ms") == "7");
  CHECK(override_of(f, kBroker1, "log.retention.ms") == "8");
}

TEST_CASE("lists are appended to and subtracted from, starting from what is in force") {
  Fixture f(1);
  REQUIRE(f.create("t").outcome.ok());
  CHECK(alter_one(f, kTopicT, {{"cleanup.policy", AlterOp::append, "compact"}}).ok());
  CHECK(override_of(f, kTopicT, "cleanup.policy") == "delete,compact");
  CHECK(alter_one(f, kTopicT, {{"cleanup.policy", AlterOp::append, "compact"}}).ok());
  CHECK(override_of(f, kTopicT, "cleanup.policy") == "delete,compact");
  CHECK(alter_one(f, kTopicT, {{"cleanup.policy", AlterOp::subtract, "delete"}}).ok());
  CHECK(override_of(f, kTopicT, "cleanup.policy") == "compact");
  CHECK(alter_one(f, kTopicT, {{"cleanup.policy", AlterOp::subtract, "delete"}}).ok());
  CHECK(f.last_records() == 0);
  CHECK(alter_one(f, kTopicT, {{"cleanup.policy", AlterOp::append, "shred"}}).error ==
        ErrorCode::invalid_config);
  CHECK(alter_one(f, kTopicT, {{"retention.ms", AlterOp::append, "5"}}).error == ErrorCode::invalid_config);
  CHECK(alter_one(f, kTopicT, {{"retention.ms", AlterOp::subtract, "5"}}).error == ErrorCode::invalid_config);
}

TEST_CASE("of one resource all is changed or nothing") {
  Fixture f(1);
  REQUIRE(f.create("t").outcome.ok());
  REQUIRE(f.create("u").outcome.ok());
  const auto reply = f.run(IncrementalAlterConfigs{
      {{kTopicT, {{"retention.ms", AlterOp::set, "5"}, {"segment.ms", AlterOp::set, "soon"}}},
       {{ResourceType::topic, "u"}, {{"retention.ms", AlterOp::set, "5"}}}},
      false});
  CHECK(reply.resources[0].outcome.error == ErrorCode::invalid_config);
  CHECK(reply.resources[1].outcome.ok());
  CHECK(override_of(f, kTopicT, "retention.ms") == "(none)");
  CHECK(override_of(f, {ResourceType::topic, "u"}, "retention.ms") == "5");
}

TEST_CASE("IncrementalAlterConfigs refuses, with the code that is true") {
  Limits limits;
  limits.resources_per_request = 2;
  limits.config_value_bytes = 30;
  Fixture f(1, {}, limits);
  REQUIRE(f.create("t").outcome.ok());
  const auto code = [&f](const ConfigResource& r, std::vector<Alteration> a) {
    const Outcome o = alter_one(f, r, std::move(a));
    CHECK_FALSE(o.message.empty());
    CHECK(f.last_records() == 0);
    return o.error;
  };
  const Alteration fine{"retention.ms", AlterOp::set, "5"};
  CHECK(code({ResourceType::topic, "nope"}, {fine}) == ErrorCode::unknown_topic_or_partition);
  CHECK(code({ResourceType::broker, "x"}, {fine}) == ErrorCode::invalid_request);
  CHECK(code({ResourceType::broker, "01"}, {fine}) == ErrorCode::invalid_request);
  CHECK(code({ResourceType::broker, "-1"}, {fine}) == ErrorCode::invalid_request);
  CHECK(code({ResourceType::broker, "9"}, {fine}) == ErrorCode::broker_id_not_registered);
  CHECK(code({ResourceType::group, "g"}, {fine}) == ErrorCode::invalid_request);
  CHECK(code({ResourceType::unknown, "t"}, {fine}) == ErrorCode::invalid_request);
  CHECK(code(kTopicT, {fine, fine}) == ErrorCode::invalid_request);
  CHECK(code(kTopicT, {{"retention.ms", AlterOp::set, {}}}) == ErrorCode::invalid_request);
  CHECK(code(kTopicT, {{"retention.ms", static_cast<AlterOp>(9), "5"}}) == ErrorCode::invalid_request);
  CHECK(code(kTopicT, {{"no.such", AlterOp::set, "5"}}) == ErrorCode::invalid_config);
  CHECK(code(kTopicT, {{"no.such", AlterOp::remove, {}}}) == ErrorCode::invalid_config);
  CHECK(code(kTopicT, {{"retention.ms", AlterOp::set, "soon"}}) == ErrorCode::invalid_config);
  CHECK(code(kTopicT, {{"retention.ms", AlterOp::set, std::string(31, '0')}}) == ErrorCode::invalid_config);
  CHECK(code(kBroker1, {{"node.id", AlterOp::set, "5"}}) == ErrorCode::invalid_config);       // read-only
  CHECK(code(kBroker1, {{"retention.ms", AlterOp::set, "5"}}) == ErrorCode::invalid_config);  // a topic key
  CHECK(code(kBroker1, {{"num.io.threads", AlterOp::set, "5"}}) ==
        ErrorCode::invalid_config);  // not used here
  CHECK(code(kAllBrokers, {{"message.max.bytes", AlterOp::set, "-1"}}) == ErrorCode::invalid_config);

  const AlteredResource one{kTopicT, {fine}};
  for (const ResourceOutcome& r : f.run(IncrementalAlterConfigs{{one, one}, false}).resources) {
    CHECK(r.outcome.error == ErrorCode::invalid_request);
  }
  for (const ResourceOutcome& r : f.run(IncrementalAlterConfigs{{one, one, one}, false}).resources) {
    CHECK(r.outcome.error == ErrorCode::policy_violation);
  }
}

TEST_CASE("the older AlterConfigs replaces everything") {
  Fixture f(1);
  REQUIRE(f.create("t").outcome.ok());
  REQUIRE(replace_all(f, kTopicT, {{"retention.ms", "5"}, {"segment.ms", "6"}}).ok());
  REQUIRE(replace_all(f, kTopicT, {{"segment.ms", "7"}, {"retention.bytes", "8"}}).ok());
  CHECK(*f.image().config(kTopicT) == meta::ConfigValues{{"segment.ms", "7"}, {"retention.bytes", "8"}});
  CHECK(replace_all(f, kTopicT, {{"segment.ms", "9"}, {"retention.bytes", "x"}}).error ==
        ErrorCode::invalid_config);
  CHECK(replace_all(f, kTopicT, {{"segment.ms", "9"}, {"segment.ms", "9"}}).error ==
        ErrorCode::invalid_request);
  CHECK(replace_all(f, kTopicT, {{"segment.ms", std::nullopt}}).error == ErrorCode::invalid_request);
  CHECK(replace_all(f, kTopicT, {{"no.such", "1"}}).error == ErrorCode::invalid_config);
  CHECK(replace_all(f, {ResourceType::topic, "nope"}, {}).error == ErrorCode::unknown_topic_or_partition);
  CHECK(f.image().config(kTopicT)->at("segment.ms") == "7");
  REQUIRE(replace_all(f, kTopicT, {}).ok());
  CHECK(f.image().config(kTopicT) == nullptr);
}
