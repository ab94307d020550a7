"""What lies here of spaces that are closed to this device, brought to its server (docs/protocol.md, "Sync").

Of a space that is closed to it a device compares nothing, and yet it goes by all that lies here: as whose it takes a
device, say. Whoever answers in the server's place, with a copy of its key, tells it something there, and shuts it out
again, or never lets it in: the honest server would not hear of that, and tell nobody (docs/adr/0544).

Rules:
- once a day the server is asked what it lacks of that, and brought it: whoever says that it lacks nothing may be
  another than who answers tomorrow; a server with other keys at once, before it takes this device for one that has told
  all: of a server before it that may be all that is left;
- it is what leads to rights, whoever said it, and what else servers said of lists and of what counts; no content;
- the day counts as done once there was an answer, whatever follows: nobody has a machine say this over and over;
- of more than fits servers' own words go first, as these are what the server tells people of, and the rest by lot: what
  a server refuses each day does not stand before another word for good;
- who may read nothing asks nothing: each refusal would show it what cut it off, once more;
- none of it is in the outbox, or counts as not taken: a server that refuses it for good has been told all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from blake3 import blake3

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.limits import MAX_PUSHED_BYTES
from protocol.messages.calls import ReconcileAnswer, ReconcileRequest
from protocol.model.entry import Entry, Kind, KindClass, class_of
from protocol.replica.at_work.deserted import but_for_deserted
from sync_agent.app import Agent
from sync_agent.machine.marks import CLOSED_TOLD_MARK
from sync_agent.sync.line_of_rights import LACKS_RIGHTS
from sync_agent.transport.sealed_calls import SealedCalls

MAX_OFFERED: Final = 4_096
_LEADS_TO_RIGHTS: Final = frozenset({Kind.SPACE, Kind.GRANT, Kind.REVOKE, Kind.SUCCESSOR, Kind.PERSON_KEY})
_LOOKED_AT: Final = _LEADS_TO_RIGHTS.union(kind for kind in Kind if class_of(kind) == KindClass.STRUCTURE)
_LOT_BYTES: Final = 16
_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class _Word:
    """An entry: where it stands in a message, and in which turn it goes where there are too many."""

    entry: Entry
    place: tuple[int, bytes, int]
    turn: tuple[bool, bytes]


async def bring_from_closed(agent: Agent, calls: SealedCalls) -> None:
    """Ask the server what it lacks of this, once a day, and bring it. Raises what `SealedCalls.reconcile` raises.

    But for `Refused(REVOKED | CANNOT_READ)`: the sync that follows makes of that what there is to make.
    """
    mine = await agent.spaces()
    closed = (await agent.replica.store.spaces()).keys() - mine.keys()
    if not (mine and closed and await _is_due(agent, (await calls.server()).key)):
        return
    if not (words := await _words(agent, closed)):
        return
    answer = await _said(calls, ReconcileRequest(agent.replica.territory, None, offered=_ids(words)))
    told = agent.now_ms().to_bytes(_TIME_BYTES, "big") + (await calls.server()).key
    await agent.replica.store.set_marks({CLOSED_TOLD_MARK: told})
    if answer is not None and (lacking := _fitting(words, answer.lacks)):
        await _said(calls, ReconcileRequest(agent.replica.territory, None, push=lacking))


async def _is_due(agent: Agent, server: bytes) -> bool:
    told = await agent.replica.store.mark(CLOSED_TOLD_MARK) or b""
    told_ms = int.from_bytes(told[:_TIME_BYTES], "big")
    return told[_TIME_BYTES:] != server or not 0 <= agent.now_ms() - told_ms < DAY_MS


async def _words(agent: Agent, closed: Iterable[bytes]) -> list[_Word]:
    """What is offered of these spaces, but for those that the root has ended."""
    replica = agent.replica
    servers, lot = frozenset(replica.door.server_keys()), agent.entropy(_LOT_BYTES)
    chosen: list[_Word] = []
    for space in await but_for_deserted(replica.door, replica.deserted_by_root, closed):
        depth = len(replica.door.lineage(space))
        found = [
            _Word(said, (depth, space, each.arrival), (said.header.author not in servers, _drawn(lot, said)))
            for each in await replica.store.of_kinds(space, _LOOKED_AT)
            if _is_offered(said := each.entry, servers)
        ]
        chosen = nsmallest(MAX_OFFERED, (*chosen, *found), key=lambda word: word.turn)
    return chosen


def _is_offered(said: Entry, servers: Collection[bytes]) -> bool:
    is_of_rights = said.header.kind in _LEADS_TO_RIGHTS
    return said.payload is not None and (is_of_rights or said.header.author in servers)


def _drawn(lot: bytes, said: Entry) -> bytes:
    return blake3(lot + said.id).digest()


def _ids(words: Iterable[_Word]) -> tuple[bytes, ...]:
    return tuple(word.entry.id for word in words)


def _fitting(words: Iterable[_Word], lacks: Collection[bytes]) -> tuple[Entry, ...]:
    """What one message takes of those words that are lacking, parents before children."""
    lacking, room, fitting = frozenset(lacks), MAX_PUSHED_BYTES, list[_Word]()
    for word in words:
        if word.entry.id in lacking and word.entry.wire_bytes <= room:
            room -= word.entry.wire_bytes
            fitting.append(word)
    return tuple(word.entry for word in sorted(fitting, key=lambda word: word.place))


async def _said(calls: SealedCalls, request: ReconcileRequest) -> ReconcileAnswer | None:
    """The answer; None of a server that lets this device read nothing: what it was brought it has taken in before."""
    try:
        return await calls.reconcile(request)
    except Refused as refusal:
        if refusal.code not in LACKS_RIGHTS:
            raise
        return None
