// The simulated operator of the cluster: takes votes in the metadata quorum away and gives them back,
// replaces the vote of a node whose disk was lost (as `millrace cluster replace` does: out with the lost
// directory, then in with the new one), and empties brokers (as `millrace cluster drain` does).
#pragma once

#include "sim/client_process.h"
#include "wire/messages/describe_quorum.h"

namespace millrace::sim {

class SimOperator final : public ClientProcess {
 public:
  SimOperator(World& world, std::string name) : ClientProcess(world, std::move(name)) {}

  bool idle() const override { return !busy_; }
  /// No vote is taken away any more but from lost directories; everybody gets the vote back.
  void rest() { resting_ = true; }

 private:
  void begin() override { next(); }
  void drop() override { busy_ = false; }
  void next();
  void look();
  void judge(const wire::DescribeQuorumResponse::PartitionData& quorum);
  void remove(int32_t node, const Uuid& directory);
  void add(int32_t node, const Uuid& directory);
  void drain();
  template <class Request>
  void call(Request request, std::function<void(const typename Request::Response&)> then);

  bool busy_ = false;
  bool resting_ = false;
  std::map<int32_t, int64_t> without_vote_until_ms_;
};

}  // namespace millrace::sim
