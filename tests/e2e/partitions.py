#!/usr/bin/env python3
"""Many partitions in few descriptors: created, some written to, restarted cleanly and after a kill.

usage: tests/e2e/partitions.py [partitions]      default 2000; the binary: $MILLRACE_BIN, else build/release/millrace

What was never written has nothing on disk; a clean start opens nothing; a kill loses nothing; descriptors stay below a low
limit throughout. No times are judged here: bench/partitions prints them.
"""

import os
import pathlib
import resource
import sys
import tempfile

from harness import DELETE_TOPICS, Broker, Checks, Connection, array, batch, i32, text

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
EACH = 100  # partitions of a topic
WRITTEN = 400
DESCRIPTORS = 256
checks = Checks()


def partitions(broker):
    return sorted(p.name for p in broker.directory.iterdir()
                  if p.is_dir() and p.name.startswith("many") and not p.name.endswith("-delete"))


def descriptors(broker):
    return len(os.listdir(f"/proc/{broker.process.pid}/fd"))


def open_logs(broker):
    """Files of partitions that are open."""
    found = 0
    for fd in pathlib.Path(f"/proc/{broker.process.pid}/fd").iterdir():
        try:
            found += "/many" in os.readlink(fd)
        except OSError:
            pass
    return found


def spread(count):
    """(topic, partition) of those that are written to."""
    return [(f"many{i * 7 % (COUNT // EACH)}", i * 7 // (COUNT // EACH) % EACH) for i in range(count)]


def main():
    with tempfile.TemporaryDirectory() as folder:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS * 2, DESCRIPTORS * 2))
        broker = Broker(folder)
        with broker:
            run(broker)
    checks.finish()


def read_all(broker, expected, what):
    wrong = []
    with Connection(broker.port) as c:
        for (topic, partition), values in expected.items():
            got = [v for _, v in c.read_values(topic, 0, partition)]
            if got != values:
                wrong.append((topic, partition, got, values))
    checks.that(f"{what}: every record is there", not wrong, wrong[:3])


def write(broker, expected, names, what):
    with Connection(broker.port) as c:
        for topic, partition in names:
            value = b"%s of %s-%d" % (what, topic.encode(), partition)
            error, offset = c.produce(topic, batch([value]), partition)[:2]
            row = expected.setdefault((topic, partition), [])
            if (error, offset) != (0, len(row)):
                checks.that(f"produce {what!r} to {topic}-{partition}", False, (error, offset, len(row)))
                return
            row.append(value)


def run(broker):
    broker.start()
    with Connection(broker.port, timeout=60) as c:
        errors = [c.create_topic(f"many{t}", EACH) for t in range(COUNT // EACH)]
    checks.equal(f"{COUNT} partitions are created", errors, [0] * (COUNT // EACH))
    checks.equal("nothing of them is on disk", partitions(broker), [])
    checks.equal("... and none is open", open_logs(broker), 0)

    expected = {}
    names = list(dict.fromkeys(spread(WRITTEN)))
    write(broker, expected, names, b"first")
    checks.equal("only those written to are on disk", partitions(broker), sorted(f"{t}-{p}" for t, p in names))
    checks.that("every one of them says whose it is",
                all((broker.directory / n / "partition.metadata").exists() for n in partitions(broker)))
    checks.that(f"descriptors stay below {DESCRIPTORS * 2}", descriptors(broker) < DESCRIPTORS * 2, descriptors(broker))
    read_all(broker, expected, "while it runs")

    checks.equal("a clean stop: exit code 0", broker.stop(60), 0)
    mark = len(broker.log())
    broker.start()
    checks.equal("a clean start opens no log", open_logs(broker), 0)
    checks.that("... and scans none", "scanned" not in broker.log()[mark:], broker.log()[mark:][:500])
    with Connection(broker.port) as c:
        ends = {n: c.list_offset(n[0], -1, n[1])[2] for n in names}
        starts = {n: c.list_offset(n[0], -2, n[1])[2] for n in names}
        checks.that("the ends are known without opening one",
                    set(ends.values()) == {1} and set(starts.values()) == {0} and open_logs(broker) == 0)
    read_all(broker, expected, "after a clean restart")
    write(broker, expected, names[: len(names) // 2], b"second")

    broker.kill()
    broker.start()
    read_all(broker, expected, "after kill -9")
    checks.that(f"descriptors stay below {DESCRIPTORS * 2}", descriptors(broker) < DESCRIPTORS * 2, descriptors(broker))
    checks.equal("a kill makes no directories", partitions(broker), sorted(f"{t}-{p}" for t, p in names))
    fresh = [n for n in spread(WRITTEN * 2) if n not in expected][:50]
    write(broker, expected, [*fresh, *names[:50]], b"third")
    checks.equal("a clean stop after that: exit code 0", broker.stop(60), 0)
    broker.start()
    read_all(broker, expected, "after another clean restart")
    broker.kill()
    broker.start()
    read_all(broker, expected, "after a kill of a broker that only read")

    topic = names[0][0]
    with Connection(broker.port) as c:
        c.request(DELETE_TOPICS, 1, array([text(topic)]) + i32(10000))
        checks.equal("a topic is created anew under its old name", c.create_topic(topic, EACH), 0)
        old = next(n for n in names if n[0] == topic)
        checks.equal("... and holds nothing of the old one", c.read_values(topic, 0, old[1]), [])
        checks.equal("... and takes records", c.produce(topic, batch([b"anew"]), old[1])[:2], (0, 0))
    broker.kill()
    broker.start()
    with Connection(broker.port) as c:
        checks.equal("... which a kill keeps", c.read_values(topic, 0, old[1]), [(0, b"anew")])

    # A manifest that says more than the disk holds.
    checks.equal("a clean stop: exit code 0", broker.stop(60), 0)
    victim = next(n for n in names if n[0] != topic)
    (broker.directory / f"{victim[0]}-{victim[1]}").rename(pathlib.Path(broker.folder) / "taken")
    broker.start()
    with Connection(broker.port) as c:
        error = c.produce(victim[0], batch([b"lost"]), victim[1])[0]
        checks.that("a written partition whose directory is gone is not taken for an empty one", error != 0, error)
    broker.stop(60)


main()
