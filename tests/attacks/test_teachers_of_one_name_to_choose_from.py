"""A copied key lists somebody by a teacher's name, and a head teacher chooses between both on a page (ADR 0521)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.rights.roster import Roster
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class

NAME = "somebody of a stolen key's has a teacher's name"
FALSE = bytes(16)
"""Whoever has the key chooses ids: this one comes first wherever ids are sorted."""


async def _as_lists_have_them(_: Replica, roster: Roster, persons: Collection[bytes]) -> Mapping[bytes, str]:
    return {one: roster.persons[one].name for one in persons}


UNNUMBERED = {"sync_agent.portal.head.school.signatures": _as_lists_have_them}


@dataclass
class Twins:
    """A head teacher's computer, in whose school M. Roy teaches CE1; the key has somebody called so as well."""

    here: SpiedClass
    head: Device
    ce1: bytes
    roy: bytes

    async def is_listed(self, space: bytes, *, with_computer: bool) -> None:
        record = PersonRecord("M. Roy", PersonRole.TEACHER).encode()
        await self.here.room.territory.say(space, Kind.PERSON, record, subject=FALSE)
        if with_computer:
            await self.here.name_the_spy(FALSE, space=space)
        await self.head.session.sync()

    async def page(self) -> str:
        async with portal(self.head.agent) as surfer:
            return html.unescape(await surfer.page(f"/school/{self.here.room.space.hex()}"))


@pytest.fixture
async def twins(tmp_path: Path) -> AsyncIterator[Twins]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        ce1 = await here.room.territory.classroom("CE1", here.room.school)
        roy = await here.room.territory.person("M. Roy", PersonRole.TEACHER, ce1)
        await here.room.device(Role.TEACHER, ce1, person=roy)
        await head.session.sync()
        yield Twins(here, head, ce1, roy)


@pytest.mark.parametrize("with_computer", [True, False])
@attack(NAME, off=UNNUMBERED)
async def test_a_head_who_lets_a_teacher_in_is_shown_who_of_two_had_the_name_first(
    twins: Twins, with_computer: bool
) -> None:
    await twins.is_listed(twins.ce1, with_computer=with_computer)
    page = await twins.page()
    offered = re.findall(r'<option value="person:([0-9a-f]+)">(M\. Roy[^<]*)</option>', page)
    assert offered == [(twins.roy.hex(), "M. Roy"), (FALSE.hex(), "M. Roy (2)")]
    assert page.count("Un nom suivi de (2) était déjà, ici, celui de quelqu'un d'autre.") == 1


@pytest.mark.parametrize("with_computer", [True, False])
@attack(NAME, off=UNNUMBERED)
async def test_a_head_who_makes_a_code_or_takes_a_teacher_off_is_shown_who_of_two_had_the_name_first(
    twins: Twins, with_computer: bool
) -> None:
    space, record = twins.here.room.space, PersonRecord("M. Roy", PersonRole.TEACHER).encode()
    await twins.here.room.territory.say(space, Kind.PERSON, record, subject=twins.roy)
    await twins.is_listed(space, with_computer=with_computer)
    page = await twins.page()
    codes = re.findall(r'<option value="([0-9a-f]{32})">(Le portable de M\. Roy[^<]*)</option>', page)
    assert codes == [(twins.roy.hex(), "Le portable de M. Roy"), (FALSE.hex(), "Le portable de M. Roy (2)")]
    leaving = re.findall(r'value="([0-9a-f]+)" aria-label="Retirer (M\. Roy[^"]*) de la classe"', page)
    assert leaving == [(twins.roy.hex(), "M. Roy"), (FALSE.hex(), "M. Roy (2)")]
    assert re.findall(r"<h3>(M\. Roy[^<]*)</h3>", page)[-2:] == ["M. Roy", "M. Roy (2)"]


@attack(NAME, off=UNNUMBERED)
async def test_a_head_who_has_made_a_code_reads_whose_of_two_it_is(twins: Twins) -> None:
    space = twins.here.room.space
    await twins.is_listed(space, with_computer=True)
    async with portal(twins.head.agent) as surfer:
        place = f"/school/{space.hex()}"
        made = await surfer.send(place, f"{place}/code", {"person": FALSE.hex(), "for": "", "uses": "1"})
    assert "<dd>Le portable de M. Roy (2)</dd>" in html.unescape(made.text)
