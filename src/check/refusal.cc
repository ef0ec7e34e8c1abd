#include "check/refusal.h"

namespace millrace::check {

bool says_nothing_stored(ErrorCode code) {
  switch (code) {
    case ErrorCode::not_leader_or_follower:
    case ErrorCode::not_enough_replicas:
    case ErrorCode::kafka_storage_error:
    case ErrorCode::unknown_topic_or_partition:
    case ErrorCode::unknown_topic_id:
    case ErrorCode::record_list_too_large:
    case ErrorCode::message_too_large:
    case ErrorCode::corrupt_message:
    case ErrorCode::invalid_record:
    case ErrorCode::invalid_timestamp:
    case ErrorCode::invalid_required_acks:
    case ErrorCode::topic_authorization_failed:
      return true;
    default:
      return false;
  }
}

}  // namespace millrace::check
