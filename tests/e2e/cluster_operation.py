#!/usr/bin/env python3
"""A cluster is operated with the tool while idempotent producers (acks=all) work: partitions are reassigned, moves cancelled,
leaders elected, a broker added, the load spread, brokers drained, decommissioned, and one replaced after its disk was lost.

- no producer is told of an error, and each acknowledged record is there once, in order, at the offset it was acknowledged with;
- the tool's exit codes say what has happened.

usage: cluster_operation.py [--operations N] [--seed N] [--brokers N] [--keep]
  --operations N   instead: N operations by chance (a broker added or decommissioned, partitions reassigned, leaders elected)
  --brokers N      with --operations: how many brokers vote
Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/cluster_operation.py (see scripts/client_zoo).
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster_under_test import Cluster, Loopback  # noqa: E402
from harness import OWN_ENVIRONMENT, Checks, Connection, batch, eventually  # noqa: E402
from replication import PARTITIONS, TOPIC, Writer, judge, read_all  # noqa: E402

OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND, REFUSED, DAMAGED, UNFINISHED = range(8)
SETTINGS = ["min.insync.replicas=2"]


class Operated(Cluster):
    def start(self):
        super().start()
        return all(eventually(n.healthy, 30) for n in self.nodes.values())

    def placed(self, topic=TOPIC):
        return super().placed(topic)

    def settled(self):
        return all(found and all(len(isr) == len(replicas) for _, replicas, isr in found.values())
                   for found in (self.placed(TOPIC), self.placed("others")))


def decommission(cluster, number, seconds=60):
    """(exit code, what it said): the node is stopped when the tool asks for it."""
    tool = subprocess.Popen(cluster.command("cluster", "decommission", str(number), "--timeout", str(seconds)),
                            env=OWN_ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            stdin=subprocess.DEVNULL)
    said = ""
    for line in tool.stderr:
        said += line
        if "stop it now" in line:
            cluster.nodes[number].stop()
    said += tool.stdout.read()
    code = tool.wait(seconds + 10)
    if code == 0:
        del cluster.nodes[number]
    return code, said


def load(cluster):
    """{broker: (replicas, preferred)}, of all topics."""
    out = {n["node"]: (n["replicas"], n["preferred"]) for n in cluster.status()["nodes"] if n["state"] == "alive"}
    return out


def is_even(cluster):
    loads = load(cluster)
    return all(max(l[i] for l in loads.values()) - min(l[i] for l in loads.values()) <= 1 for i in (0, 1)), loads


def operate(checks, cluster):
    with checks.group("status"):
        found = cluster.status()
        checks.equal("all nodes are alive", [(n["node"], n["state"], n["roles"]) for n in found["nodes"]],
                     [(n, "alive", "broker,controller") for n in (1, 2, 3)])
        checks.equal("all vote", sorted(r["node"] for r in found["quorum"]["replicas"] if r["part"] != "observer"), [1, 2, 3])
        checks.equal("nothing is amiss", [found["partitions"][k] for k in (
            "under_replicated", "under_min_isr", "leaderless", "offline", "damaged_replicas")], [0, 0, 0, 0, []])
        code, said, _ = cluster.tool("cluster", "status")
        checks.that("and as text", code == 0 and "metadata quorum" in said, said)

    with checks.group("too few brokers for a drain"):
        code, _, why = cluster.tool("cluster", "drain", "3")
        checks.equal("it is refused", code, REFUSED)
        checks.that("and why is said", "replicas" in why and "without broker 3" in why, why)
        checks.equal("a broker that is not there is not found", cluster.tool("cluster", "drain", "77")[0], NOT_FOUND)
        checks.equal("so is one that is to be decommissioned", cluster.tool("cluster", "decommission", "77")[0], NOT_FOUND)

    with checks.group("another order"):
        code, _, why = cluster.tool("partition", "reassign", f"{TOPIC}:0=3,1,2", f"{TOPIC}:1=3,2,1", f"{TOPIC}:2=3,2,1")
        checks.equal("reassigned", (code, why), (OK, ""))
        checks.equal("the replicas are in the new order", [p[1] for p in cluster.placed().values()],
                     [[3, 1, 2], [3, 2, 1], [3, 2, 1]])
        code, said, why = cluster.tool("partition", "elect", "--preferred", TOPIC, "--json")
        checks.equal("elected", code, OK)
        checks.equal("the preferred replicas lead", [r["leader"] for r in json.loads(said)], [3, 3, 3])
        checks.equal("an unclean election is not needed", cluster.tool("partition", "elect", "--unclean", TOPIC)[0], OK)
        checks.equal("a topic that is not there", cluster.tool("partition", "reassign", "nowhere:0=1")[0], NOT_FOUND)
        checks.equal("a broker that is not there", cluster.tool("partition", "reassign", f"{TOPIC}:0=1,2,9")[0], REFUSED)
        checks.equal("a broker twice", cluster.tool("partition", "reassign", f"{TOPIC}:0=1,1,2")[0], USAGE)

    with checks.group("a broker is killed and comes back"):
        cluster.nodes[3].kill()
        others = eventually(lambda: all(p[0] in (1, 2) for p in cluster.placed().values() or [(0,)]), 10)
        checks.that("others lead", others, cluster.placed())
        code, _, why = cluster.tool("partition", "elect", f"{TOPIC}:0")
        checks.equal("the preferred replica cannot be elected", code, REFUSED)
        found = cluster.status()
        checks.equal("the status knows it is fenced", [n["state"] for n in found["nodes"]], ["alive", "alive", "fenced"])
        checks.that("and what lacks a replica", found["partitions"]["under_replicated"] >= PARTITIONS, found["partitions"])
        cluster.nodes[3].start()
        checks.that("it is in sync again", eventually(cluster.settled, 30))
        checks.equal("now it can be elected", cluster.tool("partition", "elect")[0], OK)
        checks.that("and leads", eventually(lambda: all(p[0] == 3 for p in cluster.placed().values())), cluster.placed())

    with checks.group("a fourth broker"):
        checks.that("it joins", cluster.add(4))
        found = cluster.status()
        checks.equal("as a broker that follows the metadata log",
                     [(n["roles"], n["state"]) for n in found["nodes"] if n["node"] == 4], [("broker", "alive")])
        checks.equal("and observes", [r["node"] for r in found["quorum"]["replicas"] if r["part"] == "observer"], [4])
        before = cluster.placed()
        code, said, _ = cluster.tool("cluster", "rebalance", "--dry-run", "--json")
        plan = json.loads(said)
        checks.that("a plan", code == OK and plan["copies"] > 0, said)
        checks.equal("that has changed nothing", cluster.placed(), before)
        checks.equal("and is the same again", json.loads(cluster.tool("cluster", "rebalance", "--dry-run", "--json")[1]), plan)
        code, said, why = cluster.tool("cluster", "rebalance")
        checks.equal("rebalanced", code, OK)
        even, loads = is_even(cluster)
        checks.that("replicas and preferred leaders differ by one at most", even, loads)
        leaders = lambda: cluster.status()["partitions"]["led_by_others_than_preferred"]  # noqa: E731
        checks.that("which lead", eventually(lambda: leaders() == 0, 10), leaders())
        checks.equal("nothing more to do", json.loads(cluster.tool("cluster", "rebalance", "--dry-run", "--json")[1])["moves"], [])

    with checks.group("a move is cancelled"):
        partition, replicas = next((p, r) for p, (_, r, _) in cluster.placed().items() if 4 not in r)
        target = ",".join(map(str, [*replicas[:2], 4]))
        cluster.nodes[4].pause()
        code, _, why = cluster.tool("partition", "reassign", f"{TOPIC}:{partition}={target}", "--timeout", "2")
        checks.equal("a move to a broker that hangs is not finished in time", code, UNFINISHED)
        checks.that("which is said", "goes on" in why, why)
        moving = cluster.asked("partition", "list", "--reassigning")
        checks.equal("it is under way", [(m["topic"], m["partition"], m["adding"], m["removing"]) for m in moving],
                     [(TOPIC, partition, [4], [replicas[2]])])
        code, _, why = cluster.tool("partition", "reassign", "--cancel", f"{TOPIC}:{partition}")
        checks.equal("cancelled", (code, why), (OK, ""))
        checks.equal("nothing moves", cluster.asked("partition", "list", "--reassigning"), [])
        checks.equal("the replicas are where they were", cluster.placed()[partition][1], replicas)
        checks.equal("what does not move cannot be cancelled",
                     cluster.tool("partition", "reassign", "--cancel", f"{TOPIC}:{partition}")[0], REFUSED)
        cluster.nodes[4].resume()
        checks.that("all replicas are in sync again", eventually(cluster.settled, 30), cluster.placed())

    with checks.group("a throttled move"):
        checks.equal("a topic", cluster.nodes[1].create("heavy", 1, 2), 0)
        data = b"x" * 100_000
        with Connection(cluster.nodes[cluster.placed("heavy")[0][0]].port) as c:
            for _ in range(50):
                error = c.produce("heavy", batch([data]))[0]
        checks.equal("with five megabytes", error, 0)
        at = cluster.placed("heavy")[0][1]
        target = [n for n in cluster.nodes if n not in at]
        began = time.monotonic()
        code, _, why = cluster.tool("partition", "reassign", "heavy:0=" + ",".join(map(str, target)), "--throttle", "1000000")
        took = time.monotonic() - began
        checks.equal("moved", (code, why), (OK, ""))
        checks.that("at a megabyte a second", 3 < took < 20, f"{took:.1f} s")
        left = [r for r in cluster.asked("config", "get", "--topic", "heavy") if "throttled" in r["key"]]
        left += [r for n in target for r in cluster.asked("config", "get", "--broker", str(n)) if "throttled" in r["key"]]
        checks.equal("the throttle is lifted", left, [])
        began = time.monotonic()
        code, _, why = cluster.tool("partition", "reassign", "heavy:0=" + ",".join(map(str, at)))
        checks.that("without one it is faster", code == OK and time.monotonic() - began < took, f"{why} {time.monotonic() - began:.1f} s")

    with checks.group("a broker is drained"):
        code, said, why = cluster.tool("cluster", "drain", "3", "--json")
        checks.equal("drained", (code, why), (OK, ""))
        checks.that("partitions were moved", json.loads(said)["partitions_moved"] > 0, said)
        checks.equal("nothing is there", load(cluster)[3], (0, 0))
        checks.equal("again: nothing to do", json.loads(cluster.tool("cluster", "drain", "3", "--json")[1])["partitions_moved"], 0)
        checks.equal("the load is spread again", cluster.tool("cluster", "rebalance")[0], OK)
        even, loads = is_even(cluster)
        checks.that("evenly", even, loads)

    with checks.group("a broker is decommissioned"):
        code, said = decommission(cluster, 4)
        checks.equal("decommissioned", code, OK)
        checks.equal("it is forgotten", [n["node"] for n in cluster.status()["nodes"]], [1, 2, 3])
        checks.that("all replicas are in sync", eventually(cluster.settled, 20), cluster.placed())

    with checks.group("a voter has lost its disk"):
        lost = next(n for n in (1, 2, 3) if n != cluster.status()["controller_id"])
        node = cluster.nodes[lost]
        votes = {r["node"]: r["directory"] for r in cluster.status()["quorum"]["replicas"]}
        checks.equal("there is nothing to replace yet", json.loads(cluster.tool("cluster", "replace", str(lost), "--json")[1])["replaced"],
                     False)
        node.lose_disk()
        node.spawn()
        checks.that("it serves with an empty directory", eventually(node.healthy, 30), node.log()[-1500:])
        code, said, why = cluster.tool("cluster", "replace", str(lost), "--json", "--timeout", "30")
        checks.equal("replaced", (code, why), (OK, ""))
        now = {r["node"]: (r["part"], r["directory"]) for r in cluster.status()["quorum"]["replicas"]}
        checks.that("it votes", now.get(lost, ("",))[0] in ("voter", "leader"), now)
        checks.that("with another directory", now[lost][1] != votes[lost], (now, votes))
        checks.that("its replicas are in sync again", eventually(cluster.settled, 40), cluster.placed())
        other = cluster.nodes[next(n for n in (1, 2, 3) if n not in (lost, cluster.status()["controller_id"]))]
        other.kill()
        checks.that("the quorum does without another voter", eventually(lambda: node.tries(lambda: node.create("with-two", 1, 2)) == 0, 10))
        other.start()
        followers = lambda: [r["node"] for r in cluster.status()["quorum"]["replicas"] if r["part"] == "observer"]  # noqa: E731
        checks.that("who was decommissioned follows no more", eventually(lambda: followers() == [], 20), followers())
        node.stop()
        node.start()
        checks.that("the vote survives a restart", eventually(lambda: len(cluster.placed()) == PARTITIONS and cluster.settled(), 30))


def retire_controller(checks, cluster):
    with checks.group("the node that leads the metadata log is decommissioned"):
        checks.that("a fifth broker joins", cluster.add(5))
        code, said = decommission(cluster, cluster.status()["controller_id"])
        checks.equal("decommissioned", code, OK)
        checks.that("the others vote", said.find("vote removed") > 0, said)
        # Who only follows has to find the new leader.
        following = lambda: {r["node"]: r["directory"] is not None for r in cluster.status()["quorum"]["replicas"]}.get(5)  # noqa: E731
        checks.that("who follows has found the new leader", eventually(following, 15), cluster.status()["quorum"])
        checks.equal("and lives", eventually(lambda: {n["node"]: n["state"] for n in cluster.status()["nodes"]}.get(5) == "alive", 10), True)
        checks.equal("two voters are left", sum(r["part"] != "observer" for r in cluster.status()["quorum"]["replicas"]), 2)
        checks.that("all replicas are in sync", eventually(cluster.settled, 20), cluster.placed())


def by_chance(checks, cluster, operations, seed):
    """Operations under load; each must finish. The voters stay, at most two others come and go."""
    dice = random.Random(seed)
    spare, longest, done = len(cluster.founders) + 1, 0.0, {}
    for number in range(operations):
        extra = [n for n in cluster.nodes if n not in cluster.founders]
        choices = ["reassign", "reassign", "elect", "rebalance"]
        choices += ["add"] * 2 if len(extra) < 2 else []
        choices += ["decommission"] * 2 if extra else []
        choices += ["drain"] if extra else []
        what = dice.choice(choices)
        began = time.monotonic()
        if what == "add":
            good, why = cluster.add(spare), f"broker {spare}"
            spare += 1
        elif what == "decommission":
            code, why = decommission(cluster, dice.choice(extra))
            good = code == OK
        elif what == "drain":
            code, _, why = cluster.tool("cluster", "drain", str(dice.choice(list(cluster.nodes))), "--timeout", "60")
            good = code == OK
        elif what == "rebalance":
            code, _, why = cluster.tool("cluster", "rebalance", "--timeout", "60")
            good = code == OK
        elif what == "elect":
            code, _, why = cluster.tool("partition", "elect", "--timeout", "60")
            good = code == OK
        else:
            moves = []
            for p in dice.sample(range(PARTITIONS), dice.randrange(1, PARTITIONS + 1)):
                moves.append(f"{TOPIC}:{p}=" + ",".join(map(str, dice.sample(sorted(cluster.nodes), 3))))
            code, _, why = cluster.tool("partition", "reassign", *moves, "--timeout", "60")
            good = code == OK
        took = time.monotonic() - began
        longest = max(longest, took)
        done[what] = done.get(what, 0) + 1
        checks.that(f"{number + 1}: {what} ({took:.1f} s)", good, f"seed {seed}: {why}")
        time.sleep(dice.random())
    print(f"# {done}, the longest took {longest:.1f} s", flush=True)
    checks.that("all replicas are in sync", eventually(cluster.settled, 30), cluster.placed())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    if arguments.brokers != 3 and not arguments.operations:
        parser.error("other than three brokers need --operations")
    checks = Checks()
    folder = tempfile.mkdtemp(prefix="operation-")
    cluster = Operated(folder, Loopback(), arguments.brokers, SETTINGS)
    try:
        if not checks.that("all nodes serve", cluster.start()):
            checks.finish()
        checks.equal("a topic", cluster.nodes[1].create(TOPIC, PARTITIONS, 3), 0)
        checks.equal("and another", cluster.nodes[1].create("others", 5, 2), 0)
        checks.that("all replicas are in sync", eventually(cluster.settled, 20))
        writers = [Writer(f"w{i}", cluster.servers, 0.005) for i in range(2)]
        for w in writers:
            w.start()
        checks.that("records are acknowledged", eventually(lambda: all(w.acknowledged for w in writers), 10))
        if arguments.operations:
            by_chance(checks, cluster, arguments.operations, arguments.seed)
        else:
            operate(checks, cluster)
            retire_controller(checks, cluster)
        for w in writers:
            checks.equal(f"{w.label}: records still on their way", w.finish(), 0)
            checks.equal(f"{w.label}: failures", w.failures[:3], [])
        with checks.group("what is there"):
            found, ends, at = read_all(cluster.servers, "reader")
            checks.equal("a consumer reads everything", at, ends)
            judge(checks, writers, found)
        print(f"# {sum(len(w.acknowledged) for w in writers)} records acknowledged, longest pause of a producer "
              f"{max(w.longest_gap for w in writers):.2f} s", flush=True)
    finally:
        cluster.stop()
        if checks.failed or arguments.keep:
            print(f"# logs are in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
