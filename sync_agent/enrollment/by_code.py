"""Letting this device in with a code, in steps that may be cut and repeated (docs/protocol.md, "Enrolment").

Rules:
- nothing is given to a server before it has shown a certificate under the very root that the code names;
- a key that was cut off shows such a chain as well: what the code shows is told so that only who has its `invite` can
  read it, and only who shows that entry, and stands in it, is believed: it says who may honour the code, and the code
  vouches for it (docs/adr/0315);
- a server in wrong hands has that entry: what it is told, and the proof that goes along, let no other device in;
- as what it is let in the code says, where it vouches for its `invite`, whatever is granted (docs/adr/0464);
- the device's keys are durable before the server hears of them: a lost answer is asked for again with the same key, and
  the server answers the same;
- `enrolment.json` comes last, when everything that it promises is here; it makes DIR enrolled;
- a teacher's reading key is at the server when enrolling is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from protocol import canonical
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, Refused
from protocol.identity import AgreementKey, DeviceKeys, territory_id
from protocol.limits import MAX_NAME_CHARS
from protocol.messages.enrollment import EnrollAnswer, EnrollRequest, parse_chain
from protocol.messages.wire import ENROLL_PATH, Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Certificate, Invite
from protocol.replica.at_work.replica import Entropy, Replica
from protocol.replica.console.operation import JSON
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.private_file import make_private_folder, remove_private, write_private
from protocol.replica.storage.sqlite import SqliteStore
from protocol.rights.door import Authority
from protocol.rights.honouring import may_honour
from protocol.trust.envelope import open_answer, seal_request
from protocol.trust.invitation import Invitation, parse_code, territory_fingerprint, veiled
from sync_agent.app import Agent
from sync_agent.keys.binding import Hardware
from sync_agent.keys.hardware import hardware
from sync_agent.keys.succession import bind, made_elsewhere
from sync_agent.machine.enrolled import BINDING_FILE, DEVICE_KEYS_FILE, ENROLMENT_FILE, Enrolment, LetIn
from sync_agent.machine.sync_result import SyncResult
from sync_agent.space_names import space_names
from sync_agent.sync.session import Session
from sync_agent.transport.answers import error_in
from sync_agent.transport.interface import Transport, normal_url
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.server_chain import Host, door_of, newest_certificate, roots_in

ENROLLED_WITH_MARK: Final = "enrolled-with"
"""In the store → canonical [server's address, hash of the code's secret]: what may be repeated."""

_SEED_BYTES: Final = 32
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The device, the territory that it belongs to, and the spaces that its grants open; `called` are their names.

    `whose` is what their lists call the person whose computer it is; None of a shared one.
    """

    device: bytes
    territory: bytes
    spaces: tuple[bytes, ...]
    called: tuple[str, ...]
    whose: str | None


def told(enrolled: Enrolled, code: str) -> dict[str, JSON]:
    """The keys of the operator's contract, what the code says of its territory, and for people the names of it all."""
    return {
        "device": enrolled.device.hex(),
        "territory": enrolled.territory.hex(),
        "fingerprint": territory_fingerprint(parse_code(code).fingerprint),
        "spaces": [space.hex() for space in enrolled.spaces],
        "classes": list(enrolled.called),
        "whose": enrolled.whose,
    }


async def enroll(
    folder: Path,
    server_url: str,
    code: str,
    name: str,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    connect: Callable[[str], Transport] = HttpTransport,
    identify: Callable[[], Hardware] = hardware,
) -> Enrolled:
    """Enrol DIR, whose lock the caller holds, and sync for the first time; or finish what was begun.

    Raises `Refused` (CODE_WRONG, CODE_USED, CODE_EXPIRED, WRONG_TERRITORY), `BadInput` (USAGE, BAD_NAME,
    ALREADY_ENROLLED), `NoAnswer`, `PeerFault`, `LocalFailure`.
    """
    invitation = parse_code(code)
    url = normal_url(server_url)
    check_name(name)
    transport = connect(url)
    transport.hold_to(invitation.matches)
    try:
        if not (folder / ENROLMENT_FILE).exists():
            host = await _server(url, invitation, transport)
            machine = await asyncio.to_thread(identify)
            enrolment = await let_in(
                folder, host, invitation, name.strip(), transport, now_ms, entropy, machine, url=url, where=url
            )
            enrolment.write(folder)
        agent = await Agent.open(folder, now_ms=now_ms, entropy=entropy)
        try:
            return await finish(agent, url, code, Session(agent, transport).sync)
        finally:
            await agent.close()
    finally:
        await transport.close()


