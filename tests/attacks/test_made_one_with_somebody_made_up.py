"""A copied key lists a second “Léa”, who hands in, for a head teacher to make both one; then the keys are replaced.

docs/adr/0531.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.model.work import ContentRef, HandIn
from protocol.replica.at_work.replica import Replica
from protocol.replica.office import erasures
from protocol.replica.office.bureau import Office
from protocol.replica.office.people import Listing, duplicates_in, list_draft, listings
from protocol.rights.roster import Person
from protocol.roles import PersonRole, Role
from sync_agent.school.office import SchoolOffice
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a child is made one with somebody whom a copied key made up"


async def _who_has_work_first(replica: Replica, space: bytes) -> list[list[Person]]:
    """As it was while what hung on an id decided."""
    works = {work.person for work in (await replica.view(space)).coursework.hand_ins.values()}
    return [sorted(group, key=lambda one: one.id not in works) for group in await duplicates_in(replica, space)]


async def _who_is_not_there(_: Office, listed: Mapping[bytes, Listing], spaces: Iterable[bytes]) -> list[bytes]:
    return [space for space in spaces if space not in listed or listed[space].left]


async def _each(_: Replica, persons: Collection[bytes]) -> set[bytes]:
    return set(persons)


@dataclass
class Doubled:
    """A class in September, with two “Léa”: one has handed in nothing yet, the other has, on a thief's PC."""

    thieving: Thieving
    head: Device
    made_up: str

    @property
    def space(self) -> str:
        return self.thieving.office.space

    @property
    def lea(self) -> str:
        return self.thieving.year.pupil

    async def synced(self) -> None:
        for _ in range(2):
            await self.thieving.here.sync()

    async def forgotten(self) -> set[str]:
        return {covers.hex() for _, covers in await erasures.ever_said(self.thieving.office.server.replica)}


@pytest.fixture
async def doubled(tmp_path: Path) -> AsyncIterator[Doubled]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        thieving, made_up, his = Thieving(Year(here, *at_work, tmp_path)), os.urandom(16), spy()
        head = await here.head_of_the_school()
        await thieving.is_stolen()
        await thieving.brings(Kind.PERSON, PersonRecord("Léa", PersonRole.PUPIL).encode(), subject=made_up)
        right = await thieving.brings(Kind.GRANT, thieving.let_in(his, Role.MACHINE))
        work = HandIn(ContentRef(os.urandom(32), 4096, 0), None).encode()
        item = thieving.year.item
        await thieving.brings(Kind.HAND_IN, work, key=his.signing, under=right.id, subject=made_up, target=item)
        scene = Doubled(thieving, head, made_up.hex())
        await scene.synced()
        yield scene


@attack(ROW, off={"sync_agent.school.commands.duplicates_in": _who_has_work_first})
async def test_of_two_pupils_of_one_name_the_one_is_kept_who_was_here_first_whoever_has_handed_in(
    doubled: Doubled,
) -> None:
    rows = await Desk(doubled.head.agent).ask("person doubles", space=doubled.space)
    assert [(row["person"], row["keep"]) for row in rows] == [(doubled.lea, True), (doubled.made_up, False)]


@attack(ROW, off={"protocol.replica.office.further_words._to_list": _who_is_not_there})
async def test_whoever_a_head_has_kept_is_on_the_list_once_the_keys_are_replaced(doubled: Doubled) -> None:
    thieving = doubled.thieving
    await Desk(doubled.head.agent).ask("person merge", person=doubled.lea, into=doubled.made_up, space=[doubled.space])
    await doubled.synced()
    work = await thieving.here.work(thieving.year.machine, thieving.year.item, doubled.made_up)
    await doubled.synced()
    await thieving.new_keys(since=True)
    await doubled.synced()
    assert "Léa" in await thieving.year.names(thieving.year.teacher)
    view = await thieving.year.teacher.agent.replica.view(thieving.here.space)
    named = view.roster.named(view.coursework.hand_ins[work].person)
    assert named is not None
    assert named.name == "Léa"


@attack(ROW, off={"protocol.replica.office.taken_names._whom_lists_have": _each})
async def test_nobody_is_forgotten_along_with_one_whom_no_list_has_any_more(doubled: Doubled) -> None:
    thieving, space = doubled.thieving, bytes.fromhex(doubled.space)
    head = await SchoolOffice.of(doubled.head.agent)
    there = (await listings(head.replica, bytes.fromhex(doubled.lea)))[space]
    same = PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(doubled.made_up))
    # as an earlier program did: who is kept is on that list by the thief's word alone
    await head.say([list_draft(bytes.fromhex(doubled.lea), same, space, there.line)])
    await doubled.synced()
    await thieving.new_keys(since=True)
    await doubled.synced()
    with pytest.raises(BadInput) as refused:
        await thieving.year.do("erase", person=[doubled.made_up])
    assert refused.value.code == Code.NOT_YET
    assert await doubled.forgotten() == set()
    await thieving.year.do("erase", person=[doubled.made_up], alone=True)
    assert await doubled.forgotten() == {doubled.made_up}
