#include "group/subscription.h"

#include <utility>

#include "wire/records/consumer_protocol.h"
#include "wire/versioned.h"

namespace millrace::group {

std::optional<std::set<std::string>> subscription_topics(ByteView metadata) {
  auto decoded = wire::decode_versioned<wire::ConsumerProtocolSubscription>(
      metadata, wire::NewerVersion::read_as_newest);
  if (!decoded) return std::nullopt;
  std::set<std::string> topics;
  for (std::string& topic : decoded->topics) topics.insert(std::move(topic));
  return topics;
}

}  // namespace millrace::group
