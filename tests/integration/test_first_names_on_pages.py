"""What pupils and their teachers read in the lists of a class where some share a name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.office.erasures import erase_persons
from protocol.replica.office.further_words import merge_persons, rename_person
from protocol.replica.office.people import add_person
from protocol.replica.office.withdrawals import ungrant_person
from protocol.roles import PersonRole, Role
from sync_agent.school.office import SchoolOffice
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal

TASK = {"consigne.txt": b"Racontez."}


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        for name in ("Léa Martin", "Tom Petit", "Tom Durand", "Zoé Roux", "Ali", "Ali"):
            await made.territory.person(name, PersonRole.PUPIL, made.space)
        yield made


async def test_a_shared_pc_shows_of_names_what_tells_pupils_apart_and_no_more(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        page = await surfer.page("/who")
        listed = re.findall(r"</span><span>([^<]+)</span></button>", page)
        assert sorted(listed) == sorted(["Léa", "Léa M.", "Tom P.", "Tom D.", "Zoé", "Ali (1)", "Ali (2)"])
        for family in ("Martin", "Petit</", "Durand", "Roux"):
            assert family not in page
        person = next(value for value, name in _buttons(page) if name == "Tom D.")
        assert (await surfer.send("/who", "/who", {"person": person})).status == 303
        assert "Bonjour Tom D." in await surfer.page("/")


async def test_a_teacher_sees_whole_names_and_who_is_who_of_two_that_are_alike(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    async with portal(teacher.agent) as surfer:
        page = await surfer.page(f"/sign-ins/{room.space.hex()}")
        for name in ("Tom Durand", "Zoé Roux", "Ali (1)", "Ali (2)"):
            assert f"<h3>{name}</h3>" in page


async def _shown(device: Device) -> dict[bytes, str]:
    """What the page on which pupils choose their name calls them."""
    await device.session.sync()
    async with portal(device.agent) as surfer:
        return {bytes.fromhex(value): name for value, name in _buttons(await surfer.page("/who"))}


async def test_a_number_stays_whose_it_is_whoever_of_that_name_is_added_renamed_or_leaves(room: Classroom) -> None:
    head, pcs = await room.head(), [await room.machine(), await room.machine()]
    await head.session.sync()
    office = await SchoolOffice.of(head.agent)
    leas = [await add_person(office, "Noé", PersonRole.PUPIL, [room.space]) for _ in range(3)]
    await head.session.sync()
    first = {one: f"Noé ({number})" for number, one in enumerate(leas, 1)}
    assert first.items() <= (await _shown(pcs[0])).items()
    # others come, one under another name first; one leaves, one is given a last initial, one turns out to be another
    renamed = await add_person(office, "Ana", PersonRole.PUPIL, [room.space])
    later = [await add_person(office, "NOE", PersonRole.PUPIL, [room.space]) for _ in range(6)]
    await rename_person(office, renamed, "Noé")
    await ungrant_person(office, leas[0], [room.space])
    await rename_person(office, later[0], "Noé D.")
    await merge_persons(office, later[1], into=later[2])
    await head.session.sync()
    for pc in pcs:
        shown = await _shown(pc)
        assert [shown[one] for one in leas[1:]] == ["Noé (2)", "Noé (3)"]
        assert [shown[one] for one in later[2:]] == [f"NOE ({number})" for number in (6, 7, 8, 9)]
        assert shown[renamed] == "Noé (10)"
        assert shown[later[0]] == "Noé D."


async def test_of_whom_has_been_erased_no_gap_tells_the_name(room: Classroom) -> None:
    head, pc = await room.head(), await room.machine()
    leas = [await room.territory.person("Noé", PersonRole.PUPIL, room.space) for _ in range(3)]
    await head.session.sync()
    assert (await _shown(pc))[leas[2]] == "Noé (3)"
    desk = Desk(head.agent)
    await desk.ask("erase", person=[leas[0].hex()], dry_run=True)
    assert "then known in “CM1”" in desk.told[-1]
    assert "“Noé (2)” as “Noé (1)”, “Noé (3)” as “Noé (2)”" in desk.told[-1]
    async with portal(head.agent) as surfer:
        assert "Qui porte le même nom peut alors changer de numéro" in await surfer.page(f"/school/{room.space.hex()}")
    await erase_persons(await SchoolOffice.of(head.agent), [leas[0]])
    await head.session.sync()
    shown = await _shown(pc)
    assert [shown.get(one) for one in leas] == [None, "Noé (1)", "Noé (2)"]


async def test_who_joins_a_group_besides_keeps_the_number_of_the_class(room: Classroom) -> None:
    territory = room.territory
    group = await territory.classroom("Soutien", territory.replica.door.parent(room.space))
    leas = [await territory.person("Noé", PersonRole.PUPIL, room.space) for _ in range(2)]
    await territory.say(group, Kind.PERSON, PersonRecord("Noé", PersonRole.PUPIL).encode(), subject=leas[1])
    shown = await _shown(await room.device(Role.MACHINE, room.space, group))
    assert [shown[one] for one in leas] == ["Noé (1)", "Noé (2)"]


async def test_of_two_who_share_a_name_work_proof_and_lists_say_whose_it_is(room: Classroom) -> None:
    noe = [await room.territory.person("Noé", PersonRole.PUPIL, room.space) for _ in range(2)][1]
    teacher, pc = await room.teacher(), await room.machine()
    for device in (teacher, pc):
        await device.session.sync()
    item = (await Desk(teacher.agent).publish(TASK, space=room.space.hex(), title="Eau", kind="assignment"))["item"]
    for device in (teacher, pc):
        await device.session.sync()
    work = await Desk(pc.agent).hand_in(item, noe.hex(), {"a.txt": b"1"})
    for device in (pc, teacher):
        await device.session.sync()
    for device in (pc, teacher):
        async with portal(device.agent) as surfer:
            assert "Travail de Noé (2)" in await surfer.page(f"/work/{work}")
            assert "<dd>Noé (2)</dd>" in await surfer.page(f"/work/{work}/receipt")
            assert "Noé (2)" in await surfer.page("/work")
        (row,) = await Desk(device.agent).ask("hand-ins")
        assert (row["name"], row["called"], row["person"]) == ("Noé", "Noé (2)", noe.hex())
        proof = await Desk(device.agent).ask("receipt", id=work, page="fr")
        assert "<dd>Noé (2)</dd>" in proof["page"]
        people = await Desk(device.agent).ask("people", space=room.space.hex())
        assert [each["called"] for each in people if each["person"] == noe.hex()] == ["Noé (2)"]


def _buttons(page: str) -> list[tuple[str, str]]:
    return re.findall(r'value="([0-9a-f]{32})" class="name"[^>]*>.*?</span><span>([^<]+)</span>', page, re.DOTALL)
