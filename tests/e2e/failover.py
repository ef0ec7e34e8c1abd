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

import pathlib
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster_under_test import Namespaces  # noqa: E402
from harness import eventually  # noqa: E402
from recorded_clients import Lonely, Scene, figures, load  # noqa: E402
from scenarios import parse, parser_of, run_scenarios  # noqa: E402

from confluent_kafka import KafkaError  # noqa: E402

SCENARIOS = ("kills", "gaps", "controller", "pause", "cut", "term", "rolling", "replace")
SHORT = ("gaps", "controller", "pause", "cut", "term", "rolling")


class Run:
    def __init__(self, arguments, checks, cluster):
        self.arguments, self.checks, self.cluster = arguments, checks, cluster
        self.random = random.Random(arguments.seed)
        self.speed = checks if arguments.speed else None

    def scene(self, name, **how):
        return Scene(self.cluster, self.checks, name, **how)

    # Scenarios

    def kills(self):
        with self.scene("kills", pause=0.006) as s:
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
                self.cluster.nodes[leader].spawn()
                time.sleep(max(0.0, self.arguments.every - (time.monotonic() - began)))
            self.checks.that("kills: leaders were killed", kills > 0)
            print(f"# kills: {kills} kills", flush=True)
            s.settle("after the last kill")

    def gaps(self):
        with self.scene("gaps", pause=0.005) as s:
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
                self.cluster.nodes[victim].spawn()
            s.settle("after the last kill")
            figures("gap after SIGKILL", plain, 0.7, 1.0, self.speed)
            figures("gap after SIGKILL of the metadata's leader", both, 0.7, 1.0, self.speed)
            figures("gap after SIGKILL, all", plain + both, 0.7, 1.0, self.speed)

    def controller(self):
        with self.scene("controller", pause=0.005) as s:
            others, created, by_admin = [], [], []
            for i in range(self.arguments.rounds):
                s.settle(f"round {i}")
                time.sleep(1)
                victim = self.cluster.controller()
                led = s.led_by(victim)
                at = time.monotonic()
                self.cluster.nodes[victim].kill()
                living = next(n for n in self.cluster.nodes.values() if n.runs)
                name = f"made-{i}-{time.time_ns()}"
                made = eventually(lambda: living.tries(lambda: living.create(name, 1)) in (0, 36), 20, 0.01)  # 36: it is there already
                created.append(time.monotonic() - at)
                self.checks.that(f"controller: topics can be created again, round {i}", made)
                # librdkafka's AdminClient keeps to the controller that it knew until its next look at the metadata, which it has
                # no reason to take: seconds in which it asks nobody.
                error = "not tried"
                while error is not None and time.monotonic() < at + 20:
                    error = self.cluster.create(name + "-admin", 1, 20)
                    if error is not None and error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                        error = None
                took = time.monotonic() - at
                self.checks.that(f"controller: librdkafka can create topics again, round {i}", error is None, error)
                by_admin.append(took)
                time.sleep(max(0.0, 3 - took))
                others.append(s.gap([p for p in range(s.partitions) if p not in led], at, 3))
                self.cluster.nodes[victim].spawn()
            s.settle("at the end")
            figures("metadata writes after the death of the metadata's leader", created, None, 3.0, self.speed)
            figures("the same through librdkafka's AdminClient, which waits by itself", by_admin)
            figures("gap of partitions that others lead", others, None, 1.0, self.speed)

    def pause(self):
        with self.scene("pause", pause=0.005) as s:
            gaps, answers = [], []
            for i in range(self.arguments.rounds):
                s.settle(f"round {i}")
                leader = self.cluster.leader(s.topic)
                node = self.cluster.nodes[leader]
                led = s.led_by(leader)
                lonely = Lonely(s.history, node, s.topic, led[0])
                at = time.monotonic()
                node.pause()
                # These wait in its sockets: it finds them before it can know that it leads no more.
                threads = [threading.Thread(target=lonely.send, args=(self.arguments.pause + 12,)) for _ in range(8)]
                for t in threads:
                    t.start()
                one = next(n for n in self.cluster.nodes.values() if n.runs and n.number != leader)
                # If it led the metadata, too, there is an election before its session begins to count.
                moved = eventually(lambda: one.leaders(s.topic).get(led[0], -1) not in (-1, leader), self.arguments.pause + 5, 0.1)
                self.checks.that("pause: another leads", moved)
                time.sleep(max(0.0, at + self.arguments.pause - time.monotonic()))
                node.resume()
                resumed = time.monotonic()
                # It knows by its own clock that its session is over: nothing more is taken in, whatever acks ask for.
                late = lonely.send(5, acks=1)
                for t in threads:
                    t.join()
                answers.append(time.monotonic() - resumed)
                self.checks.equal("pause: the zombie acknowledges nothing", lonely.taken, 0)
                self.checks.that("pause: it answers that it leads no more", late == 6 and set(lonely.refused) <= {6, 7}, lonely.refused)
                # What writers had sent to it comes back to them only now.
                eventually(lambda: all(any(t > resumed for t in w.answered[p][-1:]) for w in s.writers for p in led), 30, 0.05)
                gaps.append(s.gap(led, at, self.arguments.pause))
                s.settle("after the pause")
            figures("gap when the leader is paused", gaps, None, 5.0, self.speed)
            figures("until the leader that goes on has answered what waited", answers, None, 2.0, self.speed)

    def cut(self):
        if not isinstance(self.cluster.network, Namespaces):
            print("# ################ cut: NOT RUN: network namespaces are not allowed here ################", flush=True)
            return
        with self.scene("cut", pause=0.005) as s:
            gaps, joined, stepped_down = [], [], []
            for way in self.arguments.ways.split(","):
                s.settle(way)
                time.sleep(1)
                controller = self.cluster.controller()
                leader = controller if self.random.random() < 0.5 and s.led_by(controller) else self.cluster.leader(s.topic)
                led = s.led_by(leader)
                rest = [n for n in self.cluster.nodes if n != leader]
                print(f"# cut {way}: broker {leader}{' (leads the metadata)' if leader == controller else ''}, partitions {led}", flush=True)
                at = time.monotonic()
                if way != "in":
                    self.cluster.cut([leader], rest, back=way == "both")
                else:
                    self.cluster.cut(rest, [leader], back=False)
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
                    found = one.leaders(s.topic)
                    return found and all(found.get(p, -1) not in (-1, leader) for p in led)
                self.checks.that(f"cut {way}: the majority elects others", eventually(new_leader, 20, 0.1))
                # Clients reach it still: it sends them away as soon as it cannot know any more that it leads.
                lone = self.cluster.nodes[leader]

                def aside():
                    found = lone.tries(lambda: lone.metadata([s.topic]))
                    return found and leader not in found["brokers"] and all(found["topics"][s.topic][1][p][1] == -1 for p in led)
                self.checks.that(f"cut {way}: it does not name itself to clients", eventually(aside, 10, 0.1))
                stepped_down.append(time.monotonic() - at)
                self.checks.equal(f"cut {way}: it refuses acks=1, too", lonely.send(2, acks=1), 6)
                time.sleep(max(0.0, at + self.arguments.cut - time.monotonic()))
                ending.set()
                for t in knocking:
                    t.join()
                self.checks.equal(f"cut {way}: the minority acknowledges nothing", lonely.taken, 0)
                print(f"# cut {way}: refused with {sorted(set(lonely.refused))}", flush=True)
                self.cluster.heal()
                healed = time.monotonic()
                s.settle(f"healed {way}")
                joined.append(time.monotonic() - healed)
                time.sleep(1)
                gaps.append(s.gap(led, at, self.arguments.cut))
            figures("gap when the leader is cut off", gaps, None, 5.0, self.speed)
            figures("until the leader that is cut off steps down", stepped_down, None, 7.0, self.speed)
            figures("in sync again after healing", joined, None, 15.0, self.speed)

    def term(self):
        with self.scene("term", pause=0.004) as s:
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
                self.cluster.nodes[leader].spawn()
            s.settle("at the end")
            figures("gap after SIGTERM", gaps, None, 0.2, self.speed)

    def rolling(self):
        with self.scene("rolling", pause=0.005, settings={"message.timeout.ms": 30_000}) as s:
            foreign = [Foreign(self, s, command) for command in self.arguments.foreign]
            gaps = []
            for _ in range(self.arguments.rolls):
                for n in list(self.cluster.nodes):
                    s.settle(f"before {n}")
                    at = time.monotonic()
                    self.checks.equal("rolling: the exit code", self.cluster.nodes[n].terminate(), 0)
                    self.cluster.nodes[n].spawn()
                    s.settle(f"after {n}")
                    time.sleep(0.5)
                    gaps.append(s.gap(range(s.partitions), at, time.monotonic() - at))
            figures("longest stall for each restart", gaps, None, 1.0, self.speed)
            for f in foreign:
                f.finish()

    def replace(self):
        with self.scene("replace", pause=0.006) as s:
            number = max(self.cluster.nodes) + 1
            joins = self.cluster.add(number) and eventually(lambda: number in self.cluster.brokers(), 30, 0.2)
            new = self.cluster.nodes[number]
            self.checks.that("replace: another broker joins", joins, new.log()[-800:])
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
            new.lose_disk()
            new.spawn()
            self.checks.that("replace: with an empty disk it fills up again", eventually(lambda: self.cluster.full(s.topic), 60, 0.2), new.log()[-800:])
            self.cluster.nodes[gone].spawn()
            self.checks.that("replace: the first one comes back", eventually(lambda: self.cluster.nodes[gone].leaders(s.topic), 30, 0.2))
            move(number, gone)
            self.checks.equal("replace: the new one goes", self.cluster.remove(number), 0)


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


def mend(cluster):
    cluster.heal()
    for node in cluster.nodes.values():
        if not node.runs:
            node.spawn()


def main():
    parser = parser_of(__doc__, SCENARIOS)
    parser.add_argument("--short", action="store_true", help="few rounds of what fits into a minute and a half")
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
    parser.add_argument("--speed", action="store_true", help="too slow is a failure")
    arguments = parse(parser, SCENARIOS)
    if arguments.short:
        arguments.kills, arguments.rounds, arguments.pause, arguments.cut, arguments.minutes = 2, 1, 6, 4, 0.3
        arguments.calm = 2
    chosen = arguments.scenarios or (SHORT if arguments.short else SCENARIOS)
    run_scenarios("failover", arguments, chosen, Run, note=f"seed {arguments.seed}, ", between=mend)


if __name__ == "__main__":
    main()
