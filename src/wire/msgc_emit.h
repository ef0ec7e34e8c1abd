// The model -> text: C++ types and codecs, the API table, random fillers for the tests, JSON for
// scripts/check_messages.
#pragma once

#include <string>
#include <vector>

#include "wire/msgc_schema.h"

namespace millrace::msgc {

std::string emit_header(const File& file);
std::string emit_source(const File& file);
std::string emit_api_key(const std::vector<File>& files);
std::string emit_api_table(const std::vector<File>& files);
/// Random messages of the file's types for the round-trip tests and the fuzzer.
std::string emit_cases(const File& file);
std::string emit_case_registry(const std::vector<File>& files);
std::string emit_json(const std::vector<File>& files);

/// Lines of C++ with indentation.
class Text {
 public:
  void line(const std::string& s) {
    if (!s.empty() && s[0] == '}') --depth_;
    if (!s.empty()) out_.append(static_cast<size_t>(2 * depth_), ' ');
    out_ += s;
    out_ += '\n';
    if (!s.empty() && s.back() == '{') ++depth_;
  }
  /// As it is, at the margin.
  void raw(const std::string& s) { out_ += s + '\n'; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
  int depth_ = 0;
};

/// "version >= 3 && version <= 7" for versions inside `all`; empty if they are all of them.
std::string version_condition(const Range& versions, const Range& all);
/// std::vector<TopicProduceData>; qualified with `scope` ("ProduceRequest::") if given.
std::string cpp_type(const Field& field, const std::string& scope, bool with_optional = true);

}  // namespace millrace::msgc
