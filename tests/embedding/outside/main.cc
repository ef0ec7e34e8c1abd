// Starts three brokers, talks to them over plain sockets, loses one and has it back. Needs the public header
// only.
#include <arpa/inet.h>
#include <millrace/cluster.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::vector<uint16_t> ports_of(const std::string& bootstrap) {
  std::vector<uint16_t> ports;
  std::istringstream in(bootstrap);
  for (std::string one; std::getline(in, one, ',');)
    ports.push_back(static_cast<uint16_t>(std::stoi(one.substr(one.find(':') + 1))));
  return ports;
}

// ApiVersions, version 0: does the broker answer with our correlation id and without an error?
bool answers(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::array<unsigned char, 14> question = {0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff};
  std::array<unsigned char, 10> answer{};
  const bool ok = ::connect(fd, reinterpret_cast<const sockaddr*>(&at), sizeof(at)) == 0 &&
                  ::send(fd, question.data(), question.size(), MSG_NOSIGNAL) == 14 &&
                  ::recv(fd, answer.data(), answer.size(), MSG_WAITALL) == 10 && answer[7] == 7 &&
                  answer[8] == 0 && answer[9] == 0;
  ::close(fd);
  return ok;
}

void expect(bool holds, const char* what) {
  std::printf("%s: %s\n", holds ? "ok" : "FAILED", what);
  if (!holds) std::exit(1);
}

}  // namespace

int main() {
  using namespace std::chrono_literals;
  millrace::Cluster cluster({.brokers = 3});
  const std::vector<uint16_t> ports = ports_of(cluster.bootstrap_servers());
  expect(ports.size() == 3, "three brokers");
  for (const uint16_t port : ports) expect(answers(port), "a broker answers");
  cluster.wait_until_ready(20s);
  cluster.kill(2);
  expect(!answers(ports[1]), "a killed broker does not");
  expect(answers(ports[0]) && answers(ports[2]), "the others do");
  cluster.start(2);
  cluster.wait_until_ready(20s);
  expect(answers(ports[1]), "it answers again");
  try {
    cluster.pause(7);
    expect(false, "there is no broker 7");
  } catch (const millrace::ClusterError& e) {
    std::printf("ok: %s\n", e.what());
  }
}
