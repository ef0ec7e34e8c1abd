// The calls that loads repeat: Produce, OffsetCommit, and ApiVersions for connections that only exist.
#pragma once

#include <string>
#include <vector>

#include "cli/perf/call_channel.h"
#include "cli/perf/frames.h"

namespace millrace::cli::perf {

class ProduceCalls final : public Calls {
 public:
  struct Options {
    int16_t version = kProduceVersionMax;
    int16_t acks = -1;
    ProduceFrame frame;
    int32_t records = 1;              // of a batch
    std::vector<int32_t> partitions;  // those of the connection; requests go round
    size_t first_partition = 0;       // where the round begins
    bool stamped = false;             // the time into every batch
    int64_t producer_id = -1;         // idempotent if not -1
    int16_t producer_epoch = -1;
  };
  explicit ProduceCalls(Options options);

  Bytes make_frame() override { return options_.frame.bytes; }
  void prepare(Bytes& frame, int64_t due_ns) override;
  bool answered() const override { return options_.acks != 0; }
  Result<Verdict> judge(ByteView answer) override { return judge_produce(options_.version, answer); }
  uint64_t records() const override { return records_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  const Options options_;
  const uint64_t records_;
  const uint64_t bytes_;
  size_t next_;
  std::vector<int32_t> sequences_;  // by place in options_.partitions
};

class CommitCalls final : public Calls {
 public:
  CommitCalls(const std::string& group, const std::string& topic, int32_t partition);

  Bytes make_frame() override { return frame_; }
  void prepare(Bytes&, int64_t) override {}
  Result<Verdict> judge(ByteView answer) override { return judge_commit(answer); }
  uint64_t records() const override { return 1; }
  uint64_t bytes() const override { return 0; }

 private:
  const Bytes frame_;
};

/// ApiVersions v0.
class VersionCalls final : public Calls {
 public:
  Bytes make_frame() override { return make_versions_frame(); }
  void prepare(Bytes&, int64_t) override {}
  Result<Verdict> judge(ByteView answer) override { return judge_versions(answer); }
  uint64_t records() const override { return 0; }
  uint64_t bytes() const override { return 0; }
};

}  // namespace millrace::cli::perf
