#!/usr/bin/env python3
"""Plants one violation of each kind in a small tree and sees scripts/check_layers name its file and line; the clean
tree, full of look-alikes in comments, strings and method names, has to pass.

usage: planted_violations.py [source root]
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
if ROOT.is_file():
    ROOT = ROOT.parents[2]

CLEAN = {
    "src/base/bytes.h": """// Bytes. std::mutex, ::open(), assert(x), throw, asio::io_context in a comment are only words.
#pragma once
#include <cstdint>
#include <string_view>
/* #include "log/segment.h"
   std::this_thread::sleep_for(1); thread_local int x; */
namespace millrace {
inline constexpr int kMany = 1'000'000;
inline constexpr std::string_view kText = "std::mutex m; fopen(\\"a\\"); throw 1; // not a comment";
inline constexpr const char* const kRaw = R"x(#include "log/segment.h"
static int counter = 0; co_await)x";
enum class Kind : uint8_t { read = 1, write = 2 };
template <class T>
struct Box {
  static constexpr int kLimit = 3;
  static int count(const T& value);
  static Box make() { return Box{}; }
  T value{};
  int plain = 0;
};
template <class T>
inline constexpr bool kIsBox = false;
class World {
 public:
  explicit World(int a) : a_{a}, b_(2), c_{3} { open(); }
  ~World() = default;
  World& operator=(const World&) = default;
  bool open() { return read(1) && this->write(2); }
  bool read(int) const { return true; }
  bool write(int) const;
  long time(int now) const { return now; }
  bool pread(int position);
  int rand(int limit) const;
 private:
  int a_, b_, c_;
};
extern template struct Box<int>;
int total(int from = 3);
using Callback = void (*)(int);
}  // namespace millrace
""",
    "src/base/bytes.cc": """#include "base/bytes.h"
namespace millrace {
namespace {
constexpr int kTable[] = {1, 2, 3};
const char* const kNames[] = {"a", "b"};
static int twice(int x) { return 2 * x; }
}  // namespace
bool World::write(int x) const {
  static constexpr int kLocal = 3;
  static const int kOther = twice(3);
  static_assert(kLocal == 3);
  return x < kTable[0] + kOther + (kNames[0] != nullptr);
}
bool World::pread(int position) { return position > 0; }
int total(int from) { return static_cast<int>(World(from).time(3)); }
}  // namespace millrace
""",
    "src/log/segment.h": """#pragma once
