// CreateTopics: each topic for itself, all of a topic or nothing of it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "control/controller.h"
#include "control/draft.h"
#include "control/placement.h"
#include "control/topic_name.h"
#include "meta/options.h"

namespace millrace::control {
namespace {

using Places = std::vector<std::vector<BrokerId>>;

Error cannot_create(ErrorCode code, std::string why) {
  return Error(code, std::move(why));
}

/// A broker setting of integer type; every one asked for here has a default.
int64_t broker_number(const meta::ConfigView& view, std::string_view key) {
  const std::optional<std::string> value = view.broker_value(key);
  ASSERT(value.has_value());
  const meta::OptionDef& option = *meta::find_broker_option(key);
  const bool fine = meta::check_option_value(option, *value).ok();
  return meta::parse_config_int(fine ? std::string_view(*value) : *option.default_value).value();
}

Status check_name(const meta::Image& image, const std::string& name) {
  if (std::string fault = topic_name_fault(name); !fault.empty()) {
    return cannot_create(ErrorCode::invalid_topic_exception, std::move(fault));
  }
  if (image.topic(name) != nullptr) {
    return cannot_create(ErrorCode::topic_already_exists, fmt::format("Topic '{}' already exists.", name));
  }
  const std::vector<std::string> others = image.colliding_topics(name);
  if (!others.empty()) {
    return cannot_create(
        ErrorCode::invalid_topic_exception,
        fmt::format("Topic '{}' collides with existing topic: {} ('.' and '_' are the same in metric names)",
                    name, others.front()));
  }
  return {};
}

Status check_topic_configs(const std::vector<NamedValue>& configs, size_t value_bytes_max) {
  for (const NamedValue& c : configs) {
    if (!c.value) {
      return cannot_create(ErrorCode::invalid_config,
                           fmt::format("Null value not supported for topic configs: {}", c.name));
    }
    const meta::OptionDef* option = meta::find_topic_option(c.name);
    if (option == nullptr)
      return cannot_create(ErrorCode::invalid_config, fmt::format("Unknown topic config name: {}", c.name));
    if (c.value->size() > value_bytes_max) {
      return cannot_create(ErrorCode::invalid_config, fmt::format("The value of {} is too long", c.name));
    }
    TRY(meta::check_option_value(*option, *c.value));
  }
  return {};
}

Result<Places> manual_places(const meta::Image& image, const NewTopic& topic) {
  if (topic.replication_factor != -1) {
    return cannot_create(
        ErrorCode::invalid_request,
        "A manual partition assignment was specified, but replication factor was not set to -1.");
  }
  if (topic.partitions != -1) {
    return cannot_create(ErrorCode::invalid_request,
                         "A manual partition assignment was specified, but numPartitions was not set to -1.");
  }
  std::map<int32_t, const Assignment*> by_partition;
  for (const Assignment& a : topic.assignments) {
    if (!by_partition.emplace(a.partition, &a).second) {
      return cannot_create(
          ErrorCode::invalid_replica_assignment,
          fmt::format("Found multiple manual partition assignments for partition {}", a.partition));
    }
  }
  Places places;
  for (const auto& [partition, assignment] : by_partition) {
    if (partition != static_cast<int32_t>(places.size())) {
      return cannot_create(ErrorCode::invalid_replica_assignment,
                           "partitions should be a consecutive 0-based integer sequence");
    }
    Outcome fine = check_assignment(image, assignment->replicas, places.empty() ? 0 : places.front().size());
    if (!fine.ok()) return cannot_create(fine.error, std::move(fine.message));
    places.push_back(assignment->replicas);
  }
  return places;
}

Result<Places> automatic_places(const meta::Image& image, const meta::ConfigView& view, const NewTopic& topic,
                                size_t partitions_max) {
  if (topic.partitions == 0 || topic.partitions < -1) {
    return cannot_create(ErrorCode::invalid_partitions,
                         "Number of partitions was set to an invalid non-positive value.");
  }
  if (topic.replication_factor == 0 || topic.replication_factor < -1) {
    return cannot_create(ErrorCode::invalid_replication_factor,
                         "Replication factor must be larger than 0, or -1 to use the default value.");
  }
  const int64_t partitions =
      topic.partitions == -1 ? broker_number(view, "num.partitions") : topic.partitions;
  if (partitions > static_cast<int64_t>(partitions_max)) {
    return cannot_create(ErrorCode::policy_violation,
                         fmt::format("{} partitions are more than the {} that may be created here",
                                     partitions, partitions_max));
  }
  int64_t factor = topic.replication_factor == -1 ? broker_number(view, "default.replication.factor")
                                                  : topic.replication_factor;
  if (topic.fit_single_broker && image.brokers().size() == 1) factor = 1;
  return place(image, static_cast<size_t>(partitions), static_cast<int16_t>(factor), image.partition_count());
}

std::vector<DescribedConfig> describe(const meta::ConfigView& view, std::string_view topic) {
  std::vector<DescribedConfig> out;
  for (const meta::OptionDef& option : meta::topic_options()) {
    meta::EffectiveConfig e = view.topic(topic, option);
    if (option.sensitive) e.value.reset();
    out.push_back({std::string(option.name), std::move(e.value), false, e.source, option.sensitive});
  }
  return out;
}

}  // namespace

Decision<CreateTopicsReply> Controller::handle(const CreateTopics& request, const UuidSource& uuids, Now) {
  Decision<CreateTopicsReply> decision;
  std::map<std::string_view, size_t> named;
  for (const NewTopic& t : request.topics) ++named[t.name];

  Draft draft(image_);
  size_t created = 0;  // partitions
  std::map<std::string_view, bool> answered;
  for (const NewTopic& t : request.topics) {
    if (!answered.emplace(t.name, true).second) continue;
    CreatedTopic& out = decision.reply.topics.emplace_back();
    out.name = t.name;

    const auto decide = [&]() -> Status {
      if (request.topics.size() > limits_.topics_per_request) {
        return cannot_create(
            ErrorCode::policy_violation,
            fmt::format("A request may create at most {} topics", limits_.topics_per_request));
      }
      if (named[t.name] > 1) return cannot_create(ErrorCode::invalid_request, "Duplicate topic name.");
      TRY(check_name(draft.image(), t.name));
      TRY(check_topic_configs(t.configs, limits_.config_value_bytes));
      const meta::ConfigView defaults = view(draft.image());
      const size_t left = std::min(
          {limits_.partitions_per_request - created, limits_.partitions_per_topic,
           limits_.partitions_total - std::min(limits_.partitions_total, draft.image().partition_count())});
      if (t.assignments.size() > left) {
        return cannot_create(ErrorCode::policy_violation,
                             fmt::format("At most {} partitions may be created here", left));
      }
      TRY_ASSIGN(Places places, t.assignments.empty() ? automatic_places(draft.image(), defaults, t, left)
                                                      : manual_places(draft.image(), t));

      const Uuid id = uuids();
      draft.add(meta::TopicRecord{t.name, id});
      for (size_t p = 0; p < places.size(); ++p) {
        draft.add(meta::PartitionRecord{id, PartitionId(static_cast<int32_t>(p)),
                                        new_partition(draft.image(), std::move(places[p]))});
      }
      for (const NamedValue& c : t.configs) {
        draft.add(meta::ConfigRecord{{meta::ResourceType::topic, t.name}, c.name, c.value});
      }
      created += places.size();
      if (!request.validate_only) out.id = id;
      out.partitions = static_cast<int32_t>(places.size());
      out.replication_factor = static_cast<int16_t>(draft.image().topic(id)->partitions[0].replicas.size());
      out.configs = describe(view(draft.image()), t.name);
      return {};
    };
    if (Status done = decide(); !done.ok()) {
      Error error = std::move(done).error();
      out.outcome = {error.code, std::move(error.message)};
    }
  }
  if (!request.validate_only) decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
