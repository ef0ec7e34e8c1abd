// Thousands of steps of members that join, work, stall, die, leave and come back, some of them static, while
// the coordinator moves now and then. What must hold is said where it is checked.
#include <algorithm>
#include <deque>
#include <random>
#include <set>

#include "shard_host.h"

namespace millrace::group::testing {
namespace {

constexpr int32_t kSessionMs = 6'000;
constexpr int32_t kRebalanceMs = 9'000;
constexpr int64_t kLongestWaitMs = 60'000;  // new_member_join_timeout_ms of this test

struct Waiting {
  int client = -1;
  int64_t since_ms = 0;
};

/// A consumer as the clients write them: join, sync, heartbeat and commit, and begin again when told so.
struct Client {
  enum class Phase : uint8_t { away, joining, syncing, working };
  int number = 0;
  std::string group;
  std::optional<std::string> instance;
  int16_t version = 5;
  bool diligent = false;  // never dies, stalls or leaves, and so must never be forgotten
  Phase phase = Phase::away;
  std::string member_id;
  int32_t generation = -1;
  std::optional<Token> waits_for;
  bool leads = false;
  std::vector<std::string> group_members;
  bool may_be_forgotten = false;  // the coordinator has moved, or it was slow, since it joined
};

class Churn {
 public:
  explicit Churn(uint32_t seed) : random_(seed), host_(limits()) {
    for (int i = 0; i < 14; ++i) {
      Client c;
      c.number = i;
      c.group = i % 2 == 0 ? "even" : "odd";
      c.diligent = i < 4;
      if (i % 3 == 0) c.instance = "i" + std::to_string(i);
      c.version = i % 5 == 4 ? 3 : (i % 7 == 6 ? 9 : 5);
      clients_.push_back(c);
    }
  }

  void run(int steps, bool faults) {
    for (int i = 0; i < steps; ++i) {
      step(faults);
      if (i % 40 == 0) host_.check_replay();
    }
  }

  /// Nobody dies any more: everybody ends up in one stable generation, and nobody else.
  void settle() {
    for (Client& c : clients_) {
      if (!c.diligent) c.may_be_forgotten = true;  // for what it did until now
      c.diligent = true;
    }
    for (int i = 0; i < 300; ++i) step(false);
    for (const char* name : {"even", "odd"}) {
      INFO(host_.shard().to_string(name));
      const ClassicGroup* group = host_.shard().live(name);
      REQUIRE(group != nullptr);
      CHECK(group->state == GroupState::stable);
      CHECK(group->size() == 7);
      for (const Client& c : clients_) {
        if (c.group == name) CHECK(group->find(c.member_id) != nullptr);
      }
    }
    check_offsets();
    host_.check_replay();
    CHECK(host_.shard().counters().records_corrupt == 0);
  }

  void move_coordinator() {
    ++reloads;
    host_.reload();
    waiting_.clear();
    for (Client& c : clients_) {
      c.may_be_forgotten = true;
      if (!c.waits_for) continue;
      // NOT_COORDINATOR: the request is sent again, to the one who has taken over.
      c.waits_for.reset();
      if (c.phase == Client::Phase::joining) c.phase = Client::Phase::away;
    }
    for (auto& [key, generation] : generations_) generation = {};  // unfinished ones are numbered again
  }

  int reloads = 0;
  int generations() const { return static_cast<int>(generations_.size()); }
  uint64_t expired() const { return host_.shard().counters().members_expired; }

 private:
  static GroupLimits limits() {
    GroupLimits l;
    l.initial_rebalance_delay_ms = 500;
    l.new_member_join_timeout_ms = kLongestWaitMs;
    return l;
  }
  uint32_t roll(uint32_t n) { return static_cast<uint32_t>(random_()) % n; }
  ClientContext context(const Client& c) const {
    ClientContext x;
    x.client_id = "c" + std::to_string(c.number);
    x.client_host = "/h";
    x.api_version = c.version;
    return x;
  }

  void step(bool faults) {
    if (faults && roll(400) == 0) move_coordinator();
    for (Client& c : clients_) {
      if (faults && !c.diligent) {
        const uint32_t chance = roll(100);
        if (chance < 3) {
          die(c);
          continue;
        }
        if (chance < 4) {
          leave(c);
          continue;
        }
        if (chance < 60) continue;  // slow
      }
      act(c);
      deliver();
    }
    host_.advance(200 + roll(600));
    deliver();
    // Every parked request is answered by its deadline.
    for (const auto& [token, w] : waiting_) REQUIRE(host_.now.mono_ms - w.since_ms <= kLongestWaitMs);
    size_t waiting = 0;
    for (const Client& c : clients_) waiting += c.waits_for ? 1u : 0u;
    REQUIRE(host_.shard().parked_count() == waiting);
  }

