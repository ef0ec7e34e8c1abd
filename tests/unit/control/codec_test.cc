// What brokers ask the controller of another node: there and back, and bytes that are no request.
#include "control/codec.h"

#include <random>

#include "support/catch.h"

namespace millrace::control {
namespace {

Uuid uuid_of(uint8_t n) {
  Uuid u;
  u.bytes.fill(n);
  return u;
}

std::vector<BrokerRequest> every_request() {
  RegisterBroker r;
  r.id = BrokerId(3);
  r.cluster_id = uuid_of(1);
  r.incarnation = uuid_of(2);
  r.endpoints = {{"PLAINTEXT", "h", 9092, meta::SecurityProtocol::plaintext},
                 {"CONTROLLER", "h2", 65535, meta::SecurityProtocol::sasl_ssl}};
  r.features = {{"f", {1, 7}}};
  r.rack = "";
  r.log_dirs = {uuid_of(4), uuid_of(5)};
  r.clean_epoch = BrokerEpoch(12);
  r.damaged = {{uuid_of(6), PartitionId(0)}, {uuid_of(6), PartitionId(9)}, {uuid_of(7), PartitionId(1)}};
  r.unsynced = {{uuid_of(8), PartitionId(2)}};
  r.min_insync_replicas = 2;
  RegisterBroker bare;
  bare.id = BrokerId(0);
  return {r,
          bare,
          BrokerHeartbeat{BrokerId(1),
                          BrokerEpoch(2),
                          LogIndex(3),
                          true,
                          true,
                          {uuid_of(1)},
                          {{{uuid_of(2), PartitionId(3)}, LeaderEpoch(4)}}},
          BrokerUnreachable{BrokerId(1), BrokerEpoch(2), BrokerId(3), BrokerEpoch(4)},
          AssignDirectories{BrokerId(1), BrokerEpoch(2), {{uuid_of(1), {{uuid_of(2), PartitionId(3)}}}}},
          AllocateProducerIds{BrokerId(1), BrokerEpoch(2)},
          AlterPartition{BrokerId(1),
                         BrokerEpoch(2),
                         {{uuid_of(9),
                           {{PartitionId(4),
                             LeaderEpoch(5),
                             6,
                             {{BrokerId(1), BrokerEpoch(-1)}, {BrokerId(2), BrokerEpoch(7)}},
                             true}}}}},
          CreateTopics{{{"t", 3, -1, {}, {{"a", "b"}, {"c", std::nullopt}}, true}}, false}};
}

std::vector<BrokerAnswer> every_answer() {
  const Outcome bad{ErrorCode::stale_broker_epoch, "stale"};
  std::vector<BrokerAnswer> all;
  const auto add = [&](Result<BrokerReply> r) { all.push_back({std::move(r), LogIndex(77)}); };
  add(BrokerReply(RegisterBrokerReply{{}, BrokerEpoch(9)}));
  add(BrokerReply(BrokerHeartbeatReply{bad, true, false, true}));
  add(BrokerReply(BrokerUnreachableReply{{}, true}));
  add(BrokerReply(AssignDirectoriesReply{{}, {{{uuid_of(1), PartitionId(2)}, bad}}}));
  add(BrokerReply(AllocateProducerIdsReply{{}, ProducerId(1000), 1000}));
  add(BrokerReply(AlterPartitionReply{{},
                                      {{{uuid_of(1), PartitionId(2)},
                                        bad,
                                        BrokerId(3),
                                        LeaderEpoch(4),
                                        5,
                                        {BrokerId(6), BrokerId(7)},
                                        true}}}));
  add(BrokerReply(CreateTopicsReply{{{"t", bad, uuid_of(3), 4, 5, {}}}}));
  add(Error(ErrorCode::not_controller, "elsewhere"));
  add(Error(ErrorCode::corrupt, "a refusal may carry any code"));
  return all;
}

}  // namespace

TEST_CASE("what brokers ask the controller survives its bytes", "[codec]") {
  for (const BrokerRequest& request : every_request()) {
    const Bytes bytes = encode(request);
    const Result<BrokerRequest> back = decode_broker_request(bytes);
    REQUIRE(back.ok());
    CHECK(back->index() == request.index());
    CHECK(encode(*back) == bytes);
  }
  const Result<BrokerRequest> back = decode_broker_request(encode(every_request().front()));
  REQUIRE(back.ok());
  const auto& r = std::get<RegisterBroker>(*back);
  const auto original = std::get<RegisterBroker>(every_request().front());
  CHECK(r.endpoints == original.endpoints);
  CHECK(r.features == original.features);
  CHECK(r.rack == original.rack);
  CHECK(r.log_dirs == original.log_dirs);
  CHECK(r.clean_epoch == original.clean_epoch);
  CHECK(r.damaged == original.damaged);
  CHECK(r.unsynced == original.unsynced);
  CHECK(r.min_insync_replicas == original.min_insync_replicas);
}

TEST_CASE("an absent rack, clean epoch or minimum stays absent", "[codec]") {
  const Result<BrokerRequest> back = decode_broker_request(encode(every_request()[1]));
  REQUIRE(back.ok());
  const auto& r = std::get<RegisterBroker>(*back);
  CHECK(!r.rack);
  CHECK(!r.clean_epoch);
  CHECK(!r.min_insync_replicas);
}

TEST_CASE("the controller's replies survive their bytes", "[codec]") {
  for (const BrokerAnswer& answer : every_answer()) {
    const Bytes bytes = encode(answer);
    const Result<BrokerAnswer> back = decode_broker_answer(bytes);
    REQUIRE(back.ok());
    CHECK(back->applied == LogIndex(77));
    CHECK(back->reply.code() == wire_code(answer.reply.code()));
    if (answer.reply.ok()) CHECK(back->reply->index() == answer.reply->index());
    CHECK(encode(*back) == bytes);
  }
  const Result<BrokerAnswer> back = decode_broker_answer(encode(every_answer()[5]));
  REQUIRE(back.ok());
  const AlteredPartition& p = std::get<AlterPartitionReply>(*back->reply).partitions.at(0);
  CHECK(p.outcome.error == ErrorCode::stale_broker_epoch);
  CHECK(p.outcome.message == "stale");
  CHECK(p.isr == std::vector<BrokerId>{BrokerId(6), BrokerId(7)});
  CHECK(p.partition_epoch == 5);
}

TEST_CASE("bytes that are no request of a broker are refused", "[codec]") {
  CHECK(decode_broker_request({}).code() == ErrorCode::corrupt);
  CHECK(decode_broker_answer({}).code() == ErrorCode::corrupt);
  // Cut anywhere they are refused or another, shorter message; never a crash.
  for (const BrokerRequest& request : every_request()) {
    const Bytes bytes = encode(request);
    for (size_t n = 0; n < bytes.size(); ++n) (void)decode_broker_request(ByteView(bytes).first(n));
  }
  for (const BrokerAnswer& answer : every_answer()) {
    const Bytes bytes = encode(answer);
    for (size_t n = 0; n < bytes.size(); ++n) (void)decode_broker_answer(ByteView(bytes).first(n));
  }
  std::minstd_rand random(7);
  size_t refused = 0;
  for (int round = 0; round < 5000; ++round) {
    const std::vector<BrokerRequest> all = every_request();
    Bytes bytes = encode(all[random() % all.size()]);
    for (int flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    refused += decode_broker_request(bytes).ok() ? 0u : 1u;
    (void)decode_broker_answer(bytes);
  }
  CHECK(refused > 0);
}

TEST_CASE("values out of range are refused, not cut", "[codec]") {
  RegisterBroker r = std::get<RegisterBroker>(every_request().front());
  r.log_dirs.assign(10'001, uuid_of(1));
  CHECK(decode_broker_request(encode(BrokerRequest(r))).code() == ErrorCode::corrupt);
  r.log_dirs.clear();
  r.damaged.assign(1'000'001, {uuid_of(1), PartitionId(1)});
  CHECK(decode_broker_request(encode(BrokerRequest(r))).code() == ErrorCode::corrupt);
  const BrokerAnswer ids{BrokerReply(AllocateProducerIdsReply{{}, ProducerId(INT64_MAX), 1}), LogIndex(1)};
  CHECK(decode_broker_answer(encode(ids)).code() == ErrorCode::corrupt);
}

}  // namespace millrace::control
