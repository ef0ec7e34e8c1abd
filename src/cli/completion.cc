#include "cli/completion.h"

#include <fmt/format.h>

namespace millrace::cli {
namespace {

std::string words_of(const CommandTree& tree) {
  std::string out;
  for (const CommandTree& c : tree.commands) out += (out.empty() ? "" : " ") + c.name;
  for (const std::string& o : tree.options) out += (out.empty() ? "" : " ") + o;
  return out;
}

/// Lines `    "topic create") words="...";;` for every command, by the path of its names.
void add_bash_cases(const CommandTree& tree, const std::string& path, std::string& out) {
  out += fmt::format("    \"{}\") words=\"{}\" ;;\n", path, words_of(tree));
  for (const CommandTree& c : tree.commands)
    add_bash_cases(c, path.empty() ? c.name : path + " " + c.name, out);
}

std::string bash_script(const CommandTree& program) {
  std::string cases;
  add_bash_cases(program, "", cases);
  return fmt::format(
      "# {0} completion for bash: source <({0} completion bash)\n"
      "_{0}_complete() {{\n"
      "  local current=${{COMP_WORDS[COMP_CWORD]}} path=\"\" words=\"\" word i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    word=${{COMP_WORDS[i]}}\n"
      "    case $word in -*) ;; *) [ $i -le 2 ] && path=\"${{path:+$path }}$word\" ;; esac\n"
      "  done\n"
      "  case \"$path\" in\n{1}"
      "    *) case \"${{path%% *}}\" in\n{2}      esac ;;\n"
      "  esac\n"
      "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
      "}}\n"
      "complete -o default -F _{0}_complete {0}\n",
      program.name, cases, [&] {
        // Behind a command without subcommands come its arguments: its options still help.
        std::string out;
        for (const CommandTree& c : program.commands) {
          if (c.commands.empty())
            out += fmt::format("        \"{}\") words=\"{}\" ;;\n", c.name, words_of(c));
        }
        return out;
      }());
}

std::string zsh_script(const CommandTree& program) {
  return fmt::format(
             "#compdef {0}\n"
             "# {0} completion for zsh: source <({0} completion zsh)\n"
             "autoload -U +X bashcompinit && bashcompinit\n",
             program.name) +
         bash_script(program);
}

std::string fish_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

void add_fish_options(const std::string& program, const std::string& condition, const CommandTree& tree,
                      std::string& out) {
  for (const std::string& o : tree.options) {
    const bool is_long = o.starts_with("--");
    out += fmt::format("complete -c {} -n {} {} {}\n", program, fish_quoted(condition), is_long ? "-l" : "-s",
                       o.substr(is_long ? 2 : 1));
  }
}

std::string fish_script(const CommandTree& program) {
  std::string out = fmt::format("# {0} completion for fish: {0} completion fish | source\n", program.name);
  for (const CommandTree& c : program.commands) {
    out += fmt::format("complete -c {} -n __fish_use_subcommand -f -a {} -d {}\n", program.name, c.name,
                       fish_quoted(c.description));
    const std::string within = "__fish_seen_subcommand_from " + c.name;
    add_fish_options(program.name, within, c, out);
    for (const CommandTree& sub : c.commands) {
      out += fmt::format("complete -c {} -n {} -f -a {} -d {}\n", program.name, fish_quoted(within), sub.name,
                         fish_quoted(sub.description));
      add_fish_options(program.name, within + "; and __fish_seen_subcommand_from " + sub.name, sub, out);
    }
  }
  return out;
}

}  // namespace

Result<std::string> completion_script(const CommandTree& program, const std::string& shell) {
  if (shell == "bash") return bash_script(program);
  if (shell == "zsh") return zsh_script(program);
  if (shell == "fish") return fish_script(program);
  return Error(ErrorCode::invalid_argument, "there is completion for bash, zsh and fish");
}

}  // namespace millrace::cli
