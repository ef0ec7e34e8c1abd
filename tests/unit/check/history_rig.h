// Histories by hand, one short call an operation.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "check/history.h"

namespace millrace::check {

struct HistoryRig {
  History h;

  struct At {
    int64_t from, to;
  };
  Operation& add(Kind kind, std::string_view client, At at, std::vector<Item> items,
                 Outcome outcome = Outcome::ok) {
    Operation o;
    o.kind = kind;
    o.outcome = outcome;
    o.client = h.clients.number(client);
    o.invoked = at.from;
    o.returned = at.to;
    h.add(o, items);
    return h.operations.back();
  }
  Item item(int64_t offset, Value value, std::string_view partition = "t-0") {
    Item i;
    i.partition = h.partitions.number(partition);
    i.offset = offset;
    i.value = value;
    return i;
  }
  Item keyed(int64_t offset, Value value, std::string_view key) {
    Item i = item(offset, value);
    i.key = static_cast<int32_t>(h.keys.number(key));
    return i;
  }
  Operation& send(At at, int64_t offset, Value value, Outcome outcome = Outcome::ok) {
    return add(Kind::send, "p", at, {item(offset, value)}, outcome);
  }
  Operation& poll(At at, std::vector<Item> items, std::string_view client = "c") {
    return add(Kind::poll, client, at, std::move(items));
  }
};

}  // namespace millrace::check
