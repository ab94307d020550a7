"""The kit's order to forget is signed twice, and one of them kept until the other was taken back.

docs/attacks.md, docs/adr/0324.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, PeerFault
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.door import Door
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.handlers.by_kit.territory import kit_in
from tests.attacks.test_the_kit_on_a_hostile_server import Thief
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.server_in_process import another_root
from tests.harness.year_at_work import Year

ROW = "the kit's order is signed twice, and one is kept until the other is taken back"


def _none_by_name(*_: object) -> list[bytes]:
    """What a ruling refused while it named erasures alone."""
    return []


class Kept:
    """A class at work, on whose server somebody keeps what the kit signs."""

    def __init__(self, here: Town, teacher: Device, machine: Device, year: Year, folder: Path) -> None:
        self.here, self.year, self.devices = here, year, (teacher, machine)
        self.server, self.clock = here.office.server, here.office.clock
        self.kit = kit_in(folder / "server" / "kit", None)

    @property
    def replicas(self) -> list[Any]:
        return [self.server.replica, *(device.agent.replica for device in self.devices)]

    async def closing(self, turn: int = 0) -> Draft:
        above = self.server.replica.door.parent(self.here.space)
        assert above is not None
        return Draft(above, Kind.ERASE, None, Erasure(self.here.space, turn).encode())

    async def signs_a_closing(self, turn: int = 0) -> Entry:
        """What `space close` signs on the thief's server, which answers that it failed."""
        thief = Thief(self.here, self.kit, "space close", **await self.typed())
        return await thief.has_signed_of_a_header(await self.closing(turn))

    async def typed(self) -> dict[str, str]:
        space = self.here.office.space
        return {"space": space, **await self.here.office.named_for("space close", {"space": space})}

    async def lets_out(self, *kept: Entry) -> None:
        for replica in self.replicas:
            assert len((await replica.admit(list(kept), source=b"x", now_ms=self.clock())).admitted) == len(kept)

    async def closes(self) -> None:
        await self.year.with_kit("space close", space=self.here.office.space)
        await self.here.sync(*self.devices)

    async def takes_back(self, **also: bool) -> int:
        told = await self.year.with_kit("unerase", covers=self.here.office.space, counting_too=True, **also)
        await self.here.sync(*self.devices)
        return int(told["taken_back"])

    async def days(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(DAY_MS)
            await Eraser(self.server.replica, self.server.holdings).sweep(self.clock())
            for device in self.devices:
                await destroy_erased(device.agent)
            await self.here.sync(*self.devices)

    async def has(self, work: str) -> list[bool]:
        views = [await replica.view(self.here.space) for replica in self.replicas]
        return [bytes.fromhex(work) in view.coursework.hand_ins for view in views]


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, person, pupil, item)):
        yield Kept(here, teacher, machine, Year(here, teacher, machine, person, pupil, item, tmp_path), tmp_path)


@attack(ROW, off={"sync_server.kit.errand.Once.is_first": lambda *_: True})
async def test_one_command_has_a_class_a_pupil_or_a_device_ended_once(kept: Kept) -> None:
    here, territory = kept.here, kept.server.replica.territory
    lea = await here.office.add_person("Léa", "pupil")
    device = kept.devices[0].agent.device
    for command, params, wish in (
        ("space close", await kept.typed(), await kept.closing()),
        ("erase", {"person": [lea], "named": ["Léa"]}, _in(territory, Kind.ERASE, Erasure(bytes.fromhex(lea)))),
        ("revoke", {"device": device.hex()}, _in(territory, Kind.REVOKE, Revocation(device, ()))),
        (
            "unerase",
            {"covers": lea, "named": "Léa", "unseen_too": True},
            _in(territory, Kind.RULING, Ruling((), (), bytes.fromhex(lea))),
        ),
    ):
        thief = Thief(here, kept.kit, command, **params)
        await thief.has_signed_of_a_header(wish)
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed_of_a_header(wish, ahead_ms=60_000)


def _in(space: bytes, kind: Kind, said: Erasure | Revocation | Ruling) -> Draft:
    return Draft(space, kind, None, said.encode())


@attack(ROW, off={"protocol.rights.erasures._refused_by_name": _none_by_name})
async def test_a_class_of_which_the_kit_took_the_closing_back_stays_whatever_else_it_had_signed(kept: Kept) -> None:
    work = await kept.year.work(opened=True)
    second = await kept.signs_a_closing()
    kept.clock.advance(60_000)
    await kept.closes()
    await kept.days(1)
    assert await kept.takes_back() == 1
    await kept.days(30)
    await kept.lets_out(second)
    await kept.days(10)
    assert await kept.has(work) == [True, True, True]
    await Desk(kept.devices[0].agent).files("open-hand-in", id=work)


@attack(ROW, off={"protocol.rights.erasures._refused_by_name": _none_by_name})
async def test_what_the_kit_may_have_signed_is_taken_back_on_a_server_that_has_seen_nothing_of_it(kept: Kept) -> None:
    work = await kept.year.work(opened=True)
    failed = [await kept.signs_a_closing() for _ in range(2)]
    with pytest.raises(BadInput, match="nothing that"):
        await kept.takes_back()
    assert await kept.takes_back(unseen_too=True) == 0
    failed.append(await kept.signs_a_closing(turn=1))
    assert await kept.takes_back(unseen_too=True) == 0
    await kept.lets_out(*failed)
    await kept.days(10)
    assert await kept.has(work) == [True, True, True]


