#include "cli/perf/process_cost.h"

#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace millrace::cli::perf {
namespace {

std::string content_of(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// "Name:   123 kB"
uint64_t field_of(const std::string& text, const std::string& name) {
  const size_t at = text.find("\n" + name + ":");
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + name.size() + 2, nullptr, 10);
}

}  // namespace

ProcessCost ProcessCost::since(const ProcessCost& before) const {
  ProcessCost d = *this;
  d.cpu_ns -= before.cpu_ns;
  d.user_ns -= before.user_ns;
  d.system_ns -= before.system_ns;
  // Threads that ended took their counts along.
  d.switches = switches > before.switches ? switches - before.switches : 0;
  return d;
}

Result<ProcessCost> cost_of(int32_t pid) {
  ProcessCost cost;
  clockid_t clock = 0;
  timespec t{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &t) != 0) {
    return Error(ErrorCode::not_found, "process " + std::to_string(pid));
  }
  cost.cpu_ns = int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  const std::string folder = "/proc/" + std::to_string(pid);
  const std::string stat = content_of(folder + "/stat");
  // The name, in brackets, may hold anything; the fields follow it: state is number 3, utime 14, stime 15.
  const size_t bracket = stat.rfind(')');
  if (bracket == std::string::npos) return Error(ErrorCode::io_error, folder + "/stat");
  std::istringstream fields(stat.substr(bracket + 1));
  std::string ignored;
  for (int i = 3; i < 14; ++i) fields >> ignored;
  int64_t user = 0;
  int64_t system = 0;
  fields >> user >> system;
  const int64_t tick_ns = 1'000'000'000 / ::sysconf(_SC_CLK_TCK);
  cost.user_ns = user * tick_ns;
  cost.system_ns = system * tick_ns;
  const std::string status = content_of(folder + "/status");
  cost.resident_bytes = field_of(status, "VmRSS") << 10;
  cost.resident_peak_bytes = field_of(status, "VmHWM") << 10;
  const std::string tasks = folder + "/task";
  if (DIR* d = ::opendir(tasks.c_str())) {
    while (const dirent* e = ::readdir(d)) {
      if (e->d_name[0] == '.') continue;
      const std::string text = content_of(tasks + "/" + e->d_name + "/status");
      cost.switches +=
          field_of(text, "voluntary_ctxt_switches") + field_of(text, "nonvoluntary_ctxt_switches");
    }
    ::closedir(d);
  }
  return cost;
}

}  // namespace millrace::cli::perf
