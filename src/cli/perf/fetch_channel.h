// A connection that reads partitions, one Fetch at a time, with an incremental fetch session (KIP-227) if it
// is told so.
//
// Answers are taken apart as they arrive: of the records only batch headers are looked at (and the stamp of
// each batch's first record, if wanted), the rest is dropped, large stretches by the kernel itself. With
// verify every batch is collected whole, its CRC and the order of offsets are checked.
#pragma once

#include <string>
#include <vector>

#include "cli/perf/channel.h"
#include "cli/perf/frames.h"

namespace millrace::cli::perf {

class FetchChannel final : public Channel {
 public:
  struct Options {
    std::string topic;
    FetchLimits limits;
    std::vector<FetchPosition> positions;  // where it begins
    /// Read no further than this, by partition; -1: goes on. As many as positions, or none.
    std::vector<int64_t> ends;
    bool read_committed = false;
    bool session = true;
    bool verify = false;
    bool stamped = false;
  };

  FetchChannel(int socket, Options options, Tally& tally);

  /// The first request.
  void begin() { ask(); }
  Status on_ready(bool readable, bool writable) override;
  Status flush() override;
  bool wants_write() const override { return sent_ < request_.size(); }
  void stop() override { stopped_ = true; }
  bool quiet() const override { return !asked_; }
  /// Every partition was read to its end.
  bool at_ends() const { return reading_ == 0; }

 private:
  enum class State : uint8_t { head, topic, partition, batch, skip, partition_end, topic_end };
  struct Position {
    int32_t partition = 0;
    int64_t offset = 0;
    int64_t end = -1;
    bool moved = false;  // since the last request
  };
  static constexpr size_t kBufferBytes = size_t{256} << 10;
  static constexpr size_t kDiscardBytes = size_t{1} << 20;
  static constexpr size_t kDiscardMin = size_t{16} << 10;
  static constexpr size_t kHeadBytesMax = size_t{4} << 10;  // what stands between records
  static constexpr size_t kBatchBytesMax = size_t{128} << 20;

  void ask();
  Status receive();
  /// Takes what is in the buffer apart. True: more may follow from it.
  Result<bool> step();
  Result<bool> read_head();
  Result<bool> read_partition();
  Result<bool> read_batch();
  Status finish();
  size_t kept() const { return end_ - begin_; }
  void make_room(size_t wanted);

  const Options options_;
  Tally& tally_;
  std::vector<Position> positions_;
  std::vector<size_t> place_;  // of a partition in positions_, by number
  size_t reading_ = 0;         // partitions that are not at their end

  Bytes request_;
  size_t sent_ = 0;
  std::vector<FetchPosition> asked_positions_;
  int32_t correlation_id_ = 0;
  int32_t session_id_ = 0;
  int32_t session_epoch_ = 0;
  bool asked_ = false;
  int64_t asked_ns_ = 0;
  bool stopped_ = false;

  Bytes buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  State state_ = State::head;
  uint64_t frame_left_ = 0;  // of the answer, behind begin_
  uint32_t topics_left_ = 0;
  uint32_t partitions_left_ = 0;
  uint64_t records_left_ = 0;  // of the partition's records, behind begin_
  uint64_t skip_left_ = 0;     // of the batch, behind begin_
  Position* current_ = nullptr;
  bool fruitful_ = false;
};

}  // namespace millrace::cli::perf