def _any_turn(_entry: Entry, _evidence: object, _kit: object) -> None:
    """What the command signed if it did not look which turn it is."""


@attack(ROW, off={"sync_server.kit.forgetting._check_turn": _any_turn})
async def test_no_order_is_signed_as_one_that_comes_after_it_was_taken_back(kept: Kept) -> None:
    work = await kept.year.work(opened=True)
    try:
        ahead = [await kept.signs_a_closing(turn=1)]
    except PeerFault:
        ahead = []
    await kept.signs_a_closing()
    kept.clock.advance(60_000)
    await kept.closes()
    await kept.takes_back()
    await kept.lets_out(*ahead)
    await kept.days(10)
    assert await kept.has(work) == [True, True, True]


async def test_the_kit_closes_a_class_again_that_it_had_taken_back(kept: Kept) -> None:
    work = await kept.year.work(opened=True)
    for _ in range(3):
        kept.clock.advance(60_000)
        await kept.closes()
        assert await kept.has(work) == [False, False, False]
        kept.clock.advance(60_000)
        assert await kept.takes_back() >= 1
        assert await kept.has(work) == [True, True, True]
    kept.clock.advance(60_000)
    await kept.closes()
    await kept.days(9)
    for replica in kept.replicas:
        left = [one.entry for one in await replica.store.of_kinds(kept.here.space, [Kind.HAND_IN])]
        assert [entry.payload for entry in left] == [None]


def _every_turn(entry: Entry, ruling: Ruling, said: Collection[Any], door: Door, by_name: Any = None) -> list[bytes]:
    """What a ruling by name refused if it said nothing of turns."""
    del entry, door, by_name
    return [each.entry.id for each in said if each.erasure.covers == ruling.covers]


@attack(ROW, off={"protocol.rights.erasures._refused_by_name": _every_turn})
async def test_a_second_taking_back_that_was_kept_brings_nobody_back_who_is_forgotten_later(kept: Kept) -> None:
    work = await kept.year.work(opened=True)
    await kept.closes()
    typed = await kept.typed()
    thief = Thief(kept.here, kept.kit, "unerase", covers=typed["space"], named=typed["named"], counting_too=True)
    wish = _in(kept.server.replica.territory, Kind.RULING, Ruling((), (), kept.here.space))
    second = await thief.has_signed_of_a_header(wish)
    kept.clock.advance(60_000)
    await kept.takes_back()
    kept.clock.advance(60_000)
    await kept.closes()
    await kept.lets_out(second)
    assert await kept.has(work) == [False, False, False]


@attack(ROW, off={"sync_server.kit.taking_back.TakingBack._check_by_name": lambda *_: None})
async def test_the_kit_takes_back_by_name_what_was_typed_and_in_no_turn_that_nobody_has_shown(kept: Kept) -> None:
    here, space = kept.here, kept.here.space
    territory, school = kept.server.replica.territory, kept.here.school
    for asked, place, said in (
        ("unseen_too", territory, Ruling((), (), os.urandom(32))),
        ("unseen_too", territory, Ruling((), (), space, turn=1)),
        ("unseen_too", territory, Ruling((), (os.urandom(32),), space)),
        ("unseen_too", school, Ruling((), (), space)),
        ("counting_too", territory, Ruling((), (), space)),
        ("", territory, Ruling((), (), space)),
    ):
        thief = Thief(here, kept.kit, "unerase", covers=space.hex(), **{asked: True})
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed_of_a_header(_in(place, Kind.RULING, said))


@attack(ROW, off={"sync_server.kit.taking_back.TakingBack._is_shown": lambda *_: True})
async def test_who_takes_a_thiefs_erasure_back_signs_nothing_against_what_the_kit_orders_later(kept: Kept) -> None:
    territory = kept.server.replica.territory
    lea = await kept.here.office.add_person("Léa", "pupil")
    await kept.here.office.do("erase", person=[lea])
    typed = {"covers": lea, **await kept.here.office.named_for("unerase", {"covers": lea})}
    thief = Thief(kept.here, kept.kit, "unerase", **typed, counting_too=True)
    by_name: list[Entry] = []
    with suppress(PeerFault):
        wish = _in(territory, Kind.RULING, Ruling((), (), bytes.fromhex(lea)))
        by_name.append(await thief.has_signed_of_a_header(wish))
    await kept.year.with_kit("unerase", covers=lea, counting_too=True)
    kept.clock.advance(60_000)
    await kept.year.with_kit("erase", person=[lea])
    await kept.lets_out(*by_name)
    assert bytes.fromhex(lea) in (await kept.server.replica.view(kept.here.space)).roster.erased


async def test_another_root_takes_back_what_the_one_before_it_signed_and_has_forgotten_what_that_took_back(
    kept: Kept,
) -> None:
    work = await kept.year.work(opened=True)
    await kept.closes()
    kept.clock.advance(60_000)
    new = await another_root(kept.server, kept.kit, anyway=True)
    kept.clock.advance(60_000)
    office, space = kept.here.office, kept.here.office.space
    await office.with_kit("unerase", new, covers=space, counting_too=True)
    await kept.here.sync(*kept.devices)
    assert await kept.has(work) == [True, True, True]
    kept.clock.advance(60_000)
    await office.with_kit("space close", new, space=space)
    await kept.here.sync(*kept.devices)
    assert await kept.has(work) == [False, False, False]
