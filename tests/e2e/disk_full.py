#!/usr/bin/env python3
"""Fills a broker's disk, by producing and from outside, and watches what still works.

With the default floor (log.dirs.free.bytes.min=-1) producers are refused with KAFKA_STORAGE_ERROR before the disk is full,
while reading, metadata, group offsets and deletion go on. Without a floor (0) the disk really is full: nothing may crash, and
everything must come back by itself. In both: writing works again within 10 s after there is room, without a restart, and
nothing acknowledged is lost, also after a kill.

The disk is an ext4 file system on a loop device (root). usage: tests/e2e/disk_full.py [--megabytes 96] [--rounds 1]
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import loop_image
from disk_client import REQUEST_TIMED_OUT, STORAGE_ERROR, Acked, create_topic, delete_topic, metadata
from harness import Broker, Checks, Connection, batch, eventually

CHUNK = 1 << 18


def fill(path, leave):
    """Writes a file from outside until only `leave` bytes are free."""
    with path.open("wb") as f:
        while True:
            status = os.statvfs(path.parent)
            free = status.f_bavail * status.f_frsize
            size = min(4 << 20, free - leave)
            if size <= 0 and leave > 0:
                break
            try:
                f.write(b"\0" * max(size, 4096))
                f.flush()
            except OSError:
                break
        try:
            os.fsync(f.fileno())
        except OSError:
            pass
    return time.monotonic()


def share_of_good(count, attempt):
    good = 0
    for i in range(count):
        try:
            good += bool(attempt(i))
        except (OSError, EOFError, RuntimeError):
            pass
    return good / count


def meanwhile(checks, name, port, first_value):
    """What must work while producers are refused."""
    with Connection(port) as c:
        checks.that(f"{name}: fetch works", share_of_good(100, lambda i: c.fetch("kept", 0, size=4096)["records"] or
                                                          first_value is None) >= 0.99)
        checks.that(f"{name}: metadata works", share_of_good(100, lambda i: metadata(c, "kept")[0][2] == 1) >= 0.99)


def write_again(checks, name, acked, begin, topic="kept"):
    """Producing works within 10 s after `begin`."""
    works = eventually(lambda: acked.produce(topic)[0] == 0, 15, 0.05)
    took = time.monotonic() - begin
    checks.that(f"{name}: writing works {took:.1f} s after there is room", works and took < 10)


def refusals(hard):
    """The codes that are true: without a floor the disk takes what fits of a write, which is then in doubt."""
    return (STORAGE_ERROR, REQUEST_TIMED_OUT) if hard else (STORAGE_ERROR,)


def refused(checks, name, acked, begin, topic="kept", seconds=1.0, hard=False):
    """The next refusal comes within `seconds` after `begin`, with a code that is true; its message."""
    while True:
        error, message = acked.produce(topic, size=4000)
        if error != 0:
            break
        if time.monotonic() - begin > 20:
            break
    took = time.monotonic() - begin
    checks.that(f"{name}: refused {took:.2f} s after the disk was full", error in refusals(hard) and took <= seconds,
                f"error {error}, {message}")
    return message


def run(checks, folder, name, megabytes, floor):
    image = loop_image.Image(folder, name, megabytes)
    settings = [f"log.dirs.free.bytes.min={floor}", "log.segment.bytes=4194304", "offsets.topic.num.partitions=4",
                "group.initial.rebalance.delay.ms=0"]
    broker = Broker(folder, name, image.path / "data", settings).start()
    acked = Acked(broker.port)
    hard = floor == 0
    with Connection(broker.port) as c:
        c.create_topic("kept")
        c.create_topic("bulk")
        acked.produce("kept")
        c.once_loaded(lambda: c.find_coordinator("g"), 20)
        checks.equal(f"{name}: an offset is committed", c.once_loaded(lambda: c.commit_offset("g", "kept", 1), 20), 0)

        # Filled by producers.
        chunk = batch([b"x" * CHUNK])
        while acked.send("bulk", 0, chunk)[0] == 0:
            pass
        error, message, _ = acked.send("bulk", 0, chunk)
        checks.that(f"{name}, by producing: refused", error in refusals(hard), f"error {error}, {message}")
        if not hard:
            checks.that(f"{name}: the message says why", "bytes free" in message and str(image.path) in message, message)
            checks.equal(f"{name}: the floor is kept", image.free_bytes() > 0, True)
        meanwhile(checks, f"{name}, by producing", broker.port, None)
        if not hard:
            checks.that(f"{name}: offsets are committed",
                        share_of_good(100, lambda i: c.commit_offset("g", "kept", i) == 0) >= 0.99)
            error, why = create_topic(c, "more")
            checks.that(f"{name}: a new topic is refused with the reason", error == STORAGE_ERROR and why and "free" in why,
                        f"error {error}, {why}")
        began = time.monotonic()
        checks.equal(f"{name}: a topic is deleted on the full disk", delete_topic(c, "bulk"), 0)
        write_again(checks, f"{name}, topic deleted", acked, began)

        # Filled from outside.
        outside = image.path / "outside"
        full_at = fill(outside, 0 if hard else 1 << 20)
        refused(checks, f"{name}, from outside", acked, full_at, seconds=1.0 if not hard else 20.0, hard=hard)
        meanwhile(checks, f"{name}, from outside", broker.port, acked.records["kept", 0][0][1])
        if hard:  # a coordinator may be refused, too; it comes back by itself
            with Connection(broker.port) as once:
                once.once_loaded = lambda ask, seconds=0: ask()
                codes = {once.commit_offset("g", "kept", 2) for _ in range(20)}
            checks.that(f"{name}: a coordinator without room answers what clients try again", codes <= {0, 14, 15, 16}, codes)
        else:
            checks.that(f"{name}, from outside: offsets are committed",
                        share_of_good(100, lambda i: c.commit_offset("g", "kept", i) == 0) >= 0.99)
        checks.equal(f"{name}: health is good on a full disk", broker.get("/health")[0], 200)
        outside.unlink()
        began = time.monotonic()
        write_again(checks, f"{name}, file removed", acked, began)
        checks.that(f"{name}: offsets are committed again",
                    eventually(lambda: c.commit_offset("g", "kept", 7) == 0, 10, 0.1))
        checks.equal(f"{name}: a topic is created again", eventually(lambda: create_topic(c, "later")[0] in (0, 36), 10, 0.2), True)
        checks.equal(f"{name}: the broker never ended", broker.process.poll(), None)
    broker.kill()
    broker.start()
    with Connection(broker.port) as c:
        wrong = acked.missing(c)
        checks.that(f"{name}: all {acked.count()} acknowledged records are there after a kill", not wrong, wrong)
        checks.equal(f"{name}: the committed offset is there", c.committed_offset("g", "kept")[:2], (0, 7))
    checks.equal(f"{name}: clean stop", broker.stop(), 0)

    # Started on a full disk.
    full_at = fill(image.path / "outside", 0)
    broker.spawn()
    time.sleep(1)
    (image.path / "outside").unlink()
    checks.that(f"{name}: a broker started on a full disk serves when there is room",
                eventually(lambda: broker.process.poll() is None and broker.answers(), 20), broker.log()[-1500:])
    acked.connection = None
    write_again(checks, f"{name}, started full", acked, time.monotonic())
    broker.stop()
    image.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    loop_image.private_or_skip("disk full")
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="millrace-disk-full-") as folder:
        for number in range(arguments.rounds):
            for name, floor in (("floor", -1), ("no-floor", 0)):
                with checks.group(f"{name} {number}"):
                    run(checks, pathlib.Path(folder), f"{name}{number}", arguments.megabytes, floor)
        for path in pathlib.Path(folder).iterdir():
            if path.is_dir() and os.path.ismount(path):
                os.system(f"umount -l {path}")
    checks.finish()


if __name__ == "__main__":
    main()
