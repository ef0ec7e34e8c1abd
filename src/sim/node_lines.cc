#include "sim/node_lines.h"

#include <fmt/format.h>

#include <charconv>

namespace millrace::sim {

namespace {

struct Mark {
  std::string_view part;
  size_t state;
};

constexpr Mark kMarks[] = {
    {"has not been heard of: it is fenced", rare("fenced-for-silence")},
    {"refuses connections: it is fenced", rare("fenced-as-refusing")},
    {"the controller has not answered for the time of a session", rare("session-over")},
    {"leaving the cluster without the controller's word", rare("left-unheard")},
    {"bytes of an unfinished entry cut", rare("quorum-torn-entry")},
    {", as the leader of epoch ", rare("follower-cut")},
    {": FENCED_LEADER_EPOCH", rare("fetch-fenced-epoch")},
    {": UNKNOWN_LEADER_EPOCH", rare("fetch-unknown-epoch")},
    {": NOT_LEADER_OR_FOLLOWER", rare("fetch-other-leader")},
    {" bytes cut at offset ", rare("torn-tail-cut")},
    {"sync failed, nothing more is written", rare("sync-failed")},
    {"is damaged here, where it was followed", rare("damaged-follower")},
    {"is damaged here, where it was led", rare("damaged-leader")},
    {"the metadata log is missing; it is fetched anew", rare("empty-disk")},
    {"the quorum knows node", rare("empty-disk")},
    {" is silent and out", rare("member-silent")},
    {" did not rejoin in time and is out", rare("member-not-rejoined")},
    {"; the coordinator is loaded again", rare("coordinator-reloaded")},
};

/// The number after `word`; -1: there is none.
int64_t number_after(std::string_view message, std::string_view word) {
  const size_t at = message.find(word);
  int64_t number = -1;
  if (at != std::string_view::npos)
    std::from_chars(message.data() + at + word.size(), message.data() + message.size(), number);
  return number;
}

/// How many epochs lie between the end of a follower's log and its leader, as it was cut.
int64_t epochs_behind(std::string_view message) {
  return number_after(message, ", as the leader of epoch ") - number_after(message, ", in epoch ");
}

}  // namespace

void NodeLines::write(TraceLevel, std::string_view component, std::string_view message) {
  if (told_) world_.say(fmt::format("  {} {}: {}", node_, component, message));
  for (const Mark& mark : kMarks) {
    if (message.find(mark.part) == std::string_view::npos) continue;
    world_.meet(mark.state);
    if (mark.state == rare("follower-cut") && epochs_behind(message) > 1)
      world_.meet(rare("follower-cut-epochs"));
  }
}

}  // namespace millrace::sim
