// Structs, codecs and the API table.
#include "wire/msgc_emit.h"

#include <algorithm>

namespace millrace::msgc {

std::string version_condition(const Range& versions, const Range& all) {
  const bool low = versions.first > all.first;
  const bool high = versions.last < all.last;
  const std::string first = std::to_string(versions.first);
  if (low && high && versions.first == versions.last) return "version == " + first;
  std::string out;
  if (low) out = "version >= " + first;
  if (high) out += (low ? " && " : "") + ("version <= " + std::to_string(versions.last));
  return out;
}

namespace {

std::string scalar_type(const Field& f, const std::string& scope) {
  switch (f.kind) {
    case Kind::boolean:
      return "bool";
    case Kind::int8:
      return "int8_t";
    case Kind::int16:
      return "int16_t";
    case Kind::uint16:
      return "uint16_t";
    case Kind::int32:
      return "int32_t";
    case Kind::uint32:
      return "uint32_t";
    case Kind::int64:
      return "int64_t";
    case Kind::float64:
      return "double";
    case Kind::string:
      return "std::string";
    case Kind::bytes:
      return "Bytes";
    case Kind::records:
      return "Records";
    case Kind::uuid:
      return "Uuid";
    case Kind::structure:
      return scope + f.struct_name;
  }
  return {};
}

/// read_i32 / write_i32 and so on; empty for types with another shape.
std::string fixed_suffix(Kind kind) {
  switch (kind) {
    case Kind::boolean:
      return "bool";
    case Kind::int8:
      return "i8";
    case Kind::int16:
      return "i16";
    case Kind::uint16:
      return "u16";
    case Kind::int32:
      return "i32";
    case Kind::uint32:
      return "u32";
    case Kind::int64:
      return "i64";
    case Kind::float64:
      return "f64";
    case Kind::uuid:
      return "uuid";
    default:
      return {};
  }
}

bool is_optional(const Field& f) {
  return f.nullable && (f.kind != Kind::records);
}

std::string initializer(const Field& f) {
  if (is_optional(f)) return f.default_null ? "" : "{std::in_place}";
  if (!f.default_text.empty()) {
    if (f.kind == Kind::int64 && f.default_text == "-9223372036854775808") return " = INT64_MIN";
    if (f.kind == Kind::int32 && f.default_text == "-2147483648") return " = INT32_MIN";
    return " = " + f.default_text;
  }
  switch (f.kind) {
    case Kind::boolean:
      return f.array ? "" : " = false";
    case Kind::float64:
      return f.array ? "" : " = 0.0";
    case Kind::string:
    case Kind::bytes:
    case Kind::records:
    case Kind::uuid:
    case Kind::structure:
      return "";
    default:
      return f.array ? "" : " = 0";
  }
}

// ---- least sizes
// -----------------------------------------------------------------------------------------------

size_t least_size(const Struct& s, const Message& m, int version);

size_t least_size(const Field& f, const Message& m, int version) {
  const bool flexible = m.flexible(version) && !f.inflexible;
  if (f.array) return flexible ? 1 : 4;
  switch (f.kind) {
    case Kind::boolean:
    case Kind::int8:
      return 1;
    case Kind::int16:
    case Kind::uint16:
      return 2;
    case Kind::int32:
    case Kind::uint32:
      return 4;
    case Kind::int64:
    case Kind::float64:
      return 8;
    case Kind::uuid:
      return 16;
    case Kind::string:
      return flexible ? 1 : 2;
    case Kind::bytes:
    case Kind::records:
      return flexible ? 1 : 4;
    case Kind::structure:
      return f.nullable ? 1 : least_size(*f.structure, m, version);
  }
  return 1;
}

size_t least_size(const Struct& s, const Message& m, int version) {
  size_t sum = m.flexible(version) ? 1 : 0;
  for (const Field& f : s.fields) {
    if (!f.tag && f.versions.has(version)) sum += least_size(f, m, version);
  }
  return sum;
}

/// The least bytes an element takes, over all versions that have the array: "5" or "flexible ? 3 : 5".
std::string element_least(const Field& f, const Message& m) {
  Field element = f;
  element.array = false;
  element.nullable.reset();
  size_t least[2] = {SIZE_MAX, SIZE_MAX};
  for (int v = std::max(m.versions.first, f.versions.first); v <= std::min(m.versions.last, f.versions.last);
       ++v) {
    const size_t n = std::max<size_t>(1, least_size(element, m, v));
    size_t& slot = least[m.flexible(v) && !f.inflexible ? 1 : 0];
    slot = std::min(slot, n);
  }
  if (least[0] == SIZE_MAX) return std::to_string(least[1]);
  if (least[1] == SIZE_MAX || least[0] == least[1]) return std::to_string(least[0]);
  return "flexible ? " + std::to_string(least[1]) + " : " + std::to_string(least[0]);
}

// ---- one struct's codec
// ----------------------------------------------------------------------------------------

class StructCodec {
 public:
  StructCodec(Text& text, const Message& m, const Struct& s) : text_(text), m_(m), s_(s) {
    type_ = s.name == m.name ? m.name : m.name + "::" + s.name;
    for (const Field& f : s.fields) {
      if (f.tag) tagged_.push_back(&f);
    }
    std::sort(tagged_.begin(), tagged_.end(),
              [](const Field* a, const Field* b) { return *a->tag < *b->tag; });
  }

