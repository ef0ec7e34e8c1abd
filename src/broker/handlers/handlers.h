// One function per API, each in a file of its own named NN_api_name.cc; the head of that file lists the
// versions and what each changed. A handler owns the Call and answers it exactly once.
#pragma once

#include <string_view>

#include "broker/call.h"
#include "wire/messages/add_raft_voter.h"
#include "wire/messages/alter_configs.h"
#include "wire/messages/alter_partition_reassignments.h"
#include "wire/messages/api_versions.h"
#include "wire/messages/create_acls.h"
#include "wire/messages/create_partitions.h"
#include "wire/messages/create_topics.h"
#include "wire/messages/delete_acls.h"
#include "wire/messages/delete_groups.h"
#include "wire/messages/delete_records.h"
#include "wire/messages/delete_topics.h"
#include "wire/messages/describe_acls.h"
#include "wire/messages/describe_cluster.h"
#include "wire/messages/describe_configs.h"
#include "wire/messages/describe_groups.h"
#include "wire/messages/describe_log_dirs.h"
#include "wire/messages/describe_quorum.h"
#include "wire/messages/describe_topic_partitions.h"
#include "wire/messages/elect_leaders.h"
#include "wire/messages/fetch.h"
#include "wire/messages/find_coordinator.h"
#include "wire/messages/heartbeat.h"
#include "wire/messages/incremental_alter_configs.h"
#include "wire/messages/init_producer_id.h"
#include "wire/messages/join_group.h"
#include "wire/messages/leave_group.h"
#include "wire/messages/list_config_resources.h"
#include "wire/messages/list_groups.h"
#include "wire/messages/list_offsets.h"
#include "wire/messages/list_partition_reassignments.h"
#include "wire/messages/metadata.h"
#include "wire/messages/offset_commit.h"
#include "wire/messages/offset_delete.h"
#include "wire/messages/offset_fetch.h"
#include "wire/messages/offset_for_leader_epoch.h"
#include "wire/messages/produce.h"
#include "wire/messages/remove_raft_voter.h"
#include "wire/messages/sync_group.h"
#include "wire/messages/unregister_broker.h"
#include "wire/messages/update_features.h"

namespace millrace::broker {

void handle(Call call, wire::ProduceRequest& request);
void handle(Call call, wire::FetchRequest& request);
void handle(Call call, wire::ListOffsetsRequest& request);
void handle(Call call, wire::MetadataRequest& request);
void handle(Call call, wire::OffsetCommitRequest& request);
void handle(Call call, wire::OffsetFetchRequest& request);
void handle(Call call, wire::FindCoordinatorRequest& request);
void handle(Call call, wire::JoinGroupRequest& request);
void handle(Call call, wire::HeartbeatRequest& request);
void handle(Call call, wire::LeaveGroupRequest& request);
void handle(Call call, wire::SyncGroupRequest& request);
void handle(Call call, wire::DescribeGroupsRequest& request);
void handle(Call call, wire::ListGroupsRequest& request);
void handle(Call call, wire::ApiVersionsRequest& request);
void handle(Call call, wire::CreateTopicsRequest& request);
void handle(Call call, wire::DeleteTopicsRequest& request);
void handle(Call call, wire::DeleteRecordsRequest& request);
void handle(Call call, wire::InitProducerIdRequest& request);
void handle(Call call, wire::OffsetForLeaderEpochRequest& request);
void handle(Call call, wire::DescribeAclsRequest& request);
void handle(Call call, wire::CreateAclsRequest& request);
void handle(Call call, wire::DeleteAclsRequest& request);
void handle(Call call, wire::DescribeConfigsRequest& request);
void handle(Call call, wire::AlterConfigsRequest& request);
void handle(Call call, wire::DescribeLogDirsRequest& request);
void handle(Call call, wire::CreatePartitionsRequest& request);
void handle(Call call, wire::DeleteGroupsRequest& request);
void handle(Call call, wire::IncrementalAlterConfigsRequest& request);
void handle(Call call, wire::OffsetDeleteRequest& request);
void handle(Call call, wire::DescribeClusterRequest& request);
void handle(Call call, wire::ListConfigResourcesRequest& request);
void handle(Call call, wire::DescribeTopicPartitionsRequest& request);
void handle(Call call, wire::RemoveRaftVoterRequest& request);
void handle(Call call, wire::AddRaftVoterRequest& request);
void handle(Call call, wire::UnregisterBrokerRequest& request);
void handle(Call call, wire::UpdateFeaturesRequest& request);
void handle(Call call, wire::DescribeQuorumRequest& request);
void handle(Call call, wire::ListPartitionReassignmentsRequest& request);
void handle(Call call, wire::AlterPartitionReassignmentsRequest& request);
void handle(Call call, wire::ElectLeadersRequest& request);

/// The reply to an ApiVersions of a version we do not know, to be sent in the v0 layout.
wire::ApiVersionsResponse unsupported_api_versions();

/// __consumer_offsets, __transaction_state and their like: not for ordinary producers.
bool is_internal_topic(std::string_view name);

}  // namespace millrace::broker
