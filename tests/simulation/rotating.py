"""Keys are replaced: the server's, the territory's root; a server is restored by the kit; who has the old keys goes on.

- *rotate server*, *rotate root*: by the handlers behind the commands; one that the power cut short is finished at the
  next start, or by the same command again, as its operator is told to do (docs/operate.md);
- *kit: restore*: an old backup becomes a server with keys and a generation of its own, as `restore --kit` makes it;
- *old server*: a thief lets a machine in with keys that were replaced, another with keys that the root certified for
  him before, unheard, and a third that he let in before, and kept back behind a word that the server holds; he shows
  that to somebody at school. Who has a root's key that was replaced shows a rotation to the same root that nobody had
  heard of, which names next to nothing, and says the one in force again, after a certificate of his own.

Whoever replaces keys waits until the server has again all that these have said, and has heard of each server that there
was: what turns up later is held back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from protocol.clock import at_from
from protocol.identity import SEED_BYTES, AgreementKey, DeviceKeys, SigningKey
from protocol.limits import SALT_BYTES
from protocol.messages.enrollment import parse_chain
from protocol.model.entry import ID_BYTES, Entry, Kind, compose
from protocol.model.structure import GENERATION_BYTES, Certificate, Grant, Revocation
from protocol.replica.at_work.replica import CLOCK_MARK, Replica
from protocol.rights.root_rotation import RootRotation
from protocol.roles import Role
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit import rotation
from sync_server.keeping.backing_up import certify
from sync_server.keeping.foreign_backup import _STAY
from sync_server.opened.app import Server
from sync_server.opened.keys import ServerKeys, Territory
from tests.harness.entries import SOME_RECEIPT
from tests.harness.server_in_process import rotate_root as replace_root
from tests.simulation.disk import Disk
from tests.simulation.doing import Event, do
from tests.simulation.founding import ServerBirth
from tests.simulation.ledger import holds
from tests.simulation.machine import Machine, SimAgent
from tests.simulation.office import KEYS
from tests.simulation.trust import Former, FormerRoot

if TYPE_CHECKING:
    from tests.simulation.world import World


async def rotate_server(world: World, _machine: Machine, _random: Random) -> str:
    """The server takes other keys: the disk of an old one was stolen."""
    server = world.office.server
    if server is None:
        return "-"
    world.office.spawn(_rotate_server(world, server))
    return "begins"


async def _rotate_server(world: World, server: Server) -> None:
    servers = {each.key for each in server.replica.door.authorities() if each.role is Role.SERVER}
    if world.next_kit is not None or not _has_all_by(world, servers) or not _has_heard_of_all(world):
        return
    world.office.begin_rotation(server)
    world.births += 1
    keys, certificate = server.keys, server.grant
    others, kept_back = _certified_unheard(world, server)
    behind = await _kept_back_behind_a_word(world, server)
    await rotation.rotate_server(server, world.kit)
    world.office.keep_keys(server)
    said = await server.store.scan_kinds([Kind.REVOKE])
    cuts = [entry for entry in said if Revocation.parse(entry.payload or b"").key == keys.signing.public]
    world.acknowledged(cuts)
    ends = frozenset([*(entry.id for entry in cuts), server.grant])
    world.trust.former.append(Former(keys, certificate, ends, kept_back, others, behind))
    world.note("server", f"has the keys {server.keys.signing.public.hex()[:8]}")


async def rotate_root(world: World, _machine: Machine, random: Random) -> str:
    """Another root takes over: the kit was stolen. Nobody makes a third kit before the second has."""
    server = world.office.server
    if server is None or (world.next_kit is None and not _has_all_by(world, server.replica.door.roots)):
        return "-"
    if world.next_kit is None:
        keys = SigningKey(random.randbytes(SEED_BYTES)), AgreementKey(random.randbytes(SEED_BYTES))
        world.next_kit = Kit("Cher", *keys, first_root=server.replica.door.root)
    world.office.spawn(_rotate_root(world, server))
    return "begins"


async def _rotate_root(world: World, server: Server) -> None:
    taking_over = world.next_kit
    if taking_over is None:
        return
    world.office.begin_rotation(server)
    world.births += 1
    old, kept_back = world.kit.root, await _rotated_unheard(world, server, taking_over)
    chain = await replace_root(server, world.kit, taking_over, server.entropy)
    world.office.keep_keys(server)
    world.kit, world.next_kit = replace(taking_over, chain=chain), None
    rotations = await server.store.scan_kinds([Kind.ROOT_ROTATION])
    world.acknowledged(rotations)
    (rotation, *_) = (each for each in rotations if each.header.author == old.public)
    world.trust.former_roots.append(FormerRoot(old, rotation, kept_back))
    world.note("server", f"the root is {taking_over.root.public.hex()[:8]}")


async def finish_rotation(world: World) -> None:
    """The same command again, where nothing has come back of it."""
    if world.next_kit is not None and world.office.server is not None:
        await world.office.spawn(_rotate_root(world, world.office.server))


def _has_all_by(world: World, keys: Collection[bytes]) -> bool:
    """Whether the server holds all that these keys have said, as far as it lies on any disk."""
    store = world.office.disk.store
    said = (each for disk in world.disks() for each in disk.store._entries.values() if each.header.author in keys)
    return all(holds(store, each.id) for each in said)


def _has_heard_of_all(world: World) -> bool:
    """Whether the server holds each certificate that lies on any disk, but for those that were kept back."""
    kept_back = {former.kept_back.id for former in world.trust.former}
    held = (each for disk in world.disks() for each in disk.store._entries.values())
    certificates = (each.id for each in held if each.header.kind == Kind.CERTIFICATE)
    return all(name in kept_back or holds(world.office.disk.store, name) for name in certificates)


def _certified_unheard(world: World, server: Server) -> tuple[SigningKey, Entry]:
    """What somebody who was in the server has had the root sign, and has told nobody."""
    draw = Random(server.grant).randbytes
    others = SigningKey(draw(SEED_BYTES))
    certificate = compose(
        author=world.kit.root,
        space=server.replica.territory,
        kind=Kind.CERTIFICATE,
        grant=None,
        at=at_from(server.replica.next_ms(server.now_ms()) - 1),
        payload=Certificate(others.public, draw(32)).encode(),
        salt=draw(SALT_BYTES),
    )
    return others, certificate


async def _rotated_unheard(world: World, server: Server, new: Kit) -> Entry:
    """What somebody who was in the server has had both roots sign, and has told nobody: it names one word."""
    old, territory = world.kit.root, server.replica.territory
    (first, *_) = await server.store.authored(territory, old.public)
    version = server.replica.door.place_of_root(old.public) + 1
    return compose(
        author=old,
        space=territory,
        kind=Kind.ROOT_ROTATION,
        grant=None,
        at=at_from(server.replica.next_ms(server.now_ms()) - 1),
        payload=RootRotation.agreed(new.root, territory, old.public, version, (first.id,)).encode(),
        salt=Random(first.id).randbytes(SALT_BYTES),
    )


async def _kept_back_behind_a_word(world: World, server: Server) -> Entry:
    """What a thief has signed with the server's keys, and shows nobody; but what names it is brought to the server."""
    random = Random(server.grant)
    keys = DeviceKeys.create(random.randbytes(32), random.randbytes(32), random.randbytes(32))
    given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
    space = random.choice(world.founding.spaces)

    def said(kind: Kind, payload: bytes, *prev: bytes, target: bytes | None = None) -> Entry:
        return compose(
            author=server.keys.signing,
            space=space,
            kind=kind,
            grant=server.grant,
            at=at_from(server.replica.next_ms(server.now_ms())),
            payload=payload,
            salt=random.randbytes(SALT_BYTES),
            target=target,
            prev=prev,
        )

    behind = said(Kind.GRANT, given.encode())
    shown = said(Kind.RECEIPT_SERVER, SOME_RECEIPT, behind.id, target=random.randbytes(ID_BYTES))
    await server.replica.admit([shown], source=b"a thief's", now_ms=server.now_ms())
    world.trust.thieves.add(keys.signing.public)
    world.trust.forged |= {behind.id, shown.id}
    return behind


