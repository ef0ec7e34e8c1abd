"""kafka-python (a client written in Python alone) against a broker."""

import logging
import threading
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, OffsetSpec
from kafka.structs import OffsetAndMetadata

from zoo_report import (GROUP_PARTITIONS, GROUP_RECORDS, VICTIM_RECORDS, Report, Seen, expect, expect_equal,
                        expect_error, judge_group, payloads, victim, victim_dies, victim_says, wait_until)

logging.getLogger("kafka").setLevel(logging.CRITICAL)
report = Report("kafka-python", kafka.__version__)
BOOTSTRAP = report.args.bootstrap
admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def create(what, partitions=1, **config):
    topic = report.name(what)
    admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": -1, "configs": config}})
    admin.wait_for_topics([topic])
    return topic


def partitions_of(topic):
    found = [t for t in admin.describe_topics() if t["name"] == topic and not t["error_code"]]
    return len(found[0]["partitions"]) if found else 0


def send_all(topic, records, **config):
    """Sends records, each a value or a dict of arguments for send()."""
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, **config)
    try:
        futures = []
        for record in records:
            arguments = record if isinstance(record, dict) else {"value": record}
            futures.append(producer.send(topic, **{"partition": 0, **arguments}))
        producer.flush(30)
        for future in futures:
            future.get(10)
    finally:
        producer.close(5)


def new_consumer(**config):
    return KafkaConsumer(bootstrap_servers=BOOTSTRAP,
                         **{"enable_auto_commit": False, "auto_offset_reset": "earliest", **config})


def group_consumer(group, **config):
    return new_consumer(**{"group_id": group, "session_timeout_ms": 6000, "heartbeat_interval_ms": 500, **config})


def poll_records(consumer, count, seconds=20):
    """The next count records, or fewer when the time is over."""
    records, deadline = [], time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        for batch in consumer.poll(200, max_records=count - len(records)).values():
            records.extend(batch)
    return records


def read(topic, count, start=0):
    consumer = new_consumer()
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), start)
    records = poll_records(consumer, count)
    consumer.close()
    return records


def create_topic():
    topic = create("create", 3)
    wait_until(lambda: partitions_of(topic) == 3, "three partitions in the metadata")


def produce(codec):
    topic, values = create(f"codec-{codec}"), payloads()
    send_all(topic, values, compression_type=None if codec == "none" else codec, linger_ms=20)
    expect_equal([r.value for r in read(topic, len(values))], values, "values")


def record_fields():
    topic = create("fields")
    headers = [("a", b"1"), ("b", b"\x00\xff"), ("a", b"2"), ("empty", b"")]
    send_all(topic, [{"value": b"v%d" % i, "key": b"k\x00%d" % i, "headers": headers,
                      "timestamp_ms": 1_600_000_000_000 + i} for i in range(5)] + [b"no key"])
    records = read(topic, 6)
    for i, record in enumerate(records[:5]):
        expect_equal(record.key, b"k\x00%d" % i, "key")
        expect_equal([tuple(h) for h in record.headers], headers, "headers")
        expect_equal((record.timestamp_type, record.timestamp), (0, 1_600_000_000_000 + i), "timestamp")
    expect_equal((records[5].key, len(records[5].headers)), (None, 0), "record without key and headers")


def null_value():
    topic = create("null")
    send_all(topic, [{"key": b"gone", "value": None}, {"key": b"empty", "value": b""}])
    expect_equal([r.value for r in read(topic, 2)], [None, b""], "values")


def idempotent(in_flight):
    topic, values = create(f"idempotent-{in_flight}"), [b"%d" % i for i in range(2000)]
    send_all(topic, values, enable_idempotence=True, batch_size=500, linger_ms=0,
             max_in_flight_requests_per_connection=in_flight)
    expect_equal([r.value for r in read(topic, len(values))], values, "values in order")
    expect_equal(end_offset(topic), len(values), "end offset")


def end_offset(topic, spec=OffsetSpec.LATEST):
    partition = TopicPartition(topic, 0)
    return admin.list_partition_offsets({partition: spec})[partition].offset


def numbered_topic(what):
    """Forty records, one second apart from 1,600,000,000,000 ms on."""
    topic = create(what)
    send_all(topic, [{"value": b"%d" % i, "timestamp_ms": 1_600_000_000_000 + i * 1000} for i in range(40)])
    return topic


