#include "server/gated_network.h"

#include <list>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace millrace::server {

// An attempt to connect that waits for the gate.
struct GatedNetwork::Attempt {
  io::Endpoint endpoint;
  int64_t timeout_ms = 0;
  std::function<void(Result<std::unique_ptr<io::Stream>>)> done;
  io::TimerId timer = 0;
};

// What belongs to one loop.
struct GatedNetwork::Local {
  // Its owner closed it while the gate was shut: the other end learns of it when the gate opens.
  struct Abandoned {
    Traffic traffic;
    std::unique_ptr<io::Stream> stream;
    std::vector<Payload> last_words;
    bool flush;
  };

  io::Loop* loop = nullptr;
  std::set<GatedStream*> streams;
  std::list<Abandoned> abandoned;
  std::list<std::shared_ptr<Attempt>> attempts;
};

class GatedStream final : public io::Stream, public io::StreamHandler {
 public:
  GatedStream(GatedNetwork& network, GatedNetwork::Local& home, GatedNetwork::Traffic traffic,
              std::unique_ptr<io::Stream> inner)
      : network_(network), home_(home), traffic_(traffic), inner_(std::move(inner)) {
    home_.streams.insert(this);
    if (shut()) inner_->pause_reading();
  }
  ~GatedStream() override {
    home_.streams.erase(this);
    leave_behind({}, false);
  }

  void send(Payload payload) override {
    if (network_.is_cut() || closed_) return;
    if (!shut()) {
      flush_held();
      inner_->send(std::move(payload));
      return;
    }
    held_bytes_ += payload.size();
    held_.push_back(std::move(payload));
  }
  size_t unsent_bytes() const override { return held_bytes_ + (inner_ ? inner_->unsent_bytes() : 0); }
  void pause_reading() override {
    paused_ = true;
    if (inner_) inner_->pause_reading();
  }
  void resume_reading() override {
    paused_ = false;
    if (inner_ && !shut()) inner_->resume_reading();
  }
  void close(bool flush) override {
    if (closed_) return;
    closed_ = true;
    if (!shut()) {
      if (flush && !network_.is_cut()) flush_held();
      inner_->close(flush && !network_.is_cut());
      return;
    }
    leave_behind(flush ? std::exchange(held_, {}) : std::vector<Payload>(), flush);
    // The owner is told, as it would be of any connection that it closes.
    home_.loop->post([this, life = std::weak_ptr<const bool>(life_)] {
      if (!life.expired()) report({});
    });
  }
  void set_handler(io::StreamHandler* handler) override {
    handler_ = handler;
    if (inner_) inner_->set_handler(handler == nullptr ? nullptr : this);
  }
  io::Endpoint peer() const override { return inner_ ? inner_->peer() : peer_; }
  io::Endpoint local() const override { return inner_ ? inner_->local() : local_; }

  // From the connection.
  size_t on_bytes(MutableByteView bytes) override {
    if (!shut()) return handler_->on_bytes(bytes);
    inner_->pause_reading();
    return 0;
  }
  void on_closed(const Status& why) override {
    if (shut() && !closed_) {
      ended_ = why;
      return;
    }
    report(why);
  }
  void on_drained() override {
    if (held_.empty() && handler_ != nullptr) handler_->on_drained();
  }
  size_t wanted() const override { return handler_ == nullptr ? 0 : handler_->wanted(); }

  /// The gate has moved. May end with this stream destroyed by its owner.
  void apply() {
    if (inner_ == nullptr) return;
    if (network_.is_cut()) {
      drop_held();
      inner_->close(false);
      if (ended_) report(*std::exchange(ended_, std::nullopt));
      return;
    }
    if (shut()) {
      inner_->pause_reading();
      return;
    }
    flush_held();
    if (!paused_) inner_->resume_reading();
    if (ended_) report(*std::exchange(ended_, std::nullopt));
  }

 private:
  bool shut() const { return network_.is_shut(traffic_); }
  void drop_held() {
    held_.clear();
    held_bytes_ = 0;
  }
  void flush_held() {
    for (Payload& p : held_) inner_->send(std::move(p));
    drop_held();
  }
  void leave_behind(std::vector<Payload> last_words, bool flush) {
    drop_held();
    if (inner_ == nullptr || !shut()) return;
    peer_ = inner_->peer();
    local_ = inner_->local();
    inner_->set_handler(nullptr);
    inner_->pause_reading();
    home_.abandoned.push_back({traffic_, std::move(inner_), std::move(last_words), flush});
  }
  void report(const Status& why) {
    if (handler_ != nullptr) std::exchange(handler_, nullptr)->on_closed(why);
  }

