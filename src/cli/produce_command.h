// `millrace produce`: lines or a file become records.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/context.h"
#include "client/producer.h"

namespace millrace::cli {

struct Produce {
  std::string topic;
  std::string key_separator;  // a line is key, separator, value; empty: all value
  bool has_key = false;
  std::string key;                   // of every record
  std::vector<std::string> headers;  // key=value
  std::string file;                  // instead of standard input
  bool lines = false;                // the file's lines; else the file is one record
  bool tombstone = false;            // null values; lines are keys
  std::string compression = "none";
  std::string acks = "all";
  int32_t partition = -1;
  bool idempotent = false;
  int64_t timestamp_ms = -1;
};

ExitCode run(const Produce& options, const Context& context);

/// The record that one line (without its end) stands for. Errors: invalid_argument (no separator in it).
Result<client::ProducerRecord> record_of_line(const Produce& options, std::string_view line);

}  // namespace millrace::cli
