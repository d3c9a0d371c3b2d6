"""A TVM RPC tracker, asked within a stated time.

TVM's own client waits without end for whoever accepts its connection, and tries for a minute to get
one.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

from tvm.rpc import base

from ...errors import PnagError
from ..device import DeviceUnavailableError

# In which a tracker has to accept a connection and to answer everything that it is asked.
TRACKER_SECONDS = 10.0
# Far more than the summary of the largest farm.
_MAX_ANSWER = 16 << 20


class Tracker:
    """A connection to a tracker, for a question or two.

    Raises
    ------
    DeviceUnavailableError
        By each method, if there is no tracker, or none that answers, or something else.
    """

    def __init__(self, host: str, port: int, *, seconds: float = TRACKER_SECONDS) -> None:
        self.address = f"{host}:{port}"
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        try:
            self._socket = socket.create_connection((host, port), timeout=seconds)
        except (OSError, UnicodeError) as error:
            raise DeviceUnavailableError(
                f"no tracker at {self.address} ({getattr(error, 'strerror', None) or error}); "
                "start one with: python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port PORT"
            ) from error
        try:
            self._send(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            if self._receive_integer() != base.RPC_TRACKER_MAGIC:
                raise self._foreign("it greets in another way")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def servers(self) -> list[tuple[str, str]]:
        """List the address and the key of each server, busy or not."""
        try:
            servers = self._summary()["server_info"]
            return [
                (str(server.get("addr")), str(server["key"]).removeprefix("server:"))
                for server in servers
                if str(server["key"]).startswith("server:")
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise self._foreign(f"its summary lacks {error}") from error

    def free(self, key: str) -> int:
        """Return how many servers under the key wait for work."""
        try:
            return int(self._summary()["queue_info"].get(key, {}).get("free", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._foreign(f"its summary lacks {error}") from error

    def request(self, key: str) -> tuple[str, int, str]:
        """Take a server; returns its host and port, and the word that opens it.

        A request that waits in the tracker's queue cannot be taken back: ask `free` before.
        """
        answer = self._ask([base.TrackerCode.REQUEST, key, "", 1])
        try:
            host, port, word = answer
            return str(host), int(port), str(word)
        except (TypeError, ValueError) as error:
            raise self._foreign(f"it offers {answer!r} as a device") from error

    def _summary(self) -> Mapping[str, Any]:
        answer = self._ask([base.TrackerCode.SUMMARY])
        if not isinstance(answer, dict):
            raise self._foreign("its summary is none")
        return answer

    def _ask(self, question: list[Any]) -> Any:
        text = json.dumps(question).encode()
        self._send(struct.pack("<i", len(text)) + text)
        size = self._receive_integer()
        if not 0 <= size <= _MAX_ANSWER:
            raise self._foreign(f"it announces an answer of {size} bytes")
        try:
            code, *answer = json.loads(self._receive(size))
        except (ValueError, TypeError, RecursionError) as error:
            raise self._foreign("its answer is not JSON") from error
        if code != base.TrackerCode.SUCCESS or not answer:
            raise DeviceUnavailableError(f"the tracker at {self.address} refuses: {answer}")
        return answer[0]

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(data)
        except OSError as error:
            raise self._lost(error) from error

    def _receive_integer(self) -> int:
        return int(struct.unpack("<i", self._receive(4))[0])

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                self._socket.settimeout(self._left())
                piece = self._socket.recv(min(size - len(data), 1 << 16))
            except OSError as error:
                raise self._lost(error) from error
            if not piece:
                raise self._foreign("it closes the connection")
            data += piece
        return bytes(data)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _lost(self, error: OSError) -> PnagError:
        if isinstance(error, TimeoutError):
            return DeviceUnavailableError(
                f"the tracker at {self.address} accepts the connection and does not answer within "
                f"{self._seconds:g} s; is it one? start one with: python -m tvm.exec.rpc_tracker "
                "--host 0.0.0.0 --port PORT"
            )
        return self._foreign(error.strerror or str(error))

    def _foreign(self, how: str) -> PnagError:
        return DeviceUnavailableError(
            f"what answers at {self.address} is not a TVM tracker, or is broken: {how}"
        )
