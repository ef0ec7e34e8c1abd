// `millrace perf group`: how long a group needs to agree, and for how long its members stand still when one
// comes or goes. Classic protocol; every member has a connection of its own.
#include <fmt/format.h>

#include <fstream>
#include <set>

#include "cli/json.h"
#include "cli/perf/histogram.h"
#include "cli/perf/perf_commands.h"
#include "client/group_member.h"

namespace millrace::cli::perf {
namespace {

/// On the session's loop only, but for construction and destruction.
class Crowd {
 public:
  Crowd(Session& session, const PerfGroup& options, size_t partitions)
      : session_(session), options_(options), partitions_(partitions) {}
  ~Crowd() {
    session_.on_loop([this] { members_.clear(); });
  }

  /// One more member; returns at once.
  void add() {
    auto m = std::make_unique<Member>();
    m->client = session_.new_client();
    Member* raw = m.get();
    client::GroupOptions g;
    g.group = options_.group;
    g.topics = {options_.topic};
    g.heartbeat_interval_ms = options_.heartbeat_ms;
    client::GroupMember::Events events;
    events.on_giving_up = [raw](const std::function<void()>& ready) {
      if (raw->stopped_ns == 0) raw->stopped_ns = now_ns();
      raw->assigned = -1;
      ready();
    };
    events.on_lost = [this, raw] {
      if (raw->stopped_ns == 0) raw->stopped_ns = now_ns();
      raw->assigned = -1;
      ++losses_;
    };
    events.on_assigned = [this, raw](const std::vector<client::TopicPartition>& mine) {
      raw->assigned = static_cast<int64_t>(mine.size());
      if (raw->stopped_ns != 0) pauses_.record(now_ns() - raw->stopped_ns);
      raw->stopped_ns = 0;
      last_assigned_ns_ = now_ns();
    };
    events.on_failed = [this](Error e) { failure_ = std::move(e); };
    raw->member = std::make_unique<client::GroupMember>(*raw->client, std::move(g), std::move(events));
    raw->member->start();
    members_.push_back(std::move(m));
  }
  void remove_last() {
    auto leaving = std::shared_ptr<Member>(std::move(members_.back()));
    members_.pop_back();
    leaving->member->leave([leaving, &loop = leaving->client->loop()] { loop.post([leaving] {}); });
  }
  /// All are of one generation and have every partition between them.
  bool agreed() const {
    std::set<int32_t> generations;
    size_t assigned = 0;
    for (const auto& m : members_) {
      if (!m->member->stable() || m->assigned < 0) return false;
      generations.insert(m->member->identity().generation);
      assigned += static_cast<size_t>(m->assigned);
    }
    return generations.size() <= 1 && assigned == partitions_;
  }
  int64_t last_assigned_ns() const { return last_assigned_ns_; }
  Histogram take_pauses() { return std::exchange(pauses_, {}); }
  uint64_t losses() const { return losses_; }
  const Status& failure() const { return failure_; }

 private:
  struct Member {
    std::unique_ptr<client::Client> client;
    std::unique_ptr<client::GroupMember> member;  // goes before its client
    int64_t assigned = -1;
    int64_t stopped_ns = 0;
    ~Member() { member.reset(); }
  };
  Session& session_;
  const PerfGroup& options_;
  const size_t partitions_;
  std::vector<std::unique_ptr<Member>> members_;
  Histogram pauses_;
  int64_t last_assigned_ns_ = 0;
  uint64_t losses_ = 0;
  Status failure_;
};

/// Does `change` and waits for agreement: one row.
Result<Json> phase(Session& session, Crowd& crowd, const std::string& what,
                   const std::function<void()>& change) {
  constexpr int64_t kPollMs = 1;
  constexpr int64_t kGiveUpNs = 120'000'000'000;
  const int64_t began = now_ns();
  session.on_loop([&] {
    (void)crowd.take_pauses();
    change();
  });
  for (;;) {
    TRY(session.pause(kPollMs));
    bool agreed = false;
    Status failure;
    int64_t last = 0;
    Histogram pauses;
    session.on_loop([&] {
      last = crowd.last_assigned_ns();
      agreed = crowd.agreed() && last > began;
      failure = crowd.failure();
      if (agreed) pauses = crowd.take_pauses();
    });
    if (!failure.ok()) return failure.error();
    if (agreed) {
      Json row = Json::object();
      row["phase"] = what;
      row["stable_ms"] = static_cast<double>(last - began) / 1e6;
      row["pauses"] = pauses.count();
      row["pause_p50_ms"] = static_cast<double>(pauses.quantile_ns(0.5)) / 1e6;
      row["pause_max_ms"] = static_cast<double>(pauses.max_ns()) / 1e6;
      return row;
    }
    if (now_ns() - began > kGiveUpNs) return Error(ErrorCode::timed_out, what + ": the group did not agree");
  }
}

Result<Json> measure(Session& session, const PerfGroup& options) {
  TRY_ASSIGN(const client::TopicInfo topic, session.topic(options.topic));
  Crowd crowd(session, options, topic.partitions.size());
  Json rows = Json::array();
  const auto add = [&](const std::string& what, const std::function<void()>& change) -> Status {
    TRY_ASSIGN(Json row, phase(session, crowd, what, change));
    rows.push_back(std::move(row));
    return {};
  };
  TRY(add("first member", [&] { crowd.add(); }));
  TRY(add(fmt::format("{} members", options.members), [&] {
    for (size_t i = 1; i < options.members; ++i) crowd.add();
  }));
  TRY(add("one joins", [&] { crowd.add(); }));
  TRY(add("one leaves", [&] { crowd.remove_last(); }));
  Json report = Json::object();
  report["load"] = "group";
  report["members"] = options.members;
  report["partitions"] = topic.partitions.size();
  report["heartbeat_ms"] = options.heartbeat_ms;
  report["phases"] = std::move(rows);
  report["memberships_lost"] = crowd.losses();
  return report;
}

}  // namespace

ExitCode run(const PerfGroup& options, const Context& context) {
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const Result<Json> report = measure(**session, options);
  if (!report.ok()) return fail(report.error());
  if (!options.json_file.empty()) {
    std::ofstream out(options.json_file, std::ios::trunc);
    out << render_json(*report);
    out.close();
    if (!out) return fail(Error(ErrorCode::io_error, options.json_file + ": could not be written"));
  }
  std::string text = fmt::format("{:<16} {:>12} {:>8} {:>14} {:>14}\n", "PHASE", "STABLE ms", "PAUSES",
                                 "PAUSE p50 ms", "PAUSE max ms");
  for (const Json& row : (*report)["phases"]) {
    text += fmt::format("{:<16} {:>12.1f} {:>8} {:>14.1f} {:>14.1f}\n", row["phase"].get<std::string>(),
                        row["stable_ms"].get<double>(), row["pauses"].get<uint64_t>(),
                        row["pause_p50_ms"].get<double>(), row["pause_max_ms"].get<double>());
  }
  const Status printed = print(context.output == Output::json ? render_json(*report) : text);
  return printed.ok() ? ExitCode::ok : fail(printed.error());
}

}  // namespace millrace::cli::perf
