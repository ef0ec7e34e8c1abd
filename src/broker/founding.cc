#include "broker/founding.h"

#include "base/contains.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

namespace millrace::broker {
namespace {

constexpr int64_t kRoundMs = 250;
constexpr int64_t kHelloTimeoutMs = 2'000;
constexpr int64_t kTellEveryMs = 5'000;

}  // namespace

QuorumFounding::QuorumFounding(Peers& peers, io::Loop& loop, const io::Clock& clock, Trace trace,
                               Params params)
    : peers_(peers), loop_(loop), clock_(clock), trace_(std::move(trace)), params_(std::move(params)) {}

QuorumFounding::~QuorumFounding() {
  stop();
}

void QuorumFounding::stop() {
  *alive_ = false;
  if (timer_ != 0) loop_.cancel(std::exchange(timer_, 0));
  found_ = nullptr;
}

bool QuorumFounding::is_listed() const {
  return std::any_of(params_.voters.begin(), params_.voters.end(),
                     [&](const ledger::NodeAddress& v) { return v.node == params_.self; });
}

void QuorumFounding::begin(Found found) {
  found_ = std::move(found);
  told_ms_ = clock_.now().mono_ms;
  const bool alone =
      params_.voters.empty() ? params_.bootstrap.empty() : params_.voters.size() == 1 && is_listed();
  if (alone) return found_alone();
  round();
}

void QuorumFounding::found_alone() {
  ledger::Founding f;
  f.cluster_id = params_.configured_cluster.is_zero() ? params_.proposed_cluster : params_.configured_cluster;
  f.voters = {{params_.self, params_.directory}};
  finish(std::move(f));
}

void QuorumFounding::round() {
  replies_.clear();
  echoes_ = 0;
  const Bytes body = ledger::encode(ledger::HelloRequest{params_.self, params_.directory});
  const auto on_reply = [this, alive = alive_](Result<MutableByteView> answer) {
    if (!*alive) return;
    --outstanding_;
    if (answer.ok()) {
      // A node that has not opened its directories yet has no directory to name.
      Result<ledger::HelloReply> reply = ledger::decode_hello_reply(*answer);
      if (reply.ok() && reply->directory == params_.directory) {
        ++echoes_;
      } else if (reply.ok() && !reply->directory.is_zero()) {
        replies_[reply->node] = std::move(*reply);
      }
    }
    if (outstanding_ == 0) decide();
  };
  std::vector<io::Endpoint> others;
  for (const ledger::NodeAddress& v : params_.voters) {
    if (v.node != params_.self) others.push_back(v.endpoint);
  }
  if (params_.voters.empty()) others = params_.bootstrap;
  outstanding_ = others.size();
  for (const io::Endpoint& at : others)
    peers_.ask_address(at, ledger::kHelloApi, body, kHelloTimeoutMs, on_reply);
}

void QuorumFounding::decide() {
  if (!found_) return;
  if (params_.may_found && params_.voters.empty() && echoes_ == params_.bootstrap.size())
    return found_alone();
  const bool listed = is_listed();
  std::vector<const ledger::HelloReply*> founded;
  for (const auto& [node, reply] : replies_) {
    if (reply.founding) founded.push_back(&reply);
  }
  size_t answered = 0;
  for (const ledger::NodeAddress& v : params_.voters) answered += replies_.contains(v.node) ? 1u : 0u;
  const bool all = listed && answered + 1 == params_.voters.size();
  if (!founded.empty()) {
    const ledger::HelloReply& first = *founded.front();
    for (const ledger::HelloReply* r : founded) {
      for (const ledger::NodeAddress& a : r->addresses) peers_.set_address(a.node, a.endpoint);
    }
    ledger::Founding f = *first.founding;
    const bool named = std::all_of(founded.begin(), founded.end(), [&](const ledger::HelloReply* r) {
      return r->founding->names(params_.self, params_.directory);
    });
    if (named && all) {
      f.may_vote = true;  // one of those that founded, told before it could write it down
      finish(std::move(f));
      return;
    }
    if (!named) {
      const std::vector<BrokerId> nodes = f.nodes();
      const bool was_voter = contains(nodes, params_.self);
      if (was_voter) {
        trace_.warn(
            "the quorum knows node {} with another directory: this one follows, and votes only when "
            "the node has been replaced (millrace cluster replace {})",
            params_.self.v, params_.self.v);
      }
      f.may_vote = !was_voter;
      finish(std::move(f));
      return;
    }
  } else if (all) {
    finish(found_with_all());
    return;
  }
  const int64_t now_ms = clock_.now().mono_ms;
  if (now_ms - told_ms_ >= kTellEveryMs) {
    told_ms_ = now_ms;
    std::string missing;
    for (const ledger::NodeAddress& v : params_.voters) {
      if (v.node == params_.self || replies_.contains(v.node)) continue;
      missing +=
          fmt::format("{}{}@{}:{}", missing.empty() ? "" : ", ", v.node.v, v.endpoint.host, v.endpoint.port);
    }
    trace_.info("waiting for the metadata quorum: {}",
                missing.empty() ? std::string("nobody knows a cluster yet") : "no answer from " + missing);
  }
  timer_ = loop_.call_after(kRoundMs, [this] {
    timer_ = 0;
    round();
  });
}

// Every voter computes the same from the same answers.
Result<ledger::Founding> QuorumFounding::found_with_all() const {
  ledger::Founding f;
  std::set<Uuid> configured;
  if (!params_.configured_cluster.is_zero()) configured.insert(params_.configured_cluster);
  f.voters.push_back({params_.self, params_.directory});
  std::pair<BrokerId, Uuid> lowest(params_.self, params_.proposed_cluster);
  for (const ledger::NodeAddress& v : params_.voters) {
    if (v.node == params_.self) continue;
    const ledger::HelloReply& r = replies_.at(v.node);
    f.voters.push_back({v.node, r.directory});
    if (!r.cluster_id.is_zero()) configured.insert(r.cluster_id);
    if (v.node < lowest.first) lowest = {v.node, r.proposed_cluster};
  }
  std::sort(f.voters.begin(), f.voters.end(),
            [](const ledger::FoundingVoter& a, const ledger::FoundingVoter& b) { return a.node < b.node; });
  if (configured.size() > 1) {
    return Error(ErrorCode::inconsistent_cluster_id,
                 "the voters are configured with different values of cluster.id");
  }
  f.cluster_id = configured.empty() ? lowest.second : *configured.begin();
  return f;
}

void QuorumFounding::finish(Result<ledger::Founding> result) {
  if (result.ok() && !params_.configured_cluster.is_zero() &&
      result->cluster_id != params_.configured_cluster) {
    result = Error(ErrorCode::inconsistent_cluster_id,
                   fmt::format("the quorum is that of cluster {}, cluster.id says {}",
                               result->cluster_id.to_string(), params_.configured_cluster.to_string()));
  }
  if (found_) std::exchange(found_, nullptr)(std::move(result));
}

ledger::HelloReply QuorumFounding::hello(BrokerId leader) const {
  ledger::HelloReply r;
  r.node = params_.self;
  r.directory = params_.directory;
  r.cluster_id = params_.configured_cluster;
  r.proposed_cluster = params_.proposed_cluster;
  r.founding = settled_;
  r.leader = leader;
  r.addresses = peers_.addresses();
  return r;
}

}  // namespace millrace::broker
