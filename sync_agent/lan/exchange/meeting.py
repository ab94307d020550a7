"""Meeting a device of the school for the first time: who is at that address, and whether we may talk (R15).

Rules:
- the caller introduces itself by tags that only members of a common space recognise, bound to the certificate that it
  was shown; a listener that recognises none says nothing, to nobody;
- a school is made by its number, by as many entries as say it, and an introduction has so many places: one secret of
  each space goes before a second one of any, and what came here first before what came later (docs/adr/0556);
- the listener answers with its chain: its grants in the common spaces and what they hang on, up to the root;
- who answers with the caller's own key is its clone, or the caller itself: it is asked what process it is, no more;
- who has no space left that is open to it introduces itself by those that were: what opens one may be known there;
- whose rights are in doubt (`in_doubt`) is answered and talked to all the same, and given nothing;
- who has grants that count is held to the certificates of these, and in doubt by no other, for as long as it is talked
  to: of what is held back anybody may have written which certificate is whose;
- the caller lets the chain in by the ordinary door, and talks only to a device whose grant names the certificate that
  it saw, which no revocation has cut, and which may read a space that the caller holds.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Final, TypeAlias

from protocol.errors import Code, NoAnswer, PeerFault, Refused
from protocol.messages.calls import SyncRequest
from protocol.messages.enrollment import parse_chain
from protocol.messages.introduction import NONCE_BYTES, introduction, noise_bytes
from protocol.messages.lives import Twin
from protocol.messages.wire import SYNC_PATH
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Authority
from sync_agent.app import Agent
from sync_agent.lan.exchange.peer_calls import PeerCalls
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.sync.in_doubt import grants_in_doubt, spaces_in_doubt
from sync_agent.sync.peer_news import news_of
from sync_agent.transport.sealed_calls import credentials_that_fit

MISDIRECTED: Final = 421
Secrets: TypeAlias = Mapping[bytes, Sequence[bytes]]
"""The ids of the entries that make each space, in order of arrival."""
_Made: TypeAlias = defaultdict[bytes, list[bytes]]


async def secrets_of(agent: Agent) -> dict[bytes, bytes]:
    """The secrets of each space of this device that is more than the territory → the space; see `_in_turns`."""
    return await _secrets(agent, await agent.spaces())


async def known_secrets_of(agent: Agent) -> dict[bytes, bytes]:
    """By which this device knows others: its own, or, while nothing is open to it, those of what was."""
    return await secrets_of(agent) or await _secrets(agent, await closed_spaces(agent))


async def answering_secrets_of(agent: Agent) -> dict[bytes, bytes]:
    """By which this device knows who introduces itself: its own, or, in doubt, those of what may be open again."""
    own = await secrets_of(agent)
    return own or await _secrets(agent, await spaces_in_doubt(agent))


async def closed_spaces(agent: Agent) -> set[bytes]:
    """The spaces that were open to this device, if none but the territory is now; else none."""
    door = agent.replica.door
    if set(await agent.spaces()) - {door.territory}:
        return set()
    granted = {space for each in door.authorities_of(agent.device) for space in door.below(each.space)}
    return {above for space in granted for above in door.lineage(space)} - {door.territory}


async def _secrets(agent: Agent, spaces: Collection[bytes]) -> dict[bytes, bytes]:
    territory, among = agent.replica.territory, frozenset(spaces)
    schools, classes = _Made(list), _Made(list)
    for entry in await agent.replica.store.scan_kinds([Kind.SPACE]):
        record = parsed(entry, SpaceRecord.parse)
        if record is not None and (space := record.space_of(entry, territory)) in among:
            (classes if record.uai is None else schools)[space].append(entry.id)
    return _in_turns(schools, classes)


def _in_turns(schools: Secrets, classes: Secrets) -> dict[bytes, bytes]:
    """One secret of each space before a second one of any, those of schools and of classes by turns, as they came."""
    spaces = [made for pair in zip_longest(schools.items(), classes.items()) for made in pair if made is not None]
    placed = [
        (turn, place, secret, space)
        for place, (space, secrets) in enumerate(spaces)
        for turn, secret in enumerate(secrets)
    ]
    return {secret: space for _, _, secret, space in sorted(placed)}


async def chain_for(agent: Agent, common: Collection[bytes]) -> tuple[Entry, ...]:
    """This device's grants that hold in one of the common spaces, or below one, with what they hang on.

    Those that are in doubt here may hold for who asks. One that names another X25519 key beside its own, as whoever has
    the server writes it, would have its neighbours seal to a key that it does not hold.
    """
    replica, own = agent.replica, agent.keys.agreement.public
    grants = [
        grant
        for grant in (*await replica.authorities(agent.device), *await grants_in_doubt(agent, agent.device))
        if grant.agreement == own and any(replica.door.opens(grant, space) for space in common)
    ]
    # those above the common spaces say most; the caller has them, most likely
    grants.sort(key=lambda grant: (len(replica.door.lineage(grant.space)), grant.grant))
    return await credentials_that_fit(replica, grants)


async def meet(agent: Agent, transport: PeerTransport) -> Authority:
    """The device at the other end of `transport`, whose certificate is its grant's.

    Raises `NoAnswer` if nobody is there, or nobody who knows us; `Refused(REVOKED)` for a device that was let go,
    `PeerFault` for what is not as it should be.
    """
    secrets = await known_secrets_of(agent)
    certificate = await transport.certificate()
    noise = agent.entropy(noise_bytes(len(secrets)))
    hello = introduction(list(secrets), certificate, agent.entropy(NONCE_BYTES), noise)
    answer = await transport.post(SYNC_PATH, hello)
    if not answer.is_ours or answer.status != MISDIRECTED or not answer.body:
        raise _stranger(transport)
    entries = parse_chain(answer.body)
    if not entries:
        raise _stranger(transport)
    # what proves who it is may be all that is known here of a class that a head made while no server was in reach
    news = news_of(agent.entropy)
    await agent.replica.admit(entries, source=certificate, now_ms=agent.now_ms(), news=news, hold=False, bounded=True)
    return await _device_with(agent, certificate, entries, transport)


async def common_spaces(agent: Agent, device: bytes) -> list[bytes]:
    """The spaces that this device holds and the other one may read, parents before children; none if only the top."""
    theirs = await agent.replica.readable(device)
    common = [space for space in await agent.spaces() if space in theirs]
    return common if set(common) - {agent.replica.territory} else []


async def check_certificate(replica: Replica, device: Authority) -> None:
    """Raise `PeerFault(WRONG_KEY)` where grants of a device count here, and none names the certificate it showed."""
    counting = {each.tls_sha256 for each in await replica.authorities(device.key)}
    if counting and device.tls_sha256 not in counting:
        raise PeerFault(Code.WRONG_KEY, "a certificate was shown there that no grant of the device names that counts")


async def _device_with(
    agent: Agent, certificate: bytes, entries: Sequence[Entry], transport: PeerTransport
) -> Authority:
    replica = agent.replica
    shown = {entry.id for entry in entries}
    named = [
        authority
        for authority in replica.door.authorities()
        if authority.tls_sha256 == certificate and authority.grant in shown
    ]
    if not named:
        raise PeerFault(
            Code.WRONG_KEY, f"the device at {transport.address.authority} shows a certificate that no grant of it names"
        )
    if named[0].key == agent.device:
        raise await _own_key(agent, transport, named[0])
    valid = await _valid(replica, named)
    if valid is None and (doubted := await _doubted(agent, named)) is not None:
        await check_certificate(replica, doubted)
        return doubted
    if valid is None:
        raise Refused(Code.REVOKED, f"the device at {transport.address.authority} is no longer part of this system")
    if not await common_spaces(agent, valid.key):
        theirs = await replica.readable(valid.key)
        if not any(space in theirs for space in await closed_spaces(agent)):
            raise _stranger(transport)
    return valid


async def _own_key(agent: Agent, transport: PeerTransport, own: Authority) -> NoAnswer:
    """Tell a clone from this process itself; a clone learns of us by being asked."""
    answer = await PeerCalls(agent, transport, own).sync(SyncRequest(cursors=(), brief=True))
    who = "this device itself" if answer.twin is Twin.NONE else "a copy of this device, which has the same key"
    return NoAnswer(Code.UNREACHABLE, f"{transport.address.authority} is {who}")


async def _valid(replica: Replica, named: Sequence[Authority]) -> Authority | None:
    for authority in named:
        if authority in await replica.authorities(authority.key):
            return authority
    return None


async def _doubted(agent: Agent, named: Sequence[Authority]) -> Authority | None:
    """Who is in doubt here, of a space of this device's: it may know what shows that its grants count."""
    door = agent.replica.door
    mine = {*await agent.spaces(), *await closed_spaces(agent)} - {door.territory}
    for authority in await grants_in_doubt(agent, named[0].key):
        if authority in named and not mine.isdisjoint((*door.below(authority.space), *door.lineage(authority.space))):
            return authority
    return None


def _stranger(transport: PeerTransport) -> NoAnswer:
    return NoAnswer(
        Code.UNREACHABLE,
        f"what answers at {transport.address.authority} is no device with which this one has a class in common",
    )
