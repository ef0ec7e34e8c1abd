// One broker: its metadata log, its partitions, its group coordinators and what its loops see of them. Any
// number of brokers live in one process; the composition root (`server`, later `sim`) gives each its loops
// and its world.
//
// The control loop owns everything here but the shards, which belong to their loops. A committed change of
// the metadata goes: image -> partitions opened or removed on the pool -> a new View posted to every loop ->
// the reply.
//
//   broker.cc             start, stop, what handlers ask
//   broker_quorum.cc      how this node comes to its metadata quorum
//   broker_membership.cc  the controller, the registration, news of others
//   broker_changes.cc     committed metadata becomes partitions, roles and views
//   broker_upkeep.cc      retention, checkpoints, disks, metrics
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "broker/cleaner.h"
#include "broker/cold_read_budget.h"
#include "broker/convergence.h"
#include "broker/directory_reports.h"
#include "broker/disk_watch.h"
#include "broker/founding.h"
#include "broker/group_settings.h"
#include "broker/hand_over.h"
#include "broker/lifecycle.h"
#include "broker/metadata_ledger.h"
#include "broker/partition_host.h"
#include "broker/peers.h"
#include "broker/quorum_description.h"
#include "broker/replication.h"
#include "broker/scrubber.h"
#include "broker/shard.h"
#include "broker/view.h"
#include "control/codec.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/host.h"
#include "io/loop.h"
#include "io/network.h"
#include "io/random.h"

namespace millrace::broker {

class Call;

struct BrokerEnvironment {
  std::vector<io::Loop*> loops;  // data loops; requests run to completion here
  io::Loop* control_loop = nullptr;
  io::Disk* disk = nullptr;
  io::Network* network = nullptr;
  const io::Clock* clock = nullptr;
  io::Random* random = nullptr;
  const io::Host* host = nullptr;
  MetricsRegistry* metrics = nullptr;
  Trace trace;
  /// Every data directory failed: the broker serves nothing and waits to be ended. On the control loop, once.
  std::function<void()> on_all_directories_failed;
};

/// What no configuration says: tests have small metadata logs.
struct MetadataLogSizes {
  size_t snapshot_every_bytes = size_t{20} << 20;
  int64_t trailing_entries = 1000;        // kept behind a snapshot
  size_t snapshot_chunk_bytes = 1 << 20;  // of one that is sent, in one message
};

struct BrokerConfig {
  BrokerId node_id{1};
  std::string cluster_id;  // empty: from the directories, or new
  std::vector<std::string> log_dirs;
  std::vector<meta::Endpoint> advertised;  // one per client listener
  // The metadata quorum; without voters and bootstrap servers this node is all of it.
  std::vector<ledger::NodeAddress> voters;  // controller.quorum.voters
  std::vector<io::Endpoint> bootstrap;      // controller.quorum.bootstrap.servers
  std::optional<meta::Endpoint> internal;   // where other nodes reach this one
  int64_t election_timeout_ms = 1000;
  size_t metadata_append_bytes = 1 << 20;  // entries of the metadata log in one message
  bool is_broker = true;                   // registers and hosts partitions
  bool is_controller = true;               // may found a quorum
  std::optional<std::string> rack;
  std::shared_ptr<const meta::ConfigValues>
      settings;  // what the properties say, for DescribeConfigs and defaults
  size_t fetch_bytes_max = 55 * 1024 * 1024;
  size_t recovery_threads = 2;  // per directory
  MetadataLogSizes metadata_log;
  /// Of every partition, also below what a configuration may say: simulations have small segments.
  std::optional<int32_t> segment_bytes;
};

class Broker {
 public:
  Broker(BrokerEnvironment environment, BrokerConfig config);
  ~Broker();
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  /// Opens the directories, replays the metadata log, recovers and opens every partition, publishes the first
  /// view. From any thread, once; `ready` runs on the control loop.
  void start(std::function<void(Status)> ready);
  /// Before stop(), while others are still answered: what this broker leads is led by others, and so is the
  /// metadata log. Bounded by some seconds. From any thread, also while start() waits; `done` runs on the
  /// control loop.
  void leave(std::function<void()> done);
  /// Closes everything; with success the next start is clean. Connections are to be closed before. From any
  /// thread; `done` runs on the control loop. Nothing of the broker runs after it.
  void stop(std::function<void(Status)> done);

