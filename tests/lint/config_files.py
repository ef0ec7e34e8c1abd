#!/usr/bin/env python3
"""The files of config/ and the option table agree: every key the broker uses stands in combined.properties once, a key
behind a # has the table's default, a given one is accepted by the broker's own loader.

usage: config_files.py [--dump PROGRAM] [--root DIR]     PROGRAM: millrace_options_dump
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

ROLES = {"broker.properties", "combined.properties", "controller.properties", "dev.properties"}
WHOLE = {"combined.properties", "broker.properties", "dev.properties"}  # hold every key that is used
KEY = re.compile(r"^(#?)([a-z][a-z0-9.-]*)=(.*)$")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--dump", type=pathlib.Path)
    arguments = parser.parse_args()
    root, dump = arguments.root.resolve(), arguments.dump
    if dump is None:
        found = sorted((root / "build").glob("*/millrace_options_dump"), key=lambda p: p.stat().st_mtime)
        if not found:
            sys.exit("config_files: build millrace_options_dump first, or name it with --dump")
        dump = found[-1]
    dump = dump.resolve()
    table = json.loads(subprocess.run([dump], check=True, text=True, stdout=subprocess.PIPE).stdout)
    options = {o["name"]: o for o in table["broker"]}
    faults, checks = [], 0

    def expect(good, message):
        nonlocal checks
        checks += 1
        if not good:
            faults.append(message)

    names = [o["name"] for o in table["broker"]]
    expect(names == sorted(names) and len(set(names)) == len(names), "the broker table is not sorted")
    for option in table["broker"] + table["topic"]:
        expect(option["doc"].strip().endswith("."), f"{option['name']}: its description is no sentence")
    expect(not set(names) & set(table["kafka_known"]), "a key is in the table and among the ignored ones: "
           f"{sorted(set(names) & set(table['kafka_known']))}")
    for option in table["topic"]:
        for synonym in option["synonyms"]:
            expect(synonym["name"] in options, f"{option['name']}: its synonym {synonym['name']} is not in the table")

    files = {p.name for p in (root / "config").glob("*.properties")}
    expect(files == ROLES, f"config/ holds {sorted(files)}, expected {sorted(ROLES)}")
    for name in sorted(files & ROLES):
        seen = set()
        for number, line in enumerate((root / "config" / name).read_text().splitlines(), 1):
            m = KEY.match(line)
            if not m:
                expect(line == "" or line.startswith("# "), f"{name}:{number}: neither a comment nor a key")
                continue
            hidden, key, value = m.groups()
            expect(key in options and options[key]["used"], f"{name}:{number}: the table does not use {key}")
            expect(key not in seen, f"{name}:{number}: {key} is there twice")
            seen.add(key)
            if hidden and key in options:
                expect(value == (options[key]["default"] or ""),
                       f"{name}:{number}: {key} is shown as {value!r}, its default is {options[key]['default']!r}")
        if name in WHOLE:
            missing = sorted(k for k, o in options.items() if o["used"] and k not in seen)
            expect(not missing, f"{name}: missing {', '.join(missing)}")
        done = subprocess.run([dump, "--check", str(root / "config" / name)], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        expect(done.returncode == 0 and "without effect" not in done.stdout, f"{name} is refused:\n{done.stdout}")
    for fault in faults:
        print(fault)
    print(f"config_files: {checks - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
