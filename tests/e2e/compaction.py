#!/usr/bin/env python3
"""Compacts topics while real clients write and read, and kills the broker in the middle of it.

usage: tests/e2e/compaction.py      the binary: $MILLRACE_BIN, else build/release/millrace

The rules: the last value of every key is there; a key whose last record is a tombstone has no value before it; offsets never
change; what a reader sees while segments are exchanged is in order; group offsets survive the compaction of __consumer_offsets.

Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/compaction.py (see scripts/client_zoo).
"""

import os
import random
import re
import sys
import tempfile
import threading
import time

try:
    from confluent_kafka import Consumer, Producer, TopicPartition
except ImportError:
    sys.exit("compaction: confluent-kafka is missing; run scripts/client_zoo --install-only --only confluent, then start this "
             "with build/zoo/venv/bin/python")

from harness import Broker, Checks, Connection, eventually

checks = Checks()
SETTINGS = ["log.cleaner.backoff.ms=100", "log.cleaner.min.cleanable.ratio=0.01", "group.initial.rebalance.delay.ms=0",
            "offsets.topic.num.partitions=1", "offsets.topic.segment.bytes=1048576", "log.retention.check.interval.ms=500",
            "log.segment.delete.delay.ms=100"]
SEGMENT = 1 << 20
KEYS = 200
VALUE = 2000
RANDOM = random.Random(7)


def create(broker, topic, **configs):
    with Connection(broker.port) as c:
        error = c.create_topic(topic, configs={k.replace("_", "."): str(v) for k, v in configs.items()})
        if error:
            raise RuntimeError(f"create {topic}: error {error}")


def write(broker, topic, megabytes, last, codec="none", tombstones=()):
    """Rounds over all keys until so much is written; `last` keeps key -> (offset, value)."""
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "compression.type": codec, "linger.ms": 5,
                         "enable.idempotence": True, "message.timeout.ms": 60000, "log_level": 0})
    failed = []

    def told(error, message):
        if error:
            failed.append(str(error))
            return
        key = message.key()
        if key not in last or last[key][0] < message.offset():
            last[key] = (message.offset(), message.value())

    written, number = 0, 0
    while written < megabytes * 1e6:
        key = b"key-%d" % (number % KEYS)
        value = b"%d " % number + RANDOM.randbytes(VALUE)
        producer.produce(topic, value, key, on_delivery=told)
        producer.poll(0)
        written += len(value)
        number += 1
        if number % 500 == 0:
            producer.flush(30)
    for key in tombstones:
        producer.produce(topic, None, key, on_delivery=told)
    left = producer.flush(60)
    if left or failed:
        raise RuntimeError(f"{left} records not delivered, {failed[:1]}")


def read_all(broker, topic, group="reader"):
    """Every record from the beginning to the end of now: [(offset, key, value)]."""
    consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "group.id": group, "log_level": 0,
                         "enable.auto.commit": False, "enable.partition.eof": False, "check.crcs": True,
                         "fetch.wait.max.ms": 50})
    low, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.assign([TopicPartition(topic, 0, low)])
    out, deadline = [], time.monotonic() + 30
    while time.monotonic() < deadline:
        for m in consumer.consume(1000, 0.2):
            if m.error():
                raise RuntimeError(str(m.error()))
            out.append((m.offset(), m.key(), m.value()))
        if consumer.position([TopicPartition(topic, 0)])[0].offset >= end:
            break
    else:
        raise RuntimeError(f"the reader of {topic} did not reach offset {end}")
    consumer.close()
    return out


def size(broker, topic):
    return sum(p.stat().st_size for p in (broker.directory / f"{topic}-0").iterdir() if p.suffix == ".log")


def cleaned_end(broker, topic):
    path = broker.directory / "cleaner-offset-checkpoint"
    found = re.search(rf"^{topic} 0 (\d+)$", path.read_text(), re.M) if path.exists() else None
    return int(found.group(1)) if found else 0


def metric(broker, name):
    found = re.search(rf"^{name} (\S+)$", broker.get("/metrics")[1], re.M)
    return float(found.group(1)) if found else -1


def verify(broker, topic, last, what):
    there = read_all(broker, topic)
    offsets = [o for o, _, _ in there]
    checks.that(f"{what}: offsets ascend", offsets == sorted(set(offsets)))
    by_offset = {o: (k, v) for o, k, v in there}
    wrong = [k for k, (o, v) in last.items() if v is not None and by_offset.get(o) != (k, v)]
    checks.equal(f"{what}: the last value of every key is at its offset", wrong[:3], [])
    latest = {}
    for _, k, v in there:
        latest[k] = v
    alive = {k: v for k, (_, v) in last.items() if v is not None}
    checks.that(f"{what}: nothing comes back", {k: v for k, v in latest.items() if v is not None} == alive)
    return there


