#include "link/client_connection.h"

#include <utility>

#include "base/endian.h"

namespace millrace::link {
namespace {

constexpr size_t kResponseSizePrefix = 4;

}  // namespace

std::shared_ptr<ClientConnection> ClientConnection::create(io::Loop& loop, std::unique_ptr<io::Stream> stream,
                                                           std::string client_id, size_t frame_bytes_max) {
  std::shared_ptr<ClientConnection> c(
      new ClientConnection(loop, std::move(stream), std::move(client_id), frame_bytes_max));
  c->stream_->set_handler(c.get());
  return c;
}

ClientConnection::ClientConnection(io::Loop& loop, std::unique_ptr<io::Stream> stream, std::string client_id,
                                   size_t frame_bytes_max)
    : loop_(loop),
      stream_(std::move(stream)),
      client_id_(std::move(client_id)),
      frame_bytes_max_(frame_bytes_max) {}

ClientConnection::~ClientConnection() {
  stream_->set_handler(nullptr);
  for (const Waiting& w : waiting_) {
    if (w.timer != 0) loop_.cancel(w.timer);
  }
}

wire::RequestHeader ClientConnection::header(wire::ApiKey api, int16_t version) {
  wire::RequestHeader h;
  h.request_api_key = static_cast<int16_t>(api);
  h.request_api_version = version;
  h.correlation_id = next_correlation_id_;
  h.client_id = client_id_;
  next_correlation_id_ = next_correlation_id_ == INT32_MAX ? 1 : next_correlation_id_ + 1;
  return h;
}

void ClientConnection::send_frame(wire::ApiKey api, int16_t version, Payload frame, int64_t timeout_ms,
                                  BodyDone done) {
  if (closed_) {
    done(Error(ErrorCode::closed, "the connection is closed"));
    return;
  }
  Waiting w;
  w.correlation_id = next_correlation_id_ == 1 ? INT32_MAX : next_correlation_id_ - 1;
  w.api = api;
  w.version = version;
  w.done = std::move(done);
  w.timer = loop_.call_after(timeout_ms, [weak = weak_from_this()] {
    if (auto c = weak.lock()) c->fail(Error(ErrorCode::timed_out, "no response in time"));
  });
  waiting_.push_back(std::move(w));
  stream_->send(std::move(frame));
}

void ClientConnection::send_bytes(wire::ApiKey api, int16_t version, ByteView body, int64_t timeout_ms,
                                  std::function<void(Result<MutableByteView>)> done) {
  wire::Writer writer;
  wire::encode_request_header(writer, header(api, version));
  writer.write_raw(body);
  send_frame(api, version, writer.take_framed(), timeout_ms, std::move(done));
}

void ClientConnection::send_bytes_only(wire::ApiKey api, int16_t version, ByteView body) {
  if (closed_) return;
  wire::Writer writer;
  wire::encode_request_header(writer, header(api, version));
  writer.write_raw(body);
  stream_->send(writer.take_framed());
}

size_t ClientConnection::on_bytes(MutableByteView bytes) {
  const std::shared_ptr<ClientConnection> self = shared_from_this();
  size_t used = 0;
  wanted_ = 0;
  while (!closed_ && bytes.size() - used >= kResponseSizePrefix) {
    const MutableByteView rest = bytes.subspan(used);
    const auto size = load_be<int32_t>(rest.data());
    if (size < 4 || static_cast<size_t>(size) > frame_bytes_max_) {
      fail(Error(ErrorCode::corrupt, "a response of " + std::to_string(size) + " bytes"));
      return bytes.size();
    }
    const size_t frame_bytes = kResponseSizePrefix + static_cast<size_t>(size);
    if (rest.size() < frame_bytes) {
      wanted_ = frame_bytes;
      break;
    }
    const MutableByteView content = rest.subspan(kResponseSizePrefix, static_cast<size_t>(size));
    if (waiting_.empty() || load_be<int32_t>(content.data()) != waiting_.front().correlation_id) {
      fail(Error(ErrorCode::corrupt, "a response that nobody asked for"));
      return bytes.size();
    }
    Waiting w = std::move(waiting_.front());
    waiting_.pop_front();
    loop_.cancel(w.timer);
    wire::Reader reader(content);
    const Result<wire::ResponseHeader> parsed = wire::decode_response_header(reader, w.api, w.version);
    if (!parsed.ok()) {
      w.done(parsed.error());
    } else {
      w.done(content.subspan(reader.position()));
    }
    used += frame_bytes;
  }
  return closed_ ? bytes.size() : used;
}

void ClientConnection::on_closed(const Status& why) {
  fail(why.ok() ? Error(ErrorCode::closed, "the broker closed the connection") : why.error());
}

void ClientConnection::close() {
  fail(Error(ErrorCode::closed, "closed by us"));
}

void ClientConnection::fail(const Error& why) {
  if (closed_) return;
  const std::shared_ptr<ClientConnection> self = shared_from_this();
  closed_ = true;
  stream_->set_handler(nullptr);
  stream_->close(false);
  std::deque<Waiting> waiting = std::exchange(waiting_, {});
  for (Waiting& w : waiting) {
    if (w.timer != 0) loop_.cancel(w.timer);
    w.done(Error(why.code, why.message));
  }
  if (lost_) lost_();
}

}  // namespace millrace::link
