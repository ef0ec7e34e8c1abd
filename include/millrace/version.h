// The version of Millrace that this header came with.
#pragma once

#include <string_view>

namespace millrace {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace millrace
