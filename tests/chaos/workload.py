#!/usr/bin/env python3
"""The workload of the chaos harness on librdkafka: producers with and without idempotence, a topic with keys that is compacted,
members of a group, a reader, an observer, and an administrator whose topics and settings are compared at the end with what was
said to be done. Writes a history; driven by the same lines as millrace-chaos-client.

Runs with the Python that has confluent-kafka; tests/chaos/run starts it.
"""

import argparse
import collections
import json
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions,  # noqa: E402
                                   NewTopic, OffsetSpec, ResourceType)

from recorded_clients import STAYS_WITH_BROKERS, History, clock  # noqa: E402

QUIET = {"log_level": 0, "error_cb": lambda e: None, "reconnect.backoff.max.ms": 1000, "socket.timeout.ms": 10_000,
         "socket.connection.setup.timeout.ms": 3_000, "topic.metadata.refresh.interval.ms": 5_000}
KEYS = 40


class Book(History):
    """A history that counts."""

    def __init__(self, path, first):
        super().__init__(path)
        self.next, self.counts, self.errors = first, collections.Counter(), collections.Counter()

    def error(self, what, error):
        with self.lock:
            self.errors[f"{what} {error.name() if isinstance(error, KafkaError) else error}"] += 1


class Writer(threading.Thread):
    def __init__(self, name, arguments, book, topic, partitions, rate, settings, keys=False):
        super().__init__(daemon=True)
        self.label, self.book, self.topic, self.partitions, self.rate, self.keys = name, book, topic, partitions, rate, keys
        self.random, self.ending, self.unanswered = random.Random(f"{name} {arguments.seed}"), threading.Event(), {}
        self.idempotent, self.failed = settings.get("enable.idempotence", False), False
        self.certain = settings["acks"] == "all"
        self.producer = Producer({"bootstrap.servers": arguments.bootstrap, "request.timeout.ms": 5_000, "linger.ms": 5,
                                  "message.timeout.ms": 90_000, "queue.buffering.max.messages": 4_000, **QUIET, **settings,
                                  **({"debug": arguments.debug, "log_level": 7} if arguments.debug else {})})

    def note(self, value, result, offset=None, **times):
        p, began, key = self.unanswered.pop(value)
        item = [f"{self.topic}-{p}", offset, value]
        if key is not None:
            item += [None, key]
        self.book.add(op="send", result=result, client=f"{self.label}.{p}", items=[item], **{"from": began}, **times,
                      **({"idempotent": True} if self.idempotent else {}))

    def send(self, p):
        value, began = self.book.value(), clock()
        key = f"k{self.random.randrange(KEYS)}" if self.keys else None

        def delivered(error, message):
            if error:
                self.book.error(self.label, error)
                # librdkafka repeats by itself: its last error says nothing about an earlier attempt.
                self.note(value, "info", to=clock())
                self.book.counts["unknown"] += 1
            else:
                # A batch that a later one proved to be there is answered without an offset.
                offset = message.offset() if self.certain and message.offset() >= 0 else None
                self.note(value, "ok" if self.certain else "info", offset, to=clock())
                self.book.counts["acknowledged"] += 1

        self.unanswered[value] = (p, began, key)
        try:
            self.producer.produce(self.topic, b"%d:%s" % (value, b"x" * self.random.randrange(200)), key=key, partition=p,
                                  on_delivery=delivered)
        except BufferError:
            del self.unanswered[value]  # it never left
        except KafkaException:
            del self.unanswered[value]
            raise

    def run(self):
        p, next_at = 0, time.monotonic()
        while not self.ending.is_set():
            now = time.monotonic()
            next_at = max(next_at, now - 0.1)
            while next_at <= now:
                p = (p + 1) % self.partitions
                try:
                    self.send(p)
                except KafkaException as e:  # a fatal error: an idempotent producer gives up for good
                    print(f"WRONG {self.label}: {e}", flush=True)
                    self.failed = True
                    return
                next_at += 1 / self.rate
            try:
                self.producer.poll(0.01)
            except SystemError as e:  # once in an hour, out of confluent-kafka 2.16.1 itself; a lost answer would be missed at the end
                self.book.error(f"{self.label} poll", type(e).__name__)

    def finish(self, seconds):
        self.ending.set()
        self.join()
        if self.failed:
            self.producer.purge()
        self.producer.flush(seconds)
        left = len(self.unanswered)
        for value in list(self.unanswered):
            self.note(value, "info")
        return left


