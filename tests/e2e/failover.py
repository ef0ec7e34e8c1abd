#!/usr/bin/env python3
"""Brokers that survive, measured: leaders killed, paused, cut off, stopped and replaced while idempotent producers (acks=all)
and consumers work. What clients saw goes into one history for each scenario, judged by `millrace verify history`.

  kills       SIGKILL of a leader every few seconds, whatever the ISRs are
  gaps        SIGKILL of a leader with full ISRs: how long producers wait
  controller  SIGKILL of the leader of the metadata log: others go on, topics can be created again
  pause       SIGSTOP of a leader and SIGCONT later: its late acknowledgements count for nothing
  cut         a leader cut off, both ways and one way: what it takes alone, it does not acknowledge
  term        SIGTERM of a leader: leadership is handed over
  rolling     all brokers restarted one after the other: no client sees an error
  replace     a broker whose disk is lost is replaced by one with an empty disk

Each broker gets a network namespace of its own where that is allowed (root, unshare, ip), else ports on loopback; `cut` needs
namespaces and is skipped, loudly, without. Correctness fails the run; speed is printed, and judged only with --speed.

Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/failover.py (see scripts/client_zoo).
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402
from harness import BINARY, OWN_ENVIRONMENT, Checks, batch, blob, array, eventually, free_ports, i8, i16, i32, text  # noqa: E402

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError:
    sys.exit("failover: confluent-kafka is missing; run scripts/client_zoo --install-only --only confluent, then start "
             "this with build/zoo/venv/bin/python")

SCENARIOS = ("kills", "gaps", "controller", "pause", "cut", "term", "rolling", "replace")
SHORT = ("gaps", "controller", "pause", "cut", "term", "rolling")
TOPIC = "t"
INSIDE = "FAILOVER_INSIDE"  # set in the process that has the namespaces
CLIENT_LOG = {"log_level": 0}
ADMIN = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, **CLIENT_LOG}


def clock():
    return time.monotonic_ns() // 1000


def load():
    return f"load {os.getloadavg()[0]:.1f}"


# --- the network ---

class Namespaces:
    """One network namespace for each broker, joined by this process's own, where the clients are. Links are cut by rules of
    the router between them: what a rule takes is gone without a word, as with a pulled cable."""

    def __init__(self, folder):
        self.folder = folder
        pathlib.Path("/run/netns").mkdir(exist_ok=True)
        self.run("mount", "-t", "tmpfs", "none", "/run/netns")
        self.run("ip", "link", "set", "lo", "up")
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self.cuts = set()

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, capture_output=True)

    def add(self, n):
        inside = ("ip", "netns", "exec", f"b{n}", "ip")
        self.run("ip", "netns", "add", f"b{n}")
        self.run("ip", "link", "add", f"v{n}", "type", "veth", "peer", "name", "e0", "netns", f"b{n}")
        self.run("ip", "addr", "add", f"10.77.{n}.1/24", "dev", f"v{n}")
        self.run("ip", "link", "set", f"v{n}", "up")
        self.run(*inside, "addr", "add", f"10.77.{n}.2/24", "dev", "e0")
        self.run(*inside, "link", "set", "e0", "up")
        self.run(*inside, "link", "set", "lo", "up")
        self.run(*inside, "route", "add", "default", "via", f"10.77.{n}.1")
        return f"10.77.{n}.2"

    @staticmethod
    def prefix(n):
        return ["ip", "netns", "exec", f"b{n}"]

    def cut(self, a, b):
        """What `a` sends does not reach `b`."""
        self.run("ip", "rule", "add", "from", f"10.77.{a}.2", "to", f"10.77.{b}.2", "blackhole")
        self.cuts.add((a, b))

    def heal(self):
        for a, b in self.cuts:
            self.run("ip", "rule", "del", "from", f"10.77.{a}.2", "to", f"10.77.{b}.2", "blackhole")
        self.cuts.clear()


class Loopback:
    def __init__(self, base):
        self.base = base

    def add(self, _):
        return "127.0.0.1"

    @staticmethod
    def prefix(_):
        return []


def namespaces_work():
    probe = ("ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward && mkdir -p /run/netns && mount -t tmpfs none /run/netns"
             " && ip netns add p && ip link add v type veth peer name e netns p && ip rule add from 10.0.0.1 to 10.0.0.2 blackhole")
    try:
        return os.geteuid() == 0 and subprocess.run(["unshare", "-n", "-m", "sh", "-c", probe], capture_output=True,
                                                    timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# --- the brokers ---

class Node:
    def __init__(self, cluster, number, roles="broker,controller"):
        self.cluster, self.number = cluster, number
        self.folder = cluster.folder / f"node{number}"
        self.folder.mkdir(exist_ok=True)
        self.host = cluster.network.add(number)
        if isinstance(cluster.network, Namespaces):
            self.port, self.internal, self.admin = 9092, 9093, 9090
        else:
            base = cluster.network.base
            self.port, self.internal, self.admin = (base + 10 * number + i for i in range(3)) if base else free_ports(3)
        self.roles, self.process = roles, None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def command(self):
        out = [*self.cluster.network.prefix(self.number), BINARY, "server"]
        for setting in (f"node.id={self.number}", f"process.roles={self.roles}",
                        f"listeners=PLAINTEXT://{self.address},CONTROLLER://{self.host}:{self.internal}",
                        "controller.listener.names=CONTROLLER", f"controller.quorum.voters={self.cluster.voters}",
                        f"log.dirs={self.folder}/data", f"admin.listener=127.0.0.1:{self.admin}",
                        "group.initial.rebalance.delay.ms=100", "default.replication.factor=3",
                        "offsets.topic.num.partitions=4", *self.cluster.settings):
            out += ["--set", setting]
        return out

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env=OWN_ENVIRONMENT)

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.runs:
            self.process.kill()
            self.process.wait()

    def terminate(self, seconds=20):
        """The exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return "killed: it did not end"

    def log(self):
        return (self.folder / "log").read_text(errors="replace")


