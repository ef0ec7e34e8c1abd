// Whoever asked a broker that does not lead a partition is told who does, and where (KIP-951): it need not
// ask for metadata first.
#pragma once

#include <algorithm>
#include <string_view>

#include "broker/view.h"

namespace millrace::broker {

/// For a refused partition of a Produce or Fetch response: its leader as far as is known here, and the
/// leader's address beside those that `response` names already.
template <class Partition, class Response>
void hint_leader(const meta::Image& image, BrokerId self, std::string_view listener, const meta::Topic* topic,
                 int32_t number, Partition& partition, Response& response) {
  const auto error = static_cast<ErrorCode>(partition.error_code);
  if (error != ErrorCode::not_leader_or_follower && error != ErrorCode::fenced_leader_epoch) return;
  if (topic == nullptr || number < 0 || static_cast<size_t>(number) >= topic->partitions.size()) return;
  const meta::Partition& p = topic->partitions[static_cast<size_t>(number)];
  if (p.leader == self) return;  // it refused: who leads now is not known here
  partition.current_leader.leader_id = p.leader.v;
  partition.current_leader.leader_epoch = p.leader_epoch.v;
  const auto known = [&](const auto& e) { return e.node_id == p.leader.v; };
  if (std::any_of(response.node_endpoints.begin(), response.node_endpoints.end(), known)) return;
  const meta::Endpoint* at = endpoint_of(image, p.leader, listener);
  if (at == nullptr) return;
  response.node_endpoints.push_back({p.leader.v, at->host, at->port, image.broker(p.leader)->rack});
}

}  // namespace millrace::broker
