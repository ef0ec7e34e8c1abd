#!/usr/bin/env python3
"""Three nodes on loopback are one cluster: started in any order, asked anywhere, one of them killed, stopped, started again.

usage: cluster.py [--keep]
  --keep   leave the directories and logs behind, and say where
The program under test is build/release/millrace, or $MILLRACE_BIN.
"""

import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from cluster_under_test import Questions
from harness import Broker, Checks, eventually, free_ports


class Node(Questions, Broker):
    def __init__(self, folder, number, voters, settings=(), directory=None):
        port = voters[number]
        quorum = ",".join(f"{n}@127.0.0.1:{p}" for n, p in voters.items())
        super().__init__(folder, f"node{number}", directory, [
            f"node.id={number}", "process.roles=broker,controller", "controller.listener.names=CONTROLLER",
            f"controller.quorum.voters={quorum}", "offsets.topic.num.partitions=4", *settings])
        self.number = number
        self.settings[0] += f",CONTROLLER://127.0.0.1:{port}"


class Split(Node):
    """A node that is only one of both."""

    def __init__(self, folder, number, role, voters, port):
        super().__init__(folder, number, {**voters, number: port})
        quorum = ",".join(f"{n}@127.0.0.1:{p}" for n, p in voters.items())
        self.settings = [s for s in self.settings if not s.startswith(("process.roles", "controller.quorum.voters"))]
        self.settings += [f"process.roles={role}", f"controller.quorum.voters={quorum}", "offsets.topic.replication.factor=2"]
        if role == "controller":
            self.settings[0] = f"listeners=CONTROLLER://127.0.0.1:{port}"


def placed(node, topic):
    found = node.tries(lambda: node.metadata([topic])["topics"][topic])
    return found and found[0] == 0 and found[1]


def run(checks, folder):
    ports = free_ports(3)
    voters = dict(zip((1, 2, 3), ports))
    nodes = {n: Node(folder, n, voters) for n in voters}
    one, two, three = nodes.values()
    try:
        with checks.group("one of three waits"):
            three.spawn()
            health = eventually(lambda: three.tries(lambda: three.get("/health")))
            checks.equal("a node that waits for the quorum is not healthy", health and health[0], 503)
            checks.that("and says what it waits for",
                        eventually(lambda: "quorum" in json.loads(three.get("/health")[1]).get("reason", "")), health)
            began = time.monotonic()
            checks.equal("SIGTERM ends it", three.stop(), 0)
            checks.that("at once", time.monotonic() - began < 2, time.monotonic() - began)

        with checks.group("three start in any order"):
            three.spawn()
            time.sleep(0.5)
            one.spawn()
            time.sleep(0.5)
            two.spawn()
            for n in nodes.values():
                checks.that(f"node {n.number} serves", eventually(lambda n=n: n.tries(lambda: n.get("/health")[0]) == 200, 20), n.log()[-1500:])
            for n in nodes.values():
                checks.that(f"node {n.number} knows all three",
                            eventually(lambda n=n: n.metadata()["brokers"] == {m.number: m.port for m in nodes.values()}),
                            n.metadata())
            checks.equal("they are one cluster", len({n.metadata()["cluster"] for n in nodes.values()}), 1)
            for n in nodes.values():
                error, leader, members = n.quorum()
                checks.equal(f"node {n.number} describes the quorum", (error, sorted(members)), (0, [1, 2, 3]))
                checks.equal("and names the leader that Metadata names", leader, n.metadata()["controller"])

        with checks.group("topics are created anywhere and seen everywhere"):
            for n in nodes.values():
                checks.equal(f"created at node {n.number}", n.create(f"at-{n.number}"), 0)
                # Whoever was asked knows it when it has answered.
                own = placed(n, f"at-{n.number}")
                checks.that("and seen there at once", own and all(p[0] == 0 and len(p[3]) == 3 for p in own), own)
            for n in nodes.values():
                for name in ("at-1", "at-2", "at-3"):
                    seen = eventually(lambda n=n, name=name: placed(n, name))
                    checks.that(f"node {n.number} sees {name}",
                                seen and all(p[1] in (1, 2, 3) and sorted(p[3]) == [1, 2, 3] for p in seen), seen)
            checks.equal("a topic that is there is refused elsewhere", two.create("at-1"), 36)
            checks.equal("more replicas than brokers are refused", three.create("too-many", 1, 4), 38)

        with checks.group("every node finds the same coordinator"):
            found = [eventually(lambda n=n: (lambda c: c if c[0] == 0 else None)(n.coordinator("a-group")), 15)
                     for n in nodes.values()]
            checks.that("the same", len(set(found)) == 1 and found[0], found)

        with checks.group("the leader of the metadata log is killed"):
            leader = nodes[one.quorum()[1]]
            others = [n for n in nodes.values() if n is not leader]
            leader.kill()
            killed = time.monotonic()
            for n in others:
                done = eventually(lambda n=n: n.tries(lambda: n.create(f"after-{n.number}", 1, 2)) == 0, 10)
                took = time.monotonic() - killed
                checks.that(f"node {n.number} creates topics again within 3 s", done and took < 3, took)
            for n in others:
                led = eventually(lambda n=n: all(p[1] in {m.number for m in others} for p in placed(n, "at-1") or [(0, -1)]))
                checks.that(f"node {n.number} knows new leaders within 5 s", led and time.monotonic() - killed < 5,
                            placed(n, "at-1"))
                checks.that("and its replicas offline", all(leader.number in p[5] for p in placed(n, "at-1")), placed(n, "at-1"))
            leader.start()
            for n in nodes.values():
                checks.that(f"node {n.number} has it back", eventually(lambda n=n: len(n.metadata()["brokers"]) == 3))

        with checks.group("a node takes its leave"):
            leaving = nodes[next(n for n in (1, 2, 3) if n != one.quorum()[1])]
            rest = [n for n in nodes.values() if n is not leaving]
            began = time.monotonic()
            checks.equal("SIGTERM ends it cleanly", leaving.stop(), 0)
            checks.that("within 5 s", time.monotonic() - began < 5, time.monotonic() - began)
            for n in rest:
                found = n.metadata()
                # Clients are still told its address for a while.
                checks.that(f"node {n.number} has its replicas offline",
                            all(leaving.number in p[5] for t in ("at-1", "at-2", "at-3") for p in placed(n, t)), found["topics"])
                checks.that("and knows other leaders",
                            all(p[1] not in (-1, leaving.number) for t in ("at-1", "at-2", "at-3") for p in placed(n, t)),
                            found["topics"])
            leaving.start()
            checks.that("it comes back", eventually(lambda: len(leaving.metadata()["brokers"]) == 3))

        with checks.group("the leader of the metadata log takes its leave"):
            leader = nodes[one.quorum()[1]]
            other = nodes[next(n for n in (1, 2, 3) if n != leader.number)]
            checks.equal("SIGTERM ends it cleanly", leader.stop(), 0)
            left = time.monotonic()
            checks.equal("another leads at once", other.create("handed-over", 1, 2), 0)
            checks.that("without an election timeout", time.monotonic() - left < 1.5, time.monotonic() - left)
            leader.start()

        with checks.group("a stranger is refused"):
            stranger = Node(folder, 3, voters, ["cluster.id=AAAAAAAAAAAAAAAAAAAAAQ"], directory=folder + "/stranger")
            three.stop()
            code, said = stranger.run_to_end(15)
            checks.equal("an empty directory with another cluster id", code, 3)
            checks.that("and why is said", "cluster" in said, said[-500:])
            three.start()

        with checks.group("all stop"):
            for n in nodes.values():
                n.process.send_signal(signal.SIGTERM)
            for n in nodes.values():
                checks.equal(f"node {n.number} stops", n.process.wait(20), 0)
            for n in nodes.values():
                n.spawn()
            checks.that("and all come again", all(eventually(lambda n=n: n.tries(lambda: n.get("/health")[0]) == 200, 20) for n in nodes.values()))
            checks.that("with what there was", eventually(lambda: placed(two, "at-3")))
    finally:
        for n in nodes.values():
            if n.process is not None and n.process.poll() is None:
                n.kill()