def compacts(broker):
    """A topic of few keys becomes small; readers go on meanwhile."""
    last = {}
    create(broker, "few", cleanup_policy="compact", segment_bytes=SEGMENT, delete_retention_ms=0)
    stop, seen, broken = threading.Event(), [0], []

    def read_along():
        while not stop.is_set():
            try:
                there = read_all(broker, "few", "along")
            except Exception as e:  # told below
                broken.append(str(e))
                return
            offsets = [o for o, _, _ in there]
            if offsets != sorted(set(offsets)):
                broken.append("offsets do not ascend")
            seen[0] += 1

    reader = threading.Thread(target=read_along)
    reader.start()
    for codec in ("none", "lz4", "zstd"):
        write(broker, "few", 7, last, codec)
    gone = [b"key-%d" % k for k in range(10)]
    write(broker, "few", 1, last, tombstones=gone)
    write(broker, "few", 3, last)  # tombstones are followed by values again
    # Nothing more is written: the active segment stays, the rest becomes one value a key.
    small = eventually(lambda: size(broker, "few") < 4 * SEGMENT and metric(broker, "millrace_cleaner_running") == 0, 30, 0.2)
    stop.set()
    reader.join()
    checks.that("25 MB over 200 keys become small", small, f"{size(broker, 'few')} bytes")
    checks.equal("readers went on meanwhile", broken, [])
    checks.that("... several times", seen[0] >= 2, seen[0])
    verify(broker, "few", last, "after compaction")
    checks.that("runs are counted", metric(broker, "millrace_cleaner_runs_total") > 0)
    checks.equal("no log is set aside", metric(broker, "millrace_cleaner_uncleanable_partitions"), 0)
    checks.that("the checkpoint says how far", eventually(lambda: cleaned_end(broker, "few") > 0, 5))
    return last


def tombstones(broker):
    last = {}
    create(broker, "tombs", cleanup_policy="compact", segment_bytes=SEGMENT, delete_retention_ms=1)
    gone = [b"key-%d" % k for k in range(20)]
    write(broker, "tombs", 2, last, tombstones=gone)
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{broker.port}", "log_level": 0})

    def only_others(total):
        # Other keys, so that the tombstones come to lie in clean segments; a later run takes them.
        for n in range(int(total * 1e6 / VALUE)):
            producer.produce("tombs", RANDOM.randbytes(VALUE), b"other-%d" % (n % 50))
            if n % 500 == 0:
                producer.flush()
        producer.flush(30)

    def tombstones_left():
        return sum(1 for _, k, v in read_all(broker, "tombs", "t") if v is None and k in gone)

    for _ in range(6):
        only_others(2.5)
        if eventually(lambda: tombstones_left() == 0, 3, 0.3):
            break
    there = read_all(broker, "tombs", "t")
    checks.equal("tombstones go after delete.retention.ms, and what they deleted",
                 sorted({k for _, k, _ in there if k in gone}), [])
    checks.equal("the other keys are there", len({k for _, k, _ in there}), KEYS - len(gone) + 50)


def group_offsets(broker):
    """__consumer_offsets does not grow for ever, and the offsets survive."""
    create(broker, "plain")
    with Connection(broker.port) as c:
        eventually(lambda: c.find_coordinator("g-0") == 0)
        for n in range(1500):
            c.commit_offset(f"g-{n % 5}", "plain", n, metadata="m" * 4000)
        expected = {g: c.committed_offset(f"g-{g}", "plain") for g in range(5)}
    small = eventually(lambda: size(broker, "__consumer_offsets") < 1.5 * SEGMENT, 15, 0.2)
    checks.that("__consumer_offsets is compacted", small, f"{size(broker, '__consumer_offsets')} bytes")
    return expected


def committed(broker):
    with Connection(broker.port) as c:
        return {g: c.once_loaded(lambda: c.committed_offset(f"g-{g}", "plain")) for g in range(5)}


def kills(broker, last):
    """SIGKILL while runs go on, again and again."""
    interrupted = 0
    for n in range(5):
        write(broker, "few", 4, last, "lz4" if n % 2 else "none")
        eventually(lambda: metric(broker, "millrace_cleaner_running") > 0, 2, 0.001)
        time.sleep(RANDOM.random() * 0.05)
        broker.kill()
        left = [p.name for p in (broker.directory / "few-0").iterdir() if p.suffix in (".cleaned", ".swap")]
        interrupted += bool(left)
        broker.start()
        verify(broker, "few", last, f"kill {n + 1}")
        left = [p.name for p in (broker.directory / "few-0").iterdir() if p.suffix == ".swap"]
        checks.equal(f"kill {n + 1}: no exchange is left half-way", left, [])
    print(f"# {interrupted} of 5 kills met half-made files")


def main():
    with tempfile.TemporaryDirectory(prefix="millrace-compaction-") as folder:
        with Broker(folder, settings=SETTINGS) as broker:
            broker.start()
            last = {}
            with checks.group("compaction"):
                last = compacts(broker)
            with checks.group("tombstones"):
                tombstones(broker)
            expected = None
            with checks.group("group offsets"):
                expected = group_offsets(broker)
            with checks.group("kills"):
                kills(broker, last)
            with checks.group("group offsets after restarts"):
                checks.equal("group offsets survive compaction and kills", committed(broker), expected)
            with checks.group("end"):
                checks.equal("the end is clean", broker.stop(), 0)
                broker.start()
                verify(broker, "few", last, "after a clean restart")
                checks.that("nothing was reported as damaged", "corrupt" not in broker.log())
    checks.finish()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
