// Breaks the nodes, disks, clocks and links of a simulated cluster, as the seed has it, and mends them again.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sim/client_process.h"
#include "sim/node.h"

namespace millrace::sim {

class Nemesis {
 public:
  Nemesis(World& world, std::vector<std::unique_ptr<SimNode>>& nodes, std::vector<ClientProcess*> clients)
      : world_(world),
        nodes_(nodes),
        clients_(std::move(clients)),
        dice_(world.seed, "nemesis"),
        rot_dice_(world.seed, "rot") {}

  void begin();
  /// No more faults; what is broken is mended and what is down starts.
  void heal();
  /// Between events, of a node that ended by itself: it is started again in a while.
  void on_end(SimNode& node, const std::string& why);
  /// Between events, of a node that was elected to lead the metadata log.
  void on_leader(SimNode& node);
  uint64_t faults() const { return faults_; }

 private:
  void arm();
  void act();
  void note(const char* kind, const std::string& what);
  void in_a_while(std::function<void()> f);
  void after(int64_t ms, std::function<void()> f);
  SimNode* pick_running(bool may_stop_it);
  size_t missing() const;
  void bring_up(SimNode& node);
  void reboot(SimNode& node);
  void strike_again();

  void kill(SimNode& node);
  void cut_power(SimNode& node);
  void pause(SimNode& node);
  void stop(SimNode& node);
  void partition();
  void one_way();
  void isolate(SimNode& node);
  void clog();
  void disk_error(SimNode& node);
  void disk_full(SimNode& node);
  void slow_disk(SimNode& node);
  void jump_clock(SimNode& node);
  void drift(SimNode& node);
  void kill_client();
  void dead_disk(SimNode& node);
  bool may_empty(SimNode& node);
  void empty_disk(SimNode& node);
  void note_cured();
  void arm_rot();
  bool stands_in(const Uuid& topic, const meta::Partition& state, int32_t number, int64_t end,
                 const SimNode& victim);
  void rot(SimNode& node);

  using Pair = std::pair<SimHost*, SimHost*>;
  static void add_both_ways(std::vector<Pair>& pairs, SimHost& a, SimHost& b);
  void block(std::vector<Pair> pairs);
  void cut_off(const std::vector<Pair>& pairs);
  void unblock(const std::vector<Pair>& pairs);
  void release(uint64_t prey, int64_t in_ms);

  World& world_;
  std::vector<std::unique_ptr<SimNode>>& nodes_;
  const std::vector<ClientProcess*> clients_;
  Dice dice_;
  Dice rot_dice_;
  bool hunting_ = false;
  std::map<uint64_t, std::vector<Pair>> hunted_;  // leaders that are cut off, the first first
  uint64_t last_prey_ = 0;
  bool over_ = false;
  uint64_t faults_ = 0;
  std::map<std::pair<size_t, size_t>, int> blocked_;  // by host numbers: by how many faults
};

}  // namespace millrace::sim
