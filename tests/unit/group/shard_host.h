// A stand-in for the runner: hosts one GroupShard on a log in memory. Appends and applies at once, delivers
// replies at once; reload() throws the machine away and replays the log.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "group/shard.h"
#include "support/catch.h"
#include "wire/records/consumer_protocol.h"
#include "wire/versioned.h"

namespace millrace::group::testing {

inline Uuid test_uuid(uint32_t n) {
  Uuid u;
  for (size_t i = 0; i < 4; ++i) u.bytes[15 - i] = static_cast<uint8_t>(n >> (8 * i));
  return u;
}

inline Bytes subscription_bytes(const std::vector<std::string>& topics) {
  wire::ConsumerProtocolSubscription s;
  s.topics = topics;
  return wire::encode_versioned(s, 1);
}

class ShardHost {
 public:
  explicit ShardHost(GroupLimits limits) : limits_(limits), shard_(std::make_unique<GroupShard>(limits)) {
    shard_->on_loaded(now);
  }

  GroupShard& shard() { return *shard_; }
  const GroupShard& shard() const { return *shard_; }

  template <class Request>
  Token send(const Request& request, ClientContext client) {
    const Token token{++last_token_};
    if (client.fresh_uuid.is_zero()) client.fresh_uuid = test_uuid(++last_uuid_);
    Output out;
    shard_->handle(token, request, client, now, out);
    take(std::move(out));
    return token;
  }

  void tick() {
    Output out;
    shard_->tick(now, out);
    take(std::move(out));
  }

  /// Lets the time pass, ticking at every deadline on the way.
  void advance(int64_t ms) {
    const int64_t target = now.mono_ms + ms;
    int ticks = 0;
    while (shard_->next_deadline_mono_ms() <= target) {
      REQUIRE(++ticks < 10'000);  // every tick gets on
      const int64_t step = std::max<int64_t>(0, shard_->next_deadline_mono_ms() - now.mono_ms);
      pass(step);
      tick();
    }
    pass(target - now.mono_ms);
  }

  /// Takes the replies that came so far.
  std::vector<Reply> take_replies() { return std::exchange(replies_, {}); }
  /// Takes the only reply so far and its type.
  template <class Response>
  Response only_reply() {
    REQUIRE(replies_.size() == 1);
    auto replies = take_replies();
    REQUIRE(std::holds_alternative<Response>(replies[0].response));
    return std::get<Response>(std::move(replies[0].response));
  }

  /// A fresh machine that has read the log; with `compacted` only the newest record of each key.
  std::unique_ptr<GroupShard> replay(bool compacted) const {
    auto fresh = std::make_unique<GroupShard>(limits_);
    std::map<Bytes, size_t> newest;
    for (size_t i = 0; i < log.size(); ++i) newest[log[i].key] = i;
    for (size_t i = 0; i < log.size(); ++i) {
      if (compacted && newest[log[i].key] != i) continue;
      apply(*fresh, log[i]);
    }
    return fresh;
  }

  /// The coordinator moves: outstanding requests are never answered by this machine.
  void reload() {
    shard_ = replay(true);
    shard_->on_loaded(now);
  }

  void check_replay() {
    shard_->check();
    const std::string expected = shard_->replicated_to_string();
    REQUIRE(replay(false)->replicated_to_string() == expected);
    REQUIRE(replay(true)->replicated_to_string() == expected);
  }

  Now now{1'000'000, 1'700'000'000'000};
  std::vector<RecordOut> log;

 private:
  void pass(int64_t ms) {
    now.mono_ms += ms;
    now.wall_ms += ms;
  }
  void apply(GroupShard& shard, const RecordOut& r) const {
    std::optional<ByteView> value;
    if (r.value) value = ByteView(*r.value);
    shard.apply(r.key, value, now);
  }
  void take(Output out) {
    for (RecordOut& r : out.records) {
      apply(*shard_, r);
      log.push_back(std::move(r));
    }
    for (Reply& r : out.replies) replies_.push_back(std::move(r));
    shard_->check();
  }

  GroupLimits limits_;
  std::unique_ptr<GroupShard> shard_;
  std::vector<Reply> replies_;
  uint64_t last_token_ = 0;
  uint32_t last_uuid_ = 1'000'000;
};

}  // namespace millrace::group::testing
