"""Verify, repair, doctor, status: a device that is looked after."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from protocol.canonical import encode
from protocol.errors import Code, LocalFailure
from sync_agent.app import Agent
from sync_agent.machine.marks import LAST_SYNC_MARK
from sync_agent.sync.session import Session
from tests.harness.classroom import Classroom, Device, Files
from tests.harness.commands import Desk

LESSON: Files = {"index.html": b"<h1>eau</h1>" * 50, "carte.png": Random(5).randbytes(300_000)}


@pytest.fixture
async def teacher(room: Classroom) -> Device:
    device = await room.teacher()
    await device.session.sync()
    return device


@pytest.fixture
def desk(teacher: Device) -> Desk:
    return Desk(teacher.agent)


async def published(desk: Desk, room: Classroom) -> str:
    return str((await desk.publish(LESSON, space=room.space.hex(), title="Eau"))["item"])


def packs(desk: Desk) -> list[Path]:
    return sorted(desk.agent.folder.glob("packs/*/*.pack"))


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


async def test_a_healthy_device_has_no_problem(desk: Desk, room: Classroom) -> None:
    await published(desk, room)
    for command in ("verify", "repair", "doctor"):
        assert await desk.ask(command) == {"ok": True, "problems": []}


async def test_a_spoilt_pack_is_found_moved_aside_and_brought_back_by_a_sync(
    desk: Desk, room: Classroom, teacher: Device
) -> None:
    item = await published(desk, room)
    await teacher.session.sync()
    spoil(packs(desk)[0])
    found = await desk.ask("verify")
    assert found["ok"] is False
    (problem,) = found["problems"]
    assert (problem["code"], sorted(problem)) == ("damaged", ["code", "message", "remedy"])
    assert any("a sync fetches it again" in line for line in desk.told)
    assert (await desk.item(item))["complete"] is False
    assert (await desk.ask("verify"))["ok"] is True

    await teacher.session.sync()
    assert (await desk.item(item))["complete"] is True
    assert await desk.files("checkout", item=item) == LESSON


async def test_a_pack_of_which_nothing_is_right_any_more_is_brought_back_by_one_sync(
    desk: Desk, room: Classroom, teacher: Device
) -> None:
    item = await published(desk, room)
    await teacher.session.sync()
    file = packs(desk)[0]
    file.write_bytes(Random(4).randbytes(file.stat().st_size))
    assert (await desk.ask("verify"))["ok"] is False
    await teacher.session.sync()
    assert await desk.files("checkout", item=item) == LESSON


async def test_repair_ends_well_and_tells_what_it_put_right(desk: Desk, room: Classroom, teacher: Device) -> None:
    item = await published(desk, room)
    await teacher.session.sync()
    spoil(packs(desk)[0])
    assert await desk.ask("repair") == {"ok": True, "problems": []}
    assert any("put right" in line for line in desk.told)
    await teacher.session.sync()
    assert await desk.files("checkout", item=item) == LESSON


async def test_a_pack_that_disappears_while_the_store_is_open_is_noticed(
    desk: Desk, room: Classroom, teacher: Device
) -> None:
    item = await published(desk, room)
    await teacher.session.sync()
    assert (await desk.item(item))["complete"] is True
    packs(desk)[0].unlink()
    assert (await desk.ask("verify"))["ok"] is False
    await teacher.session.sync()
    assert await desk.files("checkout", item=item) == LESSON


async def test_a_file_that_turns_out_to_be_damaged_is_never_given_and_counts_as_missing(
    desk: Desk, room: Classroom, teacher: Device
) -> None:
    item = await published(desk, room)
    await desk.publish({**LESSON, "plus.txt": b"une ligne"}, item=item)
    await teacher.session.sync()
    assert (await desk.item(item))["complete"] is True
    _, list_of_files = sorted(packs(desk), key=lambda pack: pack.stat().st_size, reverse=True)
    for pack in packs(desk):
        if pack != list_of_files:
            spoil(pack)
    await desk.agent.replica.content.close()  # forgets what it has opened before
    with pytest.raises(LocalFailure) as caught:
        await desk.files("cat", item=item, path="carte.png")
    assert caught.value.code is Code.DAMAGED
    assert (await desk.item(item))["complete"] is False
    await teacher.session.sync()
    assert (await desk.files("checkout", item=item))["carte.png"] == LESSON["carte.png"]


async def test_packs_that_were_gone_when_the_folder_was_opened_are_told_by_verify_and_fetched_again(
    desk: Desk, room: Classroom, teacher: Device
) -> None:
    item = await published(desk, room)
    await teacher.session.sync()
    await teacher.agent.close()
    packs(desk)[0].unlink()
    agent = await Agent.open(teacher.agent.folder, now_ms=room.territory.clock, entropy=Random(9).randbytes)
    opened = Desk(agent)
    try:
        assert (await opened.item(item))["complete"] is False
        assert [problem["code"] for problem in (await opened.ask("verify"))["problems"]] == ["damaged"]
        assert (await opened.ask("verify"))["ok"] is True
        await Session(agent, teacher.way).sync()
        assert await opened.files("checkout", item=item) == LESSON
    finally:
        await agent.close()


async def test_status_says_what_waits_and_never_uses_the_network(
    desk: Desk, room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await desk.ask("status")
    assert before["server"]["reachable"] is True
    assert before["backlog"] == {"entries": 0, "bytes": 0, "refused": 0}
    monkeypatch.delattr(room.frontage, "responder")  # who asks the server, fails
    await published(desk, room)
    after = await desk.ask("status")
    assert after["backlog"]["entries"] == 1
    assert after["backlog"]["bytes"] > 300_000
    assert set(after) >= {"device", "role", "server", "spaces", "backlog", "peers", "disk", "clock_skew_s"}
    assert (after["role"], after["peers"]) == ("teacher", [])
    (row,) = [row for row in after["spaces"] if row["space"] == room.space.hex()]
    told = ["space", "name", "entries", "fingerprint", "complete", "headers_alone", "proven_at", "past_year"]
    assert sorted(row) == sorted(told)
    assert (row["name"], row["complete"]) == ("CM1", True)
    assert [row["name"] for row in after["spaces"]] == ["CM1"]


async def test_a_device_that_never_reached_the_server_does_not_guess(room: Classroom) -> None:
    status = await Desk((await room.machine()).agent).ask("status")
    assert status["server"]["reachable"] is None
    assert status["server"]["last_sync"] is None
    assert status["clock_skew_s"] is None
    assert all(row["proven_at"] is None for row in status["spaces"])


async def test_doctor_says_what_is_wrong_and_what_to_do(desk: Desk, room: Classroom) -> None:
    agent = desk.agent
    (agent.folder / "keys" / "device").chmod(0o644)
    await agent.replica.store.set_marks({LAST_SYNC_MARK: encode({"at": 5, "reachable": False, "skew": -7_200_000})})
    found = await desk.ask("doctor")
    assert found["ok"] is False
    assert {problem["code"] for problem in found["problems"]} == {"no-right", "unreachable", "bad-date"}
    assert all(problem["message"] and problem["remedy"] for problem in found["problems"])


async def test_a_clock_that_stands_before_what_the_server_proved_is_noticed(desk: Desk, room: Classroom) -> None:
    room.territory.clock.advance(-17 * 365 * 24 * 3600 * 1000)
    (problem,) = (await desk.ask("doctor"))["problems"]
    assert problem["code"] == "bad-date"
    assert "wrong by about 17 years" in problem["message"]
