// Runs the stories of tests/golden/group: each line is an input, the indented lines below it are everything
// that came out. Set MILLRACE_REWRITE_GOLDEN=1 to write what comes out into the files (and read the
// difference before committing).
//
//   limits NAME=N...                          initial_delay, group_max, session_min, retention,
//   check_interval, record_bytes join GROUP CLIENT [v=N] [member=M] [instance=I] [topics=a,b | data=TEXT]
//   [protocols=x,y] [type=T] [session=MS]
//        [rebalance=MS]
//   sync GROUP GENERATION MEMBER [assign=M:TEXT,M:TEXT] [instance=I] [v=N]
//   heartbeat GROUP GENERATION MEMBER [instance=I]
//   leave GROUP MEMBER... [v=N]               "@I" stands for a member by instance id only
//   commit GROUP GENERATION MEMBER TOPIC-P=OFFSET[/METADATA]... [v=N] [instance=I] [retention=MS]
//   fetch GROUP TOPIC-P... | fetch GROUP all
//   describe GROUP [v=N]   list [states=a,b] [types=a,b]   delete GROUP...   offset-delete GROUP TOPIC-P...
//   wait MS   drop TOKEN   reload   state GROUP
//
// Requests are numbered #1, #2...; the n-th has the random id "-un" to give away. "-" stands for an empty
// string.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "shard_host.h"

namespace millrace::group::testing {
namespace {

class Story {
 public:
  /// The text that the file should have.
  std::string run(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("  ")) continue;
      transcript_ += line + "\n";
      if (line.empty() || line[0] == '#') continue;
      std::istringstream words(line);
      std::vector<std::string> args;
      named_.clear();
      for (std::string w; words >> w;) {
        const size_t eq = w.find('=');
        const bool named = eq != std::string::npos &&
                           std::regex_match(w.substr(0, eq), std::regex("[a-z_]+")) && !args.empty();
        if (named) {
          named_[w.substr(0, eq)] = expand(w.substr(eq + 1));
        } else {
          args.push_back(w == "-" ? "" : expand(w));
        }
      }
      step(args);
      if (host_) host_->check_replay();
    }
    return transcript_;
  }

 private:
  static std::string expand(const std::string& word) {
    std::string out;
    static const std::regex short_id("-u([0-9]+)");
    auto rest = word.cbegin();
    for (std::smatch m; std::regex_search(rest, word.cend(), m, short_id); rest = m.suffix().first) {
      out += m.prefix();
      out += fmt::format("-00000000-0000-0000-0000-{:012x}", std::stoul(m[1]));
    }
    return out.append(rest, word.cend());
  }
  static std::string shorten(const std::string& text) {
    std::string out;
    static const std::regex long_id("-00000000-0000-0000-0000-([0-9a-f]{12})");
    auto rest = text.cbegin();
    for (std::smatch m; std::regex_search(rest, text.cend(), m, long_id); rest = m.suffix().first) {
      out += m.prefix();
      out += fmt::format("-u{}", std::stoul(m[1], nullptr, 16));
    }
    return out.append(rest, text.cend());
  }
  static std::vector<std::string> split(const std::string& s, char by) {
    std::vector<std::string> parts;
    std::istringstream in(s);
    for (std::string p; std::getline(in, p, by);) parts.push_back(p);
    return parts;
  }
  std::optional<std::string> option(const std::string& name) const {
    const auto it = named_.find(name);
    return it == named_.end() ? std::nullopt : std::optional(it->second);
  }
  int32_t number(const std::string& name, int32_t otherwise) const {
    const auto text = option(name);
    return text ? std::stoi(*text) : otherwise;
  }
  ClientContext client(std::string id, int16_t version) const {
    ClientContext c;
    c.client_id = std::move(id);
    c.client_host = "/10.0.0.1";
    c.api_version = static_cast<int16_t>(number("v", version));
    return c;
  }
  void say(const std::string& line) { transcript_ += "  " + shorten(line) + "\n"; }
  static std::string error(int16_t code) {
    return code == 0 ? "ok" : fmt::format("{} {}", code, error_name(error_from_wire(code)));
  }
  static std::string shown(const Bytes& bytes) {
    if (bytes.empty()) return "-";
    std::string out;
    for (const uint8_t b : bytes) {
      if (b >= 0x20 && b < 0x7f) out += static_cast<char>(b);
    }
    return out;
  }
  /// "orders-3" -> topic, partition.
  static std::pair<std::string, int32_t> topic_partition(const std::string& s) {
    const size_t dash = s.rfind('-');
    return {s.substr(0, dash), std::stoi(s.substr(dash + 1))};
  }
  template <class T>
  static T& topic_of(std::vector<T>& topics, const std::string& name) {
    for (T& t : topics) {
      if (t.name == name) return t;
    }
    topics.emplace_back().name = name;
    return topics.back();
  }

