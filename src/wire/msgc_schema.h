// msgc's model of the schema text in proto/kafka (see the README there), and its parser.
// msgc runs on the build machine only; like a compiler it stops at the first mistake, with file:line.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace millrace::msgc {

/// Versions first..last, both included; `last` is kOpen in a range written "3+" until it is clipped.
struct Range {
  static constexpr int kOpen = 32767;
  int first = 0;
  int last = kOpen;
  bool has(int v) const { return v >= first && v <= last; }
  /// `r` lies inside and is not empty.
  bool covers(const Range& r) const { return first <= r.first && r.first <= r.last && r.last <= last; }
  bool operator==(const Range&) const = default;
};

enum class Kind : uint8_t {
  boolean,
  int8,
  int16,
  uint16,
  int32,
  uint32,
  int64,
  float64,
  string,
  bytes,
  records,
  uuid,
  structure
};

struct Struct;

struct Field {
  std::string name;      // as in the schema, e.g. TopicId
  std::string cpp_name;  // topic_id
  Kind kind = Kind::int32;
  bool array = false;
  std::string struct_name;            // for Kind::structure
  const Struct* structure = nullptr;  // resolved
  Range versions;
  std::optional<Range> nullable;
  std::optional<uint32_t> tag;
  bool inflexible = false;
  bool is_private = false;
  std::string default_text;  // empty: the type's own
  bool default_null = false;
  int line = 0;
};

struct Struct {
  std::string name;
  std::vector<Field> fields;
  int line = 0;
};

enum class MessageKind : uint8_t { request, response, header, record };

struct Message {
  MessageKind kind = MessageKind::record;
  std::string name;  // ProduceRequest
  std::optional<int> key;
  Range versions;
  std::optional<int> flexible_from;
  Struct body;
  /// Nested types, each after those it uses.
  std::vector<std::unique_ptr<Struct>> structs;
  bool flexible(int v) const { return flexible_from && v >= *flexible_from; }
};

struct Api {
  int key = 0;
  std::string name;
  std::string cpp_name;
  Range versions;
  std::optional<int> flexible_from;
  std::optional<Range> serves;
  std::optional<int> advertises_from;
  bool latest_unstable = false;
};

struct File {
  std::string path;
  std::string stem;  // "messages/produce" or "records/offset_commit"
  std::optional<Api> api;
  std::vector<Message> messages;
};

/// Reads one schema file; exits with file:line and a reason on a mistake.
File parse_file(const std::string& path);

std::string snake_case(const std::string& name);
[[noreturn]] void die(const std::string& path, int line, const std::string& what);

}  // namespace millrace::msgc
