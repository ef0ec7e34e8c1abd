// Raft messages, hard state and snapshot labels as bytes (proto/raft.proto).
#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "raft/types.h"

namespace millrace::ledger {

/// Error of every decode: corrupt.
Bytes encode_raft_message(const raft::Message& message);
Result<raft::Message> decode_raft_message(ByteView bytes);

Bytes encode_hard_state(const raft::HardState& state);
Result<raft::HardState> decode_hard_state(ByteView bytes);

Bytes encode_snapshot_meta(const raft::SnapshotMeta& meta);
Result<raft::SnapshotMeta> decode_snapshot_meta(ByteView bytes);

}  // namespace millrace::ledger
