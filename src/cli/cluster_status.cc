#include "cli/cluster_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "cli/cluster_state.h"
#include "cli/json.h"
#include "cli/table.h"
#include "meta/options.h"
#include "wire/messages/describe_configs.h"
#include "wire/messages/describe_log_dirs.h"

namespace millrace::cli {
namespace {

constexpr size_t kTopicsPerRequest = 1'000;
constexpr int8_t kTopicKind = 2;

/// min.insync.replicas of every topic.
Result<std::map<std::string, int64_t>> min_isrs(Session& session, const client::ClusterView& view) {
  std::map<std::string, int64_t> out;
  auto topic = view.topics().begin();
  while (topic != view.topics().end()) {
    wire::DescribeConfigsRequest request;
    for (; topic != view.topics().end() && request.resources.size() < kTopicsPerRequest; ++topic) {
      auto& r = request.resources.emplace_back();
      r.resource_type = kTopicKind;
      r.resource_name = topic->first;
      r.configuration_keys = std::vector<std::string>{"min.insync.replicas"};
    }
    TRY_ASSIGN(const auto answer,
               session.call<wire::DescribeConfigsRequest>(client::Target::any(), std::move(request)));
    for (const auto& r : answer.results) {
      for (const auto& c : r.configs) {
        const auto value = meta::parse_config_int(c.value.value_or(""));
        if (value.ok()) out[r.resource_name] = *value;
      }
    }
  }
  return out;
}

struct Health {
  int64_t partitions = 0;
  int64_t under_replicated = 0;
  int64_t under_min_isr = 0;
  int64_t at_min_isr = 0;
  int64_t offline = 0;     // no replica is there
  int64_t leaderless = 0;  // offline ones among them
  int64_t not_preferred = 0;
  std::vector<std::string> damaged;  // replicas that a living broker cannot serve
};

Health health_of(const ClusterState& state, const std::map<std::string, int64_t>& min_isr) {
  Health h;
  for (const auto& [name, topic] : state.view.topics()) {
    const auto wanted = min_isr.find(name);
    for (const client::PartitionInfo& p : topic.partitions) {
      ++h.partitions;
      const auto replicas = static_cast<int64_t>(p.replicas.size());
      const auto in_sync = static_cast<int64_t>(p.isr.size());
      if (in_sync < replicas) ++h.under_replicated;
      if (wanted != min_isr.end()) {
        const int64_t least = std::min(wanted->second, replicas);
        if (in_sync < least) ++h.under_min_isr;
        if (in_sync == least && in_sync < replicas) ++h.at_min_isr;
      }
      if (p.leader < 0) ++h.leaderless;
      if (p.offline.size() == p.replicas.size() && p.leader < 0) ++h.offline;
      if (p.leader >= 0 && !p.replicas.empty() && p.leader != p.replicas.front()) ++h.not_preferred;
      for (const int32_t b : p.offline) {
        const auto broker = state.brokers.find(b);
        if (broker != state.brokers.end() && broker->second.alive)
          h.damaged.push_back(fmt::format("{}-{} on {}", name, p.id, b));
      }
    }
  }
  return h;
}

struct Room {
  bool known = false;
  int64_t total = 0;
  int64_t free = 0;
  int64_t failed_directories = 0;
};

Room room_of(Session& session, int32_t broker) {
  Room out;
  wire::DescribeLogDirsRequest request;
  request.topics.emplace();  // of no topic: the directories alone
  const auto answer =
      session.call<wire::DescribeLogDirsRequest>(client::Target::broker(broker), std::move(request));
  if (!answer.ok()) return out;
  out.known = true;
  for (const auto& d : answer->results) {
    if (d.error_code != 0) {
      ++out.failed_directories;
      continue;
    }
    if (d.total_bytes > 0) out.total += d.total_bytes;
    if (d.usable_bytes > 0) out.free += d.usable_bytes;
  }
  return out;
}

struct NodeLine {
  bool voter = false;
  const BrokerState* broker = nullptr;
};

std::string roles_of(const NodeLine& n) {
  if (n.broker == nullptr) return "controller";
  return n.voter ? "broker,controller" : "broker";
}

Table quorum_table(const QuorumState& quorum, int64_t wall_ms) {
  Table table({{"node", "NODE"},
               {"part", "PART"},
               {"end", "END"},
               {"lag", "LAG"},
               {"heard_ms_ago", "HEARD MS"},
               {"directory", "DIRECTORY"}});
  const auto add = [&](const QuorumReplica& r, const char* part) {
    const bool leads = r.node == quorum.leader && std::string_view(part) == "voter";
    table.add({int64_t{r.node}, std::string(leads ? "leader" : part), r.end,
               std::max<int64_t>(quorum.end() - r.end, 0),
               r.heard_ms < 0 ? Cell() : Cell(std::max<int64_t>(wall_ms - r.heard_ms, 0)),
               r.directory.is_zero() ? Cell() : Cell(r.directory.to_string())});
  };
  for (const QuorumReplica& r : quorum.voters) add(r, "voter");
  for (const QuorumReplica& r : quorum.observers) add(r, "observer");
  return table;
}

}  // namespace

ExitCode run(const ClusterStatus&, const Context& context) {
  auto opened = Session::open(context.connection);
  if (!opened.ok()) return fail(opened.error());
  Session& session = **opened;
  const int64_t deadline = session.mono_ms() + context.connection.timeout_ms;
  const auto state = patiently(session, deadline, [&] { return read_cluster(session); });
  if (!state.ok()) return fail(state.error());
  const auto quorum = patiently(session, deadline, [&] { return read_quorum(session); });
  if (!quorum.ok()) return fail(quorum.error());
  const auto min_isr = min_isrs(session, state->view);
  if (!min_isr.ok()) return fail(min_isr.error());
  const Health health = health_of(*state, *min_isr);

  std::map<int32_t, int64_t> leads;
  for (const auto& [name, topic] : state->view.topics()) {
    for (const client::PartitionInfo& p : topic.partitions) ++leads[p.leader];
  }
  std::map<int32_t, BrokerLoad> loads = loads_of(state->layout());
  std::map<int32_t, NodeLine> nodes;
  for (const auto& [id, b] : state->brokers) nodes[id].broker = &b;
  for (const QuorumReplica& r : quorum->voters) nodes[r.node].voter = true;
  Table table({{"node", "NODE"},
               {"roles", "ROLES"},
               {"state", "STATE"},
               {"host", "HOST"},
               {"port", "PORT"},
               {"rack", "RACK"},
               {"leaders", "LEADERS"},
               {"preferred", "PREFERRED"},
               {"replicas", "REPLICAS"},
               {"disk_used_bytes", "DISK USED"},
               {"disk_free_bytes", "DISK FREE"},
               {"failed_directories", "FAILED DIRS"}});
  for (const auto& [id, n] : nodes) {
    if (n.broker == nullptr) {
      const QuorumReplica* r = quorum->voter(id);
      const bool heard = r->node == quorum->leader || session.wall_ms() - r->heard_ms < 5'000;
      table.add({int64_t{id},
                 roles_of(n),
                 std::string(heard ? "alive" : "silent"),
                 {},
                 {},
                 {},
                 {},
                 {},
                 {},
                 {},
                 {},
                 {}});
      continue;
    }
    const BrokerState& b = *n.broker;
    const Room room = b.alive ? room_of(session, id) : Room();
    table.add({int64_t{id}, roles_of(n), std::string(b.alive ? "alive" : "fenced"), b.endpoint.host,
               int64_t{b.endpoint.port}, b.rack ? Cell(*b.rack) : Cell(), leads[id], loads[id].preferred,
               loads[id].replicas, room.known ? Cell(room.total - room.free) : Cell(),
               room.known ? Cell(room.free) : Cell(), room.known ? Cell(room.failed_directories) : Cell()});
  }
  const Table voters = quorum_table(*quorum, session.wall_ms());

  if (context.output == Output::json) {
    Json json = Json::object();
    json["cluster_id"] = state->view.cluster_id();
    json["controller_id"] = quorum->leader;
    json["nodes"] = json_of(table);
    Json q = Json::object();
    q["leader_id"] = quorum->leader;
    q["epoch"] = quorum->epoch;
    q["committed"] = quorum->committed;
    q["replicas"] = json_of(voters);
    json["quorum"] = std::move(q);
    Json p = Json::object();
    p["topics"] = state->view.topics().size();
    p["partitions"] = health.partitions;
    p["under_replicated"] = health.under_replicated;
    p["under_min_isr"] = health.under_min_isr;
    p["at_min_isr"] = health.at_min_isr;
    p["leaderless"] = health.leaderless;
    p["offline"] = health.offline;
    p["led_by_others_than_preferred"] = health.not_preferred;
    p["being_moved"] = state->moves.size();
    p["damaged_replicas"] = health.damaged;
    json["partitions"] = std::move(p);
    const Status printed = print(render_json(json));
    return printed.ok() ? ExitCode::ok : fail(printed.error());
  }
  std::string text = fmt::format(
      "cluster {}  controller {} (epoch {})\n\n{}\nmetadata quorum\n{}\n"
      "{} topics  {} partitions: {} under-replicated, {} under min ISR, {} at min ISR, {} without leader, {} "
      "offline, {} not led by the preferred replica, {} being moved\n",
      printable(state->view.cluster_id()), quorum->leader, quorum->epoch, table.text(), voters.text(),
      state->view.topics().size(), health.partitions, health.under_replicated, health.under_min_isr,
      health.at_min_isr, health.leaderless, health.offline, health.not_preferred, state->moves.size());
  if (!health.damaged.empty())
    text += fmt::format("damaged, or in a failed directory: {}\n", fmt::join(health.damaged, ", "));
  const Status printed = print(text);
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

}  // namespace millrace::cli
