// Mistakes that can be planted in a broker, to find out whether the simulation of a cluster would notice
// them. They exist in one build of their own (the preset `plants`), all of them, and each run chooses at most
// one; in every other build planted() is false at compile time and nothing of them is left.
#pragma once

#include <cstdint>

namespace millrace {

enum class Plant : uint8_t {
  none,
  // raft, ledger: the metadata quorum
  vote_twice,                 // a vote in a term does not hinder another
  vote_before_sync,           // a vote leaves before it is on disk
  vote_without_sync,          // term and vote are written and never synced
  vote_for_stale_log,         // also for a candidate that lacks committed entries
  commit_old_term,            // entries of earlier terms commit by counting
  commit_without_majority,    // one short of a majority is enough
  count_observers,            // who only follows counts like a voter
  append_acknowledged_early,  // entries are acknowledged before they are on disk
  keep_conflicting_entries,   // a follower keeps its own entries where the leader has others
  serve_before_epoch_start,   // a leader decides before the first entry of its term is committed
  metadata_reply_early,       // the controller answers before its records are committed
  // replica: leader and follower
  ack_before_isr,              // the leader alone moves the high watermark
  ack_before_sync,             // what is written counts as durable on the leader
  follower_ack_before_sync,    // ... and on followers
  shrink_unconfirmed,          // whom a proposal removes does not count from then on
  join_isr_behind,             // who fetches joins the ISR
  trust_old_incarnation,       // fetches of a broker's earlier life are believed
  no_divergence_check,         // the leader does not compare epochs
  truncate_to_high_watermark,  // a follower that differs cuts down to its high watermark
  no_fence_by_epoch,           // fetches of an older or newer reign are answered
  // partition
  read_uncommitted_end,          // consumers read up to the log end
  duplicate_acknowledged_early,  // a repeated batch is answered before it is committed
  lead_without_sync,             // a new leader does not sync what it holds
  wrong_code_after_append,       // a leader that steps down says that nothing was stored
  ignore_failed_sync,            // a failed fdatasync is taken for success
  retry_failed_sync,             // a failed fdatasync is asked for again
  keep_deleted_durable_end,      // the durable end of a replica that went stays noted
  serve_damaged,                 // what does not fit its checksum is served
  // log
  ignore_producer_epoch,        // a producer's epoch is not looked at
  ignore_sequence,              // a producer's sequence numbers are not looked at
  drop_directory_sync,          // names are never synced
  trust_index_after_crash,      // the indexes were written before the data, and are believed
  recover_without_checksums,    // after a crash batches are taken as they lie
  forget_recent_producers,      // what came after the newest snapshot is not looked through for producers
  keep_epochs_on_truncate,      // epochs of records that were cut stay known
  keep_producers_on_truncate,   // batches that were cut stay known as appended
  recovery_point_ahead,         // a sync of records vouches for what came meanwhile, too
  trust_page_cache_after_fail,  // what a failed sync may have lost is not written once more
  // control
  elect_out_of_sync,    // any replica may lead
  fence_keeps_isr,      // a fenced broker stays in the ISR
  accept_stale_isr,     // a proposal made for an earlier partition epoch is taken
  accept_old_member,    // ... and one that adds an earlier life of a broker
  trust_lossy_restart,  // who lost records that were not synced may still lead
  finish_move_early,    // replicas go before those that replace them are in sync
  same_leader_epoch,    // another leader reigns in the same epoch
  // broker
  put_aside_needed,  // a damaged log is given up whoever counts on it
  // ledger and group: coordinators
  commit_answered_early,     // a group's offsets are acknowledged when they are written
  commit_of_old_generation,  // whoever commits, it is taken
  serve_before_loaded,       // a coordinator answers before it has read its log
};

#ifdef MILLRACE_PLANTS
/// Of the simulation that this thread runs.
inline thread_local Plant chosen_plant{};  // layers: allow static: the build of the simulation alone
inline bool planted(Plant plant) {
  return chosen_plant == plant;
}
#else
constexpr bool planted(Plant) {
  return false;
}
#endif

}  // namespace millrace
