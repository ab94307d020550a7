"""Whoever has the server's key shows one computer alone lists that call pupils the same (docs/attacks.md)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office import erasures
from protocol.replica.office.bureau import Office
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.list_words import Whose
from protocol.replica.office.mentioned import Mentioned, mentioned
from protocol.replica.office.people import list_draft
from protocol.rights.roster import Roster
from protocol.roles import PersonRole
from sync_agent.app import Agent
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal
from tests.harness.server_in_process import office
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "others are said to be the same as who is to be forgotten"
OTHER_FAMILIES = "a list calls two pupils one, and a family asks for what there is about its child"


@dataclass
class Lists:
    """A head teacher's computer, to which the server says of pupils that they are the same as one who has left."""

    here: SpiedClass
    head: Device
    leaver: bytes
    others: list[bytes]

    async def forgotten(self) -> set[bytes]:
        """Whom her computer has ordered to be forgotten."""
        return {covers for _, covers in await erasures.ever_said(self.head.agent.replica)}


@pytest.fixture
async def lists(tmp_path: Path) -> AsyncIterator[Lists]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, territory = here.room, here.room.territory
        others = [await territory.person(f"Tom {number}", PersonRole.PUPIL, room.space) for number in range(3)]
        leaver = await territory.person("Zoé", PersonRole.PUPIL, room.space)
        head, _ = await confirmed_head(here)
        listed = {entry.header.subject: entry for entry in await territory.replica.store.scan_kinds([Kind.PERSON])}
        shown = [
            compose(
                author=territory.keys.signing,
                space=room.space,
                kind=Kind.PERSON,
                grant=territory.certificate.id,
                at=(territory.clock() << 16) + number,
                subject=other,
                parents=(listed[other].id,),
                payload=PersonRecord("ZOE", PersonRole.PUPIL, left=True, same_as=leaver).encode(),
                salt=bytes(16),
            )
            for number, other in enumerate(others)
        ]
        taken = await head.agent.replica.admit(shown, source=b"the operator", now_ms=territory.clock())
        assert len(taken.admitted) == len(others)
        yield Lists(here, head, leaver, others)


async def _with_all_who_are_said_to_be(office: Office, persons: Sequence[bytes]) -> int:
    """Whom all lists call the same goes as one."""
    return await erasures.erase_persons(office, await erasures.with_doubles(office.replica, persons))


async def _called_now(replica: Replica, persons: Collection[bytes]) -> dict[bytes, Mentioned]:
    """What the lists say today."""
    found = await mentioned(replica, persons)
    return {person: Mentioned(each.names[-1:], each.spaces) for person, each in found.items()}


@attack(ROW, off={"sync_agent.school.commands.erase_persons": _with_all_who_are_said_to_be})
async def test_a_head_who_forgets_one_pupil_on_her_page_forgets_nobody_whom_she_did_not_tick(lists: Lists) -> None:
    place = f"/school/{lists.here.room.space.hex()}"
    async with portal(lists.head.agent) as surfer:
        await surfer.send(place, f"{place}/erase", {"person": lists.leaver.hex(), "meant": "yes"})
        assert not await lists.forgotten(), "she is asked first"
        answer = {"person": lists.leaver.hex(), "meant": "yes", "asked": "yes"}
        await surfer.send(place, f"{place}/erase", answer)
    assert await lists.forgotten() == {lists.leaver}


@attack(ROW, off={"sync_agent.school.commands.erase_persons": _with_all_who_are_said_to_be})
async def test_a_head_who_forgets_one_pupil_at_the_command_line_forgets_nobody_whom_she_did_not_name(
    lists: Lists,
) -> None:
    desk, leaver = Desk(lists.head.agent), lists.leaver.hex()
    with pytest.raises(BadInput, match="nobody has been forgotten yet"):
        await desk.ask("erase", person=[leaver])
    desk.told.clear()
    await desk.ask("erase", person=[leaver], dry_run=True)
    assert any("say --alone if that is all" in line for line in desk.told), "a trial says what is asked afterwards"
    told = [line for line in desk.told if "all lists say that this is the same person" in line]
    assert {line.split(", ")[0] for line in told} == {f"to be forgotten: not “Tom {number}”" for number in range(3)}
    await desk.ask("erase", person=[leaver], alone=True)
    assert await lists.forgotten() == {lists.leaver}


