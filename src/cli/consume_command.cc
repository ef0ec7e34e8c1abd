#include "cli/consume_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "cli/arguments.h"
#include "cli/record_format.h"
#include "client/consumer.h"
#include "client/offsets.h"

namespace millrace::cli {
namespace {

using client::TopicPartition;
using Offsets = std::map<TopicPartition, int64_t>;

constexpr int64_t kPollMs = 500;
constexpr size_t kPollRecords = 1'000;

Result<Offsets> resolve(Session& session, const Offsets& timestamps, bool read_committed) {
  using Found = std::map<TopicPartition, client::OffsetAt>;
  TRY_ASSIGN(const Found found, session.wait<Found>([&session, timestamps,
                                                     read_committed](client::Done<Found> done) {
    client::list_offsets(session.client(), timestamps, read_committed, session.timeout_ms(), std::move(done));
  }));
  Offsets out;
  for (const auto& [where, at] : found) {
    if (at.error != ErrorCode::none) return Error(at.error, to_string(where));
    out[where] = at.offset;
  }
  return out;
}

/// Where to begin in each of `partitions`.
Result<Offsets> starting_offsets(Session& session, const std::set<TopicPartition>& partitions,
                                 const OffsetSpec& from, bool read_committed) {
  Offsets out;
  Offsets asked;
  for (const TopicPartition& where : partitions) {
    switch (from.kind) {
      case OffsetSpec::Kind::offset:
        out[where] = from.value;
        break;
      case OffsetSpec::Kind::beginning:
        asked[where] = client::kEarliest;
        break;
      case OffsetSpec::Kind::timestamp:
        asked[where] = from.value;
        break;
      case OffsetSpec::Kind::end:
      case OffsetSpec::Kind::before_end:
        asked[where] = client::kLatest;
        break;
    }
  }
  if (asked.empty()) return out;
  TRY_ASSIGN(Offsets found, resolve(session, asked, read_committed));
  if (from.kind == OffsetSpec::Kind::before_end) {
    for (auto& [where, timestamp] : asked) timestamp = client::kEarliest;
    TRY_ASSIGN(const Offsets starts, resolve(session, asked, read_committed));
    for (auto& [where, offset] : found)
      offset = std::max(starts.at(where), offset - std::min(from.value, offset));
  }
  // No record is that young: the next one will be.
  Offsets ends;
  for (const auto& [where, offset] : found) {
    if (offset < 0) ends[where] = client::kLatest;
  }
  if (!ends.empty()) {
    TRY_ASSIGN(const Offsets at_end, resolve(session, ends, read_committed));
    for (const auto& [where, offset] : at_end) found[where] = offset;
  }
  return found;
}

/// A consumer on the session's loop, read from the main thread.
class Reading {
 public:
  Reading(Session& session, const client::ConsumerOptions& options) : session_(session) {
    session_.on_loop([&] { consumer_ = std::make_unique<client::Consumer>(session_.client(), options); });
  }
  ~Reading() {
    session_.on_loop([this] { consumer_.reset(); });
  }

  void assign(const Offsets& offsets) {
    session_.on_loop([&] { consumer_->assign(offsets); });
  }
  void subscribe(const std::string& group, const std::string& topic) {
    client::GroupOptions g;
    g.group = group;
    g.topics = {topic};
    session_.on_loop([&] { consumer_->subscribe(g); });
  }
  Result<std::vector<client::ConsumedRecord>> poll(size_t records_max) {
    using Records = std::vector<client::ConsumedRecord>;
    return session_.wait<Records>([this, records_max, printed = printed_](client::Done<Records> done) {
      consumer_->done_with(printed);
      consumer_->poll(kPollMs, records_max, std::move(done));
    });
  }
  void printed(const client::ConsumedRecord& r) { printed_[{r.topic, r.partition}] = r.offset + 1; }

  /// Where reading stands; nothing while the group has assigned nothing.
  std::optional<Offsets> positions() {
    std::optional<Offsets> out;
    session_.on_loop([&] {
      if (consumer_->assigned()) out = consumer_->positions();
    });
    return out;
  }
  Status close() {
    const auto closed = session_.wait<bool>(
        [this](client::Done<bool> done) {
          consumer_->done_with(printed_);
          consumer_->close([done](Status s) {
            if (!s.ok()) return done(std::move(s).error());
            done(true);
          });
        },
        false);
    if (!closed.ok()) return closed.error();
    return {};
  }

