"""Whom a work was meant for is what its author said with it, whatever a server holds back, or says what time it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Refused
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose, parsed
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation
from protocol.model.work import Receipt, Wraps
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import PersonRole, Role
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.handlers.by_kit.waiting import waiting_notices
from tests.harness.attack import attack
from tests.harness.classroom import WORK, keeps_key_of
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.territory import new_device
from tests.harness.year_at_work import Year

ROW = "work that nobody has opened is counted as opened"
HELD_BACK = "what a PC sealed is held back, and the work is not"


def _by_date(author: bytes, wraps: Iterable[Entry]) -> frozenset[bytes]:
    by_author = [entry for entry in wraps if entry.header.author == author]
    first = min(by_author, key=lambda entry: (entry.header.at, entry.id), default=None)
    record = None if first is None else parsed(first, Wraps.parse)
    return frozenset() if record is None else frozenset(reader for reader, _ in record.wraps)


def _all_that_it_ever_said(_roster: Roster, own: Iterable[Entry], _grant: bytes | None = None) -> list[Entry]:
    return list(own)


def _anybody(_said: Iterable[Entry], door: Door) -> frozenset[Device]:
    return frozenset(each.pair for each in door.authorities())


NOTHING_IS_SAID_AGAIN = {"sync_agent.hand_ins.wraps._said": _all_that_it_ever_said}
OF_WHAT_IS_SHOWN_THE_EARLIEST = {
    "protocol.folds.coursework.came_with_its_work": lambda _entry: False,
    "protocol.folds.coursework.first_readers": _by_date,
    "protocol.folds.hand_in_keys._says_for_whom": lambda _work: True,
    "protocol.replica.office.opened.first_here": _anybody,
}


class Thief:
    """Whoever has the server, and a device of their own, as which they name M. X."""

    def __init__(self, year: Year) -> None:
        self._year = year
        self._spy = new_device(Random(666).randbytes)
        self._person = b""
        self._grant = b""

    async def hold_back_what_came_after(self, work: bytes) -> None:
        """Cut the pupils' PC off as of when it had said the hand-in and nothing more, and let it in again."""
        pc, here = self._year.machine.agent, self._year.here
        server, space = here.office.server, here.space
        cut = Revocation(pc.device, (work,)).encode()
        (revocation,) = await server.write([Draft(space, Kind.REVOKE, server.grant, cut)])
        was = server.replica.door.authorities_of(pc.device)[0]
        again = Grant(was.key, was.agreement, was.tls_sha256, Role.MACHINE, None, None, None).encode()
        await server.write([Draft(space, Kind.GRANT, server.grant, again, parents=(revocation.id,))])
        view = await server.replica.view(space)
        assert work in view.coursework.hand_ins
        assert not view.coursework.hand_ins[work].readers

    async def name_x(self) -> None:
        here, keys = self._year.here, self._spy
        server = here.office.server
        self._person = bytes.fromhex(await here.office.add_person("M. X", PersonRole.TEACHER))
        given = Grant(
            keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, self._person, None, None
        )
        self._grant = (await server.write([Draft(here.space, Kind.GRANT, server.grant, given.encode())]))[0].id
        await self._say(Kind.PERSON_KEY, PersonKey(keys.agreement.public).encode(), self._person)

    async def says_opened(self, work: bytes) -> None:
        server = self._year.here.office.server
        stream = (await server.replica.view(self._year.here.space)).coursework.hand_ins[work].record.content.stream
        await self._say(Kind.RECEIPT_TEACHER, Receipt(stream).encode(), bytes.fromhex(self._year.pupil), work)

    async def _say(self, kind: Kind, payload: bytes, subject: bytes, target: bytes | None = None) -> None:
        office = self._year.here.office
        one = compose(
            author=self._spy.signing,
            space=self._year.here.space,
            kind=kind,
            grant=self._grant,
            at=(office.clock() << 16) + kind,
            payload=payload,
            salt=bytes(SALT_BYTES),
            subject=subject,
            target=target,
        )
        admission = await office.server.replica.admit([one], source=b"any computer", now_ms=office.clock())
        assert admission.admitted


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[Year]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Year(here, *at_work, tmp_path)


