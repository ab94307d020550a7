"""Random but repeatable histories of a class over a year, in which quiet weeks alternate with everything that happens.

Besides what a class does (`tests.harness.history`), devices come in, are named by heads and confirmed by teachers, keys
are said and given on, copies follow their originals, people are listed twice, schools are told what to do, and who was
cut off comes back. In one history of three nobody is ever cut off or erased: most classes are like that.
"""

from __future__ import annotations

from random import Random

from protocol.folds.measures import DrillOrder, QuarantineOrder
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation, Ruling, Successor
from protocol.model.work import Wraps
from protocol.rights.root_rotation import RootRotation
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from protocol.trust.person_keys import KeyWraps
from tests.harness.history import AtWork, World, Writer


def long_year(seed: int, steps: int = 50) -> World:
    """A world in which a class has been at work, and people have come and gone."""
    world = World(Random(seed))
    year = _Year(world)
    for _ in range(steps):
        world.random.choice(year.acts)()
    return world


class _Year(AtWork):
    """What happens in one class, and above it, in a year."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.head = world.enrol(Role.HEAD, world.school, person=self.random.randbytes(16))
        self.adults = [world.person(self.room, PersonRole.TEACHER, f"Adulte {number}") for number in range(2)]
        troubled = self.random.random() < 2 / 3
        quiet = [self.publish, self.revise, self.switch, self.hand_in, self.hand_in, self.receive, self.mark]
        quiet += [self.rename, self.nonsense, self.newcomer, self.newcomer, self.say_key, self.confirm, self.give_key]
        quiet += [self.name_above]
        rare = [self.copy, self.list_twice, self.order, self.let_in_again, self.freeze]
        taken = [self.revoke, self.erase, self.erase, self.rule, self.come_back, self.copy]
        taken += [self.replace_root, self.root_wraps]
        self.roots = [world.root]
        self.acts = [*quiet, *quiet, *quiet, *rare, *(taken if troubled else ())]

    def newcomer(self) -> None:
        """A device that was never here, let in by the server, by the head teacher or by who runs the system."""
        role = self.random.choice([Role.TEACHER, Role.TEACHER, Role.MACHINE, Role.RELAY, Role.HEAD])
        by = self.random.choice([self.world.server, self.head, self.admin])
        if role is Role.HEAD and by is self.head:
            by = self.world.server
        named = role in (Role.TEACHER, Role.HEAD) and self.random.random() < 0.9
        person = self.random.choice([*self.adults, self.teachers[0].person]) if named else None
        writer = self.world.enrol(role, self.random.choice([self.room, self.world.school]), by=by, person=person)
        (self.teachers if role in (Role.TEACHER, Role.HEAD) else self.machines).append(writer)

    def say_key(self) -> None:
        teacher = self._teacher()
        if teacher.person is not None:
            key = PersonKey(self.random.randbytes(32)).encode()
            self.world.say(teacher, self.room, Kind.PERSON_KEY, key, subject=teacher.person)

    def give_key(self) -> None:
        teacher = self._teacher()
        if teacher.person is not None:
            wraps = KeyWraps(self.random.randbytes(32), ((self.random.randbytes(32), self.random.randbytes(80)),))
            self.world.say(teacher, self.room, Kind.KEY_WRAP, wraps.encode(), subject=teacher.person)

    def confirm(self) -> None:
        other = self._teacher()
        voice = self.random.choice([*self.teachers, self.head])
        self.world.say(voice, self.room, Kind.VOUCH, Vouch().encode(), subject=other.person, target=other.grant)

    def name_above(self) -> None:
        record = PersonRecord("Quelqu’un de l’école", PersonRole.TEACHER).encode()
        self.world.say(self.world.server, self.world.school, Kind.PERSON, record, subject=self.random.randbytes(16))

    def copy(self) -> None:
        """A machine that was cloned goes on with new keys."""
        first = self.random.choice(self.machines)
        key = self.world.new_key()
        agreed = Successor.agreed(key, self.random.randbytes(32), None, first.space, first.key.public)
        said = self.world.say(first, first.space, Kind.SUCCESSOR, agreed.encode())
        self.machines.append(Writer(key, Role.MACHINE, first.space, said.id))

    def list_twice(self) -> None:
        if self.random.random() < 0.4:
            double, one = self.random.sample([*self.persons, *self.adults], 2)
            record = PersonRecord("Le même", PersonRole.PUPIL, same_as=one)
            self.world.say(self.world.server, self.room, Kind.PERSON, record.encode(), subject=double)

    def freeze(self) -> None:
        """Somebody is frozen, or is no more: a word that names no other before it, so that dates decide."""
        person = self.random.choice([*self.persons, *self.adults])
        record = PersonRecord("Quelqu’un", PersonRole.PUPIL, frozen=self.random.random() < 0.6)
        self.world.say(self.world.server, self.room, Kind.PERSON, record.encode(), subject=person)

    def order(self) -> None:
        where = self.random.choice([self.room, self.world.school])
        if self.random.random() < 0.5:
            self.world.say(self.head, where, Kind.DRILL, DrillOrder(20).encode())
        else:
            self.world.say(self.head, where, Kind.QUARANTINE, QuarantineOrder(on=True).encode())

    def let_in_again(self) -> None:
        """A device gets another grant for the keys that it has: a machine becomes a teacher's, say."""
        whom = self.random.choice([*self.machines, *self.teachers])
        whom.role = self.random.choice([Role.TEACHER, Role.MACHINE])
        person = self.random.choice(self.adults) if whom.role is Role.TEACHER else None
        grant = Grant(whom.key.public, self.random.randbytes(32), None, whom.role, person, None)
        given = self.world.say(self.world.server, self.room, Kind.GRANT, grant.encode())
        if self.random.random() < 0.5:
            whom.grant, whom.person = given.id, person

    def replace_root(self) -> None:
        """The root is replaced; where somebody else has it too, twice, and then one of the new ones is none.

        Or it is said twice of the same root, each time with something else of what there was.
        """
        old, is_same = self.roots[0], self.random.random() < 0.5
        for _ in range(self.random.choice([0, 1, 2]) if len(self.roots) == 1 else 0):
            is_again = is_same and len(self.roots) > 1
            new = self.roots[-1] if is_again else Writer(self.world.new_key(), Role.ROOT, b"", None)
            named = [one.id for one in self.world.entries if one.header.author == old.key.public]
            some = tuple(named[4:8] if is_again else named[:4])
            said = RootRotation.agreed(new.key, self.world.territory, old.key.public, 1, some)
            self.world.say(old, self.world.territory, Kind.ROOT_ROTATION, said.encode())
            self.roots.append(new)

    def root_wraps(self) -> None:
        """Whoever has a root's key, or what was to be one, seals a hand-in to more readers."""
        if self.hand_ins:
            work = self.random.choice(self.hand_ins)
            wraps = Wraps(((self.random.randbytes(32), self.random.randbytes(80)),)).encode()
            root = self.random.choice(self.roots)
            self.world.say(root, self.room, Kind.WRAP, wraps, subject=work.header.subject, target=work.id)

    def rule(self) -> None:
        """Somebody accepts or refuses some of what those said who were cut off, or takes an erasure back."""
        away = {Revocation.parse(entry.payload or b"").key for entry in self._said(Kind.REVOKE)}
        said = [entry.id for entry in self.world.in_space(self.room) if entry.header.author in away]
        said += [entry.id for entry in self._said(Kind.ERASE)]
        some = tuple(self.random.sample(said, min(4, len(said))))
        ruling = Ruling(some, ()) if self.random.random() < 0.5 else Ruling((), some)
        self.world.say(self.random.choice([self.world.server, self.admin]), self.room, Kind.RULING, ruling.encode())

    def come_back(self) -> None:
        """Who was cut off is let in again, by a grant that names the revocations."""
        whom = self.random.choice([*self.machines, *self.teachers])
        revocations = self._said(Kind.REVOKE)
        cuts = tuple(one.id for one in revocations if Revocation.parse(one.payload or b"").key == whom.key.public)
        if cuts:
            grant = Grant(whom.key.public, self.random.randbytes(32), None, whom.role, whom.person, None)
            said = self.world.say(self.world.server, self.world.school, Kind.GRANT, grant.encode(), parents=cuts[:8])
            whom.grant = said.id

    def _said(self, kind: Kind) -> list[Entry]:
        return [entry for entry in self.world.entries if entry.header.kind == kind]
