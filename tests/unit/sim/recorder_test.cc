#include "sim/recorder.h"

#include "support/catch.h"

namespace millrace::sim {
namespace {

check::Operation operation_of(check::Kind kind) {
  check::Operation o;
  o.kind = kind;
  return o;
}

check::Item item_of(check::Value value) {
  check::Item item;
  item.value = value;
  return item;
}

TEST_CASE("operations are stamped in order, also within one moment of the simulation") {
  Scheduler scheduler;
  Recorder recorder(scheduler);
  const Recorder::Id first = recorder.invoke(operation_of(check::Kind::send), {item_of(1)});
  const Recorder::Id second = recorder.invoke(operation_of(check::Kind::send), {item_of(2)});
  recorder.finish(first, check::Outcome::ok);
  CHECK(recorder.operation(second).invoked > recorder.operation(first).invoked);
  CHECK(recorder.operation(first).returned > recorder.operation(second).invoked);
}

TEST_CASE("only sends that succeeded count as acknowledged, record by record") {
  Scheduler scheduler;
  Recorder recorder(scheduler);
  recorder.finish(recorder.invoke(operation_of(check::Kind::send), {item_of(1), item_of(2)}),
                  check::Outcome::ok);
  recorder.finish(recorder.invoke(operation_of(check::Kind::send), {item_of(3)}), check::Outcome::info);
  recorder.finish(recorder.invoke(operation_of(check::Kind::send), {item_of(4)}), check::Outcome::fail);
  recorder.finish(recorder.invoke(operation_of(check::Kind::poll)), check::Outcome::ok, {item_of(1)});
  CHECK(recorder.acknowledged_writes() == 2);
  CHECK(recorder.operations() == 4);
}

TEST_CASE("what never returned is in the history as unknown") {
  Scheduler scheduler;
  Recorder recorder(scheduler);
  (void)recorder.invoke(operation_of(check::Kind::send), {item_of(recorder.next_value())});
  const check::History history = recorder.take(true);
  REQUIRE(history.operations.size() == 1);
  CHECK(history.operations[0].outcome == check::Outcome::info);
  CHECK(history.final_reads_complete);
}

}  // namespace
}  // namespace millrace::sim
