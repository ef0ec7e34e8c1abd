// The group coordinators of this broker: one runner per partition of __consumer_offsets that it leads, each
// on its own loop. Requests find theirs by the hash of the group and come back by post.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "broker/call.h"
#include "group/output.h"
#include "group/partition_for.h"
#include "group/shard.h"
#include "ledger/machine_runner.h"

namespace millrace::broker {

inline constexpr std::string_view kOffsetsTopic = "__consumer_offsets";

using GroupRunner = ledger::MachineRunner<group::GroupShard, group::Token, group::Output,
                                          group::ClientContext, group::Response>;

struct GroupShards {
  std::vector<std::shared_ptr<GroupRunner>> by_partition;  // null where another broker coordinates
  std::vector<LeaderEpoch> epochs;                         // in which each began, as by_partition

  /// The runner that goes on in a newer image; null: one is to be begun. In another epoch somebody else may
  /// have led between, though no image says so.
  std::shared_ptr<GroupRunner> kept(size_t number, const PartitionRef& partition, LeaderEpoch epoch) const {
    if (number >= by_partition.size() || !by_partition[number] || epochs[number] != epoch) return nullptr;
    return &by_partition[number]->partition() == partition.get() ? by_partition[number] : nullptr;
  }
};

/// The coordinator of `group`, or why there is none: coordinator_not_available (the topic is being made),
/// not_coordinator.
Result<std::shared_ptr<GroupRunner>> find_group_runner(const Call& call, std::string_view group);

group::ClientContext group_context(const Call& call);

/// Asks `runner`; `done` gets a Result<group::Response> back on the call's loop.
template <class Request, class Done>
void ask_runner(const SharedCall& call, const std::shared_ptr<GroupRunner>& runner, Request request,
                Done done) {
  io::Loop& home = call->loop();
  runner->loop().post([runner, &home, request = std::move(request), context = group_context(*call),
                       done = std::move(done)]() mutable {
    runner->submit(request, context, [&home, done = std::move(done)](Result<group::Response> answer) mutable {
      if (home.is_here()) {
        done(std::move(answer));
        return;
      }
      home.post([done = std::move(done), answer = std::move(answer)]() mutable { done(std::move(answer)); });
    });
  });
}

/// The common shape: one group, one request, one response of the request's own type; `refuse(code)` makes the
/// response when there is no coordinator or it failed.
template <class Request, class Refuse>
void forward_to_group(Call call, std::string_view group, Request request, Refuse refuse) {
  using Response = typename Request::Response;
  const Result<std::shared_ptr<GroupRunner>> runner = find_group_runner(call, group);
  if (!runner.ok()) {
    call.reply(Response(refuse(wire_code(runner.code()))));
    return;
  }
  const SharedCall shared = share(std::move(call));
  ask_runner(shared, *runner, std::move(request),
             [shared, refuse = std::move(refuse)](Result<group::Response> answer) {
               if (!answer.ok()) {
                 shared->reply(Response(refuse(wire_code(answer.code()))));
                 return;
               }
               shared->reply(std::get<Response>(*answer));
             });
}

}  // namespace millrace::broker
