"""The workloads: for each id its rows, each row a way to load a system and what is compared.

A row gives, for one system, one sample: a dict with at least `rate` (larger is better) or `cost` or `ms` (smaller is better).
`metrics` of a row name what is compared: (key of the sample, title, larger is better).
"""
import dataclasses
import json
import os
import pathlib
import struct
import subprocess
import sys
import threading
import time
from typing import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests/e2e"))
import harness  # noqa: E402

from . import systems  # noqa: E402

RATE = ("requests_per_s", "requests/s", True)
MB = ("mb_per_s", "MB/s", True)
CPU_REQUEST = ("cpu_us_per_request", "broker us/request", False)
CPU_GB = ("cpu_s_per_gb", "broker s/GB", False)
P50 = ("p50_us", "p50 us", False)
P999 = ("p99_9_us", "p99.9 us", False)


@dataclasses.dataclass
class Row:
    id: str                     # P1/16
    title: str
    metrics: list
    run: Callable               # (bench, system, row) -> sample
    arguments: list = dataclasses.field(default_factory=list)
    target: str = ""            # what the ratio is meant to be
    group: str = "one"          # "one": the shared single brokers; "own": the row starts its own systems
    options: dict = dataclasses.field(default_factory=dict)

    workload = property(lambda self: self.id.split("/")[0])


