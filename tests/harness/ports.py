"""Ports that stay a test's own while nobody listens there: a server that is killed finds its address free again.

No system hands them out by itself, neither to who listens at port 0 nor to who calls somebody, as it does with those of
its own range (RFC 6335: from 49152; Linux: from 32768). Workers that test side by side draw from sets that do not meet.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from random import SystemRandom

FIRST, END = 12_000, 32_000
_WORKERS = 32


def _drawn() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    ports = range(FIRST + worker, END, _WORKERS)
    # others may test on this machine too: each run begins somewhere else
    first = SystemRandom().randrange(len(ports))
    while True:
        for number in range(len(ports)):
            yield ports[(first + number) % len(ports)]


_PORTS = _drawn()


def free_port(host: str = "127.0.0.1") -> int:
    """A port at which nobody listens on `host`, and that this process has not drawn lately."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in _PORTS:
        with socket.socket(family) as tried:
            try:
                tried.bind((host, port))
            except OSError:
                continue
        return port
    raise AssertionError("ports never end")
