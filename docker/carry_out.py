#!/usr/bin/env python3
"""Carries out docker/Dockerfile in roots made by mmdebstrap; see prove.sh."""
import argparse
import glob
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUITES = {"debian:12": "bookworm", "debian:12-slim": "bookworm", "debian:13": "trixie", "debian:13-slim": "trixie"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HEALTHY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30


def instructions(text):
    lines = [x for x in text.splitlines() if not x.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


class Stage:
    def __init__(self, directory, base):
        self.root = pathlib.Path(directory)
        self.cwd, self.user, self.environment, self.said = "/", "0:0", {"PATH": PATH, "HOME": "/root"}, {}
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", SUITES[base], str(self.root)], check=True)
        self.root.chmod(0o755)
        for name in ("resolv.conf", "hosts"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copyfile(f"/etc/{name}", self.root / "etc" / name)
        subprocess.run(["mount", "-t", "proc", "proc", str(self.root / "proc")], check=True)

    def command(self, words):
        uid, _, gid = self.user.partition(":")
        return ["chroot", str(self.root), "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups",
                "--no-new-privs", "/bin/sh", "-c", 'cd "$0" && exec "$@"', self.cwd] + words

    def run(self, text):
        done = subprocess.run(self.command(["/bin/sh", "-c", text]), env=self.environment)
        if done.returncode != 0:
            sys.exit(f"carry_out: RUN {text}\nended with {done.returncode}")

    def inside(self, path):
        return self.root / os.path.join(self.cwd, path).lstrip("/")

    def copy(self, words, stages):
        source = next((w[7:] for w in words if w.startswith("--from=")), None)
        words = [w for w in words if not w.startswith("--")]
        base = stages[source].root if source else ROOT
        target = self.inside(words[-1])
        for pattern in words[:-1]:
            for name in sorted(glob.glob(str(base / pattern.lstrip("/")))):
                path = pathlib.Path(name)
                if path.is_dir():
                    shutil.copytree(path, target, dirs_exist_ok=True)
                else:
                    to = target / path.name if words[-1].endswith("/") else target
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, to)


def carry_out(binary, directory):
    stages, order, stage = {}, [], None
    for word, rest in instructions((ROOT / "docker" / "Dockerfile").read_text()):
        print(f"== {word} {rest}", flush=True)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            if binary and name.strip() == "build":
                stage = type("Given", (), {"root": directory / "build"})()
                (stage.root / "out").mkdir(parents=True)
                subprocess.run(["install", "-s", str(binary), str(stage.root / "out" / "millrace")], check=True)
            else:
                stage = Stage(directory / f"stage{len(order)}", base.strip())
            order.append(stage)
            stages[name.strip() or str(len(order) - 1)] = stage
        elif not isinstance(stage, Stage):
            print("   (the given binary stands for this)")
        elif word == "RUN":
            stage.run(rest)
        elif word == "COPY":
            stage.copy(rest.split(), stages)
        elif word == "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                stage.environment[key] = value
        elif word == "WORKDIR":
            stage.cwd = os.path.join(stage.cwd, rest)
            stage.inside(rest).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        else:
            stage.said[word] = rest
    return order


def start_and_stop(stage):
    """The image's own command, its own health check, its own stop signal."""
    words = json.loads(stage.said["ENTRYPOINT"]) + json.loads(stage.said["CMD"])
    missing = subprocess.run(["chroot", str(stage.root), "ldd", words[0]], text=True, stdout=subprocess.PIPE).stdout
    if "not found" in missing:
        sys.exit(f"carry_out: scripts/packages/run.txt lacks a library:\n{missing}")
    health = json.loads(re.search(r"CMD (\[.*\])", stage.said["HEALTHCHECK"]).group(1))
    settings = ["--set", "listeners=PLAINTEXT://127.0.0.1:9092", "--set", "admin.listener=127.0.0.1:9644"]  # not outside
    broker = subprocess.Popen(stage.command(words + settings), env=stage.environment)
    try:
        until = time.monotonic() + HEALTHY_SECONDS_MAX
        while True:
            if broker.poll() is not None:
                sys.exit(f"carry_out: the image's command ended with {broker.returncode}")
            done = subprocess.run(stage.command(health), env=stage.environment, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
            if done.returncode == 0:
                break
            if time.monotonic() > until:
                sys.exit(f"carry_out: not healthy after {HEALTHY_SECONDS_MAX} s:\n{done.stdout}")
            time.sleep(0.5)
        print(f"healthy:\n{done.stdout}")
        broker.send_signal(getattr(signal, stage.said["STOPSIGNAL"]))
        code = broker.wait(STOP_SECONDS_MAX)
        if code != 0:
            sys.exit(f"carry_out: stopped with {code}")
    finally:
        if broker.poll() is None:
            broker.kill()
            broker.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=lambda p: pathlib.Path(p).resolve())
    arguments = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="millrace-image-"))
    directory.chmod(0o755)
    order = []
    try:
        order = carry_out(arguments.binary, directory)
        start_and_stop(order[-1])
        size = subprocess.run(["du", "-smx", str(order[-1].root)], text=True, stdout=subprocess.PIPE).stdout.split()[0]
        print(f"the image's root: {size} MB")
    finally:
        for path in directory.glob("stage*/proc"):
            subprocess.run(["umount", "-l", str(path)], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(directory, ignore_errors=True)
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
