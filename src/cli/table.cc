#include "cli/table.h"

#include <algorithm>

#include "base/assert.h"
#include "cli/json.h"

namespace millrace::cli {
namespace {

constexpr size_t kGap = 2;

/// Columns on a terminal, near enough: code points.
size_t display_width(const std::string& s) {
  return static_cast<size_t>(std::count_if(
      s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string cell_text(const Cell& cell) {
  if (const auto* b = std::get_if<bool>(&cell)) return *b ? "yes" : "no";
  if (const auto* n = std::get_if<int64_t>(&cell)) return std::to_string(*n);
  if (const auto* s = std::get_if<std::string>(&cell)) return printable(*s);
  return "-";
}

}  // namespace

void Table::add(std::vector<Cell> row) {
  ASSERT(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<size_t> widths;
  std::vector<bool> right;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = display_width(columns_[c].title);
    bool number = false;
    bool other = false;
    for (const auto& row : rows_) {
      width = std::max(width, display_width(cell_text(row[c])));
      number = number || std::holds_alternative<int64_t>(row[c]);
      other = other || std::holds_alternative<std::string>(row[c]) || std::holds_alternative<bool>(row[c]);
    }
    widths.push_back(width);
    right.push_back(number && !other);
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string pad(widths[c] - display_width(cells[c]), ' ');
      if (c > 0) text.append(kGap, ' ');
      text += right[c] ? pad + cells[c] : cells[c] + pad;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  std::vector<std::string> cells;
  for (const Column& c : columns_) cells.push_back(c.title);
  line(cells);
  for (const auto& row : rows_) {
    cells.clear();
    for (const Cell& cell : row) cells.push_back(cell_text(cell));
    line(cells);
  }
  return out;
}

std::string Table::json() const {
  return render_json(json_of(*this));
}

}  // namespace millrace::cli
