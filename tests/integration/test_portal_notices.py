"""What the portal says about what is kept: linked from each page, for who reads, with who answers for it."""

from __future__ import annotations

import html

from sync_agent.machine.answerable import Answerable
from tests.harness.classroom import Classroom
from tests.harness.commands import Desk
from tests.harness.portal import PAGE, Surfer, portal
from tests.harness.sign_in import signed_class

CHILDREN, TEENS, ADULTS = "L'ordinateur garde ton travail", "Ce que Relais sait de toi", "Qui s'y oppose rend"
STAFF = "Ce que Relais enregistre de vous"


async def shown(surfer: Surfer, path: str = "/notice") -> str:
    return html.unescape(await surfer.page(path)).replace("\N{NO-BREAK SPACE}", " ")


async def test_each_page_leads_to_what_is_kept_whoever_sits_there(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    desk = Desk(teacher.agent)
    task = await desk.publish({"a.html": PAGE}, space=room.space.hex(), title="Raconte", kind="assignment")
    await teacher.session.sync()
    await pc.session.sync()
    for agent, more in ((pc.agent, ("/who",)), (teacher.agent, ("/publish", "/folders", "/readers"))):
        async with portal(agent) as surfer:
            for path in ("/", "/work", "/state", "/nearby", "/notice", f"/item/{task['item']}", "/item/none", *more):
                assert '<a href="/notice"' in (await surfer.get(path)).text, path


async def test_it_is_said_in_the_words_of_who_reads_and_others_are_a_link_away(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        assert CHILDREN in await shown(surfer)
        adults = await shown(surfer, "/notice?for=adult")
        assert ADULTS in adults
        assert STAFF not in adults
        assert TEENS in await shown(surfer, "/notice?for=11-18")
        assert CHILDREN in await shown(surfer), "the other pages go on speaking as they did"
        assert "The computer keeps your work" in await shown(surfer, "/notice?lang=en")


async def test_a_teacher_reads_what_is_kept_about_teachers_as_well(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    async with portal(teacher.agent) as surfer:
        page = await shown(surfer)
    assert ADULTS in page
    assert STAFF in page


async def test_it_names_who_answers_as_the_operator_has_and_else_whom_to_ask(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        assert "Responsable</strong> : la direction de l'école vous dit qui il est" in await shown(
            surfer, "/notice?for=adult"
        )
    named = Answerable("DASEN du Cher <b>", "dpd@ac-orleans-tours.example")
    async with portal(pc.agent, answerable=named) as surfer:
        page = await surfer.page("/notice?for=adult")
    assert "DASEN du Cher &lt;b&gt;" in page
    assert "dpd@ac-orleans-tours.example" in page


async def test_where_pupils_sign_in_it_says_so_to_them_and_to_their_teacher(room: Classroom) -> None:
    school = await signed_class(room)
    for device in (school.pc, school.teacher):
        async with portal(device.agent) as surfer:
            assert "Les autres enfants ne le voient pas" in await shown(surfer, "/notice?for=6-11")
    await Desk(school.teacher.agent).ask("sign-in-switch", space=room.space.hex(), on=False)
    await school.agree()
    for device in (school.pc, school.teacher):
        async with portal(device.agent) as surfer:
            assert "un autre enfant peut choisir ton nom" in await shown(surfer, "/notice?for=6-11")
