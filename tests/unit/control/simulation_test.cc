// A cluster's life at random: brokers come, go and lie about nothing; leaders propose, operators meddle,
// controllers change, disks lose what they may. After every step the rules of replication hold, a leader that
// was elected cleanly has every record that was acknowledged, and the records give the state again.
#include <map>
#include <random>
#include <set>

#include "control/placement.h"
#include "unit/control/cluster_fixture.h"

using namespace millrace;
using namespace millrace::control;

namespace {

using BrokerList = std::vector<BrokerId>;

bool among(const BrokerList& list, BrokerId b) {
  return std::find(list.begin(), list.end(), b) != list.end();
}

// What a partition's epochs were, to see that they only grow.
struct Epochs {
  LeaderEpoch leader;
  int32_t partition = 0;
  BrokerId who = kNoBroker;
};

class Watch {
 public:
  void check(const Cluster& c) {
    std::map<PartitionKey, Epochs> now;
    TopicRules rules({c.image(), BrokerId(100), settings_});
    c.image().topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
      int32_t number = 0;
      for (const meta::Partition& p : topic->partitions) {
        const PartitionKey key{topic->id, PartitionId(number++)};
        INFO(name << "-" << key.partition.v);
        check_partition(c.image(), p, rules.of(*topic));
        const auto before = last_.find(key);
        if (before != last_.end()) {
          REQUIRE(p.leader_epoch >= before->second.leader);
          REQUIRE(p.partition_epoch >= before->second.partition);
          if (p.leader != before->second.who) REQUIRE(p.leader_epoch > before->second.leader);
        }
        now[key] = {p.leader_epoch, p.partition_epoch, p.leader};
      }
    });
    last_ = std::move(now);
    check_index(c);
  }

 private:
  static void check_partition(const meta::Image& image, const meta::Partition& p,
                              const PartitionRules& rules) {
    const std::set<BrokerId> replicas(p.replicas.begin(), p.replicas.end());
    REQUIRE(replicas.size() == p.replicas.size());
    REQUIRE_FALSE(replicas.empty());
    REQUIRE(std::set<BrokerId>(p.isr.begin(), p.isr.end()).size() == p.isr.size());
    for (const BrokerId b : p.isr) {
      REQUIRE(replicas.contains(b));
      const meta::Broker* broker = image.broker(b);
      REQUIRE(broker != nullptr);
      REQUIRE_FALSE(broker->fenced);
      REQUIRE_FALSE(broker->in_controlled_shutdown);
    }
    for (const BrokerId b : p.elr) {
      REQUIRE(replicas.contains(b));
      REQUIRE_FALSE(among(p.isr, b));
    }
    for (const BrokerId b : p.last_known_elr) REQUIRE(replicas.contains(b));
    if (p.isr.size() >= std::min(rules.min_isr, p.replicas.size())) {
      REQUIRE(p.elr.empty());
      REQUIRE(p.last_known_elr.empty());
    }
    if (p.leader == kNoBroker) {
      REQUIRE(p.isr.empty());
    } else {
      REQUIRE(among(p.isr, p.leader));
    }
    if (p.leader_recovering) REQUIRE(p.isr.size() <= 1);
    for (const BrokerId b : p.adding_replicas) {
      REQUIRE(replicas.contains(b));
      REQUIRE_FALSE(among(p.removing_replicas, b));
    }
    for (const BrokerId b : p.removing_replicas) REQUIRE(replicas.contains(b));
    REQUIRE((p.directories.empty() || p.directories.size() == p.replicas.size()));
    // Nobody who could lead waits.
    if (p.leader == kNoBroker) {
      for (const BrokerId b : p.elr) {
        const meta::Broker* broker = image.broker(b);
        REQUIRE((broker == nullptr || broker->fenced || broker->in_controlled_shutdown ||
                 !directory_is_online(p, *broker)));
      }
    }
  }

  // The index followed every record; one made anew says the same.
  static void check_index(const Cluster& c) {
    const PartitionIndex& index = const_cast<Cluster&>(c).controller().index();
    const PartitionIndex fresh(c.image());
    REQUIRE(index.leaderless().size() == fresh.leaderless().size());
    REQUIRE(index.reassigning().size() == fresh.reassigning().size());
    REQUIRE(index.not_preferred().size() == fresh.not_preferred().size());
    REQUIRE(index.with_elr().size() == fresh.with_elr().size());
    for (int32_t b = 0; b < 10; ++b) {
      REQUIRE(index.replicas_on(BrokerId(b)).size() == fresh.replicas_on(BrokerId(b)).size());
      REQUIRE(index.led_by(BrokerId(b)) == fresh.led_by(BrokerId(b)));
      REQUIRE(index.preferring(BrokerId(b)) == fresh.preferring(BrokerId(b)));
      fresh.replicas_on(BrokerId(b)).for_each([&](const PartitionKey& key) {
        REQUIRE(index.replicas_on(BrokerId(b)).contains(key));
      });
    }
  }

  const meta::ConfigValues settings_;
  std::map<PartitionKey, Epochs> last_;
};

