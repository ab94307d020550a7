"""The impairing relay: one object between real machines and their server, whose weather may change at any moment.

    with impairing_relay(school.url, folder) as relay:
        agent.ok("enroll", "--server", relay.url, …)      # or relay.secure_url with --ca relay.ca_file
        agent.start("--proxy", relay.proxy_url)           # the same weather, through a school's proxy
        relay.weather = SATELLITE
        relay.weather = replace(SATELLITE, portal=Portal.REDIRECT)
        relay.weather = CLEAR

All ways share one weather. Behind the proxy the names `SERVER_NAME` (http and https) and localhost lead to the server;
no name leads anywhere else. By hand, `python -m tests.harness.weather --to http://127.0.0.1:8080` prints the addresses
and reads lines such as `latency_s=0.3 bytes_per_s=60000`, `portal=redirect`, `stalls`, `clear`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import selectors
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.harness.certificates import Authority
from tests.harness.line import Line, shut
from tests.harness.middlebox import PORTAL_HOST, Middlebox
from tests.harness.patience import PATIENCE_S, until
from tests.harness.weather_kinds import CAPTIVE, CLEAR, DOWN, SATELLITE, STALLED, Portal, Shown, Sockets, Weather

__all__ = [
    "CAPTIVE",
    "CLEAR",
    "DOWN",
    "SATELLITE",
    "STALLED",
    "Portal",
    "Relay",
    "Shown",
    "Sockets",
    "Weather",
    "impairing_relay",
]

SERVER_NAME = "relais.ecole.test"
SERVER_NAMES = (SERVER_NAME, "localhost", "127.0.0.1", "::1")
INSPECTOR = "Inspection du rectorat"
T = TypeVar("T")


class Relay:
    """See the module. Lives in a thread with a loop of its own, so that it serves tests of any kind."""

    def __init__(self, target: str, folder: Path, *, host: str = "127.0.0.1", ports: tuple[int, int, int]) -> None:
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._loop.run_forever, name="weather", daemon=True)
        self._weather = CLEAR
        self._host = host
        self._lines: list[Line] = []
        self._servers: list[asyncio.Server] = []
        self._public = Authority("Public test authority", folder)
        self._inspector = Authority(INSPECTOR, folder)
        self._portal = Authority("Portal", folder)
        self.ca_file = self._public.file
        self.inspector_file = self._inspector.file
        self._thread.start()
        address = urlsplit(target)
        plain, secure, proxy = self._do(self._open(address.hostname or "", address.port or 80, ports))
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{plain}"
        self.secure_url = f"https://{'localhost' if host == '127.0.0.1' else shown}:{secure}"
        self.proxy_url = f"http://{shown}:{proxy}"
        self.named_url = f"http://{SERVER_NAME}"
        self.named_secure_url = f"https://{SERVER_NAME}"

    @property
    def weather(self) -> Weather:
        """How the way is. Setting it takes effect before the assignment is over."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._do(self._change(weather))

    @property
    def seen(self) -> list[str]:
        """The requests that passed a box that reads HTTP, as "METHOD target", oldest first."""
        return list(self._box.seen)

    @property
    def passed(self) -> int:
        """Bytes that have passed in both directions."""
        return sum(sum(line.passed.values()) for line in self._lines)

    def close(self) -> None:
        """End it."""
        self._do(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    async def _open(self, target_host: str, target_port: int, ports: tuple[int, int, int]) -> tuple[int, int, int]:
        names: dict[tuple[str, int], int] = {}
        self._box = Middlebox(
            lambda: self._weather,
            target_port,
            names,
            target_host,
            lambda name: self._inspector.context([name]),
        )
        contexts = {
            Shown.SERVER: self._public.context(SERVER_NAMES),
            Shown.EXPIRED: self._public.context(SERVER_NAMES, expired=True),
            Shown.OTHER_NAME: self._public.context(["else.example.test"]),
            Shown.INSPECTOR: self._inspector.context(SERVER_NAMES),
            Shown.PORTAL: self._portal.context([PORTAL_HOST]),
        }
        tls = self._public.context(SERVER_NAMES)

        def choose(connection: Any, _name: str | None, _context: object) -> None:
            connection.context = contexts[self._weather.shows]

        tls.sni_callback = choose
        fronts = (
            await asyncio.start_server(self._box.front, "127.0.0.1", 0),
            await asyncio.start_server(self._box.front, "127.0.0.1", 0, ssl=tls),
            await asyncio.start_server(self._box.proxy, "127.0.0.1", 0),
        )
        self._servers += fronts
        inner = [front.sockets[0].getsockname()[1] for front in fronts]
        for port, wanted in zip(inner, ports, strict=True):
            line = Line(port, host=self._host, port=wanted)
            await line.change(CLEAR)
            self._lines.append(line)
        plain, secure, proxy = (line.port for line in self._lines)
        names.update({(SERVER_NAME, 80): inner[0], (SERVER_NAME, 443): inner[1]})
        names.update({("localhost", port): to for port, to in ((plain, inner[0]), (secure, inner[1]))})
        names.update({("127.0.0.1", port): to for port, to in ((plain, inner[0]), (target_port, target_port))})
        return plain, secure, proxy

    async def _change(self, weather: Weather) -> None:
        self._weather = weather
        for line in self._lines:
            await line.change(weather)

    async def _shut(self) -> None:
        for server in self._servers:
            await shut(server)
        for line in self._lines:
            await line.close()
        await until(self._is_empty)
        await asyncio.sleep(0)

    async def _is_empty(self) -> bool:
        """Whether nothing is open but what wakes the loop; whoever is here is sent away.

        What was accepted this very moment has begun a turn later: a task that never began would close nothing.
        """
        here = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        await asyncio.sleep(0)
        for task in here:
            task.cancel()
        return not here and len(self._selector.get_map()) == 1


@contextmanager
def impairing_relay(
    target: str, folder: Path, *, host: str = "127.0.0.1", ports: tuple[int, int, int] = (0, 0, 0)
) -> Iterator[Relay]:
    """A relay to the server at `target` (http://host:port on loopback); `host` "::1" makes it reachable by IPv6 only.

    `folder` takes the certificates. `ports` are those of the plain way, the TLS way and the proxy; 0 is any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    relay = Relay(target, folder, host=host, ports=ports)
    try:
        yield relay
    finally:
        relay.close()


def weather_of(line: str, before: Weather) -> Weather:
    """The weather that a typed line asks for: `clear`, or fields of `Weather` as `name=value`, or `name` for true."""
    kinds = {"portal": Portal, "sockets": Sockets, "shows": Shown}
    if line.strip() == "clear":
        return CLEAR
    changes: dict[str, Any] = {}
    for word in line.split():
        name, _, value = word.partition("=")
        default = getattr(before, name)
        if value in ("none", "off"):
            changes[name] = getattr(CLEAR, name)
        elif name in kinds:
            changes[name] = kinds[name](value)
        elif isinstance(default, bool):
            changes[name] = True
        elif isinstance(default, tuple):
            changes[name] = tuple(value.split(","))
        else:
            changes[name] = value if name == "login" else int(value) if name.startswith("cut") else float(value)
    return replace(before, **changes)


def main() -> None:
    """Play a bad line by hand."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.weather", description=main.__doc__)
    parser.add_argument("--to", required=True, metavar="URL", help="the server, on loopback")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ports", nargs=3, type=int, default=(0, 0, 0), metavar=("PLAIN", "TLS", "PROXY"))
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        impairing_relay(given.to, Path(folder), host=given.host, ports=tuple(given.ports)) as relay,
    ):
        print(f"plain {relay.url}\nTLS   {relay.secure_url} --ca {relay.ca_file}\nproxy {relay.proxy_url}")  # noqa: T201
        print("weather:", " ".join(field.name for field in dataclasses.fields(Weather)))  # noqa: T201
        for line in sys.stdin:
            try:
                relay.weather = weather_of(line, relay.weather)
            except (ValueError, AttributeError, TypeError) as reason:
                print(reason)  # noqa: T201
            print(relay.weather, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
