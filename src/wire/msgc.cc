// msgc: the message compiler. Runs at build time only.
//
//   msgc --root proto/kafka --out DIR --cases DIR FILE...   writes DIR/wire/... (codec) and DIR/... (test
//   fillers) msgc --root proto/kafka --dump-json FILE...             prints what it understood
//
// A file that would not change is not written, so that its dependents are not rebuilt.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

#include "wire/msgc_emit.h"

namespace millrace::msgc {
namespace {

void write_file(const std::filesystem::path& path, const std::string& text) {
  {
    std::ifstream in(path);
    std::ostringstream old;
    if (in && old << in.rdbuf() && old.str() == text) return;
  }
  std::filesystem::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.close();
  if (!out) die(path.string(), 0, "cannot be written");
}

/// produce.schema -> messages/produce, records/control.schema -> records/control
std::string stem_of(const std::string& path, const std::string& root) {
  const std::filesystem::path relative = std::filesystem::path(path).lexically_relative(root);
  if (relative.empty() || *relative.begin() == "..") die(path, 0, "not below " + root);
  const std::string parent = relative.parent_path().string();
  return (parent.empty() ? "messages" : parent) + "/" + relative.stem().string();
}

/// What only shows across files: keys and names there twice.
void check_together(const std::vector<File>& files) {
  std::map<int, std::string> keys;
  std::map<std::string, std::string> names;
  for (const File& f : files) {
    if (f.api && !keys.emplace(f.api->key, f.path).second) {
      die(f.path, 0, "api key " + std::to_string(f.api->key) + " is also in " + keys[f.api->key]);
    }
    if (f.api && f.stem != "messages/" + f.api->cpp_name) {
      die(f.path, 0, "should be named " + f.api->cpp_name + ".schema");
    }
    for (const Message& m : f.messages) {
      if (!names.emplace(m.name, f.path).second) die(f.path, 0, m.name + " is also in " + names[m.name]);
    }
  }
}

int run(const std::vector<std::string>& arguments) {
  std::string root, out, cases;
  bool dump = false;
  std::vector<std::string> paths;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    const bool more = i + 1 < arguments.size();
    if (a == "--root" && more) {
      root = arguments[++i];
    } else if (a == "--out" && more) {
      out = arguments[++i];
    } else if (a == "--cases" && more) {
      cases = arguments[++i];
    } else if (a == "--dump-json") {
      dump = true;
    } else if (a.rfind("--", 0) == 0) {
      die("msgc", 0, "unknown option " + a);
    } else {
      paths.push_back(a);
    }
  }
  if (root.empty() || paths.empty() || (out.empty() && !dump)) {
    std::cerr << "usage: msgc --root DIR (--out DIR [--cases DIR] | --dump-json) FILE...\n";
    return 2;
  }
  std::vector<File> files;
  for (const std::string& path : paths) {
    files.push_back(parse_file(path));
    files.back().stem = stem_of(path, root);
  }
  check_together(files);
  if (dump) {
    std::cout << emit_json(files);
    return 0;
  }
  const std::filesystem::path wire = std::filesystem::path(out) / "wire";
  for (const File& f : files) {
    write_file(wire / (f.stem + ".h"), emit_header(f));
    write_file(wire / (f.stem + ".cc"), emit_source(f));
    if (!cases.empty()) write_file(std::filesystem::path(cases) / (f.stem + ".cc"), emit_cases(f));
  }
  write_file(wire / "api_key.h", emit_api_key(files));
  write_file(wire / "api_rows.cc", emit_api_table(files));
  if (!cases.empty()) write_file(std::filesystem::path(cases) / "registry.cc", emit_case_registry(files));
  return 0;
}

}  // namespace
}  // namespace millrace::msgc

int main(int argc, char** argv) {
  return millrace::msgc::run(std::vector<std::string>(argv + 1, argv + argc));
}