def run_split(checks, folder):
    ports = free_ports(3)
    voters = {1: ports[0]}
    controller = Split(folder, 1, "controller", voters, ports[0])
    brokers = [Split(folder, n, "broker", voters, ports[n - 1]) for n in (2, 3)]
    nodes = [controller, *brokers]
    try:
        with checks.group("a controller and two brokers"):
            for n in reversed(nodes):
                n.spawn()
            for n in nodes:
                checks.that(f"node {n.number} serves", eventually(lambda n=n: n.tries(lambda: n.get("/health")[0]) == 200, 20),
                            n.log()[-1500:])
            for n in brokers:
                checks.that(f"broker {n.number} knows both",
                            eventually(lambda n=n: sorted(n.metadata()["brokers"]) == [2, 3]), n.metadata())
                checks.equal(f"and describes the quorum at {n.number}", n.quorum(), (0, 1, [1]))
                checks.equal(f"a topic is created at {n.number}", n.create(f"split-{n.number}", 2, 2), 0)
            checks.that("and seen at the other", eventually(lambda: placed(brokers[0], "split-3")))
            brokers[0].kill()
            checks.that("the other leads all within the session's end", eventually(
                lambda: all(p[1] == 3 for p in placed(brokers[1], "split-2") or [(0, -1)]), 6))
            brokers[0].start()
            checks.equal("the controller stops", controller.stop(), 0)
            controller.spawn()
            checks.that("and comes back", eventually(lambda: brokers[0].tries(lambda: brokers[0].create("again", 1, 2)) == 0, 15))
            for n in reversed(nodes):
                checks.equal(f"node {n.number} stops", n.stop(), 0)
    finally:
        for n in nodes:
            if n.process is not None and n.process.poll() is None:
                n.kill()


def main():
    checks = Checks()
    folder = tempfile.mkdtemp(prefix="millrace-cluster-")
    for part in ("combined", "split"):
        pathlib.Path(folder, part).mkdir()
    try:
        run(checks, folder + "/combined")
        run_split(checks, folder + "/split")
    finally:
        if "--keep" in sys.argv:
            print(f"# kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