  const BrokerEnvironment& environment() const { return env_; }
  const BrokerConfig& config() const { return config_; }
  Shard& shard(size_t loop_index) { return *shards_[loop_index]; }
  /// Bytes that fetches may have in memory from cold reads.
  const std::shared_ptr<ColdReadBudget>& cold_reads() const { return cold_reads_; }
  const std::string& cluster_id() const { return host_.cluster_id(); }
  /// With the controller and with those that follow. From any loop.
  partition::Standing& standing() { return *standing_; }
  /// Of what throttled replicas fetch here. From any loop.
  partition::ReplicationThrottle& leader_throttle() { return *leader_throttle_; }

  /// The value of a broker key in force, as `image` has it.
  std::optional<std::string> setting(const meta::Image& image, std::string_view key) const;
  bool setting_bool(const meta::Image& image, std::string_view key) const;
  int64_t setting_int(const meta::Image& image, std::string_view key) const;

  /// Hands a request to the active controller; `done(Result<Reply>)` runs on `home` after the change can be
  /// seen there. From any loop. If another node leads the metadata log, requests of the kinds that brokers
  /// send (control::kTravels) go there; others come forwarded to where the controller is. Errors:
  /// not_controller (nobody leads, or no longer), closed and timed_out (whether it was done is not known),
  /// and those of recording it.
  template <class Request, class Done>
  void ask_controller(io::Loop& home, Request request, Done done) {
    env_.control_loop->post([this, &home, request = std::move(request), done = std::move(done)]() mutable {
      ask(std::move(request), [&home, done = std::move(done)](auto reply) mutable {
        home.post([done = std::move(done), reply = std::move(reply)]() mutable { done(std::move(reply)); });
      });
    });
  }
  /// The same from the control loop and to it.
  template <class Request, class Done>
  void ask(Request request, Done done) {
    if constexpr (control::kTravels<Request>) {
      if (!ledger_.leading()) {
        using Reply = control::ReplyTo<Request>;
        ask_remote(control::BrokerRequest(std::move(request)), kSeenTimeoutMs,
                   [done = std::move(done)](Result<control::BrokerReply> r) mutable {
                     if (!r.ok()) {
                       done(Result<Reply>(std::move(r).error()));
                     } else if (Reply* reply = std::get_if<Reply>(&*r)) {
                       done(Result<Reply>(std::move(*reply)));
                     } else {
                       done(Result<Reply>(Error(ErrorCode::corrupt, "a reply to another question")));
                     }
                   });
        return;
      }
    }
    ledger_.submit(std::move(request), std::move(done));
  }

  /// Whether there may be other nodes: then what is for the controller is passed on. From any loop.
  bool has_peers() const { return config_.internal.has_value(); }
  /// Answers `call` with what the active controller's node says to it, or runs `here` on the call's loop: if
  /// it is this one, or after a while without any. From any loop.
  void pass_on(ledger::ForwardRequest request, std::shared_ptr<Call> call,
               std::function<void(const ledger::ForwardRequest&)> here);

  /// What `read` finds in the controller's state; not_controller if it is elsewhere. From any loop.
  template <class Read, class Done>
  void read_controller(io::Loop& home, Read read, Done done) {
    env_.control_loop->post([this, &home, read = std::move(read), done = std::move(done)]() mutable {
      using Value = decltype(read(*ledger_.controller()));
      Result<Value> r = Error(ErrorCode::not_controller, "this node does not lead the metadata log");
      if (ledger_.leading()) r = read(*ledger_.controller());
      home.post([done = std::move(done), r = std::move(r)]() mutable { done(std::move(r)); });
    });
  }
  /// As its leader sees it; not_controller elsewhere. From any loop.
  void describe_quorum(io::Loop& home, std::function<void(Result<QuorumDescription>)> done);
  /// Promotes a follower of the metadata log, or removes a voter; `done` when that is committed. Errors:
  /// not_controller, duplicate_voter, voter_not_found, invalid_request, concurrent_transactions,
  /// request_timed_out. From any loop.
  void change_voters(io::Loop& home, raft::ChangeKind kind, BrokerId node, const Uuid& directory,
                     std::function<void(Status)> done);

