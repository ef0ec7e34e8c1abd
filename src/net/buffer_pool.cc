#include "net/buffer_pool.h"

#include <algorithm>
#include <bit>

namespace millrace::net {

size_t BufferPool::capacity_for(size_t at_least) {
  return std::bit_ceil(std::max(at_least, size_t{1} << kSmallestBits));
}

Buffer BufferPool::acquire(size_t at_least) {
  const size_t capacity = capacity_for(at_least);
  const auto bits = static_cast<size_t>(std::countr_zero(capacity));
  if (bits <= kLargestBits && !idle_[bits - kSmallestBits].empty()) {
    std::vector<Buffer>& idle = idle_[bits - kSmallestBits];
    Buffer buffer = std::move(idle.back());
    idle.pop_back();
    idle_bytes_ -= capacity;
    return buffer;
  }
  return Buffer(capacity);
}

void BufferPool::release(Buffer buffer) {
  if (buffer.empty()) return;
  const auto bits = static_cast<size_t>(std::countr_zero(buffer.capacity()));
  if (bits > kLargestBits || idle_bytes_ + buffer.capacity() > idle_bytes_max_) return;
  idle_bytes_ += buffer.capacity();
  idle_[bits - kSmallestBits].push_back(std::move(buffer));
}

}  // namespace millrace::net
