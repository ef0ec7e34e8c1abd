// How the tool talks: results on standard output, everything else on standard error.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/result.h"
#include "cli/exit_codes.h"

namespace millrace::cli {

enum class Output : uint8_t { text, json };

/// Writes to standard output, whole. Errors: io_error (closed pipe, full disk).
Status print(std::string_view text);
/// One line on standard error, after "millrace: ".
void complain(std::string_view text);
/// Says what happened and what to do next; the exit code that fits.
ExitCode fail(const Error& error);
ExitCode fail_about(std::string_view what, const Error& error);
/// What a person can do about it; empty if nothing comes to mind.
std::string advice(const Error& error);

/// Standard error is a terminal: progress may be shown there.
bool progress_wanted();
/// One line of progress that replaces the one before; no effect unless progress_wanted().
void progress(std::string_view line);
/// Whether a destructive command may go on: with `yes`, or when nobody sits at standard input.
Status confirm(bool yes, std::string_view what);

/// `text` with control characters as \xNN: what a broker says cannot move the cursor.
std::string printable(std::string_view text);
bool is_utf8(std::string_view text);
std::string base64(std::string_view bytes);
/// "2026-11-21T13:45:00.123Z"; "-" for negative times.
std::string utc_time(int64_t unix_ms);

}  // namespace millrace::cli
