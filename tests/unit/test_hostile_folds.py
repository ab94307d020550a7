"""Whatever a stolen device says without end, reading the class again costs what there is to read, and not its square.

For each kind that a device of each role may say: as much of it as a thief likes, about one thing, about many, each
naming those before. The work is counted (`tests.harness.work`), never timed.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from protocol.folds.growth import fold_space
from protocol.folds.sign_in import fold_sign_ins
from protocol.folds.space_keys import fold_space_keys
from protocol.limits import MAX_PARENTS
from protocol.model.entry import Entry, Kind, class_of
from protocol.model.structure import Erasure, Grant, PersonKey, PersonRecord, Revocation
from protocol.rights.door import WRITERS, Door, Outcome
from protocol.rights.speaking import Remembered
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from tests.harness.history import Writer
from tests.harness.work import assert_grows_as_its_entries, counted_work
from tests.unit.test_held_back import ADULT, PUPIL, Place

STOLEN = (Role.ADMIN, Role.HEAD, Role.TEACHER, Role.RELAY, Role.MACHINE)
SAID = [(role, kind) for role in STOLEN for kind in Kind if role in WRITERS[class_of(kind)]]
OF_A_PERSONS_KEYS = {Kind.PERSON_KEY, Kind.KEY_WRAP, Kind.PHRASE, Kind.VOUCH}


class Flood:
    """A class, a thief in it for each role, and what they say."""

    def __init__(self, kind: Kind = Kind.REVISION) -> None:
        self.place = Place(kind)
        self.world, self.room = self.place.world, self.place.room
        self.random = Random(5)
        self.thieves = {
            role: self.world.enrol(role, self.room, person=ADULT if role in (Role.HEAD, Role.TEACHER) else None)
            for role in STOLEN
        }
        for role in (Role.HEAD, Role.TEACHER):
            key = PersonKey(self.random.randbytes(32)).encode()
            self.world.say(self.thieves[role], self.room, Kind.PERSON_KEY, key, subject=ADULT)
        self.latest: dict[Kind, list[Entry]] = {}

    def say(self, role: Role, kind: Kind, number: int) -> None:
        """One entry more: the first of three about the same, the second about something else, the third in a line."""
        before = self.latest.setdefault(kind, [])
        somebody, something = self.random.randbytes(16), self.random.randbytes(32)
        about_keys = kind in OF_A_PERSONS_KEYS
        subject: bytes | None = ADULT if about_keys else PUPIL if number % 3 != 1 else somebody
        target: bytes | None = self.place.work.id if number % 3 != 1 else something
        if kind == Kind.VOUCH:
            subject, target = somebody, self.place.teacher.grant
        elif kind in (Kind.HAND_IN, Kind.REVISION, Kind.WITHDRAW, Kind.RESTORE):
            target = self.place.item.id if number % 3 != 1 else None if kind == Kind.REVISION else something
        elif kind == Kind.SIGN_IN_LOCK:
            target = self.place.sign_in.id
        thief = self.place.thief = self.thieves[role]
        payload = self.place.payload(kind)
        if kind == Kind.PERSON:
            subject, after = ((number + each).to_bytes(16, "big") for each in (0, 1))
            payload = PersonRecord("x", PersonRole.PUPIL, left=True, same_as=after).encode()
        elif kind == Kind.REVOKE:
            one_said = self.random.choice(self.latest[Kind.RECEIPT_SAFE]).id
            payload = Revocation(self.victim.key.public, (one_said,)).encode()
        elif kind == Kind.ERASE:
            payload = Erasure(somebody).encode()
        elif kind == Kind.SUCCESSOR:
            subject = target = None
        parents = tuple(one.id for one in before[-MAX_PARENTS:]) if number % 3 == 2 else ()
        before.append(self.world.say(thief, self.room, kind, payload, subject=subject, target=target, parents=parents))

    @property
    def victim(self) -> Writer:
        """Whom revocations are about: a machine that has said much itself."""
        return self.thieves[Role.MACHINE]

    def folding(self) -> int:
        """The work of reading all of it."""
        door = Door(self.world.root.key.public)
        for entry in self.world.entries:
            assert door.examine(entry, signed=True).outcome is Outcome.ADMIT, Kind(entry.header.kind).name
            door.learn(entry)
        own = [entry for entry in self.world.entries if entry.header.space == self.room]
        above = [entry for entry in self.world.entries if entry.header.space in door.lineage(self.room)[1:]]
        with counted_work() as work:
            fold = fold_space(self.room, own, above, door, Remembered(), frozenset())
            fold_sign_ins(own, fold.roster)
            fold_space_keys(own, fold.roster)
        return work.lines


@pytest.mark.parametrize(("role", "kind"), SAID, ids=lambda one: one.name)
def test_what_a_stolen_device_says_without_end_costs_no_more_than_what_it_says(role: Role, kind: Kind) -> None:
    flood, many = Flood(kind), 120
    for number in range(many):
        flood.say(Role.MACHINE, Kind.RECEIPT_SAFE, number)
    work = [flood.folding()]
    for first in (0, many):
        for number in range(first, first + many):
            flood.say(role, kind, number)
        work.append(flood.folding())
    assert_grows_as_its_entries(*work)


def test_thousands_of_all_kinds_together_cost_no_more_than_they_are() -> None:
    flood, many = Flood(), 25
    flood.say(Role.MACHINE, Kind.RECEIPT_SAFE, 0)
    said = [(role, kind) for role, kind in SAID if kind not in (Kind.SPACE, Kind.ERASE)]
    work = [flood.folding()]
    for first in (0, many):
        for number in range(first, first + many):
            for role, kind in said:
                flood.say(role, kind, number)
        work.append(flood.folding())
    assert len(flood.world.entries) > 3_000
    assert_grows_as_its_entries(*work)


class Laptops:
    """What a head teacher's stolen laptop lets in: laptops of one teacher or of many, which confirm one another."""

    def __init__(self) -> None:
        self.flood = Flood()
        self.world, self.room = self.flood.world, self.flood.room
        self.head = self.flood.thieves[Role.HEAD]

    def let_in(self, number: int, *, person: bytes, cut: bool = False) -> None:
        laptop = self.world.enrol(Role.TEACHER, self.room, by=self.head, person=person)
        key = PersonKey(number.to_bytes(32, "big")).encode()
        said = self.world.say(laptop, self.room, Kind.PERSON_KEY, key, subject=person)
        self.world.say(laptop, self.room, Kind.VOUCH, Vouch().encode(), subject=ADULT, target=self.head.grant)
        if cut:
            revocation = Revocation(laptop.key.public, (said.id,)).encode()
            self.world.say(self.head, self.room, Kind.REVOKE, revocation)