@attack(ROW, off={"sync_agent.portal.head.forgetting.mentioned": _called_now})
async def test_who_is_asked_about_is_called_what_they_were_called_before_the_server_said_otherwise(
    lists: Lists,
) -> None:
    place = f"/school/{lists.here.room.space.hex()}"
    async with portal(lists.head.agent) as surfer:
        page = await surfer.send(place, f"{place}/erase", {"person": lists.leaver.hex(), "meant": "yes"})
    for number in range(len(lists.others)):
        assert f"Tom {number} (ensuite : ZOE)" in html.unescape(page.text)


async def _of_nobody(*_: object) -> None:
    """As if whom all lists call the same were the same."""


@attack(
    ROW,
    off={
        "sync_server.operations.lifecycle.ask_about_those_along": _of_nobody,
        "protocol.replica.office.doubles.SURE": frozenset(Whose),
    },
)
async def test_a_server_whose_key_was_copied_forgets_no_class_with_a_pupil_who_has_left(tmp_path: Path) -> None:
    async with office(tmp_path) as here:
        server, space = here.server, bytes.fromhex(here.space)
        leaver = await here.add_person("Zoé", "pupil")
        others = [await here.add_person(f"Tom {number}", "pupil") for number in range(3)]
        persons = (await server.replica.view(space)).roster.persons
        same = [
            Draft(
                space,
                Kind.PERSON,
                server.grant,
                PersonRecord(f"Tom {number}", PersonRole.PUPIL, same_as=bytes.fromhex(leaver)).encode(),
                subject=bytes.fromhex(other),
                parents=(persons[bytes.fromhex(other)].entry,),
            )
            for number, other in enumerate(others)
        ]
        await thief_says(here, *same)
        await here.with_kit("rotate server", kit_in(tmp_path / "kit", None))
        with suppress(BadInput):
            await here.do("erase", person=[leaver])
        assert not {covers.hex() for _, covers in await erasures.ever_said(server.replica)} & set(others)
        await here.do("erase", person=[leaver], alone=True)
        assert {covers.hex() for _, covers in await erasures.ever_said(server.replica)} == {leaver}


async def whoever_is_said_to_be(office: Office, persons: Collection[bytes]) -> list[bytes]:
    """One list's word is enough."""
    rosters = [(await office.replica.view(space)).roster for space in office.replica.door.spaces()]
    return list({other for each in rosters for other, one in each.aliases.items() if one in persons})


async def nobody_is_asked_about(*_: object, **__: object) -> None:
    """Who has by now a name that was another's is not asked about."""


