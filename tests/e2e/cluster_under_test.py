"""A cluster of real processes for the end-to-end programs: brokers on loopback ports or each in a network namespace of its own,
what can be done to them, and what they say of themselves.

    cluster_under_test.enter(namespaces=True)         # first of all: may start the program again, where it may cut links
    cluster = Cluster(folder, network(), brokers=3)   # nothing runs yet
    cluster.start()                                   # all processes; `cluster.ready()` waits until they know each other
    cluster.create("t")                               # three replicas, min.insync.replicas=2
    cluster.nodes[1].kill()                           # also: terminate, pause, resume, spawn, power_cut, lose_disk
    cluster.cut([1], [2, 3]); cluster.heal()          # namespaces only
    cluster.add(4); cluster.remove(4)                 # a broker without a vote, and its process gone
    cluster.wait_full("t"); cluster.partitions("t")   # ISRs; leaders, replicas
    cluster.stop()

Only the standard library, but for `Cluster.admin`, which is confluent-kafka's.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys

import harness
from harness import BINARY, FIND_COORDINATOR, METADATA, OWN_ENVIRONMENT, Broker, Connection, array, eventually, free_ports, i8, i16, i32, text

DESCRIBE_QUORUM = 55
INSIDE = "CLUSTER_UNDER_TEST_INSIDE"  # set in the process that has namespaces of its own
CLIENT_LOG = {"log_level": 0}
ADMIN = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, **CLIENT_LOG}


# --- the network ---

class Namespaces:
    """One network namespace for each broker, joined by this process's own, where the clients are. Links are cut by rules of
    the router between them: what a rule takes is gone without a word, as with a pulled cable."""

    def __init__(self):
        pathlib.Path("/run/netns").mkdir(exist_ok=True)
        self.run("mount", "-t", "tmpfs", "none", "/run/netns")
        self.run("ip", "link", "set", "lo", "up")
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self.cuts = set()

    @staticmethod
    def run(*command):
        subprocess.run(command, check=True, capture_output=True)

    def add(self, n):
        inside = ("ip", "-n", f"b{n}")
        if not pathlib.Path(f"/run/netns/b{n}").exists():
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
    def ports(_):
        return 9092, 9093, 9090

    @staticmethod
    def prefix(n):
        # Not `ip netns exec`: its mount namespace would hold what is mounted now for as long as the broker runs.
        return ["nsenter", f"--net=/run/netns/b{n}"]

    def cut(self, a, b):
        """What `a` sends does not reach `b`."""
        if (a, b) not in self.cuts:
            self.run("ip", "rule", "add", "from", f"10.77.{a}.2", "to", f"10.77.{b}.2", "blackhole")
            self.cuts.add((a, b))

    def heal(self):
        for a, b in self.cuts:
            self.run("ip", "rule", "del", "from", f"10.77.{a}.2", "to", f"10.77.{b}.2", "blackhole")
        self.cuts.clear()


class Loopback:
    """Ports on 127.0.0.1: three for each broker from `base` on, or free ones. Links cannot be cut."""

    def __init__(self, base=0):
        self.base = base

    def add(self, _):
        return "127.0.0.1"

    def ports(self, n):
        """Of clients, of other nodes, of the admin listener."""
        return tuple(self.base + 10 * n + i for i in range(3)) if self.base else tuple(free_ports(3))

    @staticmethod
    def prefix(_):
        return []

    def heal(self):
        pass


def namespaces_work():
    probe = ("ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_forward && mkdir -p /run/netns && mount -t tmpfs none /run/netns"
             " && ip netns add p && ip link add v type veth peer name e netns p && ip rule add from 10.0.0.1 to 10.0.0.2 blackhole"
             " && nsenter --net=/run/netns/p true")
    try:
        return os.geteuid() == 0 and subprocess.run(["unshare", "-n", "-m", "sh", "-c", probe], capture_output=True,
                                                    timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def enter(namespaces=True):
    """Starts this program again in network and mount namespaces of its own if it is to have them and may; whether it has. Loop
    images (`Cluster(images=...)`) need the mounts."""
    if INSIDE in os.environ:
        return True
    if namespaces and namespaces_work():
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-n", "-m", sys.executable, *sys.argv])
    if namespaces:
        print("# ################ no network namespaces here: all brokers on loopback ################", flush=True)
    return False


def network(base=0):
    """Where the brokers are to be, after `enter`."""
    return Namespaces() if INSIDE in os.environ else Loopback(base)


# --- the brokers ---

class Questions:
    """What can be asked of a node through `connect(timeout)`."""

    def metadata(self, topics=None):
        """{cluster, controller, brokers: {id: port}, topics: {name: (error, [(error, leader, epoch, replicas, isr, offline)])}}"""
        body = (i32(-1) if topics is None else array([text(t) for t in topics])) + i8(0)
        with self.connect(5) as c:
            r = c.request(METADATA, 7, body)
        r.i32()
        brokers = {n: port for n, _, port, _ in r.array(lambda: (r.i32(), r.text(), r.i32(), r.text()))}
        cluster, controller = r.text(), r.i32()

        def partition():
            error, index, leader, epoch = r.i16(), r.i32(), r.i32(), r.i32()
            return index, (error, leader, epoch, r.array(r.i32), r.array(r.i32), r.array(r.i32))

        def topic():
            error, name, _ = r.i16(), r.text(), r.i8()
            return name, (error, [p for _, p in sorted(r.array(partition))])
        return {"cluster": cluster, "controller": controller, "brokers": brokers, "topics": dict(r.array(topic))}

    def leaders(self, topic):
        """Partition -> leader as this very node knows it; empty if it does not answer."""
        found = self.tries(lambda: self.metadata([topic])["topics"][topic])
        return {n: p[1] for n, p in enumerate(found[1])} if found else {}

    def create(self, name, partitions=3, replication=3):
        """The error code."""
        with self.connect(20) as c:
            return c.create_topic(name, partitions, replication)

    def ask(self, api, version, body, timeout=20):
        """One request with a flexible header; the body of the answer, behind its tags."""
        with self.connect(timeout) as c:
            c.correlation += 1
            frame = i16(api) + i16(version) + i32(c.correlation) + text("e2e") + b"\0" + body
            c.socket.sendall(i32(len(frame)) + frame)
            _, r = c.receive()
            return r.take(r.rest())[1:]

    def quorum(self):
        """(error, leader, voters)"""
        body = b"\x02" + b"\x13__cluster_metadata" + b"\x02" + i32(0) + b"\0" + b"\0" + b"\0"
        r = harness.Reader(self.ask(DESCRIBE_QUORUM, 0, body))
        error = r.i16()
        if r.i8() != 2:
            return error, None, []
        r.take(r.i8() - 1)
        r.i8()
        r.i32()
        error = error or r.i16()
        leader, _, _ = r.i32(), r.i32(), r.i64()
        voters = []
        for _ in range(r.i8() - 1):
            voters.append(r.i32())
            r.i64()
            r.i8()
        return error, leader, voters

    def coordinator(self, group):
        """(error, node)"""
        with self.connect(5) as c:
            r = c.request(FIND_COORDINATOR, 1, text(group) + i8(0))
        r.i32()
        error = r.i16()
        r.text()
        return error, r.i32()

    def tries(self, probe):
        """What `probe` gives, None if the node does not answer."""
        try:
            return probe()
        except (OSError, EOFError):
            return None


class Node(Questions, Broker):
    """A broker process of a cluster. Its directory is `directory`; with images it lies on a file system of its own."""

    def __init__(self, cluster, number, roles="broker,controller", settings=()):
        self.cluster, self.number, self.roles, self.own = cluster, number, roles, list(settings)
        self.folder = cluster.folder / f"node{number}"
        self.folder.mkdir(exist_ok=True)
        self.log_path, self.directory, self.image = self.folder / "log", self.folder / "data", None
        if cluster.megabytes:
            import loop_image
            self.image = loop_image.Image(self.folder, "disk", cluster.megabytes)
            self.directory = self.image.path / "data"
        self.host = cluster.network.add(number)
        self.port, self.internal, self.admin_port = cluster.network.ports(number)
        self.process = None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def settings(self):
        client = f"PLAINTEXT://{self.address}," if "broker" in self.roles else ""
        return [f"node.id={self.number}", f"process.roles={self.roles}",
                f"listeners={client}CONTROLLER://{self.host}:{self.internal}",
                "controller.listener.names=CONTROLLER", f"controller.quorum.voters={self.cluster.voters}",
                f"log.dirs={self.directory}", f"admin.listener={self.host}:{self.admin_port}",
                "group.initial.rebalance.delay.ms=100", "default.replication.factor=3", "offsets.topic.num.partitions=4",
                *self.cluster.settings, *self.own]

    def connect(self, timeout=10):
        return Connection(self.port, timeout, self.host)

    def spawn(self, environment=None, more=()):
        """Starts the process and does not wait; `start` waits until it answers."""
        command = [*self.cluster.network.prefix(self.number), BINARY, "server"]
        for setting in [*self.settings, *more]:
            command += ["--set", setting]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env={**OWN_ENVIRONMENT, **(environment or {})})
        return self

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.runs:
            self.process.kill()
            self.process.wait()

    def terminate(self, seconds=20):
        """SIGTERM; the exit code."""
        return self.stop(seconds)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def power_cut(self):
        """The process and everything that was not synced are gone. Needs images."""
        self.image.write_back_some()
        if self.runs:
            # The processor stops first: an fsync that races with the shutdown of its file system may say that all is well (ext4
            # looks for the shutdown only when the call begins), and nobody may hear it.
            self.pause()
            tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
            while any(t.read_text().rpartition(") ")[2][0] not in "TDtZX" for t in tasks.glob("*/stat")):
                eventually(lambda: False, 0.0005, 0.0005)
        self.image.cut()
        self.kill()
        self.image.unmount()
        self.image.mount()

    def lose_disk(self):
        """The process is killed; its directory is empty."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def healthy(self):
        found = self.tries(lambda: self.get("/health"))
        return found is not None and found[0] == 200


