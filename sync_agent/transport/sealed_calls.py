"""Calls to the server, sealed to its certified key (R13; docs/protocol.md, "Envelope" and "Strangers").

Rules:
- a call is sealed to the newest certificate under the pinned root that this replica holds, and to nobody else;
- a server that answers 421 shows its chain: a certificate under the same root, none older than the one known, or
  nothing; who does not know the key that its own certificate names is asked no more;
- where the server that is known has been cut off, and none is known that took its place, the chain is asked for;
- a server that does not know this device is shown its credentials, once per call;
- only what is sealed is the server's word, and the keys of links come in it: content is for nobody on the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from protocol.errors import Code, LocalFailure, PeerFault, Refused, RelaisError
from protocol.identity import AgreementKey
from protocol.limits import MAX_CREDENTIAL_BYTES, MAX_CREDENTIALS
from protocol.messages.calls import WITHDRAWN_BYTES, ReconcileAnswer, ReconcileRequest, SyncAnswer, SyncRequest
from protocol.messages.enrollment import parse_chain
from protocol.messages.lives import Twin
from protocol.messages.wire import ENROLL_PATH, RECONCILE_PATH, SYNC_PATH, Call
from protocol.model.entry import Entry
from protocol.model.structure import Certificate
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Authority
from protocol.rights.honouring import Age, age, server_in_force
from protocol.trust.envelope import open_answer, seal_request
from sync_agent.app import Agent
from sync_agent.network.trouble import Seen, Trouble
from sync_agent.transport.interface import Transport
from sync_agent.transport.server_chain import KnownServers

if TYPE_CHECKING:
    from sync_agent.transport.answers import Response

MISDIRECTED: Final = 421
_MOST_ASKED: Final = 4
_MAX_GRANTS_LOOKED_AT: Final = 4 * MAX_CREDENTIALS

_SYNC_STRANGER: Final = frozenset({Code.UNKNOWN_DEVICE})
_RECONCILE_STRANGER: Final = frozenset({Code.UNKNOWN_DEVICE, Code.CANNOT_READ})


def beginnings_of(revocations: Iterable[bytes]) -> tuple[bytes, ...]:
    """Revocations, as a request says that they were shown."""
    return tuple(sorted(each[:WITHDRAWN_BYTES] for each in revocations)[:MAX_CREDENTIALS])


async def credentials_that_fit(replica: Replica, grants: Iterable[Authority]) -> tuple[Entry, ...]:
    """The first of these grants, with what they hang on, as far as they fit beside what else is said.

    One that does not fit is passed over: who has the server's key says rights of 64 KiB to any device.
    """
    fitting: tuple[Entry, ...] = ()
    shown: list[bytes] = []
    for authority in islice(grants, _MAX_GRANTS_LOOKED_AT):
        longer = await replica.credentials([*shown, authority.grant])
        size = sum(entry.wire_bytes for entry in longer)
        if len(longer) <= MAX_CREDENTIALS and size <= MAX_CREDENTIAL_BYTES:
            fitting = longer
            shown.append(authority.grant)
    return fitting


class SealedCalls:
    """The two calls of a running agent. Both raise `NoAnswer`, `Refused`, `PeerFault`, and what the server sends."""

    def __init__(self, agent: Agent, transport: Transport) -> None:
        self._agent = agent
        self._transport = transport

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """The answer to one sync request, which says what process asks; that another lives with its key is heard."""
        shown = request.withdrawn or await self._shown()
        request = replace(request, life=self._agent.life.next(), withdrawn=shown, keyed=True)
        try:
            return self._heard(await self._exchange(Call.SYNC, SYNC_PATH, request.encode()))
        except Refused as refusal:
            if refusal.code not in _SYNC_STRANGER:
                raise
        introduced = replace(request, credentials=await self._credentials(None))
        return self._heard(await self._exchange(Call.SYNC, SYNC_PATH, introduced.encode()))

    async def reconcile(self, request: ReconcileRequest) -> ReconcileAnswer:
        """The answer to one step about one space; a server that does not let us read it is shown the grants for it."""
        try:
            return ReconcileAnswer.parse(await self._exchange(Call.RECONCILE, RECONCILE_PATH, request.encode()))
        except Refused as refusal:
            if refusal.code not in _RECONCILE_STRANGER:
                raise
        introduced = replace(request, credentials=await self._credentials(request.space))
        return ReconcileAnswer.parse(await self._exchange(Call.RECONCILE, RECONCILE_PATH, introduced.encode()))

    async def server(self) -> Authority:
        """The newest server; if all that are known are cut off, the one that answers, once it has proven itself.

        Raises `LocalFailure(DAMAGED)` if there is none.
        """
        known = await newest_server(self._agent.replica)
        if known is not None:
            return known[0]
        shown = await self._transport.post(ENROLL_PATH, b"")
        if not shown.is_ours:
            raise _error_in(shown, self._agent.enrolment.server_url)
        await self._meet(shown.body)
        return await server_of(self._agent.replica)

    async def _shown(self) -> tuple[bytes, ...]:
        """The revocations that have closed spaces to this device, as it knows: nobody need show them again."""
        agent = self._agent
        granted = {each.space for each in agent.replica.door.authorities_of(agent.device)}
        closed = granted - (await agent.spaces()).keys()
        return beginnings_of(await agent.replica.revocations_against(agent.device, closed)) if closed else ()

    def _heard(self, payload: bytes) -> SyncAnswer:
        answer = SyncAnswer.parse(payload)
        if answer.twin is not Twin.NONE:
            self._agent.on_twin(answer.twin)
        return answer

    async def _credentials(self, first: bytes | None) -> tuple[Entry, ...]:
        """As many of this device's grants as fit, with what they hang on; first those that open the space `first`."""
        replica = self._agent.replica
        grants = await self._grants_to_show()
        if first is not None:
            grants.sort(key=lambda authority: not replica.door.opens(authority, first))
        return await credentials_that_fit(replica, grants)

    async def _grants_to_show(self) -> list[Authority]:
        """The grants of this device by which it may show who it is."""
        return list(self._agent.replica.door.authorities_of(self._agent.device))

    async def _exchange(self, call: Call, path: str, payload: bytes) -> bytes:
        """The payload of the sealed answer to a sealed call; one 421 on the way is dealt with, and news of servers."""
        agent = self._agent
        has_met = False
        for _ in range(_MOST_ASKED):
            server = await self.server()
            reply = AgreementKey(agent.entropy(32))
            request = seal_request(
                call,
                payload,
                device=agent.keys.signing,
                recipient_public=server.agreement,
                reply=reply,
                ephemeral=agent.entropy(32),
            )
            response = await self._transport.post(path, request)
            if response.is_ours and response.status != MISDIRECTED:
                return self._opened(response.body, request, reply, server)
            if not response.is_ours:
                raise _error_in(response, agent.enrolment.server_url)
            if (await self.server()).grant != server.grant:
                # a neighbour, or a stick, has told of a newer server since this was sealed: it is asked anew
                continue
            if has_met:
                break
            has_met = True
            await self._meet(response.body)
        raise PeerFault(Code.WRONG_KEY, "the server does not know the key that its own certificate names")

    def _opened(self, answer: bytes, request: bytes, reply: AgreementKey, server: Authority) -> bytes:
        """What the server sealed. Raises `PeerFault(BAD_SEAL)` for what is not, or no more, its word."""
        try:
            return open_answer(answer, request, reply=reply, server_public=server.key)
        except PeerFault as fault:
            if fault.code is not Code.BAD_SEAL:
                raise
            url = self._agent.enrolment.server_url
            sentence = Seen(Trouble.ALTERED).sentence()
            raise PeerFault(fault.code, f"{url}: {sentence}; nothing of it was taken, and the work is kept") from fault

    async def _meet(self, chain: bytes) -> None:
        """Take a server's chain, if it proves a newer certificate under our root.

        No more than that: it is unsealed, and whoever ends TLS on the way puts into it what they like.
        """
        replica = self._agent.replica
        entries = parse_chain(chain)
        # it may be the one that is known: a neighbour, or a stick, told of it while the chain was asked for
        shown = (await known_servers(replica)).in_chain(entries)
        source = Certificate.parse(shown.payload or b"").signing
        await replica.admit(entries, source=source, now_ms=self._agent.now_ms(), hold=False)


