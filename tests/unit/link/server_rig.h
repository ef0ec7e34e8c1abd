// A connection set over scripted streams, a service that keeps what it is asked, and frames.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/endian.h"
#include "link/connection_set.h"
#include "support/catch.h"
#include "support/manual_loop.h"
#include "support/scripted_stream.h"

namespace millrace::link::rig {

inline void put_i16(Bytes& out, int16_t v) {
  out.push_back(static_cast<uint8_t>(static_cast<uint16_t>(v) >> 8));
  out.push_back(static_cast<uint8_t>(v));
}
inline void put_i32(Bytes& out, int32_t v) {
  put_i16(out, static_cast<int16_t>(static_cast<uint32_t>(v) >> 16));
  put_i16(out, static_cast<int16_t>(v));
}
inline Bytes framed(const Bytes& content) {
  Bytes out;
  put_i32(out, static_cast<int32_t>(content.size()));
  out.insert(out.end(), content.begin(), content.end());
  return out;
}
/// A request as it is on the wire: Heartbeat v1 (header 1), any body.
inline Bytes request(int32_t correlation_id, std::string_view body, int16_t key = 12, int16_t version = 1) {
  Bytes content;
  put_i16(content, key);
  put_i16(content, version);
  put_i32(content, correlation_id);
  put_i16(content, 2);  // client id
  content.push_back('m');
  content.push_back('e');
  content.insert(content.end(), body.begin(), body.end());
  return framed(content);
}
/// A response of header 0.
inline Bytes response(int32_t correlation_id, std::string_view body) {
  Bytes content;
  put_i32(content, correlation_id);
  content.insert(content.end(), body.begin(), body.end());
  return framed(content);
}
inline Bytes joined(const std::vector<Bytes>& parts) {
  Bytes out;
  for (const Bytes& p : parts) out.insert(out.end(), p.begin(), p.end());
  return out;
}

class KeepingService final : public Service {
 public:
  struct Asked {
    int32_t correlation_id = 0;
    std::string client_id;
    std::string body;
    size_t frame_bytes = 0;
    Responder responder;
  };
  std::deque<Asked> asked;
  std::vector<uint64_t> closed;  // connection ids
  bool echo = false;             // answer at once with the request's own body
  std::function<void(Asked&)> on_asked;

  void on_request(const std::shared_ptr<ConnectionContext>&, Request r) override {
    Asked a;
    a.correlation_id = r.header.correlation_id;
    a.client_id = r.header.client_id.value_or("");
    a.body = std::string(as_text(r.body));
    a.frame_bytes = r.frame_bytes;
    a.responder = std::move(r.responder);
    if (echo) a.responder.reply(Payload(response(a.correlation_id, a.body)));
    asked.push_back(std::move(a));
    if (on_asked) on_asked(asked.back());
  }
  void on_connection_closed(const ConnectionContext& context) override { closed.push_back(context.id); }

  void answer(size_t index, int64_t mute_ms = 0) {
    Asked& a = asked.at(index);
    a.responder.reply(Payload(response(a.correlation_id, a.body)), mute_ms);
  }
};

class KeptLines final : public TraceSink {
 public:
  std::vector<std::string> lines;
  void write(TraceLevel, std::string_view, std::string_view message) override { lines.emplace_back(message); }
};

struct Rig {
  test::ManualClock clock;
  test::ManualLoop loop{clock};
  KeepingService service;
  KeptLines trace;
  ConnectionLimits limits;
  size_t connections_max = 10;
  std::unique_ptr<ConnectionSet> made;

  ConnectionSet& set() {
    if (!made) {
      made = std::make_unique<ConnectionSet>(loop, 0, clock, service, limits, connections_max,
                                             Trace(&trace, "link"));
    }
    return *made;
  }
  std::shared_ptr<test::ScriptedPeer> connect() {
    auto peer = std::make_shared<test::ScriptedPeer>(loop);
    loop.in_tick([&] { set().add("plain", peer->stream()); });
    return peer;
  }
  void feed(const std::shared_ptr<test::ScriptedPeer>& peer, const Bytes& bytes) {
    loop.in_tick([&] { peer->feed(bytes); });
    loop.settle();
  }
  template <class F>
  void on_loop(F&& f) {
    loop.in_tick(std::forward<F>(f));
    loop.settle();
  }
};

}  // namespace millrace::link::rig
