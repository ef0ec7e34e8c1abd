#include "control/features.h"

#include <fmt/format.h>

#include <set>

#include "control/controller.h"
#include "control/draft.h"

namespace millrace::control {
namespace {

constexpr std::string_view kMetadataVersion = "metadata.version";

bool within(const meta::FeatureRange& range, int16_t level) {
  return level == 0 || (level >= range.min_level && level <= range.max_level);
}

Outcome check_update(const meta::Image& image, const FeatureUpdate& update) {
  const auto bad = [&update](std::string why) {
    return Outcome{
        ErrorCode::invalid_update_version,
        fmt::format("Invalid update version {} for feature {}. {}", update.level, update.name, why)};
  };
  const auto known = supported_features().find(update.name);
  if (known == supported_features().end()) return bad("The controller does not support this feature.");
  if (update.type != FeatureUpgrade::upgrade && update.type != FeatureUpgrade::safe_downgrade &&
      update.type != FeatureUpgrade::unsafe_downgrade) {
    return bad(fmt::format("The upgrade type {} is unknown.", static_cast<int>(update.type)));
  }
  if (update.level < 0) return bad("A feature level is not negative.");
  if (!within(known->second, update.level)) {
    return bad(fmt::format("The controller supports levels {} to {}.", known->second.min_level,
                           known->second.max_level));
  }
  const int16_t now = image.feature_level(update.name);
  if (update.level == now) return {};
  if (update.type == FeatureUpgrade::upgrade && update.level < now) {
    return bad(
        "Can't downgrade the version of this feature without setting the upgrade type to either safe or "
        "unsafe downgrade.");
  }
  if (update.type != FeatureUpgrade::upgrade && update.level > now) {
    return bad("Can't upgrade the version of this feature with a downgrade type.");
  }
  if (update.name == kMetadataVersion && update.level < now) {
    return bad(
        "metadata.version cannot be lowered: the log may hold records that an older version does not know.");
  }
  std::string who;
  image.brokers().for_each([&](BrokerId id, const meta::BrokerRef& b) {
    const auto range = b->features.find(update.name);
    if (who.empty() && range != b->features.end() && !within(range->second, update.level)) {
      who = fmt::format("Broker {} supports levels {} to {}.", id.v, range->second.min_level,
                        range->second.max_level);
    }
  });
  return who.empty() ? Outcome{} : bad(std::move(who));
}

}  // namespace

const std::map<std::string, meta::FeatureRange>& supported_features() {
  static const std::map<std::string, meta::FeatureRange> kSupported = {
      {"eligible.leader.replicas.version", {0, 1}},
      {"group.version", {0, 1}},
      {std::string(kMetadataVersion), {1, 33}},
      {"share.version", {0, 2}},
      {"streams.version", {0, 1}},
      {"transaction.version", {0, 2}},
  };
  return kSupported;
}

std::string misfit_of_features(const meta::Image& image,
                               const std::map<std::string, meta::FeatureRange>& ranges) {
  for (const auto& [name, range] : ranges) {
    if (name.empty() || range.min_level < 0 || range.max_level < range.min_level) {
      return fmt::format("The levels of feature {} are not a range", name);
    }
    const int16_t level = image.feature_level(name);
    if (level != 0 && !within(range, level)) {
      return fmt::format("Feature {} is at level {}; the broker supports {} to {}", name, level,
                         range.min_level, range.max_level);
    }
  }
  return "";
}

Decision<UpdateFeaturesReply> Controller::handle(const UpdateFeatures& request, Now) {
  Decision<UpdateFeaturesReply> decision;
  UpdateFeaturesReply& reply = decision.reply;
  Draft draft(image_);
  std::set<std::string_view> seen;
  if (request.updates.size() > limits_.features_per_broker) {
    reply.outcome = {ErrorCode::invalid_request, "Too many features in one request"};
    return decision;
  }
  for (const FeatureUpdate& u : request.updates) {
    Outcome fine = seen.insert(u.name).second ? check_update(image_, u)
                                              : Outcome{ErrorCode::invalid_request,
                                                        fmt::format("Feature {} is named twice", u.name)};
    if (fine.ok() && u.level != image_.feature_level(u.name)) {
      draft.add(meta::FeatureLevelRecord{u.name, u.level});
    }
    if (!fine.ok() && reply.outcome.ok()) reply.outcome = fine;
    reply.features.push_back({u.name, std::move(fine)});
  }
  if (reply.outcome.ok() && !request.validate_only) decision.records = draft.take();
  return decision;
}

}  // namespace millrace::control
