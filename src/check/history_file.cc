#include "check/history_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace millrace::check {
namespace {

using Json = nlohmann::json;

constexpr int64_t kVersion = 1;
constexpr Kind kKinds[] = {Kind::send,      Kind::poll,       Kind::commit,    Kind::fetch_commit,
                           Kind::txn_begin, Kind::txn_commit, Kind::txn_abort, Kind::list_end,
                           Kind::assign,    Kind::revoke,     Kind::state};
constexpr Outcome kOutcomes[] = {Outcome::ok, Outcome::fail, Outcome::info};

template <class E, size_t N>
std::optional<E> from_word(const E (&all)[N], std::string_view text) {
  for (const E e : all) {
    if (word(e) == text) return e;
  }
  return std::nullopt;
}

Error bad(std::string what) {
  return {ErrorCode::parse_error, std::move(what)};
}

Result<std::string_view> text_of(const Json& object, const char* field, bool needed) {
  const auto at = object.find(field);
  if (at == object.end() || at->is_null()) {
    if (needed) return bad(std::string("no \"") + field + "\"");
    return std::string_view();
  }
  const auto* text = at->get_ptr<const std::string*>();
  if (text == nullptr) return bad(std::string("\"") + field + "\" is no text");
  return std::string_view(*text);
}
Result<int64_t> whole(const Json& value, const char* what) {
  if (!value.is_number_integer()) return bad(std::string(what) + " is no whole number");
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return bad(std::string(what) + " is too large");
  }
  return value.get<int64_t>();
}
Result<int64_t> number_of(const Json& object, const char* field, int64_t otherwise) {
  const auto at = object.find(field);
  if (at == object.end() || at->is_null()) return otherwise;
  return whole(*at, field);
}
Result<bool> flag_of(const Json& object, const char* field) {
  const auto at = object.find(field);
  if (at == object.end() || at->is_null()) return false;
  if (!at->is_boolean()) return bad(std::string("\"") + field + "\" is neither true nor false");
  return at->get<bool>();
}

Result<Item> item_of(const Json& j, History& history) {
  if (!j.is_array() || j.empty() || j.size() > 6 || !j[0].is_string()) {
    return bad("an item is [partition, offset, value, epoch, key, tombstone]");
  }
  Item item;
  item.partition = history.partitions.number(j[0].get_ref<const std::string&>());
  const auto given = [&j](size_t i) { return i < j.size() && !j[i].is_null(); };
  if (given(1)) {
    TRY_ASSIGN(item.offset, whole(j[1], "an offset"));
    if (item.offset < -1) return bad("a negative offset");
  }
  if (given(2)) {
    TRY_ASSIGN(item.value, whole(j[2], "a value"));
  }
  if (given(3)) {
    TRY_ASSIGN(const int64_t epoch, whole(j[3], "an epoch"));
    if (epoch < -1 || epoch > INT32_MAX) return bad("an epoch out of range");
    item.epoch = static_cast<int32_t>(epoch);
  }
  if (given(4)) {
    if (!j[4].is_string()) return bad("a key is no text");
    item.key = static_cast<int32_t>(history.keys.number(j[4].get_ref<const std::string&>()));
  }
  if (given(5)) {
    if (!j[5].is_boolean()) return bad("tombstone is neither true nor false");
    item.tombstone = j[5].get<bool>();
  }
  return item;
}

Status operation_of(const Json& j, History& history) {
  Operation o;
  TRY_ASSIGN(const std::string_view kind, text_of(j, "op", true));
  TRY_ASSIGN(const std::string_view outcome, text_of(j, "result", true));
  TRY_ASSIGN(const std::string_view client, text_of(j, "client", true));
  TRY_ASSIGN(const std::string_view group, text_of(j, "group", false));
  const auto k = from_word(kKinds, kind);
  if (!k) return bad("unknown op");
  const auto r = from_word(kOutcomes, outcome);
  if (!r) return bad("result is ok, fail or info");
  o.kind = *k;
  o.outcome = *r;
  o.client = history.clients.number(client);
  if (!group.empty()) o.group = static_cast<int32_t>(history.groups.number(group));
  if (!j.contains("from")) return bad("no \"from\"");
  TRY_ASSIGN(o.invoked, number_of(j, "from", 0));
  TRY_ASSIGN(o.returned, number_of(j, "to", INT64_MAX));
  if (o.returned < o.invoked) return bad("returned before it was invoked");
  if (o.outcome == Outcome::ok && o.returned == INT64_MAX) return bad("ok, but never returned");
  TRY_ASSIGN(o.txn, number_of(j, "txn", kUnknown));
  TRY_ASSIGN(o.generation, number_of(j, "generation", kUnknown));
  TRY_ASSIGN(o.idempotent, flag_of(j, "idempotent"));
  TRY_ASSIGN(o.position_reset, flag_of(j, "reset"));
  TRY_ASSIGN(const bool committed, flag_of(j, "committed"));
  o.isolation = committed ? Isolation::read_committed : Isolation::read_uncommitted;
  std::vector<Item> items;
  if (const auto at = j.find("items"); at != j.end() && !at->is_null()) {
    if (!at->is_array()) return bad("\"items\" is no list");
    if (history.items.size() + at->size() > kHistoryItemsMax) return ErrorCode::limit_exceeded;
    items.reserve(at->size());
    for (const Json& i : *at) {
      TRY_ASSIGN(const Item item, item_of(i, history));
      items.push_back(item);
    }
  }
  history.add(o, items);
  return {};
}

}  // namespace

