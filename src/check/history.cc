#include "check/history.h"

#include "base/assert.h"

namespace millrace::check {

uint32_t Names::number(std::string_view name) {
  const auto [at, added] = numbers_.try_emplace(std::string(name), static_cast<uint32_t>(names_.size()));
  if (added) names_.emplace_back(name);
  return at->second;
}

const std::string& Names::name(uint32_t number) const {
  static const std::string kNothing = "?";
  return number < names_.size() ? names_[number] : kNothing;
}

void History::add(Operation o, const std::vector<Item>& its) {
  ASSERT(items.size() + its.size() < UINT32_MAX);
  o.first_item = static_cast<uint32_t>(items.size());
  o.items = static_cast<uint32_t>(its.size());
  items.insert(items.end(), its.begin(), its.end());
  operations.push_back(o);
}

void History::set_compacted(uint32_t partition) {
  if (facts.size() <= partition) facts.resize(partition + 1);
  facts[partition].compacted = true;
}

std::string_view word(Kind kind) {
  switch (kind) {
    case Kind::send:
      return "send";
    case Kind::poll:
      return "poll";
    case Kind::commit:
      return "commit";
    case Kind::fetch_commit:
      return "fetch_commit";
    case Kind::txn_begin:
      return "txn_begin";
    case Kind::txn_commit:
      return "txn_commit";
    case Kind::txn_abort:
      return "txn_abort";
    case Kind::list_end:
      return "list_end";
    case Kind::assign:
      return "assign";
    case Kind::revoke:
      return "revoke";
    case Kind::state:
      return "state";
  }
  return "?";
}

std::string_view word(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
      return "ok";
    case Outcome::fail:
      return "fail";
    case Outcome::info:
      return "info";
  }
  return "?";
}

}  // namespace millrace::check
