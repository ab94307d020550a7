"""Who was found after a theft at the server, and goes on saying what closes work to others (docs/adr/0469)."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from protocol.errors import Refused
from protocol.identity import AgreementKey, DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonKey, PersonRecord, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import PersonRole, Role
from protocol.trust.person_keys import KeyWraps, seal_reading_key
from sync_agent.hand_ins.wraps import kept_here
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.next_year import NextYear
from tests.harness.territory import new_device

GIVEN = "a server takes away what shows that a lost laptop was given a key"
CLOSED = "work that was opened is given to whoever is named later"
X = bytes([7] * 16).hex()
_WAYS = pytest.mark.parametrize("way", ["revoke", "kit"])


async def _before(year: NextYear) -> int:
    """The last moment at which nobody had the server's key; an hour later somebody has."""
    office = year.here.office
    for _ in range(3):
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(3_600_000)
        await year.sync()
    since_ms = office.clock()
    office.clock.advance(3_600_000)
    return since_ms


async def _is_found(year: NextYear, folder: Path, way: str, since_ms: int, *devices: bytes) -> None:
    """All that the handbook asks for: each is revoked by itself; then the server's keys are replaced, or not."""
    office = year.here.office
    office.clock.advance(60_000)
    for each in devices:
        await office.do("revoke", device=each.hex())
    await year.sync()
    if way == "kit":
        await note_arrivals(office.server.store, office.clock())
        since = f"{(office.clock() - since_ms) // 1000}s"
        await office.with_kit("rotate server", kit_in(folder / "server" / "kit", None), since=since)
        office.clock.advance(60_000)
    await year.sync()


class _Hers:
    """A device of the thief's that a grant calls Mme Petit's."""

    def __init__(self, year: NextYear, keys: DeviceKeys) -> None:
        self.year, self.keys, self.grant, self.said = year, keys, b"", 0

    async def is_met(self, instead_of: bytes) -> Entry:
        """All that is left of hers for a minute, in which the PC syncs."""
        year, space = self.year, self.year.here.space
        given = await year.thief_says(space, Kind.GRANT, granted(self.keys, Role.TEACHER, year.person))
        self.grant = given.id
        await self.says(Kind.PERSON_KEY, PersonKey(self.keys.agreement.public).encode())
        tips = tuple(await year.server.tips(space, instead_of))
        cut = await year.thief_says(space, Kind.REVOKE, Revocation(instead_of, tips).encode())
        for _ in range(2):
            await year.machine.session.sync()
            year.here.office.clock.advance(60_000)
        return cut

    async def says(self, kind: Kind, payload: bytes) -> None:
        """What any machine brings, and an honest server takes."""
        self.said += 1
        year, now_ms = self.year, self.year.here.office.clock()
        entry = compose(
            author=self.keys.signing,
            space=year.here.space,
            kind=kind,
            grant=self.grant,
            at=(now_ms << 16) + self.said,
            payload=payload,
            salt=bytes(16),
            subject=bytes.fromhex(year.person),
        )
        assert (await year.server.admit([entry], source=b"a PC", now_ms=now_ms)).admitted

    async def says_it_gave(self, key: bytes, to: bytes) -> None:
        space, person = self.year.here.space, bytes.fromhex(self.year.person)
        sealed = seal_reading_key(AgreementKey(bytes([9] * 32)), space, person, to, bytes([3] * 32))
        await self.says(Kind.KEY_WRAP, KeyWraps(key, ((to, sealed),)).encode())


async def _her_key_is_spent(
    year: NextYear, folder: Path, way: str, one: DeviceKeys, *, is_one_found: bool = True
) -> bool:
    """Two devices are met as hers; both are found, or the second; the first says that it gave the other her key."""
    space, petit, since_ms = year.here.space, bytes.fromhex(year.person), await _before(year)
    first, second = _Hers(year, one), _Hers(year, new_device(Random(2).randbytes))
    cut = await first.is_met(instead_of=year.teacher.agent.device)
    await second.is_met(instead_of=one.signing.public)
    back = granted(year.teacher.agent.keys, Role.TEACHER, year.person)
    await year.thief_says(space, Kind.GRANT, back, parents=(cut.id,))
    await year.sync()
    found = [one.signing.public] if is_one_found else []
    await _is_found(year, folder, way, since_ms, second.keys.signing.public, *found)
    year.pass_days(8)
    await year.sync()
    newest = year.teacher.agent.reading_keys.newest_of(space)
    assert newest is not None
    key = newest.public
    assert key in (await year.machine.agent.replica.view(space)).roster.reading_keys[petit]
    await first.says_it_gave(key, second.keys.agreement.public)
    await year.sync()
    return key not in (await year.machine.agent.replica.view(space)).roster.reading_keys.get(petit, ())


_SAID_ON: dict[str, object] = {"protocol.rights.spent_keys._is_nobodys_word": lambda *_, **__: False}


@_WAYS
@attack(GIVEN, off=_SAID_ON)
async def test_devices_that_a_pc_met_as_hers_and_that_were_found_spend_no_key_of_hers(
    year: NextYear, tmp_path: Path, way: str
) -> None:
    assert not await _her_key_is_spent(year, tmp_path, way, new_device(Random(1).randbytes))


@attack(GIVEN, off=_SAID_ON)
async def test_nor_does_a_pc_of_the_schools_that_went_as_hers_and_that_nobody_found(
    year: NextYear, tmp_path: Path
) -> None:
    stolen = await year.here.device("machine")
    await year.sync()
    year.here.devices.remove(stolen)
    await stolen.agent.close()
    assert not await _her_key_is_spent(year, tmp_path, "kit", stolen.agent.keys, is_one_found=False)


async def _opens(laptop: Device, work: bytes) -> bool:
    try:
        return bool(await Desk(laptop.agent).files("open-hand-in", id=work.hex()))
    except Refused:
        return False


@attack(CLOSED, off={"sync_agent.hand_ins.heard_opened._authors": lambda receipts, _: set(receipts.values())})
async def test_who_came_with_a_stolen_key_closes_no_work_once_the_kit_has_said_since_when(
    year: NextYear, tmp_path: Path
) -> None:
    space, since_ms = year.here.space, await _before(year)
    await year.thief_says(space, Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), subject=X)
    await year.spy_comes(space, dated_days_ago=0, person=X)
    await year.sync()
    for _ in range(9):
        await year.here.days_pass(1)
        await note_arrivals(year.here.office.server.store, year.here.office.clock())
    await year.sync()
    await _is_found(year, tmp_path, "kit", since_ms, year.spy.signing.public)
    item = await year.here.asks_for_work(year.teacher, space)
    await year.sync(year.teacher, year.machine)
    work = await year.here.work(year.machine, item, year.pupil)
    await year.sync(year.machine)
    await year.spy_opens(space, work)
    await year.sync(year.machine)
    assert (await kept_here(year.machine.agent))[work].sealed_key is not None
    substitute = await year.here.office.add_person("Mme Roy", "teacher", space.hex())
    laptop = await year.here.device("teacher", substitute, space.hex())
    for _ in range(3):
        await year.sync(laptop, year.machine)
    assert await _opens(laptop, work)
