"""Among a thief's erasures are some of people who were forgotten honestly, long before (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import Role
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a decoy is among a thief's erasures"


def _all_of_them(known: Collection[object], **_: object) -> list[object]:
    """What is taken back, as it was while `unerase` looked at the name alone."""
    return list(known)


async def _by_no_other(*_: object) -> object:
    """What `waiting` made of whom another erasure covers."""
    return lambda *_: False


class Thieving:
    """A class at work whose server's key somebody has as well."""

    def __init__(self, year: Year) -> None:
        self.year, self.here, self.clock = year, year.here, year.here.office.clock
        self.devices = (year.teacher, year.machine)
        self.stolen_ms = 0

    async def is_stolen(self) -> None:
        """From here on only the thief has something to say with the key."""
        await note_arrivals(self.here.office.server.store, self.clock())
        self.stolen_ms = self.clock()
        self.clock.advance(3_600_000)

    async def says(self, *covered: bytes) -> None:
        server = self.here.office.server
        given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
        for number, covers in enumerate(covered):
            said = compose(
                author=server.keys.signing,
                space=server.replica.territory,
                kind=Kind.ERASE,
                grant=given,
                at=(self.clock() << 16) + number,
                payload=Erasure(covers).encode(),
                salt=bytes(16),
            )
            assert (await server.replica.admit([said], source=b"a PC", now_ms=self.clock())).admitted
        await self.here.sync(*self.devices)

    async def days(self, count: int) -> None:
        server = self.here.office.server
        for _ in range(count):
            for device in self.devices:
                await destroy_erased(device.agent)
            await Eraser(server.replica, server.holdings).sweep(self.clock())
            await note_arrivals(server.store, self.clock())
            self.clock.advance(DAY_MS)

    async def found_out(self) -> None:
        ago_s = (self.clock() - self.stolen_ms) // 1000 - 60
        await self.year.with_kit("rotate server", since=f"{ago_s}s")
        await self.here.sync(*self.devices)

    async def names(self) -> set[str]:
        return set().union(*[await self.year.names(device) for device in self.devices])


@pytest.fixture
async def thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


async def _tom(thieving: Thieving) -> str:
    tom = await thieving.here.office.add_person("Tom", "pupil")
    await thieving.here.sync(*thieving.devices)
    return tom


@attack(ROW, off={"protocol.replica.office.taking_back._in_question": _all_of_them})
async def test_who_takes_all_of_a_thiefs_erasures_back_brings_nobody_back_who_was_forgotten_before(
    thieving: Thieving,
) -> None:
    year, (lea, tom) = thieving.year, (thieving.year.pupil, await _tom(thieving))
    await year.work(opened=False)
    off = await thieving.here.device("machine")  # a PC that goes into a cupboard now, or a backup
    await thieving.here.sync(off)
    await year.do("erase", person=[lea])
    await thieving.here.sync(*thieving.devices)
    await thieving.days(30)
    await thieving.is_stolen()
    await thieving.says(bytes.fromhex(tom), bytes.fromhex(lea))
    await thieving.days(9)
    await thieving.found_out()
    for one in (tom, lea):
        await year.with_kit("unerase", covers=one, destroyed_too=True)
    for _ in range(2):
        await thieving.here.sync(*thieving.devices, off)
    assert await thieving.names() == {"Mme Petit", "Tom"}


@attack(ROW, off={"sync_server.handlers.by_kit.waiting.erased_besides": _by_no_other})
async def test_what_waits_names_nobody_who_is_forgotten_whatever_is_said_of_it(thieving: Thieving) -> None:
    lea, tom = thieving.year.pupil, await _tom(thieving)
    await thieving.year.do("erase", person=[lea])
    await thieving.here.sync(*thieving.devices)
    await thieving.days(9)
    await thieving.is_stolen()
    await thieving.says(bytes.fromhex(lea), bytes.fromhex(tom))
    await thieving.found_out()
    waiting = [(row["person"], row["name"]) for row in await thieving.year.do("waiting") if row["kind"] == "erase"]
    assert waiting == [(tom, "Tom")]


@attack(ROW, off={"protocol.replica.office.taking_back._in_question": _all_of_them})
@pytest.mark.parametrize("is_found_out", [False, True])
async def test_within_the_week_a_thiefs_erasure_takes_none_back_that_an_office_has_said_of_the_same_name(
    thieving: Thieving, *, is_found_out: bool
) -> None:
    lea = thieving.year.pupil
    await thieving.year.do("erase", person=[lea])
    await thieving.days(2)
    await thieving.is_stolen()
    await thieving.says(bytes.fromhex(lea))
    if is_found_out:
        await thieving.found_out()
    with suppress(BadInput):
        await thieving.year.do("unerase", covers=lea)
    await thieving.here.sync(*thieving.devices)
    assert "Léa" not in await thieving.names()


@attack(
    ROW,
    off={
        "protocol.replica.office.taking_back._in_question": _all_of_them,
        "sync_server.kit.taking_back.TakingBack._check_own": lambda *_: None,
    },
)
async def test_a_class_that_the_kit_has_closed_stays_closed_where_a_thief_erases_it_once_more(
    thieving: Thieving,
) -> None:
    space = thieving.here.space
    await thieving.year.with_kit("space close", space=space.hex(), unopened_too=True, unheard_too=True)
    await thieving.days(2)
    await thieving.is_stolen()
    await thieving.says(space)
    await thieving.found_out()
    await thieving.year.with_kit("unerase", covers=space.hex())
    assert space in (await thieving.here.office.server.replica.view(space)).roster.erased


async def test_what_counts_is_taken_back_by_the_kit_once_somebody_was_told_dates_and_whose_word_it_is(
    thieving: Thieving,
) -> None:
    year, lea = thieving.year, thieving.year.pupil
    await year.do("erase", person=[lea])
    await thieving.days(9)
    with pytest.raises(
        BadInput, match=r"forgotten by this server's key, dated .*: in question by nobody.*counting-too"
    ) as it:
        await year.with_kit("unerase", covers=lea, destroyed_too=True)
    assert it.value.code is Code.NOT_YET
    await thieving.is_stolen()
    await thieving.says(bytes.fromhex(lea))
    await thieving.found_out()
    done = await year.with_kit("unerase", covers=lea, destroyed_too=True)
    assert (done["taken_back"], len(done["left"])) == (1, 1)
    assert any("forgotten by another key of the server" in line for line in thieving.here.office.said.lines[-3:])
    await year.with_kit("unerase", covers=lea, counting_too=True, destroyed_too=True)
    await thieving.here.sync(*thieving.devices)
    assert bytes.fromhex(lea) not in (await thieving.here.office.server.replica.view(thieving.here.space)).roster.erased


async def test_a_mistake_of_ones_own_is_taken_back_within_the_week_by_its_name_alone(thieving: Thieving) -> None:
    lea = thieving.year.pupil
    await thieving.year.do("erase", person=[lea])
    assert await thieving.year.do("unerase", covers=lea) == {"covers": lea, "taken_back": 1, "left": []}
