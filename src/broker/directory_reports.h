// Tells the controller in which data directory each replica of this broker lies, so that it knows what is
// lost with one: only a broker of several directories has to. Lives on the control loop.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "control/broker_requests.h"
#include "io/loop.h"

namespace millrace::broker {

class DirectoryReports {
 public:
  using Done = std::function<void(Result<control::AssignDirectoriesReply>)>;
  using Ask = std::function<void(control::AssignDirectories, Done)>;

  DirectoryReports(io::Loop& loop, Ask ask) : loop_(loop), ask_(std::move(ask)) {}
  ~DirectoryReports() { *alive_ = false; }

  /// The image says something else of this replica, or nothing.
  void note(const control::PartitionKey& partition, const Uuid& directory) { untold_[partition] = directory; }
  /// What is noted is sent, piece by piece, as this registration; what cannot be is tried again.
  void send(BrokerId self, BrokerEpoch epoch);
  void stop() { *alive_ = false; }

 private:
  void again();

  io::Loop& loop_;
  const Ask ask_;
  BrokerId self_ = kNoBroker;
  BrokerEpoch epoch_{-1};
  std::map<control::PartitionKey, Uuid> untold_;
  bool sending_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace millrace::broker
