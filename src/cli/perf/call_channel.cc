#include "cli/perf/call_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/endian.h"

namespace millrace::cli::perf {

CallChannel::CallChannel(int socket, std::unique_ptr<Calls> calls, size_t in_flight, bool closed_loop,
                         Tally& tally)
    : Channel(socket), calls_(std::move(calls)), closed_loop_(closed_loop), tally_(tally), slots_(in_flight) {
  ASSERT(in_flight > 0);
  for (Slot& s : slots_) s.frame = calls_->make_frame();
  buffer_.resize(size_t{64} << 10);
}

void CallChannel::begin() {
  const int64_t now = now_ns();
  while (closed_loop_ && under_way_ < slots_.size()) start(now);
}

void CallChannel::offer(int64_t due_ns) {
  if (stopped_) return;
  if (under_way_ < slots_.size()) {
    start(due_ns);
  } else {
    due_.push_back(due_ns);
  }
}

void CallChannel::start(int64_t due_ns) {
  Slot& s = slots_[(first_ + under_way_) % slots_.size()];
  s.due_ns = due_ns;
  store_be(s.frame.data() + kCorrelationAt, next_id_);
  next_id_ = next_id_ == INT32_MAX ? 0 : next_id_ + 1;
  calls_->prepare(s.frame, due_ns);
  ++under_way_;
  ++unsent_;
}

Status CallChannel::on_ready(bool readable, bool writable) {
  if (readable) TRY(receive());
  if (writable || unsent_ > 0) return flush();
  return {};
}

Status CallChannel::flush() {
  constexpr size_t kPieces = 16;
  for (size_t turn = 0; unsent_ > 0 && turn < kSendsPerTurn; ++turn) {
    std::array<iovec, kPieces> pieces;
    size_t count = 0;
    size_t wanted = 0;
    for (size_t i = 0; i < unsent_ && count < kPieces; ++i) {
      Bytes& frame = slots_[(first_ + under_way_ - unsent_ + i) % slots_.size()].frame;
      const size_t skip = i == 0 ? sent_of_front_ : 0;
      pieces[count++] = {.iov_base = frame.data() + skip, .iov_len = frame.size() - skip};
      wanted += frame.size() - skip;
    }
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = count;
    const ssize_t n = ::sendmsg(this->socket(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) {
      return Error(ErrorCode::closed, std::string("send: ") + std::strerror(errno));
    }
    auto left = n < 0 ? size_t{0} : static_cast<size_t>(n);
    const bool full = left < wanted;
    while (left > 0) {
      const size_t rest =
          slots_[(first_ + under_way_ - unsent_) % slots_.size()].frame.size() - sent_of_front_;
      if (left < rest) {
        sent_of_front_ += left;
        break;
      }
      left -= rest;
      sent_of_front_ = 0;
      --unsent_;
      if (!calls_->answered()) finished(now_ns());
    }
    if (full) break;
  }
  return {};
}

Status CallChannel::receive() {
  for (;;) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (end_ == buffer_.size()) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
      if (end_ == buffer_.size()) buffer_.resize(2 * buffer_.size());
    }
    const size_t room = buffer_.size() - end_;
    const Result<size_t> got = receive_some(MutableByteView(buffer_).subspan(end_));
    if (!got.ok()) return got.error();
    if (*got == 0) return {};
    end_ += *got;
    const int64_t now = now_ns();
    while (end_ - begin_ >= sizeof(int32_t)) {
      const auto size = load_be<int32_t>(buffer_.data() + begin_);
      if (size < 4 || static_cast<size_t>(size) > kAnswerBytesMax) {
        return Error(ErrorCode::corrupt, "an answer of " + std::to_string(size) + " bytes");
      }
      const size_t whole = sizeof(int32_t) + static_cast<size_t>(size);
      if (end_ - begin_ < whole) break;
      TRY(answer(ByteView(buffer_).subspan(begin_ + sizeof(int32_t), static_cast<size_t>(size)), now));
      begin_ += whole;
    }
    if (*got < room) return {};
  }
}

Status CallChannel::answer(ByteView frame, int64_t now) {
  if (under_way_ == unsent_) return Error(ErrorCode::corrupt, "an answer that nobody asked for");
  const auto expected = load_be<int32_t>(slots_[first_].frame.data() + kCorrelationAt);
  if (load_be<int32_t>(frame.data()) != expected) return Error(ErrorCode::corrupt, "answers out of order");
  TRY_ASSIGN(const Verdict verdict, calls_->judge(frame));
  if (verdict.code != ErrorCode::none) ++tally_.errors[verdict.code];
  finished(now);
  return {};
}

void CallChannel::finished(int64_t now) {
  tally_.latency.record(now - slots_[first_].due_ns);
  ++tally_.requests;
  tally_.records += calls_->records();
  tally_.bytes += calls_->bytes();
  first_ = (first_ + 1) % slots_.size();
  --under_way_;
  if (stopped_) return;
  if (closed_loop_) {
    start(now);
  } else if (!due_.empty()) {
    const int64_t due = due_.front();
    due_.pop_front();
    start(due);
  }
}

}  // namespace millrace::cli::perf