  void show(const JoinGroupResponse& r) {
    line_ += fmt::format("join {}", error(r.error_code));
    if (r.error_code == 0) {
      line_ +=
          fmt::format(" generation {} {} {} leader {}", r.generation_id, r.protocol_type.value_or("null"),
                      decltype(r.protocol_name)(r.protocol_name).value_or("null"), r.leader);
      if (r.skip_assignment) line_ += " skip assignment";
    }
    line_ += fmt::format(" member {}", r.member_id.empty() ? "-" : r.member_id);
    if (!r.members.empty()) line_ += " members";
    for (const auto& m : r.members) {
      line_ += fmt::format(" {}{}", m.member_id, m.group_instance_id ? "@" + *m.group_instance_id : "");
      line_ += fmt::format("[{}]", shown(m.metadata));
    }
  }
  void show(const SyncGroupResponse& r) {
    line_ += fmt::format("sync {}", error(r.error_code));
    if (r.error_code == 0)
      line_ += fmt::format(" {} {}", r.protocol_name.value_or("null"), shown(r.assignment));
  }
  void show(const HeartbeatResponse& r) { line_ += fmt::format("heartbeat {}", error(r.error_code)); }
  void show(const LeaveGroupResponse& r) {
    line_ += fmt::format("leave {}", error(r.error_code));
    for (const auto& m : r.members) {
      line_ += fmt::format(", {}{} {}", m.member_id, m.group_instance_id ? "@" + *m.group_instance_id : "",
                           error(m.error_code));
    }
  }
  template <class R>
  void show_partitions(const char* what, const R& r) {
    line_ += what;
    for (const auto& t : r.topics) {
      for (const auto& p : t.partitions) {
        line_ += fmt::format(" {}-{} {}", t.name, p.partition_index, error(p.error_code));
      }
    }
  }
  void show(const OffsetCommitResponse& r) { show_partitions("commit", r); }
  void show(const TxnOffsetCommitResponse& r) { show_partitions("txn commit", r); }
  void show(const OffsetDeleteResponse& r) {
    if (r.error_code != 0) line_ += fmt::format("offset-delete {}", error(r.error_code));
    if (r.error_code == 0) show_partitions("offset-delete", r);
  }
  void show(const OffsetFetchResponse& r) {
    line_ += fmt::format("fetch {}", error(r.error_code));
    for (const auto& t : r.topics) {
      for (const auto& p : t.partitions) {
        line_ += fmt::format(" {}-{}={}", t.name, p.partition_index, p.committed_offset);
        if (p.metadata && !p.metadata->empty()) line_ += "/" + *p.metadata;
        if (!p.metadata) line_ += " (null metadata)";
        if (p.error_code != 0) line_ += " " + error(p.error_code);
      }
    }
  }
  void show(const DescribeGroupsResponse& r) {
    line_ += "describe";
    for (const auto& g : r.groups) {
      line_ += fmt::format(" {} {} {} type '{}' protocol '{}' operations {}", g.group_id, error(g.error_code),
                           g.group_state, g.protocol_type, g.protocol_data, g.authorized_operations);
      if (g.error_message) line_ += fmt::format(" \"{}\"", *g.error_message);
      for (const auto& m : g.members) {
        line_ += fmt::format(" {}{}({} {})[{}|{}]", m.member_id,
                             m.group_instance_id ? "@" + *m.group_instance_id : "", m.client_id,
                             m.client_host, shown(m.member_metadata), shown(m.member_assignment));
      }
    }
  }
  void show(const ListGroupsResponse& r) {
    line_ += fmt::format("list {}", error(r.error_code));
    for (const auto& g : r.groups) {
      line_ += fmt::format(" {}({} {} '{}')", g.group_id, g.group_type, g.group_state, g.protocol_type);
    }
  }
  void show(const DeleteGroupsResponse& r) {
    line_ += "delete";
    for (const auto& g : r.results) line_ += fmt::format(" {} {}", g.group_id, error(g.error_code));
  }

