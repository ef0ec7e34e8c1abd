#include "broker/replication.h"

#include <algorithm>

namespace millrace::broker {
namespace {

constexpr int64_t kTickMs = 250;
constexpr int64_t kGatherMs = 2;          // proposals of so long go to the controller together
constexpr size_t kProposalsMax = 10'000;  // in one request; the others go with the next

}  // namespace

void Replication::set_broker_epoch(BrokerEpoch epoch) {
  broker_epoch_ = epoch;
  for (const auto& [leader, fetcher] : fetchers_) fetcher->set_broker_epoch(epoch);
}

std::shared_ptr<partition::ReplicaFetcher> Replication::fetcher_of(BrokerId leader) {
  const std::optional<io::Endpoint> at = env_.address(leader);
  if (!at) return nullptr;
  std::shared_ptr<partition::ReplicaFetcher>& fetcher = fetchers_[leader];
  if (fetcher && (fetcher->at().host != at->host || fetcher->at().port != at->port)) {
    fetcher->close();
    fetcher = nullptr;
    for (const auto& [partition, followed] : followed_)
      if (followed == leader) homeless_.insert(partition);
  }
  if (!fetcher) {
    const size_t loop = static_cast<size_t>(leader.v) % env_.data_loops.size();
    fetcher = std::make_shared<partition::ReplicaFetcher>(
        partition::ReplicaFetcher::Environment{env_.data_loops[loop], env_.network, env_.disk, env_.clock,
                                               env_.trace, env_.self, env_.throttle,
                                               [this, alive = alive_](BrokerId node, link::PeerNews news) {
                                                 env_.loop->post([this, alive, node, news] {
                                                   if (*alive && !closed_) env_.on_news(node, news);
                                                 });
                                               }},
        leader, *at, env_.settings());
    fetcher->set_broker_epoch(broker_epoch_);
  }
  return fetcher;
}

void Replication::leave_fetcher(const PartitionRef& partition) {
  homeless_.erase(partition);
  const auto it = followed_.find(partition);
  if (it == followed_.end()) return;
  if (const auto f = fetchers_.find(it->second); f != fetchers_.end() && f->second)
    f->second->forget(partition);
  followed_.erase(it);
}

void Replication::follow(const PartitionRef& partition, BrokerId leader) {
  if (closed_) return;
  led_.erase(partition);
  if (const auto it = followed_.find(partition); it != followed_.end() && it->second != leader)
    leave_fetcher(partition);
  if (leader == kNoBroker || leader == env_.self) return;
  followed_[partition] = leader;
  if (const auto fetcher = fetcher_of(leader)) {
    homeless_.erase(partition);
    fetcher->follow(partition);
  } else {
    homeless_.insert(partition);
  }
  arm_tick();
}

void Replication::lead(const PartitionRef& partition) {
  if (closed_) return;
  leave_fetcher(partition);
  led_.insert(partition);
  arm_tick();
}

void Replication::forget(const PartitionRef& partition) {
  leave_fetcher(partition);
  led_.erase(partition);
}

void Replication::propose(const PartitionRef& partition) {
  if (closed_ || !led_.contains(partition)) return;
  collect(partition);
}

void Replication::arm_tick() {
  if (ticking_ || closed_) return;
  ticking_ = true;
  env_.loop->call_after(kTickMs, [this, alive = alive_] {
    if (!*alive) return;
    ticking_ = false;
    tick();
  });
}

void Replication::tick() {
  if (closed_) return;
  for (const PartitionRef& p : led_) collect(p);
  for (const PartitionRef& p : std::exchange(homeless_, {})) {
    if (const auto it = followed_.find(p); it != followed_.end()) follow(p, BrokerId(it->second));
  }
  if (!led_.empty() || !homeless_.empty()) arm_tick();
}

void Replication::collect(const PartitionRef& partition) {
  std::optional<replica::IsrProposal> proposal = partition->tick(env_.clock->now());
  if (!proposal) return;
  proposals_[{partition->topic_id(), partition->name().partition.v}] = {partition, std::move(*proposal)};
  arm_send();
}

void Replication::arm_send() {
  if (send_armed_ || asking_ || closed_) return;
  send_armed_ = true;
  env_.loop->call_after(kGatherMs, [this, alive = alive_] {
    if (!*alive) return;
    send_armed_ = false;
    send();
  });
}

// One request at a time: the proposals of a reign arrive in order.
void Replication::send() {
  if (asking_ || closed_ || proposals_.empty()) return;
  control::AlterPartition request;
  request.broker = env_.self;
  request.broker_epoch = broker_epoch_;
  std::map<Key, Proposed> asked;
  while (!proposals_.empty() && asked.size() < kProposalsMax) {
    auto node = proposals_.extract(proposals_.begin());
    auto& [partition, proposal] = node.mapped();
    if (request.topics.empty() || request.topics.back().id != node.key().first)
      request.topics.emplace_back().id = node.key().first;
    control::AlterPartitionItem& item = request.topics.back().partitions.emplace_back();
    item.partition = PartitionId(node.key().second);
    item.leader_epoch = proposal.leader_epoch;
    item.partition_epoch = proposal.partition_epoch;
    for (const replica::IsrMember& m : proposal.isr) item.isr.push_back({m.id, m.epoch});
    asked[node.key()] = {partition, proposal.number};
  }
  asking_ = true;
  env_.alter(std::move(request),
             [this, alive = alive_, asked = std::move(asked)](Result<control::AlterPartitionReply> reply) {
               if (!*alive) return;
               asking_ = false;
               on_answer(asked, reply);
               if (!proposals_.empty()) arm_send();
             });
}

void Replication::on_answer(const std::map<Key, Proposed>& asked,
                            const Result<control::AlterPartitionReply>& reply) {
  const Now now = env_.clock->now();
  std::map<Key, const control::AlteredPartition*> answers;
  if (reply.ok() && reply->outcome.ok()) {
    for (const control::AlteredPartition& p : reply->partitions)
      answers[{p.partition.topic, p.partition.partition.v}] = &p;
  }
  for (const auto& [key, proposed] : asked) {
    replica::IsrAnswer answer;
    answer.number = proposed.number;
    answer.error = ErrorCode::request_timed_out;  // whether it was applied is not known
    if (const auto it = answers.find(key); it != answers.end()) {
      const control::AlteredPartition& p = *it->second;
      answer.error = p.outcome.error;
      answer.leader_epoch = p.leader_epoch;
      answer.partition_epoch = p.partition_epoch;
      answer.isr = p.isr;
    }
    proposed.partition->on_isr_answer(answer, now);
  }
}

void Replication::close() {
  closed_ = true;
  *alive_ = false;
  for (const auto& [leader, fetcher] : fetchers_)
    if (fetcher) fetcher->close();
  fetchers_.clear();
  followed_.clear();
  homeless_.clear();
  led_.clear();
  proposals_.clear();
}

}  // namespace millrace::broker
