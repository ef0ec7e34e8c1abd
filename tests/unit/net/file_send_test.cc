// Payloads with file regions: sent from the page cache, read where they are not, refused where they lie.
#include <fcntl.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "io/posix_disk.h"
#include "io/posix_file.h"
#include "net/send_queue.h"
#include "rig.h"

namespace millrace::net {
namespace {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "millrace-net-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string at(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// A file that is not of this machine: nothing of it is ever cached.
class MemoryFile final : public io::File {
 public:
  explicit MemoryFile(Bytes content) : content_(std::move(content)) {}
  Result<size_t> read_at(uint64_t position, MutableByteView out) const override {
    if (failing) return ErrorCode::io_error;
    if (position >= content_.size()) return size_t{0};
    const size_t n = std::min<size_t>(out.size(), content_.size() - position);
    std::memcpy(out.data(), content_.data() + position, n);
    return n;
  }
  Result<std::optional<size_t>> read_at_cached(uint64_t, MutableByteView) const override {
    return std::optional<size_t>();
  }
  Status write_at(uint64_t, std::span<const ByteView>) override { return ErrorCode::io_error; }
  Status truncate(uint64_t) override { return ErrorCode::io_error; }
  Status sync() override { return {}; }
  void reserve(uint64_t) override {}
  Result<uint64_t> size() const override { return content_.size(); }
  const std::string& path() const override { return path_; }
  bool failing = false;