  /// Creates __consumer_offsets if it is not there. From any loop; returns at once.
  void ensure_offsets_topic();
  /// Creates `topic` with the defaults, as auto.create.topics.enable has it. From any loop; returns at once.
  void create_automatically(const std::string& topic);
  /// The leader's machine of `partition` has a proposal for the controller. From any loop.
  void on_isr_proposal(const PartitionRef& partition) {
    env_.control_loop->post([this, partition] { replication_.propose(partition); });
  }
  /// max.incremental.fetch.session.cache.slots. From any loop.
  int64_t fetch_session_slots() const { return fetch_session_slots_; }
  /// Writes the checkpoints soon. From any loop.
  void request_checkpoint();

  // What other nodes say (internal_service); on the control loop.
  void on_raft_message(raft::Message message);
  ledger::HelloReply on_hello(const ledger::HelloRequest& request);
  ledger::JoinReply on_join(const ledger::JoinRequest& request);
  /// `done` once, on the control loop.
  void on_broker_request(control::BrokerRequest request, std::function<void(control::BrokerAnswer)> done);
  void on_forward(ledger::ForwardRequest request, std::function<void(const ledger::ForwardReply&)> done);
  /// `done(true)` once entry `index` of the metadata log is published here, `done(false)` if that takes long.
  void on_published_request(LogIndex index, std::function<void(bool)> done);

  /// A producer id that was never given before; `done` runs on `home`.
  void next_producer_id(io::Loop& home, std::function<void(Result<ProducerId>)> done);

  // On the control loop.
  const PartitionHost& host() const { return host_; }
  /// For whoever judges the quorum (the simulation).
  const MetadataLedger& ledger() const { return ledger_; }
  /// What a start that has not come to its end waits for, for people; empty when it serves.
  std::string waiting_for() const;
  /// Whether this is the registration of this very process: only then is what `image` says it leads led.
  bool is_registered(const meta::Image& image) const;
  /// Empty while all is well, else what is wrong with the storage, for people.
  std::string ailment() const;

 private:
  struct Change;
  struct Closing;

  // start, in order
  void run_at_start(std::function<void()> job, std::function<void()> then);
  void on_directories_open(const Status& status);
  void find_quorum();
  void take_part(ledger::Founding founding);
  void start_quorum(const ledger::Founding& founding);
  void keep_joined();
  void forget_silent_learners();
  void on_leader(BrokerId leader);
  bool is_whole_cluster() const;
  void register_alone();
  void started(Status status);

  static constexpr int64_t kNoWait = 0;
  static constexpr int64_t kSeenTimeoutMs = 5'000;
  static constexpr int64_t kWaitForEver = INT64_MAX;
  /// Waits up to `seen_timeout_ms` until what the answer rests on is published here.
  void ask_remote(const control::BrokerRequest& request, int64_t seen_timeout_ms,
                  std::function<void(Result<control::BrokerReply>)> done);
  Result<QuorumDescription> describe_quorum() const;
  /// What `node` votes with, as far as the quorum knows.
  Uuid voting_directory(BrokerId node) const;
  struct Passing;
  void try_passing(std::shared_ptr<Passing> passing);
  /// The other brokers that clients may ask.
  std::vector<BrokerId> living_others() const;
  Lifecycle::Links lifecycle_links();
  control::RegisterBroker registration() const;
  void on_registered(BrokerEpoch epoch);
  void on_heard(int64_t asked_mono_ms);
  void watch_standing();
  void report_directories(const Change& change);
  /// Told the world if this broker serves now.
  void check_serving();
  void on_peer_news(BrokerId node, link::PeerNews news);
  void mark_gone(BrokerId node, BrokerEpoch epoch);
  void unmark_gone(BrokerId node);
  void arm_unmark(BrokerId node);
  void report_refusals();
  void hand_over_quorum(std::function<void()> done);

  // applying committed metadata
  void on_committed(std::shared_ptr<const meta::Image> image, meta::Delta delta,
                    std::function<void()> published);
  void next_change();
  void plan_topic(Change& change, const Uuid& id);
  partition::Partition::Leadership leadership_of(const meta::Image& image,
                                                 const meta::Partition& state) const;
  void retry_role_of(const partition::Partition& partition);
  void settle_role(const PartitionRef& partition, const meta::Partition& state);
  /// Another leads it, and nobody counts on the replica here.
  bool is_expendable(const meta::Partition& state) const;
  bool may_put_aside(const partition::Partition& partition, const meta::Partition& state) const;
  std::vector<control::DamagedReplica> damaged_replicas() const;
  void put_aside(Change& change, PartitionRef& partition);
  void tell_leaders_of_brokers(const meta::Image& image);
  Replication::Environment replication_environment();
  partition::ReplicaFetcher::Settings fetcher_settings() const;
  void run_change(std::shared_ptr<Change> change);
  void finish_change(const std::shared_ptr<Change>& change);
  void finish_stop(const std::shared_ptr<Closing>& closing);
  void note_departures(const Change& change, View& next) const;
  void note_addresses(const Change& change);
  void publish(std::shared_ptr<const View> view);
  void update_groups(View& view);
  std::shared_ptr<const partition::PartitionConfig> partition_config(const meta::Image& image,
                                                                     std::string_view topic) const;

