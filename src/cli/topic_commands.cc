#include "cli/topic_commands.h"

#include <fmt/format.h>

#include "cli/arguments.h"
#include "cli/config_commands.h"
#include "cli/json.h"
#include "cli/table.h"
#include "cli/topic_durability.h"
#include "client/offsets.h"
#include "wire/messages/create_partitions.h"
#include "wire/messages/create_topics.h"
#include "wire/messages/delete_records.h"
#include "wire/messages/delete_topics.h"

namespace millrace::cli {
namespace {

/// The first failure decides the exit code; the others are told.
struct Outcome {
  ExitCode code = ExitCode::ok;
  void add(ExitCode c) {
    if (code == ExitCode::ok) code = c;
  }
};

ExitCode finish(ExitCode code, const Status& printed) {
  if (code == ExitCode::ok && !printed.ok()) return fail(printed.error());
  return code;
}

std::string joined(const std::vector<int32_t>& numbers) {
  std::string out;
  for (const int32_t n : numbers) out += (out.empty() ? "" : ",") + std::to_string(n);
  return out;
}

int64_t replication_factor(const client::TopicInfo& topic) {
  return topic.partitions.empty() ? 0 : static_cast<int64_t>(topic.partitions[0].replicas.size());
}

}  // namespace

ExitCode run(const TopicCreate& options, const Context& context) {
  wire::CreateTopicsRequest request;
  request.validate_only = options.dry_run;
  request.timeout_ms = static_cast<int32_t>(context.connection.timeout_ms);
  for (const std::string& name : options.names) {
    auto& t = request.topics.emplace_back();
    t.name = name;
    t.num_partitions = options.partitions;
    t.replication_factor = options.replication_factor;
    for (const std::string& text : options.configs) {
      const auto pair = parse_pair(text);
      if (!pair.ok()) return fail(pair.error());
      auto& c = t.configs.emplace_back();
      c.name = pair->first;
      c.value = pair->second;
    }
  }
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto error_of = [](const wire::CreateTopicsResponse& r) {
    return r.topics.empty() ? ErrorCode::none : error_from_wire(r.topics[0].error_code);
  };
  const auto response =
      (*session)->call<wire::CreateTopicsRequest>(client::Target::controller(), std::move(request), error_of);
  if (!response.ok()) return fail(response.error());
  Outcome outcome;
  Table table({{"topic", "TOPIC"},
               {"topic_id", "ID"},
               {"partitions", "PARTITIONS"},
               {"replication_factor", "REPLICATION"},
               {"created", "CREATED"}});
  for (const auto& t : response->topics) {
    const ErrorCode code = error_from_wire(t.error_code);
    if (code == ErrorCode::topic_already_exists && options.if_not_exists) {
      table.add({t.name, {}, {}, {}, false});
      continue;
    }
    if (code != ErrorCode::none) {
      outcome.add(fail_about("topic " + t.name, Error(code, t.error_message.value_or(""))));
      continue;
    }
    table.add({t.name, t.topic_id.is_zero() ? Cell() : Cell(t.topic_id.to_string()),
               t.num_partitions < 0 ? Cell() : Cell(int64_t{t.num_partitions}),
               t.replication_factor < 0 ? Cell() : Cell(int64_t{t.replication_factor}), !options.dry_run});
  }
  if (table.size() == 0) return outcome.code;
  return finish(outcome.code, print(table.render(context.output)));
}

ExitCode run(const TopicList& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto view = (*session)->metadata(std::nullopt);
  if (!view.ok()) return fail(view.error());
  Table table({{"topic", "TOPIC"},
               {"partitions", "PARTITIONS"},
               {"replication_factor", "REPLICATION"},
               {"internal", "INTERNAL"},
               {"topic_id", "ID"}});
  for (const auto& [name, topic] : view->topics()) {
    if (topic.internal && !options.internal) continue;
    table.add({name, static_cast<int64_t>(topic.partitions.size()), replication_factor(topic), topic.internal,
               topic.id.is_zero() ? Cell() : Cell(topic.id.to_string())});
  }
  if (table.size() == 0 && context.output == Output::text) {
    complain("there are no topics yet; \"millrace topic create\" makes one");
    return ExitCode::ok;
  }
  return finish(ExitCode::ok, print(table.render(context.output)));
}

ExitCode run(const TopicDescribe& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  Outcome outcome;
  Json all = Json::array();
  std::string text;
  for (const std::string& name : options.names) {
    const auto topic = (*session)->topic(name);
    if (!topic.ok()) {
      outcome.add(fail(topic.error()));
      continue;
    }
    // Offsets of partitions that have a leader; the others are shown without.
    std::map<client::TopicPartition, int64_t> with_leader;
    for (const auto& p : topic->partitions) {
      if (p.leader >= 0) with_leader[{name, p.id}] = 0;
    }
    std::map<client::TopicPartition, client::OffsetAt> ends[2];
    for (const size_t i : {size_t{0}, size_t{1}}) {
      auto asked = with_leader;
      for (auto& [where, timestamp] : asked) timestamp = i == 0 ? client::kEarliest : client::kLatest;
      auto found = (*session)->wait<std::map<client::TopicPartition, client::OffsetAt>>([&](auto done) {
        client::list_offsets((*session)->client(), asked, false, context.connection.timeout_ms,
                             std::move(done));
      });
      if (!found.ok()) return fail(found.error());
      ends[i] = std::move(found).value();
    }
    const TopicDurability durability = topic_durability(**session, *topic);
    std::vector<Column> columns{{"partition", "PARTITION"}, {"leader", "LEADER"}, {"leader_epoch", "EPOCH"},
                                {"replicas", "REPLICAS"},   {"isr", "ISR"},       {"start_offset", "START"},
                                {"end_offset", "END"}};
    // Only where a broker told it: the leader's own disk.
    const bool syncs_known = !durability.sync_micros.empty();
    if (syncs_known) columns.push_back({"fsync_us", "FSYNC US"});
    columns.push_back({"error", "ERROR"});
    Table table(std::move(columns));
    for (const auto& p : topic->partitions) {
      Cell offsets[2];
      ErrorCode error = p.error;
      for (const size_t i : {size_t{0}, size_t{1}}) {
        const auto found = ends[i].find({name, p.id});
        if (found == ends[i].end()) continue;
        if (found->second.error == ErrorCode::none) offsets[i] = found->second.offset;
        if (error == ErrorCode::none) error = found->second.error;
      }
      std::vector<Cell> row{int64_t{p.id},
                            p.leader < 0 ? Cell() : Cell(int64_t{p.leader}),
                            int64_t{p.leader_epoch},
                            joined(p.replicas),
                            joined(p.isr),
                            offsets[0],
                            offsets[1]};
      if (syncs_known) {
        const auto sync = durability.sync_micros.find(p.id);
        row.push_back(sync == durability.sync_micros.end() ? Cell() : Cell(sync->second));
      }
      std::string fault = error == ErrorCode::none ? std::string() : std::string(error_name(error));
      if (p.leader < 0 && !p.offline.empty()) fault += " (offline on " + joined(p.offline) + ")";
      row.push_back(fault.empty() ? Cell() : Cell(fault));
      table.add(std::move(row));
    }
    Json one = Json::object();
    one["topic"] = name;
    if (topic->id.is_zero()) {
      one["topic_id"] = nullptr;
    } else {
      one["topic_id"] = topic->id.to_string();
    }
    one["internal"] = topic->internal;
    one["replication_factor"] = replication_factor(*topic);
    if (durability.mode) one["durability"] = *durability.mode;
    one["partitions"] = json_of(table);
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      one["partitions"][i]["replicas"] = topic->partitions[i].replicas;
      one["partitions"][i]["isr"] = topic->partitions[i].isr;
    }
    all.push_back(std::move(one));
    if (!text.empty()) text += "\n";
    text += fmt::format("{}  id {}  {} partitions  replication {}{}{}\n", printable(name),
                        topic->id.is_zero() ? "-" : topic->id.to_string(), topic->partitions.size(),
                        replication_factor(*topic),
                        durability.mode ? "  durability " + printable(*durability.mode) : "",
                        topic->internal ? "  internal" : "");
    text += table.text();
  }
  if (all.empty()) return outcome.code;
  return finish(outcome.code, print(context.output == Output::json ? render_json(all) : text));
}