  template <class Request>
  void send(Client& c, const Request& request) {
    const Token token = host_.send(request, context(c));
    c.waits_for = token;
    waiting_[token] = {c.number, host_.now.mono_ms};
  }

  void act(Client& c) {
    if (c.waits_for) return;
    switch (c.phase) {
      case Client::Phase::away: {
        JoinGroupRequest r;
        r.group_id = c.group;
        r.member_id = c.member_id;
        r.group_instance_id = c.instance;
        r.session_timeout_ms = kSessionMs;
        r.rebalance_timeout_ms = kRebalanceMs;
        r.protocol_type = "consumer";
        for (const char* name : {"sticky", "range"}) {
          if (c.number % 4 == 1 && name[0] == 's') continue;
          auto& p = r.protocols.emplace_back();
          p.name = name;
          p.metadata = subscription_bytes({"t", roll(30) == 0 ? "u" : "t"});
        }
        c.phase = Client::Phase::joining;
        send(c, r);
        return;
      }
      case Client::Phase::joining:
      case Client::Phase::syncing: {
        SyncGroupRequest r;
        r.group_id = c.group;
        r.generation_id = c.generation;
        r.member_id = c.member_id;
        r.group_instance_id = c.instance;
        if (c.leads) {
          for (const std::string& id : c.group_members) {
            auto& a = r.assignments.emplace_back();
            a.member_id = id;
            a.assignment = to_bytes(std::string_view(std::to_string(c.generation) + ":" + id));
          }
        }
        c.phase = Client::Phase::syncing;
        send(c, r);
        return;
      }
      case Client::Phase::working: {
        if (roll(3) == 0) {
          commit(c);
          return;
        }
        HeartbeatRequest r;
        r.group_id = c.group;
        r.generation_id = c.generation;
        r.member_id = c.member_id;
        r.group_instance_id = c.instance;
        send(c, r);
      }
    }
  }

  void commit(Client& c) {
    OffsetCommitRequest r;
    r.group_id = c.group;
    r.generation_id_or_member_epoch = c.generation;
    r.member_id = c.member_id;
    r.group_instance_id = c.instance;
    auto& t = r.topics.emplace_back();
    t.name = "t";
    auto& p = t.partitions.emplace_back();
    p.partition_index = c.number;
    p.committed_offset = ++last_offset_;
    send(c, r);
    committing_[c.number] = {c.group, last_offset_};
  }

  void forget(Client& c) {
    if (!c.waits_for) return;
    host_.shard().drop(*c.waits_for);
    waiting_.erase(*c.waits_for);
    c.waits_for.reset();
  }

  void die(Client& c) {
    forget(c);
    c.phase = Client::Phase::away;
    c.member_id.clear();
  }

  void leave(Client& c) {
    if (c.waits_for || c.phase != Client::Phase::working) return;
    LeaveGroupRequest r;
    r.group_id = c.group;
    r.member_id = c.member_id;
    auto& m = r.members.emplace_back();
    m.member_id = c.member_id;
    m.group_instance_id = c.instance;
    send(c, r);
    c.phase = Client::Phase::away;
    c.member_id.clear();
    deliver();
  }

  void deliver() {
    for (Reply& reply : host_.take_replies()) {
      const auto it = waiting_.find(reply.token);
      REQUIRE(it != waiting_.end());  // answered once, and only who still waits
      Client& c = clients_[static_cast<size_t>(it->second.client)];
      waiting_.erase(it);
      c.waits_for.reset();
      std::visit([&](auto& response) { on(c, response); }, reply.response);
    }
  }

  void again(Client& c, int16_t code) {
    const ErrorCode error = error_from_wire(code);
    INFO("client " << c.number << " told " << error_name(error) << ": " << host_.shard().to_string(c.group));
    switch (error) {
      case ErrorCode::rebalance_in_progress:
      case ErrorCode::illegal_generation:
        c.phase = Client::Phase::away;
        return;
      case ErrorCode::unknown_member_id:
      case ErrorCode::fenced_instance_id:
        // No member is lost without a timeout.
        REQUIRE((!c.diligent || c.may_be_forgotten));
        c.member_id.clear();
        c.phase = Client::Phase::away;
        return;
      default:
        FAIL("unexpected");
    }
  }

