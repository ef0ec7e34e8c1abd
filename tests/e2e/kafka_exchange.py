#!/usr/bin/env python3
"""Takes partitions from Millrace to Apache Kafka and back as plain directories, and has Kafka's tools read our files.

usage: build/zoo/venv/bin/python tests/e2e/kafka_exchange.py
       (scripts/client_zoo --install-only --only confluent,java-tools installs what it needs; $ZOO_DIR names another place)

One Kafka 4 broker of its own jars and one Millrace are filled by a real client: every codec, several segments, an idempotent
producer, transactions (committed, aborted), a compacted topic. Both are stopped, partition directories change places,
`millrace disk adopt` gives them the topic id they have there, both start, everything is read by the client and more is
appended. Then both are killed and the same directories move back.
"""

import argparse
import base64
import hashlib
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from harness import BINARY, OWN_ENVIRONMENT, ROOT, Broker, Checks, eventually, free_ports

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError:
    sys.exit("kafka_exchange: confluent-kafka is missing; run scripts/client_zoo --install-only --only confluent,java-tools")

ZOO = pathlib.Path(os.environ.get("ZOO_DIR") or ROOT / "build" / "zoo")
JARS = ZOO / "java" / "tools"
JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx400m", "-cp", f"{JARS}/*"]
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"

# What a broker that has just started says of partitions that it does not lead yet.
NOT_YET = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION)

checks = Checks()


class Kafka:
    """Apache Kafka: broker and controller in one process; the directory outlives it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.port, self.controller_port = free_ports(2)
        self.directory = self.folder / "kafka-data"
        self.log_path = self.folder / "kafka.log"
        self.properties = self.folder / "kafka.properties"
        self.properties.write_text(f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{self.controller_port}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
controller.listener.names=CONTROLLER
log.dirs={self.directory}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=500
log.segment.delete.delay.ms=500
""")
        self.process = None

    def format(self):
        subprocess.run([*JAVA, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self.properties, "--standalone"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)

    def spawn(self):
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([*JAVA, "kafka.Kafka", str(self.properties)], stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        return self

    def wait(self):
        if not eventually(lambda: self.process.poll() is not None or self.answers(), 60, 0.1) or self.process.poll() is not None:
            raise RuntimeError(f"Kafka does not answer: {self.log_path.read_text(errors='replace')[-2000:]}")
        return self

    def answers(self):
        try:
            AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": 0}).list_topics(timeout=2)
            return True
        except KafkaException:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.kill()


# --- clients ---

def admin(broker):
    return AdminClient({"bootstrap.servers": f"127.0.0.1:{broker.port}"})


def create(broker, topics):
    """`topics`: name -> (partitions, configs)."""
    client = admin(broker)  # lives as long as its futures
    for f in client.create_topics([NewTopic(n, p, 1, config=c) for n, (p, c) in topics.items()]).values():
        f.result(30)


def topic_ids(broker, topics):
    client = admin(broker)
    described = client.describe_topics(TopicCollection(list(topics)))
    ids = {name: future.result(30).topic_id for name, future in described.items()}
    return {name: kafka_id(i.get_most_significant_bits(), i.get_least_significant_bits()) for name, i in ids.items()}


def kafka_id(high, low):
    """As Kafka writes it: base64 for URLs, without padding."""
    return base64.urlsafe_b64encode(struct.pack(">QQ", high & (1 << 64) - 1, low & (1 << 64) - 1)).decode().rstrip("=")


def produce(broker, topic, partitions, count, tag, size=200, key=None, **settings):
    """`count` records to each partition, in order; {partition: [(offset, key, value)]} as acknowledged."""
    acked = {p: [] for p in range(partitions)}

    def done(error, message):
        if error:
            raise RuntimeError(f"{topic}-{message.partition()}: {error}")
        acked[message.partition()].append((message.offset(), message.key(), message.value()))

    producer = Producer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "enable.idempotence": True, "linger.ms": 5,
                         "batch.size": 16384, **settings})
    for i in range(count):
        for p in range(partitions):
            filling = hashlib.shake_128(b"%s %d" % (tag.encode(), i)).hexdigest(size // 2)
            producer.produce(topic, value=f"{tag} {p} {i} {filling[:size]}", partition=p,
                             key=key(i) if key else None, on_delivery=done)
        producer.poll(0)
    left = producer.flush(60)
    if left:
        raise RuntimeError(f"{left} records to {topic} were not acknowledged")
    return acked


def transactions(broker, topic, partitions, rounds):
    """Committed and aborted in turn; what read_committed must show."""
    shown = {p: [] for p in range(partitions)}
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "transactional.id": f"exchange-{topic}"})
    producer.init_transactions(60)
    for r in range(rounds):
        keep = r % 3 != 1
        producer.begin_transaction()
        for p in range(partitions):
            for i in range(5):
                producer.produce(topic, value=f"txn {r} {p} {i}", partition=p,
                                 on_delivery=lambda e, m, keep=keep: keep and shown[m.partition()].append(
                                     (m.offset(), m.key(), m.value())))
        producer.flush(30)
        producer.commit_transaction(60) if keep else producer.abort_transaction(60)
    return shown


def read(broker, topic, partitions, isolation="read_committed"):
    """Everything: {partition: [(offset, key, value)]}."""
    out = {p: [] for p in range(partitions)}
    consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "group.id": f"reader-{topic}",
                         "enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": isolation,
                         "auto.offset.reset": "error", "check.crcs": True})

    def start(p):
        try:
            return [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[0]]
        except KafkaException as e:
            if e.args[0].code() not in NOT_YET:
                raise
            print(f"# {topic}-{p}: {e}")
    starts = {p: (eventually(lambda p=p: start(p), 30) or [None])[0] for p in range(partitions)}
    if None in starts.values():
        raise RuntimeError(f"{topic}: not served within 30 s")
    consumer.assign([TopicPartition(topic, p, starts[p]) for p in range(partitions)])
    open_ends, deadline = set(range(partitions)), time.monotonic() + 60
    while open_ends:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{topic}: the ends of {open_ends} were not reached")
        for m in consumer.consume(1000, timeout=0.2):
            if m.error():
                if m.error().name() != "_PARTITION_EOF":
                    raise RuntimeError(f"{topic}: {m.error()}")
                open_ends.discard(m.partition())
            else:
                out[m.partition()].append((m.offset(), m.key(), m.value()))
    consumer.close()
    return out


def sorted_rows(rows):
    return {p: sorted(r) for p, r in rows.items()}


def joined(first, second):
    return {p: sorted(first[p] + second[p]) for p in first}


def same(what, found, expected):
    for p in expected:
        if not checks.that(f"{what}, partition {p}: {len(expected[p])} records", found[p] == expected[p],
                           f"{len(found[p])} found, first difference {next((x for x in zip(found[p], expected[p]) if x[0] != x[1]), 'none')}"):
            return


def newest(rows):
    """What compaction must keep: the last value of each key."""
    return {p: {k: v for _, k, v in sorted(r)} for p, r in rows.items()}


# --- Kafka's tools on our files ---

def dump_log(*arguments):
    done = subprocess.run([*JAVA, "org.apache.kafka.tools.DumpLogSegments", *map(str, arguments)], capture_output=True,
                          text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def tools_read(directories, what):
    """kafka-dump-log over every file of these directories."""
    files = sorted(f for d in directories for f in d.iterdir() if f.suffix in (".log", ".index", ".timeindex", ".txnindex",
                                                                               ".snapshot"))
    kinds = {f.suffix for f in files}
    checks.that(f"{what}: there are segments, indexes and snapshots", {".log", ".index", ".timeindex", ".snapshot"} <= kinds, kinds)
    code, out, err = dump_log("--deep-iteration", "--print-data-log", "--files", ",".join(map(str, files)))
    lines = [l for l in (out + err).splitlines()]
    # The tool says of every segment that does not begin at 0 that its first offset follows -1: of Kafka's own files, too.
    harmless = {i for i, l in enumerate(lines[:-1]) if l.startswith("Non-consecutive") and
                lines[i + 1].strip().startswith("-1 is followed by") and
                not (i + 2 < len(lines) and " is followed by " in lines[i + 2])}
    complaints = [l for i, l in enumerate(lines) if i not in harmless
                  if any(w in l for w in ("Exception", "isvalid: false", "Mismatches", "Found ", "Non-", "non-consecutive",
                                          "corrupt", "Could not"))]
    checks.equal(f"{what}: kafka-dump-log --deep-iteration of {len(files)} files ends well", code, 0)
    checks.that(f"{what}: kafka-dump-log finds nothing wrong", not complaints, "\n".join(complaints[:8]))
    checks.that(f"{what}: it saw batches, and index and snapshot entries",
                "baseOffset:" in out and "position:" in out and "timestamp:" in out and "producerId:" in out, out[:400])
    indexes = [f for f in files if f.suffix in (".index", ".timeindex")]
    code, out, err = dump_log("--index-sanity-check", "--files", ",".join(map(str, indexes)))
    passed = out.count("passed sanity check")
    checks.that(f"{what}: {len(indexes)} indexes pass its sanity check", code == 0 and passed == len(indexes),
                f"{passed}; {(out + err)[-600:]}")
    code, out, err = dump_log("--verify-index-only", "--files", ",".join(map(str, indexes)))
    checks.that(f"{what}: its verification of the indexes says nothing", code == 0 and "Mismatches" not in out + err
                and "Exception" not in out + err, (out + err)[-600:])


# --- moving ---

def move(source, target, topic, partitions, topic_id):
    """Directories change hands; what the target's broker had of that topic goes."""
    for p in range(partitions):
        old = target.directory / f"{topic}-{p}"
        if old.exists():
            shutil.rmtree(old)
        shutil.move(source.directory / f"{topic}-{p}", old)
        adopt(old, topic_id)


def adopt(directory, topic_id):
    done = subprocess.run([BINARY, "disk", "adopt", str(directory), "--topic-id", topic_id, "--yes"], capture_output=True,
                          text=True, env=OWN_ENVIRONMENT, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"adopt {directory}: {done.returncode} {done.stderr}")


def verify_clean(what, *directories):
    done = subprocess.run([BINARY, "verify", "disk", "--records", *map(str, directories)], capture_output=True, text=True,
                          env=OWN_ENVIRONMENT, timeout=120)
    checks.that(f"{what}: millrace verify disk finds no damage", done.returncode == 0, (done.stdout + done.stderr)[-1500:])


OURS = {"ours": (3, {"segment.bytes": "1048576"}), "ours-compact": (1, {"cleanup.policy": "compact"}),
        "ours-empty": (2, {})}
THEIRS = {"theirs": (3, {"segment.bytes": "1048576"}), "theirs-txn": (2, {}),
          "theirs-compact": (1, {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01",
                                 "max.compaction.lag.ms": "500", "delete.retention.ms": "100"}),
          "theirs-empty": (1, {})}


# For what is appended to a directory from elsewhere: producer ids are a cluster's own, and those in its files may be given
# again here, to producers that begin with sequence 0.
PLAIN = {"enable.idempotence": False, "acks": "all"}


def fill_codecs(broker, topic, partitions, count):
    total = {p: [] for p in range(partitions)}
    for codec in CODECS:
        total = joined(total, produce(broker, topic, partitions, count, codec, size=700, **{"compression.type": codec}))
    return total


def compacted_by_kafka(kafka):
    """Waits for a round of the cleaner: offsets are missing in front of the active segment."""
    def cleaned():
        rows = read(kafka, "theirs-compact", 1)[0]
        return rows if len(rows) < 9000 else None
    return eventually(cleaned, 20, 0.5)


def run(folder):
    ours = {}
    theirs = {}
    with Kafka(folder) as kafka, Broker(folder, "millrace", settings=[
            "offsets.topic.num.partitions=4", "group.initial.rebalance.delay.ms=0"]) as millrace:
        kafka.format()
        kafka.spawn()
        millrace.start()
        create(millrace, {**OURS, **THEIRS})
        ours["ours"] = fill_codecs(millrace, "ours", 3, 800)
        ours["ours-compact"] = produce(millrace, "ours-compact", 1, 500, "c", key=lambda i: f"k{i % 20}")
        ours["ours-empty"] = {0: [], 1: []}
        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{millrace.port}", "group.id": "committers"})
        consumer.commit(offsets=[TopicPartition("ours", p, 10 + p) for p in range(3)], asynchronous=False)
        consumer.close()

        kafka.wait()
        create(kafka, {**OURS, **THEIRS})
        theirs["theirs"] = fill_codecs(kafka, "theirs", 3, 800)
        theirs["theirs-txn"] = transactions(kafka, "theirs-txn", 2, 12)
        theirs["theirs-compact"] = produce(kafka, "theirs-compact", 1, 10000, "k", size=500, key=lambda i: f"k{i % 50}",
                                           **{"compression.type": "lz4"})
        theirs["theirs-empty"] = {0: []}
        with checks.group("Kafka compacts"):
            checks.that("Kafka's cleaner has removed records", compacted_by_kafka(kafka))
        theirs_txn_all = read(kafka, "theirs-txn", 2, "read_uncommitted")
        compact_rows = read(kafka, "theirs-compact", 1)
        ids_there, ids_here = topic_ids(kafka, OURS), topic_ids(millrace, THEIRS)
        ids_back_here, ids_back_there = topic_ids(millrace, OURS), topic_ids(kafka, THEIRS)

        # After a clean stop of both.
        checks.equal("Millrace stops cleanly", millrace.stop(), 0)
        kafka.stop()
        with checks.group("Kafka's tools"):
            dirs = [millrace.directory / f"ours-{p}" for p in range(3)] + [millrace.directory / "ours-compact-0"]
            tools_read(dirs, "Millrace's files")
            offsets = [f for p in range(4) for f in (millrace.directory / f"__consumer_offsets-{p}").glob("*.log")]
            code, out, err = dump_log("--offsets-decoder", "--files", ",".join(map(str, offsets)))
            checks.that("kafka-dump-log --offsets-decoder reads the commits", code == 0 and "committers" in out
                        and '"offset":12' in out, (out + err)[-800:])
        with checks.group("verification"):
            verify_clean("before the move", millrace.directory)
        for topic, (count, _) in OURS.items():
            if (millrace.directory / f"{topic}-0").exists():
                move(millrace, kafka, topic, count, ids_there[topic])
        for topic, (count, _) in THEIRS.items():
            move(kafka, millrace, topic, count, ids_here[topic])
        with checks.group("verification of Kafka's files"):
            verify_clean("Kafka's directories", *[millrace.directory / f"{t}-{p}" for t, (n, _) in THEIRS.items()
                                                  for p in range(n)])
        kafka.spawn()
        with checks.group("Kafka's partitions in Millrace"):
            millrace.start()
            same("Millrace serves Kafka's codecs and segments", sorted_rows(read(millrace, "theirs", 3)), theirs["theirs"])
            same("Millrace serves Kafka's transactions", sorted_rows(read(millrace, "theirs-txn", 2)),
                 sorted_rows(theirs["theirs-txn"]))
            same("with the aborted ones for read_uncommitted", read(millrace, "theirs-txn", 2, "read_uncommitted"), theirs_txn_all)
            rows = read(millrace, "theirs-compact", 1)
            same("Millrace serves a log that Kafka compacted", rows, compact_rows)
            checks.that("with the newest value of every key", newest(rows) == newest(theirs["theirs-compact"]))
            for topic in THEIRS:
                n = THEIRS[topic][0]
                more = produce(millrace, topic, n, 50, "appended by millrace", key=lambda i: f"k{i % 20}", **PLAIN)
                theirs[topic] = joined(theirs[topic] if topic != "theirs-compact" else rows, more)
                same(f"{topic} with what Millrace appended", sorted_rows(read(millrace, topic, n)), sorted_rows(theirs[topic]))
        with checks.group("Millrace's partitions in Kafka"):
            kafka.wait()
            for topic in OURS:
                n = OURS[topic][0]
                same(f"Kafka serves {topic}", sorted_rows(read(kafka, topic, n)), sorted_rows(ours[topic]))
                more = produce(kafka, topic, n, 50, "appended by kafka", key=lambda i: f"k{i % 20}", **PLAIN)
                ours[topic] = joined(ours[topic], more)
                same(f"{topic} with what Kafka appended", sorted_rows(read(kafka, topic, n)), sorted_rows(ours[topic]))

        # Back, after both were killed.
        millrace.kill()
        kafka.kill()
        for topic, (count, _) in OURS.items():
            move(kafka, millrace, topic, count, ids_back_here[topic])
        for topic, (count, _) in THEIRS.items():
            move(millrace, kafka, topic, count, ids_back_there[topic])
        kafka.spawn()
        with checks.group("back in Millrace after kills"):
            millrace.start()
            for topic in OURS:
                n = OURS[topic][0]
                found = read(millrace, topic, n)
                if topic != "ours-compact":
                    same(f"Millrace serves {topic} again", sorted_rows(found), sorted_rows(ours[topic]))
                else:
                    checks.that("ours-compact has the newest value of every key", newest(found) == newest(ours[topic]))
                produce(millrace, topic, n, 5, "again", key=lambda i: f"k{i}", **PLAIN)
        with checks.group("back in Kafka after kills"):
            kafka.wait()
            for topic in THEIRS:
                n = THEIRS[topic][0]
                found = read(kafka, topic, n)
                if topic != "theirs-compact":
                    same(f"Kafka serves {topic} again", sorted_rows(found), sorted_rows(theirs[topic]))
                else:
                    checks.that("theirs-compact has the newest value of every key", newest(found) == newest(theirs[topic]))
                produce(kafka, topic, n, 5, "again", key=lambda i: f"k{i}", **PLAIN)
        millrace.stop()
        with checks.group("verification at the end"):
            verify_clean("after the way back", millrace.directory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="keep the directories")
    options = parser.parse_args()
    if shutil.which("java") is None or not list(JARS.glob("kafka_2.13-*.jar")):
        sys.exit(f"kafka_exchange: no java, or no Kafka in {JARS}; run scripts/client_zoo --install-only --only java-tools")
    folder = tempfile.mkdtemp(prefix="millrace-exchange-")
    try:
        run(pathlib.Path(folder))
    finally:
        if options.keep:
            print(f"# kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
