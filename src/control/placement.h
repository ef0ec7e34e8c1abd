// Where replicas go: round-robin over brokers, spread over racks. Deterministic: the same brokers and the
// same start give the same places.
#pragma once

#include <vector>

#include "control/requests.h"
#include "meta/image.h"

namespace millrace::control {

/// Whether `broker` may lead and be in sync: registered, not fenced, not shutting down.
bool is_usable(const meta::Image& image, BrokerId broker);

/// The data directory that a new replica on `broker` will lie in, if it has one only; zero otherwise.
Uuid sole_directory(const meta::Image& image, BrokerId broker);

/// Whether the directory that the broker's replica lies in is still there, as far as anybody said.
bool directory_is_online(const meta::Partition& p, const meta::Broker& broker);

/// The state of a new partition on `replicas`: in sync are the usable ones, the first of them leads.
meta::Partition new_partition(const meta::Image& image, std::vector<BrokerId> replicas);

/// Replicas for `partitions` new partitions; never on brokers that are being emptied. Consecutive partitions
/// start on consecutive brokers; the first replica and as many others as possible are usable brokers; racks
/// repeat only when there are fewer racks than replicas. `start` rotates the beginning. Error:
/// invalid_replication_factor.
Result<std::vector<std::vector<BrokerId>>> place(const meta::Image& image, size_t partitions,
                                                 int16_t replication_factor, size_t start);

/// Whether an operator's choice of replicas can be: not empty, no broker twice, all registered, none
/// being emptied, at least one usable, and `replication_factor` of them if that is not 0. Error:
/// invalid_replica_assignment.
Outcome check_assignment(const meta::Image& image, const std::vector<BrokerId>& replicas,
                         size_t replication_factor);

}  // namespace millrace::control
