#!/usr/bin/env python3
"""Sends a broker what no honest client sends, and looks at how it answers.

usage: tests/e2e/bad_input.py      the binary: $MILLRACE_BIN, else build/release/millrace

A frame that cannot be understood closes its connection without an answer; a request that is understood but wrong gets the
error code that clients act on. Whatever comes in, the broker goes on serving others, keeps its data and its memory, and
ends with exit code 0 when told to.
"""

import gzip
import os
import random
import resource
import socket
import tempfile
import threading
import time

from harness import (ALTER_CONFIGS, API_VERSIONS, CREATE_ACLS, CREATE_PARTITIONS, CREATE_TOPICS, DELETE_ACLS, DELETE_TOPICS,
                     DESCRIBE_ACLS, DESCRIBE_CONFIGS, FETCH, HEARTBEAT, JOIN_GROUP, METADATA, OFFSET_FOR_LEADER_EPOCH,
                     PRODUCE, SYNC_GROUP, Broker, Checks, Connection, array, batch, batches_of, blob, i8, i16, i32, i64, record,
                     text)

TOPIC, COMPACTED = "good", "compacted"
MEMORY_MB_MAX = 150
checks = Checks()


def closes(broker, what, data, half_close=False):
    """Sends raw bytes: the connection must end without an answer."""
    with Connection(broker.port, timeout=5) as c:
        try:
            c.socket.sendall(data)
            if half_close:
                c.socket.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # closed while we were still sending
        got = c.end()
        checks.equal(f"{what}: closed, no answer", got, b"")


def closes_request(broker, what, api, version, body=b"", client="e2e"):
    frame = i16(api) + i16(version) + i32(7) + text(client) + body
    closes(broker, what, i32(len(frame)) + frame)


# --- frames ---

