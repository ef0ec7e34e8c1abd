// The command line of the tool: every option, its help, and which function runs. CLI11 is known here alone.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "cli/cluster_commands.h"
#include "cli/cluster_operation.h"
#include "cli/cluster_status.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/config_commands.h"
#include "cli/consume_command.h"
#include "cli/disk_commands.h"
#include "cli/dump_command.h"
#include "cli/group_commands.h"
#include "cli/partition_commands.h"
#include "cli/perf/perf_commands.h"
#include "cli/produce_command.h"
#include "cli/topic_commands.h"
#include "cli/verify_command.h"

namespace millrace::cli {
namespace {

CommandTree tree_of(const CLI::App& app) {
  CommandTree tree;
  tree.name = app.get_name();
  tree.description = app.get_description();
  for (const CLI::Option* o : app.get_options()) {
    for (const std::string& name : o->get_lnames()) tree.options.push_back("--" + name);
    for (const std::string& name : o->get_snames()) tree.options.push_back("-" + name);
  }
  for (const CLI::App* c : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!c->get_name().empty()) tree.commands.push_back(tree_of(*c));
  }
  return tree;
}

class AllCommands final : public Commands {
 public:
  explicit AllCommands(CLI::App& app) : app_(app) {
    // Read here and not by CLI11, which lets the environment of commands that were not chosen win.
    if (const char* e = std::getenv("MILLRACE_BOOTSTRAP"); e != nullptr && *e != '\0')
      context_.connection.bootstrap = e;
    add_topic();
    add_produce();
    add_consume();
    add_group();
    add_config();
    add_cluster();
    add_partition();
    add_dump();
    add_verify();
    add_disk();
    add_perf();
    add_completion();
  }

  bool chosen() const override { return find() != nullptr; }
  int run() override {
    const Leaf* leaf = find();
    return leaf == nullptr ? static_cast<int>(ExitCode::usage) : static_cast<int>(leaf->run());
  }

 private:
  struct Leaf {
    CLI::App* command;
    std::function<ExitCode()> run;
  };

  const Leaf* find() const {
    for (const Leaf& leaf : leaves_) {
      if (leaf.command->parsed()) return &leaf;
    }
    return nullptr;
  }

  CLI::App* command(CLI::App& parent, const std::string& name, const std::string& what,
                    std::function<ExitCode()> run) {
    CLI::App* c = parent.add_subcommand(name, what);
    c->footer(kExitCodesHelp);
    leaves_.push_back({c, std::move(run)});
    return c;
  }
  /// A command that only has commands.
  CLI::App* family(const std::string& name, const std::string& what) {
    CLI::App* f = app_.add_subcommand(name, what);
    f->require_subcommand(1);
    return f;
  }
  void add_output(CLI::App* c) {
    c->add_option_function<std::string>(
         "--output",
         [this](const std::string& s) { context_.output = s == "json" ? Output::json : Output::text; },
         "text for people, json for programs")
        ->check(CLI::IsMember({"text", "json"}))
        ->type_name("FORMAT");
    c->add_flag_callback("--json", [this] { context_.output = Output::json; }, "The same as --output json");
  }
  void add_bootstrap(CLI::App* c) {
    c->add_option("-b,--bootstrap-server", context_.connection.bootstrap,
                  "Brokers to begin with: host:port,... (environment: MILLRACE_BOOTSTRAP)")
        ->type_name("LIST")
        ->capture_default_str();
  }
  void add_connection(CLI::App* c) {
    add_bootstrap(c);
    c->add_option_function<double>(
         "--timeout", [this](double s) { context_.connection.timeout_ms = static_cast<int64_t>(s * 1000); },
         "Seconds until a request is given up (default 30)")
        ->check(CLI::Range(0.001, 86400.0))
        ->type_name("SECONDS");
    add_output(c);
  }
  template <class Options>
  CLI::App* broker_command(CLI::App& parent, const std::string& name, const std::string& what,
                           Options& options) {
    CLI::App* c = command(parent, name, what, [this, &options] { return cli::run(options, context_); });
    add_connection(c);
    return c;
  }
  /// A command that waits for what it begins, over many requests.
  template <class Options>
  CLI::App* waiting_command(CLI::App& parent, const std::string& name, const std::string& what,
                            Options& options) {
    CLI::App* c = command(parent, name, what, [this, &options] { return cli::run(options, context_); });
    add_bootstrap(c);
    c->add_option_function<double>(
         "--timeout",
         [this](double s) {
           context_.wait_ms = static_cast<int64_t>(s * 1000);
           context_.connection.timeout_ms = std::min(context_.connection.timeout_ms, context_.wait_ms);
         },
         "Seconds until waiting is given up; what was begun goes on (default 3600)")
        ->check(CLI::Range(0.001, 1e6))
        ->type_name("SECONDS");
    add_output(c);
    return c;
  }
  static void add_at_once(CLI::App* c, int32_t& at_once) {
    c->add_option("--at-once", at_once, "Partitions that are moved at a time")
        ->type_name("N")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
  }
  static void add_node(CLI::App* c, int32_t& node) {
    c->add_option("node", node, "Its node.id")->required()->type_name("NODE")->check(CLI::NonNegativeNumber);
  }
  static void add_yes(CLI::App* c, bool& yes) {
    c->add_flag("--yes", yes, "Do not ask (needed when standard input is a terminal)");
  }
  static void add_dry_run(CLI::App* c, bool& dry_run) {
    c->add_flag("--dry-run", dry_run, "Only check whether the broker would do it");
  }

