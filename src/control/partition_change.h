// One partition's next state: who is in sync, who may lead, who leads (KIP-966, KIP-455). What the caller
// wants is told to it piece by piece; build() draws the conclusions and gives the record, if anything
// changed.
//
// Rules: a broker that cannot serve is not in the ISR. Who leaves the ISR while it is, or falls, below the
// effective min.insync.replicas stays eligible (ELR), because the high watermark could not move without it.
// Elections take, in this order: a member of the ISR in the order of replicas; one of the ELR; the last
// leader there was, if nobody else is known to have more (recovering); if it is allowed, any live replica
// (recovering).
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "meta/config_view.h"
#include "meta/image.h"

namespace millrace::control {

/// What a topic's configuration says about its partitions.
struct PartitionRules {
  size_t min_isr = 1;
  bool unclean = false;
  bool fsync = true;
};

/// The rules of topics, looked up once each. Borrows the view's image for the time of a decision.
class TopicRules {
 public:
  explicit TopicRules(meta::ConfigView view) : view_(view) {}
  const PartitionRules& of(const meta::Topic& topic);

 private:
  meta::ConfigView view_;
  std::map<Uuid, PartitionRules> known_;
};

class PartitionChange {
 public:
  enum class Election : uint8_t { keep_leader, preferred, unclean };

  /// Copies what it needs of the partition, which must exist; `image` must outlive it.
  PartitionChange(const meta::Image& image, const Uuid& topic, PartitionId partition,
                  const PartitionRules& rules);

  /// `broker` is about to be fenced or shut down: neither in sync nor leader.
  PartitionChange& without(BrokerId broker);
  /// Its copy may lack records it had confirmed to the page cache only: neither ISR nor ELR.
  PartitionChange& drop(BrokerId broker);
  /// Its copy is known to lack records: nor is it electable as the last leader.
  PartitionChange& distrust(BrokerId broker);

  /// Its replica is to lie elsewhere; zero: not known where.
  PartitionChange& set_directory(BrokerId broker, const Uuid& directory);

  PartitionChange& set_isr(std::vector<BrokerId> isr);
  PartitionChange& set_recovered();
  PartitionChange& set_election(Election election);
  /// If one of them is in sync and may lead, it does.
  PartitionChange& lead_by_one_of(std::vector<BrokerId> wanted);
  /// A new leader epoch even if the leader stays.
  PartitionChange& lead_anew();
  /// The target of a reassignment; what is adding and removing follows.
  PartitionChange& reassign(const std::vector<BrokerId>& target);
  /// Back to the replicas from before the reassignment.
  PartitionChange& cancel_reassignment();

  std::optional<meta::PartitionChangeRecord> build();

 private:
  bool may_lead(BrokerId broker) const;
  bool may_return(BrokerId broker) const;
  void finish_reassignment();
  void elect();
  void settle_eligible();
  bool below_min() const;
  std::vector<BrokerId> eligible() const;
  std::vector<Uuid> directories() const;

  const meta::Image& image_;
  Uuid topic_;
  PartitionId number_;
  PartitionRules rules_;
  meta::Partition before_;
  meta::Partition next_;
  std::vector<BrokerId> leaving_;
  std::vector<BrokerId> dropped_;
  std::vector<BrokerId> distrusted_;
  std::vector<BrokerId> wanted_;
  Election election_ = Election::keep_leader;
  bool anew_ = false;
  bool unclean_done_ = false;
};

}  // namespace millrace::control