@pytest.mark.parametrize("persons", ["one", "many"])
@pytest.mark.parametrize("cut", [False, True], ids=["in-use", "cut-off"])
def test_laptops_without_end_that_confirm_who_let_them_in_cost_no_more_than_they_are(
    persons: str, *, cut: bool
) -> None:
    laptops, many = Laptops(), 60
    work = [laptops.flood.folding()]
    for first in (0, many):
        for number in range(first, first + many):
            person = bytes(15) + b"x" if persons == "one" else number.to_bytes(16, "big")
            laptops.let_in(number, person=person, cut=cut)
        work.append(laptops.flood.folding())
    assert_grows_as_its_entries(*work)


def test_laptops_without_end_that_were_let_in_again_cost_no_more_than_they_are() -> None:
    laptops, many = Laptops(), 250
    world, room, person = laptops.world, laptops.room, bytes(15) + b"x"
    work = [laptops.flood.folding()]
    for first in (0, many):
        for number in range(first, first + many):
            laptops.let_in(number, person=person, cut=True)
            cut = world.entries[-1]
            key = Revocation.parse(cut.payload or b"").key
            again = Grant(key, number.to_bytes(32, "big"), None, Role.TEACHER, person, None)
            world.say(laptops.head, room, Kind.GRANT, again.encode(), parents=(cut.id,))
        work.append(laptops.flood.folding())
    assert_grows_as_its_entries(*work)


