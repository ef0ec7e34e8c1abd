#include "sim/cluster_sim.h"

#include <fmt/format.h>

#include <algorithm>

#include "check/timeline.h"
#include "client/offsets.h"
#include "sim/invariants.h"
#include "sim/log_files.h"
#include "sim/nemesis.h"
#include "sim/node.h"
#include "sim/node_lines.h"
#include "sim/plants.h"
#include "sim/replica_files.h"
#include "sim/sim_admin.h"
#include "sim/sim_member.h"
#include "sim/sim_operator.h"
#include "sim/sim_producer.h"
#include "sim/sim_reader.h"
#include "sim/state_watch.h"

namespace millrace::sim {

namespace {

constexpr int64_t kLookUs = 50'000;
constexpr int64_t kFoundingUs = 60'000'000;
constexpr int64_t kLivenessUs = 120'000'000;
constexpr int64_t kCalmUs = 3'000'000;
constexpr int64_t kFinalReadUs = 60'000'000;

class ClusterRun {
 public:
  explicit ClusterRun(const ClusterSimOptions& options)
      : options_(options), world_(options.seed, draw_knobs(options.seed)) {
    if (options.narrate) {
      world_.narrate = [this](const std::string& line) {
        const int64_t us = world_.scheduler.now_us();
        options_.narrate(fmt::format("{:4}.{:06} {}", us / 1'000'000, us % 1'000'000, line));
      };
    }
  }
  ~ClusterRun() {
    for (ClientProcess* c : all_clients_) c->kill();
    for (const auto& node : nodes_) node->kill();
    // Timers of dead processes hold streams, which must not outlive the network.
    world_.scheduler.clear();
  }

  ClusterSimOutcome run() {
    world_.say(describe(world_.knobs));
    make_nodes();
    make_clients();
    invariants_ = std::make_unique<Invariants>(world_, nodes_);
    watch_ = std::make_unique<StateWatch>(world_, nodes_, members_);
    nemesis_ = std::make_unique<Nemesis>(world_, nodes_, killable_);
    if (found() && safety() && liveness() && final_reads()) compare_replicas();
    return outcome();
  }

 private:
  bool failed() const { return !world_.violation.empty(); }

  void make_nodes() {
    const Knobs& k = world_.knobs;
    world_.network.usual.latency_us_max = k.latency_us_max;
    NodePlan plan;
    plan.data_loops = k.data_loops;
    plan.directories = k.directories;
    plan.recovery_threads = k.recovery_threads;
    plan.seed = world_.seed;
    plan.settings = broker_settings(k);
    plan.election_timeout_ms = k.election_timeout_ms;
    plan.metadata_append_bytes = k.metadata_append_bytes;
    for (int32_t i = 1; i <= k.nodes; ++i) {
      const BrokerId id{i};
      if (i <= k.voters) plan.voters.push_back({id, {SimNode::host_name(id), SimNode::kInternalPort}});
      world_.bootstrap.push_back({SimNode::host_name(id), SimNode::kClientPort});
    }
    plan.segment_bytes = k.segment_bytes;
    plan.metadata_log.snapshot_every_bytes = static_cast<size_t>(k.snapshot_every_bytes);
    plan.metadata_log.trailing_entries = k.trailing_entries;
    plan.metadata_log.snapshot_chunk_bytes = static_cast<size_t>(k.snapshot_chunk_bytes);
    for (int32_t i = 1; i <= k.nodes; ++i) {
      plan.id = BrokerId(i);
      lines_.push_back(std::make_unique<NodeLines>(world_, SimNode::host_name(plan.id),
                                                   options_.narrate && options_.verbose));
      nodes_.push_back(std::make_unique<SimNode>(world_.scheduler, world_.network, plan, lines_.back().get(),
                                                 TraceLevel::info));
    }
  }

  template <class Client, class... Arguments>
  Client& add_client(bool killable, Arguments&&... arguments) {
    auto made = std::make_unique<Client>(world_, std::forward<Arguments>(arguments)...);
    Client& client = *made;
    owned_.push_back(std::move(made));
    all_clients_.push_back(&client);
    if (killable) killable_.push_back(&client);
    return client;
  }

