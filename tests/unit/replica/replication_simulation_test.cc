// Leader and follower machines of one partition among a small model of everything around them: logs in
// memory with a durable end, a controller with ISR and ELR, messages that are late, lost and repeated,
// crashes that take what was not durable. After every step the invariants of partition replication hold;
// planted mistakes (Mutant) must break them.
#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "replica/follower.h"
#include "replica/leader.h"
#include "support/catch.h"

namespace millrace::replica {
namespace {

enum class Mutant {
  none,
  confirmed_isr_only,      // the mark ignores whom a pending proposal adds
  log_end_counts,          // a follower's log end is taken for its durable end
  min_insync_ignored,      // the leader goes on alone while the controller keeps an ELR
  truncate_to_mark,        // a new follower cuts its log to its high watermark
  divergence_ignored,      // records are sent whatever the follower's epochs say
  join_before_caught_up,   // whoever fetches is proposed
  lost_answer_is_refusal,  // an unanswered proposal is taken for a refused one
  end_known_at_once,       // a new leader tells the end before its epoch's start is committed
  not_synced_before_reign  // a leader counts its log as durable without a sync
};

struct Entry {
  int value = 0;
  LeaderEpoch epoch;
  bool operator==(const Entry&) const = default;
};

struct Image {
  int32_t partition_epoch = 0;
  BrokerId leader = kNoBroker;
  LeaderEpoch leader_epoch{0};
  std::set<BrokerId> isr;
  std::map<BrokerId, BrokerState> brokers;
};

struct Broker {
  BrokerId id;
  bool up = true;
  BrokerEpoch epoch{1};
  std::vector<Entry> log;
  size_t durable = 0;
  log::EpochCache epochs;
  Offset saved_mark{0};  // the checkpoint
  LeaderEpoch following_epoch = kNoLeaderEpoch;
  std::optional<Leader> leader;
  std::optional<Follower> follower;
  size_t seen = 0;  // images
  Offset mark_of_reign{0};

  Offset end() const { return Offset(static_cast<int64_t>(log.size())); }
  Ends ends() const { return {end(), Offset(static_cast<int64_t>(durable))}; }
  LocalLog local() const { return {ends(), Offset(0), log.empty() ? kNoLeaderEpoch : log.back().epoch}; }
  void push(Entry e) {
    epochs.assign(e.epoch, end());
    log.push_back(e);
  }
  void cut(size_t to) {
    log.resize(to);
    durable = std::min(durable, to);
    epochs.truncate_from_end(Offset(static_cast<int64_t>(to)));
  }
};

struct Packet {
  BrokerId from, to;
  BrokerEpoch from_epoch, to_epoch;  // incarnations: connections do not survive them
  std::optional<FollowerFetch> fetch;
  uint64_t number = 0;
  std::optional<FetchAnswer> answer;
  std::vector<Entry> records;
  std::optional<IsrAnswer> isr_answer;
};

struct Violation {
  std::string what;
};

class Simulation {
 public:
  Simulation(uint64_t seed, Mutant mutant) : random_(seed), mutant_(mutant) {
    const int count = 3 + static_cast<int>(pick(3));
    min_insync_ = 1 + pick(2);
    if (mutant == Mutant::min_insync_ignored) min_insync_ = 2;
    Image image;
    for (int i = 1; i <= count; ++i) {
      Broker b;
      b.id = BrokerId(i);
      brokers_.emplace(b.id, b);
      image.brokers[b.id] = {b.id, BrokerEpoch(1), true};
      image.isr.insert(b.id);
    }
    next_broker_epoch_ = 2;
    image.leader = BrokerId(1);
    image.leader_epoch = LeaderEpoch(1);
    images_.push_back(image);
    for (auto& [id, b] : brokers_) apply_image(b, 0);
  }

  /// The first violation, with faults for `steps` and then without until everything has converged.
  std::optional<Violation> run(size_t steps) {
    for (size_t i = 0; i < steps && !violation_; ++i) {
      step();
      check(i % 16 == 0);
    }
    if (violation_) return violation_;
    heal();
    return violation_;
  }

  size_t committed() const { return committed_.size(); }
  struct Seen {
    size_t elections = 0, elr_elections = 0, truncations = 0, expansions = 0, shrinks = 0, frozen = 0;
  };
  Seen seen_;

