#include "net/send_queue.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "io/posix_file.h"
#include "net/socket.h"

namespace millrace::net {
namespace {

constexpr size_t kPiecesPerSend = 256;
constexpr size_t kBytesPerSend = size_t{1} << 20;
// Fairness: one stream sends at most so much before others have their turn.
constexpr size_t kBytesPerTurn = size_t{2} << 20;
constexpr size_t kScratchBytes = size_t{256} << 10;

const io::FileRegion& as_region(const Payload::Piece& piece) {
  const auto* foreign = std::get_if<std::shared_ptr<const ForeignBytes>>(&piece);
  ASSERT(foreign != nullptr);
  const auto* region = dynamic_cast<const io::FileRegion*>(foreign->get());
  ASSERT(region != nullptr);  // the one kind of foreign bytes
  return *region;
}

Error short_file(const io::FileRegion& region) {
  return Error(ErrorCode::io_error, region.file->path() + ": shorter than what was promised to a reader");
}

}  // namespace

// One sendmsg in the making.
struct SendQueue::Gathered {
  std::array<iovec, kPiecesPerSend> pieces;
  size_t count = 0;
  size_t bytes = 0;
  Buffer scratch;  // what was read of small regions
  size_t scratch_used = 0;
  bool cold = false;

  bool full() const { return count == pieces.size() || bytes >= kBytesPerSend; }
  void add(const uint8_t* data, size_t size) {
    // sendmsg does not write to what it is given.
    pieces[count++] = iovec{const_cast<uint8_t*>(data), size};
    bytes += size;
  }
};

void SendQueue::push(Payload payload) {
  if (payload.empty()) return;
  bytes_ += payload.size();
  payloads_.push_back(std::move(payload));
}

void SendQueue::clear() {
  payloads_.clear();
  piece_ = 0;
  offset_ = 0;
  supplied_ = Slice();
  known_cached_ = false;
  bytes_ = 0;
}

bool SendQueue::at_region() const {
  return supplied_.empty() && !payloads_.front().pieces().empty() &&
         !std::holds_alternative<Slice>(payloads_.front().pieces()[piece_]);
}

const io::FileRegion& SendQueue::region() const {
  return as_region(payloads_.front().pieces()[piece_]);
}

size_t SendQueue::front_left() const {
  const Payload::Piece& piece = payloads_.front().pieces()[piece_];
  const Slice* slice = std::get_if<Slice>(&piece);
  return (slice != nullptr ? slice->size() : as_region(piece).length) - offset_;
}

void SendQueue::consume(size_t n) {
  ASSERT(n <= bytes_);
  bytes_ -= n;
  while (n > 0) {
    const size_t left = front_left();
    const size_t now = std::min(n, left);
    n -= now;
    offset_ += now;
    if (!supplied_.empty()) {
      const size_t from_supplied = std::min(now, supplied_.size());
      supplied_ = supplied_.sub(from_supplied, supplied_.size() - from_supplied);
    }
    if (now < left) return;
    offset_ = 0;
    supplied_ = Slice();
    known_cached_ = false;
    if (++piece_ == payloads_.front().pieces().size()) {
      payloads_.pop_front();
      piece_ = 0;
    }
  }
}

SendQueue::Progress SendQueue::write_to(int socket, BufferPool& buffers, bool sendfile, Status& why) {
  size_t sent_this_turn = 0;
  while (!empty()) {
    if (sent_this_turn >= kBytesPerTurn) return Progress::yielded;

    if (sendfile && at_region() && front_left() >= kSendfileMin) {
      const io::FileRegion& r = region();
      const auto* file = dynamic_cast<const io::PosixFile*>(r.file.get());
      if (file != nullptr) {
        if (!known_cached_ && !file->is_cached(r.position + offset_, front_left())) return Progress::cold;
        known_cached_ = true;
        const io::PinnedDescriptor descriptor = file->pin_if_open();
        if (!descriptor) return Progress::cold;
        auto position = static_cast<off_t>(r.position + offset_);
        const size_t wanted = std::min(front_left(), kBytesPerSend);
        const ssize_t got = ::sendfile(socket, descriptor.get(), &position, wanted);
        if (got < 0) {
          if (errno == EINTR) continue;
          if (errno == EAGAIN) return Progress::blocked;
          why = socket_error(errno, "send");
          return Progress::broken;
        }
        if (got == 0) {
          why = short_file(r);
          return Progress::broken;
        }
        consume(static_cast<size_t>(got));
        sent_this_turn += static_cast<size_t>(got);
        continue;
      }
    }

    // Gather from the front: what was supplied, slices, and small regions by way of the scratch buffer.
    Gathered g;
    size_t at_piece = piece_;
    size_t at_offset = offset_;
    if (!supplied_.empty()) {
      g.add(supplied_.data(), supplied_.size());
      at_offset += supplied_.size();
    }
    for (size_t p = 0; p < payloads_.size() && !g.full() && !g.cold; ++p) {
      const std::vector<Payload::Piece>& pieces = payloads_[p].pieces();
      for (; at_piece < pieces.size() && !g.full(); ++at_piece, at_offset = 0) {
        if (const Slice* slice = std::get_if<Slice>(&pieces[at_piece])) {
          if (slice->size() > at_offset) g.add(slice->data() + at_offset, slice->size() - at_offset);
          continue;
        }
        const io::FileRegion& r = as_region(pieces[at_piece]);
        const size_t left = r.length - at_offset;
        if (left == 0) continue;
        const bool by_sendfile =
            sendfile && left >= kSendfileMin && dynamic_cast<const io::PosixFile*>(r.file.get()) != nullptr;
        if (by_sendfile) break;
        if (g.scratch.empty()) g.scratch = buffers.acquire(kScratchBytes);
        const size_t take = std::min(left, g.scratch.capacity() - g.scratch_used);
        if (take == 0) break;
        const MutableByteView out(g.scratch.data() + g.scratch_used, take);
        const Result<std::optional<size_t>> got = r.file->read_at_cached(r.position + at_offset, out);
        if (!got.ok() || (got.value().has_value() && *got.value() < take)) {
          why = got.ok() ? short_file(r) : got.error();
          buffers.release(std::move(g.scratch));
          return Progress::broken;
        }
        if (!got.value().has_value()) {
          g.cold = true;
          break;
        }
        g.add(out.data(), take);
        g.scratch_used += take;
        if (take < left) break;
      }
      if (at_piece < pieces.size()) break;
      at_piece = 0;
    }
    if (g.count == 0) {
      ASSERT(g.cold);
      buffers.release(std::move(g.scratch));
      return Progress::cold;
    }
    msghdr message{};
    message.msg_iov = g.pieces.data();
    message.msg_iovlen = g.count;
    // More follows at once unless it has to be read first: the segment is filled up then.
    const bool more = g.bytes < bytes_ && !g.cold;
    ssize_t got = 0;
    do {
      got = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT | (more ? MSG_MORE : 0));
    } while (got < 0 && errno == EINTR);
    const int number = errno;
    buffers.release(std::move(g.scratch));
    if (got < 0) {
      if (number == EAGAIN) return Progress::blocked;
      why = socket_error(number, "send");
      return Progress::broken;
    }
    consume(static_cast<size_t>(got));
    sent_this_turn += static_cast<size_t>(got);
    if (static_cast<size_t>(got) < g.bytes) return Progress::blocked;
  }
  return Progress::drained;
}

SendQueue::ColdRead SendQueue::cold_read() const {
  ASSERT(at_region());
  const io::FileRegion& r = region();
  return {.file = r.file, .position = r.position + offset_, .length = std::min(front_left(), kColdReadMax)};
}

void SendQueue::supply(Slice bytes) {
  ASSERT(at_region() && bytes.size() <= front_left());
  supplied_ = std::move(bytes);
}

}  // namespace millrace::net