  void make_clients() {
    const Knobs& k = world_.knobs;
    Dice dice(world_.seed, "clients");
    admin_ = &add_client<SimAdmin>(false, "admin");
    operator_ = &add_client<SimOperator>(false, "operator");
    for (size_t i = 0; i < k.producers; ++i) {
      const bool idempotent = i == 0 || dice.percent(k.idempotent_percent);
      const int16_t acks = idempotent || dice.percent(70) ? int16_t{-1} : static_cast<int16_t>(dice.below(2));
      producers_.push_back(&add_client<SimProducer>(true, fmt::format("p{}", i), idempotent, acks));
    }
    for (size_t i = 0; i < k.readers; ++i) add_client<SimReader>(true, fmt::format("r{}", i));
    for (size_t i = 0; i < k.group_members; ++i)
      members_.push_back(&add_client<SimMember>(true, fmt::format("m{}", i), std::string("group")));
  }

  // --- running ---

  /// Until `done` says so, or it is `until_us`; false: it is, or something broke.
  template <class Done>
  bool run_until(int64_t until_us, Done done) {
    Scheduler& s = world_.scheduler;
    int64_t look_at_us = s.now_us();
    while (s.now_us() < until_us) {
      if (s.now_us() >= look_at_us) {
        look_at_us = s.now_us() + kLookUs;
        invariants_->look();
        watch_->look();
        if (failed()) return false;
        if (done()) return true;
      }
      if (s.run_one(std::min(until_us, look_at_us))) ++events_;
      look_at_quorum();
      for (const auto& node : nodes_) {
        const std::string why = node->reap();
        if (!why.empty()) nemesis_->on_end(*node, why);
      }
      if (failed()) return false;
    }
    return false;
  }

  // What an event changed of the quorum: a commit is judged at its moment, by the logs of that moment.
  void look_at_quorum() {
    int64_t committed = 0;
    for (const auto& node : nodes_) {
      const raft::Raft* core = node->runs() ? node->broker().ledger().runner().core() : nullptr;
      if (core == nullptr) continue;
      committed = std::max(committed, core->commit_index().v);
      if (!core->leads() || core->term() <= newest_reign_) continue;
      newest_reign_ = core->term();
      nemesis_->on_leader(*node);
    }
    if (committed <= committed_) return;
    committed_ = committed;
    invariants_->look_at_commit();
  }

  void pass(int64_t us) {
    (void)run_until(world_.scheduler.now_us() + us, [] { return false; });
  }

  // --- the phases ---

  bool found() {
    for (const auto& node : nodes_) node->start();
    admin_->start();
    if (!run_until(world_.scheduler.now_us() + kFoundingUs, [this] { return admin_->prepared(); })) {
      if (!failed()) world_.fail("liveness: the cluster was not founded in time");
      return false;
    }
    return true;
  }

  bool safety() {
    world_.say("faults begin");
    world_.producing = world_.consuming = true;
    for (ClientProcess* c : killable_) c->start();
    operator_->start();
    nemesis_->begin();
    pass(world_.knobs.safety_ms * 1'000);
    return !failed();
  }

  /// What keeps the cluster from being whole; empty: nothing.
  std::string ailment() {
    for (const auto& node : nodes_) {
      if (node->state() != SimNode::State::serving)
        return fmt::format("node {} does not serve", node->id().v);
    }
    for (const auto& node : nodes_) {
      if (const std::vector<std::string> rotten = rotten_segments(node->disk()); !rotten.empty())
        return fmt::format("node {} still has the damaged {}", node->id().v, rotten.front());
      const meta::Image& image = *node->view().image;
      for (const auto& other : nodes_) {
        const meta::Broker* b = image.broker(other->id());
        if (b == nullptr || b->fenced)
          return fmt::format("node {} knows node {} as fenced", node->id().v, other->id().v);
      }
      if (const raft::Raft* core = node->broker().ledger().runner().core();
          core == nullptr || core->membership().voters.size() != static_cast<size_t>(world_.knobs.voters) ||
          (node->id().v <= world_.knobs.voters && !core->may_vote())) {
        return fmt::format("node {} does not vote, or knows of one that does not", node->id().v);
      }
      std::string what;
      image.topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
        for (size_t i = 0; i < topic->partitions.size() && what.empty(); ++i) {
          const meta::Partition& p = topic->partitions[i];
          if (p.leader == kNoBroker) what = fmt::format("{}-{} has no leader", name, i);
          if (p.isr.size() < p.replicas.size() || !p.adding_replicas.empty() ||
              !p.removing_replicas.empty()) {
            what = fmt::format("{}-{} on node {}: {} of {} replicas in sync, {} coming, {} going", name, i,
                               node->id().v, p.isr.size(), p.replicas.size(), p.adding_replicas.size(),
                               p.removing_replicas.size());
          }
        }
      });
      if (!what.empty()) return what;
    }
    return {};
  }

