"""What a PC was called when it was let in is known at the head teacher's, whichever way it came, and nowhere else."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, NoAnswer
from protocol.identity import three_words
from protocol.messages.wire import Call
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from sync_agent.machine.marks import CALLED_MARKS
from sync_agent.school.device_names import device_names, note_met
from sync_agent.school.office import noting_arrivals
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.lan import exchange
from tests.harness.office_devices import Town, town
from tests.harness.patience import until
from tests.harness.portal import portal
from tests.harness.sharing_devices import Room

SCHOOL = "0180001D"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        made.office.server.responder.add_handler(Call.ENROLL, made.office.enrolment.answer)
        yield made


async def names_at(device: Device) -> set[str | None]:
    return set((await device_names(device.agent)).values())


async def test_a_pc_that_the_server_let_in_has_its_name_at_the_heads_and_at_no_pupils_pc(here: Town) -> None:
    head, renard = await here.device("head", space=SCHOOL), await here.device("machine")
    name = renard.agent.enrolment.device_name
    assert name not in await names_at(head)
    await here.sync(head)
    assert name in await names_at(head)
    rows = await Desk(head.agent).ask("devices")
    assert name in {row["name"] for row in rows}
    async with portal(head.agent) as surfer:
        told = f"{name} ({three_words(renard.agent.device)})"
        assert told in html.unescape(await surfer.page(f"/school/{here.space.hex()}")), (
            "what it cannot choose stands beside"
        )
    other = await here.device("machine")
    await here.sync(renard)
    assert other.agent.enrolment.device_name not in await names_at(renard)


@pytest.mark.parametrize("who", ["the server, asked by a teacher's laptop", "the head teacher's computer"])
async def test_a_pc_that_came_in_by_a_stick_has_its_name_at_the_heads(here: Town, tmp_path: Path, who: str) -> None:
    head, stick = await here.device("head", space=SCHOOL), tmp_path / "stick"
    by_server = who.startswith("the server")
    carrier = head
    if by_server:
        carrier = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
    await here.write_stick(carrier, stick, online=by_server)
    code = await here.office.invite("machine", ttl="7d")
    await here.sync(head)
    if not by_server:
        made = await Desk(head.agent).ask("invite", role="machine", space=[here.space.hex()], uses=1, ttl="7d")
        code = made["code"]
    with pytest.raises(NoAnswer):
        await here.enrol_by_stick(tmp_path / "pc", stick, code)
    await here.write_stick(carrier, stick, online=by_server)
    if by_server:
        await here.sync(head)
    assert "Merle" in await names_at(head)


async def test_a_pc_whose_grant_came_by_a_neighbour_has_its_name_at_the_heads(here: Town) -> None:
    head, merle = await here.device("head", space=SCHOOL), await here.device("machine")
    await here.sync(head)
    renard = await here.device("machine")
    name = renard.agent.enrolment.device_name
    await here.sync(merle)
    head.session.sharing = Room({"merle"}, looks=True).device("head")  # which leaves news to its neighbours
    await exchange(head.agent, merle.agent)
    assert name not in await names_at(head)
    await here.sync(head)
    assert name in await names_at(head)


async def test_a_pc_that_was_met_is_called_by_its_name_on_the_day_on_which_it_is_not_there(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.office.server.responder.name_of = lambda _: None  # a server that was made anew from its kit
    head, renard = await here.device("head", space=SCHOOL), await here.device("machine")
    await here.sync(head, renard)
    key = renard.agent.device
    for name in ("Renard", "Renard du fond"):
        for device in (head, renard):
            near = [{"device": key.hex(), "name": name}, {"device": "00" * 32, "name": "Intrus"}]
            monkeypatch.setattr(device.agent, "neighbours", lambda near=near: near)
            await note_met(device.agent)
            await destroy_erased(device.agent)
            monkeypatch.setattr(device.agent, "neighbours", list)
        (row,) = [row for row in await Desk(head.agent).ask("devices") if row["device"] == key.hex()]
        assert row["name"] == name
    assert "Intrus" not in await names_at(head)
    assert not await renard.agent.replica.store.marks(CALLED_MARKS), "a pupils' PC keeps nobody's"


async def test_whom_a_head_meets_soon_after_her_computer_was_switched_on_is_noted(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, renard = await here.device("head", space=SCHOOL), await here.device("machine")
    await here.sync(head)
    monkeypatch.setattr("sync_agent.school.office.SECOND_NOTE_S", 0.0)
    met = [[], [{"device": renard.agent.device.hex(), "name": "Renard"}]]  # nobody at the start
    monkeypatch.setattr(head.agent, "neighbours", lambda: met.pop(0) if met else [])

    async def is_noted() -> bool:
        return b"Renard" in (await head.agent.replica.store.marks(CALLED_MARKS)).values()

    async with noting_arrivals(head.agent):
        await until(is_noted)


async def test_the_name_of_a_pc_is_kept_no_longer_than_its_right(here: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    head, renard = await here.device("head", space=SCHOOL), await here.device("machine")
    await here.sync(head)
    key, desk, store = renard.agent.device, Desk(head.agent), head.agent.replica.store
    await destroy_erased(head.agent)
    assert CALLED_MARKS + key.hex() in await store.marks(CALLED_MARKS)
    await desk.ask("revoke", device=key.hex())
    monkeypatch.setattr(head.agent, "neighbours", lambda: [{"device": key.hex(), "name": "Renard"}])
    await note_met(head.agent)
    await destroy_erased(head.agent)
    assert CALLED_MARKS + key.hex() not in await store.marks(CALLED_MARKS)


async def test_nobody_is_forgotten_by_a_name_which_may_be_that_of_another_who_is_there_yet(here: Town) -> None:
    pupil = await here.office.add_person("Léa", "pupil")
    desk = Desk((await here.device("head", space=SCHOOL)).agent)
    with pytest.raises(BadInput) as refused:
        await desk.ask("erase", person=["Léa"])
    assert refused.value.code is Code.UNKNOWN_PERSON
    listed = await desk.ask("person list", space=here.space.hex())
    assert pupil in {row["person"] for row in listed}


async def test_a_child_whom_she_adds_where_her_word_is_held_back_just_now_is_added(here: Town) -> None:
    head = await here.device("head", space=SCHOOL)
    cut = Revocation(head.agent.device, ()).encode()
    await thief_says(here.office, Draft(here.space, Kind.REVOKE, here.office.server.grant, cut))
    await here.sync(head)
    added = await Desk(head.agent).ask("person add", name="Léa", role="pupil", space=[here.space.hex()])
    child = bytes.fromhex(added["person"])
    assert child not in (await head.agent.replica.view(here.space)).roster.persons
    lists = await head.agent.replica.store.scan_kinds([Kind.PERSON])
    assert child in {entry.header.subject for entry in lists}, "she is on the list once her word counts there again"
