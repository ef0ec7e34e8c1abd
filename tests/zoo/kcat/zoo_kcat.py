"""kcat against a broker. kcat administers nothing, so its topics are made with confluent-kafka."""

import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))

from confluent_kafka import ConsumerGroupTopicPartitions, Producer  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from zoo_report import (GROUP_PARTITIONS, GROUP_RECORDS, NotOffered, Report, expect, expect_equal, payloads,  # noqa: E402
                        wait_until)

VERSION = re.search(r"Version (\S+) .*librdkafka (\S+)", subprocess.run(["kcat", "-V"], capture_output=True,
                                                                          text=True).stdout)
report = Report("kcat", f"{VERSION[1]} (librdkafka {VERSION[2]})")
BOOTSTRAP = report.args.bootstrap
admin = AdminClient({"bootstrap.servers": BOOTSTRAP})


def create(what, partitions=1, **config):
    topic = report.name(what)
    admin.create_topics([NewTopic(topic, partitions, -1, config=config)])[topic].result(20)
    wait_until(lambda: partitions_of(topic) == partitions, "the new topic in the metadata")
    return topic


def partitions_of(topic):
    found = admin.list_topics(timeout=10).topics.get(topic)
    return 0 if found is None or found.error else len(found.partitions)


def kcat(*arguments, data=b"", succeeds=True):
    """Runs kcat to its end; returns what it wrote to its standard output, or its errors if it must fail."""
    done = subprocess.run(["kcat", "-b", BOOTSTRAP, *arguments], input=data, capture_output=True, timeout=30)
    errors = done.stderr.decode(errors="replace")
    expect((done.returncode == 0) == succeeds, f"kcat {' '.join(arguments)} ended with {done.returncode}: {errors[-400:]}")
    return done.stdout if succeeds else errors


def lines(start, end):
    return b"".join(b"%d\n" % i for i in range(start, end))


def read(topic, count, start="beginning", form="%s\n"):
    return kcat("-C", "-q", "-t", topic, "-p", "0", "-o", str(start), "-c", str(count), "-f", form)


def numbered_topic(what):
    """Forty records, one second apart from 1,600,000,000,000 ms on; kcat cannot choose timestamps."""
    topic = create(what)
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    for i in range(40):
        producer.produce(topic, b"%d" % i, partition=0, timestamp=1_600_000_000_000 + i * 1000)
    expect_equal(producer.flush(20), 0, "undelivered records")
    return topic


def produce(codec):
    topic, values = create(f"codec-{codec}"), payloads()[1:]  # kcat skips empty files
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder, f"{i:03}") for i in range(len(values))]
        for file, value in zip(files, values):
            file.write_bytes(value)
        kcat("-P", "-t", topic, "-p", "0", "-z", codec, *map(str, files))
    got, found = read(topic, len(values), form="%R%s"), []
    while got:
        size = struct.unpack(">i", got[:4])[0]
        found.append(got[4:4 + size])
        got = got[4 + size:]
    expect_equal(found, values, "values")


def record_fields():
    topic = create("fields")
    kcat("-P", "-t", topic, "-p", "0", "-k", "key", "-H", "a=1", "-H", "b=2", "-H", "a=3", data=b"value\n")
    got = read(topic, 1, form="%k|%h|%T|%s").decode().split("|")
    expect_equal((got[0], got[1], got[3]), ("key", "a=1,b=2,a=3", "value"), "record")
    expect(abs(int(got[2]) / 1000 - time.time()) < 60, "the timestamp is not the time of sending")


def null_value():
    topic = create("null")
    kcat("-P", "-t", topic, "-p", "0", "-K", ":", "-Z", data=b"gone:\n")
    kcat("-P", "-t", topic, "-p", "0", "-K", ":", data=b"empty:\n")
    expect_equal(read(topic, 2, form="%k %S\n"), b"gone -1\nempty 0\n", "records")


def idempotent(in_flight):
    topic = create(f"idempotent-{in_flight}")
    kcat("-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", "-X", f"max.in.flight={in_flight}",
         "-X", "batch.num.messages=20", "-X", "linger.ms=0", data=lines(0, 5000))
    expect_equal(read(topic, 5000), lines(0, 5000), "values in order")
    expect_equal(offset(topic, -1), 5000, "end offset")


def offset(topic, timestamp):
    return int(re.search(r"offset (\d+)", kcat("-Q", "-t", f"{topic}:0:{timestamp}").decode())[1])


def consume_start():
    expect_equal(kcat("-C", "-q", "-t", numbered_topic("start"), "-o", "beginning", "-e"), lines(0, 40), "values")


def consume_offset():
    expect_equal(read(numbered_topic("offset"), 1, 17, "%o %s\n"), b"17 17\n", "first record")


def consume_timestamp():
    topic = numbered_topic("timestamp")
    expect_equal(offset(topic, 1_600_000_022_500), 23, "offset of the first record after 22.5 s")
    expect_equal(read(topic, 1, "s@1600000022500", "%T %s\n"), b"1600000023000 23\n", "first record")


class Member:
    """A kcat in a group: what it prints, and what it holds."""

    def __init__(self, topic, group, *arguments):
        self.records, self.held, self.rebalances = [], None, 0
        self.process = subprocess.Popen(
            ["kcat", "-b", BOOTSTRAP, "-u", "-f", "%p %o %s\n", "-X", "session.timeout.ms=6000", "-X",
             "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=100", "-X", "auto.offset.reset=earliest",
             *arguments, "-G", group, topic], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=self.read_records), threading.Thread(target=self.read_events)]
        for thread in self.threads:
            thread.start()

    def read_records(self):
        for line in self.process.stdout:
            partition, at, value = line.split()
            self.records.append((int(partition), int(at), value))

    def read_events(self):
        for line in self.process.stderr:
            if "rebalanced" in line:
                self.rebalances += 1
                self.held = sorted(map(int, re.findall(r"\[(\d+)\]", line))) if "): assigned:" in line else []

    def end(self, with_signal):
        self.process.send_signal(with_signal)
        self.process.wait(20)
        for thread in self.threads:
            thread.join(5)


