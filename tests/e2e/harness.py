"""What the end-to-end programs share: a broker process, a raw connection, the encoding of messages, the counting of checks.

Only the standard library, and nothing of the broker's own code or schemas: layouts are written here by hand from Kafka's
protocol guide, so that a mistake in the broker's codec cannot hide in its test. Versions below the flexible ones are used
throughout.
"""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = os.environ.get("MILLRACE_BIN") or str(ROOT / "build/release/millrace")
# What is set here for others must not configure the broker under test.
OWN_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "KAFKA_")) and k != "CLUSTER_ID"}

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = range(8, 15)
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS = 18, 19, 20
INIT_PRODUCER_ID, OFFSET_FOR_LEADER_EPOCH = 22, 23
DESCRIBE_ACLS, CREATE_ACLS, DELETE_ACLS = 29, 30, 31
DESCRIBE_CONFIGS, ALTER_CONFIGS, CREATE_PARTITIONS, INCREMENTAL_ALTER_CONFIGS = 32, 33, 37, 44


# --- counting ---

class Checks:
    """Counts and prints what was found out. A check that raises is a failed check."""

    def __init__(self):
        self.passed = self.failed = 0
        self.began = time.monotonic()

    def that(self, what, holds, detail=""):
        if holds:
            self.passed += 1
            print(f"ok      {what}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {what}{': ' if detail != '' else ''}{detail}", flush=True)
        return bool(holds)

    def equal(self, what, found, expected):
        """`expected` may be a set: any of them."""
        holds = found in expected if isinstance(expected, (set, frozenset)) else found == expected
        return self.that(what, holds, f"found {found!r}, expected {expected!r}")

    @contextlib.contextmanager
    def group(self, what):
        """An exception inside is one failed check; the next group still runs."""
        try:
            yield
        except Exception as e:  # whatever it was, the other groups are to be heard
            where = e.__traceback__
            while where.tb_next:
                where = where.tb_next
            self.that(what, False, f"{type(e).__name__}: {e} (line {where.tb_lineno} of {where.tb_frame.f_code.co_filename})")

    def finish(self):
        print(f"# {time.monotonic() - self.began:.1f} s")
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(0 if self.failed == 0 and self.passed > 0 else 1)


