// The partitions of one topic by number: a vector whose copies share structure. Changing one of n partitions
// copies one chunk and the n / 64 references to the others.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "meta/records.h"

namespace millrace::meta {

class PartitionList {
 public:
  static constexpr size_t kChunk = 64;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  const Partition& operator[](size_t number) const {
    ASSERT(number < size_);
    return *(*chunks_[number / kChunk])[number % kChunk];
  }
  /// nullptr if there is no such partition; any number may be asked for.
  const Partition* find(PartitionId id) const {
    return id.v < 0 || static_cast<size_t>(id.v) >= size_ ? nullptr : &(*this)[static_cast<size_t>(id.v)];
  }

  /// number <= size(): replaces it or adds it at the end.
  void set(size_t number, Partition partition) {
    ASSERT(number <= size_);
    const size_t at = number / kChunk;
    auto chunk = at < chunks_.size() ? std::make_shared<Chunk>(*chunks_[at]) : std::make_shared<Chunk>();
    auto value = std::make_shared<const Partition>(std::move(partition));
    if (number == size_) {
      chunk->push_back(std::move(value));
      ++size_;
    } else {
      (*chunk)[number % kChunk] = std::move(value);
    }
    if (at == chunks_.size()) {
      chunks_.push_back(std::move(chunk));
    } else {
      chunks_[at] = std::move(chunk);
    }
  }

  class Iterator {
   public:
    using value_type = Partition;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Iterator(const PartitionList* list, size_t at) : list_(list), at_(at) {}
    const Partition& operator*() const { return (*list_)[at_]; }
    const Partition* operator->() const { return &(*list_)[at_]; }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    Iterator operator++(int) {
      Iterator was = *this;
      ++at_;
      return was;
    }
    bool operator==(const Iterator&) const = default;

   private:
    const PartitionList* list_ = nullptr;
    size_t at_ = 0;
  };
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size_}; }

 private:
  using Chunk = std::vector<std::shared_ptr<const Partition>>;
  std::vector<std::shared_ptr<const Chunk>> chunks_;
  size_t size_ = 0;
};

}  // namespace millrace::meta