  void show_outputs() {
    for (; records_seen_ < host_->log.size(); ++records_seen_) {
      const RecordOut& r = host_->log[records_seen_];
      auto key = decode_key(r.key);
      REQUIRE(key.ok());
      if (const auto* offset = std::get_if<OffsetKey>(&*key)) {
        std::string line =
            fmt::format("record offset {} {}-{}", offset->group, offset->topic, offset->partition);
        if (!r.value) {
          line += " deleted";
        } else {
          auto value = decode_offset_value(*r.value);
          REQUIRE(value.ok());
          line += fmt::format(" = {}", value->offset);
          if (!value->metadata.empty()) line += "/" + value->metadata;
          if (value->expire_timestamp_ms >= 0) {
            line += fmt::format(" expires in {}", value->expire_timestamp_ms - host_->now.wall_ms);
          }
        }
        say(line);
      } else {
        std::string line = fmt::format("record group {}", std::get<GroupKey>(*key).group);
        if (!r.value) {
          line += " deleted";
        } else {
          auto value = decode_group_value(*r.value);
          REQUIRE(value.ok());
          line += fmt::format(" generation {} protocol {} leader {}", value->generation,
                              value->protocol.value_or("none"), value->leader.value_or("none"));
          for (const auto& [id, m] : value->members) line += fmt::format(" {}={}", id, shown(m.assignment));
        }
        say(line);
      }
    }
    for (const Reply& r : host_->take_replies()) {
      line_ = fmt::format("#{} ", r.token.v);
      std::visit([this](const auto& response) { show(response); }, r.response);
      say(line_);
    }
  }

