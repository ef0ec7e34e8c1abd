#include "sim/sim_reader.h"

#include <fmt/format.h>

#include "base/endian.h"
#include "record/batch_iterator.h"
#include "record/record.h"

namespace millrace::sim {

namespace {

constexpr int16_t kLastFetchByName = 12;
constexpr int64_t kPauseAfterErrorMs = 100;

}  // namespace

void SimReader::begin() {
  reset_ = true;
  next();
}

void SimReader::drop() {
  // Its positions were its own.
  positions_.clear();
  not_before_ms_.clear();
  sessions_.clear();
}

bool SimReader::idle() const {
  if (!ends_) return true;
  for (const auto& [place, end] : *ends_) {
    const auto at = positions_.find(place);
    if (end > 0 && (at == positions_.end() || at->second < end)) return false;
  }
  return true;
}

std::string SimReader::standing() const {
  std::string text;
  if (!ends_) return text;
  for (const auto& [place, end] : *ends_) {
    const auto at = positions_.find(place);
    const int64_t position = at == positions_.end() ? 0 : at->second;
    if (position < end) text += fmt::format(" {}-{} at {} of {}", place.first, place.second, position, end);
  }
  return text;
}

void SimReader::next() {
  later(world_.consuming || ends_ ? dice_.skewed(1, 40) : 500, [this] { step(); });
}

void SimReader::step() {
  if ((!world_.consuming && !ends_) || world_.topics.empty()) return next();
  for (const auto& [topic, partitions] : world_.topics) {
    for (int32_t i = 0; i < partitions; ++i) positions_.try_emplace({topic, i}, 0);
  }
  if (!ends_ && dice_.per_million(3'000)) jump();
  // By leader, each in turn.
  std::map<int32_t, std::vector<Place>> by_leader;
  std::set<std::string> unknown;
  const int64_t now = clock_.now().mono_ms;
  for (const auto& [place, position] : positions_) {
    if (ends_ && position >= (*ends_)[place]) continue;
    const client::TopicInfo* topic = client().view().topic(place.first);
    const client::PartitionInfo* p = topic == nullptr ? nullptr : topic->partition(place.second);
    if (p == nullptr || p->leader < 0 || client().view().broker(p->leader) == nullptr) {
      unknown.insert(place.first);
    } else if (not_before_ms_[place] <= now) {
      by_leader[p->leader].push_back(place);
    }
  }
  if (!unknown.empty()) {
    client().refresh(std::vector<std::string>(unknown.begin(), unknown.end()), false, 3'000,
                     [this](const Status&) { later(dice_.between(10, 100), [this] { next(); }); });
    // Those that are known wait: one thing at a time.
    return;
  }
  if (by_leader.empty()) return next();
  auto chosen = by_leader.begin();
  std::advance(chosen, static_cast<std::ptrdiff_t>(turn_++ % by_leader.size()));
  fetch(chosen->first, chosen->second);
}

// Somewhere before: what was read once must be there again.
void SimReader::jump() {
  for (auto& [place, position] : positions_) position = dice_.between(0, position);
  reset_ = true;
  world_.count("reader went back");
}

void SimReader::fetch(int32_t broker, const std::vector<Place>& places) {
  wire::FetchRequest request;
  request.max_wait_ms = static_cast<int32_t>(dice_.between(10, 150));
  request.min_bytes = 1;
  // At the end it is in a hurry.
  const int32_t bytes_max = ends_ ? 1 << 20 : world_.knobs.fetch_bytes;
  request.max_bytes = bytes_max;
  client::CallOptions options;
  options.timeout_ms = 3'000;
  options.request_timeout_ms = 3'000;
  options.repeat_after_loss = false;
  bool by_id = world_.knobs.by_topic_id;
  for (const Place& place : places) {
    const client::TopicInfo* topic = client().view().topic(place.first);
    by_id = by_id && topic != nullptr && !topic->id.is_zero();
  }
  if (!by_id) options.version_max = kLastFetchByName;
  Session& session = sessions_[broker];
  const auto add = [&](std::vector<wire::FetchRequest::FetchTopic>& topics, const Place& place) -> auto& {
    if (topics.empty() || topics.back().topic != place.first) {
      auto& t = topics.emplace_back();
      t.topic = place.first;
      if (const client::TopicInfo* topic = client().view().topic(place.first)) t.topic_id = topic->id;
    }
    return topics.back().partitions.emplace_back();
  };
  if (world_.knobs.fetch_sessions) {
    request.session_id = session.id;
    request.session_epoch = session.id == 0 ? 0 : session.epoch;
  }
  std::map<Place, int64_t> now;
  for (const Place& place : places) {
    const int64_t position = positions_[place];
    now[place] = position;
    const auto told = session.known.find(place);
    if (session.id != 0 && told != session.known.end() && told->second == position) continue;
    auto& p = add(request.topics, place);
    p.partition = place.second;
    p.fetch_offset = position;
    p.partition_max_bytes = bytes_max;
  }
  if (session.id != 0) {
    for (const auto& [place, position] : session.known) {
      if (now.contains(place)) continue;
      auto& gone = request.forgotten_topics_data;
      if (gone.empty() || gone.back().topic != place.first) {
        auto& t = gone.emplace_back();
        t.topic = place.first;
        if (const client::TopicInfo* topic = client().view().topic(place.first)) t.topic_id = topic->id;
      }
      gone.back().partitions.push_back(place.second);
    }
  }
  session.known = std::move(now);
  check::Operation o;
  o.kind = check::Kind::poll;
  o.client = world_.recorder.client(name_);
  o.position_reset = std::exchange(reset_, false);
  const Recorder::Id operation = world_.recorder.invoke(o);
  client().call<wire::FetchRequest>(client::Target::broker(broker, client::Lane::fetch), std::move(request),
                                    options, nullptr,
                                    [this, broker, operation, places](Result<wire::FetchResponse> response) {
                                      answered(broker, operation, places, std::move(response));
                                    });
}

void SimReader::answered(int32_t broker, Recorder::Id operation, const std::vector<Place>& places,
                         Result<wire::FetchResponse> response) {
  Session& session = sessions_[broker];
  const auto start_over = [&] {
    session = Session();
    for (const Place& place : places)
      client().distrust(client::Target::leader(place.first, place.second), ErrorCode::not_leader_or_follower);
  };
  if (!response.ok() || response->error_code != 0) {
    if (response.ok()) {
      const ErrorCode code = error_from_wire(response->error_code);
      world_.count("fetch: " + std::string(error_name(code)));
      if (code == ErrorCode::fetch_session_id_not_found) world_.meet(rare("fetch-session-lost"));
    }
    start_over();
    world_.recorder.finish(operation, check::Outcome::info);
    return later(dice_.between(10, 200), [this] { next(); });
  }
  if (world_.knobs.fetch_sessions) {
    if (session.id == 0 && response->session_id != 0) world_.count("fetch session begun");
    session.epoch = response->session_id == 0 ? 0 : session.id == 0 ? 1 : session.epoch + 1;
    session.id = response->session_id;
  }
  std::vector<check::Item> items;
  for (const auto& topic : response->responses) {
    std::string name = topic.topic;
    if (!topic.topic_id.is_zero()) {
      const client::TopicInfo* info = client().view().topic(topic.topic_id);
      if (info == nullptr) continue;
      name = info->name;
    }
    for (const auto& p : topic.partitions) {
      const Place place{name, p.partition_index};
      if (!session.known.contains(place)) {
        world_.fail(fmt::format("{} got {}-{} from broker {} without having asked", name_, place.first,
                                place.second, broker));
        return;
      }
      take(broker, place, p, items);
    }
  }
  world_.recorder.finish(operation, check::Outcome::ok, std::move(items));
  next();
}

void SimReader::take(int32_t broker, const Place& place, const wire::FetchResponse::PartitionData& data,
                     std::vector<check::Item>& items) {
  const ErrorCode code = error_from_wire(data.error_code);
  if (code != ErrorCode::none) {
    world_.count("fetch: " + std::string(error_name(code)));
    if (code == ErrorCode::offset_out_of_range) {
      world_.fail(fmt::format("{} read {}-{} up to {}, which broker {} now says to be out of range", name_,
                              place.first, place.second, positions_[place], broker));
    }
    not_before_ms_[place] = clock_.now().mono_ms + kPauseAfterErrorMs;
    client().distrust(client::Target::leader(place.first, place.second), code);
    return;
  }
  int64_t& position = positions_[place];
  const uint32_t number = world_.recorder.partition(place.first, place.second);
  record::BatchIterator batches(data.records.view);
  while (true) {
    const Result<std::optional<record::BatchView>> batch = batches.next();
    if (!batch.ok()) {
      return world_.fail(fmt::format("{} was given what is no batch of {}-{} at {}: {}", name_, place.first,
                                     place.second, position, batch.error().message));
    }
    if (!*batch) return;
    const record::BatchView& b = **batch;
    if (!b.crc_matches()) {
      return world_.fail(fmt::format("{} was given a batch of {}-{} at {} with a wrong checksum", name_,
                                     place.first, place.second, b.base_offset().v));
    }
    record::RecordReader reader(b.records(), b.record_count());
    record::Record r;
    while (true) {
      const Result<bool> more = reader.next(r);
      if (!more.ok() || !*more) break;
      const int64_t offset = b.base_offset().v + r.offset_delta;
      if (offset < position || b.is_control()) continue;
      check::Item item;
      item.partition = number;
      item.offset = offset;
      item.epoch = b.leader_epoch().v;
      if (r.value && r.value->size() >= 8) item.value = load_be<int64_t>(r.value->data());
      items.push_back(item);
    }
    position = std::max(position, b.next_offset().v);
  }
}

}  // namespace millrace::sim
