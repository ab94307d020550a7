"""A class of handmade entries, and what the folds make of them."""

from __future__ import annotations

from random import Random

from protocol.folds.coursework import Coursework, fold_coursework
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey, Revocation, Successor
from protocol.model.work import ContentRef, HandIn, ItemKind, Revision
from protocol.rights.door import Door
from protocol.rights.roster import Roster, fold_roster
from protocol.roles import PersonRole, Role
from tests.harness.history import World, Writer

Parents = tuple[bytes, ...]


class ClassRoom:
    """A class with a teacher, a machine and a pupil, and short ways to let them act."""

    def __init__(self) -> None:
        self.world = World(Random(11))
        self.room = self.world.classes[0]
        self.adult = self.world.person(self.room, PersonRole.TEACHER, "Mme Petit")
        self.teacher = self.world.enrol(Role.TEACHER, self.room, person=self.adult)
        self.machine = self.world.enrol(Role.MACHINE, self.room)
        self.teacher.skew_ms = self.machine.skew_ms = 0
        self.pupil = self.world.person(self.room, PersonRole.PUPIL, "Léa")

    def say_key(self) -> None:
        """The teacher's device says a reading key, and from then on speaks for her."""
        key = PersonKey(bytes(32)).encode()
        self.world.say(self.teacher, self.room, Kind.PERSON_KEY, key, subject=self.adult)

    def revision(
        self, title: str, item: bytes | None = None, parents: Parents = (), due_ms: int | None = None
    ) -> Entry:
        content = ContentRef(self.world.random.randbytes(32), 10, 1)
        payload = Revision(ItemKind.ASSIGNMENT, title, None, due_ms, content).encode()
        return self.world.say(self.teacher, self.room, Kind.REVISION, payload, target=item, parents=parents)

    def hand_in(self, item: bytes) -> Entry:
        payload = HandIn(ContentRef(self.world.random.randbytes(32), 100, 0), None).encode()
        return self.world.say(self.machine, self.room, Kind.HAND_IN, payload, subject=self.pupil, target=item)

    def about(self, writer: Writer, kind: Kind, payload: bytes, work: Entry, parents: Parents = ()) -> Entry:
        return self.world.say(writer, self.room, kind, payload, subject=self.pupil, target=work.id, parents=parents)

    def revoke(self, by: Writer, victim: Writer, *heads: Entry) -> Entry:
        payload = Revocation(victim.key.public, tuple(head.id for head in heads)).encode()
        return self.world.say(by, self.room, Kind.REVOKE, payload)

    def later_key(self, before: Writer) -> Writer:
        """A key of its own that the machine takes after another."""
        key = self.world.new_key()
        said = Successor.agreed(key, bytes(32), None, self.room, before.key.public)
        return Writer(key, Role.MACHINE, self.room, self.world.say(before, self.room, Kind.SUCCESSOR, said.encode()).id)

    def folds(self) -> tuple[Roster, Coursework]:
        door = Door(self.world.root.key.public)
        for entry in self.world.entries:
            door.learn(entry)
        above = [entry for entry in self.world.entries if entry.header.space in door.lineage(self.room)[1:]]
        own = self.world.in_space(self.room)
        roster = fold_roster(self.room, own, above, door)
        return roster, fold_coursework(self.room, own, roster)

    @property
    def work(self) -> Coursework:
        return self.folds()[1]
