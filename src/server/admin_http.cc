#include "server/admin_http.h"

#include <fmt/core.h>

#include <string_view>
#include <vector>

namespace millrace::server {
namespace {

constexpr size_t kHeadMax = 8 * 1024;
constexpr size_t kExchangesMax = 64;

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Service Unavailable";
  }
}

Bytes encode_reply(const HttpReply& reply, bool head_only) {
  std::string out = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: "
      "no-store\r\n\r\n",
      reply.status, reason_of(reply.status), reply.content_type, reply.body.size());
  if (!head_only) out += reply.body;
  return to_bytes(out);
}

}  // namespace

class AdminHttp::Exchange final : public io::StreamHandler {
 public:
  Exchange(AdminHttp& owner, std::unique_ptr<io::Stream> stream) : owner_(owner), stream_(std::move(stream)) {
    stream_->set_handler(this);
  }
  ~Exchange() override { stream_->set_handler(nullptr); }

  size_t on_bytes(MutableByteView bytes) override {
    if (answered_) return bytes.size();
    const std::string_view text = as_text(bytes);
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string_view::npos && bytes.size() < kHeadMax) return 0;
    const HttpReply reply = end == std::string_view::npos ? HttpReply{431, "text/plain", "head too large\n"}
                                                          : owner_.answer(text.substr(0, end));
    answered_ = true;
    const size_t used = bytes.size();
    stream_->send(Payload(encode_reply(reply, text.starts_with("HEAD "))));
    stream_->close(true);
    return used;
  }
  void on_closed(const Status&) override { owner_.forget(this); }

 private:
  AdminHttp& owner_;
  std::unique_ptr<io::Stream> stream_;
  bool answered_ = false;
};

AdminHttp::~AdminHttp() = default;

Status AdminHttp::listen(const io::Endpoint& endpoint) {
  auto made = network_.listen(
      endpoint, [this]() -> io::Loop& { return loop_; },
      [this](io::Loop&, std::unique_ptr<io::Stream> stream) {
        if (exchanges_.size() >= kExchangesMax) {
          stream->close(false);
          return;
        }
        auto exchange = std::make_shared<Exchange>(*this, std::move(stream));
        exchanges_.emplace(exchange.get(), exchange);
      });
  if (!made.ok()) return std::move(made).error();
  listener_ = std::move(*made);
  return {};
}

void AdminHttp::stop() {
  listener_.reset();
  exchanges_.clear();
}

HttpReply AdminHttp::answer(std::string_view head) const {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t second = line.find(' ', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos ||
      !line.substr(second + 1).starts_with("HTTP/1.")) {
    return {400, "text/plain", "not an HTTP request\n"};
  }
  const std::string_view method = line.substr(0, first);
  std::string_view path = line.substr(first + 1, second - first - 1);
  path = path.substr(0, path.find('?'));
  if (method != "GET" && method != "HEAD") return {405, "text/plain", "GET only\n"};
  const auto route = routes_.find(path);
  if (route == routes_.end()) return {404, "text/plain", "there are /metrics and /health\n"};
  return route->second();
}

void AdminHttp::forget(Exchange* exchange) {
  exchanges_.erase(exchange);
}

}  // namespace millrace::server
