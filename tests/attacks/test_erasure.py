"""Who should be forgotten is, and who should not be is not, whoever was robbed (docs/attacks.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.clock import DAY_MS
from protocol.errors import LocalFailure
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind, commitment, compose
from protocol.model.structure import Erasure, PersonRecord, Revocation, Ruling
from protocol.model.work import Feedback
from protocol.replica.storage.sqlite import DATABASE
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.door import is_erasable
from protocol.roles import PersonRole
from sync_agent.hand_ins.handing_in import give_feedback
from sync_agent.machine.enrolled import OUTBOX_FILE
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Given, assignment
from tests.harness.lan import exchange
from tests.harness.passing_days import pass_days, sweep

NAMES = ("Camille", "Karim", "Léa", "Noé", "Zoé")


@attack("guessing an erased payload", off={"protocol.replica.at_work.replica.SALT_BYTES": 0})
async def test_what_remains_of_an_erased_name_tells_no_guess_from_another(room: Classroom) -> None:
    territory = room.territory
    person = await territory.person("Camille", PersonRole.PUPIL, room.space)
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await sweep(territory, 8)
    listed = await territory.replica.store.scan_kinds([Kind.PERSON])
    (left,) = [entry for entry in listed if entry.header.subject == person]
    assert left.payload is None
    assert left.salt is None
    guesses = {commitment(b"", PersonRecord(name, PersonRole.PUPIL).encode()) for name in NAMES}
    assert left.header.commitment not in guesses


@attack("a stolen server wipes schools", off={"protocol.folds.erasing.ERASURE_DELAY_MS": 0})
async def test_what_a_thief_erases_with_the_servers_key_is_back_after_the_kits_word(room: Classroom) -> None:
    territory = room.territory
    pupils = {await territory.person(f"Élève {number}", PersonRole.PUPIL, room.space) for number in range(8)}
    heads = await territory.replica.tips(territory.id, territory.keys.signing.public)
    for covers in (*pupils, room.space):
        await territory.say(territory.id, Kind.ERASE, Erasure(covers).encode())
    assert not (await territory.replica.view(room.space)).roster.persons
    await sweep(territory, 3)
    cut = Revocation(territory.keys.signing.public, tuple(heads)).encode()
    await territory.kit_says(territory.id, Kind.REVOKE, cut)
    await sweep(territory, 9)
    own = await territory.replica.store.scan(room.space)
    kept = {one.entry.header.subject for one in own if one.entry.header.kind == Kind.PERSON and one.entry.payload}
    assert kept >= pupils


@attack("a stolen server wipes schools", off={"protocol.folds.erasing.MAX_ERASED_PER_DAY": 100})
async def test_a_thief_whom_nobody_stops_destroys_five_people_a_day_and_no_class(room: Classroom) -> None:
    territory = room.territory
    pupils = [await territory.person(f"Élève {number}", PersonRole.PUPIL, room.space) for number in range(8)]
    for covers in (*pupils, room.space):
        await territory.say(territory.id, Kind.ERASE, Erasure(covers).encode())
    await sweep(territory, 8)
    own = [one.entry for one in await territory.replica.store.scan(room.space)]
    kept = [entry for entry in own if entry.header.subject in pupils and entry.payload is not None]
    assert len(kept) == 3


@attack("a stolen server wipes schools", off={"protocol.folds.erasing.PERSON_BYTES": 32})
async def test_a_thief_destroys_no_assignment_with_all_that_was_handed_in_for_it(room: Classroom) -> None:
    territory = room.territory
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    work = await room.hand_in(machine, item, WORK)
    for device in (machine, teacher):
        await device.session.sync()
    for covers in (item, work):
        await territory.say(territory.id, Kind.ERASE, Erasure(covers).encode())
    await sweep(territory, 60)
    held = await territory.replica.store.get([item, work])
    assert all(entry.payload for entry in held.values())


async def _no_payload(*_: object) -> list[Entry]:
    return []


@attack("a stolen server wipes schools", off={"protocol.replica.at_work.bare_entries.fitting": _no_payload})
async def test_bare_headers_that_somebody_pushes_after_the_kits_word_blind_nobody_for_good(room: Classroom) -> None:
    """A thief erases a class, the kit undoes it; a hostile PC gives others the headers alone of what it holds."""
    territory = room.territory
    teacher, evil, victim = await room.teacher(), await room.machine(), await room.machine()
    await assignment(room, teacher, evil)
    heads = [
        head
        for space in territory.replica.door.spaces()
        for head in await territory.replica.tips(space, territory.keys.signing.public)
    ]
    await territory.say(territory.id, Kind.ERASE, Erasure(room.space).encode())
    cut = Revocation(territory.keys.signing.public, tuple(heads)).encode()
    await territory.kit_says(territory.id, Kind.REVOKE, cut)
    above = [
        stored.entry
        for space in (territory.id, room.territory.schools[0])
        for stored in await territory.replica.store.scan(space)
    ]
    for device in (teacher, evil, victim):
        await device.agent.replica.admit(above, source=b"kit", now_ms=territory.clock())
    entries = [stored.entry for stored in await evil.agent.replica.store.scan(room.space)]
    headers = [replace(entry, salt=None, payload=None) if is_erasable(entry.header) else entry for entry in entries]
    await victim.agent.replica.admit(headers, source=evil.agent.device, now_ms=territory.clock())
    assert not (await victim.agent.replica.view(room.space)).coursework.items
    await exchange(victim.agent, teacher.agent)
    shown = [(await device.agent.replica.view(room.space)) for device in (teacher, victim)]
    assert shown[0].coursework.items.keys() == shown[1].coursework.items.keys() != set()
    assert shown[0].roster.persons == shown[1].roster.persons


def _nothing_stays(*_: object) -> frozenset[bytes]:
    return frozenset()


@attack("a server shows again who was forgotten", off={"protocol.rights.erasures._carried_out": _nothing_stays})
async def test_who_has_the_server_and_an_old_backup_brings_nobody_back_where_they_were_forgotten(
    room: Classroom,
) -> None:
    territory, machine = room.territory, await room.machine()
    person = await territory.person("Camille", PersonRole.PUPIL, room.space)
    await machine.session.sync()
    erasure = await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await machine.session.sync()
    eraser = Eraser(machine.agent.replica, machine.agent.holdings)
    await eraser.sweep(territory.clock())
    territory.clock.advance(8 * DAY_MS)
    assert (await eraser.sweep(territory.clock())).entries
    # the server still has all payloads, as from a backup, and says that the erasure was a mistake
    await territory.say(territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    for _ in range(3):
        await machine.session.sync()
    assert erasure.id in (await machine.agent.replica.view(territory.id)).roster.undone
    kept = [stored.entry for stored in await machine.agent.replica.store.scan(room.space)]
    assert not any(entry.payload for entry in kept if entry.header.subject == person)
    assert person not in (await machine.agent.replica.view(room.space)).roster.persons


async def nothing(*_told: object) -> None:
    """Do nothing."""


async def held_about(room: Classroom, person: bytes) -> None:
    """Words about somebody under a grant that has not come here wait in quarantine."""
    said = compose(
        author=SigningKey(bytes([7]) * 32),
        space=room.space,
        kind=Kind.FEEDBACK,
        grant=bytes([9]) * 32,
        at=room.territory.clock() << 16,
        payload=Feedback("Camille est dyslexique", None, False, None).encode(),
        salt=bytes(16),
        subject=person,
        target=bytes(32),
    )
    replica = room.territory.replica
    admission = await replica.admit([said], source=b"a stick", now_ms=room.territory.clock())
    assert admission.waiting == (said.id,)


@attack(
    "words that wait outlive their erasure", off={"protocol.replica.upkeep.eraser.Eraser._sweep_quarantine": nothing}
)
async def test_what_waits_about_an_erased_person_is_destroyed_with_the_rest(room: Classroom) -> None:
    territory = room.territory
    person = await territory.person("Camille", PersonRole.PUPIL, room.space)
    await held_about(room, person)
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await sweep(territory, 3)
    assert await territory.replica.store.held(), "it can still be undone"
    await sweep(territory, 5)
    assert not await territory.replica.store.held()
    kept = b"".join(file.read_bytes() for file in (room.folder / "server").glob(f"{DATABASE}*"))
    assert b"dyslexique" not in kept, "nor in the log of the database"


@attack("words that wait outlive their erasure", off={"protocol.replica.upkeep.eraser.HELD_MS": 1 << 60})
async def test_nothing_waits_for_ever(room: Classroom) -> None:
    await held_about(room, room.pupil_person)
    await sweep(room.territory, 179)
    assert await room.territory.replica.store.held()
    await sweep(room.territory, 2)
    assert not await room.territory.replica.store.held()


async def test_what_could_not_be_seen_to_when_something_was_destroyed_is_seen_to_later(room: Classroom) -> None:
    territory, teacher, pc = room.territory, await room.teacher(), await room.machine()
    task = await assignment(room, teacher, pc)
    work = await room.hand_in(pc, task, WORK)
    for device in (pc, teacher):
        await device.session.sync()
    text = "Léa doit refaire son devoir"
    await give_feedback(teacher.agent, work, text, None, redo=False, incoming=Given({}))  # unsent: an outage
    await territory.say(territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    said = await territory.replica.store.scan_kinds([Kind.ERASE])
    await teacher.agent.replica.admit(said, source=territory.keys.signing.public, now_ms=territory.clock())
    await pass_days(territory, 6, teacher)
    outbox = teacher.agent.folder / OUTBOX_FILE
    in_the_way = outbox.with_name(f"{OUTBOX_FILE}.new")
    in_the_way.mkdir()
    with pytest.raises(LocalFailure):
        await pass_days(territory, 9, teacher)
    assert text.encode() in outbox.read_bytes()
    in_the_way.rmdir()
    await destroy_erased(teacher.agent)
    assert text.encode() not in outbox.read_bytes()