class Polling(threading.Thread):
    """Notes what a consumer reads."""

    def __init__(self, name, book):
        super().__init__(daemon=True)
        self.label, self.book, self.ending, self.reset = name, book, threading.Event(), False

    def poll(self, consumer, seconds):
        began, items, last = clock(), [], {}
        for m in consumer.consume(1000, timeout=seconds):
            if m.error():
                self.book.error(self.label, m.error())
                continue
            epoch = m.leader_epoch()
            items.append([f"{m.topic()}-{m.partition()}", m.offset(), int(m.value().split(b":")[0]),
                          epoch if epoch is not None and epoch >= 0 else None])
            last[(m.topic(), m.partition())] = m.offset() + 1
        if items:
            reset, self.reset = self.reset, False
            self.book.add(op="poll", result="ok", client=self.label, **{"from": began, "to": clock()}, items=items,
                          **({"reset": True} if reset else {}))
            self.book.counts["polled"] += len(items)
        return last


class Reader(Polling):
    """All partitions from the beginning; at the end to their ends."""

    def __init__(self, name, arguments, book):
        super().__init__(name, book)
        self.at = {(t, p): 0 for t, n in arguments.reads.items() for p in range(n)}
        # An offset that is out of range was lost: an error, not a reason to begin anew.
        self.consumer = Consumer({"bootstrap.servers": arguments.bootstrap, "group.id": name, "auto.offset.reset": "error",
                                  "enable.auto.commit": False, "fetch.wait.max.ms": 100, **STAYS_WITH_BROKERS, **QUIET})
        self.consumer.assign([TopicPartition(t, p, 0) for t, p in self.at])

    def run(self):
        while not self.ending.is_set():
            self.at.update(self.poll(self.consumer, 0.2))

    def finish(self, seconds):
        self.ending.set()
        self.join()
        deadline, ends = time.monotonic() + seconds, {}
        while time.monotonic() < deadline:
            for where in self.at:
                if where not in ends:
                    try:
                        ends[where] = self.consumer.get_watermark_offsets(TopicPartition(*where), timeout=5)[1]
                    except KafkaException as e:
                        self.book.error("watermark", e.args[0])
            if len(ends) == len(self.at) and all(self.at[w] >= end for w, end in ends.items()):
                self.consumer.close()
                return True
            # The end of a compacted partition may hold nothing any more: the position tells.
            for found in self.consumer.position([TopicPartition(t, p) for t, p in self.at]):
                if found.offset >= 0:
                    self.at[(found.topic, found.partition)] = found.offset
            self.at.update(self.poll(self.consumer, 0.3))
        print(f"# {self.label} is at {self.at} of {ends}", flush=True)
        return False


