#include "cli/terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace millrace::cli {

Status print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Error(ErrorCode::io_error, std::string("standard output: ") + std::strerror(errno));
    }
    text.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

void complain(std::string_view text) {
  fmt::print(stderr, "millrace: {}\n", text);
}

std::string advice(const Error& error) {
  switch (error.code) {
    case ErrorCode::closed:
    case ErrorCode::timed_out:
      return "is a broker running there? -b/--bootstrap-server or MILLRACE_BOOTSTRAP names another one";
    case ErrorCode::unknown_topic_or_partition:
    case ErrorCode::unknown_topic_id:
      return "\"millrace topic list\" shows what there is, \"millrace topic create\" makes a topic";
    case ErrorCode::group_id_not_found:
      return "\"millrace group list\" shows the groups";
    case ErrorCode::topic_already_exists:
      return "choose another name, or say --if-not-exists";
    case ErrorCode::non_empty_group:
    case ErrorCode::unknown_member_id:
    case ErrorCode::rebalance_in_progress:
      return "the group has members: stop them first (\"millrace group describe\" names them)";
    case ErrorCode::invalid_replication_factor:
      return "\"millrace cluster info\" shows how many brokers there are";
    case ErrorCode::invalid_config:
      return "\"millrace config get --all\" shows the keys and their values";
    case ErrorCode::message_too_large:
      return "raise the topic's max.message.bytes, or send smaller records";
    case ErrorCode::topic_authorization_failed:
    case ErrorCode::group_authorization_failed:
    case ErrorCode::cluster_authorization_failed:
      return "the broker's ACLs do not allow it";
    case ErrorCode::offset_out_of_range:
      return "\"millrace topic describe\" shows the offsets there are";
    case ErrorCode::not_enough_replicas:
    case ErrorCode::not_enough_replicas_after_append:
      return "too few replicas are in sync: \"millrace topic describe\" shows them";
    default:
      return {};
  }
}

ExitCode fail(const Error& error) {
  if (error.code == ErrorCode::cancelled) return ExitCode::interrupted;
  std::string text = printable(error.message);
  if (text.empty()) text = error_name(error.code);
  // A code that a broker sent is named, so that it can be looked up.
  const int number = static_cast<int>(error.code);
  if (number < 1000 && text.find(error_name(error.code)) == std::string::npos) {
    text += fmt::format(" ({})", error_name(error.code));
  }
  complain(text);
  if (const std::string next = advice(error); !next.empty()) fmt::print(stderr, "  {}\n", next);
  return exit_code_of(error);
}

ExitCode fail_about(std::string_view what, const Error& error) {
  const std::string why = error.message.empty() ? std::string(error_name(error.code)) : error.message;
  return fail(Error(error.code, fmt::format("{}: {}", what, why)));
}

bool progress_wanted() {
  return ::isatty(STDERR_FILENO) == 1;
}

void progress(std::string_view line) {
  if (progress_wanted()) fmt::print(stderr, "\r\x1b[K{}", line);
}

Status confirm(bool yes, std::string_view what) {
  if (yes || ::isatty(STDIN_FILENO) != 1) return {};
  return Error(ErrorCode::invalid_argument,
               fmt::format("{}: this cannot be undone; say --yes to go on", what));
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) {
      out += fmt::format("\\x{:02x}", u);
    } else {
      out += c;
    }
  }
  return out;
}

bool is_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    size_t more = 0;
    uint32_t code = lead;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    if ((lead & 0xe0) == 0xc0) {
      more = 1;
      code = lead & 0x1fu;
    } else if ((lead & 0xf0) == 0xe0) {
      more = 2;
      code = lead & 0x0fu;
    } else if ((lead & 0xf8) == 0xf0) {
      more = 3;
      code = lead & 0x07u;
    } else {
      return false;
    }
    if (text.size() - i <= more) return false;
    for (size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    // Overlong forms, surrogates and what lies past the last plane are no UTF-8 (RFC 3629).
    const bool overlong =
        (more == 1 && code < 0x80) || (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
    if (overlong || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return false;
    i += more + 1;
  }
  return true;
}

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      out += k <= n ? kAlphabet[group >> (18 - 6 * k) & 63u] : '=';
    }
  }
  return out;
}

std::string utc_time(int64_t unix_ms) {
  if (unix_ms < 0) return "-";
  const std::time_t seconds = unix_ms / 1000;
  std::tm t{};
  if (::gmtime_r(&seconds, &t) == nullptr || t.tm_year > 8099) return std::to_string(unix_ms);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
                     t.tm_hour, t.tm_min, t.tm_sec, unix_ms % 1000);
}

}  // namespace millrace::cli
