// ListOffsets (2), versions 1-8.
//   2 isolation level | 4 leader epoch | 6 flexible | 7 timestamp -3 | 8 timestamp -4
// Searching by time reads the disk, so the whole request runs where blocking is allowed when it asks for one.
#include <set>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

using ListRequest = wire::ListOffsetsRequest;
using ListResponse = wire::ListOffsetsResponse;
using ListAnswer = ListResponse::ListOffsetsPartitionResponse;

constexpr int64_t kLatest = -1;
constexpr int64_t kEarliest = -2;
constexpr int64_t kMaxTimestamp = -3;
constexpr int64_t kEarliestLocal = -4;

struct ListJob {
  SharedCall call;
  ListRequest request;
  ListResponse response;
  std::vector<std::vector<PartitionRef>> partitions;  // as in the request; null where there is none
  std::vector<std::vector<ErrorCode>> absences;       // why
};

int16_t version_of_special(int64_t timestamp) {
  switch (timestamp) {
    case kMaxTimestamp:
      return 7;
    case kEarliestLocal:
      return 8;
    default:
      return 1;
  }
}

ListAnswer list_refused(int32_t index, ErrorCode code) {
  ListAnswer a;
  a.partition_index = index;
  a.error_code = static_cast<int16_t>(wire_code(code));
  return a;
}

ListAnswer answer_one(const ListRequest& request, int16_t version, Now now,
                      const ListRequest::ListOffsetsPartition& asked, const PartitionRef& partition) {
  if (asked.timestamp < kEarliestLocal || version < version_of_special(asked.timestamp)) {
    return list_refused(asked.partition_index, ErrorCode::unsupported_version);
  }
  const partition::EpochCheck check{LeaderEpoch(asked.current_leader_epoch)};
  const auto isolation = request.isolation_level == 1 ? partition::Isolation::read_committed
                                                      : partition::Isolation::read_uncommitted;
  if (partition->in_doubt(now)) return list_refused(asked.partition_index, ErrorCode::not_leader_or_follower);
  const Result<partition::Offsets> offsets = partition->offsets(check);
  if (!offsets.ok()) return list_refused(asked.partition_index, offsets.code());

  ListAnswer a;
  a.partition_index = asked.partition_index;
  if (asked.timestamp == kLatest) {
    // Clients of old do not know that it may take a moment.
    if (!offsets->end_known) {
      return list_refused(asked.partition_index,
                          version >= 5 ? ErrorCode::offset_not_available : ErrorCode::leader_not_available);
    }
    const bool debug = request.replica_id == -2;  // may see beyond the high watermark
    const Offset end =
        isolation == partition::Isolation::read_committed ? offsets->last_stable : offsets->high_watermark;
    a.offset = debug ? offsets->log_end.v : end.v;
    a.leader_epoch = partition->leader_epoch().v;
    return a;
  }
  if (asked.timestamp == kEarliest || asked.timestamp == kEarliestLocal) {
    a.offset = offsets->log_start.v;
    a.leader_epoch = partition->epoch_of(offsets->log_start).v;
    return a;
  }
  const Result<partition::Partition::TimestampAnswer> found =
      asked.timestamp == kMaxTimestamp ? partition->offset_of_max_timestamp(check)
                                       : partition->offset_for_timestamp(asked.timestamp, isolation, check);
  if (!found.ok()) return list_refused(asked.partition_index, found.code());
  a.offset = found->offset.v;
  a.timestamp = found->timestamp_ms;
  a.leader_epoch = found->epoch.v;
  return a;
}

bool reads_disk(int64_t timestamp) {
  return timestamp >= 0 || timestamp == kMaxTimestamp;
}

void run_list(ListJob& job) {
  const int16_t version = job.call->version();
  for (size_t t = 0; t < job.request.topics.size(); ++t) {
    const auto& topic = job.request.topics[t];
    std::set<int32_t> twice;
    std::set<int32_t> seen;
    for (const auto& p : topic.partitions) {
      if (!seen.insert(p.partition_index).second) twice.insert(p.partition_index);
    }
    auto& out = job.response.topics.emplace_back();
    out.name = topic.name;
    for (size_t i = 0; i < topic.partitions.size(); ++i) {
      const auto& p = topic.partitions[i];
      if (twice.contains(p.partition_index)) {
        out.partitions.push_back(list_refused(p.partition_index, ErrorCode::invalid_request));
      } else if (!job.partitions[t][i]) {
        out.partitions.push_back(list_refused(p.partition_index, job.absences[t][i]));
      } else {
        out.partitions.push_back(answer_one(job.request, version, job.call->now(), p, job.partitions[t][i]));
      }
    }
  }
}

}  // namespace

void handle(Call call, ListRequest& request) {
  auto job = std::make_shared<ListJob>();
  bool disk = false;
  for (const auto& topic : request.topics) {
    std::vector<PartitionRef>& row = job->partitions.emplace_back();
    std::vector<ErrorCode>& absences = job->absences.emplace_back();
    const meta::Topic* known = call.view().image->topic(topic.name);
    for (const auto& p : topic.partitions) {
      const PartitionRef* found =
          known == nullptr ? nullptr : call.view().partition(known->id, p.partition_index);
      row.push_back(found == nullptr ? nullptr : *found);
      const ErrorCode why = absence(known, p.partition_index, call.broker().config().node_id);
      absences.push_back(why == ErrorCode::kafka_storage_error ? why : ErrorCode::unknown_topic_or_partition);
      disk = disk || reads_disk(p.timestamp);
    }
  }
  job->request = std::move(request);
  job->call = share(std::move(call));
  if (!disk) {
    run_list(*job);
    job->call->reply(job->response);
    return;
  }
  job->call->broker().environment().disk->run_in(
      io::Lane::read, job->call->loop(), [job] { run_list(*job); },
      [job] { job->call->reply(job->response); });
}

}  // namespace millrace::broker
