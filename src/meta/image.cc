#include "meta/image.h"
#include "base/plants.h"

#include <fmt/format.h>

#include <algorithm>

namespace millrace::meta {
namespace {

Error misfit(std::string what) {
  return Error(ErrorCode::corrupt, "metadata record does not fit: " + std::move(what));
}

bool has_collision_characters(std::string_view name) {
  return name.find_first_of("._") != std::string_view::npos;
}

/// What metric systems make of a topic name.
std::string metric_name(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '.', '_');
  return out;
}

}  // namespace

// Applies one record; each overload checks everything before it changes anything.
struct Image::Applier {
  Image& image;
  Delta* delta;

  void touch(const Uuid& topic) const {
    if (delta != nullptr) delta->topics.insert(topic);
  }
  void touch(const Uuid& topic, PartitionId partition) const {
    if (delta == nullptr) return;
    delta->topics.insert(topic);
    delta->partitions[topic].insert(partition);
  }
  void touch(BrokerId broker) const {
    if (delta != nullptr) delta->brokers.insert(broker);
  }

  // Both indexes hold the same topic.
  void put_topic(TopicRef topic) const {
    image.topics_by_id_.insert_or_assign(topic->id, topic);
    std::string name = topic->name;
    image.topics_.insert_or_assign(std::move(name), std::move(topic));
  }

  Status operator()(const NoOpRecord&) const { return {}; }

  Status operator()(const ClusterRecord& r) const {
    image.cluster_id_ = r.cluster_id;
    image.next_broker_epoch_ = std::max(image.next_broker_epoch_, r.next_broker_epoch);
    if (delta != nullptr) delta->cluster = true;
    return {};
  }

  Status operator()(const FeatureLevelRecord& r) const {
    if (r.level < 0) return misfit("a negative feature level");
    if (r.level == 0) {
      image.features_.erase(r.name);
    } else {
      image.features_.insert_or_assign(r.name, r.level);
    }
    if (delta != nullptr) delta->features = true;
    return {};
  }

  Status operator()(const TopicRecord& r) const {
    if (r.name.empty() || r.id.is_zero()) return misfit("a topic without name or id");
    if (image.topics_.contains(r.name)) return misfit(fmt::format("topic {} exists", r.name));
    if (image.topics_by_id_.contains(r.id))
      return misfit(fmt::format("topic id {} exists", r.id.to_string()));
    auto topic = std::make_shared<Topic>();
    topic->id = r.id;
    topic->name = r.name;
    put_topic(std::move(topic));
    if (has_collision_characters(r.name)) {
      std::string key = metric_name(r.name);
      std::vector<std::string> names;
      if (const std::vector<std::string>* known = image.collisions_.find(key)) names = *known;
      names.push_back(r.name);
      image.collisions_.insert_or_assign(std::move(key), std::move(names));
    }
    touch(r.id);
    return {};
  }

  Status operator()(const PartitionRecord& r) const {
    const TopicRef* at = image.topics_by_id_.find(r.topic_id);
    if (at == nullptr) return misfit(fmt::format("a partition of unknown topic {}", r.topic_id.to_string()));
    const size_t count = (*at)->partitions.size();
    if (r.partition.v < 0 || static_cast<size_t>(r.partition.v) > count) {
      return misfit(fmt::format("partition {} of {}, which has {}", r.partition.v, (*at)->name, count));
    }
    auto topic = std::make_shared<Topic>(**at);
    topic->partitions.set(static_cast<size_t>(r.partition.v), r.state);
    image.partition_count_ += topic->partitions.size() - count;
    put_topic(std::move(topic));
    touch(r.topic_id, r.partition);
    return {};
  }

  Status operator()(const PartitionChangeRecord& r) const {
    const TopicRef* at = image.topics_by_id_.find(r.topic_id);
    if (at == nullptr) return misfit(fmt::format("a change of unknown topic {}", r.topic_id.to_string()));
    const Partition* before = (*at)->partitions.find(r.partition);
    if (before == nullptr) return misfit(fmt::format("a change of {}-{}", (*at)->name, r.partition.v));
    Partition p = *before;
    if (r.replicas) p.replicas = *r.replicas;
    if (r.isr) p.isr = *r.isr;
    if (r.adding_replicas) p.adding_replicas = *r.adding_replicas;
    if (r.removing_replicas) p.removing_replicas = *r.removing_replicas;
    if (r.elr) p.elr = *r.elr;
    if (r.last_known_elr) p.last_known_elr = *r.last_known_elr;
    if (r.leader_recovering) p.leader_recovering = *r.leader_recovering;
    if (r.directories) p.directories = *r.directories;
    if (r.leader) {
      p.leader = *r.leader;
      if (!planted(Plant::same_leader_epoch)) ++p.leader_epoch;
    }
    ++p.partition_epoch;
    auto topic = std::make_shared<Topic>(**at);
    topic->partitions.set(static_cast<size_t>(r.partition.v), std::move(p));
    put_topic(std::move(topic));
    touch(r.topic_id, r.partition);
    return {};
  }

