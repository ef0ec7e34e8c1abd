#include "log/file_names.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace millrace::log {

namespace {

constexpr size_t kOffsetDigits = 20;
constexpr size_t kNameBytesMax = 255;  // of most file systems
constexpr std::string_view kDeletedDirectoryEnd = "-delete";
constexpr size_t kDeletedIdDigits = 32;

template <class T>
std::optional<T> parse_digits(std::string_view text) {
  T value{};
  if (text.empty()) return std::nullopt;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<FileKind> kind_of(std::string_view suffix) {
  for (const FileKind kind : {FileKind::log, FileKind::offset_index, FileKind::time_index,
                              FileKind::txn_index, FileKind::snapshot}) {
    if (suffix == suffix_of(kind)) return kind;
  }
  return std::nullopt;
}

}  // namespace

std::string_view suffix_of(FileKind kind) {
  switch (kind) {
    case FileKind::log:
      return kLogSuffix;
    case FileKind::offset_index:
      return kOffsetIndexSuffix;
    case FileKind::time_index:
      return kTimeIndexSuffix;
    case FileKind::txn_index:
      return kTxnIndexSuffix;
    case FileKind::snapshot:
      return kSnapshotSuffix;
  }
  return {};
}

std::string file_name(Offset offset, FileKind kind) {
  return fmt::format("{:020}{}", offset.v, suffix_of(kind));
}

std::optional<FileName> parse_file_name(std::string_view name) {
  if (name.size() <= kOffsetDigits) return std::nullopt;
  const std::optional<int64_t> offset = parse_digits<int64_t>(name.substr(0, kOffsetDigits));
  if (!offset) return std::nullopt;
  FileName out{.offset = Offset(*offset)};
  std::string_view rest = name.substr(kOffsetDigits);
  constexpr std::array<std::pair<std::string_view, FileStage>, 3> kStages{
      {{kDeletedSuffix, FileStage::deleted},
       {kCleanedSuffix, FileStage::cleaned},
       {kSwapSuffix, FileStage::swap}}};
  for (const auto& [suffix, stage] : kStages) {
    if (rest.ends_with(suffix)) {
      out.stage = stage;
      rest.remove_suffix(suffix.size());
      break;
    }
  }
  const std::optional<FileKind> kind = kind_of(rest);
  if (!kind) return std::nullopt;
  out.kind = *kind;
  return out;
}

std::string partition_directory_name(std::string_view topic, PartitionId partition) {
  return fmt::format("{}-{}", topic, partition.v);
}

std::string deleted_directory_name(std::string_view topic, PartitionId partition, const Uuid& id) {
  std::string hex;
  for (const uint8_t b : id.bytes) hex += fmt::format("{:02x}", b);
  const std::string tail = fmt::format("-{}.{}{}", partition.v, hex, kDeletedDirectoryEnd);
  return std::string(topic.substr(0, kNameBytesMax - tail.size())) + tail;
}

std::optional<PartitionName> parse_partition_directory(std::string_view name) {
  PartitionName out;
  if (name.ends_with(kDeletedDirectoryEnd)) {
    std::string_view rest = name.substr(0, name.size() - kDeletedDirectoryEnd.size());
    // ".<32 hex>": a topic may itself end in "-delete", so the id decides.
    if (rest.size() > kDeletedIdDigits && rest[rest.size() - kDeletedIdDigits - 1] == '.' &&
        rest.substr(rest.size() - kDeletedIdDigits).find_first_not_of("0123456789abcdef") ==
            std::string_view::npos) {
      out.being_deleted = true;
      name = rest.substr(0, rest.size() - kDeletedIdDigits - 1);
    }
  }
  const size_t dash = name.rfind('-');
  if (dash == std::string_view::npos || dash == 0) return std::nullopt;
  const std::string_view digits = name.substr(dash + 1);
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;  // one name a partition
  const std::optional<int32_t> partition = parse_digits<int32_t>(digits);
  if (!partition) return std::nullopt;
  out.topic = std::string(name.substr(0, dash));
  out.partition = PartitionId(*partition);
  return out;
}

}  // namespace millrace::log
