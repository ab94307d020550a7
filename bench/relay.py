"""A TCP relay on loopback that counts what passes: bytes each way, connections, HTTP requests.

It stands between two programs, so that what they send is measured outside both of them: payload bytes of TCP, headers
of HTTP included, those of TCP and IP not. Bytes from the server go through the kernel alone (`splice`), so that the
relay costs little beside what it measures; bytes to the server are looked at, to count the requests in them.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

PIECE_BYTES: Final = 1 << 20
_REQUEST: Final = re.compile(rb"(?:GET|POST|PUT|HEAD) (/[!-~]{0,512}) HTTP/1\.1\r\n")
_LONGEST_REQUEST_LINE: Final = 600


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes from the client (`up`) and the server (`down`), connections, requests; `busy_s` from first to last byte."""

    up: int = 0
    down: int = 0
    connections: int = 0
    requests: int = 0
    busy_s: float = 0.0

    @property
    def both(self) -> int:
        """Bytes both ways."""
        return self.up + self.down


class Relay:
    """Passes connections on to `target` while the context lasts; `port` is where it listens."""

    def __init__(self, target: tuple[str, int], port: int = 0) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._traffic = Traffic()
        self._first_s: float | None = None
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._listening.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # a blocked `accept` keeps the port until it is woken
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listening.join()
        self._listener.close()
        with self._lock:
            open_sockets = list(self._sockets)
        for one in open_sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Count from zero."""
        with self._lock:
            self._traffic, self._first_s = Traffic(), None

    def traffic(self) -> Traffic:
        """What has passed since `reset`."""
        with self._lock:
            return self._traffic

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        with self._lock:
            self._sockets |= {client, server}
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._count(connections=1)
        down = threading.Thread(target=self._splice, args=(server, client), daemon=True)
        down.start()
        self._forward(client, server)
        down.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Client to server, the requests counted; a request line may be cut between two pieces."""
        rest = b""
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                seen = rest + piece
                found = [match.end() for match in _REQUEST.finditer(seen)]
                self._count(up=len(piece), requests=len(found))
                server.sendall(piece)
                rest = seen[max([len(seen) - _LONGEST_REQUEST_LINE, *found]) :]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _splice(self, server: socket.socket, client: socket.socket) -> None:
        """Server to client through a pipe, never copied into this process."""
        out, into = os.pipe()
        try:
            with contextlib.suppress(OSError):
                while moved := os.splice(server.fileno(), into, PIECE_BYTES):
                    self._count(down=moved)
                    while moved:
                        moved -= os.splice(out, client.fileno(), moved)
        finally:
            os.close(out)
            os.close(into)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)

    def _count(self, *, up: int = 0, down: int = 0, connections: int = 0, requests: int = 0) -> None:
        now = time.monotonic()
        with self._lock:
            before = self._traffic
            if self._first_s is None and (up or down):
                self._first_s = now
            self._traffic = replace(
                before,
                up=before.up + up,
                down=before.down + down,
                connections=before.connections + connections,
                requests=before.requests + requests,
                busy_s=0.0 if self._first_s is None else now - self._first_s,
            )
