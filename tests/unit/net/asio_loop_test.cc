#include "net/asio_loop.h"

#include <future>
#include <numeric>
#include <thread>

#include "rig.h"

namespace millrace::net {
TEST_CASE("posts run in order on the loop's thread", "[loop]") {
  LoopThread loop({.name = "test"});
  std::vector<int> order;
  bool here = true;
  loop.post([&] { order.push_back(0); });  // before it starts
  loop.start();
  CHECK_FALSE(loop.is_here());
  for (int i = 1; i < 100; ++i) {
    loop.post([&, i] {
      order.push_back(i);
      here = here && loop.is_here();
    });
  }
  loop.stop();
  std::vector<int> expected(100);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order == expected);
  CHECK(here);
  loop.post([&] { order.clear(); });  // dropped
  CHECK(order.size() == 100);
}

TEST_CASE("a post from the loop runs later, after what was posted before", "[loop]") {
  LoopThread loop({});
  loop.start();
  std::vector<std::string> order;
  std::promise<void> done;
  loop.post([&] {
    loop.post([&] {
      order.push_back("inner");
      done.set_value();
    });
    order.push_back("outer");
  });
  done.get_future().get();
  loop.stop();
  CHECK(order == std::vector<std::string>{"outer", "inner"});
}

TEST_CASE("posts from four threads all arrive, each thread's in order", "[loop]") {
  LoopThread loop({});
  loop.start();
  constexpr int kEach = 20'000;
  std::array<int, 4> last{-1, -1, -1, -1};
  int out_of_order = 0;
  int arrived = 0;
  std::promise<void> done;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        loop.post([&, t, i] {
          if (last[t] != i - 1) ++out_of_order;
          last[t] = i;
          if (++arrived == 4 * kEach) done.set_value();
        });
      }
    });
  }
  for (std::thread& t : threads) t.join();
  done.get_future().get();
  loop.stop();
  CHECK(arrived == 4 * kEach);
  CHECK(out_of_order == 0);
}

TEST_CASE("the end of a tick comes after its batch and before what follows", "[loop]") {
  LoopThread loop({});
  std::vector<std::string> order;
  std::promise<void> done;
  // Posted before the start: one batch.
  loop.post([&] {
    loop.at_end_of_tick([&] {
      order.push_back("end 1");
      loop.at_end_of_tick([&] { order.push_back("end of the end"); });
      loop.post([&] {
        order.push_back("next tick");
        done.set_value();
      });
    });
    order.push_back("a");
  });
  loop.post([&] {
    loop.at_end_of_tick([&] { order.push_back("end 2"); });
    order.push_back("b");
  });
  loop.start();
  done.get_future().get();
  loop.stop();
  CHECK(order == std::vector<std::string>{"a", "b", "end 1", "end 2", "end of the end", "next tick"});
}

TEST_CASE("an end of tick that never ends does not stop the loop", "[loop]") {
  LoopThread loop({});
  loop.start();
  std::function<void()> again;
  size_t rounds = 0;
  on_loop(loop, [&] {
    again = [&] {
      ++rounds;
      loop.at_end_of_tick(again);
    };
    again();
  });
  for (int i = 0; i < 100; ++i) on_loop(loop, [] {});
  loop.stop();
  CHECK(rounds > 1);
}

TEST_CASE("timers run in the order of their times", "[loop]") {
  LoopThread loop({});
  loop.start();
  std::vector<int> order;
  std::promise<void> done;
  loop.post([&] {
    loop.call_after(30, [&] {
      order.push_back(30);
      done.set_value();
    });
    loop.call_after(10, [&] { order.push_back(10); });
    loop.call_after(0, [&] { order.push_back(0); });
    loop.call_after(20, [&] { order.push_back(20); });
    loop.call_after(-5, [&] { order.push_back(1); });
    order.push_back(-1);
  });
  done.get_future().get();
  loop.stop();
  CHECK(order == std::vector<int>{-1, 0, 1, 10, 20, 30});
}

TEST_CASE("a timer is never early", "[loop]") {
  LoopThread loop({});
  loop.start();
  std::promise<int64_t> waited;
  loop.post([&] {
    const auto from = std::chrono::steady_clock::now();
    loop.call_after(15, [&, from] {
      waited.set_value(
          std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - from)
              .count());
    });
  });
  CHECK(waited.get_future().get() >= 15'000);
}

