// Receive buffers and scratch space of one loop: warm pages are handed from stream to stream, so that an idle
// connection holds none and a busy one does not fault in fresh memory for every frame.
//
// Sizes are powers of two. Owned by a LoopThread, used on its loop only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace millrace::net {

/// Uninitialised bytes. Empty when default-constructed or moved from.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t capacity)
      : bytes_(std::make_unique_for_overwrite<uint8_t[]>(capacity)), capacity_(capacity) {}
  Buffer(Buffer&& other) noexcept
      : bytes_(std::move(other.bytes_)), capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    bytes_ = std::move(other.bytes_);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  uint8_t* data() { return bytes_.get(); }
  size_t capacity() const { return capacity_; }
  bool empty() const { return capacity_ == 0; }

 private:
  std::unique_ptr<uint8_t[]> bytes_;
  size_t capacity_ = 0;
};

class BufferPool {
 public:
  /// Keeps at most `idle_bytes_max` of unused buffers.
  explicit BufferPool(size_t idle_bytes_max = size_t{16} << 20) : idle_bytes_max_(idle_bytes_max) {}

  /// A buffer of capacity_for(at_least).
  Buffer acquire(size_t at_least);
  void release(Buffer buffer);
  size_t idle_bytes() const { return idle_bytes_; }

  static size_t capacity_for(size_t at_least);

 private:
  static constexpr size_t kSmallestBits = 12;  // 4 KiB
  static constexpr size_t kLargestBits = 22;   // 4 MiB; larger ones are not kept

  const size_t idle_bytes_max_;
  size_t idle_bytes_ = 0;
  std::array<std::vector<Buffer>, kLargestBits - kSmallestBits + 1> idle_;
};

}  // namespace millrace::net
