"""confluent-kafka (librdkafka in Python) against a broker."""

import threading
import time

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic,
                                   OffsetSpec)

from zoo_report import (GROUP_PARTITIONS, GROUP_RECORDS, VICTIM_RECORDS, Report, Seen, expect, expect_equal,
                        expect_error, judge_group, payloads, victim, victim_dies, victim_says, wait_until)

report = Report("confluent-kafka", f"{ck.__version__} (librdkafka {ck.libversion()[0]})")
BOOTSTRAP = report.args.bootstrap
BASE = {"bootstrap.servers": BOOTSTRAP, "topic.metadata.refresh.interval.ms": 1000}
admin = AdminClient(BASE)


def done(futures):
    """Waits for all futures of an admin call and returns the only result."""
    return [future.result(20) for future in futures.values()][0]


def create(what, partitions=1, **config):
    topic = report.name(what)
    done(admin.create_topics([NewTopic(topic, partitions, -1, config=config)], operation_timeout=10))
    wait_until(lambda: partitions_of(topic) == partitions, "the new topic in the metadata")
    return topic


def partitions_of(topic):
    found = admin.list_topics(timeout=10).topics.get(topic)
    return 0 if found is None or found.error else len(found.partitions)


class Sender:
    """A producer that keeps the first delivery error."""

    def __init__(self, **config):
        self.error, self.delivered = None, []
        self.producer = Producer({**BASE, "linger.ms": 5, **{k.replace("_", "."): v for k, v in config.items()}})

    def on_delivery(self, error, message):
        if error is not None:
            self.error = self.error or error
        else:
            self.delivered.append((message.partition(), message.offset()))

    def send(self, topic, value, **kwargs):
        self.producer.produce(topic, value, on_delivery=self.on_delivery, **kwargs)
        self.producer.poll(0)

    def flush(self):
        left = self.producer.flush(30)
        if self.error is not None:
            raise KafkaException(self.error)
        expect_equal(left, 0, "undelivered records")


def send_all(topic, values, partition=0, **config):
    sender = Sender(**config)
    for value in values:
        sender.send(topic, value, partition=partition)
    sender.flush()


def poll_records(consumer, count, seconds=20):
    """The next count records, or fewer when the time is over."""
    records, deadline = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        records.append(message)
    return records


def read(topic, count, start=0, partition=0):
    consumer = Consumer({**BASE, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, start)])
    records = poll_records(consumer, count)
    consumer.close()
    return records


def create_topic():
    topic = create("create", 3)
    wait_until(lambda: partitions_of(topic) == 3, "three partitions in the metadata")


def produce(codec):
    topic = create(f"codec-{codec}")
    values = payloads()
    send_all(topic, values, compression_type=codec)
    expect_equal([m.value() for m in read(topic, len(values))], values, "values")


def record_fields():
    topic = create("fields")
    headers = [("a", b"1"), ("b", b"\x00\xff"), ("a", b"2"), ("empty", b""), ("null", None)]
    sender = Sender()
    for i in range(5):
        sender.send(topic, b"v%d" % i, key=b"k\x00%d" % i, headers=headers, timestamp=1_600_000_000_000 + i)
    sender.send(topic, b"no key")
    sender.flush()
    records = read(topic, 6)
    for i, message in enumerate(records[:5]):
        expect_equal(message.key(), b"k\x00%d" % i, "key")
        expect_equal(message.headers(), headers, "headers")
        expect_equal(message.timestamp(), (ck.TIMESTAMP_CREATE_TIME, 1_600_000_000_000 + i), "timestamp")
    expect_equal((records[5].key(), records[5].headers()), (None, None), "record without key and headers")


def null_value():
    topic = create("null")
    sender = Sender()
    sender.send(topic, None, key=b"gone")
    sender.send(topic, b"", key=b"empty")
    sender.flush()
    expect_equal([m.value() for m in read(topic, 2)], [None, b""], "values")


def idempotent(in_flight):
    topic = create(f"idempotent-{in_flight}")
    values = [b"%d" % i for i in range(5000)]
    send_all(topic, values, enable_idempotence=True, batch_num_messages=20, linger_ms=0,
             max_in_flight_requests_per_connection=in_flight)
    expect_equal([m.value() for m in read(topic, len(values))], values, "values in order")
    expect_equal(end_offset(topic), len(values), "end offset")


def end_offset(topic, spec=None):
    partition = TopicPartition(topic, 0)
    return done(admin.list_offsets({partition: spec or OffsetSpec.latest()})).offset


def numbered_topic(what="numbers"):
    """Forty records, one second apart from 1,600,000,000,000 ms on."""
    topic = create(what)
    sender = Sender(batch_num_messages=7)
    for i in range(40):
        sender.send(topic, b"%d" % i, partition=0, timestamp=1_600_000_000_000 + i * 1000)
    sender.flush()
    return topic


