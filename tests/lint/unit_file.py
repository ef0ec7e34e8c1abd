#!/usr/bin/env python3
"""The systemd unit is well-formed, says what the operations page promises, and is tightly confined.

Uses `systemd-analyze` where there is one. usage: unit_file.py [source root]
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
EXPOSURE_MAX = 2.0
PROMISED = {
    "Type": "notify", "User": "millrace", "NoNewPrivileges": "yes", "ProtectSystem": "strict",
    "StateDirectory": "millrace", "Restart": "on-failure", "RestartPreventExitStatus": "2 3", "KillSignal": "SIGTERM",
    "TimeoutStopSec": None, "LimitNOFILE": None, "CapabilityBoundingSet": "", "MemoryDenyWriteExecute": "yes",
}


def main():
    unit = (ROOT / "config" / "millrace.service").read_text()
    faults, checks = [], 0
    settings = {}
    for line in unit.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, value)
    for key, value in PROMISED.items():
        checks += 1
        if key not in settings or (value is not None and settings[key] != value):
            faults.append(f"millrace.service: {key}={value if value is not None else '...'} is missing")
    analyze = shutil.which("systemd-analyze")
    if analyze:
        with tempfile.TemporaryDirectory() as name:
            # verify wants the program to exist: any will do
            path = pathlib.Path(name) / "millrace.service"
            path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.M))
            checks += 2
            done = subprocess.run([analyze, "verify", "--man=no", str(path)], text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
            ours = [x for x in done.stdout.splitlines() if "millrace.service" in x]
            if ours:
                faults += ours
            done = subprocess.run([analyze, "security", "--offline=yes", "--no-pager", str(path)], text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            m = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
            if not m:
                faults.append(f"systemd-analyze security said nothing of use:\n{done.stdout[-500:]}")
            elif float(m.group(1)) > EXPOSURE_MAX:
                faults.append(f"exposure {m.group(1)}, wanted at most {EXPOSURE_MAX}")
            else:
                print(f"exposure level {m.group(1)}")
    for fault in faults:
        print(fault)
    print(f"unit_file: {checks - len(faults)} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