def committed(topic, group):
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(20)
    return {p.partition: p.offset for p in found.topic_partitions if p.topic == topic}


def send_numbers(topic, start, end):
    for partition in range(GROUP_PARTITIONS):
        numbers = [i for i in range(start, end) if i % GROUP_PARTITIONS == partition]
        kcat("-P", "-t", topic, "-p", str(partition), data="".join(f"{i}\n" for i in numbers).encode())


def group(count):
    """One member dies after the first half of the records; those that it had not committed come again."""
    topic, name = create(f"group-{count}", GROUP_PARTITIONS), report.name(f"group-{count}")
    members = [Member(topic, name) for _ in range(count)]
    try:
        wait_until(lambda: all(m.held for m in members) and sum(len(m.held) for m in members) == GROUP_PARTITIONS,
                   "every member holds partitions")
        half = GROUP_RECORDS // 2
        send_numbers(topic, 0, half)
        wait_until(lambda: len(members[0].records) >= half // GROUP_PARTITIONS * len(members[0].held), "the first half seen")
        wait_until(lambda: committed(topic, name), "a commit")
        seen = []
        if count > 1:
            members[0].end(signal.SIGKILL)
            done = committed(topic, name)
            seen = [r for r in members[0].records if r[1] < done.get(r[0], 0)]
        send_numbers(topic, half, GROUP_RECORDS)
        survivors = members[1:] if count > 1 else members
        wait_until(lambda: len(seen) + sum(len(m.records) for m in survivors) >= GROUP_RECORDS, "all records seen", 40)
        for member in survivors:
            member.end(signal.SIGTERM)
        for member in survivors:
            seen = seen + member.records
        expect_equal(sorted(int(r[2]) for r in seen), list(range(GROUP_RECORDS)), "records seen")
        expect_equal(set(committed(topic, name).values()), {GROUP_RECORDS // GROUP_PARTITIONS}, "committed offsets")
        return f"{len(seen)} records"
    finally:
        for member in members:
            member.process.kill()


def static_member():
    topic, name = create("static", 4), report.name("static")
    static = ["-X", "session.timeout.ms=20000", "-X"]
    a, b = Member(topic, name, *static, "group.instance.id=a"), Member(topic, name, *static, "group.instance.id=b")
    try:
        wait_until(lambda: len(a.held or []) == 2 and len(b.held or []) == 2, "two partitions each")
        before, held = a.rebalances, b.held
        b.end(signal.SIGTERM)
        b = Member(topic, name, *static, "group.instance.id=b")
        wait_until(lambda: b.held, "partitions for the restarted member")
        time.sleep(1.5)
        expect_equal(b.held, held, "partitions of the restarted member")
        expect_equal(a.rebalances, before, "rebalances of the other member")
    finally:
        a.process.kill()
        b.process.kill()


def commit_resume():
    topic, name = numbered_topic("resume"), report.name("resume")
    arguments = ["-q", "-X", "auto.offset.reset=earliest", "-c"]
    expect_equal(kcat(*arguments, "15", "-G", name, topic), lines(0, 15), "values")
    expect_equal(kcat(*arguments, "25", "-G", name, topic), lines(15, 40), "values")


def list_offsets():
    topic = numbered_topic("list-offsets")
    expect_equal((offset(topic, -2), offset(topic, -1)), (0, 40), "earliest and latest offset")
    return "note: kcat cannot read the committed offsets of a group"


def error_too_large():
    topic = create("large", **{"max.message.bytes": "20000"})
    text = kcat("-P", "-t", topic, "-p", "0", data=b"x" * 100_000, succeeds=False)
    kcat("-P", "-t", topic, "-p", "0", data=b"small\n")
    return re.search(r"[^\n]*Broker: Message size too large[^\n]*", text)[0]


def error_unknown_topic():
    text = kcat("-C", "-t", report.name("nowhere"), "-e", "-X", "allow.auto.create.topics=false", succeeds=False)
    return re.search(r"[^\n]*Broker: Unknown topic or partition[^\n]*", text)[0]


def error_bad_topic_name():
    text = kcat("-L", "-t", report.name("bad/name!")).decode()
    return re.search(r"[^\n]*Broker: Invalid topic[^\n]*", text)[0].strip()


def not_offered():
    raise NotOffered("kcat produces, consumes and lists metadata; it has no administration")


for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    report.run(f"produce_{codec}", lambda: produce(codec))
for function in (record_fields, null_value, consume_start, consume_offset, consume_timestamp, commit_resume, list_offsets,
                 error_too_large, error_unknown_topic, error_bad_topic_name):
    report.run(function.__name__, function)
for check in ("create_topic", "describe_configs", "alter_configs", "list_groups", "describe_group", "delete_records",
              "delete_topic"):
    report.run(check, not_offered)
report.run("idempotent", lambda: idempotent(1))
report.run("idempotent_in_flight", lambda: idempotent(5))
report.run_together([(f"group_{n}", lambda n=n: group(n)) for n in (1, 2, 3, 4)]
                    + [("static_member", static_member)])
