#include "cli/json.h"

namespace millrace::cli {

std::string render_json(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string render_json_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json json_of(const Table& table) {
  Json out = Json::array();
  for (const auto& row : table.rows()) {
    Json object = Json::object();
    for (size_t c = 0; c < row.size(); ++c) {
      Json& field = object[table.columns()[c].field];
      if (const auto* b = std::get_if<bool>(&row[c])) {
        field = *b;
      } else if (const auto* n = std::get_if<int64_t>(&row[c])) {
        field = *n;
      } else if (const auto* s = std::get_if<std::string>(&row[c])) {
        field = *s;
      }
    }
    out.push_back(std::move(object));
  }
  return out;
}

}  // namespace millrace::cli
