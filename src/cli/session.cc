#include "cli/session.h"

#include "client/addresses.h"
#include "millrace/version.h"

namespace millrace::cli {

Result<std::unique_ptr<Session>> Session::open(const ConnectionOptions& options) {
  client::ClientOptions c;
  TRY_ASSIGN(c.bootstrap, client::parse_bootstrap(options.bootstrap));
  c.client_id = "millrace-cli";
  c.software_version = kVersion;
  c.call_timeout_ms = options.timeout_ms;
  c.request_timeout_ms = options.timeout_ms;
  c.connect_timeout_ms = std::min(options.timeout_ms, c.connect_timeout_ms);
  return std::unique_ptr<Session>(new Session(std::move(c), options.timeout_ms));
}

Session::Session(client::ClientOptions options, int64_t timeout_ms)
    : loop_({.name = "client"}), network_(loop_, {}), timeout_ms_(timeout_ms) {
  client_ = std::make_unique<client::Client>(loop_, network_, clock_, std::move(options));
  loop_.start();
}

Session::~Session() {
  on_loop([this] { client_.reset(); });
  loop_.stop();
}

std::unique_ptr<client::Client> Session::new_client() {
  return std::make_unique<client::Client>(loop_, network_, clock_, client_->options());
}

void Session::on_loop(std::function<void()> f) {
  (void)wait<bool>(
      [f = std::move(f)](const client::Done<bool>& done) {
        f();
        done(true);
      },
      false);
}

Status Session::pause(int64_t ms) {
  const Result<bool> over = wait<bool>(
      [this, ms](const client::Done<bool>& done) { loop_.call_after(ms, [done] { done(true); }); });
  return over.ok() ? Status() : Status(over.error());
}

Result<client::ClusterView> Session::metadata(std::optional<std::vector<std::string>> topics) {
  return wait<client::ClusterView>(
      [this, topics = std::move(topics)](client::Done<client::ClusterView> done) {
        client_->refresh(topics, false, timeout_ms_, [this, done](Status s) {
          if (!s.ok()) return done(std::move(s).error());
          done(client_->view());
        });
      });
}

Result<client::TopicInfo> Session::topic(const std::string& name) {
  return wait<client::TopicInfo>([this, name](client::Done<client::TopicInfo> done) {
    client_->with_topic(name, false, timeout_ms_, std::move(done));
  });
}

}  // namespace millrace::cli
