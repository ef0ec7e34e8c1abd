#include "cli/produce_command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "cli/arguments.h"
#include "cli/json.h"

namespace millrace::cli {
namespace {

constexpr size_t kReadBytes = 64 * 1024;
constexpr size_t kLineBytesMax = 64 << 20;
constexpr size_t kHeldBytesMax = 32 << 20;   // records under way before reading pauses
constexpr size_t kChunkRecords = 1'000;      // records handed to the loop at once
constexpr size_t kFileBytesMax = 256 << 20;  // of a file that is one record
constexpr int64_t kProgressEvery = 10'000;

/// What became of the records. On the loop while the producer lives, then on the main thread.
struct Tally {
  struct Range {
    int64_t first = -1;
    int64_t last = -1;
    int64_t records = 0;
  };
  std::map<int32_t, Range> partitions;
  int64_t delivered = 0;
  int64_t failed = 0;
  Error first_error{ErrorCode::none};

  void add(const Result<client::Delivery>& d) {
    if (!d.ok()) {
      if (failed++ == 0) first_error = d.error();
      return;
    }
    ++delivered;
    Range& r = partitions[d->partition];
    ++r.records;
    if (d->offset < 0) return;
    if (r.first < 0 || d->offset < r.first) r.first = d->offset;
    if (d->offset > r.last) r.last = d->offset;
  }
};

/// A producer on the session's loop, fed from the main thread.
class Feed {
 public:
  Feed(Session& session, const client::ProducerOptions& options) : session_(session) {
    session_.on_loop([&] { producer_ = std::make_unique<client::Producer>(session_.client(), options); });
  }
  ~Feed() {
    session_.on_loop([this] { producer_.reset(); });
  }

  /// Waits while too much is under way. Errors: cancelled, the first delivery's failure.
  Status add(client::ProducerRecord record) {
    chunk_bytes_ += (record.key ? record.key->size() : 0) + (record.value ? record.value->size() : 0);
    chunk_.push_back(std::move(record));
    if (chunk_.size() < kChunkRecords && chunk_bytes_ < kReadBytes) return {};
    return hand_over();
  }
  Status hand_over() {
    auto chunk = std::make_shared<std::vector<client::ProducerRecord>>(std::exchange(chunk_, {}));
    chunk_bytes_ = 0;
    const auto waited = session_.wait<int64_t>([this, chunk](client::Done<int64_t> done) {
      for (client::ProducerRecord& r : *chunk) {
        producer_->send(std::move(r), [this](Result<client::Delivery> d) { tally_.add(d); });
      }
      producer_->when_below(kHeldBytesMax, [this, done] {
        if (tally_.failed > 0) return done(tally_.first_error);
        done(tally_.delivered);
      });
    });
    if (!waited.ok()) return waited.error();
    if (*waited / kProgressEvery != shown_ / kProgressEvery) progress(fmt::format("{} records", *waited));
    shown_ = *waited;
    return {};
  }
  /// Waits until everything is settled.
  Status finish() {
    TRY(hand_over());
    const auto flushed =
        session_.wait<bool>([this](client::Done<bool> done) { producer_->flush([done] { done(true); }); });
    if (!flushed.ok()) return flushed.error();
    if (shown_ >= kProgressEvery) progress("");
    return {};
  }
  Tally tally() {
    Tally copy;
    session_.on_loop([&] { copy = tally_; });
    return copy;
  }

