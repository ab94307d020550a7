"""A pupil who was erased stays so: whatever comes late, from an old stick, an old backup, or a server made anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from protocol.errors import BadInput, Code
from protocol.limits import ERASURE_DELAY_MS, MAX_ERASED_PER_DAY
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.office.further_words import merge_persons
from protocol.replica.upkeep.eraser import Eraser
from protocol.trust.kit import Kit
from sync_agent.school.sign_in import TRIES_MARKS
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.handlers.by_kit.territory import new_kit
from tests.harness.classroom import WORK, Classroom, Device, assignment, work_of
from tests.harness.lan import exchange
from tests.harness.passing_days import pass_days
from tests.harness.server_in_process import Office, office


async def told(room: Classroom) -> tuple[Device, Device, list[Entry]]:
    """Léa has handed in; her entries, as an old stick keeps them; then she is erased, and both devices know."""
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    await room.hand_in(machine, item, WORK)
    for device in (machine, teacher):
        await device.session.sync()
    old = [one.entry for one in await teacher.agent.replica.store.scan(room.space)]
    await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    for device in (machine, teacher):
        await device.session.sync()
    return teacher, machine, [entry for entry in old if entry.header.subject == room.pupil_person]


async def shown(replica: object, room: Classroom) -> bool:
    """Whether a replica shows anything of Léa."""
    view = await replica.view(room.space)  # type: ignore[attr-defined]
    works = {work.person for work in view.coursework.hand_ins.values()}
    return room.pupil_person in view.roster.persons or room.pupil_person in works


async def payloads(store: object, room: Classroom) -> int:
    """How many payloads about her a store still holds."""
    arrived = await store.scan(room.space)  # type: ignore[attr-defined]
    return sum(one.entry.header.subject == room.pupil_person and one.entry.payload is not None for one in arrived)


async def after_a_week(room: Classroom, *devices: Device) -> None:
    """Every replica sweeps, now and every day of a week."""
    await pass_days(room.territory, 7, *devices)


async def test_a_server_made_anew_learns_of_it_from_its_devices_and_shows_nothing(
    room: Classroom, tmp_path: Path
) -> None:
    teacher, machine, _ = await told(room)
    room.territory.clock.advance(60_000)
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    for device in (teacher, machine):
        await device.session.sync()
    assert not await shown(room.territory.replica, room)
    assert await payloads(room.territory.replica.store, room) > 0
    await after_a_week(room, teacher, machine)
    assert await payloads(room.territory.replica.store, room) == 0
    for device in (teacher, machine):
        await device.session.sync()
    assert await room.agree()


async def test_a_server_restored_from_before_it_learns_of_it_again(room: Classroom, tmp_path: Path) -> None:
    await room.territory.close()
    shutil.copytree(tmp_path / "server", tmp_path / "image")
    await room.restart_server(tmp_path / "server")
    teacher, machine, _ = await told(room)
    await room.restart_server(tmp_path / "image")
    assert await shown(room.territory.replica, room)
    await machine.session.sync()
    assert not await shown(room.territory.replica, room)
    await after_a_week(room, teacher, machine)
    assert await payloads(room.territory.replica.store, room) == 0


async def test_what_an_old_stick_or_a_late_neighbour_brings_is_hidden_at_once_and_destroyed_again(
    room: Classroom,
) -> None:
    teacher, machine, old = await told(room)
    late = await room.machine()
    await late.agent.replica.admit(
        [one.entry for space in room.territory.replica.door.lineage(room.space)[::-1]
         for one in await room.territory.replica.store.scan(space)
         if one.entry.header.kind != Kind.ERASE],
        source=b"an old stick", now_ms=room.territory.clock(),
    )  # fmt: skip
    assert await shown(late.agent.replica, room)  # it was off for months
    await after_a_week(room, teacher, machine)
    assert await payloads(machine.agent.replica.store, room) == 0
    await exchange(late.agent, machine.agent)
    assert not await shown(late.agent.replica, room)
    assert not await shown(machine.agent.replica, room)
    await machine.agent.replica.admit(old, source=b"an old stick", now_ms=room.territory.clock())
    await destroy_erased(machine.agent)
    assert await payloads(machine.agent.replica.store, room) == 0


async def test_how_often_somebody_missed_goes_with_them_and_not_before(room: Classroom) -> None:
    _, machine, _ = await told(room)
    mark = f"{TRIES_MARKS}{room.pupil_person.hex()}"
    await machine.agent.replica.store.set_marks({mark: b"x", f"{TRIES_MARKS}{'ab' * 16}": b"x"})
    await destroy_erased(machine.agent)
    assert mark in await machine.agent.replica.store.marks(TRIES_MARKS), "who is shown again has no ten new tries"
    await after_a_week(room, machine)
    assert list(await machine.agent.replica.store.marks(TRIES_MARKS)) == [f"{TRIES_MARKS}{'ab' * 16}"]


# --- many at once -----------------------------------------------------------------------------------------------------


async def destroyed(desk: Office) -> int:
    """How many names are destroyed once a week has passed, on the first day."""
    eraser = Eraser(desk.server.replica, desk.server.holdings)
    await eraser.sweep(desk.clock())
    desk.clock.advance(ERASURE_DELAY_MS)
    return (await eraser.sweep(desk.clock())).names


async def test_more_than_five_people_go_on_one_day_only_by_the_kits_word(tmp_path: Path) -> None:
    kit = new_kit("Cher", Random(1).randbytes)
    async with office(tmp_path / "server", kit=kit) as desk:
        pupils = [await desk.add_person(f"Élève {number}", "pupil") for number in range(8)]
        await desk.do("erase", person=pupils)
        pace = f"without --kit, each machine destroys {MAX_ERASED_PER_DAY} persons a day, counted once in each class"
        assert pace in desk.said.lines
        assert await destroyed(desk) == MAX_ERASED_PER_DAY
    async with office(tmp_path / "other", kit=kit) as desk:
        pupils = [await desk.add_person(f"Élève {number}", "pupil") for number in range(8)]
        await desk.do("erase", person=pupils[:2])
        await desk.with_kit("erase", kit, person=pupils)
        await desk.with_kit("erase", kit, person=pupils)
        assert len(await desk.server.store.scan_kinds([Kind.ERASE])) == 10
        assert await destroyed(desk) == 8


async def test_a_kit_of_somebody_else_and_an_unknown_person_change_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        pupil = await desk.add_person("Léa", "pupil")
        other: Kit = new_kit("Autre", os.urandom)
        with pytest.raises(BadInput) as refused:
            await desk.with_kit("erase", other, person=[pupil])
        assert refused.value.code is Code.BAD_KIT
        with pytest.raises(BadInput) as unknown:
            await desk.do("erase", person=[pupil, "ab" * 16])
        assert unknown.value.code is Code.UNKNOWN_PERSON
        assert await desk.server.store.scan_kinds([Kind.ERASE]) == []


async def test_who_was_added_twice_is_erased_as_one(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        one, double = [await desk.add_person(name, "pupil") for name in ("Léa", "Lea")]
        await merge_persons(desk.server, bytes.fromhex(double), bytes.fromhex(one))
        await desk.do("erase", person=[one])
        erased = (await desk.server.replica.view(desk.server.replica.territory)).roster.erased
        assert {each.hex() for each in erased} == {one, double}


async def test_who_changes_the_servers_keys_is_told_who_is_not_destroyed_before_it_is_said_again(
    tmp_path: Path,
) -> None:
    kit = new_kit("Cher", Random(1).randbytes)
    async with office(tmp_path / "server", kit=kit) as desk:
        one, other = [await desk.add_person(name, "pupil") for name in ("Léa", "Tom")]
        await desk.do("erase", person=[one])
        await destroyed(desk)
        await desk.do("erase", person=[other])
        await desk.with_kit("rotate server", kit)
        assert any("nobody has destroyed yet (1)" in line for line in desk.said.lines)
        assert await destroyed(desk) == 0
        await desk.do("erase", person=[other])
        assert await destroyed(desk) == 1


async def test_taking_back_what_the_kit_has_said_too_says_that_it_takes_the_kit(tmp_path: Path) -> None:
    kit = new_kit("Cher", Random(1).randbytes)
    async with office(tmp_path / "server", kit=kit) as desk:
        lea = await desk.add_person("Léa", "pupil")
        await desk.do("erase", person=[lea])
        await desk.with_kit("erase", kit, person=[lea])
        await desk.do("unerase", covers=lea)
        assert f"the kit has said so as well, and `sync-server unerase {lea} --kit" in desk.said.lines[-1]
        with pytest.raises(BadInput, match=f"the kit has said so: `sync-server unerase {lea} --kit") as alone:
            await desk.do("unerase", covers=lea)
        assert alone.value.code is Code.NOT_YET


async def test_a_hand_in_that_came_while_its_pupil_was_erased_has_its_receipt_once_that_is_taken_back(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    work = await room.hand_in(machine, item, WORK)
    erasure = await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    for _ in range(2):
        await machine.session.sync()
    await room.territory.say(room.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    for _ in range(2):
        await machine.session.sync()
    assert (await work_of(machine, room, work)).at_server
