"""Clients of a cluster under test that write down what they saw, for `millrace verify history`: producers with a user's defaults,
readers, one that speaks to a single broker, and a scene of them all.

Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python (see scripts/client_zoo).
"""

import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

from cluster_under_test import CLIENT_LOG, exactly
from harness import BINARY, array, batch, blob, eventually, i16, i32, text

try:
    from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
except ImportError:
    sys.exit("confluent-kafka is missing; run scripts/client_zoo --install-only --only confluent, then start "
             "this with build/zoo/venv/bin/python")


def clock():
    return time.monotonic_ns() // 1000


def load():
    return f"load {os.getloadavg()[0]:.1f}"


class History:
    def __init__(self, path):
        self.path, self.lock, self.next = path, threading.Lock(), 1
        self.file = path.open("w")
        self.file.write('{"history":1}\n')

    def value(self):
        with self.lock:
            self.next += 1
            return self.next

    def add(self, **operation):
        line = json.dumps(operation, separators=(",", ":"))
        with self.lock:
            self.file.write(line + "\n")

    def judge(self, checks, what, complete):
        if complete:
            self.file.write('{"final_reads":true}\n')
        self.file.close()
        done = subprocess.run([BINARY, "verify", "history", str(self.path)], capture_output=True, text=True)
        checks.that(f"{what}: the history obeys all rules", done.returncode == 0, (done.stdout + done.stderr)[-1500:])


class Writer(threading.Thread):
    """Sends to every partition in turn, with a user's defaults. Each partition is a client of its own in the history: the
    order that is promised is that of a partition."""

    def __init__(self, name, cluster, history, topic, partitions, pause, settings=None):
        super().__init__(daemon=True)
        self.label, self.history, self.topic, self.partitions, self.pause = name, history, topic, partitions, pause
        self.ending = threading.Event()
        self.answered = {p: [] for p in range(partitions)}  # monotonic seconds
        self.errors, self.acknowledged, self.unanswered = [], 0, {}
        self.producer = Producer({"bootstrap.servers": cluster.servers, "enable.idempotence": True, "acks": "all",
                                  "message.timeout.ms": 120_000, "error_cb": lambda e: None, **CLIENT_LOG, **(settings or {})})

    def send(self, p):
        value, began = self.history.value(), clock()
        self.unanswered[value] = (p, began)

        def delivered(error, message):
            now = time.monotonic()
            del self.unanswered[value]
            operation = {"op": "send", "client": f"{self.label}.{p}", "from": began, "to": clock(), "idempotent": True}
            if error:
                self.errors.append(str(error))
                self.history.add(result="info", items=[[f"{self.topic}-{p}", None, value]], **operation)
                return
            self.answered[p].append(now)
            self.acknowledged += 1
            self.history.add(result="ok", items=[[f"{self.topic}-{p}", message.offset(), value]], **operation)

        try:
            self.producer.produce(self.topic, b"%d:%s" % (value, b"x" * random.randrange(200)), partition=p, on_delivery=delivered)
        except BufferError:
            del self.unanswered[value]
            self.producer.poll(0.05)

    def run(self):
        while not self.ending.is_set():
            for p in range(self.partitions):
                self.send(p)
            self.producer.poll(0)
            time.sleep(self.pause)

    def finish(self, seconds=90):
        """Records that are still on their way."""
        self.ending.set()
        self.join()
        self.producer.flush(seconds)
        for value, (p, began) in self.unanswered.items():
            self.history.add(op="send", result="info", client=f"{self.label}.{p}", idempotent=True,
                             items=[[f"{self.topic}-{p}", None, value]], **{"from": began})
        return len(self.unanswered)

    def gap(self, p, at, window=15.0):
        """The longest time without an acknowledgement that touches [at, at + window], in seconds."""
        times = self.answered[p]
        longest = 0.0
        for a, b in zip(times, times[1:]):
            if b > at and a < at + window:
                longest = max(longest, b - a)
        return longest


# When no broker can be reached for a moment (two are being reconnected to, the third stops) librdkafka begins again with
# bootstrap.servers (KIP-899). 2.16.0 then drops the brokers it knows; one that is dropped while a request of offset validation waits
# for its connection never ends, that validation neither, and the partition is not fetched any more until the consumer is closed.
STAYS_WITH_BROKERS = {"metadata.recovery.strategy": "none"}


class Reader(threading.Thread):
    """Reads all partitions from the beginning, live."""

    def __init__(self, name, cluster, history, topic, partitions):
        super().__init__(daemon=True)
        self.label, self.history, self.topic = name, history, topic
        self.ending, self.errors = threading.Event(), []
        self.at = dict.fromkeys(range(partitions), 0)
        self.consumer = Consumer({"bootstrap.servers": cluster.servers, "group.id": name, "auto.offset.reset": "earliest",
                                  "enable.auto.commit": False, "error_cb": lambda e: None, **STAYS_WITH_BROKERS,
                                  **CLIENT_LOG})
        self.consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])

    def poll(self, seconds):
        began, by = clock(), {}
        for m in self.consumer.consume(2000, timeout=seconds):
            if m.error():
                self.errors.append(str(m.error()))
                continue
            by.setdefault(m.partition(), []).append((m.offset(), int(m.value().split(b":")[0])))
        ended = clock()
        for p, records in by.items():
            self.at[p] = records[-1][0] + 1
            self.history.add(op="poll", result="ok", client=f"{self.label}.{p}", **{"from": began, "to": ended},
                             items=[[f"{self.topic}-{p}", o, v] for o, v in records])

    def run(self):
        while not self.ending.is_set():
            self.poll(0.2)

    def finish(self, seconds=60):
        """Reads to the ends; whether they were reached."""
        self.ending.set()
        self.join()
        deadline, ends = time.monotonic() + seconds, {}
        while time.monotonic() < deadline:
            for p in self.at:
                if p not in ends:
                    try:
                        ends[p] = self.consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=5)[1]
                    except KafkaException:
                        pass
            if len(ends) == len(self.at) and all(self.at[p] >= end for p, end in ends.items()):
                break
            self.poll(0.3)
        reached = len(ends) == len(self.at) and all(self.at[p] >= end for p, end in ends.items())
        if not reached:
            print(f"# {self.label} is at {self.at} of {ends}")
        self.consumer.close()
        return reached


