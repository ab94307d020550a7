"""Who was found after a theft at the server, and goes on saying things (docs/adr/0469, docs/adr/0470)."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Refused
from protocol.identity import AgreementKey, DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonKey, PersonRecord, Revocation
from protocol.model.work import Feedback, Wraps
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.whose_words import signatures
from protocol.replica.office.withdrawals import revoke_device
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.trust.person_keys import KeyWraps, seal_reading_key
from sync_agent.hand_ins.wraps import kept_here
from sync_agent.keys.confirming import confirm, list_readers, own_device
from sync_agent.keys.past_readers import list_past_readers
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server
from tests.attacks.test_after_a_theft import say
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.next_year import NextYear
from tests.harness.portfolios import remarks_in
from tests.harness.territory import new_device

GIVEN = "a server takes away what shows that a lost laptop was given a key"
CLOSED = "work that was opened is given to whoever is named later"
BY_NEED = "whose voice goes on by need says something in the place of a teacher's words"
COULD_READ = "a reader of an hour"
NAMED = "somebody of a stolen key's has a teacher's name"
WORDS = "Copié sur le voisin."
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


async def _comes_back(year: NextYear, cut: Entry) -> None:
    """Her laptop is let in again, as the copied key says."""
    back = granted(year.teacher.agent.keys, Role.TEACHER, year.person)
    await year.thief_says(year.here.space, Kind.GRANT, back, parents=(cut.id,))
    await year.sync()


class _Hers:
    """A device of the thief's that a grant calls Mme Petit's."""

    def __init__(self, year: NextYear, keys: DeviceKeys) -> None:
        self.year, self.keys, self.grant, self.said = year, keys, b"", 0

    async def is_met(self, instead_of: bytes, by: Device | None = None) -> Entry:
        """All that is left of hers for a minute, in which the PC syncs, or another computer."""
        year, space = self.year, self.year.here.space
        given = await year.thief_says(space, Kind.GRANT, granted(self.keys, Role.TEACHER, year.person))
        self.grant = given.id
        await self.says(Kind.PERSON_KEY, PersonKey(self.keys.agreement.public).encode())
        return await self.instead_of(instead_of, by)

    async def instead_of(self, device: bytes, by: Device | None = None) -> Entry:
        """Such a minute, once this one has said a reading key."""
        year, space = self.year, self.year.here.space
        tips = tuple(await year.server.tips(space, device))
        cut = await year.thief_says(space, Kind.REVOKE, Revocation(device, tips).encode())
        for _ in range(2):
            await (by or year.machine).session.sync()
            year.here.office.clock.advance(60_000)
        return cut

    async def says(self, kind: Kind, payload: bytes, *, about: str | None = None, target: bytes | None = None) -> None:
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
            subject=bytes.fromhex(about or year.person),
            target=target,
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
    await _comes_back(year, cut)
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


_FIRST: dict[str, object] = {"protocol.rights.roster._undone_by_root": lambda *_: frozenset()}
_SAID_ON: dict[str, object] = {"protocol.rights.spent_keys._is_nobodys_word": lambda **_: False}


@_WAYS
@attack(GIVEN, off=_FIRST | _SAID_ON)
async def test_devices_that_a_pc_met_as_hers_and_that_were_found_spend_no_key_of_hers(
    year: NextYear, tmp_path: Path, way: str
) -> None:
    assert not await _her_key_is_spent(year, tmp_path, way, new_device(Random(1).randbytes))


@attack(GIVEN, off=_FIRST)
async def test_nor_does_a_pc_of_the_schools_that_went_as_hers_and_that_nobody_found(
    year: NextYear, tmp_path: Path
) -> None:
    stolen = await year.here.device("machine")
    await year.sync()
    year.here.devices.remove(stolen)
    await stolen.agent.close()
    assert not await _her_key_is_spent(year, tmp_path, "kit", stolen.agent.keys, is_one_found=False)


async def _x_is_found_after_a_week(year: NextYear, folder: Path) -> None:
    space, since_ms = year.here.space, await _before(year)
    await year.thief_says(space, Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), subject=X)
    await year.spy_comes(space, dated_days_ago=0, person=X)
    await year.sync()
    for _ in range(9):
        await year.here.days_pass(1)
        await note_arrivals(year.here.office.server.store, year.here.office.clock())
    await year.sync()
    await _is_found(year, folder, "kit", since_ms, year.spy.signing.public)


async def _opens(laptop: Device, work: bytes) -> bool:
    try:
        return bool(await Desk(laptop.agent).files("open-hand-in", id=work.hex()))
    except Refused:
        return False


@attack(CLOSED, off={"sync_agent.hand_ins.heard_opened._authors": lambda receipts, _: set(receipts.values())})
async def test_who_came_with_a_stolen_key_closes_no_work_once_the_kit_has_said_since_when(
    year: NextYear, tmp_path: Path
) -> None:
    space = year.here.space
    await _x_is_found_after_a_week(year, tmp_path)
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


def _with_all_that_it_said(server: Server, device: bytes, *, since_ms: int | None, **how: object) -> Awaitable[object]:
    lets_in = any(each.role in (Role.HEAD, Role.ADMIN) for each in server.replica.door.authorities_of(device))
    return revoke_device(server, device, since_ms=since_ms if lets_in else None, **how)  # type: ignore[arg-type]


@attack(NAMED, off={"sync_server.handlers.by_kit.newcomers.revoke_device": _with_all_that_it_said})
async def test_what_a_device_said_that_came_by_a_copied_keys_code_at_a_heads_computer_is_not_hers_once_that_is_replaced(
    year: NextYear, tmp_path: Path
) -> None:
    here, space = year.here, year.here.space
    head = await here.head_of_the_school()
    await year.sync()
    work, since_ms = await year.hand_in(space), await _before(year)
    await here.office.invite("teacher", space.hex(), person=year.person)
    (*_, code) = await here.office.server.store.scan_kinds([Kind.INVITE])
    await year.sync(head)
    given = granted(year.spy, Role.TEACHER, year.person, code=code.id)
    await say(here, head, Draft(space, Kind.GRANT, None, given))
    one = _Hers(year, year.spy)
    (one.grant,) = [each.grant for each in year.server.door.authorities_of(year.spy.signing.public)]
    await one.says(Kind.PERSON_KEY, PersonKey(year.spy.agreement.public).encode())
    cut = await one.instead_of(year.teacher.agent.device)
    false = Feedback(WORDS, "0/20", redo=False, content=None).encode()
    await one.says(Kind.FEEDBACK, false, about=year.pupil, target=work)
    await year.machine.session.sync()
    await _comes_back(year, cut)
    await _is_found(year, tmp_path, "kit", since_ms)
    for replica in (year.server, year.machine.agent.replica, year.teacher.agent.replica):
        assert not (await replica.view(space)).coursework.hand_ins[work].remarks


async def _colleague(year: NextYear) -> Device:
    """M. Durand, who teaches the class as well."""
    durand = await year.here.office.add_person("M. Durand", "teacher", year.here.space.hex())
    laptop = await year.here.device("teacher", durand, year.here.space.hex())
    for _ in range(2):
        await year.sync()
    return laptop


@attack(BY_NEED, off=_FIRST)
async def test_what_a_device_says_that_a_colleagues_laptop_met_as_hers_is_hers_in_no_portfolio_once_it_was_found(
    year: NextYear, tmp_path: Path
) -> None:
    colleague = await _colleague(year)
    await confirm(
        colleague.agent,
        device_id(own_device(year.teacher.agent)),
        shown_as="other",
        person=bytes.fromhex(year.person),
    )
    work = await year.hand_in(year.here.space)
    await year.opens(work)
    since_ms, one = await _before(year), _Hers(year, new_device(Random(1).randbytes))
    await _comes_back(year, await one.is_met(instead_of=year.teacher.agent.device, by=colleague))
    await _is_found(year, tmp_path, "kit", since_ms, one.keys.signing.public)
    said = Feedback(WORDS, "0/20", redo=False, content=None).encode()
    await one.says(Kind.FEEDBACK, said, about=year.pupil, target=work)
    await year.sync()
    files = await Desk(colleague.agent).files("portfolio", space=year.here.space.hex(), hidden_too=True)
    assert files
    assert not [name for name, text in remarks_in(files).items() if WORDS in text]


@attack(COULD_READ, off={"sync_agent.keys.past_readers._is_undone": lambda *_: False})
async def test_nor_does_somebody_whom_a_laptop_knows_name_a_colleague_as_a_reader_once_the_kit_has_cut_him_off(
    year: NextYear, tmp_path: Path
) -> None:
    space, colleague = year.here.space, await _colleague(year)
    his = colleague.agent.reading_keys.newest_of(space)
    assert his is not None
    (durand,) = [each.person for each in colleague.agent.replica.door.authorities_of(colleague.agent.device)]
    assert durand is not None
    await year.here.office.do("person retire", person=durand.hex())
    year.here.devices.remove(colleague)
    await colleague.close()
    await year.sync()
    await _x_is_found_after_a_week(year, tmp_path)
    work = await year.hand_in(space)
    readers = (await year.server.view(space)).coursework.hand_ins[work].readers
    false = Wraps(((his.public, next(iter(readers.values()))[0]),)).encode()
    await year.spy_says(space, Kind.WRAP, false, year.pupil, target=work)
    await year.sync()
    told = await list_past_readers(year.teacher.agent, await list_readers(year.teacher.agent))
    assert "M. Durand" not in [each.called for each in told]


async def _nothing(*_: object) -> set[bytes]:
    return set()


@attack(NAMED, off={"protocol.replica.office.called_here._undone_by_root": _nothing})
async def test_whom_a_key_lists_after_it_was_replaced_takes_no_name_from_who_comes_to_the_school(
    year: NextYear, tmp_path: Path
) -> None:
    since_ms, office, space = await _before(year), year.here.office, year.here.space
    old, grant = office.server.keys.signing, office.server.grant
    await _is_found(year, tmp_path, "kit", since_ms)
    record = PersonRecord("Mme Roy", PersonRole.TEACHER).encode()
    false = compose(
        author=old,
        space=space,
        kind=Kind.PERSON,
        grant=grant,
        at=office.clock() << 16,
        payload=record,
        salt=bytes(16),
        subject=bytes.fromhex(X),
    )
    assert (await year.server.admit([false], source=b"a PC", now_ms=office.clock())).admitted
    await year.sync()
    roy = bytes.fromhex(await office.add_person("Mme Roy", "teacher", space.hex()))
    laptop = await year.here.device("teacher", roy.hex(), space.hex())
    await year.sync()
    for replica in (year.server, year.machine.agent.replica, laptop.agent.replica):
        roster = (await replica.view(space)).roster
        assert await signatures(replica, roster, [roy]) == {roy: "Mme Roy"}
    work = await year.hand_in(space)
    await Desk(laptop.agent).files("open-hand-in", id=work.hex())
    await Desk(laptop.agent).ask("confirm-opened", id=work.hex())
    await year.sync()
    assert (await office.do("space close", space=space.hex()))["unopened"] == 0
