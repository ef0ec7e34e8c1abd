// What one loop keeps for itself: its view of the cluster, codec contexts, metric cells.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "base/metrics.h"
#include "base/trace.h"
#include "broker/fetch_sessions.h"
#include "broker/view.h"
#include "io/loop.h"
#include "link/connection_context.h"
#include "record/codec.h"

namespace millrace::broker {

class Broker;

inline constexpr size_t kApiSlots = 96;  // api keys of table 1.2 are below this

struct ApiMetrics {
  Counter* requests = nullptr;
  Histogram* latency = nullptr;
};

struct ShardMetrics {
  std::array<ApiMetrics, kApiSlots> apis;
  Counter* bytes_in = nullptr;   // produced record bytes accepted
  Counter* bytes_out = nullptr;  // fetched record bytes
  Counter* records_in = nullptr;
  Counter* batches_in = nullptr;
  Counter* produce_rejected = nullptr;
  Counter* fetch_rejected = nullptr;
  Counter* requests_refused = nullptr;  // unparsable or of an unsupported version
};

/// A replica's fetch that waits.
class ParkedFetch {
 public:
  virtual ~ParkedFetch() = default;
  virtual void answer_now() = 0;
};

/// Produce requests whose batches are not appended yet: that happens at the end of the tick.
class GatheredProduces {
 public:
  virtual ~GatheredProduces() = default;
  /// Whether one of them came over this connection.
  virtual bool any_of(const link::ConnectionContext& connection) const = 0;
  /// Now, because something else is to come after them.
  virtual void append_now() = 0;
};

/// Who waits on a loop for the next view. Each is told once.
class ViewWaits {
 public:
  uint64_t add(std::function<void()> f) {
    waits_.emplace(++last_, std::move(f));
    return last_;
  }
  void remove(uint64_t id) { waits_.erase(id); }
  void tell() {
    // Who begins to wait meanwhile waits for the one after.
    for (auto& [id, f] : std::exchange(waits_, {})) f();
  }
  size_t size() const { return waits_.size(); }

 private:
  std::map<uint64_t, std::function<void()>> waits_;
  uint64_t last_ = 0;
};

struct Shard {
  /// On its loop.
  void show(std::shared_ptr<const View> next) {
    view = std::move(next);
    view_waits.tell();
  }

  Broker& broker;
  size_t index;
  io::Loop* loop;
  std::shared_ptr<const View> view;
  record::Codecs codecs;
  ShardMetrics metrics;
  Trace trace;
  TraceLimit complaints{5, 10'000};
  FetchSessions fetch_sessions{};
  std::map<int32_t, std::weak_ptr<ParkedFetch>> parked_replicas{};  // by broker id: the latest
  ViewWaits view_waits{};
  std::shared_ptr<GatheredProduces> gathered{};  // once there was one
};

}  // namespace millrace::broker