class Cluster:
    def __init__(self, folder, network, brokers, settings=()):
        self.folder, self.network, self.settings = folder, network, settings
        self.voters, self.nodes = "", {}
        for n in range(1, brokers + 1):
            self.nodes[n] = Node(self, n)
        self.voters = ",".join(f"{n}@{node.host}:{node.internal}" for n, node in self.nodes.items())
        self.founders = brokers
        self.servers = ",".join(node.address for node in self.nodes.values())
        self.admin = None

    def start(self):
        for node in self.nodes.values():
            node.start()
        self.admin = AdminClient({"bootstrap.servers": self.servers, **ADMIN})

    def stop(self):
        for node in self.nodes.values():
            if node.runs:
                node.process.send_signal(signal.SIGCONT)
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes.values():
            if node.process:
                try:
                    node.process.wait(15)
                except subprocess.TimeoutExpired:
                    node.kill()

    def metadata(self, topic=None):
        try:
            return self.admin.list_topics(topic, timeout=3)
        except KafkaException:
            return None

    def brokers(self):
        found = self.metadata()
        return set(found.brokers) if found else set()

    def controller(self):
        found = self.metadata()
        return found.controller_id if found else -1

    def partitions(self, topic):
        found = self.metadata(topic)
        return found.topics[topic].partitions if found and topic in found.topics else {}

    def leader(self, topic, partition=0):
        found = self.partitions(topic)
        return found[partition].leader if partition in found else -1

    def full(self, topic):
        found = self.partitions(topic)
        return bool(found) and all(len(p.isrs) == len(p.replicas) and p.leader >= 0 for p in found.values())

    def create(self, name, partitions=3, seconds=20):
        """The error, None if there is none."""
        future = self.admin.create_topics([NewTopic(name, partitions, 3, config={"min.insync.replicas": "2"})],
                                          operation_timeout=seconds, request_timeout=seconds)[name]
        try:
            future.result(seconds)
        except KafkaException as e:
            return e
        return None

    def ask(self, node, api, version, body, timeout=20):
        """One request with a flexible header to a node; the body of the answer, behind its tags."""
        with socket.create_connection((node.host, node.port), timeout=timeout) as c:
            frame = i16(api) + i16(version) + i32(1) + text("failover") + b"\0" + body
            c.sendall(i32(len(frame)) + frame)
            size = struct.unpack(">i", exactly(c, 4))[0]
            return exactly(c, size)[5:]

    def leaders_at(self, node, topic):
        """Partition -> leader as this very node knows it (Metadata 1)."""
        try:
            with socket.create_connection((node.host, node.port), timeout=5) as c:
                frame = i16(3) + i16(1) + i32(1) + text("failover") + array([text(topic)])
                c.sendall(i32(len(frame)) + frame)
                r = harness.Reader(exactly(c, struct.unpack(">i", exactly(c, 4))[0]))
        except (OSError, EOFError):
            return {}
        r.i32()
        r.array(lambda: (r.i32(), r.text(), r.i32(), r.text()))
        r.i32()

        def partition():
            _, number, leader = r.i16(), r.i32(), r.i32()
            r.array(r.i32), r.array(r.i32)
            return number, leader
        found = r.array(lambda: (r.i16(), r.text(), r.i8(), dict(r.array(partition))))
        return found[0][3]

    def reassign(self, node, topic, placement):
        """AlterPartitionReassignments 0: {partition: [replicas]}; the top error."""
        def compact(s):
            return bytes([len(s) + 1]) + s.encode()
        partitions = b"".join(i32(p) + bytes([len(r) + 1]) + b"".join(i32(n) for n in r) + b"\0" for p, r in placement.items())
        body = i32(10_000) + b"\x02" + compact(topic) + bytes([len(placement) + 1]) + partitions + b"\0" + b"\0"
        return struct.unpack(">h", self.ask(node, 45, 0, body)[4:6])[0]


