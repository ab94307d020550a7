"""A server in wrong hands keeps payloads back, and everything says that all is here (docs/adr/0577)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord, Revocation, Ruling
from protocol.roles import PersonRole
from sync_agent.coursework.known_as_of import agreed_ms
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.headers_alone import show_headers_alone
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "payloads are kept back, and everything says that all is here"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _nothing(_self: object) -> dict[bytes, int]:
    return {}


async def _is_proven_now(here: Here) -> bool:
    """Whether her laptop takes itself for one that has all of the class, as of its last sync."""
    return await agreed_ms(here.teacher.agent, here.room.space) == here.room.territory.clock()


@attack(ROW, off={"protocol.replica.at_work.bare_entries.BareEntries.missing": _nothing})
async def test_work_that_came_as_a_header_alone_is_told_as_missing(here: Here) -> None:
    territory, space = here.room.territory, here.room.space
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"autre"})
    await here.machine.session.sync()
    said = [one.entry for one in await territory.replica.store.scan(space)]
    about_it = [one.id for one in said if work in (one.id, one.header.target)]
    await show_headers_alone(territory, space, here.room.pupil_person, *about_it)
    territory.clock.advance(DAY_MS)
    await here.sync(here.teacher)
    assert not await _is_proven_now(here)
    (row,) = (await Desk(here.teacher.agent).ask("status"))["spaces"]
    assert (row["complete"], row["headers_alone"]) == (False, len(about_it))
    async with portal(here.teacher.agent) as surfer:
        assert "Tout est à jour" not in await surfer.page("/")


async def test_nobody_misses_what_the_kits_new_keys_hold_back(here: Here) -> None:
    territory, space = here.room.territory, here.room.space
    server = territory.keys.signing.public
    heads = [tip for each in territory.replica.door.spaces() for tip in await territory.replica.tips(each, server)]
    nobody = bytes(range(16))
    named = await territory.say(space, Kind.PERSON, PersonRecord("X", PersonRole.PUPIL).encode(), subject=nobody)
    await show_headers_alone(territory, space, nobody, named.id)
    await here.sync(here.teacher)
    replica = here.teacher.agent.replica
    assert (await replica.bare.missing()) == {space: 1}
    await territory.kit_says(territory.id, Kind.REVOKE, Revocation(server, tuple(heads)).encode())
    said = [one.entry for one in await territory.replica.store.scan(territory.id)]
    await replica.admit(said, source=b"a stick", now_ms=territory.clock())
    assert await replica.bare.lacking(), "it is asked for"
    assert not await replica.bare.missing()


async def test_nor_what_the_kit_shows_again_once_it_may_be_destroyed_everywhere(here: Here) -> None:
    territory, space, pupil = here.room.territory, here.room.space, here.room.pupil_person
    (named,) = [
        one.entry.id
        for one in await territory.replica.store.of_kinds(space, [Kind.PERSON])
        if one.entry.header.subject == pupil
    ]
    gone = await territory.say(space, Kind.ERASE, Erasure(pupil).encode())
    await territory.replica.store.erase([named], {})
    await territory.kit_says(space, Kind.RULING, Ruling((), (gone.id,)).encode())
    await territory.replica.reload()
    new = await here.room.machine()
    for _ in range(2):
        await here.sync(new)
    assert await agreed_ms(new.agent, space) == territory.clock()
    assert named in {name for _, name in await new.agent.replica.bare.lacking()}
