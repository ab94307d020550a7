"""Random but repeatable histories of a small territory, for laws that must hold for every one of them.

A `World` has a root, a server, one school, two classes, an admin, teachers, machines and pupils; `random_history` lets
them write for a while, with wrong clocks, forks, conflicts, revocations, hand-ins and receipts. The same seed gives the
same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from protocol.clock import at_from
from protocol.identity import SigningKey, school_id, territory_id
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import (
    Certificate,
    Erasure,
    Generation,
    Grant,
    Invite,
    PersonKey,
    PersonRecord,
    RecoveryKey,
    Revocation,
    SpaceRecord,
)
from protocol.model.work import EMPTY_PAYLOAD, ContentRef, Feedback, HandIn, ItemKind, Receipt, Revision, Wraps
from protocol.roles import PersonRole, Role

NOW_MS = 1_795_000_000_000
YEAR_MS = 365 * 24 * 3600 * 1000


@dataclass
class Writer:
    """A key with a grant in a space."""

    key: SigningKey
    role: Role
    space: bytes
    grant: bytes | None
    person: bytes | None = None
    skew_ms: int = 0


@dataclass
class World:
    """The territory and all that has been written, in an admissible order."""

    random: Random
    entries: list[Entry] = field(default_factory=list)
    tips: dict[tuple[bytes, bytes], list[bytes]] = field(default_factory=dict)
    clock_ms: int = NOW_MS

    def __post_init__(self) -> None:
        self.root = Writer(self.new_key(), Role.ROOT, b"", None)
        self.territory = territory_id(self.root.key.public)
        server_key = self.new_key()
        certificate = Certificate(server_key.public, self.random.randbytes(32))
        self.server = Writer(server_key, Role.SERVER, self.territory, None)
        self.server.grant = self.say(self.root, self.territory, Kind.CERTIFICATE, certificate.encode()).id
        self.say(self.root, self.territory, Kind.RECOVERY_KEY, RecoveryKey(self.random.randbytes(32)).encode())
        self.say(self.root, self.territory, Kind.GENERATION, Generation(self.random.randbytes(8)).encode())
        self.school = school_id(self.territory, "0180001X")
        self.say(self.server, self.territory, Kind.SPACE, SpaceRecord("École", uai="0180001X").encode())
        self.classes = [
            self.say(self.server, self.school, Kind.SPACE, SpaceRecord(name, year="2026-2027").encode()).id
            for name in ("CM1", "CM2")
        ]

    def new_key(self) -> SigningKey:
        """A fresh signing key from the world's randomness."""
        return SigningKey(self.random.randbytes(32))

    def say(
        self,
        writer: Writer,
        space: bytes,
        kind: int,
        payload: bytes,
        *,
        subject: bytes | None = None,
        target: bytes | None = None,
        parents: tuple[bytes, ...] = (),
        fork: bool = False,
    ) -> Entry:
        """An entry by `writer`; `fork` lets it forget what it wrote last, as a frozen machine does."""
        self.clock_ms += self.random.randrange(1, 90_000)
        here = (space, writer.key.public)
        prev = self.tips.get(here, [])
        entry = compose(
            author=writer.key,
            space=space,
            kind=kind,
            grant=writer.grant,
            at=at_from(self.clock_ms + writer.skew_ms, self.random.randrange(4)),
            payload=payload,
            salt=self.random.randbytes(16),
            subject=subject,
            target=target,
            parents=parents,
            prev=prev[1:2] if fork else prev[:1],
        )
        self.tips[here] = [entry.id, *prev]
        self.entries.append(entry)
        return entry

    def enrol(self, role: Role, space: bytes, *, by: Writer | None = None, person: bytes | None = None) -> Writer:
        """A new device with a grant in `space`."""
        key = self.new_key()
        grant = Grant(key.public, self.random.randbytes(32), self.random.randbytes(32), role, person, None)
        writer = Writer(key, role, space, None, person)
        writer.skew_ms = self.random.choice([0, 0, 0, -17 * YEAR_MS, 14 * YEAR_MS, 5_000])
        writer.grant = self.say(by or self.server, space, Kind.GRANT, grant.encode()).id
        return writer

    def person(self, space: bytes, role: PersonRole, name: str) -> bytes:
        """Somebody new on a class list."""
        subject = self.random.randbytes(16)
        self.say(self.server, space, Kind.PERSON, PersonRecord(name, role).encode(), subject=subject)
        return subject

    def in_space(self, space: bytes) -> list[Entry]:
        """The entries of one space."""
        return [entry for entry in self.entries if entry.header.space == space]


def random_history(seed: int, steps: int = 30) -> World:
    """A world in which a class has been at work."""
    world = World(Random(seed))
    work = AtWork(world)
    for _ in range(steps):
        world.random.choice(work.acts)()
    return world


