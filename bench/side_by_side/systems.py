"""Brokers under measurement: how Millrace and Apache Kafka are started, stopped, paused and pinned.

A system has one or three nodes on ports of their own. Settings that concern what is measured are the same for both;
what only has to do with a broker that stands alone (replication factors of internal topics, no rebalance delay) too.
"""
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MILLRACE = os.environ.get("MILLRACE_BIN") or str(ROOT / "build/release/millrace")
KAFKA_LIBS = ROOT / "build/zoo/java/tools"
START_SECONDS_MAX = 300
STOP_SECONDS_MAX = 30
CLEAN_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "KAFKA_")) and k != "CLUSTER_ID"}
LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR"><Appenders><Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%d %p %m (%c)%n"/>
</Console></Appenders><Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>
"""


def answers(port):
    """Whether ApiVersions v0 is answered without an error."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as s:
            frame = struct.pack(">hhih", 18, 0, 1, 5) + b"bench"
            s.sendall(struct.pack(">i", len(frame)) + frame)
            got = s.recv(10)
            return len(got) == 10 and got[8:10] == b"\0\0"
    except OSError:
        return False


def resident_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def cpu_seconds(pid):
    """Of the process's CPU clock, in nanosecond steps where the kernel gives them."""
    # The clock id of another process's CPU clock, as clock_getcpuclockid() makes it.
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Node:
    def __init__(self, number, port, controller_port, folder):
        self.number, self.port, self.controller_port = number, port, controller_port
        self.folder = pathlib.Path(folder)
        self.process = None
        self.log_path = self.folder / "log.txt"

    def run(self, command, environment=None, cpus=None):
        if cpus is not None:
            command = ["taskset", "-c", cpus, *command]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env={**CLEAN_ENVIRONMENT, **(environment or {})})

    def tail(self):
        return self.log_path.read_text(errors="replace")[-2000:] if self.log_path.exists() else ""


class System:
    """`nodes` brokers in `folder`, ports from `base` on. `cpus`: where they are pinned; None: not."""
    name = ""

    stands_still = False  # while others are measured

    def __init__(self, folder, base, nodes=1, cpus=None, settings=None):
        self.folder = pathlib.Path(folder)
        self.settings = dict(settings or {})
        self.cpus = cpus
        self.nodes = []
        for n in range(nodes):
            home = self.folder / f"node{n + 1}"
            self.nodes.append(Node(n + 1, base + 3 * n, base + 3 * n + 1, home))

    bootstrap = property(lambda self: ",".join(f"127.0.0.1:{n.port}" for n in self.nodes))
    pids = property(lambda self: [n.process.pid for n in self.nodes])

    def prepare(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        for node in self.nodes:
            node.folder.mkdir(parents=True)

    def spawn(self, node):
        raise NotImplementedError

    def start(self):
        """Seconds from the first exec to the answer of the last node."""
        began = time.monotonic()
        for node in self.nodes:
            self.spawn(node)
        for node in self.nodes:
            self.await_answer(node)
        return time.monotonic() - began

    def await_answer(self, node):
        deadline = time.monotonic() + START_SECONDS_MAX
        while not answers(node.port):
            if node.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.name}: node {node.number} does not answer:\n{node.tail()}")
            time.sleep(0.002)

    def stop(self):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.terminate()
        for node in self.nodes:
            if node.process:
                try:
                    node.process.wait(STOP_SECONDS_MAX)
                except subprocess.TimeoutExpired:
                    node.process.kill()
                    node.process.wait()

    def pause(self):
        """Stands still while another system is measured."""
        for node in self.nodes:
            node.process.send_signal(signal.SIGSTOP)

    def resume(self):
        for node in self.nodes:
            node.process.send_signal(signal.SIGCONT)

    def durable_topic(self):
        """Topic settings that make every acknowledged record durable on the disk."""
        raise NotImplementedError

    def plain_topic(self):
        """Acknowledged when the page cache of all replicas has it."""
        raise NotImplementedError

    def data_files(self):
        return [f for node in self.nodes for f in (node.folder / "data").rglob("*.log")]