def consume_start():
    topic = numbered_topic("start")
    consumer = new_consumer(group_id=report.name("start"))
    consumer.subscribe([topic])
    expect_equal([r.value for r in poll_records(consumer, 40)], [b"%d" % i for i in range(40)], "values")
    consumer.close()


def consume_offset():
    first = read(numbered_topic("offset"), 1, start=17)[0]
    expect_equal((first.offset, first.value), (17, b"17"), "first record")


def consume_timestamp():
    topic = numbered_topic("timestamp")
    partition, consumer = TopicPartition(topic, 0), new_consumer()
    found = consumer.offsets_for_times({partition: 1_600_000_000_000 + 22_500})[partition]
    expect_equal((found.offset, found.timestamp), (23, 1_600_000_023_000), "first record after 22.5 s")
    consumer.assign([partition])
    consumer.seek(partition, found.offset)
    expect_equal(poll_records(consumer, 1)[0].value, b"23", "first record")
    expect_equal(consumer.offsets_for_times({partition: 1_700_000_000_000})[partition], None, "after the last")
    consumer.close()


class Listener(ConsumerRebalanceListener):
    def __init__(self, on_assigned):
        self.on_assigned = on_assigned

    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        self.on_assigned(assigned)


def commit(consumer, record):
    consumer.commit({TopicPartition(record.topic, record.partition): OffsetAndMetadata(record.offset + 1, "", -1)})


def member(topic, group, name, seen, stop):
    try:
        consumer = group_consumer(group)
        consumer.subscribe([topic], listener=Listener(lambda parts: seen.hold(name, len(parts))))
        while not stop.is_set():
            for record in poll_records(consumer, 1, 0.1):
                commit(consumer, record)
                seen.add([record.value.decode()])
        consumer.close()
    except Exception as error:
        seen.errors.append(f"{name}: {type(error).__name__} {error}")


