#!/usr/bin/env python3
"""`millrace dev --brokers 3`: three brokers in one process. While idempotent producers (acks=all) and a consumer work, the broker
that leads is killed, stopped, paused and cut off by `millrace dev` commands and brought back; what clients saw is judged by
`millrace verify history`. Also: who answers commands, what they refuse, and where the data go.

usage: dev.py [--port BASE] [--keep]
Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/dev.py (see scripts/client_zoo).
"""

import argparse
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster_under_test import Questions  # noqa: E402
from harness import BINARY, OWN_ENVIRONMENT, Checks, Connection, eventually  # noqa: E402
from recorded_clients import History, Lonely, Reader, Writer  # noqa: E402

from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

TOPIC, PARTITIONS = "dev", 3
# A broker that stands still or is cut off answers nothing: clients are to notice that within seconds.
PATIENCE = {"request.timeout.ms": 2_000, "socket.timeout.ms": 3_000, "topic.metadata.refresh.interval.ms": 500,
            "reconnect.backoff.max.ms": 500}


class Dev:
    def __init__(self, folder, port, brokers=3, directory=None):
        self.folder, self.port, self.brokers, self.directory = folder, port, brokers, directory
        self.environment = {**OWN_ENVIRONMENT, "XDG_RUNTIME_DIR": str(folder), "TMPDIR": str(folder)}
        self.process, self.told = None, {}

    def start(self):
        command = [BINARY, "dev", "--brokers", str(self.brokers), "--port", str(self.port)]
        if self.directory:
            command += ["--directory", str(self.directory)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True,
                                            env=self.environment)
        self.told = {}
        for line in self.process.stdout:
            name, _, value = line.strip().partition("  ")
            self.told[name] = value.strip()
            if name == "stop":
                return True
        return False

    def stop(self, seconds=30):
        """The exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "killed: it did not end"

    def run(self, *arguments):
        """(exit code, standard output, standard error)"""
        done = subprocess.run([BINARY, "dev", *arguments], capture_output=True, text=True, timeout=70, env=self.environment)
        return done.returncode, done.stdout, done.stderr

    @property
    def servers(self):
        return self.told["bootstrap.servers"]


class Asked(Questions):
    def __init__(self, port):
        self.port = port

    def connect(self, timeout):
        return Connection(self.port, timeout)


class View:
    """The cluster as its brokers describe it. Which of them is asked matters: one that is cut off knows nothing new."""

    def __init__(self, dev):
        self.ports = {n: dev.port + n - 1 for n in range(1, dev.brokers + 1)}

    def partitions(self, without=None):
        """[(error, leader, epoch, replicas, isr, offline)] as a broker other than `without` says; empty if none answers."""
        for n, port in self.ports.items():
            if n == without:
                continue
            try:
                return Asked(port).metadata([TOPIC])["topics"][TOPIC][1]
            except (OSError, EOFError):
                continue
        return []

    def full(self):
        """Every broker says so."""
        views = [self.partitions(without=n) for n in self.ports]
        return all(len(v) == PARTITIONS and all(len(p[4]) == len(p[3]) == 3 and p[1] > 0 for p in v) for v in views)

    def leader(self, partition, without=None):
        """-1 if nobody says."""
        found = eventually(lambda: self.partitions(without), 10, 0.1)
        return found[partition][1] if found else -1


def trouble(checks, dev, view, writers, history, name, partition, begin, end, hold, lonely=False):
    """Does something to the leader of a partition, for a while, and undoes it."""
    with checks.group(name):
        leader = view.leader(partition)
        checks.equal(f"{name} {leader}", dev.run(begin[0], str(leader), *begin[1:])[0], 0)
        began = time.monotonic()
        if lonely:
            one = types.SimpleNamespace(host="127.0.0.1", port=dev.port + leader - 1, number=leader)
            alone = Lonely(history, one, TOPIC, partition)
            checks.that(f"{name}: it acknowledges nothing on its own", alone.send(4.0) != 0)
        on = eventually(lambda: all(w.answered[p] and w.answered[p][-1] > began + hold for w in writers for p in w.answered), 15, 0.05)
        checks.that(f"{name}: producing goes on without it", on)
        checks.that(f"{name}: another one leads", eventually(lambda: view.leader(partition, leader) not in (leader, -1), 5, 0.1),
                    view.partitions(leader))
        checks.equal(f"{name}: {end} {leader}", dev.run(end, str(leader))[0], 0)
        checks.that(f"{name}: it is in every ISR again", eventually(view.full, 20, 0.1), view.partitions())


def commands(checks, dev):
    code, out, _ = dev.run("status")
    checks.equal("status is answered without naming the directory", code, 0)
    lines = out.splitlines()
    checks.equal("a line for each broker", [line.split()[0] for line in lines[1:]], ["1", "2", "3"])
    checks.that("all run", all(" running " in line for line in lines[1:]), out)
    checks.equal("one is the controller", sum("(controller)" in line for line in lines), 1)
    for arguments, why in ((("kill", "4"), "no broker 4"), (("resume", "1"), "is running"), (("start", "1"), "is running")):
        code, _, error = dev.run(*arguments)
        checks.that(f"{' '.join(arguments)} is refused, saying why", code == 1 and why in error, (code, error))
    checks.equal("kill without a number is a usage error", dev.run("kill")[0], 2)
    checks.equal("kill two is a usage error", dev.run("kill", "two")[0], 2)
    other = Dev(dev.folder, dev.port + 10, 3, dev.directory)
    code, _, error = other.run("--brokers", "3", "--port", str(other.port), "--directory", str(dev.directory))
    checks.that("a second one in its directory is refused", code == 3 and "another process" in error, (code, error))


def run(checks, folder, port):
    dev = Dev(folder, port, 3, folder / "cluster")
    code, _, error = dev.run("status")
    checks.that("without one running a command says so", code == 3 and "no `millrace dev` runs" in error, (code, error))
    code, _, error = dev.run("kill", "1", "--directory", str(folder))
    checks.that("also for a directory", code == 3 and str(folder) in error, (code, error))
    try:
        began = time.monotonic()
        if not checks.that("three brokers start", dev.start(), (folder / "log").read_text()[-1500:]):
            return
        print(f"# started in {time.monotonic() - began:.1f} s")
        checks.equal("bootstrap.servers", dev.servers, ",".join(f"127.0.0.1:{port + i}" for i in range(3)))
        with checks.group("commands"):
            commands(checks, dev)
        view = View(dev)
        admin = AdminClient({"bootstrap.servers": dev.servers, "log_level": 0})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(20)
        checks.that("a topic has three replicas by default", eventually(view.full, 20, 0.1), view.partitions())

        history = History(folder / "history")
        writers = [Writer(f"w{i}", dev, history, TOPIC, PARTITIONS, 0.005, PATIENCE) for i in range(2)]
        reader = Reader("r", dev, history, TOPIC, PARTITIONS)
        for one in [*writers, reader]:
            one.start()
        checks.that("writers are answered", eventually(lambda: all(all(w.answered.values()) for w in writers), 20))
        for number, (name, begin, end, hold, lonely) in enumerate((
                ("kill", ["kill"], "start", 1, False), ("stop", ["stop"], "start", 1, False),
                ("pause", ["pause"], "resume", 2, False), ("isolate", ["isolate"], "heal", 2, True),
                ("isolate with clients", ["isolate", "--clients"], "heal", 2, False))):
            trouble(checks, dev, view, writers, history, name, number % PARTITIONS, begin, end, hold, lonely)

        with checks.group("the paused one is killed"):
            leader = view.leader(0)
            checks.equal("pause", dev.run("pause", str(leader))[0], 0)
            checks.that("status shows it", " paused " in dev.run("status")[1].splitlines()[leader])
            checks.equal("kill", dev.run("kill", str(leader))[0], 0)
            checks.that("status shows it", " stopped " in dev.run("status")[1].splitlines()[leader])
            checks.equal("start", dev.run("start", str(leader))[0], 0)
            checks.that("it is in every ISR again", eventually(view.full, 20, 0.1), view.partitions())

        checks.equal("records still on their way", sum(w.finish() for w in writers), 0)
        checks.equal("errors that writers saw", [e for w in writers for e in w.errors][:3], [])
        reached = reader.finish()
        checks.that("the reader reaches the ends", reached)
        history.judge(checks, "all of it", reached)
        print(f"# {sum(w.acknowledged for w in writers)} records acknowledged, longest pauses "
              f"{', '.join(f'{max(w.gap(p, 0, 1e12) for p in range(PARTITIONS)):.1f} s' for w in writers)}")
        log = (folder / "log").read_text()
        checks.that("lines of the log say whose they are", all(f"broker-{n} " in log for n in (1, 2, 3)))
        checks.equal("SIGTERM ends it cleanly", dev.stop(), 0)
        checks.equal("each broker stopped cleanly", (folder / "log").read_text().count("stopped cleanly") >= 3, True)

        with checks.group("the directory keeps the data"):
            code, _, error = dev.run("--port", str(port), "--directory", str(dev.directory))
            checks.that("fewer brokers than have data are refused", code == 1 and "at least as many brokers" in error, (code, error))
            checks.that("they start again", dev.start())
            again = Reader("again", dev, History(folder / "again"), TOPIC, PARTITIONS)
            again.start()
            checks.that("everything is read", again.finish())
            checks.equal("as much as before", again.at, reader.at)
            checks.equal("they stop again", dev.stop(), 0)
    finally:
        if dev.process and dev.process.poll() is None:
            dev.stop()

    with checks.group("one broker in a temporary directory"):
        alone = Dev(folder, port, 1)
        checks.that("starts", alone.start())
        directory = pathlib.Path(alone.told["data"].split()[0])
        checks.that("has a directory", (directory / "broker-1").is_dir(), directory)
        checks.that("which is not of other users", directory.stat().st_mode & 0o077 == 0)
        checks.equal("kill", alone.run("kill", "1")[0], 0)
        checks.equal("start", alone.run("start", "1")[0], 0)
        checks.equal("SIGTERM ends it", alone.stop(), 0)
        checks.that("the directory is gone", not directory.exists())
        checks.equal("no command finds it", alone.run("status")[0], 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=23_000, help="the first of the ports")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    arguments = parser.parse_args()
    checks = Checks()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="dev-"))
    try:
        run(checks, folder, arguments.port)
    finally:
        if checks.failed or arguments.keep:
            print(f"# logs are in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()


if __name__ == "__main__":
    main()
