"""An idempotent producer through the death of brokers: the longest silence of each partition that the dead broker led.

usage (by side_by_side.workloads): failover_probe.py BOOTSTRAP NODE=PID,... PARTITIONS
Prints {p50_s, worst_s, gaps, acknowledged, failed} as JSON. Needs confluent-kafka.
"""
import json
import os
import signal
import statistics
import sys
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

SETTLE_S, BEFORE_S, AFTER_S = 5, 3, 25
PAUSE_S = 0.002


def main():
    bootstrap, pids, partitions = sys.argv[1], dict(p.split("=") for p in sys.argv[2].split(",")), int(sys.argv[3])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("failover", partitions, 3, config={"min.insync.replicas": "2"})])["failover"].result(60)
    time.sleep(SETTLE_S)
    metadata = admin.list_topics("failover", 30).topics["failover"].partitions
    dead = metadata[0].leader
    led = [p for p, m in metadata.items() if m.leader == dead]
    acknowledged = {p: [] for p in range(partitions)}
    failed = 0
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0,
                         "socket.connection.setup.timeout.ms": 1000, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100,
                         "retry.backoff.ms": 10, "retry.backoff.max.ms": 50})

    def done(error, message):
        nonlocal failed
        if error:
            failed += 1
        else:
            acknowledged[message.partition()].append(time.monotonic())
    began = time.monotonic()
    killed = None
    n = 0
    while time.monotonic() - began < BEFORE_S + AFTER_S:
        if killed is None and time.monotonic() - began > BEFORE_S:
            killed = time.monotonic()
            os.kill(int(pids[str(dead)]), signal.SIGKILL)
        try:
            producer.produce("failover", b"x" * 100, partition=n % partitions, on_delivery=done)
            n += 1
        except BufferError:
            pass
        producer.poll(PAUSE_S)
    producer.flush(30)
    gaps = []
    for p in led:
        times = [t for t in acknowledged[p] if t > killed - 1]
        gaps.append(max((b - a for a, b in zip(times, times[1:])), default=AFTER_S))
    print(json.dumps({"p50_s": statistics.median(gaps), "worst_s": max(gaps), "gaps": sorted(gaps), "failed": failed,
                      "acknowledged": sum(map(len, acknowledged.values()))}))


main()