  void read() {
    text_.line("void read_fields(Reader& r, [[maybe_unused]] int16_t version, [[maybe_unused]] " + type_ +
               "& x) {");
    flexible_line();
    for (const Field& f : s_.fields) {
      if (f.tag) continue;
      begin_condition(version_condition(f.versions, m_.versions));
      read_field(f);
      end_condition();
    }
    if (m_.flexible_from) read_tags();
    text_.line("}");
    text_.line("");
  }

  void write() {
    text_.line("void write_fields(Writer& w, [[maybe_unused]] int16_t version, [[maybe_unused]] const " +
               type_ + "& x) {");
    flexible_line();
    for (const Field& f : s_.fields) {
      if (f.tag) continue;
      begin_condition(version_condition(f.versions, m_.versions));
      write_field(f);
      end_condition();
    }
    if (m_.flexible_from) write_tags();
    text_.line("}");
    text_.line("");
  }

 private:
  void flexible_line() {
    if (!m_.flexible_from) {
      text_.line("[[maybe_unused]] constexpr bool flexible = false;");
    } else if (*m_.flexible_from <= m_.versions.first) {
      text_.line("[[maybe_unused]] constexpr bool flexible = true;");
    } else {
      text_.line("const bool flexible = version >= " + std::to_string(*m_.flexible_from) + ";");
    }
  }

  void begin_condition(const std::string& condition) {
    conditional_ = !condition.empty();
    if (conditional_) text_.line("if (" + condition + ") {");
  }
  void end_condition() {
    if (conditional_) text_.line("}");
    conditional_ = false;
  }

  /// "true", "false" or a condition: may this field be null in the version at hand?
  std::string null_condition(const Field& f) const {
    if (!f.nullable) return "false";
    if (f.nullable->covers(f.versions)) return "true";
    return version_condition(*f.nullable, m_.versions);
  }
  static std::string flexible_of(const Field& f) { return f.inflexible ? "false" : "flexible"; }

  void read_one(const Field& f, const std::string& into) {
    if (f.kind == Kind::structure) {
      text_.line("read_fields(r, version, " + into + ");");
    } else if (const std::string fixed = fixed_suffix(f.kind); !fixed.empty()) {
      text_.line(into + " = r.read_" + fixed + "();");
    } else {
      text_.line(into + " = r.read_" + (f.kind == Kind::string ? "string" : "bytes") + "(" + flexible_of(f) +
                 ");");
    }
  }

