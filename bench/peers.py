"""The peers that the README's figures stand beside, run as their users would run them, server and client apart.

`rsync -a` from an rsync daemon, and Syncthing from the distribution's package, send-only to receive-only. Both talk
through a counting relay on loopback, as ours do. Nothing here announces itself or leaves loopback.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.relay import Relay, Traffic
from bench.sampling import Cost, Tree, reaped_cpu_s, watched

_PATIENCE_S: Final = 300.0
_API_KEY: Final = "relais-bench"


class PeerFailed(Exception):
    """A peer did not do what was asked."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One step of work: wall seconds, what both sides cost, what passed between them."""

    wall_s: float
    server: Cost
    client: Cost
    traffic: Traffic

    @property
    def figures(self) -> dict[str, float | str]:
        """All of it, by the names that the tables know."""
        return {
            "wall_s": self.wall_s,
            "client_cpu_s": self.client.cpu_s,
            "server_cpu_s": self.server.cpu_s,
            "client_peak_bytes": self.client.peak_bytes,
            "server_peak_bytes": self.server.peak_bytes,
            "down_bytes": self.traffic.down,
            "up_bytes": self.traffic.up,
        }

    @property
    def alone(self) -> dict[str, float | str]:
        """Of a step that needs no server."""
        return {
            "wall_s": self.wall_s,
            "client_cpu_s": self.client.cpu_s,
            "client_peak_bytes": self.client.peak_bytes,
        }


def versions() -> dict[str, str]:
    """The installed peers and their versions."""
    asked = {name: [name, "--version"] for name in ("rsync", "syncthing", "casync")}
    found = {}
    for name, command in asked.items():
        if shutil.which(name):
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            numbers = re.search(r"v?(\d+\.\d+[.\d]*)", text)
            found[name] = numbers[1] if numbers else "unknown"
    return found


def free_port() -> int:
    """A port of loopback on which nothing listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str, *, patience_s: float = _PATIENCE_S, pause_s: float = 0.02) -> None:
    """Return once `true()` holds; connection errors count as not yet. Raises `PeerFailed` in the end."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if true():
                return
        time.sleep(pause_s)
    raise PeerFailed(f"waited in vain: {what}")


def accepts(port: int) -> bool:
    """Whether something listens on a port of loopback."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process that we started when the context ends."""
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def rsync_daemon(source: Path, work: Path) -> Iterator[tuple[subprocess.Popen[bytes], Relay]]:
    """A daemon that serves `source` as the module "catalogue", and the relay before it."""
    work.mkdir(parents=True)
    port = free_port()
    settings = work / "rsyncd.conf"
    settings.write_text(f"use chroot = no\n[catalogue]\npath = {source}\nread only = yes\n")
    daemon = ["rsync", "--daemon", "--no-detach", f"--config={settings}", f"--port={port}", "--address=127.0.0.1"]
    started = subprocess.Popen([*daemon, f"--log-file={work / 'rsyncd.log'}"])
    with ending(started) as server, Relay(("127.0.0.1", port)) as relay:
        wait_until(lambda: accepts(port), "rsync's daemon")
        yield server, relay


