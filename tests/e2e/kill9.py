#!/usr/bin/env python3
"""Kills a broker with SIGKILL, again and again, while clients work, and counts what is left.

Idempotent producers (acks=all) and one reader live through all rounds; so does the data directory. A round is: the broker
starts, everybody makes progress, the broker is killed at a random moment, one time in five again while it restarts. After each restart a new consumer reads again
what the last two rounds wrote. At the end everything is read once more. The rules:

- each acknowledged record is there, at the offset that the acknowledgement named;
- a partition's records of one producer are there in the order of sending, none missing, none twice;
- what a reader has once seen at an offset stays there.

Runs with the Python that has confluent-kafka: build/zoo/venv/bin/python tests/e2e/kill9.py (see scripts/client_zoo).
"""

import argparse
import os
import pathlib
import random
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError:
    sys.exit("kill9: confluent-kafka is missing; run scripts/client_zoo --install-only --only confluent, then start this "
             "with build/zoo/venv/bin/python")

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMMAND = (f"{ROOT}/build/release/millrace server --set listeners=PLAINTEXT://127.0.0.1:{{port}} --set log.dirs={{dir}} "
           "--set admin.listener=127.0.0.1:{admin} --set group.initial.rebalance.delay.ms=100")
TOPIC = "kill9"
# Clients come back within milliseconds instead of seconds.
QUICK = {"reconnect.backoff.ms": 5, "reconnect.backoff.max.ms": 40, "retry.backoff.ms": 10, "log_level": 0,
         "socket.nagle.disable": True}


class Violation(Exception):
    """A rule was broken."""


class Broker:
    """The process under test. It is started again and again with the same command."""

    def __init__(self, command, folder, start_seconds):
        self.folder, self.start_seconds = folder, start_seconds
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.port, admin, controller = (s.getsockname()[1] for s in sockets)
        for s in sockets:
            s.close()
        values = {"port": self.port, "admin": admin, "controller": controller, "dir": folder / "data"}
        self.command = [part.format(**values) for part in shlex.split(command)]
        self.process, self.start_times = None, []

    def spawn(self):
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)

    def start(self):
        began = time.monotonic()
        self.spawn()
        while not self.answers():
            if self.process.poll() is not None:
                raise Violation(f"the broker ended with exit code {self.process.returncode}:\n{self.tail()}")
            if time.monotonic() - began > self.start_seconds:
                raise Violation(f"the broker does not answer after {self.start_seconds} s:\n{self.tail()}")
            time.sleep(0.002)
        self.start_times.append(time.monotonic() - began)

    def answers(self):
        """Sends an ApiVersions request of version 0."""
        body = struct.pack(">hhih", 18, 0, 7, 5) + b"kill9"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(struct.pack(">i", len(body)) + body)
                return len(connection.recv(8)) == 8
        except OSError:
            return False

    def kill(self):
        if self.process.poll() is not None:
            raise Violation(f"the broker ended by itself with exit code {self.process.returncode}:\n{self.tail()}")
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends the broker in an orderly way and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def tail(self):
        return "\n".join((self.folder / "broker.log").read_text(errors="replace").splitlines()[-15:])


class Writer:
    """An idempotent producer with a thread of its own. A value is "writer partition number"."""

    def __init__(self, index, bootstrap, partitions, rate):
        self.index, self.partitions, self.rate = index, partitions, rate
        self.next = [0] * partitions  # the next number to send
        self.acked = [0] * partitions  # numbers below were acknowledged, in order
        self.offsets = {}  # (partition, offset) -> number, where an acknowledgement named the offset
        self.count, self.error, self.stop = 0, None, threading.Event()
        self.lock = threading.Lock()
        self.producer = Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all", "linger.ms": 1,
            "batch.num.messages": 100, "message.timeout.ms": 120_000, "request.timeout.ms": 5000,
            # What waits must be gone within the timeout on a slow disk too.
            "queue.buffering.max.messages": 20_000,
            "compression.type": ("none", "lz4", "zstd")[index % 3], "error_cb": self.on_error, **QUICK})
        self.thread = threading.Thread(target=self.run)

    def on_error(self, error):
        if error.fatal():
            self.error = f"writer {self.index}: {error}"

    def on_delivery(self, error, message):
        if error is not None:
            self.error = self.error or f"writer {self.index}: a record was not delivered: {error}"
            return
        _, partition, number = map(int, message.value().split())
        with self.lock:
            if number != self.acked[partition]:
                self.error = self.error or (f"writer {self.index}, partition {partition}: {number} was acknowledged, "
                                            f"{self.acked[partition]} was expected")
            self.acked[partition] = number + 1
            self.count += 1
            if message.offset() >= 0:
                self.offsets[partition, message.offset()] = number

    def run(self):
        burst = 10
        while not self.stop.is_set() and self.error is None:
            partition = random.randrange(self.partitions)
            for _ in range(burst):
                value = b"%d %d %d" % (self.index, partition, self.next[partition])
                try:
                    self.producer.produce(TOPIC, value, partition=partition, on_delivery=self.on_delivery)
                except BufferError:
                    break  # the queue is full while the broker is away
                self.next[partition] += 1
            self.producer.poll(burst / self.rate)
        left = self.producer.flush(60)
        if left:
            self.error = self.error or f"writer {self.index}: {left} records were not acknowledged within 60 s"


