#include "link/server_connection.h"

#include <string>

#include "base/endian.h"
#include "link/connection_set.h"
#include "wire/reader.h"

namespace millrace::link {
namespace {

constexpr size_t kSizePrefix = 4;
constexpr size_t kSmallestHeader = 8;  // key, version, correlation id

// What a client that speaks another protocol sends first, to make the log line useful (KIP-498 has the
// story).
std::string_view guess_protocol(ByteView first) {
  if (first.size() >= 3 && first[0] == 0x16 && first[1] == 0x03)
    return "a TLS handshake on a plaintext listener";
  if (first.size() >= 3 && first[0] == 0x15 && first[1] == 0x03) return "a TLS alert on a plaintext listener";
  const std::string_view text = as_text(first.first(std::min<size_t>(first.size(), 4)));
  if (text == "GET " || text == "POST" || text == "HEAD" || text == "PUT ") return "an HTTP request";
  if (text == "SSH-") return "an SSH banner";
  return {};
}

}  // namespace

void Responder::reply(Payload framed, int64_t mute_ms) {
  ASSERT(armed_);
  armed_ = false;
  if (auto c = connection_.lock())
    c->fill(slot_, {.ready = true, .mute_ms = mute_ms, .response = std::move(framed)});
}

void Responder::no_reply() {
  ASSERT(armed_);
  armed_ = false;
  if (auto c = connection_.lock()) c->fill(slot_, {.ready = true, .silent = true, .response = {}});
}

void Responder::close_connection() {
  ASSERT(armed_);
  armed_ = false;
  if (auto c = connection_.lock())
    c->fill(slot_, {.ready = true, .silent = true, .last = true, .response = {}});
}

void Responder::release() {
  if (armed_) close_connection();
}

ServerConnection::ServerConnection(ConnectionSet& set, std::shared_ptr<ConnectionContext> context,
                                   std::unique_ptr<io::Stream> stream)
    : set_(set), context_(std::move(context)), stream_(std::move(stream)) {
  context_->peer = stream_->peer();
  context_->local = stream_->local();
  last_active_ms_ = set_.now_ms();
}

ServerConnection::~ServerConnection() {
  stream_->set_handler(nullptr);
}

void ServerConnection::start() {
  stream_->set_handler(this);
}

size_t ServerConnection::on_bytes(MutableByteView bytes) {
  // The set may let go of the connection from inside a request.
  const std::shared_ptr<ServerConnection> self = shared_from_this();
  last_active_ms_ = set_.now_ms();
  size_t used = 0;
  wanted_ = 0;
  while (!closing_ && reading_ && bytes.size() - used >= kSizePrefix) {
    const MutableByteView rest = bytes.subspan(used);
    const auto size = load_be<int32_t>(rest.data());
    if (size < static_cast<int32_t>(kSmallestHeader) ||
        static_cast<size_t>(size) > set_.limits().frame_bytes_max) {
      refuse("a frame of " + std::to_string(size) + " bytes", rest);
      return bytes.size();
    }
    const size_t frame_bytes = kSizePrefix + static_cast<size_t>(size);
    if (rest.size() < frame_bytes) {
      wanted_ = frame_bytes;
      break;
    }
    if (!accept_frame(rest.first(frame_bytes))) return bytes.size();
    used += frame_bytes;
    update_reading();
  }
  return closing_ ? bytes.size() : used;
}

bool ServerConnection::accept_frame(MutableByteView frame) {
  const MutableByteView content = frame.subspan(kSizePrefix);
  wire::Reader reader(content);
  Result<wire::RequestHeader> header = wire::decode_request_header(reader);
  if (!header.ok()) {
    refuse("a request of api key " + std::to_string(load_be<int16_t>(content.data())) + ": " +
               header.error().message,
           frame);
    return false;
  }
  Request request;
  request.frame_bytes = frame.size();
  request.header = std::move(*header);
  request.body = content.subspan(reader.position());
  slots_.emplace_back();
  request.responder = Responder(weak_from_this(), first_slot_ + slots_.size() - 1);
  set_.service().on_request(context_, std::move(request));
  return !closing_;
}

void ServerConnection::refuse(std::string_view why, ByteView evidence) {
  const std::string_view guess = guess_protocol(evidence);
  set_.complain(*context_, guess.empty() ? std::string(why) : std::string(guess));
  close(true);
}

void ServerConnection::fill(uint64_t slot, Slot answer) {
  if (closed_) return;
  ASSERT(slot >= first_slot_ && slot - first_slot_ < slots_.size());
  Slot& s = slots_[static_cast<size_t>(slot - first_slot_)];
  ASSERT(!s.ready);
  s = std::move(answer);
  if (slot == first_slot_) schedule_flush();
}

// Replies of one tick leave in one send.
void ServerConnection::schedule_flush() {
  if (flush_scheduled_) return;
  flush_scheduled_ = true;
  context_->loop->at_end_of_tick([weak = weak_from_this()] {
    if (auto c = weak.lock()) c->flush();
  });
}

void ServerConnection::flush() {
  flush_scheduled_ = false;
  if (closing_) return;
  int64_t mute_ms = 0;
  if (send_ready(mute_ms)) {
    closing_ = true;
    stream_->close(true);
    return;
  }
  if (mute_ms > 0 && !muted_) {
    muted_ = true;
    context_->loop->call_after(mute_ms, [weak = weak_from_this()] {
      if (auto c = weak.lock()) {
        c->muted_ = false;
        c->update_reading();
      }
    });
  }
  update_reading();
}

bool ServerConnection::send_ready(int64_t& mute_ms) {
  Payload out;
  bool last = false;
  while (!slots_.empty() && slots_.front().ready && !last) {
    Slot s = std::move(slots_.front());
    slots_.pop_front();
    ++first_slot_;
    if (!s.silent && out.empty()) {
      out = std::move(s.response);  // with its memory
    } else if (!s.silent) {
      out.append(std::move(s.response));
    }
    mute_ms = std::max(mute_ms, s.mute_ms);
    last = s.last;
  }
  last_active_ms_ = set_.now_ms();
  if (!out.empty()) stream_->send(std::move(out));
  return last;
}

void ServerConnection::on_drained() {
  update_reading();
}

void ServerConnection::update_reading() {
  if (closing_ || closed_) return;
  const ConnectionLimits& limits = set_.limits();
  const bool want =
      !muted_ && slots_.size() < limits.in_flight_max && stream_->unsent_bytes() < limits.unsent_bytes_max;
  if (want == reading_) return;
  reading_ = want;
  if (want) {
    stream_->resume_reading();
  } else {
    stream_->pause_reading();
  }
}

void ServerConnection::close(bool flush_first) {
  if (closing_ || closed_) return;
  closing_ = true;
  // Answers of this tick are owed too: a closed stream takes no more.
  int64_t unused_mute_ms = 0;
  if (flush_first) (void)send_ready(unused_mute_ms);
  stream_->close(flush_first);
}

void ServerConnection::on_closed(const Status&) {
  if (closed_) return;
  const std::shared_ptr<ServerConnection> self = shared_from_this();
  closed_ = true;
  closing_ = true;
  set_.forget(*this);
}

}  // namespace millrace::link
