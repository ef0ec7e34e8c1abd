// What one node logs: told on, if somebody reads it, and read for the rare states that a node speaks of. The
// marks are parts of the lines that the program writes; one whose text changes is met no more, and the long
// runs say so.
#pragma once

#include <string>
#include <utility>

#include "base/trace.h"
#include "sim/client_process.h"

namespace millrace::sim {

class NodeLines final : public TraceSink {
 public:
  /// `told`: the lines are part of the story.
  NodeLines(World& world, std::string node, bool told) : world_(world), node_(std::move(node)), told_(told) {}
  void write(TraceLevel, std::string_view component, std::string_view message) override;

 private:
  World& world_;
  const std::string node_;
  const bool told_;
};

}  // namespace millrace::sim
