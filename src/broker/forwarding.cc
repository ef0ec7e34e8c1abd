// Requests for the active controller, passed on to the node where it is and answered with what it says.
#include <utility>

#include "broker/broker.h"
#include "broker/call.h"
#include "broker/dispatcher.h"

namespace millrace::broker {
namespace {

constexpr int64_t kPassTimeoutMs = 15'000;  // until a controller is found that answers
constexpr int64_t kOneAskMs = 10'000;
constexpr int64_t kPassRetryMs = 50;

}  // namespace

struct Broker::Passing {
  ledger::ForwardRequest request;
  SharedCall call;
  std::function<void(const ledger::ForwardRequest&)> here;
  int64_t deadline_ms = 0;
};

void Broker::pass_on(ledger::ForwardRequest request, std::shared_ptr<Call> call,
                     std::function<void(const ledger::ForwardRequest&)> here) {
  auto passing = std::make_shared<Passing>();
  passing->request = std::move(request);
  passing->call = std::move(call);
  passing->here = std::move(here);
  passing->deadline_ms = env_.clock->now().mono_ms + kPassTimeoutMs;
  env_.control_loop->post([this, passing = std::move(passing)] { try_passing(passing); });
}

// A request whose connection was lost is sent again, as Kafka's brokers do: what it asked for may then be
// there already, and the answer says so.
void Broker::try_passing(std::shared_ptr<Passing> passing) {
  const auto run_here = [passing] {
    passing->call->loop().post([passing] { passing->here(passing->request); });
  };
  const auto reply = [passing](const ledger::ForwardReply& r) {
    passing->call->loop().post([passing, answer = std::make_shared<ledger::ForwardReply>(r)] {
      if (answer->error == ErrorCode::none) {
        passing->call->reply_encoded(answer->body.view());
      } else {
        passing->call->close_connection();
      }
    });
  };
  if (stopping_ || env_.clock->now().mono_ms >= passing->deadline_ms) return run_here();
  const auto again = [this, passing] {
    env_.control_loop->call_after(kPassRetryMs, [this, passing] { try_passing(passing); });
  };
  if (ledger_.leading()) {
    return on_forward(passing->request, [reply, again](const ledger::ForwardReply& r) {
      if (r.error == ErrorCode::not_controller) return again();
      reply(r);
    });
  }
  if (leader_ == kNoBroker || leader_ == config_.node_id) return again();
  peers_.ask(leader_, ledger::kForwardApi, ledger::encode(passing->request), kOneAskMs,
             [this, reply, again](Result<MutableByteView> bytes) {
               if (!bytes.ok()) return again();
               Result<ledger::ForwardReply> said = ledger::decode_forward_reply(*bytes);
               if (!said.ok() || said->error == ErrorCode::not_controller) return again();
               auto answer = std::make_shared<ledger::ForwardReply>(std::move(*said));
               ledger_.when_published(answer->applied_index, kSeenTimeoutMs,
                                      [reply, answer] { reply(*answer); });
             });
}

std::vector<BrokerId> Broker::living_others() const {
  std::vector<BrokerId> out;
  view_->image->brokers().for_each([&](const BrokerId& id, const meta::BrokerRef& b) {
    if (id != config_.node_id && !b->fenced) out.push_back(id);
  });
  return out;
}

void Broker::on_published_request(LogIndex index, std::function<void(bool)> done) {
  ledger_.when_published(index, Convergence::kHoldMs,
                         [this, index, done = std::move(done)] { done(ledger_.published() >= index); });
}

void Broker::on_forward(ledger::ForwardRequest request,
                        std::function<void(const ledger::ForwardReply&)> done) {
  if (!ledger_.leading() || stopping_) {
    ledger::ForwardReply reply;
    reply.error = ErrorCode::not_controller;
    done(reply);
    return;
  }
  Shard& shard = *shards_[next_forward_loop_++ % shards_.size()];
  // If another node leads meanwhile, this one says "not the controller" about what it could not finish:
  // nobody is told, the next one is asked. (Whoever removes the leader's own vote ends its reign by it.)
  const auto api = static_cast<wire::ApiKey>(request.api_key);
  const bool outlives = api == wire::ApiKey::add_raft_voter || api == wire::ApiKey::remove_raft_voter;
  auto shared = std::make_shared<ledger::ForwardRequest>(std::move(request));
  // A call that is dropped when the loops end tells so after this broker is gone: then nothing runs any more.
  io::Loop* const home = env_.control_loop;
  shard.loop->post([this, &shard, home, shared, outlives, term = ledger_.runner().term(),
                    done = std::move(done)] {
    run_forwarded(shard, *shared, ForwardSink([this, home, outlives, term, done](std::optional<Bytes> body) {
                    auto reply = std::make_shared<ledger::ForwardReply>();
                    if (body) {
                      reply->body = Slice::copy_of(*body);
                    } else {
                      reply->error = ErrorCode::invalid_request;
                    }
                    // Told when all brokers that clients may ask next know of it.
                    home->post([this, outlives, term, reply, done] {
                      const bool over = !ledger_.leading() || ledger_.runner().term() != term;
                      if (over && !outlives) {
                        reply->error = ErrorCode::not_controller;
                        return done(*reply);
                      }
                      reply->applied_index = ledger_.published();
                      convergence_.when_published(reply->applied_index, living_others(),
                                                  [reply, done] { done(*reply); });
                    });
                  }));
  });
}

}  // namespace millrace::broker
