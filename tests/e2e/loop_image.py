"""ext4 file systems in files, on loop devices, mounted where only this program sees them: for tests that fill a disk or
cut its power. Needs root and loop devices; `private_or_skip` says so loudly where they are not to be had.
"""

import ctypes
import fcntl
import os
import pathlib
import random
import struct
import subprocess
import sys
import time

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN: _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2       # the journal stays as it is, as in a power cut
INSIDE = "LOOP_IMAGE_PROCESS"


def private_or_skip(what):
    """Starts this program again where its mounts are its own; ends it with a SKIPPED line where that is not allowed."""
    if os.environ.get(INSIDE) != str(os.getpid()):
        reason = impossible()
        if reason:
            print(f"SKIPPED {what}: {reason}", flush=True)
            sys.exit(0)
        os.environ[INSIDE] = str(os.getpid())  # unshare keeps the process id
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def impossible():
    """Why loop mounts cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    script = ("set -e; d=$(mktemp -d); trap 'umount $d 2>/dev/null; rm -rf $d $d.img' EXIT; truncate -s 8M $d.img; "
              "mkfs.ext4 -q $d.img; mount -o loop $d.img $d")
    try:
        tried = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                               capture_output=True, text=True, timeout=60)
    except OSError as error:
        return str(error)
    return None if tried.returncode == 0 else tried.stderr.strip().replace("\n", "; ") or "mount failed"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


class Image:
    """One file system. `path` is where it is mounted."""

    def __init__(self, folder, name, megabytes):
        self.file, self.path = pathlib.Path(folder) / f"{name}.img", pathlib.Path(folder) / name
        with self.file.open("wb") as f:
            f.truncate(megabytes << 20)
        # No root reserve: what a test means by full is then the same for root as for everybody.
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.file))
        self.path.mkdir()
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", str(self.file), str(self.path))

    def unmount(self):
        for attempt in range(100):
            try:
                run("umount", str(self.path))
                return
            except RuntimeError:
                if attempt == 99:
                    raise
                time.sleep(0.02)

    def cut(self):
        """As if the power went: what is not synced is lost, and whoever writes gets an error until the next mount."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def write_back_some(self):
        """Random ranges of random files go to the disk before the cut, as the kernel might have chosen itself."""
        library = ctypes.CDLL(None, use_errno=True)
        library.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
        # Directories may go while one looks.
        files = [pathlib.Path(folder) / name for folder, _, names in os.walk(self.path) for name in names]
        for path in random.sample(files, min(len(files), random.randrange(8))):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                continue  # gone meanwhile
            size = os.fstat(descriptor).st_size
            begin = random.randrange(size + 1)
            library.sync_file_range(descriptor, begin & ~4095, random.randrange(1 << 16), 7)
            os.close(descriptor)

    def free_bytes(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def remove(self):
        if os.path.ismount(self.path):
            self.unmount()
        self.file.unlink(missing_ok=True)