 private:
  size_t pick(size_t n) { return static_cast<size_t>(random_() % n); }
  bool chance(size_t percent) { return pick(100) < percent; }
  Now now() const { return {now_ms_, now_ms_}; }
  Broker& any() { return std::next(brokers_.begin(), static_cast<long>(pick(brokers_.size())))->second; }
  void fail(std::string what) {
    if (!violation_) violation_ = Violation{std::move(what)};
  }

  void step() {
    now_ms_ += static_cast<int64_t>(pick(8));
    Broker& b = any();
    switch (pick(20)) {
      case 0:
      case 1:
      case 2:
        produce(b);
        break;
      case 3:
      case 4:
        sync(b);
        break;
      case 5:
      case 6:
      case 7:
        fetch(b);
        break;
      case 8:
        if (b.seen + 1 < images_.size() && b.up) apply_image(b, b.seen + 1);
        break;
      case 9:
        if (chance(6)) crash(b);
        break;
      case 10:
        if (chance(40)) restart(b);
        break;
      case 11:
        if (chance(6)) fence(b.id, false);
        break;
      case 12:
        if (b.up && chance(60)) unfence(b.id);
        break;
      case 13:
        if (b.leader) (void)b.leader->tick(now());
        send_proposal(b);
        break;
      case 14:
        controller(b);
        break;
      case 15:
        if (chance(15)) now_ms_ += 150;
        if (chance(10)) preferred_election();
        break;
      default:
        deliver(true);
    }
  }

  // --- brokers ---
  void produce(Broker& b) {
    if (!b.up || !b.leader || b.log.size() > 60) return;
    b.push({++next_value_, b.leader->epoch()});
    (void)b.leader->on_local(ends_told(b));
  }
  Ends ends_told(const Broker& b) const {
    Ends ends = b.ends();
    if (mutant_ == Mutant::not_synced_before_reign) {
      ends.durable_end = std::max(ends.durable_end, b.leader->local().durable_end);
    }
    return ends;
  }
  void sync(Broker& b) {
    if (!b.up) return;
    b.durable += pick(b.log.size() - b.durable + 1);
    if (chance(50)) b.durable = b.log.size();
    if (b.leader) (void)b.leader->on_local(ends_told(b));
    if (b.follower) (void)b.follower->on_local(b.local());
  }
  void fetch(Broker& b) {
    if (!b.up || !b.follower) return;
    const auto position = b.follower->next_fetch(now());
    if (!position) return;
    Packet p;
    p.from = b.id;
    p.to = b.follower->leader();
    p.from_epoch = b.epoch;
    p.to_epoch = brokers_.at(p.to).epoch;
    p.number = position->number;
    p.fetch = FollowerFetch{b.id,
                            b.epoch,
                            position->leader_epoch,
                            position->fetch_offset,
                            position->durable_end,
                            position->last_fetched_epoch};
    network_.push_back(p);
    waiting_.push_back({b.id, b.epoch, position->number, position->leader_epoch});
  }

  void deliver(bool faults) {
    if (faults && !waiting_.empty() && chance(5)) {  // a request times out at the follower
      const Waiting w = waiting_.front();
      waiting_.pop_front();
      Broker& b = brokers_.at(w.id);
      if (b.up && b.epoch == w.epoch && b.follower) {
        FetchAnswer a;
        a.number = w.number;
        a.leader_epoch = w.leader_epoch;
        a.error = ErrorCode::network_exception;
        (void)b.follower->on_answer(a, b.epochs, now());
      }
    }
    if (network_.empty()) return;
    const size_t at = faults ? pick(network_.size()) : 0;
    const Packet p = network_[at];
    if (!faults || !chance(10)) network_.erase(network_.begin() + static_cast<long>(at));  // else twice
    if (faults && !p.isr_answer && chance(8))
      return;  // lost; an answer about the ISR that is lost is told as timed out
    Broker& to = brokers_.at(p.to);
    if (!to.up || to.epoch != p.to_epoch) return;
    if (p.fetch) answer(to, p);
    if (p.answer) on_answer(to, p);
    if (p.isr_answer && to.leader) (void)to.leader->on_answer(*p.isr_answer, now());
    send_proposal(to);
  }