TEST_CASE("cancelled timers do not run", "[loop]") {
  LoopThread loop({});
  loop.start();
  std::vector<std::string> ran;
  std::promise<void> done;
  loop.post([&] {
    const io::TimerId first = loop.call_after(1, [&] { ran.push_back("first"); });
    const io::TimerId second = loop.call_after(2, [&] { ran.push_back("second"); });
    CHECK(first != 0);
    CHECK(second != first);
    loop.cancel(first);
    loop.cancel(first);
    loop.cancel(0);
    loop.cancel(12345);
    const io::TimerId third = loop.call_after(10, [&] { ran.push_back("third"); });
    loop.call_after(5, [&, third, second] {
      loop.cancel(third);
      loop.cancel(second);  // has run
    });
    loop.call_after(15, [&] { done.set_value(); });
  });
  done.get_future().get();
  loop.stop();
  CHECK(ran == std::vector<std::string>{"second"});
}

TEST_CASE("posts wake a loop that waits for a timer", "[loop]") {
  LoopThread loop({});
  loop.start();
  on_loop(loop, [&] { loop.call_after(3'600'000, [] {}); });
  // Each waits for the loop, so the loop sleeps again and again.
  for (int i = 0; i < 200; ++i) on_loop(loop, [] {});
  loop.stop();
  CHECK(true);  // hangs if a wake-up is lost
}

TEST_CASE("a spinning loop does the same", "[loop]") {
  LoopThread loop({.name = "spin", .spin_us = 50});
  loop.start();
  for (int i = 0; i < 200; ++i) on_loop(loop, [] {});
  std::promise<void> timer;
  loop.post([&] { loop.call_after(2, [&] { timer.set_value(); }); });
  timer.get_future().get();
  loop.stop();
  CHECK(true);  // hangs if a wake-up is lost
}

TEST_CASE("what still waits at the stop is let go of, unrun", "[loop]") {
  auto token = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = token;
  bool ran = false;
  {
    LoopThread loop({});
    loop.start();
    on_loop(loop, [&loop, &ran, token] { loop.call_after(3'600'000, [&ran, token] { ran = true; }); });
    token.reset();
    CHECK_FALSE(alive.expired());
    loop.stop();
    CHECK(alive.expired());
    loop.stop();
  }
  CHECK_FALSE(ran);
}

TEST_CASE("a group hands out its loops in turn", "[loop]") {
  LoopGroup group(3, {.name = "io"});
  CHECK(group.size() == 3);
  CHECK(&group.next() == &group.at(0));
  CHECK(&group.next() == &group.at(1));
  CHECK(&group.next() == &group.at(2));
  CHECK(&group.next() == &group.at(0));
  group.start();
  for (size_t i = 0; i < 3; ++i) {
    bool here = false;
    on_loop(group.at(i), [&] { here = group.at(i).is_here() && !group.at((i + 1) % 3).is_here(); });
    CHECK(here);
  }
  group.stop();
}

TEST_CASE("buffers are reused by size", "[buffer_pool]") {
  BufferPool pool(100'000);
  CHECK(BufferPool::capacity_for(0) == 4096);
  CHECK(BufferPool::capacity_for(4097) == 8192);
  Buffer a = pool.acquire(60'000);
  CHECK(a.capacity() == 65'536);
  const uint8_t* where = a.data();
  pool.release(std::move(a));
  CHECK(a.empty());
  CHECK(pool.idle_bytes() == 65'536);
  CHECK(pool.acquire(1000).capacity() == 4096);
  Buffer b = pool.acquire(65'536);
  CHECK(b.data() == where);
  CHECK(pool.idle_bytes() == 0);
  Buffer c = pool.acquire(65'536);
  pool.release(std::move(b));
  pool.release(std::move(c));  // would exceed the limit
  CHECK(pool.idle_bytes() == 65'536);
  pool.release(pool.acquire(size_t{64} << 20));  // too large to be kept
  CHECK(pool.idle_bytes() == 65'536);
  pool.release(Buffer());
}

}  // namespace millrace::net
