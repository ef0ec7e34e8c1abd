// A cluster told step by step: nothing is lost or late unless the test says so, and every write and message
// is a line of text.
#pragma once

#include <fmt/format.h>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "raft/raft.h"
#include "support/catch.h"

namespace millrace::raft {

class Story {
 public:
  explicit Story(int voters, Options options = {}) : options_(options) {
    for (int i = 1; i <= voters; ++i) initial_.voters.emplace_back(i);
    for (int i = 1; i <= voters; ++i) add(i);
  }

  void add(int id) { open(id, {}); }
  /// A node that is not what it was: it knows nothing, and that it has forgotten something.
  void come_back_empty(int id, const Uuid& directory) {
    const Options before = options_;
    options_.may_vote = false;
    options_.directory = directory;
    open(id, {});
    options_ = before;
  }
  /// A node that starts from what a disk holds.
  void open(int id, Restored restored) {
    Options o = options_;
    o.self = NodeId(id);
    o.seed = static_cast<uint64_t>(id);
    restored.initial = initial_;
    auto raft = Raft::open(o, std::move(restored), now());
    REQUIRE(raft.ok());
    nodes_[id] = std::move(raft).value();
  }
  Raft& operator[](int id) { return *nodes_.at(id); }
  Now now() const { return {now_ms_, now_ms_}; }

  /// Links cut: both directions of one node.
  void isolate(int id) { isolated_.insert(id); }
  void rejoin(int id) { isolated_.erase(id); }

  /// The election timer of `id` runs out.
  void time_out(int id) {
    now_ms_ = std::max(now_ms_, nodes_.at(id)->next_deadline_mono_ms());
    say("{} times out", id);
    nodes_.at(id)->tick(now());
  }
  void pass(int64_t ms) { now_ms_ += ms; }
  void tick(int id) { nodes_.at(id)->tick(now()); }
  void propose(int id, const std::string& text) {
    const Slice payload(to_bytes(text));
    REQUIRE(nodes_.at(id)->propose(std::span(&payload, 1), now()).ok());
  }

  /// Writes and messages, until nothing happens any more.
  void settle() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (auto& [id, raft] : nodes_) moved = drain(id) || moved;
      if (queue_.empty()) continue;
      Message m = std::move(queue_.front());
      queue_.pop_front();
      moved = true;
      if (isolated_.contains(m.from.v) || isolated_.contains(m.to.v) || !nodes_.contains(m.to.v)) {
        continue;
      }
      say("{}", text(m));
      nodes_.at(m.to.v)->step(std::move(m), now());
    }
  }
  bool drain(int id) {
    Output out = nodes_.at(id)->take_output();
    bool moved = !out.send.empty() || !out.committed.empty();
    for (Message& m : out.send) queue_.push_back(std::move(m));
    if (out.ticket != 0) {
      std::string line = fmt::format("{} writes", id);
      if (out.hard_state)
        line += fmt::format(" term {} vote {}", out.hard_state->term.v, out.hard_state->vote.v);
      if (out.snapshot) line += fmt::format(" snapshot {}", out.snapshot->meta.index.v);
      if (!out.entries.empty()) line += " " + text(out.entries);
      say("{}", line);
    }
    if (out.snapshot) say("{} restores {}", id, as_text(out.snapshot->data.view()));
    for (const Entry& e : out.committed) {
      if (e.kind == EntryKind::payload) say("{} applies {}", id, as_text(e.payload.view()));
    }
    if (out.leadership)
      say("{} {} in term {}", id, out.leadership->leading ? "leads" : "stops", out.leadership->term.v);
    if (out.ticket != 0) {
      nodes_.at(id)->persisted(out.ticket, now());
      moved = true;
    }
    return moved;
  }

  /// What happened since the last time.
  std::string tell() { return "\n" + std::exchange(told_, ""); }
  void forget() { told_.clear(); }

  static std::string text(const std::vector<Entry>& entries) {
    std::string out = "[";
    for (const Entry& e : entries) {
      if (out.size() > 1) out += ' ';
      out += fmt::format("{}@{}", e.index.v, e.term.v);
      if (e.kind == EntryKind::payload) out += fmt::format("={}", as_text(e.payload.view()));
      if (e.kind == EntryKind::membership) out += "=members";
    }
    return out + "]";
  }
  static std::string text(const Message& m) {
    const std::string head = fmt::format("{}->{} t{} ", m.from.v, m.to.v, m.term.v);
    if (const auto* v = std::get_if<VoteRequest>(&m.body)) {
      return head + fmt::format("{}{}vote? {}@{}", v->transfer ? "transfer-" : "", v->pre ? "pre-" : "",
                                v->last_index.v, v->last_term.v);
    }
    if (const auto* v = std::get_if<VoteReply>(&m.body)) {
      return head + fmt::format("{}vote {}", v->pre ? "pre-" : "", v->granted ? "yes" : "no");
    }
    if (const auto* a = std::get_if<AppendRequest>(&m.body)) {
      return head + fmt::format("append {}@{} {} commit {}", a->prev_index.v, a->prev_term.v,
                                text(a->entries), a->commit.v);
    }
    if (const auto* a = std::get_if<AppendReply>(&m.body)) {
      if (a->success) return head + fmt::format("has {}", a->match.v);
      return head + fmt::format("not {}, try {}@{}", a->prev_index.v, a->hint_index.v, a->hint_term.v);
    }
    if (const auto* s = std::get_if<SnapshotRequest>(&m.body)) {
      return head + fmt::format("snapshot {}@{} bytes {}+{} of {}", s->meta.index.v, s->meta.term.v,
                                s->offset, s->data.size(), s->total);
    }
    if (const auto* s = std::get_if<SnapshotReply>(&m.body)) {
      return head + fmt::format("snapshot {} next {}", s->index.v, s->next_offset);
    }
    return head + "time out now";
  }

 private:
  template <class... A>
  void say(fmt::format_string<A...> f, A&&... a) {
    told_ += fmt::format(f, std::forward<A>(a)...) + "\n";
  }

  Options options_;
  Membership initial_;
  std::map<int, std::unique_ptr<Raft>> nodes_;
  std::deque<Message> queue_;
  std::set<int> isolated_;
  int64_t now_ms_ = 0;
  std::string told_;
};

}  // namespace millrace::raft