  void answer(Broker& b, const Packet& asked) {
    FetchAnswer a;
    a.number = asked.number;
    a.leader_epoch = asked.fetch->leader_epoch;
    Packet reply;
    reply.from = b.id;
    reply.to = asked.from;
    reply.from_epoch = b.epoch;
    reply.to_epoch = asked.from_epoch;
    if (!b.leader) {
      a.error = ErrorCode::not_leader_or_follower;
    } else {
      FollowerFetch f = *asked.fetch;
      if (mutant_ == Mutant::log_end_counts) f.durable_end = f.fetch_offset;
      if (mutant_ == Mutant::divergence_ignored) f.last_fetched_epoch = kNoLeaderEpoch;
      const FetchOutcome out = b.leader->on_fetch(f, Offset(0), b.epochs, now());
      a.error = out.error;
      a.diverging = out.diverging;
      a.log_start = Offset(0);
      a.high_watermark = mark_of(b);
      if (out.accepted()) {
        const auto from = static_cast<size_t>(f.fetch_offset.v);
        const size_t to = std::min(b.log.size(), from + 1 + pick(3));
        reply.records.assign(b.log.begin() + static_cast<long>(from), b.log.begin() + static_cast<long>(to));
        if (!reply.records.empty()) {
          a.records = FetchedRange{f.fetch_offset, Offset(static_cast<int64_t>(to)),
                                   reply.records.front().epoch, reply.records.back().epoch};
        }
      }
    }
    reply.answer = a;
    network_.push_back(reply);
  }

  void on_answer(Broker& b, const Packet& p) {
    if (!b.follower) return;
    const Step s = b.follower->on_answer(*p.answer, b.epochs, now());
    if (s.lost_committed) fail("a follower cuts below its own high watermark");
    if (s.truncate_to) b.cut(static_cast<size_t>(s.truncate_to->v));
    if (s.reset_to) b.cut(static_cast<size_t>(s.reset_to->v));
    if (s.truncate_to || s.reset_to) ++seen_.truncations;
    if (s.append) {
      for (const Entry& e : p.records) {
        if (!b.log.empty() && e.epoch < b.log.back().epoch) fail("epochs decrease along a log");
        b.push(e);
      }
    }
    (void)b.follower->on_local(b.local());
  }

  void apply_image(Broker& b, size_t version) {
    b.seen = version;
    const Image& image = images_[version];
    const LeaderEpoch have = b.leader ? b.leader->epoch() : b.follower ? b.follower->epoch() : kNoLeaderEpoch;
    Assignment a;
    a.partition_epoch = image.partition_epoch;
    for (const auto& [id, state] : image.brokers) a.replicas.push_back(state);
    a.isr = {image.isr.begin(), image.isr.end()};
    if (image.leader_epoch <= have) {
      if (b.leader && image.leader == b.id) (void)b.leader->on_assignment(a, now());
      return;
    }
    const Offset known = b.leader ? mark_of(b) : b.follower ? b.follower->high_watermark() : b.saved_mark;
    if (image.leader == b.id) {
      b.follower.reset();
      b.epochs.assign(image.leader_epoch, b.end());
      Ends ends = b.ends();
      if (mutant_ == Mutant::not_synced_before_reign) {
        ends.durable_end = ends.log_end;
      } else {
        b.durable = b.log.size();
        ends = b.ends();
      }
      const size_t min = mutant_ == Mutant::min_insync_ignored ? 1 : min_insync_;
      b.leader.emplace(b.id, image.leader_epoch, a, LeaderSettings{min, 100}, ends, known, now());
      b.mark_of_reign = known;
      if (b.log.size() < committed_at_reign_[image.leader_epoch]) {
        fail("the elected leader lacks what is committed");
      }
      if (b.leader->knows_committed_end() || mutant_ == Mutant::end_known_at_once) check_end(b);
    } else {
      if (b.leader || !b.follower) {
        b.leader.reset();
        b.follower.emplace(b.local(), known, FollowerSettings{1, 20});
      }
      (void)b.follower->on_leader(image.leader_epoch, image.leader, now());
      if (mutant_ == Mutant::truncate_to_mark) {
        b.cut(static_cast<size_t>(b.follower->high_watermark().v));
        (void)b.follower->on_local(b.local());
      }
    }
  }

  void crash(Broker& b) {
    if (!b.up) return;
    b.saved_mark = Offset(0);
    const Offset mark = b.leader ? mark_of(b) : b.follower ? b.follower->high_watermark() : Offset(0);
    if (mark.v > 0) b.saved_mark = Offset(static_cast<int64_t>(pick(static_cast<size_t>(mark.v) + 1)));
    b.up = false;
    b.leader.reset();
    b.follower.reset();
    const size_t kept = b.durable + pick(b.log.size() - b.durable + 1);
    b.cut(kept);
    if (b.saved_mark > b.end()) b.saved_mark = b.end();
    // What was read back is durable only once it is synced again; a restart does that.
    b.durable = b.log.size();
    b.epochs.clear();
    for (size_t i = 0; i < b.log.size(); ++i)
      b.epochs.assign(b.log[i].epoch, Offset(static_cast<int64_t>(i)));
  }
  void restart(Broker& b) {
    if (b.up) return;
    b.up = true;
    b.epoch = BrokerEpoch(next_broker_epoch_++);
    fence(b.id, true);  // registration: what it led or belonged to is decided anew
    b.seen = images_.size() - 1;
    apply_image(b, b.seen);
  }

