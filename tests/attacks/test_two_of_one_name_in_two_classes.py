"""A copied key puts a child of one class on the list of another, beside one of the same name (docs/attacks.md)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.heard import Known, heard_first, known_of
from protocol.replica.office.mentioned import mentioned
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal, words_in
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "two children of one name, each in a class of their own, are made one in both"


async def _none_besides(*_: object) -> dict[bytes, list[bytes]]:
    return {}


async def _nothing_asked(*_: object, **__: object) -> None:
    return None


async def _all_lists(_office: Office, person: bytes, _named: Collection[bytes]) -> Collection[bytes]:
    return (await mentioned(_office.replica, [person]))[person].spaces


async def _on_all(office: Office, person: bytes, into: bytes, _spaces: Collection[bytes]) -> int:
    return await merge_persons(office, person, into)


async def _where_not_both(
    replica: Replica, persons: Collection[bytes], shown: Collection[bytes]
) -> dict[bytes, list[bytes]]:
    """Only on which lists one of them is without the other."""
    ever = {person: set(each.spaces) for person, each in (await mentioned(replica, persons)).items()}
    both = set.intersection(*ever.values()) if ever else set()
    return {person: sorted(spaces - both) for person, spaces in ever.items() if spaces - both}


async def _on_any_list(replica: Replica, persons: Collection[bytes], space: bytes) -> Mapping[bytes, Known]:
    """By whose word each came onto whatever list first."""
    first = await heard_first(replica)
    lists = {person: await known_of(replica, [person], first[person].header.space) for person in persons}
    return {person: known[person] for person, known in lists.items()}


@dataclass
class Two:
    """Léa of CM1, and Léa of CE1, whom the head's computer put there, and whom a copied key has put on CM1's list."""

    here: SpiedClass
    head: Device
    ce1: bytes
    other: bytes

    @property
    def lea(self) -> bytes:
        return self.here.room.pupil_person

    @property
    def cm1(self) -> bytes:
        return self.here.room.space

    @property
    def place(self) -> str:
        return f"/school/{self.cm1.hex()}"

    async def thief_lists(self, person: bytes, space: bytes, name: str = "Léa") -> None:
        said = PersonRecord(name, PersonRole.PUPIL).encode()
        await self.here.room.territory.say(space, Kind.PERSON, said, subject=person)
        await self.here.sync(self.head)

    async def on(self, space: bytes) -> set[bytes]:
        roster = (await self.head.agent.replica.view(space)).roster
        return {person.id for person in roster.persons.values() if person.role is PersonRole.PUPIL}

    def answers(self, **more: str) -> dict[str, str]:
        return {"person": self.other.hex(), "into": self.lea.hex(), "meant": "yes", **more}


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        await here.sync(head)
        desk = Desk(head.agent)
        ce1 = (await desk.ask("space add", name="CE1", year="2026-2027"))["space"]
        other = (await desk.ask("person add", name="Léa", role="pupil", space=[ce1]))["person"]
        await here.sync(head)
        made = Two(here, head, bytes.fromhex(ce1), bytes.fromhex(other))
        await made.thief_lists(made.other, made.cm1)
        yield made


@attack(
    ROW,
    off={
        "sync_agent.portal.head.doubles.other_lists": _none_besides,
        "sync_agent.school.commands.ask_about_other_lists": _nothing_asked,
    },
)
async def test_on_which_other_lists_they_are_stands_beside_the_button_and_has_a_box_of_its_own(two: Two) -> None:
    async with portal(two.head.agent) as surfer:
        page = html.unescape(await surfer.page(two.place))
        assert "aussi sur la liste de : CE1 (2026-2027), maintenant ou auparavant" in words_in(page)
        assert 'name="listed" value="yes" required' in page
        await surfer.send(two.place, f"{two.place}/merge", two.answers())
    assert await two.on(two.cm1) == {two.lea, two.other}


@attack(ROW, off={"sync_agent.portal.head.doubles.other_lists": _where_not_both})
async def test_also_where_the_key_puts_both_on_both_lists(two: Two) -> None:
    await two.thief_lists(two.lea, two.ce1)
    async with portal(two.head.agent) as surfer:
        assert 'name="listed" value="yes" required' in await surfer.page(two.place)


@attack(ROW, off={"sync_agent.school.commands.merge_persons": _on_all})
async def test_who_is_made_one_on_one_list_stays_herself_on_the_other(two: Two) -> None:
    async with portal(two.head.agent) as surfer:
        await surfer.send(two.place, f"{two.place}/merge", two.answers(listed="yes"))
    assert await two.on(two.cm1) == {two.lea}
    assert await two.on(two.ce1) == {two.other}


@attack(ROW, off={"sync_agent.portal.head.doubles.known_of": _on_any_list})
async def test_by_whose_word_either_is_on_this_very_list_stands_beside_the_button(two: Two) -> None:
    async with portal(two.head.agent) as surfer:
        page = html.unescape(await surfer.page(two.place))
    listed = re.findall(r"inscription sur cette liste : [^<]*, par ([^<]*)<", page)
    assert listed == ["le serveur", "le serveur"], "this computer has put her on another one"


@pytest.mark.parametrize("what", ["another-list", "another-name"])
@attack(ROW, off={"sync_agent.portal.head.doubles.Pair.seen": "whatever"})
async def test_a_yes_is_about_what_was_shown_and_what_has_changed_since_is_shown_again(two: Two, what: str) -> None:
    async with portal(two.head.agent) as surfer:
        page = await surfer.page(two.place)
        seen = re.findall(r'name="seen" value="([^"]+)"', page)[0]
        if what == "another-list":
            await two.thief_lists(two.lea, two.ce1)
        else:
            await two.thief_lists(two.other, two.cm1, "Tom")
            await two.thief_lists(two.other, two.cm1)
        said = two.answers(listed="yes", renamed="yes", seen=seen)
        answer = await surfer.send(two.place, f"{two.place}/merge", said)
    assert two.other in await two.on(two.cm1)
    assert "ce que cette page montrait a changé depuis" in html.unescape(answer.text)


@attack(
    ROW,
    off={
        "sync_agent.school.commands.lists_meant": _all_lists,
        "sync_agent.school.commands.ask_about_other_lists": _nothing_asked,
    },
)
async def test_at_her_command_line_she_names_the_lists_and_is_asked_about_the_others(two: Two) -> None:
    desk, both = Desk(two.head.agent), {"person": two.other.hex(), "into": two.lea.hex()}
    rows = await desk.ask("person doubles", space=two.cm1.hex())
    assert {row["person"]: row["other_lists"] for row in rows} == {
        two.lea.hex(): "",
        two.other.hex(): "CE1 (2026-2027)",
    }
    for refused in (both, both | {"listed_too": True}, both | {"space": [two.cm1.hex()]}):
        with pytest.raises(BadInput, match="nobody has been made one yet") as why:
            await desk.ask("person merge", **refused)
        assert why.value.code is Code.NOT_YET
        assert "CE1 (2026-2027)" in why.value.message
    await desk.ask("person merge", **both, space=[two.cm1.hex()], listed_too=True)
    assert (await two.on(two.cm1), await two.on(two.ce1)) == ({two.lea}, {two.other})
