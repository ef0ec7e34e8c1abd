#!/usr/bin/env python3
"""Makes the file operations of a broker fail, one by one, and watches what it does about it.

A small library (disk_shim.c, compiled here) is preloaded into the broker and makes chosen operations fail. The broker has two
data directories; a producer writes to four partitions with acks=all all the time. The rules for a failing medium (EIO on
write, on fsync, on a rename, on a directory's sync, at the n-th operation for random n):

- the directory is fenced within a second: its partitions answer KAFKA_STORAGE_ERROR, /health says so, DescribeLogDirs too;
- nothing in it is acknowledged after the failure, though the next fsync would succeed;
- the other directory goes on;
- after a restart everything acknowledged is there.

And: ENOSPC and short writes fence nothing, a slow disk does not stop what does not wait for it, a broker whose only directory
fails ends with exit code 5, one that cannot read a directory at its start serves the others and makes no partition anew.

usage: tests/e2e/disk_fail.py [--rounds 12] [--seed N]
"""

import argparse
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from disk_client import REQUEST_TIMED_OUT, STORAGE_ERROR, Acked, create_topic, log_dirs, metadata, read_all
from harness import Broker, Checks, Connection, array, batch, eventually, i8, i16, i32, text

EIO, ENOSPC, EROFS = 5, 28, 30
PARTITIONS = 4
FENCE_SECONDS = 1.0


class Shimmed(Broker):
    """A broker with the library in it."""

    def __init__(self, folder, name, library, directories):
        super().__init__(folder, name, ",".join(map(str, directories)),
                         ["log.segment.bytes=1048576", "offsets.topic.num.partitions=2", "log.dirs.free.bytes.min=0",
                          "log.flush.offset.checkpoint.interval.ms=1000"])
        self.control = pathlib.Path(folder) / f"{name}.control"
        self.notes = pathlib.Path(f"{self.control}.log")
        self.control.write_text("")
        self.preload = {"LD_PRELOAD": str(library), "DISK_SHIM": str(self.control)}

    def start(self, **how):
        return super().start(environment=self.preload, **how)

    def rule(self, *lines):
        """The operations that fail from now on."""
        temporary = self.control.with_suffix(".tmp")
        temporary.write_text("\n".join(lines) + "\n" if lines else "")
        temporary.rename(self.control)
        self.notes.unlink(missing_ok=True)

    def hit_at(self):
        """When the rule first did something, or None."""
        return float(self.notes.read_text().split()[0]) if self.notes.exists() else None


def partitions_in(directory, topic):
    return {int(p.name.rpartition("-")[2]) for p in directory.glob(f"{topic}-*") if p.name.rpartition("-")[2].isdigit()}


def await_refusal(acked, topic, victims, others, broker, seconds):
    """Produces everywhere until each victim was refused with 56; (when, codes seen, acks of victims after the hit)."""
    refused, codes, late, deadline = {}, set(), 0, time.monotonic() + seconds
    while len(refused) < len(victims) and time.monotonic() < deadline:
        for p in sorted(victims | others):
            sent = time.monotonic()
            error, _ = acked.produce(topic, p, random.randrange(50, 3000))
            hit = broker.hit_at()
            if p in victims:
                codes.add(error)
                if error == STORAGE_ERROR:
                    refused.setdefault(p, time.monotonic())
                if error == 0 and hit is not None and sent > hit + 0.02:
                    late += 1
    return refused, codes, late