  void read_elements(const Field& f, const std::string& into) {
    text_.line(into + ".reserve(Reader::first_reserve(count));");
    if (f.kind == Kind::structure) {
      text_.line("for (size_t i = 0; i < count && r.ok(); ++i) read_fields(r, version, " + into +
                 ".emplace_back());");
    } else if (const std::string fixed = fixed_suffix(f.kind); !fixed.empty()) {
      text_.line("for (size_t i = 0; i < count && r.ok(); ++i) " + into + ".push_back(r.read_" + fixed +
                 "());");
    } else {
      text_.line("for (size_t i = 0; i < count && r.ok(); ++i) " + into + ".push_back(r.read_" +
                 (f.kind == Kind::string ? "string" : "bytes") + "(" + flexible_of(f) + "));");
    }
  }

  void read_field(const Field& f) {
    const std::string x = "x." + f.cpp_name;
    const std::string null = null_condition(f);
    const std::string least = f.array ? element_least(f, m_) : "";
    if (f.kind == Kind::records) {
      text_.line(x + " = r.read_records(" + flexible_of(f) + ", " + null + ");");
    } else if (null == "false") {
      if (!f.array) return read_one(f, x);
      text_.line("{");
      text_.line("const size_t count = r.read_count(" + flexible_of(f) + ", " + least + ");");
      read_elements(f, x);
      text_.line("}");
    } else if (null != "true") {
      text_.line("if (" + null + ") {");
      read_nullable(f, x, least);
      text_.line("} else {");
      if (f.array) {
        text_.line("const size_t count = r.read_count(" + flexible_of(f) + ", " + least + ");");
        text_.line("auto& elements = " + x + ".emplace();");
        read_elements(f, "elements");
      } else {
        read_one(f, x + (f.kind == Kind::structure ? ".emplace()" : ""));
      }
      text_.line("}");
    } else {
      read_nullable(f, x, least);
    }
  }

  void read_nullable(const Field& f, const std::string& x, const std::string& least) {
    if (f.array) {
      text_.line("if (const auto n = r.read_nullable_count(" + flexible_of(f) + ", " + least + "); n) {");
      text_.line("const size_t count = *n;");
      text_.line("auto& elements = " + x + ".emplace();");
      read_elements(f, "elements");
      text_.line("} else {");
      text_.line(x + ".reset();");
      text_.line("}");
    } else if (f.kind == Kind::structure) {
      // A byte, -1 for null; as a tagged field 0 for null.
      text_.line(f.tag ? "if (r.read_uvarint() != 0) {" : "if (r.read_i8() >= 0) {");
      text_.line("read_fields(r, version, " + x + ".emplace());");
      text_.line("} else {");
      text_.line(x + ".reset();");
      text_.line("}");
    } else {
      text_.line(x + " = r.read_nullable_" + (f.kind == Kind::string ? "string" : "bytes") + "(" +
                 flexible_of(f) + ");");
    }
  }

  void read_tags() {
    text_.line(*m_.flexible_from > m_.versions.first ? "if (flexible) {" : "{");
    if (tagged_.empty()) {
      text_.line("r.skip_tags();");
    } else {
      text_.line("int64_t last_tag = -1;");
      text_.line("for (uint32_t tags = r.read_tag_count(); tags > 0 && r.ok(); --tags) {");
      text_.line("const Reader::Tag tag = r.begin_tag(last_tag);");
      const char* next = "";
      for (const Field* f : tagged_) {
        const std::string condition = version_condition(f->versions, m_.versions);
        text_.line(std::string(next) + "if (" + (condition.empty() ? "" : condition + " && ") +
                   "tag.tag == " + std::to_string(*f->tag) + ") {");
        read_field(*f);
        next = "} else ";
      }
      text_.line("} else {");
      text_.line("r.skip_tag();");
      text_.line("}");
      text_.line("r.end_tag(tag);");
      text_.line("}");
    }
    text_.line("}");
  }

