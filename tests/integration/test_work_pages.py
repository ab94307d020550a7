"""What is said of a pupil's work: on which machine, due when, which version, and what each reader can do."""

from __future__ import annotations

import datetime as dt
import html

import pytest

from protocol.clock import DAY_MS
from protocol.identity import three_words
from protocol.model.work import ItemKind
from tests.harness.classroom import SMALL, WORK, Classroom, Device
from tests.harness.commands import Desk
from tests.harness.portal import portal

MINUTE_MS = 60_000


@pytest.fixture
async def task(room: Classroom) -> tuple[Device, Device, bytes]:
    """A teacher's device and a PC that have an assignment, and its id."""
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    for device in (teacher, pc):
        await device.session.sync()
    return teacher, pc, item


async def test_a_teacher_reads_what_the_machine_is_called_and_its_keys_words(
    room: Classroom, task: tuple[Device, Device, bytes]
) -> None:
    teacher, pc, item = task
    pc.agent.rename("Renard")
    work = (await room.hand_in(pc, item, WORK)).hex()
    for device in (pc, teacher):
        await device.session.sync()
    async with portal(teacher.agent) as adult:
        assert f"Rendu sur le poste Renard ({three_words(pc.agent.device)}) :" in await adult.page(f"/work/{work}")


async def test_an_earlier_version_is_called_so_and_leads_to_the_last_one(
    room: Classroom, task: tuple[Device, Device, bytes]
) -> None:
    teacher, pc, item = task
    works = []
    for number in range(6):
        room.territory.clock.advance(MINUTE_MS)
        works.append((await room.hand_in(pc, item, {"texte.txt": b"%d" % number})).hex())
    for device in (pc, teacher):
        await device.session.sync()
    first, last = works[0], works[-1]
    async with portal(teacher.agent) as adult:
        newest = await adult.page(f"/work/{last}")
        assert "Version précédente." not in newest
        assert "Autres versions de ce travail" in newest
        assert "ne sont pas montrés ici" not in newest
        older = await adult.page(f"/work/{first}")
        assert "Version précédente." in older
        assert f'href="/work/{last}"' in older
        rows = await adult.page(f"/item/{item.hex()}")
        assert rows.count("version précédente, rendue") == 3
        assert "et 2 versions encore avant" in rows
        assert "1 travail à ouvrir" in await adult.page("/"), "of six versions one is to be read"
    await Desk(teacher.agent).ask("feedback", id=last, text="Bien")
    async with portal(teacher.agent) as adult:
        assert "à ouvrir" not in await adult.page("/")
    async with portal(pc.agent) as child:
        await child.send("/who", "/who", {"person": room.pupil_person.hex()})
        assert (await child.page("/work")).count("version précédente") == 5
        assert "Version précédente." in await child.page(f"/work/{first}")


async def test_a_due_date_is_a_day_in_words(room: Classroom, task: tuple[Device, Device, bytes]) -> None:
    teacher, pc, item = task
    months = [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ]
    weekdays = ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"]
    due = dt.datetime.fromtimestamp((room.territory.clock() + 9 * DAY_MS) / 1000, dt.UTC).astimezone()
    due = due.replace(hour=23, minute=59)
    await Desk(teacher.agent).publish(None, item=item.hex(), due_ms=int(due.timestamp() * 1000))
    for device in (teacher, pc):
        await device.session.sync()
    day = "1er" if due.day == 1 else str(due.day)
    words = f"Pour le {weekdays[due.weekday()]} {day} {months[due.month - 1]}"
    async with portal(pc.agent) as child:
        for page in ("/", f"/item/{item.hex()}"):
            assert words in await child.page(page)


async def test_a_head_teacher_who_reads_no_work_is_told_what_she_can_do(
    room: Classroom, task: tuple[Device, Device, bytes]
) -> None:
    teacher, pc, item = task
    head, named = await room.head(), await room.head(person=room.teacher_person)
    work = (await room.hand_in(pc, item, WORK)).hex()
    for device in (pc, teacher, head, named):
        await device.session.sync()
    async with portal(head.agent) as direction:
        for page in (await direction.page("/"), await direction.page("/work")):
            assert "à ouvrir" not in page
        assert "1 rendu sur 1" in await direction.page("/")
        page = html.unescape(await direction.page(f"/work/{work}"))
        assert "Cet ordinateur ne lit pas les travaux" in page
        assert "s'ouvre et se corrige sur l'ordinateur de Mme Petit" in page
        assert "sync-server invite --role head --person" in page
        assert "<textarea" not in page
    for device in (teacher, named):
        async with portal(device.agent) as adult:
            assert "à ouvrir" in await adult.page("/")
            page = await adult.page(f"/work/{work}")
            assert "<textarea" in page
            assert "ne lit pas les travaux" not in page
