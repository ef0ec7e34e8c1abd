#!/usr/bin/env python3
"""Cuts the power of a broker's disks, again and again, while clients work, and counts what is left.

As kill9.py, but each data directory lies on an ext4 file system of its own, and a round ends with a power cut: at a random
moment the file systems are shut down without flushing their journals, so that everything that was not synced is gone; the
broker is killed, the file systems are mounted again (which replays the journals) and the broker starts on what is left. The
rules are those of kill9.py; as the topic is `durability=fsync`, a reader also never sees what a cut could take back, whatever
the acks of the writer.

Runs with the Python that has confluent-kafka, as root: build/zoo/venv/bin/python tests/e2e/power_cut.py --rounds 50
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import kill9
import loop_image

COMMAND = (f"{os.environ.get('MILLRACE_BIN') or kill9.ROOT / 'build/release/millrace'} server "
           "--set listeners=PLAINTEXT://127.0.0.1:{port} --set log.dirs={dirs} --set admin.listener=127.0.0.1:{admin} "
           "--set log.segment.bytes={segment} --set log.dirs.free.bytes.min=0")


class CutBroker(kill9.Broker):
    """kill() is the power cut; the disks are mounted again when it returns."""

    def __init__(self, arguments, folder, images):
        dirs = ",".join(str(i.path / "data") for i in images)
        command = COMMAND.replace("{dirs}", dirs).replace("{segment}", str(arguments.segment_bytes))
        super().__init__(command, folder, arguments.start_seconds)
        self.images, self.cuts = images, 0

    def kill(self):
        for image in self.images:
            image.write_back_some()
        # The processor stops first: an fsync that races with the shutdown of its file system may say that all is well (ext4
        # looks for the shutdown only when the call begins), and nobody may hear it.
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            self.wait_until_stopped()
        for image in random.sample(self.images, len(self.images)):
            image.cut()
        super().kill()
        self.cuts += 1
        for image in self.images:
            image.unmount()
            image.mount()

    def wait_until_stopped(self):
        """No thread runs outside the kernel any more."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        while any(t.read_text().rpartition(") ")[2][0] not in "TDtZX" for t in tasks.glob("*/stat")):
            time.sleep(0.0005)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--dirs", type=int, default=2, help="data directories, each on a disk of its own")
    parser.add_argument("--megabytes", type=int, default=512, help="size of a disk")
    parser.add_argument("--segment-bytes", type=int, default=1 << 20)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rate", type=int, default=3000, help="records a second of each writer")
    parser.add_argument("--longest-ms", type=int, default=400, help="the longest time from progress to the cut")
    parser.add_argument("--early-ms", type=int, default=60, help="the longest time from a start to an early cut")
    parser.add_argument("--start-seconds", type=int, default=30, help="the longest start of the broker")
    parser.add_argument("--seed", type=int, default=None, help="seed of the random moments")
    arguments = parser.parse_args()
    arguments.exit_code = 0
    arguments.command = ""
    loop_image.private_or_skip("power cut")
    seed = arguments.seed if arguments.seed is not None else random.randrange(2**32)
    random.seed(seed)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-power-cut-"))
    print(f"seed {seed}, {arguments.rounds} rounds, {arguments.dirs} disks, {arguments.writers} writers, "
          f"{arguments.partitions} partitions", flush=True)
    images = [loop_image.Image(folder, f"disk{n}", arguments.megabytes) for n in range(arguments.dirs)]
    test = kill9.Test(arguments, folder)
    test.broker = CutBroker(arguments, folder, images)
    test.bootstrap = f"127.0.0.1:{test.broker.port}"
    try:
        test.run()
    except (kill9.Violation, kill9.KafkaException, RuntimeError) as error:
        for w in test.writers:
            print(f"writer {w.index}: sent {w.next}, acknowledged {w.acked}, error {w.error}")
        print(f"FAIL {error}\nimages and log of the broker: {folder}\n0 passed, 1 failed", flush=True)
        test.abandon()
        os._exit(1)  # clients that still retry would hold an orderly exit up
    for image in images:
        image.remove()
    shutil.rmtree(folder)
    print(f"{test.broker.cuts} power cuts\n1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
