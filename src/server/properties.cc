#include "server/properties.h"

#include <fmt/format.h>

#include <optional>

namespace millrace::server {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\f';
}

std::string_view without_leading_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  return text;
}

/// Takes one line off `text`, without its end (\n, \r\n or \r).
std::string_view take_line(std::string_view& text) {
  const size_t end = text.find_first_of("\r\n");
  const std::string_view line = text.substr(0, end);
  if (end == std::string_view::npos) {
    text = {};
  } else {
    const bool two = text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n';
    text.remove_prefix(end + (two ? 2 : 1));
  }
  return line;
}

bool continues(std::string_view line) {
  size_t backslashes = 0;
  while (backslashes < line.size() && line[line.size() - 1 - backslashes] == '\\') ++backslashes;
  return backslashes % 2 == 1;
}

std::optional<uint32_t> four_hex_digits(std::string_view text) {
  if (text.size() < 4) return std::nullopt;
  uint32_t unit = 0;
  for (const char c : text.substr(0, 4)) {
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint32_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint32_t>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<uint32_t>(c - 'A') + 10;
    } else {
      return std::nullopt;
    }
    unit = unit * 16 + digit;
  }
  return unit;
}

void append_utf8(std::string& out, uint32_t c) {
  const auto byte = [&out](uint32_t b) { out.push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xC0 | c >> 6);
    byte(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    byte(0xE0 | c >> 12);
    byte(0x80 | (c >> 6 & 0x3F));
    byte(0x80 | (c & 0x3F));
  } else {
    byte(0xF0 | c >> 18);
    byte(0x80 | (c >> 12 & 0x3F));
    byte(0x80 | (c >> 6 & 0x3F));
    byte(0x80 | (c & 0x3F));
  }
}

/// Decodes the \uXXXX whose digits start at `text[at]` (a pair of them for a character beyond the basic
/// plane) and moves `at` behind it. False: malformed.
bool decode_unicode(std::string_view text, size_t& at, std::string& out) {
  const std::optional<uint32_t> high = four_hex_digits(text.substr(at));
  if (!high) return false;
  at += 4;
  if (*high < 0xD800 || *high > 0xDFFF) {
    append_utf8(out, *high);
    return true;
  }
  if (*high > 0xDBFF || text.substr(at, 2) != "\\u") return false;
  const std::optional<uint32_t> low = four_hex_digits(text.substr(at + 2));
  if (!low || *low < 0xDC00 || *low > 0xDFFF) return false;
  at += 6;
  append_utf8(out, 0x10000 + ((*high - 0xD800) << 10) + (*low - 0xDC00));
  return true;
}

/// `text` with its escapes resolved; nullopt: a malformed \u.
std::optional<std::string> unescaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '\\') {
      out.push_back(text[i++]);
      continue;
    }
    if (++i == text.size()) break;  // a lone backslash at the end of the text
    const char c = text[i++];
    if (c == 'u') {
      if (!decode_unicode(text, i, out)) return std::nullopt;
      continue;
    }
    out.push_back(c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'f' ? '\f' : c);
  }
  return out;
}

/// Length of the key at the start of a logical line, escapes included.
size_t key_length(std::string_view line) {
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else if (line[i] == '=' || line[i] == ':' || is_blank(line[i])) {
      return i;
    }
  }
  return line.size();
}

Result<Property> parse_logical_line(std::string_view line, uint32_t number) {
  const size_t length = key_length(line);
  std::string_view rest = without_leading_blanks(line.substr(length));
  if (!rest.empty() && (rest.front() == '=' || rest.front() == ':')) {
    rest = without_leading_blanks(rest.substr(1));
  }
  std::optional<std::string> key = unescaped(line.substr(0, length));
  std::optional<std::string> value = unescaped(rest);
  if (!key || !value) {
    return Error(ErrorCode::parse_error, fmt::format("line {}: \\u needs four hexadecimal digits", number));
  }
  if (key->empty())
    return Error(ErrorCode::parse_error, fmt::format("line {}: no key before the '='", number));
  return Property{std::move(*key), std::move(*value), number};
}

}  // namespace

Result<std::vector<Property>> parse_properties(std::string_view text) {
  if (text.size() > kPropertiesBytesMax) {
    return Error(ErrorCode::limit_exceeded, fmt::format("{} bytes of properties, at most {} are read",
                                                        text.size(), kPropertiesBytesMax));
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<Property> properties;
  uint32_t number = 0;
  while (!text.empty()) {
    std::string_view line = without_leading_blanks(take_line(text));
    const uint32_t first = ++number;
    if (line.empty() || line.front() == '#' || line.front() == '!') continue;
    std::string logical;
    while (continues(line)) {
      logical.append(line.substr(0, line.size() - 1));
      line = {};
      if (text.empty()) break;
      line = without_leading_blanks(take_line(text));
      ++number;
    }
    logical.append(line);
    if (logical.empty()) continue;
    if (logical.find('\0') != std::string::npos) {
      return Error(ErrorCode::parse_error, fmt::format("line {}: a NUL byte", first));
    }
    if (properties.size() == kPropertiesCountMax) {
      return Error(ErrorCode::limit_exceeded, fmt::format("more than {} properties", kPropertiesCountMax));
    }
    TRY_ASSIGN(Property property, parse_logical_line(logical, first));
    properties.push_back(std::move(property));
  }
  return properties;
}

}  // namespace millrace::server