  // --- the controller ---
  Image next_image() const { return images_.back(); }
  void publish(Image image) {
    committed_at_reign_.emplace(image.leader_epoch, committed_.size());
    images_.push_back(std::move(image));
  }

  void set_isr(Image& image, const std::set<BrokerId>& isr) {
    std::set<BrokerId> eligible;
    if (isr.size() < min_insync_) {
      for (const auto& from : {image.isr, elr_}) {
        for (const BrokerId id : from) {
          if (!isr.contains(id)) eligible.insert(id);
        }
      }
    }
    elr_ = eligible;
    image.isr = isr;
    ++image.partition_epoch;
  }
  void elect(Image& image) {
    const auto live = [&](BrokerId id) { return image.brokers.at(id).may_join; };
    if (image.leader != kNoBroker && live(image.leader)) return;
    image.leader = kNoBroker;
    ++image.leader_epoch;
    ++image.partition_epoch;
    std::vector<BrokerId> candidates;
    for (const BrokerId id : image.isr) {
      if (live(id)) candidates.push_back(id);
    }
    if (candidates.empty()) {
      for (const BrokerId id : elr_) {
        if (live(id)) candidates.push_back(id);
      }
      if (!candidates.empty()) {
        const BrokerId chosen = candidates[pick(candidates.size())];
        set_isr(image, {chosen});
        image.leader = chosen;
        ++seen_.elr_elections;
        return;
      }
      return;
    }
    image.leader = candidates[pick(candidates.size())];
    ++seen_.elections;
  }
  void fence(BrokerId id, bool registration) {
    Image image = next_image();
    if (!image.brokers.at(id).may_join && !registration) return;
    image.brokers.at(id).may_join = false;
    if (registration) image.brokers.at(id).epoch = brokers_.at(id).epoch;
    if (image.isr.contains(id)) {
      std::set<BrokerId> isr = image.isr;
      isr.erase(id);
      set_isr(image, isr);
    }
    elect(image);
    publish(image);
  }
  void unfence(BrokerId id) {
    Image image = next_image();
    if (image.brokers.at(id).may_join) return;
    image.brokers.at(id).may_join = true;
    elect(image);
    publish(image);
  }
  void preferred_election() {
    Image image = next_image();
    std::vector<BrokerId> candidates;
    for (const BrokerId id : image.isr) {
      if (image.brokers.at(id).may_join && id != image.leader) candidates.push_back(id);
    }
    if (candidates.empty() || image.leader == kNoBroker) return;
    image.leader = candidates[pick(candidates.size())];
    ++image.leader_epoch;
    ++image.partition_epoch;
    ++seen_.elections;
    publish(image);
  }

  void send_proposal(Broker& b) {
    if (!b.up || !b.leader) return;
    if (mutant_ == Mutant::join_before_caught_up && !b.leader->proposal_pending()) {
      for (const auto& [id, other] : brokers_) {
        const auto isr = b.leader->isr();
        if (!b.leader->ends_of(id) || std::find(isr.begin(), isr.end(), id) != isr.end()) continue;
        IsrProposal p;
        p.leader_epoch = b.leader->epoch();
        p.partition_epoch = b.leader->partition_epoch();
        for (const BrokerId m : isr) p.isr.push_back({m, kNoBrokerEpoch});
        p.isr.push_back({id, kNoBrokerEpoch});
        proposals_[b.id].push_back({p, b.epoch});
        return;
      }
    }
    if (const auto p = b.leader->take_proposal()) proposals_[b.id].push_back({*p, b.epoch});
  }