@attack(
    ROW,
    off={
        "sync_server.operations.lifecycle.made_one_with": whoever_is_said_to_be,
        "sync_server.operations.lifecycle.ask_about_names": nobody_is_asked_about,
        "sync_server.operations.lifecycle.ask_about_those_along": nobody_is_asked_about,
    },
)
async def test_a_list_elsewhere_makes_no_erasure_of_one_an_erasure_of_all(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        lea = await desk.add_person("Léa", "pupil")
        others = [await desk.add_person(f"Élève {number}", "pupil") for number in range(3)]
        double = await desk.add_person("LEA", "pupil")
        await merge_persons(desk.server, bytes.fromhex(double), bytes.fromhex(lea))
        club = bytes.fromhex((await desk.do("space add", name="Club", school="0180001D", year="none"))["space"])
        record = PersonRecord("Élève", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(lea))
        await desk.server.say([list_draft(bytes.fromhex(other), record, club) for other in others])

        await desk.do("erase", person=[lea], dry_run=True)
        told = [line for line in desk.said.lines if "to be forgotten" in line]
        assert [line.split(": ", 1)[1].startswith("not ") for line in told] == [False, False, True, True, True]
        await desk.do("erase", person=[lea])
        roster = (await desk.server.replica.view(bytes.fromhex(desk.space))).roster
        assert {person.hex() for person in roster.persons} == set(others)
        assert {covers.hex() for _, covers in await erasures.in_force(desk.server.replica)} == {lea, double}


async def test_who_was_really_added_twice_under_one_name_is_forgotten_as_one(tmp_path: Path) -> None:
    async with office(tmp_path) as here:
        twice = [await here.add_person("Zoé", "pupil") for _ in range(2)]
        first, second = map(bytes.fromhex, twice)
        await merge_persons(here.server, first, second)
        await here.do("erase", person=[twice[1]])
        assert {covers.hex() for _, covers in await erasures.ever_said(here.server.replica)} == set(twice)


async def _is_said_to_be_the_same(here: SpiedClass) -> bytes:
    """Léa, whose work was opened, is Zoé by every list that the teacher's computer has; Zoé's id."""
    room, territory = here.room, here.room.territory
    zoe = await territory.person("Zoé", PersonRole.PUPIL, room.space)
    listed = (await territory.replica.view(room.space)).roster.persons[room.pupil_person].entry
    same = PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=zoe).encode()
    await territory.say(room.space, Kind.PERSON, same, subject=room.pupil_person, parents=(listed,))
    await here.sync()
    return zoe


@attack(OTHER_FAMILIES, off={"protocol.replica.access.gathering._is_of": lambda *_: True})
async def test_the_archive_of_one_pupil_holds_nothing_of_whom_a_list_calls_the_same(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        zoe, lea = await _is_said_to_be_the_same(here), here.room.pupil_person.hex()
        desk = Desk(here.teacher.agent)
        files = await desk.files("export-person", person=zoe.hex())
        assert not any(path.startswith("travaux/") for path in files)
        assert lea not in files["donnees.json"].decode()
        assert any("not in it: “Léa”" in line and f"export-person {lea}" in line for line in desk.told)
        assert WORK["reponse.odt"] in (await desk.files("export-person", person=lea)).values()


async def _only_itself(_replica: Replica, person: bytes) -> set[bytes]:
    return {person}


@attack(OTHER_FAMILIES, off={"protocol.replica.access.gathering.shown_as": _only_itself})
async def test_whoever_makes_the_archive_of_an_id_is_told_of_the_one_that_a_list_says_it_is(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        shown, desk = (await _is_said_to_be_the_same(here)).hex(), Desk(here.teacher.agent)
        await desk.files("export-person", person=here.room.pupil_person.hex())
        assert any("not in it: " in line and f"export-person {shown}" in line for line in desk.told)


async def _under_one_name(agent: Agent, roster: Roster, pupils: dict[bytes, str]) -> dict[bytes, str]:
    return {other: pupils[one] for other, one in roster.aliases.items()}


async def test_and_of_her_portfolio(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        shown, desk = (await _is_said_to_be_the_same(here)).hex(), Desk(here.teacher.agent)
        await desk.files("portfolio", space=here.room.space.hex(), person=here.room.pupil_person.hex())
        assert any("not in it: " in line and f"--person {shown}" in line for line in desk.told)


@attack(OTHER_FAMILIES, off={"sync_agent.hand_ins.year_end._called_the_same": _under_one_name})
async def test_what_a_family_takes_home_lies_in_a_folder_of_the_one_who_was_added_under_that_name(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        zoe, lea = await _is_said_to_be_the_same(here), here.room.pupil_person.hex()
        desk, space = Desk(here.teacher.agent), here.room.space.hex()
        files = await desk.files("portfolio", space=space)
        assert {path.partition("/")[0] for path in files} == {f"Léa ({lea[:8]})"}
        assert await desk.files("portfolio", space=space, person=zoe.hex()) == {}
        assert any("not in it: Léa" in line and f"--person {lea}" in line for line in desk.told)
        assert await desk.files("portfolio", space=space, person=lea) == files
