"""What stays lies beside what is destroyed: in its pack, or as the beginning of a download (docs/attacks.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.model.work import ContentRef, HandIn
from protocol.replica.at_work.replica import Draft
from protocol.replica.content.packing.pack_remains import Remains, remains_of
from protocol.roles import PersonRole
from sync_agent.hand_ins.handing_in import give_feedback
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Given, assignment, read
from tests.harness.passing_days import pass_days

REMARK = b"ses parents sont convoqu\xc3\xa9s mardi " * 40
MODEL = b"corrig\xc3\xa9 type de la classe " * 200


def only_what_goes_whole(
    connection: sqlite3.Connection, spaces: Collection[bytes], given_up: Collection[bytes]
) -> list[Remains]:
    """A pack of which others need a part stays as it is."""
    return [old for old in remains_of(connection, spaces, given_up) if not old.streams]


@attack(
    "what is forgotten lies in a pack with what others were given",
    off={"protocol.replica.content.kept.sqlite_content.remains_of": only_what_goes_whole},
)
async def test_a_remark_goes_though_the_file_beside_it_was_given_to_another_pupil_too(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, pc)
    work = await room.hand_in(pc, task, WORK)
    room.pupil_person = await territory.person("Tom", PersonRole.PUPIL, room.space)
    await pc.session.sync()
    other = await room.hand_in(pc, task, {"tom.txt": b"tom"})
    for device in (pc, teacher):
        await device.session.sync()
    for whose, files in ((work, {"corrige.txt": MODEL, "remarques.txt": REMARK}), (other, {"corrige.txt": MODEL})):
        await give_feedback(teacher.agent, whose, "vu", None, redo=False, incoming=Given(files))
    for device in (teacher, pc, teacher, pc):
        await device.session.sync()
    feedback = (await teacher.agent.replica.view(room.space)).coursework.hand_ins[work].feedback
    assert feedback is not None
    assert feedback.record.content is not None
    tree = await teacher.agent.holdings.manifest(feedback.record.content.stream)
    streams = {file.path: file.stream for file in tree}
    replicas = (territory.replica, teacher.agent.replica, pc.agent.replica)
    for replica in replicas:
        assert await read(replica, streams["remarques.txt"]) == REMARK

    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    for device in (teacher, pc):
        await device.session.sync()
    await pass_days(territory, 9, teacher, pc)
    newcomer = await room.machine()
    for _ in range(2):
        await newcomer.session.sync()
    for replica in (*replicas, newcomer.agent.replica):
        assert await replica.content.known_streams([streams["remarques.txt"]]) == set()
        assert await read(replica, streams["corrige.txt"]) == MODEL


def _each_time(*_: object) -> bool:
    return True


@attack(
    "an erasure takes the work of others with it",
    off={"protocol.replica.upkeep.eraser.Eraser._is_any_fresh": _each_time},
)
async def test_who_hands_in_for_somebody_forgotten_has_no_download_begin_anew(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.kept.left_parts.BEING_WRITTEN_S", 0.0)  # the line is gone for now
    territory, lea = room.territory, room.pupil_person
    teacher, pc, evil = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, pc)
    await evil.session.sync()
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    for device in (pc, evil):
        await device.session.sync()
    machines = [pc.agent.replica, territory.replica]
    for replica in machines:
        await replica.content.append_part(b"p" * 32, 0, b"of whatever")
    await pass_days(territory, 6, pc)
    for replica in machines:
        await replica.content.append_part(b"p" * 32, 11, b", gone on with")
    await pass_days(territory, 2, pc)
    assert [await replica.content.part_size(b"p" * 32) for replica in machines] == [0, 0], "it may be hers"
    for replica in machines:
        await replica.content.append_part(b"p" * 32, 0, b"of a lesson")
    right = (await evil.agent.right(room.space, Kind.HAND_IN)).grant
    said = HandIn(ContentRef(territory.entropy(32), 1000, 0), None).encode()
    await evil.agent.write(Draft(room.space, Kind.HAND_IN, right, said, subject=lea, target=task))
    for device in (evil, pc):
        await device.session.sync()
    await pass_days(territory, 1, pc)
    assert [await replica.content.part_size(b"p" * 32) for replica in machines] == [11, 11]
