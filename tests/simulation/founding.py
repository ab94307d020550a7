"""The territory in which every history begins: two schools, three classes, people, machines enrolled but never synced.

It is the same for every seed, so it is made once: a history begins with images of its disks. Made by the server's own
handlers, and enrolment by its own call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Final

from protocol.identity import AgreementKey, DeviceKeys, SigningKey
from protocol.messages.enrollment import EnrollAnswer, parse_chain
from protocol.messages.wire import Call
from protocol.model.entry import Kind
from protocol.model.structure import Certificate, Generation, RecoveryKey
from protocol.replica.at_work.replica import Draft, Entropy, Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.enrolment import Enrolment
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.made_classes import add_space
from protocol.replica.office.people import add_person
from protocol.roles import PersonRole, Role
from protocol.trust.envelope import OpenedRequest
from protocol.trust.kit import Kit
from sync_server.opened.keys import ServerKeys, Territory
from tests.harness.asking import asking_in_clear
from tests.simulation.disk import Disk
from tests.simulation.ledger import Files
from tests.simulation.virtual_time import run

NOW_MS: Final = 1_795_000_000_000
_ENROLLED_BEFORE_MS: Final = 3600 * 1000
_WEEK_MS: Final = 7 * 24 * 3600 * 1000

CM1, CM2, CE1 = range(3)
PUPILS_PER_CLASS: Final = 3

# name, role, classes (none: the school of the first class), number of the teacher whose device it is
_MACHINES: Final = (
    ("petit", Role.TEACHER, (CM1,), 0),
    ("pc-1", Role.MACHINE, (CM1,), None),
    ("pc-2", Role.MACHINE, (CM1,), None),
    ("relay", Role.RELAY, (), None),
    ("durand", Role.TEACHER, (CM1, CM2), 1),
    ("pc-3", Role.MACHINE, (CM1, CM2), None),
    ("petit-2", Role.TEACHER, (CM1,), 0),
    ("pc-4", Role.MACHINE, (CM2,), None),
    ("far", Role.TEACHER, (CE1,), 2),
    ("pc-5", Role.MACHINE, (CE1,), None),
    ("pc-6", Role.MACHINE, (CM1,), None),
    ("head", Role.HEAD, (), 3),
)


@dataclass(frozen=True)
class Birth:
    """A machine as it was enrolled."""

    name: str
    role: Role
    root: bytes
    keys: DeviceKeys
    disk: Disk
    until_ms: int | None = None
    """When its access is meant to end."""


@dataclass(frozen=True)
class ServerBirth:
    """A server as it begins: its keys, what it knows of its territory, its disk."""

    keys: ServerKeys
    territory: Territory
    disk: Disk


@dataclass(frozen=True)
class Founding:
    """See the module. `pupils` are by class; `published` are the files by title of what was published already.

    `begins_ms` is the time at which a history of it begins: no clock of it has shown a later one. The kit is kept apart
    and never burnt.
    """

    kit: Kit
    server: ServerBirth
    machines: tuple[Birth, ...]
    spaces: tuple[bytes, ...]
    pupils: dict[bytes, tuple[bytes, ...]]
    published: Mapping[str, Files] = field(default_factory=dict)
    begins_ms: int = NOW_MS + _ENROLLED_BEFORE_MS


@lru_cache(maxsize=1)
def founding() -> Founding:
    """The one territory. Its disks are to be copied, never used."""
    return run(_found(Random(0).randbytes))


async def begin_server(kit: Kit, *, now_ms: int, entropy: Entropy) -> ServerBirth:
    """A server that the kit makes: new keys, a new certificate, a new generation, an empty store but for these."""
    keys = ServerKeys.create(entropy(32), entropy(32), entropy(32))
    disk, generation = Disk(), entropy(8)
    first = kit.first_root or kit.root.public
    replica = await Replica.open(first, disk.store, disk.packs)
    if kit.chain:
        await replica.admit(parse_chain(kit.chain), source=kit.root.public, now_ms=now_ms)
    payloads = (
        (Kind.CERTIFICATE, Certificate(keys.signing.public, keys.agreement.public).encode()),
        (Kind.RECOVERY_KEY, RecoveryKey(kit.recovery.public).encode()),
        (Kind.GENERATION, Generation(generation).encode()),
    )
    certificate, *_ = await replica.write(
        [Draft(replica.territory, kind, None, payload) for kind, payload in payloads],
        author=kit.root,
        now_ms=now_ms,
        entropy=entropy,
        unsent=False,
    )
    return ServerBirth(keys, Territory("Cher", first, certificate.id, generation), disk)


async def _found(entropy: Entropy) -> Founding:
    from tests.simulation.office import open_server  # noqa: PLC0415 — which uses what is made here

    kit = Kit("Cher", SigningKey(entropy(32)), AgreementKey(entropy(32)))
    birth = await begin_server(kit, now_ms=NOW_MS, entropy=entropy)
    server = await open_server(birth, birth.disk.store, birth.disk.packs, now_ms=lambda: NOW_MS, entropy=entropy)
    places = (("CM1", "0180001X"), ("CM2", "0180001X"), ("CE1", "0180002Y"))
    spaces = tuple([(await add_space(server, name, school)).id for name, school in places])
    teachers = [
        await add_person(server, "Mme Petit", PersonRole.TEACHER, [spaces[CM1]]),
        await add_person(server, "M. Durand", PersonRole.TEACHER, [spaces[CM1], spaces[CM2]]),
        await add_person(server, "Mme Loin", PersonRole.TEACHER, [spaces[CE1]]),
    ]
    pupils = {
        space: tuple(
            [await add_person(server, f"Élève {n}", PersonRole.PUPIL, [space]) for n in range(PUPILS_PER_CLASS)]
        )
        for space in spaces
    }
    school = server.replica.door.parent(spaces[CM1]) or b""
    teachers.append(await add_person(server, "Mme Directrice", PersonRole.TEACHER, [school]))
    machines = []
    for name, role, classes, teacher in _MACHINES:
        opened = [spaces[number] for number in classes] or [school]
        person = None if teacher is None else teachers[teacher]
        invited = await invite(server, Wanted(role, opened, person, 1, _WEEK_MS))
        machines.append(await enrol(server, server.keys.agreement, server.grant, name, role, invited.code))
    return Founding(kit, birth, tuple(machines), spaces, pupils)


async def with_crowd(begun: Founding, count: int) -> Founding:
    """So many machines more in the first class."""
    from tests.simulation.office import open_server  # noqa: PLC0415 — which uses what is made here

    entropy, disk = Random("crowd").randbytes, begun.server.disk.image()
    server = await open_server(begun.server, disk.store, disk.packs, now_ms=lambda: begun.begins_ms, entropy=entropy)
    code = (await invite(server, Wanted(Role.MACHINE, [begun.spaces[CM1]], None, count, _WEEK_MS))).code
    crowd = [
        await enrol(server, server.keys.agreement, server.grant, f"seat-{number}", Role.MACHINE, code)
        for number in range(count)
    ]
    return replace(begun, server=replace(begun.server, disk=disk), machines=(*begun.machines, *crowd))


async def enrol(office: Office, agreement: AgreementKey, grant: bytes, name: str, role: Role, code: str) -> Birth:
    """A new machine that has used a code at an office, whose X25519 key and own grant these are.

    Raises as `Enrolment.answer`.
    """
    entropy, now_ms, root = office.entropy, office.now_ms(), office.replica.door.root
    keys = DeviceKeys.create(entropy(32), entropy(32), entropy(32))
    request = asking_in_clear(keys, code, name)
    asker = AgreementKey(entropy(32)).public
    opened = OpenedRequest(keys.signing.public, asker, Call.ENROLL, request.encode(), entropy(32), agreement)
    answer = EnrollAnswer.parse(await Enrolment(office, _nobody_notes).answer(opened))
    disk = Disk()
    replica = await Replica.open(root, disk.store, disk.packs)
    chain = await office.replica.credentials([grant])
    await replica.admit((*chain, *answer.entries), source=keys.signing.public, now_ms=now_ms)
    until_ms = next((each.until_ms for each in replica.door.authorities_of(keys.signing.public)), None)
    return Birth(name, role, root, keys, disk, until_ms)


def _nobody_notes(_device: bytes, _name: str, _now_ms: int) -> None:
    """Names of devices come with their health."""
