#include "sim/sim_admin.h"

#include <algorithm>

#include "wire/messages/alter_partition_reassignments.h"
#include "wire/messages/create_partitions.h"
#include "wire/messages/create_topics.h"
#include "wire/messages/delete_topics.h"
#include "wire/messages/elect_leaders.h"
#include "wire/messages/incremental_alter_configs.h"

namespace millrace::sim {

namespace {

constexpr int8_t kTopicResource = 2;
constexpr int8_t kSet = 0;
constexpr int32_t kPartitionsMax = 8;
constexpr int32_t kTimeoutMs = 5'000;

}  // namespace

void SimAdmin::begin() {
  if (prepared_) return next();
  create_next();
}

template <class Request>
void SimAdmin::call(Request request, std::function<void(const typename Request::Response&)> then) {
  busy_ = true;
  client::CallOptions options;
  options.timeout_ms = 8'000;
  client().call<Request>(client::Target::controller(), std::move(request), options, nullptr,
                         [this, then = std::move(then)](Result<typename Request::Response> response) {
                           busy_ = false;
                           if (response.ok() && then) then(*response);
                           next();
                         });
}

void SimAdmin::create(const std::string& topic, int32_t partitions, std::function<void(ErrorCode)> done) {
  wire::CreateTopicsRequest request;
  request.timeout_ms = kTimeoutMs;
  auto& t = request.topics.emplace_back();
  t.name = topic;
  t.num_partitions = partitions;
  t.replication_factor = world_.knobs.replication_factor;
  client::CallOptions options;
  options.timeout_ms = 8'000;
  client().call<wire::CreateTopicsRequest>(client::Target::controller(), std::move(request), options, nullptr,
                                           [done = std::move(done)](Result<wire::CreateTopicsResponse> r) {
                                             if (!r.ok()) return done(r.code());
                                             if (r->topics.size() != 1) return done(ErrorCode::corrupt);
                                             done(error_from_wire(r->topics[0].error_code));
                                           });
}

void SimAdmin::create_next() {
  if (created_ == world_.knobs.topics) {
    prepared_ = true;
    return next();
  }
  const std::string topic = "t" + std::to_string(created_);
  create(topic, world_.knobs.partitions, [this, topic](ErrorCode code) {
    if (code == ErrorCode::none || code == ErrorCode::topic_already_exists) {
      world_.topics[topic] = world_.knobs.partitions;
      ++created_;
    }
    later(code == ErrorCode::none ? 1 : 200, [this] { create_next(); });
  });
}

void SimAdmin::next() {
  later(dice_.skewed(200, 4'000), [this] { act(); });
}

void SimAdmin::act() {
  if (resting_ || !world_.producing) return next();
  switch (dice_.below(8)) {
    case 0:
    case 1:
      // Led by a broker that has lost its disk and was not missed yet, and by others that leave before it is:
      // then nobody may lead.
      if (!world_.emptied.empty()) return next();
      return create_scratch();
    case 2:
      return delete_scratch();
    case 3:
      return add_partitions();
    case 4:
      return change_settings();
    case 5:
    case 6:
      return reassign();
    default:
      return elect();
  }
}

void SimAdmin::create_scratch() {
  const std::string topic = "scratch" + std::to_string(scratch_made_++);
  busy_ = true;
  create(topic, static_cast<int32_t>(dice_.between(1, 4)), [this, topic](ErrorCode code) {
    busy_ = false;
    if (code == ErrorCode::none) {
      scratch_.push_back(topic);
      world_.count("scratch topic made");
    }
    next();
  });
}

void SimAdmin::delete_scratch() {
  if (scratch_.empty()) return next();
  const size_t i = dice_.index(scratch_.size());
  wire::DeleteTopicsRequest request;
  request.timeout_ms = kTimeoutMs;
  request.topics.emplace_back().name = scratch_[i];
  request.topic_names.push_back(scratch_[i]);
  scratch_.erase(scratch_.begin() + static_cast<std::ptrdiff_t>(i));
  call<wire::DeleteTopicsRequest>(std::move(request), [this](const wire::DeleteTopicsResponse& r) {
    if (!r.responses.empty() && r.responses[0].error_code == 0) world_.count("scratch topic deleted");
  });
}

void SimAdmin::add_partitions() {
  std::string topic;
  int32_t partition = 0;
  if (!pick_partition(world_, dice_, topic, partition) || world_.topics[topic] >= kPartitionsMax)
    return next();
  wire::CreatePartitionsRequest request;
  request.timeout_ms = kTimeoutMs;
  auto& t = request.topics.emplace_back();
  t.name = topic;
  t.count = world_.topics[topic] + 1;
  t.assignments.reset();
  call<wire::CreatePartitionsRequest>(
      std::move(request), [this, topic, count = t.count](const wire::CreatePartitionsResponse& r) {
        if (r.results.empty() || r.results[0].error_code != 0) return;
        world_.topics[topic] = count;
        world_.count("partition added");
      });
}

void SimAdmin::change_settings() {
  std::string topic;
  int32_t partition = 0;
  if (!pick_partition(world_, dice_, topic, partition)) return next();
  wire::IncrementalAlterConfigsRequest request;
  auto& resource = request.resources.emplace_back();
  resource.resource_type = kTopicResource;
  resource.resource_name = topic;
  auto& c = resource.configs.emplace_back();
  c.config_operation = kSet;
  switch (dice_.below(3)) {
    case 0:
      c.name = "max.message.bytes";
      c.value = std::to_string(dice_.between(100'000, 1'000'000));
      break;
    case 1:
      c.name = "flush.messages";
      c.value = std::to_string(dice_.between(1, 1'000));
      break;
    default:
      c.name = "index.interval.bytes";
      c.value = std::to_string(dice_.between(100, 10'000));
      break;
  }
  call<wire::IncrementalAlterConfigsRequest>(std::move(request),
                                             [this](const wire::IncrementalAlterConfigsResponse& r) {
                                               if (!r.responses.empty() && r.responses[0].error_code == 0)
                                                 world_.count("settings changed");
                                             });
}

void SimAdmin::reassign() {
  std::string topic;
  int32_t partition = 0;
  if (world_.knobs.nodes == 1 || !pick_partition(world_, dice_, topic, partition)) return next();
  std::vector<int32_t> nodes;
  for (int32_t i = 1; i <= world_.knobs.nodes; ++i) nodes.push_back(i);
  for (size_t i = nodes.size(); i > 1; --i) std::swap(nodes[i - 1], nodes[dice_.index(i)]);
  // Mostly as many as before; fewer or more sometimes, never fewer than may be needed to write, nor one that
  // may be damaged alone.
  int64_t count = world_.knobs.replication_factor;
  if (dice_.percent(30)) count = dice_.between(world_.knobs.min_insync, world_.knobs.nodes);
  if (world_.knobs.faults.rot) count = std::max<int64_t>(count, 2);
  nodes.resize(static_cast<size_t>(count));
  wire::AlterPartitionReassignmentsRequest request;
  request.timeout_ms = kTimeoutMs;
  auto& t = request.topics.emplace_back();
  t.name = topic;
  auto& p = t.partitions.emplace_back();
  p.partition_index = partition;
  if (dice_.percent(85)) {
    p.replicas = nodes;
  } else {
    p.replicas.reset();  // calls off
  }
  call<wire::AlterPartitionReassignmentsRequest>(
      std::move(request), [this](const wire::AlterPartitionReassignmentsResponse& r) {
        if (r.error_code == 0 && !r.responses.empty() && !r.responses[0].partitions.empty() &&
            r.responses[0].partitions[0].error_code == 0)
          world_.count("reassignment begun or called off");
      });
}

void SimAdmin::elect() {
  std::string topic;
  int32_t partition = 0;
  if (!pick_partition(world_, dice_, topic, partition)) return next();
  wire::ElectLeadersRequest request;
  request.election_type = 0;
  request.timeout_ms = kTimeoutMs;
  auto& t = request.topic_partitions->emplace_back();
  t.topic = topic;
  t.partitions.push_back(partition);
  call<wire::ElectLeadersRequest>(std::move(request), [this](const wire::ElectLeadersResponse& r) {
    if (r.error_code != 0) return;
    world_.count("preferred leader asked for");
    for (const auto& elected : r.replica_election_results) {
      for (const auto& p : elected.partition_result) {
        if (p.error_code == 0) world_.meet(rare("preferred-asked"));
      }
    }
  });
}

}  // namespace millrace::sim
