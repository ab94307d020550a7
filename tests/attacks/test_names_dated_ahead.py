"""Whoever has the server's key, or a clock that is wrong, dates the name of a class ahead (docs/attacks.md)."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.clock import MAX_AT
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import SpaceChange
from protocol.replica.at_work.space_names import changed_names
from tests.harness.attack import attack
from tests.harness.office_devices import Town, town

ROW = "a class is renamed by a word that is dated ahead"


def _by_their_dates(known: dict[bytes, Entry]) -> dict[bytes, int]:
    return {name: entry.header.at for name, entry in known.items()}


async def _renamed_ahead(here: Town) -> None:
    """What a thief says with the server's key, of the last day that there is."""
    server = here.office.server
    said = compose(
        author=server.keys.signing,
        space=here.space,
        kind=Kind.SPACE_CHANGE,
        grant=server.grant,
        at=MAX_AT,
        payload=SpaceChange("Classe volée").encode(),
        salt=os.urandom(16),
    )
    admission = await server.replica.admit([said], source=b"a stick", now_ms=here.office.clock())
    assert admission.admitted


@attack(ROW, off={"protocol.replica.at_work.space_names.moments": _by_their_dates})
async def test_what_a_thief_called_a_class_on_the_last_day_that_there_is_gives_way_to_the_next_name(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        await _renamed_ahead(here)
        for name in ("CM1 bis", "CM1 A"):
            await here.office.do("space rename", space=here.space.hex(), name=name)
            await here.sync(machine)
            for replica in (here.office.server.replica, machine.agent.replica):
                assert (await changed_names(replica))[here.space] == name


@attack(ROW, off={"protocol.replica.at_work.space_names.moments": _by_their_dates})
async def test_a_class_that_was_renamed_by_a_clock_years_ahead_has_the_name_that_it_is_given_next(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        here.office.clock.advance(14 * 365 * 86_400_000)
        await here.office.do("space rename", space=here.space.hex(), name="CM1 bis")
        here.office.clock.advance(-14 * 365 * 86_400_000)
        await here.office.do("space rename", space=here.space.hex(), name="CM1 A")
        await here.sync(machine)
        assert (await changed_names(machine.agent.replica))[here.space] == "CM1 A"
