"""A running server that answers over HTTP, with a class, a teacher's device and a machine that speak to it by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness.machines import Machine
from tests.harness.patience import PATIENCE_S
from tests.harness.raw_device import Answer, RawDevice
from tests.harness.server_thread import running_server


@dataclass
class Desk:
    """A running server with a class, a teacher's device and a machine."""

    server: Machine
    url: str
    space: bytes
    pupil: bytes
    teacher: RawDevice
    machine: RawDevice

    def invite(self, role: str, *more: str) -> str:
        return str(self.server.ok("invite", "--role", role, "--space", self.space.hex(), *more)["code"])


@contextmanager
def http_desk(folder: Path) -> Iterator[Desk]:
    """One in a folder."""
    server = Machine("server", folder / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(folder / "kit"))
    with running_server(server.folder) as url:
        space = server.ok("space", "add", "CM2 B", "--school", "0180001D")["space"]
        person = server.ok("person", "add", "Mme Petit", "--role", "teacher", "--space", space)["person"]
        pupil = server.ok("person", "add", "Léa", "--role", "pupil", "--space", space)["person"]
        made = Desk(server, url, bytes.fromhex(space), bytes.fromhex(pupil), RawDevice(url), RawDevice(url))
        made.teacher.enroll(made.invite("teacher", "--person", person))
        made.machine.enroll(made.invite("machine"))
        yield made


def connected(desk: Desk) -> socket.socket:
    """A connection on which nothing has been said yet."""
    parts = urlsplit(desk.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_S)


def error_code(answer: Answer) -> str:
    """Why something was refused, in the form that every refusal has."""
    assert answer.headers["content-type"] == "application/json"
    document = json.loads(answer.body)
    assert set(document) == {"error"}
    assert set(document["error"]) == {"code", "message"}
    return str(document["error"]["code"])