def exactly(connection, size):
    out = b""
    while len(out) < size:
        part = connection.recv(size - len(out))
        if not part:
            raise EOFError("closed")
        out += part
    return out


# --- the clients ---

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


class Reader(threading.Thread):
    """Reads all partitions from the beginning, live."""

    def __init__(self, name, cluster, history, topic, partitions):
        super().__init__(daemon=True)
        self.label, self.history, self.topic = name, history, topic
        self.ending, self.errors = threading.Event(), []
        self.at = dict.fromkeys(range(partitions), 0)
        self.consumer = Consumer({"bootstrap.servers": cluster.servers, "group.id": name, "auto.offset.reset": "earliest",
                                  "enable.auto.commit": False, "error_cb": lambda e: None, **CLIENT_LOG})
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

    def send(self, seconds):
        """The error of the answer, or None: no answer in time."""
        value, began = self.history.value(), clock()
        operation = {"op": "send", "client": f"lonely{self.node.number}.{self.partition}.{value}", "from": began}
        item = f"{self.topic}-{self.partition}"
        try:
            with socket.create_connection((self.node.host, self.node.port), timeout=seconds) as c:
                data = batch([b"%d:" % value])
                body = text(None) + i16(-1) + i32(int(seconds * 800)) + array([text(self.topic) + array([i32(self.partition) + blob(data)])])
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
    """A topic, its writers and its readers, and the history of them."""

    def __init__(self, run, name, writers=2, readers=1, pause=0.004, partitions=3, settings=None):
        self.run, self.name, self.partitions = run, name, partitions
        self.topic = f"{TOPIC}-{name}-{run.next_topic()}"
        self.history = History(run.cluster.folder / f"{self.topic}.history")
        self.make = lambda: ([Writer(f"w{i}", run.cluster, self.history, self.topic, partitions, pause, settings) for i in range(writers)],
                             [Reader(f"r{i}", run.cluster, self.history, self.topic, partitions) for i in range(readers)])

    def __enter__(self):
        run = self.run
        error = run.cluster.create(self.topic, self.partitions)
        run.checks.that(f"{self.name}: the topic is created", error is None, error)
        run.checks.that(f"{self.name}: all replicas are in sync", eventually(lambda: run.cluster.full(self.topic), 30))
        self.writers, self.readers = self.make()
        for one in self.writers + self.readers:
            one.start()
        run.checks.that(f"{self.name}: writers are answered", eventually(lambda: all(all(w.answered.values()) for w in self.writers), 20))
        time.sleep(1)
        return self

    def __exit__(self, kind, *_):
        run = self.run
        if isinstance(run.cluster.network, Namespaces):
            run.cluster.network.heal()
        left = sum(w.finish() for w in self.writers)
        run.checks.equal(f"{self.name}: records still on their way", left, 0)
        run.checks.equal(f"{self.name}: errors that writers saw", [e for w in self.writers for e in w.errors][:3], [])
        reached = all([r.finish() for r in self.readers])
        run.checks.that(f"{self.name}: readers reach the ends", reached)
        errors = [e for r in self.readers for e in r.errors]
        run.checks.equal(f"{self.name}: errors that readers saw", errors[:3], [])
        self.history.judge(run.checks, self.name, reached)
        print(f"# {self.name}: {sum(w.acknowledged for w in self.writers)} records acknowledged", flush=True)

    def gap(self, partitions, at, window=15.0):
        return max((w.gap(p, at, window) for w in self.writers for p in partitions), default=0.0)

    def settle(self, what, seconds=60):
        """Everything in every ISR again, and what leads is where it shall be."""
        ok = eventually(lambda: self.run.cluster.full(self.topic), seconds, 0.1)
        if not ok:
            self.run.checks.that(f"{self.name}: {what}: all replicas come back into sync", False, self.run.cluster.partitions(self.topic))
        return ok

    def led_by(self, node):
        return [p for p, found in self.run.cluster.partitions(self.topic).items() if found.leader == node]


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


