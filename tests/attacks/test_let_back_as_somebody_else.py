"""Attacks: a copied key cuts a device off and lets it back in one breath, as somebody else's (docs/adr/0513)."""

from __future__ import annotations

from contextlib import suppress
from html import unescape
from pathlib import Path

import pytest

from protocol.errors import Refused
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.whose_words import names_of_words
from protocol.roles import Role
from sync_agent.school.measure_commands import start_drill
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.copied_keys import AS_WHOEVER_IT_IS_CALLED, granted
from tests.harness.next_year import NextYear
from tests.harness.portal import portal

ROW = "a server gives a laptop or a PC a further right, and takes its words with it"


async def _let_back_as(
    year: NextYear, device: Device, role: Role, person: str | None, space: bytes | None = None
) -> None:
    """With all that it had said, by the copied key; everybody hears of it."""
    agent, where = device.agent, space or year.here.space
    tips = tuple(await year.server.tips(where, agent.device))
    cut = await year.thief_says(where, Kind.REVOKE, Revocation(agent.device, tips).encode())
    await year.thief_says(where, Kind.GRANT, granted(agent.keys, role, person), parents=(cut.id,))
    await year.sync()


async def _roy(year: NextYear) -> str:
    """A colleague on the list of the class, with no laptop yet."""
    person = await year.here.office.add_person("M. Roy", "teacher", year.here.space.hex())
    await year.sync()
    return person


async def _answered_as(year: NextYear, replica: Replica, work: bytes) -> list[str | None]:
    view = await replica.view(year.here.space)
    named = [view.roster.named(note.voice) for note in view.coursework.hand_ins[work].remarks]
    return [None if one is None else one.name for one in named]


async def _published_as(year: NextYear, replica: Replica) -> set[str | None]:
    view = await replica.view(year.here.space)
    grants = {item.shown.grant for item in view.coursework.items.values()}
    return set((await names_of_words(replica, view.roster, grants)).values())


@pytest.mark.parametrize("by_kit", [False, True], ids=["as it is", "with new keys for the server"])
@attack(ROW, off=AS_WHOEVER_IT_IS_CALLED)
async def test_nothing_that_she_says_is_a_colleagues_whom_a_copied_key_calls_her_laptop(
    year: NextYear, tmp_path: Path, *, by_kit: bool
) -> None:
    roy = await _roy(year)
    work = await year.hand_in(year.here.space)
    await _let_back_as(year, year.teacher, Role.TEACHER, roy)
    desk = Desk(year.teacher.agent)
    if by_kit:
        await year.here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None))
        await year.sync()
    with suppress(Refused):
        await desk.ask("feedback", Given({}), id=work.hex(), text="Bravo", mark="A", redo=False)
    with suppress(Refused):
        await desk.publish({"a.txt": b"x"}, space=year.here.space.hex(), title="Leçon")
    await year.sync()
    for replica in (year.machine.agent.replica, year.server, year.teacher.agent.replica):
        assert await _answered_as(year, replica, work) == []
        assert await _published_as(year, replica) == {"Mme Petit"}


@attack(ROW, off=AS_WHOEVER_IT_IS_CALLED)
async def test_nor_does_her_laptop_say_a_key_as_his_to_which_work_is_sealed(year: NextYear) -> None:
    roy = await _roy(year)
    await _let_back_as(year, year.teacher, Role.TEACHER, roy)
    roster = (await year.machine.agent.replica.view(year.here.space)).roster
    assert bytes.fromhex(roy) not in roster.reading_keys


@attack(ROW, off=AS_WHOEVER_IT_IS_CALLED)
async def test_nor_does_a_pc_that_it_lets_back_as_hers_which_hands_in_on(year: NextYear) -> None:
    item = await year.here.asks_for_work(year.teacher, year.here.space)
    await year.sync()
    await _let_back_as(year, year.machine, Role.TEACHER, year.person)
    work = await year.here.work(year.machine, item, year.pupil)
    await year.sync()
    view = await year.server.view(year.here.space)
    assert work in view.coursework.hand_ins
    makers = {device for key in view.roster.makers.values() for device, _ in key}
    assert makers == {year.teacher.agent.device}
    with pytest.raises(Refused):
        await Desk(year.machine.agent).ask("feedback", Given({}), id=work.hex(), text="Bravo", mark="A", redo=False)