def check_name(name: str) -> None:
    """Raise `BadInput(BAD_NAME)` for what a device cannot be called."""
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise BadInput(Code.BAD_NAME, f"a device's name has 1 to {MAX_NAME_CHARS} characters")


async def finish(agent: Agent, server_url: str, code: str, sync: Callable[[], Awaitable[SyncResult]]) -> Enrolled:
    """The last step, for an agent whose grants are here: the first sync, which also brings a reading key to the server.

    May be repeated with the same address and code. Raises `BadInput(ALREADY_ENROLLED)` for others, and as `sync` does.
    """
    asked = _enrolled_with(normal_url(server_url), parse_code(code))
    if await agent.replica.store.mark(ENROLLED_WITH_MARK) != asked:
        raise BadInput(
            Code.ALREADY_ENROLLED,
            f"{agent.folder} is enrolled already, in “{agent.enrolment.territory_name}”; choose another folder",
            territory=agent.replica.territory.hex(),
        )
    try:
        await sync()
    except LocalFailure as failure:
        raise LocalFailure(
            failure.code,
            f"this device is enrolled, but its first sync could not come to its end: {failure.message}",
            **failure.facts,
        ) from failure
    grants = await agent.replica.authorities(agent.device)
    covers = agent.replica.door.covers
    opened = [space for space in await agent.spaces() if any(covers(grant, space) for grant in grants)]
    names = await space_names(agent)
    called = tuple(names.get(space, space.hex()) for space in opened)
    return Enrolled(agent.device, agent.replica.territory, tuple(opened), called, await _whose(agent, opened))


async def _whose(agent: Agent, spaces: Iterable[bytes]) -> str | None:
    """What the first of these lists that has the device's person calls them."""
    if agent.person is None:
        return None
    rosters = [(await agent.replica.view(space)).roster for space in spaces]
    return next((found.name for roster in rosters if (found := roster.named(agent.person)) is not None), None)


async def _server(url: str, invitation: Invitation, transport: Transport) -> Host:
    """The server at an address, whose certificate is under the root that the code names."""
    response = await transport.post(ENROLL_PATH, b"")
    if not response.is_ours or response.status != _OK:
        raise error_in(response, url)
    chain = parse_chain(response.body)
    roots = roots_in(chain, invitation.matches)
    if roots is None or not invitation.matches(territory_id(roots.now)):
        raise Refused(
            Code.WRONG_TERRITORY,
            f"the code was not made for the system that answers at {url}; nothing was given to it",
        )
    certificate = Certificate.parse(newest_certificate(chain, roots.now, roots.territory).payload or b"")
    return Host(roots.first, certificate.signing, certificate.agreement, chain)


async def let_in(
    folder: Path,
    host: Host,
    invitation: Invitation,
    name: str,
    transport: Transport,
    now_ms: Callable[[], int],
    entropy: Entropy,
    machine: Hardware,
    *,
    url: str | None,
    where: str,
) -> Enrolment:
    """Ask a host for the grants, and take them in durably. Without `url`, the host says where the server is.

    `where` names the host in sentences.
    """
    keys = device_keys(folder, entropy, machine)
    sealed, reply = sealed_ask(keys, host, invitation, name, entropy)
    response = await transport.post(ENROLL_PATH, sealed)
    if not response.is_ours:
        raise error_in(response, where)
    answer = EnrollAnswer.parse(open_answer(response.body, sealed, reply=reply, server_public=host.signing))
    return await take_in(folder, host, invitation, name, answer, keys.signing.public, now_ms, url=url)


def sealed_ask(
    keys: DeviceKeys, host: Host, invitation: Invitation, name: str, entropy: Entropy
) -> tuple[bytes, AgreementKey]:
    """The request to be let in, which only the host opens, and the key that its answer is sealed to.

    The host may have been cut off since: only who has the code's `invite` reads what the code shows.
    """
    device = keys.signing.public
    shown = veiled(invitation.shown, invitation.secret_hash, device)
    request = EnrollRequest(shown, keys.agreement.public, keys.tls.fingerprint, name, proof=invitation.proof(device))
    reply = AgreementKey(entropy(_SEED_BYTES))
    sealed = seal_request(
        Call.ENROLL,
        request.encode(),
        device=keys.signing,
        recipient_public=host.agreement,
        reply=reply,
        ephemeral=entropy(_SEED_BYTES),
    )
    return sealed, reply


