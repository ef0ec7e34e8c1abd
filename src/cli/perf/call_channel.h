// A connection with a number of requests under way, each prepared from a frame of its own, answered in order.
//
// Closed loop: an answer begins the next request. Open loop: offer() says when a request was due; it waits
// here while all slots are taken, and its latency counts from then.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "cli/perf/channel.h"
#include "cli/perf/frames.h"

namespace millrace::cli::perf {

/// What is asked, and what the answers mean. One per connection.
class Calls {
 public:
  virtual ~Calls() = default;
  /// A frame for one slot, whole.
  virtual Bytes make_frame() = 0;
  /// Before each sending: writes what changes. `due_ns` is when the request should have been sent.
  virtual void prepare(Bytes& frame, int64_t due_ns) = 0;
  /// False: there are no answers (acks=0).
  virtual bool answered() const { return true; }
  /// The frame of an answer behind its size. Errors: corrupt.
  virtual Result<Verdict> judge(ByteView answer) = 0;
  /// Of one request.
  virtual uint64_t records() const = 0;
  virtual uint64_t bytes() const = 0;
};

class CallChannel final : public Channel {
 public:
  CallChannel(int socket, std::unique_ptr<Calls> calls, size_t in_flight, bool closed_loop, Tally& tally);

  /// Closed loop: fills the slots for the first time.
  void begin();
  /// Open loop: a request is due.
  void offer(int64_t due_ns);

  Status on_ready(bool readable, bool writable) override;
  Status flush() override;
  bool wants_write() const override { return unsent_ > 0; }
  void stop() override { stopped_ = true; }
  bool quiet() const override { return under_way_ == 0; }

 private:
  struct Slot {
    Bytes frame;
    int64_t due_ns = 0;
  };
  static constexpr size_t kAnswerBytesMax = size_t{1} << 20;
  static constexpr size_t kSendsPerTurn = 64;

  void start(int64_t due_ns);
  Status receive();
  Status answer(ByteView frame, int64_t now);
  void finished(int64_t now);

  std::unique_ptr<Calls> calls_;
  const bool closed_loop_;
  Tally& tally_;
  std::vector<Slot> slots_;  // a ring: [first_, first_ + under_way_) wait for answers
  size_t first_ = 0;
  size_t under_way_ = 0;
  size_t unsent_ = 0;         // of those, the last so many are not sent, or not whole
  size_t sent_of_front_ = 0;  // bytes of the first unsent one
  std::deque<int64_t> due_;
  Bytes buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  int32_t next_id_ = 0;
  bool stopped_ = false;
};

}  // namespace millrace::cli::perf