@pytest.mark.parametrize("whose", ["Mme H", "nobody"])
@attack(ROW, off=AS_WHOEVER_IT_IS_CALLED)
async def test_nor_does_a_heads_computer_run_the_school_as_a_colleague_whom_it_is_called(
    year: NextYear, whose: str
) -> None:
    here, school = year.here, year.here.school.hex()
    roy = await here.office.add_person("M. Roy", "teacher", school)
    person = None if whose == "nobody" else await here.office.add_person(whose, "teacher", school)
    head = await here.device("head", person, school)
    await year.sync()
    await _let_back_as(year, head, Role.HEAD, roy, here.school)
    desk = Desk(head.agent)
    with pytest.raises(Refused, match=r"calls this computer M\. Roy's"):
        await desk.ask("person add", name="Zoé", role="pupil", space=[here.office.space])
    with pytest.raises(Refused, match=r"calls this computer M\. Roy's"):
        await start_drill(head.agent, None, 30)
    async with portal(head.agent) as surfer:
        assert "celui de : M. Roy" in unescape((await surfer.get("/school")).text)


@attack(ROW, off=AS_WHOEVER_IT_IS_CALLED)
async def test_she_is_told_as_whose_her_laptop_is_called_on_the_command_line_and_her_first_page_greets_her(
    year: NextYear,
) -> None:
    roy = await _roy(year)
    work = (await year.opened_work(year.here.space)).hex()
    async with portal(year.teacher.agent) as surfer:
        form = await surfer.hidden(f"/work/{work}")
        await _let_back_as(year, year.teacher, Role.TEACHER, roy)
        home = unescape(await surfer.page("/"))
        answered = await surfer.send("/", f"/work/{work}/feedback", {**form, "text": "Bravo"}, [])
    desk = Desk(year.teacher.agent)
    for name, params in (
        ("feedback", {"text": "Bravo", "mark": "A", "redo": False}),
        ("confirm-opened", {}),
        ("key-phrase", {}),
        ("key-confirm", {"reader": year.teacher.agent.device.hex()}),
    ):
        with pytest.raises(Refused, match=r"calls this computer M\. Roy's"):
            await desk.ask(name, Given({}), id=work, **params)
    assert "Bonjour Mme Petit" in home
    for said in (home, unescape(answered.text)):
        assert "Pour le serveur, cet ordinateur est celui de : M. Roy." in said


@pytest.mark.parametrize("by", ["its own word", "its own word under new keys", "new keys since the theft"])
async def test_once_the_server_has_said_again_whose_her_laptop_is_she_reads_what_was_handed_in_meanwhile(
    year: NextYear, tmp_path: Path, by: str
) -> None:
    space, roy, office = year.here.space, await _roy(year), year.here.office
    item = await year.here.asks_for_work(year.teacher, space)
    before = await year.opened_work(space)
    await year.answers(before)
    for _ in range(3):
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(3_600_000)
        await year.sync()
    since_ms = office.clock()
    office.clock.advance(3_600_000)
    await _let_back_as(year, year.teacher, Role.TEACHER, roy)
    work = await year.here.work(year.machine, item, year.pupil)
    await year.sync()
    if by != "its own word":
        since = {"since": f"{(office.clock() - since_ms) // 1000}s"} if "since" in by else {}
        await office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), **since)
        await year.sync()
    if "its own word" in by:
        await office.do("grant", device=year.teacher.agent.device.hex(), space=[space.hex()])
    for _ in range(2):
        await year.sync()
    await year.opens(work)
    await year.answers(work)
    for replica in (year.machine.agent.replica, year.server):
        assert [await _answered_as(year, replica, each) for each in (before, work)] == [["Mme Petit"]] * 2