def wait_for_the_clocks(world: World) -> None:
    """Let time pass until the kit may speak: devices believe no certificate that is older than what they have seen.

    One that the server made itself is dated by what it had heard, from clocks that were fast by hours as well.
    """
    held = (each for disk in world.disks() for each in disk.store._entries.values())
    newest_ms = max(each.timestamp_ms for each in held if each.header.kind == Kind.CERTIFICATE)
    if newest_ms >= world.true_ms():
        world.pass_ms(newest_ms - world.true_ms() + 1)


async def kit_restore(world: World, _machine: Machine, random: Random) -> str:
    """A backup, of this server or of one before it, is restored with the kit."""
    if world.next_kit is not None:
        return "-"
    await world.office.switch_off()
    return await restore_by_kit(world, random.choice([*world.old_backups, *world.backups]).image(), random)


async def restore_by_kit(world: World, disk: Disk, random: Random) -> str:
    """What `restore` makes of an unpacked backup, while the server is off."""
    kit, held, draw, root = world.kit, disk.files.get(KEYS), random.randbytes, world.office.birth.territory.root
    keys, generation = ServerKeys.create(draw(32), draw(32), draw(32)), draw(GENERATION_BYTES)
    before = world.office.birth.keys if held is None else ServerKeys.create(held[:32], held[32:64], held[64:])
    store = disk.store
    wait_for_the_clocks(world)
    stay = (*_STAY, CLOCK_MARK)
    await store.set_marks({mark: None for mark in await store.marks("") if not mark.startswith(stay)})
    await store.drop_held([waiting.entry.id for waiting in await store.held()])
    replica = await Replica.open(root, store, disk.packs)
    if kit.chain:
        await replica.admit(parse_chain(kit.chain), source=kit.root.public, now_ms=world.true_ms())
    certificate = await certify(replica, kit, keys, generation, before, now_ms=world.true_ms, entropy=draw)
    world.births += 1
    world.office.begin_anew(ServerBirth(keys, Territory("Cher", root, certificate, generation), disk))
    world.old_backups += world.backups
    world.backups = [disk.image()]
    world.change_server_disk(disk)
    await world.office.boot()
    return f"by the kit, {generation.hex()}"


