// Random requests against a plain model, and the log they leave against the image they built.
#include <map>
#include <random>
#include <set>

#include "unit/control/controller_fixture.h"

using namespace millrace;
using namespace millrace::control;

namespace {

struct ModelTopic {
  size_t partitions = 0;
  meta::ConfigValues configs;
};

}  // namespace

TEST_CASE("the image is what the requests add up to, and reloading the log gives it again") {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&random](size_t n) { return static_cast<size_t>(random() % n); };
    Fixture f(3);
    std::map<std::string, ModelTopic> model;
    int64_t blocks = 0;
    for (int step = 0; step < 120; ++step) {
      const std::string name = "topic-" + std::to_string(below(12));
      const bool exists = model.contains(name);
      switch (below(6)) {
        case 0:
        case 1: {
          NewTopic t;
          t.name = name;
          t.partitions = static_cast<int32_t>(1 + below(5));
          t.replication_factor = static_cast<int16_t>(1 + below(4));  // 4 is too many
          if (below(2) == 0) t.configs = {{"retention.ms", std::to_string(below(100))}};
          const bool fine = !exists && t.replication_factor <= 3;
          CHECK(f.create(t).outcome.ok() == fine);
          if (!fine) break;
          model[name].partitions = static_cast<size_t>(t.partitions);
          for (const NamedValue& c : t.configs) model[name].configs[c.name] = *c.value;
          break;
        }
        case 2: {
          CHECK(f.run(DeleteTopics{{{name, {}}}}).topics[0].outcome.ok() == exists);
          model.erase(name);
          break;
        }
        case 3: {
          const size_t want = 1 + below(9);
          const bool fine = exists && want > model[name].partitions;
          if (!exists) model.erase(name);
          CHECK(f.run(CreatePartitions{{{name, static_cast<int32_t>(want), {}}}, false})
                    .topics[0]
                    .outcome.ok() == fine);
          if (fine) model[name].partitions = want;
          break;
        }
        case 4: {
          const char* keys[] = {"retention.ms", "segment.ms", "max.message.bytes"};
          const char* key = keys[below(3)];
          const std::string value = std::to_string(1 + below(50));
          const bool remove = below(3) == 0;
          const Alteration a{key, remove ? AlterOp::remove : AlterOp::set,
                             remove ? std::nullopt : std::optional(value)};
          const auto reply =
              f.run(IncrementalAlterConfigs{{{{meta::ResourceType::topic, name}, {a}}}, below(5) == 0});
          CHECK(reply.resources[0].outcome.ok() == exists);
          if (f.last_records() == 0) break;
          if (remove) {
            model[name].configs.erase(key);
          } else {
            model[name].configs[key] = value;
          }
          break;
        }
        default: {
          const BrokerId b(static_cast<int32_t>(1 + below(3)));
          const auto reply = f.run(AllocateProducerIds{b, f.image().broker(b)->epoch});
          CHECK(reply.first == ProducerId(Controller::kProducerIdBlock * blocks++));
        }
      }
      REQUIRE(f.image().topics().size() == model.size());
    }
    size_t partitions = 0;
    for (const auto& [name, t] : model) {
      INFO(name);
      const meta::Topic* topic = f.image().topic(name);
      REQUIRE(topic != nullptr);
      CHECK(topic->partitions.size() == t.partitions);
      const meta::ConfigValues* configs = f.image().topic_config(name);
      CHECK((configs == nullptr ? meta::ConfigValues{} : *configs) == t.configs);
      partitions += t.partitions;
      for (const meta::Partition& p : topic->partitions) {
        const std::set<BrokerId> distinct(p.replicas.begin(), p.replicas.end());
        CHECK(distinct.size() == p.replicas.size());
        CHECK(distinct.contains(p.leader));
      }
    }
    CHECK(f.image().partition_count() == partitions);

    meta::Image reloaded;
    size_t at = 0;
    while (at < f.log().size()) {
      const size_t n = std::min(1 + below(20), f.log().size() - at);
      const auto entry = meta::decode_entry(meta::encode_entry(std::span(f.log()).subspan(at, n)));
      REQUIRE(entry.ok());
      REQUIRE(reloaded.apply(*entry).ok());
      at += n;
    }
    CHECK(meta::same_state(reloaded, f.image()));
    const auto snapshot = meta::decode_snapshot(meta::encode_snapshot(reloaded));
    REQUIRE(snapshot.ok());
    CHECK(meta::same_state(*snapshot, f.image()));
  }
}
