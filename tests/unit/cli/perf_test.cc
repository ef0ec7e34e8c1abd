// The parts of the load generator: its histogram, the frames it sends, and how it reads what comes back.
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>

#include "base/endian.h"
#include "cli/perf/call_kinds.h"
#include "cli/perf/fetch_channel.h"
#include "cli/perf/histogram.h"
#include "record/batch.h"
#include "support/catch.h"
#include "wire/headers.h"
#include "wire/messages/fetch.h"
#include "wire/messages/offset_commit.h"
#include "wire/messages/produce.h"
#include "wire/reader.h"
#include "wire/writer.h"

namespace millrace::cli::perf {
namespace {

Result<Bytes> some_batch(int32_t records, size_t value_bytes, size_t& stamp) {
  RecordShape shape;
  shape.records = records;
  shape.value_bytes = value_bytes;
  return make_batch(shape, 7, stamp);
}

/// The frame's header and body, decoded by the generated codec; nothing is left over.
template <class Request>
Request decoded(Bytes& frame, int16_t version) {
  REQUIRE(load_be<int32_t>(frame.data()) == static_cast<int32_t>(frame.size() - 4));
  wire::Reader r(MutableByteView(frame).subspan(4));
  const auto header = wire::decode_request_header(r);
  REQUIRE(header.ok());
  CHECK(header->request_api_version == version);
  Request request;
  REQUIRE(decode(r, version, request).ok());
  CHECK(r.at_end());
  return request;
}

TEST_CASE("a histogram's quantiles are off by less than a percent") {
  Histogram h;
  CHECK(h.quantile_ns(0.5) == 0);
  for (int64_t v = 1; v <= 1'000'000; ++v) h.record(v * 10);
  CHECK(h.count() == 1'000'000);
  CHECK(h.max_ns() == 10'000'000);
  for (const double q : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const double exact = q * 1e7;
    CHECK(std::fabs(static_cast<double>(h.quantile_ns(q)) - exact) / exact < 0.008);
  }
  CHECK(h.quantile_ns(1.0) == 10'000'000);
  CHECK(std::fabs(h.mean_ns() - 5'000'005) < 1);
}

TEST_CASE("a histogram holds small and very large values, and what another holds") {
  Histogram h;
  h.record(-5);
  h.record(3);
  h.record(INT64_MAX);
  Histogram other;
  other.record(3);
  h.add(other);
  CHECK(h.count() == 4);
  CHECK(h.quantile_ns(0.5) == 3);
  CHECK(h.quantile_ns(1.0) == INT64_MAX);
  REQUIRE(h.buckets().size() == 3);
  CHECK(h.buckets()[1] == std::pair<int64_t, uint64_t>(3, 2));
}

TEST_CASE("a produce frame is what the codec would have written, before and after it is prepared") {
  size_t stamp = 0;
  const auto batch = some_batch(3, 100, stamp);
  REQUIRE(batch.ok());
  REQUIRE(stamp > record::kBatchHeaderSize);
  ProduceCalls::Options options;
  options.version = 9;
  options.records = 3;
  options.partitions = {4, 6, 9};
  options.first_partition = 2;
  options.stamped = true;
  options.producer_id = 77;
  options.producer_epoch = 2;
  options.frame = make_produce_frame(9, "topic", -1, 1000, *batch, stamp, 2);
  ProduceCalls calls(std::move(options));
  Bytes frame = calls.make_frame();
  std::vector<int32_t> partitions;
  std::vector<int32_t> sequences;
  for (int64_t due = 1; due <= 3; ++due) {
    calls.prepare(frame, due);
    const auto request = decoded<wire::ProduceRequest>(frame, 9);
    CHECK(request.acks == -1);
    REQUIRE(request.topic_data.size() == 1);
    CHECK(request.topic_data[0].name == "topic");
    REQUIRE(request.topic_data[0].partition_data.size() == 2);
    for (const auto& p : request.topic_data[0].partition_data) {
      const auto view = record::BatchView::parse(p.records.view);
      REQUIRE(view.ok());
      CHECK(view->crc_matches());
      CHECK(view->record_count() == 3);
      CHECK(view->producer_id() == ProducerId(77));
      CHECK(load_be<int64_t>(p.records.view.data() + stamp + 8) == due);
      partitions.push_back(p.index);
      sequences.push_back(view->base_sequence());
    }
  }
  CHECK(partitions == std::vector<int32_t>{9, 4, 6, 9, 4, 6});
  CHECK(sequences == std::vector<int32_t>{0, 0, 0, 3, 3, 3});
}

TEST_CASE("commit and fetch frames are what the codec would have written") {
  Bytes commit = make_commit_frame("g", "topic", 3, 42);
  const auto c = decoded<wire::OffsetCommitRequest>(commit, kCommitVersion);
  CHECK(c.group_id == "g");
  REQUIRE(c.topics.size() == 1);
  CHECK(c.topics[0].partitions[0].committed_offset == 42);

  Bytes fetch;
  const std::vector<FetchPosition> positions{{1, 10}, {5, 50}};
  encode_fetch(fetch, 8, "topic", {}, true, 17, 3, positions);
  const auto f = decoded<wire::FetchRequest>(fetch, kFetchVersion);
  CHECK(f.session_id == 17);
  CHECK(f.session_epoch == 3);
  CHECK(f.isolation_level == 1);
  REQUIRE(f.topics.size() == 1);
  REQUIRE(f.topics[0].partitions.size() == 2);
  CHECK(f.topics[0].partitions[1].fetch_offset == 50);
  encode_fetch(fetch, 9, "topic", {}, false, 17, 4, {});
  CHECK(decoded<wire::FetchRequest>(fetch, kFetchVersion).topics.empty());
}

Bytes answer_of(const auto& response, int16_t version) {
  wire::Writer w;
  w.write_i32(5);
  w.write_uvarint(0);
  encode(w, version, response);
  return w.take_bytes();
}

TEST_CASE("the first error of an answer is found, and a truncated answer is one") {
  wire::ProduceResponse response;
  auto& topic = response.responses.emplace_back();
  topic.name = "topic";
  topic.partition_responses.resize(3);
  for (const int16_t version : {int16_t{9}, int16_t{12}}) {
    topic.partition_responses[1].error_code = 0;
    CHECK(judge_produce(version, answer_of(response, version)).value().code == ErrorCode::none);
    topic.partition_responses[1].error_code = 6;
    topic.partition_responses[1].error_message = "moved";
    Bytes answer = answer_of(response, version);
    CHECK(judge_produce(version, answer).value().code == ErrorCode::not_leader_or_follower);
    answer.pop_back();
    CHECK_FALSE(judge_produce(version, answer).ok());
  }
}

struct Pair {
  int ours = -1;
  int theirs = -1;
  Pair() {
    int both[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, both) == 0);
    ours = both[0];
    theirs = both[1];
  }
  ~Pair() { ::close(theirs); }  // ours is the channel's
};

Bytes fetch_answer(int32_t correlation, int32_t session, const std::vector<Bytes>& records) {
  wire::FetchResponse response;
  response.session_id = session;
  if (!records.empty()) {
    auto& topic = response.responses.emplace_back();
    topic.topic = "topic";
    for (size_t i = 0; i < records.size(); ++i) {
      auto& p = topic.partitions.emplace_back();
      p.partition_index = static_cast<int32_t>(i);
      p.records = wire::Records(Payload(records[i]));
    }
  }
  wire::Writer w;
  w.write_i32(correlation);
  w.write_uvarint(0);
  encode(w, kFetchVersion, response);
  return w.take_framed().flatten();
}

FetchChannel::Options two_partitions(bool verify) {
  FetchChannel::Options options;
  options.topic = "topic";
  options.positions = {{0, 0}, {1, 10}};
  options.verify = verify;
  return options;
}

TEST_CASE("fetch answers are understood however the network cuts them") {
  size_t stamp = 0;
  Bytes first = some_batch(3, 100, stamp).value();
  Bytes second = first;
  record::set_base_offset(second, Offset(3));
  Bytes other = first;
  record::set_base_offset(other, Offset(10));
  Bytes both = first;
  both.insert(both.end(), second.begin(), second.end());
  both.insert(both.end(), second.begin(), second.begin() + 20);  // cut off
  const Bytes answer = fetch_answer(1, 99, {both, other});
  for (const bool verify : {false, true}) {
    for (const size_t piece : {size_t{1}, size_t{7}, size_t{100}, answer.size()}) {
      Pair sockets;
      Tally tally;
      FetchChannel channel(sockets.ours, two_partitions(verify), tally);
      channel.begin();
      REQUIRE(channel.flush().ok());
      Bytes asked(4096);
      REQUIRE(::read(sockets.theirs, asked.data(), asked.size()) > 0);
      for (size_t at = 0; at < answer.size(); at += piece) {
        const size_t n = std::min(piece, answer.size() - at);
        REQUIRE(::write(sockets.theirs, answer.data() + at, n) == static_cast<ssize_t>(n));
        REQUIRE(channel.on_ready(true, false).ok());
      }
      CHECK(tally.requests == 1);
      CHECK(tally.records == 9);
      CHECK(tally.bytes == 3 * first.size());
      // The next request goes on behind what was read, within the session.
      const ssize_t n = ::read(sockets.theirs, asked.data(), asked.size());
      REQUIRE(n > 0);
      Bytes frame(asked.begin(), asked.begin() + n);
      const auto next = decoded<wire::FetchRequest>(frame, kFetchVersion);
      CHECK(next.session_id == 99);
      CHECK(next.session_epoch == 1);
      REQUIRE(next.topics[0].partitions.size() == 2);
      CHECK(next.topics[0].partitions[0].fetch_offset == 6);
      CHECK(next.topics[0].partitions[1].fetch_offset == 13);
    }
  }
}

TEST_CASE("verification finds a damaged record and a hole; a mad answer ends the run") {
  size_t stamp = 0;
  const Bytes good = some_batch(3, 100, stamp).value();
  const auto outcome = [](const Bytes& answer) {
    Pair sockets;
    Tally tally;
    FetchChannel channel(sockets.ours, two_partitions(true), tally);
    channel.begin();
    REQUIRE(channel.flush().ok());
    REQUIRE(::write(sockets.theirs, answer.data(), answer.size()) == static_cast<ssize_t>(answer.size()));
    return channel.on_ready(true, false).code();
  };
  CHECK(outcome(fetch_answer(1, 0, {good})) == ErrorCode::none);
  Bytes damaged = good;
  damaged.back() ^= 1;
  CHECK(outcome(fetch_answer(1, 0, {damaged})) == ErrorCode::corrupt);
  Bytes hole = good;
  record::set_base_offset(hole, Offset(1));
  CHECK(outcome(fetch_answer(1, 0, {hole})) == ErrorCode::corrupt);
  CHECK(outcome(fetch_answer(2, 0, {good})) == ErrorCode::corrupt);
  CHECK(outcome(fetch_answer(1, 0, {good, good, good})) == ErrorCode::corrupt);
}

TEST_CASE("calls keep so many under way, in order, and notice an answer out of turn") {
  size_t stamp = 0;
  const Bytes batch = some_batch(1, 10, stamp).value();
  ProduceCalls::Options options;
  options.version = 9;
  options.partitions = {0};
  options.frame = make_produce_frame(9, "t", 1, 1000, batch, stamp, 1);
  Pair sockets;
  Tally tally;
  CallChannel channel(sockets.ours, std::make_unique<ProduceCalls>(std::move(options)), 2, true, tally);
  channel.begin();
  REQUIRE(channel.flush().ok());
  Bytes asked(1 << 16);
  const ssize_t n = ::read(sockets.theirs, asked.data(), asked.size());
  REQUIRE(n > 0);
  CHECK(static_cast<size_t>(n) % 2 == 0);  // two frames of one size
  wire::ProduceResponse response;
  response.responses.emplace_back().partition_responses.emplace_back();
  const auto answer = [&](int32_t id) {
    wire::Writer w;
    w.write_i32(id);
    w.write_uvarint(0);
    encode(w, int16_t{9}, response);
    const Bytes frame = w.take_framed().flatten();
    REQUIRE(::write(sockets.theirs, frame.data(), frame.size()) == static_cast<ssize_t>(frame.size()));
    return channel.on_ready(true, false).code();
  };
  CHECK(answer(0) == ErrorCode::none);
  CHECK(tally.requests == 1);
  channel.stop();
  CHECK(answer(1) == ErrorCode::none);
  CHECK(answer(2) == ErrorCode::none);
  CHECK(tally.requests == 3);
  CHECK(channel.quiet());
  CHECK(answer(3) == ErrorCode::corrupt);
}

}  // namespace
}  // namespace millrace::cli::perf
