// The workload of the chaos harness on our own client: writers, members of a group, a reader and an observer,
// whose operations become a history file. Driven by lines on standard input:
//
//   stop-writing   writers finish what is under way; answered by "written"
//   finish         readers read to the ends; answered by "finished 1", or "finished 0" after the time given
//
// Twice a second it prints `progress {...}`.
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "chaos/workers.h"
#include "client/addresses.h"
#include "io/posix_clock.h"
#include "net/asio_loop.h"
#include "net/tcp_network.h"

namespace {

using namespace millrace;
using namespace millrace::chaos;

constexpr auto kProgressEvery = std::chrono::milliseconds(500);

[[noreturn]] void usage() {
  std::fputs(
      "usage: millrace-chaos-client --bootstrap LIST --history FILE --topic NAME:PARTITIONS --reads "
      "NAME:PARTITIONS,...\n"
      "         [--group NAME] [--first-value N] [--rate RECORDS/S] [--seed N] [--final-seconds N]\n",
      stderr);
  std::exit(2);
}

std::vector<Topic> topics_of(const std::string& text) {
  std::vector<Topic> out;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string one = text.substr(begin, end - begin);
    const size_t colon = one.find(':');
    if (colon == std::string::npos) usage();
    out.push_back({one.substr(0, colon), std::stoi(one.substr(colon + 1))});
    begin = end + 1;
  }
  return out;
}

/// Runs `start` on the loop and waits until it calls what it is given; false: not within `limit`.
bool wait(io::Loop& loop, std::chrono::seconds limit, std::function<void(std::function<void()>)> start) {
  const auto over = std::make_shared<std::atomic<bool>>(false);
  loop.post([over, start = std::move(start)] { start([over] { *over = true; }); });
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!*over && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return *over;
}

/// Stops all of `workers`; `done` runs when the last has stopped.
void stop_all(const std::vector<Worker*>& workers, std::function<void()> done) {
  const auto left = std::make_shared<size_t>(workers.size());
  for (Worker* w : workers) {
    w->stop([left, done] {
      if (--*left == 0) done();
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options = {{"--group", "members"},
                                                {"--first-value", "1"},
                                                {"--rate", "1000"},
                                                {"--seed", "1"},
                                                {"--final-seconds", "60"}};
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  for (const char* needed : {"--bootstrap", "--history", "--topic", "--reads"}) {
    if (!options.contains(needed)) usage();
  }
  const auto bootstrap = client::parse_bootstrap(options["--bootstrap"]);
  if (!bootstrap.ok()) usage();
  const Topic topic = topics_of(options["--topic"]).at(0);
  const std::string group = options["--group"];
  const int rate = std::stoi(options["--rate"]);
  const uint64_t seed = std::stoull(options["--seed"]);
  const std::chrono::seconds limit(std::stoi(options["--final-seconds"]));

  Book book(options["--history"], std::stoll(options["--first-value"]));
  io::PosixClock clock;
  net::LoopThread loop({.name = "clients"});
  net::TcpNetwork network(loop, {});
  Stage stage{loop, network, clock, book, *bootstrap};
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<Worker*> writers;
  std::vector<Worker*> readers;
  loop.start();
  wait(loop, limit, [&](const std::function<void()>& done) {
    const auto add = [&workers](std::vector<Worker*>& kind, std::unique_ptr<Worker> w) {
      kind.push_back(w.get());
      workers.push_back(std::move(w));
    };
    add(writers, std::make_unique<IdempotentWriter>(stage, "own-idempotent-1", topic, rate * 35 / 100));
    add(writers, std::make_unique<IdempotentWriter>(stage, "own-idempotent-2", topic, rate * 35 / 100));
    add(writers, std::make_unique<PlainWriter>(stage, "own-plain", topic, rate * 20 / 100, int16_t{-1}));
    add(writers, std::make_unique<PlainWriter>(stage, "own-leader-only", topic, rate * 10 / 100, int16_t{1}));
    add(readers, std::make_unique<Member>(stage, "own-member-1", group, topic, seed));
    add(readers, std::make_unique<Member>(stage, "own-member-2", group, topic, seed + 1));
    add(readers, std::make_unique<Reader>(stage, "own-reader", topics_of(options["--reads"])));
    add(readers, std::make_unique<Observer>(stage, "own-observer", topics_of(options["--reads"]),
                                            std::map<std::string, Topic>{{group, topic}}));
    for (const auto& w : workers) w->start();
    done();
  });

  std::mutex output;
  const auto say = [&output](const std::string& line) {
    const std::lock_guard lock(output);
    std::fputs((line + "\n").c_str(), stdout);
    std::fflush(stdout);
  };
  std::atomic<bool> over = false;
  std::thread teller([&] {
    while (!over) {
      say(fmt::format(R"(progress {{"acknowledged":{},"refused":{},"unknown":{},"polled":{},"commits":{}}})",
                      book.acknowledged.load(), book.refused.load(), book.unknown.load(), book.polled.load(),
                      book.commits.load()));
      std::this_thread::sleep_for(kProgressEvery);
    }
  });

  bool complete = false;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "stop-writing") {
      const bool stopped =
          wait(loop, limit, [&](std::function<void()> done) { stop_all(writers, std::move(done)); });
      say(stopped ? "written" : "written not-all");
    } else if (line == "finish") {
      complete = wait(loop, limit, [&](std::function<void()> done) { stop_all(readers, std::move(done)); });
      break;
    }
  }
  over = true;
  teller.join();
  std::string errors;
  wait(loop, limit, [&](const std::function<void()>& done) {
    errors = book.errors();
    workers.clear();
    book.flush();
    done();
  });
  loop.stop();
  say("errors " + errors);
  say(complete ? "finished 1" : "finished 0");
  return complete ? 0 : 1;
}
