// A stream whose other end is the test: it says what arrives and when, how much is taken, and reads what was
// sent. Keeps io::Stream's promises (kept bytes, pausing, closing) and no others.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "io/loop.h"
#include "io/network.h"

namespace millrace::test {

/// What both ends see of one connection.
class ScriptedPeer final : public std::enable_shared_from_this<ScriptedPeer> {
 public:
  explicit ScriptedPeer(io::Loop& loop) : loop_(loop) {}

  /// The program's end.
  std::unique_ptr<io::Stream> stream();

  // --- what the test does; inside a tick of the loop ---
  /// Bytes arrive, in one read.
  void feed(ByteView bytes) {
    if (finished_ || closing_) return;
    kept_.insert(kept_.end(), bytes.begin(), bytes.end());
    offer();
  }
  /// The connection ends from outside.
  void hang_up(const Status& why = {}) { finish(why); }
  /// Sent bytes stay unsent until taken.
  void stall() { stalled_ = true; }
  void take_all() {
    stalled_ = false;
    if (unsent_ == 0) return;
    unsent_ = 0;
    if (closing_) {
      finish({});
    } else if (handler_ != nullptr) {
      handler_->on_drained();
    }
  }

  // --- what the test sees ---
  Bytes sent;
  size_t sends = 0;
  size_t kept() const { return kept_.size(); }
  bool paused() const { return paused_; }
  /// The program closed it, or it ended.
  bool closed() const { return closing_ || finished_; }
  bool gone() const { return handler_ == nullptr; }

 private:
  friend class ScriptedStream;

  void offer() {
    const std::shared_ptr<ScriptedPeer> self = shared_from_this();
    if (handler_ == nullptr || paused_ || closing_ || finished_ || kept_.empty() || offering_) return;
    offering_ = true;
    Bytes offered = kept_;  // a block of its own: what the handler keeps beyond the call is found out
    const size_t used = handler_->on_bytes(offered);
    offering_ = false;
    ASSERT(used <= kept_.size());
    offered.erase(offered.begin(), offered.begin() + static_cast<std::ptrdiff_t>(used));
    kept_ = std::move(offered);
  }
  void finish(const Status& why) {
    if (finished_) return;
    finished_ = true;
    kept_.clear();
    if (handler_ != nullptr) std::exchange(handler_, nullptr)->on_closed(why);
  }
  void send(const Payload& payload) {
    if (closing_ || finished_) return;
    const Bytes bytes = payload.flatten();
    sent.insert(sent.end(), bytes.begin(), bytes.end());
    ++sends;
    if (stalled_) unsent_ += bytes.size();
  }
  void close(bool flush) {
    if (closing_ && flush) return;
    closing_ = true;
    if (flush && unsent_ > 0) return;
    loop_.post([self = shared_from_this()] { self->finish({}); });
  }

  io::Loop& loop_;
  io::StreamHandler* handler_ = nullptr;
  Bytes kept_;
  size_t unsent_ = 0;
  bool stalled_ = false;
  bool paused_ = false;
  bool closing_ = false;
  bool finished_ = false;
  bool offering_ = false;
};

class ScriptedStream final : public io::Stream {
 public:
  explicit ScriptedStream(std::shared_ptr<ScriptedPeer> peer) : peer_(std::move(peer)) {}
  ~ScriptedStream() override {
    peer_->handler_ = nullptr;
    peer_->closing_ = true;
  }

  void send(Payload payload) override { peer_->send(payload); }
  size_t unsent_bytes() const override { return peer_->unsent_; }
  void pause_reading() override { peer_->paused_ = true; }
  void resume_reading() override {
    peer_->paused_ = false;
    peer_->loop_.post([peer = peer_] { peer->offer(); });
  }
  void close(bool flush) override { peer_->close(flush); }
  void set_handler(io::StreamHandler* handler) override { peer_->handler_ = handler; }
  io::Endpoint peer() const override { return {"192.0.2.7", 40000}; }
  io::Endpoint local() const override { return {"192.0.2.1", 9092}; }

 private:
  const std::shared_ptr<ScriptedPeer> peer_;
};

inline std::unique_ptr<io::Stream> ScriptedPeer::stream() {
  return std::make_unique<ScriptedStream>(shared_from_this());
}

}  // namespace millrace::test
