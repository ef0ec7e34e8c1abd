// std::ranges::contains, which C++20 has not yet.
#pragma once

#include <algorithm>

namespace millrace {

template <class Range, class Value>
bool contains(const Range& range, const Value& value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

}  // namespace millrace