class Member(Polling):
    """Reads as a member of a group, commits what it has read, leaves and joins again now and then."""

    def __init__(self, name, arguments, book, topic):
        super().__init__(name, book)
        self.arguments, self.topic, self.random = arguments, topic, random.Random(f"{name} {arguments.seed}")
        self.done = {}

    def assigned(self, consumer, partitions):
        self.done, self.reset = {}, True
        self.book.add(op="assign", result="ok", client=self.label, group=self.arguments.group, **{"from": clock(), "to": clock()},
                      items=[[f"{p.topic}-{p.partition}"] for p in partitions])

    def revoked(self, consumer, partitions):
        self.commit(consumer)
        self.lost(consumer, partitions)

    def lost(self, consumer, partitions):
        self.done, self.reset = {}, True
        self.book.add(op="revoke", result="ok", client=self.label, group=self.arguments.group, **{"from": clock(), "to": clock()},
                      items=[[f"{p.topic}-{p.partition}"] for p in partitions])

    def commit(self, consumer):
        offsets = [TopicPartition(t, p, o) for (t, p), o in self.done.items()]
        if not offsets:
            return
        began, good = clock(), set()
        try:
            for answer in consumer.commit(offsets=offsets, asynchronous=False):
                if answer.error is None:
                    good.add((answer.topic, answer.partition))
        except KafkaException as e:
            self.book.error("commit", e.args[0])
        ended = clock()
        for result, chosen in (("ok", [o for o in offsets if (o.topic, o.partition) in good]),
                               ("info", [o for o in offsets if (o.topic, o.partition) not in good])):
            if chosen:
                self.book.add(op="commit", result=result, client=self.label, group=self.arguments.group,
                              **{"from": began, "to": ended}, items=[[f"{o.topic}-{o.partition}", o.offset] for o in chosen])
        if good:
            self.book.counts["commits"] += 1

    def run(self):
        while not self.ending.is_set():
            consumer = Consumer({"bootstrap.servers": self.arguments.bootstrap, "group.id": self.arguments.group,
                                 "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6_000,
                                 "heartbeat.interval.ms": 1_000, "fetch.wait.max.ms": 100, **STAYS_WITH_BROKERS, **QUIET})
            consumer.subscribe([self.topic], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
            until, commit_at = time.monotonic() + self.random.uniform(10, 35), time.monotonic() + 0.5
            while not self.ending.is_set() and time.monotonic() < until:
                self.done.update(self.poll(consumer, 0.2))
                if time.monotonic() >= commit_at:
                    self.commit(consumer)
                    commit_at = time.monotonic() + 0.5
            self.commit(consumer)
            consumer.close()


class Observer(threading.Thread):
    """Where partitions end, and what groups have committed."""

    def __init__(self, name, arguments, book, topic, partitions):
        super().__init__(daemon=True)
        self.label, self.arguments, self.book, self.ending = name, arguments, book, threading.Event()
        self.admin = AdminClient({"bootstrap.servers": arguments.bootstrap, **QUIET})
        self.committed = [TopicPartition(topic, p) for p in range(partitions)]
        self.consumer = Consumer({"bootstrap.servers": arguments.bootstrap, "group.id": arguments.group, "enable.auto.commit": False,
                                  **STAYS_WITH_BROKERS, **QUIET})

    def run(self):
        while not self.ending.is_set():
            began = clock()
            wanted = {TopicPartition(t, p): OffsetSpec.latest() for t, n in self.arguments.reads.items() for p in range(n)}
            try:
                futures, items = self.admin.list_offsets(wanted, request_timeout=3), []
            except KafkaException as e:
                futures, items = {}, []
                self.book.error("list offsets", e.args[0])
            for where, future in futures.items():
                try:
                    found = future.result(5)
                    if found.leader_epoch is not None:
                        items.append([f"{where.topic}-{where.partition}", found.offset, None, found.leader_epoch])
                except KafkaException as e:
                    self.book.error("list offsets", e.args[0])
            if items:
                self.book.add(op="list_end", result="ok", client=self.label, **{"from": began, "to": clock()}, items=items)
            began = clock()
            try:
                found = [f for f in self.consumer.committed(self.committed, timeout=3) if f.error is None]
                self.book.add(op="fetch_commit", result="ok", client=self.label, group=self.arguments.group,
                              **{"from": began, "to": clock()},
                              items=[[f"{f.topic}-{f.partition}", None if f.offset == OFFSET_INVALID else f.offset] for f in found])
            except KafkaException as e:
                self.book.error("committed", e.args[0])
            self.ending.wait(0.3)


class Administrator(threading.Thread):
    """Creates, alters, extends and deletes topics of its own, one call after the other, and remembers what each may be now: a
    call whose answer did not come leaves two possibilities."""

    NOT_DONE = (KafkaError.TOPIC_ALREADY_EXISTS, KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.UNKNOWN_TOPIC_OR_PART,
                KafkaError.INVALID_PARTITIONS)

    def __init__(self, arguments, book):
        super().__init__(daemon=True)
        self.book, self.random, self.ending = book, random.Random(f"admin {arguments.seed}"), threading.Event()
        self.admin = AdminClient({"bootstrap.servers": arguments.bootstrap, **QUIET})
        self.topics = {}  # name -> {"there": set of bool, "partitions": set, "retention": set}
        self.made = 0

    def call(self, what, futures):
        """True: done; False: certainly not; None: not known."""
        try:
            for future in futures.values():
                future.result(15)
            self.book.counts["administered"] += 1
            return True
        except KafkaException as e:
            self.book.error(what, e.args[0])
            return False if e.args[0].code() in self.NOT_DONE else None
        except Exception as e:  # concurrent.futures' timeout
            self.book.error(what, type(e).__name__)
            return None

    @staticmethod
    def after(before, done, new):
        return {new} if done else before if done is False else before | {new}

    def create(self):
        self.made += 1
        name, partitions = f"churn-{self.made}", self.random.randint(1, 3)
        retention = str(self.random.randrange(10**6, 10**9))
        done = self.call("create", self.admin.create_topics([NewTopic(name, partitions, 3, config={"retention.ms": retention})],
                                                            operation_timeout=10, request_timeout=10))
        # One that is said to exist was made by an attempt whose answer was lost: the name is used once.
        self.topics[name] = {"there": {True} if done else {True, False}, "partitions": {partitions}, "retention": {retention},
                             "made": time.monotonic()}

    def delete(self, name):
        done = self.call("delete", self.admin.delete_topics([name], operation_timeout=10, request_timeout=10))
        # "Unknown" may be the answer to a second attempt. And what was made a moment ago may be made once more: by an attempt that
        # the library gave up and that waits in a broker which hears nobody.
        young = time.monotonic() - self.topics[name]["made"] < 30
        self.topics[name]["there"] = {False} if done and not young else {True, False}

    def alter(self, name):
        retention = str(self.random.randrange(10**6, 10**9))
        entry = ConfigEntry("retention.ms", retention, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        done = self.call("alter", self.admin.incremental_alter_configs([resource], request_timeout=10))
        self.topics[name]["retention"] = self.after(self.topics[name]["retention"], done, retention)

    def extend(self, name):
        partitions = max(self.topics[name]["partitions"]) + 1
        done = self.call("extend", self.admin.create_partitions([NewPartitions(name, partitions)], operation_timeout=10,
                                                                request_timeout=10))
        # INVALID_PARTITIONS may be the answer to a second attempt of what the first did.
        self.topics[name]["partitions"] = {partitions} if done else self.topics[name]["partitions"] | {partitions}

    def run(self):
        while not self.ending.wait(self.random.uniform(0.3, 1.5)):
            certain = [n for n, t in self.topics.items() if t["there"] == {True}]
            act = self.random.random()
            if len(certain) < 3 or act < 0.25:
                self.create()
            elif act < 0.5 or len(certain) > 8:
                self.delete(self.random.choice(certain))
            elif act < 0.85:
                self.alter(self.random.choice(certain))
            else:
                name = self.random.choice(certain)
                if max(self.topics[name]["partitions"]) < 6:
                    self.extend(name)

    def faults(self):
        """What is not as it was said to be done."""
        found = self.admin.list_topics(timeout=10).topics
        wrong = []
        for name, t in self.topics.items():
            there = name in found and found[name].error is None
            if there not in t["there"]:
                wrong.append(f"{name} is {'there' if there else 'not there'}")
            if not there:
                continue
            if len(found[name].partitions) not in t["partitions"]:
                wrong.append(f"{name} has {len(found[name].partitions)} partitions, not {t['partitions']}")
            resource = ConfigResource(ResourceType.TOPIC, name)
            retention = self.admin.describe_configs([resource], request_timeout=10)[resource].result(10)["retention.ms"].value
            if retention not in t["retention"]:
                wrong.append(f"{name} has retention.ms {retention}, not {t['retention']}")
        return wrong

    def finish(self, seconds):
        self.ending.set()
        self.join()
        deadline = time.monotonic() + seconds
        while True:
            try:
                wrong = self.faults()
            except Exception as e:  # not reached: it is asked again
                wrong = [f"{type(e).__name__}: {e}"]
            if not wrong or time.monotonic() > deadline:
                return wrong
            time.sleep(0.5)


def main():
    def topics(text):
        return {name: int(n) for name, _, n in (t.partition(":") for t in text.split(","))}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--history", type=pathlib.Path, required=True)
    parser.add_argument("--topic", type=topics, required=True, help="NAME:PARTITIONS of what is written")
    parser.add_argument("--compacted", type=topics, required=True)
    parser.add_argument("--reads", type=topics, required=True)
    parser.add_argument("--group", default="rdk-members")
    parser.add_argument("--first-value", type=int, default=10**12)
    parser.add_argument("--rate", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--final-seconds", type=float, default=60)
    parser.add_argument("--debug", default="", help="librdkafka's debug contexts for the writers, as eos,broker")
    arguments = parser.parse_args()
    book = Book(arguments.history, arguments.first_value)
    (topic, partitions), (keyed, keyed_partitions) = *arguments.topic.items(), *arguments.compacted.items()
    book.file.write(json.dumps({"compacted": [f"{keyed}-{p}" for p in range(keyed_partitions)]}) + "\n")
    idempotent = {"enable.idempotence": True, "acks": "all"}
    rate = arguments.rate
    writers = [Writer("rdk-idempotent", arguments, book, topic, partitions, rate * 0.5, idempotent),
               Writer("rdk-plain", arguments, book, topic, partitions, rate * 0.2, {"acks": "all"}),
               Writer("rdk-leader-only", arguments, book, topic, partitions, rate * 0.1, {"acks": "1"}),
               Writer("rdk-keys", arguments, book, keyed, keyed_partitions, rate * 0.2, idempotent, keys=True)]
    reader = Reader("rdk-reader", arguments, book)
    members = [Member(f"rdk-member-{i}", arguments, book, topic) for i in (1, 2)]
    observer = Observer("rdk-observer", arguments, book, topic, partitions)
    administrator = Administrator(arguments, book)
    for one in (*writers, reader, *members, observer, administrator):
        one.start()
    lock, over = threading.Lock(), threading.Event()

    def say(line):
        with lock:
            print(line, flush=True)

    def tell():
        names = ("acknowledged", "unknown", "polled", "commits", "administered")
        while not over.wait(0.5):
            say("progress " + json.dumps({n: book.counts[n] for n in names}))
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()

    complete = True
    for line in sys.stdin:
        if line.strip() == "stop-writing":
            left = sum(w.finish(arguments.final_seconds) for w in writers)
            say("written" if left == 0 else f"written not-all {left}")
        elif line.strip() == "finish":
            for one in (*members, observer):
                one.ending.set()
            wrong = administrator.finish(20)
            for w in wrong:
                say(f"WRONG {w}")
            complete = reader.finish(arguments.final_seconds)
            for one in (*members, observer):
                one.join(20)
            break
    over.set()
    teller.join()
    with book.lock:
        book.file.flush()
    say("errors " + ", ".join(f"{k}: {n}" for k, n in sorted(book.errors.items())))
    say(f"finished {int(complete)}")


if __name__ == "__main__":
    main()
