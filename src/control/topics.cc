// DeleteTopics and CreatePartitions.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "control/controller.h"
#include "control/draft.h"
#include "control/placement.h"
#include "meta/options.h"

namespace millrace::control {
namespace {

void remove_topic(Draft& draft, const Uuid& id) {
  const meta::Topic* topic = draft.image().topic(id);
  ASSERT(topic != nullptr);
  const meta::ConfigResource resource{meta::ResourceType::topic, topic->name};
  if (const meta::ConfigValues* values = draft.image().config(resource)) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : *values) keys.push_back(key);
    for (std::string& key : keys) draft.add(meta::ConfigRecord{resource, std::move(key), std::nullopt});
  }
  draft.add(meta::RemoveTopicRecord{id});
}

Outcome too_few(std::string why) {
  return {ErrorCode::invalid_partitions, std::move(why)};
}

}  // namespace

Decision<DeleteTopicsReply> Controller::handle(const DeleteTopics& request, Now) {
  Decision<DeleteTopicsReply> decision;
  const Result<bool> enabled =
      meta::parse_config_bool(view(image_).broker_value("delete.topic.enable").value_or(""));
  const bool may_delete = !enabled.ok() || *enabled;

  std::map<std::string, size_t> names;
  std::map<Uuid, size_t> ids;
  for (const TopicHandle& t : request.topics) {
    const meta::Topic* known = t.name ? image_.topic(*t.name) : image_.topic(t.id);
    if (known != nullptr) {
      ++ids[known->id];
    } else if (t.name) {
      ++names[*t.name];
    } else {
      ++ids[t.id];
    }
  }
  Draft draft(image_);
  for (const TopicHandle& t : request.topics) {
    const meta::Topic* known = t.name ? image_.topic(*t.name) : image_.topic(t.id);
    DeletedTopic& out = decision.reply.topics.emplace_back();
    out.name = known != nullptr ? std::optional<std::string>(known->name) : t.name;
    out.id = known != nullptr ? known->id : t.id;
    if (!may_delete) {
      out.outcome = {ErrorCode::topic_deletion_disabled, "delete.topic.enable is false"};
    } else if (request.topics.size() > limits_.topics_per_request) {
      out.outcome = {ErrorCode::policy_violation,
                     fmt::format("A request may delete at most {} topics", limits_.topics_per_request)};
    } else if (!t.name && t.id.is_zero()) {
      out.outcome = {ErrorCode::invalid_request, "Neither topic name nor id was specified."};
    } else if (known == nullptr ? (t.name ? names[*t.name] : ids[t.id]) > 1 : ids[known->id] > 1) {
      out.outcome = {ErrorCode::invalid_request, "The topic is named more than once."};
    } else if (known == nullptr) {
      out.outcome =
          t.name ? Outcome{ErrorCode::unknown_topic_or_partition, "This server does not host this topic."}
                 : Outcome{ErrorCode::unknown_topic_id, "This server does not host this topic ID."};
    } else {
      remove_topic(draft, known->id);
    }
  }
  decision.records = draft.take();
  return decision;
}

Decision<CreatePartitionsReply> Controller::handle(const CreatePartitions& request, Now) {
  Decision<CreatePartitionsReply> decision;
  std::map<std::string_view, size_t> named;
  for (const MorePartitions& t : request.topics) ++named[t.name];

  Draft draft(image_);
  size_t created = 0;
  std::set<std::string_view> answered;
  for (const MorePartitions& t : request.topics) {
    if (!answered.insert(t.name).second) continue;
    NamedOutcome& out = decision.reply.topics.emplace_back();
    out.name = t.name;
    const auto decide = [&]() -> Outcome {
      if (named[t.name] > 1) return {ErrorCode::invalid_request, "Duplicate topic name."};
      const meta::Topic* topic = draft.image().topic(t.name);
      if (topic == nullptr) {
        return {ErrorCode::unknown_topic_or_partition, "This server does not host this topic."};
      }
      const size_t have = topic->partitions.size();
      if (t.count <= 0) return too_few("Number of partitions must be larger than 0.");
      const auto want = static_cast<size_t>(t.count);
      if (want == have) return too_few(fmt::format("Topic already has {} partition(s).", have));
      if (want < have) {
        return too_few(fmt::format("The topic {} currently has {} partition(s); {} would not be an increase.",
                                   t.name, have, want));
      }
      const size_t added = want - have;
      if (want > limits_.partitions_per_topic) {
        return too_few(fmt::format("A topic may have at most {} partitions", limits_.partitions_per_topic));
      }
      if (added > limits_.partitions_per_request - created ||
          draft.image().partition_count() + added > limits_.partitions_total) {
        return {ErrorCode::policy_violation,
                fmt::format("{} partitions are more than may be created here", added)};
      }
      const size_t factor = topic->partitions[0].replicas.size();
      std::vector<std::vector<BrokerId>> places;
      if (t.assignments) {
        if (t.assignments->size() != added) {
          return {
              ErrorCode::invalid_replica_assignment,
              fmt::format("Attempted to add {} additional partition(s), but {} assignment(s) were specified.",
                          added, t.assignments->size())};
        }
        for (const std::vector<BrokerId>& replicas : *t.assignments) {
          if (Outcome fine = check_assignment(draft.image(), replicas, factor); !fine.ok()) return fine;
        }
        places = *t.assignments;
      } else {
        auto placed =
            place(draft.image(), added, static_cast<int16_t>(factor), draft.image().partition_count());
        if (!placed.ok()) return {placed.code(), placed.error().message};
        places = std::move(placed).value();
      }
      const Uuid id = topic->id;  // `topic` dies with the first record
      for (size_t i = 0; i < added; ++i) {
        draft.add(meta::PartitionRecord{id, PartitionId(static_cast<int32_t>(have + i)),
                                        new_partition(draft.image(), std::move(places[i]))});
      }
      created += added;
      return {};
    };
    out.outcome = decide();
  }
  if (!request.validate_only) decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
