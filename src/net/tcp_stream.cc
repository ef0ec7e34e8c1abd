#include "net/tcp_stream.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace millrace::net {
namespace {

constexpr size_t kReadMin = size_t{64} << 10;
constexpr size_t kReadMax = size_t{256} << 10;
// A frame of this size gets its buffer at once; a larger one only as its bytes arrive, so that a claim alone
// costs nothing.
constexpr size_t kTrustedFrame = size_t{1} << 20;
constexpr size_t kReadsPerEvent = 4;
// After a close with flush: unread input makes the kernel send a reset, which may destroy what we sent last.
constexpr size_t kDiscardMax = size_t{1} << 20;

}  // namespace

TcpConnection::TcpConnection(LoopThread& loop, SocketDescriptor socket, io::Disk* disk, int64_t flush_ms_max)
    : loop_(loop),
      socket_(loop.context()),
      disk_(disk),
      flush_ms_max_(flush_ms_max),
      sendfile_(prefers_sendfile(socket.get())),
      peer_(peer_address(socket.get()).endpoint()),
      local_(local_address(socket.get()).endpoint()),
      read_hint_(kReadMin) {
  asio::error_code failed;
  socket_.assign(socket.get(), failed);
  if (failed) {
    why_ = socket_error(failed.value(), "watch a connection");
    dead_ = true;
    return;
  }
  (void)socket.release();
}

void TcpConnection::set_handler(io::StreamHandler* handler) {
  ASSERT(loop_.may_touch());
  handler_ = handler;
  if (handler_ == nullptr) return;
  if (dead_) {
    loop_.post([self = shared_from_this()] { self->report(); });
  } else if (kept() > 0 || offering_) {
    offer_soon();
  } else {
    arm_read();
  }
}

// Reading.

void TcpConnection::arm_read() {
  if (read_armed_ || offer_posted_ || !can_read()) return;
  read_armed_ = true;
  socket_.async_wait(asio::posix::descriptor_base::wait_read,
                     [self = shared_from_this()](const asio::error_code& failed) {
                       self->read_armed_ = false;
                       if (!failed) self->on_readable();
                     });
}

void TcpConnection::on_readable() {
  for (size_t i = 0; i < kReadsPerEvent && can_read(); ++i) {
    make_room();
    const size_t room = buffer_.capacity() - end_;
    const ssize_t got = ::recv(socket_.native_handle(), buffer_.data() + end_, room, MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      finish(socket_error(errno, "receive"), true);
      return;
    }
    if (got == 0) {
      on_peer_closed();
      return;
    }
    const auto n = static_cast<size_t>(got);
    end_ += n;
    const bool full = n == room;
    if (full) {
      read_hint_ = std::min(read_hint_ * 2, kReadMax);
    } else if (n < read_hint_ / 4) {
      read_hint_ = std::max(read_hint_ / 2, kReadMin);
    }
    offer();
    if (!full) break;
  }
  tidy();
  arm_read();
}

void TcpConnection::make_room() {
  const size_t wanted = handler_->wanted();
  if (kept() == 0) {
    begin_ = end_ = 0;
    if (buffer_.empty())
      buffer_ = loop_.buffers().acquire(std::max(read_hint_, std::min(wanted, kTrustedFrame)));
    return;
  }
  const size_t trusted = std::max(kTrustedFrame, 4 * kept());
  const size_t frame = std::min(wanted, trusted);
  const size_t needed = frame > kept() ? frame : kept() + kReadMin;
  if (begin_ + needed <= buffer_.capacity()) return;
  if (needed <= buffer_.capacity()) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, kept());
  } else {
    Buffer larger = loop_.buffers().acquire(std::max(needed, read_hint_));
    std::memcpy(larger.data(), buffer_.data() + begin_, kept());
    loop_.buffers().release(std::exchange(buffer_, std::move(larger)));
  }
  end_ = kept();
  begin_ = 0;
}

void TcpConnection::offer() {
  ASSERT(handler_ != nullptr && !offering_ && kept() > 0);
  // The handler may close and destroy the stream: the bytes stay until it returns.
  Buffer bytes = std::move(buffer_);
  const size_t begin = std::exchange(begin_, 0);
  const size_t end = std::exchange(end_, 0);
  offering_ = true;
  const size_t used = handler_->on_bytes(MutableByteView(bytes.data() + begin, end - begin));
  offering_ = false;
  ASSERT(used <= end - begin);
  if (dead_ || closing_ || used == end - begin) {
    loop_.buffers().release(std::move(bytes));
    return;
  }
  buffer_ = std::move(bytes);
  begin_ = begin + used;
  end_ = end;
}

void TcpConnection::tidy() {
  if (buffer_.empty()) return;
  if (kept() == 0) {
    drop_kept();
    return;
  }
  const size_t fitting = BufferPool::capacity_for(2 * kept());
  if (fitting > buffer_.capacity() / 4) return;
  Buffer smaller = loop_.buffers().acquire(fitting);
  std::memcpy(smaller.data(), buffer_.data() + begin_, kept());
  loop_.buffers().release(std::exchange(buffer_, std::move(smaller)));
  end_ = kept();
  begin_ = 0;
}

void TcpConnection::drop_kept() {
  loop_.buffers().release(std::move(buffer_));
  begin_ = end_ = 0;
}

