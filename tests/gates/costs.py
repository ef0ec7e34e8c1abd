#!/usr/bin/env python3
"""What requests cost a broker, counted and not timed, against the figures of figures.json: needs no quiet machine.

usage: costs.py [--update] [--only NAME,...] [--no-callgrind] [--figures FILE]
  instructions   of the broker's process for one request, under callgrind
  allocations, copied bytes, system calls   for one request, by counting_shim.c
  memory         live bytes of the heap for an idle partition and for an idle connection, by the same
Each is the difference of a long and a short run on one connection with one request under way, so that starting, connecting and
asking for metadata cancel out. A figure more than 3 % (or the entry's own `tolerance`) above the file's fails; one that is as
much below is worth an --update. Figures hold for the release build by the compiler they name. Instructions count those of the
C and C++ libraries, too, which choose among versions of memcpy and its like by the processor: on a machine with others than
those that the file names, instructions are shown and not compared; what is counted otherwise is.
"""
import argparse
import json
import mmap
import os
import pathlib
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import harness  # noqa: E402
from harness import Broker, Checks, Connection, eventually  # noqa: E402

TOLERANCE = 0.03
COUNTERS = ("allocations", "frees", "live", "moved", "calls", "waits", "receives", "sends", "writes", "reads", "syncs")
# How a request is asked for, and its short and long run. Values are not random, batches are the same every time.
KIB = ["--value-size", "1024", "--records", "1", "--acks", "1"]
REQUESTS = {
    "produce-1KiB": (["produce", "--topic", "one", *KIB], 200, 1200),
    "produce-16KiB": (["produce", "--topic", "one", "--batch-bytes", "16384", "--acks", "1"], 200, 1200),
    "produce-100-partitions": (["produce", "--topic", "hundred", *KIB, "--partitions-per-request", "100"], 30, 130),
    "fetch-1-partition": (["consume", "--topic", "one", "--from-beginning", "--no-session", "--partition-max-bytes", "1100"], 200, 1200),
    "fetch-100-partitions": (["consume", "--topic", "hundred", "--from-beginning", "--no-session", "--partition-max-bytes", "1100"], 20, 80),
    "fetch-session-64KiB": (["consume", "--topic", "one", "--from-beginning", "--partition-max-bytes", "65536"], 20, 120),
    "offset-commit": (["commits", "--topic", "one"], 200, 1200),
}
CALLGRIND_REQUESTS = ("produce-1KiB", "produce-16KiB", "produce-100-partitions", "fetch-1-partition", "offset-commit")
IDLE_PARTITIONS = 10_000
IDLE_CONNECTIONS = 500


def perf(broker, arguments, requests):
    one = [] if arguments[0] == "consume" else ["-k", "1", "-d", "1"]
    done = subprocess.run([harness.BINARY, "perf", *arguments, *one, "--requests", str(requests), "-b", f"127.0.0.1:{broker.port}",
                           "--timeout", "60", "--json"], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"perf {' '.join(arguments)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def prepare(broker):
    """The topics, written to once, so that logs are open and there is something to read."""
    # Syncs come by the clock: without them counts are the same every time.
    plain = {"durability": "replicated", "flush.ms": "600000"}
    with Connection(broker.port, timeout=120) as c:
        if c.create_topic("one", 1, configs=plain) or c.create_topic("hundred", 100, configs=plain):
            raise RuntimeError("the topics could not be created")
    perf(broker, ["produce", "--topic", "hundred", *KIB, "--partitions-per-request", "100"], 100)
    perf(broker, ["produce", "--topic", "one", *KIB], 2000)
    perf(broker, ["produce", "--topic", "one", "--batch-bytes", "16384", "--acks", "1"], 600)


class Counts:
    def __init__(self, path):
        path.write_bytes(b"\0" * 8 * 16)
        with path.open("r+b") as f:
            self.map = mmap.mmap(f.fileno(), 0)

    def read(self):
        return dict(zip(COUNTERS, struct.unpack_from(f"={len(COUNTERS)}q", self.map)))


def settled(counts):
    """The counters when nothing has changed for a moment."""
    before = counts.read()
    for _ in range(40):
        time.sleep(0.05)
        now = counts.read()
        if now["live"] == before["live"] and now["allocations"] - before["allocations"] < 50:
            return now
        before = now
    return before


def counted(folder, wanted, figures):
    shim, file = folder / "shim.so", folder / "counters"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-fno-builtin", "-o", shim, HERE / "counting_shim.c", "-ldl"], check=True)
    counts = Counts(file)
    with Broker(folder, "counted") as broker:
        broker.start(environment={"LD_PRELOAD": str(shim), "COUNTING_SHIM": str(file)})
        prepare(broker)
        for name, (arguments, short, long) in REQUESTS.items():
            if wanted and name not in wanted:
                continue
            perf(broker, arguments, short)  # the first time differs from the others
            runs = []
            for n in (short, long):
                before = settled(counts)
                perf(broker, arguments, n)
                after = settled(counts)
                runs.append({k: after[k] - before[k] for k in COUNTERS})
            each = {k: (runs[1][k] - runs[0][k]) / (long - short) for k in COUNTERS}
            figures[f"{name}: allocations"] = each["allocations"]
            figures[f"{name}: copied bytes"] = each["moved"]
            figures[f"{name}: system calls"] = each["calls"]
        if not wanted or "memory" in wanted:
            before = settled(counts)
            with Connection(broker.port, timeout=120) as c:
                for t in range(IDLE_PARTITIONS // 1000):
                    if c.create_topic(f"idle{t}", 1000):
                        raise RuntimeError("an idle topic could not be created")
            figures["memory: heap bytes an idle partition"] = (settled(counts)["live"] - before["live"]) / IDLE_PARTITIONS
            before = settled(counts)
            held = [Connection(broker.port) for _ in range(IDLE_CONNECTIONS)]
            for c in held:
                c.request(harness.API_VERSIONS, 0)
            figures["memory: heap bytes an idle connection"] = (settled(counts)["live"] - before["live"]) / IDLE_CONNECTIONS
            for c in held:
                c.socket.close()
            before, began = counts.read(), time.monotonic()
            time.sleep(2)
            figures["idle: waits a second"] = (counts.read()["waits"] - before["waits"]) / (time.monotonic() - began)
        broker.stop()


def callgrind(folder, wanted, figures):
    """One broker under callgrind; a dump after each run has the instructions since the one before."""
    with Broker(folder, "callgrind") as broker:
        out = folder / "callgrind.out"
        command = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--combine-dumps=no",
                   "--fair-sched=yes", harness.BINARY, "server"]
        for setting in broker.settings:
            command += ["--set", setting]
        with broker.log_path.open("ab") as log:
            broker.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                              env=harness.OWN_ENVIRONMENT)
        if not eventually(lambda: broker.process.poll() is not None or broker.answers(), 90, 0.1):
            raise RuntimeError(f"the broker does not answer under callgrind:\n{broker.log()[-1000:]}")
        number = 0

        def dumped():
            """Instructions since the last dump."""
            nonlocal number
            subprocess.run(["callgrind_control", "--dump", str(broker.process.pid)], check=True, capture_output=True, timeout=60)
            number += 1
            file = pathlib.Path(f"{out}.{number}")
            if not eventually(lambda: file.exists() and "totals:" in file.read_text()[-4000:], 30):
                raise RuntimeError(f"callgrind wrote no {file.name}")
            return int(re.search(r"^(?:totals|summary): (\d+)", file.read_text(), re.M).group(1))
        prepare(broker)
        dumped()
        for name in CALLGRIND_REQUESTS:
            if wanted and name not in wanted:
                continue
            arguments, short, long = REQUESTS[name]
            perf(broker, arguments, short)
            dumped()
            runs = []
            for n in (short, long):
                perf(broker, arguments, n)
                runs.append(dumped())
            figures[f"{name}: instructions"] = (runs[1] - runs[0]) / (long - short)
        broker.stop(60)


