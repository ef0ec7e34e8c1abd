"""What happens to the cluster, from a seed alone: the same seed, minutes and number of brokers give the same schedule on every
machine. What cannot be injected somewhere is left out when its turn comes, never planned around.
"""

import dataclasses
import random

# Of one broker: two of a step never hit the same one.
NODE = {"kill": 4, "term": 2, "pause": 4, "power": 4, "full": 2, "disk-error": 2, "slow-disk": 2, "clock": 1, "slow-link": 1}
# Of the network: may meet any other.
NETWORK = {"isolate": 5, "link": 3, "clients": 2, "flap": 2}
# Of all brokers: alone in their step.
ALL = {"kill-all": 2, "power-all": 2, "rolling": 2}
KINDS = {**NODE, **NETWORK, **ALL}
STEP_SECONDS = 14  # about, with the time for work between faults: how many steps are planned for a minute


@dataclasses.dataclass
class Fault:
    kind: str
    target: str       # "broker 2", "leader own-0", "controller", "coordinator members", "all"
    begins: float     # seconds after the step
    lasts: float
    how: dict

    def __str__(self):
        how = "".join(f" {k}={v}" for k, v in self.how.items())
        return f"{self.kind} {self.target}{how} at +{self.begins:.1f} s for {self.lasts:.1f} s"


@dataclasses.dataclass
class Step:
    number: int
    calm: float  # seconds of undisturbed work before
    faults: list

    def __str__(self):
        return f"step {self.number}: after {self.calm:.1f} s: " + ("; ".join(map(str, self.faults)) or "nothing")


@dataclasses.dataclass
class Plan:
    settings: list    # of the brokers
    partitions: dict  # topic -> partitions
    kinds: list       # that may occur
    steps: list

    def __str__(self):
        topics = ", ".join(f"{t}:{n}" for t, n in self.partitions.items())
        return "\n".join([f"settings: {' '.join(self.settings)}", f"topics: {topics}", f"kinds: {' '.join(self.kinds)}",
                          *map(str, self.steps)])


def plan(seed, minutes, brokers, only=()):
    r = random.Random(f"chaos {seed} {brokers}")
    partitions = {"own": r.randint(2, 6), "rdk": r.randint(2, 6), "keys": r.randint(1, 3)}
    durability = "replicated" if r.random() < 0.25 else "fsync"
    settings = [f"log.segment.bytes={r.choice((1 << 20, 1 << 20, 4 << 20, 1 << 30))}",
                f"replica.lag.time.max.ms={r.choice((2_000, 5_000, 10_000, 30_000))}",
                f"replica.fetch.wait.max.ms={r.choice((50, 500))}",
                f"replica.fetch.max.bytes={r.choice((1 << 12, 1 << 16, 1 << 20))}",
                f"offsets.topic.num.partitions={r.randint(1, 8)}",
                f"log.durability={durability}"]
    # Each seed with a part of the kinds: what always happens together hides what happens alone.
    kinds = [k for k in KINDS if r.random() < 0.55]
    while len(kinds) < 4:
        kinds.append(r.choice([k for k in KINDS if k not in kinds]))
    if durability == "replicated":  # promises nothing when the power of all goes
        kinds = [k for k in kinds if k != "power-all"] or ["kill"]
    if only:
        kinds = [k for k in KINDS if k in only]
    steps = [step(r, n, kinds, partitions, brokers) for n in range(max(1, round(minutes * 60 / STEP_SECONDS)) * 2)]
    if durability == "replicated":
        for s in steps:  # one power cut at a time, with the others alive
            if any(f.kind == "power" for f in s.faults):
                s.faults = [f for f in s.faults if f.kind == "power"][:1]
    return Plan(settings, partitions, kinds, steps)


def step(r, number, kinds, partitions, brokers):
    calm = r.uniform(1.0, 5.0)
    count = r.choices((0, 1, 2, 3), (10, 50, 28, 12))[0]
    faults = []
    while len(faults) < count:
        kind = r.choices(kinds, [KINDS[k] for k in kinds])[0]
        if kind in ALL:
            if not faults:
                faults.append(one(r, kind, partitions, brokers))
            break
        faults.append(one(r, kind, partitions, brokers))
    return Step(number, calm, faults)


def one(r, kind, partitions, brokers):
    target = "all" if kind in ALL else someone(r, partitions, brokers)
    begins = 0.0 if kind in ALL else r.choice((0.0, r.uniform(0, 2)))
    how = {}
    lasts = r.uniform(2, 8)
    if kind in ("kill", "term", "power"):
        lasts = r.choice((r.uniform(0.1, 1), r.uniform(1, 7)))
    elif kind == "pause":
        lasts = r.choice((r.uniform(1, 4), r.uniform(4, 15)))
    elif kind in ("kill-all", "power-all"):
        lasts = r.uniform(0.1, 2)
    elif kind == "rolling":
        lasts = 0.0  # as long as it takes
    elif kind == "full":
        how["leave_kib"] = r.choice((0, 0, 64, 2048))
    elif kind == "slow-disk":
        how["ms"] = r.choice((50, 200, 1000))
    elif kind == "slow-link":
        how["kbit"] = r.choice((1000, 3000))
    elif kind == "clock":
        how["jump_s"] = r.choice((-1, 1)) * r.choice((5, 600, 2900)) if r.random() < 0.8 else 72_000
    elif kind == "isolate":
        how["way"] = r.choice(("both", "both", "out", "in"))
    elif kind == "link":
        how["other"] = r.randrange(brokers - 1)  # of the others, in order
        how["way"] = r.choice(("both", "out", "in"))
    elif kind == "flap":
        how["ms"] = r.choice((30, 150, 600))
    return Fault(kind, target, begins, lasts, how)


def someone(r, partitions, brokers):
    way = r.random()
    if way < 0.35:
        topic = r.choice(sorted(partitions))
        return f"leader {topic}-{r.randrange(partitions[topic])}"
    if way < 0.55:
        return "controller"
    if way < 0.65:
        return "coordinator"
    return f"broker {r.randint(1, brokers)}"
