// The schema text -> the model.
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <sstream>

#include "wire/msgc_schema.h"

namespace millrace::msgc {

void die(const std::string& path, int line, const std::string& what) {
  std::cerr << path;
  if (line > 0) std::cerr << ':' << line;
  std::cerr << ": " << what << std::endl;
  std::exit(1);
}

std::string snake_case(const std::string& name) {
  const auto upper = [&](size_t i) {
    return i < name.size() && std::isupper(static_cast<unsigned char>(name[i]));
  };
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    const bool next_lower = i + 1 < name.size() && !upper(i + 1);
    if (upper(i) && i > 0 && (!upper(i - 1) || next_lower)) out += '_';
    out += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
  }
  return out;
}

namespace {

const std::map<std::string, Kind> kKinds = {
    {"bool", Kind::boolean},  {"int8", Kind::int8},       {"int16", Kind::int16},
    {"uint16", Kind::uint16}, {"int32", Kind::int32},     {"uint32", Kind::uint32},
    {"int64", Kind::int64},   {"float64", Kind::float64}, {"string", Kind::string},
    {"bytes", Kind::bytes},   {"records", Kind::records}, {"uuid", Kind::uuid}};

// C++ words that a field name could hit after snake_case.
const std::set<std::string> kReserved = {"default", "namespace", "class",   "struct",   "delete",
                                         "new",     "public",    "private", "template", "this",
                                         "union",   "export",    "operator"};

struct Line {
  int number = 0;
  int depth = 0;
  std::vector<std::string> words;
};

bool is_name(const std::string& s) {
  if (s.empty() || !std::isupper(static_cast<unsigned char>(s[0]))) return false;
  for (const char c : s) {
    if (!std::isalnum(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

bool is_number(const std::string& s) {
  if (s.empty() || s.size() > 5) return false;
  for (const char c : s) {
    if (!std::isdigit(static_cast<unsigned char>(c))) return false;
  }
  return true;
}

class Parser {
 public:
  explicit Parser(const std::string& path) { file_.path = path; }

  File parse() {
    read_lines();
    while (at_ < lines_.size()) {
      const Line& line = lines_[at_];
      if (line.depth != 0) fail(line, "unexpected indentation");
      const std::string& word = line.words[0];
      if (word == "api") {
        parse_api(line);
      } else if (word == "request" || word == "response") {
        parse_half(line, word == "request");
      } else if (word == "record" || word == "header") {
        parse_record(line, word == "header");
      } else {
        fail(line, "expected api, request, response, record or header, found '" + word + "'");
      }
    }
    if (file_.messages.empty()) die(file_.path, 0, "no message");
    if (file_.api && file_.messages.size() != 2) die(file_.path, 0, "an api needs a request and a response");
    return std::move(file_);
  }

 private:
  [[noreturn]] void fail(const Line& line, const std::string& what) { die(file_.path, line.number, what); }

  void read_lines() {
    std::ifstream in(file_.path);
    if (!in) die(file_.path, 0, "cannot be read");
    std::string text;
    for (int number = 1; std::getline(in, text); ++number) {
      const size_t hash = text.find('#');
      if (hash != std::string::npos) text.resize(hash);
      Line line;
      line.number = number;
      size_t spaces = 0;
      while (spaces < text.size() && text[spaces] == ' ') ++spaces;
      std::istringstream words(text);
      for (std::string w; words >> w;) line.words.push_back(w);
      if (line.words.empty()) continue;
      if (spaces % 2 != 0 || text.find('\t') != std::string::npos) fail(line, "indent by two spaces a level");
      line.depth = static_cast<int>(spaces / 2);
      lines_.push_back(std::move(line));
    }
  }

  int parse_number(const Line& line, const std::string& s) {
    if (!is_number(s)) fail(line, "expected a number, found '" + s + "'");
    const int n = std::stoi(s);
    if (n > Range::kOpen) fail(line, "number too large: " + s);
    return n;
  }

  Range parse_range(const Line& line, const std::string& s) {
    Range r;
    const size_t dash = s.find('-');
    if (s.size() > 1 && s.back() == '+') {
      r.first = parse_number(line, s.substr(0, s.size() - 1));
    } else if (dash != std::string::npos) {
      r.first = parse_number(line, s.substr(0, dash));
      r.last = parse_number(line, s.substr(dash + 1));
    } else {
      r.first = r.last = parse_number(line, s);
    }
    if (r.first > r.last) fail(line, "empty range " + s);
    return r;
  }

  const std::string& word(const Line& line, size_t i, const char* what) {
    if (i >= line.words.size()) fail(line, std::string("expected ") + what + " at the end of the line");
    return line.words[i];
  }

  int parse_flexible(const Line& line, const std::string& s) {
    const Range r = parse_range(line, s);
    if (r.last != Range::kOpen) fail(line, "flexible needs an open range, e.g. 3+");
    return r.first;
  }

  void parse_api(const Line& line) {
    if (file_.api) fail(line, "one api a file");
    Api api;
    api.key = parse_number(line, word(line, 1, "the api key"));
    api.name = word(line, 2, "the api's name");
    if (!is_name(api.name)) fail(line, "not a name: " + api.name);
    api.cpp_name = snake_case(api.name);
    bool versions = false, serves = false;
    for (size_t i = 3; i < line.words.size(); ++i) {
      const std::string& w = line.words[i];
      if (w == "versions") {
        api.versions = parse_range(line, word(line, ++i, "a range"));
        versions = true;
      } else if (w == "flexible") {
        api.flexible_from = parse_flexible(line, word(line, ++i, "a range"));
      } else if (w == "serves") {
        serves = true;
        const std::string& s = word(line, ++i, "a range or none");
        if (s != "none") api.serves = parse_range(line, s);
      } else if (w == "advertises-from") {
        api.advertises_from = parse_number(line, word(line, ++i, "a version"));
      } else if (w == "latest-unstable") {
        api.latest_unstable = true;
      } else {
        fail(line, "unknown word '" + w + "'");
      }
    }
    if (!versions || api.versions.last == Range::kOpen) fail(line, "versions A-B is missing");
    if (!serves) fail(line, "serves A-B or serves none is missing");
    if (api.serves && !api.versions.covers(*api.serves)) fail(line, "serves versions that do not exist");
    if (api.advertises_from && (!api.serves || *api.advertises_from > api.serves->first)) {
      fail(line, "advertises-from must lie below what is served");
    }
    file_.api = api;
    ++at_;
  }

  void parse_half(const Line& line, bool request) {
    if (!file_.api) fail(line, "an api line must come first");
    if (line.words.size() != 1) fail(line, "nothing may follow '" + line.words[0] + "'");
    if (file_.messages.size() != (request ? 0U : 1U)) fail(line, "one request, then one response");
    Message m;
    m.kind = request ? MessageKind::request : MessageKind::response;
    m.name = file_.api->name + (request ? "Request" : "Response");
    m.key = file_.api->key;
    m.versions = file_.api->versions;
    m.flexible_from = file_.api->flexible_from;
    parse_message(std::move(m), line);
  }

  void parse_record(const Line& line, bool header) {
    if (file_.api) fail(line, "records and headers have files of their own");
    Message m;
    m.kind = header ? MessageKind::header : MessageKind::record;
    m.name = word(line, 1, "a name");
    if (!is_name(m.name)) fail(line, "not a name: " + m.name);
    bool versions = false;
    for (size_t i = 2; i < line.words.size(); ++i) {
      const std::string& w = line.words[i];
      if (w == "versions") {
        m.versions = parse_range(line, word(line, ++i, "a range"));
        versions = true;
      } else if (w == "flexible") {
        m.flexible_from = parse_flexible(line, word(line, ++i, "a range"));
      } else if (w == "key" && !header) {
        m.key = parse_number(line, word(line, ++i, "a record type"));
      } else {
        fail(line, "unknown word '" + w + "'");
      }
    }
    if (!versions || m.versions.last == Range::kOpen) fail(line, "versions A-B is missing");
    parse_message(std::move(m), line);
  }

  void parse_message(Message m, const Line& line) {
    message_ = &m;
    found_.clear();
    m.body.name = m.name;
    m.body.line = line.number;
    ++at_;
    parse_fields(m.body, 1, m.versions);
    resolve(m.body);
    std::set<std::string> done;
    std::vector<std::string> path;
    order(m.body, done, path);
    for (auto& [name, s] : found_) {
      if (s) die(file_.path, s->line, "struct " + name + " is not used");
    }
    file_.messages.push_back(std::move(m));
  }

  /// Fields at `depth`, until a line less deep.
  void parse_fields(Struct& s, int depth, const Range& within) {
    std::set<std::string> names;
    std::set<uint32_t> tags;
    while (at_ < lines_.size() && lines_[at_].depth >= depth) {
      const Line& line = lines_[at_];
      if (line.depth > depth) fail(line, "indented too far: only a field of a struct type has fields");
      if (line.words[0] == "struct") {
        if (depth != 1) fail(line, "shared structs stand below the message's own fields");
        if (line.words.size() != 2 || !is_name(line.words[1])) fail(line, "expected: struct NAME");
        Struct& shared = add_struct(line, line.words[1]);
        ++at_;
        parse_fields(shared, depth + 1, within);
        continue;
      }
      Field f = parse_field(line, within);
      if (!names.insert(f.cpp_name).second) fail(line, "field " + f.name + " is there twice");
      if (f.tag && !tags.insert(*f.tag).second)
        fail(line, "tag " + std::to_string(*f.tag) + " is there twice");
      ++at_;
      if (at_ < lines_.size() && lines_[at_].depth == depth + 1) {
        if (f.kind != Kind::structure) fail(lines_[at_], "only a field of a struct type has fields");
        parse_fields(add_struct(line, f.struct_name), depth + 1, f.versions);
      }
      s.fields.push_back(std::move(f));
    }
    if (s.fields.empty() && s.name != message_->name)
      die(file_.path, s.line, "struct " + s.name + " has no fields");
  }

  Struct& add_struct(const Line& line, const std::string& name) {
    auto& slot = found_[name];
    if (slot || name == message_->name) fail(line, "struct " + name + " is there twice");
    slot = std::make_unique<Struct>();
    slot->name = name;
    slot->line = line.number;
    return *slot;
  }

  Field parse_field(const Line& line, const Range& within) {
    Field f;
    f.line = line.number;
    f.name = line.words[0];
    if (!is_name(f.name)) fail(line, "not a field name (UpperCamelCase): " + f.name);
    f.cpp_name = snake_case(f.name);
    if (kReserved.count(f.cpp_name) != 0) f.cpp_name += '_';
    std::string type = word(line, 1, "a type");
    bool nullable = false;
    if (type.back() == '?') {
      nullable = true;
      type.pop_back();
    }
    if (type.rfind("[]", 0) == 0) {
      f.array = true;
      type.erase(0, 2);
    }
    const auto kind = kKinds.find(type);
    if (kind != kKinds.end()) {
      f.kind = kind->second;
    } else if (is_name(type)) {
      f.kind = Kind::structure;
      f.struct_name = type;
    } else {
      fail(line, "unknown type '" + type + "'");
    }
    f.versions = within;
    size_t i = 2;
    if (i < line.words.size() && std::isdigit(static_cast<unsigned char>(line.words[i][0]))) {
      f.versions = parse_range(line, line.words[i++]);
      if (f.versions.last == Range::kOpen) f.versions.last = within.last;
      if (!within.covers(f.versions)) fail(line, "versions outside those of what holds the field");
    }
    if (nullable) f.nullable = f.versions;
    for (; i < line.words.size(); ++i) {
      const std::string& w = line.words[i];
      if (w == "nullable") {
        f.nullable = parse_range(line, word(line, ++i, "a range"));
        if (f.nullable->last == Range::kOpen) f.nullable->last = f.versions.last;
        if (!f.versions.covers(*f.nullable)) fail(line, "nullable in versions that lack the field");
      } else if (w == "tag") {
        f.tag = static_cast<uint32_t>(parse_number(line, word(line, ++i, "a tag")));
      } else if (w == "inflexible") {
        f.inflexible = true;
      } else if (w == "private") {
        f.is_private = true;
      } else if (w == "=") {
        parse_default(line, f, word(line, ++i, "a default"));
      } else {
        fail(line, "unknown word '" + w + "'");
      }
    }
    check_field(line, f);
    return f;
  }

  void parse_default(const Line& line, Field& f, const std::string& text) {
    if (text == "null") {
      f.default_null = true;
      return;
    }
    if (f.array) fail(line, "an array's default is empty or null");
    switch (f.kind) {
      case Kind::boolean:
        if (text != "true" && text != "false") fail(line, "default of a bool: true or false");
        break;
      case Kind::int8:
        check_default(line, text, INT8_MIN, INT8_MAX);
        break;
      case Kind::int16:
        check_default(line, text, INT16_MIN, INT16_MAX);
        break;
      case Kind::uint16:
        check_default(line, text, 0, UINT16_MAX);
        break;
      case Kind::int32:
        check_default(line, text, INT32_MIN, INT32_MAX);
        break;
      case Kind::uint32:
        check_default(line, text, 0, UINT32_MAX);
        break;
      case Kind::int64:
        check_default(line, text, INT64_MIN, INT64_MAX);
        break;
      default:
        fail(line, "this type has no default but null");
    }
    f.default_text = text;
  }

  void check_default(const Line& line, const std::string& text, int64_t low, int64_t high) {
    errno = 0;
    char* end = nullptr;
    const int64_t v = std::strtoll(text.c_str(), &end, 10);
    if (errno != 0 || *end != '\0' || v < low || v > high)
      fail(line, "default '" + text + "' does not fit the type");
  }

  void check_field(const Line& line, const Field& f) {
    if (f.default_null && !f.nullable) fail(line, "default null, but null is not allowed");
    const bool can_be_null = f.array || f.kind == Kind::string || f.kind == Kind::bytes ||
                             f.kind == Kind::records || f.kind == Kind::structure;
    if (f.nullable && !can_be_null) fail(line, "this type cannot be null");
    if (f.array && (f.kind == Kind::boolean || f.kind == Kind::records)) fail(line, "no arrays of this type");
    if (f.tag && !message_->flexible(f.versions.first)) fail(line, "a tagged field needs flexible versions");
    if (f.tag && f.kind == Kind::records) fail(line, "records cannot be a tagged field");
    if (f.is_private && !f.tag) fail(line, "a private field must be tagged, so that others skip it");
  }

  void resolve(Struct& s) {
    for (Field& f : s.fields) {
      if (f.kind != Kind::structure) continue;
      const auto it = found_.find(f.struct_name);
      if (it == found_.end() || !it->second) die(file_.path, f.line, "no struct " + f.struct_name);
      const bool first_visit = f.structure == nullptr;
      f.structure = it->second.get();
      if (first_visit) resolve(*it->second);
    }
  }

  /// Moves the structs that `s` uses into the message, inner ones first.
  void order(const Struct& s, std::set<std::string>& done, std::vector<std::string>& path) {
    for (const std::string& above : path) {
      if (above == s.name) die(file_.path, s.line, "struct " + s.name + " contains itself");
    }
    path.push_back(s.name);
    for (const Field& f : s.fields) {
      if (f.structure == nullptr || done.count(f.struct_name) != 0) continue;
      order(*f.structure, done, path);
      if (!done.insert(f.struct_name).second) continue;
      message_->structs.push_back(std::move(found_[f.struct_name]));
    }
    path.pop_back();
  }

  File file_;
  std::vector<Line> lines_;
  size_t at_ = 0;
  Message* message_ = nullptr;
  std::map<std::string, std::unique_ptr<Struct>> found_;
};

}  // namespace

File parse_file(const std::string& path) {
  return Parser(path).parse();
}

}  // namespace millrace::msgc
