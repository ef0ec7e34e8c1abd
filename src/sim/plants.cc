#include "sim/plants.h"

#include <algorithm>
#include <array>

namespace millrace::sim {

namespace {

constexpr std::array kPlants{
    PlantName{Plant::vote_twice, "vote-twice", "raft"},
    PlantName{Plant::vote_before_sync, "vote-before-sync", "raft"},
    PlantName{Plant::vote_without_sync, "vote-without-sync", "ledger"},
    PlantName{Plant::vote_for_stale_log, "vote-for-stale-log", "raft"},
    PlantName{Plant::commit_old_term, "commit-old-term", "raft"},
    PlantName{Plant::commit_without_majority, "commit-without-majority", "raft"},
    PlantName{Plant::count_observers, "count-observers", "raft"},
    PlantName{Plant::append_acknowledged_early, "append-acknowledged-early", "raft"},
    PlantName{Plant::keep_conflicting_entries, "keep-conflicting-entries", "raft"},
    PlantName{Plant::serve_before_epoch_start, "serve-before-epoch-start", "raft"},
    PlantName{Plant::metadata_reply_early, "metadata-reply-early", "broker"},
    PlantName{Plant::ack_before_isr, "ack-before-isr", "replica"},
    PlantName{Plant::ack_before_sync, "ack-before-sync", "replica"},
    PlantName{Plant::follower_ack_before_sync, "follower-ack-before-sync", "replica"},
    PlantName{Plant::shrink_unconfirmed, "shrink-unconfirmed", "replica"},
    PlantName{Plant::join_isr_behind, "join-isr-behind", "replica"},
    PlantName{Plant::trust_old_incarnation, "trust-old-incarnation", "replica"},
    PlantName{Plant::no_divergence_check, "no-divergence-check", "replica"},
    PlantName{Plant::truncate_to_high_watermark, "truncate-to-high-watermark", "replica"},
    PlantName{Plant::no_fence_by_epoch, "no-fence-by-epoch", "replica"},
    PlantName{Plant::read_uncommitted_end, "read-uncommitted-end", "partition"},
    PlantName{Plant::duplicate_acknowledged_early, "duplicate-acknowledged-early", "broker"},
    PlantName{Plant::lead_without_sync, "lead-without-sync", "partition"},
    PlantName{Plant::wrong_code_after_append, "wrong-code-after-append", "partition"},
    PlantName{Plant::ignore_failed_sync, "ignore-failed-sync", "partition"},
    PlantName{Plant::retry_failed_sync, "retry-failed-sync", "partition"},
    PlantName{Plant::keep_deleted_durable_end, "keep-deleted-durable-end", "partition"},
    PlantName{Plant::serve_damaged, "serve-damaged", "partition"},
    PlantName{Plant::ignore_producer_epoch, "ignore-producer-epoch", "log"},
    PlantName{Plant::ignore_sequence, "ignore-sequence", "log"},
    PlantName{Plant::drop_directory_sync, "drop-directory-sync", "log"},
    PlantName{Plant::trust_index_after_crash, "trust-index-after-crash", "log"},
    PlantName{Plant::recover_without_checksums, "recover-without-checksums", "log"},
    PlantName{Plant::forget_recent_producers, "forget-recent-producers", "log"},
    PlantName{Plant::keep_epochs_on_truncate, "keep-epochs-on-truncate", "log"},
    PlantName{Plant::keep_producers_on_truncate, "keep-producers-on-truncate", "log"},
    PlantName{Plant::recovery_point_ahead, "recovery-point-ahead", "log"},
    PlantName{Plant::trust_page_cache_after_fail, "trust-page-cache-after-fail", "log"},
    PlantName{Plant::elect_out_of_sync, "elect-out-of-sync", "control"},
    PlantName{Plant::fence_keeps_isr, "fence-keeps-isr", "control"},
    PlantName{Plant::accept_stale_isr, "accept-stale-isr", "control"},
    PlantName{Plant::accept_old_member, "accept-old-member", "control"},
    PlantName{Plant::trust_lossy_restart, "trust-lossy-restart", "control"},
    PlantName{Plant::finish_move_early, "finish-move-early", "control"},
    PlantName{Plant::same_leader_epoch, "same-leader-epoch", "meta"},
    PlantName{Plant::put_aside_needed, "put-aside-needed", "broker"},
    PlantName{Plant::commit_answered_early, "commit-answered-early", "ledger"},
    PlantName{Plant::commit_of_old_generation, "commit-of-old-generation", "group"},
    PlantName{Plant::serve_before_loaded, "serve-before-loaded", "ledger"},
};

}  // namespace

std::span<const PlantName> plant_names() {
  return kPlants;
}

const PlantName* find_plant(std::string_view name) {
  const auto at =
      std::find_if(kPlants.begin(), kPlants.end(), [&](const PlantName& p) { return p.name == name; });
  return at == kPlants.end() ? nullptr : &*at;
}

#ifdef MILLRACE_PLANTS
Planting::Planting(Plant plant) {
  chosen_plant = plant;
}
Planting::~Planting() {
  chosen_plant = Plant::none;
}
bool Planting::possible() {
  return true;
}
#else
Planting::Planting(Plant) {}
Planting::~Planting() = default;
bool Planting::possible() {
  return false;
}
#endif

}  // namespace millrace::sim