async def _is_not_closed(year: Year) -> None:
    told = await year.do("space close", space=year.here.office.space)
    assert (told["hand_ins"], told["unopened"], told["hidden"]) == (1, 1, 0)
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space)


@attack(ROW, off={**OF_WHAT_IS_SHOWN_THE_EARLIEST, **NOTHING_IS_SAID_AGAIN})
async def test_a_class_is_not_closed_with_work_of_which_the_server_holds_the_first_wrap_back(year: Year) -> None:
    work = await year.here.work(year.machine, year.item, year.pupil)
    await year.here.sync(year.machine)
    thief = Thief(year)
    await thief.hold_back_what_came_after(work)
    await year.here.sync(year.machine)
    year.here.office.clock.advance(60_000)
    await thief.name_x()
    await year.here.sync(year.machine, year.teacher, year.machine)
    await thief.says_opened(work)
    await _is_not_closed(year)


@attack(ROW, off=OF_WHAT_IS_SHOWN_THE_EARLIEST)
async def test_nor_where_its_pc_has_been_away_since(year: Year) -> None:
    work = await year.here.work(year.machine, year.item, year.pupil)
    await year.here.sync(year.machine)
    thief = Thief(year)
    await thief.hold_back_what_came_after(work)
    await thief.name_x()
    await thief.says_opened(work)
    await _is_not_closed(year)


@attack(
    ROW,
    off={
        "protocol.folds.hand_in_keys._says_for_whom": lambda _work: True,
        "protocol.replica.office.opened.first_here": _anybody,
    },
)
async def test_nor_with_work_of_which_the_hand_in_alone_has_come(year: Year) -> None:
    work = await year.here.work(year.machine, year.item, year.pupil)
    (entry,) = (await year.machine.agent.replica.store.get([work])).values()
    office, thief = year.here.office, Thief(year)
    assert (await office.server.replica.admit([entry], source=b"any computer", now_ms=office.clock())).admitted
    await thief.name_x()
    await thief.says_opened(work)
    await _is_not_closed(year)


async def _handed_in_three_days_ahead(year: Year) -> bytes:
    """While the server says another time, and shows an entry of then; later it says the right one again."""
    here: Town = year.here
    server, clock = here.office.server, here.office.clock
    right = server.responder._now_ms
    server.responder._now_ms = lambda: clock() + 3 * DAY_MS
    of_then = compose(
        author=server.keys.signing,
        space=here.space,
        kind=Kind.PERSON,
        grant=server.grant,
        at=(clock() + 3 * DAY_MS) << 16,
        payload=PersonRecord("Tom", PersonRole.PUPIL).encode(),
        salt=bytes(SALT_BYTES),
        subject=b"t" * 16,
    )
    await here.sync(year.machine)
    assert (await server.replica.admit([of_then], source=b"any computer", now_ms=clock())).admitted
    await here.sync(year.machine)
    work = await here.work(year.machine, year.item, year.pupil)
    await here.sync(year.machine)
    server.responder._now_ms = right
    clock.advance(600_000)
    await here.sync(year.machine)
    return work


@attack(ROW, off=OF_WHAT_IS_SHOWN_THE_EARLIEST)
async def test_nor_where_the_server_said_another_time_when_it_was_handed_in(year: Year) -> None:
    work = await _handed_in_three_days_ahead(year)
    thief = Thief(year)
    await thief.name_x()
    await year.here.sync(year.machine, year.teacher, year.machine)
    seen = (await year.here.office.server.replica.view(year.here.space)).coursework.hand_ins[work]
    assert seen.at_ms > year.here.office.clock() + 2 * DAY_MS
    await thief.says_opened(work)
    await _is_not_closed(year)


