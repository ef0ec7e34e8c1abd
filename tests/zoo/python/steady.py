"""What applications that produce and consume until their standard input ends share; see "Steady clients" in tests/zoo/README.md."""

import json
import sys
import threading
import time

PAUSE_SECONDS, MEMBERS, END_SECONDS = 0.02, 2, 60


def clock():
    return time.monotonic_ns() // 1000


def payload(number):
    return b"%d:%s" % (number, b"x" * (number % 200))


class Steady:
    def __init__(self, client, version):
        self.client, self.version = client, version
        self.bootstrap, self.topic, partitions, path = sys.argv[1:5]
        self.partitions, self.group = int(partitions), self.topic + "-group"
        self.lock, self.history = threading.Lock(), open(path, "w", buffering=1 << 16)
        self.errors, self.acknowledged_at, self.read_to = [], {}, {}
        self.acknowledged = self.consumed = self.longest_pause = 0
        self.sending, self.reading = True, True
        self.write(history=1)

    def write(self, **line):
        text = json.dumps(line, separators=(",", ":"))
        with self.lock:
            self.history.write(text + "\n")

    def error(self, where, what):
        with self.lock:
            self.errors.append(f"{where}: {type(what).__name__}: {what}")

    def sent(self, partition, value, began, offset, error=None):
        now = clock()
        if error is not None:
            self.error("produce", error)
        else:
            with self.lock:
                self.acknowledged += 1
                self.longest_pause = max(self.longest_pause, now - self.acknowledged_at.get(partition, now))
                self.acknowledged_at[partition] = now
        self.write(op="send", result="info" if error else "ok", client=f"p.{partition}", to=now, idempotent=True,
                   items=[[f"{self.topic}-{partition}", None if error else offset, value]], **{"from": began})

    def read(self, member, began, fresh, partition, records):
        """[(offset, payload)] of one poll; `fresh`: the first since the partition was assigned."""
        self.write(op="poll", result="ok", client=f"m{member}.{partition}", to=clock(), items=[
            [f"{self.topic}-{partition}", offset, int(value.split(b":")[0])] for offset, value in records],
            **{"from": began}, **({"reset": True} if fresh else {}))
        with self.lock:
            self.consumed += len(records)
            self.read_to[partition] = max(self.read_to.get(partition, 0), records[-1][0] + 1)

    def run(self, produce, member, ends):
        """`produce()` until `sending` is false, `member(number)` until `reading` is; `ends()`: {partition: offset}."""
        def guarded(where, body, *arguments):
            try:
                body(*arguments)
            except Exception as e:  # whatever reaches the application
                self.error(where, e)
        producer = threading.Thread(target=guarded, args=("producer", produce))
        members = [threading.Thread(target=guarded, args=(f"member {i}", member, i)) for i in range(MEMBERS)]
        for one in [producer, *members]:
            one.start()
        while len(self.acknowledged_at) < self.partitions or len(self.read_to) < self.partitions:
            time.sleep(PAUSE_SECONDS)
        print(json.dumps({"ready": True}), flush=True)
        sys.stdin.read()
        self.sending = False
        producer.join()
        try:
            found, deadline = ends(), time.monotonic() + END_SECONDS
            while any(self.read_to.get(p, 0) < end for p, end in found.items()) and time.monotonic() < deadline:
                time.sleep(PAUSE_SECONDS)
            if all(self.read_to.get(p, 0) >= end for p, end in found.items()):
                self.write(final_reads=True)
            else:
                raise RuntimeError(f"read to {self.read_to} of {found}")
        except Exception as e:
            self.error("at the end", e)
        self.reading = False
        for one in members:
            one.join()
        self.history.close()
        print(json.dumps({"client": self.client, "version": self.version, "acknowledged": self.acknowledged,
                          "consumed": self.consumed, "longest_pause_ms": self.longest_pause // 1000,
                          "errors": self.errors[:20], "error_count": len(self.errors)}), flush=True)
        sys.exit(1 if self.errors else 0)
