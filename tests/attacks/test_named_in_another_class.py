"""Whoever has the server names what is a class's own in a class of theirs, or in the school (docs/adr/0450).

An id is the hash of a header, which names its space: what bears that id is there, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, SpaceRecord
from protocol.model.work import Receipt
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.harness.attack import attack
from tests.harness.before_her import comes, somebody
from tests.harness.classroom import keeps_key_of
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted, thief_hides
from tests.harness.next_year import NextYear
from tests.harness.portal import portal

ROW = "what is a class's own is named in another one"
OFF = {"protocol.folds.coursework._begins_here": lambda *_: True}
X = somebody(1)


@dataclass
class Beside:
    """Mme Petit's assignment, and a class of the copied key's beside hers, with the same PC, pupil, and M. X."""

    year: NextYear
    item: bytes
    space: bytes

    async def handed_in(self) -> bytes:
        """Léa's work for it, by the page of the assignment."""
        page = f"/item/{self.item.hex()}"
        async with portal(self.year.machine.agent) as surfer:
            sent = await surfer.send(page, f"{page}/hand-in", {"person": self.year.pupil}, [("a.odt", b"secret")])
            assert sent.status == 303
        await self.year.sync()
        return bytes.fromhex(sent.headers["Location"].removeprefix("/work/").partition("?")[0])

    async def is_read_by_x(self, work: bytes) -> bool:
        found = (await self.year.server.view(self.space)).coursework.hand_ins.get(work)
        return found is not None and content_key_of(found, {X.keys.agreement.public: X.keys.agreement}) is not None


@pytest.fixture
async def beside(year: NextYear) -> Beside:
    """Its id, a hash, is made until it is the first that a PC looks into."""
    hers = year.here.space
    item = await year.here.asks_for_work(year.teacher, hers)
    await year.sync()
    number, own = 0, hers
    while own >= hers:
        number += 1
        made = SpaceRecord(f"CM2 {number}", year="2026-2027").encode()
        own = (await year.thief_says(year.here.school, Kind.SPACE, made)).id
    await year.thief_says(own, Kind.GRANT, granted(year.machine.agent.keys, Role.MACHINE, None))
    await year.thief_says(own, Kind.PERSON, PersonRecord("Léa", PersonRole.PUPIL).encode(), subject=year.pupil)
    await comes(year, own, X)
    await year.sync()
    return Beside(year, item, own)


async def _says_it_again(beside: Beside, space: bytes) -> None:
    year = beside.year
    said = (await year.server.view(year.here.space)).coursework.items[beside.item].shown.record
    await year.thief_says(space, Kind.REVISION, said.encode(), target=beside.item)
    await year.sync()


@attack(ROW, off=OFF)
async def test_what_a_pupil_hands_in_for_her_assignment_is_hers_whatever_class_says_it_again(beside: Beside) -> None:
    await _says_it_again(beside, beside.space)
    work = await beside.handed_in()
    assert not await beside.is_read_by_x(work)
    listed = await Desk(beside.year.teacher.agent).ask("hand-ins", item=beside.item.hex())
    assert [row["id"] for row in listed] == [work.hex()]


@attack(ROW, off=OFF)
async def test_nor_does_one_who_says_it_in_the_school_keep_her_class_from_it(beside: Beside) -> None:
    year, hers = beside.year, beside.year.here.space
    await _says_it_again(beside, year.here.school)
    listed = await Desk(year.machine.agent).ask("items")
    assert {row["space"] for row in listed if row["item"] == beside.item.hex()} == {hers.hex()}
    work = await beside.handed_in()
    await Desk(year.teacher.agent).ask("withdraw", item=beside.item.hex())
    shown = (await year.teacher.agent.replica.view(hers)).coursework
    assert work in shown.hand_ins
    assert shown.items[beside.item].withdrawn


async def _whoever_says_so(*_: object) -> bool:
    return True


@attack(ROW, off={"sync_agent.hand_ins.wraps.has_heard_opened": _whoever_says_so})
async def test_who_says_of_it_elsewhere_that_it_was_opened_lets_go_of_no_key_while_it_is_hidden(
    beside: Beside,
) -> None:
    year = beside.year
    work = await beside.handed_in()
    stream = (await year.server.view(year.here.space)).coursework.hand_ins[work].record.content.stream
    await year.spy_says(beside.space, Kind.RECEIPT_TEACHER, Receipt(stream).encode(), year.pupil, target=work)
    await thief_hides(year.here, work)
    await year.sync(year.machine)
    await tend_hand_ins(year.machine.agent)
    assert await keeps_key_of(year.machine, work)
