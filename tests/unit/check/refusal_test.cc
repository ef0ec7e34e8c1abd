#include "check/refusal.h"

#include "support/catch.h"

namespace millrace::check {
namespace {

TEST_CASE("a refusal before the append is certain, what comes after it is not") {
  for (const ErrorCode code :
       {ErrorCode::kafka_storage_error, ErrorCode::not_leader_or_follower, ErrorCode::not_enough_replicas})
    CHECK(says_nothing_stored(code));
  for (const ErrorCode code : {ErrorCode::request_timed_out, ErrorCode::not_enough_replicas_after_append,
                               ErrorCode::unknown_server_error, ErrorCode::none})
    CHECK_FALSE(says_nothing_stored(code));
}

}  // namespace
}  // namespace millrace::check
