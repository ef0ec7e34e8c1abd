#include "server/control_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <utility>

#include "io/posix_error.h"
#include "net/socket.h"

namespace millrace::server {
namespace {

using net::SocketDescriptor;

constexpr const char* kSocketName = "control";
constexpr int kBacklog = 16;

Error failed(std::string_view what, const std::string& where, int number) {
  return Error(ErrorCode::io_error, fmt::format("{} {}: {}", what, where, io::posix_message(number)));
}

// A socket's address holds some hundred bytes of a path, directories may be longer: the way leads through an
// open descriptor of the directory, which has to stay open for as long as the address is used.
struct SocketAddress {
  SocketDescriptor directory;
  sockaddr_un name{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

Result<SocketAddress> address_in(const std::string& directory) {
  SocketAddress address;
  address.directory = SocketDescriptor(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!address.directory) {
    return errno == ENOENT || errno == ENOTDIR ? Error(ErrorCode::not_found, directory + " is not there")
                                               : failed("open", directory, errno);
  }
  address.name.sun_family = AF_UNIX;
  const auto end = fmt::format_to_n(address.name.sun_path, sizeof(address.name.sun_path) - 1,
                                    "/proc/self/fd/{}/{}", address.directory.get(), kSocketName);
  address.length = static_cast<socklen_t>(sizeof(address.name.sun_family) + end.size + 1);
  return address;
}

SocketDescriptor make_socket() {
  return SocketDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

class Deadline {
 public:
  explicit Deadline(int timeout_ms)
      : at_(std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms)) {}
  /// For poll(2); 0 when it has passed.
  int left_ms() const {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(at_ - std::chrono::steady_clock::now());
    return left.count() > 0 ? static_cast<int>(left.count()) : 0;
  }

 private:
  const std::chrono::steady_clock::time_point at_;
};

bool wait_for(int descriptor, short events, const Deadline& deadline) {
  pollfd waiting{descriptor, events, 0};
  int ready = 0;
  while ((ready = ::poll(&waiting, 1, deadline.left_ms())) < 0 && errno == EINTR) {
  }
  return ready > 0;
}

bool send_all(int connection, std::string_view text, const Deadline& deadline) {
  while (!text.empty()) {
    if (!wait_for(connection, POLLOUT, deadline)) return false;
    const ssize_t sent = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (sent > 0) text.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

// Up to the end of the line, or of the stream; more than `most` bytes are an error.
Result<std::string> receive(int connection, size_t most, bool line, const Deadline& deadline) {
  std::string text;
  while (text.size() <= most) {
    if (!wait_for(connection, POLLIN, deadline)) return Error(ErrorCode::timed_out, "no answer in time");
    char buffer[1024];
    const ssize_t got = ::recv(connection, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      return Error(ErrorCode::io_error, io::posix_message(errno));
    }
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    const size_t end = line ? text.find('\n') : std::string::npos;
    if (end != std::string::npos) return text.substr(0, end);
  }
  return Error(ErrorCode::limit_exceeded, fmt::format("more than {} bytes", most));
}

}  // namespace

Result<std::unique_ptr<ControlSocket>> ControlSocket::listen(const std::string& directory, size_t line_max,
                                                             int timeout_ms, Handler handler) {
  TRY_ASSIGN(const SocketAddress address, address_in(directory));
  const std::string path = directory + "/" + kSocketName;
  SocketDescriptor socket = make_socket();
  if (!socket) return failed("make a socket for", path, errno);
  {
    const SocketDescriptor probe = make_socket();
    if (::connect(probe.get(), address.get(), address.length) == 0)
      return Error(ErrorCode::already_exists, path + " is served by another process");
    if (errno == ECONNREFUSED) (void)::unlink(path.c_str());  // of a process that is gone
  }
  const mode_t before = ::umask(0077);
  const int bound = ::bind(socket.get(), address.get(), address.length);
  const int number = errno;
  ::umask(before);
  if (bound != 0) return failed("listen on", path, number);
  if (::listen(socket.get(), kBacklog) != 0) return failed("listen on", path, errno);
  std::unique_ptr<ControlSocket> made(new ControlSocket());
  made->wake_ = ::eventfd(0, EFD_CLOEXEC);
  if (made->wake_ < 0) return failed("listen on", path, errno);
  made->path_ = path;
  made->line_max_ = line_max;
  made->timeout_ms_ = timeout_ms;
  made->handler_ = std::move(handler);
  made->listening_ = socket.release();
  made->thread_ = std::thread([s = made.get()] { s->serve(); });
  return made;
}

ControlSocket::~ControlSocket() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    (void)!::write(wake_, &one, sizeof(one));
    thread_.join();
    (void)::unlink(path_.c_str());
  }
  if (listening_ >= 0) ::close(listening_);
  if (wake_ >= 0) ::close(wake_);
}

void ControlSocket::serve() {
  for (;;) {
    pollfd waiting[] = {{listening_, POLLIN, 0}, {wake_, POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0 && errno != EINTR) return;
    if (waiting[1].revents != 0) return;
    if (waiting[0].revents == 0) continue;
    const SocketDescriptor connection(::accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC));
    if (connection) answer(connection.get());
  }
}

void ControlSocket::answer(int connection) const {
  const Result<std::string> line = receive(connection, line_max_, true, Deadline(timeout_ms_));
  if (!line.ok()) return;  // whoever asks like that gets no answer
  (void)send_all(connection, handler_(*line), Deadline(timeout_ms_));
}

Result<std::string> ask_control_socket(const std::string& directory, std::string_view line, size_t answer_max,
                                       int timeout_ms) {
  TRY_ASSIGN(const SocketAddress address, address_in(directory));
  const SocketDescriptor socket = make_socket();
  if (!socket) return failed("make a socket for", directory, errno);
  if (::connect(socket.get(), address.get(), address.length) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED)
      return Error(ErrorCode::not_found, "nobody listens in " + directory);
    return failed("connect to", directory, errno);
  }
  const Deadline deadline(timeout_ms);
  if (!send_all(socket.get(), std::string(line) + "\n", deadline))
    return Error(ErrorCode::timed_out, "the question was not taken in time");
  return receive(socket.get(), answer_max, false, deadline);
}

}  // namespace millrace::server