  // housekeeping
  void arm_housekeeping();
  void run_retention();
  void run_checkpoint(std::function<void()> done);
  std::vector<PartitionRef> hosted_partitions() const;
  size_t offline_partitions() const;
  void watch_disks();
  /// A file operation at `path` failed for good. From any thread, maybe under locks.
  void on_storage_failure(const std::string& path, const Error& error);
  void take_offline(const std::string& directory);
  void make_room(const std::string& directory);
  void retry_unopened();
  void register_metrics();
  Cleaner::Environment cleaner_environment();
  void stop_all(std::function<void(Status)> done);
  void close_partitions(std::function<void(Status)> done);

  BrokerEnvironment env_;
  BrokerConfig config_;
  Trace trace_;
  std::vector<std::unique_ptr<Shard>> shards_;
  const std::shared_ptr<ColdReadBudget> cold_reads_ = std::make_shared<ColdReadBudget>(kColdReadBytesMax);
  const std::shared_ptr<partition::ReplicationThrottle> leader_throttle_ =
      std::make_shared<partition::ReplicationThrottle>();
  const std::shared_ptr<partition::ReplicationThrottle> follower_throttle_ =
      std::make_shared<partition::ReplicationThrottle>();
  const std::shared_ptr<partition::Standing> standing_ = std::make_shared<partition::Standing>();
  bool session_over_ = false;  // as was traced
  LogIndex answered_at_{0};    // what the controller had committed at its latest answer to a heartbeat
  PartitionHost host_;
  Peers peers_;
  MetadataLedger ledger_;
  Convergence convergence_;
  std::optional<ledger::Founding> founding_;  // how this node's quorum began, once it is known
  std::unique_ptr<QuorumFounding> finding_;
  std::function<void(Status)> ready_;
  BrokerId leader_ = kNoBroker;                  // of the metadata log
  int64_t leader_heard_ms_ = 0;                  // on a node that only follows
  std::optional<BrokerId> join_hint_;            // whom to ask for being let in
  BrokerId told_leader_ = kNoBroker;             // knows which directory this node follows with
  Term told_term_{0};                            // and knew it as leader in this term
  std::map<BrokerId, Uuid> joined_directories_;  // of those that joined here, as leader
  bool joining_ = false;
  Replication replication_;
  int64_t fetch_session_slots_ = 0;
  std::set<Uuid> withheld_;  // topics with roles that wait for the registration
  Cleaner cleaner_;
  std::unique_ptr<Scrubber> scrubber_;
  DiskWatch disk_watch_;
  HandOver hand_over_;
  std::map<Uuid, std::set<int32_t>> unopened_;  // for want of space, or put aside: tried again
  std::shared_ptr<const View> view_;            // the newest
  std::deque<std::shared_ptr<Change>> changes_;
  bool changing_ = false;
  std::unique_ptr<Lifecycle> lifecycle_;
  DirectoryReports directory_reports_;
  struct Refusal {
    BrokerEpoch epoch;  // of the registration that was in force
    int64_t at_ms;
  };
  std::map<BrokerId, Refusal> refusals_;
  std::map<BrokerId, int64_t> gone_until_;  // View::gone
  size_t next_forward_loop_ = 0;
  Uuid incarnation_;  // of this process
  BrokerEpoch broker_epoch_{-1};
  std::map<std::string, bool> being_created_;
  ProducerId next_id_{0};
  ProducerId ids_end_{0};
  std::vector<std::function<void(Result<ProducerId>)>> id_waiters_;
  bool checkpointing_ = false;
  bool checkpoint_wanted_ = false;
  bool partitions_gone_ = false;  // since the last checkpoint
  bool making_room_ = false;
  bool starting_job_ = false;  // on the pool
  std::function<void()> stop_wanted_;
  bool stopping_ = false;
};

}  // namespace millrace::broker