class Run:
    def __init__(self, arguments, checks, cluster):
        self.arguments, self.checks, self.cluster = arguments, checks, cluster
        self.random = random.Random(arguments.seed)
        self.topics = 0
        self.speed = checks if arguments.speed else None

    def next_topic(self):
        self.topics += 1
        return self.topics

    # Scenarios

    def kills(self):
        with Scene(self, "kills", pause=0.006) as s:
            until, kills = time.monotonic() + self.arguments.minutes * 60, 0
            while time.monotonic() < until:
                began = time.monotonic()
                leader = self.cluster.leader(s.topic, self.random.randrange(s.partitions))
                if leader not in self.cluster.nodes or not self.cluster.nodes[leader].runs:
                    time.sleep(0.1)
                    continue
                self.cluster.nodes[leader].kill()
                kills += 1
                time.sleep(self.random.uniform(0.3, 2.5))
                self.cluster.nodes[leader].start()
                time.sleep(max(0.0, self.arguments.every - (time.monotonic() - began)))
            self.checks.that("kills: leaders were killed", kills > 0)
            print(f"# kills: {kills} kills", flush=True)
            s.settle("after the last kill")

    def gaps(self):
        with Scene(self, "gaps", pause=0.005) as s:
            plain, both = [], []
            for i in range(self.arguments.kills):
                if not s.settle(f"kill {i}"):
                    return
                time.sleep(self.arguments.calm)
                controller = self.cluster.controller()
                leaders = {p: found.leader for p, found in self.cluster.partitions(s.topic).items()}
                victim = leaders[i % s.partitions] if i % 4 else controller
                led = [p for p, leader in leaders.items() if leader == victim]
                at, wall = time.monotonic(), time.time()
                self.cluster.nodes[victim].kill()
                time.sleep(2.5)
                eventually(lambda: all(any(t > at + 0.05 for t in w.answered[p][-1:]) for w in s.writers for p in led), 15, 0.05)
                gap = s.gap(led, at) if led else s.gap(range(s.partitions), at)
                (both if victim == controller else plain).append(gap)
                when = time.strftime("%H:%M:%S", time.localtime(wall)) + f".{int(wall * 1000) % 1000:03}"
                print(f"# gaps: {when} broker {victim}{' (leads the metadata)' if victim == controller else ''} killed, "
                      f"partitions {led}: {gap:.3f} s; {load()}", flush=True)
                self.cluster.nodes[victim].start()
            s.settle("after the last kill")
            figures("gap after SIGKILL", plain, 0.7, 1.0, self.speed)
            figures("gap after SIGKILL of the metadata's leader", both, 0.7, 1.0, self.speed)
            figures("gap after SIGKILL, all", plain + both, 0.7, 1.0, self.speed)

    def controller(self):
        with Scene(self, "controller", pause=0.005) as s:
            others, created = [], []
            for i in range(self.arguments.rounds):
                s.settle(f"round {i}")
                time.sleep(1)
                victim = self.cluster.controller()
                led = s.led_by(victim)
                at = time.monotonic()
                self.cluster.nodes[victim].kill()
                name = f"made-{i}-{time.time_ns()}"
                error = "not tried"
                while error is not None and time.monotonic() < at + 20:
                    error = self.cluster.create(name, 1, 5)
                    if error is not None and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                        error = None
                took = time.monotonic() - at
                self.checks.that(f"controller: topics can be created again, round {i}", error is None, error)
                created.append(took)
                time.sleep(max(0.0, 3 - took))
                others.append(s.gap([p for p in range(s.partitions) if p not in led], at, 3))
                self.cluster.nodes[victim].start()
            s.settle("at the end")
            figures("metadata writes after the death of the metadata's leader", created, None, 3.0, self.speed)
            figures("gap of partitions that others lead", others, None, 1.0, self.speed)

    def pause(self):
        with Scene(self, "pause", pause=0.005) as s:
            gaps = []
            for i in range(self.arguments.rounds):
                s.settle(f"round {i}")
                leader = self.cluster.leader(s.topic)
                node = self.cluster.nodes[leader]
                led = s.led_by(leader)
                lonely = Lonely(s.history, node, s.topic, led[0])
                at = time.monotonic()
                node.process.send_signal(signal.SIGSTOP)
                # These wait in its sockets: it finds them before it can know that it leads no more.
                threads = [threading.Thread(target=lonely.send, args=(self.arguments.pause + 12,)) for _ in range(8)]
                for t in threads:
                    t.start()
                moved = eventually(lambda: self.cluster.leader(s.topic, led[0]) not in (-1, leader), self.arguments.pause)
                self.checks.that("pause: another leads", moved)
                time.sleep(max(0.0, at + self.arguments.pause - time.monotonic()))
                node.process.send_signal(signal.SIGCONT)
                for t in threads:
                    t.join()
                self.checks.equal("pause: the zombie acknowledges nothing", lonely.taken, 0)
                gaps.append(s.gap(led, at, self.arguments.pause))
                s.settle("after the pause")
            figures("gap when the leader is paused", gaps, None, 5.0, self.speed)

    def cut(self):
        if not isinstance(self.cluster.network, Namespaces):
            print("# ################ cut: NOT RUN: network namespaces are not allowed here ################", flush=True)
            return
        with Scene(self, "cut", pause=0.005) as s:
            gaps, joined = [], []
            for way in self.arguments.ways.split(","):
                s.settle(way)
                time.sleep(1)
                controller = self.cluster.controller()
                leader = controller if self.random.random() < 0.5 and s.led_by(controller) else self.cluster.leader(s.topic)
                led = s.led_by(leader)
                rest = [n for n in self.cluster.nodes if n != leader]
                print(f"# cut {way}: broker {leader}{' (leads the metadata)' if leader == controller else ''}, partitions {led}", flush=True)
                at = time.monotonic()
                for n in rest:
                    if way in ("both", "out"):
                        self.cluster.network.cut(leader, n)
                    if way in ("both", "in"):
                        self.cluster.network.cut(n, leader)
                time.sleep(0.3)  # what was on its way
                lonely = Lonely(s.history, self.cluster.nodes[leader], s.topic, led[0])
                ending = threading.Event()

                def knock():
                    while not ending.is_set():
                        lonely.send(2)
                knocking = [threading.Thread(target=knock) for _ in range(2)]
                for t in knocking:
                    t.start()
                one = self.cluster.nodes[rest[0]]

                def new_leader():
                    found = self.cluster.leaders_at(one, s.topic)
                    return found and all(found.get(p, -1) not in (-1, leader) for p in led)
                self.checks.that(f"cut {way}: the majority elects others", eventually(new_leader, 20, 0.1))
                time.sleep(max(0.0, at + self.arguments.cut - time.monotonic()))
                ending.set()
                for t in knocking:
                    t.join()
                self.checks.equal(f"cut {way}: the minority acknowledges nothing", lonely.taken, 0)
                print(f"# cut {way}: refused with {sorted(set(lonely.refused))}", flush=True)
                self.cluster.network.heal()
                healed = time.monotonic()
                s.settle(f"healed {way}")
                joined.append(time.monotonic() - healed)
                time.sleep(1)
                gaps.append(s.gap(led, at, self.arguments.cut))
            figures("gap when the leader is cut off", gaps, None, 5.0, self.speed)
            figures("in sync again after healing", joined, None, 15.0, self.speed)

    def term(self):
        with Scene(self, "term", pause=0.004) as s:
            gaps = []
            for i in range(self.arguments.rounds * 2):
                s.settle(f"round {i}")
                time.sleep(1.0)
                leader = self.cluster.leader(s.topic, i % s.partitions)
                if i % 2:
                    leader = self.cluster.controller()
                led = s.led_by(leader)
                at = time.monotonic()
                code = self.cluster.nodes[leader].terminate()
                took = time.monotonic() - at
                self.checks.equal("term: the exit code", code, 0)
                time.sleep(2)
                gaps.append(s.gap(led or range(s.partitions), at, 5))
                print(f"# term: broker {leader}, partitions {led}: gap {gaps[-1]:.3f} s, ended in {took:.2f} s", flush=True)
                self.cluster.nodes[leader].start()
            s.settle("at the end")
            figures("gap after SIGTERM", gaps, None, 0.2, self.speed)

    def rolling(self):
        with Scene(self, "rolling", pause=0.005, settings={"message.timeout.ms": 30_000}) as s:
            foreign = [Foreign(self, s, command) for command in self.arguments.foreign]
            gaps = []
            for _ in range(self.arguments.rolls):
                for n in list(self.cluster.nodes):
                    s.settle(f"before {n}")
                    at = time.monotonic()
                    self.checks.equal("rolling: the exit code", self.cluster.nodes[n].terminate(), 0)
                    self.cluster.nodes[n].start()
                    s.settle(f"after {n}")
                    time.sleep(0.5)
                    gaps.append(s.gap(range(s.partitions), at, time.monotonic() - at))
            figures("longest stall for each restart", gaps, None, 1.0, self.speed)
            for f in foreign:
                f.finish()

    def replace(self):
        with Scene(self, "replace", pause=0.006) as s:
            number = max(self.cluster.nodes) + 1
            new = self.cluster.nodes[number] = Node(self.cluster, number, "broker")
            new.start()
            self.checks.that("replace: a fourth broker joins", eventually(lambda: number in self.cluster.brokers(), 30, 0.2), new.log()[-800:])
            before = {p: found.replicas for p, found in self.cluster.partitions(s.topic).items()}
            gone = next(n for n in before[0] if n != self.cluster.controller())

            def move(old, to):
                placement = {p: [to if n == old else n for n in r] for p, r in
                             {p: f.replicas for p, f in self.cluster.partitions(s.topic).items()}.items() if old in r}
                living = next(n for n in self.cluster.nodes.values() if n.runs and n.number not in (old, to))
                self.checks.equal("replace: reassignment is taken", self.cluster.reassign(living, s.topic, placement), 0)
                self.checks.that("replace: reassignment ends", eventually(lambda: self.cluster.full(s.topic) and all(
                    to in f.replicas and old not in f.replicas for p, f in self.cluster.partitions(s.topic).items() if p in placement), 60, 0.2),
                    {p: (f.replicas, f.isrs) for p, f in self.cluster.partitions(s.topic).items()})

            self.cluster.nodes[gone].kill()  # and its disk with it: its replicas go to the new one
            move(gone, number)
            # The new one loses its disk, too, and comes back empty under its own number.
            new.kill()
            shutil.rmtree(new.folder / "data")
            new.start()
            self.checks.that("replace: with an empty disk it fills up again", eventually(lambda: self.cluster.full(s.topic), 60, 0.2), new.log()[-800:])
            self.cluster.nodes[gone].start()
            self.checks.that("replace: the first one comes back", eventually(lambda: self.cluster.leaders_at(self.cluster.nodes[gone], s.topic), 30, 0.2))
            move(number, gone)
            self.checks.equal("replace: the fourth goes", new.terminate(), 0)
            del self.cluster.nodes[number]


