#!/usr/bin/env python3
"""Starts and ends brokers in every way that happens, and looks at what is left, said and refused.

usage: tests/e2e/recovery.py      the binary: $MILLRACE_BIN, else build/release/millrace

Clean stops, kills, torn tails, lost indexes; directories and ports that belong to somebody else; configuration from Kafka's
files and environments; settings changed at run time; what must survive a restart beside the records.
"""

import base64
import gzip
import os
import pathlib
import re
import socket
import tempfile
import time

from harness import (CREATE_PARTITIONS, DELETE_TOPICS, DESCRIBE_CONFIGS, FETCH, METADATA, Broker, Checks, Connection, array,
                     batch, batches_of, eventually, free_ports, i8, i32, i64, record, text)

checks = Checks()
EXIT_CONFIG, EXIT_DIRECTORY, EXIT_PORT = 2, 3, 4


def produce(broker, topic, values, acks=-1, **how):
    """One batch for each value; the offsets."""
    with Connection(broker.port) as c:
        out = []
        for v in values:
            error, offset = c.produce(topic, batch([v], **how), acks=acks)[:2]
            if error:
                raise RuntimeError(f"produce to {topic}: error {error}")
            out.append(offset)
        return out


def create(broker, topic, **how):
    with Connection(broker.port) as c:
        error = c.create_topic(topic, **how)
        if error:
            raise RuntimeError(f"create {topic}: error {error}")


def values(broker, topic, offset=0):
    with Connection(broker.port) as c:
        return [v for _, v in c.read_values(topic, offset)]


def numbered(prefix, count, first=0):
    return [b"%s %d" % (prefix, i) for i in range(first, first + count)]


def segments(broker, topic):
    return sorted(p for p in (broker.directory / f"{topic}-0").iterdir() if p.suffix == ".log")


# --- ends and starts ---

def clean_stop(broker):
    """Everything is there, and nothing had to be scanned."""
    broker.start()
    create(broker, "clean")
    sent = numbered(b"clean", 50)
    checks.equal("offsets count up from 0", produce(broker, "clean", sent), list(range(50)))
    with Connection(broker.port) as c:
        before = c.request(METADATA, 2, array([text("clean")]))
    checks.equal("SIGTERM: exit code 0", broker.stop(), 0)
    mark = len(broker.log())
    broker.start()
    said = broker.log()[mark:]
    checks.that("after a clean stop nothing is scanned", "scanned" not in said, said)
    checks.equal("after a clean stop every record is there", values(broker, "clean"), sent)
    checks.equal("... and offsets go on", produce(broker, "clean", [b"next"]), [50])
    with Connection(broker.port) as c:
        after = c.request(METADATA, 2, array([text("clean")]))
        checks.equal("the cluster's id stays", after.data, before.data)
    with socket.create_connection(("127.0.0.1", broker.port)) as waiting:
        began = time.monotonic()
        checks.equal("an open connection does not hold up a stop", broker.stop(), 0)
        checks.that("... which is quick", time.monotonic() - began < 5)
        try:
            left = waiting.recv(1)
        except ConnectionResetError:
            left = b""  # it was still in the kernel's queue
        checks.equal("... and is closed", left, b"")
    broker.start()


def kill(broker):
    create(broker, "killed")
    sent = numbered(b"all", 30)
    produce(broker, "killed", sent)
    sent += numbered(b"one", 30)
    produce(broker, "killed", sent[30:], acks=1)
    mark = len(broker.log())
    broker.kill()
    broker.start()
    said = broker.log()[mark:]
    checks.that("a kill is recovered from by scanning", "scanned" in said, said)
    checks.equal("after kill -9 every record is there", values(broker, "killed"), sent)
    checks.equal("... and offsets go on", produce(broker, "killed", [b"next"]), [60])
    with Connection(broker.port) as c:
        high = c.fetch("killed", 0)["high"]
        checks.equal("... and the high watermark", high, 61)
    for _ in range(3):
        broker.kill()
        broker.start()
    checks.equal("after three more kills too", values(broker, "killed"), sent + [b"next"])


