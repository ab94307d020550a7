"""What a revocation holds back counts for nothing, whatever kind it is: every fold is the same with it and without."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Protocol

import pytest

from protocol.folds.coursework import fold_coursework
from protocol.folds.measures import DrillOrder, QuarantineOrder, fold_measures
from protocol.folds.sign_in import SignInRecord, SignInWraps, fold_sign_ins
from protocol.folds.space_keys import SpaceSecret, SpaceWraps, fold_space_keys
from protocol.model.entry import Entry, Kind, KindClass, class_of
from protocol.model.structure import (
    Erasure,
    Grant,
    Invite,
    PersonKey,
    PersonRecord,
    Revocation,
    Ruling,
    SpaceChange,
    SpaceRecord,
    Successor,
)
from protocol.model.work import EMPTY_PAYLOAD, ContentRef, Feedback, HandIn, ItemKind, Receipt, Revision, Wraps
from protocol.rights.roster import fold_roster
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, PhraseKey
from tests.harness.history import World, Writer
from tests.unit.test_rights import opened, opened_without

ADULT, PUPIL, STREAM = b"t" * 16, b"p" * 16, b"s" * 32
CONTENT = ContentRef(STREAM, 1, 1)
WRITERS = {KindClass.STRUCTURE: Role.ADMIN, KindClass.COURSE: Role.TEACHER, KindClass.ANSWER: Role.TEACHER}
OWN_ROOM = {Kind.DRILL, Kind.QUARANTINE, Kind.SPACE}


class Said(Protocol):
    """A payload."""

    def encode(self) -> bytes: ...


class Place:
    """A class in which something of most kinds was said by people who stay, and somebody who is cut off later."""

    def __init__(self, kind: Kind) -> None:
        self.world = world = World(Random(7))
        self.room = room = world.school if kind in OWN_ROOM else world.classes[0]
        world.say(world.server, room, Kind.PERSON, PersonRecord("Léa", PersonRole.PUPIL).encode(), subject=PUPIL)
        self.teacher = world.enrol(Role.TEACHER, room, person=ADULT)
        self.machine = world.enrol(Role.MACHINE, room)
        self.key = world.say(self.teacher, room, Kind.PERSON_KEY, PersonKey(b"k" * 32).encode(), subject=ADULT)
        revision = Revision(ItemKind.ASSIGNMENT, "Devoir", None, None, CONTENT).encode()
        self.item = world.say(self.teacher, room, Kind.REVISION, revision)
        work = HandIn(replace(CONTENT, files=0), None).encode()
        self.work = world.say(self.machine, room, Kind.HAND_IN, work, subject=PUPIL, target=self.item.id)
        self.sign_in = world.say(
            self.teacher, room, Kind.SIGN_IN, SignInRecord(b"n" * 32, b"sealed").encode(), subject=PUPIL
        )
        self.secret = SpaceSecret(b"1" * 32)
        world.say(world.server, room, Kind.SPACE_KEY, self.secret.record(1, None).encode())
        role = WRITERS.get(KindClass(class_of(kind)), Role.MACHINE)
        self.thief = world.enrol(role, room, person=ADULT if role is Role.TEACHER else None)

    def payload(self, kind: Kind) -> bytes:
        """What the thief says of this kind: something that would count from anybody else."""
        wraps = ((b"r" * 32, bytes(80)),)
        key = self.world.new_key()
        said: dict[Kind, Said] = {
            Kind.SPACE: SpaceRecord("Autre"),
            Kind.INVITE: Invite(b"i" * 32, Role.MACHINE, (self.room,), None, 1, 10**12),
            Kind.GRANT: Grant(key.public, b"a" * 32, None, Role.MACHINE, None, None),
            Kind.REVOKE: Revocation(self.machine.key.public, ()),
            Kind.PERSON: PersonRecord("Personne", PersonRole.PUPIL),
            Kind.SPACE_KEY: SpaceSecret(b"2" * 32).record(2, None),
            Kind.ERASE: Erasure(PUPIL),
            Kind.RULING: Ruling((), (self.work.id,)),
            Kind.DRILL: DrillOrder(30),
            Kind.QUARANTINE: QuarantineOrder(on=True),
            Kind.SPACE_CHANGE: SpaceChange("Autre nom"),
            Kind.REVISION: Revision(ItemKind.LESSON, "Faux", None, None, CONTENT),
            Kind.FEEDBACK: Feedback("Nul", "0", False, None),
            Kind.RECEIPT_TEACHER: Receipt(STREAM),
            Kind.PERSON_KEY: PersonKey(b"f" * 32),
            Kind.KEY_WRAP: KeyWraps(b"k" * 32, wraps),
            Kind.PHRASE: PhraseKey(b"f" * 32, bytes(16), Argon2Cost(8, 1, 1), b"g" * 32),
            Kind.VOUCH: Vouch(),
            Kind.SIGN_IN: SignInRecord(b"m" * 32, b"false"),
            Kind.HAND_IN: HandIn(replace(CONTENT, files=0), None),
            Kind.WRAP: Wraps(wraps),
            Kind.RECEIPT_SAFE: Receipt(STREAM),
            Kind.SPACE_WRAP: SpaceWraps(self.secret.commitment, wraps),
            Kind.SUCCESSOR: Successor.agreed(key, b"a" * 32, None, self.room, self.thief.key.public),
            Kind.SIGN_IN_WRAP: SignInWraps(b"n" * 32, wraps),
        }
        found = said.get(kind)
        return EMPTY_PAYLOAD if found is None else found.encode()

    def say(self, kind: Kind, writer: Writer) -> Entry:
        target: dict[Kind, bytes | None] = {
            Kind.SIGN_IN_LOCK: self.sign_in.id,
            Kind.HAND_IN: self.item.id,
            Kind.REVISION: self.item.id,
        }
        target |= {Kind.WITHDRAW: self.item.id, Kind.RESTORE: self.item.id, Kind.DRILL: None}
        target[Kind.VOUCH] = self.teacher.grant
        is_about = class_of(kind) in (KindClass.ANSWER, KindClass.WORK, KindClass.WITNESS) or kind == Kind.PERSON
        own = kind in {Kind.PERSON_KEY, Kind.KEY_WRAP, Kind.PHRASE, Kind.VOUCH}
        return self.world.say(
            writer,
            self.room,
            kind,
            self.payload(kind),
            subject=ADULT if own else PUPIL if is_about else None,
            target=target.get(kind, self.work.id if is_about else None),
        )

    def folds(self, without: Entry | None = None) -> list[object]:
        """All that the set says, but for what it says of what is held back, and of keys that are cut."""
        entries = [entry for entry in self.world.entries if entry is not without]
        own = [entry for entry in entries if entry.header.space == self.room]
        above = [entry for entry in entries if entry.header.space != self.room]
        door = opened(self.world) if without is None else opened_without(self.world, without)
        roster = fold_roster(self.room, own, above, door)
        if without is None:
            assert self.world.entries[-2].id in roster.held_back
        keys = fold_space_keys(own, roster)
        return [
            replace(
                roster,
                held_back=frozenset(),
                doubtful=frozenset(),
                cut=frozenset(),
                void=frozenset(),
                former=(),
                away=roster.away._replace(cut=frozenset()),
            ),
            fold_coursework(self.room, own, roster),
            # which quarantines are held back is said, so that they can be lifted where a machine keeps to them
            replace(fold_measures(own, roster, door), doubted=()),
            # who drew a key has it, whatever is held back of what they set under it; and another verifier names what is
            replace(fold_sign_ins(own, roster), claimed={}, undone={}),
            # an epoch that was ever said is not given again
            replace(keys, next_epoch=0),
        ]


BY_ROOT_OR_SERVER = {KindClass.AUTHORITY, KindClass.OFFICE}


@pytest.mark.parametrize(
    "kind", [kind for kind in Kind if class_of(kind) not in BY_ROOT_OR_SERVER], ids=lambda kind: kind.name
)
def test_what_is_held_back_counts_for_nothing_in_any_fold(kind: Kind) -> None:
    place = Place(kind)
    entry = place.say(kind, place.thief)
    place.world.say(
        place.world.server, place.world.territory, Kind.REVOKE, Revocation(place.thief.key.public, ()).encode()
    )
    assert place.folds() == place.folds(without=entry)