@pytest.mark.parametrize("said", ["in a line", "by one", "by none of many"])
def test_laptops_without_end_that_confirm_one_another_again_cost_no_more_than_they_are(said: str) -> None:
    laptops, many = Laptops(), 60
    world, room, person = laptops.world, laptops.room, bytes(15) + b"x"
    first = before = world.enrol(Role.TEACHER, room, by=laptops.head, person=person)

    def confirms(writer: Writer, grant: bytes | None) -> None:
        world.say(writer, room, Kind.VOUCH, Vouch().encode(), subject=person, target=grant)

    work = [laptops.flood.folding()]
    for start in (0, many):
        for _ in range(start, start + many):
            laptop = world.enrol(Role.TEACHER, room, by=laptops.head, person=person)
            given = world.entries[-1].payload or b""
            confirms(first, laptop.grant)
            cut = world.say(laptops.head, room, Kind.REVOKE, Revocation(laptop.key.public, ()).encode())
            laptop.grant = world.say(laptops.head, room, Kind.GRANT, given, parents=(cut.id,)).id
            if said == "by none of many":
                confirms(first, world.enrol(Role.TEACHER, room, by=laptops.head, person=person).grant)
            else:
                confirms(before, laptop.grant)
                before = laptop if said == "in a line" else first
        work.append(laptops.flood.folding())
    assert_grows_as_its_entries(*work)


@pytest.mark.parametrize(
    "spoken_for", ["nobody", "by one", "one whom many confirm", "another each time", "all each time"]
)
def test_a_laptop_that_is_let_in_again_without_end_costs_no_more_than_was_said_of_it(spoken_for: str) -> None:
    laptops, many = Laptops(), 60
    world, room, person = laptops.world, laptops.room, bytes(15) + b"x"
    first = world.enrol(Role.TEACHER, room, by=laptops.head, person=person)
    laptop = world.enrol(Role.TEACHER, room, by=laptops.head, person=person)
    given, speaking = world.entries[-1].payload or b"", [first]
    work = [laptops.flood.folding()]
    for start in (0, many):
        for _ in range(start, start + many):
            cut = world.say(laptops.head, room, Kind.REVOKE, Revocation(laptop.key.public, ()).encode())
            grant = world.say(laptops.head, room, Kind.GRANT, given, parents=(cut.id,)).id
            if spoken_for in ("another each time", "all each time") and len(speaking) <= many // 6:
                speaking.append(world.enrol(Role.TEACHER, room, by=laptops.head, person=person))
            if spoken_for == "one whom many confirm":
                confirming = world.enrol(Role.TEACHER, room, by=laptops.head, person=person)
                world.say(confirming, room, Kind.VOUCH, Vouch().encode(), subject=person, target=first.grant)
            voices = {"nobody": (), "all each time": speaking}.get(spoken_for, speaking[-1:])
            for voice in voices:
                world.say(voice, room, Kind.VOUCH, Vouch().encode(), subject=person, target=grant)
        work.append(laptops.flood.folding())
    assert_grows_as_its_entries(*work)


@pytest.mark.parametrize("linked", ["one behind the other", "each behind six", "in rings of two"])
@pytest.mark.parametrize("held", [True, False], ids=["held by one in use", "held by nobody"])
def test_laptops_without_end_that_wait_for_one_another_cost_no_more_than_they_are(linked: str, *, held: bool) -> None:
    laptops, many = Laptops(), 40
    world, room, person = laptops.world, laptops.room, bytes(15) + b"x"
    before = [world.enrol(Role.TEACHER, room, by=laptops.head, person=person)]
    if not held:
        world.say(laptops.head, room, Kind.REVOKE, Revocation(before[0].key.public, ()).encode())

    def confirms(writer: Writer, grant: bytes | None) -> bytes:
        return world.say(writer, room, Kind.VOUCH, Vouch().encode(), subject=person, target=grant).id

    work = [laptops.flood.folding()]
    for start in (0, many):
        for number in range(start, start + many):
            laptop = world.enrol(Role.TEACHER, room, by=laptops.head, person=person)
            given = world.entries[-1].payload or b""
            ring = number % 2 and linked == "in rings of two"
            ahead = {"each behind six": before[-6:], "in rings of two": before[:1]}.get(linked, before[-1:])
            last = [confirms(laptop, other.grant) for other in ahead]
            last += [confirms(before[-1], laptop.grant), confirms(laptop, before[-1].grant)] if ring else []
            cut = world.say(laptops.head, room, Kind.REVOKE, Revocation(laptop.key.public, tuple(last[-1:])).encode())
            laptop.grant = world.say(laptops.head, room, Kind.GRANT, given, parents=(cut.id,)).id
            before.append(laptop)
        work.append(laptops.flood.folding())
    assert_grows_as_its_entries(*work)


