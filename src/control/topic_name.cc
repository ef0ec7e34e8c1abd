#include "control/topic_name.h"

#include <fmt/format.h>

namespace millrace::control {

std::string topic_name_fault(std::string_view name) {
  if (name.empty()) return "Topic name is invalid: the empty string is not allowed";
  if (name == "." || name == "..") return "Topic name is invalid: '.' or '..' is not allowed";
  if (name.size() > kTopicNameMax) {
    return fmt::format("Topic name is invalid: the length of '{}' is longer than the maximum of {}", name,
                       kTopicNameMax);
  }
  for (const char c : name) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-';
    if (!fine) {
      return fmt::format(
          "Topic name is invalid: '{}' contains a character other than ASCII alphanumerics, '.', '_' and '-'",
          name);
    }
  }
  return "";
}

}  // namespace millrace::control
