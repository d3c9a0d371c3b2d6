#!/usr/bin/env python3
"""Measure a latency table on the devices behind a TVM tracker, and what several of them gain.

On this machine, with two servers of its own on loopback:
    python bench/targets/rpc.py --loopback 2 --checkpoint work

On real devices (each runs `python -m tvm.exec.rpc_server --tracker HOST:9190 --key pi5`):
    python bench/targets/rpc.py --target "llvm -mtriple=aarch64-linux-gnu -mcpu=cortex-a76 \
-mattr=+neon" --runner rpc://HOST:9190/pi5 --space ofa-mbv3 --resolution 224 --checkpoint work

With --loopback the same measurements are also made with one server alone, in turn, and the ratio of
throughputs is printed: measurements a second, compiling and uploading left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from table import add_options, measured_table, print_table, show_progress

import pnag_fast as pf

KEY = "loopback"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = f"llvm -mtriple={platform.machine()}-unknown-linux-gnu"
    add_options(parser, target=here, runner="")
    parser.add_argument("--loopback", type=int, default=0, help="servers to start here")
    parser.add_argument("--tiny", action="store_true", help="only proves that every line runs")
    arguments = parser.parse_args()
    if bool(arguments.runner) == bool(arguments.loopback):
        parser.error("give either --runner or --loopback")
    try:
        if not arguments.loopback:
            _, table = measured_table(arguments)
            print_table(table)
            return 0
        with farm(arguments.loopback) as runner:
            arguments.runner = runner
            space, table = measured_table(arguments)
            print_table(table)
            compare(space, runner, arguments)
    except pf.PnagError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def compare(
    space: pf.SearchSpace,
    runner: str,
    arguments: argparse.Namespace,
) -> None:
    """Print the throughput of one server and of all, in turn."""
    all_of_them = arguments.loopback
    rates: dict[int, list[float]] = {1: [], all_of_them: []}
    for count in [1, all_of_them] * (1 if arguments.tiny else 3):
        rates[count].append(throughput(space, runner, count, arguments))
        print(f"{count} of the servers: {rates[count][-1]:.1f} measurements/s")
    one, many = (statistics.median(rates[count]) for count in (1, all_of_them))
    print(f"{all_of_them} servers / 1 server: {many / one:.2f} times the throughput (medians)")


def throughput(
    space: pf.SearchSpace, runner: str, count: int, arguments: argparse.Namespace
) -> float:
    """Measurements a second of `count` devices, from the first measurement to the last."""
    seen: list[tuple[float, int]] = []

    def watch(description: str, done: int, _total: int) -> None:
        if description == "measuring":
            seen.append((time.monotonic(), done))

    pf.latency.measure_networks(
        space,
        space.sample(2 if arguments.tiny else 20, seed=arguments.seed),
        target=arguments.target,
        runner=runner,
        max_devices=count,
        passes=4 if arguments.tiny else 40,
        progress=watch,
    )
    # The first measurements of each device wait for its programs.
    middle = [point for point in seen if point[1] >= seen[-1][1] // 4]
    return (middle[-1][1] - middle[0][1]) / (middle[-1][0] - middle[0][0])


@contextlib.contextmanager
def farm(servers: int) -> Iterator[str]:
    """Start a tracker and servers on this machine; end them afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as log:

        def start(program: str, *options: str) -> None:
            command = [sys.executable, "-m", f"tvm.exec.{program}", "--host", "127.0.0.1", *options]
            processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            )

        try:
            start("rpc_tracker", "--port", str(port), "--port-end", str(port + 1))
            for _ in range(servers):
                tracker = f"127.0.0.1:{port}"
                start("rpc_server", "--tracker", tracker, "--key", KEY, "--port-end", "60000")
            # A server that finds no tracker yet tries again, for minutes.
            show_progress("starting servers", 0, servers)
            wait_for(port, servers)
            show_progress("starting servers", servers, servers)
            yield f"rpc://127.0.0.1:{port}/{KEY}"
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(port: int, servers: int) -> None:
    """Wait until the tracker knows all servers."""
    from tvm import rpc

    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            tracker = rpc.connect_tracker("127.0.0.1", port)
            known = len(tracker.summary()["server_info"])
            tracker.close()
            if known >= servers:
                return
        time.sleep(0.2)
    raise pf.errors.MeasurementError("the servers did not start within 120 s")


if __name__ == "__main__":
    sys.exit(main())
