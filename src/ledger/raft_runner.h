// Hosts the Raft core on its store: carries out what the core wants (persist, send, commit) and nothing else.
// Lives on one loop, which never touches a data file: persistence runs on the disk's pool, one write at a
// time; what arrives meanwhile is gathered into the next.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/trace.h"
#include "io/clock.h"
#include "io/disk.h"
#include "io/loop.h"
#include "io/random.h"
#include "ledger/raft_store.h"
#include "raft/raft.h"

namespace millrace::ledger {

class RaftRunner {
 public:
  struct Environment {
    io::Loop* loop = nullptr;
    io::Disk* disk = nullptr;
    const io::Clock* clock = nullptr;
    io::Random* random = nullptr;
    Trace trace;
  };
  struct Handlers {
    /// Entries became committed, in order, each once; of all kinds.
    std::function<void(const std::vector<raft::Entry>&)> on_commit;
    /// This node began (true) or ceased to lead; when it begins, everything before its term has been
    /// committed.
    std::function<void(bool leading)> on_leadership;
    /// The store failed; nothing more will be committed here.
    std::function<void(const Error&)> on_failure;
  };

  explicit RaftRunner(Environment environment)
      : env_(std::move(environment)), store_(*env_.disk, *env_.clock, env_.trace) {}

  /// Reads the log. Blocking, once, before start().
  Status open(const std::string& directory) { return store_.open(directory); }
  /// As the only voter. On the loop.
  void start(BrokerId self, Handlers handlers);
  /// Appends one entry and returns its index. Errors: not_controller (not leading), limit_exceeded,
  /// kafka_storage_error (failed, or no space: then only until there is some again).
  Result<LogIndex> propose(Bytes payload);
  bool leading() const;
  Term term() const;
  /// Blocking, when the loop has stopped calling.
  Status close() { return store_.close(!failed_); }
  /// The store's directory failed elsewhere: nothing is written to it any more. On the loop.
  void abandon(const Error& why) { fail(why); }

 private:
  /// Carries out what the core wants, until it wants nothing.
  void pump();
  struct Job;
  void write(raft::Output& output);
  void run(const std::shared_ptr<Job>& job);
  void on_written(const std::shared_ptr<Job>& job);
  void arm_tick();
  void fail(const Error& why);

  const Environment env_;
  RaftStore store_;
  Handlers handlers_;
  std::unique_ptr<raft::Raft> raft_;
  bool writing_ = false;
  bool pumping_ = false;
  bool failed_ = false;
  bool no_space_ = false;  // what is to be written waits for room
  io::TimerId timer_ = 0;
  int64_t timer_at_ms_ = 0;
};

}  // namespace millrace::ledger
