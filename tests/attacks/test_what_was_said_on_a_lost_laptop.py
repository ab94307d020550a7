"""What a teacher had said on a laptop that was lost, or that a copied key says was, is hers at the server.

docs/adr/0413.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from protocol.errors import RelaisError
from protocol.model.entry import Kind
from protocol.model.structure import Grant, SpaceRecord
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.vouching import Device as Pair
from sync_agent.hand_ins.handing_in import confirm_opened
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Given
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear
from tests.harness.portal import words_in

ROW = "what a teacher said on a laptop that was lost, or that a copied key says was, is nobody's at the server"
HERS = "Correction de Mme Petit : 18/20 Très bien raconté"


def _the_latest_alone(known: Sequence[Pair], _: object) -> tuple[Pair, ...]:
    return tuple(known[-1:])


OFF: dict[str, object] = {"protocol.replica.office.servers_memory._there": _the_latest_alone}


class Answered:
    """A class in which Mme Petit has opened and answered a pupil's work on the laptop that she uses."""

    def __init__(self, year: NextYear, work: bytes) -> None:
        self.year, self.work = year, work

    async def is_cut_off_for_a_minute(self) -> None:
        """With all that it has said, so that nothing is hidden, and let in again in the same breath."""
        office, space, laptop = self.year.here.office, self.year.here.space, self.year.teacher.agent.device
        cut = await self.year.thief_cuts_her_off(space, *await office.server.replica.tips(space, laptop))
        held = office.server.replica.door.authorities_of(laptop)[0]
        again = Grant(held.key, held.agreement, held.tls_sha256, held.role, held.person, None)
        await self.year.thief_says(space, Kind.GRANT, again.encode(), parents=(cut.id,))
        await self.year.sync()

    async def is_cut_off(self) -> None:
        await self.year.thief_cuts_her_off(self.year.here.space)

    async def is_cut_off_where_it_never_was(self) -> None:
        record = SpaceRecord("X", year="2026-2027").encode()
        made = await self.year.thief_says(self.year.here.school, Kind.SPACE, record)
        await self.year.thief_cuts_her_off(made.id)
        await self.year.sync()

    async def kit_says_what_a_thief_said(self) -> None:
        """What is documented once somebody was in the server."""
        office = self.year.here.office
        await office.with_kit("rotate server", kit_in(self.year.here.folder / "server" / "kit", None), since="20h")
        for device in self.year.here.devices * 3:
            with suppress(RelaisError):  # the first call after that tells of the other key
                await self.year.sync(device)

    async def archive(self) -> str:
        """What the honest server writes for the pupil's family."""
        return words_in(await self.year.archive())

    async def marks(self) -> list[str | None]:
        work = (await self.year.server.view(self.year.here.space)).coursework.hand_ins[self.work]
        return [note.record.mark for note in work.remarks]


@pytest.fixture
async def answered(year: NextYear) -> Answered:
    work = await year.hand_in(year.here.space)
    await confirm_opened(year.teacher.agent, work)
    await year.answers(work)
    return Answered(year, work)


@attack(ROW, off=OFF)
async def test_what_she_said_on_a_laptop_that_was_lost_is_in_a_familys_archive(answered: Answered) -> None:
    year = answered.year
    await year.here.office.do("lost", device=year.teacher.agent.device.hex())
    await year.sync(await year.here.device("teacher", year.person), year.machine)
    assert HERS in await answered.archive()


@attack(ROW, off=OFF)
async def test_so_it_is_where_a_copied_key_cut_it_off_for_a_minute_and_she_has_another(answered: Answered) -> None:
    await answered.year.second_laptop(confirmed=False)
    await answered.is_cut_off_for_a_minute()
    assert HERS in await answered.archive()


@attack(ROW, off=OFF)
async def test_what_she_opened_on_it_is_counted_as_opened(answered: Answered) -> None:
    year = answered.year
    await year.second_laptop(confirmed=False)
    await answered.is_cut_off_for_a_minute()
    closing = await year.here.office.do("space close", space=year.here.space.hex())
    assert closing["unopened"] == 0


@attack(ROW, off=OFF)
async def test_nor_is_what_she_says_after_the_remedy_nobodys(answered: Answered) -> None:
    year = answered.year
    await year.second_laptop(confirmed=False)
    await note_arrivals(year.here.office.server.store, year.here.office.clock())
    year.pass_days(1)
    await answered.is_cut_off_for_a_minute()
    await answered.kit_says_what_a_thief_said()
    desk = Desk(year.teacher.agent)
    await desk.ask("feedback", Given({}), id=answered.work.hex(), text="Relu", mark="17/20", redo=False)
    await year.sync()
    assert await answered.marks() == ["17/20"]


@attack(ROW, off=OFF)
async def test_nor_does_a_word_about_a_space_where_she_never_was_take_it_from_her(answered: Answered) -> None:
    await answered.year.second_laptop(confirmed=False)
    await answered.is_cut_off_where_it_never_was()
    assert HERS in await answered.archive()


@attack(ROW, off=OFF)
async def test_an_archive_has_it_as_hers_also_in_the_hour_in_which_it_is_hidden(answered: Answered) -> None:
    await answered.year.second_laptop(confirmed=False)
    await answered.is_cut_off()
    assert HERS in await answered.archive()
