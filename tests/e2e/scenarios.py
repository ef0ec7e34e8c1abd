"""What programs of named scenarios on one cluster share: their common arguments, and how the scenarios are run one after the other."""

import argparse
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import cluster_under_test
from cluster_under_test import Cluster
from harness import Checks
from recorded_clients import load


def parser_of(description, names):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the brokers")
    parser.add_argument("--loopback", action="store_true", help="ports on loopback, no namespaces")
    parser.add_argument("--port-base", type=int, default=0, help="loopback: first port, else free ones")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    return parser


def parse(parser, names):
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return arguments


def run_scenarios(program, arguments, chosen, make_run, note="", between=lambda cluster: None):
    """Starts a cluster, calls the methods `chosen` of make_run(arguments, checks, cluster), `between` after each, and exits."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is stopped
    arguments.loopback = not cluster_under_test.enter(not arguments.loopback)
    checks = Checks()
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{program}-"))
    cluster = Cluster(folder, cluster_under_test.network(arguments.port_base), arguments.brokers, arguments.set)
    print(f"# {arguments.brokers} brokers, {'loopback' if arguments.loopback else 'namespaces'}, {note}{load()}", flush=True)
    try:
        cluster.start()
        if checks.that("the brokers find each other", cluster.ready()):
            run = make_run(arguments, checks, cluster)
            for name in chosen:
                began = time.monotonic()
                with checks.group(name):
                    getattr(run, name)()
                between(cluster)
                print(f"# {name}: {time.monotonic() - began:.0f} s", flush=True)
    finally:
        cluster.stop()
        if checks.failed or arguments.keep:
            print(f"# logs and histories are in {folder}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    checks.finish()
