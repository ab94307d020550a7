"""Léa changes class, and a copied key has another Léa in a class of its own, to whom whoever adds her would be led."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.office import added_namesakes
from protocol.rights.roster import Person
from protocol.roles import PersonRole
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving
from tests.harness.attack import attack
from tests.harness.erasures import closed_by_anybody
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a pupil who changes class is listed under an id of a copied key's"
FALSE = b"f" * 16

Found = dict[bytes, dict[bytes, Entry]]


@dataclass
class Changing:
    """A school at work, with a class into which Léa comes; nobody has added her there yet."""

    thieving: Thieving
    cm2: str

    @property
    def lea(self) -> str:
        """The id under which she has handed in."""
        return self.thieving.year.pupil

    async def list_a_false_one(self, space: bytes) -> None:
        record = PersonRecord("Léa", PersonRole.PUPIL)
        await self.thieving.brings(Kind.PERSON, record.encode(), space=space, subject=FALSE)

    async def say_of_lea(self, record: PersonRecord) -> None:
        """A copied key says something of her on the list of her class."""
        store, space = self.thieving.office.server.store, self.thieving.here.space
        said = [one.entry for one in await store.of_kinds(space, [Kind.PERSON])]
        hers = [one.id for one in said if one.header.subject == bytes.fromhex(self.lea)]
        await self.thieving.brings(
            Kind.PERSON, record.encode(), space=space, subject=bytes.fromhex(self.lea), parents=hers
        )

    async def class_of_the_keys(self) -> bytes:
        """A class of that school which bears the name of hers."""
        record = SpaceRecord("CM2 B", year="2026-2027").encode()
        made = await self.thieving.brings(Kind.SPACE, record, space=self.thieving.here.school)
        return made.id

    async def add_her(self) -> list[str]:
        """Who runs the server adds her to the new class; what is told."""
        del self.thieving.office.said.lines[:]
        await self.thieving.year.do("person add", name="Léa", role="pupil", space=[self.cm2])
        return [line for line in self.thieving.office.said.lines if "of that name" in line]


@pytest.fixture
async def changing(tmp_path: Path) -> AsyncIterator[Changing]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        thieving = Thieving(Year(here, *at_work, tmp_path))
        made = await thieving.year.do("space add", name="CM2", school="0180001D")
        await thieving.is_stolen()
        yield Changing(thieving, made["space"])


everybody = added_namesakes._called_elsewhere


async def _of_one_class(replica: Replica, space: bytes, added: Person) -> Found:
    """As it was: of the class with the lowest id, for which whoever makes one draws as often as it takes."""
    found = await everybody(replica, space, added)
    return dict(list(found.items())[-1:])


async def _who_is_there(replica: Replica, space: bytes, added: Person) -> Found:
    """As it was: only whom lists call so by now."""
    found = await everybody(replica, space, added)
    there = {other: (await replica.view(other)).roster.persons for said in found.values() for other in said}
    return {
        one: said
        for one, said in found.items()
        if any(one in there[other] and there[other][one].name == added.name for other in said)
    }


async def test_of_the_only_one_of_that_name_in_the_school_it_is_told_how_they_change_class(changing: Changing) -> None:
    told = await changing.add_her()
    assert len(told) == 1
    space = changing.thieving.here.space.hex()
    assert f"`grant --person {changing.lea} --space {changing.cm2}`" in told[0]
    assert f"`ungrant --person {changing.lea} --space {space}`" in told[0]


def assert_both_are_told(changing: Changing, told: list[str]) -> None:
    assert len(told) == 1
    assert changing.lea in told[0]
    assert FALSE.hex() in told[0]
    assert told[0].index(changing.lea) < told[0].index(FALSE.hex()), "who came first"
    assert f"--person {FALSE.hex()}" not in told[0], "nobody is offered"


@attack(ROW, off={"protocol.replica.office.added_namesakes._called_elsewhere": _of_one_class})
async def test_one_of_her_name_in_a_class_of_the_keys_is_told_after_her_and_neither_is_offered(
    changing: Changing,
) -> None:
    await changing.list_a_false_one(await changing.class_of_the_keys())
    told = await changing.add_her()
    assert_both_are_told(changing, told)
    assert "“CM2 B (2026-2027)”" in told[0]


@attack(ROW, off={"protocol.replica.office.added_namesakes._called_elsewhere": _who_is_there})
@pytest.mark.parametrize("left", [True, False], ids=["taken off her list", "called otherwise"])
async def test_nor_is_the_false_one_offered_where_the_key_says_something_else_of_her(
    changing: Changing, left: bool
) -> None:
    await changing.list_a_false_one(await changing.class_of_the_keys())
    await changing.say_of_lea(PersonRecord("Léa" if left else "Zoé", PersonRole.PUPIL, left=left))
    told = await changing.add_her()
    assert_both_are_told(changing, told)
    assert ("and no longer" in told[0], "called “Zoé” by now" in told[0]) == (left, not left)


@attack(ROW, off={"protocol.replica.office.added_namesakes.closed_by_kit": closed_by_anybody})
async def test_nor_is_it_offered_while_the_key_hides_the_class_in_which_she_is(changing: Changing) -> None:
    await changing.list_a_false_one(await changing.class_of_the_keys())
    here = changing.thieving.here
    await changing.thieving.brings(Kind.ERASE, Erasure(here.space).encode(), space=here.school)
    told = await changing.add_her()
    assert_both_are_told(changing, told)
    assert "and hidden at present" in told[0]


async def test_she_is_told_too_where_the_key_has_one_of_her_name_on_the_new_list(changing: Changing) -> None:
    await changing.list_a_false_one(bytes.fromhex(changing.cm2))
    told = await changing.add_her()
    assert len(told) == 2
    assert "is on the list of “CM2” already" in told[0]
    assert changing.lea in told[1]


async def test_however_many_the_key_lists_before_the_others_each_is_told(changing: Changing) -> None:
    space = await changing.class_of_the_keys()
    for number in range(25):
        record = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await changing.thieving.brings(Kind.PERSON, record, space=space, subject=bytes([number]) * 16)
    told = await changing.add_her()
    assert len(told) == 1
    assert all((bytes([number]) * 16).hex() in told[0] for number in range(25))
    assert told[0].count("on the list of") == 20
    assert "and so 6 more: " in told[0]