  static std::string quorum_of(SimNode& node) {
    const raft::Raft* core = node.runs() ? node.broker().ledger().runner().core() : nullptr;
    if (core == nullptr) return fmt::format("node {}: in no quorum", node.id().v);
    std::string voters;
    for (const raft::NodeId v : core->membership().voters) voters += fmt::format(" {}", v.v);
    return fmt::format(
        "node {}: {} term {}, vote {}, leader {}, log {}..{} of term {}, committed {}, voters{}{}",
        node.id().v, core->leads() ? "leads" : "follows", core->term().v, core->vote().v, core->leader().v,
        core->log().base_index().v, core->log().last_index().v, core->log().last_term().v,
        core->commit_index().v, voters, core->may_vote() ? "" : ", may not vote");
  }

  bool clients_idle() const {
    return std::all_of(producers_.begin(), producers_.end(),
                       [](const SimProducer* p) { return p->idle(); }) &&
           admin_->idle();
  }

  bool liveness() {
    admin_->rest();
    operator_->rest();
    nemesis_->heal();
    const int64_t until = world_.scheduler.now_us() + kLivenessUs;
    std::string ill;
    const bool whole = run_until(until, [&] {
      ill = ailment();
      return ill.empty();
    });
    if (failed()) return false;
    if (!whole) {
      for (const auto& node : nodes_) world_.say(quorum_of(*node));
      world_.fail("liveness: " + ill);
      return false;
    }
    world_.say("the cluster is whole");
    pass(kCalmUs);
    world_.producing = false;
    if (!run_until(until, [this] { return clients_idle(); }) && !failed())
      world_.fail("liveness: a client's call does not end");
    if (!run_until(until, [this] { return is_quiet(); }) && !failed())
      world_.fail("liveness: the replicas do not come to the same end: " + unequal_);
    return !failed();
  }

  /// Everything written is committed, on every replica; notes where the partitions end.
  bool is_quiet() {
    unequal_.clear();
    ends_.clear();
    for (const auto& [topic, partitions] : world_.topics) {
      for (int32_t i = 0; i < partitions; ++i) {
        int64_t end = -1;
        for (const auto& node : nodes_) {
          const broker::View& view = node->view();
          const meta::Topic* t = view.image->topic(topic);
          if (t == nullptr || static_cast<size_t>(i) >= t->partitions.size()) return false;
          if (!contains(t->partitions[static_cast<size_t>(i)].replicas, node->id())) continue;
          const broker::PartitionRef* p = view.partition(t->id, i);
          if (p == nullptr) {
            unequal_ = fmt::format("{}-{} is not there on node {}", topic, i, node->id().v);
            return false;
          }
          const partition::Offsets o = (*p)->usage().offsets;
          if (end < 0) end = o.log_end.v;
          if (o.log_end.v != end || o.high_watermark.v != end) {
            unequal_ = fmt::format("{}-{} on node {}: end {}, high watermark {}; elsewhere {}", topic, i,
                                   node->id().v, o.log_end.v, o.high_watermark.v, end);
            return false;
          }
        }
        ends_[{topic, i}] = std::max<int64_t>(end, 0);
      }
    }
    return true;
  }

  bool final_reads() {
    world_.consuming = false;
    SimReader& last = add_client<SimReader>(false, "final");
    last.read_up_to(ends_);
    last.start();
    if (!members_.empty()) read_commits(last);
    if (!run_until(world_.scheduler.now_us() + kFinalReadUs,
                   [&] { return last.idle() && (members_.empty() || commits_read_); })) {
      if (!failed())
        world_.fail(last.idle() ? "liveness: the group's offsets cannot be read"
                                : "liveness: not everything can be read:" + last.standing());
      return false;
    }
    return true;
  }

  void read_commits(SimReader& by) {
    by.with_client([this](client::Client& client) {
      check::Operation o;
      o.kind = check::Kind::fetch_commit;
      o.client = world_.recorder.client("final-commits");
      o.group = world_.recorder.group("group");
      const Recorder::Id operation = world_.recorder.invoke(o);
      std::set<client::TopicPartition> all;
      for (const auto& [place, end] : ends_) all.insert({place.first, place.second});
      client::fetch_committed(
          client, "group", all, 30'000,
          [this, operation](Result<std::map<client::TopicPartition, client::CommittedOffset>> r) {
            if (!r.ok()) return;
            std::vector<check::Item> items;
            for (const auto& [where, committed] : *r) {
              if (committed.error != ErrorCode::none) return;
              check::Item item;
              item.partition = world_.recorder.partition(where.topic, where.partition);
              item.offset = committed.offset;
              items.push_back(item);
            }
            world_.recorder.finish(operation, check::Outcome::ok, std::move(items));
            commits_read_ = true;
          });
    });
  }