 private:
  Session& session_;
  std::unique_ptr<client::Producer> producer_;
  Tally tally_;
  std::vector<client::ProducerRecord> chunk_;
  size_t chunk_bytes_ = 0;
  int64_t shown_ = 0;
};

client::ProducerRecord bare_record(const Produce& options) {
  client::ProducerRecord r;
  r.topic = options.topic;
  if (options.partition >= 0) r.partition = options.partition;
  if (options.has_key) r.key = to_bytes(options.key);
  r.timestamp_ms = options.timestamp_ms;
  for (const std::string& text : options.headers) {
    const auto pair = parse_pair(text);
    if (pair.ok()) r.headers.emplace_back(pair->first, to_bytes(pair->second));
  }
  return r;
}

Status feed_lines(const Produce& options, Session& session, Feed& feed, int descriptor) {
  std::string pending;
  std::string buffer(kReadBytes, '\0');
  int64_t number = 0;
  const auto one = [&](std::string_view line) -> Status {
    ++number;
    auto record = record_of_line(options, line);
    if (!record.ok()) return Error(record.code(), fmt::format("line {}: {}", number, record.error().message));
    return feed.add(std::move(record).value());
  };
  while (true) {
    // What was read is sent before waiting for more: somebody may be typing.
    if (pending.empty() || ::isatty(descriptor) == 1) TRY(feed.hand_over());
    if (!session.interrupts().wait_readable(descriptor)) return Error(ErrorCode::cancelled, "interrupted");
    const ssize_t n = ::read(descriptor, buffer.data(), buffer.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Error(ErrorCode::io_error, std::string("reading: ") + std::strerror(errno));
    }
    if (n == 0) break;
    std::string_view rest(buffer.data(), static_cast<size_t>(n));
    for (size_t end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      if (pending.empty()) {
        TRY(one(rest.substr(0, end)));
      } else {
        pending.append(rest.substr(0, end));
        TRY(one(pending));
        pending.clear();
      }
      rest.remove_prefix(end + 1);
    }
    pending.append(rest);
    if (pending.size() > kLineBytesMax) return Error(ErrorCode::limit_exceeded, "a line of more than 64 MiB");
  }
  if (!pending.empty()) TRY(one(pending));
  return {};
}

Status feed_whole(const Produce& options, Feed& feed, int descriptor) {
  std::string content;
  std::string buffer(kReadBytes, '\0');
  while (true) {
    const ssize_t n = ::read(descriptor, buffer.data(), buffer.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return Error(ErrorCode::io_error, options.file + ": " + std::strerror(errno));
    }
    if (n == 0) break;
    content.append(buffer.data(), static_cast<size_t>(n));
    if (content.size() > kFileBytesMax)
      return Error(ErrorCode::limit_exceeded, options.file + " is too large for a record");
  }
  client::ProducerRecord r = bare_record(options);
  r.value = to_bytes(content);
  return feed.add(std::move(r));
}

Result<client::ProducerOptions> producer_options(const Produce& options, const Context& context) {
  client::ProducerOptions p;
  TRY_ASSIGN(p.codec, record::parse_codec(options.compression));
  if (options.acks == "all" || options.acks == "-1") {
    p.acks = -1;
  } else if (options.acks == "1" || options.acks == "0") {
    p.acks = options.acks == "1" ? 1 : 0;
  } else {
    return Error(ErrorCode::invalid_argument, "--acks is 0, 1 or all");
  }
  p.idempotent = options.idempotent;
  if (p.idempotent && p.acks != -1) {
    return Error(ErrorCode::invalid_argument, "--idempotent needs --acks all");
  }
  p.delivery_timeout_ms = context.connection.timeout_ms;
  p.request_timeout_ms = context.connection.timeout_ms;
  if (::getrandom(&p.seed, sizeof(p.seed), 0) < 0) p.seed = static_cast<uint64_t>(::getpid());
  if (options.tombstone && options.key_separator.empty() && !options.file.empty()) {
    return Error(ErrorCode::invalid_argument, "--tombstone reads keys from lines: leave --file out");
  }
  for (const std::string& text : options.headers) TRY(parse_pair(text));
  return p;
}

}  // namespace

Result<client::ProducerRecord> record_of_line(const Produce& options, std::string_view line) {
  client::ProducerRecord r = bare_record(options);
  std::string_view value = line;
  if (!options.key_separator.empty()) {
    const size_t at = line.find(options.key_separator);
    if (at == std::string_view::npos) {
      if (!options.tombstone) {
        return Error(ErrorCode::invalid_argument,
                     "there is no \"" + options.key_separator + "\" between key and value");
      }
      r.key = to_bytes(line);
      value = {};
    } else {
      r.key = to_bytes(line.substr(0, at));
      value = line.substr(at + options.key_separator.size());
    }
  } else if (options.tombstone && !options.has_key) {
    r.key = to_bytes(line);
  }
  if (!options.tombstone) r.value = to_bytes(value);
  return r;
}

ExitCode run(const Produce& options, const Context& context) {
  const auto p = producer_options(options, context);
  if (!p.ok()) return fail(p.error());
  int descriptor = STDIN_FILENO;
  if (!options.file.empty()) {
    descriptor = ::open(options.file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      return fail(Error(errno == ENOENT ? ErrorCode::not_found : ErrorCode::io_error,
                        options.file + ": " + std::strerror(errno)));
    }
  }
  auto session = Session::open(context.connection);
  if (!session.ok()) return fail(session.error());
  Feed feed(**session, *p);
  Status done;
  if (options.tombstone && options.has_key) {
    done = feed.add(bare_record(options));
  } else if (options.file.empty() || options.lines) {
    done = feed_lines(options, **session, feed, descriptor);
  } else {
    done = feed_whole(options, feed, descriptor);
  }
  if (descriptor != STDIN_FILENO) ::close(descriptor);
  // What was read before a bad line is sent nevertheless, and counted.
  if (done.ok() || done.code() == ErrorCode::invalid_argument) {
    const Status flushed = feed.finish();
    if (done.ok() && !flushed.ok()) done = flushed.error();
  }
  const Tally tally = feed.tally();
  if (done.ok() && tally.failed > 0) done = tally.first_error;
  if (context.output == Output::json) {
    Json json = Json::object();
    json["topic"] = options.topic;
    json["delivered"] = tally.delivered;
    json["failed"] = tally.failed;
    Json partitions = Json::array();
    for (const auto& [id, r] : tally.partitions) {
      Json one = Json::object();
      one["partition"] = id;
      one["records"] = r.records;
      one["first_offset"] = r.first;
      one["last_offset"] = r.last;
      partitions.push_back(std::move(one));
    }
    json["partitions"] = std::move(partitions);
    if (const Status printed = print(render_json(json)); !printed.ok() && done.ok()) done = printed.error();
  }
  if (!done.ok()) {
    if (tally.delivered > 0) complain(fmt::format("{} records were delivered before this", tally.delivered));
    return fail(done.error());
  }
  if (progress_wanted()) complain(fmt::format("{} records", tally.delivered));
  return ExitCode::ok;
}

}  // namespace millrace::cli