def wrong_protocol(broker):
    hello = bytes.fromhex("1603010200010001fc0303") + os.urandom(506)
    closes(broker, "TLS ClientHello on a plaintext port", hello)
    checks.that("the log names the TLS handshake", "TLS handshake" in broker.log(), broker.log()[-500:])
    closes(broker, "HTTP on a Kafka port", b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
    checks.that("the log names the HTTP request", "HTTP request" in broker.log(), broker.log()[-500:])
    before = broker.log().count("\n")
    for _ in range(100):
        with Connection(broker.port) as c:
            c.socket.sendall(b"POST /topics/good HTTP/1.1\r\n\r\n")
            c.end()
    lines = broker.log().count("\n") - before
    checks.that("a hundred such connections write few lines", lines <= 20, f"{lines} lines")


def bad_frames(broker):
    closes(broker, "frame one byte over socket.request.max.bytes", i32(104857601) + b"x" * 100)
    closes(broker, "frame of 2^31-1 bytes", i32(2**31 - 1) + b"x" * 100)
    for size in (-1, -2**31, 0, 1, 7):
        closes(broker, f"frame of {size} bytes", i32(size) + b"\0" * 16)
    whole = i16(METADATA) + i16(1) + i32(1) + text("e2e") + array([])
    closes(broker, "frame cut in the middle", i32(len(whole)) + whole[:-3], half_close=True)
    closes(broker, "size cut in the middle", b"\0\0", half_close=True)
    closes(broker, "client id longer than its frame", i32(14) + i16(METADATA) + i16(1) + i32(1) + i16(30000) + b"abcd")
    closes(broker, "client id of length -5", i32(14) + i16(METADATA) + i16(1) + i32(1) + i16(-5) + b"\0\0\0\0")
    with Connection(broker.port) as c:
        c.send(METADATA, 1, array([]), client=None)
        checks.equal("a null client id is none the worse", c.receive()[0], 1)
    with Connection(broker.port) as c:  # byte by byte, as a slow network would
        frame = i16(API_VERSIONS) + i16(0) + i32(9) + text("slow")
        for byte in i32(len(frame)) + frame:
            c.socket.sendall(bytes([byte]))
        checks.equal("a request that comes byte by byte is answered", c.receive()[0], 9)


def bad_counts(broker):
    for count in (2**31 - 1, -5):
        closes_request(broker, f"Produce with {count} topics", PRODUCE, 3, text(None) + i16(1) + i32(100) + i32(count))
        closes_request(broker, f"Produce with {count} partitions", PRODUCE, 3,
                       text(None) + i16(1) + i32(100) + i32(1) + text(TOPIC) + i32(count))
        closes_request(broker, f"Fetch with {count} topics", FETCH, 4,
                       i32(-1) + i32(0) + i32(0) + i32(1000) + i8(0) + i32(count))
        closes_request(broker, f"CreateTopics with {count} topics", CREATE_TOPICS, 2, i32(count))
        closes_request(broker, f"JoinGroup with {count} protocols", JOIN_GROUP, 0,
                       text("g") + i32(10000) + text("") + text("consumer") + i32(count))
        size = min(count, 32767)
        closes_request(broker, f"group id of {size} bytes", HEARTBEAT, 0, i16(size) + b"abc")
    closes_request(broker, "Metadata with 2^31-1 topics", METADATA, 1, i32(2**31 - 1))
    closes_request(broker, "flexible Metadata with a count of 2^32-1", METADATA, 9, b"\0" + b"\xff\xff\xff\xff\x0f")
    closes_request(broker, "flexible Metadata with a varint without end", METADATA, 9, b"\0" + b"\xff" * 12)
    closes_request(broker, "Produce records longer than the frame", PRODUCE, 3,
                   text(None) + i16(1) + i32(100) + i32(1) + text(TOPIC) + i32(1) + i32(0) + i32(2**31 - 1) + b"abc")
    closes_request(broker, "Produce without a body", PRODUCE, 3)


def bad_versions(broker):
    for api in (9999, 32767, -1, 20000, 4, 5, 6, 7):
        closes_request(broker, f"api key {api}", api, 0, array([]))
    for api, version in ((METADATA, 99), (METADATA, -1), (PRODUCE, 0), (PRODUCE, 2), (FETCH, 3), (FETCH, 99), (JOIN_GROUP, 77),
                         (CREATE_TOPICS, 1)):
        closes_request(broker, f"api {api} version {version}", api, version, array([]))
    for version in (99, 32767, -1):
        with Connection(broker.port) as c:
            # From version 3 on the header ends with tags; here follow two names and tags, as a later client would send.
            r = c.request(API_VERSIONS, version, b"\0\4e2e\0041.0\0" if version > 0 else b"")
            error, keys = r.i16(), r.array(lambda: (r.i16(), r.i16(), r.i16()))
            own = [k for k in keys if k[0] == API_VERSIONS]
            checks.that(f"ApiVersions version {version}: error 35 in the layout of version 0, with the served range",
                        error == 35 and own and own[0][1] == 0 and own[0][2] >= 3 and r.rest() == 0, (error, keys))
            again = c.request(API_VERSIONS, 0)
            checks.equal("... and the same connection may ask again", again.i16(), 0)


def noise(broker):
    """Random bodies under true headers, for each served version of each api, and bodies cut short."""
    rng = random.Random(7)
    with Connection(broker.port) as c:
        r = c.request(API_VERSIONS, 0)
        r.i16()
        apis = r.array(lambda: (r.i16(), r.i16(), r.i16()))
    sent = 0
    for key, low, high in apis:
        for version in range(low, high + 1):
            for size in (0, 3, 40, 300):
                body = bytes(rng.choice((0, 0, 0, 1, 2, 255, rng.randrange(256))) for _ in range(size))
                frame = i16(key) + i16(version) + i32(1) + text("noise") + body
                with Connection(broker.port) as c:
                    try:
                        c.socket.sendall(i32(len(frame)) + frame)
                    except ConnectionError:
                        pass
                sent += 1
    for _ in range(100):
        with Connection(broker.port) as c:
            c.socket.sendall(rng.randbytes(rng.randrange(1, 2000)))
        sent += 1
    checks.that(f"{sent} frames of noise do not stop it", broker.answers())


# --- records ---

def refused_batches(broker):
    with Connection(broker.port, timeout=30) as c:
        good = batch([b"v1", b"v2"])

        def refused(what, data, expected, topic=TOPIC, version=7, **how):
            try:
                found = c.produce(topic, data, version=version, **how)
                checks.that(f"{what}: error {expected}", found[0] in (expected if isinstance(expected, set) else {expected})
                            and found[1] == -1, f"error {found[0]}, offset {found[1]}")
            except EOFError as e:
                checks.that(f"{what}: error {expected}", False, str(e))
                c.__init__(broker.port, timeout=30)

        refused("wrong CRC", batch([b"v"], crc=12345), 2)
        flipped = bytearray(good)
        flipped[-2] ^= 1
        refused("a flipped bit in a value", bytes(flipped), 2)
        for magic in (0, 1, 3, -1):
            refused(f"magic {magic}", batch([b"v"], magic=magic), 87)
        refused("batch cut short", good[:-5], {2, 87})
        refused("header cut short", good[:40], {2, 87})
        refused("null records", None, 87)
        refused("empty records", b"", 87)
        refused("two batches in one", good + good, 87)
        refused("count says 5, there are 2", batch([b"a", b"b"], count=5, delta=4), 87)
        refused("count says 1, there are 2", batch([b"a", b"b"], count=1, delta=0), 87)
        refused("count and last offset delta differ", batch([b"a", b"b"], count=2, delta=7), 87)
        for count in (0, -1):
            refused(f"count {count}", batch([b"a"], count=count, delta=0), 87)
        refused("count 2^31-1", batch([b"a"], count=2**31 - 1, delta=2**31 - 2), 87)
        refused("record longer than its batch", batch([b"a"], records=b"\xfe\xff\x03" + record(b"a")[1:]), 87)
        refused("record with a varint without end", batch([b"a"], records=b"\xff" * 11), 87)
        refused("bytes behind the last record", batch([b"a"], records=record(b"a") + b"xx"), 87)
        refused("base offset 5", batch([b"a"], base_offset=5), 87)
        refused("base offset -1", batch([b"a"], base_offset=-1), {2, 87})
        refused("control bit", batch([b"a"], attributes=0x20), 87)
        refused("transactional bit without a producer", batch([b"a"], attributes=0x10), 87)
        refused("producer id without a sequence", batch([b"a"], producer=(5, 0, -1)), 87)
        refused("a codec that does not exist", batch([b"a"], attributes=7), 76)
        refused("zstd in Produce 6", batch([b"a"], attributes=4), 76, version=6)
        refused("timestamp in the year 2300", batch([b"a"], timestamp=10_413_792_000_000), 32)
        refused("no key on a compacted topic", batch([b"a"]), 87, topic=COMPACTED)
        refused("gzip that is no gzip, on a compacted topic", batch([b"a"], attributes=1, records=b"not gzip at all"),
                {2, 87}, topic=COMPACTED)
        bomb = gzip.compress(bytes(160 << 20), 9)
        spent = broker.cpu_seconds()
        refused(f"{len(bomb) >> 10} KiB that inflate to 160 MiB", batch([b"a"], attributes=1, records=bomb), {2, 10, 87},
                topic=COMPACTED)
        spent = broker.cpu_seconds() - spent
        checks.that("... for less than 2 s of CPU", spent < 2, f"{spent:.1f} s")
        refused("batch over max.message.bytes", batch([bytes(1 << 20)]), 10)
        refused("acks 5", good, 21, acks=5)
        refused("acks -2", good, 21, acks=-2)
        refused("unknown topic", good, 3, topic="no-such-topic")
        refused("unknown partition", good, 3, partition=99)
        refused("partition -1", good, 3, partition=-1)
        refused("a topic's name that cannot be", good, {3, 17}, topic="../../etc/passwd")
        refused("an internal topic", good, {3, 17, 29}, topic="__consumer_offsets")

        checks.equal("after all that a good batch is appended", c.produce(TOPIC, good)[0], 0)

    with Connection(broker.port) as c:
        c.send_produce(TOPIC, good, acks=0)
        asked = c.send(API_VERSIONS, 0)
        checks.equal("acks=0 is not answered", c.receive()[0], asked)
        c.send_produce(TOPIC, batch([b"v"], crc=1), acks=0)
        checks.equal("acks=0 with a bad batch closes the connection", c.end(), b"")


# --- requests ---

def topics(broker):
    with Connection(broker.port) as c:
        for name in ("", ".", "..", "a b", "a/b", "ä", "a\0b", "x" * 250):
            checks.equal(f"CreateTopics {name[:12]!r} ({len(name)}): invalid name", c.create_topic(name), 17)
        checks.equal("a name of 249 characters is fine", c.create_topic("y" * 249), 0)
        checks.equal("CreateTopics again: exists", c.create_topic(TOPIC), 36)
        for configs in ({"no.such.key": "1"}, {"retention.ms": "soon"}, {"retention.ms": "-2"}, {"cleanup.policy": "burn"},
                        {"compression.type": "rar"}, {"segment.bytes": "99999999999"}, {"min.insync.replicas": "0"}):
            checks.equal(f"CreateTopics with {configs}: invalid config", c.create_topic("t-config", configs=configs), 40)
        checks.equal("CreateTopics with 0 partitions", c.create_topic("t-zero", partitions=0), 37)
        checks.equal("CreateTopics with -7 partitions", c.create_topic("t-negative", partitions=-7), 37)
        checks.equal("CreateTopics with replication 0", c.create_topic("t-none", replication=0), 38)
        checks.equal("CreateTopics with more replicas than brokers", c.create_topic("t-three", replication=3), 38)
        checks.that("CreateTopics with 2^31-1 partitions is refused",
                    c.create_topic("t-many", partitions=2**31 - 1) in (37, 44), "")
        twin = text("twin") + i32(1) + i16(1) + array([]) + array([])
        r = c.request(CREATE_TOPICS, 2, array([twin, twin]) + i32(1000) + i8(0))
        r.i32()
        checks.that("the same topic twice in a request: 42",
                    {e[1] for e in r.array(lambda: (r.text(), r.i16(), r.text()))} == {42})

        def more(topic, count):
            r = c.request(CREATE_PARTITIONS, 0, array([text(topic) + i32(count) + i32(-1)]) + i32(1000) + i8(0))
            r.i32()
            return r.array(lambda: (r.text(), r.i16(), r.text()))[0][1]
        checks.equal("CreatePartitions to fewer", more(TOPIC, 1), 37)
        checks.equal("CreatePartitions to as many", more(TOPIC, 2), 37)
        checks.equal("CreatePartitions to -1", more(TOPIC, -1), 37)
        checks.equal("CreatePartitions of an unknown topic", more("no-such-topic", 5), 3)
        r = c.request(DELETE_TOPICS, 1, array([text("no-such-topic")]) + i32(1000))
        r.i32()
        checks.equal("DeleteTopics of an unknown topic", r.array(lambda: (r.text(), r.i16()))[0][1], 3)

        checks.equal("IncrementalAlterConfigs, unknown key", c.alter_config(TOPIC, {"no.such.key": "1"}), 40)
        checks.equal("IncrementalAlterConfigs, bad value", c.alter_config(TOPIC, {"retention.ms": "x"}), 40)
        checks.equal("IncrementalAlterConfigs, null value", c.alter_config(TOPIC, {"retention.ms": None}), {40, 42})
        checks.equal("IncrementalAlterConfigs, append to a number", c.alter_config(TOPIC, {"retention.ms": "1"}, 2), {40, 42})
        checks.equal("IncrementalAlterConfigs, unknown operation", c.alter_config(TOPIC, {"retention.ms": "1"}, 9), {40, 42})
        checks.equal("IncrementalAlterConfigs, unknown topic", c.alter_config("no-such-topic", {"retention.ms": "1"}), 3)
        checks.equal("IncrementalAlterConfigs, unknown resource type", c.alter_config("x", {"a": "1"}, kind=99), {40, 42})
        r = c.request(ALTER_CONFIGS, 0, array([i8(2) + text(TOPIC) + array([text("retention.ms") + text("x")])]) + i8(0))
        r.i32()
        checks.equal("AlterConfigs, bad value", r.array(lambda: (r.i16(), r.text(), r.i8(), r.text()))[0][0], 40)
        r = c.request(DESCRIBE_CONFIGS, 1, array([i8(2) + text("no-such-topic") + i32(-1)]) + i8(0))
        r.i32()
        r.i32()
        checks.equal("DescribeConfigs of an unknown topic", r.i16(), 3)


def reading(broker):
    with Connection(broker.port) as c:
        checks.equal("Fetch beyond the end", c.fetch(TOPIC, 10**12)["error"], 1)
        checks.equal("Fetch at offset -7", c.fetch(TOPIC, -7)["error"], 1)
        checks.equal("Fetch of an unknown topic", c.fetch("no-such-topic", 0)["error"], 3)
        checks.equal("Fetch of partition 99", c.fetch(TOPIC, 0, partition=99)["error"], 3)
        checks.equal("Fetch of partition -1", c.fetch(TOPIC, 0, partition=-1)["error"], 3)
        refused = c.fetch(TOPIC, 0, replica=5)
        checks.that("Fetch as replica 5: 31 and no data", refused["top"] == 31 and not refused["records"], refused)
        refused = c.fetch(TOPIC, 0, replica=5, version=4)
        checks.that("Fetch 4 as replica 5: no data", not refused["records"], refused)
        checks.equal("Fetch in an unknown session", c.fetch(TOPIC, 0, session=(12345, 5))["top"], 70)
        odd = c.fetch(TOPIC, 0, size=-1, wait=-1)
        checks.that("Fetch with negative limits is answered", odd["error"] == 0, odd)
        whole = c.fetch(TOPIC, 0, size=1)
        checks.that("Fetch of 1 byte gives one whole batch", len(batches_of(whole["records"])) == 1, whole["error"])
        checks.equal("Fetch with an epoch to come", c.fetch(TOPIC, 0, epoch=999)["error"], 75)
        checks.equal("Fetch with an epoch that is over", c.fetch(TOPIC, 0, epoch=0)["error"], 74)
        for special in (-5, -6, -7, -2**63):
            checks.equal(f"ListOffsets {special}", c.list_offset(TOPIC, special)[0], 35)
        checks.equal("ListOffsets -3 before version 7", c.list_offset(TOPIC, -3)[0], 35)
        checks.equal("ListOffsets of an unknown topic", c.list_offset("no-such-topic", -1)[0], 3)
        checks.equal("ListOffsets of partition 99", c.list_offset(TOPIC, -1, partition=99)[0], 3)
        checks.equal("ListOffsets with an epoch to come", c.list_offset(TOPIC, -1, epoch=999)[0], 75)
        checks.equal("ListOffsets with an epoch that is over", c.list_offset(TOPIC, -1, epoch=0)[0], 74)

        def epoch_end(current, epoch, topic=TOPIC):
            body = array([text(topic) + array([i32(0) + i32(current) + i32(epoch)])])
            r = c.request(OFFSET_FOR_LEADER_EPOCH, 2, body)
            r.i32()
            return r.array(lambda: (r.text(), r.array(lambda: (r.i16(), r.i32(), r.i32(), r.i64()))))[0][1][0]
        checks.equal("OffsetForLeaderEpoch with an epoch to come", epoch_end(999, 0)[0], 75)
        checks.equal("OffsetForLeaderEpoch with an epoch that is over", epoch_end(0, 0)[0], 74)
        checks.equal("OffsetForLeaderEpoch of an epoch never had", epoch_end(-1, 999)[2:], (-1, -1))
        checks.equal("OffsetForLeaderEpoch of an unknown topic", epoch_end(-1, 0, "no-such-topic")[0], 3)


def groups(broker):
    with Connection(broker.port) as c:
        def join(group, session, member="", protocol_type="consumer", protocols=("range",)):
            body = (text(group) + i32(session) + text(member) + text(protocol_type)
                    + array([text(p) + blob(b"") for p in protocols]))
            return c.once_loaded(lambda: c.request(JOIN_GROUP, 0, body).i16())

        checks.equal("JoinGroup, session timeout 1 ms", join("g", 1), 26)
        checks.equal("JoinGroup, session timeout -1", join("g", -1), 26)
        checks.equal("JoinGroup, session timeout 2^31-1", join("g", 2**31 - 1), 26)
        checks.equal("JoinGroup, empty group id", join("", 10000), 24)
        checks.equal("JoinGroup, a member nobody knows", join("g", 10000, member="ghost"), 25)
        checks.equal("JoinGroup, no protocols", join("g", 10000, protocols=()), 23)
        checks.equal("JoinGroup, no protocol type", join("g", 10000, protocol_type=""), 23)
        checks.equal("FindCoordinator, empty group id", c.find_coordinator(""), 24)
        checks.equal("Heartbeat in an unknown group", c.request(HEARTBEAT, 0, text("nobody") + i32(1) + text("m")).i16(), 25)
        checks.equal("SyncGroup in an unknown group",
                     c.request(SYNC_GROUP, 0, text("nobody") + i32(1) + text("m") + array([])).i16(), 25)
        checks.equal("OffsetCommit with 5,000 bytes of metadata", c.commit_offset("g", TOPIC, 1, "m" * 5000), 12)
        checks.equal("OffsetCommit for an unknown topic", c.commit_offset("g", "no-such-topic", 1), 3)
        checks.equal("OffsetCommit of a generation nobody has", c.commit_offset("g", TOPIC, 1, generation=9, member="m"),
                     {22, 25})
        checks.equal("OffsetFetch knows nothing of these", c.committed_offset("g", TOPIC)[1], -1)


def other_requests(broker):
    with Connection(broker.port) as c:
        wide = i8(1) + text(None) + i8(1) + text(None) + text(None) + i8(1) + i8(1)
        r = c.request(DESCRIBE_ACLS, 1, wide)
        r.i32()
        checks.equal("DescribeAcls without an authorizer", r.i16(), 54)
        entry = i8(2) + text(TOPIC) + i8(3) + text("User:eve") + text("*") + i8(2) + i8(3)
        r = c.request(CREATE_ACLS, 1, array([entry]))
        r.i32()
        checks.equal("CreateAcls without an authorizer", r.array(lambda: (r.i16(), r.text()))[0][0], 54)
        r = c.request(DELETE_ACLS, 1, array([wide]))
        r.i32()
        r.i32()
        checks.equal("DeleteAcls without an authorizer", r.i16(), 54)
        error, producer, epoch = c.init_producer("transactional-one")
        checks.that("InitProducerId for transactions is refused", error != 0 and producer == -1, (error, producer, epoch))
        checks.that("InitProducerId with an empty transactional id is refused", c.init_producer("")[0] == 42)
        error, producer, epoch = c.init_producer()
        checks.that("InitProducerId without one gives an id", error == 0 and producer >= 0 and epoch == 0)

        def sequence(number, count=1, of_epoch=0):
            return c.produce("sequences", batch([b"s"] * count, producer=(producer, of_epoch, number)))[:2]
        first = sequence(0)
        checks.equal("the first sequence is taken", first[0], 0)
        checks.equal("the same again: its first offset", sequence(0), first)
        checks.equal("a gap in the sequence", sequence(7)[0], 45)
        checks.equal("a new epoch must begin at 0", sequence(3, of_epoch=1)[0], 45)
        checks.equal("a new epoch", sequence(0, of_epoch=1)[0], 0)
        checks.equal("an epoch that is over", sequence(1)[0], {47, 90})


# --- load ---

def half_open(broker):
    frames = [b"", b"\0", i32(100 << 20)[:4] + i16(PRODUCE) + i16(7), i32(1 << 20) + b"\0\3\0\1" + b"x" * 500]
    memory = broker.memory_mb()
    idle = []
    try:
        for i in range(1000):
            s = socket.create_connection(("127.0.0.1", broker.port), timeout=10)
            s.sendall(frames[i % len(frames)])
            idle.append(s)
        began = time.monotonic()
        with Connection(broker.port) as c:
            for i in range(200):
                if c.produce("beside", batch([b"%d" % i]))[0] != 0:
                    raise RuntimeError(f"produce {i} failed")
            read = c.read_values("beside")
        seconds = time.monotonic() - began
        checks.that("1,000 half-open connections do not stop a client", len(read) == 200 and seconds < 10,
                    f"{len(read)} records, {seconds:.1f} s")
        grown = broker.memory_mb() - memory
        checks.that("... nor take more than 50 KiB each, with frames of 100 MiB announced", grown < 50, f"{grown:.0f} MB")
    finally:
        for s in idle:
            s.close()


def pipelined(broker):
    with Connection(broker.port, timeout=20) as c:
        sent, kinds = [], []
        rng = random.Random(3)
        payload = bytearray()

        class Buffer:  # gathers what would be sent
            def sendall(self, data):
                payload.extend(data)

        real, c.socket = c.socket, Buffer()
        for i in range(500):
            kind = rng.choice((API_VERSIONS, METADATA, PRODUCE))
            kinds.append(kind)
            if kind == API_VERSIONS:
                sent.append(c.send(API_VERSIONS, 0))
            elif kind == METADATA:
                sent.append(c.send(METADATA, 1, array([text(TOPIC)])))
            else:
                sent.append(c.send_produce("pipelined", batch([b"%d" % i]), acks=rng.choice((1, -1))))
        c.socket = real
        sender = threading.Thread(target=c.socket.sendall, args=(bytes(payload),))
        sender.start()
        got, offsets = [], []
        for kind in kinds:
            correlation, r = c.receive()
            got.append(correlation)
            if kind == PRODUCE:
                r.take(4 + 2 + len("pipelined") + 4 + 4)
                if r.i16() == 0:
                    offsets.append(r.i64())
        sender.join()
        checks.that("500 pipelined requests are answered in order", got == sent, got[:10])
        checks.that("... and appended in order", offsets == list(range(kinds.count(PRODUCE))), offsets[:10])


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    # The backlog: a thousand connections come faster than a busy machine accepts, and a refused SYN costs a second.
    settings = ["group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=false", "socket.listen.backlog.size=1024"]
    with tempfile.TemporaryDirectory(prefix="bad-input-") as folder, Broker(folder, settings=settings) as broker:
        broker.start()
        kept = [b"record %d" % i for i in range(100)]
        with Connection(broker.port) as c:
            c.create_topic(TOPIC, partitions=2)
            c.create_topic(COMPACTED, configs={"cleanup.policy": "compact"})
            for name in ("kept", "beside", "pipelined", "sequences"):
                c.create_topic(name)
            c.produce(TOPIC, batch([b"one"]))
            for v in kept:
                c.produce("kept", batch([v]))
        # The second life gives the leaders an epoch above 0, so that there is one that is over.
        checks.equal("SIGTERM: exit code 0", broker.stop(), 0)
        broker.start()
        for part in (wrong_protocol, bad_frames, bad_counts, bad_versions, refused_batches, topics, reading, groups,
                     other_requests, half_open, pipelined, noise):
            began = time.monotonic()
            with checks.group(part.__name__):
                part(broker)
            print(f"# {part.__name__}: {time.monotonic() - began:.1f} s")
            if broker.process.poll() is not None:
                checks.that(f"the broker lives after {part.__name__}", False,
                            f"exit code {broker.process.returncode}\n{broker.log()[-3000:]}")
                broker.start()
        with checks.group("afterwards"):
            checks.that("it still serves", broker.answers())
            with Connection(broker.port) as c:
                checks.equal("what was produced is intact", [v for _, v in c.read_values("kept")], kept)
            status, _ = broker.get("/health")
            checks.equal("it calls itself healthy", status, 200)
            memory = broker.memory_mb()
            checks.that(f"it holds less than {MEMORY_MB_MAX} MB", memory < MEMORY_MB_MAX, f"{memory:.0f} MB")
            print(f"# memory {memory:.0f} MB, at most {broker.memory_mb('VmHWM'):.0f} MB")
            checks.equal("SIGTERM: exit code 0", broker.stop(), 0)
            checks.that("no error in its log", " error " not in broker.log(),
                        [line for line in broker.log().splitlines() if " error " in line][:5])
    checks.finish()


if __name__ == "__main__":
    main()