  /// The next proposal of a broker, in order.
  void controller(Broker& b, bool faults = true) {
    auto& queue = proposals_[b.id];
    if (queue.empty()) return;
    const Sent sent = queue.front();
    queue.pop_front();
    IsrAnswer a;
    a.number = sent.proposal.number;
    a.error = ErrorCode::request_timed_out;
    if (!faults || !chance(15)) a = decide(b.id, sent.proposal);
    if (faults && chance(25)) a.error = ErrorCode::request_timed_out;
    if (a.error == ErrorCode::request_timed_out && mutant_ == Mutant::lost_answer_is_refusal) {
      a.error = ErrorCode::operation_not_attempted;
    }
    Packet p;
    p.to = b.id;
    p.to_epoch = sent.broker_epoch;
    p.isr_answer = a;
    network_.push_back(p);
  }
  IsrAnswer decide(BrokerId from, const IsrProposal& p) {
    IsrAnswer a;
    a.number = p.number;
    Image image = next_image();
    if (p.leader_epoch < image.leader_epoch || image.leader != from) {
      a.error = ErrorCode::fenced_leader_epoch;
      return a;
    }
    if (p.partition_epoch != image.partition_epoch) {
      a.error = ErrorCode::invalid_update_version;
      return a;
    }
    std::set<BrokerId> isr;
    for (const IsrMember& m : p.isr) {
      const BrokerState& state = image.brokers.at(m.id);
      if (!state.may_join || (m.epoch != kNoBrokerEpoch && m.epoch != state.epoch)) {
        a.error = ErrorCode::ineligible_replica;
        return a;
      }
      isr.insert(m.id);
    }
    (isr.size() > image.isr.size() ? seen_.expansions : seen_.shrinks) += 1;
    set_isr(image, isr);
    publish(image);
    a.leader_epoch = image.leader_epoch;
    a.partition_epoch = image.partition_epoch;
    a.isr = {isr.begin(), isr.end()};
    return a;
  }

  // --- what must hold ---
  Offset mark_of(const Broker& b) const {
    if (mutant_ == Mutant::confirmed_isr_only && b.leader->enough_in_sync()) {
      Offset mark = b.leader->local().durable_end;
      for (const BrokerId id : b.leader->isr()) {
        mark = std::min(mark, b.leader->ends_of(id).value_or(Ends{}).durable_end);
      }
      return std::max(mark, b.leader->high_watermark());
    }
    return b.leader->high_watermark();
  }
  void check_end(const Broker& b) {
    // Whoever asks for the end must not be told less than was committed when the reign began.
    if (static_cast<size_t>(mark_of(b).v) < committed_at_reign_[b.leader->epoch()]) {
      fail("a new leader tells an end below what is committed");
    }
  }
  /// `thorough`: compares whole logs too; what is wrong there stays wrong.
  void check(bool thorough = true) {
    for (auto& [id, b] : brokers_) {
      if (!b.leader) continue;
      const Offset mark = mark_of(b);
      if (mark < b.mark_of_reign) fail("the high watermark retreats");
      b.mark_of_reign = mark;
      const auto size = static_cast<size_t>(mark.v);
      if (size > b.log.size()) return fail("the high watermark is beyond the log");
      for (size_t i = thorough ? 0 : std::min(committed_.size(), size); i < size; ++i) {
        if (i >= committed_.size()) {
          committed_.push_back(b.log[i]);
        } else if (!(committed_[i] == b.log[i])) {
          return fail("a committed value changes");
        }
      }
      if (b.leader->knows_committed_end() || mutant_ == Mutant::end_known_at_once) check_end(b);
      if (b.leader->isr().size() < b.leader->maximal_isr().size()) ++seen_.frozen;
    }
    // Whoever may be elected holds all of it durably.
    for (const auto& members : {images_.back().isr, elr_}) {
      for (const BrokerId id : members) {
        const Broker& b = brokers_.at(id);
        if (b.durable < committed_.size()) fail("a member of ISR or ELR lacks what is committed");
        for (size_t i = 0; thorough && i < std::min(b.log.size(), committed_.size()); ++i) {
          if (!(b.log[i] == committed_[i])) return fail("a member of ISR or ELR differs");
        }
      }
    }
    if (!thorough) return;
    // Logs are equal below the smaller of two high watermarks.
    for (const auto& [id, b] : brokers_) {
      const Offset mark = b.leader ? mark_of(b) : b.follower ? b.follower->high_watermark() : Offset(0);
      for (size_t i = 0; i < static_cast<size_t>(mark.v); ++i) {
        if (i >= committed_.size() || !(b.log[i] == committed_[i])) {
          return fail("a replica's high watermark covers what is not committed");
        }
      }
    }
    if (images_.back().isr.size() >= min_insync_ && !elr_.empty()) fail("the model keeps an ELR too long");
  }