class Casync:
    """casync over HTTP: an index and a store of chunks, made from a folder and served as plain files."""

    _OPTIONS: Final = ("--without=all", "--with=sec-time", "--with=symlinks")

    def __init__(self, source: Path, work: Path) -> None:
        self._source = source
        self._served = work / "served"
        self._served.mkdir(parents=True)
        self.copy = work / "copy"

    @contextmanager
    def serving(self) -> Iterator[Relay]:
        """The files over HTTP with connections that are kept, and the relay before them."""
        handler = partial(_QuietFiles, directory=str(self._served))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            serving = threading.Thread(target=server.serve_forever, daemon=True)
            serving.start()
            with Relay(("127.0.0.1", server.server_address[1])) as relay:
                yield relay
            server.shutdown()
            serving.join()

    def make(self) -> None:
        """Chop the source anew."""
        index = self._served / "catalogue.caidx"
        self._call("make", f"--store={self._served / 'store.castr'}", str(index), str(self._source))

    def extract(self, port: int) -> None:
        """Bring the copy up to date, with what it holds as the seed."""
        address = f"http://127.0.0.1:{port}"
        self._call("extract", f"--store={address}/store.castr", f"{address}/catalogue.caidx", str(self.copy))

    def _call(self, *words: str) -> None:
        done = subprocess.run(["casync", *self._OPTIONS, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PeerFailed(f"casync {words[0]}: {done.stderr[-500:]}")


class _QuietFiles(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, over connections that are kept."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_told: object) -> None:
        """Say nothing."""


def run_rsync(source: Path, work: Path) -> Measured:
    """`rsync -a` of `source` into an empty folder, from a daemon."""
    with rsync_daemon(source, work) as (server, relay):
        address = f"rsync://127.0.0.1:{relay.port}/catalogue/"
        server_tree = Tree([server.pid])
        began, spent_s = time.monotonic(), reaped_cpu_s()
        with subprocess.Popen(["rsync", "-a", address, str(work / "copy")]) as client:
            client_tree = Tree([client.pid])
            with watched(server_tree, client_tree):
                status = client.wait()
        wall_s = time.monotonic() - began
        if status != 0:
            raise PeerFailed(f"rsync ended with {status}")
        client_cost = Cost(reaped_cpu_s() - spent_s, client_tree.cost().peak_bytes)
        return Measured(wall_s, server_tree.cost(), client_cost, relay.traffic())


class Syncthing:
    """One Syncthing with one folder, alone or connected to a partner."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home = home
        self.folder = folder
        self.port = free_port()
        self._api_port = free_port()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._call("generate", f"--home={home}", "--no-default-folder")
        self.device = self._call("serve", f"--home={home}", "--device-id").strip()

    def configure(self, kind: str, partner: str, address: str, *, marker: str) -> None:
        """Share the folder (`sendonly` or `receiveonly`) with `partner`, reached at `address` (or `dynamic`).

        `marker` is a name in the folder whose absence would mean that the disk is not there.
        """
        options = {
            "globalAnnounceEnabled": "false",
            "localAnnounceEnabled": "false",
            "relaysEnabled": "false",
            "natEnabled": "false",
            "startBrowser": "false",
            "urAccepted": "-1",
            "autoUpgradeIntervalH": "0",
            "crashReportingEnabled": "false",
            "reconnectionIntervalS": "1",
        }
        rows = "".join(f"<{name}>{value}</{name}>" for name, value in options.items())
        (self.home / "config.xml").write_text(
            f"""<configuration version="37">
<folder id="catalogue" path="{self.folder}" type="{kind}" rescanIntervalS="3600"
 fsWatcherEnabled="true" fsWatcherDelayS="10">
<markerName>{marker}</markerName>
<device id="{self.device}"/><device id="{partner}"/></folder>
<device id="{self.device}"><address>dynamic</address></device>
<device id="{partner}"><address>{address}</address></device>
<gui enabled="true" tls="false"><address>127.0.0.1:{self._api_port}</address><apikey>{_API_KEY}</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:{self.port}</listenAddress>{rows}</options>
</configuration>
"""
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Run it; its log lies in its home."""
        command = ["syncthing", "serve", f"--home={self.home}", "--no-browser", "--no-restart", "--no-upgrade"]
        with (self.home / "output").open("wb") as output:
            return subprocess.Popen(command, env=self._environment(), stdout=output, stderr=output)

    def settled(self) -> bool:
        """Whether it is idle, knows files and needs none."""
        state = self._status()
        return bool(state["state"] == "idle" and state["globalFiles"] > 0 and state["needTotalItems"] == 0)

    def agrees_with(self, other: Syncthing) -> bool:
        """Whether this one holds all that the other one has."""
        here, there = self._status(), other._status()
        return self.settled() and bool(here["inSyncBytes"] == there["globalBytes"] == here["globalBytes"])

    def scan(self) -> None:
        """Look at the folder now."""
        connection = http.client.HTTPConnection("127.0.0.1", self._api_port, timeout=60)
        try:
            connection.request("POST", "/rest/db/scan?folder=catalogue", headers={"X-API-Key": _API_KEY})
            connection.getresponse().read()
        finally:
            connection.close()

    def _status(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._api_port, timeout=10)
        try:
            connection.request("GET", "/rest/db/status?folder=catalogue", headers={"X-API-Key": _API_KEY})
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        except ValueError as reason:
            raise http.client.HTTPException(str(reason)) from reason
        finally:
            connection.close()
        return found

    def _call(self, *words: str) -> str:
        done = subprocess.run(
            ["syncthing", *words], env=self._environment(), capture_output=True, text=True, check=True
        )
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home), "STNOUPGRADE": "1"}


@contextmanager
def syncthing_pair(
    source: Path, work: Path, *, port: int | None = None
) -> Iterator[tuple[Syncthing, Syncthing, Relay]]:
    """Two Syncthings, configured and not yet started: server over `source`, client over an empty folder.

    The client calls `port`, if one is given: whoever listens there passes on to the relay.
    """
    server = Syncthing(work / "server", source)
    client = Syncthing(work / "client", work / "copy")
    with Relay(("127.0.0.1", server.port)) as relay:
        # nothing is written into the source: something that lies there serves as the marker
        server.configure("sendonly", client.device, "dynamic", marker=min(source.iterdir()).name)
        (client.folder / ".marker").mkdir()
        client.configure("receiveonly", server.device, f"tcp://127.0.0.1:{port or relay.port}", marker=".marker")
        yield server, client, relay


def first_sync_syncthing(source: Path, work: Path) -> tuple[Measured, Measured]:
    """What it costs the server to scan `source`, then a client to fetch all of it."""
    with syncthing_pair(source, work) as (server, client, relay), contextlib.ExitStack() as stack:
        began = time.monotonic()
        scanning = stack.enter_context(ending(server.start()))
        tree = Tree([scanning.pid])
        with watched(tree):
            wait_until(server.settled, "Syncthing's first scan")
        nothing = Cost(0.0, 0)
        scan = Measured(time.monotonic() - began, tree.cost(), nothing, Traffic())
        relay.reset()
        began = time.monotonic()
        server_tree = Tree([scanning.pid])
        fetching = stack.enter_context(ending(client.start()))
        client_tree = Tree([fetching.pid])
        with watched(server_tree, client_tree):
            wait_until(lambda: client.agrees_with(server), "Syncthing's first sync", pause_s=0.05)
        return scan, Measured(time.monotonic() - began, server_tree.cost(), client_tree.cost(), relay.traffic())