  Status operator()(const RemoveTopicRecord& r) const {
    const TopicRef* at = image.topics_by_id_.find(r.id);
    if (at == nullptr) return misfit(fmt::format("removal of unknown topic {}", r.id.to_string()));
    const TopicRef topic = *at;
    image.partition_count_ -= topic->partitions.size();
    image.topics_by_id_.erase(topic->id);
    image.topics_.erase(topic->name);
    if (has_collision_characters(topic->name)) {
      const std::string key = metric_name(topic->name);
      std::vector<std::string> names = *image.collisions_.find(key);
      std::erase(names, topic->name);
      if (names.empty()) {
        image.collisions_.erase(key);
      } else {
        image.collisions_.insert_or_assign(key, std::move(names));
      }
    }
    touch(r.id);
    if (delta != nullptr) delta->partitions.erase(r.id);
    return {};
  }

  Status operator()(const ConfigRecord& r) const {
    if (r.key.empty()) return misfit("a configuration without a key");
    const std::shared_ptr<const ConfigValues>* at = image.configs_.find(r.resource);
    auto values = at == nullptr ? std::make_shared<ConfigValues>() : std::make_shared<ConfigValues>(**at);
    if (r.value) {
      (*values)[r.key] = *r.value;
    } else {
      values->erase(r.key);
    }
    if (values->empty()) {
      image.configs_.erase(r.resource);
    } else {
      image.configs_.insert_or_assign(r.resource, std::move(values));
    }
    if (delta != nullptr) delta->configs.insert(r.resource);
    return {};
  }

  Status operator()(const RegisterBrokerRecord& r) const {
    if (r.broker.id.v < 0) return misfit("a broker without id");
    image.brokers_.insert_or_assign(r.broker.id, std::make_shared<const Broker>(r.broker));
    image.next_broker_epoch_ = std::max(image.next_broker_epoch_, r.broker.epoch + 1);
    touch(r.broker.id);
    return {};
  }

  Status operator()(const BrokerChangeRecord& r) const {
    const BrokerRef* at = image.brokers_.find(r.id);
    if (at == nullptr || (*at)->epoch != r.epoch) {
      return misfit(fmt::format("a change of broker {} in epoch {}", r.id.v, r.epoch.v));
    }
    auto broker = std::make_shared<Broker>(**at);
    if (r.fenced) broker->fenced = *r.fenced;
    if (r.in_controlled_shutdown) broker->in_controlled_shutdown = *r.in_controlled_shutdown;
    if (r.log_dirs) broker->log_dirs = *r.log_dirs;
    if (r.decommissioning) broker->decommissioning = *r.decommissioning;
    image.brokers_.insert_or_assign(r.id, std::move(broker));
    touch(r.id);
    return {};
  }

  Status operator()(const UnregisterBrokerRecord& r) const {
    const BrokerRef* at = image.brokers_.find(r.id);
    if (at == nullptr || (*at)->epoch != r.epoch) {
      return misfit(fmt::format("removal of broker {} in epoch {}", r.id.v, r.epoch.v));
    }
    image.brokers_.erase(r.id);
    touch(r.id);
    return {};
  }

  Status operator()(const ProducerIdsRecord& r) const {
    if (r.next_producer_id < image.next_producer_id_) return misfit("producer ids go backwards");
    image.next_producer_id_ = r.next_producer_id;
    if (delta != nullptr) delta->producer_ids = true;
    return {};
  }
};

const Topic* Image::topic(std::string_view name) const {
  const TopicRef* t = topics_.find(name);
  return t == nullptr ? nullptr : t->get();
}

const Topic* Image::topic(const Uuid& id) const {
  const TopicRef* t = topics_by_id_.find(id);
  return t == nullptr ? nullptr : t->get();
}

const Partition* Image::partition(const Uuid& topic_id, PartitionId partition) const {
  const Topic* t = topic(topic_id);
  return t == nullptr ? nullptr : t->partitions.find(partition);
}

std::vector<std::string> Image::colliding_topics(std::string_view name) const {
  const std::string key = metric_name(name);
  const std::vector<std::string>* known = collisions_.find(key);
  std::vector<std::string> names;
  if (known == nullptr) return names;
  std::copy_if(known->begin(), known->end(), std::back_inserter(names),
               [name](const std::string& other) { return other != name; });
  std::sort(names.begin(), names.end());
  return names;
}

const Broker* Image::broker(BrokerId id) const {
  const BrokerRef* b = brokers_.find(id);
  return b == nullptr ? nullptr : b->get();
}

const ConfigValues* Image::config(const ConfigResource& resource) const {
  const std::shared_ptr<const ConfigValues>* values = configs_.find(resource);
  return values == nullptr ? nullptr : values->get();
}

int16_t Image::feature_level(std::string_view name) const {
  const int16_t* level = features_.find(name);
  return level == nullptr ? int16_t{0} : *level;
}

Status Image::apply(const Record& record, Delta* delta) {
  return std::visit(Applier{*this, delta}, record);
}

Status Image::apply(std::span<const Record> records, Delta* delta) {
  Image next = *this;
  Delta touched;
  for (const Record& r : records) TRY(next.apply(r, delta == nullptr ? nullptr : &touched));
  *this = std::move(next);
  if (delta == nullptr) return {};
  for (auto& [topic, partitions] : touched.partitions) delta->partitions[topic].merge(partitions);
  for (const Uuid& topic : touched.topics) {
    if (!topics_by_id_.contains(topic)) delta->partitions.erase(topic);
  }
  delta->topics.merge(touched.topics);
  delta->brokers.merge(touched.brokers);
  delta->configs.merge(touched.configs);
  delta->features |= touched.features;
  delta->producer_ids |= touched.producer_ids;
  delta->cluster |= touched.cluster;
  return {};
}

}  // namespace millrace::meta
