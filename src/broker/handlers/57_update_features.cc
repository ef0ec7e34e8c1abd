// UpdateFeatures (57), versions 0-2: the levels of the cluster's features (KIP-584), all or nothing.
//   0 whether a downgrade is allowed | 1 upgrade type, validate only | 2 no results per feature
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {

void handle(Call call, wire::UpdateFeaturesRequest& request) {
  control::UpdateFeatures ask;
  ask.validate_only = call.version() >= 1 && request.validate_only;
  for (auto& u : request.feature_updates) {
    control::FeatureUpdate& update = ask.updates.emplace_back();
    update.name = std::move(u.feature);
    update.level = u.max_version_level;
    if (call.version() == 0) {
      update.type =
          u.allow_downgrade ? control::FeatureUpgrade::safe_downgrade : control::FeatureUpgrade::upgrade;
    } else {
      update.type = static_cast<control::FeatureUpgrade>(u.upgrade_type);
    }
  }
  const SharedCall shared = share(std::move(call));
  shared->broker().ask_controller(
      shared->loop(), std::move(ask), [shared](Result<control::UpdateFeaturesReply> r) {
        wire::UpdateFeaturesResponse response;
        const control::Outcome whole = r.ok() ? r->outcome : control::Outcome{r.code(), r.error().message};
        response.error_code = static_cast<int16_t>(wire_code(whole.error));
        response.error_message.reset();
        if (!whole.ok()) response.error_message = whole.message;
        if (r.ok() && shared->version() < 2) {
          for (control::NamedOutcome& f : r->features) {
            auto& out = response.results.emplace_back();
            out.feature = std::move(f.name);
            out.error_code = static_cast<int16_t>(wire_code(f.outcome.error));
            out.error_message.reset();
            if (!f.outcome.ok()) out.error_message = std::move(f.outcome.message);
          }
        }
        shared->reply(response);
      });
}

}  // namespace millrace::broker
