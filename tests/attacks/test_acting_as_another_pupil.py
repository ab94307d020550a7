"""A pupil acts as another on a shared PC: at the portal they cannot, elsewhere it shows, and hides nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import sync_agent.portal as pages
from protocol.identity import three_words
from protocol.model.work import ItemKind
from sync_agent.portal.each_page.sessions import IDLE_S
from tests.harness.attack import attack
from tests.harness.classroom import WORK, classroom
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, SignedClass, sign_in, signed_class

ROW = "a pupil acts as another on a shared PC"


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[SignedClass]:
    async with classroom(tmp_path) as room:
        yield await signed_class(room)


async def assignment(school: SignedClass) -> bytes:
    item = (await school.room.publish(school.teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    return item


async def test_who_is_signed_in_as_tom_neither_hands_in_for_lea_nor_sees_what_is_hers(school: SignedClass) -> None:
    item = await assignment(school)
    hers = (await school.room.hand_in(school.pc, item, WORK)).hex()
    page, action = f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in"
    async with portal(school.pc.agent) as surfer:
        surfer.cookies[surfer.cookie("relais-who")] = school.lea.hex()  # a name that is merely chosen
        sent = await surfer.send("/who", action, {"person": school.lea.hex()}, [("a.txt", b"x")])
        assert sent.status == 403
        await sign_in(surfer, school.tom, "4711")
        sent = await surfer.send(page, action, {"person": school.lea.hex()}, [("a.txt", b"x")])
        assert sent.status == 403
        assert "Dis d&#39;abord qui tu es" in sent.text
        for path in (f"/work/{hers}", f"/work/{hers}/receipt"):
            assert (await surfer.get(path)).status == 404
        assert hers not in await surfer.page("/work")
        assert hers not in await surfer.page(page)
    works = (await school.pc.agent.replica.view(school.room.space)).coursework.hand_ins
    assert [work.hex() for work in works] == [hers]


async def test_a_session_cannot_be_made_up_or_taken_over_from_another_portal(school: SignedClass) -> None:
    item = await assignment(school)
    hers = (await school.room.hand_in(school.pc, item, WORK)).hex()
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        assert (await surfer.get(f"/work/{hers}")).status == 200
        taken = surfer.cookies[surfer.cookie("relais-signed-in")]
    async with portal(school.pc.agent) as surfer:  # after a restart
        for token in (taken, "", "x" * 22, school.lea.hex()):
            surfer.cookies[surfer.cookie("relais-signed-in")] = token
            assert (await surfer.get(f"/work/{hers}")).status == 404


async def test_who_signs_in_at_another_portal_of_the_machine_becomes_nobody_else_here(school: SignedClass) -> None:
    item = await assignment(school)
    hers = (await school.room.hand_in(school.pc, item, WORK)).hex()
    async with portal(school.pc.agent) as here, portal(school.pc.agent) as beside:
        beside.cookies = here.cookies  # one browser: the host is the same, and a port is no part of it
        await sign_in(here, school.lea, PICTURES)
        await sign_in(beside, school.tom, "4711")
        assert (await here.get(f"/work/{hers}")).status == 200
        assert (await beside.get(f"/work/{hers}")).status == 404


async def test_what_a_machine_hands_in_for_somebody_is_the_machines_word_and_hides_nothing(school: SignedClass) -> None:
    item = await assignment(school)
    other = await school.room.machine()
    for device in (other, school.teacher, other):
        await device.session.sync()
    hers = await school.room.hand_in(school.pc, item, WORK)
    false = await school.room.hand_in(other, item, {"a.txt": b"not hers"})
    for device in (school.pc, other, school.teacher):
        await device.session.sync()
    works = (await school.teacher.agent.replica.view(school.room.space)).coursework.hand_ins
    assert {works[hers].author, works[false].author} == {school.pc.agent.device, other.agent.device}
    async with portal(school.teacher.agent) as surfer:
        for work, machine in ((hers, school.pc), (false, other)):
            page = await surfer.page(f"/work/{work.hex()}")
            words = three_words(machine.agent.device)
            name = machine.agent.enrolment.device_name
            said = f"Rendu sur le poste {name} ({words}) : c&#39;est le poste qui l&#39;atteste, pas l&#39;élève."
            assert said in page, "its own name, which any machine can take, and words that it cannot choose"


@attack(ROW, off={"sync_agent.portal.each_page.visit.BACKGROUND_FIELD": "X-Nobody-Sends-That"})
async def test_an_open_page_of_an_old_browser_keeps_nobody_signed_in_who_has_gone(school: SignedClass) -> None:
    now_s = [0.0]
    async with portal(school.pc.agent, clock_s=lambda: now_s[0]) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        assert "/sign-out" in await surfer.page("/")
        for _ in range(3):  # something changes in the class now and then, and the page shows it by itself
            now_s[0] += IDLE_S / 2
            await surfer.get("/", X_Relais_Live="1")
        assert "/sign-out" not in await surfer.page("/")


def test_whatever_an_open_page_fetches_by_itself_says_so() -> None:
    fetched = re.findall(r"fetch\(.*", (Path(pages.__file__).parent / "static" / "portal.js").read_text())
    assert fetched
    assert [line for line in fetched if "...BY_ITSELF" not in line] == []
