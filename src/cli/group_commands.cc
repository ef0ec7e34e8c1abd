#include "cli/group_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "cli/arguments.h"
#include "cli/json.h"
#include "cli/table.h"
#include "client/offsets.h"
#include "client/range_assignor.h"
#include "wire/messages/delete_groups.h"
#include "wire/messages/describe_groups.h"
#include "wire/messages/list_groups.h"

namespace millrace::cli {
namespace {

using client::TopicPartition;
using Committed = std::map<TopicPartition, client::CommittedOffset>;
using Ends = std::map<TopicPartition, client::OffsetAt>;

Result<Committed> committed_of(Session& session, const std::string& group) {
  return session.wait<Committed>([&session, group](client::Done<Committed> done) {
    client::fetch_committed(session.client(), group, std::nullopt, session.timeout_ms(), std::move(done));
  });
}

Result<Ends> offsets_at(Session& session, const std::map<TopicPartition, int64_t>& timestamps) {
  return session.wait<Ends>([&session, timestamps](client::Done<Ends> done) {
    client::list_offsets(session.client(), timestamps, false, session.timeout_ms(), std::move(done));
  });
}

/// Leaves out partitions of topics that are gone: their committed offsets live on for a while.
Result<Ends> offsets_of_existing(Session& session, std::map<TopicPartition, int64_t> timestamps) {
  std::set<std::string> names;
  for (const auto& [where, t] : timestamps) names.insert(where.topic);
  if (names.empty()) return Ends{};
  TRY_ASSIGN(const client::ClusterView view,
             session.metadata(std::vector<std::string>(names.begin(), names.end())));
  std::erase_if(timestamps, [&](const auto& entry) {
    const client::TopicInfo* topic = view.topic(entry.first.topic);
    return topic == nullptr || topic->partition(entry.first.partition) == nullptr;
  });
  return offsets_at(session, timestamps);
}

ErrorCode described_error(const wire::DescribeGroupsResponse& r) {
  return r.groups.empty() ? ErrorCode::none : error_from_wire(r.groups[0].error_code);
}

Result<wire::DescribeGroupsResponse::DescribedGroup> describe(Session& session, const std::string& group) {
  wire::DescribeGroupsRequest request;
  request.groups = {group};
  TRY_ASSIGN(auto response, session.call<wire::DescribeGroupsRequest>(client::Target::coordinator(group),
                                                                      std::move(request), described_error));
  if (response.groups.empty()) return Error(ErrorCode::corrupt, "the broker's answer is empty");
  auto& described = response.groups[0];
  if (described.error_code != 0) {
    return Error(error_from_wire(described.error_code), described.error_message.value_or("group " + group));
  }
  return std::move(described);
}

}  // namespace

ExitCode run(const GroupList& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto view = (*session)->metadata(std::vector<std::string>{});
  if (!view.ok()) return fail(view.error());
  std::map<std::string, wire::ListGroupsResponse::ListedGroup> groups;
  for (const auto& [id, broker] : view->brokers()) {
    wire::ListGroupsRequest request;
    if (!options.state.empty()) request.states_filter = {options.state};
    const auto response = (*session)->call<wire::ListGroupsRequest>(
        client::Target::broker(id), std::move(request),
        [](const wire::ListGroupsResponse& r) { return error_from_wire(r.error_code); });
    if (!response.ok()) return fail(response.error());
    if (response->error_code != 0) {
      return fail_about("groups of broker " + std::to_string(id),
                        Error(error_from_wire(response->error_code)));
    }
    for (const auto& g : response->groups) groups[g.group_id] = g;
  }
  Table table({{"group", "GROUP"}, {"state", "STATE"}, {"type", "TYPE"}, {"protocol_type", "PROTOCOL"}});
  const auto known = [](const std::string& s) { return s.empty() ? Cell() : Cell(s); };
  for (const auto& [id, g] : groups) {
    table.add({id, known(g.group_state), known(g.group_type), known(g.protocol_type)});
  }
  if (table.size() == 0 && context.output == Output::text) {
    complain("there are no groups");
    return ExitCode::ok;
  }
  const Status printed = print(table.render(context.output));
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

ExitCode run(const GroupDescribe& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  ExitCode code = ExitCode::ok;
  Json all = Json::array();
  std::string text;
  for (const std::string& name : options.groups) {
    const auto described = describe(**session, name);
    if (!described.ok()) {
      const ExitCode one = fail_about("group " + name, described.error());
      if (code == ExitCode::ok) code = one;
      continue;
    }
    const auto committed = committed_of(**session, name);
    if (!committed.ok()) {
      const ExitCode one = fail(committed.error());
      if (code == ExitCode::ok) code = one;
      continue;
    }
    if (described->group_state == "Dead" && committed->empty()) {
      const ExitCode one = fail(Error(ErrorCode::group_id_not_found, "there is no group " + name));
      if (code == ExitCode::ok) code = one;
      continue;
    }
    std::map<TopicPartition, const wire::DescribeGroupsResponse::DescribedGroupMember*> owners;
    std::map<TopicPartition, int64_t> wanted;
    for (const auto& m : described->members) {
      if (described->protocol_type != client::kConsumerProtocolType) break;
      const auto assigned = client::decode_assignment(m.member_assignment);
      if (!assigned.ok()) continue;  // a member with an assignment of its own kind
      for (const TopicPartition& where : *assigned) {
        owners[where] = &m;
        wanted[where] = client::kLatest;
      }
    }
    for (const auto& [where, offset] : *committed) wanted[where] = client::kLatest;
    const auto ends = offsets_of_existing(**session, wanted);
    if (!ends.ok()) return fail(ends.error());
    Table table({{"topic", "TOPIC"},
                 {"partition", "PARTITION"},
                 {"committed_offset", "COMMITTED"},
                 {"end_offset", "END"},
                 {"lag", "LAG"},
                 {"member_id", "MEMBER"},
                 {"client_id", "CLIENT"},
                 {"host", "HOST"}});
    int64_t total_lag = 0;
    for (const auto& [where, unused] : wanted) {
      Cell offset;
      Cell end;
      Cell lag;
      const auto c = committed->find(where);
      const auto e = ends->find(where);
      if (c != committed->end() && c->second.offset >= 0) offset = c->second.offset;
      if (e != ends->end() && e->second.error == ErrorCode::none) end = e->second.offset;
      if (std::holds_alternative<int64_t>(offset) && std::holds_alternative<int64_t>(end)) {
        const int64_t behind = std::max<int64_t>(0, std::get<int64_t>(end) - std::get<int64_t>(offset));
        lag = behind;
        total_lag += behind;
      }
      const auto owner = owners.find(where);
      const auto* m = owner == owners.end() ? nullptr : owner->second;
      table.add({where.topic, int64_t{where.partition}, offset, end, lag, m ? Cell(m->member_id) : Cell(),
                 m ? Cell(m->client_id) : Cell(), m ? Cell(m->client_host) : Cell()});
    }
    Json one = Json::object();
    one["group"] = name;
    one["state"] = described->group_state;
    one["protocol_type"] = described->protocol_type;
    one["assignor"] = described->protocol_data;
    one["total_lag"] = total_lag;
    Json members = Json::array();
    for (const auto& m : described->members) {
      Json member = Json::object();
      member["member_id"] = m.member_id;
      if (m.group_instance_id) {
        member["instance_id"] = *m.group_instance_id;
      } else {
        member["instance_id"] = nullptr;
      }
      member["client_id"] = m.client_id;
      member["host"] = m.client_host;
      members.push_back(std::move(member));
    }
    one["members"] = std::move(members);
    one["partitions"] = json_of(table);
    all.push_back(std::move(one));
    if (!text.empty()) text += "\n";
    text += fmt::format(
        "{}  {}  {} members  lag {}{}\n", printable(name), printable(described->group_state),
        described->members.size(), total_lag,
        described->protocol_data.empty() ? "" : "  assignor " + printable(described->protocol_data));
    if (table.size() > 0) text += table.text();
  }
  if (all.empty()) return code;
  const Status printed = print(context.output == Output::json ? render_json(all) : text);
  return code == ExitCode::ok && !printed.ok() ? fail(printed.error()) : code;
}

ExitCode run(const GroupDelete& options, const Context& context) {
  if (const Status s = confirm(options.yes, "deleting groups"); !s.ok()) return fail(s.error());
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  ExitCode code = ExitCode::ok;
  Table table({{"group", "GROUP"}, {"deleted", "DELETED"}});
  for (const std::string& name : options.groups) {
    wire::DeleteGroupsRequest request;
    request.groups_names = {name};
    const auto response = (*session)->call<wire::DeleteGroupsRequest>(
        client::Target::coordinator(name), std::move(request), [](const wire::DeleteGroupsResponse& r) {
          return r.results.empty() ? ErrorCode::none : error_from_wire(r.results[0].error_code);
        });
    Error error(ErrorCode::none);
    if (!response.ok()) {
      error = response.error();
    } else if (response->results.empty()) {
      error = Error(ErrorCode::corrupt, "the broker's answer is empty");
    } else if (response->results[0].error_code != 0) {
      error = Error(error_from_wire(response->results[0].error_code),
                    response->results[0].error_message.value_or(""));
    }
    if (error.code == ErrorCode::none) {
      table.add({name, true});
      continue;
    }
    const ExitCode one = fail_about("group " + name, error);
    if (code == ExitCode::ok) code = one;
  }
  if (table.size() == 0) return code;
  const Status printed = print(table.render(context.output));
  return code == ExitCode::ok && !printed.ok() ? fail(printed.error()) : code;
}

namespace {

/// The partitions that a reset is about.
Result<std::set<TopicPartition>> partitions_to_reset(Session& session, const GroupResetOffsets& options,
                                                     const Committed& committed) {
  std::set<TopicPartition> out;
  if (options.all_topics) {
    for (const auto& [where, offset] : committed) out.insert(where);
  }
  for (const std::string& text : options.topics) {
    TRY_ASSIGN(const auto named, parse_topic_partitions(text));
    TRY_ASSIGN(const client::TopicInfo topic, session.topic(named.first));
    for (const auto& p : topic.partitions) {
      if (named.second.empty()) out.insert({named.first, p.id});
    }
    for (const int32_t p : named.second) {
      if (topic.partition(p) == nullptr) {
        return Error(ErrorCode::unknown_topic_or_partition,
                     "topic " + named.first + " has no partition " + std::to_string(p));
      }
      out.insert({named.first, p});
    }
  }
  if (out.empty()) {
    return Error(ErrorCode::invalid_argument, options.all_topics
                                                  ? "the group has committed no offsets: say --topic"
                                                  : "say --topic or --all-topics");
  }
  return out;
}

/// Where every partition goes.
Result<std::map<TopicPartition, int64_t>> new_offsets(Session& session, const GroupResetOffsets& options,
                                                      const std::set<TopicPartition>& partitions,
                                                      const Committed& committed) {
  std::map<TopicPartition, int64_t> earliest;
  std::map<TopicPartition, int64_t> latest;
  std::map<TopicPartition, int64_t> asked;
  int64_t timestamp = options.to_earliest ? client::kEarliest : client::kLatest;
  if (!options.to_timestamp.empty()) {
    TRY_ASSIGN(timestamp, parse_time(options.to_timestamp, session.wall_ms()));
  }
  for (const TopicPartition& where : partitions) {
    earliest[where] = client::kEarliest;
    latest[where] = client::kLatest;
    asked[where] = timestamp;
  }
  TRY_ASSIGN(const Ends starts, offsets_at(session, earliest));
  TRY_ASSIGN(const Ends ends, offsets_at(session, latest));
  Ends found;
  if (!options.to_timestamp.empty()) {
    TRY_ASSIGN(found, offsets_at(session, asked));
  }
  std::map<TopicPartition, int64_t> out;
  for (const TopicPartition& where : partitions) {
    const auto start = starts.find(where);
    const auto end = ends.find(where);
    for (const auto& [at, all] : {std::pair{start, &starts}, std::pair{end, &ends}}) {
      if (at == all->end())
        return Error(ErrorCode::leader_not_available, to_string(where) + " has no offsets");
      if (at->second.error != ErrorCode::none) return Error(at->second.error, to_string(where));
    }
    int64_t target = options.to_earliest ? start->second.offset : end->second.offset;
    if (options.to_offset >= 0) target = options.to_offset;
    if (!options.to_timestamp.empty()) {
      const auto at = found.find(where);
      if (at != found.end() && at->second.error == ErrorCode::none && at->second.offset >= 0) {
        target = at->second.offset;
      }
    }
    if (options.shifts) {
      const auto now = committed.find(where);
      if (now == committed.end() || now->second.offset < 0) {
        return Error(ErrorCode::invalid_argument,
                     "nothing is committed for " + to_string(where) + " to shift");
      }
      // Both are bounded by the log below, so the sum is taken where it cannot overflow.
      const int64_t room_up = end->second.offset - now->second.offset;
      const int64_t room_down = start->second.offset - now->second.offset;
      target = now->second.offset +
               std::clamp(options.shift_by, std::min(room_down, room_up), std::max(room_down, room_up));
    }
    out[where] = std::clamp(target, start->second.offset, std::max(start->second.offset, end->second.offset));
  }
  return out;
}

}  // namespace

ExitCode run(const GroupResetOffsets& options, const Context& context) {
  const int ways = (options.to_earliest ? 1 : 0) + (options.to_latest ? 1 : 0) +
                   (options.to_offset >= 0 ? 1 : 0) + (options.to_timestamp.empty() ? 0 : 1) +
                   (options.shifts ? 1 : 0);
  if (ways != 1) {
    return fail(Error(ErrorCode::invalid_argument,
                      "say one of --to-earliest, --to-latest, --to-offset, --to-timestamp, --shift-by"));
  }
  if (options.execute) {
    if (const Status s = confirm(options.yes, "resetting offsets"); !s.ok()) return fail(s.error());
  }
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto committed = committed_of(**session, options.group);
  if (!committed.ok()) return fail(committed.error());
  const auto partitions = partitions_to_reset(**session, options, *committed);
  if (!partitions.ok()) return fail(partitions.error());
  const auto offsets = new_offsets(**session, options, *partitions, *committed);
  if (!offsets.ok()) return fail(offsets.error());

  ExitCode code = ExitCode::ok;
  std::map<TopicPartition, ErrorCode> outcome;
  if (options.execute) {
    const auto done = (*session)->wait<std::map<TopicPartition, ErrorCode>>([&](auto then) {
      client::GroupIdentity identity;
      identity.group = options.group;
      client::commit_offsets((*session)->client(), identity, *offsets, (*session)->timeout_ms(),
                             std::move(then));
    });
    if (!done.ok()) return fail(done.error());
    outcome = *done;
  }
  Table table({{"topic", "TOPIC"},
               {"partition", "PARTITION"},
               {"old_offset", "OLD"},
               {"new_offset", "NEW"},
               {"reset", "RESET"}});
  ErrorCode first_error = ErrorCode::none;
  for (const auto& [where, offset] : *offsets) {
    const auto before = committed->find(where);
    const auto result = outcome.find(where);
    const bool reset = result != outcome.end() && result->second == ErrorCode::none;
    if (result != outcome.end() && !reset && first_error == ErrorCode::none) first_error = result->second;
    table.add(
        {where.topic, int64_t{where.partition},
         before != committed->end() && before->second.offset >= 0 ? Cell(before->second.offset) : Cell(),
         offset, reset});
  }
  if (first_error != ErrorCode::none) code = fail_about("group " + options.group, Error(first_error));
  const Status printed = print(table.render(context.output));
  if (!printed.ok()) return fail(printed.error());
  if (!options.execute) complain("nothing was changed; --execute does it");
  return code;
}

}  // namespace millrace::cli
