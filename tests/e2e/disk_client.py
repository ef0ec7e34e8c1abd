"""What disk_full.py and disk_fail.py share: a producer that remembers what was acknowledged, and the reading of it later."""

import time

from harness import DELETE_TOPICS, METADATA, PRODUCE, Connection, Reader, array, batch, blob, i16, i32, text, values_of, batches_of

DESCRIBE_LOG_DIRS = 35
REQUEST_TIMED_OUT = 7
STORAGE_ERROR = 56


class Acked:
    """Sends one-record batches with acks=all and keeps what was acknowledged: (topic, partition) -> [(offset, value)]."""

    def __init__(self, port):
        self.port, self.connection = port, None
        self.records, self.sent = {}, 0

    def connect(self):
        if self.connection is None:
            self.connection = Connection(self.port, timeout=20)
        return self.connection

    def produce(self, topic, partition=0, size=100):
        """(error code, message). An acknowledged record is noted; a lost connection is error None."""
        self.sent += 1
        value = b"%d %d " % (partition, self.sent)
        value += b"x" * max(0, size - len(value))
        error, message, base = self.send(topic, partition, batch([value]))
        if error == 0:
            self.records.setdefault((topic, partition), []).append((base, value))
        return error, message

    def send(self, topic, partition, data):
        """(error code, message, base offset) of a batch that is not remembered."""
        body = text(None) + i16(-1) + i32(10000) + array([text(topic) + array([i32(partition) + blob(data)])])
        try:
            r = self.connect().request(PRODUCE, 8, body)
        except (OSError, EOFError):
            self.connection = None
            return None, "the connection was lost", -1

        def one():
            r.i32()
            error, base = r.i16(), r.i64()
            r.i64(), r.i64()
            r.array(lambda: (r.i32(), r.text()))
            return error, base, r.text()
        error, base, message = r.array(lambda: (r.text(), r.array(one)))[0][1][0]
        return error, message or "", base

    def missing(self, connection, but=()):
        """What was acknowledged and is not there, or is there twice: a list of sentences."""
        wrong = []
        for (topic, partition), acked in self.records.items():
            if topic in but:
                continue
            there, seen = read_all(connection, topic, partition)
            if len(seen) != len(set(seen)):
                wrong.append(f"{topic}-{partition}: a record is there twice")
            lost = [(o, v[:20]) for o, v in acked if there.get(o) != v]
            if lost:
                wrong.append(f"{topic}-{partition}: {len(lost)} of {len(acked)} acknowledged records are not there, first {lost[0]}")
        return wrong

    def count(self):
        return sum(map(len, self.records.values()))


def read_all(connection, topic, partition=0):
    """({offset: value}, all values)."""
    there, seen, offset, deadline = {}, [], 0, time.monotonic() + 30
    while time.monotonic() < deadline:
        got = connection.fetch(topic, offset, partition, size=8 << 20)
        if got["error"] in (3, 5, 6, STORAGE_ERROR) and not there:
            time.sleep(0.05)  # not open yet
            continue
        if got["error"] != 0:
            raise RuntimeError(f"fetch of {topic}-{partition} from {offset}: error {got['error']}")
        if offset >= got["high"]:
            return there, seen
        for b in batches_of(got["records"]):
            for delta, value in enumerate(values_of(b)):
                there[b["base"] + delta] = value
                seen.append(value)
            offset = b["last"] + 1
    raise RuntimeError(f"{topic}-{partition} could not be read to its end")


def delete_topic(connection, name):
    r = connection.request(DELETE_TOPICS, 1, array([text(name)]) + i32(10000))
    r.i32()
    return r.array(lambda: (r.text(), r.i16()))[0][1]


def create_topic(connection, name, partitions=1, configs=None):
    """(error, message)."""
    configs = array([text(k) + text(v) for k, v in (configs or {}).items()])
    r = connection.request(19, 2, array([text(name) + i32(partitions) + i16(1) + array([]) + configs]) + i32(10000) + b"\0")
    r.i32()
    return r.array(lambda: (r.text(), r.i16(), r.text()))[0][1:]


def metadata(connection, topic):
    """[(error, partition, leader, offline replicas)]."""
    r = connection.request(METADATA, 5, array([text(topic)]) + b"\0")
    r.i32()
    r.array(lambda: (r.i32(), r.text(), r.i32(), r.text()))
    r.text(), r.i32()

    def partition():
        error, index, leader = r.i16(), r.i32(), r.i32()
        r.array(r.i32), r.array(r.i32)
        return error, index, leader, r.array(r.i32)

    def one():
        r.i16(), r.text(), r.i8()
        return r.array(partition)
    return sorted(r.array(one)[0], key=lambda p: p[1])


def log_dirs(connection):
    """{path: error} by DescribeLogDirs version 1."""
    r = connection.request(DESCRIBE_LOG_DIRS, 1, i32(-1))
    r.i32()

    def one():
        error, path = r.i16(), r.text()
        r.array(lambda: (r.text(), r.array(lambda: (r.i32(), r.i64(), r.i64(), r.i8()))))
        return path, error
    return dict(r.array(one))