def fail_once(checks, folder, library, number, kind):
    """One broker, one failure in its second directory."""
    name = f"{number} {kind}"
    home = folder / f"fail{number}"
    home.mkdir()
    first, second = home / "a", home / "b"
    broker = Shimmed(home, "broker", library, [first, second]).start()
    acked = Acked(broker.port)
    with Connection(broker.port) as c:
        create_topic(c, "t", PARTITIONS)
        for p in range(PARTITIONS):
            eventually(lambda p=p: acked.produce("t", p)[0] == 0)
    victims, others = partitions_in(second, "t"), partitions_in(first, "t")
    if not checks.that(f"{name}: partitions lie in both directories", victims and others, (victims, others)):
        return
    n = random.randrange(1, 40)
    part = {"sync": f"{second}/t-", "write": f"{second}/t-", "directory-sync": f"{second}", "rename": f"{second}/",
            "read-only": f"{second}/t-"}[kind]
    operation = {"directory-sync": "sync", "read-only": "write"}.get(kind, kind)
    n = {"rename": random.randrange(1, 3)}.get(kind, n)
    broker.rule(f"{operation} {part} {n} 1 error {EROFS if kind == 'read-only' else EIO}")
    refused, codes, late = await_refusal(acked, "t", victims, others, broker, 20)
    hit = broker.hit_at()
    if not checks.that(f"{name}: the {n}. operation failed and every partition there is refused", hit and len(refused) == len(victims),
                       f"hit {hit}, refused {refused}, codes {codes}"):
        broker.kill()
        return
    took = max(refused.values()) - hit
    checks.that(f"{name}: fenced {took * 1000:.0f} ms after the failure", took <= FENCE_SECONDS)
    checks.that(f"{name}: no acknowledgement after the failure", late == 0, late)
    checks.that(f"{name}: only codes that are true", codes <= {0, STORAGE_ERROR, 7}, codes)
    with Connection(broker.port) as c:
        status, body = broker.get("/health")
        checks.that(f"{name}: /health says it", status == 503 and str(second) in body, f"{status} {body}")
        checks.that(f"{name}: DescribeLogDirs says it", log_dirs(c) == {str(first): 0, str(second): STORAGE_ERROR}, log_dirs(c))
        for error, index, leader, offline in metadata(c, "t"):
            good = (error, leader, offline) == ((5, -1, [1]) if index in victims else (0, 1, []))
            checks.that(f"{name}: metadata of partition {index}", good, (error, leader, offline))
        for p in sorted(victims):
            checks.equal(f"{name}: fetch of partition {p} is refused", c.fetch("t", 0, p)["error"], STORAGE_ERROR)
        for p in sorted(others):
            checks.equal(f"{name}: partition {p} takes records", acked.produce("t", p)[0], 0)
            checks.that(f"{name}: partition {p} is read", len(read_all(c, "t", p)[0]) > 0)
        checks.equal(f"{name}: a topic is created in the other directory", create_topic(c, "u", 2)[0], 0)
        checks.that(f"{name}: ... and only there", not partitions_in(second, "u"))
    broker.rule()
    broker.kill()
    broker.start()
    with Connection(broker.port) as c:
        wrong = acked.missing(c)
        checks.that(f"{name}: all {acked.count()} acknowledged records are there after a restart", not wrong, wrong)
    checks.equal(f"{name}: clean stop", broker.stop(), 0)