ExitCode run(const TopicAlter& options, const Context& context) {
  if (options.set.empty() && options.unset.empty()) {
    return fail(Error(ErrorCode::invalid_argument, "say what to change: --set key=value or --unset key"));
  }
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  ConfigResource resource;
  resource.topic = options.name;
  const Status done = alter_configs(**session, resource, options.set, options.unset, options.dry_run);
  return done.ok() ? ExitCode::ok : fail_about("topic " + options.name, done.error());
}

ExitCode run(const TopicDelete& options, const Context& context) {
  if (const Status s = confirm(options.yes, "deleting topics"); !s.ok()) return fail(s.error());
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  wire::DeleteTopicsRequest request;
  request.timeout_ms = static_cast<int32_t>(context.connection.timeout_ms);
  request.topic_names = options.names;
  for (const std::string& name : options.names) request.topics.emplace_back().name = name;
  const auto error_of = [](const wire::DeleteTopicsResponse& r) {
    const ErrorCode code = r.responses.empty() ? ErrorCode::none : error_from_wire(r.responses[0].error_code);
    return code == ErrorCode::unknown_topic_or_partition ? ErrorCode::none : code;  // the answer, not a delay
  };
  const auto response =
      (*session)->call<wire::DeleteTopicsRequest>(client::Target::controller(), std::move(request), error_of);
  if (!response.ok()) return fail(response.error());
  Outcome outcome;
  Table table({{"topic", "TOPIC"}, {"deleted", "DELETED"}});
  for (const auto& t : response->responses) {
    const ErrorCode code = error_from_wire(t.error_code);
    const std::string name = t.name.value_or(t.topic_id.to_string());
    if (code == ErrorCode::none || (code == ErrorCode::unknown_topic_or_partition && options.if_exists)) {
      table.add({name, code == ErrorCode::none});
    } else {
      outcome.add(fail_about("topic " + name, Error(code, t.error_message.value_or(""))));
    }
  }
  if (table.size() == 0) return outcome.code;
  return finish(outcome.code, print(table.render(context.output)));
}

