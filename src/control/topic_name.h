// Which names a topic may have.
#pragma once

#include <string>
#include <string_view>

namespace millrace::control {

inline constexpr size_t kTopicNameMax = 249;

/// Why `name` cannot name a topic; empty if it can. 1 to 249 of [a-zA-Z0-9._-], neither "." nor "..".
std::string topic_name_fault(std::string_view name);

}  // namespace millrace::control