  void write_one(const Field& f, const std::string& from) {
    if (f.kind == Kind::structure) {
      text_.line("write_fields(w, version, " + from + ");");
    } else if (const std::string fixed = fixed_suffix(f.kind); !fixed.empty()) {
      text_.line("w.write_" + fixed + "(" + from + ");");
    } else {
      text_.line("w.write_" + std::string(f.kind == Kind::string ? "string" : "bytes") + "(" + from + ", " +
                 flexible_of(f) + ");");
    }
  }

  void write_array(const Field& f, const std::string& from) {
    text_.line("w.write_count(" + from + ".size(), " + flexible_of(f) + ");");
    text_.line("for (const auto& element : " + from + ") {");
    write_one(f, "element");
    text_.line("}");
  }

  void write_null(const Field& f) {
    if (f.array) {
      text_.line("w.write_null_count(" + flexible_of(f) + ");");
    } else if (f.kind == Kind::structure) {
      text_.line(f.tag ? "w.write_uvarint(0);" : "w.write_i8(-1);");
    } else if (f.kind == Kind::string) {
      text_.line("w.write_nullable_string(std::nullopt, " + flexible_of(f) + ");");
    } else {
      text_.line("w.write_nullable_bytes(std::nullopt, " + flexible_of(f) + ");");
    }
  }

  void write_empty(const Field& f) {
    if (f.array) {
      text_.line("w.write_count(0, " + flexible_of(f) + ");");
    } else if (f.kind == Kind::structure) {
      text_.line("write_fields(w, version, " + m_.name + "::" + f.struct_name + "{});");
    } else {
      text_.line("w.write_" + std::string(f.kind == Kind::string ? "string" : "bytes") + "({}, " +
                 flexible_of(f) + ");");
    }
  }

  void write_field(const Field& f) {
    const std::string x = "x." + f.cpp_name;
    const std::string null = null_condition(f);
    if (f.kind == Kind::records) {
      text_.line("w.write_records(" + x + ", " + flexible_of(f) + ", " + null + ");");
      return;
    }
    if (null == "false") {
      if (f.array) {
        write_array(f, x);
      } else {
        write_one(f, x);
      }
      return;
    }
    text_.line("if (" + x + ") {");
    if (f.kind == Kind::structure && !f.array) {
      if (null == "true") {
        text_.line("w.write_i8(1);");
      } else {
        text_.line("if (" + null + ") w.write_i8(1);");
      }
    }
    if (f.array) {
      write_array(f, "(*" + x + ")");
    } else {
      write_one(f, "*" + x);
    }
    if (null == "true") {
      text_.line("} else {");
      write_null(f);
    } else {
      text_.line("} else if (" + null + ") {");
      write_null(f);
      text_.line("} else {");
      write_empty(f);
    }
    text_.line("}");
  }

  std::string differs_from_default(const Field& f) const {
    const std::string x = "x." + f.cpp_name;
    if (f.nullable && f.kind != Kind::records) {
      if (f.default_null) return x + ".has_value()";
      return x + " != decltype(" + x + ")(std::in_place)";
    }
    if (f.array || f.kind == Kind::string || f.kind == Kind::bytes) return "!" + x + ".empty()";
    if (f.kind == Kind::uuid) return "!" + x + ".is_zero()";
    if (f.kind == Kind::structure) return x + " != " + m_.name + "::" + f.struct_name + "{}";
    if (f.kind == Kind::boolean) return f.default_text == "true" ? "!" + x : x;
    return x + " != " + (f.default_text.empty() ? "0" : f.default_text);
  }

