"""What an enrolled device does with requests to be let in that it finds on a stick (docs/adr/0048).

Rules:
- a request is sealed to one host: to this device, if it runs a school, which answers as over the network; or to the
  server, to whom anybody passes it on unread who can reach it;
- what cannot be answered now stays on the stick for somebody else;
- every device leaves the server's chain on the sticks that it writes, and its own if it runs a school: a machine that
  knows nobody can seal its request to whom the root above its code has made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

from protocol.canonical import encode
from protocol.errors import NoAnswer, PeerFault, Refused, RelaisError
from protocol.fields import compact
from protocol.identity import KEY_ID_BYTES, key_id
from protocol.limits import MAX_LETTERS_PER_DISK
from protocol.messages.enrollment import encode_chain
from protocol.messages.errors import encode_error
from protocol.messages.wire import ENROLL_PATH, Call
from protocol.replica.office.enrolment import Enrolment
from protocol.replica.office.known_codes import KnownCodes
from protocol.trust.envelope import OpenedRequest, open_request, seal_answer
from sync_agent.app import Agent
from sync_agent.school.device_names import note_called
from sync_agent.school.office import SchoolOffice
from sync_agent.transport.sealed_calls import server_of

if TYPE_CHECKING:
    from sync_agent.transport.answers import Response

Post: TypeAlias = "Callable[[str, bytes], Awaitable[Response]]"
"""One call to the server: path and body, its answer. Raises `NoAnswer`."""


_ANSWERED: Final = frozenset({HTTPStatus.OK, HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST})


async def chains(agent: Agent) -> list[bytes]:
    """The chains of those who let in, as far as this device can show them: the server's, and its own."""
    server = await server_of(agent.replica)
    found = [encode_chain(await agent.replica.credentials([server.grant]))]
    office = await _office(agent)
    if office is not None:
        found.append(encode_chain(await agent.replica.credentials([office.authority.grant])))
    return found


async def answers(agent: Agent, asked: Sequence[bytes], post: Post) -> tuple[list[bytes | None], bool]:
    """What is said to each request, None where nothing can be said now; and whether the server has let anybody in."""
    server = await server_of(agent.replica)
    said: list[bytes | None] = []
    by_server = False
    is_reached = True
    codes = KnownCodes()
    for ask in asked[:MAX_LETTERS_PER_DISK]:
        named = ask[1 : 1 + KEY_ID_BYTES]
        answer = None
        if named == key_id(agent.keys.agreement.public):
            answer = await _own_answer(agent, ask, codes)
        elif named == key_id(server.agreement) and is_reached:
            try:
                response = await post(ENROLL_PATH, ask)
            except NoAnswer:
                is_reached = False
            else:
                # a server that does not know the key, or is busy, has not answered: somebody else may meet it later
                answer = response.body if response.is_ours and response.status in _ANSWERED else None
                by_server = by_server or answer is not None
        said.append(None if answer is None else _letter(answer, agent.enrolment.server_url))
    return said, by_server


async def own_answer(agent: Agent, office: SchoolOffice, opened: OpenedRequest, codes: KnownCodes) -> bytes:
    """This device's answer to who asks to be let in, whose name is kept. Raises as `Enrolment.answer`.

    `codes` are those that are known already. Nothing is kept from writing for who shows none of them.
    """
    called: list[tuple[bytes, str]] = []
    enrolment = Enrolment(
        office,
        lambda key, name, _: called.append((key, name)),
        agent.enrolment.server_url,
        codes=codes,
        turn=agent.writing,
    )
    answer = await enrolment.answer(opened)
    await note_called(agent, called)
    return answer


async def _own_answer(agent: Agent, ask: bytes, codes: KnownCodes) -> bytes | None:
    """Our answer, a refusal included; None for what is no request, or if we let nobody in."""
    office = await _office(agent)
    if office is None:
        return None
    try:
        opened = open_request(ask, [agent.keys.agreement])
    except PeerFault:
        return None
    if opened.call != Call.ENROLL:
        return None
    try:
        payload = await own_answer(agent, office, opened, codes)
    except (Refused, PeerFault) as error:
        payload = encode_error(error)
    return seal_answer(payload, opened, server=agent.keys.signing, ephemeral=agent.entropy(32))


def _letter(answer: bytes, server_url: str) -> bytes:
    return encode(compact(answer=answer, server=server_url))


async def _office(agent: Agent) -> SchoolOffice | None:
    try:
        return await SchoolOffice.of(agent)
    except RelaisError:
        return None
