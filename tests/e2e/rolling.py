#!/usr/bin/env python3
"""Applications in several languages work on a cluster, all at once, while its brokers come and go: each is an idempotent producer
(acks=all) and a group of two consumers, with the defaults of its library (tests/zoo, "Steady clients"). No error may reach the
application; its history is judged by `millrace verify history`: nothing lost, nothing twice, everything in order.

  rolling   all brokers restarted one after the other (SIGTERM), each when all replicas are in sync again
  term      a broker that leads is stopped, twice the one that leads the metadata log: how long a producer waits
  replace   a broker is killed, comes back with an empty disk, and is given its vote back

usage: rolling.py [SCENARIO...] [--brokers N] [--clients NAME,...] [--rolls N] [--speed] [--loopback] [--port-base PORT]
Each broker gets a network namespace of its own where that is allowed, else ports on loopback. The clients come from
scripts/client_zoo --install-only; one that is not installed fails the run.
Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/rolling.py
"""

import json
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import BINARY, ROOT, eventually  # noqa: E402
from recorded_clients import Scene, figures, load  # noqa: E402
from scenarios import parse, parser_of, run_scenarios  # noqa: E402

SCENARIOS = ("rolling", "term", "replace")
ZOO, SOURCES = ROOT / "build/zoo", ROOT / "tests/zoo"
PARTITIONS = 4


