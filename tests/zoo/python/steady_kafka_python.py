"""kafka-python as an application that produces and consumes without end."""

import logging
import time

import kafka
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition

from steady import PAUSE_SECONDS, Steady, clock, payload

logging.getLogger("kafka").setLevel(logging.CRITICAL)
steady = Steady("kafka-python", kafka.__version__)
SERVERS = steady.bootstrap.split(",")


class Fresh(ConsumerRebalanceListener):
    def __init__(self):
        self.partitions = set()

    def on_partitions_assigned(self, assigned):
        self.partitions.update(p.partition for p in assigned)

    def on_partitions_revoked(self, revoked):
        pass


def produce():
    producer, value = KafkaProducer(bootstrap_servers=SERVERS, enable_idempotence=True, acks="all"), 0
    while steady.sending:
        for p in range(steady.partitions):
            value += 1
            future, number, began = producer.send(steady.topic, payload(value), partition=p), value, clock()
            future.add_callback(lambda m, p=p, number=number, began=began: steady.sent(p, number, began, m.offset))
            future.add_errback(lambda e, p=p, number=number, began=began: steady.sent(p, number, began, None, e))
        time.sleep(PAUSE_SECONDS)
    producer.flush(60)
    producer.close()


def member(number):
    fresh = Fresh()
    consumer = KafkaConsumer(bootstrap_servers=SERVERS, group_id=steady.group, enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.subscribe([steady.topic], listener=fresh)
    while steady.reading:
        began = clock()
        found = consumer.poll(200)
        for partition, records in found.items():
            steady.read(number, began, partition.partition in fresh.partitions, partition.partition,
                        [(r.offset, r.value) for r in records])
            fresh.partitions.discard(partition.partition)
        if found:
            consumer.commit()
    consumer.close()


def ends():
    consumer = KafkaConsumer(bootstrap_servers=SERVERS)
    found = consumer.end_offsets([TopicPartition(steady.topic, p) for p in range(steady.partitions)])
    consumer.close()
    return {p.partition: end for p, end in found.items()}


steady.run(produce, member, ends)