  void add_topic();
  void add_produce();
  void add_consume();
  void add_group();
  void add_config();
  void add_cluster();
  void add_partition();
  void add_dump();
  void add_verify();
  void add_verify_disk(CLI::App& verify);
  void add_disk();
  void add_perf();
  void add_load(CLI::App& perf, const std::string& name, const std::string& what, perf::PerfLoad& o);
  void add_completion();
  void add_resource(CLI::App* c, ConfigResource& r) {
    c->add_option("--topic", r.topic, "A topic's configuration")->type_name("NAME");
    c->add_option("--broker", r.broker, "One broker's configuration")
        ->type_name("ID")
        ->check(CLI::NonNegativeNumber);
    c->add_flag("--broker-default", r.broker_default, "What holds for all brokers");
  }

  CLI::App& app_;
  std::vector<Leaf> leaves_;
  Context context_;
  TopicCreate topic_create_;
  TopicList topic_list_;
  TopicDescribe topic_describe_;
  TopicAlter topic_alter_;
  TopicDelete topic_delete_;
  TopicAddPartitions topic_add_partitions_;
  TopicDeleteRecords topic_delete_records_;
  Produce produce_;
  Consume consume_;
  GroupList group_list_;
  GroupDescribe group_describe_;
  GroupDelete group_delete_;
  GroupResetOffsets group_reset_;
  ConfigGet config_get_;
  ConfigSet config_set_;
  ConfigUnset config_unset_;
  ClusterInfo cluster_info_;
  ClusterDirs cluster_dirs_;
  ClusterStatus cluster_status_;
  ClusterDrain cluster_drain_;
  ClusterDecommission cluster_decommission_;
  ClusterRebalance cluster_rebalance_;
  ClusterReplace cluster_replace_;
  PartitionReassign partition_reassign_;
  PartitionElect partition_elect_;
  PartitionList partition_list_;
  Dump dump_;
  VerifyHistory verify_history_;
  VerifyDisk verify_disk_;
  DiskRepair disk_repair_;
  DiskAdopt disk_adopt_;
  perf::PerfLoad perf_produce_{perf::LoadKind::produce};
  perf::PerfLoad perf_consume_{perf::LoadKind::consume};
  perf::PerfLoad perf_both_{perf::LoadKind::both};
  perf::PerfLoad perf_commits_{perf::LoadKind::commits};
  perf::PerfConnections perf_connections_;
  perf::PerfGroup perf_group_;
  std::string shell_;
  bool follow_ = false;  // both are the default already
  bool only_show_ = false;
};

void AllCommands::add_topic() {
  CLI::App* topic = family("topic", "Topics and their partitions");
  {
    TopicCreate& o = topic_create_;
    CLI::App* c = broker_command(*topic, "create", "Make topics", o);
    c->add_option("names", o.names, "Topics")->required()->type_name("NAME...");
    c->add_option("-p,--partitions", o.partitions, "Partitions (default: the broker's)")
        ->type_name("N")
        ->check(CLI::Range(1, 1'000'000));
    c->add_option("-r,--replication-factor", o.replication_factor, "Replicas (default: the broker's)")
        ->type_name("N")
        ->check(CLI::Range(1, 1'000));
    c->add_option("-c,--config", o.configs, "Configuration; may be repeated")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
    c->add_flag("--if-not-exists", o.if_not_exists, "It is no error if a topic is there already");
    add_dry_run(c, o.dry_run);
  }
  CLI::App* list = broker_command(*topic, "list", "Show all topics", topic_list_);
  list->add_flag("--internal", topic_list_.internal, "Also the topics that the broker keeps for itself");
  broker_command(*topic, "describe", "Show partitions, replicas and offsets", topic_describe_)
      ->add_option("names", topic_describe_.names, "Topics")
      ->required()
      ->type_name("NAME...");
  {
    TopicAlter& o = topic_alter_;
    CLI::App* c = broker_command(*topic, "alter", "Change a topic's configuration", o);
    c->add_option("name", o.name, "Topic")->required()->type_name("NAME");
    c->add_option("--set", o.set, "Set a key; may be repeated")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
    c->add_option("--unset", o.unset, "Back to the default; may be repeated")
        ->type_name("KEY")
        ->allow_extra_args(false);
    add_dry_run(c, o.dry_run);
  }
  {
    TopicDelete& o = topic_delete_;
    CLI::App* c = broker_command(*topic, "delete", "Delete topics and all their records", o);
    c->add_option("names", o.names, "Topics")->required()->type_name("NAME...");
    c->add_flag("--if-exists", o.if_exists, "It is no error if a topic is not there");
    add_yes(c, o.yes);
  }
  {
    TopicAddPartitions& o = topic_add_partitions_;
    CLI::App* c = broker_command(*topic, "add-partitions", "Give a topic more partitions", o);
    c->add_option("name", o.name, "Topic")->required()->type_name("NAME");
    c->add_option("-p,--partitions", o.total, "How many it has afterwards")
        ->required()
        ->type_name("TOTAL")
        ->check(CLI::Range(1, 1'000'000));
    add_dry_run(c, o.dry_run);
  }
  {
    TopicDeleteRecords& o = topic_delete_records_;
    CLI::App* c = broker_command(*topic, "delete-records", "Delete the oldest records", o);
    c->add_option("name", o.name, "Topic")->required()->type_name("NAME");
    c->add_option("--partition", o.partitions, "Partitions (default: all)")->type_name("0,3,5-7");
    c->add_option("--before", o.before, "What precedes this offset; \"end\": everything")
        ->required()
        ->type_name("OFFSET");
    add_yes(c, o.yes);
  }
}

void AllCommands::add_produce() {
  Produce& o = produce_;
  CLI::App* c = broker_command(app_, "produce", "Send lines of standard input, or a file, as records", o);
  c->add_option("topic", o.topic, "Topic")->required()->type_name("TOPIC");
  c->add_option("--key-separator", o.key_separator, "A line is a key, this, and a value")->type_name("TEXT");
  c->add_option_function<std::string>(
       "--key",
       [&o](const std::string& key) {
         o.key = key;
         o.has_key = true;
       },
       "The key of every record")
      ->type_name("KEY");
  c->add_option("--header", o.headers, "A header of every record; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  c->add_option("--file", o.file, "This file instead of standard input, as one record")->type_name("PATH");
  c->add_flag("--lines", o.lines, "With --file: every line is a record");
  c->add_flag("--tombstone", o.tombstone,
              "Records without a value: lines are keys, or --key is the only one");
  c->add_option("--compression", o.compression, "none, gzip, snappy, lz4 or zstd")->type_name("CODEC");
  c->add_option("--acks", o.acks, "Who has it before it counts: 0, 1 or all")
      ->type_name("ACKS")
      ->capture_default_str();
  c->add_option("--partition", o.partition, "All into this partition")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  c->add_flag("--idempotent", o.idempotent, "A repetition stores nothing twice");
  c->add_option("--timestamp", o.timestamp_ms, "Of every record, Unix milliseconds (default: now)")
      ->type_name("MS");
}

void AllCommands::add_consume() {
  Consume& o = consume_;
  CLI::App* c = broker_command(app_, "consume", "Print records; goes on until Ctrl-C", o);
  c->add_option("topic", o.topic, "Topic")->required()->type_name("TOPIC");
  c->add_option("--from", o.from,
                "beginning, end, an offset, -N (the last N), @TIME (Unix ms, 2026-11-21T13:45:00Z, @-15m)")
      ->type_name("WHERE");
  c->add_option("--group", o.group, "As a member of this group, which remembers how far it read")
      ->type_name("NAME");
  c->add_option("-n,--count", o.count, "Stop after so many records")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  c->add_option("--partition", o.partitions, "Only these partitions")->type_name("0,3,5-7");
  CLI::Option* end =
      c->add_flag("--exit-at-end", o.exit_at_end, "Stop when all that is there now has been read");
  c->add_flag("--follow", follow_, "Go on for what is to come (the default)")->excludes(end);
  CLI::Option* format = c->add_option(
      "-f,--format", o.format,
      "%t topic %p partition %o offset %k key %s value %h headers %T timestamp %K %S lengths; \\n \\t");
  format->type_name("FORMAT")->capture_default_str();
  c->add_flag("--read-committed", o.read_committed, "Leave out what transactions aborted");
}

void AllCommands::add_group() {
  CLI::App* group = family("group", "Consumer groups and their offsets");
  broker_command(*group, "list", "Show all groups", group_list_)
      ->add_option("--state", group_list_.state, "Only groups in this state (Stable, Empty, ...)")
      ->type_name("STATE");
  broker_command(*group, "describe", "Show members, offsets and lag", group_describe_)
      ->add_option("groups", group_describe_.groups, "Groups")
      ->required()
      ->type_name("NAME...");
  {
    CLI::App* c = broker_command(*group, "delete", "Delete groups and their offsets", group_delete_);
    c->add_option("groups", group_delete_.groups, "Groups")->required()->type_name("NAME...");
    add_yes(c, group_delete_.yes);
  }
  GroupResetOffsets& o = group_reset_;
  CLI::App* c = broker_command(*group, "reset-offsets", "Move a group without members to other offsets", o);
  c->add_option("group", o.group, "Group")->required()->type_name("NAME");
  c->add_option("--topic", o.topics, "Topic, perhaps with partitions; may be repeated")
      ->type_name("NAME[:0,3]")
      ->allow_extra_args(false);
  c->add_flag("--all-topics", o.all_topics, "Everything the group has committed");
  c->add_flag("--to-earliest", o.to_earliest, "To the oldest record");
  c->add_flag("--to-latest", o.to_latest, "To the end");
  c->add_option("--to-offset", o.to_offset, "To an offset")
      ->type_name("OFFSET")
      ->check(CLI::NonNegativeNumber);
  c->add_option("--to-timestamp", o.to_timestamp, "To the first record of that time or later")
      ->type_name("TIME");
  c->add_option_function<int64_t>(
       "--shift-by",
       [&o](int64_t by) {
         o.shift_by = by;
         o.shifts = true;
       },
       "Forward, or back if negative")
      ->type_name("N");
  CLI::Option* execute = c->add_flag("--execute", o.execute, "Do it");
  c->add_flag("--dry-run", only_show_, "Only show it (the default)")->excludes(execute);
  add_yes(c, o.yes);
}

void AllCommands::add_config() {
  CLI::App* config = family("config", "Configuration of topics and brokers");
  {
    CLI::App* c = broker_command(*config, "get", "Show configuration and where it comes from", config_get_);
    add_resource(c, config_get_.resource);
    c->add_option("keys", config_get_.keys, "Only these keys")->type_name("KEY...");
    c->add_flag("--all", config_get_.all, "Also what nobody changed");
  }
  {
    CLI::App* c = broker_command(*config, "set", "Set keys", config_set_);
    add_resource(c, config_set_.resource);
    c->add_option("pairs", config_set_.pairs, "Keys and values")->required()->type_name("KEY=VALUE...");
    add_dry_run(c, config_set_.dry_run);
  }
  CLI::App* c = broker_command(*config, "unset", "Take keys back to what holds without them", config_unset_);
  add_resource(c, config_unset_.resource);
  c->add_option("keys", config_unset_.keys, "Keys")->required()->type_name("KEY...");
  add_dry_run(c, config_unset_.dry_run);
}

void AllCommands::add_cluster() {
  CLI::App* cluster = family("cluster", "The cluster as a whole");
  broker_command(*cluster, "info", "Show brokers, controller and the state of partitions", cluster_info_);
  broker_command(*cluster, "dirs", "Show the data directories: room, state and what they hold",
                 cluster_dirs_);
  broker_command(*cluster, "status", "Show nodes, the metadata quorum, health of partitions and disk room",
                 cluster_status_);
  {
    ClusterDrain& o = cluster_drain_;
    CLI::App* c = waiting_command(*cluster, "drain", "Move all replicas and leaders away from a broker", o);
    add_node(c, o.node);
    c->add_flag("--dry-run", o.dry_run, "Only show what would be moved");
    add_at_once(c, o.at_once);
  }
  {
    ClusterDecommission& o = cluster_decommission_;
    CLI::App* c = waiting_command(*cluster, "decommission",
                                  "Drain a node, take its vote, wait until it is stopped, and forget it", o);
    add_node(c, o.node);
    add_at_once(c, o.at_once);
  }
  {
    ClusterRebalance& o = cluster_rebalance_;
    CLI::App* c = waiting_command(*cluster, "rebalance",
                                  "Spread replicas and preferred leaders evenly, moving as few as needed", o);
    c->add_flag("--dry-run", o.dry_run, "Only show the plan");
    add_at_once(c, o.at_once);
  }
  add_node(waiting_command(*cluster, "replace",
                           "Let a voter that came back with an empty directory vote again", cluster_replace_),
           cluster_replace_.node);
}

void AllCommands::add_partition() {
  CLI::App* partition = family("partition", "Where replicas lie and who leads");
  {
    PartitionReassign& o = partition_reassign_;
    CLI::App* c = waiting_command(*partition, "reassign", "Move partitions to other brokers", o);
    c->add_option("moves", o.moves, "The first broker is preferred to lead; with --cancel: TOPIC[:0,3]")
        ->type_name("TOPIC:0,3=1,2,3...");
    c->add_flag("--cancel", o.cancel, "Take back moves that are under way (all, if none are named)");
    c->add_option("--throttle", o.throttle, "What each broker may send and fetch for it")
        ->type_name("BYTES/S")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 50));
    add_at_once(c, o.at_once);
  }
  {
    PartitionElect& o = partition_elect_;
    CLI::App* c = waiting_command(*partition, "elect", "Elect leaders", o);
    c->add_option("partitions", o.partitions, "Default: all that need an election")
        ->type_name("TOPIC[:0,3]...");
    CLI::Option* unclean =
        c->add_flag("--unclean", o.unclean, "Any replica, if none is in sync: records may be lost");
    c->add_flag("--preferred", o.preferred, "The preferred replica (the default)")->excludes(unclean);
  }
  PartitionList& o = partition_list_;
  CLI::App* c = waiting_command(*partition, "list", "Show partitions", o);
  c->add_flag("--reassigning", o.reassigning, "Those that are being moved");
  c->add_flag("--under-replicated", o.under_replicated, "Those with replicas that are not in sync");
  c->add_flag("--leaderless", o.leaderless, "Those without a leader");
}

void AllCommands::add_dump() {
  CLI::App* c = command(app_, "dump", "Show what is in segments, indexes, snapshots and checkpoints",
                        [this] { return cli::run(dump_, context_.output); });
  c->add_option("paths", dump_.paths, "Files, or a partition's directory")->required()->type_name("PATH...");
  c->add_flag("--records", dump_.records, "Also the records");
  c->add_option("--decode", dump_.decode, "How records are read: auto, none, offsets, transactions, metadata")
      ->type_name("HOW")
      ->capture_default_str();
  add_output(c);
}

void AllCommands::add_verify() {
  CLI::App* verify = family("verify", "Check what is stored, judge what was recorded");
  add_verify_disk(*verify);
  VerifyHistory& o = verify_history_;
  CLI::App* c = command(*verify, "history", "Whether what clients were told is what a log may do",
                        [this] { return cli::run(verify_history_, context_.output); });
  c->add_option("file", o.path, "A history: one JSON object a line")->required()->type_name("FILE");
  c->add_option("--timelines", o.timelines, "How many violations are drawn")
      ->type_name("N")
      ->check(CLI::Range(0, 1'000))
      ->capture_default_str();
  add_output(c);
}

void AllCommands::add_verify_disk(CLI::App& verify) {
  VerifyDisk& o = verify_disk_;
  CLI::App* c = command(verify, "disk", "Check every file of data directories that no broker uses",
                        [this] { return cli::run(verify_disk_, context_); });
  c->add_option("directories", o.paths, "Data directories, or partitions in them")->type_name("DIR...");
  c->add_option("--config", o.config, "Also the log.dirs of this properties file")->type_name("FILE");
  c->add_flag("--records", o.records, "Also decompress and decode every record");
  c->add_flag("--force,--online-ok", o.force, "Also while a broker runs");
  c->add_flag("--quiet", o.quiet, "Damage and the summary, no notes");
  c->add_option("--threads", o.threads, "Partitions checked at a time (default: processors, at most 8)")
      ->type_name("N")
      ->check(CLI::Range(1, 64));
  add_output(c);
}

void AllCommands::add_disk() {
  CLI::App* disk = family("disk", "Data directories that no broker uses");
  {
    DiskRepair& o = disk_repair_;
    CLI::App* c = command(*disk, "repair", "Give up the damaged bytes of a partition, keeping them aside",
                          [this] { return cli::run(disk_repair_, context_); });
    c->add_option("directory", o.path, "The partition's directory")->required()->type_name("DIR/TOPIC-N");
    c->add_flag("--drop-from-damage", o.drop_from_damage, "The log ends before the first damage");
    c->add_flag("--skip-damaged", o.skip_damaged, "What is damaged becomes a hole, the rest stays");
    c->add_flag("--dry-run", o.dry_run, "Only say what would be lost");
    add_yes(c, o.yes);
    add_output(c);
  }
  DiskAdopt& o = disk_adopt_;
  CLI::App* c = command(*disk, "adopt", "Make a partition's directory from elsewhere one of this topic",
                        [this] { return cli::run(disk_adopt_, context_); });
  c->add_option("directory", o.path, "The partition's directory, in its new place")
      ->required()
      ->type_name("DIR/TOPIC-N");
  c->add_option("--topic-id", o.topic_id, "Id of the topic it belongs to now")->required()->type_name("ID");
  c->add_option("--leader-epoch", o.leader_epoch, "Leader epoch that its batches get")
      ->type_name("N")
      ->capture_default_str();
  add_yes(c, o.yes);
  add_output(c);
}

void AllCommands::add_load(CLI::App& perf, const std::string& name, const std::string& what,
                           perf::PerfLoad& o) {
  const bool produces = o.kind == perf::LoadKind::produce || o.kind == perf::LoadKind::both;
  const bool consumes = o.kind == perf::LoadKind::consume || o.kind == perf::LoadKind::both;
  CLI::App* c = command(perf, name, what, [this, &o] { return perf::run(o, context_); });
  add_connection(c);
  c->add_option("--topic", o.topic, "Topic")->type_name("NAME")->capture_default_str();
  c->add_option("--create-partitions", o.create_partitions, "Make the topic with so many, if it is not there")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000));
  c->add_option("--replication-factor", o.replication_factor, "Of a topic that is made")->type_name("N");
  c->add_option("--topic-config", o.configs, "Of a topic that is made; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  if (o.kind != perf::LoadKind::consume) {
    c->add_option("-k,--connections", o.connections, "Connections that produce, or commit")
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
    c->add_option("-d,--in-flight", o.in_flight, "Requests under way on each")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    c->add_option("--rate", o.run.rate,
                  "Requests a second, sent when they are due whatever the broker does; 0: as answers come")
        ->check(CLI::Range(0.0, 1e8))
        ->capture_default_str();
  }
  if (produces) {
    c->add_option("--acks", o.acks, "0, 1 or all")->capture_default_str();
    c->add_option("--records", o.shape.records, "Records in a batch")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    c->add_option("--batch-bytes", o.batch_bytes,
                  "As many records as fit in so many bytes, instead of --records")
        ->check(CLI::Range(1, 64 << 20));
    c->add_option("--value-size", o.shape.value_bytes, "Bytes of a value")
        ->check(CLI::Range(0, 64 << 20))
        ->capture_default_str();
    c->add_option("--key-size", o.shape.key_bytes, "Bytes of a key; 0: no keys")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    c->add_option("--random-percent", o.shape.random_percent, "Share of a value that does not compress")
        ->check(CLI::Range(0, 100))
        ->capture_default_str();
    c->add_option("--compression", o.compression, "none, gzip, snappy, lz4 or zstd")->capture_default_str();
    c->add_option("--partitions-per-request", o.partitions_per_request, "Batches in a request")
        ->check(CLI::Range(1, 100'000))
        ->capture_default_str();
    c->add_flag("--idempotent", o.idempotent, "With producer ids and sequences");
  }
  if (o.kind == perf::LoadKind::commits) {
    c->add_option("--group", o.group, "Beginning of the groups' names, one group a connection")
        ->capture_default_str();
  }
  if (consumes) {
    c->add_option("--consumers", o.consumers, "How many read everything")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    c->add_option("--fetchers", o.fetchers, "Connections of a consumer to each broker, partitions dealt out")
        ->check(CLI::Range(1, 10'000))
        ->capture_default_str();
    c->add_option("--max-bytes", o.limits.max_bytes, "Of a fetch")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c->add_option("--partition-max-bytes", o.limits.partition_max_bytes, "Of a partition in a fetch")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    c->add_option("--min-bytes", o.limits.min_bytes, "A fetch waits for so many")->capture_default_str();
    c->add_option("--max-wait-ms", o.limits.max_wait_ms, "But no longer")->capture_default_str();
    c->add_flag("--verify", o.verify, "Check CRCs and the order of offsets of all that is read");
    c->add_flag("--read-committed", o.read_committed, "Isolation level of the fetches");
    c->add_flag("--no-session", o.no_session, "Name every partition in every fetch");
  }
  if (o.kind == perf::LoadKind::consume) {
    c->add_flag("--from-beginning", o.from_beginning, "Not only what arrives from now on");
    c->add_flag("--until-end", o.until_end, "Stop when all that is there now has been read")
        ->needs(c->get_option("--from-beginning"));
  }
  c->add_option("--warmup", o.run.warmup_s, "Seconds before the window that counts")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  c->add_option("--seconds", o.run.seconds, "Length of the window")
      ->check(CLI::Range(0.01, 86400.0))
      ->capture_default_str();
  c->add_option("--requests", o.run.requests_max, "So many answers instead of a window, without warm-up");
  c->add_flag("--spin", o.run.spin, "Never sleep: latencies without the generator's own wake-ups");
  c->add_option("--congestion", o.congestion, "Congestion control of the generator's sockets")
      ->type_name("NAME");
  c->add_option("--broker-pid", o.run.broker_pids, "Tell what these processes used in the window")
      ->type_name("PID")
      ->delimiter(',');
  c->add_flag("--buckets", o.buckets, "Whole histograms into the JSON");
  c->add_option("--json-file", o.json_file, "The result as JSON into this file")->type_name("FILE");
}

void AllCommands::add_perf() {
  CLI::App* p = family("perf", "Put load on brokers and measure them");
  add_load(*p, "produce", "Produce batches", perf_produce_);
  add_load(*p, "consume", "Fetch what is there, or what arrives", perf_consume_);
  add_load(*p, "both", "Produce and fetch, timing the way from one to the other", perf_both_);
  add_load(*p, "commits", "Commit offsets", perf_commits_);
  {
    perf::PerfConnections& o = perf_connections_;
    CLI::App* c = command(*p, "connections", "Open connections and hold them",
                          [this] { return perf::run(perf_connections_, context_); });
    add_connection(c);
    c->add_option("--count", o.count, "How many")->check(CLI::Range(1, 1'000'000))->capture_default_str();
    c->add_option("--seconds", o.hold_s, "For how long")
        ->check(CLI::Range(0.0, 86400.0))
        ->capture_default_str();
    c->add_option("--broker-pid", o.broker_pids, "Tell what these processes used")
        ->type_name("PID")
        ->delimiter(',');
  }
  perf::PerfGroup& o = perf_group_;
  CLI::App* c = command(*p, "group", "Members join and leave a consumer group",
                        [this] { return perf::run(perf_group_, context_); });
  add_connection(c);
  c->add_option("--topic", o.topic, "Topic")->type_name("NAME")->capture_default_str();
  c->add_option("--group", o.group, "Group")->type_name("NAME")->capture_default_str();
  c->add_option("--members", o.members, "How many")->check(CLI::Range(1, 10'000))->capture_default_str();
  c->add_option("--heartbeat-ms", o.heartbeat_ms, "Their heartbeat")
      ->check(CLI::Range(1, 60'000))
      ->capture_default_str();
  c->add_option("--json-file", o.json_file, "The result as JSON into this file")->type_name("FILE");
}

void AllCommands::add_completion() {
  CLI::App* c = command(app_, "completion", "Print a completion script", [this] {
    const auto script = completion_script(tree_of(app_), shell_);
    if (!script.ok()) return fail(script.error());
    const Status printed = print(*script);
    return printed.ok() ? ExitCode::ok : fail(printed.error());
  });
  c->add_option("shell", shell_, "bash, zsh or fish")->required()->type_name("SHELL");
}

}  // namespace

std::unique_ptr<Commands> add_commands(CLI::App& app) {
  app.footer(kExitCodesHelp);
  return std::make_unique<AllCommands>(app);
}

int parse_and_run(CLI::App& app, Commands& commands, int argc, char** argv,
                  const std::function<int()>& others) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // Help and version are "errors" of code 0.
    return app.exit(e) == 0 ? static_cast<int>(ExitCode::ok) : static_cast<int>(ExitCode::usage);
  }
  return commands.chosen() ? commands.run() : others();
}

}  // namespace millrace::cli
