// What `topic describe` says about durability: the topic's mode, and how long an fdatasync takes where each
// partition's leader keeps it. Other brokers than Millrace tell neither; then it is left out.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "cli/session.h"
#include "client/cluster_view.h"

namespace millrace::cli {

struct TopicDurability {
  std::optional<std::string> mode;         // fsync, replicated
  std::map<int32_t, int64_t> sync_micros;  // by partition
};

/// Asks the brokers; what cannot be had is missing.
TopicDurability topic_durability(Session& session, const client::TopicInfo& topic);

}  // namespace millrace::cli
