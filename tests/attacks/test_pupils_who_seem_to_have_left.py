"""A copied key hides Léa's class for an hour, or takes her off its list: `status` is to name who has left.

What follows from that list cannot be undone: who is on it is forgotten (docs/adr/0439).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.bureau import Office, is_own
from protocol.replica.office.leaving import Parting, partings
from protocol.replica.office.list_words import Whose
from protocol.replica.office.people import listings
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import (
    back_up,
    brought,
    burnt_and_restored,
    granted,
    said_by_copy,
    thief_hides,
    thief_lists,
    thief_says,
)
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.territory import new_device

ROW = "a pupil who is there seems to have left"
LEFT = PersonRecord("Léa", PersonRole.PUPIL, left=True)


async def _nothing(*_: object) -> list[str]:
    return []


async def _never(*_: object) -> None:
    return None


async def _as_shown(office: Office, persons: Collection[bytes]) -> dict[bytes, list[Parting]]:
    """As if what is hidden were nothing."""
    found = await partings(office, persons)
    return {
        one: [replace(parting, has_them=None) for parting in off if _leaves(parting.said)] for one, off in found.items()
    }


def _leaves(said: Entry) -> bool:
    return PersonRecord.parse(said.payload or b"").left


async def _as_its_key(office: Office) -> Callable[[Entry], bool]:
    return lambda said: is_own(office, said)


WHATEVER_IS_HIDDEN: dict[str, object] = {"protocol.replica.office.left_over.partings": _as_shown}
WHOEVER_SAYS_IT: dict[str, object] = {"protocol.replica.office.leaving.SURE": frozenset(Whose)}
UNTOLD: dict[str, object] = {"sync_server.operations.lifecycle.told_of_partings": _nothing}


class Scene:
    """A class whose server's key somebody has as well."""

    def __init__(self, here: Town, pupil: str) -> None:
        self.here, self.pupil, self.office = here, pupil, here.office

    async def other_class(self) -> str:
        """Where Léa is as well."""
        made: str = (await self.office.do("space add", name="CM1", school="0180001D"))["space"]
        await self.office.do("grant", person=self.pupil, space=[made])
        return made

    async def changes_class(self) -> str:
        """She leaves that other class, by the word of the office, and stays in hers."""
        other = await self.other_class()
        await self.office.do("ungrant", person=self.pupil, space=[other])
        return other

    async def last_line(self) -> tuple[bytes, ...]:
        shown = await listings(self.office.server.replica, bytes.fromhex(self.pupil))
        return shown[self.here.space].line

    async def lets_in_a_heads_computer(self) -> tuple[DeviceKeys, bytes]:
        keys = new_device(Random(9).randbytes)
        grant = said_by_copy(self.here, Kind.GRANT, granted(keys, Role.HEAD, None), self.here.school)
        await brought(self.here, grant)
        return keys, grant.id

    async def has_it_say_that_she_left(self, keys: DeviceKeys, grant: bytes) -> None:
        said = compose(
            author=keys.signing,
            space=self.here.space,
            kind=Kind.PERSON,
            grant=grant,
            at=at_from(self.office.clock()),
            payload=LEFT.encode(),
            salt=os.urandom(16),
            subject=bytes.fromhex(self.pupil),
            parents=await self.last_line(),
        )
        await brought(self.here, said)

    async def cuts_off(self, *devices: bytes) -> None:
        """With all that they ever said."""
        grant = self.office.server.grant
        await thief_says(
            self.office,
            *(Draft(self.here.school, Kind.REVOKE, grant, Revocation(each, ()).encode()) for each in devices),
        )

    @contextmanager
    def nobody_calls_but(self, device: Device) -> Iterator[None]:
        silent = [each for each in self.here.devices if each is not device]
        self.here.devices[:] = [device]
        try:
            yield
        finally:
            self.here.devices += silent

    async def left(self, key: str = "left_pupils") -> Collection[str]:
        """Who has, by what the operator reads."""
        return [row["person"] for row in (await self.office.do("status"))[key]]

    async def erase_says(self, **params: Any) -> str:
        self.office.said.lines.clear()
        await self.office.do("erase", person=[self.pupil], dry_run=True, **params)
        return "\n".join(self.office.said.lines)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        yield Scene(here, at_work.pupil)


@attack(ROW, off=WHATEVER_IS_HIDDEN)
async def test_nobody_has_left_while_the_class_in_which_they_are_is_hidden(scene: Scene) -> None:
    await scene.changes_class()
    assert await scene.left() == await scene.left("left_in_doubt") == []
    await thief_hides(scene.here, scene.here.space)
    assert await scene.left() == []
    assert await scene.left("left_in_doubt") == [scene.pupil], "the school is asked whether she has"


@attack(ROW, off=WHATEVER_IS_HIDDEN)
async def test_nor_while_she_is_hidden_herself_in_one_of_her_schools(scene: Scene) -> None:
    made = (await scene.office.do("space add", name="CM1", school="0180002E"))["space"]
    await scene.office.do("grant", person=scene.pupil, space=[made])
    await scene.office.do("ungrant", person=scene.pupil, space=[made])
    await thief_hides(scene.here, bytes.fromhex(scene.pupil))
    assert await scene.left() == []


