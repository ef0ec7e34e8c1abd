// AddRaftVoter (80), versions 0-1, and RemoveRaftVoter (81), version 0: who votes in the metadata quorum
// (KIP-853). A node must follow the metadata log, and have caught up, before it can vote.
//   80: 1 whether the answer waits until the change is committed (here it always does)
#include "broker/broker.h"
#include "broker/handlers/handlers.h"

namespace millrace::broker {
namespace {

template <class Response, class Request>
void change_voters(Call call, const Request& request, raft::ChangeKind kind) {
  const SharedCall shared = share(std::move(call));
  const auto answer = [shared](ErrorCode code, const std::string& message) {
    Response response;
    response.error_code = static_cast<int16_t>(wire_code(code));
    response.error_message.reset();
    if (code != ErrorCode::none) response.error_message = message;
    shared->reply(response);
  };
  if (request.cluster_id && *request.cluster_id != shared->broker().cluster_id()) {
    answer(ErrorCode::inconsistent_cluster_id, "this is cluster " + shared->broker().cluster_id());
    return;
  }
  shared->broker().change_voters(shared->loop(), kind, BrokerId(request.voter_id), request.voter_directory_id,
                                 [answer](const Status& done) {
                                   answer(done.code(), done.ok() ? std::string() : done.error().message);
                                 });
}

}  // namespace

void handle(Call call, wire::AddRaftVoterRequest& request) {
  change_voters<wire::AddRaftVoterResponse>(std::move(call), request, raft::ChangeKind::promote_learner);
}

void handle(Call call, wire::RemoveRaftVoterRequest& request) {
  change_voters<wire::RemoveRaftVoterResponse>(std::move(call), request, raft::ChangeKind::remove);
}

}  // namespace millrace::broker