class Millrace(System):
    name = "millrace"

    def spawn(self, node):
        settings = {"node.id": node.number, "listeners": f"PLAINTEXT://127.0.0.1:{node.port}",
                    "log.dirs": node.folder / "data", "admin.listener": f"127.0.0.1:{node.controller_port + 1}",
                    "min.insync.replicas": 1 if len(self.nodes) == 1 else 2, **self.settings}
        if len(self.nodes) > 1:
            voters = ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in self.nodes)
            settings |= {"listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
                         "controller.listener.names": "CONTROLLER", "controller.quorum.voters": voters}
        command = [MILLRACE, "server"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        node.run(command, cpus=self.cpus)

    def durable_topic(self):
        return ["durability=fsync"]

    def plain_topic(self):
        return ["durability=replicated"]


class Kafka(System):
    name = "kafka"
    heap = ["-Xms1g", "-Xmx1g", "-XX:+UseG1GC"]
    tuning = {}

    def prepare(self):
        super().prepare()
        (self.folder / "log4j2.xml").write_text(LOG4J)
        alone = len(self.nodes) == 1
        copies = 1 if alone else 3
        for node in self.nodes:
            settings = {
                "process.roles": "broker,controller", "node.id": node.number,
                "listeners": f"PLAINTEXT://127.0.0.1:{node.port},CONTROLLER://127.0.0.1:{node.controller_port}",
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{node.port}", "controller.listener.names": "CONTROLLER",
                "log.dirs": node.folder / "data", "offsets.topic.replication.factor": copies,
                "transaction.state.log.replication.factor": copies, "share.coordinator.state.topic.replication.factor": copies,
                "transaction.state.log.min.isr": 1 if alone else 2, "share.coordinator.state.topic.min.isr": 1 if alone else 2,
                "min.insync.replicas": 1 if alone else 2, "group.initial.rebalance.delay.ms": 0, **self.tuning, **self.settings}
            if alone:
                settings["controller.quorum.bootstrap.servers"] = f"127.0.0.1:{node.controller_port}"
                # A node that stands still while the other system is measured is not to be fenced for it.
                # One that is killed has to be let in again after the usual time.
                if self.stands_still:
                    settings.setdefault("broker.session.timeout.ms", 600_000)
            else:
                settings["controller.quorum.voters"] = ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in self.nodes)
            (node.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
            command = [*self.java([]), "kafka.tools.StorageTool", "format", "-t", "q1Sh-9_ISia_zwGINzRvyQ", "-c",
                       str(node.folder / "server.properties"), *(["--standalone"] if alone else [])]
            done = subprocess.run(command, capture_output=True, text=True, env=CLEAN_ENVIRONMENT)
            if done.returncode:
                sys.exit(f"formatting Kafka's directory failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")

    def java(self, options):
        return ["java", *options, "-cp", f"{KAFKA_LIBS}/*", f"-Dlog4j2.configurationFile={self.folder}/log4j2.xml"]

    def spawn(self, node):
        node.run([*self.java(self.heap), "kafka.Kafka", str(node.folder / "server.properties")], cpus=self.cpus)

    def durable_topic(self):
        return ["flush.messages=1"]

    def plain_topic(self):
        return []


class KafkaTuned(Kafka):
    """Tuned for two cores."""
    name = "kafka-tuned"
    heap = ["-Xms4g", "-Xmx4g", "-XX:+AlwaysPreTouch", "-XX:+UseParallelGC"]
    tuning = {"num.network.threads": 2, "num.io.threads": 2, "background.threads": 2}


def kafka_version():
    for jar in KAFKA_LIBS.glob("kafka_2.13-*.jar"):
        return jar.stem.split("-")[-1]
    return None


def install_kafka():
    """The jars, by the client zoo's Maven project."""
    if kafka_version() is None:
        subprocess.run([ROOT / "scripts/client_zoo", "--install-only", "--only", "java-tools"], check=True)
    if kafka_version() is None:
        sys.exit(f"Apache Kafka's jars are not in {KAFKA_LIBS}")


def confluent_python():
    """A Python with confluent-kafka, by the client zoo; installed by the first who asks."""
    python = ROOT / "build/zoo/venv/bin/python"
    if not python.exists():
        subprocess.run([ROOT / "scripts/client_zoo", "--install-only", "--only", "confluent"], check=True, stdout=subprocess.DEVNULL)
    if not python.exists():
        raise RuntimeError("confluent-kafka could not be installed (scripts/client_zoo --install-only --only confluent)")
    return python