// What lies on the disks: each replica's records, and those that a producer was told are safe.
struct Data {
  std::map<BrokerId, std::vector<uint64_t>> logs;
  std::vector<uint64_t> acked;
  LeaderEpoch epoch{-1};
};

size_t common_prefix(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  const auto at = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(at.first - a.begin());
}

class Life {
 public:
  explicit Life(uint32_t seed) : random_(seed) {}

  // A leader that was elected cleanly has all that was acknowledged; one that was not begins anew.
  void check_data() {
    std::set<PartitionKey> there;
    cluster_.image().topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
      int32_t number = 0;
      for (const meta::Partition& p : topic->partitions) {
        INFO(name << "-" << number);
        const PartitionKey key{topic->id, PartitionId(number++)};
        there.insert(key);
        Data& d = data_[key];
        if (p.leader == kNoBroker || p.leader_epoch == d.epoch) continue;
        d.epoch = p.leader_epoch;
        const size_t kept = common_prefix(d.acked, d.logs[p.leader]);
        if (p.leader_recovering) {
          d.acked.resize(kept);
        }
        REQUIRE(kept == d.acked.size());
      }
    });
    std::erase_if(data_, [&](const auto& d) { return !there.contains(d.first); });
  }
  size_t acknowledged() const { return acknowledged_; }

  void step() {
    for (int i = 0; i < 4; ++i) {
      write();
      replicate();
    }
    acknowledge();
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
        return propose();
      case 3:
      case 4:
        return beat();
      case 5:
        return restart();
      case 6:
        return fall();
      case 7:
        return (void)cluster_.pass(static_cast<int64_t>(below(1500)));
      case 8:
        return move();
      case 9:
        return create();
      case 10:
        return meddle();
      case 11:
        return elect();
      case 12:
        return shut_down();
      case 13:
        if (below(4) == 0) cluster_.fail_over();
        if (below(2) == 0) cluster_.cut_next(below(5));
        return;
      case 14:
        return configure();
      default:
        return rare();
    }
  }

  Cluster& cluster() { return cluster_; }

 private:
  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }
  int32_t any_broker() { return static_cast<int32_t>(1 + below(6)); }
  std::string any_name() { return "topic-" + std::to_string(below(5)); }
  const meta::Broker* known(int32_t b) { return cluster_.image().broker(BrokerId(b)); }
  BrokerList some_brokers() {
    std::set<BrokerId> out;
    const size_t want = 1 + below(4);
    for (size_t i = 0; i < want; ++i) out.insert(BrokerId(any_broker()));
    BrokerList list(out.begin(), out.end());
    std::shuffle(list.begin(), list.end(), random_);
    return list;
  }
  std::optional<std::pair<std::string, int32_t>> any_partition() {
    const std::string name = any_name();
    const meta::Topic* t = cluster_.image().topic(name);
    if (t == nullptr) return std::nullopt;
    return std::pair(name, static_cast<int32_t>(below(t->partitions.size())));
  }

  void write() {
    const auto at = any_partition();
    if (!at) return;
    const meta::Partition& p = cluster_.partition(at->first, at->second);
    if (p.leader == kNoBroker) return;
    data_[cluster_.key(at->first, at->second)].logs[p.leader].push_back(++records_);
  }
  // A live follower cuts what its leader does not have and takes some of the rest.
  void replicate() {
    const auto at = any_partition();
    if (!at) return;
    const meta::Partition& p = cluster_.partition(at->first, at->second);
    if (p.leader == kNoBroker) return;
    Data& d = data_[cluster_.key(at->first, at->second)];
    const std::vector<uint64_t>& from = d.logs[p.leader];
    for (const BrokerId b : p.replicas) {
      if (b == p.leader || known(b.v) == nullptr || known(b.v)->fenced || below(3) == 0) continue;
      std::vector<uint64_t>& to = d.logs[b];
      const size_t same = common_prefix(from, to);
      const size_t until = below(3) == 0 ? same + below(from.size() - same + 1) : from.size();
      to.assign(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(until));
    }
  }
  // What the whole ISR has is committed, if it is large enough.
  void acknowledge() {
    TopicRules rules({cluster_.image(), BrokerId(100), settings_});
    cluster_.image().topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
      int32_t number = 0;
      for (const meta::Partition& p : topic->partitions) {
        Data& d = data_[{topic->id, PartitionId(number++)}];
        if (p.leader == kNoBroker || p.isr.size() < std::min(rules.of(*topic).min_isr, p.replicas.size()))
          continue;
        const std::vector<uint64_t>& from = d.logs[p.leader];
        size_t safe = from.size();
        for (const BrokerId b : p.isr) safe = std::min(safe, common_prefix(from, d.logs[b]));
        if (safe <= d.acked.size()) continue;
        acknowledged_ += safe - d.acked.size();
        d.acked.assign(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(safe));
      }
    });
  }
  void lose_end(std::vector<uint64_t>& log) { log.resize(below(log.size() + 1)); }

  void propose() {
    const auto at = any_partition();
    if (!at) return;
    const meta::Partition& p = cluster_.partition(at->first, at->second);
    if (p.leader == kNoBroker) return;
    Data& d = data_[cluster_.key(at->first, at->second)];
    std::vector<int32_t> isr{p.leader.v};
    for (const BrokerId b : p.replicas) {
      const bool caught_up = d.logs[b] == d.logs[p.leader];
      if (b == p.leader || known(b.v) == nullptr || below(4) == 0) continue;
      if (among(p.isr, b) || caught_up) isr.push_back(b.v);
    }
    AlterPartition a = cluster_.proposal(at->first, at->second, isr);
    if (below(8) == 0) --a.topics[0].partitions[0].partition_epoch;
    (void)cluster_.run(a);
  }
  void beat() {
    for (int32_t b = 1; b <= 6; ++b) {
      if (known(b) == nullptr || below(4) == 0) continue;
      BrokerHeartbeat h = cluster_.beat(b);
      if (below(6) == 0) h.applied = h.applied - 3;
      (void)cluster_.run(h);
    }
  }
  void restart() {
    const int32_t b = any_broker();
    if (known(b) != nullptr && below(2) == 0) cluster_.crash_if_others(b);
    RegisterBroker r = cluster_.registration(b);
    if (known(b) != nullptr && below(2) == 0) r.clean_epoch = known(b)->epoch;
    if (below(12) == 0) r.log_dirs = {Cluster::uuid(100'000 + below(1000))};
    if (below(3) == 0) {
      if (const auto at = any_partition()) r.damaged.push_back(cluster_.key(at->first, at->second));
    }
    if (below(3) == 0) {
      if (const auto at = any_partition()) r.unsynced.push_back(cluster_.key(at->first, at->second));
    }
    r.own = below(8) == 0;
    // What its disk has lost is as it says.
    const bool clean = known(b) != nullptr && r.clean_epoch == known(b)->epoch;
    std::vector<std::pair<PartitionKey, bool>> lost;  // all of it, or some
    TopicRules rules({cluster_.image(), BrokerId(100), settings_});
    cluster_.controller().index().replicas_on(BrokerId(b)).for_each([&](const PartitionKey& key) {
      const auto named = [&key](const std::vector<PartitionKey>& list) {
        return std::find(list.begin(), list.end(), key) != list.end();
      };
      const meta::Partition& p = *cluster_.image().partition(key.topic, key.partition);
      const auto at = static_cast<size_t>(std::find(p.replicas.begin(), p.replicas.end(), BrokerId(b)) -
                                          p.replicas.begin());
      // Where nobody has said where it lies, it lies in the only directory there was.
      const bool said = at < p.directories.size() && !p.directories[at].is_zero();
      const std::vector<Uuid> before = known(b) == nullptr ? std::vector<Uuid>{} : known(b)->log_dirs;
      if (said ? p.directories[at] != r.log_dirs[0] : before != r.log_dirs) {
        lost.emplace_back(key, true);
      } else if (named(r.damaged) ||
                 (!clean && (named(r.unsynced) || !rules.of(*cluster_.image().topic(key.topic)).fsync))) {
        lost.emplace_back(key, false);
      }
    });
    const bool done = cluster_.run(r).outcome.ok();
    if (known(b) != nullptr && known(b)->incarnation == r.incarnation) {
      for (const auto& [key, all] : lost) {
        std::vector<uint64_t>& log = data_[key].logs[BrokerId(b)];
        if (all) log.clear();
        lose_end(log);
      }
    }
    if (done && below(4) != 0 && known(b) != nullptr) (void)cluster_.heartbeat(b);
  }
  void fall() {
    const int32_t b = any_broker();
    if (known(b) != nullptr) cluster_.crash_if_others(b);
  }
  void move() {
    const auto at = any_partition();
    if (!at) return;
    Reassignment r{{at->first, PartitionId(at->second)}, std::nullopt};
    if (below(3) != 0) r.replicas = some_brokers();
    (void)cluster_.run(AlterReassignments{{r}, below(2) == 0});
  }
  void create() {
    NewTopic t;
    t.name = any_name();
    t.partitions = static_cast<int32_t>(1 + below(4));
    t.replication_factor = static_cast<int16_t>(1 + below(4));
    if (below(3) == 0) t.configs.push_back({"durability", "replicated"});
    if (below(4) == 0) t.configs.push_back({"unclean.leader.election.enable", "true"});
    (void)cluster_.run(CreateTopics{{t}, false});
  }
  void meddle() {
    if (below(3) == 0) {
      (void)cluster_.run(DeleteTopics{{{any_name(), {}}}});
    } else if (below(2) == 0) {
      (void)cluster_.run(CreatePartitions{{{any_name(), static_cast<int32_t>(1 + below(6)), {}}}, false});
    } else {
      (void)cluster_.run(Rebalance{below(2) == 0, below(6)});
    }
  }
  void elect() {
    const ElectionType type = below(3) == 0 ? ElectionType::unclean : ElectionType::preferred;
    (void)cluster_.run(ElectLeaders{type, std::nullopt});
  }
  void shut_down() {
    const int32_t b = any_broker();
    if (known(b) == nullptr) return;
    BrokerHeartbeat h = cluster_.beat(b);
    (below(5) == 0 ? h.want_fence : h.want_shutdown) = true;
    (void)cluster_.run(h);
    if (below(2) == 0) (void)cluster_.run(h);
  }
  void configure() {
    const meta::ConfigResource resource = below(4) == 0
                                              ? meta::ConfigResource{meta::ResourceType::broker, ""}
                                              : meta::ConfigResource{meta::ResourceType::topic, any_name()};
    const bool min = below(2) == 0;
    std::optional<std::string> value = min ? std::to_string(1 + below(3)) : below(2) == 0 ? "true" : "false";
    if (below(3) == 0) value.reset();
    (void)cluster_.set_config(resource, min ? "min.insync.replicas" : "unclean.leader.election.enable",
                              value);
  }
  void rare() {
    const int32_t b = any_broker();
    switch (below(4)) {
      case 0:
        if (below(3) == 0) (void)cluster_.run(UnregisterBroker{BrokerId(b)});
        return;
      case 1:
        return (void)cluster_.run(DecommissionBroker{BrokerId(b), below(2) == 0});
      case 2: {
        if (known(b) == nullptr || below(3) != 0) return;
        if (known(b)->log_dirs != std::vector<Uuid>{Cluster::directory(b)}) return;
        BrokerHeartbeat h = cluster_.beat(b);
        h.offline_log_dirs = {Cluster::directory(b)};
        (void)cluster_.run(h);
        if (known(b) != nullptr) (void)cluster_.run(h);  // it says so again if it was not heard
        return;
      }
      default:
        return cluster_.live(300'000, {1, 2, 3, 4, 5, 6});
    }
  }

  std::mt19937 random_;
  Cluster cluster_{4};
  std::map<PartitionKey, Data> data_;
  const meta::ConfigValues settings_;
  uint64_t records_ = 0;
  size_t acknowledged_ = 0;
};

}  // namespace

TEST_CASE("whatever happens, the rules of replication hold") {
  size_t led = 0;
  size_t seen = 0;
  size_t acknowledged = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    Life life(seed);
    Watch watch;
    for (int step = 0; step < 300; ++step) {
      INFO("step " << step);
      life.step();
      watch.check(life.cluster());
      life.check_data();
    }
    const meta::Image& image = life.cluster().image();
    acknowledged += life.acknowledged();
    seen += image.partition_count();
    led += image.partition_count() - life.cluster().controller().index().leaderless().size();

    meta::Image replayed;
    for (const meta::Record& r : life.cluster().log()) {
      const auto entry = meta::decode_entry(meta::encode_entry({&r, 1}));
      REQUIRE(entry.ok());
      REQUIRE(replayed.apply(*entry).ok());
    }
    REQUIRE(meta::same_state(replayed, image));

    // The snapshot, in pieces and cut anywhere, is the state.
    meta::SnapshotReader reader;
    REQUIRE(meta::write_snapshot(image, [&](ByteView piece) -> Status {
              const size_t cut = piece.size() / 3;
              TRY(reader.add(piece.first(cut)));
              return reader.add(piece.subspan(cut));
            }).ok());
    const Result<meta::Image> restored = reader.finish();
    REQUIRE(restored.ok());
    REQUIRE(meta::same_state(*restored, image));
    REQUIRE(restored->applied_index() == image.applied_index());
  }
  // The lives were not empty ones.
  CHECK(seen > 100);
  CHECK(acknowledged > 1000);
  CHECK(led > seen / 10);
}

TEST_CASE("losing one broker of many costs what it held") {
  Limits limits;
  Cluster c(0, {}, limits);
  for (int32_t b = 1; b <= 20; ++b) c.join(b);
  for (int32_t t = 0; t < 20; ++t) {
    NewTopic topic;
    topic.name = "t" + std::to_string(t);
    topic.partitions = 100;
    topic.replication_factor = 3;
    REQUIRE(c.run(CreateTopics{{topic}, false}).topics[0].outcome.ok());
  }
  const size_t held = c.controller().index().replicas_on(BrokerId(7)).size();
  CHECK(held >= 200);
  CHECK(held <= 400);
  c.crash(7);
  CHECK(c.last().size() == held + 1);  // each partition once, and the broker
  CHECK(c.controller().index().led_by(BrokerId(7)) == 0);
  CHECK(c.controller().index().leaderless().empty());
}
