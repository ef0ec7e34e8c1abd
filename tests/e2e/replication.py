#!/usr/bin/env python3
"""Three brokers, a topic with three replicas: the leader is killed with SIGKILL every few seconds while idempotent producers
(acks=all) work, and what is left is counted.

- each acknowledged record is there, at the offset that the acknowledgement named;
- a partition's records of one producer are there in the order of sending, none missing, none twice;
- every broker that comes back is in every ISR again;
- a replica whose disk changed a bit is copied from the others, found at a start or while it serves;
- with two of three brokers gone acks=all is refused or waits, it is never acknowledged.

Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/replication.py (see scripts/client_zoo).
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster_under_test import Cluster, Loopback  # noqa: E402
from harness import Checks, eventually  # noqa: E402

try:
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
except ImportError:
    sys.exit("replication: confluent-kafka is missing; run scripts/client_zoo --install-only --only confluent, then start "
             "this with build/zoo/venv/bin/python")

TOPIC, PARTITIONS = "replicated", 3
QUICK = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "log_level": 0,
         "topic.metadata.refresh.interval.ms": 500, "socket.nagle.disable": True}


class Writer(threading.Thread):
    """Sends numbered records to every partition in turn; remembers what was acknowledged where."""

    def __init__(self, name, servers, pause, topic=TOPIC, partitions=PARTITIONS):
        super().__init__(daemon=True)
        self.label, self.pause, self.ending = name, pause, threading.Event()
        self.topic = topic
        self.acknowledged, self.failures, self.sent = {}, [], [0] * partitions
        self.longest_gap, self.last = 0.0, None
        self.producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "acks": "all", "linger.ms": 2,
                                  "message.timeout.ms": 120_000, "request.timeout.ms": 5_000,
                                  "on_delivery": self.delivered, **QUICK})

    def delivered(self, error, message):
        if error:
            self.failures.append(str(error))
            return
        now = time.monotonic()
        if self.last is not None:
            self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now
        self.acknowledged[(message.partition(), int(message.value().split(b":")[1]))] = message.offset()

    def run(self):
        while not self.ending.is_set():
            for p in range(len(self.sent)):
                value = f"{self.label}:{self.sent[p]}:{'x' * random.randrange(200)}"
                try:
                    self.producer.produce(self.topic, value, partition=p)
                    self.sent[p] += 1
                except BufferError:
                    self.producer.poll(0.1)
            self.producer.poll(0)
            time.sleep(self.pause)

    def finish(self, seconds=60):
        self.ending.set()
        self.join()
        return self.producer.flush(seconds)


def read_all(servers, group, topic=TOPIC, partitions=PARTITIONS):
    """Every record of the topic: partition -> [(offset, writer, number)]."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, **QUICK})
    found = {p: [] for p in range(partitions)}

    def end_of(partition):
        try:
            return consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        except KafkaException:  # the leader moves just now
            return None

    ends = {p: eventually(lambda p=p: end_of(p), 20, 0.2)[1] for p in found}
    consumer.assign([TopicPartition(topic, p, 0) for p in found])
    at, deadline = dict.fromkeys(found, 0), time.monotonic() + 60
    while any(at[p] < ends[p] for p in found) and time.monotonic() < deadline:
        for m in consumer.consume(1000, timeout=1):
            if m.error():
                continue
            label, number, _ = m.value().split(b":")
            found[m.partition()].append((m.offset(), label.decode(), int(number)))
            at[m.partition()] = m.offset() + 1
    consumer.close()
    return found, ends, at


def judge(checks, writers, found):
    for w in writers:
        lost = moved = twice = disorder = 0
        for p, records in found.items():
            own = [(offset, number) for offset, label, number in records if label == w.label]
            numbers = [number for _, number in own]
            twice += len(numbers) - len(set(numbers))
            disorder += sum(1 for a, b in zip(numbers, numbers[1:]) if b != a + 1)
            where = {number: offset for offset, number in own}
            for (partition, number), offset in w.acknowledged.items():
                if partition != p:
                    continue
                lost += number not in where
                moved += number in where and where[number] != offset
        checks.equal(f"{w.label}: acknowledged records lost", lost, 0)
        checks.equal(f"{w.label}: acknowledged records at another offset", moved, 0)
        checks.equal(f"{w.label}: records twice", twice, 0)
        checks.equal(f"{w.label}: places out of order or with a gap", disorder, 0)


