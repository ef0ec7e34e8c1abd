#include "record/control_batch.h"

#include <array>

#include "base/endian.h"

namespace millrace::record {

namespace {

constexpr int16_t kControlVersion = 0;
constexpr size_t kControlKeySize = 4;
constexpr size_t kMarkerValueSize = 6;

struct ControlRecord {
  ControlType type = ControlType::unknown;
  ByteView value;
};

Result<ControlRecord> read_control_record(const BatchView& batch) {
  if (!batch.is_control() || batch.codec_bits() != 0 || batch.record_count() != 1) {
    return Error(ErrorCode::corrupt, "not a control batch of one record");
  }
  RecordReader reader(batch.records(), batch.record_count());
  Record record;
  TRY_ASSIGN(const bool found, reader.next(record));
  ASSERT(found);
  Record none;
  TRY(reader.next(none));  // nothing may follow
  // Later versions may lengthen the key.
  if (!record.key || record.key->size() < kControlKeySize) {
    return Error(ErrorCode::corrupt, "malformed control record key");
  }
  const int16_t version = load_be<int16_t>(record.key->data());
  const int16_t type = load_be<int16_t>(record.key->data() + 2);
  if (version < 0) return Error(ErrorCode::corrupt, "negative control record version");
  ControlRecord out;
  if (type >= 0 && type <= static_cast<int16_t>(ControlType::kraft_voters)) {
    out.type = static_cast<ControlType>(type);
  }
  out.value = record.value.value_or(ByteView());
  return out;
}

}  // namespace

Bytes build_control_batch(ControlType type, ByteView value, int64_t timestamp_ms, BatchOptions options) {
  ASSERT(type != ControlType::unknown && options.codec == Codec::none);
  std::array<uint8_t, kControlKeySize> key{};
  store_be<int16_t>(key.data(), kControlVersion);
  store_be<int16_t>(key.data() + 2, static_cast<int16_t>(type));
  options.control = true;
  options.base_sequence = kNoSequence;
  BatchBuilder builder(options);
  builder.append(timestamp_ms, ByteView(key), value);
  return builder.build();
}

Bytes build_marker(const EndTransactionMarker& marker, int64_t timestamp_ms) {
  std::array<uint8_t, kMarkerValueSize> value{};
  store_be<int16_t>(value.data(), kControlVersion);
  store_be<int32_t>(value.data() + 2, marker.coordinator_epoch);
  return build_control_batch(
      marker.commit ? ControlType::commit : ControlType::abort, value, timestamp_ms,
      {.producer_id = marker.producer_id, .producer_epoch = marker.producer_epoch, .transactional = true});
}

Result<ControlType> control_type(const BatchView& batch) {
  TRY_ASSIGN(const ControlRecord control, read_control_record(batch));
  return control.type;
}

Result<EndTransactionMarker> read_marker(const BatchView& batch) {
  TRY_ASSIGN(const ControlRecord control, read_control_record(batch));
  if (control.type != ControlType::abort && control.type != ControlType::commit) {
    return Error(ErrorCode::corrupt, "control batch is no transaction marker");
  }
  if (control.value.size() < kMarkerValueSize || load_be<int16_t>(control.value.data()) < 0) {
    return Error(ErrorCode::corrupt, "malformed transaction marker");
  }
  return EndTransactionMarker{.producer_id = batch.producer_id(),
                              .producer_epoch = batch.producer_epoch(),
                              .commit = control.type == ControlType::commit,
                              .coordinator_epoch = load_be<int32_t>(control.value.data() + 2)};
}

}  // namespace millrace::record
