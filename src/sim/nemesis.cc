#include "sim/nemesis.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/contains.h"
#include "sim/log_files.h"

namespace millrace::sim {

namespace {

constexpr uint32_t kFaultEvent = 6;
constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kYearMs = 365 * 24 * kHourMs;

}  // namespace

void Nemesis::begin() {
  hunting_ = true;
  arm();
  if (world_.knobs.faults.rot) arm_rot();
}

void Nemesis::arm() {
  const int64_t gap_us = dice_.skewed(world_.knobs.fault_gap_ms * 100, world_.knobs.fault_gap_ms * 2'000);
  world_.scheduler.at(world_.scheduler.now_us() + gap_us, kFaultEvent, [this] {
    if (over_) return;
    act();
    arm();
  });
}

void Nemesis::note(const char* kind, const std::string& what) {
  ++faults_;
  world_.count(std::string("fault: ") + kind);
  world_.say(fmt::format("fault {}: {}", kind, what));
}

void Nemesis::in_a_while(std::function<void()> f) {
  after(dice_.skewed(20, world_.knobs.fault_ms_max), std::move(f));
}

void Nemesis::after(int64_t ms, std::function<void()> f) {
  world_.scheduler.at(world_.scheduler.now_us() + ms * 1'000, kFaultEvent, [this, f = std::move(f)] {
    if (!over_) f();
  });
}

size_t Nemesis::missing() const {
  return static_cast<size_t>(
      std::count_if(nodes_.begin(), nodes_.end(), [](const std::unique_ptr<SimNode>& n) {
        return !n->runs() || n->is_paused() || n->state() != SimNode::State::serving;
      }));
}

SimNode* Nemesis::pick_running(bool may_stop_it) {
  if (may_stop_it && missing() >= static_cast<size_t>(world_.knobs.down_max)) return nullptr;
  std::vector<SimNode*> running;
  for (const auto& node : nodes_) {
    if (node->runs() && !node->is_paused()) running.push_back(node.get());
  }
  return running.empty() ? nullptr : running[dice_.index(running.size())];
}

void Nemesis::act() {
  const FaultKinds& f = world_.knobs.faults;
  switch (dice_.below(17)) {
    case 0:
      if (SimNode* n = f.kill ? pick_running(true) : nullptr) {
        kill(*n);
        strike_again();
      }
      break;
    case 1:
      if (SimNode* n = f.power ? pick_running(true) : nullptr) {
        cut_power(*n);
        strike_again();
      }
      break;
    case 2:
      if (SimNode* n = f.pause ? pick_running(true) : nullptr) pause(*n);
      break;
    case 3:
      if (f.partition) partition();
      break;
    case 4:
      if (f.one_way) one_way();
      break;
    case 5:
      if (SimNode* n = f.isolate ? pick_running(false) : nullptr) {
        isolate(*n);
        strike_again();
      }
      break;
    case 6:
      if (f.clog) clog();
      break;
    case 7:
      if (f.cut && world_.network.cut_one()) note("cut", "a connection");
      break;
    case 8:
      if (SimNode* n = f.disk_error ? pick_running(true) : nullptr) disk_error(*n);
      break;
    case 9:
      if (SimNode* n = f.disk_full ? pick_running(false) : nullptr) disk_full(*n);
      break;
    case 10:
      if (SimNode* n = f.clock ? pick_running(false) : nullptr) jump_clock(*n);
      break;
    case 11:
      if (SimNode* n = f.drift ? pick_running(false) : nullptr) drift(*n);
      break;
    case 12:
      if (SimNode* n = f.stop ? pick_running(true) : nullptr) stop(*n);
      break;
    case 13:
      if (SimNode* n = f.slow_disk ? pick_running(false) : nullptr) slow_disk(*n);
      break;
    case 14:
      if (f.client_kill) kill_client();
      break;
    case 15:
      if (SimNode* n = f.dead_disk ? pick_running(true) : nullptr) dead_disk(*n);
      break;
    default:
      if (SimNode* n = f.empty_disk ? pick_running(true) : nullptr; n != nullptr && may_empty(*n))
        empty_disk(*n);
      break;
  }
}

// --- processes and machines ---

void Nemesis::bring_up(SimNode& node) {
  if (node.state() == SimNode::State::off) node.power_on();
  if (node.state() != SimNode::State::dead) return;
  world_.say(fmt::format("node {} starts", node.id().v));
  node.start();
}

// Misfortunes do not come singly: while the others see to what happened, another one falls, in the midst of
// what it writes if power may fail. It may be one more than ought to be down at a time, for a moment.
void Nemesis::strike_again() {
  if (!dice_.percent(world_.knobs.second_blow_percent)) return;
  const int64_t within_us = world_.knobs.election_timeout_ms * 2'000;
  world_.scheduler.at(world_.scheduler.now_us() + dice_.skewed(1'000, within_us), kFaultEvent, [this] {
    SimNode* other = over_ ? nullptr : pick_running(false);
    if (other == nullptr) return;
    const bool dark = world_.knobs.faults.power && dice_.percent(70);
    note("second blow",
         fmt::format("node {}{}", other->id().v, dark ? ", in the midst of what it writes" : ""));
    if (dark) {
      other->disk().cut_power_after(dice_.below(12));
      world_.scheduler.at(world_.scheduler.now_us() + 500'000, kFaultEvent,
                          [other] { other->disk().cancel_cut(); });
    } else {
      other->kill();
      in_a_while([this, other] { bring_up(*other); });
    }
  });
}

void Nemesis::kill(SimNode& node) {
  note("kill", fmt::format("node {}", node.id().v));
  node.kill();
  in_a_while([this, &node] { bring_up(node); });
}

// At once, or in the midst of what it writes next.
void Nemesis::cut_power(SimNode& node) {
  if (dice_.percent(50)) {
    const uint64_t changes = dice_.below(100);
    note("power", fmt::format("node {}, after {} more changes on its disk", node.id().v, changes));
    node.disk().cut_power_after(changes);
    world_.scheduler.at(world_.scheduler.now_us() + 2'000'000, kFaultEvent,
                        [&node] { node.disk().cancel_cut(); });
    return;
  }
  note("power", fmt::format("node {}", node.id().v));
  node.power_off();
  in_a_while([this, &node] { bring_up(node); });
}

void Nemesis::on_end(SimNode& node, const std::string& why) {
  world_.say(fmt::format("node {} ended: {}", node.id().v, why));
  if (why == "power failed in the midst of writing") world_.meet(rare("power-mid-write"));
  if (why == "every data directory failed") {
    world_.meet(rare("all-directories-dead"));
    world_.count("node ended as its disks failed");
    reboot(node);
  } else if (why.starts_with("start: ")) {
    world_.count("start failed");
  }
  if (over_) {
    world_.scheduler.at(world_.scheduler.now_us() + 500'000, kFaultEvent, [this, &node] { bring_up(node); });
    return;
  }
  in_a_while([this, &node] { bring_up(node); });
}

// What a failed sync left unwritten is not on the medium, whatever the page cache still shows.
void Nemesis::reboot(SimNode& node) {
  node.power_off();
  node.disk().clear_faults();
}

void Nemesis::pause(SimNode& node) {
  note("pause", fmt::format("node {}", node.id().v));
  node.pause();
  in_a_while([this, &node, life = node.life(), since_us = world_.scheduler.now_us()] {
    if (node.life() != life || !node.is_paused()) return;
    const int64_t stood_us = world_.scheduler.now_us() - since_us;
    world_.say(fmt::format("node {} goes on", node.id().v));
    if (stood_us > world_.knobs.session_timeout_ms * 1'000) world_.meet(rare("stood-still"));
    node.resume();
  });
}

void Nemesis::stop(SimNode& node) {
  if (node.state() != SimNode::State::serving) return;
  note("stop", fmt::format("node {}", node.id().v));
  node.stop();
}

void Nemesis::kill_client() {
  if (clients_.empty()) return;
  ClientProcess& chosen = *clients_[dice_.index(clients_.size())];
  if (!chosen.runs()) return;
  note("client kill", chosen.name());
  chosen.kill();
  world_.scheduler.at(world_.scheduler.now_us() + dice_.between(10, 3'000) * 1'000, kFaultEvent,
                      [&chosen] { chosen.start(); });
}

// --- links ---

void Nemesis::add_both_ways(std::vector<Pair>& pairs, SimHost& a, SimHost& b) {
  pairs.emplace_back(&a, &b);
  pairs.emplace_back(&b, &a);
}

void Nemesis::block(std::vector<Pair> pairs) {
  cut_off(pairs);
  in_a_while([this, pairs = std::move(pairs)] { unblock(pairs); });
}

void Nemesis::cut_off(const std::vector<Pair>& pairs) {
  for (const auto& [from, to] : pairs) {
    if (from == to) continue;
    if (++blocked_[{from->number(), to->number()}] > 1) continue;
    world_.network.block(*from, *to);
    ++world_.blocked_links;
  }
}

void Nemesis::unblock(const std::vector<Pair>& pairs) {
  for (const auto& [from, to] : pairs) {
    if (from == to) continue;
    if (--blocked_[{from->number(), to->number()}] > 0) continue;
    world_.network.unblock(*from, *to);
    --world_.blocked_links;
  }
}

void Nemesis::partition() {
  std::vector<SimHost*> sides[2];
  std::string names;
  for (const auto& node : nodes_) {
    const size_t side = dice_.index(2);
    sides[side].push_back(&node->host());
    if (side == 0) names += " " + node->host().name();
  }
  if (sides[0].empty() || sides[1].empty()) return;
  if (dice_.percent(40)) {
    for (ClientProcess* c : clients_) sides[dice_.index(2)].push_back(&c->host());
  }
  std::vector<Pair> pairs;
  for (SimHost* a : sides[0]) {
    for (SimHost* b : sides[1]) add_both_ways(pairs, *a, *b);
  }
  note("partition", "apart:" + names);
  block(std::move(pairs));
}

void Nemesis::one_way() {
  std::vector<Pair> pairs;
  std::string names;
  for (const auto& a : nodes_) {
    for (const auto& b : nodes_) {
      if (a == b || !dice_.percent(30)) continue;
      pairs.emplace_back(&a->host(), &b->host());
      names += fmt::format(" {}>{}", a->host().name(), b->host().name());
    }
  }
  if (pairs.empty()) return;
  note("one-way", "no way:" + names);
  block(std::move(pairs));
}

void Nemesis::isolate(SimNode& node) {
  std::vector<Pair> pairs;
  const bool from_nodes = dice_.percent(80);
  if (from_nodes) {
    for (const auto& other : nodes_) add_both_ways(pairs, node.host(), other->host());
  }
  const bool from_clients = !from_nodes || dice_.percent(40);
  if (from_clients) {
    for (ClientProcess* c : clients_) add_both_ways(pairs, node.host(), c->host());
  }
  note("isolate", fmt::format("node {} from {}{}", node.id().v, from_nodes ? "nodes " : "",
                              from_clients ? "clients" : ""));
  block(std::move(pairs));
}

// Cut off with what it has just appended and nobody else has. The next one, too: then the first comes back,
// to be elected again while the second one is away with another entry at the same place (Raft's figure 8).
void Nemesis::on_leader(SimNode& node) {
  if (over_ || !hunting_ || hunted_.size() > 1 || !dice_.percent(world_.knobs.hunt_percent)) return;
  std::vector<Pair> pairs;
  for (const auto& other : nodes_) add_both_ways(pairs, node.host(), other->host());
  note("hunt", fmt::format("node {} has just been elected", node.id().v));
  cut_off(pairs);
  const int64_t timeout_ms = world_.knobs.election_timeout_ms;
  if (!hunted_.empty()) release(hunted_.begin()->first, dice_.between(timeout_ms / 4, timeout_ms));
  const uint64_t prey = ++last_prey_;
  hunted_[prey] = std::move(pairs);
  release(prey, dice_.between(3, 6) * timeout_ms);
}

void Nemesis::release(uint64_t prey, int64_t in_ms) {
  after(in_ms, [this, prey] {
    const auto at = hunted_.find(prey);
    if (at == hunted_.end()) return;
    unblock(at->second);
    hunted_.erase(at);
  });
}

void Nemesis::clog() {
  std::vector<SimHost*> hosts;
  for (const auto& node : nodes_) hosts.push_back(&node->host());
  const int64_t for_us = dice_.skewed(50, 5'000) * 1'000;
  std::string names;
  for (SimHost* a : hosts) {
    for (SimHost* b : hosts) {
      if (a == b || !dice_.percent(25)) continue;
      world_.network.clog(*a, *b, for_us);
      names += fmt::format(" {}>{}", a->name(), b->name());
    }
  }
  if (names.empty()) return;
  note("clog", fmt::format("for {} ms:{}", for_us / 1'000, names));
}

// --- disks and clocks ---

void Nemesis::disk_error(SimNode& node) {
  SimDisk::Device& d = node.disk().device(dice_.index(node.disk().devices()));
  if (dice_.percent(50)) {
    d.syncs_until_error = 1 + dice_.below(40);
    note("disk error", fmt::format("{}: the {}th sync", d.root, d.syncs_until_error));
  } else {
    d.errors[static_cast<size_t>(Call::write)] = 20'000;
    note("disk error", fmt::format("{}: writes", d.root));
  }
  in_a_while([this, &node, &d] {
    d.errors[static_cast<size_t>(Call::write)] = d.syncs_until_error = 0;
    const bool met = node.disk().errors_met();
    if (!met) return;
    // Somebody mends the machine.
    world_.say(fmt::format("node {} is mended", node.id().v));
    reboot(node);
    in_a_while([this, &node] { bring_up(node); });
  });
}

void Nemesis::disk_full(SimNode& node) {
  SimDisk::Device& d = node.disk().device(dice_.index(node.disk().devices()));
  d.capacity = d.used + dice_.below(20'000);
  note("disk full", fmt::format("{}: {} bytes are left", d.root, d.capacity - d.used));
  in_a_while([this, &node, &d, before = node.disk().counters.short_writes, life = node.life()] {
    d.capacity = UINT64_MAX;
    if (node.disk().counters.short_writes == before || node.life() != life) return;
    world_.meet(rare("disk-full"));
    world_.scheduler.at(world_.scheduler.now_us() + 3'000'000, kFaultEvent, [this, &node, life] {
      if (node.life() == life && node.state() == SimNode::State::serving && node.broker().ailment().empty())
        world_.meet(rare("disk-full-resumed"));
    });
  });
}

// Nothing can be read or written there any more. It was the cable, or the disks of the machine are replaced.
void Nemesis::dead_disk(SimNode& node) {
  SimDisk::Device& d = node.disk().device(dice_.index(node.disk().devices()));
  d.dead = true;
  note("dead disk", d.root);
  in_a_while([this, &node] {
    if (world_.knobs.faults.empty_disk && dice_.percent(50) && may_empty(node)) return empty_disk(node);
    world_.say(fmt::format("the disks of node {} are back", node.id().v));
    reboot(node);
    in_a_while([this, &node] { bring_up(node); });
  });
}

// Others have what was promised of it, and nobody else's disks are away.
bool Nemesis::may_empty(SimNode& node) {
  note_cured();
  if (!world_.emptied.empty() || world_.scheduler.now_us() < world_.votes_in_doubt_until_us) return false;
  const std::shared_ptr<const meta::Image> image = newest_image(nodes_);
  if (!image) return false;
  // As far as anybody knows of the quorum, all vote, and all but this one are here.
  for (const auto& n : nodes_) {
    if (n.get() == &node) continue;
    if (n->state() != SimNode::State::serving || n->is_paused()) return false;
    const raft::Raft* core = n->broker().ledger().runner().core();
    if (core == nullptr || core->membership().voters.size() != static_cast<size_t>(world_.knobs.voters) ||
        (n->id().v <= world_.knobs.voters && !core->may_vote()))
      return false;
  }
  // What is damaged here or there may be needed.
  for (const auto& n : nodes_) {
    if (!rotten_segments(n->disk()).empty()) return false;
  }
  bool safe = true;
  image->topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
    for (size_t i = 0; i < topic->partitions.size() && safe; ++i) {
      const meta::Partition& p = topic->partitions[i];
      if (!contains(p.replicas, node.id())) continue;
      if (p.isr.empty()) safe = false;
      const auto number = static_cast<int32_t>(i);
      int64_t promised = 0;
      if (node.runs()) {
        if (const broker::PartitionRef* mine = node.view().partition(topic->id, number))
          promised = (*mine)->usage().offsets.high_watermark.v;
      }
      safe = safe && std::any_of(nodes_.begin(), nodes_.end(), [&](const std::unique_ptr<SimNode>& n) {
               if (n.get() == &node || !contains(p.isr, n->id())) return false;
               const broker::PartitionRef* other = n->view().partition(topic->id, number);
               return other != nullptr && !(*other)->offline() && (*other)->usage().durable_end.v >= promised;
             });
    }
  });
  return safe;
}

void Nemesis::empty_disk(SimNode& node) {
  note("empty disk", fmt::format("node {}", node.id().v));
  world_.emptied.insert(node.id().v);
  world_.forgetful.insert(node.id().v);
  node.power_off();
  node.disk().replace_all();
  in_a_while([this, &node] { bring_up(node); });
}

// Who has all its replicas in sync again, and votes, is whole.
void Nemesis::note_cured() {
  std::erase_if(world_.emptied, [&](int32_t id) {
    SimNode& node = *nodes_[static_cast<size_t>(id - 1)];
    if (node.state() != SimNode::State::serving) return false;
    const raft::Raft* core = node.broker().ledger().runner().core();
    if (core == nullptr) return false;
    if (id <= world_.knobs.voters && (!core->membership().is_voter(node.id()) || !core->may_vote()))
      return false;
    bool whole = node.broker().is_registered(*node.view().image);
    node.view().image->topics().for_each([&](const std::string&, const meta::TopicRef& topic) {
      for (const meta::Partition& p : topic->partitions) {
        if (contains(p.replicas, node.id()) && !contains(p.isr, node.id())) whole = false;
      }
    });
    return whole;
  });
}

void Nemesis::arm_rot() {
  const int64_t gap_us = rot_dice_.skewed(300, 6'000) * 1'000;
  world_.scheduler.at(world_.scheduler.now_us() + gap_us, kFaultEvent, [this] {
    if (over_) return;
    SimNode& node = *nodes_[rot_dice_.index(nodes_.size())];
    if (node.state() == SimNode::State::serving && !node.is_paused()) rot(node);
    arm_rot();
  });
}

// Without the victim as many as min.insync.replicas asks for, or all others, have the partition up to `end`
// on disk and are in sync, and none of them was damaged in it.
bool Nemesis::stands_in(const Uuid& topic, const meta::Partition& state, int32_t number, int64_t end,
                        const SimNode& victim) {
  int32_t others = 0;
  for (const auto& n : nodes_) {
    if (n.get() == &victim || !contains(state.replicas, n->id())) continue;
    if (n->state() != SimNode::State::serving) return false;  // what lies there is not known now
    const broker::PartitionRef* p = n->view().partition(topic, number);
    if (p == nullptr) return false;
    for (const std::string& path : rotten_segments(n->disk())) {
      if (io::parent_path(path) == io::join_path((*p)->directory(), (*p)->name().text())) return false;
    }
    if (contains(state.isr, n->id()) && !(*p)->offline() && (*p)->usage().durable_end.v >= end) ++others;
  }
  const auto all = static_cast<int32_t>(state.replicas.size()) - 1;
  return others >= std::max(std::min(world_.knobs.min_insync, all), 1);
}

// Bits of a closed segment, or of an index or producer snapshot of it, change on the medium, and nothing of
// the file is in the page cache any more. Only below what a checkpoint has noted: beyond that it would be
// taken for what a cut of power left.
void Nemesis::rot(SimNode& node) {
  const std::shared_ptr<const meta::Image> image = newest_image(nodes_);
  if (!image || !world_.emptied.empty()) return;
  const SimDisk& disk = node.disk();
  std::vector<ClosedSegment> closed;
  node.view().hosted.for_each([&](const Uuid& id, const std::shared_ptr<const broker::HostedTopic>& topic) {
    int32_t number = -1;
    for (const broker::PartitionRef& p : topic->partitions) {
      const meta::Partition* state = image->partition(id, PartitionId(++number));
      if (!p || p->offline() || state == nullptr || !contains(state->replicas, node.id())) continue;
      const int64_t noted = p->usage().recovery_point.v;
      for (ClosedSegment& s : closed_segments(disk, io::join_path(p->directory(), p->name().text()))) {
        if (s.end > noted || !stands_in(id, *state, number, s.end, node)) break;
        closed.push_back(std::move(s));
      }
    }
  });
  if (closed.empty()) return;
  const ClosedSegment& chosen = closed[rot_dice_.index(closed.size())];
  std::string path = chosen.path;
  uint64_t from = 0;
  uint64_t size = 0;
  if (rot_dice_.percent(70)) {
    const std::optional<FoundBatch> batch =
        find_batch_below(disk, io::parent_path(path), chosen.base, chosen.end, rot_dice_);
    if (!batch) return;
    // Offset, length and leader epoch of a batch have no checksum in Kafka's format.
    from = batch->position + 16;
    size = batch->size - 16;
  } else {
    const char* const kinds[] = {"index", "timeindex", "snapshot"};
    path.replace(path.size() - 3, 3, kinds[rot_dice_.index(std::size(kinds))]);
    const Bytes* content = disk.content(path);
    if (content == nullptr || content->empty()) return;
    size = content->size();
  }
  std::set<uint64_t> at;
  for (int64_t flips = rot_dice_.between(1, 3); flips > 0; --flips) at.insert(from + rot_dice_.below(size));
  std::string places;
  for (const uint64_t position : at) {
    node.disk().flip_bit(path, position, static_cast<uint32_t>(rot_dice_.below(8)));
    places += fmt::format(" {}", position);
  }
  node.disk().evict(path);
  note("rot", fmt::format("node {}: {}, bytes{}", node.id().v, path, places));
}

void Nemesis::slow_disk(SimNode& node) {
  SimDisk::Timing& timing = node.disk().timing;
  timing.slow_per_million = 100'000;
  timing.slow_us_max = dice_.between(50, 3'000) * 1'000;
  note("slow disk", fmt::format("node {}: up to {} ms", node.id().v, timing.slow_us_max / 1'000));
  in_a_while([&timing] { timing.slow_per_million = 0; });
}

void Nemesis::jump_clock(SimNode& node) {
  const int64_t by =
      dice_.percent(70) ? dice_.between(-kHourMs, kHourMs) : dice_.between(-10 * kYearMs, 10 * kYearMs);
  node.clock().jump_wall(by);
  note("clock", fmt::format("node {}: by {} ms", node.id().v, by));
}

void Nemesis::drift(SimNode& node) {
  const int64_t ppm = dice_.between(-50'000, 50'000);
  node.clock().set_drift(ppm);
  note("drift", fmt::format("node {}: {} ppm", node.id().v, ppm));
}

void Nemesis::heal() {
  over_ = true;
  world_.say("everything is mended");
  for (const auto& [pair, count] : blocked_) {
    if (count > 0) world_.network.unblock_numbers(pair.first, pair.second);
  }
  blocked_.clear();
  world_.blocked_links = 0;
  world_.network.unclog();
  for (const auto& node : nodes_) {
    node->disk().cancel_cut();
    bool damaged = node->disk().errors_met();
    for (size_t i = 0; i < node->disk().devices(); ++i) damaged = damaged || node->disk().device(i).dead;
    node->disk().clear_faults();
    node->disk().timing.slow_per_million = 0;
    node->clock().set_drift(0);
    if (node->is_paused()) node->resume();
    if (damaged && node->state() != SimNode::State::off) reboot(*node);
    bring_up(*node);
  }
}

}  // namespace millrace::sim