  void write_tags() {
    const bool always = *m_.flexible_from <= m_.versions.first;
    text_.line(always ? "{" : "if (flexible) {");
    std::string sum;
    for (const Field* f : tagged_) {
      const std::string condition = version_condition(f->versions, m_.versions);
      text_.line("const bool has_" + f->cpp_name + " = " + (condition.empty() ? "" : condition + " && ") +
                 differs_from_default(*f) + ";");
      sum += (sum.empty() ? "" : " + ") + ("(has_" + f->cpp_name + " ? 1U : 0U)");
    }
    text_.line("w.write_uvarint(" + (sum.empty() ? "0" : sum) + ");");
    for (const Field* f : tagged_) {
      text_.line("if (has_" + f->cpp_name + ") {");
      text_.line("const size_t mark = w.begin_tag(" + std::to_string(*f->tag) + ");");
      write_field(*f);
      text_.line("w.end_tag(mark);");
      text_.line("}");
    }
    text_.line("}");
  }

  Text& text_;
  const Message& m_;
  const Struct& s_;
  std::string type_;
  std::vector<const Field*> tagged_;
  bool conditional_ = false;
};

void emit_struct(Text& text, const Struct& s, const std::string& name) {
  for (const Field& f : s.fields) {
    text.line(cpp_type(f, "") + " " + f.cpp_name + initializer(f) + ";");
  }
  text.line("bool operator==(const " + name + "&) const = default;");
}

/// The structs of a message live in a namespace beside it (as members their default initializers would come
/// too late for std::optional in the same class) and are named inside it.
void emit_message(Text& text, const Message& m) {
  const std::string inner = snake_case(m.name);
  if (!m.structs.empty()) {
    text.raw("namespace " + inner + " {\n");
    for (const auto& s : m.structs) {
      text.line("struct " + s->name + " {");
      emit_struct(text, *s, s->name);
      text.line("};");
      text.line("");
    }
    text.raw("}  // namespace " + inner + "\n");
  }
  text.line("struct " + m.name + " {");
  if (m.kind == MessageKind::request || m.kind == MessageKind::response) {
    const std::string api = m.name.substr(0, m.name.size() - (m.kind == MessageKind::request ? 7 : 8));
    text.line("static constexpr ApiKey kApiKey = ApiKey::" + snake_case(api) + ";");
    if (m.kind == MessageKind::request) text.line("using Response = " + api + "Response;");
  } else if (m.key) {
    text.line("static constexpr int16_t kRecordType = " + std::to_string(*m.key) + ";");
  }
  text.line("static constexpr int16_t kMinVersion = " + std::to_string(m.versions.first) + ";");
  text.line("static constexpr int16_t kMaxVersion = " + std::to_string(m.versions.last) + ";");
  text.line("static constexpr int16_t kFlexibleFrom = " +
            (m.flexible_from ? std::to_string(*m.flexible_from) : "kNeverFlexible") + ";");
  for (const auto& s : m.structs) text.line("using " + s->name + " = " + inner + "::" + s->name + ";");
  text.line("");
  emit_struct(text, m.body, m.name);
  text.line("};");
  text.line("Status decode(Reader& r, int16_t version, " + m.name + "& x);");
  text.line("void encode(Writer& w, int16_t version, const " + m.name + "& x);");
  text.line("");
}

void emit_codec(Text& text, const Message& m) {
  text.raw("namespace {\n");
  for (const auto& s : m.structs) {
    StructCodec codec(text, m, *s);
    codec.read();
    codec.write();
  }
  StructCodec body(text, m, m.body);
  body.read();
  body.write();
  text.raw("}  // namespace\n");
  text.line("Status decode(Reader& r, int16_t version, " + m.name + "& x) {");
  text.line("x = {};");
  text.line("if (version < " + m.name + "::kMinVersion || version > " + m.name + "::kMaxVersion) {");
  text.line("return Error(ErrorCode::unsupported_version, \"" + m.name +
            " version \" + std::to_string(version));");
  text.line("}");
  text.line("read_fields(r, version, x);");
  text.line("return r.status();");
  text.line("}");
  text.line("");
  text.line("void encode(Writer& w, int16_t version, const " + m.name + "& x) {");
  text.line("ASSERT(version >= " + m.name + "::kMinVersion && version <= " + m.name + "::kMaxVersion);");
  text.line("write_fields(w, version, x);");
  text.line("}");
  text.line("");
}

std::string file_mark(const File& f) {
  return "// Generated by msgc from proto/kafka/" + f.stem.substr(f.stem.rfind("messages/", 0) == 0 ? 9 : 0) +
         ".schema. Do not edit.";
}

}  // namespace

std::string cpp_type(const Field& f, const std::string& scope, bool with_optional) {
  std::string t = scalar_type(f, scope);
  if (f.array) t = "std::vector<" + t + ">";
  if (with_optional && is_optional(f)) t = "std::optional<" + t + ">";
  return t;
}

std::string emit_header(const File& file) {
  Text text;
  text.raw(file_mark(file));
  text.raw("#pragma once\n");
  text.raw("#include \"wire/message.h\"\n");
  text.raw("namespace millrace::wire {\n");
  if (file.api) text.raw("struct " + file.api->name + "Response;\n");
  for (const Message& m : file.messages) emit_message(text, m);
  text.raw("}  // namespace millrace::wire");
  return text.take();
}

std::string emit_source(const File& file) {
  Text text;
  text.raw(file_mark(file));
  text.raw("#include \"wire/" + file.stem + ".h\"\n");
  text.raw("#include \"base/assert.h\"\n#include \"wire/reader.h\"\n#include \"wire/writer.h\"\n");
  text.raw("namespace millrace::wire {\n");
  for (const Message& m : file.messages) emit_codec(text, m);
  text.raw("}  // namespace millrace::wire");
  return text.take();
}

std::string emit_api_key(const std::vector<File>& files) {
  std::vector<const Api*> apis;
  for (const File& f : files) {
    if (f.api) apis.push_back(&*f.api);
  }
  std::sort(apis.begin(), apis.end(), [](const Api* a, const Api* b) { return a->key < b->key; });
  Text text;
  text.raw("// Generated by msgc from the api lines of proto/kafka. Do not edit.");
  text.raw("#pragma once\n\n#include <cstdint>\n\nnamespace millrace::wire {\n");
  text.line("enum class ApiKey : int16_t {");
  for (const Api* a : apis) text.line(a->cpp_name + " = " + std::to_string(a->key) + ",");
  text.line("};");
  text.raw("\n}  // namespace millrace::wire");
  return text.take();
}

std::string emit_api_table(const std::vector<File>& files) {
  std::vector<const Api*> apis;
  for (const File& f : files) {
    if (f.api) apis.push_back(&*f.api);
  }
  std::sort(apis.begin(), apis.end(), [](const Api* a, const Api* b) { return a->key < b->key; });
  Text text;
  text.raw("// Generated by msgc from the api lines of proto/kafka. Do not edit.");
  text.raw("#include \"wire/api_table.h\"\n#include \"wire/message.h\"\n\nnamespace millrace::wire {\n");
  text.line("std::span<const ApiInfo> all_apis() {");
  text.line("static constexpr ApiInfo kApis[] = {");
  for (const Api* a : apis) {
    const int served_min = a->serves ? a->serves->first : -1;
    const int served_max = a->serves ? a->serves->last : -1;
    text.line("{ApiKey::" + a->cpp_name + ", \"" + a->name + "\", " + std::to_string(a->versions.first) +
              ", " + std::to_string(a->versions.last) + ", " + std::to_string(served_min) + ", " +
              std::to_string(served_max) + ", " + std::to_string(a->advertises_from.value_or(served_min)) +
              ", " + (a->flexible_from ? std::to_string(*a->flexible_from) : "kNeverFlexible") + ", " +
              (a->latest_unstable ? "true" : "false") + "},");
  }
  text.line("};");
  text.line("return kApis;");
  text.line("}");
  text.raw("\n}  // namespace millrace::wire");
  return text.take();
}

}  // namespace millrace::msgc