def torn_tail(broker):
    # Synced in the background: what is cut here is not yet known to be durable, so it is a torn tail and no damage.
    create(broker, "torn", configs={"durability": "replicated"})
    sent = numbered(b"whole", 20)
    produce(broker, "torn", sent)
    whole = batch([b"half a batch"], base_offset=20)
    tails = {"garbage": os.urandom(700), "zeros": bytes(5000), "half a batch": whole[:-4], "half a header": whole[:30],
             "a batch with a wrong CRC": batch([b"x"], base_offset=20, crc=1), "one byte": b"\0"}
    for what, tail in tails.items():
        broker.kill()
        active = segments(broker, "torn")[-1]
        size = active.stat().st_size
        with active.open("ab") as f:
            f.write(tail)
        broker.start()
        checks.equal(f"{what} behind the last batch: cut, all before is served", values(broker, "torn"), sent)
        checks.equal("... and the file is as long as it was", active.stat().st_size, size)
        next_value = b"after " + what.encode()
        checks.equal("... and appends go on", produce(broker, "torn", [next_value]), [len(sent)])
        sent.append(next_value)
    broker.kill()
    active = segments(broker, "torn")[-1]
    os.truncate(active, active.stat().st_size - 7)
    broker.start()
    checks.equal("the last batch cut short: served up to the one before", values(broker, "torn"), sent[:-1])
    checks.equal("... and its offset is given anew", produce(broker, "torn", [b"again"]), [len(sent) - 1])
    checks.equal("a clean stop after that: exit code 0", broker.stop(), 0)
    broker.start()
    checks.equal("... and all is there", values(broker, "torn"), sent[:-1] + [b"again"])


def lost_indexes(broker):
    create(broker, "indexed", configs={"index.interval.bytes": "64", "segment.bytes": str(1 << 20)})
    start = int(time.time() * 1000) - 1_000_000
    times = [start + i * 1000 for i in range(12)]
    with Connection(broker.port) as c:
        for i, at in enumerate(times):
            c.produce("indexed", batch([b"%d" % i + bytes(200_000 if i % 3 == 0 else 50)], timestamp=at))

    def look_ups(what):
        with Connection(broker.port) as c:
            wrong = []
            for i, at in enumerate(times):
                for asked, expected in ((at, i), (at - 1, i), (at + 1, i + 1 if i + 1 < len(times) else -1)):
                    error, _, offset = c.list_offset("indexed", asked)
                    if (error, offset) != (0, expected):
                        wrong.append((asked - start, error, offset, expected))
            checks.that(f"look-ups by time, {what}", not wrong, wrong[:3])
            found = batches_of(c.fetch("indexed", 7)["records"])
            checks.that(f"a read from the middle, {what}", found and found[0]["base"] <= 7 <= found[0]["last"])

    look_ups("as written")
    folder = broker.directory / "indexed-0"
    for ending in (broker.stop, broker.kill):
        name = ending.__name__
        ending()
        lost = [p for p in folder.iterdir() if p.suffix in (".index", ".timeindex")]
        for p in lost:
            p.unlink()
        broker.start()
        look_ups(f"indexes deleted after {name}")
    broker.stop()
    for p in folder.iterdir():
        if p.suffix in (".index", ".timeindex"):
            p.write_bytes(os.urandom(52))
    broker.start()
    look_ups("indexes overwritten with noise")
    broker.stop()
    rebuilt = [p for p in folder.iterdir() if p.suffix == ".index"]
    checks.that("the indexes are files again", len(rebuilt) == len(segments(broker, "indexed")), rebuilt)
    broker.start()


# --- refused starts ---

