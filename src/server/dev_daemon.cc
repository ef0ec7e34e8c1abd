#include "server/dev_daemon.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "server/control_socket.h"
#include "server/embedded_cluster.h"
#include "server/end_signals.h"
#include "server/process_exit.h"
#include "server/spdlog_sink.h"

namespace millrace::server {
namespace {

using std::chrono::milliseconds;

constexpr uint16_t kDevAdminPort = 9644;  // of broker 1, if its clients' port is kDevPort
constexpr milliseconds kOpenTimeout{60'000};
constexpr milliseconds kStartTimeout{20'000};
constexpr int kSocketTimeoutMs = 5'000;   // for a line to arrive or an answer to leave
constexpr int kAnswerTimeoutMs = 60'000;  // a clean stop may take a while
constexpr int kExitNoneRuns = 3;
constexpr const char* kCurrentName = "current";  // names the directory of the cluster started last

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// A directory of this user alone; empty if there is none to be had.
std::string place_of_user() {
  const std::string runtime = variable("XDG_RUNTIME_DIR");
  const std::string place =
      runtime.empty() ? fmt::format("/tmp/millrace-dev-{}", ::getuid()) : runtime + "/millrace-dev";
  if (::mkdir(place.c_str(), 0700) != 0 && errno != EEXIST) return {};
  struct stat status{};
  const bool ours =
      ::lstat(place.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == ::getuid();
  return ours ? place : std::string();
}

std::string current_file() {
  const std::string place = place_of_user();
  return place.empty() ? place : place + "/" + kCurrentName;
}

std::string current_directory() {
  std::string directory;
  std::ifstream in(current_file());
  std::getline(in, directory);
  return directory;
}

// So that commands without --directory find this process.
class CurrentCluster {
 public:
  explicit CurrentCluster(std::string directory) : directory_(std::move(directory)) {
    std::ofstream(current_file(), std::ios::trunc) << directory_ << "\n";
  }
  CurrentCluster(const CurrentCluster&) = delete;
  CurrentCluster& operator=(const CurrentCluster&) = delete;
  ~CurrentCluster() {
    std::error_code ignored;  // at worst a command finds a directory where nobody listens
    if (current_directory() == directory_) std::filesystem::remove(current_file(), ignored);
  }

 private:
  const std::string directory_;
};

std::string_view reach_name(Reach reach) {
  switch (reach) {
    case Reach::everyone:
      return "everyone";
    case Reach::clients:
      return "clients only";
    case Reach::nobody:
      return "nobody";
  }
  return "?";
}

std::string status_text(EmbeddedCluster& cluster) {
  std::string text = fmt::format("{:<7} {:<21} {:<9} {:<13} {:>6} {:>9}  {}\n", "BROKER", "ADDRESS", "STATE",
                                 "REACHES", "LEADS", "REPLICAS", "DIRECTORY");
  for (const BrokerReport& r : cluster.report()) {
    const bool knows = r.state == BrokerState::running;
    text +=
        fmt::format("{:<7} {:<21} {:<9} {:<13} {:>6} {:>9}  {}{}\n", r.id, r.address.to_string(),
                    broker_state_name(r.state), reach_name(r.reach), knows ? std::to_string(r.leads) : "-",
                    knows ? std::to_string(r.hosts) : "-", r.directory, r.controller ? "  (controller)" : "");
    if (!r.error.empty()) text += fmt::format("        {}\n", r.error);
  }
  return text;
}

Status carry_out(EmbeddedCluster& cluster, const DevCommand& command) {
  switch (command.verb) {
    case DevVerb::kill:
      return cluster.kill(command.broker);
    case DevVerb::start:
      return cluster.start(command.broker, kStartTimeout);
    case DevVerb::stop:
      return cluster.stop(command.broker);
    case DevVerb::pause:
      return cluster.pause(command.broker);
    case DevVerb::resume:
      return cluster.resume(command.broker);
    case DevVerb::isolate:
      return cluster.isolate(command.broker, command.clients);
    case DevVerb::heal:
      return cluster.heal(command.broker);
    case DevVerb::status:
      break;
  }
  return {};
}

std::string answer_to(EmbeddedCluster& cluster, std::string_view line) {
  const auto answered = [&]() -> Result<std::string> {
    TRY_ASSIGN(const DevCommand command, parse_dev_line(line));
    if (command.verb == DevVerb::status) return status_text(cluster);
    TRY(carry_out(cluster, command));
    return std::string();
  };
  return dev_answer(answered());
}

int complain(const Error& error) {
  fmt::print(stderr, "millrace: {}\n", error.message);
  return exit_code_of(error);
}

void announce(const EmbeddedCluster& cluster, const EmbeddedOptions& options) {
  fmt::print("bootstrap.servers  {}\n", cluster.bootstrap_servers());
  fmt::print("data               {}{}\n", cluster.directory(),
             cluster.temporary() ? " (temporary: removed at the end; --directory DIR keeps it)" : "");
  if (options.admin_port != 0)
    fmt::print("metrics            http://127.0.0.1:{}/metrics", options.admin_port);
  if (options.admin_port != 0 && cluster.brokers() > 1) fmt::print(" and the following ports");
  if (options.admin_port != 0) fmt::print("\n");
  fmt::print(
      "break something    millrace dev kill N | stop N | start N | pause N | resume N | isolate N | heal "
      "N\n");
  fmt::print("look               millrace dev status\n");
  fmt::print("stop               Ctrl-C\n");
  (void)std::fflush(stdout);
}

}  // namespace

int run_dev(const DevOptions& options) {
  const EndSignals signals;
  const std::unique_ptr<TraceSink> sink = make_spdlog_sink();
  EmbeddedOptions embedded;
  embedded.brokers = options.brokers;
  embedded.port = options.port;
  const int admin_port = options.port - kDevPort + kDevAdminPort;
  embedded.admin_port =
      admin_port > 0 && admin_port + options.brokers <= UINT16_MAX ? static_cast<uint16_t>(admin_port) : 0;
  embedded.directory = options.directory;
  embedded.settings = options.settings;
  embedded.environment = process_environment();
  embedded.sink = sink.get();
  EmbeddedCluster cluster(embedded);
  if (const Status s = cluster.prepare(); !s.ok()) return complain(s.error());
  auto socket = ControlSocket::listen(cluster.directory(), kDevLineMax, kSocketTimeoutMs,
                                      [&cluster](std::string_view line) { return answer_to(cluster, line); });
  if (!socket.ok()) return complain(socket.error());
  const CurrentCluster current(cluster.directory());
  const Status opened = cluster.open(kOpenTimeout, [&signals] { return signals.came(); });
  if (!opened.ok()) return opened.code() == ErrorCode::cancelled ? 0 : complain(opened.error());
  announce(cluster, embedded);
  signals.wait();
  socket->reset();
  const Status closed = cluster.close();
  if (!closed.ok()) (void)complain(closed.error());
  return closed.ok() ? 0 : kExitFailed;
}

int send_dev_command(const DevCommand& command, const std::string& directory) {
  const std::string where = directory.empty() ? current_directory() : directory;
  const Result<std::string> answer =
      where.empty() ? Result<std::string>(Error(ErrorCode::not_found, "none was started"))
                    : ask_control_socket(where, dev_line(command), kDevAnswerMax, kAnswerTimeoutMs);
  if (!answer.ok()) {
    if (answer.code() != ErrorCode::not_found) {
      fmt::print(stderr, "millrace: {}: {}\n", where, answer.error().message);
      return kExitFailed;
    }
    fmt::print(stderr, "millrace: no `millrace dev` runs {}; start one with `millrace dev --brokers 3`{}\n",
               where.empty() ? std::string("here") : "in " + where,
               directory.empty() ? ", or name its --directory" : "");
    return kExitNoneRuns;
  }
  const Result<std::string> text = parse_dev_answer(*answer);
  if (!text.ok()) {
    fmt::print(stderr, "millrace: {}\n", text.error().message);
    return kExitFailed;
  }
  fmt::print("{}", *text);
  return 0;
}

}  // namespace millrace::server