 private:
  Session& session_;
  std::unique_ptr<client::Consumer> consumer_;
  Offsets printed_;
};

/// Whether everything that was there has been read. In a group the ends are asked for when there is nothing
/// to read; otherwise `ends` were taken at the start, so that steady writing does not go on for ever.
Result<bool> at_end(Session& session, Reading& reading, const std::optional<Offsets>& ends,
                    bool read_committed) {
  const std::optional<Offsets> positions = reading.positions();
  if (!positions) return false;
  Offsets now;
  if (ends) {
    now = *ends;
  } else {
    Offsets asked;
    for (const auto& [where, offset] : *positions) asked[where] = client::kLatest;
    if (asked.empty()) return true;
    TRY_ASSIGN(now, resolve(session, asked, read_committed));
  }
  return std::all_of(now.begin(), now.end(), [&](const auto& end) {
    const auto at = positions->find(end.first);
    return at != positions->end() && at->second >= end.second;
  });
}

Status read_all(const Consume& options, const RecordFormat& format, Output output, Session& session,
                Reading& reading, const std::optional<Offsets>& ends) {
  int64_t left = options.count;
  std::string out;
  bool idle = true;
  while (left != 0) {
    if (options.exit_at_end && (ends || idle)) {
      TRY_ASSIGN(const bool over, at_end(session, reading, ends, options.read_committed));
      if (over) break;
    }
    const size_t records_max =
        left < 0 ? kPollRecords : std::min<size_t>(kPollRecords, static_cast<size_t>(left));
    TRY_ASSIGN(const auto records, reading.poll(records_max));
    idle = records.empty();
    out.clear();
    for (const client::ConsumedRecord& r : records) {
      if (output == Output::json) {
        out += record_json(r);
      } else {
        format.append(out, r);
      }
    }
    TRY(print(out));
    for (const client::ConsumedRecord& r : records) reading.printed(r);
    if (left > 0) left -= static_cast<int64_t>(records.size());
  }
  return {};
}

}  // namespace

ExitCode run(const Consume& options, const Context& context) {
  const auto format = RecordFormat::parse(options.format);
  if (!format.ok()) return fail(format.error());
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  const auto from =
      parse_offset_spec(options.from.empty() ? "beginning" : options.from, (*session)->wall_ms());
  if (!from.ok()) return fail(from.error());
  const bool grouped = !options.group.empty();
  if (grouped && from->kind != OffsetSpec::Kind::beginning && from->kind != OffsetSpec::Kind::end) {
    return fail(Error(ErrorCode::invalid_argument,
                      "with --group, --from is beginning or end, for partitions without a committed offset; "
                      "\"millrace group reset-offsets\" moves a group"));
  }
  if (grouped && !options.partitions.empty()) {
    return fail(Error(ErrorCode::invalid_argument, "a group chooses the partitions: leave --partition out"));
  }

  const auto topic = (*session)->topic(options.topic);
  if (!topic.ok()) return fail(topic.error());
  client::ConsumerOptions c;
  c.read_committed = options.read_committed;
  c.start = from->kind == OffsetSpec::Kind::end ? client::StartAt::end : client::StartAt::beginning;
  if (from->kind == OffsetSpec::Kind::offset) c.start = client::StartAt::fail;

  std::set<TopicPartition> partitions;
  if (!options.partitions.empty()) {
    const auto listed = parse_partitions(options.partitions);
    if (!listed.ok()) return fail(listed.error());
    for (const int32_t p : *listed) partitions.insert({options.topic, p});
  } else {
    for (const auto& p : topic->partitions) partitions.insert({options.topic, p.id});
  }
  for (const TopicPartition& where : partitions) {
    if (topic->partition(where.partition) == nullptr) {
      return fail(Error(ErrorCode::unknown_topic_or_partition,
                        fmt::format("topic {} has no partition {}, but 0 to {}", options.topic,
                                    where.partition, static_cast<int64_t>(topic->partitions.size()) - 1)));
    }
  }

  Offsets start;
  std::optional<Offsets> ends;
  if (!grouped) {
    auto found = starting_offsets(**session, partitions, *from, options.read_committed);
    if (!found.ok()) return fail(found.error());
    start = std::move(found).value();
    if (options.exit_at_end) {
      auto last = starting_offsets(**session, partitions, {OffsetSpec::Kind::end, 0}, options.read_committed);
      if (!last.ok()) return fail(last.error());
      ends = std::move(last).value();
    }
  }
  Reading reading(**session, c);
  if (grouped) {
    reading.subscribe(options.group, options.topic);
  } else {
    reading.assign(start);
  }
  const Status done = read_all(options, *format, context.output, **session, reading, ends);
  const Status closed = reading.close();
  // Following a topic ends with Ctrl-C: that is how it is meant to end.
  const bool interrupted = !done.ok() && done.code() == ErrorCode::cancelled;
  const bool was_following = options.count < 0 && !options.exit_at_end;
  if (!done.ok() && !interrupted) return fail(done.error());
  if (!closed.ok()) return fail(closed.error());
  return interrupted && !was_following ? ExitCode::interrupted : ExitCode::ok;
}

}  // namespace millrace::cli
