// The active controller as a pure machine: what is asked becomes a reply and the records that make it true.
//
// handle() changes nothing but volatile state. Its owner (the runner of the metadata log) appends the
// records, calls apply() for each in order, sends the reply once they are committed, and discards the machine
// if the append fails. Requests are handled one after the other, each seeing what the ones before it
// recorded.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/time.h"
#include "control/requests.h"
#include "meta/image.h"

namespace millrace::control {

struct Limits {
  size_t topics_per_request = 10'000;
  size_t partitions_per_request = 10'000;  // created by one request, all topics together
  size_t partitions_per_topic = 100'000;
  size_t partitions_total = 1'000'000;
  size_t resources_per_request = 10'000;
  size_t config_value_bytes = 32'767;
};

/// What is asked for, and the records that make it so (none if nothing changes).
template <class Reply>
struct Decision {
  Reply reply;
  std::vector<meta::Record> records;
};

class Controller {
 public:
  /// Ids given to one broker at a time.
  static constexpr int32_t kProducerIdBlock = 1000;

  /// Fresh uuids; the machine draws none itself.
  using UuidSource = std::function<Uuid()>;

  /// `self` and `settings`: this broker and its properties, for the defaults of new topics.
  Controller(BrokerId self, std::shared_ptr<const meta::ConfigValues> settings, meta::Image image = {},
             Limits limits = {});

  const meta::Image& image() const { return image_; }

  Decision<CreateTopicsReply> handle(const CreateTopics& request, const UuidSource& uuids, Now now);
  Decision<DeleteTopicsReply> handle(const DeleteTopics& request, Now now);
  Decision<CreatePartitionsReply> handle(const CreatePartitions& request, Now now);
  Decision<AlterConfigsReply> handle(const IncrementalAlterConfigs& request, Now now);
  Decision<AlterConfigsReply> handle(const ReplaceConfigs& request, Now now);
  /// Grants a new epoch. The broker's partitions that it may lead get it as leader with a new leader epoch,
  /// so that every incarnation starts one. invalid_request, inconsistent_cluster_id.
  Decision<RegisterBrokerReply> handle(const RegisterBroker& request, Now now);
  /// broker_id_not_registered, stale_broker_epoch.
  Decision<AllocateProducerIdsReply> handle(const AllocateProducerIds& request, Now now);
  /// The identity of a cluster that has none; a no-op if it has this one, inconsistent_cluster_id otherwise.
  Decision<FoundClusterReply> handle(const FoundCluster& request, Now now);

  /// The only change of replicated state. Error: corrupt (the record does not fit; the machine must go).
  Status apply(const meta::Record& record, meta::Delta* delta = nullptr) {
    return image_.apply(record, delta);
  }
  void set_applied(LogIndex index, Term term) { image_.set_applied(index, term); }

 private:
  meta::ConfigView view(const meta::Image& image) const { return {image, self_, *settings_}; }

  BrokerId self_;
  std::shared_ptr<const meta::ConfigValues> settings_;
  meta::Image image_;
  Limits limits_;
};

}  // namespace millrace::control
