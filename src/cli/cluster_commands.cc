#include "cli/cluster_commands.h"

#include <fmt/format.h>

#include "cli/json.h"
#include "cli/table.h"
#include "wire/messages/describe_log_dirs.h"

namespace millrace::cli {

ExitCode run(const ClusterInfo&, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto view = (*session)->metadata(std::nullopt);
  if (!view.ok()) return fail(view.error());
  std::map<int32_t, int64_t> leads;
  std::map<int32_t, int64_t> holds;
  int64_t partitions = 0;
  int64_t leaderless = 0;
  int64_t under_replicated = 0;
  for (const auto& [name, topic] : view->topics()) {
    for (const auto& p : topic.partitions) {
      ++partitions;
      if (p.leader < 0) ++leaderless;
      if (p.isr.size() < p.replicas.size()) ++under_replicated;
      ++leads[p.leader];
      for (const int32_t replica : p.replicas) ++holds[replica];
    }
  }
  Table table({{"broker_id", "BROKER"},
               {"host", "HOST"},
               {"port", "PORT"},
               {"rack", "RACK"},
               {"controller", "CONTROLLER"},
               {"leaders", "LEADERS"},
               {"replicas", "REPLICAS"}});
  for (const auto& [id, b] : view->brokers()) {
    table.add({int64_t{id}, b.endpoint.host, int64_t{b.endpoint.port}, b.rack ? Cell(*b.rack) : Cell(),
               id == view->controller_id(), leads[id], holds[id]});
  }
  std::string text;
  if (context.output == Output::json) {
    Json json = Json::object();
    json["cluster_id"] = view->cluster_id();
    json["controller_id"] = view->controller_id();
    json["topics"] = view->topics().size();
    json["partitions"] = partitions;
    json["partitions_without_leader"] = leaderless;
    json["partitions_under_replicated"] = under_replicated;
    json["brokers"] = json_of(table);
    text = render_json(json);
  } else {
    text = fmt::format("cluster {}  {} topics  {} partitions, {} without leader, {} under-replicated\n",
                       view->cluster_id().empty() ? "-" : printable(view->cluster_id()),
                       view->topics().size(), partitions, leaderless, under_replicated) +
           table.text();
  }
  const Status printed = print(text);
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

ExitCode run(const ClusterDirs&, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto view = (*session)->metadata(std::vector<std::string>());
  if (!view.ok()) return fail(view.error());
  Table table({{"broker_id", "BROKER"},
               {"directory", "DIRECTORY"},
               {"state", "STATE"},
               {"free_bytes", "FREE"},
               {"total_bytes", "TOTAL"},
               {"partitions", "PARTITIONS"},
               {"partition_bytes", "PARTITION_BYTES"}});
  for (const auto& [id, b] : view->brokers()) {
    wire::DescribeLogDirsRequest request;
    request.topics = std::nullopt;  // all
    const auto answer = (*session)->call(client::Target::broker(id), std::move(request));
    if (!answer.ok()) return fail(answer.error());
    for (const auto& d : answer->results) {
      int64_t partitions = 0;
      int64_t bytes = 0;
      for (const auto& t : d.topics) {
        for (const auto& p : t.partitions) {
          ++partitions;
          bytes += p.partition_size;
        }
      }
      const bool offline = d.error_code != 0;
      const auto size = [](int64_t value) { return value < 0 ? Cell() : Cell(value); };
      table.add({int64_t{id}, d.log_dir,
                 offline ? std::string(error_name(static_cast<ErrorCode>(d.error_code))) : std::string("ok"),
                 size(d.usable_bytes), size(d.total_bytes), offline ? Cell() : Cell(partitions),
                 offline ? Cell() : Cell(bytes)});
    }
  }
  const Status printed = print(table.render(context.output));
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

}  // namespace millrace::cli
