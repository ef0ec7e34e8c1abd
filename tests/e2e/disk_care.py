#!/usr/bin/env python3
"""Damages stored files and looks at what finds it: `verify disk`, the background scrub, `disk repair`.

usage: tests/e2e/disk_care.py      the binary: $MILLRACE_BIN, else build/release/millrace
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile

from harness import BINARY, OWN_ENVIRONMENT, Broker, Checks, Connection, batch, batches_of, eventually

checks = Checks()
EXIT_DAMAGED, EXIT_FAILED = 6, 1
FAST_SCRUB = ["log.scrub.bytes.per.second=1073741824", "log.scrub.interval.ms=1000"]


def tool(*arguments):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, env=OWN_ENVIRONMENT, timeout=60)
    return done.returncode, done.stdout, done.stderr


def metric(broker, name):
    total = 0
    for line in broker.get("/metrics")[1].splitlines():
        if re.match(rf"{name}(\{{.*\}})? ", line):
            total += float(line.split()[-1])
    return total


def fill(broker, topic, count, size=100_000):
    with Connection(broker.port) as c:
        error = c.create_topic(topic, configs={"segment.bytes": "1048576"})
        if error:
            raise RuntimeError(f"create {topic}: {error}")
        for i in range(count):
            error = c.produce(topic, batch([b"%06d" % i + os.urandom(size)]))[0]
            if error:
                raise RuntimeError(f"produce to {topic}: {error}")


def segments(broker, topic):
    return sorted((broker.directory / f"{topic}-0").glob("*.log"))


def flip(path, position, bit=0):
    with path.open("r+b") as f:
        f.seek(position)
        byte = f.read(1)[0]
        f.seek(position)
        f.write(bytes([byte ^ (1 << bit)]))


def offsets_read(broker, topic, start, end):
    """Offsets of whole, sound batches that can be fetched; a refused one is stepped over."""
    out, at = [], start
    with Connection(broker.port) as c:
        while at < end:
            f = c.fetch(topic, at, size=1 << 20)
            found = [b for b in batches_of(f["records"])] if not f["error"] else []
            if any(not b["crc_ok"] for b in found):
                raise RuntimeError(f"bad bytes were served at {at}")
            out += [b["base"] for b in found if b["base"] >= at]
            at = found[-1]["last"] + 1 if found else at + 1
    return out


def scrub(folder):
    with Broker(folder, "scrub", settings=FAST_SCRUB) as broker:
        broker.start()
        fill(broker, "hurt", 60)
        checks.that("a pass over sound segments ends", eventually(lambda: metric(broker, "millrace_scrub_passes_total") >= 2))
        checks.that("it has read them", metric(broker, "millrace_scrubbed_bytes_total") > 4_000_000)
        checks.equal("and found nothing", metric(broker, "millrace_scrub_damaged_ranges_total"), 0)
        code, _, err = tool("verify", "disk", broker.directory)
        checks.that("verify disk refuses while a broker runs", code == EXIT_FAILED and "a broker uses" in err, (code, err))
        code, out, err = tool("verify", "disk", "--force", broker.directory)
        checks.that("unless told to look anyway", code == 0, (code, out[-300:], err))

        closed = segments(broker, "hurt")[:-1]
        checks.that("there are closed segments", len(closed) >= 4, closed)
        for i, path in enumerate(closed):
            flip(path, 100_000 + 7777 * i, i % 8)   # in the first or second batch
        found = eventually(lambda: metric(broker, "millrace_scrub_damaged_ranges_total") >= len(closed))
        checks.that(f"the scrub finds each of {len(closed)} flipped bits", found,
                    metric(broker, "millrace_scrub_damaged_ranges_total"))
        checks.equal("and counts them by partition", metric(broker, "millrace_damaged_ranges"), len(closed))
        log = broker.log()
        checks.that("the log names every file", all(f"{p}: " in log for p in closed), log[-800:])
        got = set(offsets_read(broker, "hurt", 0, 60))
        checks.that("what is sound is served", len(got) == 60 - len(closed), sorted(set(range(60)) - got))

        fill(broker, "index", 40)
        index = segments(broker, "index")[0].with_suffix(".index")
        before = eventually(lambda: index.exists() and index.read_bytes())
        if checks.that("a closed segment has its index", before):
            flip(index, 7)
            checks.that("the scrub makes a damaged index anew",
                        eventually(lambda: metric(broker, "millrace_scrub_rebuilt_indexes_total") >= 1))
            checks.that("as it was", eventually(lambda: index.read_bytes() == before))
        checks.equal("it stops cleanly", broker.stop(), 0)

        code, out, _ = tool("verify", "disk", "--output", "json", broker.directory)
        report = json.loads(out)
        damaged = {f["path"] for f in report["findings"] if f["severity"] == "damage"}
        checks.equal("verify disk has its own exit code for damage", code, EXIT_DAMAGED)
        checks.equal("and names the same files", sorted(damaged), sorted(str(p) for p in closed))
        checks.equal("with the partitions it saw", len([p for p in report["partitions"] if p["topic"] == "hurt"]), 1)


def repair(folder):
    with Broker(folder, "repair") as broker:
        broker.start()
        for topic in ("skip", "drop", "keep"):
            fill(broker, topic, 30)
        broker.stop()
        code, out, _ = tool("verify", "disk", "--records", broker.directory)
        checks.that("a stopped broker's directory is sound", code == 0, out[-500:])
        for topic in ("skip", "drop"):
            flip(segments(broker, topic)[1], 100_200, 2)
        second = int(segments(broker, "skip")[1].stem)
        code, out, _ = tool("verify", "disk", broker.directory)
        checks.that("two damages are found", code == EXIT_DAMAGED and out.count("DAMAGE") == 2, out[-600:])
        partition = broker.directory / "skip-0"
        code, out, err = tool("disk", "repair", partition)
        checks.equal("a repair wants to know what to give up", code, 2)
        code, out, _ = tool("disk", "repair", partition, "--skip-damaged", "--dry-run")
        checks.that("a dry run says which offsets", code == 0 and f"offsets {second + 1} to {second + 1} (1 offsets)" in out, out)
        checks.equal("and changes nothing", list(partition.glob("*.lost")), [])
        code, out, err = tool("disk", "repair", partition, "--skip-damaged", "--yes")
        checks.that("the damaged bytes are given up", code == 0 and f"offsets {second + 1} to {second + 1}" in out, out + err)
        checks.equal("and kept aside", [f.stat().st_size > 100_000 for f in partition.glob("*.lost")], [True])
        code, out, err = tool("disk", "repair", broker.directory / "drop-0", "--drop-from-damage", "--yes")
        checks.that("a log can end before the damage", code == 0 and f"ends at offset {second + 1}" in out, out + err)
        code, out, err = tool("disk", "repair", broker.directory / "keep-0", "--skip-damaged", "--yes")
        checks.that("a sound partition is left alone", code == 0 and "nothing was changed" in out, out + err)
        code, out, _ = tool("verify", "disk", broker.directory)
        checks.that("then verify disk finds no damage", code == 0, out[-800:])
        broker.start()
        code, _, err = tool("disk", "repair", partition, "--skip-damaged", "--yes")
        checks.that("no repair while a broker runs", code == EXIT_FAILED and "a broker uses" in err, err)
        checks.equal("the broker serves the rest", offsets_read(broker, "skip", 0, 30), [o for o in range(30) if o != second + 1])
        with Connection(broker.port) as c:
            checks.equal("the shortened log goes on where it ends", c.produce("drop", batch([b"more"]))[:2], (0, second + 1))
            checks.equal("the one with a hole at its end", c.produce("skip", batch([b"more"]))[:2], (0, 30))
        broker.kill()
        broker.start()
        checks.equal("also after a kill", offsets_read(broker, "skip", 0, 31), [o for o in range(31) if o != second + 1])
        broker.stop()

        flip(broker.directory / "keep-0" / "partition.metadata", 14)
        (broker.directory / "meta.properties").write_text("version=9\n")
        code, out, _ = tool("verify", "disk", broker.directory)
        checks.that("small files are checked too", code == EXIT_DAMAGED and "meta.properties" in out
                    and "partition.metadata" in out, out[-600:])
        checks.equal("a directory that is not there", tool("verify", "disk", pathlib.Path(folder) / "none")[0], 4)


def main():
    with tempfile.TemporaryDirectory(prefix="millrace-care-") as folder:
        for part in (scrub, repair):
            with checks.group(part.__name__):
                part(folder)
    checks.finish()


if __name__ == "__main__":
    main()