def passing(checks, folder, library):
    """What is no failure of the medium fences nothing."""
    home = folder / "passing"
    home.mkdir()
    broker = Shimmed(home, "broker", library, [home / "a"]).start()
    acked = Acked(broker.port)
    with Connection(broker.port) as c:
        create_topic(c, "t", 2)
        eventually(lambda: acked.produce("t", 0)[0] == 0 and acked.produce("t", 1)[0] == 0)
        for name, rule in (("no space", f"write {home}/a/t-0 3 5 error {ENOSPC}"), ("short write", f"write {home}/a/t-0 2 1 short 37"),
                           ("no space for any file", f"write {home}/a/ 1 20 error {ENOSPC}"),
                           ("no space for new files", f"open {home}/a/t-0 1 6 error {ENOSPC}")):
            broker.rule(rule)
            codes = [acked.produce("t", 0, 3000)[0] for _ in range(60)]
            # What was written in part is in doubt: power may fail before its cut is on the disk.
            refusal = REQUEST_TIMED_OUT if name == "short write" else STORAGE_ERROR
            checks.that(f"{name}: refused or taken, nothing else", set(codes) <= {0, refusal}, set(codes))
            if not name.endswith("files"):
                checks.that(f"{name}: some were refused", refusal in codes, set(codes))
            broker.rule()
            checks.that(f"{name}: taken again", eventually(lambda: acked.produce("t", 0)[0] == 0, 10))
            checks.equal(f"{name}: health", broker.get("/health")[0], 200)
        # The metadata log waits for room, and goes on.
        broker.rule(f"write {home}/a/__cluster_metadata-0 1 1000000 error {ENOSPC}")
        c.send(19, 2, topic_request("later"))
        time.sleep(0.6)
        checks.equal("metadata log without room: records are taken", acked.produce("t", 1)[0], 0)
        with Connection(broker.port) as d:
            error, why = create_topic(d, "refused")
            checks.that("metadata log without room: changes are refused with the reason", error == STORAGE_ERROR and "full" in (why or ""),
                        f"{error} {why}")
        broker.rule()
        _, r = c.receive()
        r.i32()
        checks.equal("metadata log without room: what waited is done when there is some",
                     r.array(lambda: (r.text(), r.i16(), r.text()))[0][1], 0)
        checks.equal("and more", eventually(lambda: create_topic(c, "more")[0] in (0, 36), 5), True)
        # Slow: what does not wait for the disk does not wait.
        broker.rule(f"sync {home}/a/t-0 1 1000000 slow 400")
        began = time.monotonic()
        slow = Connection(broker.port)
        slow.send_produce("t", batch([b"slow"]), 0)
        for _ in range(50):
            metadata(c, "t")
        checks.that("slow fsync: metadata is answered meanwhile", time.monotonic() - began < 0.3, time.monotonic() - began)
        slow.receive()
        took = time.monotonic() - began
        checks.that(f"slow fsync: the acknowledgement waited {took * 1000:.0f} ms for it", took >= 0.4)
        slow.socket.close()
        broker.rule()
    broker.kill()
    broker.start()
    with Connection(broker.port) as c:
        wrong = acked.missing(c)
        checks.that(f"passing faults: all {acked.count()} acknowledged records are there", not wrong, wrong)
    checks.equal("passing faults: clean stop", broker.stop(), 0)


def topic_request(name):
    return array([text(name) + i32(1) + i16(1) + array([]) + array([])]) + i32(10000) + i8(0)


def only_directory(checks, folder, library):
    home = folder / "only"
    home.mkdir()
    broker = Shimmed(home, "broker", library, [home / "a"]).start()
    acked = Acked(broker.port)
    with Connection(broker.port) as c:
        create_topic(c, "t")
    eventually(lambda: acked.produce("t")[0] == 0)
    broker.rule(f"sync {home}/a/t-0 5 1 error {EIO}")
    began = time.monotonic()
    while broker.process.poll() is None and time.monotonic() - began < 15:
        acked.produce("t")
    checks.equal("the only directory failed: exit code", broker.process.poll(), 5)
    checks.that("the only directory failed: the log says so", "every data directory failed" in broker.log())
    broker.rule()
    broker.start()
    with Connection(broker.port) as c:
        checks.that("the only directory failed: everything acknowledged is there", not acked.missing(c))
    broker.stop()


