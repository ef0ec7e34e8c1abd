// Frames spelled out by hand from the protocol guide, byte by byte.
#include <string_view>

#include "support/catch.h"
#include "wire/headers.h"
#include "wire/messages/api_versions.h"
#include "wire/messages/describe_topic_partitions.h"
#include "wire/messages/fetch.h"
#include "wire/messages/find_coordinator.h"
#include "wire/messages/join_group.h"
#include "wire/messages/metadata.h"
#include "wire/messages/produce.h"
#include "wire/records/consumer_group.h"
#include "wire/records/consumer_protocol.h"
#include "wire/records/group_metadata.h"
#include "wire/records/offset_commit.h"
#include "wire/records/transaction_log.h"
#include "wire/versioned.h"

namespace millrace::wire {
namespace {

/// Hexadecimal bytes and 'quoted text'; blanks separate.
Bytes golden(std::string_view text) {
  Bytes out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ') continue;
    if (text[i] == '\'') {
      while (text[++i] != '\'') out.push_back(static_cast<uint8_t>(text[i]));
      continue;
    }
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    out.push_back(static_cast<uint8_t>(digit(text[i]) * 16 + digit(text[i + 1])));
    ++i;
  }
  return out;
}

template <class T>
void check_golden(const T& message, int16_t version, std::string_view text) {
  Bytes expected = golden(text);
  Writer w;
  encode(w, version, message);
  CHECK(w.take_bytes() == expected);
  T back;
  Reader r(expected);
  CHECK(decode(r, version, back).ok());
  CHECK(r.at_end());
  CHECK(back == message);
}

TEST_CASE("ApiVersions 3: flexible header with an old client id, compact strings, tagged blocks") {
  Writer w;
  RequestHeader header;
  header.request_api_key = 18;
  header.request_api_version = 3;
  header.correlation_id = 7;
  header.client_id = "rdkafka";
  encode_request_header(w, header);
  ApiVersionsRequest request;
  request.client_software_name = "lib";
  request.client_software_version = "2.0";
  encode(w, 3, request);
  Bytes frame = golden("0000001e 0012 0003 00000007 0007 'rdkafka' 00  04 'lib' 04 '2.0' 00");
  store_be(frame.data(), static_cast<int32_t>(frame.size() - 4));
  CHECK(w.take_framed().flatten() == frame);

  Reader r(MutableByteView(frame).subspan(4));
  const Result<RequestHeader> parsed = decode_request_header(r);
  REQUIRE(parsed.ok());
  CHECK(*parsed == header);
  ApiVersionsRequest back;
  REQUIRE(decode(r, 3, back).ok());
  CHECK(back == request);
  CHECK(r.at_end());
}

TEST_CASE("ApiVersions reply: header 0 whatever the body, features as tagged fields") {
  ApiVersionsResponse response;
  response.api_keys = {{.api_key = 0, .min_version = 0, .max_version = 11}};
  Writer w;
  encode_response_header(w, ApiKey::api_versions, 4, 9);
  encode(w, 4, response);
  CHECK(w.take_bytes() == golden("00000009  0000 02 0000 0000 000b 00 00000000 00"));

  response.supported_features = {{.name = "kraft", .min_version = 1, .max_version = 2}};
  response.finalized_features_epoch = 5;
  check_golden(
      response, 3,
      "0000 02 0000 0000 000b 00 00000000  02  00 0c 02 06 'kraft' 0001 0002 00  01 08 0000000000000005");
  ApiVersionsResponse refusal;
  refusal.error_code = 35;
  refusal.api_keys = {{.api_key = 18, .min_version = 0, .max_version = 4}};
  check_golden(refusal, 0, "0023 00000001 0012 0000 0004");
}

TEST_CASE("Metadata: null and empty topic lists differ from version 1 on") {
  MetadataRequest all;
  all.topics.reset();
  check_golden(all, 1, "ffffffff");
  MetadataRequest brokers_only;
  brokers_only.topics.emplace();
  check_golden(brokers_only, 1, "00000000");
  Writer w;
  encode(w, 0, all);  // version 0 has no null: empty means all
  CHECK(w.take_bytes() == golden("00000000"));
  MetadataRequest one;
  one.topics.emplace().emplace_back().name = "t";
  one.allow_auto_topic_creation = false;
  check_golden(one, 4, "00000001 0001 't' 00");
  check_golden(one, 12, "02 00000000000000000000000000000000 02 't' 00 00 00 00");
}

TEST_CASE("Produce 3 and 9: records are in the frame, not copied") {
  ProduceRequest request;
  request.acks = -1;
  request.timeout_ms = 1500;
  auto& topic = request.topic_data.emplace_back();
  topic.name = "t";
  auto& partition = topic.partition_data.emplace_back();
  partition.index = 2;
  partition.records = Records(Payload(Bytes{0xaa, 0xbb, 0xcc}));
  check_golden(request, 3, "ffff ffff 000005dc 00000001 0001 't' 00000001 00000002 00000003 aabbcc");
  check_golden(request, 9, "00 ffff 000005dc 02 02 't' 02 00000002 04 aabbcc 00 00 00");

  Bytes frame = golden("00 ffff 000005dc 02 02 't' 02 00000002 04 aabbcc 00 00 00");
  Reader r(frame);
  ProduceRequest back;
  REQUIRE(decode(r, 9, back).ok());
  CHECK(back.topic_data[0].partition_data[0].records.view.data() == frame.data() + 16);
  partition.records = Records::none();
  check_golden(request, 3, "ffff ffff 000005dc 00000001 0001 't' 00000001 00000002 ffffffff");
}

TEST_CASE("Produce 10 reply: the current leader is written only when it says something") {
  ProduceResponse response;
  auto& topic = response.responses.emplace_back();
  topic.name = "t";
  auto& partition = topic.partition_responses.emplace_back();
  partition.error_code = 6;
  partition.base_offset = -1;
  const std::string head =
      "02 02 't' 02 00000000 0006 ffffffffffffffff ffffffffffffffff ffffffffffffffff 01 00 ";
  check_golden(response, 10, head + "00 00 00000000 00");
  partition.current_leader = {.leader_id = 3, .leader_epoch = 4};
  check_golden(response, 10, head + "01 00 09 00000003 00000004 00  00 00000000 00");
  Writer w;
  encode(w, 8, response);  // version 8 has no such field
  CHECK(w.take_bytes() == golden("00000001 0001 't' 00000001 00000000 0006 ffffffffffffffff ffffffffffffffff "
                                 "ffffffffffffffff 00000000 "
                                 "ffff 00000000"));
}

TEST_CASE("Fetch 17: our private tag, and a decoder that does not know a tag skips it") {
  FetchRequest request;
  request.topics.emplace_back().partitions.emplace_back().durable_end_offset = 9;
  Writer w;
  encode(w, 17, request);
  Bytes bytes = w.take_bytes();
  const Bytes tag = golden("01 904e 08 0000000000000009");
  CHECK(std::search(bytes.begin(), bytes.end(), tag.begin(), tag.end()) != bytes.end());
  Reader r(bytes);
  FetchRequest back;
  REQUIRE(decode(r, 17, back).ok());
  CHECK(back == request);
  Reader older(bytes);  // version 16 has the same layout but for the tag
  REQUIRE(decode(older, 16, back).ok());
  CHECK(back.topics[0].partitions[0].durable_end_offset == -1);
  CHECK(older.at_end());
}

TEST_CASE("FindCoordinator changes shape at version 4") {
  FindCoordinatorRequest request;
  request.key = "g";
  check_golden(request, 0, "0001 'g'");
  check_golden(request, 3, "02 'g' 00 00");
  request.key = "";
  request.coordinator_keys = {"g", "h"};
  check_golden(request, 4, "00 03 02 'g' 02 'h' 00");
}

TEST_CASE("JoinGroup: the protocol name may be null from version 7 on, before it is empty") {
  JoinGroupResponse response;
  response.error_code = 79;
  response.protocol_name.reset();
  response.member_id = "m";
  check_golden(response, 7, "00000000 004f ffffffff 00 00 01 02 'm' 01 00");
  Writer w;
  encode(w, 4, response);
  CHECK(w.take_bytes() == golden("00000000 004f ffffffff 0000 0000 0001 'm' 00000000"));
}

TEST_CASE("a nullable struct has a byte in front") {
  DescribeTopicPartitionsRequest request;
  request.response_partition_limit = 2000;
  check_golden(request, 0, "01 000007d0 ff 00");
  request.cursor.emplace().topic_name = "t";
  check_golden(request, 0, "01 000007d0 01 02 't' 00000000 00 00");
}

TEST_CASE("stored keys begin with their record type, values with their version") {
  OffsetCommitKey key;
  key.group = "g";
  key.topic = "t";
  key.partition = 1;
  const Bytes key_bytes = golden("0001 0001 'g' 0001 't' 00000001");
  CHECK(encode_key(key) == key_bytes);
  CHECK(*key_type(key_bytes) == OffsetCommitKey::kRecordType);
  CHECK(*decode_key<OffsetCommitKey>(key_bytes) == key);
  CHECK(decode_key<GroupMetadataKey>(key_bytes).code() == ErrorCode::unsupported_version);
  CHECK(decode_key<OffsetCommitKey>(Bytes{0}).code() == ErrorCode::corrupt);

  OffsetCommitValue value;
  value.offset = 42;
  value.leader_epoch = 7;
  value.metadata = "";
  value.commit_timestamp = 1;
  const Bytes value_bytes = golden("0003 000000000000002a 00000007 0000 0000000000000001");
  CHECK(encode_versioned(value, 3) == value_bytes);
  CHECK(*decode_versioned<OffsetCommitValue>(value_bytes) == value);
  CHECK(decode_versioned<OffsetCommitValue>(golden("0005 00")).code() == ErrorCode::unsupported_version);
  CHECK(decode_versioned<OffsetCommitValue>(golden("0003 0000")).code() == ErrorCode::corrupt);
}

TEST_CASE("transaction log value 1: tagged fields away from their defaults only, in the order of tags") {
  TransactionLogValue value;
  value.producer_id = 1;
  value.producer_epoch = 2;
  value.transaction_timeout_ms = 3;
  value.transaction_status = 4;
  value.transaction_partitions.reset();
  value.transaction_last_update_timestamp_ms = 5;
  value.transaction_start_timestamp_ms = 6;
  value.next_producer_epoch = 8;
  value.client_transaction_version = 2;
  CHECK(encode_versioned(value, 1) ==
        golden("0001 0000000000000001 0002 00000003 04 00 0000000000000005 0000000000000006"
               "02 02 02 0002 03 02 0008"));
}

TEST_CASE("a member without classic metadata says so: null is not the default there") {
  ConsumerGroupMemberMetadataValue value;
  CHECK(value.classic_member_metadata.has_value());
  value.classic_member_metadata.reset();
  // As Kafka 4.4 writes it: every string empty, no topics, rebalance timeout -1, tag 0 with one byte 0.
  check_golden(value, 0, "01 01 01 01 01 01 ffffffff 01 01 00 01 00");
}

TEST_CASE("a consumer subscription newer than ours is read as the newest we know") {
  ConsumerProtocolSubscription subscription;
  subscription.topics = {"t"};
  Bytes bytes = encode_versioned(subscription, ConsumerProtocolSubscription::kMaxVersion);
  bytes[1] = 9;
  bytes.push_back(0x55);  // what a later version adds
  CHECK(decode_versioned<ConsumerProtocolSubscription>(bytes).code() == ErrorCode::unsupported_version);
  const auto read = decode_versioned<ConsumerProtocolSubscription>(bytes, NewerVersion::read_as_newest);
  REQUIRE(read.ok());
  CHECK(read->topics == std::vector<std::string>{"t"});
}

}  // namespace
}  // namespace millrace::wire
