// The one thing a coordinator reads in a member's metadata: the topics of a ConsumerProtocolSubscription.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "base/bytes.h"

namespace millrace::group {

/// The protocol type of consumers; other types' metadata is never read.
inline constexpr const char* kConsumerProtocolType = "consumer";

/// Subscribed topics; nullopt if the bytes are not a subscription. Every version begins alike, and unknown
/// newer ones are read as the newest known.
std::optional<std::set<std::string>> subscription_topics(ByteView metadata);

}  // namespace millrace::group