 private:
  Bytes content_;
  std::string path_ = "memory";
};

std::shared_ptr<io::File> written(io::Disk& disk, const std::string& path, const Bytes& content) {
  auto file = disk.open(path, io::OpenMode::create);
  REQUIRE(file.ok());
  REQUIRE(file.value()->write_at(0, content).ok());
  REQUIRE(file.value()->sync().ok());
  return file.value();
}

void append_region(Payload& to, Bytes& expected, const std::shared_ptr<io::File>& file, const Bytes& content,
                   size_t position, size_t length) {
  to.append(std::make_shared<io::FileRegion>(file, position, length));
  const auto from = content.begin() + static_cast<std::ptrdiff_t>(position);
  expected.insert(expected.end(), from, from + static_cast<std::ptrdiff_t>(length));
}

void append_bytes(Payload& to, Bytes& expected, Bytes bytes) {
  expected.insert(expected.end(), bytes.begin(), bytes.end());
  to.append(Slice(std::move(bytes)));
}

void forget_cache(const std::shared_ptr<io::File>& file) {
  const auto pinned = std::static_pointer_cast<io::PosixFile>(file)->pin();
  REQUIRE(pinned.ok());
  ::posix_fadvise(pinned.value().get(), 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace

TEST_CASE("fifty megabytes of slices and regions arrive as they were", "[files]") {
  const Folder folder;
  const bool congested = GENERATE(false, true);
  io::PosixDisk disk({.descriptors_max = 3, .threads = 2});
  const Bytes content = pattern(size_t{6} << 20, 7);
  const Bytes memory = pattern(size_t{2} << 20, 8);
  std::vector<std::shared_ptr<io::File>> files;
  for (int i = 0; i < 6; ++i) files.push_back(written(disk, folder.at(std::to_string(i)), content));
  for (const size_t i : {0U, 2U, 4U}) forget_cache(files[i]);
  files.push_back(std::make_shared<MemoryFile>(memory));

  Payload payload;
  Bytes expected;
  uint32_t seed = 0;
  while (expected.size() < size_t{50} << 20) {
    ++seed;
    const auto& file = files[seed % files.size()];
    const Bytes& source = seed % files.size() == 6 ? memory : content;
    // Small, around the border of sendfile, and large ones, at odd positions.
    const size_t lengths[] = {1, 100, 5000, 65'535, 65'536, 65'537, 300'000, 1'900'000};
    const size_t length = lengths[seed * 5 % 8];
    const size_t position = seed * 7919 % (source.size() - length);
    append_bytes(payload, expected, pattern(1 + seed * 31 % 3000, seed));
    append_region(payload, expected, file, source, position, length);
    if (seed % 4 == 0) append_region(payload, expected, file, source, 3, 17);
  }
  const size_t size = payload.size();
  REQUIRE(size == expected.size());

  std::atomic<size_t> unsent{0};
  TcpOptions options;
  if (congested) options.socket.send_buffer_bytes = 20'000;
  Rig rig(
      [&](FrameConnection& c, MutableByteView) {
        c.stream->send(std::move(payload));
        c.stream->send(Payload(pattern(5)));
        unsent = c.stream->unsent_bytes();
      },
      &disk, options);
  RawClient client(rig.port(), congested ? 20'000 : 0);
  REQUIRE(client.write(frame(pattern(1))));
  CHECK(client.read(size) == expected);
  CHECK(client.read(5) == pattern(5));
  CHECK(unsent == size + 5);
}

TEST_CASE("regions are read by the loop if there is no disk", "[files]") {
  const Folder folder;
  const Bytes content = pattern(3'000'000, 3);
  io::PosixDisk disk({.descriptors_max = 2, .threads = 1});
  const auto file = written(disk, folder.at("a"), content);
  forget_cache(file);
  Rig rig([&](FrameConnection& c, MutableByteView) {
    Payload p;
    Bytes ignored;
    append_region(p, ignored, file, content, 5, 2'000'000);
    append_region(p, ignored, std::make_shared<MemoryFile>(content), content, 1, 1000);
    c.stream->send(std::move(p));
  });
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(1))));
  CHECK(client.read(2'000'000) == to_bytes(ByteView(content).subspan(5, 2'000'000)));
  CHECK(client.read(1000) == to_bytes(ByteView(content).subspan(1, 1000)));
}

TEST_CASE("a region that is not there ends the stream", "[files]") {
  const Folder folder;
  io::PosixDisk disk({.descriptors_max = 2, .threads = 1});
  const Bytes content = pattern(200'000, 3);
  const auto kind = GENERATE(0, 1, 2, 3);
  std::shared_ptr<io::File> file = written(disk, folder.at("a"), content);
  size_t length = 300'000;  // sendfile
  if (kind == 1) {
    // Small: gathered.
    REQUIRE(file->truncate(1000).ok());
    length = 2000;
  } else if (kind == 2) {
    auto memory = std::make_shared<MemoryFile>(content);
    memory->failing = true;
    file = memory;
    length = 1000;
  } else if (kind == 3) {
    file = std::make_shared<MemoryFile>(content);  // shorter than the region
  }
  Rig rig(
      [&](FrameConnection& c, MutableByteView) {
        Payload p(pattern(10));
        p.append(std::make_shared<io::FileRegion>(file, 0, length));
        c.stream->send(std::move(p));
      },
      &disk);
  RawClient client(rig.port());
  REQUIRE(client.write(frame(pattern(1))));
  CHECK(client.read(10 + length).size() < 10 + length);
  CHECK(rig.wait_for_end() == ErrorCode::io_error);
}

TEST_CASE("closing while a region is read from the disk", "[files]") {
  const Bytes content = pattern(1'000'000, 3);
  io::PosixDisk disk({.descriptors_max = 2, .threads = 1});
  std::promise<void> go;
  const std::shared_future<void> gate = go.get_future().share();
  {
    Rig rig(
        [&](FrameConnection& c, MutableByteView) {
          Payload p;
          p.append(
              std::make_shared<io::FileRegion>(std::make_shared<MemoryFile>(content), 0, content.size()));
          c.stream->send(std::move(p));
        },
        &disk);
    std::promise<void> busy;
    disk.run(
        rig.loop,
        [gate, &busy] {
          busy.set_value();
          gate.wait();
        },
        [] {});
    busy.get_future().get();
    RawClient client(rig.port());
    REQUIRE(client.write(frame(as_bytes("a"))));
    while (disk.queued() == 0) on_loop(rig.loop, [] {});
    on_loop(rig.loop, [&] { rig.connections[0]->stream->close(false); });
    CHECK(rig.wait_for_end() == ErrorCode::none);
    on_loop(rig.loop, [&] { rig.connections.clear(); });
    go.set_value();
    disk.stop();  // before the loop
  }
}

TEST_CASE("a queue written in pieces keeps its order", "[files]") {
  int pair[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
  const SocketDescriptor out(pair[0]);
  const SocketDescriptor in(pair[1]);
  const Folder folder;
  io::PosixDisk disk({.descriptors_max = 2, .threads = 1});
  const Bytes content = pattern(500'000, 3);
  const auto file = written(disk, folder.at("a"), content);

  SendQueue queue;
  BufferPool buffers;
  Bytes expected;
  for (uint32_t i = 0; i < 300; ++i) {
    Payload p;
    append_bytes(p, expected, pattern(1 + i * 97 % 20'000, i + 1));
    if (i % 10 == 3) append_region(p, expected, file, content, i * 1000, 64 * 1024 + i);
    if (i % 3 == 0) append_region(p, expected, file, content, i * 1000, 10 + i);
    if (i % 7 == 0)
      append_region(p, expected, std::make_shared<MemoryFile>(content), content, i, 1000 * (i % 80 + 1));
    queue.push(std::move(p));
  }
  REQUIRE(queue.bytes() == expected.size());
  Bytes got;
  Bytes chunk(7001);
  bool blocked = false;
  bool cold = false;
  Status why;
  while (got.size() < expected.size()) {
    const SendQueue::Progress progress = queue.write_to(out.get(), buffers, true, why);
    REQUIRE(progress != SendQueue::Progress::broken);
    if (progress == SendQueue::Progress::cold) {
      cold = true;
      const SendQueue::ColdRead read = queue.cold_read();
      Bytes bytes(read.length);
      REQUIRE(read.file->read_at(read.position, bytes).value() == bytes.size());
      queue.supply(Slice(std::move(bytes)));
      continue;
    }
    blocked = blocked || progress == SendQueue::Progress::blocked;
    for (int i = 0; i < 5; ++i) {
      const ssize_t n = ::recv(in.get(), chunk.data(), chunk.size(), 0);
      if (n <= 0) break;
      got.insert(got.end(), chunk.begin(), chunk.begin() + n);
    }
  }
  CHECK(got == expected);
  CHECK(blocked);
  CHECK(cold);
  CHECK(queue.empty());
  CHECK(queue.write_to(out.get(), buffers, true, why) == SendQueue::Progress::drained);
}

}  // namespace millrace::net