def eventually(probe, seconds=10.0, step=0.02):
    """Polls until `probe` gives something true; that, or its last value when time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(step)


# --- the process ---

def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Broker:
    """One broker process on its own ports; the directory outlives it."""

    host = "127.0.0.1"

    def __init__(self, folder, name="broker", directory=None, settings=()):
        self.folder = pathlib.Path(folder)
        self.port, self.admin_port = free_ports(2)
        self.directory = directory or self.folder / f"{name}-data"
        self.log_path = self.folder / f"{name}.log"
        self.settings = [f"listeners=PLAINTEXT://127.0.0.1:{self.port}", f"log.dirs={self.directory}",
                         f"admin.listener=127.0.0.1:{self.admin_port}", *settings]
        self.process = None

    def spawn(self, arguments=None, environment=None, more=()):
        command = [BINARY, "server"]
        for setting in [*self.settings, *more] if arguments is None else []:
            command += ["--set", setting]
        command += arguments or []
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                            env={**OWN_ENVIRONMENT, **(environment or {})})
        return self

    def start(self, **how):
        self.spawn(**how)
        if not eventually(lambda: self.process.poll() is not None or self.answers(), 15, 0.01):
            raise RuntimeError(f"the broker does not answer:\n{self.log()[-2000:]}")
        if self.process.poll() is not None:
            raise RuntimeError(f"the broker ended with exit code {self.process.returncode}:\n{self.log()[-2000:]}")
        return self

    def connect(self, timeout=10):
        return Connection(self.port, timeout, self.host)

    def answers(self):
        try:
            with self.connect(2) as c:
                return c.request(API_VERSIONS, 0).i16() == 0
        except (OSError, EOFError):
            return False

    def run_to_end(self, seconds=10, **how):
        """For a start that must be refused: (exit code, what it said)."""
        before = len(self.log())
        self.spawn(**how)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            code = "still running"
        return code, self.log()[before:]

    def stop(self, seconds=15):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return "killed: it did not end"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def memory_mb(self, field="VmRSS"):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        return 0

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path):
        """GET from the admin port: (status, text)."""
        connection = http.client.HTTPConnection(self.host, self.admin_port, timeout=5)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.kill()


# --- encoding ---

def i8(v): return struct.pack(">b", v)
def i16(v): return struct.pack(">h", v)
def i32(v): return struct.pack(">i", v)
def i64(v): return struct.pack(">q", v)


def text(v):
    """A string; None is null."""
    return i16(-1) if v is None else i16(len(v.encode())) + v.encode()


def blob(v):
    return i32(-1) if v is None else i32(len(v)) + v


def array(items):
    return i32(len(items)) + b"".join(items)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if size < 0 or self.at + size > len(self.data):
            raise EOFError(f"{size} bytes at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size:self.at]

    def i8(self): return struct.unpack(">b", self.take(1))[0]
    def i16(self): return struct.unpack(">h", self.take(2))[0]
    def i32(self): return struct.unpack(">i", self.take(4))[0]
    def i64(self): return struct.unpack(">q", self.take(8))[0]

    def text(self):
        size = self.i16()
        return None if size < 0 else self.take(size).decode()

    def blob(self):
        size = self.i32()
        return None if size < 0 else self.take(size)

    def array(self, one):
        return [one() for _ in range(self.i32())]

    def rest(self):
        return len(self.data) - self.at


# --- record batches ---

def crc32c_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
        table.append(n)
    return table


CRC_TABLE = crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def varint(v):
    v = (v << 1) ^ (v >> 63)
    out = bytearray()
    while v > 0x7F:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def record(value, key=None, offset_delta=0, timestamp_delta=0):
    body = (i8(0) + varint(timestamp_delta) + varint(offset_delta)
            + (varint(-1) if key is None else varint(len(key)) + key) + varint(len(value)) + value + varint(0))
    return varint(len(body)) + body


def batch(values, keys=None, attributes=0, base_offset=0, magic=2, timestamp=None, producer=(-1, -1, -1), count=None,
          delta=None, records=None, crc=None):
    """`records`: the section as it is to lie in the batch (compressed, or a lie); else it is made of `values`."""
    timestamp = int(time.time() * 1000) if timestamp is None else timestamp
    if records is None:
        keys = keys or [None] * len(values)
        records = b"".join(record(v, k, i) for i, (v, k) in enumerate(zip(values, keys)))
    count = len(values) if count is None else count
    tail = struct.pack(">hiqqqhii", attributes, len(values) - 1 if delta is None else delta, timestamp, timestamp, *producer,
                       count) + records
    crc = crc32c(tail) if crc is None else crc
    return struct.pack(">qiibI", base_offset, len(tail) + 9, -1, magic, crc) + tail


def batches_of(data):
    """Whole batches in a record set: dicts of header fields, and the raw record section."""
    out, at = [], 0
    while at + 61 <= len(data):
        base, length, epoch, magic, crc = struct.unpack_from(">qiibI", data, at)
        if at + 12 + length > len(data):
            break
        attributes, delta, first, largest, pid, pepoch, sequence, count = struct.unpack_from(">hiqqqhii", data, at + 21)
        out.append({"base": base, "epoch": epoch, "magic": magic, "attributes": attributes, "last": base + delta,
                    "first_timestamp": first, "max_timestamp": largest, "count": count, "producer": pid,
                    "records": data[at + 61:at + 12 + length],
                    "crc_ok": crc == crc32c(data[at + 21:at + 12 + length])})
        at += 12 + length
    return out


def values_of(b):
    """The values in an uncompressed batch."""
    r, out = b["records"], []

    def number(at):
        shift = value = 0
        while True:
            byte = r[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1), at

    at = 0
    while at < len(r):
        size, at = number(at)
        end = at + size
        _, at = number(at + 1)   # attributes, timestamp
        _, at = number(at)       # offset
        size, at = number(at)
        at += max(size, 0)       # key
        size, at = number(at)
        out.append(r[at:at + size])
        at = end
    return out


# --- a connection ---

class Connection:
    def __init__(self, port, timeout=10, host="127.0.0.1"):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, api, version, body=b"", client="e2e"):
        self.correlation += 1
        frame = i16(api) + i16(version) + i32(self.correlation) + text(client) + body
        self.socket.sendall(i32(len(frame)) + frame)
        return self.correlation

    def receive(self):
        """(correlation id, Reader behind it)."""
        size = Reader(self.exactly(4)).i32()
        reader = Reader(self.exactly(size))
        return reader.i32(), reader

    def exactly(self, size):
        out = bytearray()
        while len(out) < size:
            part = self.socket.recv(size - len(out))
            if not part:
                raise EOFError("the connection was closed")
            out += part
        return bytes(out)

    def request(self, api, version, body=b""):
        sent = self.send(api, version, body)
        got, reader = self.receive()
        if got != sent:
            raise RuntimeError(f"the answer has correlation id {got}, the request {sent}")
        return reader

    def end(self):
        """What comes until the broker closes; None if it does not close."""
        out = b""
        try:
            while True:
                part = self.socket.recv(65536)
                if not part:
                    return out
                out += part
        except socket.timeout:
            return None
        except ConnectionError:
            return out

    # requests that several programs need

    def create_topic(self, name, partitions=1, replication=1, configs=None):
        configs = array([text(k) + text(v) for k, v in (configs or {}).items()])
        body = array([text(name) + i32(partitions) + i16(replication) + array([]) + configs]) + i32(10000) + i8(0)
        r = self.request(CREATE_TOPICS, 2, body)
        r.i32()
        return r.array(lambda: (r.text(), r.i16(), r.text()))[0][1]

    def produce(self, topic, data, partition=0, acks=-1, version=7):
        """(error, base offset, append time, log start)."""
        sent = self.send_produce(topic, data, partition, acks, version)
        got, r = self.receive()
        if got != sent:
            raise RuntimeError("answers out of order")

        def one():
            r.i32()
            return r.i16(), r.i64(), r.i64(), r.i64() if version >= 5 else None
        return r.array(lambda: (r.text(), r.array(one)))[0][1][0]

    def send_produce(self, topic, data, partition=0, acks=-1, version=7):
        return self.send(PRODUCE, version, text(None) + i16(acks) + i32(10000) +
                         array([text(topic) + array([i32(partition) + blob(data)])]))

    def fetch(self, topic, offset, partition=0, version=11, epoch=-1, replica=-1, session=(0, -1), wait=0, size=1 << 24):
        """{top, session, error, high, start, records}; error None if the partition is not in the answer."""
        one = i32(partition) + (i32(epoch) if version >= 9 else b"") + i64(offset)
        one += (i64(-1) if version >= 5 else b"") + i32(size)
        body = i32(replica) + i32(wait) + i32(1) + i32(size) + i8(0)
        body += i32(session[0]) + i32(session[1]) if version >= 7 else b""
        body += array([text(topic) + array([one])])
        body += array([]) if version >= 7 else b""
        body += text("") if version >= 11 else b""
        r = self.request(FETCH, version, body)
        r.i32()
        out = {"top": 0, "session": 0, "error": None, "high": None, "start": None, "records": b""}
        if version >= 7:
            out["top"], out["session"] = r.i16(), r.i32()
        for _ in range(r.i32()):
            r.text()
            for _ in range(r.i32()):
                r.i32()
                out["error"], out["high"] = r.i16(), r.i64()
                r.i64()
                out["start"] = r.i64() if version >= 5 else None
                r.array(lambda: (r.i64(), r.i64()))
                if version >= 11:
                    r.i32()
                out["records"] = r.blob() or b""
        return out

    def read_values(self, topic, offset=0, partition=0):
        """All values from `offset`, uncompressed batches only: [(offset, value)]."""
        out = []
        while True:
            f = self.fetch(topic, offset, partition)
            if f["top"] or f["error"]:
                raise RuntimeError(f"fetch at {offset}: {f['top']}, {f['error']}")
            found = batches_of(f["records"])
            if not found:
                return out
            for b in found:
                if not b["crc_ok"]:
                    raise RuntimeError(f"the batch at {b['base']} has a wrong CRC")
                out += [(b["base"] + i, v) for i, v in enumerate(values_of(b)) if b["base"] + i >= offset]
            offset = found[-1]["last"] + 1

    def list_offset(self, topic, timestamp, partition=0, version=5, epoch=-1):
        """(error, timestamp, offset)."""
        one = i32(partition) + (i32(epoch) if version >= 4 else b"") + i64(timestamp)
        body = i32(-1) + (i8(0) if version >= 2 else b"") + array([text(topic) + array([one])])
        r = self.request(LIST_OFFSETS, version, body)
        if version >= 2:
            r.i32()

        def answer():
            r.i32()
            out = r.i16(), r.i64(), r.i64()
            if version >= 4:
                r.i32()
            return out
        return r.array(lambda: (r.text(), r.array(answer)))[0][1][0]

    def alter_config(self, topic, values, operation=0, kind=2):
        """IncrementalAlterConfigs; the error."""
        configs = array([text(k) + i8(operation) + text(v) for k, v in values.items()])
        r = self.request(INCREMENTAL_ALTER_CONFIGS, 0, array([i8(kind) + text(topic) + configs]) + i8(0))
        r.i32()
        return r.array(lambda: (r.i16(), r.text(), r.i8(), r.text()))[0][0]

    def commit_offset(self, group, topic, offset, metadata="", partition=0, generation=-1, member=""):
        """The error. A coordinator that is still loading is asked again."""
        body = (text(group) + i32(generation) + text(member) + i64(-1)
                + array([text(topic) + array([i32(partition) + i64(offset) + text(metadata)])]))

        def ask():
            r = self.request(OFFSET_COMMIT, 2, body)
            return r.array(lambda: (r.text(), r.array(lambda: (r.i32(), r.i16()))))[0][1][0][1]
        return self.once_loaded(ask)

    def committed_offset(self, group, topic, partition=0):
        """(error, offset, metadata)."""
        body = text(group) + array([text(topic) + array([i32(partition)])])

        def ask():
            r = self.request(OFFSET_FETCH, 2, body)
            found = r.array(lambda: (r.text(), r.array(lambda: (r.i32(), r.i64(), r.text(), r.i16()))))
            top = r.i16()
            if top:
                return top
            _, offset, metadata, error = found[0][1][0]
            return error, offset, metadata
        return self.once_loaded(ask)

    def find_coordinator(self, key):
        r = self.request(FIND_COORDINATOR, 0, text(key))
        return r.i16()

    def once_loaded(self, ask, seconds=10):
        """COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE and NOT_COORDINATOR pass with time."""
        deadline = time.monotonic() + seconds
        while True:
            answer = ask()
            code = answer[0] if isinstance(answer, tuple) else answer
            if code not in (14, 15, 16) or time.monotonic() > deadline:
                return answer
            time.sleep(0.05)

    def init_producer(self, transactional=None):
        r = self.request(INIT_PRODUCER_ID, 0, text(transactional) + i32(60000))
        r.i32()
        return r.i16(), r.i64(), r.i16()
