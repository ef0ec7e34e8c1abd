#include "broker/dispatcher.h"

#include <array>

#include "broker/broker.h"
#include "broker/handlers/handlers.h"
#include "wire/reader.h"

namespace millrace::broker {
namespace {

using Invoke = Status (*)(Call call, MutableByteView body);

// Decodes at the request's version and hands over; an error means that nothing was answered and the
// connection is to be closed, as Kafka does with a request it cannot parse.
template <class Request>
Status invoke(Call call, MutableByteView body) {
  wire::Reader reader(body);
  Request request;
  TRY(decode(reader, call.version(), request));
  handle(std::move(call), request);
  return {};
}

struct Route {
  wire::ApiKey key;
  Invoke invoke;
};

template <class Request>
constexpr Route route() {
  return {Request::kApiKey, &invoke<Request>};
}

constexpr auto kRoutes = std::to_array<Route>({
    route<wire::ProduceRequest>(),
    route<wire::FetchRequest>(),
    route<wire::ListOffsetsRequest>(),
    route<wire::MetadataRequest>(),
    route<wire::OffsetCommitRequest>(),
    route<wire::OffsetFetchRequest>(),
    route<wire::FindCoordinatorRequest>(),
    route<wire::JoinGroupRequest>(),
    route<wire::HeartbeatRequest>(),
    route<wire::LeaveGroupRequest>(),
    route<wire::SyncGroupRequest>(),
    route<wire::DescribeGroupsRequest>(),
    route<wire::ListGroupsRequest>(),
    route<wire::ApiVersionsRequest>(),
    route<wire::CreateTopicsRequest>(),
    route<wire::DeleteTopicsRequest>(),
    route<wire::DeleteRecordsRequest>(),
    route<wire::InitProducerIdRequest>(),
    route<wire::OffsetForLeaderEpochRequest>(),
    route<wire::DescribeAclsRequest>(),
    route<wire::CreateAclsRequest>(),
    route<wire::DeleteAclsRequest>(),
    route<wire::DescribeConfigsRequest>(),
    route<wire::AlterConfigsRequest>(),
    route<wire::DescribeLogDirsRequest>(),
    route<wire::CreatePartitionsRequest>(),
    route<wire::DeleteGroupsRequest>(),
    route<wire::IncrementalAlterConfigsRequest>(),
    route<wire::OffsetDeleteRequest>(),
    route<wire::DescribeClusterRequest>(),
    route<wire::ListConfigResourcesRequest>(),
    route<wire::DescribeTopicPartitionsRequest>(),
    route<wire::ElectLeadersRequest>(),
    route<wire::AlterPartitionReassignmentsRequest>(),
    route<wire::ListPartitionReassignmentsRequest>(),
    route<wire::DescribeQuorumRequest>(),
    route<wire::UpdateFeaturesRequest>(),
    route<wire::UnregisterBrokerRequest>(),
    route<wire::AddRaftVoterRequest>(),
    route<wire::RemoveRaftVoterRequest>(),
});

// What only the active controller can answer: passed on whole to the node where it is.
constexpr auto kForController = std::to_array<wire::ApiKey>({
    wire::ApiKey::create_topics,
    wire::ApiKey::delete_topics,
    wire::ApiKey::alter_configs,
    wire::ApiKey::create_partitions,
    wire::ApiKey::elect_leaders,
    wire::ApiKey::incremental_alter_configs,
    wire::ApiKey::alter_partition_reassignments,
    wire::ApiKey::list_partition_reassignments,
    wire::ApiKey::describe_quorum,
    wire::ApiKey::update_features,
    wire::ApiKey::unregister_broker,
    wire::ApiKey::add_raft_voter,
    wire::ApiKey::remove_raft_voter,
});

constexpr std::array<bool, kApiSlots> make_for_controller() {
  std::array<bool, kApiSlots> table{};
  for (const wire::ApiKey key : kForController) table[static_cast<size_t>(key)] = true;
  return table;
}

constexpr std::array<bool, kApiSlots> kIsForController = make_for_controller();

constexpr std::array<Invoke, kApiSlots> make_table() {
  std::array<Invoke, kApiSlots> table{};
  for (const Route& r : kRoutes) table[static_cast<size_t>(r.key)] = r.invoke;
  return table;
}

constexpr std::array<Invoke, kApiSlots> kTable = make_table();

Invoke find_handler(int16_t key) {
  return key >= 0 && static_cast<size_t>(key) < kTable.size() ? kTable[static_cast<size_t>(key)] : nullptr;
}

}  // namespace

bool is_handled(int16_t api_key) {
  return find_handler(api_key) != nullptr;
}

void Dispatcher::on_request(const std::shared_ptr<link::ConnectionContext>& context, link::Request request) {
  Shard& shard = broker_.shard(context->loop_index);
  const int16_t key = request.header.request_api_key;
  const int16_t version = request.header.request_api_version;
  const wire::ApiInfo* api = wire::find_api(key);
  const Invoke handler = find_handler(key);
  const auto complain = [&](std::string_view what, std::string_view why) {
    shard.metrics.requests_refused->add();
    uint64_t held_back = 0;
    if (shard.complaints.admit(broker_.environment().clock->now().mono_ms, held_back)) {
      shard.trace.warn("closing the connection from {}:{} on {}: {} v{} {}{} ({} such lines held back)",
                       context->peer.host, context->peer.port, context->listener, what, version,
                       why.empty() ? "" : ": ", why, held_back);
    }
  };
  if (api == nullptr || handler == nullptr || !api->served()) {
    complain(api == nullptr ? std::string_view("unknown api") : api->name, "is not served");
    request.responder.close_connection();
    return;
  }
  const int64_t start_ns = broker_.environment().clock->mono_ns();
  // What a client asks behind a produce sees what it wrote.
  if (api->key != wire::ApiKey::produce && shard.gathered && shard.gathered->any_of(*context))
    shard.gathered->append_now();
  if (!api->serves(version)) {
    if (api->key == wire::ApiKey::api_versions) {
      wire::Writer writer;
      wire::encode_response_header(writer, api->key, 0, request.header.correlation_id);
      wire::encode(writer, 0, unsupported_api_versions());
      request.responder.reply(writer.take_framed());
      return;
    }
    complain(api->name, "is outside the served versions");
    request.responder.close_connection();
    return;
  }
  const MutableByteView body = request.body;
  if (broker_.has_peers() && kIsForController[static_cast<size_t>(key)]) {
    ledger::ForwardRequest passed;
    passed.api_key = key;
    passed.api_version = version;
    passed.client_id = request.header.client_id.value_or("");
    passed.listener = context->listener;
    passed.body = Slice::copy_of(body);
    const SharedCall call =
        share(Call(shard, context, *api, std::move(request.header), std::move(request.responder), start_ns));
    broker_.pass_on(std::move(passed), call, [handler, call](const ledger::ForwardRequest& r) {
      Bytes copy(r.body.view().begin(), r.body.view().end());
      (void)handler(std::move(*call), copy);  // the dropped Call closes the connection
    });
    return;
  }
  const Status done = handler(
      Call(shard, context, *api, std::move(request.header), std::move(request.responder), start_ns), body);
  if (!done.ok()) complain(api->name, done.error().message);  // the dropped Call closes the connection
}

void run_forwarded(Shard& shard, const ledger::ForwardRequest& request, ForwardSink sink) {
  const wire::ApiInfo* api = wire::find_api(request.api_key);
  const Invoke handler = find_handler(request.api_key);
  if (api == nullptr || handler == nullptr || !api->serves(request.api_version) ||
      !kIsForController[static_cast<size_t>(request.api_key)]) {
    return;
  }
  auto context = std::make_shared<link::ConnectionContext>();
  context->loop = shard.loop;
  context->loop_index = shard.index;
  context->listener = request.listener;
  wire::RequestHeader header;
  header.request_api_key = request.api_key;
  header.request_api_version = request.api_version;
  header.client_id = request.client_id;
  Bytes body(request.body.view().begin(), request.body.view().end());
  const int64_t start_ns = shard.broker.environment().clock->mono_ns();
  (void)handler(Call(shard, std::move(context), *api, std::move(header), std::move(sink), start_ns),
                body);  // the dropped sink says so
}

void Dispatcher::on_connection_closed(const link::ConnectionContext&) {}

}  // namespace millrace::broker
