#include "control/controller.h"

#include "base/assert.h"
#include "meta/options.h"

namespace millrace::control {

Controller::Controller(BrokerId self, std::shared_ptr<const meta::ConfigValues> settings, meta::Image image,
                       Limits limits)
    : self_(self),
      settings_(std::move(settings)),
      image_(std::move(image)),
      limits_(limits),
      index_(image_),
      began_at_(image_.applied_index()) {
  ASSERT(settings_ != nullptr);
}

Status Controller::apply(const meta::Record& record, meta::Delta* delta) {
  const meta::Image before = image_;
  TRY(image_.apply(record, delta));
  const auto follow = [&](const Uuid& topic, PartitionId partition) {
    index_.change({topic, partition}, before.partition(topic, partition), image_.partition(topic, partition));
  };
  if (const auto* p = std::get_if<meta::PartitionChangeRecord>(&record)) {
    follow(p->topic_id, p->partition);
  } else if (const auto* n = std::get_if<meta::PartitionRecord>(&record)) {
    follow(n->topic_id, n->partition);
  } else if (const auto* t = std::get_if<meta::RemoveTopicRecord>(&record)) {
    // From the back: the index keeps numbers in order.
    for (size_t i = before.topic(t->id)->partitions.size(); i-- > 0;) {
      follow(t->id, PartitionId(static_cast<int32_t>(i)));
    }
  } else if (const auto* b = std::get_if<meta::RegisterBrokerRecord>(&record)) {
    registering_.push_back(b->broker.id);
  } else if (const auto* c = std::get_if<meta::BrokerChangeRecord>(&record)) {
    if (c->in_controlled_shutdown.value_or(false)) shutting_down_.push_back(c->id);
  } else if (const auto* u = std::get_if<meta::UnregisterBrokerRecord>(&record)) {
    milestones_.erase(u->id);
  }
  return {};
}

void Controller::set_applied(LogIndex index, Term term) {
  image_.set_applied(index, term);
  for (const BrokerId b : registering_) milestones_[b] = {index, began_at_};
  for (const BrokerId b : shutting_down_) {
    milestones_.try_emplace(b, Milestones{began_at_, began_at_}).first->second.shutting_down = index;
  }
  registering_.clear();
  shutting_down_.clear();
}

int64_t Controller::setting(std::string_view key) const {
  const meta::OptionDef* option = meta::find_broker_option(key);
  ASSERT(option != nullptr && option->default_value);
  const std::optional<std::string> value = view(image_).broker_value(key);
  const bool fine = value && meta::check_option_value(*option, *value).ok();
  return meta::parse_config_int(fine ? std::string_view(*value) : *option->default_value).value();
}

bool Controller::setting_is_true(std::string_view key) const {
  const Result<bool> value = meta::parse_config_bool(view(image_).broker_value(key).value_or("false"));
  return value.ok() && *value;
}

}  // namespace millrace::control
