// One request that asks several coordinators: the reply leaves when the last has answered.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "broker/call.h"

namespace millrace::broker {

template <class Response>
class Gather {
 public:
  /// `parts` answers are to come; with none the reply leaves at once.
  Gather(SharedCall call, size_t parts) : call_(std::move(call)), left_(parts) {}

  Response response;

  void part_done() {
    ASSERT(left_ > 0);
    if (--left_ == 0) finish();
  }
  void finish() {
    if (before_reply) before_reply(response);
    call_->reply(response);
  }
  const SharedCall& call() const { return call_; }
  std::function<void(Response&)> before_reply;

 private:
  SharedCall call_;
  size_t left_;
};

}  // namespace millrace::broker