#include "base/bytes.h"
#include "io/disk.h"
#include "log/index.h"
""",
    "src/log/index.h": "#pragma once\n",
    "src/io/disk.h": "#pragma once\n#include <fcntl.h>\n#include <mutex>\n#include <thread>\ninline int now() { return ::open(\"x\", 0); }\n",
    "src/net/loop.cc": "#include <asio.hpp>\n#include \"io/disk.h\"\nvoid run() { asio::io_context c; throw 1; }\n",
    "src/server/main.cc": "#include <spdlog/spdlog.h>\n#include <CLI/CLI.hpp>\n#include \"log/segment.h\"\n#include \"millrace/cluster.h\"\n",
    "src/cli/topic.cc": "#include <CLI/CLI.hpp>\n#include <nlohmann/json.hpp>\n#include <fstream>\n",
    "src/partition/partition.h": "#pragma once\n#include <mutex>\nclass P { std::mutex lock_; };\n",
    "src/meta/record.cc": "#include \"proto/metadata.pb.h\"\n",
    "src/client/client.cc": "int f() { co_await g(); co_return; }\n",
    "include/millrace/cluster.h": "#pragma once\n#include <memory>\n#include \"millrace/options.h\"\n",
    "include/millrace/options.h": "#pragma once\n",
}

# file, line to append, kind, words the finding must hold
PLANTED = [
    ("src/base/bytes.cc", '#include "log/segment.h"', "ladder", "room base may not include"),
    ("src/log/segment.h", '#include "meta/image.h"', "ladder", "meta is not on its list"),
    ("src/log/segment.h", '#include "proto/metadata.pb.h"', "pb-header", "only in .cc"),
    ("src/record/batch.cc", '#include "proto/x.h"', "ladder", "proto is not on its list"),
    ("src/partition/partition.h", '#include "millrace/cluster.h"', "ladder", "include is not on its list"),
    ("include/millrace/cluster.h", '#include "broker/shard.h"', "ladder", "room include may not"),
    ("src/log/segment.h", '#include "../base/bytes.h"', "include", "relative"),
    ("src/log/segment.h", '#include "index.h"', "include", "has no room"),
    ("src/log/segment.h", '#include "cellar/x.h"', "include", "no room is called"),
    ("src/log/segment.h", "#include <log/index.h>", "include", "quotes"),
    ("src/cellar/x.h", "#pragma once", "ladder", "not in scripts/layers.txt"),
    ("src/stray.cc", "int x();", "include", "outside every room"),
    ("src/log/segment.h", "inline auto t() { return std::chrono::steady_clock::now(); }", "world", "clock"),
    ("src/log/segment.h", "inline auto t() { return ::time(nullptr); }", "world", "clock"),
    ("src/log/segment.h", "inline void t() { clock_gettime(0, nullptr); }", "world", "clock"),
    ("src/broker/a.cc", "#include <sys/socket.h>", "world", "socket"),
    ("src/broker/a.cc", "int f() { return ::socket(1, 2, 3); }", "world", "socket"),
    ("src/broker/a.cc", "int f() { return setsockopt(1, 2, 3, 4, 5); }", "world", "socket"),
    ("src/log/segment.h", '#include <fcntl.h>', "world", "file call"),
    ("src/log/segment.h", 'inline auto f() { return fopen("x", "r"); }', "world", "fopen"),
    ("src/log/segment.h", 'inline auto f() { return ::open("x", 0); }', "world", "open"),
    ("src/log/segment.h", 'inline void f() { std::ifstream in("x"); }', "world", "ifstream"),
    ("src/log/segment.h", "inline bool f() { return std::filesystem::exists(x); }", "world", "file call"),
    ("src/log/segment.h", "inline int f(int d) { return d > 0 && fsync(d); }", "world", "fsync"),
    ("src/log/segment.h", "inline void f() { mmap(nullptr, 1, 2, 3, 4, 5); }", "world", "mmap"),
    ("src/group/a.cc", "void f() { std::thread t; }", "world", "thread"),
    ("src/group/a.cc", "#include <thread>", "world", "thread"),
    ("src/group/a.cc", "auto f() { return std::async(g); }", "world", "thread"),
    ("src/group/a.cc", "struct S { std::condition_variable c; };", "world", "thread"),
    ("src/group/a.cc", "struct S { std::mutex m; };", "world", "mutex"),
    ("src/group/a.cc", "#include <mutex>", "world", "mutex"),
    ("src/partition/partition.h", "#include <thread>", "world", "thread"),
    ("src/group/a.cc", "int f() { return std::random_device{}(); }", "world", "random_device"),
    ("src/group/a.cc", "int f() { return rand(); }", "world", "random source"),
    ("src/sim/a.cc", "void f() { std::this_thread::sleep_for(x); }", "world", "sleep"),
    ("src/sim/a.cc", "void f() { ::sleep(1); }", "world", "sleep"),
    ("src/broker/a.cc", "bool f() { return std::regex_match(a, b); }", "world", "regex"),
    ("src/broker/a.cc", 'auto f() { return std::getenv("HOME"); }', "world", "environment"),
    ("src/broker/a.cc", 'void f() { std::cout << 1; }', "world", "console"),
    ("src/broker/a.cc", '#define NOW() std::chrono::system_clock::now()', "world", "clock"),
    ("tests/unit/log/a.cc", "void f() { std::this_thread::sleep_for(x); }", "world", "unit test"),
    ("src/broker/a.cc", "#include <asio.hpp>", "heavy", "asio"),
    ("src/broker/a.cc", "asio::io_context* c();", "heavy", "asio"),
    ("src/server/a.cc", "#include <asio/ip/tcp.hpp>", "heavy", "asio"),
    ("src/broker/a.cc", "#include <spdlog/spdlog.h>", "heavy", "spdlog"),
    ("src/cli/a.cc", "void f() { spdlog::info(1); }", "heavy", "spdlog"),
    ("src/server/a.cc", "#include <CLI/CLI.hpp>", "heavy", "CLI11"),
    ("src/broker/a.cc", "#include <nlohmann/json.hpp>", "heavy", "JSON"),
    ("include/millrace/cluster.h", "#include <nlohmann/json_fwd.hpp>", "heavy", "JSON"),
    ("src/meta/record.h", '#include "proto/metadata.pb.h"', "pb-header", "only in .cc"),
    ("src/meta/record.h", "#include <google/protobuf/message.h>", "pb-header", "only in .cc"),
    ("src/net/loop.cc", "int f() { co_await g(); }", "coroutine", "co_await"),
    ("src/broker/a.cc", "int f() { co_return 1; }", "coroutine", "co_return"),
    ("src/log/segment.h", "inline void f(int x) { assert(x); }", "assert", "ASSERT"),
    ("src/net/loop.cc", "#include <cassert>", "assert", "ASSERT"),
    ("src/log/segment.h", "inline void f(int) { throw 1; }", "throw", "Result"),
    ("src/log/segment.h", "inline int f() { static int calls = 0; return ++calls; }", "static", "mutable static"),
    ("src/log/segment.h", "inline int f() { static Cache cache(3); return 1; }", "static", "mutable static"),
    ("src/net/loop.cc", "inline int f() { static const char* last = nullptr; return 1; }", "static", "mutable static"),
    ("src/log/segment.h", "namespace a { int counter = 0; }", "static", "global variable"),
    ("src/log/segment.h", "static std::vector<int> all{1, 2};", "static", "global variable"),
    ("src/log/segment.h", "inline std::string name;", "static", "global variable"),
    ("src/log/segment.h", "extern int counter;", "static", "global variable"),
    ("src/log/segment.h", "class A { inline static int count = 0; };", "static", "static member"),
    ("src/log/segment.h", "thread_local int depth;", "static", "thread_local"),
    ("src/log/segment.h", "class A { static A& instance() { return *a(); } };", "static", "singleton"),
    ("src/log/segment.h", "int counter = 0;  // layers: allow static:", "static", "global variable"),  # no reason
    ("src/log/segment.h", "#include <mutex>  // layers: allow world: we need it", "world", "mutex"),  # not waivable
]

WAIVED = [
    ("src/log/segment.h", "inline int counter = 0;  // layers: allow static: a test plants it"),
    ("src/meta/record.h", '#include "proto/metadata.pb.h"  // layers: allow pb-header: a test plants it'),
]


def write(root, name, text, append=False):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if append else "w") as f:
        f.write(text)
    return len(path.read_text().splitlines())


def check(root):
    done = subprocess.run([sys.executable, ROOT / "scripts" / "check_layers", "--root", root], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def main():
    failed = 0

    def expect(good, what, output):
        nonlocal failed
        if not good:
            failed += 1
            print(f"FAILED: {what}\n{output}")

    with tempfile.TemporaryDirectory(prefix="millrace-lint-") as name:
        root = pathlib.Path(name)
        write(root, "scripts/layers.txt", (ROOT / "scripts" / "layers.txt").read_text())
        for path, text in CLEAN.items():
            write(root, path, text)
        code, output = check(root)
        expect(code == 0, "the clean tree passes", output)
        for path, text, kind, words in PLANTED:
            target = root / path
            before = target.read_text() if target.exists() else None
            line = write(root, path, text + "\n", append=True)
            code, output = check(root)
            wanted = f"{path}:{line}: [{kind}]"
            hits = [x for x in output.splitlines() if x.startswith(wanted) and words in x]
            if path in ("src/stray.cc", "src/cellar/x.h"):
                wanted, hits = path, [x for x in output.splitlines() if x.startswith(path) and words in x]
            expect(code == 1 and hits, f"{wanted} ... {words}   <- {text}", output)
            if before is None:
                target.unlink()
                if path == "src/cellar/x.h":
                    shutil.rmtree(target.parent)
            else:
                target.write_text(before)
        for path, text in WAIVED:
            target = root / path
            before = target.read_text() if target.exists() else None
            write(root, path, text + "\n", append=True)
            code, output = check(root)
            expect(code == 0 and "1 waived" in output, f"waived: {text}", output)
            target.unlink() if before is None else target.write_text(before)
        write(root, "scripts/layers.txt", "log: base meta\nmeta: log\n")
        code, output = check(root)
        expect(code != 0 and "include each other" in output, "a ladder with a cycle is refused", output)
    count = len(PLANTED) + len(WAIVED) + 2
    print(f"planted_violations: {count - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
