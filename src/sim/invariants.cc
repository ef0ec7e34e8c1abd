#include "sim/invariants.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/contains.h"
#include "base/endian.h"
#include "record/batch_iterator.h"

namespace millrace::sim {

namespace {

uint64_t digest_of(ByteView bytes) {
  uint64_t h = bytes.size() + 0x9E3779B97F4A7C15U;
  for (const uint8_t b : bytes) h = (h ^ b) * 0x100000001B3U;
  return h;
}

// Where and how a segment is not what was appended to it; empty: it is.
std::string damage_in(ByteView segment) {
  record::BatchIterator batches(segment);
  Offset next(0);
  while (true) {
    const size_t at = batches.position();
    const Result<std::optional<record::BatchView>> batch = batches.next();
    if (!batch.ok() || (!*batch && at < segment.size())) return fmt::format("no batch at {}", at);
    if (!*batch) return {};
    if (!(*batch)->crc_matches()) return fmt::format("a damaged batch at {}", at);
    if ((*batch)->base_offset() < next)
      return fmt::format("offset {} again at {}", (*batch)->base_offset().v, at);
    next = (*batch)->next_offset();
  }
}

bool is_subset(const std::vector<BrokerId>& some, const std::vector<BrokerId>& all) {
  return std::all_of(some.begin(), some.end(), [&](BrokerId id) { return contains(all, id); });
}

}  // namespace

void Invariants::look() {
  const std::shared_ptr<const meta::Image> newest = newest_image(nodes_);
  if (newest && (!newest_ || newest->applied_index() > newest_->applied_index())) newest_ = newest;
  for (const auto& node : nodes_) {
    if (!node->runs() || !world_.violation.empty()) continue;
    look_at_quorum(*node);
    look_at_image(*node);
    look_at_partitions(*node);
    look_at_disk(*node);
    look_at_bytes(*node);
  }
  if (world_.violation.empty()) look_at_promises();
}

void Invariants::look_at_commit() {
  for (const auto& node : nodes_) {
    if (node->runs() && world_.violation.empty()) look_at_quorum(*node);
  }
  if (world_.violation.empty()) look_at_promises();
}

void Invariants::look_at_quorum(SimNode& node) {
  const raft::Raft* core = node.broker().ledger().runner().core();
  if (core == nullptr) return;
  const int32_t id = node.id().v;
  Quorum& q = quorums_[id];
  // A term that was heard of and not written down when the process died bound it to nothing.
  if (q.life == node.life() && core->term().v < q.term) {
    return world_.fail(fmt::format("raft: node {} went back from term {} to {}", id, q.term, core->term().v));
  }
  q.term = core->term().v;
  if (core->leads()) {
    const auto [at, first] = term_leaders_.try_emplace(core->term().v, id);
    if (!first && at->second != id) {
      return world_.fail(
          fmt::format("raft: nodes {} and {} both lead in term {}", at->second, id, core->term().v));
    }
  }
  if (q.life != node.life()) {
    q.life = node.life();
    q.checked = 0;
  }
  const raft::EntryLog& log = core->log();
  const int64_t commit = std::min(core->delivered_index().v, log.last_index().v);
  for (int64_t i = std::max(q.checked, log.base_index().v) + 1; i <= commit; ++i) {
    const raft::Entry& entry = log.at(LogIndex(i));
    const uint64_t digest = digest_of(entry.payload.view());
    const auto [at, first] = committed_.try_emplace(i, Committed{entry.term.v, digest, id});
    if (first || (at->second.term == entry.term.v && at->second.digest == digest)) continue;
    return world_.fail(fmt::format(
        "raft: entry {} was committed on node {} in term {}, and is another one on node {}, of term {}", i,
        at->second.seen_on, at->second.term, id, entry.term.v));
  }
  q.checked = std::max(q.checked, commit);
}

void Invariants::look_at_promises() {
  std::vector<QuorumVoter> voters;
  for (const auto& node : nodes_) {
    const raft::Raft* core = node->runs() ? node->broker().ledger().runner().core() : nullptr;
    if (core != nullptr && !world_.forgetful.contains(node->id().v)) voters.push_back({node->id(), core});
  }
  std::string wrong = votes_.look(voters);
  if (wrong.empty()) wrong = forgotten_entry(voters);
  if (wrong.empty() && !committed_.empty()) {
    const auto& [index, newest] = *committed_.rbegin();
    wrong = incomplete_candidate(voters, LogIndex(index), Term(newest.term));
  }
  if (!wrong.empty()) world_.fail("raft: " + wrong);
}

void Invariants::look_at_image(SimNode& node) {
  const broker::View& view = node.view();
  auto& last = images_[node.id().v];
  if (last.first == node.life() && last.second == view.image->applied_index()) return;
  last = {node.life(), view.image->applied_index()};
  view.image->topics().for_each([&](const std::string& name, const meta::TopicRef& topic) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      const meta::Partition& p = topic->partitions[i];
      const auto tell = [&](const std::string& what) {
        world_.fail(fmt::format("metadata on node {}: {}-{}: {}", node.id().v, name, i, what));
      };
      if (p.replicas.empty()) tell("it has no replicas");
      if (!is_subset(p.isr, p.replicas)) tell("the ISR has nodes that are no replicas");
      if (!is_subset(p.elr, p.replicas)) tell("the ELR has nodes that are no replicas");
      for (const BrokerId id : p.elr) {
        if (contains(p.isr, id)) tell(fmt::format("node {} is in ISR and ELR", id.v));
      }
      if (p.leader != kNoBroker && !contains(p.isr, p.leader) && !p.leader_recovering)
        tell("its leader is not in the ISR");
      if (p.leader != kNoBroker && p.isr.empty()) tell("it has a leader and nobody in sync");
      for (const BrokerId id : p.isr) {
        const meta::Broker* b = view.image->broker(id);
        if (p.isr.size() > 1 && b != nullptr && b->fenced)
          tell(fmt::format("node {} is fenced and in sync", id.v));
      }
      auto& newest = epochs_[{topic->id.to_string(), static_cast<int32_t>(i)}];
      if (p.leader_epoch.v > newest.first && p.partition_epoch < newest.second)
        tell("its leader epoch rose and its own epoch fell");
      newest = {std::max(newest.first, p.leader_epoch.v), std::max(newest.second, p.partition_epoch)};
    }
  });
}

