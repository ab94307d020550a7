"""Classes that whoever has the server's key invents, and what is written into them once it is replaced (ADR 0284)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.folds import growth
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, SpaceRecord
from protocol.replica.at_work import views
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.by_kit.waiting import list_waiting
from tests.harness.attack import attack
from tests.harness.server_in_process import Office, office
from tests.harness.territory import new_device
from tests.integration.test_space_keys import ring

ROW = "a stolen server has new keys written into classes that it made up, in the new server's name"
INVENTED = 3


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as made:
        await made.enrol(await made.invite("machine"))
        await note_arrivals(made.server.store, made.clock())
        made.clock.advance(DAY_MS)
        yield made


class Thief:
    """Has a copy of the server's key, and says what it likes with it."""

    def __init__(self, here: Office) -> None:
        self._here = here
        self._key, self._grant = here.server.keys.signing, here.server.grant
        self._at = here.clock() << 16
        self.school = here.server.replica.door.parent(bytes.fromhex(here.space)) or b""

    async def invents(self, count: int = INVENTED) -> list[bytes]:
        """Classes: in one of them is a machine, let in by a head that is invented too; the ids of all."""
        classes = [await self._say(self.school, Kind.SPACE, SpaceRecord(f"C{n}").encode()) for n in range(count)]
        head, pc = new_device(os.urandom), new_device(os.urandom)
        under = await self._say(classes[0], Kind.GRANT, _granted(head, Role.HEAD))
        await self._say(classes[0], Kind.GRANT, _granted(pc, Role.MACHINE), head, under.id)
        return [one.id for one in classes]

    async def invents_a_school(self) -> list[bytes]:
        """A school and a class in it; the ids of both."""
        territory = self._here.server.replica.territory
        record = SpaceRecord("0180099X", uai="0180099X")
        school = record.space_of(await self._say(territory, Kind.SPACE, record.encode()), territory)
        return [school, (await self._say(school, Kind.SPACE, SpaceRecord("CP").encode())).id]

    async def _say(
        self, space: bytes | Entry, kind: Kind, payload: bytes, author: DeviceKeys | None = None, under: bytes = b""
    ) -> Entry:
        self._at += 1
        entry = compose(
            author=self._key if author is None else author.signing,
            space=space if isinstance(space, bytes) else space.id,
            kind=kind,
            grant=under or self._grant,
            at=self._at,
            payload=payload,
            salt=bytes(16),
        )
        done = await self._here.server.replica.admit([entry], source=b"thief", now_ms=self._here.clock())
        assert done.admitted
        return entry


def _granted(keys: DeviceKeys, role: Role) -> bytes:
    return Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, None, None).encode()


async def replaces_keys(here: Office, tmp_path: Path) -> None:
    await here.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")


async def keys_said_in(here: Office, spaces: Collection[bytes]) -> int:
    said = await here.server.store.scan_kinds([Kind.SPACE_KEY, Kind.SPACE_WRAP])
    return sum(entry.header.space in spaces for entry in said)


async def _none_is(*_: object) -> frozenset[bytes]:
    return frozenset()


@attack(ROW, off={"protocol.replica.at_work.deserted.deserted_in": _none_is})
async def test_no_key_is_written_into_classes_that_a_thief_of_the_servers_key_made_up(
    here: Office, tmp_path: Path
) -> None:
    thief = Thief(here)
    invented = [*await thief.invents(), *await thief.invents_a_school()]
    await replaces_keys(here, tmp_path)
    await here.server.space_keeper.tend_grown()
    assert await keys_said_in(here, invented) == 0
    own = {
        entry.header.space
        for entry in await here.server.store.authored(bytes.fromhex(here.space), here.server.keys.signing.public)
        if entry.header.kind == Kind.SPACE_KEY
    }
    assert own == {bytes.fromhex(here.space)}, "the class that there is has a new one"


async def test_none_of_them_is_folded_to_find_that_out(
    here: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invented = await Thief(here).invents(20)
    folded: list[bytes] = []

    def counted(space: bytes, *rest: object) -> growth.SpaceFold:
        folded.append(space)
        return growth.fold_space(space, *rest)  # type: ignore[arg-type]

    await replaces_keys(here, tmp_path)
    await here.server.replica.reload()
    monkeypatch.setattr(views, "fold_space", counted)
    await here.server.space_keeper.tend_grown()
    assert bytes.fromhex(here.space) in folded
    assert not set(folded).intersection(invented)
    await list_waiting(here.server)
    assert not set(folded).intersection(invented[1:]), "nor where nobody has said anything, for the list of what waits"


async def test_a_class_that_is_held_back_has_keys_once_somebody_is_let_in(here: Office, tmp_path: Path) -> None:
    made = await here.do("space add", name="CE2", school="0180001D", year="none")
    space = bytes.fromhex(made["space"])
    await replaces_keys(here, tmp_path)
    before = await keys_said_in(here, [space])
    pc = await here.enrol(await here.invite("machine"))
    await here.do("grant", device=pc.id, space=[space.hex()])
    assert await keys_said_in(here, [space]) > before
    assert await ring(here, pc.keys.agreement).current(space) is not None
    assert await ring(here, pc.keys.agreement).current(here.server.replica.door.parent(space) or b"") is not None