class Log:
    """What a reader saw: for each partition the records from offset 0 on. Each new record is judged."""

    def __init__(self, partitions, writers):
        self.records = [[] for _ in range(partitions)]
        self.next = [[0] * writers for _ in range(partitions)]

    def add(self, partition, offset, value):
        expected = len(self.records[partition])
        if offset != expected:
            raise Violation(f"partition {partition}: offset {offset} came where {expected} was expected")
        writer, sent_to, number = map(int, value.split())
        if sent_to != partition:
            raise Violation(f"partition {partition}, offset {offset}: the record was sent to {sent_to}")
        if number != self.next[partition][writer]:
            what = "is there twice or out of order" if number < self.next[partition][writer] else "comes too early"
            raise Violation(f"partition {partition}, offset {offset}: record {number} of writer {writer} {what}, "
                            f"{self.next[partition][writer]} was expected")
        self.next[partition][writer] += 1
        self.records[partition].append(value)

    def total(self):
        return sum(map(len, self.records))


def open_consumer(bootstrap, starts):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "kill9", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "fetch.wait.max.ms": 20, "fetch.error.backoff.ms": 10, **QUICK})
    consumer.assign([TopicPartition(TOPIC, p, offset) for p, offset in enumerate(starts)])
    return consumer


def take(consumer, wait):
    """The next records; errors that pass are left out."""
    batch = []
    for message in consumer.consume(2000, wait):
        if not message.error():
            batch.append(message)
        elif message.error().code() != KafkaError._PARTITION_EOF and not message.error().retriable():
            raise Violation(f"a reader got {message.error()}")
    return batch


class Reader:
    """Reads on through all kills."""

    def __init__(self, bootstrap, log):
        self.consumer, self.log, self.error = open_consumer(bootstrap, [0] * len(log.records)), log, None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.is_set():
                for message in take(self.consumer, 0.02):
                    self.log.add(message.partition(), message.offset(), message.value())
            self.consumer.close()
        except Exception as error:
            self.error = error


