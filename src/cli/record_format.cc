#include "cli/record_format.h"

#include <charconv>

#include "cli/json.h"
#include "cli/terminal.h"

namespace millrace::cli {
namespace {

constexpr std::string_view kLetters = "tpokshTKS";

Error format_error(size_t position, const std::string& what) {
  return Error(ErrorCode::invalid_argument,
               "format string, character " + std::to_string(position + 1) + ": " + what);
}

void append_bytes(std::string& out, const std::optional<Bytes>& bytes) {
  if (bytes) out += as_text(*bytes);
}

int64_t length_of(const std::optional<Bytes>& bytes) {
  return bytes ? static_cast<int64_t>(bytes->size()) : -1;
}

void put_bytes(Json& object, const std::string& field, const std::optional<Bytes>& bytes) {
  if (!bytes) {
    object[field] = nullptr;
  } else if (is_utf8(as_text(*bytes))) {
    object[field] = std::string(as_text(*bytes));
  } else {
    object[field] = base64(as_text(*bytes));
    object[field + "_encoding"] = "base64";
  }
}

}  // namespace

Result<RecordFormat> RecordFormat::parse(std::string_view text) {
  RecordFormat format;
  std::string literal;
  const auto end_literal = [&] {
    if (!literal.empty()) format.pieces_.push_back({0, std::move(literal)});
    literal.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '%' && c != '\\') {
      literal += c;
      continue;
    }
    if (i + 1 == text.size()) return format_error(i, std::string("nothing follows ") + c);
    const char next = text[++i];
    if (c == '%') {
      if (next == '%') {
        literal += '%';
      } else if (kLetters.find(next) != std::string_view::npos) {
        end_literal();
        format.pieces_.push_back({next, {}});
      } else {
        return format_error(i - 1,
                            std::string("%") + next + " is unknown; there are %t %p %o %k %s %h %T %K %S %%");
      }
      continue;
    }
    switch (next) {
      case 'n':
        literal += '\n';
        break;
      case 't':
        literal += '\t';
        break;
      case 'r':
        literal += '\r';
        break;
      case '0':
        literal += '\0';
        break;
      case '\\':
        literal += '\\';
        break;
      case 'x': {
        unsigned code = 0;
        const std::string_view digits = text.substr(i + 1, 2);
        const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
        if (digits.size() != 2 || parsed.ec != std::errc() || parsed.ptr != digits.data() + 2) {
          return format_error(i - 1, "\\x needs two hexadecimal digits");
        }
        literal += static_cast<char>(code);
        i += 2;
        break;
      }
      default:
        return format_error(i - 1,
                            std::string("\\") + next + " is unknown; there are \\n \\t \\r \\0 \\\\ \\xNN");
    }
  }
  end_literal();
  return format;
}

void RecordFormat::append(std::string& out, const client::ConsumedRecord& record) const {
  for (const Piece& piece : pieces_) {
    switch (piece.letter) {
      case 0:
        out += piece.text;
        break;
      case 't':
        out += record.topic;
        break;
      case 'p':
        out += std::to_string(record.partition);
        break;
      case 'o':
        out += std::to_string(record.offset);
        break;
      case 'k':
        append_bytes(out, record.key);
        break;
      case 's':
        append_bytes(out, record.value);
        break;
      case 'T':
        out += std::to_string(record.timestamp_ms);
        break;
      case 'K':
        out += std::to_string(length_of(record.key));
        break;
      case 'S':
        out += std::to_string(length_of(record.value));
        break;
      case 'h':
        for (size_t i = 0; i < record.headers.size(); ++i) {
          if (i > 0) out += ',';
          out += record.headers[i].first + "=";
          append_bytes(out, record.headers[i].second);
        }
        break;
      default:
        ASSERT(false);
    }
  }
}

std::string record_json(const client::ConsumedRecord& record) {
  Json object = Json::object();
  object["topic"] = record.topic;
  object["partition"] = record.partition;
  object["offset"] = record.offset;
  object["timestamp_ms"] = record.timestamp_ms;
  object["timestamp_type"] =
      record.timestamp_type == record::TimestampType::log_append_time ? "log_append_time" : "create_time";
  put_bytes(object, "key", record.key);
  put_bytes(object, "value", record.value);
  Json headers = Json::array();
  for (const auto& [key, value] : record.headers) {
    Json header = Json::object();
    header["key"] = key;
    put_bytes(header, "value", value);
    headers.push_back(std::move(header));
  }
  object["headers"] = std::move(headers);
  return render_json_line(object);
}

}  // namespace millrace::cli
