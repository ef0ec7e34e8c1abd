#include "cli/cluster_operation.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/contains.h"
#include "cli/json.h"
#include "cli/table.h"
#include "wire/messages/add_raft_voter.h"
#include "wire/messages/remove_raft_voter.h"
#include "wire/messages/unregister_broker.h"

namespace millrace::cli {
namespace {

constexpr int64_t kStepMs = 200;

/// One command at work.
struct Work {
  Session& session;
  const Context& context;
  int64_t began_ms;
  int64_t deadline_ms;

  Work(Session& s, const Context& c)
      : session(s), context(c), began_ms(s.mono_ms()), deadline_ms(began_ms + c.wait_ms) {}

  bool over() const { return session.mono_ms() >= deadline_ms; }
  double seconds() const { return static_cast<double>(session.mono_ms() - began_ms) / 1000.0; }
  Result<ClusterState> state() const {
    return patiently(session, deadline_ms, [this] { return read_cluster(session); });
  }
  Result<QuorumState> quorum() const {
    return patiently(session, deadline_ms, [this] { return read_quorum(session); });
  }
};

ExitCode stopped_by(const Error& error) {
  if (error.code == ErrorCode::cancelled)
    complain("interrupted: what has been begun goes on; repeat the command to go on with the rest");
  return fail(error);
}

Table table_of(const std::vector<PartitionMove>& plan) {
  Table table(
      {{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"from", "FROM"}, {"to", "TO"}, {"copies", "COPIES"}});
  for (const PartitionMove& m : plan) {
    table.add({m.topic, int64_t{m.partition}, fmt::format("{}", fmt::join(m.from, ",")),
               fmt::format("{}", fmt::join(m.to, ",")), static_cast<int64_t>(m.copies())});
  }
  return table;
}

int64_t copies_in(const std::vector<PartitionMove>& plan) {
  int64_t out = 0;
  for (const PartitionMove& m : plan) out += static_cast<int64_t>(m.copies());
  return out;
}

ExitCode say(const Context& context, const Json& json, const std::string& text) {
  const Status printed = print(context.output == Output::json ? render_json(json) : text);
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

Error no_such_broker(int32_t node) {
  return {ErrorCode::not_found, fmt::format("no broker {} is registered", node)};
}

/// Whether `node` has or gets any replica.
bool is_empty(const ClusterState& state, int32_t node) {
  for (const auto& [name, topic] : state.view.topics()) {
    for (const client::PartitionInfo& p : topic.partitions) {
      if (contains(p.replicas, node)) return false;
    }
  }
  return true;
}

struct Drained {
  ExitCode code = ExitCode::ok;
  size_t moved = 0;
};

/// Until nothing is on `node`: what is created there meanwhile is moved too.
Drained empty_broker(Work& work, int32_t node, int32_t at_once) {
  Drained out;
  while (true) {
    const auto state = work.state();
    if (!state.ok()) {
      out.code = stopped_by(state.error());
      return out;
    }
    const auto plan = plan_drain(state->layout(), node);
    if (!plan.ok()) {
      out.code = fail(plan.error());
      return out;
    }
    if (plan->empty()) {
      if (is_empty(*state, node)) return out;
      // It is on its way out of the rest already.
      if (work.over()) {
        complain(fmt::format("broker {} is not empty yet: moves that were begun before go on", node));
        out.code = ExitCode::unfinished;
        return out;
      }
      progress(fmt::format("waiting for moves that were begun before, {:.0f} s", work.seconds()));
      if (const Status paused = work.session.pause(kStepMs); !paused.ok()) {
        out.code = stopped_by(paused.error());
        return out;
      }
      continue;
    }
    const auto report = carry_out(work.session, *plan, {static_cast<size_t>(at_once), work.deadline_ms});
    if (!report.ok()) {
      out.code = stopped_by(report.error());
      return out;
    }
    out.moved += report->done;
    if (!report->whole()) {
      out.code = complain_about(*report, work.context.wait_ms);
      return out;
    }
  }
}

ExitCode show_plan(const Context& context, const std::vector<PartitionMove>& plan, const Layout& layout) {
  const std::map<int32_t, BrokerLoad> before = loads_of(layout);
  const std::map<int32_t, BrokerLoad> then = loads_of(after(layout, plan));
  Table brokers({{"broker_id", "BROKER"},
                 {"replicas_before", "REPLICAS"},
                 {"replicas_after", "AFTER"},
                 {"preferred_before", "PREFERRED"},
                 {"preferred_after", "AFTER"}});
  for (const auto& [id, load] : before) {
    brokers.add({int64_t{id}, load.replicas, then.at(id).replicas, load.preferred, then.at(id).preferred});
  }
  const Table moves = table_of(plan);
  Json json = Json::object();
  json["copies"] = copies_in(plan);
  json["moves"] = json_of(moves);
  json["brokers"] = json_of(brokers);
  std::string text;
  if (plan.empty()) {
    text = "nothing needs to be moved\n";
  } else {
    text = moves.text() + "\n";
  }
  text += brokers.text();
  if (!plan.empty())
    text += fmt::format("\n{} partitions to change, {} replicas to copy\n", plan.size(), copies_in(plan));
  return say(context, json, text);
}

template <class Request>
Status ask_once(Work& work, Request request) {
  const auto ask = [&]() -> Result<bool> {
    TRY_ASSIGN(const auto answer, work.session.call<Request>(client::Target::any(), Request(request)));
    if (answer.error_code != 0)
      return Error(error_from_wire(answer.error_code), answer.error_message.value_or(""));
    return true;
  };
  const auto done = patiently(work.session, work.deadline_ms, ask);
  return done.ok() ? Status() : Status(done.error());
}

/// Takes `voter` out of the quorum. That it is out already is fine: an answer may have been lost.
Status remove_voter(Work& work, const QuorumReplica& voter) {
  wire::RemoveRaftVoterRequest request;
  request.cluster_id.reset();
  request.voter_id = voter.node;
  request.voter_directory_id = voter.directory;
  const Status done = ask_once(work, std::move(request));
  return done.code() == ErrorCode::voter_not_found ? Status() : done;
}

Status add_voter(Work& work, const QuorumReplica& observer) {
  wire::AddRaftVoterRequest request;
  request.cluster_id.reset();
  request.timeout_ms = static_cast<int32_t>(work.session.timeout_ms());
  request.voter_id = observer.node;
  request.voter_directory_id = observer.directory;
  const Status done = ask_once(work, std::move(request));
  return done.code() == ErrorCode::duplicate_voter ? Status() : done;
}

}  // namespace

ExitCode run(const ClusterDrain& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  Work work(**session, context);
  const auto state = work.state();
  if (!state.ok()) return stopped_by(state.error());
  if (!state->brokers.contains(options.node)) return fail(no_such_broker(options.node));
  if (options.dry_run) {
    const Layout layout = state->layout();
    const auto plan = plan_drain(layout, options.node);
    return plan.ok() ? show_plan(context, *plan, layout) : fail(plan.error());
  }
  const Drained drained = empty_broker(work, options.node, options.at_once);
  if (drained.code != ExitCode::ok) return drained.code;
  Json json = Json::object();
  json["node"] = options.node;
  json["partitions_moved"] = drained.moved;
  json["seconds"] = work.seconds();
  return say(context, json,
             fmt::format("broker {} is empty: {} partitions moved in {:.1f} s\n", options.node, drained.moved,
                         work.seconds()));
}

// The vote goes while the node still runs: the quorum never counts on one that is gone.
ExitCode run(const ClusterDecommission& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  Work work(**session, context);
  const auto state = work.state();
  if (!state.ok()) return stopped_by(state.error());
  auto quorum = work.quorum();
  if (!quorum.ok()) return stopped_by(quorum.error());
  const bool registered = state->brokers.contains(options.node);
  const QuorumReplica* voter = quorum->voter(options.node);
  if (!registered && voter == nullptr) return fail(no_such_broker(options.node));
  if (voter != nullptr && quorum->voters.size() == 1) {
    return fail(Error(ErrorCode::invalid_request,
                      fmt::format("node {} is the only voter of the metadata quorum", options.node)));
  }
  Drained drained;
  if (registered) {
    drained = empty_broker(work, options.node, options.at_once);
    if (drained.code != ExitCode::ok) return drained.code;
  }
  if (voter != nullptr) {
    if (const Status done = remove_voter(work, *voter); !done.ok())
      return done.code() == ErrorCode::cancelled ? stopped_by(done.error())
                                                 : fail_about("taking away its vote", done.error());
  }
  bool told = false;
  while (registered) {
    const auto brokers =
        patiently(work.session, work.deadline_ms, [&] { return read_brokers(work.session); });
    if (!brokers.ok()) return stopped_by(brokers.error());
    const auto at = brokers->find(options.node);
    if (at == brokers->end() || !at->second.alive) break;
    if (work.over()) {
      complain(fmt::format("node {} still runs: stop it and repeat the command", options.node));
      return ExitCode::unfinished;
    }
    if (!std::exchange(told, true)) {
      complain(fmt::format("node {} is empty{}: stop it now; waiting until it has gone", options.node,
                           voter != nullptr ? " and votes no more" : ""));
    }
    if (const Status paused = work.session.pause(kStepMs); !paused.ok()) return stopped_by(paused.error());
  }
  // A topic may have been placed on it before it stopped.
  if (registered) {
    const Drained rest = empty_broker(work, options.node, options.at_once);
    if (rest.code != ExitCode::ok) return rest.code;
    drained.moved += rest.moved;
    wire::UnregisterBrokerRequest request;
    request.broker_id = options.node;
    const Status done = ask_once(work, std::move(request));
    if (!done.ok() && done.code() != ErrorCode::broker_id_not_registered)
      return done.code() == ErrorCode::cancelled ? stopped_by(done.error())
                                                 : fail_about("forgetting the broker", done.error());
  }
  Json json = Json::object();
  json["node"] = options.node;
  json["partitions_moved"] = drained.moved;
  json["voted"] = voter != nullptr;
  json["seconds"] = work.seconds();
  return say(
      context, json,
      fmt::format("node {} is no part of the cluster any more: {} partitions moved{}, {:.1f} s\n",
                  options.node, drained.moved, voter != nullptr ? ", its vote removed" : "", work.seconds()));
}

ExitCode run(const ClusterRebalance& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  Work work(**session, context);
  const auto state = work.state();
  if (!state.ok()) return stopped_by(state.error());
  const Layout layout = state->layout();
  const std::vector<PartitionMove> plan = plan_rebalance(layout);
  const ExitCode shown = show_plan(context, plan, layout);
  if (shown != ExitCode::ok || options.dry_run) return shown;
  // What an earlier run has begun is waited for as well.
  std::vector<PartitionMove> all = plan;
  for (const auto& [partition, move] : state->moves) {
    const bool planned = std::any_of(plan.begin(), plan.end(), [&p = partition](const PartitionMove& m) {
      return m.topic == p.topic && m.partition == p.partition;
    });
    if (!planned) all.push_back({partition.topic, partition.partition, move.replicas, move.target()});
  }
  if (!all.empty()) {
    const auto report =
        carry_out(work.session, all, {static_cast<size_t>(options.at_once), work.deadline_ms});
    if (!report.ok()) return stopped_by(report.error());
    if (!report->whole()) return complain_about(*report, context.wait_ms);
  }
  const auto elections = elect_leaders(work.session, std::nullopt, false, work.deadline_ms);
  if (!elections.ok()) return stopped_by(elections.error());
  ExitCode code = ExitCode::ok;
  for (const Election& e : *elections) {
    // A preferred leader may be down; what is not alive is not waited for.
    if (e.error == ErrorCode::none || e.error == ErrorCode::election_not_needed) continue;
    const ExitCode bad = fail_about(client::to_string(e.partition), Error(e.error, e.message));
    if (code == ExitCode::ok) code = bad;
  }
  if (context.output == Output::text && code == ExitCode::ok)
    complain(fmt::format("done in {:.1f} s", work.seconds()));
  return code;
}

// Two steps, each committed before the next: out with the directory that is lost, in with the new one once it
// has caught up. In one step a vote that the lost directory gave could be given again.
ExitCode run(const ClusterReplace& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  Work work(**session, context);
  bool removed = false;
  while (true) {
    auto quorum = work.quorum();
    if (!quorum.ok()) return stopped_by(quorum.error());
    const QuorumReplica* voter = quorum->voter(options.node);
    const QuorumReplica* newcomer = quorum->observer(options.node);
    if (voter != nullptr && newcomer == nullptr) {
      if (removed || voter->node == quorum->leader) break;
      // Whoever votes with the directory that the quorum knows shows up as a voter alone. One that has come
      // back empty tells its directory within a second or so.
      if (work.seconds() > 10) break;
    } else if (voter != nullptr) {
      if (const Status done = remove_voter(work, *voter); !done.ok())
        return fail_about("taking away the vote of the lost directory", done.error());
      removed = true;
    } else if (newcomer != nullptr) {
      const Status done = add_voter(work, *newcomer);
      if (done.ok()) {
        removed = true;
        continue;
      }
      if (done.code() != ErrorCode::invalid_request || work.over())
        return fail_about("giving the new directory its vote", done.error());
      // Too far behind still.
    } else if (!removed && work.seconds() > 10) {
      return fail(Error(
          ErrorCode::not_found,
          fmt::format("node {} neither votes nor follows the metadata log: start it first", options.node)));
    }
    if (work.over()) {
      complain(fmt::format("node {} does not vote yet: repeat the command", options.node));
      return ExitCode::unfinished;
    }
    progress(fmt::format("waiting for node {} to follow the metadata log, {:.0f} s", options.node,
                         work.seconds()));
    if (const Status paused = work.session.pause(kStepMs); !paused.ok()) return stopped_by(paused.error());
  }
  progress("");
  Json json = Json::object();
  json["node"] = options.node;
  json["replaced"] = removed;
  json["seconds"] = work.seconds();
  return say(
      context, json,
      removed ? fmt::format("node {} votes with its new directory, {:.1f} s\n", options.node, work.seconds())
              : fmt::format("node {} votes with the directory it has: nothing to replace\n", options.node));
}

}  // namespace millrace::cli