async def take_in(
    folder: Path,
    host: Host,
    invitation: Invitation,
    name: str,
    answer: EnrollAnswer,
    device: bytes,
    now_ms: Callable[[], int],
    *,
    url: str | None,
) -> Enrolment:
    """Take the grants in, durably. Without `url`, the host says where the server is, and its time proves nothing.

    Raises `PeerFault(WRONG_KEY)` for a host that cannot show the code's `invite`, or is none of those who may honour
    it: it may have been cut off long ago.
    """
    vouched = _honoured(host, answer.entries, invitation)
    server_url = normal_url(answer.server_url or "") if url is None else url
    store = await SqliteStore.open(folder)
    try:
        replica = await Replica.open(host.root, store, await PackFolder.open(folder, store))
        await _check_free(folder, replica)
        if url is not None:
            await replica.prove_time(answer.time_ms)
        await replica.admit(
            (*host.chain, *answer.entries),
            source=host.signing,
            now_ms=now_ms(),
            marks={ENROLLED_WITH_MARK: _enrolled_with(server_url, invitation)},
        )
        if not await replica.readable(device):
            raise PeerFault(Code.MISSING_GRANT, "the code let this device in, but opened nothing for it")
        let_in = _let_in_as(replica.door.authorities_of(device), vouched)
    finally:
        await store.close()
    return Enrolment(server_url, host.root, answer.territory_name, name, let_in)


def _let_in_as(rights: Sequence[Authority], vouched: Invite | None) -> LetIn:
    """What the code says this device is, and the first of its rights that says so too."""
    if vouched is None:
        return LetIn.of(rights[0])
    said = LetIn(rights[0].grant, vouched.role, vouched.person)
    return replace(said, grant=next((each.grant for each in rights if said.fits(each)), said.grant))


def _honoured(host: Host, entries: Sequence[Entry], invitation: Invitation) -> Invite | None:
    """The `invite` by which the host lets us in, if the code vouches for what it says.

    Raises `PeerFault(WRONG_KEY)` for who shows none of the code, or none by which it may let anybody in.
    """
    shown = [invite for invite in _invites_in(entries) if invite.secret_hash == invitation.secret_hash]
    if not shown:
        raise PeerFault(Code.WRONG_KEY, "who answered does not know of this code; nothing that it said was believed")
    if not invitation.vouches:
        return None
    door = door_of(host.root, (*host.chain, *entries))
    said = (invite for invite in shown if invite.key == invitation.key and invite.is_vouched)
    honoured = (one for one in said if one.hosts is not None and may_honour(door, one.hosts, host.signing))
    vouched = next(honoured, None)
    if vouched is None:
        raise PeerFault(
            Code.WRONG_KEY,
            "who answered is none of those who may let anybody in with this code; nothing that it said was believed. "
            "Ask for a new code, and tell whoever runs the system: what answered may be somebody else's",
        )
    return vouched


def _invites_in(entries: Iterable[Entry]) -> Iterator[Invite]:
    for entry in entries:
        if entry.header.kind == Kind.INVITE:
            with contextlib.suppress(PeerFault):
                yield Invite.parse(entry.payload or b"")


async def _check_free(folder: Path, replica: Replica) -> None:
    """An enrolment that was cut may have left entries; those of another territory do not mix with this one's."""
    for entry in await replica.store.scan_kinds([Kind.CERTIFICATE]):
        if entry.header.author not in replica.door.roots:
            raise BadInput(
                Code.ALREADY_ENROLLED,
                f"{folder} holds what another territory's server sent; choose an empty folder",
                territory=territory_id(entry.header.author).hex(),
            )


def device_keys(folder: Path, entropy: Entropy, machine: Hardware) -> DeviceKeys:
    """The keys that an earlier try made, on this machine, else new ones, durable in DIR.

    An image may hold keys that were made before it was copied to thirty machines.
    """
    path = folder / DEVICE_KEYS_FILE
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_private_folder(folder)
        if not made_elsewhere(folder, machine):
            return DeviceKeys.from_bytes(path.read_bytes())
    except FileNotFoundError:
        pass
    except OSError as reason:
        raise LocalFailure(Code.STORAGE_FAILED, f"{path} cannot be used: {reason.strerror}") from reason
    keys = DeviceKeys.create(entropy(_SEED_BYTES), entropy(_SEED_BYTES), entropy(_SEED_BYTES))
    make_private_folder(path.parent)
    remove_private(folder / BINDING_FILE)
    write_private(path, keys.to_bytes())
    bind(folder, machine, entropy)
    return keys


def _enrolled_with(url: str, invitation: Invitation) -> bytes:
    return canonical.encode([url, invitation.secret_hash])
