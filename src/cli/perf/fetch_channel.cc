#include "cli/perf/fetch_channel.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "wire/reader.h"

namespace millrace::cli::perf {
namespace {

constexpr size_t kNowhere = SIZE_MAX;

Error malformed(const std::string& what) {
  return Error(ErrorCode::corrupt, "a Fetch answer: " + what);
}

}  // namespace

FetchChannel::FetchChannel(int socket, Options options, Tally& tally)
    : Channel(socket), options_(std::move(options)), tally_(tally) {
  ASSERT(options_.ends.empty() || options_.ends.size() == options_.positions.size());
  for (size_t i = 0; i < options_.positions.size(); ++i) {
    const FetchPosition& p = options_.positions[i];
    const int64_t end = options_.ends.empty() ? -1 : options_.ends[i];
    positions_.push_back({.partition = p.partition, .offset = p.offset, .end = end, .moved = false});
    const auto number = static_cast<size_t>(p.partition);
    if (place_.size() <= number) place_.resize(number + 1, kNowhere);
    place_[number] = i;
    if (end < 0 || p.offset < end) ++reading_;
  }
  session_epoch_ = options_.session ? 0 : -1;
  buffer_.resize(kBufferBytes);
}

void FetchChannel::ask() {
  ASSERT(!asked_);
  asked_positions_.clear();
  const bool all = session_epoch_ <= 0;
  for (Position& p : positions_) {
    // Nothing is left to read there; a session would have to be told to forget it.
    const bool over = !options_.session && p.end >= 0 && p.offset >= p.end;
    if ((all || p.moved) && !over) asked_positions_.push_back({p.partition, p.offset});
    p.moved = false;
  }
  encode_fetch(request_, ++correlation_id_, options_.topic, options_.limits, options_.read_committed,
               session_id_, session_epoch_, asked_positions_);
  sent_ = 0;
  asked_ = true;
  asked_ns_ = now_ns();
}

Status FetchChannel::flush() {
  if (sent_ < request_.size()) {
    const Result<size_t> n = send_some(ByteView(request_).subspan(sent_));
    if (!n.ok()) return n.error();
    sent_ += *n;
  }
  return {};
}

Status FetchChannel::on_ready(bool readable, bool writable) {
  if (readable) TRY(receive());
  if (writable || wants_write()) return flush();
  return {};
}

void FetchChannel::make_room(size_t wanted) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (buffer_.size() - begin_ >= wanted && end_ < buffer_.size()) return;
  std::memmove(buffer_.data(), buffer_.data() + begin_, kept());
  end_ -= begin_;
  begin_ = 0;
  if (buffer_.size() < wanted) buffer_.resize(wanted);
}

Status FetchChannel::receive() {
  constexpr size_t kReadsPerTurn = 16;
  for (size_t turn = 0; turn < kReadsPerTurn; ++turn) {
    if (state_ == State::skip && kept() == 0 && skip_left_ >= kDiscardMin) {
      if (buffer_.size() < kDiscardBytes) buffer_.resize(kDiscardBytes);
      const size_t most = std::min<uint64_t>(skip_left_, kDiscardBytes);
      const Result<size_t> got = receive_some(MutableByteView(buffer_).first(most), true);
      if (!got.ok()) return got.error();
      if (*got == 0) return {};
      skip_left_ -= *got;
      records_left_ -= *got;
      frame_left_ -= *got;
      if (skip_left_ == 0) state_ = records_left_ > 0 ? State::batch : State::partition_end;
      continue;
    }
    make_room(std::max(kBufferBytes, kept() + kHeadBytesMax));
    // Not far past what is dropped: the kernel drops it cheaper.
    const size_t room = std::min(buffer_.size() - end_, kBufferBytes);
    const Result<size_t> got = receive_some(MutableByteView(buffer_).subspan(end_, room));
    if (!got.ok()) return got.error();
    if (*got == 0) return {};
    end_ += *got;
    for (;;) {
      const Result<bool> more = step();
      if (!more.ok()) return more.error();
      if (!*more) break;
    }
    if (*got < room) return {};
  }
  return {};
}