def refusals(broker, folder):
    other = Broker(folder, "second", directory=broker.directory)
    code, said = other.run_to_end()
    checks.equal("a second broker on the same directory: exit code 3", code, EXIT_DIRECTORY)
    checks.that("... and the directory is named", str(broker.directory) in said, said)
    checks.that("... and the first one still serves", broker.answers())

    broker.stop()
    foreign = base64.urlsafe_b64encode(bytes(range(65, 81))).decode().rstrip("=")
    code, said = broker.run_to_end(more=[f"cluster.id={foreign}"])
    checks.equal("the directory of another cluster: exit code 3", code, EXIT_DIRECTORY)
    checks.that("... and both clusters and the directory are named", foreign in said and str(broker.directory) in said, said)
    code, said = broker.run_to_end(more=["node.id=7"])
    checks.that("the directory of another node is refused", code in (EXIT_CONFIG, EXIT_DIRECTORY), code)
    checks.that("... and named", str(broker.directory) in said, said)
    broker.start()
    fresh = Broker(folder, "fresh")
    code, said = fresh.run_to_end(more=["cluster.id=too-short"])
    checks.that("a cluster id that is none: exit code 2, and it is named", code == EXIT_CONFIG and "too-short" in said,
                (code, said))
    with fresh:
        fresh.start()
        checks.that("... and the directory is not marked with it", fresh.answers())

    for key, taken in (("listeners=PLAINTEXT://127.0.0.1:", broker.port), ("admin.listener=127.0.0.1:", broker.admin_port)):
        third = Broker(folder, "third")
        code, said = third.run_to_end(more=[f"{key}{taken}"])
        checks.equal(f"a taken port in {key.split('=')[0]}: exit code 4", code, EXIT_PORT)
        checks.that("... and it is named", str(taken) in said, said)

    wrong = Broker(folder, "wrong")
    for setting, needle in (("log.retention.mss=1", "log.retention.ms"), ("lisetners=PLAINTEXT://127.0.0.1:1", "listeners"),
                            ("num.partitons=3", "num.partitions"), ("retention.ms=5", "log.retention.ms"),
                            ("num.partitions=many", "num.partitions"), ("log.segment.bytes=3", "log.segment.bytes"),
                            ("nonsense", "key=value")):
        code, said = wrong.run_to_end(more=[setting])
        checks.that(f"{setting}: exit code 2, and {needle} is named", code == EXIT_CONFIG and needle in said, (code, said))
    code, said = wrong.run_to_end(arguments=["--config", f"{folder}/no-such-file"])
    checks.that("a configuration file that is not there: exit code 2, named", code == EXIT_CONFIG and "no-such-file" in said,
                (code, said))


# --- configuration as Kafka's users have it ---

