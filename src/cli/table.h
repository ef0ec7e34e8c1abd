// A small table: aligned columns for people, an array of objects for programs. Numbers are right-aligned,
// nothing is wrapped or cut.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "cli/terminal.h"

namespace millrace::cli {

/// monostate is "nothing": "-" for people, null for programs.
using Cell = std::variant<std::monostate, bool, int64_t, std::string>;

struct Column {
  std::string field;  // the name programs see: stable
  std::string title;  // the heading people see
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as columns (asserted).
  void add(std::vector<Cell> row);
  size_t size() const { return rows_.size(); }

  std::string text() const;
  /// A JSON array, indented, with a line end.
  std::string json() const;
  std::string render(Output output) const { return output == Output::json ? json() : text(); }

  const std::vector<Column>& columns() const { return columns_; }
  const std::vector<std::vector<Cell>>& rows() const { return rows_; }

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace millrace::cli