def run_victim(topic, group):
    consumer = group_consumer(group)
    consumer.subscribe([topic], listener=Listener(lambda parts: victim_says("assigned", len(parts))))
    for count in range(VICTIM_RECORDS + 1):
        record = poll_records(consumer, 1, 60)[0]
        if count == VICTIM_RECORDS:
            victim_dies()
        commit(consumer, record)
        victim_says("seen", record.value.decode())


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
            send_all(topic, [{"value": b"%d" % i, "partition": i % GROUP_PARTITIONS}
                             for i in range(GROUP_RECORDS)])
            wait_until(lambda: seen.count() == GROUP_RECORDS, "all records seen", 40)
        finally:
            stop.set()
            for thread in survivors:
                thread.join(10)
    expect_equal(seen.errors, [], "errors of members")
    expect_equal([o.offset for o in admin.list_group_offsets(name)[name].values()],
                 [GROUP_RECORDS // GROUP_PARTITIONS] * GROUP_PARTITIONS, "committed offsets")
    return judge_group(seen, members)


class StaticMember:
    """A consumer with an instance id, polled by a thread of its own."""

    def __init__(self, topic, group, instance):
        self.rebalances, self.stop, self.error = 0, threading.Event(), None
        self.consumer = group_consumer(group, group_instance_id=instance, session_timeout_ms=20000)
        self.consumer.subscribe([topic], listener=Listener(self.on_assigned))
        self.held = []
        self.thread = threading.Thread(target=self.poll)
        self.thread.start()

    def on_assigned(self, parts):
        self.rebalances += 1
        self.held = sorted(p.partition for p in parts)

    def poll(self):
        try:
            while not self.stop.is_set():
                self.consumer.poll(100)
            self.consumer.close()
        except Exception as error:
            self.error = error

    def close(self):
        self.stop.set()
        self.thread.join(10)
        if self.error:
            raise self.error


def static_member():
    topic, name = create("static", 4), report.name("static")

    def member_ids():
        return {m["group_instance_id"]: m["member_id"] for m in admin.describe_groups([name])[name]["members"]}

    a, b = StaticMember(topic, name, "a"), StaticMember(topic, name, "b")
    try:
        wait_until(lambda: len(a.held) == 2 and len(b.held) == 2, "two partitions each")
        before, held, ids = a.rebalances, b.held, member_ids()
        b.close()
        b = StaticMember(topic, name, "b")
        wait_until(lambda: b.held, "partitions for the restarted member")
        time.sleep(1.5)
        expect_equal(b.held, held, "partitions of the restarted member")
        after = member_ids()
        expect(after["a"] == ids["a"] and after["b"] != ids["b"], f"member ids {ids} became {after}")
        expect_equal(a.rebalances, before, "rebalances of the other member")
    finally:
        a.close()
        b.close()


def commit_resume():
    topic, name = numbered_topic("resume"), report.name("resume")
    first = group_consumer(name)
    first.subscribe([topic])
    commit(first, poll_records(first, 15)[14])
    first.close()
    second = group_consumer(name)
    second.subscribe([topic])
    expect_equal([r.offset for r in poll_records(second, 25)], list(range(15, 40)), "offsets")
    second.close()


def config_of(topic):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    found = admin.describe_configs([resource], config_filter="all")
    while topic not in found:
        found = next(iter(found.values()))
    return found[topic]


def describe_configs():
    config = config_of(create("configs", **{"retention.ms": "1234567"}))
    expect_equal(config["retention.ms"]["value"], "1234567", "retention.ms")
    expect_equal(config["cleanup.policy"]["value"], "delete", "cleanup.policy")
    return f"{len(config)} keys"


def alter_configs():
    topic = create("alter", **{"retention.ms": "1234567"})

    def alter(key, operation, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={key: (operation, value)})
        admin.alter_configs([resource], incremental=True)

    alter("segment.bytes", AlterConfigOp.SET, "2097152")
    wait_until(lambda: config_of(topic)["segment.bytes"]["value"] == "2097152", "segment.bytes changed")
    expect_equal(config_of(topic)["retention.ms"]["value"], "1234567", "retention.ms")
    alter("retention.ms", AlterConfigOp.DELETE, None)
    wait_until(lambda: config_of(topic)["retention.ms"]["value"] != "1234567", "retention.ms back at its default")


def committed_group(what):
    topic, name = numbered_topic(what), report.name(what)
    consumer = group_consumer(name)
    consumer.subscribe([topic])
    commit(consumer, poll_records(consumer, 10)[9])
    return topic, name, consumer


def list_groups():
    _, name, consumer = committed_group("list-groups")
    found = {g["group_id"]: g for g in admin.list_groups()}
    expect(name in found, "the group is not listed")
    consumer.close()
    return f"state {found[name].get('group_state')}"


def describe_group():
    topic, name, consumer = committed_group("describe-group")
    found = admin.describe_groups([name])[name]
    expect_equal((found["group_state"], len(found["members"])), ("Stable", 1), "state and members")
    expect(topic in str(found["members"][0]["member_assignment"]), "the topic is not in the assignment")
    consumer.close()
    wait_until(lambda: admin.describe_groups([name])[name]["group_state"] == "Empty", "an empty group")


def list_offsets():
    topic, name, consumer = committed_group("list-offsets")
    consumer.close()
    expect_equal(end_offset(topic, OffsetSpec.EARLIEST), 0, "earliest offset")
    expect_equal(end_offset(topic), 40, "latest offset")
    expect_equal(admin.list_group_offsets(name)[name][TopicPartition(topic, 0)].offset, 10, "committed offset")


def delete_records():
    topic = numbered_topic("delete-records")
    deleted = admin.delete_records({TopicPartition(topic, 0): 25})
    expect("25" in str(deleted), f"low watermark in {deleted}")
    expect_equal(end_offset(topic, OffsetSpec.EARLIEST), 25, "earliest offset")
    expect_equal(read(topic, 1, start=25)[0].value, b"25", "first record")


def delete_topic():
    topic = create("delete")
    admin.delete_topics([topic])
    wait_until(lambda: partitions_of(topic) == 0, "the topic gone from the metadata")


def error_too_large():
    topic = create("large", **{"max.message.bytes": "20000"})
    text = expect_error("MessageSizeTooLarge", lambda: send_all(topic, [b"x" * 100_000]))
    send_all(topic, [b"x" * 1000])
    expect_equal(end_offset(topic), 1, "end offset")
    return text


def error_unknown_topic():
    return expect_error("UnknownTopicOrPartition", lambda: admin.delete_topics([report.name("nowhere")]))


def error_bad_topic_name():
    return expect_error("InvalidTopic", lambda: create("bad/name!"))


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
admin.close()
