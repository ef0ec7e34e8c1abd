#include "chaos/book.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <iterator>

namespace millrace::chaos {

int64_t clock_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

Book::Book(const std::string& path, check::Value first_value)
    : file_(std::fopen(path.c_str(), "w")), next_value_(first_value) {
  if (file_ == nullptr) {
    std::perror(path.c_str());
    std::exit(2);
  }
  std::fputs("{\"history\":1}\n", file_);
}

Book::~Book() {
  std::fclose(file_);
}

void Book::add(const Note& note, const std::vector<Entry>& entries) {
  std::string line =
      fmt::format(R"({{"op":"{}","result":"{}","client":"{}","from":{})", check::word(note.kind),
                  check::word(note.outcome), note.client, note.invoked);
  if (note.returned != check::kUnknown) line += fmt::format(R"(,"to":{})", note.returned);
  if (!note.group.empty()) line += fmt::format(R"(,"group":"{}")", note.group);
  if (note.generation != check::kUnknown) line += fmt::format(R"(,"generation":{})", note.generation);
  if (note.idempotent) line += R"(,"idempotent":true)";
  if (note.reset) line += R"(,"reset":true)";
  line += R"(,"items":[)";
  const char* separator = "";
  for (const Entry& e : entries) {
    line += fmt::format(R"({}["{}-{}",)", separator, e.topic, e.partition);
    line += e.offset == check::kUnknown ? "null" : std::to_string(e.offset);
    if (e.value != check::kUnknown) line += "," + std::to_string(e.value);
    if (e.epoch >= 0) line += (e.value == check::kUnknown ? ",null," : ",") + std::to_string(e.epoch);
    line += ']';
    separator = ",";
  }
  line += "]}\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size()) {
    std::perror("history");
    std::exit(2);
  }
}

void Book::flush() {
  std::fflush(file_);
}

void Book::error(std::string_view where, ErrorCode code) {
  ++errors_[fmt::format("{} {}", where, error_name(code))];
}

std::string Book::errors() const {
  std::string out;
  for (const auto& [what, count] : errors_)
    out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", what, count);
  return out;
}

}  // namespace millrace::chaos