def perf(bench, system, *arguments, timeout=900):
    command = [systems.MILLRACE, "perf", *map(str, arguments), "-b", system.bootstrap, "--json"]
    # Three brokers take what there is; nobody is pinned then.
    if bench.generator_cpus and len(system.nodes) == 1:
        command = ["taskset", "-c", bench.generator_cpus, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                          env=systems.CLEAN_ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{system.name}: perf {' '.join(map(str, arguments[:1]))}: {done.stderr.strip() or done.stdout[-500:]}")
    return json.loads(done.stdout)


def flat(report):
    """What rows compare, out of the generator's report; the report itself beside it."""
    sample = {"report": report}
    direction = report.get("produce") or report.get("fetch")
    for key in ("requests_per_s", "records_per_s", "mb_per_s"):
        sample[key] = direction[key]
    for key in ("p50", "p99", "p99_9", "max"):
        sample[f"{key}_us"] = direction["latency_us"][key]
    fetch = report.get("fetch")
    if fetch:
        sample["fetch_mb_per_s"] = fetch["mb_per_s"]
        for key in ("p50", "p99", "p99_9"):
            if "end_to_end_us" in fetch:
                sample[f"e2e_{key}_us"] = fetch["end_to_end_us"][key]
    processes = report["broker_processes"]
    if processes:
        cpu = sum(p["cpu_s"] for p in processes)
        requests = sum(report[d]["requests"] for d in ("produce", "fetch") if d in report)
        volume = sum(report[d]["bytes"] for d in ("produce", "fetch") if d in report)
        sample["broker_cores"] = cpu / max(report["seconds"], 1e-9)
        sample["cpu_us_per_request"] = cpu * 1e6 / max(requests, 1)
        sample["cpu_us_per_batch"] = sample["cpu_us_per_request"] / max(1, report["settings"].get("partitions_per_request", 1))
        sample["cpu_s_per_gb"] = cpu * 1e9 / max(volume, 1)
        raw = report["settings"].get("payload_bytes", 0) / max(report["settings"].get("batch_bytes", 1), 1)
        sample["cpu_s_per_raw_gb"] = sample["cpu_s_per_gb"] / raw if raw else None
        sample["raw_mb_per_s"] = direction["mb_per_s"] * raw
        sample["rss_mb"] = sum(p["rss_mb"] for p in processes)
    sample["generator_cores"] = report["generator"]["cores"]
    sample["generator_bound"] = report["generator"]["bound"]
    sample["load_average"] = report["load_average"]
    sample["congestion"] = report["settings"]["congestion_control"]
    return sample


def topic_arguments(bench, system, row, partitions, copies=1, name=None):
    out = ["--topic", name or bench.new_topic(row), "--create-partitions", partitions, "--replication-factor", copies]
    configs = system.durable_topic() if row.options.get("durable") else system.plain_topic()
    for c in configs:
        out += ["--topic-config", c]
    return out


def load(bench, system, row):
    """produce or both, into a topic of its own that is deleted afterwards."""
    partitions, copies = row.options["partitions"], row.options.get("copies", 1)
    topic = bench.new_topic(row)
    arguments = [*row.arguments, *topic_arguments(bench, system, row, partitions, copies, topic), *bench.window(system, row),
                 *bench.congestion_arguments(), "--broker-pid", ",".join(map(str, system.pids))]
    try:
        return flat(perf(bench, system, *arguments))
    finally:
        bench.delete_topic(system, topic)


# --- reads ---

def catch_up(bench, system, row):
    topic = bench.filled_topic(system, 16)
    return flat(perf(bench, system, "consume", "--topic", topic, "--from-beginning", "--until-end", *row.arguments,
                     *bench.congestion_arguments(), "--broker-pid", ",".join(map(str, system.pids))))


def cold_catch_up(bench, system, row):
    """Everything out of the cache; a producer at a fifth of what it could, a consumer at the end, and one from the beginning."""
    topic = bench.filled_topic(system, 16)
    for file in system.data_files():
        with file.open("rb") as f:
            os.fdatasync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    live = bench.new_topic(row)
    outcome = {}
    seconds = bench.seconds(row)

    def tail():
        try:
            outcome["tail"] = perf(bench, system, "both", *topic_arguments(bench, system, row, 16, name=live), "--batch-bytes", 16384,
                                   "-k", 4, "--rate", row.options["rate"], "--warmup", 1, "--seconds", seconds,
                                   *bench.congestion_arguments())
        except (RuntimeError, subprocess.SubprocessError) as e:
            outcome["error"] = e
    thread = threading.Thread(target=tail)
    thread.start()
    time.sleep(1.5)
    cold = perf(bench, system, "consume", "--topic", topic, "--from-beginning", "--until-end", *bench.congestion_arguments(),
                "--broker-pid", ",".join(map(str, system.pids)))
    thread.join()
    bench.delete_topic(system, live)
    if "error" in outcome:
        raise outcome["error"]
    sample = flat(cold)
    sample["tail_p99_us"] = outcome["tail"]["fetch"]["end_to_end_us"]["p99"]
    sample["tail_report"] = outcome["tail"]
    return sample


# --- groups and offsets ---

def group(bench, system, row):
    topic = bench.new_topic(row)
    bench.create_topic(system, topic, row.options["partitions"])
    try:
        r = perf(bench, system, "group", "--topic", topic, "--group", topic, "--members", row.options["members"])
    finally:
        bench.delete_topic(system, topic)
    phases = {p["phase"]: p for p in r["phases"]}
    return {"report": r, "form_ms": phases[f"{row.options['members']} members"]["stable_ms"],
            "join_ms": phases["one joins"]["stable_ms"], "pause_ms": phases["one joins"]["pause_p50_ms"]}


def commits(bench, system, row):
    topic = bench.new_topic(row)
    bench.create_topic(system, topic, 1)
    try:
        return flat(perf(bench, system, "commits", "--topic", topic, "--group", topic, *row.arguments, *bench.window(system, row),
                         "--broker-pid", ",".join(map(str, system.pids))))
    finally:
        bench.delete_topic(system, topic)


# --- many of something, and starts: brokers of their own ---

def many_partitions(bench, system, row):
    total, each = row.options["partitions"], 1000
    system.prepare()
    system.start()
    try:
        node = system.nodes[0]
        idle = systems.resident_mb(node.process.pid)
        began = time.monotonic()
        with harness.Connection(node.port, timeout=600) as c:
            for first in range(0, total, each):
                code = c.create_topic(f"m{first}", min(each, total - first))
                if code:
                    raise RuntimeError(f"{system.name}: creating partition {first}: error {code}")
        created = time.monotonic() - began
        held = systems.resident_mb(node.process.pid)
        cpu, wait = systems.cpu_seconds(node.process.pid), 2 if bench.quick else 10
        time.sleep(wait)
        cores = (systems.cpu_seconds(node.process.pid) - cpu) / wait
        began = time.monotonic()
        system.stop()
        stopped = time.monotonic() - began
        restarted = system.start()
        return {"create_per_s": total / created, "bytes_per_partition": (held - idle) * 1e6 / total, "idle_cores": cores,
                "stop_s": stopped, "start_s": restarted}
    finally:
        system.stop()


def connections(bench, system, row):
    """On a broker of its own: memory that another load gave back would hide what connections take."""
    system.prepare()
    system.start()
    try:
        return hold_connections(bench, system, row)
    finally:
        system.stop()


def hold_connections(bench, system, row):
    r = perf(bench, system, "connections", "--count", row.options["connections"], "--seconds", 2 if bench.quick else 10,
             "--broker-pid", system.pids[0])
    b = r["broker_processes"][0]
    return {"report": r, "bytes_per_connection": b["rss_bytes_per_connection"], "idle_cores": b["idle_cores"],
            "open_per_s": r["connections"] / r["opened_s"]}


def first_produce(node, topic, deadline_s=120):
    """Seconds until one record is taken."""
    began = time.monotonic()
    data = harness.batch([b"first"])
    while time.monotonic() - began < deadline_s:
        try:
            with harness.Connection(node.port, timeout=5) as c:
                if c.produce(topic, data)[0] == 0:
                    return time.monotonic() - began
        except (OSError, EOFError, struct.error):
            pass
        time.sleep(0.002)
    raise RuntimeError(f"no record was taken within {deadline_s} s")


def starts(bench, system, row):
    """Process start to the first record that is taken, after a clean stop and after a kill; memory and CPU when idle."""
    system.prepare()
    system.start()
    try:
        node = system.nodes[0]
        with harness.Connection(node.port, timeout=60) as c:
            if c.create_topic("start", 1) or (row.options["partitions"] > 1 and c.create_topic("more", row.options["partitions"] - 1)):
                raise RuntimeError(f"{system.name}: the topics could not be created")
        first_produce(node, "start")
        system.stop()
        times = {}
        for what in ("clean", "killed"):
            began = time.monotonic()
            system.spawn(node)
            first_produce(node, "start")
            times[what] = time.monotonic() - began
            if what == "clean":
                time.sleep(1 if bench.quick else 5)
                memory = systems.resident_mb(node.process.pid)
                cpu, wait = systems.cpu_seconds(node.process.pid), 3 if bench.quick else 20
                time.sleep(wait)
                cores = (systems.cpu_seconds(node.process.pid) - cpu) / wait
                node.process.kill()
                node.process.wait()
        return {"clean_start_s": times["clean"], "killed_start_s": times["killed"], "idle_rss_mb": memory, "idle_cores": cores}
    finally:
        system.stop()


# --- three brokers ---

def cluster_load(bench, system, row):
    return load(bench, system, row)


def cluster_at_share(bench, system, row):
    """The same rate for both: a share of what Kafka's better configuration did at most in this session."""
    most = bench.best_kafka("T2/max", "requests_per_s")
    if not most:
        raise RuntimeError("T2/max has to be measured before")
    row = dataclasses.replace(row, arguments=[*row.arguments, "--rate", round(most * row.options["share"])])
    return load(bench, system, row)


def failover(bench, system, row):
    """kill -9 of the leader of partition 0 under an idempotent producer: the longest time without an acknowledgement, by
    partition of the dead broker."""
    python = systems.confluent_python()
    system.prepare()
    system.start()
    try:
        program = pathlib.Path(__file__).resolve().parent / "failover_probe.py"
        pids = ",".join(f"{n.number}={n.process.pid}" for n in system.nodes)
        done = subprocess.run([python, program, system.bootstrap, pids, str(row.options["partitions"])], capture_output=True,
                              text=True, timeout=180)
        if done.returncode:
            raise RuntimeError(f"{system.name}: {done.stderr[-500:]}")
        return json.loads(done.stdout)
    finally:
        system.stop()


# --- what users see ---

def java_producer(bench, system, row):
    topic = bench.new_topic(row)
    bench.create_topic(system, topic, 16)
    records = 20_000 if bench.quick else 500_000
    command = ["java", "-Xmx512m", "-cp", f"{systems.KAFKA_LIBS}/*", "org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
               "--num-records", str(records), "--record-size", "1024", "--throughput", "-1", "--producer-props",
               f"bootstrap.servers={system.bootstrap}"]
    if bench.generator_cpus:
        command = ["taskset", "-c", bench.generator_cpus, *command]
    cpu = sum(systems.cpu_seconds(p) for p in system.pids)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    cpu = sum(systems.cpu_seconds(p) for p in system.pids) - cpu
    bench.delete_topic(system, topic)
    last = [line for line in done.stdout.splitlines() if "records sent" in line]
    if done.returncode or not last:
        raise RuntimeError(f"{system.name}: {done.stderr[-300:]}")
    words = last[-1].split(",")
    rate = float(words[1].split()[0])
    return {"records_per_s": rate, "cpu_us_per_record": cpu * 1e6 / records, "told": last[-1], "generator_bound": True}


def rows():
    p = ["produce"]
    small = ["--value-size", 100, "-k", 8, "-d", 5, "--acks", 1]
    kib = ["--value-size", 1024, "-k", 4, "-d", 5]
    out = []

    def add(id, title, metrics, run, arguments=(), target="", group="one", **options):
        out.append(Row(id, title, metrics, run, list(arguments), target, group, options))
    target = "CPU <= 1/5, rate >= 3x"
    add("P1/1", "100 B, one record a request, 1 partition, 8x5, acks=1", [RATE, CPU_REQUEST], load, p + small + ["--records", 1], target,
        partitions=1)
    add("P1/16", "the same, 16 partitions", [RATE, CPU_REQUEST], load, p + small + ["--records", 1], target, partitions=16)
    add("P2", "100 B, ten records a request, 16 partitions, 8x5, acks=1", [RATE, CPU_REQUEST], load, p + small + ["--records", 10], target,
        partitions=16)
    add("P3", "1 KiB, 16 KiB batches, 16 partitions, 4x5, acks=all", [MB, CPU_GB], load, p + kib + ["--batch-bytes", 16384],
        "CPU <= 1/5, rate >= 4x", partitions=16)
    target = "CPU <= 1/5, rate >= 3.5x"
    add("P4", "1 KiB, 64 KiB batches, 16 partitions, 4x5, acks=all", [MB, CPU_GB], load, p + kib + ["--batch-bytes", 65536], target,
        partitions=16, seconds=5)
    add("P5", "1 KiB, 1 MB batches, 100 partitions, 2x5, acks=all", [MB, CPU_GB], load,
        p + ["--value-size", 1024, "-k", 2, "-d", 5, "--batch-bytes", 1_000_000], target, partitions=100, seconds=3)
    batch = ("cpu_us_per_batch", "broker us/batch", False)
    for n in (100, 1000):
        add(f"P6/{n}", f"1 KiB, 100 partitions a request, {n} partitions, 4x5, acks=1", [RATE, batch], load,
            p + kib + ["--acks", 1, "--records", 1, "--partitions-per-request", 100], "CPU <= 1/5", partitions=n)
    linkedin = ["both", "--value-size", 100, "--batch-bytes", 8192, "-d", 5]
    for n in (1, 3):
        add(f"P7/{n}", f"100 B, 8 KiB batches, 6 partitions, {n} producers and consumers, acks=1",
            [("records_per_s", "records/s", True), CPU_GB], load, linkedin + ["-k", n, "--consumers", n, "--acks", 1], partitions=6)
    for codec in ("zstd", "lz4"):
        add(f"P8/{codec}", f"1 KiB of JSON, 64 KiB batches, {codec}, 16 partitions, 4x5, acks=all",
            [("raw_mb_per_s", "raw MB/s", True), ("cpu_s_per_raw_gb", "broker s/raw GB", False)], load,
            p + kib + ["--batch-bytes", 65536, "--compression", codec, "--random-percent", 20], "CPU <= 1/4", partitions=16)
    add("P9", "as P3, idempotent", [MB, CPU_GB], load, p + kib + ["--batch-bytes", 16384, "--idempotent"], partitions=16)
    for k, d, wanted in ((1, 1, 1.4), (1, 5, 4), (16, 5, 10)):
        add(f"D1/{k}x{d}", f"durable: 1 KiB, one record, 1 partition, {k}x{d}, acks=all, every record on the disk", [RATE, P50, CPU_REQUEST],
            load, p + ["--value-size", 1024, "--records", 1, "-k", k, "-d", d], f"rate >= {wanted}x", partitions=1, durable=True)
    add("D2", "durable: 4 KiB batches, 100 partitions, 16x5, acks=all", [RATE, P50, CPU_REQUEST], load,
        p + ["--value-size", 1024, "--batch-bytes", 4300, "-k", 16, "-d", 5], "rate >= 10x", partitions=100, durable=True)
    for n in (1, 4, 16):
        add(f"T1/{n}", f"1 KiB, 16 KiB batches, 16 partitions, 4x5 and {n} consumers at the end",
            [("fetch_mb_per_s", "MB/s out", True), CPU_GB, ("e2e_p99_us", "end to end p99 us", False)], load,
            ["both", "--value-size", 1024, "--batch-bytes", 16384, "-k", 4, "-d", 5, "--consumers", n], "CPU <= 1/2, rate >= 1.3x",
            partitions=16)
    omb = ["both", "--value-size", 1024, "--batch-bytes", 65536, "-k", 6, "-d", 5, "--consumers", 1, "--fetchers", 2]
    add("T2/max", "three brokers, 3 replicas, 100 partitions, 1 KiB, 64 KiB batches, as fast as it goes", [MB, CPU_GB], cluster_load, omb,
        "rate >= 3x", "cluster", partitions=100, copies=3, seconds=10)
    for share in (25, 50, 75):
        add(f"T2/{share}", f"the same at {share} % of Kafka's best", [("e2e_p50_us", "end to end p50 us", False),
            ("e2e_p99_us", "end to end p99 us", False), CPU_GB], cluster_at_share, omb, "", "cluster", partitions=100, copies=3,
            share=share / 100)
    for durable in (False, True):
        kind = "/durable" if durable else ""
        add(f"L1/1k{kind}", f"latency at 1,000 requests/s, 1 KiB, 1 partition, 1 connection{', durable' if durable else ''}",
            [P50, P999, ("e2e_p50_us", "end to end p50 us", False)], load,
            ["both", "--value-size", 1024, "--records", 1, "-k", 1, "-d", 5, "--rate", 1000, "--spin"], "p50 <= 1x, p99.9 <= 1/5",
            partitions=1, durable=durable)
    add("L1/10k", "latency at 10,000 requests/s, 1 KiB, 16 partitions, 8 connections", [P50, P999, ("e2e_p50_us", "end to end p50 us", False)],
        load, ["both", "--value-size", 1024, "--records", 1, "-k", 8, "-d", 5, "--rate", 10000, "--spin"], "p50 <= 1x, p99.9 <= 1/5",
        partitions=16)
    add("L1/depth1", "one connection, one request under way, 1 KiB", [RATE, P50, P999, CPU_REQUEST], load,
        p + ["--value-size", 1024, "--records", 1, "-k", 1, "-d", 1], "", partitions=1)
    for fetchers in (1, 4):
        for size in (1, 50):
            add(f"C1/{fetchers}x{size}M", f"cached log from the beginning, {fetchers} connections, fetches of {size} MiB", [MB, CPU_GB], catch_up,
                ["--fetchers", fetchers, "--max-bytes", size << 20, "--partition-max-bytes", size << 20], "CPU <= 1/2, rate >= 1.3x")
    add("C2", "a log out of the cache read from the beginning beside a producer and a consumer at the end",
        [MB, CPU_GB, ("tail_p99_us", "the other consumer's p99 us", False)], cold_catch_up, rate=2000)
    for members, partitions in ((10, 100), (50, 900)):
        add(f"G1/{members}", f"a group of {members} forms over {partitions} partitions; one more joins",
            [("form_ms", "formed ms", False), ("join_ms", "agreed again ms", False), ("pause_ms", "pause p50 ms", False)], group,
            members=members, partitions=partitions)
    add("G2", "100 groups commit offsets, one connection each", [RATE, ("p99_us", "p99 us", False), CPU_REQUEST], commits, ["-k", 100, "-d", 1])
    for n in (1000, 10_000, 100_000):
        add(f"M1/{n}", f"{n:,} partitions on one broker", [("create_per_s", "created/s", True), ("bytes_per_partition", "bytes each", False),
            ("idle_cores", "idle cores", False), ("start_s", "start s", False)], many_partitions, [],
            "20,000/s" if n < 100_000 else "100,000 held", "own", partitions=n)
    for n in (1000, 10_000):
        add(f"M2/{n}", f"{n:,} idle connections", [("bytes_per_connection", "bytes each", False), ("open_per_s", "opened/s", True)], connections, [],
            "", "own", connections=n)
    for n in (1, 1000):
        add(f"S1/{n}", f"start with {n} partitions: exec to the first record taken", [("clean_start_s", "start s", False),
            ("killed_start_s", "start after kill s", False), ("idle_rss_mb", "idle MB", False), ("idle_cores", "idle cores", False)], starts, [],
            "<= 1/20", "own", partitions=n)
    add("F1", "three brokers, 3 replicas: kill -9 of a leader under an idempotent producer", [("p50_s", "gap p50 s", False),
        ("worst_s", "gap worst s", False)], failover, [], "p50 < 0.7 s, worst < 1 s", "own3", partitions=30)
    add("U1/java", "Kafka's ProducerPerformance, 1 KiB, its defaults (the client is the limit)", [("records_per_s", "records/s", True),
        ("cpu_us_per_record", "broker us/record", False)], java_producer)
    return out