async def old_server(world: World, machine: Machine, random: Random) -> str:
    """Whoever has keys that were replaced lets a machine in, and tells somebody at school."""
    trust = world.trust
    if not (trust.former or trust.former_roots) or machine.agent is None or machine.revoked:
        return "-"
    shown = list[Entry]()
    if trust.former:
        former, space = random.choice(trust.former), random.choice(world.founding.spaces)
        by = (former.keys.signing, former.certificate), (former.others, former.kept_back.id)
        let_in = [_let_in_by(world, machine, space, *each, former.cuts, random) for each in by]
        trust.let_in_by_former[Grant.parse(former.behind.payload or b"").signing] = former.cuts
        shown += [former.kept_back, former.behind, *let_in]
    if trust.former_roots:
        shown += _said_by_former_root(world, machine, trust.former_roots[-1])

    async def told(_world: World, _machine: Machine, agent: SimAgent, _random: Random) -> str:
        await agent.replica.admit(shown, source=shown[0].header.author, now_ms=agent.now_ms(), unsent=True)
        return f"{len(shown)} entries"

    machine.spawn(do(world, machine, "old server", told, random))
    return machine.name


def _let_in_by(
    world: World,
    machine: Machine,
    space: bytes,
    signing: SigningKey,
    certificate: bytes,
    cuts: frozenset[bytes],
    random: Random,
) -> Entry:
    """What lets a thief's machine in: the word of a server's key, which those cuts end."""
    keys = DeviceKeys.create(random.randbytes(32), random.randbytes(32), random.randbytes(32))
    given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
    world.trust.let_in_by_former[keys.signing.public] = cuts
    world.trust.thieves.add(keys.signing.public)
    let_in = compose(
        author=signing,
        space=space,
        kind=Kind.GRANT,
        grant=certificate,
        at=machine.now_ms() << 16,
        payload=given.encode(),
        salt=random.randbytes(SALT_BYTES),
    )
    world.trust.forged.add(let_in.id)
    return let_in


def _said_by_former_root(world: World, machine: Machine, former: FormerRoot) -> list[Entry]:
    """The rotation that was kept back; and the one in force again, dated back, after a server's certificate of his."""
    draw = Random(former.rotation.id + bytes((len(world.trust.let_in_by_former),)))
    signing, place = SigningKey(draw.randbytes(SEED_BYTES)), former.rotation.header.space

    def says(kind: Kind, payload: bytes, at: int, prev: Sequence[bytes] = ()) -> Entry:
        salt = draw.randbytes(SALT_BYTES)
        return compose(
            author=former.key, space=place, kind=kind, grant=None, at=at, payload=payload, salt=salt, prev=prev
        )

    at = former.rotation.header.at
    certificate = says(Kind.CERTIFICATE, Certificate(signing.public, draw.randbytes(32)).encode(), at)
    again = says(Kind.ROOT_ROTATION, former.rotation.payload or b"", at - (1 << 16), (certificate.id,))
    ends = frozenset({former.rotation.id})
    let_in = _let_in_by(world, machine, world.founding.spaces[0], signing, certificate.id, ends, draw)
    return [former.kept_back, certificate, again, let_in]


EVENTS: Final[Mapping[str, Event]] = {
    "rotate server": rotate_server,
    "rotate root": rotate_root,
    "kit: restore": kit_restore,
    "old server": old_server,
}
