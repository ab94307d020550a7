"""What the server asks of its store where whoever had its key made up heads, a code by each, and cut each off."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Invite, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.members import list_devices
from tests.harness.server_in_process import Office, office
from tests.harness.territory import new_device


async def _invent(here: Office, heads: int) -> None:
    """What has the server's key says of so many heads: each is let in, makes a code, and is cut off."""
    server, space, random, at = here.server, bytes.fromhex(here.space), Random(3), here.clock() << 16
    said: list[Entry] = []

    def say(author: SigningKey, under: bytes, kind: Kind, payload: bytes) -> Entry:
        said.append(
            compose(
                author=author, space=space, kind=kind, grant=under, at=at + len(said), payload=payload, salt=bytes(16)
            )
        )
        return said[-1]

    key, grant = server.keys.signing, server.grant
    for _ in range(heads):
        head = new_device(random.randbytes)
        given = Grant(head.signing.public, head.agreement.public, None, Role.HEAD, None, None)
        under = say(key, grant, Kind.GRANT, given.encode()).id
        code = Invite(random.randbytes(32), Role.MACHINE, (space,), None, 1, here.clock() + DAY_MS)
        say(head.signing, under, Kind.INVITE, code.encode())
        say(key, grant, Kind.REVOKE, Revocation(head.signing.public, ()).encode())
    done = await server.replica.admit(said, source=b"thief", now_ms=here.clock())
    assert len(done.admitted) == len(said)


async def _asked(folder: Path, heads: int, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the list of devices asks for entries of a kind, or by name."""
    asked = Counter[str]()
    async with office(folder / "server") as here:
        await here.enrol(await here.invite("machine"))
        await note_arrivals(here.server.store, here.clock())
        here.clock.advance(DAY_MS)
        await _invent(here, heads)
        await here.with_kit("rotate server", kit_in(folder / "server" / "kit", None), since="20h")
        store = here.server.store
        kinds, get = store.scan_kinds, store.get

        async def scanned(*args: Any) -> Any:
            asked["scans"] += 1
            return await kinds(*args)

        async def got(ids: Any) -> Any:
            asked["names"] += len(ids)
            return await get(ids)

        with monkeypatch.context() as patch:
            patch.setattr(store, "scan_kinds", scanned)
            patch.setattr(store, "get", got)
            await list_devices(here.server)
    return asked


async def test_all_codes_are_read_once_however_many_of_those_who_made_them_were_cut_off(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = await _asked(tmp_path_factory.mktemp("few"), 2, monkeypatch)
    many = await _asked(tmp_path_factory.mktemp("many"), 8, monkeypatch)
    assert few == many
    assert many["names"] == 1, "of the grants that count one names a code, the PC's own"
