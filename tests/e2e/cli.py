#!/usr/bin/env python3
"""Walks every command of the tool against a broker, failures and exit codes included.

Starts a broker from MILLRACE_BIN (default build/release/millrace) on a free port; with MILLRACE_BROKER=host:port it
uses that one instead (any Kafka). MILLRACE_CLI names another binary for the commands. Prints "N passed, N failed".
"""

import base64
import json
import os
import pathlib
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("MILLRACE_BIN", str(ROOT / "build/release/millrace"))
CLI = os.environ.get("MILLRACE_CLI", BIN)
OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

passed = 0
failures = []


def check(what, condition, detail=""):
    global passed
    if condition:
        passed += 1
    else:
        failures.append(what)
        print(f"FAILED {what} {detail}", flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Broker:
    """A broker of our own, or the one that the environment names."""

    def __init__(self):
        self.process = None
        self.directory = None
        self.address = os.environ.get("MILLRACE_BROKER")
        if self.address:
            return
        port, admin = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.directory = tempfile.mkdtemp(prefix="millrace-cli-")
        self.log = open(os.path.join(self.directory, "broker.log"), "wb")
        self.process = subprocess.Popen(
            [BIN, "server", "--set", f"listeners=PLAINTEXT://127.0.0.1:{port}",
             "--set", "auto.create.topics.enable=false", "--set", f"log.dirs={self.directory}/data", "--set", f"admin.listener=127.0.0.1:{admin}"],
            stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while True:
            if self.process.poll() is not None:
                sys.exit(f"the broker ended: {open(self.log.name).read()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    sys.exit("the broker does not listen")
                time.sleep(0.1)

    def stop(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            check("the broker stops cleanly", self.process.wait(30) == 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check("the broker stops in time", False)
        if not failures:
            shutil.rmtree(self.directory, ignore_errors=True)


class Run:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def text(self):
        return self.out.decode()

    @property
    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"code {self.code}\n--- out\n{self.out[:2000]!r}\n--- err\n{self.err[:2000]}"


def run(*args, stdin=b"", broker=None, env=None):
    e = dict(os.environ)
    e["MILLRACE_BOOTSTRAP"] = broker or ADDRESS
    e.update(env or {})
    done = subprocess.run([CLI, *args], input=stdin, capture_output=True, env=e, timeout=90)
    return Run(done.returncode, done.stdout, done.stderr.decode())


def expect(what, code, *args, **kw):
    r = run(*args, **kw)
    check(what, r.code == code, f"(wanted exit code {code}) {args} {r!r}")
    return r


TOPICS = ["cli-a", "cli-p", "cli-1", "cli-many", "cli-pos", "cli-share", "cli-dump"]


def clean():
    """What an earlier run on the same broker left behind."""
    run("topic", "delete", "--if-exists", *TOPICS)
    run("group", "delete", "cli-g", "cli-follow", "cli-two", "cli-dumped")


def help_and_usage():
    r = expect("--help", OK, "--help")
    check("--help names the exit codes", "Exit codes" in r.text, repr(r))
    for command in ("topic", "produce", "consume", "group", "config", "cluster", "dump", "verify", "perf", "completion"):
        check(f"--help names {command}", command in r.text)
    r = expect("topic create --help", OK, "topic", "create", "--help")
    check("a command's help names the exit codes", "Exit codes" in r.text)
    expect("no command", USAGE)
    expect("unknown command", USAGE, "flood")
    expect("unknown option", USAGE, "topic", "list", "--no-such-thing")
    expect("missing argument", USAGE, "topic", "describe")
    expect("partitions out of range", USAGE, "topic", "create", "x", "-p", "0")
    expect("unknown output format", USAGE, "topic", "list", "--output", "xml")
    r = expect("bad bootstrap", USAGE, "topic", "list", "-b", "localhost:99999")
    check("the bad address is shown", "localhost:99999" in r.err, repr(r))


def unreachable():
    r = expect("nobody listens", UNREACHABLE, "topic", "list", broker=f"127.0.0.1:{free_port()}")
    check("the error says what to do", "MILLRACE_BOOTSTRAP" in r.err, repr(r))
    check("nothing on standard output", r.out == b"", repr(r))
    expect("no such host", UNREACHABLE, "cluster", "info", "-b", "no-such-host.invalid:9092")
    # Somebody listens who speaks something else.
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        expect("a silent peer", UNREACHABLE, "topic", "list", "--timeout", "1",
               broker="127.0.0.1:%d" % s.getsockname()[1])
    # The second address of the list is tried.
    expect("the second bootstrap address", OK, "topic", "list", "-b", f"127.0.0.1:{free_port()},{ADDRESS}")


def topics():
    r = expect("topic create", OK, "topic", "create", "cli-a", "-p", "3", "-r", "1", "-c", "retention.ms=3600000",
               "--output", "json")
    check("topic create --output json", r.json[0]["topic"] == "cli-a" and r.json[0]["created"] is True, repr(r))
    r = expect("topic create again", REFUSED, "topic", "create", "cli-a", "-p", "3")
    check("why", "TOPIC_ALREADY_EXISTS" in r.err and "--if-not-exists" in r.err, repr(r))
    expect("--if-not-exists", OK, "topic", "create", "cli-a", "--if-not-exists")
    expect("invalid name", REFUSED, "topic", "create", "no/slash")
    expect("too many replicas", REFUSED, "topic", "create", "cli-r", "-r", "99")
    expect("invalid config", REFUSED, "topic", "create", "cli-c", "-c", "retention.ms=soon")
    expect("a config that is no pair", USAGE, "topic", "create", "cli-c", "-c", "retention.ms")
    expect("--dry-run", OK, "topic", "create", "cli-dry", "-p", "2", "--dry-run")
    r = expect("topic list", OK, "topic", "list", "--output", "json")
    names = {t["topic"]: t for t in r.json}
    check("topic list has it", names.get("cli-a", {}).get("partitions") == 3, repr(r))
    check("a dry run makes nothing", "cli-dry" not in names)
    r = expect("topic list as text", OK, "topic", "list")
    check("columns", r.text.splitlines()[0].startswith("TOPIC"), repr(r))
    r = expect("topic describe", OK, "topic", "describe", "cli-a", "--output", "json")
    d = r.json[0]
    check("describe's fields", d["topic"] == "cli-a" and len(d["partitions"]) == 3 and
          {"partition", "leader", "leader_epoch", "replicas", "isr", "start_offset", "end_offset", "fsync_us", "error"} ==
          set(d["partitions"][0]), repr(r))
    check("describe's offsets", d["partitions"][0]["end_offset"] == 0, repr(r))
    r = expect("describe what is not there", NOT_FOUND, "topic", "describe", "cli-nobody")
    check("it says how to find out", "topic list" in r.err, repr(r))
    r = expect("describe one of two", NOT_FOUND, "topic", "describe", "cli-a", "cli-nobody")
    check("the one that is there is shown", "cli-a" in r.text, repr(r))
    expect("topic alter", OK, "topic", "alter", "cli-a", "--set", "retention.ms=7200000")
    expect("topic alter --unset", OK, "topic", "alter", "cli-a", "--unset", "retention.ms")
    expect("topic alter nothing", USAGE, "topic", "alter", "cli-a")
    expect("topic alter, bad value", REFUSED, "topic", "alter", "cli-a", "--set", "cleanup.policy=maybe")
    expect("topic alter, not there", NOT_FOUND, "topic", "alter", "cli-nobody", "--set", "retention.ms=1")
    expect("add-partitions", OK, "topic", "add-partitions", "cli-a", "-p", "4")
    expect("add-partitions, fewer", REFUSED, "topic", "add-partitions", "cli-a", "-p", "2")
    expect("add-partitions, not there", NOT_FOUND, "topic", "add-partitions", "cli-nobody", "-p", "2")
    r = expect("describe after it", OK, "topic", "describe", "cli-a", "--output", "json")
    check("four partitions", len(r.json[0]["partitions"]) == 4, repr(r))


def configs():
    expect("config get needs a resource", USAGE, "config", "get")
    expect("config get has one resource", USAGE, "config", "get", "--topic", "cli-a", "--broker-default")
    expect("config set", OK, "config", "set", "--topic", "cli-a", "retention.ms=123456", "cleanup.policy=compact")
    r = expect("config get", OK, "config", "get", "--topic", "cli-a", "--output", "json")
    by_key = {c["key"]: c for c in r.json}
    check("value and source", by_key.get("retention.ms", {}).get("value") == "123456" and
          by_key["retention.ms"]["source"] == "topic", repr(r))
    r = expect("config get KEY", OK, "config", "get", "--topic", "cli-a", "max.message.bytes", "--output", "json")
    check("one key, a default", [c["key"] for c in r.json] == ["max.message.bytes"] and
          r.json[0]["source"] == "default", repr(r))
    r = expect("config get --all", OK, "config", "get", "--topic", "cli-a", "--all", "--output", "json")
    check("more than what was set", len(r.json) > 5, repr(r))
    expect("config unset", OK, "config", "unset", "--topic", "cli-a", "retention.ms", "cleanup.policy")
    r = expect("config get after it", OK, "config", "get", "--topic", "cli-a", "--output", "json")
    check("it is gone", "retention.ms" not in {c["key"] for c in r.json if c["source"] == "topic"}, repr(r))
    expect("config set --dry-run", OK, "config", "set", "--topic", "cli-a", "retention.ms=5", "--dry-run")
    expect("config set, unknown key", REFUSED, "config", "set", "--topic", "cli-a", "no.such.key=1")
    expect("config get, not there", NOT_FOUND, "config", "get", "--topic", "cli-nobody")
    broker = run("cluster", "info", "--output", "json").json["brokers"][0]["broker_id"]
    expect("config get --broker", OK, "config", "get", "--broker", str(broker), "--all", "--output", "json")
    expect("config set --broker-default", OK, "config", "set", "--broker-default", "message.max.bytes=2000000")
    r = expect("config get --broker-default", OK, "config", "get", "--broker-default", "--output", "json")
    check("the broker default is shown", any(c["key"] == "message.max.bytes" and c["value"] == "2000000"
                                             for c in r.json), repr(r))
    expect("config unset --broker-default", OK, "config", "unset", "--broker-default", "message.max.bytes")


def cluster():
    r = expect("cluster info", OK, "cluster", "info", "--output", "json")
    j = r.json
    check("cluster info's fields", {"cluster_id", "controller_id", "topics", "partitions", "partitions_without_leader",
                                    "partitions_under_replicated", "brokers"} == set(j), repr(r))
    check("our broker", f"{j['brokers'][0]['host']}:{j['brokers'][0]['port']}" == ADDRESS, repr(r))
    r = expect("cluster info as text", OK, "cluster", "info")
    check("a table", "BROKER" in r.text, repr(r))


def consume_all(topic, *more):
    r = expect(f"consume {topic} {more}", OK, "consume", topic, "--exit-at-end", "--output", "json", *more)
    return [json.loads(line) for line in r.text.splitlines()]


def produce_and_consume():
    expect("topic for records", OK, "topic", "create", "cli-p", "-p", "2")
    lines = "".join(f"k{i}:v{i}\n" for i in range(100)).encode()
    r = expect("produce", OK, "produce", "cli-p", "--key-separator", ":", "--header", "h=1", "--output", "json",
               stdin=lines)
    check("produce's summary", r.json["delivered"] == 100 and r.json["failed"] == 0 and
          sum(p["records"] for p in r.json["partitions"]) == 100, repr(r))
    records = consume_all("cli-p")
    check("all of them", len(records) == 100 and {r["key"] for r in records} == {f"k{i}" for i in range(100)})
    check("keys and values belong together", all(r["value"] == "v" + r["key"][1:] for r in records))
    check("headers", all(r["headers"] == [{"key": "h", "value": "1"}] for r in records))
    # The Java client's partitioner: murmur2. Of two partitions, these keys go there.
    where = {r["key"]: r["partition"] for r in records}
    check("keys go where Java would send them", [where[k] for k in ("k0", "k1", "k2", "k3")] == JAVA_PARTITIONS,
          str([where[k] for k in ("k0", "k1", "k2", "k3")]))

    expect("topic for one partition", OK, "topic", "create", "cli-1", "-p", "1")
    before = int(time.time() * 1000)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        expect(f"produce --compression {codec}", OK, "produce", "cli-1", "--compression", codec,
               stdin=(f"{codec} " * 200 + "\n").encode())
    values = [r["value"].split()[0] for r in consume_all("cli-1")]
    check("every codec comes back", values == ["none", "gzip", "snappy", "lz4", "zstd"], str(values))
    for acks in ("0", "1", "all"):
        expect(f"produce --acks {acks}", OK, "produce", "cli-1", "--acks", acks, stdin=f"acks {acks}\n".encode())
    deadline = time.monotonic() + 10
    while len(consume_all("cli-1")) < 8 and time.monotonic() < deadline:
        time.sleep(0.2)  # acks=0 is stored some time
    check("acks", len(consume_all("cli-1")) == 8)
    expect("produce --idempotent", OK, "produce", "cli-1", "--idempotent", stdin=b"once\n")
    expect("produce, no line end", OK, "produce", "cli-1", stdin=b"last line")
    expect("produce nothing", OK, "produce", "cli-1", stdin=b"")
    with tempfile.NamedTemporaryFile() as f:
        f.write(b"\x00\xffone\nrecord\n")
        f.flush()
        expect("produce --file", OK, "produce", "cli-1", "--file", f.name, "--key", "whole")
        expect("produce --file --lines", OK, "produce", "cli-1", "--file", f.name, "--lines")
    expect("produce --tombstone", OK, "produce", "cli-1", "--tombstone", stdin=b"dead\n")
    expect("produce --tombstone --key", OK, "produce", "cli-1", "--tombstone", "--key", "gone")
    expect("produce --timestamp", OK, "produce", "cli-1", "--timestamp", "1700000000000", stdin=b"old\n")
    records = consume_all("cli-1")
    check("what is there now", len(records) == 16, f"{len(records)} records")
    whole = [r for r in records if r["key"] == "whole"][0]
    check("bytes that are no text are base64", whole["value_encoding"] == "base64" and
          base64.b64decode(whole["value"]) == b"\x00\xffone\nrecord\n", str(whole))
    check("tombstones", [r["key"] for r in records if r["value"] is None] == ["dead", "gone"])
    check("--timestamp", records[-1]["timestamp_ms"] == 1700000000000)
    check("offsets run from 0", [r["offset"] for r in records] == list(range(16)))

    big = b"".join(b"%d\n" % i for i in range(200_000))
    expect("topic for many", OK, "topic", "create", "cli-many", "-p", "4")
    r = expect("produce 200,000 lines", OK, "produce", "cli-many", "--compression", "lz4", "--idempotent", stdin=big)
    r = expect("consume 200,000", OK, "consume", "cli-many", "--exit-at-end")
    check("nothing lost, nothing twice", sorted(int(x) for x in r.out.split()) == list(range(200_000)),
          f"{len(r.out.split())}")

    expect("produce to nowhere", NOT_FOUND, "produce", "cli-nobody", "--timeout", "3", stdin=b"x\n")
    expect("produce to a partition that is not there", NOT_FOUND, "produce", "cli-1", "--partition", "7", stdin=b"x\n")
    r = expect("a line without separator", USAGE, "produce", "cli-1", "--key-separator", ":", stdin=b"a:b\nnothing\n")
    check("the line is named", "line 2" in r.err, repr(r))
    expect("unknown codec", USAGE, "produce", "cli-1", "--compression", "brotli", stdin=b"")
    expect("unknown acks", USAGE, "produce", "cli-1", "--acks", "2", stdin=b"")
    expect("idempotent with acks 1", USAGE, "produce", "cli-1", "--idempotent", "--acks", "1", stdin=b"")
    expect("a header that is no pair", USAGE, "produce", "cli-1", "--header", "x", stdin=b"")
    expect("no such file", NOT_FOUND, "produce", "cli-1", "--file", "/no/such/file")
    r = expect("a record that is too large", REFUSED, "produce", "cli-1", "--compression", "none",
               stdin=b"x" * 3_000_000 + b"\n")
    check("MESSAGE_TOO_LARGE", "MESSAGE_TOO_LARGE" in r.err, repr(r))

    # Where to begin, and formats.
    expect("topic for positions", OK, "topic", "create", "cli-pos", "-p", "1")
    for i in range(5):
        expect("produce at a time", OK, "produce", "cli-pos", "--timestamp", str(1_700_000_000_000 + i * 1000), "--key",
               f"k{i}", "--header", "a=1", "--header", "b=2", stdin=f"v{i}\n".encode())
    for spec, first in (("beginning", 0), ("3", 3), ("-2", 3), ("-99", 0), ("@1700000002000", 2),
                        ("@2023-11-14T22:13:23Z", 3)):
        r = expect(f"consume --from {spec}", OK, "consume", "cli-pos", "--from", spec, "--exit-at-end", "-f", "%o\n")
        check(f"--from {spec}", r.text.split() == [str(i) for i in range(first, 5)], repr(r))
    r = expect("consume --from end", OK, "consume", "cli-pos", "--from", "end", "--exit-at-end")
    check("nothing at the end", r.out == b"", repr(r))
    r = expect("consume --from @future", OK, "consume", "cli-pos", "--from", "@2100-01-01", "--exit-at-end")
    check("nothing is that young", r.out == b"", repr(r))
    expect("consume --from nonsense", USAGE, "consume", "cli-pos", "--from", "tuesday")
    expect("consume --from past the end", REFUSED, "consume", "cli-pos", "--from", "99", "-n", "1")
    r = expect("consume -n", OK, "consume", "cli-pos", "-n", "2")
    check("-n 2", r.text == "v0\nv1\n", repr(r))
    r = expect("consume -f", OK, "consume", "cli-pos", "-n", "1", "-f", "%t|%p|%o|%k|%s|%h|%T|%K|%S|%%\\t\\x21\\n")
    check("the format", r.text == "cli-pos|0|0|k0|v0|a=1,b=2|1700000000000|2|2|%\t!\n", repr(r))
    r = expect("consume -f with nulls", OK, "consume", "cli-1", "--from", "14", "-n", "1", "-f", "[%s] %S\\n")
    check("null is empty, its length -1", r.text == "[] -1\n", repr(r))
    expect("bad format", USAGE, "consume", "cli-pos", "-f", "%q")
    expect("consume what is not there", NOT_FOUND, "consume", "cli-nobody")
    expect("consume a partition that is not there", NOT_FOUND, "consume", "cli-pos", "--partition", "5")
    r = expect("consume --partition", OK, "consume", "cli-p", "--partition", "1", "--exit-at-end", "-f", "%p\\n")
    check("only that partition", set(r.text.split()) == {"1"}, repr(r))
    r = expect("consume @-1h", OK, "consume", "cli-1", "--from", "@-1h", "-n", "1")
    check("it is from today", before > 0 and r.out != b"", repr(r))
    expect("--follow and --exit-at-end", USAGE, "consume", "cli-pos", "--follow", "--exit-at-end")


def follow_and_interrupt():
    env = dict(os.environ, MILLRACE_BOOTSTRAP=ADDRESS)
    p = subprocess.Popen([CLI, "consume", "cli-pos", "--from", "end", "--group", "cli-follow"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=env)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        r = run("group", "describe", "cli-follow", "--output", "json")
        if r.code == 0 and r.json[0]["state"] == "Stable" and r.json[0]["partitions"]:
            break
        time.sleep(0.3)
    check("the group is stable", r.code == 0 and r.json[0]["state"] == "Stable", repr(r))
    check("its member has the partition", r.json[0]["partitions"][0]["client_id"] == "millrace-cli", repr(r))
    r = expect("group delete while it has members", REFUSED, "group", "delete", "cli-follow")
    check("NON_EMPTY_GROUP", "NON_EMPTY_GROUP" in r.err, repr(r))
    expect("reset while it has members", REFUSED, "group", "reset-offsets", "cli-follow", "--topic", "cli-pos",
           "--to-earliest", "--execute")
    # It may still be looking up where the end is: write until it shows.
    seen = b""
    os.set_blocking(p.stdout.fileno(), False)
    deadline = time.monotonic() + 20
    while b"followed" not in seen and time.monotonic() < deadline:
        run("produce", "cli-pos", stdin=b"followed\n")
        time.sleep(0.5)
        seen += p.stdout.read() or b""
    check("a record that came later", b"followed" in seen, repr(seen))
    p.send_signal(signal.SIGINT)
    try:
        check("Ctrl-C ends following with 0", p.wait(15) == 0, f"code {p.returncode} {p.stderr.read()!r}")
    except subprocess.TimeoutExpired:
        p.kill()
        check("Ctrl-C ends it", False)
    r = expect("describe after leaving", OK, "group", "describe", "cli-follow", "--output", "json")
    check("the group is empty at once", r.json[0]["state"] == "Empty" and r.json[0]["members"] == [], repr(r))
    check("offsets were committed", r.json[0]["total_lag"] == 0, repr(r))
    p = subprocess.Popen([CLI, "consume", "cli-pos", "-n", "100000"], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, env=env)
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    check("Ctrl-C before -n is reached", p.wait(15) == INTERRUPTED, f"code {p.returncode}")
    p = subprocess.Popen([CLI, "produce", "cli-pos"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    time.sleep(1)
    p.send_signal(signal.SIGINT)
    check("Ctrl-C while reading standard input", p.wait(15) == INTERRUPTED, f"code {p.returncode}")


def groups():
    r = expect("consume --group", OK, "consume", "cli-p", "--group", "cli-g", "--exit-at-end", "-f", "%o\\n")
    check("a new group begins at the beginning", len(r.text.split()) == 100, repr(r))
    r = expect("consume --group again", OK, "consume", "cli-p", "--group", "cli-g", "--exit-at-end")
    check("nothing is left", r.out == b"", repr(r))
    expect("more records", OK, "produce", "cli-p", stdin=b"x\ny\nz\n")
    r = expect("group describe", OK, "group", "describe", "cli-g", "--output", "json")
    g = r.json[0]
    check("lag", g["group"] == "cli-g" and g["total_lag"] == 3 and len(g["partitions"]) == 2, repr(r))
    check("fields", {"topic", "partition", "committed_offset", "end_offset", "lag", "member_id", "client_id", "host"} ==
          set(g["partitions"][0]), repr(r))
    r = expect("group describe as text", OK, "group", "describe", "cli-g")
    check("columns", "COMMITTED" in r.text and "LAG" in r.text, repr(r))
    r = expect("consume --group -n", OK, "consume", "cli-p", "--group", "cli-g", "-n", "1")
    check("one record", len(r.text.split()) == 1, repr(r))
    r = expect("group describe after -n 1", OK, "group", "describe", "cli-g", "--output", "json")
    check("only what was printed is committed", r.json[0]["total_lag"] == 2, repr(r))
    r = expect("group list", OK, "group", "list", "--output", "json")
    check("it is there", any(x["group"] == "cli-g" and x["state"] == "Empty" for x in r.json), repr(r))
    r = expect("group list --state", OK, "group", "list", "--state", "Stable", "--output", "json")
    check("not among the stable ones", all(x["group"] != "cli-g" for x in r.json), repr(r))

    def reset(*how, topic="cli-p"):
        r = expect(f"reset-offsets {how}", OK, "group", "reset-offsets", "cli-g", "--topic", topic, *how, "--output",
                   "json")
        return {p["partition"]: p for p in r.json}

    rows = reset("--to-earliest")
    check("a dry run shows it", all(p["new_offset"] == 0 and not p["reset"] for p in rows.values()), str(rows))
    r = run("group", "describe", "cli-g", "--output", "json")
    check("and does nothing", r.json[0]["total_lag"] == 2, repr(r))
    rows = reset("--to-earliest", "--execute")
    check("--execute does it", all(p["reset"] for p in rows.values()), str(rows))
    r = run("group", "describe", "cli-g", "--output", "json")
    check("everything lies ahead", r.json[0]["total_lag"] == 103, repr(r))
    rows = reset("--to-latest", "--execute")
    ends = {p: rows[p]["new_offset"] for p in rows}
    check("--to-latest", sum(ends.values()) == 103, str(rows))
    rows = reset("--shift-by", "-2", "--execute")
    check("--shift-by", all(rows[p]["new_offset"] == max(0, ends[p] - 2) for p in rows), str(rows))
    rows = reset("--shift-by", "9223372036854775807")
    check("a shift stops at the end", all(rows[p]["new_offset"] == ends[p] for p in rows), str(rows))
    rows = reset("--to-offset", "1", "--execute", topic="cli-p:1")
    check("--to-offset for one partition", list(rows) == [1] and rows[1]["new_offset"] == 1, str(rows))
    rows = reset("--to-timestamp", "2001-01-01")
    check("--to-timestamp in the past", all(p["new_offset"] == 0 for p in rows.values()), str(rows))
    rows = reset("--to-timestamp", "2100-01-01T00:00:00Z")
    check("--to-timestamp in the future", all(rows[p]["new_offset"] == ends[p] for p in rows), str(rows))
    r = expect("--all-topics", OK, "group", "reset-offsets", "cli-g", "--all-topics", "--to-latest", "--execute",
               "--output", "json")
    check("all of them", len(r.json) == 2, repr(r))
    expect("no scenario", USAGE, "group", "reset-offsets", "cli-g", "--topic", "cli-p")
    expect("two scenarios", USAGE, "group", "reset-offsets", "cli-g", "--topic", "cli-p", "--to-earliest", "--to-latest")
    expect("no topic", USAGE, "group", "reset-offsets", "cli-g", "--to-earliest")
    expect("bad time", USAGE, "group", "reset-offsets", "cli-g", "--topic", "cli-p", "--to-timestamp", "soon")
    expect("a topic that is not there", NOT_FOUND, "group", "reset-offsets", "cli-g", "--topic", "cli-nobody",
           "--to-earliest")
    expect("a partition that is not there", NOT_FOUND, "group", "reset-offsets", "cli-g", "--topic", "cli-p:9",
           "--to-earliest")

    expect("--from OFFSET with a group", USAGE, "consume", "cli-p", "--group", "cli-g", "--from", "5")
    expect("--partition with a group", USAGE, "consume", "cli-p", "--group", "cli-g", "--partition", "0")
    expect("describe a group that is not there", NOT_FOUND, "group", "describe", "cli-no-group")
    expect("group delete", OK, "group", "delete", "cli-g", "--yes")
    expect("group delete again", NOT_FOUND, "group", "delete", "cli-g", "--yes")


def two_members():
    """Two members share the partitions, and the one that stays gets those of the one that leaves."""
    expect("topic for sharing", OK, "topic", "create", "cli-share", "-p", "4")
    env = dict(os.environ, MILLRACE_BOOTSTRAP=ADDRESS)
    start = [CLI, "consume", "cli-share", "--group", "cli-two", "-f", "%p:%s\n"]
    members = [subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) for _ in range(2)]

    def owners(wanted):
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            r = run("group", "describe", "cli-two", "--output", "json")
            if r.code == 0 and r.json[0]["state"] == "Stable":
                owned = [p["member_id"] for p in r.json[0]["partitions"] if p["member_id"]]
                if len(owned) == 4 and len(set(owned)) == wanted:
                    return sorted(owned.count(m) for m in set(owned))
            time.sleep(0.4)
        return []

    check("two members have two partitions each", owners(2) == [2, 2])
    members[0].send_signal(signal.SIGINT)
    check("one leaves", members[0].wait(15) == 0)
    check("the other has all four", owners(1) == [4])
    expect("records for it", OK, "produce", "cli-share", "--key-separator", ":",
           stdin=b"".join(b"%d:r%d\n" % (i, i) for i in range(40)))
    os.set_blocking(members[1].stdout.fileno(), False)
    seen = b""
    deadline = time.monotonic() + 20
    while len(seen.split()) < 40 and time.monotonic() < deadline:
        time.sleep(0.3)
        seen += members[1].stdout.read() or b""
    check("it reads all of them", len(seen.split()) == 40, repr(seen))
    members[1].send_signal(signal.SIGTERM)
    check("the other leaves", members[1].wait(15) == 0)


def delete():
    r = expect("delete-records", OK, "topic", "delete-records", "cli-pos", "--before", "3", "--output", "json")
    check("the new start", r.json[0]["start_offset"] == 3, repr(r))
    r = expect("consume after it", OK, "consume", "cli-pos", "-n", "1", "-f", "%o\n")
    check("it begins there", r.text == "3\n", repr(r))
    expect("delete-records to the end", OK, "topic", "delete-records", "cli-pos", "--partition", "0", "--before", "end")
    expect("delete-records past the end", REFUSED, "topic", "delete-records", "cli-pos", "--before", "999999")
    expect("delete-records, not there", NOT_FOUND, "topic", "delete-records", "cli-nobody", "--before", "1")
    expect("delete-records, bad offset", USAGE, "topic", "delete-records", "cli-pos", "--before", "-1")

    # A terminal at standard input: nothing is deleted without --yes.
    main, terminal = pty.openpty()
    done = subprocess.run([CLI, "topic", "delete", "cli-a"], stdin=terminal, capture_output=True,
                          env=dict(os.environ, MILLRACE_BOOTSTRAP=ADDRESS), timeout=30)
    check("a person must say --yes", done.returncode == USAGE and b"--yes" in done.stderr, repr(done))
    done = subprocess.run([CLI, "topic", "delete", "cli-a", "--yes"], stdin=terminal, capture_output=True,
                          env=dict(os.environ, MILLRACE_BOOTSTRAP=ADDRESS), timeout=30)
    check("with --yes it is done", done.returncode == OK, repr(done))
    os.close(main)
    os.close(terminal)
    expect("topic delete", OK, "topic", "delete", "cli-p", "cli-1", "cli-many", "cli-share")
    expect("topic delete, not there", NOT_FOUND, "topic", "delete", "cli-nobody")
    expect("topic delete --if-exists", OK, "topic", "delete", "cli-nobody", "--if-exists")
    names = [t["topic"] for t in run("topic", "list", "--output", "json").json]
    check("they are gone", not {"cli-a", "cli-p", "cli-1"} & set(names), str(names))


def completion():
    for shell in ("bash", "zsh", "fish"):
        r = expect(f"completion {shell}", OK, "completion", shell)
        check(f"{shell}: commands and options", "reset-offsets" in r.text and "exit-at-end" in r.text)
    expect("completion for another shell", USAGE, "completion", "cmd")
    if shutil.which("bash"):
        script = run("completion", "bash").text
        name = [w for w in script.split() if w.startswith("_") and w.endswith("_complete()")][0][:-2]
        done = subprocess.run(["bash", "-c", script + f"\nCOMP_WORDS=(millrace topic cr); COMP_CWORD=2; {name}; "
                               "echo ${COMPREPLY[@]}"], capture_output=True)
        check("bash completes", done.stdout == b"create\n", repr(done))


def verify():
    expect("verify nothing", USAGE, "verify", "history")
    expect("verify what is not there", NOT_FOUND, "verify", "history", "/no/such/file")
    sent = '{"op":"send","result":"ok","client":"p","from":1,"to":2,"items":[["t-0",0,7]]}\n'
    read = '{"op":"poll","result":"ok","client":"c","from":3,"to":4,"items":[["t-0",0,%d]]}\n'
    with tempfile.NamedTemporaryFile(mode="w", suffix=".history") as f:
        f.write('{"history":1}\n' + sent + read % 7)
        f.flush()
        r = expect("a sound history", OK, "verify", "history", f.name)
        check("it says so", "ok: 2 operations, 1 values" in r.text, repr(r))
        f.write(read % 8)
        f.flush()
        r = expect("a broken history", FAILED, "verify", "history", f.name)
        check("its rule and its picture", "inconsistent-offset: t-0 offset 0 holds 7 and 8" in r.text and
              "p send ok 1..2 t-0@0=7" in r.text, repr(r))
        r = expect("a broken history as JSON", FAILED, "verify", "history", f.name, "--output", "json")
        check("its rule for programs", r.json["ok"] is False and r.json["found"]["inconsistent-offset"] == 1 and
              r.json["violations"][0]["partition"] == "t-0", repr(r))
        f.write("nonsense\n")
        f.flush()
        r = expect("no history", FAILED, "verify", "history", f.name)
        check("the line is named", "line 5" in r.err, repr(r))


def dump():
    expect("dump nothing", USAGE, "dump")
    expect("dump what is not there", NOT_FOUND, "dump", "/no/such/file")
    with tempfile.NamedTemporaryFile(suffix=".txt") as f:
        expect("dump something else", USAGE, "dump", f.name)
    data = os.environ.get("MILLRACE_DATA") or (BROKER.directory and BROKER.directory + "/data")
    if not data:
        return
    expect("topic to dump", OK, "topic", "create", "cli-dump", "-p", "1")
    expect("records to dump", OK, "produce", "cli-dump", "--key-separator", ":", "--idempotent", "--compression", "zstd",
           stdin=b"a:1\nb:2\nc:3\n")
    expect("offsets to dump", OK, "consume", "cli-dump", "--group", "cli-dumped", "--exit-at-end")
    log = f"{data}/cli-dump-0/00000000000000000000.log"
    r = expect("dump a segment", OK, "dump", log, "--records", "--output", "json")
    j = r.json
    check("its batch", j["kind"] == "segment" and j["record_count"] == 3 and j["batches"][0]["codec"] == "zstd" and
          j["batches"][0]["crc_ok"] is True, repr(r))
    check("its records", [(x["key"], x["value"]) for x in j["records"]] == [("a", "1"), ("b", "2"), ("c", "3")], repr(r))
    r = expect("dump a segment as text", OK, "dump", log)
    check("a table", "BASE" in r.text, repr(r))
    r = expect("dump a directory", OK, "dump", f"{data}/cli-dump-0", "--output", "json")
    kinds = {json.loads(line)["kind"] for line in r.text.splitlines()}
    check("its files", {"segment", "partition_metadata"} <= kinds, repr(r))
    found = []
    for d in sorted(pathlib.Path(data).glob("__consumer_offsets-*")):
        r = run("dump", str(d), "--records", "--output", "json")
        for line in r.text.splitlines():
            found += json.loads(line).get("records", [])
    commits = [x for x in found if x.get("kind") == "offset_commit" and x["key"]["group"] == "cli-dumped"]
    check("the committed offset", any(x["value"] and x["value"]["offset"] == 3 for x in commits), str(found)[:2000])
    check("the group's metadata", any(x.get("kind") == "group_metadata" and x["key"]["group"] == "cli-dumped"
                                      for x in found))
    with tempfile.TemporaryDirectory() as t:
        damaged = os.path.join(t, "00000000000000000000.log")
        content = bytearray(open(log, "rb").read())
        content[70] ^= 0xff
        open(damaged, "wb").write(content)
        r = expect("dump a damaged segment", FAILED, "dump", damaged)
        check("the damage is told", damaged in r.err, repr(r))
    expect("delete it", OK, "topic", "delete", "cli-dump")


JAVA_PARTITIONS = None


def murmur2(data):
    """Kafka's hash, written anew: what the tool's partitioner is compared with."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    for i in range(0, len(data) // 4 * 4, 4):
        k = int.from_bytes(data[i:i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[len(data) // 4 * 4:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


if __name__ == "__main__":
    JAVA_PARTITIONS = [(murmur2(k.encode()) & 0x7FFFFFFF) % 2 for k in ("k0", "k1", "k2", "k3")]
    BROKER = Broker()
    ADDRESS = BROKER.address
    clean()
    try:
        for part in (help_and_usage, unreachable, topics, configs, cluster, produce_and_consume, groups,
                     follow_and_interrupt, two_members, completion, verify, dump, delete):
            try:
                part()
            except Exception as e:  # one part that breaks does not hide the others
                check(f"{part.__name__} runs to its end", False, f"{type(e).__name__}: {e}")
    finally:
        if not BROKER.process:
            clean()
        BROKER.stop()
    print(f"{passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)
