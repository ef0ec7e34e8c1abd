#include "control/partition_change.h"

#include <algorithm>

#include "base/assert.h"
#include "base/contains.h"
#include "base/plants.h"
#include "control/placement.h"
#include "meta/options.h"

namespace millrace::control {
namespace {

using Brokers = std::vector<BrokerId>;

bool has_all(const Brokers& list, const Brokers& wanted) {
  return std::all_of(wanted.begin(), wanted.end(), [&](BrokerId b) { return contains(list, b); });
}

Brokers minus(const Brokers& list, const Brokers& gone) {
  Brokers out;
  std::copy_if(list.begin(), list.end(), std::back_inserter(out),
               [&](BrokerId b) { return !contains(gone, b); });
  return out;
}

std::string rule_value(const meta::ConfigView& view, std::string_view topic, std::string_view key) {
  const meta::OptionDef* option = meta::find_topic_option(key);
  ASSERT(option != nullptr && option->default_value);
  const std::optional<std::string> value = view.topic_value(topic, key);
  const bool fine = value && meta::check_option_value(*option, *value).ok();
  return fine ? *value : std::string(*option->default_value);
}

}  // namespace

const PartitionRules& TopicRules::of(const meta::Topic& topic) {
  const auto at = known_.find(topic.id);
  if (at != known_.end()) return at->second;
  PartitionRules r;
  r.min_isr = static_cast<size_t>(std::max<int64_t>(
      1, meta::parse_config_int(rule_value(view_, topic.name, "min.insync.replicas")).value()));
  r.unclean =
      meta::parse_config_bool(rule_value(view_, topic.name, "unclean.leader.election.enable")).value();
  r.unclean = r.unclean || planted(Plant::elect_out_of_sync);
  r.fsync = rule_value(view_, topic.name, "durability") == "fsync";
  return known_.emplace(topic.id, r).first->second;
}

PartitionChange::PartitionChange(const meta::Image& image, const Uuid& topic, PartitionId partition,
                                 const PartitionRules& rules)
    : image_(image), topic_(topic), number_(partition), rules_(rules) {
  const meta::Partition* p = image.partition(topic, partition);
  ASSERT(p != nullptr);
  before_ = *p;
  next_ = *p;
}

PartitionChange& PartitionChange::without(BrokerId broker) {
  leaving_.push_back(broker);
  std::erase(next_.isr, broker);
  return *this;
}

PartitionChange& PartitionChange::drop(BrokerId broker) {
  dropped_.push_back(broker);
  std::erase(next_.isr, broker);
  return *this;
}

PartitionChange& PartitionChange::distrust(BrokerId broker) {
  distrusted_.push_back(broker);
  return drop(broker);
}

PartitionChange& PartitionChange::set_directory(BrokerId broker, const Uuid& directory) {
  const auto at = std::find(before_.replicas.begin(), before_.replicas.end(), broker);
  const auto i = static_cast<size_t>(at - before_.replicas.begin());
  if (i < next_.directories.size()) next_.directories[i] = directory;
  return *this;
}

PartitionChange& PartitionChange::set_isr(std::vector<BrokerId> isr) {
  next_.isr = std::move(isr);
  return *this;
}

PartitionChange& PartitionChange::set_recovered() {
  next_.leader_recovering = false;
  return *this;
}

PartitionChange& PartitionChange::set_election(Election election) {
  election_ = election;
  return *this;
}

PartitionChange& PartitionChange::lead_by_one_of(std::vector<BrokerId> wanted) {
  wanted_ = std::move(wanted);
  return *this;
}

PartitionChange& PartitionChange::lead_anew() {
  anew_ = true;
  return *this;
}

PartitionChange& PartitionChange::reassign(const std::vector<BrokerId>& target) {
  const Brokers original = minus(before_.replicas, before_.adding_replicas);
  next_.adding_replicas = minus(target, original);
  next_.removing_replicas = minus(original, target);
  next_.replicas = target;
  next_.replicas.insert(next_.replicas.end(), next_.removing_replicas.begin(), next_.removing_replicas.end());
  return *this;
}

PartitionChange& PartitionChange::cancel_reassignment() {
  next_.replicas = minus(before_.replicas, before_.adding_replicas);
  next_.adding_replicas.clear();
  next_.removing_replicas.clear();
  return *this;
}

std::optional<meta::PartitionChangeRecord> PartitionChange::build() {
  std::erase_if(next_.isr, [this](BrokerId b) { return !contains(next_.replicas, b); });
  finish_reassignment();
  elect();
  settle_eligible();
  ASSERT(has_all(next_.replicas, next_.isr) && has_all(next_.replicas, next_.elr));
  ASSERT(next_.leader == kNoBroker || contains(next_.isr, next_.leader));

  meta::PartitionChangeRecord r;
  r.topic_id = topic_;
  r.partition = number_;
  bool changed = false;
  const auto put = [&changed](auto& field, const auto& was, const auto& is) {
    if (was == is) return;
    field = is;
    changed = true;
  };
  put(r.replicas, before_.replicas, next_.replicas);
  put(r.isr, before_.isr, next_.isr);
  put(r.adding_replicas, before_.adding_replicas, next_.adding_replicas);
  put(r.removing_replicas, before_.removing_replicas, next_.removing_replicas);
  put(r.elr, before_.elr, next_.elr);
  put(r.last_known_elr, before_.last_known_elr, next_.last_known_elr);
  put(r.leader_recovering, before_.leader_recovering, next_.leader_recovering);
  put(r.leader, before_.leader, next_.leader);
  put(r.directories, before_.directories, directories());
  // Replicas that are gone must not be heard any more: followers learn it by the epoch.
  if (!has_all(next_.replicas, before_.replicas)) anew_ = true;
  if (anew_ && next_.leader != kNoBroker) r.leader = next_.leader;
  if (!changed && !r.leader) return std::nullopt;
  return r;
}

bool PartitionChange::may_lead(BrokerId broker) const {
  return is_usable(image_, broker) && !contains(leaving_, broker) && contains(next_.replicas, broker);
}

// Nor one whose directory cannot be read, of those that are not in sync.
bool PartitionChange::may_return(BrokerId broker) const {
  return may_lead(broker) && directory_is_online(before_, *image_.broker(broker));
}

// Done when every replica of the target is in sync; a dead one among those that stay does not hold it up, if
// enough others are.
void PartitionChange::finish_reassignment() {
  if (next_.adding_replicas.empty() && next_.removing_replicas.empty()) return;
  const Brokers target = minus(next_.replicas, next_.removing_replicas);
  const size_t staying = next_.isr.size() - minus(next_.isr, target).size();
  const bool enough = has_all(next_.isr, next_.adding_replicas) && staying > 0 &&
                      staying >= std::min(rules_.min_isr, target.size());
  if (!has_all(next_.isr, target) && !enough && !planted(Plant::finish_move_early)) return;
  next_.isr = minus(next_.isr, next_.removing_replicas);
  next_.replicas = target;
  next_.adding_replicas.clear();
  next_.removing_replicas.clear();
}

bool PartitionChange::below_min() const {
  return next_.isr.size() < std::min(rules_.min_isr, next_.replicas.size());
}

// Who is not in the ISR and yet has all that is committed.
std::vector<BrokerId> PartitionChange::eligible() const {
  Brokers out;
  if (unclean_done_ || !below_min()) return out;
  for (const Brokers* from : {&before_.elr, &before_.isr}) {
    for (const BrokerId b : *from) {
      if (contains(out, b) || contains(next_.isr, b) || contains(dropped_, b) || !contains(next_.replicas, b))
        continue;
      out.push_back(b);
    }
  }
  return out;
}

void PartitionChange::elect() {
  const auto serves = [this](BrokerId b) { return contains(next_.isr, b) && may_lead(b); };
  if (election_ == Election::preferred && !next_.replicas.empty() && serves(next_.replicas.front())) {
    next_.leader = next_.replicas.front();
    return;
  }
  const auto first_of = [this](const auto& fits) {
    const auto at = std::find_if(next_.replicas.begin(), next_.replicas.end(), fits);
    return at == next_.replicas.end() ? kNoBroker : *at;
  };
  const BrokerId wanted = first_of([&](BrokerId b) { return contains(wanted_, b) && serves(b); });
  if (wanted != kNoBroker) next_.leader = wanted;
  if (next_.leader != kNoBroker && serves(next_.leader)) return;
  const BrokerId was = next_.leader;
  next_.leader = kNoBroker;

  next_.leader = first_of(serves);
  if (next_.leader != kNoBroker) return;

  const Brokers candidates = eligible();
  next_.leader = first_of([&](BrokerId b) { return contains(candidates, b) && may_return(b); });
  if (next_.leader != kNoBroker) {
    next_.isr = {next_.leader};
    return;
  }

  Brokers last = next_.last_known_elr;
  if (was != kNoBroker) last = {was};
  if (next_.isr.empty() && candidates.empty() && last.size() == 1 && !contains(distrusted_, last.front()) &&
      may_return(last.front())) {
    next_.leader = last.front();
  } else if (election_ == Election::unclean || rules_.unclean) {
    next_.leader = first_of([this](BrokerId b) { return may_return(b); });
  }
  if (next_.leader == kNoBroker) return;
  // From here on the partition's history is this replica's: nobody else's copy counts.
  unclean_done_ = true;
  next_.isr = {next_.leader};
  next_.leader_recovering = true;
}

void PartitionChange::settle_eligible() {
  next_.elr = eligible();
  if (!below_min() || unclean_done_) {
    next_.last_known_elr.clear();
  } else if (next_.leader == kNoBroker && before_.leader != kNoBroker) {
    next_.last_known_elr = {before_.leader};
  }
  std::erase_if(next_.last_known_elr,
                [this](BrokerId b) { return contains(distrusted_, b) || !contains(next_.replicas, b); });
  if (next_.isr.empty()) next_.leader = kNoBroker;
}

// Parallel to the replicas as they will be.
std::vector<Uuid> PartitionChange::directories() const {
  std::vector<Uuid> out;
  if (next_.directories.empty()) return out;
  for (const BrokerId b : next_.replicas) {
    const auto at = std::find(before_.replicas.begin(), before_.replicas.end(), b);
    const auto i = static_cast<size_t>(at - before_.replicas.begin());
    out.push_back(i < next_.directories.size() ? next_.directories[i] : sole_directory(image_, b));
  }
  return out;
}

}  // namespace millrace::control
