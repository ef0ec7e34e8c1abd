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
});

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
  const Status done = handler(
      Call(shard, context, *api, std::move(request.header), std::move(request.responder), start_ns), body);
  if (!done.ok()) complain(api->name, done.error().message);  // the dropped Call closes the connection
}

void Dispatcher::on_connection_closed(const link::ConnectionContext&) {}

}  // namespace millrace::broker
