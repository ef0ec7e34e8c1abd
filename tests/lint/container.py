#!/usr/bin/env python3
"""The container files hold together without a container engine: every COPY source exists, the last stage runs as an
ordinary user with exec-form entry point and health check, its packages are those of scripts/packages, and the settings
it starts with name keys of the table. usage: container.py [source root]
"""
import glob
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]


def instructions(text):
    lines = [x for x in text.splitlines() if not x.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def main():
    faults, checks = [], 0

    def expect(good, message):
        nonlocal checks
        checks += 1
        if not good:
            faults.append(message)

    stages, last = [], {}
    for word, rest in instructions((ROOT / "docker" / "Dockerfile").read_text()):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(name.strip())
            last = {"FROM": base.strip()}
            expect(base.strip() in ("debian:12", "debian:12-slim"), f"FROM {base}: Debian 12 is what was proved")
        elif word == "COPY":
            words = rest.split()
            source = next((w[7:] for w in words if w.startswith("--from=")), None)
            if source is not None:
                expect(source in stages[:-1], f"COPY --from={source}: there is no such stage")
                continue
            for path in [w for w in words if not w.startswith("--")][:-1]:
                expect(glob.glob(str(ROOT / path)), f"COPY {path}: there is no such file")
        else:
            last[word] = rest
    expect(len(stages) == 2, "two stages: one builds, one runs")
    expect(re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", last.get("USER", "")), "the image must run as a numbered user, not root")
    for word in ("ENTRYPOINT", "CMD"):
        try:
            expect(isinstance(json.loads(last.get(word, "")), list), f"{word} is not in exec form")
        except ValueError:
            expect(False, f"{word} is not in exec form")
    expect(re.search(r'CMD \["/usr/bin/millrace",', last.get("HEALTHCHECK", "")), "no exec-form HEALTHCHECK by the tool")
    expect(last.get("STOPSIGNAL") == "SIGTERM", "STOPSIGNAL SIGTERM")
    expect("VOLUME" in last, "the data directory is no volume")

    known = (ROOT / "docs" / "configuration.md").read_text()
    for line in (ROOT / "docker" / "millrace.properties").read_text().splitlines():
        if line and not line.startswith("#"):
            key = line.split("=")[0]
            expect(f"| `{key}` |" in known, f"millrace.properties: no key is called {key}")
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    for variable in re.findall(r"^\s+KAFKA_([A-Z_]+):", compose, re.M):
        key = variable.lower().replace("_", ".")
        expect(f"| `{key}` |" in known, f"compose.yaml: no key is called {key}")
    for published in re.findall(r'^\s+- "([^"]*\d+:\d+)"$', compose, re.M):
        expect(published.startswith("127.0.0.1:"), f"compose.yaml publishes {published} to the whole network")
    for fault in faults:
        print(fault)
    print(f"container: {checks - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