void TcpConnection::offer_soon() {
  if (offer_posted_) return;
  offer_posted_ = true;
  loop_.post([self = shared_from_this()] {
    self->offer_posted_ = false;
    if (!self->can_read()) return;
    if (self->kept() > 0) self->offer();
    self->tidy();
    self->arm_read();
  });
}

void TcpConnection::pause_reading() {
  ASSERT(loop_.may_touch());
  // A wait that is armed stays; nothing is read when it ends.
  paused_ = true;
}

void TcpConnection::resume_reading() {
  ASSERT(loop_.may_touch());
  if (!std::exchange(paused_, false)) return;
  if (kept() > 0 || offering_) {
    offer_soon();
  } else {
    arm_read();
  }
}

void TcpConnection::on_peer_closed() {
  peer_closed_ = true;
  drop_kept();
  // Answers to what came just before the end are still gathered in this tick.
  loop_.at_end_of_tick([self = shared_from_this()] {
    if (!self->dead_ && self->queue_.empty()) self->finish({}, true);
  });
}

// Sending.

void TcpConnection::send(Payload payload) {
  ASSERT(loop_.may_touch());
  if (dead_ || closing_ || payload.empty()) return;
  queue_.push(std::move(payload));
  schedule_flush();
}

void TcpConnection::schedule_flush() {
  if (flush_scheduled_ || write_armed_ || reading_cold_) return;
  flush_scheduled_ = true;
  loop_.at_end_of_tick([self = shared_from_this()] {
    self->flush_scheduled_ = false;
    self->flush();
  });
}

void TcpConnection::flush() {
  if (dead_) return;
  Status failed;
  switch (queue_.write_to(socket_.native_handle(), loop_.buffers(), sendfile_, failed)) {
    case SendQueue::Progress::drained:
      if (closing_ || peer_closed_) {
        finish({}, true);
      } else if (handler_ != nullptr) {
        handler_->on_drained();
      }
      break;
    case SendQueue::Progress::blocked:
    case SendQueue::Progress::yielded:
      arm_write();
      break;
    case SendQueue::Progress::cold:
      start_cold_read();
      break;
    case SendQueue::Progress::broken:
      finish(std::move(failed), true);
      break;
  }
}

void TcpConnection::arm_write() {
  write_armed_ = true;
  socket_.async_wait(asio::posix::descriptor_base::wait_write,
                     [self = shared_from_this()](const asio::error_code& failed) {
                       self->write_armed_ = false;
                       if (!failed) self->flush();
                     });
}

void TcpConnection::start_cold_read() {
  struct Read {
    SendQueue::ColdRead what;
    Bytes bytes;
    Status result;
  };
  const auto read = std::make_shared<Read>();
  read->what = queue_.cold_read();
  auto work = [read] {
    read->bytes.resize(read->what.length);
    const Result<size_t> got = read->what.file->read_at(read->what.position, read->bytes);
    if (!got.ok()) {
      read->result = got.error();
    } else if (got.value() < read->what.length) {
      read->result =
          Error(ErrorCode::io_error, read->what.file->path() + ": shorter than what is sent of it");
    }
  };
  auto done = [self = shared_from_this(), read] {
    self->reading_cold_ = false;
    if (self->dead_) return;
    if (!read->result.ok()) {
      self->finish(std::move(read->result), true);
      return;
    }
    self->queue_.supply(Slice(std::move(read->bytes)));
    self->flush();
  };
  reading_cold_ = true;
  if (disk_ != nullptr) {
    disk_->run(loop_, std::move(work), std::move(done));
  } else {
    work();
    loop_.post(std::move(done));
  }
}

// The end.

void TcpConnection::close(bool flush) {
  ASSERT(loop_.may_touch());
  if (dead_) return;
  if (!flush || queue_.empty()) {
    closing_ = closing_ || flush;
    finish({}, false);
    return;
  }
  if (closing_) return;
  closing_ = true;
  if (!offering_) drop_kept();
  // A peer that does not read may not hold us for ever.
  flush_timer_ = loop_.call_after(flush_ms_max_, [self = shared_from_this()] {
    self->flush_timer_ = 0;
    self->finish(Error(ErrorCode::timed_out, "the peer did not take the last bytes"), true);
  });
}

void TcpConnection::abandon() {
  ASSERT(loop_.may_touch());
  handler_ = nullptr;
  if (!closing_) close(false);
}

void TcpConnection::finish(Status why, bool now) {
  if (dead_) return;
  dead_ = true;
  why_ = std::move(why);
  if (flush_timer_ != 0) loop_.cancel(std::exchange(flush_timer_, 0));
  drop_kept();
  queue_.clear();
  if (closing_ && why_.ok()) {
    ::shutdown(socket_.native_handle(), SHUT_WR);
    Buffer scratch = loop_.buffers().acquire(kReadMin);
    for (size_t n = 0; n < kDiscardMax / kReadMin; ++n) {
      if (::recv(socket_.native_handle(), scratch.data(), scratch.capacity(), MSG_DONTWAIT) <= 0) break;
    }
    loop_.buffers().release(std::move(scratch));
  }
  asio::error_code ignored;  // there is nothing left to lose
  socket_.close(ignored);
  if (now) {
    report();
  } else if (handler_ != nullptr) {
    loop_.post([self = shared_from_this()] { self->report(); });
  }
}

void TcpConnection::report() {
  if (reported_ || handler_ == nullptr) return;
  reported_ = true;
  std::exchange(handler_, nullptr)->on_closed(why_);
}

}  // namespace millrace::net