@pytest.mark.parametrize("further", [False, True])
@attack(ROW, off=WHATEVER_IS_HIDDEN | WHOEVER_SAYS_IT)
async def test_nor_while_the_word_is_held_back_by_which_she_came_back(scene: Scene, *, further: bool) -> None:
    head = await scene.here.head_of_the_school()
    await scene.office.do("ungrant", person=scene.pupil, space=[scene.office.space])
    await scene.here.sync()
    await Desk(head.agent).ask("grant", person=scene.pupil, space=[scene.office.space])
    await scene.here.sync()
    assert await scene.left() == await scene.left("left_in_doubt") == []
    keys, grant = await scene.lets_in_a_heads_computer()
    if further:  # else no word of hers is held back that has her off the list
        await scene.has_it_say_that_she_left(keys, grant)
    await scene.cuts_off(head.agent.device, keys.signing.public)
    assert await scene.left() == []
    assert await scene.left("left_in_doubt") == [scene.pupil]


@attack(ROW, off=WHOEVER_SAYS_IT)
async def test_nor_by_a_word_that_no_command_of_this_server_has_said(scene: Scene) -> None:
    await thief_lists(scene.here, scene.pupil, LEFT)
    assert await scene.left() == []
    assert await scene.left("left_in_doubt") == [scene.pupil]


@attack(ROW, off=WHOEVER_SAYS_IT)
async def test_nor_by_one_of_a_heads_computer_that_this_server_does_not_know(scene: Scene) -> None:
    await scene.has_it_say_that_she_left(*await scene.lets_in_a_heads_computer())
    assert await scene.left() == []
    assert await scene.left("left_in_doubt") == [scene.pupil]


@attack(
    ROW,
    off={
        "sync_server.operations.table.restored": _never,
        "protocol.replica.office.said_here.came_at_once": _never,
    },
)
async def test_nobody_has_left_as_long_as_a_restored_server_does_not_know_of_all_classes(scene: Scene) -> None:
    other = await scene.changes_class()
    pc = await scene.here.device("machine", None, other)
    await scene.office.do("ungrant", person=scene.pupil, space=[scene.office.space])
    await back_up(scene.here)
    # she comes back after the backup, and of the PCs that have heard of it none has called
    await scene.office.do("grant", person=scene.pupil, space=[scene.office.space])
    await scene.here.sync()
    with scene.nobody_calls_but(pc):
        async with burnt_and_restored(scene.here) as scene.office:
            assert await scene.left() == []
            assert await scene.left("left_in_doubt") == [scene.pupil]


async def _all_own(_office: Office, names: Collection[bytes]) -> Collection[bytes]:
    return names


@attack(ROW, off={"protocol.replica.office.frozen.own_leaves": _all_own})
async def test_nor_once_what_there_is_about_her_was_kept_and_used_by_nobody_for_some_time(scene: Scene) -> None:
    await thief_lists(scene.here, scene.pupil, LEFT)
    for command in ("person freeze", "person unfreeze"):
        await scene.office.do(command, person=scene.pupil)
    assert await scene.left() == []
    assert await scene.left("left_in_doubt") == [scene.pupil]


@attack(ROW, off={"protocol.replica.office.frozen.own_leaves": _all_own})
async def test_nor_of_who_left_once_and_came_back(scene: Scene) -> None:
    head = await scene.here.head_of_the_school()
    await scene.here.sync()
    await scene.office.do("person retire", person=scene.pupil)
    await scene.here.sync()
    await Desk(head.agent).ask("grant", person=scene.pupil, space=[scene.office.space])
    await scene.here.sync()
    await scene.has_it_say_that_she_left(*await scene.lets_in_a_heads_computer())
    for command in ("person freeze", "person unfreeze"):
        await scene.office.do(command, person=scene.pupil)
    assert await scene.left() == []
    assert await scene.left("left_in_doubt") == [scene.pupil]


async def test_who_has_left_has_so_after_that_as_well(scene: Scene) -> None:
    for command in ("person retire", "person freeze", "person unfreeze"):
        await scene.office.do(command, person=scene.pupil)
    assert await scene.left() == [scene.pupil]


@attack(ROW, off={"protocol.replica.office.known_here.leaves_said_here": _as_its_key})
async def test_who_has_left_is_said_anew_where_a_copied_key_has_said_it_before(scene: Scene) -> None:
    await thief_lists(scene.here, scene.pupil, LEFT)
    await scene.office.do("person retire", person=scene.pupil)
    assert await scene.left() == [scene.pupil]


@attack(ROW, off=UNTOLD)
async def test_whoever_has_her_forgotten_is_told_of_the_list_that_is_hidden(scene: Scene) -> None:
    await scene.changes_class()
    await thief_hides(scene.here, scene.here.space)
    said = await scene.erase_says()
    assert f"warning: the list of “CM2 B” has {scene.pupil}, and that is hidden (erased by the server, " in said
    assert f"\noff the list of “CM1”: {scene.pupil}, by this server, " in said


@attack(ROW, off=UNTOLD)
async def test_and_of_who_says_since_when_she_has_left(scene: Scene) -> None:
    scene.office.clock.advance(DAY_MS)
    await thief_lists(scene.here, scene.pupil, LEFT)
    assert (
        f"warning: off the list of “CM2 B”: {scene.pupil}, by a server's key, by no command that this server has noted"
    ) in await scene.erase_says()


@attack(ROW, off={"sync_agent.school.commands.told_of_partings": _nothing})
async def test_so_is_a_head_teacher(scene: Scene) -> None:
    head = await scene.here.head_of_the_school()
    await scene.changes_class()
    await thief_hides(scene.here, scene.here.space)
    await scene.here.sync()
    desk = Desk(head.agent)
    await desk.ask("erase", person=[scene.pupil], dry_run=True)
    said = "\n".join(desk.told)
    assert f"warning: the list of “CM2 B” has {scene.pupil}, and that is hidden (erased by the server, " in said
