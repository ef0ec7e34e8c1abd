// Strong types for every id and number that could be swapped.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace millrace {

/// A number with a name. Explicit in both directions; ordered; `+`/`-` with the raw type only.
template <class Tag, class Raw>
struct Strong {
  Raw v{};

  constexpr Strong() = default;
  constexpr explicit Strong(Raw raw) : v(raw) {}
  constexpr auto operator<=>(const Strong&) const = default;
  constexpr Strong operator+(Raw d) const { return Strong(static_cast<Raw>(v + d)); }
  constexpr Strong operator-(Raw d) const { return Strong(static_cast<Raw>(v - d)); }
  constexpr Raw operator-(Strong o) const { return static_cast<Raw>(v - o.v); }
  constexpr Strong& operator+=(Raw d) {
    v = static_cast<Raw>(v + d);
    return *this;
  }
  constexpr Strong& operator++() {
    ++v;
    return *this;
  }
};

using Offset = Strong<struct OffsetTag, int64_t>;            // record number in a partition
using LeaderEpoch = Strong<struct LeaderEpochTag, int32_t>;  // partition leadership
using PartitionId = Strong<struct PartitionIdTag, int32_t>;
using BrokerId = Strong<struct BrokerIdTag, int32_t>;
using BrokerEpoch = Strong<struct BrokerEpochTag, int64_t>;
using ProducerId = Strong<struct ProducerIdTag, int64_t>;
using ProducerEpoch = Strong<struct ProducerEpochTag, int16_t>;
using Term = Strong<struct TermTag, int64_t>;          // Raft only
using LogIndex = Strong<struct LogIndexTag, int64_t>;  // Raft entry, first is 1
using GenerationId = Strong<struct GenerationIdTag, int32_t>;

inline constexpr Offset kNoOffset{-1};
inline constexpr LeaderEpoch kNoLeaderEpoch{-1};
inline constexpr BrokerId kNoBroker{-1};
inline constexpr ProducerId kNoProducerId{-1};
inline constexpr ProducerEpoch kNoProducerEpoch{-1};

}  // namespace millrace

template <class Tag, class Raw>
struct std::hash<millrace::Strong<Tag, Raw>> {
  size_t operator()(millrace::Strong<Tag, Raw> s) const noexcept { return std::hash<Raw>()(s.v); }
};
