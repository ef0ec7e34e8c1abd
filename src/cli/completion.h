// `millrace completion`: scripts that complete commands and options, made from the command line as it is.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace millrace::cli {

/// A command with what it knows, as a tree.
struct CommandTree {
  std::string name;
  std::string description;
  std::vector<std::string> options;  // "--output", "-b"
  std::vector<CommandTree> commands;
};

/// `shell`: bash, zsh or fish. Errors: invalid_argument.
Result<std::string> completion_script(const CommandTree& program, const std::string& shell);

}  // namespace millrace::cli