def _error_in(response: Response, url: str) -> RelaisError:
    from sync_agent.transport.answers import error_in  # noqa: PLC0415 — brings what speaks HTTP: who asks for the chain goes without

    return error_in(response, url)


async def server_of(replica: Replica) -> Authority:
    """The server as its newest certificate names it. Raises `LocalFailure(DAMAGED)` if there is none."""
    found = await newest_server(replica)
    if found is None:
        raise LocalFailure(
            Code.DAMAGED, "the servers that this machine knows have been cut off; ask who runs the system"
        )
    return found[0]


async def newest_server(replica: Replica) -> tuple[Authority, Age] | None:
    """The server's keys by its newest certificate that is not revoked, and which that is; None if all are."""
    return (await known_servers(replica)).newest


async def known_servers(replica: Replica) -> KnownServers:
    """What the replica knows of its servers now."""
    door, roster = replica.door, (await replica.view(replica.territory)).roster
    found = server_in_force(door, roster.cut, roster.held_back)
    newest = None if found is None else (found, age(door, found))
    return KnownServers(door, door.root_now, newest, roster.cut, roster.held_back)


def hold_to_servers(transport: Transport, replica: Replica) -> None:
    """Hold a way to the servers that the replica knows, whatever it comes to know of them."""
    transport.hold_to(replica.territory.__eq__, partial(known_servers, replica))