def java(module):
    return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-cp", f"{ZOO}/java-classes/{module}:{ZOO}/java/{module}/*",
            "Steady"]


CLIENTS = {
    "java-4": java("clients-4"),
    "java-3": java("clients-3"),
    "confluent": [ZOO / "venv/bin/python", SOURCES / "python/steady_confluent.py"],
    "kafka-python": [ZOO / "venv/bin/python", SOURCES / "python/steady_kafka_python.py"],
    "franz-go": [ZOO / "go/franz-steady"],
    "sarama": [ZOO / "go/sarama-steady"],
    "kafkajs": ["node", ZOO / "kafkajs/steady.js"],
}


class Application:
    """One client program: a topic of its own, two lines of output, a history."""

    def __init__(self, cluster, checks, name, scenario):
        self.cluster, self.checks, self.name = cluster, checks, name
        self.topic = cluster.next_topic(f"{scenario}-{name}")
        checks.equal(f"{name}: a topic", cluster.create(self.topic, PARTITIONS), None)
        self.history = cluster.folder / f"{self.topic}.history"
        self.errors = cluster.folder / f"{self.topic}.stderr"
        command = [*map(str, CLIENTS[name]), cluster.servers, self.topic, str(PARTITIONS), str(self.history)]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.lines = []
        self.listener = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self.listener.start()

    def ready(self):
        return any('"ready"' in line for line in self.lines)

    def finish(self, seconds=150):
        """What it reports; nothing if it ended otherwise."""
        try:
            self.process.stdin.close()
            self.process.wait(seconds)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.listener.join(5)
        report = {}
        for line in self.lines:
            if line.startswith("{") and '"client"' in line:
                report = json.loads(line)
        why = report.get("errors") or self.errors.read_text(errors="replace")[-800:]
        self.checks.that(f"{self.name}: no error reaches the application", report.get("error_count") == 0, (report.get("error_count"), why))
        self.checks.that(f"{self.name}: everything it produced it consumes", 0 < report.get("acknowledged", 0) <= report.get("consumed", 0), report)
        judged = subprocess.run([BINARY, "verify", "history", str(self.history)], capture_output=True, text=True)
        complete = '{"final_reads":true}' in self.history.read_text()
        self.checks.that(f"{self.name}: nothing is lost, doubled or out of order", judged.returncode == 0 and complete,
                         (judged.stdout + judged.stderr)[-1200:])
        if report:
            print(f"# {self.name} {report['version']}: {report['acknowledged']} acknowledged, {report['consumed']} consumed, "
                  f"longest pause of a partition {report['longest_pause_ms']} ms, {report['error_count']} errors", flush=True)
        return report


class Applications:
    def __init__(self, cluster, checks, names, scenario):
        self.checks = checks
        self.all = []
        try:
            for name in names:
                self.all.append(Application(cluster, checks, name, scenario))
        except BaseException:
            for a in self.all:
                a.process.kill()
            raise

    def __enter__(self):
        began = time.monotonic()
        eventually(lambda: all(a.ready() or a.process.poll() is not None for a in self.all), 90, 0.1)
        for a in self.all:
            self.checks.that(f"{a.name}: produces and consumes", a.ready(), a.errors.read_text(errors="replace")[-800:])
        print(f"# all work after {time.monotonic() - began:.1f} s, {load()}", flush=True)
        return self

    def __exit__(self, *_):
        ending = [threading.Thread(target=a.finish) for a in self.all]
        for t in ending:
            t.start()
        for t in ending:
            t.join()


class Run:
    def __init__(self, arguments, checks, cluster):
        self.arguments, self.checks, self.cluster = arguments, checks, cluster

    def applications(self, scenario):
        return Applications(self.cluster, self.checks, self.arguments.clients, scenario)

    def settle(self, applications, what, seconds=60):
        topics = [a.topic for a in applications.all] + ["__consumer_offsets"]
        ok = eventually(lambda: all(self.cluster.full(t) for t in topics), seconds, 0.2)
        if not ok:
            self.checks.that(f"{what}: all replicas are in sync", False, {t: self.cluster.placed(t) for t in topics})
        return ok

    def restart(self, node, applications, what):
        began = time.monotonic()
        self.checks.equal(f"{what}: the exit code of broker {node.number}", node.terminate(40), 0)
        ended = time.monotonic()
        node.spawn()
        self.settle(applications, what)
        print(f"# {what}: broker {node.number} ended in {ended - began:.2f} s, all in sync after {time.monotonic() - began:.1f} s; {load()}",
              flush=True)

    def rolling(self):
        with self.applications("rolling") as applications:
            self.settle(applications, "rolling: before")
            for _ in range(self.arguments.rolls):
                for node in list(self.cluster.nodes.values()):
                    time.sleep(self.arguments.calm)
                    self.restart(node, applications, "rolling")
            time.sleep(self.arguments.calm)

    def term(self):
        gaps = []
        with self.applications("term") as applications, Scene(self.cluster, self.checks, "term", pause=0.004) as s:
            for i in range(self.arguments.stops):
                self.settle(applications, "term")
                s.settle(f"round {i}")
                time.sleep(self.arguments.calm)
                leader = self.cluster.controller() if i % 2 else self.cluster.leader(s.topic, i % s.partitions)
                led, at = s.led_by(leader), time.monotonic()
                self.checks.equal("term: the exit code", self.cluster.nodes[leader].terminate(40), 0)
                time.sleep(2)
                gaps.append(s.gap(led or range(s.partitions), at, 5))
                print(f"# term: broker {leader}, partitions {led}: gap {gaps[-1]:.3f} s; {load()}", flush=True)
                self.cluster.nodes[leader].spawn()
            s.settle("at the end")
        figures("gap after SIGTERM", gaps, None, 0.2, self.checks if self.arguments.speed else None)

    def replace(self):
        with self.applications("replace") as applications:
            self.settle(applications, "replace: before")
            time.sleep(self.arguments.calm)
            lost = next(n for n in self.cluster.nodes if n != self.cluster.controller())
            node, began = self.cluster.nodes[lost], time.monotonic()
            node.lose_disk()
            time.sleep(2)
            node.spawn()
            self.checks.that("replace: it serves with an empty disk", eventually(node.healthy, 60, 0.1), node.log()[-800:])
            self.settle(applications, "replace: filled up", 120)
            print(f"# replace: broker {lost} in every ISR again after {time.monotonic() - began:.1f} s", flush=True)
            code, said, why = self.cluster.tool("cluster", "replace", str(lost), "--json", "--timeout", "60")
            self.checks.equal("replace: its vote is given back", (code, why), (0, ""))
            time.sleep(self.arguments.calm)


def main():
    parser = parser_of(__doc__, SCENARIOS)
    parser.add_argument("--clients", default=",".join(CLIENTS), help="default: all")
    parser.add_argument("--rolls", type=int, default=1, help="rolling: times that all are restarted")
    parser.add_argument("--stops", type=int, default=4, help="term: how many")
    parser.add_argument("--calm", type=float, default=2, help="seconds between two restarts, after all are in sync")
    parser.add_argument("--speed", action="store_true", help="term: a gap of 200 ms is a failure")
    arguments = parse(parser, SCENARIOS)
    arguments.clients = arguments.clients.split(",")
    if unknown := set(arguments.clients) - set(CLIENTS):
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    run_scenarios("rolling", arguments, arguments.scenarios or SCENARIOS, Run)


if __name__ == "__main__":
    main()
