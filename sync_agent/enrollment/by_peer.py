"""Being let in by a device of the school, with no server in reach (docs/protocol.md, "Enrolment").

Rules:
- who listens is told nothing but a tag under the code's hash, which only who may honour the code can tell from noise;
- it answers with its chain, which must lead to the root that the code names, and must name the certificate that it
  showed; only then is the code's secret sealed to it;
- where the server is, it says; the machine finds out for itself whether that is so, by the root that it pinned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from protocol.errors import Code, NoAnswer, PeerFault, Refused
from protocol.identity import territory_id
from protocol.messages.enrollment import parse_chain
from protocol.messages.introduction import NONCE_BYTES, knock
from protocol.messages.wire import ENROLL_PATH
from protocol.replica.at_work.replica import Entropy
from protocol.roles import RUNS_A_SCHOOL
from protocol.trust.invitation import Invitation, parse_code
from sync_agent.app import Agent
from sync_agent.enrollment.by_code import Enrolled, check_name, finish, let_in
from sync_agent.keys.binding import Hardware
from sync_agent.keys.hardware import hardware
from sync_agent.lan.exchange.meeting import MISDIRECTED
from sync_agent.lan.exchange.peer_sync import Tell, sync_with
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.machine.addresses import Address
from sync_agent.machine.enrolled import ENROLMENT_FILE
from sync_agent.machine.sync_result import SyncResult
from sync_agent.transport.server_chain import Host, door_of, roots_in


async def enroll_by_peer(
    folder: Path,
    address: Address,
    code: str,
    name: str,
    tell: Tell,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    identify: Callable[[], Hardware] = hardware,
) -> Enrolled:
    """Enrol DIR, whose lock the caller holds, at the device that listens at an address, and sync with it.

    Raises as `enrollment.enroll` does; may be repeated like it.
    """
    invitation = parse_code(code)
    check_name(name)
    if not (folder / ENROLMENT_FILE).exists():
        transport = PeerTransport(address)
        try:
            host = await _host(invitation, transport, entropy)
            machine = await asyncio.to_thread(identify)
            enrolment = await let_in(
                folder,
                host,
                invitation,
                name.strip(),
                transport,
                now_ms,
                entropy,
                machine,
                url=None,
                where=address.authority,
            )
        finally:
            await transport.close()
        enrolment.write(folder)
    agent = await Agent.open(folder, now_ms=now_ms, entropy=entropy)

    async def sync() -> SyncResult:
        await sync_with(agent, [address], tell)
        return SyncResult()

    try:
        return await finish(agent, agent.enrolment.server_url, code, sync)
    finally:
        await agent.close()


async def _host(invitation: Invitation, transport: PeerTransport, entropy: Entropy) -> Host:
    """Who listens there, if it is a device that may let us in."""
    certificate = await transport.certificate()
    hello = knock(invitation.secret_hash, certificate, entropy(NONCE_BYTES))
    answer = await transport.post(ENROLL_PATH, hello)
    if not answer.is_ours or answer.status != MISDIRECTED or not answer.body:
        raise _nobody(transport)
    chain = parse_chain(answer.body)
    if not chain:
        raise _nobody(transport)
    roots = roots_in(chain, invitation.matches)
    if roots is None or not invitation.matches(territory_id(roots.now)):
        where = transport.address.authority
        raise Refused(Code.WRONG_TERRITORY, f"the code was not made for what answers at {where}; it was given nothing")
    for authority in door_of(roots.first, chain).authorities():
        if authority.tls_sha256 == certificate and authority.role in RUNS_A_SCHOOL:
            return Host(roots.first, authority.key, authority.agreement, chain)
    raise PeerFault(Code.WRONG_KEY, f"the device at {transport.address.authority} has no right to let anybody in")


def _nobody(transport: PeerTransport) -> NoAnswer:
    where = transport.address.authority
    return NoAnswer(
        Code.UNREACHABLE,
        f"what answers at {where} lets nobody in with this code: a head teacher's computer does, at the address with "
        "which it was started (`run --lan ADDRESS:PORT`)",
    )
