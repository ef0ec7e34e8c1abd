// Topic keys, sorted by name. Defaults are Kafka's but min.insync.replicas, which is 2 here; `durability` and
// `validation` are ours.
#include <iterator>
#include <limits>

#include "meta/options.h"

namespace millrace::meta {
namespace {

constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kHourMs = 3'600'000;
constexpr std::string_view kInt64Max = "9223372036854775807";

constexpr OptionSynonym kCleanupPolicy[] = {{"log.cleanup.policy"}};
constexpr OptionSynonym kGzipLevel[] = {{"compression.gzip.level"}};
constexpr OptionSynonym kLz4Level[] = {{"compression.lz4.level"}};
constexpr OptionSynonym kCompressionType[] = {{"compression.type"}};
constexpr OptionSynonym kZstdLevel[] = {{"compression.zstd.level"}};
constexpr OptionSynonym kDeleteRetention[] = {{"log.cleaner.delete.retention.ms"}};
constexpr OptionSynonym kDurability[] = {{"log.durability"}};
constexpr OptionSynonym kFileDeleteDelay[] = {{"log.segment.delete.delay.ms"}};
constexpr OptionSynonym kFlushMessages[] = {{"log.flush.interval.messages"}};
constexpr OptionSynonym kFlushMs[] = {{"log.flush.interval.ms"}, {"log.flush.scheduler.interval.ms"}};
constexpr OptionSynonym kIndexInterval[] = {{"log.index.interval.bytes"}};
constexpr OptionSynonym kLocalRetentionBytes[] = {{"log.local.retention.bytes"}};
constexpr OptionSynonym kLocalRetentionMs[] = {{"log.local.retention.ms"}};
constexpr OptionSynonym kMaxCompactionLag[] = {{"log.cleaner.max.compaction.lag.ms"}};
constexpr OptionSynonym kMaxMessageBytes[] = {{"message.max.bytes"}};
constexpr OptionSynonym kTimestampAfter[] = {{"log.message.timestamp.after.max.ms"}};
constexpr OptionSynonym kTimestampBefore[] = {{"log.message.timestamp.before.max.ms"}};
constexpr OptionSynonym kTimestampType[] = {{"log.message.timestamp.type"}};
constexpr OptionSynonym kDirtyRatio[] = {{"log.cleaner.min.cleanable.ratio"}};
constexpr OptionSynonym kMinCompactionLag[] = {{"log.cleaner.min.compaction.lag.ms"}};
constexpr OptionSynonym kMinInsync[] = {{"min.insync.replicas"}};
constexpr OptionSynonym kPreallocate[] = {{"log.preallocate"}};
constexpr OptionSynonym kRetentionBytes[] = {{"log.retention.bytes"}};
constexpr OptionSynonym kRetentionMs[] = {
    {"log.retention.ms"}, {"log.retention.minutes", kMinuteMs}, {"log.retention.hours", kHourMs}};
constexpr OptionSynonym kSegmentBytes[] = {{"log.segment.bytes"}};
constexpr OptionSynonym kSegmentIndexBytes[] = {{"log.index.size.max.bytes"}};
constexpr OptionSynonym kSegmentJitter[] = {{"log.roll.jitter.ms"}, {"log.roll.jitter.hours", kHourMs}};
constexpr OptionSynonym kSegmentMs[] = {{"log.roll.ms"}, {"log.roll.hours", kHourMs}};
constexpr OptionSynonym kUnclean[] = {{"unclean.leader.election.enable"}};
constexpr OptionSynonym kValidation[] = {{"log.validation"}};

/// Kafka's gzip levels have a hole: -1 (the library's choice) and 1 to 9.
std::string check_gzip_level(std::string_view value) {
  return value == "0" ? "must be -1 or 1 to 9" : "";
}

/// "*" or "partition:broker" pairs.
std::string check_throttled_replicas(std::string_view value) {
  if (value == "*") return "";
  for (const std::string& item : parse_config_list(value)) {
    const size_t colon = item.find(':');
    if (colon == std::string::npos || !parse_config_int(item.substr(0, colon)).ok() ||
        !parse_config_int(item.substr(colon + 1)).ok()) {
      return "must be * or a list of partition:broker";
    }
  }
  return "";
}

constexpr OptionScope kTopic = OptionScope::topic;

const OptionDef kTopicOptions[] = {
    {.name = "cleanup.policy",
     .type = ConfigType::list,
     .default_value = "delete",
     .doc = "What becomes of old records: delete drops segments by age and size, compact keeps the newest "
            "record of each key. Both may be given; an empty list keeps everything for ever.",
     .allowed = "compact,delete",
     .scope = kTopic,
     .synonyms = kCleanupPolicy},
    {.name = "compression.gzip.level",
     .type = ConfigType::int32,
     .default_value = "-1",
     .doc = "Level used when the broker itself compresses with gzip: 1 (fast) to 9 (small), -1 for the "
            "library's choice.",
     .min = -1,
     .max = 9,
     .check = check_gzip_level,
     .scope = kTopic,
     .synonyms = kGzipLevel},
    {.name = "compression.lz4.level",
     .type = ConfigType::int32,
     .default_value = "9",
     .doc = "Level used when the broker itself compresses with lz4.",
     .min = 1,
     .max = 17,
     .scope = kTopic,
     .synonyms = kLz4Level},
    {.name = "compression.type",
     .type = ConfigType::string,
     .default_value = "producer",
     .doc = "Codec in which batches are stored. producer keeps each batch as it was sent; any other value "
            "makes the broker recompress batches that came in another codec.",
     .allowed = "uncompressed,zstd,lz4,snappy,gzip,producer",
     .scope = kTopic,
     .synonyms = kCompressionType},
    {.name = "compression.zstd.level",
     .type = ConfigType::int32,
     .default_value = "3",
     .doc = "Level used when the broker itself compresses with zstd.",
     .min = -131072,
     .max = 22,
     .scope = kTopic,
     .synonyms = kZstdLevel},
    {.name = "delete.retention.ms",
     .type = ConfigType::int64,
     .default_value = "86400000",
     .doc = "How long a compacted topic keeps tombstones, so that a reader that started before them still "
            "sees them.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kDeleteRetention},
    {.name = "durability",
     .type = ConfigType::string,
     .default_value = "fsync",
     .doc = "fsync: a record counts as committed only when every in-sync replica has it on stable storage. "
            "replicated: it counts as committed when every in-sync replica has written it; disks are synced "
            "in the background.",
     .allowed = "fsync,replicated",
     .scope = kTopic,
     .importance = Importance::high,
     .synonyms = kDurability},
    {.name = "file.delete.delay.ms",
     .type = ConfigType::int64,
     .default_value = "60000",
     .doc = "Time between marking a file as deleted and removing it from the disk.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kFileDeleteDelay},
    {.name = "flush.messages",
     .type = ConfigType::int64,
     .default_value = kInt64Max,
     .doc = "An append that leaves this many records unsynced is answered when they are synced, whatever its "
            "acks and whatever durability says.",
     .min = 1,
     .scope = kTopic,
     .synonyms = kFlushMessages},
    {.name = "flush.ms",
     .type = ConfigType::int64,
     .default_value = kInt64Max,
     .doc = "Unsynced records are synced when they are this old. durability=fsync syncs them within 10 ms, "
            "durability=replicated once a minute if this says nothing else.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kFlushMs},
    {.name = "follower.replication.throttled.replicas",
     .type = ConfigType::list,
     .default_value = "",
     .doc = "Replicas whose incoming replication is throttled: partition:broker pairs, or * for all.",
     .check = check_throttled_replicas,
     .scope = kTopic},
    {.name = "index.interval.bytes",
     .type = ConfigType::int32,
     .default_value = "4096",
     .doc = "Bytes of records between two entries of the sparse offset index.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kIndexInterval},
    {.name = "leader.replication.throttled.replicas",
     .type = ConfigType::list,
     .default_value = "",
     .doc = "Replicas whose outgoing replication is throttled: partition:broker pairs, or * for all.",
     .check = check_throttled_replicas,
     .scope = kTopic},
    {.name = "local.retention.bytes",
     .type = ConfigType::int64,
     .default_value = "-2",
     .doc = "With tiered storage, bytes of a partition kept on local disks; -2 means retention.bytes.",
     .min = -2,
     .scope = kTopic,
     .synonyms = kLocalRetentionBytes,
     .used = false},
    {.name = "local.retention.ms",
     .type = ConfigType::int64,
     .default_value = "-2",
     .doc = "With tiered storage, age up to which records stay on local disks; -2 means retention.ms.",
     .min = -2,
     .scope = kTopic,
     .synonyms = kLocalRetentionMs,
     .used = false},
    {.name = "max.compaction.lag.ms",
     .type = ConfigType::int64,
     .default_value = kInt64Max,
     .doc = "A record of a compacted topic becomes eligible for compaction at the latest at this age.",
     .min = 1,
     .scope = kTopic,
     .synonyms = kMaxCompactionLag},
    {.name = "max.message.bytes",
     .type = ConfigType::int32,
     .default_value = "1048588",
     .doc = "Largest record batch accepted, as it is stored (after compression).",
     .min = 0,
     .scope = kTopic,
     .synonyms = kMaxMessageBytes},
    {.name = "message.timestamp.after.max.ms",
     .type = ConfigType::int64,
     .default_value = "3600000",
     .doc = "How far a producer's timestamp may lie ahead of the broker's clock; batches beyond are refused. "
            "Ignored with LogAppendTime.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kTimestampAfter},
    {.name = "message.timestamp.before.max.ms",
     .type = ConfigType::int64,
     .default_value = kInt64Max,
     .doc = "How far a producer's timestamp may lie behind the broker's clock; batches beyond are refused. "
            "Ignored with LogAppendTime.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kTimestampBefore},
    {.name = "message.timestamp.type",
     .type = ConfigType::string,
     .default_value = "CreateTime",
     .doc = "Whose clock stamps a record: the producer's (CreateTime) or the broker's at append "
            "(LogAppendTime).",
     .allowed = "CreateTime,LogAppendTime",
     .scope = kTopic,
     .synonyms = kTimestampType},
    {.name = "min.cleanable.dirty.ratio",
     .type = ConfigType::float64,
     .default_value = "0.5",
     .doc = "Share of a compacted log that must be uncompacted before compaction runs.",
     .min = 0,
     .max = 1,
     .scope = kTopic,
     .synonyms = kDirtyRatio},
    {.name = "min.compaction.lag.ms",
     .type = ConfigType::int64,
     .default_value = "0",
     .doc = "A record of a compacted topic is not compacted before it has this age.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kMinCompactionLag},
    {.name = "min.insync.replicas",
     .type = ConfigType::int32,
     .default_value = "2",
     .doc = "In-sync replicas without which acks=all is refused; counts for at most the replication factor.",
     .min = 1,
     .scope = kTopic,
     .synonyms = kMinInsync},
    {.name = "preallocate",
     .type = ConfigType::boolean,
     .default_value = "false",
     .doc = "Whether disk blocks of a new segment are reserved when it is opened.",
     .scope = kTopic,
     .synonyms = kPreallocate},
    {.name = "remote.log.copy.disable",
     .type = ConfigType::boolean,
     .default_value = "false",
     .doc = "With tiered storage, stops copying further segments to the remote tier.",
     .scope = kTopic,
     .used = false},
    {.name = "remote.log.delete.on.disable",
     .type = ConfigType::boolean,
     .default_value = "false",
     .doc = "With tiered storage, whether switching it off for the topic deletes what the remote tier holds.",
     .scope = kTopic,
     .used = false},
    {.name = "remote.storage.enable",
     .type = ConfigType::boolean,
     .default_value = "false",
     .doc = "Whether closed segments are copied to a remote tier.",
     .scope = kTopic,
     .used = false},
    {.name = "retention.bytes",
     .type = ConfigType::int64,
     .default_value = "-1",
     .doc = "Size of one partition above which its oldest segments are dropped; -1 for no limit.",
     .min = -1,
     .scope = kTopic,
     .synonyms = kRetentionBytes},
    {.name = "retention.ms",
     .type = ConfigType::int64,
     .default_value = "604800000",
     .doc = "Age of a segment's newest record after which the segment is dropped; -1 for no limit.",
     .min = -1,
     .scope = kTopic,
     .synonyms = kRetentionMs},
    {.name = "segment.bytes",
     .type = ConfigType::int32,
     .default_value = "1073741824",
     .doc = "Size at which a segment file is closed and a new one begun.",
     .min = 1 << 20,
     .scope = kTopic,
     .synonyms = kSegmentBytes},
    {.name = "segment.index.bytes",
     .type = ConfigType::int32,
     .default_value = "10485760",
     .doc = "Size of an index at which its segment is closed.",
     .min = 4,
     .scope = kTopic,
     .synonyms = kSegmentIndexBytes},
    {.name = "segment.jitter.ms",
     .type = ConfigType::int64,
     .default_value = "0",
     .doc =
         "Largest random amount by which segment.ms is shortened, so that many segments do not roll at once.",
     .min = 0,
     .scope = kTopic,
     .synonyms = kSegmentJitter},
    {.name = "segment.ms",
     .type = ConfigType::int64,
     .default_value = "604800000",
     .doc = "Age of a segment at which it is closed even if it is not full.",
     .min = 1,
     .scope = kTopic,
     .synonyms = kSegmentMs},
    {.name = "unclean.leader.election.enable",
     .type = ConfigType::boolean,
     .default_value = "false",
     .doc = "Whether a replica that is not in sync may become leader when no other is left, at the price of "
            "records.",
     .scope = kTopic,
     .importance = Importance::high,
     .synonyms = kUnclean,
     .used = false},
    {.name = "validation",
     .type = ConfigType::string,
     .default_value = "standard",
     .doc =
         "standard: header and checksum of every batch are checked, and compressed batches are opened only "
         "where another rule needs it. strict: every batch is opened and each record in it is checked.",
     .allowed = "standard,strict",
     .scope = kTopic,
     .synonyms = kValidation},
};

}  // namespace

std::span<const OptionDef> topic_options() {
  return kTopicOptions;
}

}  // namespace millrace::meta