def metadata_directory(checks, folder, library):
    """The metadata log's directory fails, the other lives: its partitions go on, changes are refused."""
    home = folder / "metadata"
    home.mkdir()
    first, second = home / "a", home / "b"
    broker = Shimmed(home, "broker", library, [first, second]).start()
    acked = Acked(broker.port)
    with Connection(broker.port) as c:
        create_topic(c, "t", PARTITIONS)
        for p in range(PARTITIONS):
            eventually(lambda p=p: acked.produce("t", p)[0] == 0)
        others = partitions_in(second, "t")
        broker.rule(f"sync {first}/__cluster_metadata 1 1 error {EIO}")
        c.send(19, 2, topic_request("x"))
        checks.that("metadata log failed: its directory is fenced", eventually(lambda: broker.get("/health")[0] == 503, 2))
        with Connection(broker.port) as d:
            checks.equal("metadata log failed: changes are refused", create_topic(d, "y")[0], STORAGE_ERROR)
            for p in sorted(others):
                checks.equal(f"metadata log failed: partition {p} of the other directory takes records", acked.produce("t", p)[0], 0)
                checks.that(f"metadata log failed: partition {p} is read", len(read_all(d, "t", p)[0]) > 0)
    broker.rule()
    broker.kill()
    broker.start()
    with Connection(broker.port) as c:
        checks.that("metadata log failed: everything acknowledged is there", not acked.missing(c))
    broker.stop()


def unreadable_at_start(checks, folder, library):
    home = folder / "start"
    home.mkdir()
    first, second = home / "a", home / "b"
    broker = Shimmed(home, "broker", library, [first, second]).start()
    acked = Acked(broker.port)
    with Connection(broker.port) as c:
        create_topic(c, "t", PARTITIONS)
        for p in range(PARTITIONS):
            eventually(lambda p=p: acked.produce("t", p)[0] == 0)
    victims, others = partitions_in(second, "t"), partitions_in(first, "t")
    broker.stop()

    def judge(what, code):
        acked.connection = None
        with Connection(broker.port) as c:
            for p in sorted(victims):
                checks.equal(f"{what}: partition {p}", acked.produce("t", p)[0], STORAGE_ERROR)
            for p in sorted(others):
                checks.equal(f"{what}: partition {p}", acked.produce("t", p)[0], 0)
            checks.that(f"{what}: no partition was made anew", partitions_in(first, "t") == others, partitions_in(first, "t"))
            checks.equal(f"{what}: DescribeLogDirs", log_dirs(c).get(str(second)), code)

    broker.rule(f"open {second}/meta.properties 1 1000 error {EIO}")
    broker.start()
    judge("unreadable at start", STORAGE_ERROR)
    broker.kill()
    broker.start()
    judge("unreadable again", STORAGE_ERROR)
    broker.stop()
    broker.rule()
    # Another disk, empty, in its place: the partitions are missed, not empty.
    second.rename(home / "away")
    broker.start()
    judge("replaced by an empty directory", 0)
    broker.stop()
    broker.start()
    judge("replaced, started again", 0)
    broker.stop()
    shutil.rmtree(second)
    (home / "away").rename(second)
    broker.start()
    with Connection(broker.port) as c:
        wrong = acked.missing(c)
        checks.that("the directory is back: everything is there", not wrong, wrong)
    broker.stop()
    broker.rule(f"open {first}/meta.properties 1 1000 error {EIO}")
    code, said = broker.run_to_end(environment=broker.preload)
    checks.that("the metadata log's directory cannot be read: the start fails and says why",
                code not in (0, "still running") and "holds the metadata log" in said, f"{code} {said[-500:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="failures of the medium, of random kinds and moments")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    random.seed(seed)
    print(f"seed {seed}", flush=True)
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="millrace-disk-fail-") as name:
        folder = pathlib.Path(name)
        library = folder / "disk_shim.so"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library),
                        str(pathlib.Path(__file__).resolve().parent / "disk_shim.c"), "-ldl", "-lpthread"], check=True)
        for what in (passing, only_directory, metadata_directory, unreadable_at_start):
            with checks.group(what.__name__):
                what(checks, folder, library)
        kinds = ["sync", "write", "directory-sync", "rename", "read-only", "sync"]
        for number in range(arguments.rounds):
            kind = kinds[number % len(kinds)]
            with checks.group(f"{number} {kind}"):
                fail_once(checks, folder, library, number, kind)
    checks.finish()


if __name__ == "__main__":
    main()
