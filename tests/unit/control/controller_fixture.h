// A controller with brokers, driven the way its runner drives it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control/controller.h"
#include "support/catch.h"

namespace millrace::control {

class Fixture {
 public:
  explicit Fixture(int32_t brokers = 1, meta::ConfigValues settings = {}, Limits limits = {});

  Controller& controller() { return controller_; }
  const meta::Image& image() const { return controller_.image(); }
  const std::vector<meta::Record>& log() const { return log_; }

  static Uuid cluster_id() { return numbered(9000); }
  static Uuid numbered(uint64_t n) {
    Uuid u;
    for (size_t i = 0; i < 8; ++i) u.bytes[15 - i] = static_cast<uint8_t>(n >> (8 * i));
    return u;
  }
  static RegisterBroker registration(int32_t id, std::optional<std::string> rack = {},
                                     uint64_t incarnation = 0) {
    RegisterBroker r;
    r.id = BrokerId(id);
    r.cluster_id = cluster_id();
    r.incarnation = numbered(incarnation != 0 ? incarnation : 7000 + static_cast<uint64_t>(id));
    r.endpoints = {
        {"PLAINTEXT", "127.0.0.1", static_cast<uint16_t>(9090 + id), meta::SecurityProtocol::plaintext}};
    r.rack = std::move(rack);
    r.alone = true;  // unfenced at once
    return r;
  }

  /// Handles, appends and applies; the reply as the client gets it.
  template <class Request>
  auto run(const Request& request) {
    auto decision = [&] {
      if constexpr (std::is_same_v<Request, CreateTopics>) {
        return controller_.handle(request, [this] { return numbered(++last_uuid_); }, Now{});
      } else {
        return controller_.handle(request, Now{});
      }
    }();
    apply(decision.records);
    last_records_ = decision.records.size();
    return decision.reply;
  }

  void apply(const std::vector<meta::Record>& records) {
    for (const meta::Record& r : records) {
      REQUIRE(controller_.apply(r).ok());
      log_.push_back(r);
    }
  }
  void fence(int32_t broker) {
    meta::BrokerChangeRecord change;
    change.id = BrokerId(broker);
    change.epoch = image().broker(change.id)->epoch;
    change.fenced = true;
    apply({change});
  }
  /// Records of the last request.
  size_t last_records() const { return last_records_; }

  CreatedTopic create(NewTopic topic, bool validate_only = false) {
    return run(CreateTopics{{std::move(topic)}, validate_only}).topics.at(0);
  }
  CreatedTopic create(const std::string& name, int32_t partitions = 1, int16_t factor = 1) {
    NewTopic t;
    t.name = name;
    t.partitions = partitions;
    t.replication_factor = factor;
    return create(std::move(t));
  }

 private:
  Controller controller_;
  std::vector<meta::Record> log_;
  uint64_t last_uuid_ = 0;
  size_t last_records_ = 0;
};

inline Fixture::Fixture(int32_t brokers, meta::ConfigValues settings, Limits limits)
    : controller_(BrokerId(1), std::make_shared<meta::ConfigValues>(std::move(settings)), {}, limits) {
  (void)run(FoundCluster{cluster_id(), {{"metadata.version", int16_t{1}}}});
  for (int32_t b = 1; b <= brokers; ++b) (void)run(registration(b));
}

inline std::vector<BrokerId> broker_ids(std::initializer_list<int32_t> list) {
  std::vector<BrokerId> out;
  for (const int32_t i : list) out.emplace_back(i);
  return out;
}

}  // namespace millrace::control
