// The states that a cluster is seldom in and where its bugs are: one list, and how often a run met each. A
// run for many minutes that never met one of them tells nothing about it, so that is a failure of the
// simulation.
//
// They are met where they are seen: from what nodes log (node_lines.h), by looking at the nodes
// (state_watch.h), by the clients, and by the nemesis.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace millrace::sim {

struct RareState {
  std::string_view name;
  std::string_view meaning;
};

inline constexpr RareState kRareStates[] = {
    // who leads a partition
    {"elr-election", "a replica outside the ISR leads, as it was eligible (KIP-966)"},
    {"no-leader", "a partition has no leader: nobody who may lead is alive"},
    {"leader-again", "a partition without a leader has one again"},
    {"isr-of-one", "the ISR of a partition with several replicas shrank to one"},
    {"below-min-isr", "the ISR became smaller than min.insync.replicas"},
    {"elr-filled", "a replica left the ISR and stays eligible"},
    {"isr-whole-again", "an ISR that was below min.insync.replicas has all replicas again"},
    {"watermark-held",
     "the high watermark of a leader stands still below min.insync.replicas, with records after it"},
    {"two-leaders", "a node leads a partition in its own eyes, another one leads it in a newer epoch"},
    {"leader-by-shutdown", "a broker in its controlled shutdown gave a partition to another one"},
    {"preferred-asked", "an administrator had the preferred replica elected"},
    // brokers and the controller
    {"fenced-for-silence", "the controller fenced a broker that it had not heard of for a session"},
    {"fenced-as-refusing", "brokers told that another one refuses connections, and the controller fenced it"},
    {"fenced-returns", "a fenced broker came back with the same epoch"},
    {"registered-unfenced", "a broker registered anew before it had been fenced"},
    {"session-over",
     "a leader that heard nothing of the controller for a session refuses what cannot be committed"},
    {"left-unheard", "a broker stopped without the controller's consent"},
    {"stood-still", "a paused process went on after its session had ended"},
    // replicas that move
    {"move-done", "a reassignment was finished"},
    {"move-called-off", "a reassignment was called off"},
    {"move-newcomer-down", "a replica that is being added is on a broker that is fenced"},
    {"broker-drained", "no judged partition is left on a broker that an operator empties"},
    {"removed-as-follower", "a replica was taken away from a broker that was following with it"},
    // the metadata quorum
    {"controller-changed", "another node leads the metadata log"},
    {"stepped-down",
     "a leader of the metadata log gave up in its own term: no majority answered, or it handed over"},
    {"pre-vote-lost", "a node asked for pre-votes and did not become a candidate"},
    {"vote-lost", "a candidate was not elected in its term"},
    {"entries-overwritten", "entries of the metadata log were cut away on a running node"},
    {"snapshot-kept", "a node replaced the beginning of its metadata log by a snapshot"},
    {"snapshot-loaded", "a node began from a snapshot of the metadata on its disk"},
    {"snapshot-half", "a node has a part of the snapshot that a leader sends it"},
    {"snapshot-installed", "a node took the snapshot of a leader in place of entries that are gone"},
    {"snapshot-orphaned", "the leader changed while a snapshot was half sent"},
    {"voter-removed", "a vote was taken away"},
    {"voter-added", "a node that followed was given a vote"},
    {"quorum-torn-entry", "the metadata log ended in an unfinished entry at a start"},
    // followers
    {"follower-cut", "a follower cut what its new leader does not have"},
    {"follower-cut-epochs",
     "a follower cut a log that ended two epochs or more before the one of its leader"},
    {"fetch-fenced-epoch", "a follower's fetch was refused as being of an old epoch"},
    {"fetch-unknown-epoch", "a follower's fetch was refused as being of an epoch that is not known yet"},
    {"fetch-other-leader", "a follower's fetch reached a broker that does not lead"},
    // disks
    {"torn-tail-cut", "a log ended in half a batch at a start"},
    {"power-mid-write", "power failed in the midst of a write"},
    {"power-took-pages", "power failed and pages that were not synced were lost"},
    {"power-took-names", "power failed and files that were made or renamed were not"},
    {"sync-failed", "a sync failed; nothing is written to that log any more"},
    {"directory-dead", "a data directory failed while another one of the broker goes on"},
    {"all-directories-dead", "all data directories of a broker failed"},
    {"disk-full", "a write found no space"},
    {"disk-full-resumed", "a broker whose disk was full is well again, without a restart"},
    {"empty-disk", "a broker came back with an empty disk"},
    {"empty-disk-votes", "a node whose disk was replaced votes with the new one"},
    {"damaged-follower", "a follower found its log damaged while it served, and it was copied anew"},
    {"damaged-leader", "a leader found its log damaged, handed over and copied it anew"},
    // what clients saw
    {"duplicate-answered",
     "a batch was sent again, had been stored the first time, and was acknowledged as that"},
    {"sequence-refused", "a batch out of its producer's order was refused"},
    {"min-isr-refused", "a write was refused for want of replicas in sync"},
    {"timed-out", "a write was stored and not acknowledged in time"},
    {"storage-refused", "a write was refused as the directory failed or is full"},
    {"acked-by-successor", "a batch was acknowledged by another broker than the one it was sent to first"},
    {"fetch-session-lost", "a reader's fetch session was not known any more"},
    // groups
    {"member-silent", "a member was put out of its group for silence"},
    {"member-not-rejoined", "a member did not rejoin in time and was put out"},
    {"coordinator-moved-join", "the coordinator moved while a member joins"},
    {"coordinator-moved-commit", "the coordinator moved while a commit is under way"},
    {"coordinator-reloaded", "a coordinator could not append and was loaded again"},
    {"commit-of-old-member",
     "a commit of a member that is none any more, or of an old generation, was refused"},
    {"rebalance-in-partition", "members were given partitions while nodes could not reach each other"},
};
inline constexpr size_t kRareStateCount = std::size(kRareStates);

/// Nowhere defined: what would call it is no constant.
size_t no_such_rare_state();

/// Its number in the list. A name that is not there does not compile.
consteval size_t rare(std::string_view name) {
  for (size_t i = 0; i < kRareStateCount; ++i) {
    if (kRareStates[i].name == name) return i;
  }
  return no_such_rare_state();
}

using RareCounts = std::array<uint64_t, kRareStateCount>;

}  // namespace millrace::sim
