"""What the Python programs of the zoo share: the reporting of checks, test data and waiting."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback

GROUP_RECORDS = 400
GROUP_PARTITIONS = 8
VICTIM_RECORDS = 10


class NotOffered(Exception):
    """The client has no such feature; the text says why."""


class Report:
    """Runs named checks and prints one JSON line for each."""

    def __init__(self, client, version):
        self.client, self.version = client, version
        parser = argparse.ArgumentParser()
        parser.add_argument("--bootstrap", required=True)
        parser.add_argument("--run-id", required=True)
        parser.add_argument("--only", default="", help="comma separated check names")
        parser.add_argument("--victim", nargs=2, metavar=("TOPIC", "GROUP"))
        self.args = parser.parse_args()
        self.only = set(filter(None, self.args.only.split(",")))
        self.lock = threading.Lock()

    def name(self, what):
        """A topic or group name of this run."""
        return f"zoo-{self.client}-{self.args.run_id}-{what}"

    def run(self, check, function):
        if self.only and check not in self.only:
            return
        start = time.monotonic()
        try:
            result, detail = "ok", function() or ""
        except NotOffered as reason:
            result, detail = "n/a", str(reason)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            result, detail = "fail", f"{type(error).__name__}: {error} (line {where.lineno})"
        line = {"client": self.client, "version": self.version, "check": check, "result": result,
                "detail": detail[:1000], "ms": int((time.monotonic() - start) * 1000)}
        with self.lock:
            print(json.dumps(line), flush=True)

    def run_together(self, checks):
        """Checks that mostly wait run side by side."""
        threads = [threading.Thread(target=self.run, args=check) for check in checks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def payloads():
    """Values of many sizes; every other one does not compress."""
    values = []
    for i, size in enumerate([0, 1, 7, 256, 1000, 1000, 10_000, 10_000, 100_000, 100_000]):
        if i % 2 == 0:
            values.append((b"millrace-%d " % i * (size // 8 + 1))[:size])
            continue
        state, noise = 12345 + i, bytearray()
        while len(noise) < size:
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            noise += (state >> 24).to_bytes(5, "big")
        values.append(bytes(noise[:size]))
    return values


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


def expect_equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {str(got)[:300]}, expected {str(want)[:300]}")


def expect_error(name, function):
    """Calls function, which must fail; returns the error's text, which must hold name."""
    try:
        function()
    except Exception as error:
        text = f"{type(error).__name__} {error}"
        if name.replace("_", "").lower() not in text.replace("_", "").replace(" ", "").lower():
            raise AssertionError(f"expected {name}, got {text}") from error
        return text
    raise AssertionError(f"expected {name}, but it succeeded")


def wait_until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.05)


class Seen:
    """Records that members of a group have processed and committed, and who holds how many partitions."""

    def __init__(self):
        self.lock = threading.Lock()
        self.values, self.assigned, self.errors = [], {}, []
        self.victim_done = False

    def add(self, values):
        with self.lock:
            self.values.extend(values)

    def hold(self, member, count):
        with self.lock:
            self.assigned[member] = count

    def balanced(self, members):
        with self.lock:
            if self.errors:
                raise AssertionError(self.errors[0])
            return (len(self.assigned) == members and min(self.assigned.values()) > 0
                    and sum(self.assigned.values()) == GROUP_PARTITIONS)

    def count(self):
        with self.lock:
            if self.errors:
                raise AssertionError(self.errors[0])
            return len(set(self.values))


@contextlib.contextmanager
def victim(bootstrap, run_id, topic, group, seen):
    """A member in a process of its own. It commits VICTIM_RECORDS records, fetches more, and is killed.

    It says on its standard output: "assigned N", "seen VALUE", "dying".
    """
    process = subprocess.Popen([sys.executable, sys.argv[0], "--bootstrap", bootstrap, "--run-id", run_id,
                                "--victim", topic, group], stdout=subprocess.PIPE, text=True)

    def listen():
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "assigned":
                seen.hold("victim", int(rest))
            elif word == "seen":
                seen.add([rest])
            elif word == "dying":
                seen.victim_done = True

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        thread.join(5)


def victim_says(*words):
    print(*words, flush=True)


def victim_dies():
    victim_says("dying")
    os.kill(os.getpid(), 9)


def judge_group(seen, members):
    values = seen.values
    expect_equal(len(set(values)), GROUP_RECORDS, "different records seen")
    expect_equal(len(values), GROUP_RECORDS, "records seen (more means seen twice)")
    if members == 1:
        return f"{len(values)} records"
    expect(seen.victim_done, "the victim did not die by itself")
    return f"{len(values)} records, {VICTIM_RECORDS} by the member that was killed"