Status HistoryReader::feed(std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view piece = text.substr(0, end);
    if (rest_.size() + piece.size() > kHistoryLineBytesMax) {
      return Error(ErrorCode::limit_exceeded, "line " + std::to_string(lines_ + 1) + " is too long");
    }
    if (end == std::string_view::npos) {
      rest_.append(piece);
      return {};
    }
    text.remove_prefix(end + 1);
    ++lines_;
    Status s;
    if (rest_.empty()) {
      s = line(piece);
    } else {
      rest_.append(piece);
      s = line(rest_);
      rest_.clear();
    }
    if (!s.ok()) return Error(s.code(), "line " + std::to_string(lines_) + ": " + s.error().message);
  }
  return {};
}

Status HistoryReader::line(std::string_view text) {
  if (text.find_first_not_of(" \t\r") == std::string_view::npos) return {};
  // A line nests two lists in an object; anything deeper is refused before the parser recurses.
  int depth = 0;
  int deepest = 0;
  for (const char c : text) {
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if (c == ']' || c == '}') --depth;
    if (deepest > 64) return bad("nested too deeply");
  }
  const Json j = Json::parse(text, nullptr, false);
  if (!j.is_object()) return bad("no JSON object");
  if (lines_ == 1) {
    TRY_ASSIGN(const int64_t version, number_of(j, "history", 0));
    if (version != kVersion) {
      return Error(ErrorCode::unsupported_version, "not a history of version 1 (first line {\"history\":1})");
    }
    return {};
  }
  if (j.contains("op")) {
    if (history_.operations.size() >= kHistoryOperationsMax) return ErrorCode::limit_exceeded;
    return operation_of(j, history_);
  }
  if (const auto at = j.find("compacted"); at != j.end()) {
    if (!at->is_array()) return bad("\"compacted\" is no list");
    for (const Json& name : *at) {
      if (!name.is_string()) return bad("a partition's name is no text");
      history_.set_compacted(history_.partitions.number(name.get_ref<const std::string&>()));
    }
    return {};
  }
  if (j.contains("final_reads")) {
    TRY_ASSIGN(history_.final_reads_complete, flag_of(j, "final_reads"));
    return {};
  }
  return bad("neither an operation nor a fact");
}

Result<History> HistoryReader::finish() {
  if (lines_ == 0) return bad("no history: it is empty");
  const auto earlier = [](const Operation& a, const Operation& b) { return a.invoked < b.invoked; };
  std::stable_sort(history_.operations.begin(), history_.operations.end(), earlier);
  return std::move(history_);
}

std::string encode_history_start() {
  return "{\"history\":1}\n";
}

std::string encode_operation(const History& history, const Operation& o) {
  const auto quoted = [](const std::string& text) {
    return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  std::string out = "{\"op\":\"";
  out.append(word(o.kind)).append("\",\"result\":\"").append(word(o.outcome));
  out.append("\",\"client\":").append(quoted(history.clients.name(o.client)));
  const auto number = [&out](const char* name, int64_t v) {
    out.append(",\"").append(name).append("\":").append(std::to_string(v));
  };
  number("from", o.invoked);
  if (o.returned != INT64_MAX) number("to", o.returned);
  if (o.txn != kUnknown) number("txn", o.txn);
  if (o.generation != kUnknown) number("generation", o.generation);
  if (o.group >= 0) {
    out.append(",\"group\":").append(quoted(history.groups.name(static_cast<uint32_t>(o.group))));
  }
  if (o.idempotent) out.append(",\"idempotent\":true");
  if (o.position_reset) out.append(",\"reset\":true");
  if (o.isolation == Isolation::read_committed) out.append(",\"committed\":true");
  if (o.items > 0) {
    out.append(",\"items\":[");
    for (const Item* i = history.begin_of(o); i != history.end_of(o); ++i) {
      if (i != history.begin_of(o)) out.push_back(',');
      const auto maybe = [&out](int64_t v) { out.append(v == kUnknown ? "null" : std::to_string(v)); };
      out.append("[").append(quoted(history.partitions.name(i->partition))).push_back(',');
      maybe(i->offset);
      out.push_back(',');
      maybe(i->value);
      if (i->epoch != -1 || i->key >= 0 || i->tombstone) {
        out.push_back(',');
        maybe(i->epoch);
      }
      if (i->key >= 0 || i->tombstone) {
        out.push_back(',');
        out.append(i->key < 0 ? "null" : quoted(history.keys.name(static_cast<uint32_t>(i->key))));
      }
      if (i->tombstone) out.append(",true");
      out.push_back(']');
    }
    out.push_back(']');
  }
  out.append("}\n");
  return out;
}

std::string encode_history(const History& history) {
  std::string out = encode_history_start();
  for (uint32_t p = 0; p < history.facts.size(); ++p) {
    if (!history.facts[p].compacted) continue;
    out.append("{\"compacted\":[" + Json(history.partitions.name(p)).dump() + "]}\n");
  }
  for (const Operation& o : history.operations) out.append(encode_operation(history, o));
  if (history.final_reads_complete) out.append("{\"final_reads\":true}\n");
  return out;
}

}  // namespace millrace::check