void Invariants::look_at_partitions(SimNode& node) {
  if (node.state() == SimNode::State::serving) forget_memories(node);
  const broker::View& view = node.view();
  view.hosted.for_each([&](const Uuid& id, const std::shared_ptr<const broker::HostedTopic>& topic) {
    for (size_t i = 0; i < topic->partitions.size(); ++i) {
      const broker::PartitionRef& partition = topic->partitions[i];
      if (!partition || partition->offline()) continue;
      const partition::Partition::Usage usage = partition->usage();
      const partition::Offsets& o = usage.offsets;
      const auto tell = [&](const std::string& what) {
        world_.fail(fmt::format("partition {} on node {}: {}", partition->name().text(), node.id().v, what));
      };
      if (o.high_watermark > o.log_end)
        tell(fmt::format("high watermark {} after the end {}", o.high_watermark.v, o.log_end.v));
      if (o.last_stable > o.high_watermark) tell("the last stable offset is after the high watermark");
      if (o.log_start > o.high_watermark) tell("the log start is after the high watermark");
      if (usage.durable_end > o.log_end) tell("the durable end is after the end");
      look_at_memory(node, id, i, usage);
      if (usage.role != partition::Partition::Role::leader) continue;
      const int32_t epoch = partition->leader_epoch().v;
      const auto [at, first] =
          reigns_.try_emplace({id.to_string(), static_cast<int32_t>(i), epoch},
                              Reign{node.id().v, node.life(), o.high_watermark.v, o.log_end.v,
                                    o.high_watermark.v, world_.scheduler.now_us()});
      Reign& reign = at->second;
      if (first) continue;
      if (reign.leader != node.id().v) {
        tell(fmt::format("leads in epoch {}, in which node {} leads", epoch, reign.leader));
      } else if (reign.life == node.life()) {
        if (o.high_watermark.v < reign.high_watermark)
          tell(fmt::format("high watermark back from {} to {} in epoch {}", reign.high_watermark,
                           o.high_watermark.v, epoch));
        if (o.log_end.v < reign.log_end)
          tell(fmt::format("the end went back from {} to {} while it leads in epoch {}", reign.log_end,
                           o.log_end.v, epoch));
      }
      reign.life = node.life();
      reign.high_watermark = o.high_watermark.v;
      reign.log_end = o.log_end.v;
      look_at_copies(reign, id, i, *partition);
    }
  });
}

