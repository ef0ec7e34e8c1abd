// DeleteRecords (21), versions 0-2: moves the log start; -1 means up to the high watermark. A topic whose
// cleanup.policy lacks delete refuses (POLICY_VIOLATION).
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

struct DeleteRecordsJob {
  SharedCall call;
  wire::DeleteRecordsRequest request;
  wire::DeleteRecordsResponse response;
  std::shared_ptr<const View> view;
};

ErrorCode delete_one(const DeleteRecordsJob& job, const std::string& topic, int32_t index, int64_t offset,
                     int64_t& low) {
  const meta::Topic* known = job.view->image->topic(topic);
  if (known == nullptr) return ErrorCode::unknown_topic_or_partition;
  const PartitionRef* found = job.view->partition(known->id, index);
  if (found == nullptr) return ErrorCode::unknown_topic_or_partition;
  if (!(*found)->config()->log.delete_policy) return ErrorCode::policy_violation;
  if (is_internal_topic(topic)) return ErrorCode::invalid_topic_exception;
  const Result<Offset> done = (*found)->delete_records(Offset(offset));
  if (!done.ok()) return done.code();
  low = done->v;
  return ErrorCode::none;
}

void run_delete_records(DeleteRecordsJob& job) {
  for (const auto& t : job.request.topics) {
    auto& out = job.response.topics.emplace_back();
    out.name = t.name;
    for (const auto& p : t.partitions) {
      auto& answer = out.partitions.emplace_back();
      answer.partition_index = p.partition_index;
      answer.low_watermark = -1;
      answer.error_code = static_cast<int16_t>(
          wire_code(delete_one(job, t.name, p.partition_index, p.offset, answer.low_watermark)));
    }
  }
}

}  // namespace

void handle(Call call, wire::DeleteRecordsRequest& request) {
  auto job = std::make_shared<DeleteRecordsJob>();
  job->request = std::move(request);
  job->view = call.shard().view;
  job->call = share(std::move(call));
  job->call->broker().environment().disk->run(
      job->call->loop(), [job] { run_delete_records(*job); },
      [job] {
        job->call->broker().request_checkpoint();  // the log start is to survive a crash
        job->call->reply(job->response);
      });
}

}  // namespace millrace::broker
