"""A small territory to test against: a root, a server with its replica, schools, classes, people, devices let in.

Everything is written through the server's own replica, so that the order of arrival is what a real server would have.
Keys and randomness follow from a seed, time from a `SimClock`. `reborn` is the server that the kit brings back after a
fire: same root, same recovery key, new keys, new generation, nothing in its store.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Self

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.identity import AgreementKey, DeviceKeys, SigningKey, school_id, territory_id
from protocol.messages.enrollment import EnrollAnswer, EnrollRequest
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import (
    Certificate,
    Generation,
    Grant,
    Invite,
    PersonRecord,
    RecoveryKey,
    SpaceRecord,
)
from protocol.replica.answering.serving import Responder
from protocol.replica.answering.station import Station
from protocol.replica.at_work.replica import Draft, Entropy, Replica
from protocol.replica.content.holdings import Holdings
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.storage.sqlite import SqliteStore
from protocol.rights.honouring import hosts_of
from protocol.roles import PersonRole, Role
from protocol.trust.envelope import OpenedRequest
from protocol.trust.invitation import Invitation

NOW_MS = 1_795_000_000_000
_FIRST_MONTH = 8


@dataclass
class SimClock:
    """A wall clock that moves when told; calling it gives milliseconds."""

    ms: int = NOW_MS

    def __call__(self) -> int:
        return self.ms

    def advance(self, ms: int) -> None:
        self.ms += ms


@dataclass(frozen=True)
class TerritoryKeys:
    """All secrets of a territory and of its server."""

    root: SigningKey
    recovery: AgreementKey
    signing: SigningKey
    agreement: AgreementKey
    generation: bytes
    capability_key: bytes

    @classmethod
    def create(cls, entropy: Entropy) -> Self:
        return cls(
            SigningKey(entropy(32)),
            AgreementKey(entropy(32)),
            SigningKey(entropy(32)),
            AgreementKey(entropy(32)),
            entropy(8),
            entropy(32),
        )

    def reborn(self, entropy: Entropy) -> Self:
        """The same root and recovery key; a new server with a new generation."""
        return replace(
            self,
            signing=SigningKey(entropy(32)),
            agreement=AgreementKey(entropy(32)),
            generation=entropy(8),
            capability_key=entropy(32),
        )


def school_year(now_ms: int) -> str:
    """The school year of this moment, as a class of it is labelled."""
    now = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    first = now.year if now.month >= _FIRST_MONTH else now.year - 1
    return f"{first}-{first + 1}"


def new_device(entropy: Entropy) -> DeviceKeys:
    """The keys of a machine that nobody knows yet."""
    return DeviceKeys.create(entropy(32), entropy(32), entropy(32))


@dataclass
class Territory:
    """A server's replica and what is needed to answer over it. Made by `create`, `open` or `reborn`."""

    keys: TerritoryKeys
    replica: Replica
    holdings: Holdings
    clock: SimClock
    entropy: Entropy
    certificate: Entry
    name: str = "Cher"
    schools: list[bytes] = field(default_factory=list)
    classes: list[bytes] = field(default_factory=list)

    @classmethod
    async def create(cls, folder: Path, *, seed: int = 1, clock: SimClock | None = None) -> Self:
        """A new territory whose server keeps its replica in `folder`."""
        entropy = Random(seed).randbytes
        return await cls._found(folder, TerritoryKeys.create(entropy), clock or SimClock(), entropy)

    @classmethod
    async def open(cls, folder: Path, keys: TerritoryKeys, *, seed: int = 2, clock: SimClock | None = None) -> Self:
        """The server again, over what `folder` holds: an old image of it, perhaps."""
        replica, holdings = await _open_replica(folder, keys)
        written = await replica.store.scan_kinds([Kind.CERTIFICATE])
        mine = [entry for entry in written if Certificate.parse(entry.payload or b"").signing == keys.signing.public]
        return cls(keys, replica, holdings, clock or SimClock(), Random(seed).randbytes, mine[-1])

    async def reborn(self, folder: Path) -> Territory:
        """The server that the kit makes from nothing."""
        return await Territory._found(folder, self.keys.reborn(self.entropy), self.clock, self.entropy)

    @classmethod
    async def _found(cls, folder: Path, keys: TerritoryKeys, clock: SimClock, entropy: Entropy) -> Self:
        replica, holdings = await _open_replica(folder, keys)
        territory = replica.territory
        certificate = Certificate(keys.signing.public, keys.agreement.public)
        drafts = [
            Draft(territory, Kind.CERTIFICATE, None, certificate.encode()),
            Draft(territory, Kind.RECOVERY_KEY, None, RecoveryKey(keys.recovery.public).encode()),
            Draft(territory, Kind.GENERATION, None, Generation(keys.generation).encode()),
        ]
        entries = await replica.write(drafts, author=keys.root, now_ms=clock(), entropy=entropy, unsent=False)
        return cls(keys, replica, holdings, clock, entropy, entries[0])

    @property
    def id(self) -> bytes:
        """The territory's id."""
        return territory_id(self.keys.root.public)

    async def say(
        self,
        space: bytes,
        kind: Kind,
        payload: bytes,
        *,
        subject: bytes | None = None,
        target: bytes | None = None,
        parents: tuple[bytes, ...] = (),
    ) -> Entry:
        """An entry by the server."""
        draft = Draft(space, kind, self.certificate.id, payload, subject=subject, target=target, parents=parents)
        entries = await self.replica.write(
            [draft], author=self.keys.signing, now_ms=self.clock(), entropy=self.entropy, unsent=False
        )
        return entries[0]

    async def kit_says(self, space: bytes, kind: Kind, payload: bytes) -> Entry:
        """An entry by the root, whose key the kit has."""
        (said,) = await self.replica.write(
            [Draft(space, kind, None, payload)],
            author=self.keys.root,
            now_ms=self.clock(),
            entropy=self.entropy,
            unsent=False,
        )
        return said

    async def school(self, name: str = "École", uai: str = "0180001X") -> bytes:
        """A school's space."""
        await self.say(self.id, Kind.SPACE, SpaceRecord(name, uai=uai).encode())
        self.schools.append(school_id(self.id, uai))
        return self.schools[-1]

    async def classroom(self, name: str = "CM1", school: bytes | None = None) -> bytes:
        """A class's space, in the first school unless another is named."""
        if school is None:
            school = self.schools[0] if self.schools else await self.school()
        entry = await self.say(school, Kind.SPACE, SpaceRecord(name, year=school_year(self.clock())).encode())
        self.classes.append(entry.id)
        return entry.id

    async def person(self, name: str, role: PersonRole, *spaces: bytes) -> bytes:
        """Somebody on the lists of these spaces."""
        subject = self.entropy(16)
        for space in spaces:
            await self.say(space, Kind.PERSON, PersonRecord(name, role).encode(), subject=subject)
        return subject

    async def crowd(self, count: int, space: bytes) -> None:
        """Many pupils on the list of a space, in one go."""
        drafts = [
            Draft(
                space,
                Kind.PERSON,
                self.certificate.id,
                PersonRecord(f"Élève {number} " + "é" * 90, PersonRole.PUPIL).encode(),
                subject=self.entropy(16),
            )
            for number in range(count)
        ]
        await self.replica.write(
            drafts, author=self.keys.signing, now_ms=self.clock(), entropy=self.entropy, unsent=False
        )

    async def let_in(
        self,
        keys: DeviceKeys,
        role: Role,
        *spaces: bytes,
        person: bytes | None = None,
        until_ms: int | None = None,
    ) -> list[Entry]:
        """Grants for a device, without an invitation."""
        grant = _grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, person, None)
        grant = replace(Grant.parse(grant), until_ms=until_ms).encode()
        return [await self.say(space, Kind.GRANT, grant) for space in spaces]

    async def invite(
        self, role: Role, *spaces: bytes, person: bytes | None = None, uses: int = 1, ttl_ms: int = DAY_MS
    ) -> str:
        """An enrolment code."""
        invitation = Invitation.create(self.id, self.entropy(10))
        where = spaces[0] if len(spaces) == 1 else self.schools[0]
        roster = (await self.replica.view(where)).roster
        hosts = hosts_of(self.replica.door, self.keys.signing.public, where, roster.cut, roster.held_back)
        record = Invite(
            invitation.secret_hash, role, spaces, person, uses, self.clock() + ttl_ms, key=invitation.key, hosts=hosts
        ).vouched_by(invitation)
        await self.say(where, Kind.INVITE, record.encode())
        return invitation.code()

    def responder(self) -> Responder:
        """Who answers sync, reconcile and enrolment over this replica."""
        station = Station(
            signing=self.keys.signing,
            agreement=(self.keys.agreement,),
            chain=(self.certificate,),
            grant=self.certificate.id,
            generation=self.keys.generation,
            capability_key=self.keys.capability_key,
            writes_receipts=True,
        )
        responder = Responder(self.replica, self.holdings, station, now_ms=self.clock, entropy=self.entropy)
        responder.add_handler(Call.ENROLL, self._enroll)
        return responder

    async def close(self) -> None:
        await self.replica.close()

    async def _enroll(self, opened: OpenedRequest) -> bytes:
        """Enough of enrolment for an agent: the secret is looked up, used once per device, and repeatable."""
        request = EnrollRequest.parse(opened.payload)
        invites = await self.replica.store.scan_kinds([Kind.INVITE])
        found = [(entry, Invite.parse(entry.payload or b"")) for entry in invites]
        known = [pair for pair in found if request.tells(pair[1].secret_hash, opened.device)]
        if not known:
            raise Refused(Code.CODE_WRONG, "this code is not known here")
        entry, invite = known[0]
        grants = [
            other
            for other in await self.replica.store.scan_kinds([Kind.GRANT])
            if Grant.parse(other.payload or b"").invite == entry.id
        ]
        mine = [grant for grant in grants if Grant.parse(grant.payload or b"").signing == opened.device]
        if not mine:
            if len({Grant.parse(grant.payload or b"").signing for grant in grants}) >= invite.uses:
                raise Refused(Code.CODE_USED, "this code has been used")
            if invite.expires_ms < self.clock():
                raise Refused(Code.CODE_EXPIRED, "this code has expired")
            payload = _grant(opened.device, request.agreement, request.tls_sha256, invite.role, invite.person, entry.id)
            mine = [await self.say(space, Kind.GRANT, payload) for space in invite.spaces]
        spaces = await self.replica.store.scan_kinds([Kind.SPACE])
        return EnrollAnswer(self.clock(), self.name, (self.certificate, *spaces, entry, *mine)).encode()


def _grant(
    signing: bytes, agreement: bytes, tls: bytes, role: Role, person: bytes | None, invite: bytes | None
) -> bytes:
    return Grant(signing, agreement, tls, role, person, invite).encode()


async def _open_replica(folder: Path, keys: TerritoryKeys) -> tuple[Replica, Holdings]:
    store = await SqliteStore.open(folder)
    content = await PackFolder.open(folder, store)
    holdings = Holdings(store, content)
    await holdings.load()
    return await Replica.open(keys.root.public, store, content), holdings
