#include "cli/partition_commands.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/contains.h"
#include "cli/arguments.h"
#include "cli/json.h"
#include "cli/replication_throttle.h"
#include "cli/table.h"

namespace millrace::cli {
namespace {

using client::TopicPartition;

std::string comma_list(const std::vector<int32_t>& numbers) {
  return fmt::format("{}", fmt::join(numbers, ","));
}

Cell list_cell(const std::vector<int32_t>& numbers) {
  return numbers.empty() ? Cell() : Cell(comma_list(numbers));
}

/// The partitions that people named; a topic alone means all it has.
Result<std::vector<TopicPartition>> partitions_named(Session& session,
                                                     const std::vector<std::string>& texts) {
  std::vector<TopicPartition> out;
  for (const std::string& text : texts) {
    TRY_ASSIGN(const auto named, parse_topic_partitions(text));
    std::vector<int32_t> numbers = named.second;
    if (numbers.empty()) {
      TRY_ASSIGN(const client::TopicInfo topic, session.topic(named.first));
      for (const client::PartitionInfo& p : topic.partitions) numbers.push_back(p.id);
    }
    for (const int32_t n : numbers) out.push_back({named.first, n});
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

ExitCode show(const Table& table, const Context& context, ExitCode code) {
  const Status printed = print(table.render(context.output));
  return code == ExitCode::ok && !printed.ok() ? fail(printed.error()) : code;
}

ExitCode cancel(Session& session, const PartitionReassign& options, const Context& context) {
  const int64_t deadline = session.mono_ms() + context.wait_ms;
  const auto moves = patiently(session, deadline, [&] { return read_moves(session); });
  if (!moves.ok()) return fail(moves.error());
  std::vector<TopicPartition> chosen;
  if (options.moves.empty()) {
    for (const auto& [partition, move] : *moves) chosen.push_back(partition);
  } else {
    auto named = partitions_named(session, options.moves);
    if (!named.ok()) return fail(named.error());
    // Of a topic that is named as a whole, what moves.
    for (const TopicPartition& p : *named) {
      const bool alone = !contains(options.moves, p.topic);
      if (alone || moves->contains(p)) chosen.push_back(p);
    }
  }
  ExitCode code = ExitCode::ok;
  Table table({{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"cancelled", "CANCELLED"}});
  if (!chosen.empty()) {
    const auto said = cancel_moves(session, chosen);
    if (!said.ok()) return fail(said.error());
    for (const auto& [partition, error] : *said) {
      if (error.code != ErrorCode::none) {
        const ExitCode bad = fail_about(client::to_string(partition), error);
        if (code == ExitCode::ok) code = bad;
      }
      table.add({partition.topic, int64_t{partition.partition}, error.code == ErrorCode::none});
    }
  }
  if (const Status lifted = lift_throttle(session, chosen); !lifted.ok()) {
    const ExitCode bad = fail_about("the throttle could not be lifted", lifted.error());
    if (code == ExitCode::ok) code = bad;
  }
  if (table.size() == 0 && context.output == Output::text) {
    complain("no partition is being moved");
    return code;
  }
  return show(table, context, code);
}

}  // namespace

ExitCode run(const PartitionReassign& options, const Context& context) {
  std::map<TopicPartition, std::vector<int32_t>> targets;
  if (!options.cancel) {
    if (options.moves.empty())
      return fail(Error(ErrorCode::invalid_argument, "say TOPIC:PARTITION=BROKER,BROKER,... or --cancel"));
    for (const std::string& text : options.moves) {
      const auto parsed = parse_reassignment(text);
      if (!parsed.ok()) return fail(parsed.error());
      for (const int32_t p : parsed->partitions) {
        if (!targets.emplace(TopicPartition{parsed->topic, p}, parsed->replicas).second) {
          return fail(
              Error(ErrorCode::invalid_argument, fmt::format("{}-{} is named twice", parsed->topic, p)));
        }
      }
    }
  }
  auto opened = Session::open(context.connection);
  if (!opened.ok()) return fail(opened.error());
  Session& session = **opened;
  if (options.cancel) return cancel(session, options, context);

  const int64_t deadline = session.mono_ms() + context.wait_ms;
  const auto state = patiently(session, deadline, [&] { return read_cluster(session); });
  if (!state.ok()) return fail(state.error());
  std::vector<PartitionMove> moves;
  for (const auto& [partition, to] : targets) {
    const client::TopicInfo* topic = state->view.topic(partition.topic);
    const client::PartitionInfo* p = topic == nullptr ? nullptr : topic->partition(partition.partition);
    if (p == nullptr)
      return fail_about(client::to_string(partition), Error(ErrorCode::unknown_topic_or_partition));
    for (const int32_t b : to) {
      if (!state->brokers.contains(b)) {
        return fail_about(client::to_string(partition), Error(ErrorCode::invalid_replica_assignment,
                                                              fmt::format("there is no broker {}", b)));
      }
    }
    moves.push_back({partition.topic, partition.partition, p->replicas, to});
  }
  if (options.throttle > 0) {
    if (const Status s = set_throttle(session, *state, moves, options.throttle); !s.ok())
      return fail_about("the throttle could not be set", s.error());
  }
  const auto report = carry_out(session, moves, {static_cast<size_t>(options.at_once), deadline});
  if (!report.ok()) {
    if (report.code() == ErrorCode::cancelled)
      complain(
          "interrupted: what has been begun goes on (\"millrace partition reassign --cancel\" takes it "
          "back)");
    return fail(report.error());
  }
  ExitCode code = complain_about(*report, context.wait_ms);
  if (options.throttle > 0 && report->unfinished == 0) {
    std::vector<TopicPartition> moved;
    for (const PartitionMove& m : moves) moved.push_back({m.topic, m.partition});
    if (const Status s = lift_throttle(session, moved); !s.ok()) {
      const ExitCode bad = fail_about("the throttle could not be lifted", s.error());
      if (code == ExitCode::ok) code = bad;
    }
  } else if (options.throttle > 0) {
    complain("the throttle stays until the command is repeated to its end, or with --cancel");
  }
  Table table({{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"from", "FROM"}, {"to", "TO"}});
  for (const PartitionMove& m : moves)
    table.add({m.topic, int64_t{m.partition}, comma_list(m.from), comma_list(m.to)});
  return show(table, context, code);
}

ExitCode run(const PartitionElect& options, const Context& context) {
  auto opened = Session::open(context.connection);
  if (!opened.ok()) return fail(opened.error());
  Session& session = **opened;
  std::optional<std::vector<TopicPartition>> which;
  if (!options.partitions.empty()) {
    auto named = partitions_named(session, options.partitions);
    if (!named.ok()) return fail(named.error());
    which = std::move(*named);
  }
  const int64_t deadline = session.mono_ms() + context.wait_ms;
  auto elections = elect_leaders(session, which, options.unclean, deadline);
  if (!elections.ok()) return fail(elections.error());
  const auto state = patiently(session, deadline, [&] { return session.metadata(std::nullopt); });
  if (!state.ok()) return fail(state.error());
  std::sort(elections->begin(), elections->end(),
            [](const Election& a, const Election& b) { return a.partition < b.partition; });
  ExitCode code = ExitCode::ok;
  Table table({{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"leader", "LEADER"}, {"elected", "ELECTED"}});
  for (const Election& e : *elections) {
    const bool not_needed = e.error == ErrorCode::election_not_needed;
    if (e.error != ErrorCode::none && !not_needed) {
      const ExitCode bad = fail_about(client::to_string(e.partition), Error(e.error, e.message));
      if (code == ExitCode::ok) code = bad;
    }
    const client::TopicInfo* topic = state->topic(e.partition.topic);
    const client::PartitionInfo* p = topic == nullptr ? nullptr : topic->partition(e.partition.partition);
    table.add({e.partition.topic, int64_t{e.partition.partition},
               p == nullptr || p->leader < 0 ? Cell() : Cell(int64_t{p->leader}),
               e.error == ErrorCode::none});
  }
  if (table.size() == 0 && context.output == Output::text) {
    complain("no partition needs an election");
    return code;
  }
  return show(table, context, code);
}

ExitCode run(const PartitionList& options, const Context& context) {
  auto opened = Session::open(context.connection);
  if (!opened.ok()) return fail(opened.error());
  Session& session = **opened;
  const auto state =
      patiently(session, session.mono_ms() + context.wait_ms, [&] { return read_cluster(session); });
  if (!state.ok()) return fail(state.error());
  std::vector<Column> columns{
      {"topic", "TOPIC"}, {"partition", "PARTITION"}, {"leader", "LEADER"}, {"replicas", "REPLICAS"},
      {"isr", "ISR"},     {"offline", "OFFLINE"},     {"adding", "ADDING"}, {"removing", "REMOVING"}};
  Table table(std::move(columns));
  Json rows = Json::array();
  for (const auto& [name, topic] : state->view.topics()) {
    for (const client::PartitionInfo& p : topic.partitions) {
      const auto at = state->moves.find({name, p.id});
      const bool moving = at != state->moves.end();
      const bool wanted = (!options.reassigning && !options.under_replicated && !options.leaderless) ||
                          (options.reassigning && moving) || (options.leaderless && p.leader < 0) ||
                          (options.under_replicated && p.isr.size() < p.replicas.size());
      if (!wanted) continue;
      const std::vector<int32_t> adding = moving ? at->second.adding : std::vector<int32_t>();
      const std::vector<int32_t> removing = moving ? at->second.removing : std::vector<int32_t>();
      table.add({name, int64_t{p.id}, p.leader < 0 ? Cell() : Cell(int64_t{p.leader}), comma_list(p.replicas),
                 list_cell(p.isr), list_cell(p.offline), list_cell(adding), list_cell(removing)});
      Json row = Json::object();
      row["topic"] = name;
      row["partition"] = p.id;
      row["leader"] = p.leader < 0 ? Json() : Json(p.leader);
      row["replicas"] = p.replicas;
      row["isr"] = p.isr;
      row["offline"] = p.offline;
      row["adding"] = adding;
      row["removing"] = removing;
      rows.push_back(std::move(row));
    }
  }
  if (table.size() == 0 && context.output == Output::text) {
    complain(options.reassigning ? "no partition is being moved" : "there is no such partition");
    return ExitCode::ok;
  }
  const Status printed = print(context.output == Output::json ? render_json(rows) : table.text());
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

}  // namespace millrace::cli
