"""A copied server key says a school again, or invents others: does a PC still find its neighbours?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count, islice
from pathlib import Path

import pytest

from protocol.clock import at_from
from protocol.identity import school_id
from protocol.limits import MAX_INTRODUCTION_TAGS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Revocation, SpaceRecord
from protocol.roles import Role
from sync_agent.lan.exchange.meeting import Secrets, secrets_of
from sync_agent.lan.finding.announcement import MAX_ANNOUNCED_TAGS
from tests.harness.attack import attack
from tests.harness.lan import exchange
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a copied key says a school again"
UAI = "0180001X"


def _makes(here: SpiedClass, uai: str, number: int) -> Entry:
    territory = here.room.territory
    return compose(
        author=territory.keys.signing,
        space=territory.id,
        kind=Kind.SPACE,
        grant=territory.certificate.id,
        at=at_from(territory.clock()) + number,
        payload=SpaceRecord("École", uai=uai).encode(),
        salt=number.to_bytes(16, "big"),
    )


async def _the_school_again(here: SpiedClass) -> None:
    """By more entries than an introduction has places, with lower ids than the one that made it."""
    territory = here.room.territory
    made = [one.entry for one in await territory.replica.store.of_kinds(territory.id, [Kind.SPACE])]
    first = next(entry.id for entry in made if SpaceRecord.parse(entry.payload or b"").uai == UAI)
    said = (entry for number in count() if (entry := _makes(here, UAI, number)).id < first)
    await _told_to_the_pc(here, list(islice(said, MAX_INTRODUCTION_TAGS)))


async def _schools_that_there_are_not(here: SpiedClass) -> None:
    """As many of them, with lower ids, and the PC is let into each."""
    territory = here.room.territory
    numbers = (f"9{number:07}X" for number in count())
    lower = (uai for uai in numbers if school_id(territory.id, uai) < here.room.school)
    for number, uai in enumerate(islice(lower, MAX_INTRODUCTION_TAGS)):
        await _told_to_the_pc(here, [_makes(here, uai, number)])
        await territory.replica.admit([_makes(here, uai, number)], source=b"a thief", now_ms=territory.clock())
        grants = await territory.let_in(here.machine.agent.keys, Role.MACHINE, school_id(territory.id, uai))
        await _told_to_the_pc(here, grants)


async def _told_to_the_pc(here: SpiedClass, entries: list[Entry]) -> None:
    """Whoever answers it in the server's place says these."""
    admission = await here.machine.agent.replica.admit(entries, source=b"a thief", now_ms=here.room.territory.clock())
    assert len(admission.admitted) == len(entries)


def _by_ids(schools: Secrets, classes: Secrets) -> dict[bytes, bytes]:
    made = (*sorted(schools.items()), *sorted(classes.items()))
    return {secret: space for space, secrets in made for secret in sorted(secrets)}


@pytest.mark.parametrize("said", [_the_school_again, _schools_that_there_are_not])
@attack(ROW, off={"sync_agent.lan.exchange.meeting._in_turns": _by_ids})
async def test_a_pc_is_known_to_its_neighbours_however_many_schools_a_copied_key_tells_it_of(
    tmp_path: Path, said: Callable[[SpiedClass], Awaitable[None]]
) -> None:
    async with spied_class(tmp_path) as here:
        territory, pc, laptop = here.room.territory, here.machine.agent, here.teacher.agent
        await said(here)
        announced = list(await secrets_of(pc))[: MAX_ANNOUNCED_TAGS - 1]
        assert not (await secrets_of(laptop)).keys().isdisjoint(announced)
        # the laptop has met the server of the kit, elsewhere, and the PC's line is the thief's
        word = await territory.kit_says(here.room.space, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())
        await laptop.replica.admit([word], source=b"the kit's", now_ms=territory.clock())
        assert (await exchange(pc, laptop)).received
        assert word.id in {one.entry.id for one in await pc.replica.store.scan(here.room.space)}