@pytest.mark.parametrize("persons", ["one", "many"])
@pytest.mark.parametrize("confirmed_by", ["one in use", "the one before", "a head"])
def test_laptops_without_end_that_were_let_in_again_thrice_and_are_linked_cost_no_more_than_they_are(
    persons: str, confirmed_by: str
) -> None:
    laptops, many = Laptops(), 40
    world, room, head = laptops.world, laptops.room, laptops.head
    others = {bytes(15) + b"x": world.enrol(Role.TEACHER, room, by=head, person=bytes(15) + b"x")}
    number = 0

    def confirms(writer: Writer, person: bytes, grant: bytes | None) -> bytes:
        return world.say(writer, room, Kind.VOUCH, Vouch().encode(), subject=person, target=grant).id

    work = [laptops.flood.folding()]
    for _ in range(2):
        for _ in range(many):
            number += 1
            person = bytes(15) + b"x" if persons == "one" else number.to_bytes(16, "big")
            laptop = world.enrol(Role.TEACHER, room, by=head, person=person)
            given, cuts = world.entries[-1].payload or b"", list[bytes]()
            other = head if confirmed_by == "a head" else others.setdefault(person, laptop)
            confirms(other, person, laptop.grant)
            last = confirms(laptop, person, other.grant)
            for _ in range(3):
                # it names what the laptop has said, so that all of that stands
                cut = Revocation(laptop.key.public, (last,)).encode()
                cuts.append(world.say(head, room, Kind.REVOKE, cut).id)
                laptop.grant = world.say(head, room, Kind.GRANT, given, parents=tuple(cuts)).id
                last = confirms(laptop, person, other.grant)
            if confirmed_by == "the one before":
                others[person] = laptop
        work.append(laptops.flood.folding())
    assert_grows_as_its_entries(*work)


def _a_laptop_that_spoke_for_a_line_of_heads(many: int) -> Flood:
    """For the first of them, as somebody else each time; it was reported since, and let in again."""
    flood = Flood()
    world, room = flood.world, flood.room
    laptop = world.enrol(Role.TEACHER, room, by=world.server, person=bytes(15) + b"x")
    given = Grant.parse(world.entries[-1].payload or b"")
    persons = [bytes(15) + bytes([number]) for number in range(many + 1)]
    line = [world.enrol(Role.HEAD, world.school, person=person) for person in persons]
    for head, after, person in zip(line, line[1:], persons[1:], strict=False):
        world.say(head, room, Kind.VOUCH, Vouch().encode(), subject=person, target=after.grant)
        as_other = replace(given, person=b"as somebody" + person[-5:])
        laptop.grant = world.say(world.server, room, Kind.GRANT, as_other.encode()).id
        world.say(laptop, room, Kind.VOUCH, Vouch().encode(), subject=persons[0], target=line[0].grant)
    tips = tuple(world.tips.get((room, laptop.key.public), ())[:1])
    cut = world.say(world.server, room, Kind.REVOKE, Revocation(laptop.key.public, tips).encode())
    world.say(world.server, room, Kind.GRANT, given.encode(), parents=(cut.id,))
    return flood


def test_a_laptop_that_spoke_for_a_line_of_heads_as_many_others_costs_no_more_than_they_are() -> None:
    assert_grows_as_its_entries(*(_a_laptop_that_spoke_for_a_line_of_heads(many).folding() for many in (0, 60, 120)))


def test_machines_without_end_that_seal_to_others_cost_no_more_than_they_are() -> None:
    flood, many = Flood(), 100
    work = [flood.folding()]
    for _ in range(2):
        for _ in range(many):
            machine = flood.world.enrol(Role.MACHINE, flood.room, by=flood.thieves[Role.HEAD])
            sealed = flood.place.payload(Kind.WRAP)
            flood.world.say(machine, flood.room, Kind.WRAP, sealed, subject=PUPIL, target=flood.place.work.id)
        work.append(flood.folding())
    assert_grows_as_its_entries(*work)