def consume_start():
    topic = numbered_topic("start")
    consumer = Consumer({**BASE, "group.id": report.name("start"), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    expect_equal([m.value() for m in poll_records(consumer, 40)], [b"%d" % i for i in range(40)], "values")
    consumer.close()


def consume_offset():
    topic = numbered_topic("offset")
    first = read(topic, 1, start=17)[0]
    expect_equal((first.offset(), first.value()), (17, b"17"), "first record")


def consume_timestamp():
    topic = numbered_topic("timestamp")
    consumer = Consumer({**BASE, "group.id": "unused"})
    found = consumer.offsets_for_times([TopicPartition(topic, 0, 1_600_000_000_000 + 22_500)], timeout=10)
    expect_equal(found[0].offset, 23, "offset of the first record after 22.5 s")
    consumer.assign(found)
    expect_equal(poll_records(consumer, 1)[0].value(), b"23", "first record")
    past_end = consumer.offsets_for_times([TopicPartition(topic, 0, 1_700_000_000_000)], timeout=10)
    expect_equal(past_end[0].offset, ck.OFFSET_END, "offset after the last record")
    consumer.close()


def group_consumer(group, **config):
    return Consumer({**BASE, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
                     **{k.replace("_", "."): v for k, v in config.items()}})


def member(topic, group, name, seen, stop):
    try:
        consumer = group_consumer(group)
        consumer.subscribe([topic], on_assign=lambda c, parts: seen.hold(name, len(parts)))
        while not stop.is_set():
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            consumer.commit(message=message, asynchronous=False)
            seen.add([message.value().decode()])
        consumer.close()
    except Exception as error:
        seen.errors.append(f"{name}: {error}")


def run_victim(topic, group):
    consumer = group_consumer(group)
    consumer.subscribe([topic], on_assign=lambda c, parts: victim_says("assigned", len(parts)))
    for count in range(VICTIM_RECORDS + 1):
        message = poll_records(consumer, 1, 60)[0]
        if count == VICTIM_RECORDS:
            victim_dies()
        consumer.commit(message=message, asynchronous=False)
        victim_says("seen", message.value().decode())


def group(members):
    topic, name = create(f"group-{members}", GROUP_PARTITIONS), report.name(f"group-{members}")
    seen, stop = Seen(), threading.Event()
    survivors = [threading.Thread(target=member, args=(topic, name, f"m{i}", seen, stop))
                 for i in range(members if members == 1 else members - 1)]
    with victim(BOOTSTRAP, report.args.run_id, topic, name, seen) if members > 1 else threading.Lock():
        for thread in survivors:
            thread.start()
        try:
            wait_until(lambda: seen.balanced(members), "every member holds partitions")
            sender = Sender()
            for i in range(GROUP_RECORDS):
                sender.send(topic, b"%d" % i, partition=i % GROUP_PARTITIONS)
            sender.flush()
            wait_until(lambda: seen.count() == GROUP_RECORDS, "all records seen", 40)
        finally:
            stop.set()
            for thread in survivors:
                thread.join(10)
    expect_equal(seen.errors, [], "errors of members")
    parts = [TopicPartition(topic, p) for p in range(GROUP_PARTITIONS)]
    committed = group_consumer(name)
    expect_equal([tp.offset for tp in committed.committed(parts, timeout=10)],
                 [GROUP_RECORDS // GROUP_PARTITIONS] * GROUP_PARTITIONS, "committed offsets")
    committed.close()
    return judge_group(seen, members)


def static_member():
    topic, name = create("static", 4), report.name("static")
    rebalances = {"a": 0, "b": 0}

    def start(instance):
        def on_assign(consumer, parts):
            rebalances[instance] += 1
        consumer = group_consumer(name, group_instance_id=instance, session_timeout_ms=20000)
        consumer.subscribe([topic], on_assign=on_assign)
        return consumer

    def poll_both(condition, what):
        def step():
            for consumer in (a, b):
                consumer.poll(0.05)
            return condition()
        wait_until(step, what)

    a, b = start("a"), start("b")
    poll_both(lambda: len(a.assignment()) == 2 and len(b.assignment()) == 2, "two partitions each")
    before, held, member_before = rebalances["a"], sorted(p.partition for p in b.assignment()), b.memberid()
    b.close()
    b = start("b")
    poll_both(lambda: len(b.assignment()) > 0, "partitions for the restarted member")
    until = time.monotonic() + 1.5
    poll_both(lambda: time.monotonic() > until, "time")
    expect_equal(sorted(p.partition for p in b.assignment()), held, "partitions of the restarted member")
    expect(b.memberid() != member_before, "the member id did not change")
    expect_equal(rebalances["a"], before, "rebalances of the other member")
    a.close()
    b.close()


def commit_resume():
    topic, name = numbered_topic("resume"), report.name("resume")
    first = group_consumer(name)
    first.subscribe([topic])
    records = poll_records(first, 15)
    first.commit(message=records[14], asynchronous=False)
    first.close()
    second = group_consumer(name)
    second.subscribe([topic])
    expect_equal([m.offset() for m in poll_records(second, 25)], list(range(15, 40)), "offsets")
    second.close()


def config_of(topic):
    return done(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))


def describe_configs():
    topic = create("configs", **{"retention.ms": "1234567"})
    config = config_of(topic)
    expect_equal(config["retention.ms"].value, "1234567", "retention.ms")
    expect_equal(config["cleanup.policy"].value, "delete", "cleanup.policy")
    expect(not config["retention.ms"].is_default and config["cleanup.policy"].is_default, "is_default is wrong")
    return f"{len(config)} keys"


def alter_configs():
    topic = create("alter", **{"retention.ms": "1234567"})

    def alter(key, value, operation):
        entry = ConfigEntry(key, value, incremental_operation=operation)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        done(admin.incremental_alter_configs([resource]))

    alter("segment.bytes", "2097152", AlterConfigOpType.SET)
    wait_until(lambda: config_of(topic)["segment.bytes"].value == "2097152", "segment.bytes changed")
    expect_equal(config_of(topic)["retention.ms"].value, "1234567", "retention.ms")
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    wait_until(lambda: config_of(topic)["retention.ms"].is_default, "retention.ms back at its default")


def committed_group(what):
    topic, name = numbered_topic(what), report.name(what)
    consumer = group_consumer(name)
    consumer.subscribe([topic])
    consumer.commit(message=poll_records(consumer, 10)[9], asynchronous=False)
    return topic, name, consumer


def list_groups():
    _, name, consumer = committed_group("list-groups")
    found = {g.group_id: g for g in admin.list_consumer_groups(request_timeout=10).result(10).valid}
    expect(name in found, "the group is not listed")
    consumer.close()
    return f"state {found[name].state.name}"


def describe_group():
    topic, name, consumer = committed_group("describe-group")
    found = done(admin.describe_consumer_groups([name], request_timeout=10))
    expect_equal((found.state.name, len(found.members)), ("STABLE", 1), "state and members")
    parts = found.members[0].assignment.topic_partitions
    expect_equal([(p.topic, p.partition) for p in parts], [(topic, 0)], "assignment")
    consumer.close()
    wait_until(lambda: done(admin.describe_consumer_groups([name])).state.name == "EMPTY", "an empty group")


def list_offsets():
    topic, name, consumer = committed_group("list-offsets")
    consumer.close()
    expect_equal(end_offset(topic, OffsetSpec.earliest()), 0, "earliest offset")
    expect_equal(end_offset(topic), 40, "latest offset")
    request = ck.ConsumerGroupTopicPartitions(name)
    offsets = done(admin.list_consumer_group_offsets([request])).topic_partitions
    expect_equal([(p.topic, p.offset) for p in offsets], [(topic, 10)], "committed offset")


def delete_records():
    topic = numbered_topic("delete-records")
    deleted = done(admin.delete_records([TopicPartition(topic, 0, 25)]))
    expect_equal(deleted.low_watermark, 25, "low watermark")
    expect_equal(end_offset(topic, OffsetSpec.earliest()), 25, "earliest offset")
    expect_equal(read(topic, 1, start=ck.OFFSET_BEGINNING)[0].value(), b"25", "first record")


def delete_topic():
    topic = create("delete")
    wait_until(lambda: partitions_of(topic) == 1, "the topic in the metadata")
    done(admin.delete_topics([topic], operation_timeout=10))
    wait_until(lambda: partitions_of(topic) == 0, "the topic gone from the metadata")


def error_too_large():
    topic = create("large", **{"max.message.bytes": "20000"})
    text = expect_error("MSG_SIZE_TOO_LARGE", lambda: send_all(topic, [b"x" * 100_000], message_max_bytes=1000000))
    send_all(topic, [b"x" * 1000])
    expect_equal(end_offset(topic), 1, "end offset")
    return text


def error_unknown_topic():
    return expect_error("UNKNOWN_TOPIC_OR_PART", lambda: done(admin.delete_topics([report.name("nowhere")])))


def error_bad_topic_name():
    return expect_error("TOPIC_EXCEPTION", lambda: create("bad/name!"))


if report.args.victim:
    run_victim(*report.args.victim)
for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    report.run(f"produce_{codec}", lambda: produce(codec))
for function in (create_topic, record_fields, null_value, consume_start, consume_offset, consume_timestamp,
                 commit_resume, describe_configs, alter_configs, list_groups, describe_group, list_offsets,
                 delete_records, delete_topic, error_too_large, error_unknown_topic, error_bad_topic_name):
    report.run(function.__name__, function)
report.run("idempotent", lambda: idempotent(1))
report.run("idempotent_in_flight", lambda: idempotent(5))
report.run_together([(f"group_{n}", lambda n=n: group(n)) for n in (1, 2, 3, 4)]
                    + [("static_member", static_member)])
