"""A tracker that is none, or is broken, costs seconds and not minutes."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time

import pytest

from pnag_fast.errors import MeasurementError
from pnag_fast.latency.device import DeviceUnavailableError
from pnag_fast.latency.runners import open_fleet

tvm = pytest.importorskip("tvm")

from tvm.rpc.base import RPC_TRACKER_MAGIC  # noqa: E402

from pnag_fast.latency.tvm_adapter.tracker import TRACKER_SECONDS, Tracker  # noqa: E402

GREETING = struct.pack("<i", RPC_TRACKER_MAGIC)


@pytest.fixture
def listening():
    """Start a listener whose every connection is handled by a function."""
    sockets, stop = [], threading.Event()

    def listen(handle):
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def accept():
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                sockets.append(connection)
                threading.Thread(target=handled, args=[connection], daemon=True).start()

        def handled(connection):
            with contextlib.suppress(OSError):
                handle(connection)

        threading.Thread(target=accept, daemon=True).start()
        return server.getsockname()[1]

    yield listen
    stop.set()
    for item in sockets:
        item.close()


def says(data, *, drip_s=0.0):
    """Greet like a tracker, and answer anything with `data`."""

    def handle(connection):
        connection.recv(4)
        connection.sendall(GREETING)
        connection.recv(4096)
        for i in range(len(data) if drip_s else 1):
            time.sleep(drip_s)
            connection.sendall(data[i : i + 1] if drip_s else data)
        connection.recv(1)

    return handle


def answer(value):
    text = json.dumps(value).encode()
    return struct.pack("<i", len(text)) + text


def silent(connection):
    connection.recv(4096)
    connection.recv(4096)


def greets_and_falls_silent(connection):
    connection.recv(4)
    connection.sendall(GREETING)
    silent(connection)


def asked(port, question, *arguments, seconds=TRACKER_SECONDS):
    with contextlib.closing(Tracker("127.0.0.1", port, seconds=seconds)) as tracker:
        return question(tracker, *arguments)


@pytest.mark.parametrize(
    ("handle", "text"),
    [
        (silent, r"does not answer within 0\.5 s; is it one\? start one with"),
        (greets_and_falls_silent, r"does not answer within 0\.5 s"),
        (says(answer([0, {}]), drip_s=0.2), r"does not answer within 0\.5 s"),
        (lambda c: c.close(), "not a TVM tracker, or is broken"),
        (lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"), "it greets in another way"),
        (says(struct.pack("<i", 2**31 - 1)), "announces an answer of 2147483647 bytes"),
        (says(struct.pack("<i", -1)), "announces an answer of -1 bytes"),
        (says(struct.pack("<i", 5) + b"\xff" * 5), "its answer is not JSON"),
        (says(answer(5)), "its answer is not JSON"),
        (says(answer([0, 5])), "its summary is none"),
        (says(answer([0, {}])), "its summary lacks 'server_info'"),
        (says(answer([0, {"server_info": [5]}])), "its summary lacks"),
        (says(answer([-1, "no"])), "refuses"),
    ],
)
def test_what_is_no_tracker_is_told_in_time(listening, handle, text):
    port = listening(handle)
    start = time.monotonic()
    with pytest.raises(DeviceUnavailableError, match=text):
        asked(port, Tracker.servers, seconds=0.5)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 70 + ".com", "é" * 70])
def test_hosts_that_do_not_exist_are_told(host):
    with pytest.raises(DeviceUnavailableError, match="no tracker at"):
        Tracker(host, 9190, seconds=5)


def test_what_a_tracker_says_is_read(listening):
    summary = {
        "server_info": [{"key": "server:board", "addr": ["10.0.0.1", 9090]}, {"key": "client"}],
        "queue_info": {"board": {"free": 2, "pending": 0}},
    }
    port = listening(says(answer([0, summary])))
    assert asked(port, Tracker.servers) == [("['10.0.0.1', 9090]", "board")]
    assert asked(port, Tracker.free, "board") == 2
    assert asked(port, Tracker.free, "other") == 0
    port = listening(says(answer([0, ["10.0.0.1", 9090, "word"]])))
    assert asked(port, Tracker.request, "board") == ("10.0.0.1", 9090, "word")


def test_a_tracker_that_says_nothing_ends_the_measurement_in_time(listening):
    port = listening(silent)
    start = time.monotonic()
    with pytest.raises(MeasurementError, match=f"{port} accepts the connection and does not"):
        open_fleet("llvm -mtriple=aarch64-linux-gnu", runner=f"rpc://127.0.0.1:{port}/board")
    # TVM itself takes a while to load.
    assert time.monotonic() - start < TRACKER_SECONDS + 40
