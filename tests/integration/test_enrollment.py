"""Letting a device in: what a code opens, what a false one changes, and that it may be cut anywhere and repeated."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError
from protocol.replica import disk
from protocol.replica.answering.serving import Responder
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import Invitation
from sync_agent.app import Agent
from sync_agent.enrollment.by_code import Enrolled, enroll, told
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, ENROLMENT_FILE, READING_KEYS_FILE
from sync_agent.transport.interface import Transport
from sync_agent.transport.over_http import HttpTransport
from tests.harness.classroom import SMALL, Classroom
from tests.harness.commands import Desk
from tests.harness.territory import Territory
from tests.harness.wire import Faults, Faulty, Frontage, MemoryTransport, serve

URL = "http://server.test"


async def let_in(
    room: Classroom,
    folder: Path,
    code: str,
    *,
    url: str = URL,
    name: str = "Renard",
    seed: int = 5,
    way: Callable[[Frontage], Transport] = MemoryTransport,
) -> Enrolled:
    return await enroll(
        folder,
        url,
        code,
        name,
        now_ms=room.territory.clock,
        entropy=Random(seed).randbytes,
        connect=lambda _: way(room.frontage),
    )


def through(way: Transport) -> Callable[[Frontage], Transport]:
    return lambda _: way


async def test_a_code_lets_a_machine_in_and_brings_its_class(room: Classroom, tmp_path: Path) -> None:
    code = await room.territory.invite(Role.MACHINE, room.space)
    enrolled = await let_in(room, tmp_path / "a", code)
    assert enrolled.territory == room.territory.id
    assert enrolled.spaces == (room.space,)
    agent = await Agent.open(tmp_path / "a", now_ms=room.territory.clock, entropy=Random(1).randbytes)
    assert agent.device == enrolled.device
    assert agent.enrolment.device_name == "Renard"
    assert await agent.replica.fingerprint(room.space) == await room.territory.replica.fingerprint(room.space)
    await agent.close()


async def test_who_enrols_reads_the_names_of_the_classes_and_whose_computer_it_is(
    room: Classroom, tmp_path: Path
) -> None:
    code = await room.territory.invite(Role.TEACHER, room.space, person=room.teacher_person)
    hers = told(await let_in(room, tmp_path / "a", code), code)
    assert (hers["classes"], hers["whose"]) == (["CM1"], "Mme Petit")
    code = await room.territory.invite(Role.MACHINE, room.space)
    shared = told(await let_in(room, tmp_path / "b", code, seed=6), code)
    assert (shared["classes"], shared["whose"]) == (["CM1"], None)


async def test_private_keys_are_their_owners_alone(room: Classroom, tmp_path: Path) -> None:
    code = await room.territory.invite(Role.TEACHER, room.space, person=room.teacher_person)
    await let_in(room, tmp_path / "a", code)
    for name in (DEVICE_KEYS_FILE, READING_KEYS_FILE):
        assert stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == 0o600


async def test_a_teachers_reading_key_is_at_the_server_when_enrolling_ends(room: Classroom, tmp_path: Path) -> None:
    other = await room.territory.classroom("CM2")
    code = await room.territory.invite(Role.TEACHER, room.space, other, person=room.teacher_person)
    enrolled = await let_in(room, tmp_path / "a", code)
    assert set(enrolled.spaces) == {room.space, other}
    for space in enrolled.spaces:
        roster = (await room.territory.replica.view(space)).roster
        assert len(roster.reading_keys[room.teacher_person]) == 1


async def test_the_same_folder_may_repeat_and_says_the_same(room: Classroom, tmp_path: Path) -> None:
    code = await room.territory.invite(Role.TEACHER, room.space, person=room.teacher_person)
    first = await let_in(room, tmp_path / "a", code)
    position = await room.territory.replica.position(room.space)
    assert await let_in(room, tmp_path / "a", code, seed=6) == first
    assert await room.territory.replica.position(room.space) == position


async def test_a_disk_that_is_too_full_for_the_lessons_does_not_look_like_a_code_that_failed(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = await room.teacher()
    await room.publish(teacher, SMALL)
    await teacher.session.sync()
    code = await room.territory.invite(Role.MACHINE, room.space)
    with monkeypatch.context() as full:
        full.setattr(disk.Disk, "free_bytes", lambda _: 0)
        with pytest.raises(LocalFailure, match="this device is enrolled, but its first sync could not") as raised:
            await let_in(room, tmp_path / "a", code)
    assert raised.value.code is Code.DISK_FULL
    agent = await Agent.open(tmp_path / "a", now_ms=room.territory.clock, entropy=Random(1).randbytes)
    told = await Desk(agent).ask("status")
    await agent.close()
    assert told["server"]["reachable"] is True, "the server answered; it is the disk that was in the way"
    assert (await let_in(room, tmp_path / "a", code)).spaces == (room.space,), "the same command ends it"


async def test_a_relay_is_let_into_its_school_and_all_classes_of_it(room: Classroom, tmp_path: Path) -> None:
    school = room.territory.schools[0]
    code = await room.territory.invite(Role.RELAY, school)
    enrolled = await let_in(room, tmp_path / "a", code)
    assert set(enrolled.spaces) == {school, room.space}


@pytest.mark.parametrize("direction", ["out_bytes", "in_bytes"])
async def test_enrolling_may_be_cut_after_any_number_of_bytes_and_repeated(
    room: Classroom, tmp_path: Path, direction: str
) -> None:
    code = await room.territory.invite(Role.TEACHER, room.space, person=room.teacher_person)
    done = None
    for attempt, passed in enumerate(range(0, 6_000, 150)):
        faulty = Faulty(MemoryTransport(room.frontage))
        setattr(faulty.faults, direction, passed)
        try:
            done = await let_in(room, tmp_path / "a", code, seed=attempt, way=through(faulty))
            break
        except NoAnswer:
            continue
    assert done is not None
    keys = (await room.territory.replica.view(room.space)).roster.reading_keys[room.teacher_person]
    assert len(keys) == 1
    assert (tmp_path / "a" / READING_KEYS_FILE).exists()


async def test_an_answer_that_was_lost_does_not_use_up_the_code(room: Classroom, tmp_path: Path) -> None:
    code = await room.territory.invite(Role.MACHINE, room.space)
    faulty = Faulty(MemoryTransport(room.frontage), Faults())
    posts: list[str] = []

    def lose_second(path: str) -> None:
        posts.append(path)
        faulty.faults.lose_answers = 1 if len(posts) == 2 else 0

    faulty.faults.on_post = lose_second
    with pytest.raises(NoAnswer):
        await let_in(room, tmp_path / "a", code, way=through(faulty))
    assert (await let_in(room, tmp_path / "a", code)).spaces == (room.space,)


async def refusal(room: Classroom, folder: Path, code: str, **options: str) -> RelaisError:
    with pytest.raises(RelaisError) as raised:
        await let_in(room, folder, code, **options)  # type: ignore[arg-type]
    return raised.value


async def test_codes_that_open_nothing_are_refused_each_in_its_own_words(room: Classroom, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    good = await room.territory.invite(Role.MACHINE, room.space)
    expired = await room.territory.invite(Role.MACHINE, room.space, ttl_ms=DAY_MS)
    await let_in(room, tmp_path / "first", good, seed=6)
    room.territory.clock.advance(DAY_MS + 1)
    wrong = Invitation.create(room.territory.id, bytes(10)).code()
    for code, expected in ((good, Code.CODE_USED), (expired, Code.CODE_EXPIRED), (wrong, Code.CODE_WRONG)):
        error = await refusal(room, folder, code)
        assert isinstance(error, Refused)
        assert error.code is expected
        assert not (folder / ENROLMENT_FILE).exists()


async def test_a_code_of_another_territory_gives_its_server_nothing(room: Classroom, tmp_path: Path) -> None:
    other = await Territory.create(tmp_path / "other", seed=42, clock=room.territory.clock)
    await other.classroom()
    code = await other.invite(Role.MACHINE, other.classes[0])
    await other.close()
    posts: list[str] = []
    way = Faulty(MemoryTransport(room.frontage), Faults(on_post=posts.append))
    with pytest.raises(Refused) as raised:
        await let_in(room, tmp_path / "a", code, way=through(way))
    assert raised.value.code is Code.WRONG_TERRITORY
    assert raised.value.exit_status == 5
    assert len(posts) == 1
    assert not (tmp_path / "a").exists()


async def test_a_false_server_that_shows_the_true_chain_learns_nothing(room: Classroom, tmp_path: Path) -> None:
    """It can replay the certificate, but neither open what is sealed to it nor answer."""
    code = await room.territory.invite(Role.MACHINE, room.space)
    false = await Territory.create(tmp_path / "false", seed=43, clock=room.territory.clock)
    honest = room.territory.responder().chain()

    class False_(Responder):  # noqa: N801
        def chain(self, status: int = 200) -> object:  # type: ignore[override]
            del status
            return honest

    answering = false.responder()
    answering.__class__ = False_
    room.frontage.responder = answering
    with pytest.raises((PeerFault, NoAnswer)):
        await let_in(room, tmp_path / "a", code)
    assert not (tmp_path / "a" / ENROLMENT_FILE).exists()
    await false.close()


async def test_an_enrolled_folder_takes_no_other_code(room: Classroom, tmp_path: Path) -> None:
    await let_in(room, tmp_path / "a", await room.territory.invite(Role.MACHINE, room.space))
    error = await refusal(room, tmp_path / "a", await room.territory.invite(Role.MACHINE, room.space))
    assert isinstance(error, BadInput)
    assert error.code is Code.ALREADY_ENROLLED
    assert error.exit_status == 2


async def test_a_folder_with_another_territorys_entries_is_not_mixed(room: Classroom, tmp_path: Path) -> None:
    other = await Territory.create(tmp_path / "other", seed=42, clock=room.territory.clock)
    await other.classroom()
    code = await other.invite(Role.MACHINE, other.classes[0])
    mine = room.frontage.responder
    room.frontage.responder = other.responder()
    await let_in(room, tmp_path / "a", code)
    (tmp_path / "a" / ENROLMENT_FILE).unlink()
    room.frontage.responder = mine
    error = await refusal(room, tmp_path / "a", await room.territory.invite(Role.MACHINE, room.space))
    assert error.code is Code.ALREADY_ENROLLED
    await other.close()


async def test_without_a_server_nothing_is_enrolled_and_the_code_stays_good(room: Classroom, tmp_path: Path) -> None:
    code = await room.territory.invite(Role.MACHINE, room.space)
    down = Faulty(MemoryTransport(room.frontage), Faults(down=True))
    with pytest.raises(NoAnswer) as raised:
        await let_in(room, tmp_path / "a", code, way=through(down))
    assert raised.value.exit_status == 3
    await let_in(room, tmp_path / "a", code)


@pytest.mark.parametrize(("url", "name"), [("ftp://x", "Renard"), (URL, " "), (URL, "x" * 201)])
async def test_bad_input_is_refused_before_anything_is_made(
    room: Classroom, tmp_path: Path, url: str, name: str
) -> None:
    code = await room.territory.invite(Role.MACHINE, room.space)
    error = await refusal(room, tmp_path / "a", code, url=url, name=name)
    assert error.exit_status == 2
    assert not (tmp_path / "a").exists()


async def test_a_teacher_who_gets_a_second_class_says_the_key_there_with_the_next_sync(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    second = await room.territory.classroom("CM2")
    await room.territory.person("Mme Petit", PersonRole.TEACHER, second)
    await room.territory.let_in(teacher.agent.keys, Role.TEACHER, second, person=room.teacher_person)
    await teacher.session.sync()
    assert room.teacher_person in (await room.territory.replica.view(second)).roster.reading_keys


async def test_enrolling_works_over_http(room: Classroom, tmp_path: Path) -> None:
    code = await room.territory.invite(Role.MACHINE, room.space)
    async with serve(room.frontage) as url:
        enrolled = await let_in(room, tmp_path / "a", code, url=url, way=lambda _: HttpTransport(url))
    assert enrolled.spaces == (room.space,)
