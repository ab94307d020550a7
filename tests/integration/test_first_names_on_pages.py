"""What pupils and their teachers read in the lists of a class where some share a name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.roles import PersonRole
from tests.harness.classroom import Classroom, classroom
from tests.harness.portal import portal


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


def _buttons(page: str) -> list[tuple[str, str]]:
    return re.findall(r'value="([0-9a-f]{32})" class="name"[^>]*>.*?</span><span>([^<]+)</span>', page, re.DOTALL)