  void step(const std::vector<std::string>& args) {
    const std::string& what = args[0];
    if (what == "limits") {
      limits_.initial_rebalance_delay_ms = number("initial_delay", 3'000);
      limits_.group_size_max = number("group_max", 10'000);
      limits_.session_timeout_ms_min = number("session_min", 6'000);
      limits_.offsets_retention_ms = number("retention", 604'800'000);
      limits_.offsets_retention_check_interval_ms = number("check_interval", 600'000);
      limits_.offset_metadata_bytes_max = static_cast<size_t>(number("metadata", 4'096));
      limits_.group_record_bytes_max = static_cast<size_t>(number("record_bytes", 1'000'000));
      return;
    }
    if (!host_) host_ = std::make_unique<ShardHost>(limits_);
    if (what == "join") {
      JoinGroupRequest r;
      r.group_id = args.at(1);
      r.member_id = option("member").value_or("");
      r.group_instance_id = option("instance");
      r.protocol_type = option("type").value_or("consumer");
      r.session_timeout_ms = number("session", 10'000);
      r.rebalance_timeout_ms = number("rebalance", 60'000);
      const Bytes metadata = option("data") ? to_bytes(std::string_view(*option("data")))
                                            : subscription_bytes(split(option("topics").value_or("t"), ','));
      for (const std::string& name : split(option("protocols").value_or("range"), ',')) {
        auto& p = r.protocols.emplace_back();
        p.name = name;
        p.metadata = metadata;
      }
      ClientContext c = client(args.at(2), 5);
      if (r.member_id.empty()) c.fresh_uuid = test_uuid(++joins_[r.group_instance_id.value_or(args.at(2))]);
      host_->send(r, c);
    } else if (what == "sync") {
      SyncGroupRequest r;
      r.group_id = args.at(1);
      r.generation_id = std::stoi(args.at(2));
      r.member_id = args.at(3);
      r.group_instance_id = option("instance");
      r.protocol_type = option("type");
      r.protocol_name = option("protocol");
      for (const std::string& a : split(option("assign").value_or(""), ',')) {
        const size_t colon = a.rfind(':');
        auto& assigned = r.assignments.emplace_back();
        assigned.member_id = a.substr(0, colon);
        assigned.assignment = to_bytes(std::string_view(a).substr(colon + 1));
      }
      host_->send(r, client("", 5));
    } else if (what == "heartbeat") {
      HeartbeatRequest r;
      r.group_id = args.at(1);
      r.generation_id = std::stoi(args.at(2));
      r.member_id = args.at(3);
      r.group_instance_id = option("instance");
      host_->send(r, client("", 4));
    } else if (what == "leave") {
      LeaveGroupRequest r;
      r.group_id = args.at(1);
      const ClientContext c = client("", 4);
      for (size_t i = 2; i < args.size(); ++i) {
        if (c.api_version < 3) {
          r.member_id = args[i];
          continue;
        }
        auto& m = r.members.emplace_back();
        if (args[i].starts_with('@')) {
          m.group_instance_id = args[i].substr(1);
        } else {
          m.member_id = args[i];
          m.group_instance_id = option("instance");
        }
      }
      host_->send(r, c);
    } else if (what == "commit") {
      OffsetCommitRequest r;
      r.group_id = args.at(1);
      r.generation_id_or_member_epoch = std::stoi(args.at(2));
      r.member_id = args.at(3);
      r.group_instance_id = option("instance");
      r.retention_time_ms = number("retention", -1);
      for (size_t i = 4; i < args.size(); ++i) {
        const auto parts = split(args[i], '=');
        const auto [name, partition] = topic_partition(parts.at(0));
        auto& p = topic_of(r.topics, name).partitions.emplace_back();
        p.partition_index = partition;
        const auto value = split(parts.at(1), '/');
        p.committed_offset = std::stoll(value.at(0));
        if (value.size() > 1) p.committed_metadata = value[1];
      }
      host_->send(r, client("", 8));
    } else if (what == "fetch") {
      OffsetFetchRequest r;
      r.group.group_id = args.at(1);
      r.group.topics.reset();
      if (args.at(2) != "all") {
        r.group.topics.emplace();
        for (size_t i = 2; i < args.size(); ++i) {
          const auto [name, partition] = topic_partition(args[i]);
          topic_of(*r.group.topics, name).partition_indexes.push_back(partition);
        }
      }
      host_->send(r, client("", 8));
    } else if (what == "describe") {
      DescribeGroupsRequest r;
      r.groups.push_back(args.at(1));
      host_->send(r, client("", 5));
    } else if (what == "list") {
      ListGroupsRequest r;
      r.states_filter = split(option("states").value_or(""), ',');
      r.types_filter = split(option("types").value_or(""), ',');
      host_->send(r, client("", 5));
    } else if (what == "delete") {
      DeleteGroupsRequest r;
      r.groups_names.assign(args.begin() + 1, args.end());
      host_->send(r, client("", 2));
    } else if (what == "offset-delete") {
      OffsetDeleteRequest r;
      r.group_id = args.at(1);
      for (size_t i = 2; i < args.size(); ++i) {
        const auto [name, partition] = topic_partition(args[i]);
        topic_of(r.topics, name).partitions.emplace_back().partition_index = partition;
      }
      host_->send(r, client("", 0));
    } else if (what == "wait") {
      wait(std::stoll(args.at(1)));
    } else if (what == "drop") {
      host_->shard().drop(Token(std::stoull(args.at(1))));
    } else if (what == "reload") {
      host_->reload();
    } else if (what == "state") {
      say(host_->shard().to_string(args.at(1)));
    } else {
      FAIL("unknown word " << what);
    }
    show_outputs();
  }

  void wait(int64_t ms) {
    const int64_t from = host_->now.mono_ms;
    while (host_->shard().next_deadline_mono_ms() <= from + ms) {
      host_->advance(std::max<int64_t>(0, host_->shard().next_deadline_mono_ms() - host_->now.mono_ms));
      const size_t before = transcript_.size();
      show_outputs();
      if (transcript_.size() > before)
        transcript_.insert(before, fmt::format("  after {}\n", host_->now.mono_ms - from));
    }
    host_->advance(from + ms - host_->now.mono_ms);
  }

  GroupLimits limits_;
  std::unique_ptr<ShardHost> host_;
  std::map<std::string, std::string> named_;
  std::map<std::string, uint32_t> joins_;
  std::string transcript_;
  std::string line_;
  size_t records_seen_ = 0;
};

}  // namespace

TEST_CASE("the stories of a group are told as written", "[group]") {
  size_t stories = 0;
  for (const auto& entry : std::filesystem::directory_iterator(MILLRACE_SOURCE_DIR "/tests/golden/group")) {
    if (entry.path().extension() != ".txt") continue;
    ++stories;
    std::ifstream in(entry.path());
    std::stringstream text;
    text << in.rdbuf();
    INFO(entry.path().filename().string());
    const std::string told = Story().run(text.str());
    if (std::getenv("MILLRACE_REWRITE_GOLDEN") != nullptr) {
      std::ofstream(entry.path()) << told;
    } else {
      CHECK(told == text.str());
    }
  }
  REQUIRE(stories >= 8);
}

}  // namespace millrace::group::testing