class Lonely:
    """Speaks to one broker and no other, as one does who has not heard of its fall: acks=all, no producer id."""

    def __init__(self, history, node, topic, partition):
        self.history, self.node, self.topic, self.partition = history, node, topic, partition
        self.taken, self.refused = 0, []

    def send(self, seconds, acks=-1):
        """The error of the answer, or None: no answer in time."""
        value, began = self.history.value(), clock()
        operation = {"op": "send", "client": f"lonely{self.node.number}.{self.partition}.{value}", "from": began}
        item = f"{self.topic}-{self.partition}"
        try:
            with socket.create_connection((self.node.host, self.node.port), timeout=seconds) as c:
                data = batch([b"%d:" % value])
                body = text(None) + i16(acks) + i32(int(seconds * 800)) + array([text(self.topic) + array([i32(self.partition) + blob(data)])])
                frame = i16(0) + i16(7) + i32(1) + text("lonely") + body
                c.sendall(i32(len(frame)) + frame)
                answer = exactly(c, struct.unpack(">i", exactly(c, 4))[0])
        except (OSError, EOFError):
            self.history.add(result="info", items=[[item, None, value]], **operation)
            return None
        at = 4 + 4 + 2 + len(self.topic) + 4 + 4
        error, offset = struct.unpack_from(">hq", answer, at)
        if error == 0:
            self.taken += 1
            self.history.add(result="ok", to=clock(), items=[[item, offset, value]], **operation)
        else:
            self.refused.append(error)
            self.history.add(result="info", to=clock(), items=[[item, None, value]], **operation)
        return error


class Scene:
    """A topic, its writers and its readers, and the history of them: writers send while the `with` block runs, at its end
    everything is read and judged."""

    def __init__(self, cluster, checks, name, writers=2, readers=1, pause=0.004, partitions=3, settings=None):
        self.cluster, self.checks, self.name, self.partitions = cluster, checks, name, partitions
        self.topic = cluster.next_topic(f"t-{name}")
        self.history = History(cluster.folder / f"{self.topic}.history")
        self.make = lambda: ([Writer(f"w{i}", cluster, self.history, self.topic, partitions, pause, settings) for i in range(writers)],
                             [Reader(f"r{i}", cluster, self.history, self.topic, partitions) for i in range(readers)])

    def __enter__(self):
        checks = self.checks
        error = self.cluster.create(self.topic, self.partitions)
        checks.that(f"{self.name}: the topic is created", error is None, error)
        checks.that(f"{self.name}: all replicas are in sync", self.cluster.wait_full(self.topic, 30))
        self.writers, self.readers = self.make()
        for one in self.writers + self.readers:
            one.start()
        checks.that(f"{self.name}: writers are answered", eventually(lambda: all(all(w.answered.values()) for w in self.writers), 20))
        time.sleep(1)
        return self

    def __exit__(self, kind, *_):
        checks = self.checks
        self.cluster.heal()
        left = sum(w.finish() for w in self.writers)
        checks.equal(f"{self.name}: records still on their way", left, 0)
        checks.equal(f"{self.name}: errors that writers saw", [e for w in self.writers for e in w.errors][:3], [])
        reached = all([r.finish() for r in self.readers])
        checks.that(f"{self.name}: readers reach the ends", reached)
        errors = [e for r in self.readers for e in r.errors]
        checks.equal(f"{self.name}: errors that readers saw", errors[:3], [])
        self.history.judge(checks, self.name, reached)
        print(f"# {self.name}: {sum(w.acknowledged for w in self.writers)} records acknowledged", flush=True)

    def gap(self, partitions, at, window=15.0):
        return max((w.gap(p, at, window) for w in self.writers for p in partitions), default=0.0)

    def settle(self, what, seconds=60):
        """Everything in every ISR again, and what leads is where it shall be."""
        ok = self.cluster.wait_full(self.topic, seconds)
        if not ok:
            self.checks.that(f"{self.name}: {what}: all replicas come back into sync", False, self.cluster.partitions(self.topic))
        return ok

    def led_by(self, node):
        return self.cluster.led_by(node, self.topic)


def figures(name, gaps, limit_p50=None, limit_worst=None, checks=None):
    if not gaps:
        return
    p50, worst = statistics.median(gaps), max(gaps)
    print(f"# {name}: {len(gaps)} gaps, p50 {p50:.3f} s, worst {worst:.3f} s; {load()}; "
          f"all: {' '.join(f'{g:.2f}' for g in gaps)}", flush=True)
    if checks:
        if limit_p50:
            checks.that(f"{name}: p50 under {limit_p50} s", p50 < limit_p50, f"{p50:.3f}")
        checks.that(f"{name}: worst under {limit_worst} s", worst < limit_worst, f"{worst:.3f}")
