#!/usr/bin/env python3
"""`millrace perf` against a broker: every load runs, counts what the broker has, and says what it cannot do. No figure is judged.

usage: perf.py
"""
import json
import os
import subprocess
import sys
import tempfile

import harness
from harness import Broker, Checks

checks = Checks()
SECONDS = ["--warmup", "0.2", "--seconds", "0.5"]


def perf(broker, *arguments, bootstrap=None):
    command = [harness.BINARY, "perf", *arguments, "-b", bootstrap or f"127.0.0.1:{broker.port}", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    try:
        return done.returncode, json.loads(done.stdout), done.stderr
    except json.JSONDecodeError:
        return done.returncode, {}, done.stderr


def loads(broker):
    pid = str(broker.process.pid)
    with checks.group("produce"):
        code, r, err = perf(broker, "produce", "--topic", "p", "--create-partitions", "4", "--records", "10", "--value-size",
                            "100", "-k", "3", "-d", "4", "--requests", "600", "--broker-pid", pid)
        checks.equal("produce ends well", (code, err), (0, ""))
        checks.that("at least as many answers as wanted", r["produce"]["requests"] >= 600, r["produce"]["requests"])
        checks.equal("ten records in a request", r["produce"]["records"], r["produce"]["requests"] * 10)
        checks.equal("no errors", r["produce"]["errors"], {})
        checks.that("quantiles ascend", 0 < r["produce"]["latency_us"]["p50"] <= r["produce"]["latency_us"]["p99_9"]
                    <= r["produce"]["latency_us"]["max"], r["produce"]["latency_us"])
        checks.that("the broker's CPU is told", r["broker_processes"][0]["cpu_s"] > 0, r["broker_processes"])
    with checks.group("consume"):
        code, r, err = perf(broker, "consume", "--topic", "p", "--from-beginning", "--until-end", "--verify", "--fetchers", "2")
        checks.equal("consume ends well", (code, err), (0, ""))
        read = r["fetch"]["records"]
        code, again, _ = perf(broker, "consume", "--topic", "p", "--from-beginning", "--until-end", "--no-session",
                              "--partition-max-bytes", "5000", "--consumers", "2")
        checks.equal("two consumers read twice as much", (code, again["fetch"]["records"]), (0, 2 * read))
        checks.that("all of it was read", read >= 6000, read)
    with checks.group("compressed, many partitions, idempotent"):
        for more in (["--compression", "zstd", "--records", "20"], ["--partitions-per-request", "4"], ["--idempotent"],
                     ["--acks", "0"], ["--acks", "1", "--batch-bytes", "16384"]):
            code, r, err = perf(broker, "produce", "--topic", "p", *SECONDS, *more)
            checks.equal(f"produce {' '.join(more)}", (code, err, r.get("produce", {}).get("errors")), (0, "", {}))
            checks.that("something was sent", r["produce"]["requests"] > 0)
        code, r, err = perf(broker, "consume", "--topic", "p", "--from-beginning", "--until-end", "--verify")
        checks.equal("what they wrote is sound", (code, err), (0, ""))
    with checks.group("both"):
        code, r, err = perf(broker, "both", "--topic", "b", "--create-partitions", "2", *SECONDS, "--rate", "200", "--consumers",
                            "2", "-k", "2")
        checks.equal("both ends well", (code, err), (0, ""))
        sent, timed = r["produce"]["requests"], r["fetch"]["end_to_end_us"]["count"]
        checks.that("the rate is kept, about", 50 <= sent <= 150, sent)
        checks.that("both consumers timed what was sent", sent <= timed <= 3 * sent, (sent, timed))
    with checks.group("commits, connections, group"):
        code, r, err = perf(broker, "commits", "--topic", "p", "-k", "2", *SECONDS)
        checks.equal("commits end well", (code, err, r["produce"]["errors"]), (0, "", {}))
        code, r, err = perf(broker, "connections", "--count", "50", "--seconds", "0.2", "--broker-pid", pid)
        checks.equal("connections end well", (code, err, r["connections"]), (0, "", 50))
        code, r, err = perf(broker, "group", "--topic", "p", "--members", "3")
        checks.equal("a group agrees", (code, err), (0, ""))
        checks.equal("after each change", [p["phase"] for p in r["phases"]],
                     ["first member", "3 members", "one joins", "one leaves"])


def refusals(broker):
    with checks.group("refusals"):
        code, _, err = perf(broker, "produce", "--topic", "nowhere", "--timeout", "1")
        checks.that("a topic that is not there", code == 4 and "nowhere" in err, (code, err))
        code, _, err = perf(broker, "produce", "--topic", "p", "--idempotent", "--acks", "1")
        checks.that("idempotence without acks=all", code == 2, (code, err))
        code, _, err = perf(broker, "produce", "--topic", "p", "--congestion", "none-such")
        checks.that("a congestion control that the machine lacks", code == 2 and "none-such" in err, (code, err))
        code, _, err = perf(broker, "produce", "--topic", "p", bootstrap="127.0.0.1:1", )
        checks.that("nobody listens", code == 3, (code, err))
        # An answer that is an error makes the measurement one of errors.
        code, r, err = perf(broker, "produce", "--topic", "small", "--create-partitions", "1", "--topic-config",
                            "max.message.bytes=500", "--requests", "5")
        checks.that("refused batches are counted", code == 5 and r["produce"]["errors"].get("MESSAGE_TOO_LARGE", 0) >= 5,
                    (code, r.get("produce", {}).get("errors"), err))


def main():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder, Broker(folder) as broker:
        broker.start()
        loads(broker)
        refusals(broker)
        checks.equal("the broker stops cleanly", broker.stop(), 0)
    checks.finish()


if __name__ == "__main__":
    sys.exit(main())