  GatedNetwork& network_;
  GatedNetwork::Local& home_;
  const GatedNetwork::Traffic traffic_;
  std::unique_ptr<io::Stream> inner_;  // null once it was left behind a shut gate
  io::Endpoint peer_;
  io::Endpoint local_;
  io::StreamHandler* handler_ = nullptr;
  std::vector<Payload> held_;
  size_t held_bytes_ = 0;
  std::optional<Status> ended_;  // the connection broke while the gate was shut
  bool paused_ = false;          // by the owner
  bool closed_ = false;          // by the owner
  const std::shared_ptr<const bool> life_ = std::make_shared<const bool>(true);
};

GatedNetwork::GatedNetwork(io::Network& inner, Reach reach) : inner_(inner), reach_(reach) {}

GatedNetwork::~GatedNetwork() = default;

bool GatedNetwork::is_shut(Traffic traffic) const {
  if (is_cut()) return false;
  const Reach reach = reach_.load(std::memory_order_acquire);
  return reach == Reach::nobody || (reach == Reach::clients && traffic == Traffic::nodes);
}

GatedNetwork::Local& GatedNetwork::local(io::Loop& loop) {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Local>& found = locals_[&loop];
  if (found == nullptr) {
    found = std::make_unique<Local>();
    found->loop = &loop;
  }
  return *found;
}

void GatedNetwork::set(Reach reach) {
  reach_.store(reach, std::memory_order_release);
  tell_loops();
}

void GatedNetwork::cut() {
  cut_.store(true, std::memory_order_release);
  tell_loops();
}

void GatedNetwork::tell_loops() {
  const std::lock_guard lock(mutex_);
  for (const auto& [loop, at] : locals_) loop->post([this, local = at.get()] { apply(*local); });
}

void GatedNetwork::apply(Local& at) {
  const std::vector<GatedStream*> streams(at.streams.begin(), at.streams.end());
  for (GatedStream* s : streams) {
    if (at.streams.count(s) != 0) s->apply();
  }
  for (auto it = at.abandoned.begin(); it != at.abandoned.end();) {
    if (is_shut(it->traffic)) {
      ++it;
      continue;
    }
    for (Payload& p : it->last_words) it->stream->send(std::move(p));
    it->stream->close(it->flush && !is_cut());
    it = at.abandoned.erase(it);
  }
  if (is_shut(Traffic::nodes)) return;
  for (const auto& attempt : std::exchange(at.attempts, {})) {
    at.loop->cancel(attempt->timer);
    start(at, attempt);
  }
}

std::unique_ptr<io::Stream> GatedNetwork::wrap(io::Loop& loop, Traffic traffic,
                                               std::unique_ptr<io::Stream> stream) {
  return std::make_unique<GatedStream>(*this, local(loop), traffic, std::move(stream));
}

Result<std::unique_ptr<io::Listener>> GatedNetwork::listen(
    const io::Endpoint& endpoint, std::function<io::Loop&()> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  return inner_.listen(
      endpoint, std::move(choose),
      [this, accepted = std::move(accepted)](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
        if (!is_cut()) accepted(loop, wrap(loop, Traffic::clients, std::move(stream)));
      });
}

Result<std::unique_ptr<io::Listener>> GatedNetwork::listen_by_first_bytes(
    const io::Endpoint& endpoint, size_t count, int64_t timeout_ms, std::function<io::Loop&(ByteView)> choose,
    std::function<void(io::Loop&, std::unique_ptr<io::Stream>)> accepted) {
  return inner_.listen_by_first_bytes(
      endpoint, count, timeout_ms, std::move(choose),
      [this, accepted = std::move(accepted)](io::Loop& loop, std::unique_ptr<io::Stream> stream) {
        if (!is_cut()) accepted(loop, wrap(loop, Traffic::nodes, std::move(stream)));
      });
}

void GatedNetwork::connect(io::Loop& loop, const io::Endpoint& endpoint, int64_t timeout_ms,
                           std::function<void(Result<std::unique_ptr<io::Stream>>)> done) {
  auto attempt = std::make_shared<Attempt>(Attempt{endpoint, timeout_ms, std::move(done)});
  Local& at = local(loop);
  loop.post([this, &at, attempt] {
    if (!is_shut(Traffic::nodes)) return start(at, attempt);
    at.attempts.push_back(attempt);
    attempt->timer = at.loop->call_after(attempt->timeout_ms, [&at, attempt] {
      at.attempts.remove(attempt);
      attempt->done(Error(ErrorCode::timed_out, "connect to " + attempt->endpoint.host + ":" +
                                                    std::to_string(attempt->endpoint.port) + ": no answer"));
    });
  });
}

void GatedNetwork::start(Local& at, const std::shared_ptr<Attempt>& attempt) {
  if (is_cut()) return attempt->done(Error(ErrorCode::closed, "the network was cut off"));
  inner_.connect(*at.loop, attempt->endpoint, attempt->timeout_ms,
                 [this, &at, attempt](Result<std::unique_ptr<io::Stream>> made) {
                   if (!made.ok()) return attempt->done(std::move(made).error());
                   attempt->done(wrap(*at.loop, Traffic::nodes, std::move(*made)));
                 });
}

}  // namespace millrace::server
