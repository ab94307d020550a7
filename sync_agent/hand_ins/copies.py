"""Second copies of work that was handed in, on machines of the school, until the server has it (R1, R8).

Rules:
- while no receipt of the server exists, the author's device asks two others to keep the sealed work: readers and relays
  hold it anyway; of the other machines those that are linked now, the same two for everybody who asks
  (rendezvous hashing), never one that forgets; a device with several keys, which it gave itself, is one device;
- who holds the whole of somebody else's work, durably, signs a `receipt-safe` over it, unless the server already has;
- the author's device believes the receipts of readers and relays, and of those machines only which it asked and gave
  the content itself: what any other says of work that it never had, stands for nothing. Who is which says the roster of
  now, and who was cut off keeps no copy for anybody (docs/adr/0582);
- it signs for so many hand-ins that name the same bytes, and for so many of one device that nobody else has yet;
- a machine to which somebody else had to bring back what it wrote itself has forgotten: it keeps no copies and signs
  nothing, and what it signed before counts for nothing here; a header that lies there, to which its payload comes back,
  was not forgotten.

docs/protocol.md, "Second copies".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from blake3 import blake3

from protocol.errors import Refused
from protocol.folds.coursework import HandInState, Work
from protocol.limits import MAX_SAFE_RECEIPTS_PER_LINE, MAX_SAFE_RECEIPTS_PER_STREAM, KiB
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.work import Receipt
from protocol.replica.at_work.replica import Draft
from protocol.replica.content.holdings import work_need
from protocol.rights.roster import Roster
from protocol.roles import READS_HAND_INS
from sync_agent.app import Agent
from sync_agent.hand_ins.for_good import still_to_arrive
from sync_agent.machine.marks import ENTRUSTED_MARKS, FORGETS_MARKS

CARRIERS: Final = 2
_SLACK_BYTES: Final = 64 * KiB
_CARRIER: Final = b"relais/0 carrier\x00"


class Copies:
    """Second copies as one device sees them. `live` gives the devices with which a link stands."""

    def __init__(self, agent: Agent, live: Callable[[], set[bytes]]) -> None:
        self._agent = agent
        self._live = live

    async def entrusted(self, space: bytes, device: bytes) -> frozenset[bytes]:
        """The sealed streams of works of this device that `device` is asked to keep."""
        agent = self._agent
        view = await agent.replica.view(space)
        roster, works = view.roster, view.coursework.hand_ins.values()
        needs_copies = await still_to_arrive(agent, space)
        under_way = [work for work in works if agent.made(work) and needs_copies(work)]
        if not under_way:
            return frozenset()
        asked = await agent.replica.store.marks(ENTRUSTED_MARKS)
        at = {work.id: {key for key in work.copies if vouches(agent, roster, work, key, asked)} for work in under_way}
        # who has signed for it is asked again by a device that has forgotten whom it asked
        due = [work for work in under_way if device not in at[work.id]]
        if not due:
            return frozenset()
        forgetful = await forgetful_devices(agent)
        standing = (self._live() | {device}) - forgetful
        candidates = [key for key in standing if await self._is_machine(space, key)]
        found = set()
        marks: dict[str, bytes | None] = {}
        for work in due:
            lasting = at[work.id] - forgetful
            left = CARRIERS - len(lasting)
            if left <= 0:
                continue
            origins = {key: agent.replica.door.origin(key) for key in (*candidates, *lasting)}
            fresh = [key for key in candidates if key not in lasting]
            if device in carriers_of(work.id, fresh, left, origins, {origins[key] for key in lasting}):
                found.add(work.record.content.stream)
                marks[_entrusted_mark(work, device)] = b"\x01"
        if marks.keys() - asked.keys():
            kept = {work.id.hex() for work in due}
            over = (mark for mark in asked if mark.split("/")[1] not in kept)
            await agent.replica.store.set_marks({**marks, **await self._over(space, over)})
        return frozenset(found)

    async def _over(self, space: bytes, marks: Iterable[str]) -> dict[str, bytes | None]:
        """Those of the marks that speak of work of a space that is at the server, or opened."""
        works = (await self._agent.replica.view(space)).coursework.hand_ins
        needs_copies = await still_to_arrive(self._agent, space)
        settled = {work.id.hex() for work in works.values() if not needs_copies(work)}
        return {mark: None for mark in marks if mark.split("/")[1] in settled}

    async def may_keep(self, space: bytes, size: int) -> bool:
        """Whether a pack of `size` bytes may be a second copy of work that nobody has a receipt for."""
        agent = self._agent
        if agent.device in await forgetful_devices(agent):
            return False
        works = (await agent.replica.view(space)).coursework.hand_ins.values()
        for work in works:
            if work.at_server or agent.made(work) or size > work.record.content.size + _SLACK_BYTES:
                continue
            if await agent.holdings.incomplete([work_need(work)], most=1):
                return True
        return False

    async def tend(self) -> int:
        """Sign for what is kept here for others; how many receipts that made."""
        agent = self._agent
        async with agent.writing:
            if agent.device in await forgetful_devices(agent):
                return 0
            drafts = []
            for space in await agent.spaces():
                drafts += await self._receipts(space)
            return await agent.write_unasked(*drafts)

    async def _receipts(self, space: bytes) -> list[Draft]:
        agent = self._agent
        needs_copies = await still_to_arrive(agent, space)
        works = [
            work
            for work in (await agent.replica.view(space)).coursework.hand_ins.values()
            if agent.device not in work.copies and not agent.made(work) and needs_copies(work)
        ]
        if not works:
            return []
        here = await agent.holdings.complete(work_need(work) for work in works)
        held = [work for work in works if work_need(work) in here]
        if not held or not (held := await self._within_bounds(space, held)):
            return []
        try:
            right = await agent.right(space, Kind.RECEIPT_SAFE)
        except Refused:
            return []
        return [
            Draft(
                space,
                Kind.RECEIPT_SAFE,
                right.grant,
                Receipt(work.record.content.stream).encode(),
                subject=work.person,
                target=work.id,
            )
            for work in held
        ]

    async def _within_bounds(self, space: bytes, works: Iterable[Work]) -> list[Work]:
        """Those for which this device signs: anybody names what it holds, in hand-ins without end (docs/adr/0240)."""
        agent = self._agent
        signed = [
            entry
            for entry in await agent.replica.store.authored(space, agent.device)
            if entry.header.kind == Kind.RECEIPT_SAFE and entry.header.target is not None
        ]
        streams = Counter(said.stream for entry in signed if (said := parsed(entry, Receipt.parse)) is not None)
        hand_ins = (await agent.replica.view(space)).coursework.hand_ins
        origin = agent.replica.door.origin
        known = (hand_ins.get(entry.header.target or b"") for entry in signed)
        needs_copies = await still_to_arrive(agent, space)
        lines = Counter(origin(work.author) for work in known if work is not None and needs_copies(work))
        found = []
        for work in works:
            stream, line = work.record.content.stream, origin(work.author)
            if streams[stream] < MAX_SAFE_RECEIPTS_PER_STREAM and lines[line] < MAX_SAFE_RECEIPTS_PER_LINE:
                streams[stream] += 1
                lines[line] += 1
                found.append(work)
        return found

    async def _is_machine(self, space: bytes, key: bytes) -> bool:
        """Whether the device reads the space and would not hold the work anyway."""
        authority = (await self._agent.replica.readable(key)).get(space)
        return authority is not None and authority.role not in READS_HAND_INS


def carriers_of(
    hand_in: bytes,
    candidates: Iterable[bytes],
    count: int,
    origins: Mapping[bytes, bytes] | None = None,
    taken: Collection[bytes] = (),
) -> set[bytes]:
    """Which of the candidates keep a hand-in: the highest scores (rendezvous hashing).

    Keys of one origin have one score, and the second of them comes after all that are the first of theirs; those whose
    origin is `taken` come last.
    """

    def score(key: bytes) -> bytes:
        return blake3(_CARRIER + hand_in + key).digest()

    origins = origins or {}
    ranked = sorted(candidates, key=lambda key: (score(origins.get(key, key)), score(key), key), reverse=True)
    seen = Counter(taken)
    places = {}
    for place, key in enumerate(ranked):
        origin = origins.get(key, key)
        places[key] = (seen[origin], place)
        seen[origin] += 1
    return set(sorted(ranked, key=lambda key: places[key])[:count])


def vouches(agent: Agent, roster: Roster, work: Work, key: bytes, marks: Collection[str]) -> bool:
    """Whether this device believes the receipt for a copy at `key`; `marks` say whom it has asked to keep work."""
    if not roster.may_read(key):
        return False
    if not agent.made(work) or _entrusted_mark(work, key) in marks:
        return True
    return any(given.key == key and given.role in READS_HAND_INS for given in roster.authorities)


# --- machines that forget ---------------------------------------------------------------------------------------------


def forgotten_marks(entries: Iterable[Entry], holder: bytes) -> dict[str, bytes | None]:
    """The mark that says that `holder` forgets, if one of the entries that it had to be brought was its own.

    What a clone said with its key to take another does not count: `holder` never said it.
    """
    own = (entry for entry in entries if entry.header.author == holder and entry.header.kind != Kind.SUCCESSOR)
    return {FORGETS_MARKS + holder.hex(): b"\x01"} if any(own) else {}


async def note_forgotten(agent: Agent, entries: Iterable[Entry], holder: bytes) -> None:
    """Keep in mind that `holder` forgets, if these entries, which others brought it, show that."""
    marks = forgotten_marks(entries, holder)
    if marks:
        await agent.replica.store.set_marks(marks)


async def forgetful_devices(agent: Agent) -> frozenset[bytes]:
    """The devices that were seen to forget."""
    marks = await agent.replica.store.marks(FORGETS_MARKS)
    return frozenset(bytes.fromhex(key.removeprefix(FORGETS_MARKS)) for key in marks)


def lasting_state(agent: Agent, roster: Roster, work: Work, marks: Collection[str]) -> HandInState:
    """The state of a hand-in when copies on machines that forget, and those that this device doubts, count for nothing.

    `marks` say who forgets, and whom this device has asked to keep work.
    """
    if work.state is HandInState.SAFE and not any(
        FORGETS_MARKS + copy.hex() not in marks and vouches(agent, roster, work, copy, marks) for copy in work.copies
    ):
        return HandInState.LOCAL
    return work.state


def _entrusted_mark(work: Work, device: bytes) -> str:
    return f"{ENTRUSTED_MARKS}{work.id.hex()}/{device.hex()}"
