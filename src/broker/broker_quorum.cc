// How this node comes to its metadata quorum: it founds it, finds it or joins it, and what others ask of it
// then.
#include "broker/broker.h"

#include <algorithm>

#include "base/contains.h"

namespace millrace::broker {
namespace {

constexpr int64_t kJoinEveryMs = 500;
// Of silence, until a voter asks whether it still is one.
constexpr int64_t kForgottenElections = 4;
constexpr int64_t kLearnerSilenceMs = 10'000;
constexpr size_t kJoinedMax = 10'000;
constexpr int64_t kJoinTimeoutMs = 2'000;

}  // namespace

void Broker::on_directories_open(const Status& status) {
  if (!status.ok()) return started(status);
  for (const ledger::NodeAddress& v : config_.voters) peers_.set_address(v.node, v.endpoint);
  QuorumFounding::Params params;
  params.self = config_.node_id;
  params.directory = host_.metadata_directory().id();
  if (!host_.cluster_id().empty()) {
    const Result<Uuid> id = Uuid::parse(host_.cluster_id());
    if (!id.ok()) {
      return started(Error(ErrorCode::invalid_config,
                           "cluster.id " + host_.cluster_id() + " is not a 22-character uuid"));
    }
    params.configured_cluster = *id;
  }
  watch_disks();
  params.proposed_cluster = env_.random->uuid();
  params.voters = config_.voters;
  params.bootstrap = config_.bootstrap;
  params.may_found = config_.is_controller;
  finding_ =
      std::make_unique<QuorumFounding>(peers_, *env_.control_loop, *env_.clock, trace_, std::move(params));
  find_quorum();
}

void Broker::find_quorum() {
  const Uuid directory = host_.metadata_directory().id();
  const bool blank = ledger_.runner().is_blank();
  if (founding_) {
    const std::vector<BrokerId> voters = founding_->nodes();
    const bool voter = contains(voters, config_.node_id);
    if (voter && founding_->may_vote && !founding_->names(config_.node_id, directory)) {
      return started(Error(ErrorCode::invalid_config, host_.metadata_directory().path() +
                                                          " is not the directory that node " +
                                                          std::to_string(config_.node_id.v) + " votes with"));
    }
    if (!blank) return start_quorum(*founding_);
    if (voters.size() == 1 && voter) {
      return started(
          Error(ErrorCode::corrupt, host_.metadata_path() +
                                        ": the metadata log is missing; without it the partitions in "
                                        "the data directories belong to no topic"));
    }
    trace_.warn(
        "{}: the metadata log is missing; it is fetched anew, and this node does not vote until it has "
        "been replaced (millrace cluster replace {})",
        host_.metadata_path(), config_.node_id.v);
    ledger::Founding again = *founding_;
    again.may_vote = again.may_vote && !voter;
    return take_part(std::move(again));
  }
  if (!blank) {
    // Written by a version that knew only single voters.
    const Result<Uuid> cluster = Uuid::parse(host_.cluster_id());
    if (!cluster.ok()) return started(Error(ErrorCode::corrupt, "meta.properties: no cluster.id"));
    return take_part({*cluster, {{config_.node_id, directory}}, true});
  }
  finding_->begin([this](Result<ledger::Founding> found) {
    if (!found.ok()) return started(found.error());
    take_part(std::move(*found));
  });
}

// Written down before the first vote or word of it.
void Broker::take_part(ledger::Founding founding) {
  auto status = std::make_shared<Status>();
  run_at_start(
      [this, founding, status] {
        *status = [&]() -> Status {
          TRY(host_.claim(founding.cluster_id.to_string()));
          if (ledger_.runner().is_blank()) TRY(ledger_.runner().take_part());
          return env_.disk->replace_file(io::join_path(host_.metadata_directory().path(), kFoundingFile),
                                         ledger::encode(founding));
        }();
      },
      [this, founding, status] {
        if (!status->ok()) return started(*status);
        start_quorum(founding);
      });
}

void Broker::start_quorum(const ledger::Founding& founding) {
  if (stopping_) return;
  founding_ = founding;
  finding_->settled(founding);
  MetadataLedger::Start start;
  start.quorum.self = config_.node_id;
  start.quorum.initial.voters = founding.nodes();
  start.quorum.may_vote = founding.may_vote;
  start.quorum.directory = host_.metadata_directory().id();
  start.quorum.election_timeout_ms = config_.election_timeout_ms;
  start.quorum.append_bytes_max = config_.metadata_append_bytes;
  start.quorum.heartbeat_ms = std::max<int64_t>(config_.election_timeout_ms / 5, 1);
  start.quorum.trailing_entries = config_.metadata_log.trailing_entries;
  start.quorum.snapshot_chunk_bytes = config_.metadata_log.snapshot_chunk_bytes;
  start.snapshot_every_bytes = config_.metadata_log.snapshot_every_bytes;
  start.cluster_id = founding.cluster_id;
  start.settings = config_.settings;
  start.on_committed = [this](std::shared_ptr<const meta::Image> image, meta::Delta delta,
                              std::function<void()> published) {
    on_committed(std::move(image), std::move(delta), std::move(published));
  };
  start.on_leader = [this](BrokerId leader) { on_leader(leader); };
  start.on_failure = [this](const Error& why) { started(why); };
  leader_heard_ms_ = env_.clock->now().mono_ms;
  ledger_.start(std::move(start));
  keep_joined();
}

// A node that is not in the quorum's membership asks to be let in, and again when it hears nothing. Every one
// that does not vote tells each leader which directory it follows with: so does a voter that has lost its
// own. A voter that hears nothing for long may be none any more: whoever is out is not told of it.
void Broker::keep_joined() {
  if (stopping_ || !ledger_.runner().started()) return;
  env_.control_loop->call_after(kJoinEveryMs, [this] { keep_joined(); });
  forget_silent_learners();
  const raft::Membership& members = ledger_.runner().membership();
  const int64_t silent_ms = env_.clock->now().mono_ms - leader_heard_ms_;
  const bool outside = !members.contains(config_.node_id);
  const bool votes = members.is_voter(config_.node_id) && ledger_.runner().may_vote();
  const bool forgotten = votes && silent_ms >= kForgottenElections * config_.election_timeout_ms;
  if ((votes && !forgotten) || joining_ || !config_.internal || leader_ == config_.node_id) return;
  // One that leads again has forgotten what it was told before.
  const Term term = ledger_.runner().term();
  const bool untold = leader_ != kNoBroker && (told_leader_ != leader_ || told_term_ != term);
  const bool silent = silent_ms >= config_.election_timeout_ms;
  if (!outside && !untold && !silent) return;
  std::vector<ledger::NodeAddress> known = peers_.addresses();
  // A leader that is not heard of any more is no longer the one to ask.
  if (silent && known.size() > 1) {
    std::erase_if(known, [this](const ledger::NodeAddress& a) { return a.node == leader_; });
  }
  BrokerId ask = join_hint_.value_or(untold && !silent ? leader_ : kNoBroker);
  join_hint_.reset();
  if (ask == kNoBroker && !known.empty()) ask = known[env_.random->next_u64() % known.size()].node;
  if (ask == kNoBroker) return;
  ledger::JoinRequest request;
  request.cluster_id = founding_->cluster_id;
  request.directory = host_.metadata_directory().id();
  request.address = {config_.node_id, {config_.internal->host, config_.internal->port}};
  joining_ = true;
  peers_.ask(ask, ledger::kJoinApi, ledger::encode(request), kJoinTimeoutMs,
             [this, ask, term](Result<MutableByteView> answer) {
               joining_ = false;
               if (!answer.ok()) return;
               const Result<ledger::JoinReply> reply = ledger::decode_join_reply(*answer);
               if (!reply.ok()) return;
               if (reply->error == ErrorCode::none) {
                 told_leader_ = ask;
                 told_term_ = term;
                 return;
               }
               if (reply->error == ErrorCode::not_controller && reply->leader != kNoBroker) {
                 join_hint_ = reply->leader;
               } else if (reply->error != ErrorCode::not_controller) {
                 trace_.warn("the quorum does not let this node in: {}", reply->message);
               }
             });
}

// Who neither votes nor is registered, and says nothing, has gone for good; if not, it asks to be let in
// again.
void Broker::forget_silent_learners() {
  if (!ledger_.leading()) return;
  const int64_t now_ms = env_.clock->now().mono_ms;
  const raft::Membership& members = ledger_.runner().membership();
  for (const raft::PeerStatus& p : ledger_.runner().peers()) {
    if (!members.is_learner(p.node) || now_ms - p.last_heard_mono_ms < kLearnerSilenceMs) continue;
    if (ledger_.controller()->image().broker(p.node) != nullptr) continue;
    trace_.info("node {} follows the metadata log no more", p.node.v);
    (void)ledger_.runner().change_membership(raft::ChangeKind::remove, p.node);  // or next time
    return;                                                                      // one change at a time
  }
}

void Broker::on_raft_message(raft::Message message) {
  if (stopping_ || !ledger_.runner().started()) return;
  if (message.from == leader_) leader_heard_ms_ = env_.clock->now().mono_ms;
  ledger_.runner().step(std::move(message));
}

ledger::HelloReply Broker::on_hello(const ledger::HelloRequest&) {
  if (!finding_) return {config_.node_id, {}, {}, {}, {}, kNoBroker, {}};  // the directories are not open yet
  ledger::HelloReply reply = finding_->hello(leader_);
  if (config_.internal) {
    reply.addresses.push_back({config_.node_id, {config_.internal->host, config_.internal->port}});
  }
  return reply;
}

ledger::JoinReply Broker::on_join(const ledger::JoinRequest& request) {
  if (!founding_ || !ledger_.leading()) return {ErrorCode::not_controller, "not the leader", leader_};
  if (request.cluster_id != founding_->cluster_id) {
    return {ErrorCode::inconsistent_cluster_id, "this is cluster " + founding_->cluster_id.to_string(),
            config_.node_id};
  }
  const BrokerId node = request.address.node;
  if (node == config_.node_id) return {ErrorCode::invalid_request, "the leader has this node id", node};
  peers_.set_address(node, request.address.endpoint);
  if (joined_directories_.size() < kJoinedMax) joined_directories_[node] = request.directory;
  if (ledger_.runner().membership().contains(node)) {
    ledger_.runner().restart_peer(node);
    return {};
  }
  const Result<LogIndex> added = ledger_.runner().change_membership(raft::ChangeKind::add_learner, node);
  if (!added.ok() && added.code() != ErrorCode::concurrent_transactions) {
    return {added.code(), added.error().message, config_.node_id};
  }
  return {};
}

}  // namespace millrace::broker