ExitCode run(const TopicAddPartitions& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  wire::CreatePartitionsRequest request;
  request.validate_only = options.dry_run;
  request.timeout_ms = static_cast<int32_t>(context.connection.timeout_ms);
  auto& t = request.topics.emplace_back();
  t.name = options.name;
  t.count = options.total;
  t.assignments.reset();
  const auto error_of = [](const wire::CreatePartitionsResponse& r) {
    const ErrorCode code = r.results.empty() ? ErrorCode::none : error_from_wire(r.results[0].error_code);
    return code == ErrorCode::unknown_topic_or_partition ? ErrorCode::none : code;
  };
  const auto response = (*session)->call<wire::CreatePartitionsRequest>(client::Target::controller(),
                                                                        std::move(request), error_of);
  if (!response.ok()) return fail(response.error());
  if (response->results.empty()) return fail(Error(ErrorCode::corrupt, "the broker's answer is empty"));
  const auto& r = response->results[0];
  if (r.error_code != 0) {
    return fail_about("topic " + options.name,
                      Error(error_from_wire(r.error_code), r.error_message.value_or("")));
  }
  return ExitCode::ok;
}

ExitCode run(const TopicDeleteRecords& options, const Context& context) {
  if (const Status s = confirm(options.yes, "deleting records"); !s.ok()) return fail(s.error());
  const auto before = parse_offset_spec(options.before, 0);
  if (!before.ok()) return fail(before.error());
  if (before->kind != OffsetSpec::Kind::offset && before->kind != OffsetSpec::Kind::end) {
    return fail(Error(ErrorCode::invalid_argument, "--before is an offset or \"end\""));
  }
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto topic = (*session)->topic(options.name);
  if (!topic.ok()) return fail(topic.error());
  std::vector<int32_t> partitions;
  if (options.partitions.empty()) {
    for (const auto& p : topic->partitions) partitions.push_back(p.id);
  } else {
    auto parsed = parse_partitions(options.partitions);
    if (!parsed.ok()) return fail(parsed.error());
    partitions = std::move(parsed).value();
  }
  Outcome outcome;
  Table table({{"topic", "TOPIC"}, {"partition", "PARTITION"}, {"start_offset", "START"}});
  for (const int32_t partition : partitions) {
    wire::DeleteRecordsRequest request;
    request.timeout_ms = static_cast<int32_t>(context.connection.timeout_ms);
    auto& t = request.topics.emplace_back();
    t.name = options.name;
    auto& p = t.partitions.emplace_back();
    p.partition_index = partition;
    p.offset = before->kind == OffsetSpec::Kind::end ? -1 : before->value;
    const auto error_of = [](const wire::DeleteRecordsResponse& r) {
      return r.topics.empty() || r.topics[0].partitions.empty()
                 ? ErrorCode::none
                 : error_from_wire(r.topics[0].partitions[0].error_code);
    };
    const auto response = (*session)->call<wire::DeleteRecordsRequest>(
        client::Target::leader(options.name, partition), std::move(request), error_of);
    const std::string name = options.name + "-" + std::to_string(partition);
    if (!response.ok()) {
      outcome.add(fail_about(name, response.error()));
      continue;
    }
    if (response->topics.empty() || response->topics[0].partitions.empty()) {
      outcome.add(fail_about(name, Error(ErrorCode::corrupt, "the broker's answer is empty")));
      continue;
    }
    const auto& r = response->topics[0].partitions[0];
    if (r.error_code != 0) {
      outcome.add(fail_about(name, Error(error_from_wire(r.error_code))));
      continue;
    }
    table.add({options.name, int64_t{partition}, r.low_watermark});
  }
  if (table.size() == 0) return outcome.code;
  return finish(outcome.code, print(table.render(context.output)));
}

}  // namespace millrace::cli
