// A broker made of functions, on a loop with virtual time: what the client does is seen request by request.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "io/clock.h"
#include "io/loop.h"
#include "io/network.h"
#include "wire/headers.h"
#include "wire/messages/api_versions.h"
#include "wire/messages/metadata.h"
#include "wire/reader.h"
#include "wire/writer.h"

namespace millrace::client::testing {

class VirtualLoop final : public io::Loop, public io::Clock {
 public:
  void post(std::function<void()> f) override {
    events_.emplace(std::pair(now_ms_, ++sequence_), std::move(f));
  }
  io::TimerId call_after(int64_t delay_ms, std::function<void()> f) override {
    events_.emplace(std::pair(now_ms_ + delay_ms, ++sequence_), std::move(f));
    return sequence_;
  }
  void cancel(io::TimerId timer) override {
    std::erase_if(events_, [&](const auto& e) { return e.first.second == timer; });
  }
  bool is_here() const override { return true; }
  void at_end_of_tick(std::function<void()> f) override { post(std::move(f)); }

  Now now() const override { return {now_ms_, 1'700'000'000'000 + now_ms_}; }
  int64_t mono_ns() const override { return now_ms_ * 1'000'000; }

  /// Runs what is due within `ms`.
  void run(int64_t ms) {
    const int64_t end = now_ms_ + ms;
    while (!events_.empty() && events_.begin()->first.first <= end) {
      auto event = events_.extract(events_.begin());
      now_ms_ = std::max(now_ms_, event.key().first);
      event.mapped()();
    }
    now_ms_ = end;
  }

 private:
  std::map<std::pair<int64_t, uint64_t>, std::function<void()>> events_;
  int64_t now_ms_ = 1'000;
  uint64_t sequence_ = 0;
};

/// Brokers 1 to N at "broker-<id>:9092". Every one serves the same handlers.
class FakeCluster final : public io::Network {
 public:
  struct Seen {
    int broker = 0;
    wire::ApiKey api{};
    int16_t version = 0;
  };
  /// Body of the request in, body of the response out; nothing: no answer, ever.
  using Handler = std::function<std::optional<Bytes>(int broker, int16_t version, wire::Reader&)>;

  explicit FakeCluster(VirtualLoop& loop, int brokers = 1) : loop_(loop), brokers_(brokers) {
    on<wire::ApiVersionsRequest>([this](int, const wire::ApiVersionsRequest&) {
      wire::ApiVersionsResponse r;
      for (const auto& [key, handler] : handlers_) {
        const wire::ApiInfo* info = wire::find_api(key);
        const auto range = ranges_.find(key);
        const auto [min, max] = range != ranges_.end() ? range->second : std::pair(info->min, info->max);
        r.api_keys.push_back({static_cast<int16_t>(key), min, max});
      }
      return r;
    });
    on<wire::MetadataRequest>([this](int, const wire::MetadataRequest& q) { return metadata(q); });
  }

  template <class Request>
  void on(std::function<typename Request::Response(int, const Request&)> f) {
    handlers_[Request::kApiKey] = [f](int broker, int16_t version,
                                      wire::Reader& reader) -> std::optional<Bytes> {
      Request request;
      if (!decode(reader, version, request).ok()) return std::nullopt;
      wire::Writer writer;
      encode(writer, version, f(broker, request));
      return writer.take_bytes();
    };
  }
  template <class Request>
  void no_answer() {
    handlers_[Request::kApiKey] = [](int, int16_t, wire::Reader&) { return std::nullopt; };
  }
  void set_range(wire::ApiKey key, int16_t min, int16_t max) { ranges_[key] = {min, max}; }
  void add_topic(const std::string& name, std::vector<int> leaders) { topics_[name] = std::move(leaders); }
  void refuse_connections(bool refuse) { refusing_ = refuse; }
  void drop_connections();
  const std::vector<Seen>& seen() const { return seen_; }
  size_t count(wire::ApiKey api) const {
    return static_cast<size_t>(
        std::count_if(seen_.begin(), seen_.end(), [&](const Seen& s) { return s.api == api; }));
  }

