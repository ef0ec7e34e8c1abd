// The metadata quorum as its leader sees it at one moment, for DescribeQuorum.
#pragma once

#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/uuid.h"
#include "meta/records.h"

namespace millrace::broker {

struct QuorumDescription {
  struct Replica {
    BrokerId node;
    Uuid directory;  // zero: not known
    LogIndex end{0};
    int64_t heard_wall_ms = -1;
    bool voter = false;
    std::optional<meta::Endpoint> endpoint;  // of its internal listener
  };
  BrokerId leader;
  Term term{0};
  LogIndex committed{0};
  std::vector<Replica> replicas;  // voters first
};

}  // namespace millrace::broker