Result<bool> FetchChannel::step() {
  switch (state_) {
    case State::head:
      return read_head();
    case State::partition:
      return read_partition();
    case State::batch:
      return read_batch();
    case State::skip: {
      const size_t n = std::min<uint64_t>(kept(), skip_left_);
      begin_ += n;
      skip_left_ -= n;
      records_left_ -= n;
      frame_left_ -= n;
      if (skip_left_ > 0) return false;
      state_ = records_left_ > 0 ? State::batch : State::partition_end;
      return true;
    }
    case State::topic:
    case State::partition_end:
    case State::topic_end:
      break;
  }
  // Small parts: tried with what is there, again when more has come.
  wire::Reader r(ByteView(buffer_).subspan(begin_, std::min<uint64_t>(kept(), frame_left_)));
  State next = state_;
  if (state_ == State::topic) {
    const uint32_t name = r.read_uvarint();
    if (name > 1) (void)r.read_view(name - 1);
    const uint32_t partitions = r.read_uvarint();
    partitions_left_ = partitions == 0 ? 0 : partitions - 1;
    next = partitions_left_ > 0 ? State::partition : State::topic_end;
  } else if (state_ == State::partition_end) {
    r.skip_tags();
    next = partitions_left_ > 1 ? State::partition : State::topic_end;
  } else {
    if (topics_left_ > 0) r.skip_tags();   // of the topic
    if (topics_left_ <= 1) r.skip_tags();  // of the answer
    next = topics_left_ > 1 ? State::topic : State::head;
  }
  if (!r.ok()) {
    if (kept() >= std::min<uint64_t>(frame_left_, kHeadBytesMax)) return malformed("what is between records");
    return false;
  }
  begin_ += r.position();
  frame_left_ -= r.position();
  if (state_ == State::partition_end) --partitions_left_;
  if (state_ == State::topic_end && topics_left_ > 0) --topics_left_;
  state_ = next;
  if (next == State::head) {
    TRY(finish());
  }
  return true;
}

Result<bool> FetchChannel::read_head() {
  if (kept() < sizeof(int32_t)) return false;
  wire::Reader r(ByteView(buffer_).subspan(begin_, kept()));
  const int32_t size = r.read_i32();
  const int32_t id = r.read_i32();
  r.skip_tags();
  (void)r.read_i32();  // throttle
  const int16_t code = r.read_i16();
  const int32_t session = r.read_i32();
  const uint32_t topics = r.read_uvarint();
  if (!r.ok()) {
    if (kept() >= kHeadBytesMax) return malformed("its head");
    return false;
  }
  if (!asked_ || id != correlation_id_) return malformed("nobody asked for it");
  if (size <= 0 || r.position() > static_cast<size_t>(size) + sizeof(int32_t)) return malformed("its size");
  begin_ += r.position();
  frame_left_ = static_cast<uint64_t>(size) + sizeof(int32_t) - r.position();
  topics_left_ = topics == 0 ? 0 : topics - 1;
  fruitful_ = false;
  if (code != 0) ++tally_.errors[error_from_wire(code)];
  if (options_.session) {
    session_id_ = code == 0 ? session : 0;
    // No session was granted: everything is asked for every time.
    session_epoch_ = code == 0 && session != 0 ? (session_epoch_ == INT32_MAX ? 1 : session_epoch_ + 1) : 0;
  }
  state_ = topics_left_ > 0 ? State::topic : State::topic_end;
  return true;
}

Result<bool> FetchChannel::read_partition() {
  wire::Reader r(ByteView(buffer_).subspan(begin_, std::min<uint64_t>(kept(), frame_left_)));
  const int32_t number = r.read_i32();
  const int16_t code = r.read_i16();
  (void)r.read_view(3 * sizeof(int64_t));  // high watermark, last stable offset, log start
  const uint32_t aborted = r.read_uvarint();
  for (uint32_t i = 1; i < aborted && r.ok(); ++i) {
    (void)r.read_view(2 * sizeof(int64_t));
    r.skip_tags();
  }
  (void)r.read_i32();  // preferred replica
  const uint32_t size = r.read_uvarint();
  if (!r.ok()) {
    if (kept() >= std::min<uint64_t>(frame_left_, kBufferBytes)) return malformed("a partition's head");
    return false;
  }
  const size_t place = number >= 0 && static_cast<size_t>(number) < place_.size()
                           ? place_[static_cast<size_t>(number)]
                           : kNowhere;
  if (place == kNowhere) return malformed("partition " + std::to_string(number) + " was not asked for");
  begin_ += r.position();
  frame_left_ -= r.position();
  if (code != 0) ++tally_.errors[error_from_wire(code)];
  current_ = &positions_[place];
  records_left_ = size == 0 ? 0 : size - 1;
  if (records_left_ > frame_left_) return malformed("more records than bytes");
  fruitful_ = fruitful_ || records_left_ > 0;
  state_ = records_left_ > 0 ? State::batch : State::partition_end;
  return true;
}