class AtWork:
    """What the people of one class may do next."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = world.random
        self.room = world.classes[0]
        self.admin = world.enrol(Role.ADMIN, world.school)
        self.persons = [world.person(self.room, PersonRole.PUPIL, f"Élève {number}") for number in range(3)]
        adult = world.person(self.room, PersonRole.TEACHER, "Mme Petit")
        self.teachers = [world.enrol(Role.TEACHER, self.room, person=adult) for _ in range(2)]
        self.machines = [world.enrol(Role.MACHINE, self.room) for _ in range(2)]
        self.machines.append(world.enrol(Role.RELAY, world.school))
        for teacher in self.teachers:
            key = PersonKey(self.random.randbytes(32)).encode()
            world.say(teacher, self.room, Kind.PERSON_KEY, key, subject=adult)
        invite = Invite(self.random.randbytes(32), Role.MACHINE, (self.room,), None, 3, NOW_MS)
        world.say(world.server, self.room, Kind.INVITE, invite.encode())
        self.items: dict[bytes, list[bytes]] = {}
        self.hand_ins: list[Entry] = []
        self.switches: dict[bytes, list[bytes]] = {}
        self.acts = [self.publish, self.publish, self.revise, self.switch, self.hand_in, self.hand_in]
        self.acts += [self.receive, self.mark, self.rename, self.revoke, self.erase, self.nonsense]

    def publish(self) -> None:
        entry = self.world.say(self._teacher(), self.room, Kind.REVISION, self._revision())
        self.items[entry.id] = [entry.id]

    def revise(self) -> None:
        if self.items:
            item = self.random.choice(list(self.items))
            known = self.items[item]
            parents = tuple(self.random.sample(known, min(len(known), self.random.choice([1, 1, 1, 2]))))
            fork = self.random.random() < 0.2
            entry = self.world.say(
                self._teacher(), self.room, Kind.REVISION, self._revision(), target=item, parents=parents, fork=fork
            )
            known.append(entry.id)

    def switch(self) -> None:
        if self.items:
            item = self.random.choice(list(self.items))
            known = self.switches.setdefault(item, [])
            parents = tuple(known[-1:]) if self.random.random() < 0.7 else ()
            kind = self.random.choice([Kind.WITHDRAW, Kind.RESTORE])
            entry = self.world.say(self._teacher(), self.room, kind, EMPTY_PAYLOAD, target=item, parents=parents)
            known.append(entry.id)

    def hand_in(self) -> None:
        if not self.items:
            return
        machine = self.random.choice(self.machines)
        person = self.random.choice(self.persons)
        content = ContentRef(self.random.randbytes(32), self.random.randrange(1, 10**6), 0)
        entry = self.world.say(
            machine,
            self.room,
            Kind.HAND_IN,
            HandIn(content, None).encode(),
            subject=person,
            target=self.random.choice(list(self.items)),
            fork=self.random.random() < 0.2,
        )
        wraps = Wraps(((self.random.randbytes(32), self.random.randbytes(80)),)).encode()
        self.world.say(machine, self.room, Kind.WRAP, wraps, subject=person, target=entry.id)
        self.hand_ins.append(entry)

    def receive(self) -> None:
        if self.hand_ins:
            work = self.random.choice(self.hand_ins)
            stream = HandIn.parse(work.payload or b"").content.stream
            wrong = self.random.random() < 0.1
            payload = Receipt(self.random.randbytes(32) if wrong else stream).encode()
            kind, writer = self.random.choice(
                [
                    (Kind.RECEIPT_SERVER, self.world.server),
                    (Kind.RECEIPT_TEACHER, self._teacher()),
                    (Kind.RECEIPT_SAFE, self.random.choice(self.machines)),
                ]
            )
            self.world.say(writer, self.room, kind, payload, subject=work.header.subject, target=work.id)

    def mark(self) -> None:
        if self.hand_ins:
            work = self.random.choice(self.hand_ins)
            note = Feedback("Bien", self.random.choice([None, "A"]), self.random.random() < 0.3, None)
            self.world.say(
                self._teacher(), self.room, Kind.FEEDBACK, note.encode(), subject=work.header.subject, target=work.id
            )

    def rename(self) -> None:
        subject = self.random.choice(self.persons)
        versions = [entry.id for entry in self.world.entries if entry.header.subject == subject]
        record = PersonRecord(f"Nom {self.random.randrange(99)}", PersonRole.PUPIL, self.random.random() < 0.1)
        writer = self.random.choice([self.world.server, self.admin])
        self.world.say(writer, self.room, Kind.PERSON, record.encode(), subject=subject, parents=tuple(versions[:1]))

    def revoke(self) -> None:
        if self.random.random() < 0.5:
            victim = self.random.choice([*self.machines, *self.teachers, self.admin])
            written = [entry.id for entry in self.world.entries if entry.header.author == victim.key.public]
            heads = tuple(self.random.sample(written, min(2, len(written))))
            writer = self.random.choice([self.world.server, self.admin])
            where = self.random.choice([self.room, self.world.school])
            self.world.say(writer, where, Kind.REVOKE, Revocation(victim.key.public, heads).encode())

    def erase(self) -> None:
        if self.random.random() < 0.2:
            covers = self.random.choice([*self.persons, *self.items])
            self.world.say(self.world.server, self.room, Kind.ERASE, Erasure(covers).encode())

    def nonsense(self) -> None:
        """What a newer version may write: a kind of a known class, and a payload that nobody here can read."""
        self.world.say(self._teacher(), self.room, Kind.REVISION, b"\xc0")
        other = self.random.choice(self.machines)
        entry = compose(
            author=other.key,
            space=self.room,
            kind=64 + 15,
            grant=other.grant,
            at=at_from(self.world.clock_ms),
            payload=b"\x80",
            salt=self.random.randbytes(16),
        )
        self.world.entries.append(entry)

    def _teacher(self) -> Writer:
        return self.random.choice(self.teachers)

    def _revision(self) -> bytes:
        content = ContentRef(self.random.randbytes(32), self.random.randrange(10**6), 3)
        kind = self.random.choice(list(ItemKind))
        return Revision(kind, f"Leçon {self.random.randrange(99)}", None, self.world.clock_ms, content).encode()
