"""A drill, led by a head teacher or by who runs the system (docs/protocol.md, "Measures")."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from protocol.canonical import encode
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, RelaisError
from protocol.identity import school_id, three_words
from protocol.model.work import ItemKind
from protocol.replica.console.drill_words import lift_in_words, report_in_words, stop_in_words
from protocol.replica.office.measures import measures_of
from sync_agent.app import Agent
from sync_agent.daemon import sync_alone
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.school_lan import Lan
from sync_agent.machine.addresses import Address, address_of
from sync_agent.machine.around import Around
from sync_agent.machine.marks import DRILL_MARK, EARLY_DRILLS_MARK
from sync_agent.network.trouble import Trouble, seen_in
from sync_agent.school import measure_commands
from sync_agent.school.measures import DrillTransport, Heeding, Ordered, ordered
from sync_agent.status import status
from sync_agent.sync.drill_end import DrillEnd
from sync_agent.transport.answers import Response
from tests.harness.classroom import SMALL, WORK, Classroom, Device, assignment
from tests.harness.commands import Desk
from tests.harness.couriers import bring, export, know_keys
from tests.harness.lan import exchange
from tests.harness.measures import MINUTE, head_of, heed, learn, rehearsing, school_of
from tests.harness.patience import until
from tests.harness.portal import Surfer, portal
from tests.harness.server_in_process import office
from tests.harness.wire import MemoryTransport


async def test_a_head_teacher_leads_a_drill_and_reads_what_it_has_shown(room: Classroom) -> None:
    head, teacher, one, other = await head_of(room), await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, one, other, head)
    room.territory.clock.advance(MINUTE)
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, teacher, one, other)
    ways = [(device, rehearsing(device)) for device in (head, teacher, one, other)]
    for device, way in ways:
        await heed(device, way)
        with pytest.raises(NoAnswer) as raised:
            await device.session.sync()
        seen = seen_in(raised.value)
        assert raised.value.code is Code.UNREACHABLE
        assert seen is not None
        assert seen.trouble is Trouble.DRILL
    assert cast("dict[str, Any]", (await status(one.agent))["server"])["reachable"] is False

    room.territory.clock.advance(5 * MINUTE)
    await room.publish(teacher, SMALL)
    await room.hand_in(one, task, WORK)
    room.territory.clock.advance(2 * MINUTE)
    await exchange(one.agent, other.agent)
    assert await Copies(other.agent, set).tend() == 1
    await exchange(other.agent, head.agent)
    await exchange(head.agent, teacher.agent)

    room.territory.clock.advance(24 * MINUTE)
    for device, way in ways:
        await heed(device, way)
    await learn(teacher, one, other, head)
    report = await measure_commands.report_drill(head.agent, "0180001X")
    assert (report["published"], report["handed_in"], report["safe"], report["waiting"]) == (1, 1, 1, 0)
    assert report["seconds_to_safe"] == {"median": 120.0, "longest": 120.0}
    rows = cast("list[dict[str, Any]]", report["devices"])
    found = {row["device"]: (row["published"], row["handed_in"], row["kept_for_others"]) for row in rows}
    assert found[teacher.agent.device.hex()][:2] == (1, 0)  # she and the head may have signed for the work as well
    assert found[one.agent.device.hex()] == (0, 1, 0)
    assert found[other.agent.device.hex()] == (0, 0, 1)
    assert report["running"] is False


async def test_a_drill_that_is_stopped_is_over_where_that_is_heard_and_elsewhere_at_its_end(room: Classroom) -> None:
    head, near, far = await head_of(room), await room.machine(), await room.machine()
    await measure_commands.start_drill(head.agent, None, 30)
    with pytest.raises(BadInput, match="running already"):
        await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, near, far)
    room.territory.clock.advance(MINUTE)
    await measure_commands.stop_drill(head.agent, None)
    await exchange(near.agent, head.agent)
    assert [bool((await ordered(device.agent)).drill) for device in (head, near, far)] == [False, False, True]
    room.territory.clock.advance(29 * MINUTE)
    assert not (await ordered(far.agent)).drill


async def test_a_device_that_plays_a_drill_hears_from_the_server_that_it_was_stopped_and_nothing_else(
    room: Classroom,
) -> None:
    head, teacher, far = await head_of(room), await room.teacher(), await room.machine()
    task = await assignment(room, teacher, far, head)
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, far)
    way = rehearsing(far)
    await heed(far, way)
    room.territory.clock.advance(MINUTE)
    lesson = (await room.publish(teacher, SMALL)).item
    work = await room.hand_in(far, task, WORK)
    await learn(teacher)
    heard = asyncio.Event()
    question = DrillEnd(far.agent, way, heard.set)
    await question.ask()
    assert heard.is_set()
    await heed(far, way)
    assert way.ends_ms is not None, "nobody has stopped it"
    await measure_commands.stop_drill(head.agent, None)
    await learn(head)
    await question.ask()
    assert work not in (await room.territory.replica.view(room.space)).coursework.hand_ins
    assert lesson not in (await far.agent.replica.view(room.space)).coursework.items
    await heed(far, way)
    assert way.ends_ms is None
    await learn(far)
    assert work in (await room.territory.replica.view(room.space)).coursework.hand_ins
    assert lesson in (await far.agent.replica.view(room.space)).coursework.items


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_who_syncs_by_hand_in_a_drill_that_was_stopped_meanwhile_does_so_and_in_one_that_was_not_is_told(
    room: Classroom, *, is_stopped: bool
) -> None:
    head, far = await head_of(room), await room.machine()
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, far)
    room.territory.clock.advance(MINUTE)
    if is_stopped:
        await measure_commands.stop_drill(head.agent, None)
    await learn(head)
    desk = Desk(far.agent)
    desk.table = {"sync": sync_alone(far.agent, lambda _url: MemoryTransport(room.frontage))}
    with nullcontext() if is_stopped else pytest.raises(NoAnswer, match="rehearses an outage"):
        await desk.ask("sync")


class OftenAway(MemoryTransport):
    """A way on which nobody answers as long as the line is cut."""

    is_cut = True

    async def post(self, path: str, body: bytes) -> Response:
        if self.is_cut:
            raise NoAnswer(Code.UNREACHABLE, "the line is cut")
        return await super().post(path, body)


async def test_whether_it_is_over_is_asked_now_and_then_in_a_drill_alone_and_in_vain_in_a_real_outage(
    room: Classroom,
) -> None:
    head = await head_of(room)
    line = OftenAway(room.frontage)
    way, heard, pauses = DrillTransport(line, head.agent.enrolment.server_url), asyncio.Event(), list[float]()

    def soon(least: float, most: float) -> float:
        pauses.append(most)
        return 0.0

    async def asked_again() -> bool:
        return len(pauses) > before + 3

    asking = asyncio.create_task(DrillEnd(head.agent, way, heard.set, draw=soon).run())
    try:
        line.is_cut = False
        before = len(pauses)
        await until(asked_again)
        assert not heard.is_set(), "there is no drill"
        line.is_cut, way.ends_ms = True, room.territory.clock() + MINUTE
        before = len(pauses)
        await until(asked_again)
        assert not heard.is_set()
        line.is_cut = False
        await until(asked_again)
        await heard.wait()
        assert max(pauses) <= 300
    finally:
        asking.cancel()


def leading(head: Device, way: DrillTransport) -> tuple[DrillEnd, Heeding]:
    """What `run` has on her device."""
    telling = DrillEnd(head.agent, way, lambda: None)
    head.agent.tell_drill = telling.tell
    return telling, Heeding(head.agent, way, lambda: None, quarantined=False, tell=telling.tell)


async def test_the_order_of_a_drill_is_at_the_server_before_her_device_falls_silent(room: Classroom) -> None:
    head, far = await head_of(room), await room.machine()
    way = rehearsing(head)
    _, heeding = leading(head, way)
    assert (await Desk(head.agent).ask("drill start", minutes=30))["at_server"] is True
    await heeding.heed()
    with pytest.raises(NoAnswer):
        await head.session.sync()
    await learn(far)
    assert (await ordered(far.agent)).drill, "it reaches nobody but the server"
    async with portal(head.agent) as surfer:
        assert "Le serveur a l'ordre." in html.unescape(await surfer.page("/drill"))


async def test_an_order_that_found_no_server_is_brought_once_one_answers_and_nothing_else_is(room: Classroom) -> None:
    head, far = await head_of(room), await room.machine()
    line = OftenAway(room.frontage)
    way = DrillTransport(line, head.agent.enrolment.server_url)
    telling, heeding = leading(head, way)
    desk = Desk(head.agent)
    assert (await desk.ask("drill start", minutes=30))["at_server"] is False
    assert "the server does not have the order" in desk.told[0]
    await heeding.heed()
    assert way.ends_ms is not None, "nobody is held up"
    async with portal(head.agent) as surfer:
        assert "Le serveur n'a pas encore l'ordre" in html.unescape(await surfer.page("/drill"))
        await learn(far)
        assert not (await ordered(far.agent)).drill
        line.is_cut = False
        lesson = (await room.publish(head, SMALL)).item
        await telling.ask_first()
        assert way.ends_ms is not None
        assert "Le serveur a l'ordre." in html.unescape(await surfer.page("/drill"))
    await learn(far)
    assert (await ordered(far.agent)).drill
    assert lesson not in (await room.territory.replica.view(room.space)).coursework.items


class NeverAnswers(MemoryTransport):
    """A way on which a call is taken and never answered."""

    async def post(self, path: str, body: bytes) -> Response:
        await asyncio.Event().wait()
        return await super().post(path, body)


async def test_a_server_that_takes_the_call_and_says_nothing_holds_up_no_drill(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.sync.drill_end.TELL_S", 0.01)
    head = await head_of(room)
    way = DrillTransport(NeverAnswers(room.frontage), head.agent.enrolment.server_url)
    _, heeding = leading(head, way)
    assert (await Desk(head.agent).ask("drill start", minutes=30))["at_server"] is False
    await heeding.heed()
    assert way.ends_ms is not None


async def test_only_a_head_teacher_or_the_server_leads(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    for command in (measure_commands.stop_drill, measure_commands.start_quarantine):
        with pytest.raises(RelaisError) as raised:
            await command(teacher.agent, None)
        assert raised.value.code is Code.NO_RIGHT
    with pytest.raises(BadInput):
        await measure_commands.report_drill(teacher.agent, None)


async def test_drills_of_one_day_are_three_hours_and_each_machine_counts_by_itself(room: Classroom) -> None:
    head, machine = await head_of(room), await room.machine()
    for minutes in (90, 1, 1):
        await measure_commands.start_drill(head.agent, None, minutes)
        await learn(head, machine)
        assert (await ordered(machine.agent)).drill is not None
        await measure_commands.stop_drill(head.agent, None)
        await learn(head, machine)
        room.territory.clock.advance(MINUTE)
    with pytest.raises(BadInput, match="of a day"):
        await measure_commands.start_drill(head.agent, None, 60)
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, machine)
    assert (await ordered(machine.agent)).drill is not None
    room.territory.clock.advance(24 * 60 * MINUTE)
    await measure_commands.start_drill(head.agent, None, 60)
    await learn(head, machine)
    assert (await ordered(machine.agent)).drill is not None


async def test_a_drill_that_was_heard_of_hours_before_its_time_never_begins(room: Classroom) -> None:
    head, machine = await head_of(room), await room.machine()
    clock = room.territory.clock
    clock.advance(5 * 60 * MINUTE)
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head)
    clock.advance(-5 * 60 * MINUTE)
    await learn(machine)
    assert (await measures_of(machine.agent.replica, await school_of(machine))).drills
    for _ in range(12):
        assert (await ordered(machine.agent)).drill is None
        clock.advance(30 * MINUTE)
    assert await machine.agent.replica.store.mark(EARLY_DRILLS_MARK) is None
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, machine)
    assert (await ordered(machine.agent)).drill is not None


async def test_a_drill_that_no_machine_would_begin_is_not_ordered_and_it_is_said_when_one_can_be(
    room: Classroom,
) -> None:
    head, teacher, machine = await head_of(room), await room.teacher(), await room.machine()
    clock = room.territory.clock
    clock.advance(5 * 60 * MINUTE)
    await room.publish(teacher, SMALL)
    clock.advance(-5 * 60 * MINUTE)
    await learn(teacher, head)
    with pytest.raises(BadInput, match="hours ahead"):
        await measure_commands.start_drill(head.agent, None, 30)
    clock.advance(2 * 60 * MINUTE + MINUTE)
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, machine)
    assert (await ordered(machine.agent)).drill is not None


async def test_the_server_orders_no_drill_that_no_machine_would_begin(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        uai = next(row["school"] for row in await desk.do("space list"))
        desk.clock.advance(5 * 60 * MINUTE)
        await desk.add_person("Léa", "pupil")
        desk.clock.advance(-5 * 60 * MINUTE)
        with pytest.raises(BadInput, match="hours ahead"):
            await desk.do("drill start", school=uai, minutes=30)
        desk.clock.advance(2 * 60 * MINUTE + MINUTE)
        assert (await desk.do("drill start", school=uai, minutes=30))["drill"]


async def test_a_drill_that_was_noted_by_an_older_version_goes_on(room: Classroom) -> None:
    head, machine = await head_of(room), await room.machine()
    await measure_commands.start_drill(head.agent, None, 30)
    await learn(head, machine)
    drill = (await ordered(machine.agent)).drill
    assert drill is not None
    noted = encode([drill.id, room.territory.clock()])
    await machine.agent.replica.store.set_marks({DRILL_MARK: noted})
    assert (await ordered(machine.agent)).drill == drill
    for nonsense in (b"", b"\xc1", encode([[1, 2], 3]), encode({"x": 1})):
        await machine.agent.replica.store.set_marks({DRILL_MARK: nonsense})
        assert (await ordered(machine.agent)).drill == drill


async def test_a_running_agent_heeds_a_drill_at_once_and_its_end_and_leaves_for_a_quarantine(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.school.measures.PASS_ON_S", 0.0)
    head = await head_of(room)
    way, left = rehearsing(head), asyncio.Event()
    heeding = Heeding(head.agent, way, left.set, quarantined=False)
    await measure_commands.start_drill(head.agent, None, 1)
    await heeding.heed()
    with pytest.raises(NoAnswer):
        await head.session.sync()
    await measure_commands.stop_drill(head.agent, None)
    await heeding.heed()
    await head.session.sync()
    following = asyncio.create_task(heeding.run())
    await measure_commands.start_quarantine(head.agent, None)
    heeding.look()
    await left.wait()
    await following


async def test_a_full_disk_does_not_end_heeding(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.school.measures.PASS_ON_S", 0.0)
    head = await head_of(room)
    left = asyncio.Event()
    heeding = Heeding(head.agent, rehearsing(head), left.set, quarantined=False)
    await measure_commands.start_quarantine(head.agent, None)
    failed = asyncio.Event()

    async def at_first_full(agent: Agent) -> Ordered:
        if not failed.is_set():
            failed.set()
            heeding.look()
            raise LocalFailure(Code.DISK_FULL, "the disk is full")
        return await ordered(agent)

    monkeypatch.setattr("sync_agent.school.measures.ordered", at_first_full)
    await heeding.run()
    assert failed.is_set()
    assert left.is_set()


async def test_the_server_orders_and_reports_too(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        uai = next(row["school"] for row in await desk.do("space list"))
        for command in ("start", "stop", "report"):
            with pytest.raises(BadInput, match="say which school with --school UAI"):
                await desk.do(f"drill {command}", school=None)
        with pytest.raises(BadInput):
            await desk.do("drill report", school=uai)
        with pytest.raises(BadInput):
            await desk.do("drill start", school=desk.space, minutes=30)
        drill = (await desk.do("drill start", school=uai, minutes=30))["drill"]
        desk.clock.advance(MINUTE)
        report = await desk.do("drill report", school=uai)
        assert (report["drill"], report["running"], report["devices"]) == (drill, True, [])
        await desk.do("quarantine start", school=uai)
        assert any("hear of this when they next ask" in line for line in desk.said.lines), "a drill is running"
        await desk.do("quarantine stop", school=uai)
        await desk.do("drill stop", school=uai)
        assert not (await desk.do("drill report", school=uai))["running"]
        desk.said.lines.clear()
        await desk.do("quarantine start", school=uai)
        assert desk.said.lines == []
        school = school_id(desk.server.replica.territory, uai)
        assert (await measures_of(desk.server.replica, school)).quarantines
        lifted = await desk.do("quarantine stop", school=uai)
        assert lift_in_words(lifted)[0].startswith("lifted")
        assert not (await measures_of(desk.server.replica, school)).quarantines


async def test_the_head_teachers_portal_leads_a_drill_and_others_have_no_such_page(room: Classroom) -> None:
    head, teacher = await head_of(room), await room.teacher()
    await teacher.session.sync()
    async with portal(head.agent) as surfer:
        assert "/drill" in await surfer.page("/state")
        assert 'href="/drill"' in await surfer.page("/school")
        assert "Commencer" in await surfer.page("/drill")
        assert (await surfer.get("/drill/report")).status == 404
        await surfer.send("/drill", "/drill/start", {"minutes": "15"})
        assert "Un exercice est en cours" in await surfer.page("/school")
        running = await surfer.page("/drill")
        assert "en cours" in running
        assert "Encore 15 minutes." in running
        await surfer.send("/drill", "/drill/stop", {})
        assert "Commencer un autre exercice" in await surfer.page("/drill")
        assert "Nom et signature" in await surfer.page("/drill/report")
        await surfer.send("/drill", "/drill/isolate", {})
        assert "Lever la quarantaine" in await surfer.page("/drill")
        await surfer.send("/drill", "/drill/rejoin", {})
        assert "Mettre" in await surfer.page("/drill")
        assert (await surfer.send("/drill", "/drill/nonsense", {})).status == 404
    async with portal(teacher.agent) as surfer:
        assert (await surfer.get("/drill")).status == 404


NOW = "À faire maintenant"


def to_do(page: str) -> str:
    """The heading of the step that is next."""
    found = re.search(rf"{NOW}</p>\s*<h3>([^<]+)", html.unescape(page))
    return "" if found is None else found[1].strip()


async def test_a_head_teacher_is_led_through_a_drill_by_what_her_device_sees_of_it(
    room: Classroom, tmp_path: Path
) -> None:
    head, teacher, pc = await head_of(room), await room.teacher(), await room.machine()
    await know_keys(room, head, teacher, pc)
    stick = tmp_path / "stick" / "Relais"
    async with portal(head.agent) as surfer:
        before = await surfer.page("/drill")
        assert "n'écoute pas le réseau" in html.unescape(before)
        assert "Aucun autre poste" in before
        await surfer.send("/drill", "/drill/start", {"minutes": "30"})
        await learn(teacher, pc)
        lan = Lan(head.agent, news=lambda: None, draw=Random(1).uniform)
        head.agent.around, head.agent.neighbours = lan, lan.rows
        async with lan.open(Address("127.0.0.1", 0), ()):
            assert lan.url is not None
            address = address_of(lan.url.removeprefix("https://"), "url")
            assert to_do(await surfer.page("/drill")) == "Les postes sont coupés du serveur"
            async with linked(pc.agent, address), linked(teacher.agent, address):
                await seen(surfer, lambda page: to_do(page) == "Publier un travail à rendre")
                room.territory.clock.advance(2 * MINUTE)
                task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
                page = await seen(surfer, lambda page: to_do(page) == "Rendre ce travail depuis un poste d'élève")
                assert "« Leçon » est publié." in html.unescape(page)
                assert "Encore 28 minutes." in page
                page = await seen(surfer, lambda page: "sur 2 postes en lien" in page)
                room.territory.clock.advance(MINUTE)

                async def is_there() -> bool:
                    return task in (await pc.agent.replica.view(room.space)).coursework.items

                await until(is_there)
                await room.hand_in(pc, task, WORK)
                await seen(surfer, lambda page: to_do(page) == "Porter un travail par clé USB")
        head.agent.around, head.agent.neighbours = Around(), list
        await room.hand_in(pc, task, {"autre.txt": b"par la cle"})
        await export(pc, stick)
        await bring(head, stick)
        page = await surfer.page("/drill")
        assert "1 travail a voyagé par clé." in page
        assert "1 sur 2 à l'abri." in html.unescape(page)
        room.territory.clock.advance(MINUTE)
        await surfer.send("/drill", "/drill/stop", {})
        page = html.unescape(await surfer.page("/drill"))
        assert "finissent tout seuls" in page
        assert to_do(page) == "Tout est arrivé au serveur"
        assert "0 sur 2 au serveur." in page
        await learn(pc, teacher, head)
        await learn(head)
        assert to_do(await surfer.page("/drill")) == ""
        report = html.unescape(await surfer.page("/drill/report"))
        for words in ("2 sur 2 au serveur.", "sur 2 postes en lien", "30 minutes prévues", "Mme Petit"):
            assert words in report
        assert three_words(teacher.agent.device) in report, "it has not told this device its name"
        assert teacher.agent.device.hex()[:8] not in report
        assert "Outage drill" in await surfer.page("/drill?lang=en")


@asynccontextmanager
async def linked(agent: Agent, address: Address) -> AsyncIterator[None]:
    """A device that keeps a link with the one at an address while the context lasts."""
    lan = Lan(agent, news=lambda: None, draw=Random(2).uniform)
    async with lan.open(None, (address,)):
        yield


async def seen(surfer: Surfer, holds: Callable[[str], bool]) -> str:
    """The page, once it says so."""
    page = ""

    async def is_seen() -> bool:
        nonlocal page
        page = html.unescape(await surfer.page("/drill"))
        return holds(page)

    await until(is_seen)
    return page


async def test_who_stops_a_drill_is_told_until_when_others_stay_in_it(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        uai = next(row["school"] for row in await desk.do("space list"))
        assert stop_in_words(await desk.do("drill stop", school=uai)) == ["no drill was running"]
        began_ms = desk.clock()
        drill = (await desk.do("drill start", school=uai, minutes=30))["drill"]
        desk.clock.advance(10 * MINUTE)
        stopped = await desk.do("drill stop", school=uai)
        assert stopped == {"drill": drill, "until": rfc3339(began_ms + 30 * MINUTE)}
        assert "at the latest" in stop_in_words(stopped)[-1]
        report = report_in_words(await desk.do("drill report", school=uai))
        assert any("was stopped" in line for line in report)
        assert any("no device has done anything" in line for line in report)
