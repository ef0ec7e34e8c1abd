#!/usr/bin/env python3
"""Kafka's own AdminClient operates three brokers and a fourth: topics described with their eligible leaders, partitions
reassigned, a move listed and cancelled, preferred and unclean leaders elected, the quorum described, features asked for, a
broker unregistered.

Needs java, javac and Kafka's client (scripts/client_zoo --install-only --only java-tools; $ZOO_DIR names another place).
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import Node, Split  # noqa: E402
from harness import ROOT, Checks, Connection, eventually, free_ports  # noqa: E402

ZOO = pathlib.Path(os.environ.get("ZOO_DIR") or ROOT / "build/zoo") / "java"
JARS = ZOO / ("clients-4" if (ZOO / "clients-4").exists() else "tools")
SOURCE = pathlib.Path(__file__).resolve().parent / "AdminCalls.java"


class Admin:
    def __init__(self, folder, servers):
        subprocess.run(["javac", "-cp", f"{JARS}/*", "-d", folder, str(SOURCE)], check=True)
        self.process = subprocess.Popen(["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx200m", "-cp", f"{JARS}/*:{folder}",
                                         "AdminCalls", servers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def run(checks, admin, nodes):
    def described(topic="t", partition=0):
        """{leader, replicas, isr, elr} as text"""
        words = admin(f"describe {topic}").split("; ")[partition].split(" ")
        return dict(zip(words[1::2], words[2::2]))

    with checks.group("what there is"):
        checks.equal("nodes", eventually(lambda: (lambda n: n if n == "1 alive; 2 alive; 3 alive; 4 alive" else None)(admin("nodes")), 10),
                     "1 alive; 2 alive; 3 alive; 4 alive")
        found = admin("quorum")
        checks.that("the quorum", " voters 1,2,3 observers 4 nodes 1,2,3" in found, found)
        checks.that("finalized features", "metadata.version" in admin("features") or admin("features") == "{}", admin("features"))
        checks.that("a feature that there is not", "failed: " in admin("feature no.such.feature 1"), admin("feature no.such.feature 1"))
        checks.equal("a partition", described(), {"leader": "1", "replicas": "1,2,3", "isr": "1,2,3", "elr": described()["elr"]})

    with checks.group("a reassignment"):
        checks.equal("begun", admin("reassign t 0 2,3,4"), "done")
        checks.that("done", eventually(lambda: described()["replicas"] == "2,3,4" and described()["isr"] in ("2,3,4",) or None, 20), described())
        checks.equal("nothing is under way", admin("reassigning"), "")
        checks.equal("a broker that is not there", admin("reassign t 0 1,2,9"), "failed: InvalidReplicaAssignmentException")
        checks.equal("a partition that is not there", admin("reassign t 7 1,2,3"), "failed: UnknownTopicOrPartitionException")
        checks.equal("nothing to cancel", admin("cancel t 0"), "failed: NoReassignmentInProgressException")

    with checks.group("a cancelled reassignment"):
        checks.equal("another", admin("reassign t 0 2,3,1"), "done")
        checks.that("done", eventually(lambda: described()["replicas"] == "2,3,1" and admin("reassigning") == "" or None, 20), described())
        # Only an observer of the metadata log: it is no controller, which everything here goes to.
        nodes[4].process.send_signal(signal.SIGSTOP)
        checks.equal("begun", admin("reassign t 0 2,3,4"), "done")
        checks.equal("under way", admin("reassigning"), "t-0 adding [4] removing [1]")
        checks.equal("cancelled", admin("cancel t 0"), "done")
        checks.equal("nothing is under way", admin("reassigning"), "")
        nodes[4].process.send_signal(signal.SIGCONT)
        checks.that("the paused node is back", eventually(lambda: "4 alive" in admin("nodes"), 20), admin("nodes"))
        checks.equal("as before", described()["replicas"], "2,3,1")

    with checks.group("a preferred election"):
        checks.that("the preferred one leads", eventually(lambda: described()["leader"] == "2", 5), described())
        checks.equal("not needed", admin("elect t 0 preferred"), "failed: ElectionNotNeededException")
        nodes[2].kill()
        checks.that("another leads", eventually(lambda: described()["leader"] in ("1", "3"), 10), described())
        checks.that("the dead one is fenced", "2 fenced" in admin("nodes"), admin("nodes"))
        checks.equal("not available", admin("elect t 0 preferred"), "failed: PreferredLeaderNotAvailableException")
        nodes[2].start()
        checks.that("it is in sync again", eventually(lambda: "2" in described()["isr"].split(","), 20), described())
        checks.equal("elected", admin("elect t 0 preferred"), "done")
        checks.equal("and leads", described()["leader"], "2")

    with checks.group("an unclean election"):
        # Two replicas: the one that is killed first misses what the other is told alone.
        first, second = described("pair")["replicas"].split(",")
        checks.equal("not needed", admin("elect pair 0 unclean"), "failed: ElectionNotNeededException")
        nodes[int(second)].kill()
        checks.that("one is in sync", eventually(lambda: described("pair")["isr"] == first, 10), described("pair"))
        nodes[int(first)].kill()
        nodes[int(second)].start()
        checks.that("nobody leads", eventually(lambda: described("pair")["leader"] == "-", 10), described("pair"))
        checks.equal("a clean election finds nobody", admin("elect pair 0 preferred"), "failed: PreferredLeaderNotAvailableException")
        checks.equal("an unclean one takes what there is", admin("elect pair 0 unclean"), "done")
        checks.equal("which leads", described("pair")["leader"], second)
        nodes[int(first)].start()
        checks.that("the other follows", eventually(lambda: len(described("pair")["isr"]) == 3, 20), described("pair"))

    with checks.group("a broker is unregistered"):
        checks.equal("one that is not there", admin("unregister 9"), "failed: BrokerIdNotRegisteredException")
        checks.equal("what it has goes elsewhere", admin("reassign t 0 1,2,3"), "done")
        checks.that("gone", eventually(lambda: described()["replicas"] == "1,2,3" and admin("reassigning") == "", 20), described())
        nodes[4].stop()
        checks.that("fenced", eventually(lambda: "4 fenced" in admin("nodes"), 10), admin("nodes"))
        checks.equal("unregistered", admin("unregister 4"), "done")
        checks.equal("forgotten", admin("nodes"), "1 alive; 2 alive; 3 alive")


def main():
    if shutil.which("javac") is None or not list(JARS.glob("kafka-clients-*.jar")):
        sys.exit(f"admin_client: no javac, or no Kafka client in {JARS}; run scripts/client_zoo --install-only --only java-tools")
    checks = Checks()
    folder = tempfile.mkdtemp(prefix="admin-client-")
    voters = dict(zip((1, 2, 3), free_ports(3)))
    settings = ["default.replication.factor=3", "offsets.topic.replication.factor=3"]
    nodes = {n: Node(folder, n, voters, settings) for n in voters}
    nodes[4] = Split(folder, 4, "broker", voters, free_ports(1)[0])
    admin = None
    try:
        for n in nodes.values():
            n.spawn()
        for n in nodes.values():
            checks.that(f"node {n.number} serves", eventually(lambda n=n: n.tries(lambda: n.get("/health")[0]) == 200, 30), n.log()[-800:])
        admin = Admin(folder, ",".join(f"127.0.0.1:{n.port}" for n in nodes.values()))
        with Connection(nodes[3].port, timeout=20) as c:
            checks.equal("a topic", c.create_topic("t", 1, 3, {"min.insync.replicas": "2"}), 0)
            checks.equal("another", c.create_topic("pair", 1, 2, {"min.insync.replicas": "1"}), 0)
        checks.equal("the first one's place", admin("reassign t 0 1,2,3"), "done")
        checks.equal("the other's", admin("reassign pair 0 1,2"), "done")
        checks.that("both lie there", eventually(lambda: admin("reassigning") == "" and "isr 1,2,3" in admin("describe t")
                                                 and "isr 1,2" in admin("describe pair"), 20), admin("describe t") + admin("describe pair"))
        for topic in ("t", "pair"):
            eventually(lambda t=topic: admin(f"elect {t} 0 preferred") == "failed: ElectionNotNeededException", 10, 0.2)
        run(checks, admin, nodes)
    finally:
        if admin is not None:
            admin.process.kill()
        for n in nodes.values():
            if n.process is not None and n.process.poll() is None:
                n.process.send_signal(signal.SIGCONT)
                n.kill()
        if "--keep" in sys.argv or checks.failed:
            print(f"# kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
