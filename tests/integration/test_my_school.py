"""“Mon école”: a head teacher's pages, on her own computer, with no server in reach."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.roles import Role
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.portal import portal


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


async def head_of(room: Classroom) -> Device:
    school = room.territory.replica.door.parent(room.space)
    assert school is not None
    head = await room.device(Role.HEAD, school)
    await head.session.sync()
    return head


async def test_she_makes_a_class_adds_people_and_gives_codes(room: Classroom) -> None:
    head = await head_of(room)
    async with portal(head.agent) as surfer:
        assert "Mon école" in await surfer.page("/")
        made = await surfer.send("/school", "/school", {"name": "CE2", "year": "2026-2027"})
        place = made.headers["Location"].partition("?")[0]
        for name, role in (("Zoé", "pupil"), ("zoe", "pupil"), ("M. Roux", "teacher")):
            assert (await surfer.send(place, f"{place}/person", {"name": name, "role": role})).status == 303
        page = await surfer.page(place)
        assert "Peut-être ajoutés deux fois" in page
        teacher = re.search(r'value="([0-9a-f]{32})">Le portable de M. Roux', page)
        assert teacher is not None
        code = (await surfer.send(place, f"{place}/code", {"person": teacher[1], "for": "15d"})).text
        assert re.search(r"(?:[0-9A-Z]{4}-){8}[0-9A-Z]{4}", code)
        assert "run --lan" in code
        assert re.search(r"(?:[0-9A-Z]{4}-){8}", await surfer.page(place)) is None  # shown once
        assert "CE2" in await surfer.page("/school")


async def test_she_makes_doubles_one_takes_somebody_off_and_forgets_only_what_is_meant(room: Classroom) -> None:
    head = await head_of(room)
    place, lea = f"/school/{room.space.hex()}", room.pupil_person.hex()
    async with portal(head.agent) as surfer:
        await surfer.send(place, f"{place}/person", {"name": "LEA", "role": "pupil"})
        (other,) = set(re.findall(r'/erase.*?value="([0-9a-f]{32})"', await surfer.page(place), re.DOTALL)) - {lea}
        assert (await surfer.send(place, f"{place}/merge", {"person": other, "into": lea})).status == 303
        assert "Élèves (1)" in await surfer.page(place)
        assert (await surfer.send(place, f"{place}/erase", {"person": lea})).status == 400
        assert "Léa" in await surfer.page(place)
        assert (await surfer.send(place, f"{place}/erase", {"person": lea, "meant": "yes"})).status == 303
        assert "Léa" not in await surfer.page(place)
        petit = room.teacher_person.hex()
        assert (await surfer.send(place, f"{place}/leave", {"person": petit})).status == 303
        assert "Mme Petit" not in await surfer.page(place)


async def test_there_is_no_such_page_on_other_devices_nor_for_other_schools(room: Classroom) -> None:
    head, teacher, pc = await head_of(room), await room.teacher(), await room.machine()
    for device in (teacher, pc):
        await device.session.sync()
        async with portal(device.agent) as surfer:
            assert "/school" not in await surfer.page("/")
            for path in ("/school", f"/school/{room.space.hex()}"):
                assert (await surfer.get(path)).status == 404
            form = {"name": "CE2"}
            assert (await surfer.send("/who", "/school", form)).status == 404
    async with portal(head.agent) as surfer:
        assert (await surfer.get(f"/school/{'ab' * 32}")).status == 400
        wrong = await surfer.send("/school", f"/school/{room.space.hex()}/code", {"uses": "0"})
        assert wrong.status == 400