class Foreign:
    """A program in another language that produces and consumes until its standard input ends, and says at the end how many
    errors it saw: `N acknowledged, M errors`, after a line for each error."""

    def __init__(self, run, scene, command):
        self.run, self.name = run, command.split()[0].rpartition("/")[2]
        self.process = subprocess.Popen([*command.split(), run.cluster.servers, scene.topic + "-foreign"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self):
        out = self.process.communicate(input="", timeout=60)[0]
        self.run.checks.that(f"rolling: {self.name} sees no error", self.process.returncode == 0, out[-800:])


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--short", action="store_true", help="few rounds of what fits into a minute and a half")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5, help="kills: how long")
    parser.add_argument("--every", type=float, default=5, help="kills: seconds from kill to kill")
    parser.add_argument("--kills", type=int, default=20, help="gaps: how many")
    parser.add_argument("--calm", type=float, default=12,
                        help="gaps: seconds after all are in sync again; librdkafka's default reconnect.backoff.max.ms is 10 s")
    parser.add_argument("--rounds", type=int, default=3, help="controller, pause, term: how many")
    parser.add_argument("--pause", type=float, default=15, help="pause: seconds")
    parser.add_argument("--cut", type=float, default=10, help="cut: seconds")
    parser.add_argument("--ways", default="both,out,in", help="cut: what is cut of the leader's traffic")
    parser.add_argument("--rolls", type=int, default=1, help="rolling: times that all are restarted")
    parser.add_argument("--foreign", action="append", default=[], metavar="COMMAND", help="rolling: a client program beside")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the brokers")
    parser.add_argument("--speed", action="store_true", help="too slow is a failure")
    parser.add_argument("--loopback", action="store_true", help="ports on loopback, no namespaces")
    parser.add_argument("--port-base", type=int, default=0, help="loopback: first port, else free ones")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if arguments.short:
        arguments.kills, arguments.rounds, arguments.pause, arguments.cut, arguments.minutes = 2, 1, 6, 4, 0.3
        arguments.calm = 2
    chosen = arguments.scenarios or (SHORT if arguments.short else SCENARIOS)

    if not arguments.loopback and INSIDE not in os.environ:
        if namespaces_work():
            os.environ[INSIDE] = "1"
            os.execvp("unshare", ["unshare", "-n", "-m", sys.executable, *sys.argv])
        print("# ################ no network namespaces here: all brokers on loopback ################", flush=True)
        arguments.loopback = True

    checks = Checks()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="failover-"))
    network = Loopback(arguments.port_base) if arguments.loopback else Namespaces(folder)
    cluster = Cluster(folder, network, arguments.brokers, arguments.set)
    print(f"# {arguments.brokers} brokers, {'loopback' if arguments.loopback else 'namespaces'}, seed {arguments.seed}, {load()}", flush=True)
    try:
        cluster.start()
        if checks.that("the brokers find each other", eventually(lambda: len(cluster.brokers()) == arguments.brokers, 30, 0.1)):
            run = Run(arguments, checks, cluster)
            for name in chosen:
                began = time.monotonic()
                with checks.group(name):
                    getattr(run, name)()
                if not arguments.loopback:
                    network.heal()
                for node in cluster.nodes.values():
                    if not node.runs:
                        node.start()
                print(f"# {name}: {time.monotonic() - began:.0f} s", flush=True)
    finally:
        cluster.stop()
        if checks.failed or arguments.keep:
            print(f"# logs and histories are in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
