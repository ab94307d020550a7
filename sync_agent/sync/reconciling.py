"""Making one space equal with another replica's by range-based reconciliation, when cursors do not serve (R3).

Rules:
- what only this side has is given away: towards the server, into the outbox, to travel with the next sync, but for what
  it has refused; towards a peer, to whom that says nothing, with the next steps of the dialogue;
- what the other side has is asked for in bounded batches, with the next step in the same request;
- an answer is about what it was asked for: nothing else is taken, nor of another space, and what has come is not asked
  for again, whatever the other side says that it left;
- entries come in no admissible order: what waits for another is kept in quarantine, what did not fit there is asked for
  again once others were admitted; so is what waits there as a header alone, of which whoever brought it left the rest;
- what was found is the whole difference if it makes this set the very one of which the first answer showed the
  fingerprint. Else ranges may have been taken for equal that are not, as they are compared by sums: every id of the
  other side is listed (docs/adr/0486);
- so it is where a dialogue was broken off, and the next one goes on where that came to, in another exchange too: what
  is refused here, for a quota, say, is lacked again each time, and would keep all that lies behind it from being found;
- at the end the cursor stands where the other store stood at the first answer: what arrived later comes in pages.

docs/protocol.md, "Reconcile".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from protocol.errors import Code, PeerFault, RelaisError
from protocol.messages.calls import ReconcileAnswer, ReconcileRequest
from protocol.model.entry import Entry
from protocol.reconcile.checkpoint import Checkpoint
from protocol.reconcile.negentropy import ASKING, BEGINNING, INFINITY, LISTING, Bound, Initiator, Record, Splitting
from protocol.reconcile.set_digest import fingerprint_of
from protocol.reconcile.sorted_records import SortedRecords
from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import note_forgotten
from sync_agent.machine.refusals import refused_ids
from sync_agent.sync.want_of_room import no_room_there
from sync_agent.transport.sealed_calls import SealedCalls

IDS_PER_REQUEST: Final = 4_000
_MAX_DIALOGUES: Final = 8


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconciliation did: where the other store stood, entries received, entries given away.

    Unless it `is_whole`, something was not looked at, where the next one goes on.
    """

    checkpoint: Checkpoint
    is_whole: bool
    received: int
    unsent: int

    def __add__(self, later: Reconciled) -> Reconciled:
        """This, and what went on from it."""
        received, unsent = self.received + later.received, self.unsent + later.unsent
        return Reconciled(self.checkpoint, later.is_whole, received, unsent)


@dataclass(frozen=True, slots=True)
class _Left:
    """A space that is listed: where the other store stood when that began, and where the next dialogue goes on.

    Once it comes to the end all of it is listed again, if something `found_no_room` to wait in, and something was
    received since the list began, which may be what that waits for.
    """

    checkpoint: Checkpoint
    start: Bound = BEGINNING
    received: int = 0
    found_no_room: bool = False

    def after(self, dialogue: _Dialogue, reached: Bound) -> _Left:
        """Where it goes on after a dialogue that has come so far."""
        received, no_room = self.received + dialogue.received, self.found_no_room or dialogue.found_no_room()
        if reached == INFINITY and received and no_room:
            return _Left(self.checkpoint)
        return _Left(self.checkpoint, reached, received, no_room)


class Giving(Protocol):
    """What becomes of entries that only this side has."""

    async def give(self, have: Sequence[bytes]) -> int:
        """The other side lacks these. How many of them it is given."""
        ...

    async def push(self) -> tuple[Entry, ...]:
        """Entries to send with the next step."""
        ...

    def marks(self, space: bytes) -> Mapping[str, bytes | None]:
        """What to note with entries that the other side brings."""
        ...


class ToOutbox:
    """Towards the server: what it lacks waits for the next sync."""

    def __init__(self, store: EntryStore) -> None:
        self._store = store

    async def give(self, have: Sequence[bytes]) -> int:
        """Put them into the outbox, but for what the server has refused."""
        refused = await refused_ids(self._store)
        giving = [given for given in have if given not in refused]
        await self._store.mark_unsent(giving)
        return len(giving)

    async def push(self) -> tuple[Entry, ...]:
        """Nothing: the sync sends them."""
        return ()

    def marks(self, space: bytes) -> Mapping[str, bytes | None]:
        """Nothing: what the server brings, it holds."""
        del space
        return {}


class Taking:
    """Of the server alone: what it lacks goes with a sync."""

    async def give(self, have: Sequence[bytes]) -> int:
        """None of it."""
        del have
        return 0

    async def push(self) -> tuple[Entry, ...]:
        """Nothing."""
        return ()

    def marks(self, space: bytes) -> Mapping[str, bytes | None]:
        """Nothing: what the server brings, it holds."""
        del space
        return {}


