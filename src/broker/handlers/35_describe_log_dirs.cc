// DescribeLogDirs (35), versions 1-4: sizes per directory and partition.
//   2 also, privately: how long an fdatasync takes there | 3 top-level error | 4 total and usable bytes of
//   the volume
#include <map>
#include <set>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

struct LogDirsJob {
  SharedCall call;
  std::shared_ptr<const View> view;
  std::vector<PartitionHost::DirectoryInfo> directories;
  std::optional<std::map<std::string, std::set<int32_t>>> wanted;
  wire::DescribeLogDirsResponse response;
};

void run_log_dirs(LogDirsJob& job) {
  io::Disk& disk = *job.call->broker().environment().disk;
  std::map<std::string, wire::DescribeLogDirsResponse::DescribeLogDirsResult> results;
  for (const PartitionHost::DirectoryInfo& d : job.directories) {
    auto& r = results[d.path];
    r.log_dir = d.path;
    if (d.state->failed()) {
      r.error_code = static_cast<int16_t>(ErrorCode::kafka_storage_error);
      continue;
    }
    r.sync_micros = d.sync_us;
    if (const Result<uint64_t> total = disk.total_bytes(d.path); total.ok())
      r.total_bytes = static_cast<int64_t>(*total);
    if (const Result<uint64_t> free = disk.free_bytes(d.path); free.ok())
      r.usable_bytes = static_cast<int64_t>(*free);
  }
  job.view->image->topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
    const HostedTopic* hosted = job.view->hosted_topic(topic->id);
    if (hosted == nullptr || (job.wanted && !job.wanted->contains(name))) return;
    for (size_t i = 0; i < hosted->partitions.size(); ++i) {
      const PartitionRef& p = hosted->partitions[i];
      if (!p || (job.wanted && !job.wanted->at(name).contains(static_cast<int32_t>(i)))) continue;
      const auto r = results.find(p->directory());
      if (r == results.end() || r->second.error_code != 0) continue;
      if (r->second.topics.empty() || r->second.topics.back().name != name)
        r->second.topics.emplace_back().name = name;
      auto& out = r->second.topics.back().partitions.emplace_back();
      out.partition_index = static_cast<int32_t>(i);
      out.partition_size = static_cast<int64_t>(p->usage().bytes);
    }
  });
  for (auto& [path, r] : results) job.response.results.push_back(std::move(r));
}

}  // namespace

void handle(Call call, wire::DescribeLogDirsRequest& request) {
  auto job = std::make_shared<LogDirsJob>();
  if (request.topics) {
    job->wanted.emplace();
    for (const auto& t : *request.topics)
      (*job->wanted)[t.topic].insert(t.partitions.begin(), t.partitions.end());
  }
  job->view = call.shard().view;
  job->call = share(std::move(call));
  Broker& broker = job->call->broker();
  broker.environment().control_loop->post([&broker, job] {
    job->directories = broker.host().directories();
    job->call->loop().post([&broker, job] {
      broker.environment().disk->run(
          job->call->loop(), [job] { run_log_dirs(*job); }, [job] { job->call->reply(job->response); });
    });
  });
}

}  // namespace millrace::broker
