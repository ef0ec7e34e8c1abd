#include "server/control_socket.h"

#include <unistd.h>

#include <filesystem>
#include <string>

#include "support/catch.h"

namespace millrace::server {
namespace {

constexpr int kTimeoutMs = 10'000;

class SocketDirectory {
 public:
  explicit SocketDirectory(const std::string& below = {}) {
    std::string pattern = (std::filesystem::temp_directory_path() / "control-socket-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    path_ = root_ + below;
    std::filesystem::create_directories(path_);
  }
  SocketDirectory(const SocketDirectory&) = delete;
  SocketDirectory& operator=(const SocketDirectory&) = delete;
  ~SocketDirectory() { std::filesystem::remove_all(root_); }
  const std::string& path() const { return path_; }

 private:
  std::string root_;
  std::string path_;
};

std::unique_ptr<ControlSocket> echo(const std::string& directory) {
  auto made = ControlSocket::listen(directory, 64, kTimeoutMs,
                                    [](std::string_view line) { return "<" + std::string(line) + ">"; });
  INFO((made.ok() ? std::string() : made.error().message));
  REQUIRE(made.ok());
  return std::move(*made);
}

TEST_CASE("a line is answered, also in a directory with a long name", "[control_socket]") {
  const SocketDirectory directory("/" + std::string(120, 'd') + "/" + std::string(120, 'e'));
  const auto socket = echo(directory.path());
  for (int i = 0; i < 3; ++i)
    CHECK(*ask_control_socket(directory.path(), "kill 2", 100, kTimeoutMs) == "<kill 2>");
}

TEST_CASE("one process serves a directory; the next may when it is gone", "[control_socket]") {
  const SocketDirectory directory;
  auto first = echo(directory.path());
  const auto second =
      ControlSocket::listen(directory.path(), 64, kTimeoutMs, [](std::string_view) { return std::string(); });
  CHECK(second.code() == ErrorCode::already_exists);
  first.reset();
  CHECK(ask_control_socket(directory.path(), "status", 100, kTimeoutMs).code() == ErrorCode::not_found);
  CHECK(std::filesystem::is_empty(directory.path()));
  const auto third = echo(directory.path());
  CHECK(ask_control_socket(directory.path(), "status", 100, kTimeoutMs).ok());
}

TEST_CASE("what a process that was killed left behind is replaced", "[control_socket]") {
  const SocketDirectory directory;
  {
    // Bound, never listening again: what is left of a process that died.
    const auto socket = echo(directory.path());
    std::filesystem::create_hard_link(directory.path() + "/control", directory.path() + "/kept");
  }
  std::filesystem::rename(directory.path() + "/kept", directory.path() + "/control");
  CHECK(ask_control_socket(directory.path(), "status", 100, kTimeoutMs).code() == ErrorCode::not_found);
  const auto socket = echo(directory.path());
  CHECK(*ask_control_socket(directory.path(), "status", 100, kTimeoutMs) == "<status>");
}

TEST_CASE("bounds of questions and answers, and places where nobody is", "[control_socket]") {
  const SocketDirectory directory;
  const auto socket = echo(directory.path());
  // Too long a line gets no answer; the next asker does.
  const auto unanswered = ask_control_socket(directory.path(), std::string(5'000, 'x'), 100, kTimeoutMs);
  CHECK((!unanswered.ok() || unanswered->empty()));
  CHECK(ask_control_socket(directory.path(), std::string(50, 'y'), 10, kTimeoutMs).code() ==
        ErrorCode::limit_exceeded);
  CHECK(ask_control_socket(directory.path(), "status", 100, kTimeoutMs).ok());
  CHECK(ask_control_socket(directory.path() + "/none", "status", 100, kTimeoutMs).code() ==
        ErrorCode::not_found);
  CHECK(ControlSocket::listen(directory.path() + "/none", 64, kTimeoutMs, [](std::string_view) {
          return std::string();
        }).code() == ErrorCode::not_found);
}

}  // namespace
}  // namespace millrace::server