Result<bool> FetchChannel::read_batch() {
  using record::kBatchHeaderSize;
  // The last batch may be cut off: what is less than a header is dropped.
  if (records_left_ < kBatchHeaderSize) {
    skip_left_ = records_left_;
    state_ = State::skip;
    return true;
  }
  if (kept() < kBatchHeaderSize) return false;
  const uint8_t* b = buffer_.data() + begin_;
  const auto base = load_be<int64_t>(b);
  const auto length = load_be<int32_t>(b + 8);
  const auto last_delta = load_be<int32_t>(b + 23);
  const auto count = load_be<int32_t>(b + 57);
  const auto magic = static_cast<int8_t>(b[16]);
  if (magic != record::kMagic || last_delta < 0 || count < 0 || base < 0 ||
      length < static_cast<int32_t>(kBatchHeaderSize - record::kBatchLengthEnd)) {
    return malformed("a batch header");
  }
  const uint64_t whole = record::kBatchLengthEnd + static_cast<uint64_t>(length);
  if (whole > kBatchBytesMax) return malformed("a batch of " + std::to_string(whole) + " bytes");
  if (whole > records_left_) {
    skip_left_ = records_left_;
    state_ = State::skip;
    return true;
  }
  // As much of it as has to be seen.
  const size_t needed = options_.verify    ? static_cast<size_t>(whole)
                        : options_.stamped ? std::min<size_t>(static_cast<size_t>(whole), 256)
                                           : kBatchHeaderSize;
  if (kept() < needed) {
    make_room(needed);
    return false;
  }
  b = buffer_.data() + begin_;
  if (options_.verify) {
    const auto batch = record::BatchView::parse(ByteView(b, needed));
    if (!batch.ok()) return batch.error();
    if (!batch->crc_matches())
      return Error(ErrorCode::corrupt, "the CRC of the batch at " + std::to_string(base));
    // A fetch begins inside a batch at most at its first one, and nothing is compacted here.
    if (base > current_->offset) {
      return Error(ErrorCode::corrupt, "partition " + std::to_string(current_->partition) + ": offset " +
                                           std::to_string(base) + " where " +
                                           std::to_string(current_->offset) + " was expected");
    }
  }
  if (base + last_delta >= current_->offset) {
    const bool was_reading = current_->end < 0 || current_->offset < current_->end;
    current_->offset = base + last_delta + 1;
    current_->moved = true;
    if (was_reading && current_->end >= 0 && current_->offset >= current_->end) --reading_;
    tally_.records += static_cast<uint64_t>(count);
    tally_.bytes += whole;
    if (options_.stamped) {
      // Stamps lie where the producer of the same program puts them: behind a few varints.
      uint8_t magic_bytes[sizeof(kStampMagic)];
      store_be(magic_bytes, kStampMagic);
      const uint8_t* end = b + needed;
      const uint8_t* at =
          std::search(b + kBatchHeaderSize, end, magic_bytes, magic_bytes + sizeof(magic_bytes));
      if (end - at >= static_cast<ptrdiff_t>(kStampBytes)) {
        tally_.end_to_end.record(now_ns() - load_be<int64_t>(at + sizeof(kStampMagic)));
      }
    }
  }
  skip_left_ = whole;
  state_ = State::skip;
  return true;
}

Status FetchChannel::finish() {
  if (frame_left_ != 0) return malformed("bytes behind its end");
  ++tally_.requests;
  if (!fruitful_) ++tally_.empty;
  tally_.latency.record(now_ns() - asked_ns_);
  asked_ = false;
  if (!stopped_ && reading_ > 0) ask();
  return {};
}

}  // namespace millrace::cli::perf
