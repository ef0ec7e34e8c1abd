"""confluent-kafka (librdkafka) as an application that produces and consumes without end."""

import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from steady import PAUSE_SECONDS, Steady, clock, payload

steady = Steady("confluent", f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})")


def told(error):
    # What librdkafka says of single connections is for logs; the library goes on by itself.
    if error.code() not in (KafkaError._TRANSPORT, KafkaError._RESOLVE):
        steady.error("error_cb", RuntimeError(str(error)))


COMMON = {"bootstrap.servers": steady.bootstrap, "error_cb": told, "log_level": 0}


def produce():
    producer, value = Producer({**COMMON, "enable.idempotence": True, "acks": "all"}), 0
    while steady.sending:
        for p in range(steady.partitions):
            value += 1

            def delivered(error, message, value=value, p=p, began=clock()):
                steady.sent(p, value, began, message.offset(), RuntimeError(str(error)) if error else None)
            producer.produce(steady.topic, payload(value), partition=p, on_delivery=delivered)
        producer.poll(0)
        time.sleep(PAUSE_SECONDS)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} records were not answered")


def member(number):
    fresh = set()
    consumer = Consumer({**COMMON, "group.id": steady.group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([steady.topic], on_assign=lambda _, partitions: fresh.update(p.partition for p in partitions),
                       on_lost=lambda _, partitions: steady.error(f"member {number}", RuntimeError(f"partitions lost: {partitions}")))
    while steady.reading:
        began, by = clock(), {}
        for m in consumer.consume(1000, timeout=0.2):
            if m.error():
                steady.error(f"member {number}", RuntimeError(str(m.error())))
            else:
                by.setdefault(m.partition(), []).append((m.offset(), m.value()))
        for partition, records in by.items():
            steady.read(number, began, partition in fresh, partition, records)
            fresh.discard(partition)
        try:
            if by:
                consumer.commit(asynchronous=False)
        except KafkaException as e:
            steady.error(f"member {number} commits", e)
    consumer.close()


def ends():
    consumer = Consumer({**COMMON, "group.id": "nobody"})
    found = {p: consumer.get_watermark_offsets(TopicPartition(steady.topic, p), timeout=20)[1] for p in range(steady.partitions)}
    consumer.close()
    return found


steady.run(produce, member, ends)