  Result<std::unique_ptr<io::Listener>> listen(
      const io::Endpoint&, std::function<io::Loop&()>,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)>) override {
    return Error(ErrorCode::internal);
  }
  Result<std::unique_ptr<io::Listener>> listen_by_first_bytes(
      const io::Endpoint&, size_t, int64_t, std::function<io::Loop&(ByteView)>,
      std::function<void(io::Loop&, std::unique_ptr<io::Stream>)>) override {
    return Error(ErrorCode::internal);
  }
  void connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t,
               std::function<void(Result<std::unique_ptr<io::Stream>>)> done) override;

 private:
  friend class FakeStream;

  wire::MetadataResponse metadata(const wire::MetadataRequest& q) const {
    wire::MetadataResponse r;
    r.controller_id = 1;
    r.cluster_id = "fake";
    for (int b = 1; b <= brokers_; ++b)
      r.brokers.push_back({b, "broker-" + std::to_string(b), 9092, std::nullopt});
    std::vector<std::string> names;
    if (q.topics) {
      for (const auto& t : *q.topics) names.push_back(t.name.value_or(""));
    } else {
      for (const auto& [name, leaders] : topics_) names.push_back(name);
    }
    for (const std::string& name : names) {
      auto& t = r.topics.emplace_back();
      t.name = name;
      const auto found = topics_.find(name);
      if (found == topics_.end()) {
        t.error_code = static_cast<int16_t>(ErrorCode::unknown_topic_or_partition);
        continue;
      }
      t.topic_id.bytes[0] = static_cast<uint8_t>(name.size());
      t.topic_id.bytes[1] = static_cast<uint8_t>(name.back());
      for (size_t i = 0; i < found->second.size(); ++i) {
        auto& p = t.partitions.emplace_back();
        p.partition_index = static_cast<int32_t>(i);
        p.leader_id = found->second[i];
        p.leader_epoch = 1;
        p.replica_nodes = {found->second[i]};
        p.isr_nodes = {found->second[i]};
      }
    }
    return r;
  }

  VirtualLoop& loop_;
  const int brokers_;
  std::map<wire::ApiKey, Handler> handlers_;
  std::map<wire::ApiKey, std::pair<int16_t, int16_t>> ranges_;
  std::map<std::string, std::vector<int>> topics_;
  std::vector<Seen> seen_;
  std::vector<std::weak_ptr<struct FakeWire>> wires_;
  bool refusing_ = false;
};

/// What both ends of a fake connection hold.
struct FakeWire {
  io::StreamHandler* handler = nullptr;
  bool closed = false;
};

class FakeStream final : public io::Stream {
 public:
  FakeStream(FakeCluster& cluster, int broker, std::shared_ptr<FakeWire> wire)
      : cluster_(cluster), broker_(broker), wire_(std::move(wire)) {}
  ~FakeStream() override { wire_->closed = true; }

  void send(Payload payload) override {
    if (wire_->closed) return;
    Bytes frame = payload.flatten();
    wire::Reader reader(MutableByteView(frame).subspan(4));
    const auto header = wire::decode_request_header(reader);
    if (!header.ok()) return;
    const wire::ApiKey api = wire::api_key(*header);
    const int16_t version = header->request_api_version;
    cluster_.seen_.push_back({broker_, api, version});
    const auto handler = cluster_.handlers_.find(api);
    if (handler == cluster_.handlers_.end()) return;
    const std::optional<Bytes> body = handler->second(broker_, version, reader);
    if (!body) return;
    wire::Writer writer;
    wire::encode_response_header(writer, api, version, header->correlation_id);
    writer.write_raw(*body);
    auto answer = std::make_shared<Bytes>(writer.take_framed().flatten());
    cluster_.loop_.call_after(1, [wire = wire_, answer] {
      if (!wire->closed && wire->handler != nullptr) (void)wire->handler->on_bytes(*answer);
    });
  }
  size_t unsent_bytes() const override { return 0; }
  void pause_reading() override {}
  void resume_reading() override {}
  void close(bool) override { wire_->closed = true; }
  void set_handler(io::StreamHandler* handler) override { wire_->handler = handler; }
  io::Endpoint peer() const override { return {}; }
  io::Endpoint local() const override { return {}; }

 private:
  FakeCluster& cluster_;
  const int broker_;
  std::shared_ptr<FakeWire> wire_;
};

inline void FakeCluster::connect(io::Loop&, const io::Endpoint& endpoint, int64_t,
                                 std::function<void(Result<std::unique_ptr<io::Stream>>)> done) {
  const int broker = endpoint.host.starts_with("broker-") ? std::stoi(endpoint.host.substr(7)) : 0;
  loop_.post([this, broker, done = std::move(done)] {
    if (refusing_ || broker < 1 || broker > brokers_) return done(Error(ErrorCode::closed, "refused"));
    auto wire = std::make_shared<FakeWire>();
    wires_.push_back(wire);
    done(std::unique_ptr<io::Stream>(std::make_unique<FakeStream>(*this, broker, wire)));
  });
}

inline void FakeCluster::drop_connections() {
  for (const auto& weak : std::exchange(wires_, {})) {
    const auto wire = weak.lock();
    if (!wire || wire->closed) continue;
    wire->closed = true;
    if (wire->handler != nullptr) wire->handler->on_closed({});
  }
}

inline ClientOptions fake_options() {
  ClientOptions o;
  o.bootstrap = {{"broker-1", 9092}};
  return o;
}

}  // namespace millrace::client::testing