  void compare_replicas() {
    final_ = true;
    for (const auto& [place, end] : ends_) {
      std::string first_holder;
      std::optional<Bytes> first;
      for (const auto& node : nodes_) {
        const meta::Topic* t = node->view().image->topic(place.first);
        if (!contains(t->partitions[static_cast<size_t>(place.second)].replicas, node->id())) continue;
        const broker::PartitionRef* p = node->view().partition(t->id, place.second);
        ASSERT(p != nullptr);
        const std::string directory = (*p)->directory() + "/" + (*p)->name().text();
        Bytes found = replica_bytes(node->disk(), directory, end);
        if (!first) {
          first = std::move(found);
          first_holder = node->host().name();
        } else if (found != *first) {
          return world_.fail(fmt::format("replicas: {}-{} differs between {} ({} bytes) and {} ({} bytes)",
                                         place.first, place.second, first_holder, first->size(),
                                         node->host().name(), found.size()));
        }
      }
    }
  }

  ClusterSimOutcome outcome() {
    ClusterSimOutcome out;
    out.knobs = describe(world_.knobs);
    out.hash = world_.scheduler.hash();
    out.faults = nemesis_->faults();
    out.acknowledged = world_.recorder.acknowledged_writes();
    out.operations = world_.recorder.operations();
    out.events = events_;
    out.simulated_ms = world_.scheduler.now_us() / 1'000;
    const check::History history = world_.recorder.take(final_);
    const check::Verdict verdict = check::check(history);
    if (!verdict.ok()) {
      const check::Violation& v = verdict.violations.front();
      out.found_by = check::rule_name(v.rule);
      out.failure = fmt::format("{}: {}", out.found_by, v.what);
      out.timeline = check::timeline(history, v);
      if (failed()) out.failure += "; also " + world_.violation;
    } else if (failed()) {
      out.failure = world_.violation;
      out.found_by = world_.violation.substr(0, world_.violation.find(':'));
    }
    count_network();
    out.counts = std::move(world_.counts);
    out.met = world_.met;
    return out;
  }

  void count_network() {
    const NetworkCounters& n = world_.network.counters;
    world_.count("net: connections", n.connections);
    world_.count("net: refused", n.refused);
    world_.count("net: connect timed out", n.connects_timed_out);
    world_.count("net: resets", n.resets);
    world_.count("net: cut inside what was sent", n.cuts_inside);
    world_.count("net: waited for a partition to heal", n.held);
    world_.count("net: window full", n.windows_full);
    world_.count("net: half-open found", n.half_open_found);
    for (const auto& node : nodes_) {
      const DiskCounters& d = node->disk().counters;
      if (d.pages_dropped + d.pages_between > 0) world_.meet(rare("power-took-pages"));
      if (d.names_rolled_back > 0) world_.meet(rare("power-took-names"));
      world_.count("disk: power cuts", d.power_cuts);
      world_.count("disk: pages dropped", d.pages_dropped);
      world_.count("disk: pages torn", d.pages_torn);
      world_.count("disk: pages garbage", d.pages_garbage);
      world_.count("disk: names rolled back", d.names_rolled_back);
      world_.count("disk: short writes", d.short_writes);
      world_.count("disk: write errors", d.write_errors);
      world_.count("disk: sync errors", d.sync_errors);
      world_.count("disk: slow jobs", d.slow_syncs);
    }
  }

  const ClusterSimOptions& options_;
  World world_;
  std::vector<std::unique_ptr<NodeLines>> lines_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::vector<std::unique_ptr<ClientProcess>> owned_;
  std::vector<ClientProcess*> all_clients_;
  std::vector<ClientProcess*> killable_;
  SimAdmin* admin_ = nullptr;
  SimOperator* operator_ = nullptr;
  std::vector<SimProducer*> producers_;
  std::vector<SimMember*> members_;
  std::unique_ptr<Invariants> invariants_;
  std::unique_ptr<StateWatch> watch_;
  std::unique_ptr<Nemesis> nemesis_;
  std::map<SimReader::Place, int64_t> ends_;
  std::string unequal_;
  bool commits_read_ = false;
  bool final_ = false;
  uint64_t events_ = 0;
  int64_t committed_ = 0;  // of the metadata log, by anybody
  Term newest_reign_{0};   // the last term in which somebody was seen to lead
};

}  // namespace

ClusterSimOutcome run_cluster_sim(const ClusterSimOptions& options) {
  const Planting planting(options.plant);
  ClusterRun run(options);
  return run.run();
}

}  // namespace millrace::sim