@attack(ROW, off=OF_WHAT_IS_SHOWN_THE_EARLIEST)
async def test_nor_does_that_keep_her_own_receipt_from_counting(year: Year) -> None:
    work = await _handed_in_three_days_ahead(year)
    await Thief(year).name_x()
    await year.here.sync(year.machine, year.teacher)
    await Desk(year.teacher.agent).ask("confirm-opened", id=work.hex())
    await year.here.sync(year.teacher, year.machine)
    assert (await year.do("space close", space=year.here.office.space))["unopened"] == 0
    assert not await keeps_key_of(year.machine, work)


async def _no_wrap(*_: object) -> Callable[[Entry], bool]:
    return lambda entry: entry.header.kind != Kind.WRAP


async def _opens(year: Year, work: bytes) -> bool:
    try:
        return await Desk(year.teacher.agent).files("open-hand-in", id=work.hex()) == WORK
    except Refused:
        return False


async def _waits(year: Year) -> list[dict[str, Any]]:
    return [row for row in await year.do("waiting") if row["kind"] == "wrap"]


@attack(HELD_BACK, off=NOTHING_IS_SAID_AGAIN)
async def test_what_a_pc_sealed_it_seals_again_once_the_server_holds_that_back(year: Year) -> None:
    work = await year.here.work(year.machine, year.item, year.pupil)
    await year.here.sync(year.machine)
    thief = Thief(year)
    await thief.hold_back_what_came_after(work)
    await thief.name_x()
    await year.here.sync(year.machine, year.teacher, year.machine)
    await thief.says_opened(work)
    for _ in range(8):
        year.here.office.clock.advance(DAY_MS)
        await destroy_erased(year.machine.agent)
        await year.here.sync(year.machine)
    assert await keeps_key_of(year.machine, work)
    said = await year.machine.agent.replica.store.of_kinds(year.here.space, [Kind.WRAP])
    assert len(said) == 2, "once under each grant"
    await year.here.sync(year.teacher)
    assert await _opens(year, work)
    assert await _waits(year) == []


@attack(HELD_BACK, off=NOTHING_IS_SAID_AGAIN)
async def test_no_key_is_let_go_of_before_that(year: Year) -> None:
    work = await year.here.work(year.machine, year.item, year.pupil)
    await year.here.sync(year.machine, year.teacher)
    await Desk(year.teacher.agent).ask("confirm-opened", id=work.hex())
    await year.here.sync(year.teacher)
    await Thief(year).hold_back_what_came_after(work)
    await year.here.sync(year.machine, year.machine)
    assert not await keeps_key_of(year.machine, work)
    server = year.here.office.server.replica
    (kit,) = await recovery_keys(server)
    assert kit in (await server.view(year.here.space)).coursework.hand_ins[work].readers
    (row,) = await _waits(year)
    assert await year.do("accept", named=[row["id"]]) == {"accepted": 1}
    await year.here.sync(year.teacher)
    assert await _opens(year, work), "and what it was sealed to before, once somebody has accepted that"


@attack(HELD_BACK, off={"sync_server.handlers.by_kit.waiting._waits_by_itself": _no_wrap})
async def test_what_a_pc_sealed_that_does_not_come_back_waits_for_a_word(year: Year) -> None:
    work = await year.here.work(year.machine, year.item, year.pupil)
    await year.here.sync(year.machine)
    await Thief(year).hold_back_what_came_after(work)
    await year.here.sync(year.teacher)
    assert not await _opens(year, work)
    rows = await _waits(year)
    assert [(row["name"], row["title"]) for row in rows] == [("Léa", "Racontez")]
    (notice,) = await waiting_notices(year.here.office.server)
    assert (notice.topic, notice.facts["count"]) == ("words-waiting", 1)
    assert await year.do("accept", named=[rows[0]["id"]]) == {"accepted": 1}
    await year.here.sync(year.teacher)
    assert await _opens(year, work)
    assert await _waits(year) == []
    assert await waiting_notices(year.here.office.server) == []