class Cluster:
    """`brokers` nodes that vote. `images`: megabytes of a file system of its own for each node's directory, 0: none."""

    def __init__(self, folder, network, brokers=3, settings=(), images=0):
        self.folder, self.network, self.settings = pathlib.Path(folder), network, list(settings)
        self.voters, self.nodes, self.admin, self.megabytes, self.topics = "", {}, None, images, 0
        for n in range(1, brokers + 1):
            self.nodes[n] = Node(self, n)
        self.voters = ",".join(f"{n}@{node.host}:{node.internal}" for n, node in self.nodes.items())
        self.founders = tuple(self.nodes)

    @property
    def servers(self):
        return ",".join(node.address for node in self.nodes.values())

    def start(self):
        for node in self.nodes.values():
            node.spawn()
        try:
            from confluent_kafka.admin import AdminClient
            self.admin = AdminClient({"bootstrap.servers": self.servers, **ADMIN})
        except ImportError:
            pass  # then nobody may ask for `admin`

    def ready(self, seconds=30):
        """All nodes that run know each other and serve."""
        running = [n for n in self.nodes.values() if n.runs]
        return eventually(lambda: all(n.healthy() for n in running) and len(self.brokers()) == len(
            [n for n in running if "broker" in n.roles]), seconds, 0.1)

    def stop(self):
        for node in self.nodes.values():
            if node.runs:
                node.resume()
                node.process.send_signal(signal.SIGTERM)
        for node in self.nodes.values():
            if node.process:
                try:
                    node.process.wait(15)
                except subprocess.TimeoutExpired:
                    node.kill()
            if node.image:
                node.image.remove()

    def add(self, number, seconds=30):
        """A broker without a vote; whether it serves."""
        self.nodes[number] = Node(self, number, "broker")
        self.nodes[number].spawn()
        return eventually(self.nodes[number].healthy, seconds, 0.05)

    def remove(self, number):
        """Its process is ended and it is forgotten here; the exit code. Its replicas have to be moved before."""
        code = self.nodes[number].terminate()
        del self.nodes[number]
        return code

    def cut(self, here, there, back=True):
        """What the nodes `here` send does not reach those `there`; nor, with `back`, the other way round."""
        for a in here:
            for b in there:
                self.network.cut(a, b)
                if back:
                    self.network.cut(b, a)

    def heal(self):
        self.network.heal()

    # --- what it says ---

    def metadata(self, topic=None):
        """confluent-kafka's; None if nobody answers."""
        from confluent_kafka import KafkaException
        try:
            return self.admin.list_topics(topic, timeout=3)
        except KafkaException:
            return None

    def brokers(self):
        found = self.metadata()
        return set(found.brokers) if found else set()

    def controller(self):
        """The node that leads the metadata log, -1 if nobody says."""
        found = self.metadata()
        return found.controller_id if found else -1

    def partitions(self, topic):
        """{partition: PartitionMetadata (leader, replicas, isrs)}; empty if nobody says."""
        found = self.metadata(topic)
        return found.topics[topic].partitions if found and topic in found.topics else {}

    def placed(self, topic):
        """{partition: (leader, replicas, isr)} as the first running node says."""
        for n in self.nodes.values():
            found = n.runs and n.tries(lambda n=n: n.metadata([topic])["topics"][topic])
            if found and found[0] == 0:
                return {i: (p[1], p[3], p[4]) for i, p in enumerate(found[1])}
        return {}

    def leader(self, topic, partition=0):
        found = self.partitions(topic)
        return found[partition].leader if partition in found else -1

    def led_by(self, node, topic):
        return [p for p, found in self.partitions(topic).items() if found.leader == node]

    def full(self, topic):
        """Every replica of every partition is in its ISR, and each partition has a leader."""
        found = self.partitions(topic)
        return bool(found) and all(len(p.isrs) == len(p.replicas) and p.leader >= 0 for p in found.values())

    def wait_full(self, topic, seconds=60):
        return eventually(lambda: self.full(topic), seconds, 0.1)

    def next_topic(self, name):
        """A name that was not used before."""
        self.topics += 1
        return f"{name}-{self.topics}"

    # --- what is asked of it ---

    def create(self, name, partitions=3, seconds=20, replicas=3, config=None):
        """The error, None if there is none."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import NewTopic
        new = NewTopic(name, partitions, replicas, config={"min.insync.replicas": "2", **(config or {})})
        future = self.admin.create_topics([new], operation_timeout=seconds, request_timeout=seconds)[name]
        try:
            future.result(seconds)
        except KafkaException as e:
            return e
        return None

    def reassign(self, node, topic, placement):
        """AlterPartitionReassignments 0 to a node: {partition: [replicas]}; the top error."""
        def compact(s):
            return bytes([len(s) + 1]) + s.encode()
        partitions = b"".join(i32(p) + bytes([len(r) + 1]) + b"".join(i32(n) for n in r) + b"\0" for p, r in placement.items())
        body = i32(10_000) + b"\x02" + compact(topic) + bytes([len(placement) + 1]) + partitions + b"\0" + b"\0"
        return struct.unpack(">h", node.ask(45, 0, body)[4:6])[0]

    def command(self, *arguments):
        return [BINARY, *arguments, "-b", self.servers]

    def tool(self, *arguments, seconds=120):
        """`millrace ARGUMENTS`: (exit code, what it printed, what it complained of)"""
        done = subprocess.run(self.command(*arguments), env=OWN_ENVIRONMENT, capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def asked(self, *arguments):
        """What the tool says as JSON; None if it fails."""
        code, said, _ = self.tool(*arguments, "--json")
        return json.loads(said) if code == 0 else None

    def status(self):
        return self.asked("cluster", "status")


def exactly(connection, size):
    """`size` bytes of a socket."""
    out = b""
    while len(out) < size:
        part = connection.recv(size - len(out))
        if not part:
            raise EOFError("closed")
        out += part
    return out
