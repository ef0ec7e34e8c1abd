// A violation as a picture for people: the operations around it, one line each, in order of time, one column
// of bars that shows which of them overlap.
#pragma once

#include <string>

#include "check/rules.h"

namespace millrace::check {

/// `lines_max` operations at most: those of the evidence (marked), and what touched the same offsets.
std::string timeline(const History& history, const Violation& violation, size_t lines_max = 40);
/// "c1 send ok 10..20 t-0@5=101"
std::string describe(const History& history, const Operation& operation, size_t items_max = 8);

}  // namespace millrace::check