class Reconciling:
    """Reconciles spaces with one other replica, one at a time."""

    def __init__(self, agent: Agent, calls: SealedCalls, giving: Giving | None = None) -> None:
        """Over the calls to that replica. `giving` says what happens with what it lacks (default: the outbox)."""
        self._agent = agent
        self._calls = calls
        self._giving = giving or ToOutbox(agent.replica.store)
        self._left: dict[bytes, _Left] = {}

    async def reconcile(self, space: bytes) -> Reconciled:
        """Run dialogues about `space` until all was looked at. The cursor is left to the caller.

        Raises what `SealedCalls.reconcile` raises, `Refused(CANNOT_READ)` above all.
        """
        waiting = [held.entry for held in await self._agent.replica.store.held()]
        done = await self._go_on(space, waiting)
        for _ in range(_MAX_DIALOGUES - 1):
            if done.is_whole:
                break
            done += await self._go_on(space, waiting)
        return done

    async def _go_on(self, space: bytes, waiting: Collection[Entry]) -> Reconciled:
        """One dialogue: the first, or on where the last one has come to."""
        dialogue = _Dialogue(self._agent, self._calls, self._giving, space, waiting)
        left = self._left.get(space)
        if left is None:
            is_whole = await dialogue.run(ASKING) == INFINITY and dialogue.has_found_all()
            left = _Left(dialogue.checkpoint())
        else:
            left = left.after(dialogue, await dialogue.run(LISTING, left.start))
            is_whole = left.start == INFINITY
        self._left[space] = left
        if is_whole:
            del self._left[space]
        return Reconciled(left.checkpoint, is_whole, dialogue.received, dialogue.unsent)


class _Dialogue:
    """One Negentropy dialogue, and the entries that it brings."""

    def __init__(
        self,
        agent: Agent,
        calls: SealedCalls,
        giving: Giving,
        space: bytes,
        waiting: Collection[Entry],
    ) -> None:
        self._agent = agent
        self._calls = calls
        self._giving = giving
        self._space = space
        self._whole = {entry.id for entry in waiting if entry.payload is not None}
        self._seen = {entry.id: _record(entry) for entry in waiting}
        self._records = SortedRecords()
        self._have: set[bytes] = set()
        self._need: set[bytes] = set()
        self._first: Checkpoint | None = None
        self._wanted: dict[bytes, None] = {}
        self._overflowed: dict[bytes, None] = {}
        self.received = 0
        self.unsent = 0

    def checkpoint(self) -> Checkpoint:
        """Where the server's store stood at the first answer."""
        assert self._first is not None  # noqa: S101  (asked after `run`)
        return self._first

    def has_found_all(self) -> bool:
        """Whether the set that this dialogue began with, and what was found, make the set of the first answer."""
        if not self._need <= self._seen.keys():
            return False
        both = self._records.with_added(map(self._seen.__getitem__, self._need)) if self._need else self._records
        return fingerprint_of(both, without=self._have) == self.checkpoint().fingerprint

    def found_no_room(self) -> bool:
        """Whether something of what was asked for could neither be let in nor wait."""
        return bool(self._overflowed)

    async def run(self, splitting: Splitting, start: Bound = BEGINNING) -> Bound:
        """Talk, of nothing before `start`, until nothing is left to say or to fetch; how far all was looked at."""
        self._records = await self._agent.replica.records(self._space)
        initiator = Initiator(self._records, splitting, start)
        message: bytes | None = initiator.open()
        reached = start
        push: tuple[Entry, ...] = ()
        no_room: RelaisError | None = None
        while message is not None or self._wanted or push:
            asked = list(self._wanted)[:IDS_PER_REQUEST]
            answer = await self._calls.reconcile(ReconcileRequest(self._space, message, push=push, need=tuple(asked)))
            push = ()
            self._first = self._first or answer.checkpoint
            await self._admit(asked, answer)
            if message is not None:
                if answer.message is None:
                    raise PeerFault(Code.MALFORMED, "the other side breaks off a reconciliation")
                step = initiator.answer(answer.message)
                message, reached = step.next_message, step.reached
                self._have.update(step.have)
                self._need.update(step.need)
                self._wanted.update(dict.fromkeys(needed for needed in step.need if needed not in self._whole))
                if step.have:
                    self.unsent += await self._giving.give(step.have)
            push = await self._giving.push()
            no_room = no_room or no_room_there(answer.refused)
        if no_room is not None:
            raise no_room
        return reached

    async def _admit(self, asked: list[bytes], answer: ReconcileAnswer) -> None:
        came = _asked_for(answer.entries, asked, self._space)
        self._seen.update((entry.id, _record(entry)) for entry in came)
        left = _still_left(answer.left, came)
        for wanted in asked:
            if wanted not in left:
                self._wanted.pop(wanted, None)
        if not came:
            # An answer that brings nothing of what it leaves would be asked for ever.
            for wanted in left:
                self._wanted.pop(wanted, None)
            return
        source = await self._calls.server()
        admission = await self._agent.replica.admit(
            came,
            source=source.key,
            now_ms=self._agent.now_ms(),
            marks=self._giving.marks(self._space),
            bounded=True,
        )
        self.received += len(admission.admitted)
        await note_forgotten(self._agent, admission.admitted, self._agent.device)
        await self._agent.replica.store.mark_unsent(entry.id for entry in admission.released)
        self._overflowed.update(dict.fromkeys(admission.unheld))
        if admission.admitted and not self._wanted:
            self._wanted, self._overflowed = self._overflowed, {}


def _record(entry: Entry) -> Record:
    return Record(entry.timestamp_ms, entry.id)


def _asked_for(entries: Sequence[Entry], asked: Collection[bytes], space: bytes) -> list[Entry]:
    """Those of a space that were asked for."""
    names = set(asked)
    return [entry for entry in entries if entry.id in names and entry.header.space == space]


def _still_left(left: Collection[bytes], came: Sequence[Entry]) -> set[bytes]:
    """What the other side says that it left, but for what it has given all the same."""
    return set(left).difference(entry.id for entry in came)