  void on(Client& c, const JoinGroupResponse& r) {
    if (r.error_code == static_cast<int16_t>(ErrorCode::member_id_required)) {
      REQUIRE((c.version >= 4 && !c.instance && !r.member_id.empty()));
      c.member_id = r.member_id;
      c.phase = Client::Phase::away;
      return;
    }
    if (r.error_code != 0) return again(c, r.error_code);
    REQUIRE(r.generation_id > 0);
    c.member_id = r.member_id;
    c.generation = r.generation_id;
    c.may_be_forgotten = false;
    c.leads = r.leader == r.member_id && !r.skip_assignment;
    // Only the leader learns who is there, and it is among them.
    REQUIRE(r.members.empty() == (r.leader != r.member_id));
    c.group_members.clear();
    for (const auto& m : r.members) c.group_members.push_back(m.member_id);
    if (!r.members.empty()) {
      REQUIRE(std::count(c.group_members.begin(), c.group_members.end(), c.member_id) == 1);
    }
    // One protocol for all members of a generation; static leaders may change their name.
    Generation& g = generations_[{c.group, r.generation_id}];
    if (g.protocol.empty()) g.protocol = *protocol_of(r);
    REQUIRE(g.protocol == *protocol_of(r));
  }

  static std::optional<std::string> protocol_of(const JoinGroupResponse& r) { return r.protocol_name; }

  void on(Client& c, const SyncGroupResponse& r) {
    if (r.error_code != 0) return again(c, r.error_code);
    // The share that the leader of this generation gave to this member, or to its static predecessor.
    const std::string got(as_text(r.assignment));
    const std::string start = std::to_string(c.generation) + ":";
    REQUIRE(got.starts_with(start));
    if (!c.instance) REQUIRE(got == start + c.member_id);
    if (c.instance) REQUIRE(got.starts_with(start + *c.instance + "-"));
    c.phase = Client::Phase::working;
  }

  void on(Client& c, const HeartbeatResponse& r) {
    if (r.error_code != 0) again(c, r.error_code);
  }

  void on(Client& c, const OffsetCommitResponse& r) {
    const int16_t code = r.topics.at(0).partitions.at(0).error_code;
    if (code != 0) return again(c, code);
    committed_[{committing_[c.number].first, c.number}] = committing_[c.number].second;
  }

  void on(Client&, const LeaveGroupResponse&) {}
  template <class Other>
  void on(Client&, const Other&) {
    FAIL("an answer to nothing that was asked");
  }

  /// Acknowledged commits are there.
  void check_offsets() {
    REQUIRE_FALSE(committed_.empty());
    for (const auto& [at, offset] : committed_) {
      OffsetFetchRequest r;
      r.group.group_id = at.first;
      auto& t = r.group.topics.emplace().emplace_back();
      t.name = "t";
      t.partition_indexes = {at.second};
      ClientContext x;
      x.api_version = 8;
      host_.send(r, x);
      CHECK(host_.only_reply<OffsetFetchResponse>().topics.at(0).partitions.at(0).committed_offset == offset);
    }
  }

  struct Generation {
    std::string protocol;
  };
  std::mt19937 random_;
  ShardHost host_;
  std::vector<Client> clients_;
  std::map<Token, Waiting> waiting_;
  std::map<std::pair<std::string, int32_t>, Generation> generations_;
  std::map<int, std::pair<std::string, int64_t>> committing_;
  std::map<std::pair<std::string, int>, int64_t> committed_;
  int64_t last_offset_ = 0;
};

}  // namespace

TEST_CASE("groups keep their promises through any churn", "[group]") {
  const auto seed = GENERATE(range(1u, 7u));
  INFO("seed " << seed);
  Churn churn(seed);
  churn.run(750, true);
  churn.move_coordinator();
  churn.run(750, true);
  churn.settle();
  CHECK(churn.reloads > 0);
  CHECK(churn.generations() > 20);
}

TEST_CASE("with nothing but deaths nobody diligent is ever forgotten", "[group]") {
  Churn churn(99);
  churn.run(20, false);
  churn.settle();
  CHECK(churn.reloads == 0);
  CHECK(churn.expired() == 0);
}

}  // namespace millrace::group::testing