# What the file holds that a fresh Kafka is started with, comments aside.
SERVER_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={directory}
num.partitions=3
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
group.coordinator.rebalance.protocols=classic,consumer
zookeeper.connect=localhost:2181
"""


def kafka_file(folder):
    with Broker(folder, "kafka-file") as b:
        controller = free_ports(1)[0]
        path = pathlib.Path(folder) / "server.properties"
        path.write_text(SERVER_PROPERTIES.format(port=b.port, controller=controller, directory=b.directory))
        b.start(arguments=["--config", str(path), "--set", f"admin.listener=127.0.0.1:{b.admin_port}"])
        checks.that("a Kafka server.properties starts a broker", b.answers())
        said = b.log()
        for key in ("num.network.threads", "num.io.threads", "zookeeper.connect", "transaction.state.log.min.isr"):
            checks.equal(f"{key}, which has no effect, is told once", said.count(key), 1)
        checks.that("keys with an effect are not warned of", "num.partitions" not in said, said)
        with Connection(b.port) as c:
            r = c.request(METADATA, 1, array([]))
            brokers = r.array(lambda: (r.i32(), r.text(), r.i32(), r.text()))
            checks.equal("its node id and advertised address count", brokers, [(1, "localhost", b.port, None)])
            checks.equal("a topic can be made", c.create_topic("t", partitions=1), 0)
            checks.equal("... and written to", c.produce("t", batch([b"x"]))[:2], (0, 0))
        checks.that("its log.dirs counts", (b.directory / "t-0").is_dir())
        checks.equal("SIGTERM: exit code 0", b.stop(), 0)


def kafka_environment(folder):
    with Broker(folder, "kafka-environment") as b:
        environment = {"KAFKA_LOG_DIRS": str(b.directory), "KAFKA_LISTENERS": f"PLAINTEXT://127.0.0.1:{b.port}",
                       "KAFKA_NODE_ID": "5", "KAFKA_NUM_PARTITIONS": "4", "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "true",
                       "MILLRACE_ADMIN_LISTENER": f"127.0.0.1:{b.admin_port}", "KAFKA_HEAP_OPTS": "-Xmx1g",
                       "KAFKA_OPTS": "-Dx=y", "KAFKA_JMX_PORT": "9999"}
        b.start(arguments=[], environment=environment)
        checks.that("KAFKA_LOG_DIRS is the data directory", (b.directory / "meta.properties").exists(), b.log())

        def partitions():
            with Connection(b.port) as c:
                r = c.request(METADATA, 1, array([text("made-by-asking")]))
                r.array(lambda: (r.i32(), r.text(), r.i32(), r.text()))
                r.i32()
                _, _, _, found = r.array(lambda: (r.i16(), r.text(), r.i8(), r.array(
                    lambda: (r.i16(), r.i32(), r.i32(), r.array(r.i32), r.array(r.i32)))))[0]
                return len(found)
        eventually(partitions)
        checks.equal("KAFKA_NUM_PARTITIONS counts for topics made by asking", partitions(), 4)
        checks.equal("MILLRACE_ADMIN_LISTENER counts", b.get("/health")[0], 200)
        checks.equal("SIGTERM: exit code 0", b.stop(), 0)
        checks.that("meta.properties has the node's id", "node.id=5" in (b.directory / "meta.properties").read_text())
        b.settings.append("node.id=6")
        code, _ = b.run_to_end(arguments=["--set", "node.id=6"], environment=environment)
        checks.that("--set is stronger than the environment: this directory is node 5's", code in (2, 3), code)


# --- settings while running ---

def retention(folder):
    with Broker(folder, "retention", settings=["log.retention.check.interval.ms=100"]) as b:
        b.start()
        create(b, "rolled", configs={"file.delete.delay.ms": "0", "retention.ms": "-1"})
        piece = batch([bytes(300_000)])

        def append(count):
            for _ in range(count):
                error = c.produce("rolled", piece)[0]
                if error:
                    raise RuntimeError(f"produce: error {error}")

        with Connection(b.port) as c:
            append(6)
            checks.equal("1.8 MB under segment.bytes of 1 GiB: one segment", len(segments(b, "rolled")), 1)
            checks.equal("segment.bytes is set to 1 MiB while running", c.alter_config("rolled", {"segment.bytes": str(1 << 20)}),
                         0)
            append(9)
            many = segments(b, "rolled")
            checks.that("... then 2.7 MB more roll three segments", len(many) >= 4, [p.name for p in many])
            checks.equal("log start before", c.list_offset("rolled", -2)[2], 0)
            checks.equal("retention.bytes is set to 1 MiB", c.alter_config("rolled", {"retention.bytes": str(1 << 20)}), 0)
            start = eventually(lambda: c.list_offset("rolled", -2)[2])
            size = sum(p.stat().st_size for p in segments(b, "rolled"))
            checks.that("... old segments go, never below the limit", 0 < start < 15 and 1 << 20 <= size < 2 << 20, (start, size))
            checks.equal("a fetch below the log start", c.fetch("rolled", 0)["error"], 1)
            got = batches_of(c.fetch("rolled", start)["records"])
            checks.that("a fetch at the log start", got and got[0]["base"] == start)
            time.sleep(0.01)
            checks.equal("retention.ms is set to 1", c.alter_config("rolled", {"retention.ms": "1"}), 0)
            checks.that("... everything goes, the active segment too",
                        eventually(lambda: c.list_offset("rolled", -2)[2] == 15), c.list_offset("rolled", -2))
            checks.that("... also from the disk", eventually(
                lambda: [p.name for p in (b.directory / "rolled-0").iterdir() if ".log" in p.name] == [f"{15:020d}.log"]),
                sorted(p.name for p in (b.directory / "rolled-0").iterdir()))
            checks.equal("the next offset is as if nothing had happened", c.produce("rolled", piece)[1], 15)
            checks.equal("retention.ms is taken back", c.alter_config("rolled", {"retention.ms": None}, operation=1), 0)
            eventually(lambda: False, 0.3)
        b.kill()
        b.start()
        with Connection(b.port) as c:
            start = c.list_offset("rolled", -2)[2]
            checks.that("the log start survives a kill", start >= 15, start)
            r = c.request(DESCRIBE_CONFIGS, 1, array([i8(2) + text("rolled") + array([text("segment.bytes")])]) + i8(0))
            r.i32()
            r.i32()
            checks.equal("the topic's settings survive a kill: no error", r.i16(), 0)
            r.text(), r.i8(), r.text(), r.i32()
            checks.equal("... segment.bytes", (r.text(), r.text()), ("segment.bytes", str(1 << 20)))
        checks.equal("SIGTERM: exit code 0", b.stop(), 0)


def conversions(broker):
    for name, configs in (("stamped", {"message.timestamp.type": "LogAppendTime"}), ("packed", {"compression.type": "gzip"}),
                          ("unpacked", {"compression.type": "uncompressed"}), ("both", {
                              "compression.type": "gzip", "message.timestamp.type": "LogAppendTime"})):
        create(broker, name, configs=configs)
    section = b"".join(record(b"value %d" % i, offset_delta=i) for i in range(50))
    sent = numbered(b"value", 50)
    old = 1_500_000_000_000
    now = time.time() * 1000
    with Connection(broker.port) as c:
        error, _, stamp, _ = c.produce("stamped", batch(sent, timestamp=old))
        b = batches_of(c.fetch("stamped", 0)["records"])[0]
        checks.that("LogAppendTime: the answer and the batch have the broker's time", error == 0 and abs(stamp - now) < 60_000
                    and b["max_timestamp"] == stamp and b["attributes"] & 8 and b["crc_ok"], (error, stamp, b["attributes"]))
        checks.equal("CreateTime: the answer has no time", c.produce("packed", batch(sent, timestamp=old))[2], -1)
        b = batches_of(c.fetch("packed", 0)["records"])[0]
        checks.that("compression.type=gzip: a plain batch is compressed", b["attributes"] & 7 == 1 and b["crc_ok"]
                    and gzip.decompress(b["records"]) == section and b["max_timestamp"] == old, b["attributes"])
        c.produce("unpacked", batch(sent, attributes=1, records=gzip.compress(section), timestamp=old))
        b = batches_of(c.fetch("unpacked", 0)["records"])[0]
        checks.that("compression.type=uncompressed: a compressed batch is opened", b["attributes"] & 7 == 0 and b["crc_ok"]
                    and b["records"] == section, b["attributes"])
        c.produce("both", batch(sent, timestamp=old))
        b = batches_of(c.fetch("both", 0)["records"])[0]
        checks.that("both at once", b["attributes"] & 15 == 9 and b["crc_ok"] and gzip.decompress(b["records"]) == section
                    and b["max_timestamp"] > old, b["attributes"])
        kept = batch(sent, attributes=1, records=gzip.compress(section), timestamp=old)
        c.produce("clean", kept)
        b = batches_of(c.fetch("clean", c.list_offset("clean", -1)[2] - 50)["records"])[-1]
        checks.that("compression.type=producer: a batch stays as it came", b["records"] == batches_of(kept)[0]["records"]
                    and b["attributes"] == 1)


# --- metrics ---

SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\S+)$')


def metrics(broker):
    status, page = broker.get("/metrics")
    checks.equal("/metrics answers", status, 200)
    types, samples, bad = {}, {}, []
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in types:
                bad.append(line)
            types[name] = kind
        elif line.startswith("# HELP ") or not line:
            continue
        else:
            m = SAMPLE.match(line)
            if not m:
                bad.append(line)
                continue
            value = float(m[3])
            family = re.sub(r"_(bucket|sum|count)$", "", m[1])
            if m[1] not in types and family not in types:
                bad.append(f"{m[1]} has no type")
            if (m[1], m[2]) in samples:
                bad.append(f"twice: {line}")
            samples[(m[1], m[2])] = value
    checks.that("/metrics is Prometheus text", page.endswith("\n") and samples and not bad, bad[:5])
    names = {name for name, _ in samples}
    for name in ("millrace_info", "millrace_produced_bytes_total", "millrace_produced_records_total",
                 "millrace_fetched_bytes_total", "millrace_requests_total", "millrace_request_seconds_bucket",
                 "millrace_requests_refused_total", "millrace_open_files", "process_resident_memory_bytes",
                 "process_cpu_seconds_total"):
        checks.that(f"metric {name}", name in names)
    checks.that("counters count", samples.get(("millrace_produced_records_total", None), 0) > 0)
    last, wrong = {}, []
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            series = name + re.sub(r',?le="[^"]*"', "", labels)
            if value < last.get(series, 0):
                wrong.append(labels)
            last[series] = value
    checks.that("histogram buckets never fall", last and not wrong, wrong[:3])
    status, health = broker.get("/health")
    checks.that("/health answers", status == 200 and "ok" in health, (status, health))
    checks.equal("another path: 404", broker.get("/nothing")[0], 404)


# --- what survives beside records ---

def memory_of_producers_and_groups(broker):
    create(broker, "sequences")
    create(broker, "gone")
    with Connection(broker.port) as c:
        error, producer, _ = c.init_producer()
        checks.equal("InitProducerId", error, 0)
        first = c.produce("sequences", batch([b"a", b"b"], producer=(producer, 0, 0)))[:2]
        second = c.produce("sequences", batch([b"c"], producer=(producer, 0, 2)))[:2]
        checks.equal("an idempotent producer appends", (first, second), ((0, 0), (0, 2)))
        c.request(DELETE_TOPICS, 1, array([text("gone")]) + i32(5000))
        checks.equal("OffsetCommit", c.commit_offset("readers", "sequences", 2, "note"), 0)
    ids = {producer}
    for ending in (broker.stop, broker.kill):
        how = f"after {'a clean stop' if ending == broker.stop else 'kill -9'}"
        ending()
        broker.start()
        with Connection(broker.port) as c:
            checks.equal(f"a duplicate gets its first offset, {how}",
                         c.produce("sequences", batch([b"c"], producer=(producer, 0, 2)))[:2], second)
            # A snapshot of producers keeps the last batch of each, as Kafka's does: an older one may be unknown.
            checks.equal(f"... an older one gets its own or is refused, {how}",
                         c.produce("sequences", batch([b"a", b"b"], producer=(producer, 0, 0)))[:2], {first, (45, -1)})
            checks.equal(f"a gap in the sequence is refused, {how}",
                         c.produce("sequences", batch([b"x"], producer=(producer, 0, 9)))[0], 45)
            checks.equal(f"nothing was appended twice, {how}", c.list_offset("sequences", -1)[2], 3)
            error, another, _ = c.init_producer()
            checks.that(f"producer ids are never given twice, {how}", error == 0 and another not in ids, (another, ids))
            ids.add(another)
            checks.equal(f"a group's offsets are there, {how}", c.committed_offset("readers", "sequences"), (0, 2, "note"))
            checks.equal(f"a deleted topic stays deleted, {how}", c.fetch("gone", 0)["error"], 3)
    with Connection(broker.port) as c:
        checks.equal("the producer goes on", c.produce("sequences", batch([b"d"], producer=(producer, 0, 3)))[:2], (0, 3))
        checks.equal("the group goes on", c.commit_offset("readers", "sequences", 4), 0)
        checks.equal("... and reads what it committed", c.committed_offset("readers", "sequences")[1], 4)


def several_directories(folder):
    first, second = pathlib.Path(folder) / "first", pathlib.Path(folder) / "second"
    with Broker(folder, "several", directory=f"{first},{second}") as b:
        b.start()
        expected = [[(0, b"%d" % p)] for p in range(6)]
        with Connection(b.port) as c:
            c.create_topic("spread", partitions=6)
            for p in range(6):
                c.produce("spread", batch([b"%d" % p]), partition=p)
        held = [len(list(d.glob("spread-*"))) for d in (first, second)]
        checks.equal("two directories: partitions are spread", held, [3, 3])
        for ending in (b.stop, b.kill):
            ending()
            b.start()
            with Connection(b.port) as c:
                checks.equal(f"... and found again after {ending.__name__}", [c.read_values("spread", 0, p) for p in range(6)],
                             expected)
        with Connection(b.port) as c:
            c.create_topic("again")
            c.produce("again", batch([b"old"] * 5))
            c.request(DELETE_TOPICS, 1, array([text("again")]) + i32(5000))
            checks.equal("a deleted topic can be made again", c.create_topic("again"), 0)
            checks.equal("... and begins at 0", c.produce("again", batch([b"new"]))[:2], (0, 0))
            c.request(CREATE_PARTITIONS, 0, array([text("again") + i32(3) + i32(-1)]) + i32(5000) + i8(0))
            checks.equal("... and can grow", c.produce("again", batch([b"third"]), partition=2)[:2], (0, 0))
        b.kill()
        b.start()
        with Connection(b.port) as c:
            checks.equal("after a kill it is the new one", c.read_values("again"), [(0, b"new")])
            checks.equal("... and has grown", c.read_values("again", 0, 2), [(0, b"third")])
            # A fetch that waits for half a minute must not hold up the end.
            one = i32(2) + i64(1) + i32(1000)
            c.send(FETCH, 4, i32(-1) + i32(30000) + i32(1) + i32(1000) + i8(0) + array([text("again") + array([one])]))
            time.sleep(0.1)
            began = time.monotonic()
            checks.equal("a waiting fetch does not hold up a stop", b.stop(), 0)
            checks.that("... which is quick", time.monotonic() - began < 5)


def many_partitions(folder):
    with Broker(folder, "many") as b:
        b.start()
        with Connection(b.port, timeout=30) as c:
            checks.equal("a topic of 500 partitions is made", c.create_topic("many", partitions=500), 0)
            checks.equal("... and served", c.produce("many", batch([b"last"]), partition=499)[:2], (0, 0))
        began = time.monotonic()
        checks.equal("... and stopped", b.stop(30), 0)
        checks.that("... quickly", time.monotonic() - began < 20, f"{time.monotonic() - began:.1f} s")
        for _ in range(5):  # killed before it is ready
            b.spawn()
            time.sleep(0.03)
            b.kill()
        b.start()
        with Connection(b.port) as c:
            checks.equal("... and is there after kills during the start", c.read_values("many", 0, 499), [(0, b"last")])
        checks.equal("SIGTERM: exit code 0", b.stop(30), 0)


def main():
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder, Broker(folder) as broker:
        parts = [("clean_stop", lambda: clean_stop(broker)), ("kill", lambda: kill(broker)),
                 ("torn_tail", lambda: torn_tail(broker)), ("lost_indexes", lambda: lost_indexes(broker)),
                 ("conversions", lambda: conversions(broker)), ("metrics", lambda: metrics(broker)),
                 ("memory", lambda: memory_of_producers_and_groups(broker)), ("refusals", lambda: refusals(broker, folder)),
                 ("kafka_file", lambda: kafka_file(folder)), ("kafka_environment", lambda: kafka_environment(folder)),
                 ("retention", lambda: retention(folder)), ("several_directories", lambda: several_directories(folder)),
                 ("many_partitions", lambda: many_partitions(folder))]
        for name, part in parts:
            began = time.monotonic()
            if broker.process is not None and broker.process.poll() is not None:
                broker.start()
            with checks.group(name):
                part()
            print(f"# {name}: {time.monotonic() - began:.1f} s")
        with checks.group("the end"):
            if broker.process.poll() is not None:
                broker.start()
            checks.equal("SIGTERM: exit code 0", broker.stop(), 0)
            errors = [line for line in broker.log().splitlines() if re.match(r"\S+ \S+ error ", line)]
            checks.that("no error in its log", not errors, errors[:5])
    checks.finish()


if __name__ == "__main__":
    main()