def environment():
    """What instruction counts depend on besides the sources."""
    version = subprocess.run(["c++", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    library = next((p.resolve().name for p in pathlib.Path("/usr/lib").glob("*-linux-gnu*/libstdc++.so.6")), "")
    flags = re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    known = set(flags.group(1).split()) if flags else set()
    return {"compiler": f"g++ {version}, {platform.machine()}", "libraries": f"{' '.join(platform.libc_ver())}, {library}",
            "processor": " ".join(f for f in ("sse4_2", "avx2", "erms", "fsrm", "bmi2", "rtm") if f in known)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--update", action="store_true")
    p.add_argument("--only", default="")
    p.add_argument("--no-callgrind", action="store_true")
    p.add_argument("--figures", type=pathlib.Path, default=HERE / "figures.json")
    o = p.parse_args()
    wanted = [w for w in o.only.split(",") if w]
    checks = Checks()
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with checks.group("counted requests"):
            counted(folder, wanted, figures)
        if not o.no_callgrind:
            if shutil.which("valgrind") is None:
                checks.that("valgrind is there", False)
            else:
                with checks.group("instructions"):
                    callgrind(folder, wanted, figures)
    here = environment()
    old = json.loads(o.figures.read_text()) if o.figures.exists() else {"figures": {}}
    same_machine = all(old.get(k) == v for k, v in here.items())
    if not same_machine and not o.update:
        print(f"instructions are not compared: counted with {', '.join(str(old.get(k)) for k in here)}; here {', '.join(here.values())}")
    if o.update:
        merged = {k: v for k, v in old["figures"].items() if wanted or o.no_callgrind}
        for key, value in figures.items():
            entry = {"value": round(value, 2)}
            if "tolerance" in old["figures"].get(key, {}):
                entry["tolerance"] = old["figures"][key]["tolerance"]
            merged[key] = entry
        o.figures.write_text(json.dumps({**here, "figures": merged}, indent=1) + "\n")
    else:
        for key, value in figures.items():
            entry = old["figures"].get(key)
            if entry is None:
                checks.that(f"{key} has a figure (--update)", False, f"{value:.1f}")
                continue
            was, tolerance = entry["value"], entry.get("tolerance", TOLERANCE)
            if key.endswith(": instructions") and not same_machine:
                checks.that(f"{key}: {value:.1f} (figure {was:.1f}, of another machine)", value > 0)
                continue
            # A count that was nearly zero may not become one.
            limit = was * (1 + tolerance) + 0.05
            checks.that(f"{key}: {value:.1f} (figure {was:.1f})", value <= limit, f"{value:.2f} is above {limit:.2f}")
            if value < was * (1 - tolerance) - 0.05:
                print(f"better: {key}: {value:.2f} instead of {was:.2f}; worth an --update")
        if not figures:
            checks.that("something was measured", False)
    for key, value in figures.items():
        if o.update:
            checks.that(f"{key}: {value:.1f}", True)
    checks.finish()


if __name__ == "__main__":
    main()
