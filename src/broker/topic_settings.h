// From configuration values to what partitions and new topics are told.
#pragma once

#include <string>
#include <vector>

#include "control/requests.h"
#include "meta/topic_config.h"
#include "partition/partition_config.h"

namespace millrace::broker {

class Broker;

/// For the replicas of broker `self`.
partition::PartitionConfig partition_config_of(const meta::TopicConfig& config, BrokerId self);

/// Which of "partition:broker" pairs, or "*", are about `self`; what is neither is passed over.
partition::ThrottledPartitions throttled_partitions(const std::vector<std::string>& replicas, BrokerId self);

/// What is asked of the controller when a topic is created because somebody used it: the broker's defaults,
/// or for
/// __consumer_offsets its own keys.
control::NewTopic automatic_topic(const Broker& broker, const meta::Image& image, const std::string& name);

}  // namespace millrace::broker
