"""How each fault of the schedule is done to a cluster of real processes, and the proof that it is really done: every injector
is tried out before it is used, and one that does not work here is named and left out."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import threading
import time

import loop_image
from cluster_under_test import Namespaces
from harness import ROOT, eventually

CLIENTS = 100  # the namespace of the clients, as a number beside the brokers'
CLONE_NEWNET = 0x40000000
EIO = 5


def in_namespace(number, work):
    """Runs `work` on a thread in that network namespace: sockets that it opens stay there."""
    out = []

    def enter():
        descriptor = os.open(f"/run/netns/b{number}", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            out.append(work())
        except OSError as e:
            out.append(e)
        finally:
            os.close(descriptor)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return out[0]


class Links:
    """Cuts that may overlap: a link is whole again when the last fault that cut it is over."""

    def __init__(self, network):
        self.network, self.cuts, self.lock = network, {}, threading.Lock()

    def cut(self, a, b):
        with self.lock:
            self.cuts[(a, b)] = self.cuts.get((a, b), 0) + 1
            if self.cuts[(a, b)] == 1:
                Namespaces.run("ip", "rule", "add", "from", f"10.77.{a}.2", "to", f"10.77.{b}.2", "blackhole")

    def mend(self, a, b):
        with self.lock:
            self.cuts[(a, b)] -= 1
            if self.cuts[(a, b)] == 0:
                Namespaces.run("ip", "rule", "del", "from", f"10.77.{a}.2", "to", f"10.77.{b}.2", "blackhole")

    @staticmethod
    def slow(n, kbit):
        for where in (("-n", f"b{n}", "qdisc", "add", "dev", "e0"), ("qdisc", "add", "dev", f"v{n}")):
            Namespaces.run("tc", *where, "root", "tbf", "rate", f"{kbit}kbit", "burst", "32kbit", "latency", "300ms")

    @staticmethod
    def fast(n):
        Namespaces.run("tc", "-n", f"b{n}", "qdisc", "del", "dev", "e0", "root")
        Namespaces.run("tc", "qdisc", "del", "dev", f"v{n}", "root")


def compile_shim(source, folder):
    library = pathlib.Path(folder) / (source.stem + ".so")
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl", "-lpthread"],
                   check=True, capture_output=True)
    return library


class Tools:
    """What the injectors need on this machine. `missing`: kind -> why."""

    def __init__(self, folder, network):
        self.folder, self.network, self.missing = pathlib.Path(folder), network, {}
        self.namespaces = isinstance(network, Namespaces)
        self.shims = []
        self.images = self.probe(("power", "power-all", "full"), self.disk_loses_power)
        self.probe(("isolate", "link", "clients", "flap"), self.link_is_cut)
        self.probe(("slow-link",), self.link_is_slow)
        self.probe(("disk-error", "slow-disk"), self.disk_fails)
        self.probe(("clock",), self.clock_jumps)

    def probe(self, kinds, work):
        try:
            work()
            return True
        except Exception as e:  # whatever it is, it cannot be used
            for kind in kinds:
                self.missing[kind] = f"{type(e).__name__}: {e}"
            return False

    def disk_loses_power(self):
        """Bytes that were synced are there after a cut, others are not, and a full file system says so."""
        reason = loop_image.impossible()
        if reason:
            raise RuntimeError(reason)
        image = loop_image.Image(self.folder, "probe", 16)
        try:
            kept, lost = image.path / "kept", image.path / "lost"
            with kept.open("wb") as f:
                f.write(b"k" * 5000)
                f.flush()
                os.fsync(f.fileno())
            directory = os.open(image.path, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
            with kept.open("ab") as f:
                f.write(b"l" * 5000)
            lost.write_bytes(b"l" * 5000)
            image.cut()
            image.unmount()
            image.mount()
            if kept.read_bytes() != b"k" * 5000 or (lost.exists() and lost.stat().st_size):
                raise RuntimeError("a cut disk keeps what was not synced")
            filler = Filler(image.path)
            filler.fill(0)
            try:
                lost.write_bytes(b"l" * 100_000)
                raise RuntimeError("a full disk takes bytes")
            except OSError:
                pass
            filler.remove()
        finally:
            image.remove()

    def two_sockets(self):
        def receiver():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("0.0.0.0", 7777))
            s.settimeout(0.3)
            return s
        pair = {}
        for n in (98, 99):
            self.network.add(n)
            pair[n] = in_namespace(n, receiver)
        return pair

    def link_is_cut(self):
        """Between two namespaces packets pass, do not pass in the direction that is cut, and pass again."""
        if not self.namespaces:
            raise RuntimeError("no network namespaces here")
        links, pair = Links(self.network), self.two_sockets()

        def passes(a, b):
            pair[a].sendto(b"x", (f"10.77.{b}.2", 7777))
            try:
                return pair[b].recv(10) == b"x"
            except socket.timeout:
                return False
        eventually(lambda: passes(98, 99), 3)
        found = [(passes(98, 99), passes(99, 98))]
        links.cut(98, 99)
        found.append((passes(98, 99), passes(99, 98)))
        links.mend(98, 99)
        found.append((passes(98, 99), passes(99, 98)))
        for s in pair.values():
            s.close()
        if found != [(True, True), (False, True), (True, True)]:
            raise RuntimeError(f"a cut of one direction gave {found}")

    def link_is_slow(self):
        if not self.namespaces:
            raise RuntimeError("no network namespaces here")
        self.network.add(98)
        Links.slow(98, 1000)
        Links.fast(98)
        if subprocess.run(["tc", "qdisc", "add", "dev", "v98", "root", "netem", "delay", "100ms", "loss", "1%"],
                          capture_output=True).returncode != 0:
            self.missing["latency and loss by netem"] = "the kernel has no netem: slow-link (tbf) and flap stand for them"

    def disk_fails(self):
        library = compile_shim(ROOT / "tests/e2e/disk_shim.c", self.folder)
        control = self.folder / "probe.rules"
        control.write_text(f"sync {self.folder} 1 1 error {EIO}\n")
        script = (f"import os\nf = open('{self.folder}/probe.data', 'wb')\nf.write(b'x')\nf.flush()\n"
                  "try:\n  os.fsync(f.fileno())\nexcept OSError as e:\n  print('errno', e.errno)\nos.fsync(f.fileno())\nprint('good')")
        done = subprocess.run(["python3", "-c", script], capture_output=True, text=True,
                              env={**os.environ, "LD_PRELOAD": str(library), "DISK_SHIM": str(control)})
        if done.stdout.split() != ["errno", str(EIO), "good"]:
            raise RuntimeError(f"the disk's shim does nothing: {done.stdout}{done.stderr}")
        self.shims.append(library)

    def clock_jumps(self):
        library = compile_shim(ROOT / "tests/chaos/clock_shim.c", self.folder)
        control = self.folder / "probe.clock"
        control.write_text("-5000000")
        done = subprocess.run(["python3", "-c", "import time; print(time.time())"], capture_output=True, text=True,
                              env={**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIM": str(control)})
        if not -5010 < float(done.stdout) - time.time() < -4990:
            raise RuntimeError(f"the clock's shim does nothing: {done.stdout}{done.stderr}")
        self.shims.append(library)

    def environment(self, node):
        """What a broker is started with so that its disk and clock can be meddled with."""
        return {"LD_PRELOAD": ":".join(map(str, self.shims)), "DISK_SHIM": str(node.folder / "rules"),
                "CLOCK_SHIM": str(node.folder / "clock")}


class Filler:
    def __init__(self, path):
        self.path = pathlib.Path(path) / "filler"

    def fill(self, leave):
        with self.path.open("ab") as f:
            while True:
                status = os.statvfs(self.path.parent)
                free = status.f_bavail * status.f_frsize - leave
                if free < status.f_frsize:
                    return
                try:
                    os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, free if free < 1 << 20 else free - (1 << 18))
                except OSError:
                    return

    def remove(self):
        self.path.unlink(missing_ok=True)


class Injection:
    """One fault under way: `begin` may take some seconds, `end` leaves the broker running and the network whole."""

    def __init__(self, supervisor, fault, number):
        self.s, self.fault, self.number = supervisor, fault, number
        self.node = supervisor.cluster.nodes.get(number)
        self.over = threading.Event()

    @property
    def others(self):
        return [n for n in self.s.cluster.nodes if n != self.number]

    def begin(self):
        getattr(self, "begin_" + self.fault.kind.replace("-", "_"))()

    def end(self):
        getattr(self, "end_" + self.fault.kind.replace("-", "_"))()

    # Of one broker

    def expect_death(self):
        self.s.may_die.add(self.number)

    def revive(self):
        if not self.node.runs:
            self.s.start(self.node)
        self.s.may_die.discard(self.number)

    def begin_kill(self):
        self.expect_death()
        self.node.kill()

    end_kill = revive

    def begin_term(self):
        self.expect_death()
        code = self.node.terminate(40)
        if code != 0:
            self.s.complain(f"broker {self.number} ended with {code} after SIGTERM")

    end_term = revive

    def begin_pause(self):
        self.node.pause()

    def end_pause(self):
        self.node.resume()

    def begin_power(self):
        self.expect_death()
        self.node.power_cut()

    end_power = revive

    def begin_full(self):
        self.filler = Filler(self.node.image.path)
        self.filler.fill(self.fault.how["leave_kib"] << 10)

    def end_full(self):
        self.filler.remove()

    def begin_disk_error(self):
        # A broker whose only disk fails ends itself.
        self.expect_death()
        self.node.rules.write_text(f"sync {self.node.directory} 1 1 error {EIO}\n")

    def end_disk_error(self):
        self.node.rules.write_text("")
        if self.node.runs:
            self.node.kill()
        self.revive()

    def begin_slow_disk(self):
        self.node.rules.write_text(f"sync {self.node.directory} 1 1000000 slow {self.fault.how['ms']}\n")

    def end_slow_disk(self):
        self.node.rules.write_text("")

    def begin_clock(self):
        (self.node.folder / "clock").write_text(str(self.fault.how["jump_s"] * 1000))

    def end_clock(self):
        (self.node.folder / "clock").write_text("0")

    def begin_slow_link(self):
        self.s.links.slow(self.number, self.fault.how["kbit"])

    def end_slow_link(self):
        self.s.links.fast(self.number)

    # Of the network

    def pairs(self):
        way, others = self.fault.how.get("way", "both"), self.others
        if self.fault.kind == "link":
            others = [others[self.fault.how["other"]]]
        elif self.fault.kind == "clients":
            others = [CLIENTS]
        elif self.fault.kind == "flap":
            others = [*others, CLIENTS]
        out = [(self.number, n) for n in others] if way in ("both", "out") else []
        return out + ([(n, self.number) for n in others] if way in ("both", "in") else [])

    def begin_isolate(self):
        for a, b in self.pairs():
            self.s.links.cut(a, b)

    def end_isolate(self):
        for a, b in self.pairs():
            self.s.links.mend(a, b)

    begin_link, end_link = begin_isolate, end_isolate
    begin_clients, end_clients = begin_isolate, end_isolate

    def begin_flap(self):
        def flap():
            while not self.over.is_set():
                self.begin_isolate()
                self.over.wait(self.fault.how["ms"] / 1000)
                self.end_isolate()
                self.over.wait(self.fault.how["ms"] / 1000)
        self.thread = threading.Thread(target=flap)
        self.thread.start()

    def end_flap(self):
        self.over.set()
        self.thread.join()

    # Of all brokers

    def begin_kill_all(self):
        self.s.may_die.update(self.s.cluster.nodes)
        for node in self.s.cluster.nodes.values():
            if node.runs:
                node.process.send_signal(signal.SIGKILL)
        for node in self.s.cluster.nodes.values():
            node.kill()

    def end_kill_all(self):
        for node in self.s.cluster.nodes.values():
            if not node.runs:
                self.s.start(node)
        self.s.may_die.clear()

    def begin_power_all(self):
        nodes = list(self.s.cluster.nodes.values())
        self.s.may_die.update(self.s.cluster.nodes)
        for node in nodes:
            if node.runs:
                node.pause()
        for node in nodes:
            node.power_cut()

    end_power_all = end_kill_all

    def begin_rolling(self):
        for n, node in self.s.cluster.nodes.items():
            self.s.may_die.add(n)
            code = node.terminate(40)
            if code != 0:
                self.s.complain(f"broker {n} ended with {code} after SIGTERM (rolling restart)")
            self.s.start(node)
            self.s.may_die.discard(n)
            eventually(lambda: self.s.all_full(), 20, 0.3)

    def end_rolling(self):
        pass