def damaged_replica(checks, cluster):
    """A bit flips in what a follower has synced, while it is down: it copies the partition anew and keeps what was there."""
    writer = Producer({"bootstrap.servers": cluster.servers, "acks": "all", **QUICK})
    for i in range(200):
        writer.produce(TOPIC, b"damage:%d:" % i + b"x" * 200, partition=0)
    checks.equal("records are written", writer.flush(20), 0)
    time.sleep(1)  # the commit file is at most 50 ms behind
    leader = cluster.partitions(TOPIC)[0].leader
    node = next(n for number, n in cluster.nodes.items() if number != leader)
    node.kill()
    partition = node.directory / f"{TOPIC}-0"
    segment = max(partition.glob("*.log"))
    size = segment.stat().st_size
    with segment.open("r+b") as f:
        f.seek(size - 100)
        byte = f.read(1)
        f.seek(size - 100)
        f.write(bytes([byte[0] ^ 4]))
    said = node.log_path.stat().st_size

    def log():
        return node.log_path.read_bytes()[said:].decode(errors="replace")
    node.spawn()
    checks.that("what was damaged is copied anew", eventually(lambda: "copied anew" in log(), 40, 0.2), log()[-2000:])
    checks.that("the damage was named", "the partition is offline" in log() and str(partition) in log(), log()[-2000:])
    checks.that("it is in every ISR again", cluster.wait_full(TOPIC, 40))
    kept = list(partition.parent.glob(f"{TOPIC}-0.*.stray"))
    checks.equal("what was there is kept", len(kept), 1)


def flip(node, topic):
    """One bit in the oldest segment, which is closed; how much the node has said before."""
    segment = min((node.directory / f"{topic}-0").glob("*.log"))
    with segment.open("r+b") as f:
        f.seek(100_000)
        byte = f.read(1)
        f.seek(100_000)
        f.write(bytes([byte[0] ^ 4]))
    return node.log_path.stat().st_size


def said(node, since):
    return node.log_path.read_bytes()[since:].decode(errors="replace")


