#include "io/disk.h"

namespace millrace::io {

Result<Bytes> Disk::read_file(const std::string& path, size_t max_bytes) {
  TRY_ASSIGN(const std::shared_ptr<File> file, open(path, OpenMode::read));
  TRY_ASSIGN(const uint64_t size, file->size());
  if (size > max_bytes)
    return Error(ErrorCode::limit_exceeded, path + " is larger than " + std::to_string(max_bytes));
  Bytes content(static_cast<size_t>(size));
  TRY_ASSIGN(const size_t got, file->read_at(0, content));
  content.resize(got);
  return content;
}

Status Disk::replace_file(const std::string& path, ByteView content) {
  const std::string temporary = path + ".tmp";
  {
    TRY_ASSIGN(const std::shared_ptr<File> file, open(temporary, OpenMode::create));
    TRY(file->truncate(0));
    TRY(file->write_at(0, content));
    TRY(file->sync());
  }
  TRY(rename(temporary, path));
  return sync_directory(parent_path(path));
}

std::string join_path(std::string_view directory, std::string_view name) {
  std::string out(directory);
  if (!out.empty() && out.back() != '/') out.push_back('/');
  out.append(name);
  return out;
}

std::string parent_path(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, slash == 0 ? 1 : slash));
}

}  // namespace millrace::io
