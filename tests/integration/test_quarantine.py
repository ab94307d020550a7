"""A quarantine, led by a head teacher or by who runs the system (docs/protocol.md, "Measures")."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from protocol.errors import Code, RelaisError
from protocol.model.work import ItemKind
from protocol.replica.console.drill_words import lift_in_words
from protocol.replica.office.measures import lift_drafts, measures_of, quarantine_drafts
from protocol.roles import RANK, Role
from sync_agent.courier.commands import survey_here
from sync_agent.scheduler import Outcome
from sync_agent.school import measure_commands
from sync_agent.school.measures import ordered
from sync_agent.status import status
from tests.harness.classroom import SMALL, Classroom, Given
from tests.harness.couriers import know_keys
from tests.harness.lan import exchange
from tests.harness.measures import head_of, heed, impose, learn, rehearsing
from tests.harness.portal import portal
from tests.harness.server_in_process import office


async def test_under_quarantine_sticks_are_off_and_reading_and_the_server_go_on(room: Classroom) -> None:
    head, machine = await head_of(room), await room.machine()
    await measure_commands.start_quarantine(head.agent, None)
    await measure_commands.start_quarantine(head.agent, None)
    await learn(head, machine)
    with pytest.raises(RelaisError) as raised:
        await survey_here(machine.agent, Given({}))
    assert raised.value.code is Code.QUARANTINED
    assert (await status(machine.agent))["school"] == {"quarantine": True, "drill_until": None}
    item = (await room.publish(head, SMALL)).item
    await learn(head, machine)
    assert await machine.files(item) == SMALL
    await measure_commands.stop_quarantine(head.agent, None)
    await learn(head, machine)
    assert await survey_here(machine.agent, Given({}))


async def test_under_quarantine_no_drill_takes_the_server_away_too(room: Classroom) -> None:
    head, machine = await head_of(room), await room.machine()
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, machine)
    way = rehearsing(machine)
    await heed(machine, way)
    assert way.ends_ms is not None
    await measure_commands.start_quarantine(head.agent, None)
    await exchange(machine.agent, head.agent)
    await heed(machine, way)
    await machine.session.sync()
    now = await ordered(machine.agent)
    assert (now.quarantined, now.drill) == (True, None)


async def test_a_head_teacher_cannot_lift_what_the_server_has_imposed(room: Classroom) -> None:
    head = await head_of(room)
    replica, grant = room.territory.replica, room.territory.certificate.id
    school = replica.door.parent(room.space) or b""
    for draft in quarantine_drafts(
        await measures_of(replica, school), school, grant, room.territory.keys.signing.public
    ):
        await room.territory.say(school, draft.kind, draft.payload)
    await head.session.sync()
    with pytest.raises(RelaisError) as raised:
        await measure_commands.stop_quarantine(head.agent, None)
    assert raised.value.code is Code.NO_RIGHT
    assert lift_drafts(await measures_of(replica, school), school, grant, RANK[Role.SERVER])


async def test_who_lifts_a_quarantine_of_which_nobody_has_heard_is_not_told_that_it_was_lifted(
    tmp_path: Path, room: Classroom
) -> None:
    async with office(tmp_path / "another") as desk:
        uai = next(row["school"] for row in await desk.do("space list"))
        at_server = await desk.do("quarantine stop", school=uai)
    at_head = await measure_commands.stop_quarantine((await head_of(room)).agent, None)
    for told in (at_server, at_head):
        assert told == {"lifted": 0}
        assert "none was lifted" in lift_in_words(told)[0]


async def test_under_quarantine_pages_say_why_and_a_lesson_is_read_printed_and_handed_in_for(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
    await learn(teacher, pc)
    await impose(room)
    await learn(pc, teacher)
    async with portal(pc.agent, Outcome.NO_ANSWER) as surfer:
        for path in ("/", f"/item/{item.hex()}", "/work", "/state"):
            page = html.unescape(await surfer.page(path))
            assert "École en quarantaine" in page
            assert "N'utilise pas de clé USB" in page
            assert "reste bien gardé sur cet ordinateur" in page
        assert "quarantine" in html.unescape(await surfer.page("/?lang=en"))
        assert (await surfer.lesson(item.hex(), "/lecon.html")).body == SMALL["lecon.html"]
        page = await surfer.page(f"/item/{item.hex()}")
        printing = re.search(r'href="(/print/[^"]+)"', page)
        assert printing is not None
        assert "?relais-print" in await surfer.page(printing[1])
        around = (await surfer.lesson(item.hex(), "/lecon.html?relais-print")).text
        assert 'src="/lecon.html"' in around
        assert "contentWindow.print()" in around
        form = {"person": room.pupil_person.hex()}
        done = await surfer.send(f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in", form, [("a.txt", b"texte")])
        assert done.status == 303
    async with portal(teacher.agent) as surfer:
        page = html.unescape(await surfer.page("/"))
        assert "par le serveur, ou un appareil inscrit pour le gérer" in page
        assert "publier et rendre continuent" in page


async def test_a_machine_that_was_away_goes_on_as_before_until_it_hears_and_comes_back_once_the_server_says_so(
    room: Classroom,
) -> None:
    near, away = await room.machine(), await room.machine()
    await know_keys(room, near, away)
    school = await impose(room)
    await learn(near)
    assert [(await ordered(device.agent)).quarantined for device in (near, away)] == [True, False]
    assert await survey_here(away.agent, Given({})), "who has not heard of it does not know that sticks are off"
    with pytest.raises(RelaisError) as raised:
        await survey_here(near.agent, Given({}))
    assert raised.value.code is Code.QUARANTINED
    # a machine of the school passes it on in the moment before it falls silent
    await exchange(near.agent, away.agent)
    assert (await ordered(away.agent)).quarantined
    measures = await measures_of(room.territory.replica, school)
    for draft in lift_drafts(measures, school, room.territory.certificate.id, RANK[Role.SERVER]):
        await room.territory.say(school, draft.kind, draft.payload, parents=draft.parents)
    await learn(near)
    assert [(await ordered(device.agent)).quarantined for device in (near, away)] == [False, True]
    await learn(away)
    assert not (await ordered(away.agent)).quarantined


async def test_a_head_teacher_is_shown_the_way_to_lift_what_is_hers_and_no_drill_meanwhile(room: Classroom) -> None:
    head = await head_of(room)
    async with portal(head.agent) as surfer:
        await surfer.send("/drill", "/drill/isolate", {})
        assert ' <a href="/drill#quarantine-end">' in await surfer.page("/")
        page = html.unescape(await surfer.page("/drill"))
        assert "Levez d'abord la quarantaine" in page
        assert "n'écoute pas le réseau" not in page, "the network is off, whatever this computer was started with"
        await surfer.send("/drill", "/drill/rejoin", {})
        await impose(room)
        await learn(head)
        assert "#quarantine-end" not in await surfer.page("/"), "it is not hers to lift"
