// Records as text: the format strings of `consume -f`, and JSON.
//
//   %t topic  %p partition  %o offset  %k key  %s value  %h headers (k=v,k=v)  %T timestamp in ms
//   %K key length  %S value length (-1: null)  %% a percent sign      \n \t \r \\ \0 \xNN
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "client/consumer.h"

namespace millrace::cli {

class RecordFormat {
 public:
  /// Errors: invalid_argument (an unknown letter, at its position).
  static Result<RecordFormat> parse(std::string_view text);
  /// Appends the record to `out`. A null key or value is empty.
  void append(std::string& out, const client::ConsumedRecord& record) const;

 private:
  struct Piece {
    char letter = 0;  // 0: literal text
    std::string text;
  };
  std::vector<Piece> pieces_;
};

/// One JSON object on a line. Keys and values that are no UTF-8 are base64, and "key_encoding" or
/// "value_encoding" says so.
std::string record_json(const client::ConsumedRecord& record);

}  // namespace millrace::cli