class Test:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.broker = Broker(arguments.command, folder, arguments.start_seconds)
        self.bootstrap = f"127.0.0.1:{self.broker.port}"
        self.log = Log(arguments.partitions, arguments.writers)
        self.writers, self.reader, self.reread = [], None, 0
        self.resume_times, self.early = [], 0

    def check(self):
        for error in [*(w.error for w in self.writers), self.reader and self.reader.error]:
            if isinstance(error, Exception):
                raise error
            if error:
                raise Violation(error)

    def wait_until(self, condition, what, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise Violation(f"after {seconds} s still not: {what}")
            time.sleep(0.002)

    def everybody_writes(self):
        """Waits until each writer has got an acknowledgement from this broker."""
        began, before = time.monotonic(), [w.count for w in self.writers]
        self.wait_until(lambda: all(w.count > b for w, b in zip(self.writers, before)), "every writer is acknowledged", 60)
        self.resume_times.append(time.monotonic() - began)

    def read_again(self, starts):
        """A new consumer reads from the given offsets to where the log was when it began, and sees what the reader saw."""
        known, position = self.log.records, list(starts)
        goal = [len(records) for records in known]
        consumer, deadline = open_consumer(self.bootstrap, starts), time.monotonic() + 60
        while any(position[p] < goal[p] for p in range(len(goal))):
            for message in take(consumer, 0.02):
                partition, offset = message.partition(), message.offset()
                if offset != position[partition]:
                    raise Violation(f"partition {partition}: offset {offset} came where {position[partition]} was expected")
                if offset < goal[partition] and known[partition][offset] != message.value():
                    raise Violation(f"partition {partition}, offset {offset}: was {known[partition][offset]}, is {message.value()}")
                position[partition] += 1
                self.reread += 1
            if time.monotonic() > deadline:
                raise Violation(f"after 60 s a new consumer is at {position}, others had been at {goal}")
        consumer.close()

    def judge_acknowledged(self):
        """Each acknowledged record was read, and at the offset that was named."""
        named = 0
        for writer in self.writers:
            for partition, acked in enumerate(writer.acked):
                if self.log.next[partition][writer.index] < acked:
                    raise Violation(f"partition {partition}: {acked} records of writer {writer.index} were acknowledged, "
                                    f"{self.log.next[partition][writer.index]} are there")
            for (partition, offset), number in writer.offsets.items():
                if self.log.records[partition][offset] != b"%d %d %d" % (writer.index, partition, number):
                    raise Violation(f"partition {partition}: record {number} of writer {writer.index} is not at offset {offset}")
                named += 1
        return named

    def run(self):
        arguments, began = self.arguments, time.monotonic()
        self.broker.start()
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUICK})
        for future in admin.create_topics([NewTopic(TOPIC, arguments.partitions, 1)]).values():
            future.result(30)
        for _ in range(500):
            metadata = admin.list_topics(timeout=10).topics.get(TOPIC)
            if metadata is not None and len(metadata.partitions) == arguments.partitions:
                break
            time.sleep(0.02)
        self.reader = Reader(self.bootstrap, self.log)
        self.writers = [Writer(i, self.bootstrap, arguments.partitions, arguments.rate) for i in range(arguments.writers)]
        for worker in [self.reader, *self.writers]:
            worker.thread.start()
        previous = last = [0] * arguments.partitions
        for number in range(1, arguments.rounds + 1):
            self.everybody_writes()
            if number > 1:
                self.read_again(previous)
            previous, last = last, [len(records) for records in self.log.records]
            time.sleep(random.uniform(0, arguments.longest_ms / 1000))
            self.check()
            self.broker.kill()
            if random.random() < 0.2:  # and once more before it is up, or just after
                self.broker.spawn()
                time.sleep(random.uniform(0, arguments.early_ms / 1000))
                self.broker.kill()
                self.early += 1
            self.broker.start()
            if number % 10 == 0 or number == arguments.rounds:
                print(f"round {number}: {sum(w.count for w in self.writers)} acknowledged, {self.log.total()} read, "
                      f"{time.monotonic() - began:.1f} s", flush=True)
        self.everybody_writes()
        self.stop_writers()
        self.wait_until(lambda: all(self.log.next[p][w.index] >= w.acked[p] for w in self.writers
                                    for p in range(arguments.partitions)), "the reader has every acknowledged record", 60)
        self.reader.stop.set()
        self.reader.thread.join()
        self.check()
        self.read_again([0] * arguments.partitions)
        named = self.judge_acknowledged()
        code = self.broker.stop()
        if code != arguments.exit_code:
            raise Violation(f"the exit code after SIGTERM was {code}:\n{self.broker.tail()}")
        sent, acked = sum(sum(w.next) for w in self.writers), sum(w.count for w in self.writers)
        starts = self.broker.start_times[1:] or self.broker.start_times
        print(f"{arguments.rounds} kills and {self.early} during a restart in {time.monotonic() - began:.1f} s: {sent} records sent, {acked} acknowledged "
              f"({named} with their offset), {self.log.total()} there, 0 missing, 0 twice, 0 out of order, "
              f"{self.reread} read again")
        print(f"restart to first answer: median {statistics.median(starts) * 1000:.0f} ms, longest {max(starts) * 1000:.0f} ms; "
              f"then until every writer was acknowledged: median {statistics.median(self.resume_times) * 1000:.0f} ms, "
              f"longest {max(self.resume_times) * 1000:.0f} ms")

    def stop_writers(self):
        for writer in self.writers:
            writer.stop.set()
        for writer in self.writers:
            writer.thread.join()
        self.check()

    def abandon(self):
        """Ends what still runs after a violation."""
        if self.broker.process and self.broker.process.poll() is None:
            self.broker.process.kill()
            self.broker.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=int, default=3000, help="records a second of each writer")
    parser.add_argument("--longest-ms", type=int, default=300, help="the longest time from progress to the kill")
    parser.add_argument("--early-ms", type=int, default=60, help="the longest time from a start to an early kill")
    parser.add_argument("--start-seconds", type=int, default=30, help="the longest start of the broker")
    parser.add_argument("--exit-code", type=int, default=0, help="what the broker's exit code after SIGTERM must be")
    parser.add_argument("--seed", type=int, default=None, help="seed of the random moments")
    parser.add_argument("--command", default=COMMAND,
                        help="how to start the broker; {port}, {admin}, {controller} and {dir} are filled in")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    random.seed(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-kill9-"))
    print(f"seed {seed}, {arguments.rounds} rounds, {arguments.writers} writers, {arguments.partitions} partitions", flush=True)
    test = Test(arguments, folder)
    try:
        test.run()
    except (Violation, KafkaException) as error:
        print(f"FAIL {error}\ndata and log of the broker: {folder}", flush=True)
        test.abandon()
        os._exit(1)  # clients that still retry would hold an orderly exit up
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
