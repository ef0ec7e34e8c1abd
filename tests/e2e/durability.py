#!/usr/bin/env python3
"""What is promised about records that were synced, and what is said about it.

usage: tests/e2e/durability.py      the binary: $MILLRACE_BIN, else build/release/millrace

Bit flips, shortened and missing files above and below the recorded durable ends, in both modes; flush.messages; damage met by
readers; what describe, the log and the metrics say.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from harness import BINARY, METADATA, Broker, Checks, Connection, array, batch, batches_of, eventually, text

checks = Checks()
STORAGE_ERROR, LEADER_NOT_AVAILABLE = 56, 5
NEVER = "log.flush.offset.checkpoint.interval.ms=3600000"  # what is synced is synced by group commit alone


def log_of(broker, topic):
    return sorted(p for p in (broker.directory / f"{topic}-0").iterdir() if p.suffix == ".log")[-1]


def flip(path, position):
    with path.open("r+b") as f:
        f.seek(position)
        byte = f.read(1)[0]
        f.seek(position)
        f.write(bytes([byte ^ 0x10]))


def create(broker, topic, **configs):
    with Connection(broker.port) as c:
        error = c.create_topic(topic, configs=configs or None)
        if error:
            raise RuntimeError(f"create {topic}: error {error}")


def produce(broker, topic, count, acks=-1):
    with Connection(broker.port) as c:
        return [c.produce(topic, batch([b"%d" % i + bytes(200)]), acks=acks)[:2] for i in range(count)]


def values(broker, topic):
    with Connection(broker.port) as c:
        return len(c.read_values(topic, 0))


def describe(broker, topic):
    out = subprocess.run([BINARY, "topic", "describe", topic, "-b", f"127.0.0.1:{broker.port}", "--output", "json"],
                         capture_output=True, text=True, timeout=60)
    return json.loads(out.stdout)[0] if out.stdout else {"stderr": out.stderr}


def metric(broker, name):
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+-]+)$", broker.get("/metrics")[1], re.M)
    return sum(float(v) for v in found)


def metadata(broker, topic):
    """(error, leader) of partition 0, Metadata 1."""
    with Connection(broker.port) as c:
        r = c.request(METADATA, 1, array([text(topic)]))
        r.array(lambda: (r.i32(), r.text(), r.i32(), r.text()))
        r.i32()
        topics = r.array(lambda: (r.i16(), r.text(), r.i8(), r.array(
            lambda: (r.i16(), r.i32(), r.i32(), r.array(r.i32), r.array(r.i32)))))
        return topics[0][3][0][0], topics[0][3][0][2]


def is_offline(broker, topic, what, *named):
    said = broker.log()
    line = next((x for x in reversed(said.splitlines()) if f"{topic}-0" in x and "offline" in x), "")
    checks.that(f"{what}: the log says which file", all(n in line for n in named), line or said[-800:])
    checks.equal("... produce answers KAFKA_STORAGE_ERROR", produce(broker, topic, 1)[0][0], STORAGE_ERROR)
    with Connection(broker.port) as c:
        checks.equal("... and fetch", c.fetch(topic, 0)["error"], STORAGE_ERROR)
    checks.equal("... Metadata: no leader", metadata(broker, topic), (LEADER_NOT_AVAILABLE, -1))
    checks.that("... the metric counts it", metric(broker, "millrace_offline_partitions") >= 1)
    partition = describe(broker, topic)["partitions"][0]
    checks.that("... describe shows it", "offline" in (partition["error"] or ""), partition)


def damage_below(broker, mode):
    """Everything was synced (in both modes): group commit, or flush.messages."""
    settings = {"durability": mode} if mode == "fsync" else {"durability": mode, "flush.messages": "1"}
    cases = {"flip": "a flipped bit", "short": "a shorter file", "segment": "a missing segment", "folder": "a missing directory"}
    for case in cases:
        create(broker, f"{mode}-{case}", **settings)
        checks.equal(f"{mode}, {case}: produced", [e for e, _ in produce(broker, f"{mode}-{case}", 10)], [0] * 10)
    create(broker, f"{mode}-healthy", **settings)
    produce(broker, f"{mode}-healthy", 5)
    time.sleep(0.5)  # the commit file is at most 50 ms behind
    broker.kill()
    flipped = log_of(broker, f"{mode}-flip")
    size = flipped.stat().st_size
    flip(flipped, size // 2)
    short = log_of(broker, f"{mode}-short")
    os.truncate(short, short.stat().st_size // 2)
    log_of(broker, f"{mode}-segment").unlink()
    shutil.rmtree(broker.directory / f"{mode}-folder-0")
    broker.start()
    is_offline(broker, f"{mode}-flip", f"{mode}, {cases['flip']}", flipped.name, "position")
    checks.equal("... and the file is as it was", flipped.stat().st_size, size)
    is_offline(broker, f"{mode}-short", f"{mode}, {cases['short']}", short.name, "position")
    is_offline(broker, f"{mode}-segment", f"{mode}, {cases['segment']}", f"{mode}-segment-0")
    is_offline(broker, f"{mode}-folder", f"{mode}, {cases['folder']}", f"{mode}-folder-0")
    checks.that("... the directory is not made anew", not (broker.directory / f"{mode}-folder-0").exists())
    checks.equal("other partitions serve", values(broker, f"{mode}-healthy"), 5)
    # A clean stop and start changes nothing about it.
    broker.stop()
    broker.start()
    checks.equal("after one more start too", produce(broker, f"{mode}-flip", 1)[0][0], STORAGE_ERROR)
    checks.equal("... and others go on", [e for e, _ in produce(broker, f"{mode}-healthy", 1)], [0])


def damage_above(broker):
    create(broker, "above", durability="replicated")
    produce(broker, "above", 10)
    time.sleep(0.3)
    broker.kill()
    path = log_of(broker, "above")
    size = path.stat().st_size
    flip(path, size - 20)
    broker.start()
    checks.equal("damage above the recorded end is a torn tail: cut", values(broker, "above"), 9)
    checks.equal("... and appends go on", [e for e, _ in produce(broker, "above", 1)], [0])


def missing_after_clean_stop(broker):
    create(broker, "gone")
    produce(broker, "gone", 3)
    checks.equal("a clean stop", broker.stop(), 0)
    shutil.rmtree(broker.directory / "gone-0")
    broker.start()
    is_offline(broker, "gone", "a directory missing after a clean stop", "gone-0")


def flush_messages(broker):
    create(broker, "flush", durability="replicated", **{"flush.messages": "1"})
    create(broker, "plain", durability="replicated")
    syncs = metric(broker, "millrace_sync_seconds_count")
    produce(broker, "plain", 20, acks=1)
    time.sleep(0.3)
    checks.equal("replicated: no sync for a reply", metric(broker, "millrace_sync_seconds_count"), syncs)
    produce(broker, "flush", 20, acks=1)
    checks.that("flush.messages=1: every acks=1 append was synced before its reply",
                metric(broker, "millrace_sync_seconds_count") >= syncs + 20)
    create(broker, "aged", durability="replicated", **{"flush.ms": "100"})
    syncs = metric(broker, "millrace_sync_seconds_count")
    produce(broker, "aged", 5)
    checks.that("flush.ms: synced when it is time",
                eventually(lambda: metric(broker, "millrace_sync_seconds_count") > syncs, 5))


def background_sync(folder):
    """replicated: dirty files are synced by the checkpoint."""
    with Broker(folder, "background", settings=["log.flush.offset.checkpoint.interval.ms=1000"]) as broker:
        broker.start()
        create(broker, "slow", durability="replicated")
        produce(broker, "slow", 10)
        time.sleep(4)
        broker.kill()
        path = log_of(broker, "slow")
        os.truncate(path, path.stat().st_size - 20)
        broker.start()
        is_offline(broker, "slow", "replicated, synced in the background: damage is damage", path.name)


def shown(broker):
    create(broker, "shown")
    create(broker, "shown-too", durability="replicated")
    produce(broker, "shown", 5)
    first, second = describe(broker, "shown"), describe(broker, "shown-too")
    checks.equal("describe shows the mode", (first.get("durability"), second.get("durability")), ("fsync", "replicated"))
    took = first["partitions"][0].get("fsync_us")
    checks.that("... and how long a sync takes", isinstance(took, int) and 0 < took < 10_000_000, took)
    checks.that("the start-up log says it for the directory",
                re.search(rf"{re.escape(str(broker.directory))}.*fdatasync.*\d+ us", broker.log()))
    checks.that("metrics: records per sync", metric(broker, "millrace_synced_records_total") >= 5)
    checks.that("nothing is left of the probe", not list(broker.directory.glob("*probe*")))


def cold_damage(broker):
    """Below the recovery point nobody looks at the start; a reader does."""
    create(broker, "cold", **{"segment.bytes": "1048576"})
    with Connection(broker.port) as c:
        for i in range(30):
            c.produce("cold", batch([b"%d" % i + bytes(100_000)]))
    broker.stop()
    path = sorted((broker.directory / "cold-0").glob("*.log"))[0]
    flip(path, path.stat().st_size // 2 + 1000)
    with path.open("rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    broker.start()
    seen, error = 0, 0
    with Connection(broker.port) as c:
        while seen < 30 and not error:
            answer = c.fetch("cold", seen)
            error = answer["error"]
            if error or not answer["records"]:
                break
            seen = batches_of(answer["records"])[-1]["last"] + 1
    checks.equal("a reader meets the damage", error, STORAGE_ERROR)
    checks.that("... behind what is healthy", 0 < seen < 11, seen)
    checks.that("... the log names file and position", re.search(rf"damaged.*{path.name}.*position \d+", broker.log()))
    checks.that("... a metric counts it", metric(broker, "millrace_damaged_batches_total") >= 1)
    with Connection(broker.port) as c:
        checks.equal("... what lies behind it is readable", c.fetch("cold", seen + 1)["error"], 0)
    checks.equal("... and appends go on", [e for e, _ in produce(broker, "cold", 1)], [0])


def main():
    with tempfile.TemporaryDirectory(prefix="millrace-durability-") as folder:
        with Broker(folder, settings=[NEVER]) as broker:
            broker.start()
            for what, run in (("shown", shown), ("fsync", lambda b: damage_below(b, "fsync")),
                              ("replicated", lambda b: damage_below(b, "replicated")), ("above", damage_above),
                              ("missing", missing_after_clean_stop), ("flush", flush_messages), ("cold", cold_damage)):
                with checks.group(what):
                    if broker.process.poll() is not None:
                        broker.start()
                    run(broker)
        with checks.group("background"):
            background_sync(folder)
    checks.finish()


if __name__ == "__main__":
    main()
