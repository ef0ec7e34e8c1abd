#include "base/error.h"

#include <array>

namespace millrace {
namespace {

struct ErrorRow {
  ErrorCode code;
  std::string_view name;
  bool retriable;
  ErrorCode wire;
};

constexpr auto kErrors = std::to_array<ErrorRow>({
    {ErrorCode::unknown_server_error, "UNKNOWN_SERVER_ERROR", false, ErrorCode::unknown_server_error},
    {ErrorCode::none, "NONE", false, ErrorCode::none},
    {ErrorCode::offset_out_of_range, "OFFSET_OUT_OF_RANGE", false, ErrorCode::offset_out_of_range},
    {ErrorCode::corrupt_message, "CORRUPT_MESSAGE", true, ErrorCode::corrupt_message},
    {ErrorCode::unknown_topic_or_partition, "UNKNOWN_TOPIC_OR_PARTITION", true, ErrorCode::unknown_topic_or_partition},
    {ErrorCode::invalid_fetch_size, "INVALID_FETCH_SIZE", false, ErrorCode::invalid_fetch_size},
    {ErrorCode::leader_not_available, "LEADER_NOT_AVAILABLE", true, ErrorCode::leader_not_available},
    {ErrorCode::not_leader_or_follower, "NOT_LEADER_OR_FOLLOWER", true, ErrorCode::not_leader_or_follower},
    {ErrorCode::request_timed_out, "REQUEST_TIMED_OUT", true, ErrorCode::request_timed_out},
    {ErrorCode::broker_not_available, "BROKER_NOT_AVAILABLE", false, ErrorCode::broker_not_available},
    {ErrorCode::replica_not_available, "REPLICA_NOT_AVAILABLE", true, ErrorCode::replica_not_available},
    {ErrorCode::message_too_large, "MESSAGE_TOO_LARGE", false, ErrorCode::message_too_large},
    {ErrorCode::stale_controller_epoch, "STALE_CONTROLLER_EPOCH", false, ErrorCode::stale_controller_epoch},
    {ErrorCode::offset_metadata_too_large, "OFFSET_METADATA_TOO_LARGE", false, ErrorCode::offset_metadata_too_large},
    {ErrorCode::network_exception, "NETWORK_EXCEPTION", true, ErrorCode::network_exception},
    {ErrorCode::coordinator_load_in_progress, "COORDINATOR_LOAD_IN_PROGRESS", true, ErrorCode::coordinator_load_in_progress},
    {ErrorCode::coordinator_not_available, "COORDINATOR_NOT_AVAILABLE", true, ErrorCode::coordinator_not_available},
    {ErrorCode::not_coordinator, "NOT_COORDINATOR", true, ErrorCode::not_coordinator},
    {ErrorCode::invalid_topic_exception, "INVALID_TOPIC_EXCEPTION", false, ErrorCode::invalid_topic_exception},
    {ErrorCode::record_list_too_large, "RECORD_LIST_TOO_LARGE", false, ErrorCode::record_list_too_large},
    {ErrorCode::not_enough_replicas, "NOT_ENOUGH_REPLICAS", true, ErrorCode::not_enough_replicas},
    {ErrorCode::not_enough_replicas_after_append, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", true, ErrorCode::not_enough_replicas_after_append},
    {ErrorCode::invalid_required_acks, "INVALID_REQUIRED_ACKS", false, ErrorCode::invalid_required_acks},
    {ErrorCode::illegal_generation, "ILLEGAL_GENERATION", false, ErrorCode::illegal_generation},
    {ErrorCode::inconsistent_group_protocol, "INCONSISTENT_GROUP_PROTOCOL", false, ErrorCode::inconsistent_group_protocol},
    {ErrorCode::invalid_group_id, "INVALID_GROUP_ID", false, ErrorCode::invalid_group_id},
    {ErrorCode::unknown_member_id, "UNKNOWN_MEMBER_ID", false, ErrorCode::unknown_member_id},
    {ErrorCode::invalid_session_timeout, "INVALID_SESSION_TIMEOUT", false, ErrorCode::invalid_session_timeout},
    {ErrorCode::rebalance_in_progress, "REBALANCE_IN_PROGRESS", false, ErrorCode::rebalance_in_progress},
    {ErrorCode::invalid_commit_offset_size, "INVALID_COMMIT_OFFSET_SIZE", false, ErrorCode::invalid_commit_offset_size},
    {ErrorCode::topic_authorization_failed, "TOPIC_AUTHORIZATION_FAILED", false, ErrorCode::topic_authorization_failed},
    {ErrorCode::group_authorization_failed, "GROUP_AUTHORIZATION_FAILED", false, ErrorCode::group_authorization_failed},
    {ErrorCode::cluster_authorization_failed, "CLUSTER_AUTHORIZATION_FAILED", false, ErrorCode::cluster_authorization_failed},
    {ErrorCode::invalid_timestamp, "INVALID_TIMESTAMP", false, ErrorCode::invalid_timestamp},
    {ErrorCode::unsupported_sasl_mechanism, "UNSUPPORTED_SASL_MECHANISM", false, ErrorCode::unsupported_sasl_mechanism},
    {ErrorCode::illegal_sasl_state, "ILLEGAL_SASL_STATE", false, ErrorCode::illegal_sasl_state},
    {ErrorCode::unsupported_version, "UNSUPPORTED_VERSION", false, ErrorCode::unsupported_version},
    {ErrorCode::topic_already_exists, "TOPIC_ALREADY_EXISTS", false, ErrorCode::topic_already_exists},
    {ErrorCode::invalid_partitions, "INVALID_PARTITIONS", false, ErrorCode::invalid_partitions},
    {ErrorCode::invalid_replication_factor, "INVALID_REPLICATION_FACTOR", false, ErrorCode::invalid_replication_factor},
    {ErrorCode::invalid_replica_assignment, "INVALID_REPLICA_ASSIGNMENT", false, ErrorCode::invalid_replica_assignment},
    {ErrorCode::invalid_config, "INVALID_CONFIG", false, ErrorCode::invalid_config},
    {ErrorCode::not_controller, "NOT_CONTROLLER", true, ErrorCode::not_controller},
    {ErrorCode::invalid_request, "INVALID_REQUEST", false, ErrorCode::invalid_request},
    {ErrorCode::unsupported_for_message_format, "UNSUPPORTED_FOR_MESSAGE_FORMAT", false, ErrorCode::unsupported_for_message_format},
    {ErrorCode::policy_violation, "POLICY_VIOLATION", false, ErrorCode::policy_violation},
    {ErrorCode::out_of_order_sequence_number, "OUT_OF_ORDER_SEQUENCE_NUMBER", false, ErrorCode::out_of_order_sequence_number},
    {ErrorCode::duplicate_sequence_number, "DUPLICATE_SEQUENCE_NUMBER", false, ErrorCode::duplicate_sequence_number},
    {ErrorCode::invalid_producer_epoch, "INVALID_PRODUCER_EPOCH", false, ErrorCode::invalid_producer_epoch},
    {ErrorCode::invalid_txn_state, "INVALID_TXN_STATE", false, ErrorCode::invalid_txn_state},
    {ErrorCode::invalid_producer_id_mapping, "INVALID_PRODUCER_ID_MAPPING", false, ErrorCode::invalid_producer_id_mapping},
    {ErrorCode::invalid_transaction_timeout, "INVALID_TRANSACTION_TIMEOUT", false, ErrorCode::invalid_transaction_timeout},
    {ErrorCode::concurrent_transactions, "CONCURRENT_TRANSACTIONS", true, ErrorCode::concurrent_transactions},
    {ErrorCode::transaction_coordinator_fenced, "TRANSACTION_COORDINATOR_FENCED", false, ErrorCode::transaction_coordinator_fenced},
    {ErrorCode::transactional_id_authorization_failed, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", false, ErrorCode::transactional_id_authorization_failed},
    {ErrorCode::security_disabled, "SECURITY_DISABLED", false, ErrorCode::security_disabled},
    {ErrorCode::operation_not_attempted, "OPERATION_NOT_ATTEMPTED", false, ErrorCode::operation_not_attempted},
    {ErrorCode::kafka_storage_error, "KAFKA_STORAGE_ERROR", true, ErrorCode::kafka_storage_error},
    {ErrorCode::log_dir_not_found, "LOG_DIR_NOT_FOUND", false, ErrorCode::log_dir_not_found},
    {ErrorCode::sasl_authentication_failed, "SASL_AUTHENTICATION_FAILED", false, ErrorCode::sasl_authentication_failed},
    {ErrorCode::unknown_producer_id, "UNKNOWN_PRODUCER_ID", false, ErrorCode::unknown_producer_id},
    {ErrorCode::reassignment_in_progress, "REASSIGNMENT_IN_PROGRESS", false, ErrorCode::reassignment_in_progress},
    {ErrorCode::delegation_token_auth_disabled, "DELEGATION_TOKEN_AUTH_DISABLED", false, ErrorCode::delegation_token_auth_disabled},
    {ErrorCode::delegation_token_not_found, "DELEGATION_TOKEN_NOT_FOUND", false, ErrorCode::delegation_token_not_found},
    {ErrorCode::delegation_token_owner_mismatch, "DELEGATION_TOKEN_OWNER_MISMATCH", false, ErrorCode::delegation_token_owner_mismatch},
    {ErrorCode::delegation_token_request_not_allowed, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", false, ErrorCode::delegation_token_request_not_allowed},
    {ErrorCode::delegation_token_authorization_failed, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", false, ErrorCode::delegation_token_authorization_failed},
    {ErrorCode::delegation_token_expired, "DELEGATION_TOKEN_EXPIRED", false, ErrorCode::delegation_token_expired},
    {ErrorCode::invalid_principal_type, "INVALID_PRINCIPAL_TYPE", false, ErrorCode::invalid_principal_type},
    {ErrorCode::non_empty_group, "NON_EMPTY_GROUP", false, ErrorCode::non_empty_group},
    {ErrorCode::group_id_not_found, "GROUP_ID_NOT_FOUND", false, ErrorCode::group_id_not_found},
    {ErrorCode::fetch_session_id_not_found, "FETCH_SESSION_ID_NOT_FOUND", true, ErrorCode::fetch_session_id_not_found},
    {ErrorCode::invalid_fetch_session_epoch, "INVALID_FETCH_SESSION_EPOCH", true, ErrorCode::invalid_fetch_session_epoch},
    {ErrorCode::listener_not_found, "LISTENER_NOT_FOUND", true, ErrorCode::listener_not_found},
    {ErrorCode::topic_deletion_disabled, "TOPIC_DELETION_DISABLED", false, ErrorCode::topic_deletion_disabled},
    {ErrorCode::fenced_leader_epoch, "FENCED_LEADER_EPOCH", true, ErrorCode::fenced_leader_epoch},
    {ErrorCode::unknown_leader_epoch, "UNKNOWN_LEADER_EPOCH", true, ErrorCode::unknown_leader_epoch},
    {ErrorCode::unsupported_compression_type, "UNSUPPORTED_COMPRESSION_TYPE", false, ErrorCode::unsupported_compression_type},
    {ErrorCode::stale_broker_epoch, "STALE_BROKER_EPOCH", false, ErrorCode::stale_broker_epoch},
    {ErrorCode::offset_not_available, "OFFSET_NOT_AVAILABLE", true, ErrorCode::offset_not_available},
    {ErrorCode::member_id_required, "MEMBER_ID_REQUIRED", false, ErrorCode::member_id_required},
    {ErrorCode::preferred_leader_not_available, "PREFERRED_LEADER_NOT_AVAILABLE", true, ErrorCode::preferred_leader_not_available},
    {ErrorCode::group_max_size_reached, "GROUP_MAX_SIZE_REACHED", false, ErrorCode::group_max_size_reached},
    {ErrorCode::fenced_instance_id, "FENCED_INSTANCE_ID", false, ErrorCode::fenced_instance_id},
    {ErrorCode::eligible_leaders_not_available, "ELIGIBLE_LEADERS_NOT_AVAILABLE", true, ErrorCode::eligible_leaders_not_available},
    {ErrorCode::election_not_needed, "ELECTION_NOT_NEEDED", false, ErrorCode::election_not_needed},
    {ErrorCode::no_reassignment_in_progress, "NO_REASSIGNMENT_IN_PROGRESS", false, ErrorCode::no_reassignment_in_progress},
    {ErrorCode::group_subscribed_to_topic, "GROUP_SUBSCRIBED_TO_TOPIC", false, ErrorCode::group_subscribed_to_topic},
    {ErrorCode::invalid_record, "INVALID_RECORD", false, ErrorCode::invalid_record},
    {ErrorCode::unstable_offset_commit, "UNSTABLE_OFFSET_COMMIT", true, ErrorCode::unstable_offset_commit},
    {ErrorCode::throttling_quota_exceeded, "THROTTLING_QUOTA_EXCEEDED", true, ErrorCode::throttling_quota_exceeded},
    {ErrorCode::producer_fenced, "PRODUCER_FENCED", false, ErrorCode::producer_fenced},
    {ErrorCode::resource_not_found, "RESOURCE_NOT_FOUND", false, ErrorCode::resource_not_found},
    {ErrorCode::duplicate_resource, "DUPLICATE_RESOURCE", false, ErrorCode::duplicate_resource},
    {ErrorCode::unacceptable_credential, "UNACCEPTABLE_CREDENTIAL", false, ErrorCode::unacceptable_credential},
    {ErrorCode::inconsistent_voter_set, "INCONSISTENT_VOTER_SET", false, ErrorCode::inconsistent_voter_set},
    {ErrorCode::invalid_update_version, "INVALID_UPDATE_VERSION", false, ErrorCode::invalid_update_version},
    {ErrorCode::feature_update_failed, "FEATURE_UPDATE_FAILED", false, ErrorCode::feature_update_failed},
    {ErrorCode::principal_deserialization_failure, "PRINCIPAL_DESERIALIZATION_FAILURE", false, ErrorCode::principal_deserialization_failure},
    {ErrorCode::snapshot_not_found, "SNAPSHOT_NOT_FOUND", false, ErrorCode::snapshot_not_found},
    {ErrorCode::position_out_of_range, "POSITION_OUT_OF_RANGE", false, ErrorCode::position_out_of_range},
    {ErrorCode::unknown_topic_id, "UNKNOWN_TOPIC_ID", true, ErrorCode::unknown_topic_id},
    {ErrorCode::duplicate_broker_registration, "DUPLICATE_BROKER_REGISTRATION", false, ErrorCode::duplicate_broker_registration},
    {ErrorCode::broker_id_not_registered, "BROKER_ID_NOT_REGISTERED", false, ErrorCode::broker_id_not_registered},
    {ErrorCode::inconsistent_topic_id, "INCONSISTENT_TOPIC_ID", true, ErrorCode::inconsistent_topic_id},
    {ErrorCode::inconsistent_cluster_id, "INCONSISTENT_CLUSTER_ID", false, ErrorCode::inconsistent_cluster_id},
    {ErrorCode::transactional_id_not_found, "TRANSACTIONAL_ID_NOT_FOUND", false, ErrorCode::transactional_id_not_found},
    {ErrorCode::fetch_session_topic_id_error, "FETCH_SESSION_TOPIC_ID_ERROR", true, ErrorCode::fetch_session_topic_id_error},
    {ErrorCode::ineligible_replica, "INELIGIBLE_REPLICA", false, ErrorCode::ineligible_replica},
    {ErrorCode::new_leader_elected, "NEW_LEADER_ELECTED", false, ErrorCode::new_leader_elected},
    {ErrorCode::offset_moved_to_tiered_storage, "OFFSET_MOVED_TO_TIERED_STORAGE", false, ErrorCode::offset_moved_to_tiered_storage},
    {ErrorCode::fenced_member_epoch, "FENCED_MEMBER_EPOCH", false, ErrorCode::fenced_member_epoch},
    {ErrorCode::unreleased_instance_id, "UNRELEASED_INSTANCE_ID", false, ErrorCode::unreleased_instance_id},
    {ErrorCode::unsupported_assignor, "UNSUPPORTED_ASSIGNOR", false, ErrorCode::unsupported_assignor},
    {ErrorCode::stale_member_epoch, "STALE_MEMBER_EPOCH", false, ErrorCode::stale_member_epoch},
    {ErrorCode::mismatched_endpoint_type, "MISMATCHED_ENDPOINT_TYPE", false, ErrorCode::mismatched_endpoint_type},
    {ErrorCode::unsupported_endpoint_type, "UNSUPPORTED_ENDPOINT_TYPE", false, ErrorCode::unsupported_endpoint_type},
    {ErrorCode::unknown_controller_id, "UNKNOWN_CONTROLLER_ID", false, ErrorCode::unknown_controller_id},
    {ErrorCode::unknown_subscription_id, "UNKNOWN_SUBSCRIPTION_ID", false, ErrorCode::unknown_subscription_id},
    {ErrorCode::telemetry_too_large, "TELEMETRY_TOO_LARGE", false, ErrorCode::telemetry_too_large},
    {ErrorCode::invalid_registration, "INVALID_REGISTRATION", false, ErrorCode::invalid_registration},
    {ErrorCode::transaction_abortable, "TRANSACTION_ABORTABLE", false, ErrorCode::transaction_abortable},
    {ErrorCode::invalid_record_state, "INVALID_RECORD_STATE", false, ErrorCode::invalid_record_state},
    {ErrorCode::share_session_not_found, "SHARE_SESSION_NOT_FOUND", true, ErrorCode::share_session_not_found},
    {ErrorCode::invalid_share_session_epoch, "INVALID_SHARE_SESSION_EPOCH", true, ErrorCode::invalid_share_session_epoch},
    {ErrorCode::fenced_state_epoch, "FENCED_STATE_EPOCH", false, ErrorCode::fenced_state_epoch},
    {ErrorCode::invalid_voter_key, "INVALID_VOTER_KEY", false, ErrorCode::invalid_voter_key},
    {ErrorCode::duplicate_voter, "DUPLICATE_VOTER", false, ErrorCode::duplicate_voter},
    {ErrorCode::voter_not_found, "VOTER_NOT_FOUND", false, ErrorCode::voter_not_found},
    {ErrorCode::invalid_regular_expression, "INVALID_REGULAR_EXPRESSION", false, ErrorCode::invalid_regular_expression},
    {ErrorCode::rebootstrap_required, "REBOOTSTRAP_REQUIRED", false, ErrorCode::rebootstrap_required},
    {ErrorCode::streams_invalid_topology, "STREAMS_INVALID_TOPOLOGY", false, ErrorCode::streams_invalid_topology},
    {ErrorCode::streams_invalid_topology_epoch, "STREAMS_INVALID_TOPOLOGY_EPOCH", false, ErrorCode::streams_invalid_topology_epoch},
    {ErrorCode::streams_topology_fenced, "STREAMS_TOPOLOGY_FENCED", false, ErrorCode::streams_topology_fenced},
    {ErrorCode::share_session_limit_reached, "SHARE_SESSION_LIMIT_REACHED", true, ErrorCode::share_session_limit_reached},
    {ErrorCode::group_deletion_failed, "GROUP_DELETION_FAILED", false, ErrorCode::group_deletion_failed},
    {ErrorCode::streams_topology_description_update_failed, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", false, ErrorCode::streams_topology_description_update_failed},
    {ErrorCode::controller_id_not_registered, "CONTROLLER_ID_NOT_REGISTERED", false, ErrorCode::controller_id_not_registered},
    {ErrorCode::io_error, "IO_ERROR", false, ErrorCode::kafka_storage_error},
    {ErrorCode::corrupt, "CORRUPT", false, ErrorCode::corrupt_message},
    {ErrorCode::not_found, "NOT_FOUND", false, ErrorCode::unknown_server_error},
    {ErrorCode::already_exists, "ALREADY_EXISTS", false, ErrorCode::unknown_server_error},
    {ErrorCode::no_space, "NO_SPACE", false, ErrorCode::kafka_storage_error},
    {ErrorCode::closed, "CLOSED", true, ErrorCode::network_exception},
    {ErrorCode::cancelled, "CANCELLED", false, ErrorCode::request_timed_out},
    {ErrorCode::timed_out, "TIMED_OUT", true, ErrorCode::request_timed_out},
    {ErrorCode::limit_exceeded, "LIMIT_EXCEEDED", false, ErrorCode::invalid_request},
    {ErrorCode::invalid_argument, "INVALID_ARGUMENT", false, ErrorCode::invalid_request},
    {ErrorCode::parse_error, "PARSE_ERROR", false, ErrorCode::invalid_request},
    {ErrorCode::permission_denied, "PERMISSION_DENIED", false, ErrorCode::kafka_storage_error},
    {ErrorCode::internal, "INTERNAL", false, ErrorCode::unknown_server_error},
});

const ErrorRow& row_of(ErrorCode code) {
  for (const ErrorRow& row : kErrors) {
    if (row.code == code) return row;
  }
  return kErrors.front();
}

}  // namespace

std::string_view error_name(ErrorCode code) {
  return row_of(code).name;
}

bool is_retriable(ErrorCode code) {
  return row_of(code).retriable;
}

ErrorCode wire_code(ErrorCode code) {
  return row_of(code).wire;
}

ErrorCode error_from_wire(int16_t number) {
  for (const ErrorRow& row : kErrors) {
    if (static_cast<int16_t>(row.code) == number && number < 1000) return row.code;
  }
  return ErrorCode::unknown_server_error;
}

}  // namespace millrace
