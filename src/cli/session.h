// A client with a loop of its own, and waiting for it: commands are straight lines on the main thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "cli/interrupts.h"
#include "client/client.h"
#include "io/posix_clock.h"
#include "net/asio_loop.h"
#include "net/tcp_network.h"

namespace millrace::cli {

struct ConnectionOptions {
  std::string bootstrap = "localhost:9092";
  int64_t timeout_ms = 30'000;
};

class Session {
 public:
  /// Connects nothing yet. Errors: invalid_argument (the bootstrap list).
  static Result<std::unique_ptr<Session>> open(const ConnectionOptions& options);
  ~Session();

  client::Client& client() { return *client_; }
  /// Another client of the same cluster, with connections of its own. To be used and destroyed on the loop.
  std::unique_ptr<client::Client> new_client();
  Interrupts& interrupts() { return interrupts_; }
  int64_t timeout_ms() const { return timeout_ms_; }
  int64_t wall_ms() const { return clock_.now().wall_ms; }
  int64_t mono_ms() const { return clock_.now().mono_ms; }
  /// Error: cancelled (an interrupt came first).
  Status pause(int64_t ms);

  /// Runs `f` on the loop, to its end.
  void on_loop(std::function<void()> f);

  /// Runs `start` on the loop and waits for the callback that it is given. Errors: those of the callback;
  /// cancelled (an interrupt came, unless `interruptible` is false; a late callback is then dropped).
  template <class T>
  Result<T> wait(std::function<void(client::Done<T>)> start, bool interruptible = true) {
    struct Shared {
      std::mutex mutex;
      std::condition_variable ready;
      std::optional<Result<T>> result;
      bool started = false;
    };
    auto shared = std::make_shared<Shared>();
    loop_.post([shared, start = std::move(start)] {
      start([shared](Result<T> r) {
        const std::lock_guard lock(shared->mutex);
        shared->result.emplace(std::move(r));
        shared->ready.notify_one();
      });
      const std::lock_guard lock(shared->mutex);
      shared->started = true;
      shared->ready.notify_one();
    });
    std::unique_lock lock(shared->mutex);
    // `start` may refer to the caller's locals: nobody leaves before it has run.
    shared->ready.wait(lock, [&] { return shared->started; });
    while (!shared->result) {
      shared->ready.wait_for(lock, std::chrono::milliseconds(kInterruptCheckMs));
      if (!shared->result && interruptible && interrupts_.arrived()) {
        return Error(ErrorCode::cancelled, "interrupted");
      }
    }
    return std::move(*shared->result);
  }

  /// One request, answered. The response must not hold records.
  template <class Request>
  Result<typename Request::Response> call(
      client::Target target, Request request,
      std::function<ErrorCode(const typename Request::Response&)> error_of = nullptr) {
    client::CallOptions options;
    options.timeout_ms = timeout_ms_;
    // What changes something is not asked twice when the connection breaks: it may have been done.
    options.repeat_after_loss = error_of == nullptr;
    auto shared = std::make_shared<Request>(std::move(request));
    return wait<typename Request::Response>([this, target, shared, options, error_of](auto done) {
      client_->call<Request>(target, std::move(*shared), options, error_of, std::move(done));
    });
  }
  /// The topics' metadata, or all (nullopt); what is known afterwards.
  Result<client::ClusterView> metadata(std::optional<std::vector<std::string>> topics);
  /// One topic. Errors: unknown_topic_or_partition.
  Result<client::TopicInfo> topic(const std::string& name);

 private:
  static constexpr int64_t kInterruptCheckMs = 50;

  Session(client::ClientOptions options, int64_t timeout_ms);

  Interrupts interrupts_;
  io::PosixClock clock_;
  net::LoopThread loop_;
  net::TcpNetwork network_;
  std::unique_ptr<client::Client> client_;
  const int64_t timeout_ms_;
};

}  // namespace millrace::cli