// What is committed lies with everybody in the ISR, and with durability=fsync on disk. A process that was
// started meanwhile need not know how much of what it has is on disk.
void Invariants::look_at_copies(const Reign& reign, const Uuid& topic, size_t number,
                                const partition::Partition& led) {
  const int64_t committed = reign.high_watermark;
  const bool fsync = led.config()->fsync && committed > reign.first_high_watermark;
  if (const int64_t held = led.usage().durable_end.v; fsync && held < committed) {
    return world_.fail(
        fmt::format("replication: {} is committed up to {} by node {}, which has it on disk up to {}",
                    led.name().text(), committed, reign.leader, held));
  }
  for (const partition::ReplicaState& r : led.replica_states()) {
    SimNode& holder = *nodes_[static_cast<size_t>(r.id.v) - 1];
    if (!r.in_sync || !holder.runs()) continue;
    const broker::PartitionRef* copy = holder.view().partition(topic, static_cast<int32_t>(number));
    // A lost disk, or damage, took it out of the ISR, of which this leader need not have heard.
    if (world_.knobs.faults.rot || world_.forgetful.contains(r.id.v)) {
      const meta::Partition* now = newest_->partition(topic, PartitionId(static_cast<int32_t>(number)));
      if (now == nullptr || !contains(now->isr, r.id)) continue;
    }
    // One that follows another reign has been told more than this leader knows.
    if (copy == nullptr || (*copy)->offline() || (*copy)->leader_epoch() != led.leader_epoch()) continue;
    const partition::Partition::Usage usage = (*copy)->usage();
    if (usage.role != partition::Partition::Role::follower) continue;
    const bool on_disk = fsync && holder.started_us() < reign.since_us;
    const int64_t held = (on_disk ? usage.durable_end : usage.offsets.log_end).v;
    if (held >= committed) continue;
    return world_.fail(fmt::format(
        "replication: {} is committed up to {} by node {}, and node {}, which is in sync, "
        "has it{} up to {}",
        led.name().text(), committed, reign.leader, holder.id().v, on_disk ? " on disk" : "", held));
  }
}

// What was committed and on disk when a process ended is there when the next one begins, whatever the disk
// did. With several directories a replica may begin anew in another.
void Invariants::look_at_memory(SimNode& node, const Uuid& topic, size_t number,
                                const partition::Partition::Usage& usage) {
  if (world_.knobs.directories > 1 || world_.forgetful.contains(node.id().v)) return;
  Memory& m = memories_[{node.id().v, topic, static_cast<int32_t>(number)}];
  const int64_t end = usage.offsets.log_end.v;
  const auto answers_for_it = [&] {
    const meta::Partition* p = newest_->partition(topic, PartitionId(static_cast<int32_t>(number)));
    return p != nullptr && (contains(p->isr, node.id()) || contains(p->elr, node.id()));
  };
  if (m.life != 0 && m.life != node.life() && end < m.kept && answers_for_it()) {
    return world_.fail(
        fmt::format("storage: node {} had partition {} of {} on disk and committed up to {}, and after "
                    "its start up to {}",
                    node.id().v, number, topic.to_string(), m.kept, end));
  }
  m = {node.life(), std::min(usage.durable_end, usage.offsets.high_watermark).v};
}

// Which replicas a node gave up, it has forgotten.
void Invariants::forget_memories(SimNode& node) {
  std::erase_if(memories_, [&](const auto& entry) {
    const auto& [holder, topic, number] = entry.first;
    if (holder != node.id().v) return false;
    const meta::Partition* p = node.view().image->partition(topic, PartitionId(number));
    return p == nullptr || !contains(p->replicas, node.id());
  });
}

// A disk that never failed gives back what was synced: nothing that others count on is damaged there.
void Invariants::look_at_disk(SimNode& node) {
  const DiskCounters& c = node.disk().counters;
  if (c.sync_errors + c.write_errors + c.read_errors + c.bits_flipped > 0) return;
  if (node.broker().host().damaged().empty() || world_.forgetful.contains(node.id().v)) return;
  for (const log::CommitKey& key : node.broker().host().damaged()) {
    const meta::Partition* p = newest_->partition(key.topic_id, key.partition);
    if (p == nullptr || (!contains(p->isr, node.id()) && !contains(p->elr, node.id()))) continue;
    return world_.fail(
        fmt::format("storage: node {} takes partition {} of {} for damaged, whose records it answers "
                    "for, and its disk has kept every promise",
                    node.id().v, key.partition.v, key.topic_id.to_string()));
  }
}

// What a start left of the logs is whole, whatever a cut of power had left on the medium: each batch follows
// the one before and has its checksum.
void Invariants::look_at_bytes(SimNode& node) {
  if (node.state() != SimNode::State::serving || read_[node.id().v] == node.life()) return;
  read_[node.id().v] = node.life();
  const DiskCounters& c = node.disk().counters;
  if (c.sync_errors + c.write_errors + c.read_errors > 0) return;
  node.view().hosted.for_each([&](const Uuid&, const std::shared_ptr<const broker::HostedTopic>& topic) {
    for (const broker::PartitionRef& partition : topic->partitions) {
      if (!partition || partition->offline()) continue;
      for (const std::string& path :
           node.disk().files_under(io::join_path(partition->directory(), partition->name().text()))) {
        if (!path.ends_with(".log") || node.disk().is_rotten(path)) continue;
        const Bytes* content = node.disk().content(path);
        const std::string wrong = content == nullptr ? std::string() : damage_in(*content);
        if (!wrong.empty())
          return world_.fail(fmt::format("storage: node {} started with {}: {}", node.id().v, path, wrong));
      }
    }
  });
}

}  // namespace millrace::sim
