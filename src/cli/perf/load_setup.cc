#include "cli/perf/load_setup.h"

#include <algorithm>
#include <map>

#include "cli/arguments.h"
#include "cli/perf/call_kinds.h"
#include "client/offsets.h"
#include "record/codec.h"
#include "wire/messages/create_topics.h"
#include "wire/messages/fetch.h"
#include "wire/messages/init_producer_id.h"
#include "wire/messages/offset_commit.h"
#include "wire/messages/produce.h"

namespace millrace::cli::perf {
namespace {

constexpr int64_t kLeaderPollMs = 20;

struct Leader {
  io::Endpoint endpoint;
  int16_t produce_version = 0;
  std::vector<int32_t> partitions;
};

Status create_topic(const PerfLoad& options, Session& session) {
  wire::CreateTopicsRequest request;
  request.timeout_ms = static_cast<int32_t>(session.timeout_ms());
  auto& t = request.topics.emplace_back();
  t.name = options.topic;
  t.num_partitions = options.create_partitions;
  t.replication_factor = options.replication_factor;
  for (const std::string& text : options.configs) {
    TRY_ASSIGN(const auto pair, parse_pair(text));
    auto& c = t.configs.emplace_back();
    c.name = pair.first;
    c.value = pair.second;
  }
  const auto error_of = [](const wire::CreateTopicsResponse& r) {
    return r.topics.empty() ? ErrorCode::none : error_from_wire(r.topics[0].error_code);
  };
  TRY_ASSIGN(const auto response, session.call<wire::CreateTopicsRequest>(client::Target::controller(),
                                                                          std::move(request), error_of));
  const ErrorCode code = error_of(response);
  if (code != ErrorCode::none && code != ErrorCode::topic_already_exists) {
    return Error(code, "topic " + options.topic + ": " + response.topics[0].error_message.value_or(""));
  }
  return {};
}

using Offsets = std::map<client::TopicPartition, client::OffsetAt>;

Result<Offsets> offsets_at(Session& session, const client::TopicInfo& topic, int64_t when) {
  std::map<client::TopicPartition, int64_t> asked;
  for (const client::PartitionInfo& p : topic.partitions) asked[{topic.name, p.id}] = when;
  TRY_ASSIGN(Offsets found, session.wait<Offsets>([&](client::Done<Offsets> done) {
    client::list_offsets(session.client(), asked, false, session.timeout_ms(), std::move(done));
  }));
  for (const auto& [tp, at] : found) {
    if (at.error != ErrorCode::none) return Error(at.error, to_string(tp));
  }
  return found;
}

/// The topic when all its partitions have leaders that serve them.
Result<client::TopicInfo> led_topic(const PerfLoad& options, Session& session) {
  const int64_t deadline = session.mono_ms() + session.timeout_ms();
  for (;;) {
    TRY(session.metadata(std::vector<std::string>{options.topic}));
    const Result<client::TopicInfo> topic = session.topic(options.topic);
    const bool complete = topic.ok() &&
                          static_cast<int32_t>(topic->partitions.size()) >= options.create_partitions &&
                          !topic->partitions.empty() &&
                          std::all_of(topic->partitions.begin(), topic->partitions.end(),
                                      [](const client::PartitionInfo& p) { return p.leader >= 0; });
    // A leader that was only just named may not know it yet.
    if (complete && offsets_at(session, *topic, client::kLatest).ok()) return *topic;
    if (session.mono_ms() > deadline) {
      return topic.ok() ? Error(ErrorCode::timed_out, options.topic + ": partitions without leaders")
                        : topic.error();
    }
    TRY(session.pause(kLeaderPollMs));
  }
}

template <class Request>
Result<int16_t> version_at(Session& session, int32_t broker, int16_t min, int16_t max) {
  return session.wait<int16_t>([&session, broker, min, max](client::Done<int16_t> done) {
    session.client().reach(client::Target::broker(broker), session.client().deadline_after(0),
                           [done, min, max](Result<std::shared_ptr<client::BrokerLink>> link) {
                             if (!link.ok()) return done(std::move(link).error());
                             done((*link)->ranges().choose(Request::kApiKey, min, max, (*link)->name()));
                           });
  });
}

/// Leaders by broker id, with the versions that are spoken with them.
Result<std::map<int32_t, Leader>> find_leaders(const PerfLoad& options, Session& session,
                                               const client::TopicInfo& topic) {
  TRY_ASSIGN(const client::ClusterView view, session.metadata(std::vector<std::string>{options.topic}));
  std::map<int32_t, Leader> leaders;
  for (const client::PartitionInfo& p : topic.partitions) leaders[p.leader].partitions.push_back(p.id);
  for (auto& [id, leader] : leaders) {
    const client::BrokerInfo* broker = view.broker(id);
    if (broker == nullptr) return Error(ErrorCode::not_found, "broker " + std::to_string(id));
    leader.endpoint = broker->endpoint;
    TRY_ASSIGN(leader.produce_version,
               version_at<wire::ProduceRequest>(session, id, kProduceVersionMin, kProduceVersionMax));
    TRY(version_at<wire::FetchRequest>(session, id, kFetchVersion, kFetchVersion));
  }
  return leaders;
}

Result<int> connect_to(const PerfLoad& options, Session& session, const io::Endpoint& endpoint,
                       LoadScene& scene) {
  TRY_ASSIGN(const int socket,
             connect_socket(endpoint, options.congestion, static_cast<int>(session.timeout_ms())));
  scene.congestion = congestion_of(socket);
  return socket;
}

Result<int16_t> acks_of(const std::string& text) {
  if (text == "all" || text == "-1") return int16_t{-1};
  if (text == "0" || text == "1") return static_cast<int16_t>(text == "1" ? 1 : 0);
  return Error(ErrorCode::invalid_argument, "--acks is 0, 1 or all");
}

size_t batch_size_of(const RecordShape& shape) {
  size_t unused = 0;
  const auto batch = make_batch(shape, 1, unused);
  return batch.ok() ? batch->size() : 0;
}

/// As many records as make a batch of at most options.batch_bytes, one at least.
RecordShape shape_of(const PerfLoad& options) {
  RecordShape shape = options.shape;
  if (options.batch_bytes == 0) return shape;
  RecordShape plain = shape;
  plain.codec = record::Codec::none;
  plain.records = static_cast<int32_t>(std::clamp<size_t>(
      options.batch_bytes / std::max<size_t>(1, shape.key_bytes + shape.value_bytes), 1, size_t{1} << 20));
  while (plain.records > 1 && batch_size_of(plain) > options.batch_bytes) {
    plain.records -= std::max(1, plain.records / 256);
  }
  shape.records = std::max(1, plain.records);
  return shape;
}

Result<wire::InitProducerIdResponse> init_producer(Session& session) {
  wire::InitProducerIdRequest request;
  request.transactional_id.reset();
  request.transaction_timeout_ms = INT32_MAX;
  const auto error_of = [](const wire::InitProducerIdResponse& r) { return error_from_wire(r.error_code); };
  TRY_ASSIGN(auto response,
             session.call<wire::InitProducerIdRequest>(client::Target::any(), std::move(request), error_of));
  if (response.error_code != 0) return Error(error_from_wire(response.error_code), "InitProducerId");
  return response;
}

Status add_producers(const PerfLoad& options, Session& session, const std::map<int32_t, Leader>& leaders,
                     LoadRun& run, LoadScene& scene) {
  RecordShape shape = shape_of(options);
  TRY_ASSIGN(shape.codec, record::parse_codec(options.compression));
  TRY_ASSIGN(const int16_t acks, acks_of(options.acks));
  if (options.idempotent && acks != -1) {
    return Error(ErrorCode::invalid_argument, "--idempotent needs --acks all");
  }
  scene.records_per_batch = shape.records;
  scene.payload_bytes = static_cast<size_t>(shape.records) * (shape.key_bytes + shape.value_bytes);
  if (options.connections < leaders.size()) {
    return Error(ErrorCode::invalid_argument,
                 "--connections: at least one for each of " + std::to_string(leaders.size()) + " brokers");
  }
  auto next = leaders.begin();
  for (size_t i = 0; i < options.connections; ++i) {
    const Leader& leader = next->second;
    if (++next == leaders.end()) next = leaders.begin();
    size_t stamp_offset = 0;
    TRY_ASSIGN(const Bytes batch, make_batch(shape, i + 1, stamp_offset));
    scene.batch_bytes = batch.size();
    ProduceCalls::Options calls;
    calls.version = leader.produce_version;
    calls.acks = acks;
    calls.records = shape.records;
    calls.partitions = leader.partitions;
    calls.first_partition = i * leader.partitions.size() / options.connections;
    calls.stamped = options.kind == LoadKind::both && stamp_offset > 0;
    const size_t at_once = std::min(options.partitions_per_request, leader.partitions.size());
    calls.frame =
        make_produce_frame(leader.produce_version, options.topic, acks,
                           static_cast<int32_t>(session.timeout_ms()), batch, stamp_offset, at_once);
    if (options.idempotent) {
      TRY_ASSIGN(const auto producer, init_producer(session));
      calls.producer_id = producer.producer_id;
      calls.producer_epoch = producer.producer_epoch;
    }
    TRY_ASSIGN(const int socket, connect_to(options, session, leader.endpoint, scene));
    run.add(std::make_unique<CallChannel>(socket, std::make_unique<ProduceCalls>(std::move(calls)),
                                          options.in_flight, options.run.rate <= 0, run.calls_tally()));
  }
  return {};
}

Status add_consumers(const PerfLoad& options, Session& session, const client::TopicInfo& topic,
                     const std::map<int32_t, Leader>& leaders, LoadRun& run, LoadScene& scene) {
  TRY_ASSIGN(const Offsets begin,
             offsets_at(session, topic, options.from_beginning ? client::kEarliest : client::kLatest));
  Offsets end;
  if (options.until_end) {
    TRY_ASSIGN(end, offsets_at(session, topic, client::kLatest));
  }
  for (size_t consumer = 0; consumer < options.consumers; ++consumer) {
    for (const auto& [id, leader] : leaders) {
      const size_t connections = std::min(options.fetchers, leader.partitions.size());
      for (size_t c = 0; c < connections; ++c) {
        FetchChannel::Options fetch;
        fetch.topic = options.topic;
        fetch.limits = options.limits;
        fetch.read_committed = options.read_committed;
        fetch.session = !options.no_session;
        fetch.verify = options.verify;
        fetch.stamped = options.kind == LoadKind::both && !options.verify;
        for (size_t i = c; i < leader.partitions.size(); i += connections) {
          const client::TopicPartition tp{options.topic, leader.partitions[i]};
          fetch.positions.push_back({.partition = tp.partition, .offset = begin.at(tp).offset});
          if (options.until_end) fetch.ends.push_back(end.at(tp).offset);
        }
        TRY_ASSIGN(const int socket, connect_to(options, session, leader.endpoint, scene));
        run.add(std::make_unique<FetchChannel>(socket, std::move(fetch), run.fetches_tally()));
      }
    }
  }
  return {};
}

/// A coordinator that was only just chosen may need a moment until it takes commits.
Status await_coordinator(Session& session, const std::string& group, const std::string& topic) {
  using Codes = std::map<client::TopicPartition, ErrorCode>;
  const client::TopicPartition tp{topic, 0};
  const int64_t deadline = session.mono_ms() + session.timeout_ms();
  for (;;) {
    const Result<Codes> codes = session.wait<Codes>([&](client::Done<Codes> done) {
      client::commit_offsets(session.client(), {.group = group, .member_id = {}, .instance_id = {}},
                             {{tp, 0}}, session.timeout_ms(), std::move(done));
    });
    const ErrorCode code = codes.ok() ? codes->at(tp) : codes.code();
    if (code == ErrorCode::none) return {};
    if (session.mono_ms() > deadline) return Error(code, "group " + group + " takes no commits");
    TRY(session.pause(kLeaderPollMs));
  }
}

Status add_committers(const PerfLoad& options, Session& session, LoadRun& run, LoadScene& scene) {
  for (size_t i = 0; i < options.connections; ++i) {
    // A group each: they spread over coordinators, and nobody waits for another's lock.
    const std::string group = options.group + "-" + std::to_string(i);
    TRY(await_coordinator(session, group, options.topic));
    TRY_ASSIGN(const io::Endpoint endpoint, session.wait<io::Endpoint>([&](client::Done<io::Endpoint> done) {
      session.client().reach(client::Target::coordinator(group), session.client().deadline_after(0),
                             [done](Result<std::shared_ptr<client::BrokerLink>> link) {
                               if (!link.ok()) return done(std::move(link).error());
                               const auto version =
                                   (*link)->ranges().choose(wire::ApiKey::offset_commit, kCommitVersion,
                                                            kCommitVersion, (*link)->name());
                               if (!version.ok()) return done(version.error());
                               done((*link)->endpoint());
                             });
    }));
    TRY_ASSIGN(const int socket, connect_to(options, session, endpoint, scene));
    run.add(std::make_unique<CallChannel>(socket, std::make_unique<CommitCalls>(group, options.topic, 0),
                                          options.in_flight, options.run.rate <= 0, run.calls_tally()));
  }
  return {};
}

}  // namespace

Result<LoadScene> set_up(const PerfLoad& options, Session& session, LoadRun& run) {
  LoadScene scene;
  if (options.create_partitions > 0) TRY(create_topic(options, session));
  TRY_ASSIGN(const client::TopicInfo topic, led_topic(options, session));
  TRY_ASSIGN(const auto leaders, find_leaders(options, session, topic));
  scene.partitions = topic.partitions.size();
  scene.brokers = leaders.size();
  if (options.kind == LoadKind::commits) {
    TRY(add_committers(options, session, run, scene));
    return scene;
  }
  if (options.kind != LoadKind::consume) TRY(add_producers(options, session, leaders, run, scene));
  if (options.kind != LoadKind::produce) TRY(add_consumers(options, session, topic, leaders, run, scene));
  return scene;
}

}  // namespace millrace::cli::perf
