// The bytes that cold reads of one broker may hold in memory at a time, from the read until the reply has
// left. Shared by all loops; a share comes back when whoever holds it lets go.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "base/bytes.h"

namespace millrace::broker {

inline constexpr size_t kColdReadBytesMax = 64u << 20;

class ColdReadBudget {
 public:
  explicit ColdReadBudget(size_t bytes_max) : bytes_max_(bytes_max) {}

  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept
        : budget_(std::move(other.budget_)), bytes_(std::exchange(other.bytes_, 0)) {}
    Share& operator=(Share&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Share() { resize(0); }
    explicit operator bool() const { return budget_ != nullptr; }

    /// What was really needed, less or (one large batch) more.
    void resize(size_t bytes) {
      if (budget_ == nullptr) return;
      budget_->used_.fetch_add(bytes, std::memory_order_relaxed);
      budget_->used_.fetch_sub(bytes_, std::memory_order_relaxed);
      bytes_ = bytes;
    }
    /// The bytes as a slice that holds this share as long as it lives.
    Slice keep(Bytes bytes) {
      struct Held {
        Bytes content;
        Share share;
      };
      auto held = std::make_shared<Held>();
      held->content = std::move(bytes);
      held->share = std::move(*this);
      const ByteView view(held->content);
      return Slice(std::move(held), view);
    }

   private:
    friend class ColdReadBudget;
    Share(std::shared_ptr<ColdReadBudget> budget, size_t bytes) : budget_(std::move(budget)), bytes_(bytes) {}

    std::shared_ptr<ColdReadBudget> budget_;
    size_t bytes_ = 0;
  };

  /// No share (false) if it would pass the limit; one read alone is always let through.
  static Share take(const std::shared_ptr<ColdReadBudget>& budget, size_t bytes) {
    size_t used = budget->used_.load(std::memory_order_relaxed);
    do {
      if (used > 0 && used + bytes > budget->bytes_max_) return {};
    } while (!budget->used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return Share(budget, bytes);
  }
  size_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const size_t bytes_max_;
  std::atomic<size_t> used_{0};
};

}  // namespace millrace::broker
