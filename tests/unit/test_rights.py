"""The door: who may write what, the same everywhere and for ever (R7)."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from random import Random

import pytest

from protocol.canonical import encode
from protocol.errors import Code, PeerFault
from protocol.identity import SMALL_ORDER_SIGNING_KEYS, SigningKey
from protocol.model.entry import (
    DOMAIN,
    Entry,
    Kind,
    KindClass,
    compose,
    decode_header,
    encode_header,
    from_wire,
    to_wire,
)
from protocol.model.structure import Certificate, Erasure, Grant, SpaceRecord, Successor
from protocol.rights.door import WRITERS, Door, Outcome
from protocol.roles import PersonRole, Role
from tests.harness.entries import SOME_WORK
from tests.harness.history import World, Writer


@pytest.fixture
def world() -> World:
    return World(Random(7))


@pytest.fixture
def door(world: World) -> Door:
    return opened(world)


def opened(world: World) -> Door:
    door = Door(world.root.key.public)
    for entry in world.entries:
        assert door.examine(entry).outcome is Outcome.ADMIT
        door.learn(entry)
    return door


def writers(world: World) -> dict[Role, Writer]:
    room = world.classes[0]
    return {
        Role.ROOT: world.root,
        Role.SERVER: world.server,
        Role.ADMIN: world.enrol(Role.ADMIN, world.school),
        Role.HEAD: world.enrol(Role.HEAD, world.school),
        Role.TEACHER: world.enrol(Role.TEACHER, room),
        Role.RELAY: world.enrol(Role.RELAY, world.school),
        Role.MACHINE: world.enrol(Role.MACHINE, room),
    }


def test_exactly_the_roles_of_the_table_write_each_class(world: World) -> None:
    roles = writers(world)
    door = opened(world)
    for kind_class, role in product(KindClass, Role):
        space = world.territory if kind_class is KindClass.AUTHORITY else world.classes[0]
        entry = world.say(roles[role], space, 16 * kind_class + 15, b"\x80")
        allowed = role in WRITERS[kind_class]
        if kind_class is KindClass.AUTHORITY and role not in {Role.ROOT, Role.SERVER}:
            continue  # their grants do not reach the territory at all
        verdict = door.examine(entry)
        assert verdict.outcome is (Outcome.ADMIT if allowed else Outcome.REFUSE), (kind_class, role)


def test_a_pupils_machine_that_publishes_is_refused(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    entry = world.say(machine, world.classes[0], Kind.REVISION, b"\x80")
    assert opened_without(world, entry).examine(entry).code is Code.NO_RIGHT


def opened_without(world: World, *left_out: Entry) -> Door:
    door = Door(world.root.key.public)
    for entry in world.entries:
        if entry not in left_out:
            door.learn(entry)
    return door


def test_an_entry_whose_grant_has_not_arrived_waits_for_it(world: World) -> None:
    machine = world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    entry = world.say(machine, world.classes[0], Kind.HAND_IN, SOME_WORK)
    door = opened_without(world, grant, entry)
    verdict = door.examine(entry)
    assert (verdict.outcome, verdict.missing) == (Outcome.WAIT, grant.id)
    door.learn(grant)
    assert door.examine(entry).outcome is Outcome.ADMIT


def test_an_entry_without_a_grant_is_refused_unless_the_root_wrote_it(world: World, door: Door) -> None:
    stranger = Writer(world.new_key(), Role.MACHINE, world.classes[0], None)
    entry = world.say(stranger, world.classes[0], Kind.REVISION, b"\x80")
    assert door.examine(entry).code is Code.MISSING_GRANT
    # what a root may write waits for the rotation that would make the stranger one
    entry = world.say(stranger, world.classes[0], Kind.HAND_IN, SOME_WORK)
    assert (door.examine(entry).outcome, door.examine(entry).missing) == (Outcome.WAIT, stranger.key.public)


def test_an_entry_under_somebody_elses_grant_is_refused(world: World) -> None:
    honest = world.enrol(Role.TEACHER, world.classes[0])
    thief = Writer(world.new_key(), Role.TEACHER, world.classes[0], honest.grant)
    entry = world.say(thief, world.classes[0], Kind.REVISION, b"\x80")
    assert opened_without(world, entry).examine(entry).code is Code.FOREIGN_GRANT


def test_a_grant_of_one_class_does_not_reach_the_class_next_door(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    entry = world.say(teacher, world.classes[1], Kind.REVISION, b"\x80")
    assert opened_without(world, entry).examine(entry).code is Code.FOREIGN_GRANT


def test_a_grant_for_the_school_holds_in_its_classes(world: World) -> None:
    relay = world.enrol(Role.RELAY, world.school)
    entry = world.say(relay, world.classes[1], Kind.HAND_IN, SOME_WORK)
    assert opened_without(world, entry).examine(entry).outcome is Outcome.ADMIT


def test_an_entry_in_a_space_that_nobody_has_heard_of_waits(world: World) -> None:
    entry = world.say(world.server, bytes(32), Kind.PERSON, b"\x80")
    assert opened_without(world, entry).examine(entry).outcome is Outcome.WAIT


def test_a_forged_signature_is_refused(world: World, door: Door) -> None:
    entry = world.say(world.server, world.school, Kind.PERSON, b"\x80")
    forged = replace(entry, signature=bytes(64))
    assert door.examine(forged).code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("key", sorted(SMALL_ORDER_SIGNING_KEYS), ids=lambda key: key.hex()[:8])
def test_a_weak_key_never_signs_anything(world: World, door: Door, key: bytes) -> None:
    entry = world.say(world.server, world.school, Kind.PERSON, b"\x80")
    header = encode_header(replace(entry.header, author=key))
    weak = from_wire([header, key + bytes(32), entry.salt, entry.payload])
    assert door.examine(weak).code is Code.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("giver", "given", "allowed"),
    [
        (Role.SERVER, Role.ADMIN, True),
        (Role.SERVER, Role.TEACHER, True),
        (Role.SERVER, Role.SERVER, False),
        (Role.HEAD, Role.TEACHER, True),
        (Role.HEAD, Role.MACHINE, True),
        (Role.HEAD, Role.HEAD, False),
        (Role.HEAD, Role.ADMIN, False),
        (Role.ADMIN, Role.HEAD, True),
        (Role.ADMIN, Role.TEACHER, True),
        (Role.ADMIN, Role.RELAY, True),
        (Role.ADMIN, Role.ADMIN, False),
        (Role.ADMIN, Role.SERVER, False),
    ],
)
def test_a_grant_confers_only_ranks_below_its_authors(world: World, giver: Role, given: Role, allowed: bool) -> None:
    by = writers(world)[giver]
    world.enrol(given, world.classes[0], by=by)
    entry = world.entries[-1]
    verdict = opened_without(world, entry).examine(entry)
    assert verdict.outcome is (Outcome.ADMIT if allowed else Outcome.REFUSE)


def test_a_head_teacher_runs_her_school_and_no_other(world: World) -> None:
    head = world.enrol(Role.HEAD, world.school)
    here = world.say(head, world.school, Kind.SPACE, SpaceRecord("CE1").encode())
    pupil = world.say(head, world.classes[0], Kind.PERSON, b"\x80")
    school = world.say(head, world.territory, Kind.SPACE, SpaceRecord("École", uai="0180002Y").encode())
    door = opened_without(world, here, pupil, school)
    assert {door.examine(entry).outcome for entry in (here, pupil)} == {Outcome.ADMIT}
    assert door.examine(school).code is Code.FOREIGN_GRANT


def test_a_teacher_cannot_let_a_device_in(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    world.enrol(Role.MACHINE, world.classes[0], by=teacher)
    entry = world.entries[-1]
    assert opened_without(world, entry).examine(entry).code is Code.NO_RIGHT


def test_a_successor_gets_the_minimal_rights_of_a_machine_at_once(world: World) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    key = world.new_key()
    successor = Successor.agreed(key, bytes(32), None, world.classes[0], teacher.key.public)
    entry = world.say(teacher, world.classes[0], Kind.SUCCESSOR, successor.encode())
    clone = Writer(key, Role.MACHINE, world.classes[0], entry.id)
    work = world.say(clone, world.classes[0], Kind.HAND_IN, SOME_WORK)
    lesson = world.say(clone, world.classes[0], Kind.REVISION, b"\x80")
    door = opened_without(world, work, lesson)
    assert door.examine(work).outcome is Outcome.ADMIT
    assert door.examine(lesson).code is Code.NO_RIGHT
    found = door.authority(entry.id)
    assert found is not None
    assert found.predecessor == teacher.key.public


def test_a_kind_unknown_to_this_version_is_admitted_by_its_class_and_an_unknown_class_is_refused(
    world: World,
) -> None:
    teacher = world.enrol(Role.TEACHER, world.classes[0])
    later = world.say(teacher, world.classes[0], 32 + 14, b"\xff\xff not even msgpack")
    beyond = world.say(teacher, world.classes[0], 16 * 7, b"\x80")
    door = opened_without(world, later, beyond)
    assert door.examine(later).outcome is Outcome.ADMIT
    assert door.examine(beyond).code is Code.UNKNOWN_KIND


def test_only_the_territory_holds_what_the_root_says_of_authority(world: World, door: Door) -> None:
    certificate = Certificate(bytes(32), bytes(32)).encode()
    entry = world.say(world.root, world.school, Kind.CERTIFICATE, certificate)
    assert door.examine(entry).code is Code.NO_RIGHT


@pytest.mark.parametrize(
    ("record", "place", "allowed"),
    [
        (SpaceRecord("École", uai="0180002Y"), "territory", True),
        (SpaceRecord("École", uai="0180002Y"), "school", False),
        (SpaceRecord("CE1"), "school", True),
        (SpaceRecord("CE1"), "territory", False),
        (SpaceRecord("CE1"), "class", False),
    ],
)
def test_schools_lie_in_the_territory_and_classes_in_schools(
    world: World, door: Door, record: SpaceRecord, place: str, allowed: bool
) -> None:
    where = {"territory": world.territory, "school": world.school, "class": world.classes[0]}[place]
    entry = world.say(world.server, where, Kind.SPACE, record.encode())
    assert door.examine(entry).outcome is (Outcome.ADMIT if allowed else Outcome.REFUSE)


def test_a_class_waits_for_its_school(world: World) -> None:
    school = next(entry for entry in world.entries if entry.header.kind == Kind.SPACE)
    room = world.say(world.root, world.school, Kind.SPACE, SpaceRecord("CE1").encode())
    door = opened_without(world, school, room)
    assert door.examine(room).outcome is Outcome.WAIT


@pytest.mark.parametrize("kind", [Kind.GRANT, Kind.SPACE, Kind.SUCCESSOR])
def test_a_payload_that_the_door_needs_and_cannot_read_is_refused(world: World, door: Door, kind: Kind) -> None:
    entry = world.say(world.server, world.school, kind, b"\xc0")
    assert door.examine(entry).code is Code.MALFORMED


def test_a_grant_with_a_role_that_nobody_knows_is_refused(world: World, door: Door) -> None:
    payload = Grant(bytes(32), bytes(32), None, Role.MACHINE, None, None).encode().replace(b"machine", b"monarch")
    entry = world.say(world.server, world.school, Kind.GRANT, payload)
    assert door.examine(entry).code is Code.MALFORMED


def bare(entry: Entry) -> Entry:
    return from_wire([entry.header_bytes, entry.signature, None, None])


def test_a_bare_header_comes_in_only_under_an_erasure_that_covers_it(world: World) -> None:
    room = world.classes[0]
    pupil = world.person(room, PersonRole.PUPIL, "Léa")
    named = world.entries[-1]
    door = opened_without(world, named)
    assert door.examine(bare(named)).outcome is Outcome.WAIT
    elsewhere = world.say(world.server, world.classes[1], Kind.ERASE, Erasure(pupil).encode())
    door.learn(elsewhere)
    assert door.examine(bare(named)).outcome is Outcome.WAIT
    above = world.say(world.server, world.school, Kind.ERASE, Erasure(pupil).encode())
    door.learn(above)
    assert door.examine(bare(named)).outcome is Outcome.ADMIT


def test_the_chain_of_rights_is_never_erased(world: World) -> None:
    world.enrol(Role.MACHINE, world.classes[0])
    grant = world.entries[-1]
    erase = world.say(world.server, world.school, Kind.ERASE, Erasure(world.classes[0]).encode())
    door = opened_without(world, grant)
    door.learn(erase)
    assert door.examine(bare(grant)).code is Code.BAD_COMMITMENT


def test_an_erasure_that_nobody_can_read_covers_nothing(world: World, door: Door) -> None:
    door.learn(world.say(world.server, world.school, Kind.ERASE, b"\xc0"))
    assert door.examine(bare(world.say(world.server, world.school, Kind.PERSON, b"\x80"))).outcome is Outcome.WAIT


def test_spaces_are_listed_parents_first(world: World, door: Door) -> None:
    assert door.spaces() == (world.territory, world.school, *world.classes)
    assert door.lineage(world.classes[0]) == (world.classes[0], world.school, world.territory)
    assert door.knows_space(world.classes[1])
    assert not door.knows_space(bytes(32))


# entries as they travel


def test_an_entry_survives_the_wire_byte_for_byte(world: World) -> None:
    for entry in world.entries:
        assert from_wire(to_wire(entry)) == entry


def test_a_payload_that_was_not_signed_is_noticed(world: World) -> None:
    entry = world.entries[-1]
    with pytest.raises(PeerFault) as caught:
        from_wire([entry.header_bytes, entry.signature, entry.salt, (entry.payload or b"") + b"!"])
    assert caught.value.code is Code.BAD_COMMITMENT


@pytest.mark.parametrize(
    "parts",
    [
        b"not a list",
        [b"", b"", b""],
        [b"\x90", bytes(63), None, None],
        ["text", bytes(64), None, None],
        [b"\x90", bytes(64), b"short", b""],
        [b"\x90", bytes(64), bytes(16), None],
    ],
)
def test_an_entry_of_the_wrong_form_is_malformed(parts: object) -> None:
    with pytest.raises(PeerFault) as caught:
        from_wire(parts)  # type: ignore[arg-type]
    assert caught.value.code is Code.MALFORMED


def header_fields(entry: Entry) -> list[object]:
    header = entry.header
    return [
        0, header.space, header.kind, header.author, header.grant, header.subject, header.at, header.target,
        list(header.parents), list(header.prev), header.commitment, header.size,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        (0, 1, Code.UNKNOWN_FORMAT),
        (0, False, Code.UNKNOWN_FORMAT),
        (1, bytes(31), Code.MALFORMED),
        (2, 256, Code.MALFORMED),
        (2, True, Code.MALFORMED),
        (3, None, Code.MALFORMED),
        (4, bytes(16), Code.MALFORMED),
        (5, bytes(32), Code.MALFORMED),
        (6, -1, Code.MALFORMED),
        (7, b"", Code.MALFORMED),
        (8, [bytes(32), bytes(32)], Code.MALFORMED),
        (8, [bytes([n]) * 32 for n in range(17)], Code.MALFORMED),
        (9, [None], Code.MALFORMED),
        (10, bytes(33), Code.MALFORMED),
        (11, 64 * 1024 + 1, Code.MALFORMED),
    ],
)
def test_a_header_with_a_field_of_the_wrong_form_is_refused(
    world: World, field: int, value: object, code: Code
) -> None:

    fields = header_fields(world.entries[-1])
    assert encode(fields) == world.entries[-1].header_bytes  # type: ignore[arg-type]
    fields[field] = value
    with pytest.raises(PeerFault) as caught:
        decode_header(encode(fields))  # type: ignore[arg-type]
    assert caught.value.code is code


@pytest.mark.parametrize("data", [b"\x80", b"\x90", b"\x91\x00"])
def test_a_header_that_is_no_list_of_twelve_is_refused(data: bytes) -> None:
    with pytest.raises(PeerFault):
        decode_header(data)


def test_a_payload_beyond_the_limit_cannot_be_written(world: World) -> None:
    with pytest.raises(PeerFault) as caught:
        world.say(world.server, world.school, Kind.PERSON, bytes(64 * 1024 + 1))
    assert caught.value.code is Code.TOO_LARGE


def test_a_signature_is_bound_to_its_domain(world: World, door: Door) -> None:
    entry = world.say(world.server, world.school, Kind.PERSON, b"\x80")
    other = world.server.key.sign(b"relais/0 other", entry.header_bytes)
    assert door.examine(replace(entry, signature=other)).code is Code.BAD_SIGNATURE
    again = world.server.key.sign(DOMAIN, entry.header_bytes)
    assert door.examine(replace(entry, signature=again)).outcome is Outcome.ADMIT


def test_the_same_parts_make_the_same_entry() -> None:
    key = SigningKey(bytes(range(32)))
    one, two = (
        compose(
            author=key, space=bytes(32), kind=Kind.REVISION, grant=None, at=1 << 16, payload=b"\x80", salt=bytes(16)
        )
        for _ in range(2)
    )
    assert one == two
