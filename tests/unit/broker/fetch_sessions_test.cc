// Incremental fetch sessions (KIP-227): what opens, goes on and ends one.
#include "broker/fetch_sessions.h"

#include "support/catch.h"

namespace millrace::broker {
namespace {

constexpr int16_t kVersion = 16;
const Uuid kTopic{{1, 2}};

wire::FetchRequest fetch_of(int32_t session, int32_t epoch, const std::vector<int32_t>& partitions,
                            const std::vector<int32_t>& forgotten = {}) {
  wire::FetchRequest r;
  r.session_id = session;
  r.session_epoch = epoch;
  if (!partitions.empty()) {
    auto& t = r.topics.emplace_back();
    t.topic_id = kTopic;
    for (const int32_t p : partitions) t.partitions.emplace_back().partition = p;
  }
  if (!forgotten.empty()) {
    auto& t = r.forgotten_topics_data.emplace_back();
    t.topic_id = kTopic;
    t.partitions = forgotten;
  }
  return r;
}

struct SessionRig {
  FetchSessions sessions;
  FetchSessions::Settings settings{4, 1'000};
  int64_t now = 0;
  uint64_t ids = 0;

  FetchSessions::Opened open(const wire::FetchRequest& r, int16_t version = kVersion) {
    return sessions.open(r, version, ++ids * 1'000, settings, now);
  }
  int32_t begin(const std::vector<int32_t>& partitions, bool replica = false) {
    wire::FetchRequest r = fetch_of(0, 0, partitions);
    if (replica) r.replica_state.replica_id = 2;
    const auto opened = open(r);
    return opened.session ? opened.session->id : 0;
  }
};

TEST_CASE("a full fetch begins a session that later ones change", "[sessions]") {
  SessionRig rig;
  const auto first = rig.open(fetch_of(0, 0, {0, 1}));
  REQUIRE(first.session);
  CHECK_FALSE(first.incremental);
  CHECK(first.session->partitions.size() == 2);
  const int32_t id = first.session->id;
  CHECK(id != 0);
  const auto second = rig.open(fetch_of(id, 1, {2}, {0}));
  REQUIRE(second.session);
  CHECK(second.incremental);
  CHECK(second.session == first.session);
  REQUIRE(second.session->partitions.size() == 2);
  CHECK(second.session->partitions.begin()->first.second == 1);
  const auto third = rig.open(fetch_of(id, 2, {}));
  CHECK(third.error == ErrorCode::none);
  CHECK(third.session->partitions.size() == 2);
}

TEST_CASE("what does not continue a session is told so", "[sessions]") {
  struct Row {
    const char* what;
    int32_t session_delta;
    int32_t epoch;
    int16_t version;
    ErrorCode error;
  };
  const std::vector<Row> rows{
      {"the next epoch", 0, 1, kVersion, ErrorCode::none},
      {"an epoch again", 0, 2, kVersion, ErrorCode::invalid_fetch_session_epoch},
      {"another session", 1, 1, kVersion, ErrorCode::fetch_session_id_not_found},
      {"names in a session of ids", 0, 1, 12, ErrorCode::fetch_session_topic_id_error},
      {"an epoch that was never given", 0, -7, kVersion, ErrorCode::invalid_fetch_session_epoch},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    SessionRig rig;
    const int32_t id = rig.begin({0});
    CHECK(rig.open(fetch_of(id + row.session_delta, row.epoch, {}), row.version).error == row.error);
  }
}

TEST_CASE("sessions end", "[sessions]") {
  SessionRig rig;
  const int32_t id = rig.begin({0, 1});
  SECTION("by a final fetch") {
    const auto last = rig.open(fetch_of(id, -1, {0}));
    CHECK(last.error == ErrorCode::none);
    CHECK_FALSE(last.session);
  }
  SECTION("by a new one in its place") {
    const auto next = rig.open(fetch_of(id, 0, {0}));
    REQUIRE(next.session);
    CHECK(next.session->id != id);
    CHECK(rig.sessions.size() == 1);
  }
  SECTION("when nothing is left of it") {
    CHECK(rig.open(fetch_of(id, 1, {}, {0, 1})).error == ErrorCode::none);
  }
  CHECK(rig.open(fetch_of(id, 2, {})).error == ErrorCode::fetch_session_id_not_found);
}

TEST_CASE("requests without sessions keep nothing", "[sessions]") {
  SessionRig rig;
  CHECK_FALSE(rig.open(fetch_of(0, -1, {0})).session);
  CHECK_FALSE(rig.open(fetch_of(0, 0, {0}), 6).session);
  CHECK_FALSE(rig.open(fetch_of(0, 0, {})).session);
  CHECK(rig.sessions.size() == 0);
}

TEST_CASE("the epoch comes round to one", "[sessions]") {
  SessionRig rig;
  const auto opened = rig.open(fetch_of(0, 0, {0}));
  opened.session->epoch = INT32_MAX;
  CHECK(rig.open(fetch_of(opened.session->id, INT32_MAX, {})).error == ErrorCode::none);
  CHECK(rig.open(fetch_of(opened.session->id, 1, {})).error == ErrorCode::none);
}

TEST_CASE("a full cache gives a slot to whom it should", "[sessions]") {
  SessionRig rig;
  std::vector<int32_t> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(rig.begin({0, 1}));
  SECTION("nobody goes for a client while all are in use") {
    CHECK(rig.begin({0, 1, 2}) == 0);
  }
  SECTION("a follower takes a client's") {
    CHECK(rig.begin({0}, true) != 0);
    CHECK(rig.sessions.evictions() == 1);
  }
  SECTION("a follower does not take a follower's") {
    for (int i = 0; i < 4; ++i) CHECK(rig.begin({0}, true) != 0);
    CHECK(rig.begin({0, 1}, true) == 0);
    CHECK(rig.begin({0, 1}) == 0);
  }
  SECTION("what was not used for long goes first") {
    rig.now = 900;
    for (const int32_t id : {ids[0], ids[1], ids[3]}) CHECK(rig.open(fetch_of(id, 1, {})).session);
    rig.now = 1'500;
    CHECK(rig.begin({0}) != 0);
    CHECK(rig.open(fetch_of(ids[2], 1, {})).error == ErrorCode::fetch_session_id_not_found);
    CHECK(rig.open(fetch_of(ids[0], 2, {})).error == ErrorCode::none);
  }
  SECTION("a larger one takes a settled smaller one's") {
    rig.now = 900;
    for (const int32_t id : ids) CHECK(rig.open(fetch_of(id, 1, {})).session);
    rig.now = 1'500;
    CHECK(rig.begin({0, 1}) == 0);
    CHECK(rig.begin({0, 1, 2}) != 0);
  }
  CHECK(rig.sessions.size() == 4);
}

}  // namespace
}  // namespace millrace::broker
