"""The folds of rights and names, case by case (R4, R6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from protocol.limits import MAX_PARENTS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant, PersonKey, PersonRecord, Revocation, Ruling, Successor
from protocol.rights.door import Door
from protocol.rights.keys_in_use import claimed_keys
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from tests.harness.folded_class import ClassRoom
from tests.harness.history import Writer


@pytest.fixture
def room() -> ClassRoom:
    return ClassRoom()


def test_a_renamed_pupil_has_one_name_and_who_left_has_none(room: ClassRoom) -> None:
    first = next(entry for entry in room.world.entries if entry.header.subject == room.pupil)
    say = room.world.say
    renamed = say(
        room.world.server,
        room.room,
        Kind.PERSON,
        PersonRecord("Léa M.", PersonRole.PUPIL).encode(),
        subject=room.pupil,
        parents=(first.id,),
    )
    assert room.folds()[0].persons[room.pupil].name == "Léa M."
    left = PersonRecord("Léa M.", PersonRole.PUPIL, left=True).encode()
    say(room.world.server, room.room, Kind.PERSON, left, subject=room.pupil, parents=(renamed.id,))
    assert room.pupil not in room.folds()[0].persons


def test_a_person_that_cannot_be_read_is_not_on_the_list(room: ClassRoom) -> None:
    strange = PersonRecord("Zoé", PersonRole.PUPIL).encode().replace(b"pupil", b"witch")
    room.world.say(room.world.server, room.room, Kind.PERSON, strange, subject=bytes(16))
    assert bytes(16) not in room.folds()[0].persons


def test_a_reading_key_counts_only_from_the_persons_own_device(room: ClassRoom) -> None:
    say = room.world.say
    own, own2 = bytes([1]) * 32, bytes([2]) * 32
    say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(own).encode(), subject=room.adult)
    say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(own).encode(), subject=room.adult)
    say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(own2).encode(), subject=room.adult)
    say(room.teacher, room.room, Kind.PERSON_KEY, b"\xc0", subject=room.adult)
    colleague = room.world.enrol(Role.TEACHER, room.room, person=bytes(16))
    say(colleague, room.room, Kind.PERSON_KEY, PersonKey(bytes([3]) * 32).encode(), subject=room.adult)
    assert room.folds()[0].reading_keys == {room.adult: (own, own2)}


def test_a_key_that_another_persons_device_says_too_is_claimed_and_one_of_who_was_added_twice_is_not(
    room: ClassRoom,
) -> None:
    world, hers, own = room.world, bytes([1]) * 32, bytes([2]) * 32
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    (grant,) = door.authorities_of(room.teacher.key.public)
    again = world.person(room.room, PersonRole.TEACHER, "Petit")
    payload = Grant(grant.key, grant.agreement, grant.tls_sha256, Role.TEACHER, again, None).encode()
    twice = replace(room.teacher, grant=world.say(world.server, room.room, Kind.GRANT, payload).id)
    other = world.enrol(Role.TEACHER, room.room, person=bytes(16))
    for writer, person, key in (
        (room.teacher, room.adult, hers),
        (room.teacher, room.adult, own),
        (twice, again, own),
        (other, bytes(16), hers),
    ):
        world.say(writer, room.room, Kind.PERSON_KEY, PersonKey(key).encode(), subject=person)
    for entry in world.entries:
        door.learn(entry)
    assert claimed_keys(world.entries, door) == {hers}


def test_a_key_that_two_devices_of_one_person_say_is_claimed_unless_one_came_of_the_other(room: ClassRoom) -> None:
    world, copied, taken = room.world, bytes([1]) * 32, bytes([2]) * 32
    twin = room.later_key(room.teacher)
    given = Grant(twin.key.public, bytes([9]) * 32, None, Role.TEACHER, room.adult, None)
    twin = replace(twin, grant=world.say(world.server, room.room, Kind.GRANT, given.encode()).id)
    other = world.enrol(Role.TEACHER, room.room, person=room.adult)
    for writer, key in ((room.teacher, copied), (twin, copied), (room.teacher, taken), (other, taken)):
        world.say(writer, room.room, Kind.PERSON_KEY, PersonKey(key).encode(), subject=room.adult)
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    assert claimed_keys(world.entries, door) == {taken}


def test_where_a_word_about_a_key_is_destroyed_every_key_is_claimed_but_that_devices_own(room: ClassRoom) -> None:
    world, hers, its = room.world, bytes([1]) * 32, bytes([2]) * 32
    other = world.enrol(Role.TEACHER, room.room, person=bytes(16))
    said = world.say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(hers).encode(), subject=room.adult)
    world.say(other, room.room, Kind.PERSON_KEY, PersonKey(its).encode(), subject=bytes(16))
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    assert claimed_keys(world.entries, door) == frozenset()
    bare = [replace(entry, payload=None, salt=None) if entry.id == said.id else entry for entry in world.entries]
    assert claimed_keys(bare, door) == {its}
    again = world.say(room.teacher, room.room, Kind.PERSON_KEY, PersonKey(hers).encode(), subject=room.adult)
    assert claimed_keys([*bare, again], door) == frozenset()


def test_a_confirmation_that_was_destroyed_is_its_authors_word_and_none_about_itself(room: ClassRoom) -> None:
    world = room.world
    second = world.enrol(Role.TEACHER, room.room, person=room.adult)
    third = world.enrol(Role.TEACHER, room.room, person=room.adult)
    for writer, key in ((room.teacher, 1), (second, 2), (third, 3)):
        payload = PersonKey(bytes([key]) * 32).encode()
        world.say(writer, room.room, Kind.PERSON_KEY, payload, subject=room.adult)
    proven = Vouch(bytes(64), bytes(32)).encode()
    said = [
        world.say(room.teacher, room.room, Kind.VOUCH, Vouch().encode(), subject=room.adult, target=second.grant),
        world.say(third, room.room, Kind.VOUCH, proven, subject=room.adult, target=third.grant),
    ]
    before = room.folds()[0].speaking[room.adult]
    gone = {entry.id: replace(entry, payload=None, salt=None) for entry in said}
    world.entries[:] = [gone.get(entry.id, entry) for entry in world.entries]
    roster = room.folds()[0]
    assert roster.speaking[room.adult] == before
    assert {key for key, _ in before} == {room.teacher.key.public, second.key.public}
    assert not roster.voices.words.keys() & {device for device in roster.voices.words if device[0] == third.key.public}


def test_a_revocation_keeps_what_its_heads_knew_and_holds_back_the_rest(room: ClassRoom) -> None:
    before = room.revision("avant")
    known = room.revision("connu")
    forged = room.revision("antidaté")
    room.revoke(room.world.server, room.teacher, known)
    roster, work = room.folds()
    assert set(work.items) == {before.id, known.id}
    assert roster.held_back == {forged.id}
    assert not roster.may_read(room.teacher.key.public)
    assert roster.authority_of(room.teacher.key.public) is None
    assert roster.may_read(room.machine.key.public)


def test_several_cuts_intersect(room: ClassRoom) -> None:
    one = room.revision("1")
    two = room.revision("2")
    three = room.revision("3")
    room.revoke(room.world.server, room.teacher, two)
    room.revoke(room.world.server, room.teacher, one)
    assert room.folds()[0].held_back == {two.id, three.id}


def test_only_a_strictly_higher_rank_revokes(room: ClassRoom) -> None:
    admins = [room.world.enrol(Role.ADMIN, room.world.school) for _ in range(2)]
    for admin in admins:
        admin.skew_ms = 0
    work = room.revision("1")
    room.revoke(admins[0], admins[1])
    room.revoke(admins[1], admins[0])
    assert room.folds()[0].cut == frozenset()
    room.revoke(admins[0], room.teacher)
    assert room.folds()[0].held_back == {work.id}


def test_a_revocation_by_somebody_cut_before_counts_for_nothing(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    room.revision("1")
    room.revoke(admin, room.teacher)
    assert room.teacher.key.public in room.folds()[0].cut
    room.revoke(room.world.server, admin)
    roster = room.folds()[0]
    assert roster.cut == {admin.key.public}
    assert not roster.may_read(admin.key.public)
    assert roster.may_read(room.teacher.key.public)


def test_a_revocation_or_erasure_that_cannot_be_read_does_nothing(room: ClassRoom) -> None:
    room.world.say(room.world.server, room.room, Kind.REVOKE, b"\xc0")
    room.world.say(room.world.server, room.room, Kind.ERASE, b"\xc0")
    short = Erasure(bytes(16)).encode().replace(b"\xc4\x10" + bytes(16), b"\xc4\x0f" + bytes(15))
    room.world.say(room.world.server, room.room, Kind.ERASE, short)
    roster = room.folds()[0]
    assert (roster.cut, roster.erased) == (frozenset(), frozenset())


def test_an_erased_pupil_is_gone_from_list_and_work(room: ClassRoom) -> None:
    work = room.hand_in(room.revision("devoir").id)
    room.world.say(room.world.server, room.room, Kind.ERASE, Erasure(room.pupil).encode())
    roster, coursework = room.folds()
    assert room.pupil not in roster.persons
    assert work.id not in coursework.hand_ins


def test_a_grant_that_is_held_back_opens_nothing(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    kept = room.world.enrol(Role.MACHINE, room.room, by=admin)
    kept_entry = room.world.entries[-1]
    late = room.world.enrol(Role.MACHINE, room.room, by=admin)
    room.revoke(room.world.server, admin, kept_entry)
    roster = room.folds()[0]
    assert roster.may_read(kept.key.public)
    assert not roster.may_read(late.key.public)


def rule(room: ClassRoom, by: Writer, accepted: Sequence[Entry] = (), refused: Sequence[Entry] = ()) -> Entry:
    ruling = Ruling(tuple(each.id for each in accepted), tuple(each.id for each in refused))
    return room.world.say(by, room.room, Kind.RULING, ruling.encode())


def test_what_is_held_back_counts_once_a_human_of_at_least_the_revocations_rank_accepts_it(room: ClassRoom) -> None:
    known = room.revision("connu")
    late, other = room.revision("trouvé après"), room.revision("autre")
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    room.revoke(room.world.server, room.teacher, known)
    rule(room, admin, [late])
    assert room.folds()[0].held_back == {late.id, other.id}
    rule(room, room.world.server, [late], [other])
    roster, work = room.folds()
    assert roster.held_back == roster.refused.keys() == {other.id}
    assert roster.refused_by_root == frozenset()
    assert late.id in work.items
    assert room.teacher.key.public in roster.cut
    rule(room, room.world.server, [other], [late])
    roster, work = room.folds()
    assert roster.held_back == roster.refused.keys() == {late.id}
    assert other.id in work.items


def test_rights_keys_and_rulings_are_never_accepted(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    work = room.revision("1")
    cut = room.revoke(admin, room.teacher)
    late = room.world.enrol(Role.MACHINE, room.room, by=admin)
    grant = room.world.entries[-1]
    own = rule(room, admin, [work])
    room.revoke(room.world.server, admin)
    rule(room, room.world.server, [cut, grant, own])
    roster, coursework = room.folds()
    assert roster.held_back == {cut.id, grant.id, own.id}
    assert not roster.may_read(late.key.public)
    assert work.id in coursework.items


def test_a_ruling_that_cannot_be_read_rules_on_nothing(room: ClassRoom) -> None:
    work = room.revision("1")
    room.revoke(room.world.server, room.teacher)
    room.world.say(room.world.server, room.room, Kind.RULING, b"\xc0")
    assert room.folds()[0].held_back == {work.id}


def let_back(room: ClassRoom, who: Writer, *revocations: Entry, by: Writer | None = None) -> Entry:
    grant = Grant(who.key.public, bytes(32), None, who.role, who.person, None).encode()
    parents = tuple(revocation.id for revocation in revocations)
    return room.world.say(by or room.world.server, room.room, Kind.GRANT, grant, parents=parents)


def test_a_device_that_was_let_go_comes_back_by_a_grant_that_names_the_revocation(room: ClassRoom) -> None:
    first, key = room.teacher.grant, room.teacher.key.public
    kept = room.revision("gardé")
    lost = room.revision("hors d'atteinte")
    revocation = room.revoke(room.world.server, room.teacher, kept)
    room.teacher.grant = let_back(room, room.teacher, revocation).id
    new = room.revision("de retour")
    roster, work = room.folds()
    assert set(work.items) == {kept.id, new.id}
    assert roster.may_read(key)
    assert roster.held_back == {lost.id, first}, "the earlier grant does not come back"
    authority = roster.authority_of(key)
    assert authority is not None
    assert authority.grant == room.teacher.grant


def test_a_grant_that_does_not_name_every_revocation_lets_nobody_back(room: ClassRoom) -> None:
    kept = room.revision("gardé")
    first = room.revoke(room.world.server, room.teacher, kept)
    second = room.revoke(room.world.server, room.teacher, kept)
    let_back(room, room.teacher)
    let_back(room, room.teacher, first)
    assert not room.folds()[0].may_read(room.teacher.key.public)
    let_back(room, room.teacher, second, first)
    assert room.folds()[0].may_read(room.teacher.key.public)


def test_more_revocations_than_one_grant_can_name_are_overcome_by_a_line_of_grants(room: ClassRoom) -> None:
    kept = room.revision("gardé")
    cuts = [room.revoke(room.world.server, room.teacher, kept) for _ in range(MAX_PARENTS + 2)]
    first = let_back(room, room.teacher, *cuts[:MAX_PARENTS])
    assert not room.folds()[0].may_read(room.teacher.key.public)
    last = let_back(room, room.teacher, first, *cuts[MAX_PARENTS:])
    roster, _ = room.folds()
    assert roster.may_read(room.teacher.key.public)
    assert first.id in roster.held_back
    assert [grant.grant for grant in roster.authorities if grant.key == room.teacher.key.public] == [last.id]


def test_of_revocations_those_in_force_are_told_from_those_that_count_for_nothing(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    cut = room.revoke(room.world.server, room.teacher, room.revision("gardé"))
    upwards = room.revoke(admin, room.world.server)
    gone = room.revoke(room.world.server, admin)
    late = room.revoke(admin, room.machine)
    assert room.folds()[0].revocations == {cut.id: room.teacher.key.public, gone.id: admin.key.public}
    assert not {upwards.id, late.id} & room.folds()[0].revocations.keys()


def test_a_lower_rank_than_the_revocations_lets_nobody_back(room: ClassRoom) -> None:
    admin = room.world.enrol(Role.ADMIN, room.world.school)
    kept = room.revision("gardé")
    revocation = room.revoke(room.world.server, room.teacher, kept)
    let_back(room, room.teacher, revocation, by=admin)
    assert not room.folds()[0].may_read(room.teacher.key.public)


def test_a_right_that_a_key_has_elsewhere_does_not_shield_it_here(room: ClassRoom) -> None:
    world = room.world
    admin = world.enrol(Role.ADMIN, world.school)
    work = room.revision("1")
    room.revoke(admin, room.teacher)
    elsewhere = Grant(room.teacher.key.public, bytes(32), None, Role.ADMIN, None, None).encode()
    grant = world.say(world.server, world.classes[1], Kind.GRANT, elsewhere)
    all_known = room.folds()[0]
    assert all_known.held_back == {work.id}, "the fold is one of this space and of those above it"
    world.entries.remove(grant)
    assert room.folds()[0].held_back == all_known.held_back


def test_what_is_written_under_a_grant_that_is_held_back_is_held_back_with_it(room: ClassRoom) -> None:
    world = room.world
    admin = world.enrol(Role.ADMIN, world.school)
    lesson = room.revision("vrai")
    room.revoke(world.server, admin)
    thief = world.enrol(Role.TEACHER, room.room, by=admin)
    forged = world.say(thief, room.room, Kind.REVISION, lesson.payload or b"")
    successor = Successor.agreed(world.new_key(), bytes(32), None, room.room, thief.key.public)
    accomplice = world.say(thief, room.room, Kind.SUCCESSOR, successor.encode())
    roster, work = room.folds()
    assert set(work.items) == {lesson.id}
    assert roster.held_back == {thief.grant, forged.id, accomplice.id}


def test_a_revocation_under_a_grant_that_is_held_back_counts_for_nothing(room: ClassRoom) -> None:
    world = room.world
    false_server = Writer(world.new_key(), Role.SERVER, world.school, None)
    school = Grant(false_server.key.public, bytes(32), None, Role.SERVER, None, None)
    false_server.grant = world.say(world.root, world.school, Kind.GRANT, school.encode()).id
    cut = world.say(world.root, world.school, Kind.REVOKE, Revocation(false_server.key.public, ()).encode())
    admin = world.enrol(Role.ADMIN, world.school, by=false_server)
    lesson = room.revision("1")
    room.revoke(admin, room.teacher)
    roster, work = room.folds()
    assert cut.id not in roster.held_back
    assert set(work.items) == {lesson.id}
    assert roster.may_read(room.teacher.key.public)


def test_a_version_of_a_name_that_cannot_be_read_does_not_hide_the_one_before(room: ClassRoom) -> None:
    first = room.folds()[0].persons[room.pupil]
    strange = PersonRecord("Léa", PersonRole.PUPIL).encode().replace(b"pupil", b"witch")
    room.world.say(room.world.server, room.room, Kind.PERSON, strange, subject=room.pupil, parents=(first.entry,))
    assert room.folds()[0].persons[room.pupil] == first


def test_a_class_that_is_erased_has_neither_list_nor_work(room: ClassRoom) -> None:
    room.revision("1")
    room.world.say(room.world.server, room.world.school, Kind.ERASE, Erasure(room.room).encode())
    roster, work = room.folds()
    assert (roster.persons, work.items) == ({}, {})
    assert roster.may_read(room.machine.key.public), "what gives rights is never erased"