  void heal() {
    for (auto& [id, b] : brokers_) {
      restart(b);
      unfence(id);
    }
    for (int round = 0; round < 400 && !violation_; ++round) {
      now_ms_ += 5;
      for (auto& [id, b] : brokers_) {
        if (b.seen + 1 < images_.size()) apply_image(b, images_.size() - 1);
        if (round < 50) produce(b);
        b.durable = b.log.size();
        if (b.leader) (void)b.leader->on_local(ends_told(b));
        if (b.follower) (void)b.follower->on_local(b.local());
        if (round == 1 && b.follower) {  // fetches that faults have swallowed
          for (const Waiting& w : waiting_) {
            if (w.id != id || w.epoch != b.epoch) continue;
            FetchAnswer a;
            a.number = w.number;
            a.leader_epoch = w.leader_epoch;
            a.error = ErrorCode::network_exception;
            (void)b.follower->on_answer(a, b.epochs, now());
          }
        }
        fetch(b);
        if (b.leader && round % 10 == 0) (void)b.leader->tick(now());
        send_proposal(b);
        controller(b, false);
      }
      for (size_t i = network_.size(); i > 0; --i) deliver(false);
      check(round % 50 == 0 || round == 399);
    }
    if (violation_) return;
    const Broker* leader = nullptr;
    for (const auto& [id, b] : brokers_) {
      if (b.leader && b.leader->epoch() == images_.back().leader_epoch) leader = &b;
    }
    if (leader == nullptr) return fail("nobody leads in the end");
    if (images_.back().isr.size() != brokers_.size()) return fail("somebody does not return to the ISR");
    for (const auto& [id, b] : brokers_) {
      if (b.log != leader->log) return fail("logs differ in the end");
      const Offset mark = b.leader ? mark_of(b) : b.follower->high_watermark();
      if (mark != b.end()) return fail("the high watermark does not reach the end");
    }
  }

  struct Waiting {
    BrokerId id;
    BrokerEpoch epoch;
    uint64_t number;
    LeaderEpoch leader_epoch;
  };
  struct Sent {
    IsrProposal proposal;
    BrokerEpoch broker_epoch;
  };
  std::mt19937_64 random_;
  Mutant mutant_;
  size_t min_insync_ = 1;
  int64_t now_ms_ = 1000;
  int next_value_ = 0;
  int64_t next_broker_epoch_ = 1;
  std::map<BrokerId, Broker> brokers_;
  std::vector<Packet> network_;
  std::deque<Waiting> waiting_;
  std::map<BrokerId, std::deque<Sent>> proposals_;
  std::vector<Image> images_;
  std::set<BrokerId> elr_;
  std::vector<Entry> committed_;
  std::map<LeaderEpoch, size_t> committed_at_reign_;
  std::optional<Violation> violation_;
};

}  // namespace

TEST_CASE("replication holds under crashes, lost messages and elections", "[simulation]") {
  Simulation::Seen total;
  size_t committed = 0;
  for (uint64_t seed = 1; seed <= 600; ++seed) {
    Simulation s(seed, Mutant::none);
    const auto v = s.run(500);
    INFO("seed " << seed << ": " << (v ? v->what : ""));
    REQUIRE_FALSE(v);
    committed += s.committed();
    total.elections += s.seen_.elections;
    total.elr_elections += s.seen_.elr_elections;
    total.truncations += s.seen_.truncations;
    total.expansions += s.seen_.expansions;
    total.shrinks += s.seen_.shrinks;
    total.frozen += s.seen_.frozen;
  }
  // What the runs are for has happened.
  CHECK(committed > 5'000);
  CHECK(total.elections > 500);
  CHECK(total.elr_elections > 100);
  CHECK(total.truncations > 100);
  CHECK(total.expansions > 500);
  CHECK(total.shrinks > 100);
  CHECK(total.frozen > 500);
}

TEST_CASE("planted mistakes of replication are found", "[simulation]") {
  const Mutant mutant =
      GENERATE(Mutant::confirmed_isr_only, Mutant::log_end_counts, Mutant::min_insync_ignored,
               Mutant::truncate_to_mark, Mutant::divergence_ignored, Mutant::join_before_caught_up,
               Mutant::lost_answer_is_refusal, Mutant::end_known_at_once, Mutant::not_synced_before_reign);
  bool found = false;
  for (uint64_t seed = 1; seed <= 2000 && !found; ++seed) {
    found = Simulation(seed, mutant).run(500).has_value();
  }
  INFO("mutant " << static_cast<int>(mutant));
  CHECK(found);
}

}  // namespace millrace::replica
