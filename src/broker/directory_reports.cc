#include "broker/directory_reports.h"

#include <utility>

namespace millrace::broker {
namespace {

constexpr size_t kPartitionsPerReport = 2'000;
constexpr int64_t kReportAgainMs = 1'000;

}  // namespace

void DirectoryReports::send(BrokerId self, BrokerEpoch epoch) {
  self_ = self;
  epoch_ = epoch;
  if (sending_ || untold_.empty() || epoch.v < 0 || !*alive_) return;
  control::AssignDirectories request;
  request.broker = self;
  request.epoch = epoch;
  auto sent = std::make_shared<std::map<control::PartitionKey, Uuid>>();
  while (!untold_.empty() && sent->size() < kPartitionsPerReport) {
    const auto next = untold_.extract(untold_.begin());
    request.directories[next.mapped()].push_back(next.key());
    (*sent)[next.key()] = next.mapped();
  }
  sending_ = true;
  ask_(std::move(request), [this, sent, alive = alive_](const Result<control::AssignDirectoriesReply>& r) {
    if (!*alive) return;
    sending_ = false;
    // A replica that is refused is not there any more, or moved meanwhile: then it is noted anew.
    if (r.ok() && r->outcome.ok()) return this->send(self_, epoch_);
    untold_.merge(*sent);  // what has been noted since wins
    again();
  });
}

void DirectoryReports::again() {
  loop_.call_after(kReportAgainMs, [this, alive = alive_] {
    if (*alive) send(self_, epoch_);
  });
}

}  // namespace millrace::broker
