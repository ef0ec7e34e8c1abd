// JSON as the tool prints it: fields in a fixed order, bytes that are no UTF-8 replaced, a line end after it.
// Include from .cc files only (the library's header is heavy).
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cli/table.h"

namespace millrace::cli {

using Json = nlohmann::ordered_json;

/// Indented.
std::string render_json(const Json& json);
/// On one line.
std::string render_json_line(const Json& json);
Json json_of(const Table& table);

}  // namespace millrace::cli