def damaged_while_serving(checks, cluster):
    """A bit flips in a closed segment of a follower, then of a leader, while they serve and a producer goes on: the scrub finds it,
    the replica leaves the ISR (the leader hands over first), is copied anew and comes back. Where two of three are in sync and one
    is the only replica, nothing is given up. At the end every broker in turn is the only one that was not killed."""
    topic, lone = "scrubbed", "lone"
    segments = {"segment.bytes": str(1 << 20)}
    checks.equal("create the topics", [cluster.create(topic, 1, config=segments),
                                       cluster.create(lone, 1, replicas=1, config={**segments, "min.insync.replicas": "1"})], [None, None])
    checks.that("all in sync", cluster.wait_full(topic, 20) and cluster.wait_full(lone, 20))
    writer = Writer("s", cluster.servers, 0.002, topic, 1)
    filler = Producer({"bootstrap.servers": cluster.servers, "acks": "all", "batch.size": 20_000, **QUICK})
    for i in range(500):
        filler.produce(lone, b"f:%d:" % i + b"x" * 5_000)
        filler.produce(topic, b"f:%d:" % i + b"x" * 5_000)
        filler.poll(0)
    checks.equal("records are written", filler.flush(30), 0)
    writer.start()
    for role in ("follower", "leader", "follower", "leader"):
        checks.that(f"{role}: all in sync", cluster.wait_full(topic, 40))
        leader = cluster.leader(topic)
        number = leader if role == "leader" else next(n for n in cluster.nodes if n != leader)
        node = cluster.nodes[number]
        before = len(list(node.directory.glob(f"{topic}-0.*.stray")))
        since = flip(node, topic)
        checks.that(f"{role}: what was damaged is copied anew", eventually(lambda: "copied anew" in said(node, since), 30, 0.2),
                    said(node, since)[-2000:])
        checks.that(f"{role}: it is in the ISR again", cluster.wait_full(topic, 40), said(node, since)[-2000:])
        if role == "leader":
            checks.that("another leads", cluster.leader(topic) not in (-1, leader))
        checks.equal(f"{role}: what was there is kept", len(list(node.directory.glob(f"{topic}-0.*.stray"))), before + 1)

    # With one of three away, min.insync.replicas needs the damaged one.
    leader = cluster.leader(topic)
    away, damaged = [n for n in cluster.nodes if n != leader]
    cluster.nodes[away].kill()
    checks.that("one is away", eventually(lambda: cluster.partitions(topic) and len(cluster.partitions(topic)[0].isrs) == 2, 20, 0.1))
    node = cluster.nodes[damaged]
    since = flip(node, topic)
    checks.that("two in sync: the damage is named", eventually(lambda: f"{topic}-0" in said(node, since) and "checksum does not match" in said(node, since), 30, 0.2))
    time.sleep(3)
    checks.equal("two in sync: nothing is given up", (sorted(cluster.partitions(topic)[0].isrs), "put aside" in said(node, since)),
                 (sorted([leader, damaged]), False))
    cluster.nodes[away].spawn()
    checks.that("three in sync: it is copied anew", eventually(lambda: "copied anew" in said(node, since), 60, 0.2), said(node, since)[-2000:])
    checks.that("three in sync again", cluster.wait_full(topic, 40))

    node = cluster.nodes[cluster.leader(lone)]
    since = flip(node, lone)
    checks.that("the only copy: the damage is named",
                eventually(lambda: f"{lone}-0" in said(node, since) and "checksum does not match" in said(node, since), 30, 0.2))
    time.sleep(3)
    checks.that("and it stays", cluster.leader(lone) == node.number and not list(node.directory.glob(f"{lone}-0.*.stray")))

    checks.equal("records still on their way", writer.finish(), 0)
    checks.equal("failures", writer.failures[:3], [])
    # What was copied is what the others had: read from each as the leader.
    for number in cluster.nodes:
        others = [n for n in cluster.nodes if n != number]
        for n in others:
            cluster.nodes[n].kill()
        for n in others:
            cluster.nodes[n].spawn()
        checks.that(f"all in sync after {number} was alone", cluster.wait_full(topic, 60))
        found, ends, at = read_all(cluster.servers, f"scrub reader {number}", topic, 1)
        checks.equal("a consumer reads everything", at, ends)
        judge(checks, [writer], found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long leaders are killed")
    parser.add_argument("--every", type=float, default=5, help="seconds between kills")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    arguments = parser.parse_args()
    checks = Checks()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="replication-"))
    # A quick scrub: damage is found within a second or two.
    cluster = Cluster(folder, Loopback(), settings=["log.scrub.bytes.per.second=52428800", "log.scrub.interval.ms=1000"])
    try:
        cluster.start()
        if not checks.that("three brokers find each other", cluster.ready()):
            checks.finish()
        checks.equal("create the topic", cluster.create(TOPIC, PARTITIONS), None)
        checks.that("all replicas are in sync", cluster.wait_full(TOPIC, 20))

        writers = [Writer(f"w{i}", cluster.servers, 0.004) for i in range(2)]
        for w in writers:
            w.start()
        time.sleep(2)
        checks.that("acks=all is answered", all(w.acknowledged for w in writers))
        until, kills, rejoined = time.monotonic() + arguments.seconds, 0, 0
        while time.monotonic() < until:
            partitions = cluster.partitions(TOPIC)
            leader = partitions[kills % PARTITIONS].leader if partitions else -1
            if leader not in cluster.nodes:
                time.sleep(0.2)
                continue
            cluster.nodes[leader].kill()
            kills += 1
            time.sleep(min(arguments.every / 3, 2))
            cluster.nodes[leader].spawn()
            began = time.monotonic()
            rejoined += bool(cluster.wait_full(TOPIC, 40))
            time.sleep(max(0, arguments.every * 2 / 3 - (time.monotonic() - began)))
        checks.that("leaders were killed", kills > 0)
        checks.equal("after each kill the broker came back into every ISR", rejoined, kills)
        for w in writers:
            checks.equal(f"{w.label}: records still on their way", w.finish(), 0)
            checks.equal(f"{w.label}: failures", w.failures[:3], [])
        found, ends, at = read_all(cluster.servers, "reader")
        checks.equal("a consumer reads everything", at, ends)
        judge(checks, writers, found)
        print(f"# {kills} kills, {sum(len(w.acknowledged) for w in writers)} records acknowledged, longest pause of a "
              f"producer {max(w.longest_gap for w in writers):.2f} s", flush=True)

        with checks.group("a damaged replica"):
            damaged_replica(checks, cluster)
            again, ends, at = read_all(cluster.servers, "reader of what was copied")
            judge(checks, writers, again)

        with checks.group("damage while serving"):
            damaged_while_serving(checks, cluster)

        with checks.group("one broker alone"):
            partitions = cluster.partitions(TOPIC)
            leader = partitions[0].leader
            for n, node in cluster.nodes.items():
                if n != leader:
                    node.kill()
            outcome = []
            lonely = Producer({"bootstrap.servers": cluster.servers, "acks": "all", "message.timeout.ms": 6_000, **QUICK})
            lonely.produce(TOPIC, b"alone:0:", partition=0, on_delivery=lambda e, m: outcome.append(e))
            lonely.flush(15)
            checks.that("acks=all is not acknowledged by one of three", outcome and outcome[0] is not None, outcome)
            for n, node in cluster.nodes.items():
                if n != leader:
                    node.spawn()
            checks.that("all come back", cluster.wait_full(TOPIC, 60))
            again, ends, at = read_all(cluster.servers, "reader2")
            judge(checks, writers, again)
    finally:
        cluster.stop()
        if checks.failed or arguments.keep:
            print(f"# logs are in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
