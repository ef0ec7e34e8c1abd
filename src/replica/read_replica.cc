#include "replica/read_replica.h"

namespace millrace::replica {
namespace {

bool better(const ReadCandidate& a, const ReadCandidate& b) {
  if (a.log_end != b.log_end) return a.log_end > b.log_end;
  if (a.behind_ms != b.behind_ms) return a.behind_ms < b.behind_ms;
  return a.id < b.id;
}

}  // namespace

std::optional<BrokerId> preferred_read_replica(std::string_view client_rack, BrokerId leader,
                                               Offset fetch_offset,
                                               const std::vector<ReadCandidate>& replicas) {
  if (client_rack.empty()) return std::nullopt;
  const ReadCandidate* best = nullptr;
  for (const ReadCandidate& r : replicas) {
    if (r.rack != client_rack) continue;
    if (r.id == leader) return std::nullopt;
    if (!r.in_sync || !r.alive || fetch_offset < r.log_start || fetch_offset > r.log_end) continue;
    if (best == nullptr || better(r, *best)) best = &r;
  }
  return best == nullptr ? std::nullopt : std::optional(best->id);
}

}  // namespace millrace::replica
