"""A replica at work: the door before the store, the quarantine beside it, the folds over it (R1, R4, R7).

One object for the server, an agent, a relay. It admits what others bring, writes what its own device says, and answers
questions about a space from the fold. Rules live in `protocol.rights.door`, `roster` and `coursework`; this is the thin
shell that feeds them from a store. docs/protocol.md, "Admission".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocol import clock
from protocol.errors import Code, LocalFailure
from protocol.limits import MAX_PREV, SALT_BYTES
from protocol.messages.parts import Refusal
from protocol.model.entry import Entry, Kind, unsigned
from protocol.reconcile.set_digest import fingerprint_of
from protocol.reconcile.sorted_records import SortedRecords
from protocol.replica.at_work.bare_entries import BareEntries
from protocol.replica.at_work.credentials import credentials_of
from protocol.replica.at_work.deserted import deserted_by_root
from protocol.replica.at_work.destroyed import carried_out, carried_out_at, forgotten_persons
from protocol.replica.at_work.passage import Passage
from protocol.replica.at_work.quarantine import Quarantine, verified
from protocol.replica.at_work.quotas import Quotas
from protocol.replica.at_work.readers import authorities_in_force, readable_by, revocations_against
from protocol.replica.at_work.set_digests import SetDigests
from protocol.replica.at_work.set_records import SetRecords
from protocol.replica.at_work.signer import Author, with_signatures
from protocol.replica.at_work.views import Basis, Memory, NoMemory, SpaceView, Views
from protocol.replica.at_work.weeks import Weeks
from protocol.replica.interfaces import ContentStore, EntryStore, Held, Position
from protocol.replica.left_due import LeftDue
from protocol.replica.recently_used import UntilChanged
from protocol.rights.door import Authority, Door
from protocol.rights.roster import Roster
from protocol.roles import Role

Entropy = Callable[[int], bytes]
"""Fresh randomness: how many bytes → the bytes."""
News = Callable[[Iterable[bytes]], Mapping[str, bytes | None]]
"""The marks to set for spaces of which something came."""
Witness = Callable[[Iterable[Entry]], Mapping[str, bytes | None]]
"""The marks to set with entries that others have brought, and that were not here."""

_DOOR_KINDS = (Kind.ROOT_ROTATION, Kind.CERTIFICATE, Kind.GRANT, Kind.SUCCESSOR, Kind.SPACE, Kind.ERASE)
_READERS_KEPT: Final = 64
_KINDS_KEPT: Final = 32
_ON_WORDS: Final = frozenset({Kind.REVOKE, Kind.RULING})
CLOCK_MARK: Final = "clock"
"""→ 8 bytes: the time of the latest entry that was admitted or written, of those that move clocks."""
_PROVEN_MARK = "proven"


Heard: TypeAlias = "tuple[tuple[int, bytes] | None, int]"
"""See `Replica.heard`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a device wants to say; the replica adds author, time, `prev`, salt and signature.

    `of_previous` makes the entry that is written just before it, in the same `write`, its target; `author` is somebody
    else than who says the rest.
    """

    space: bytes
    kind: Kind
    grant: bytes | None
    payload: bytes
    subject: bytes | None = None
    target: bytes | None = None
    parents: tuple[bytes, ...] = ()
    of_previous: bool = False
    author: Author | None = None


Tips = Callable[[bytes, bytes], Awaitable[list[bytes]]]
"""As `Replica.tips`: a space, an author → that author's latest entries there, newest first."""

Compose = Callable[[Tips], Awaitable[Sequence[Draft]]]
"""Makes drafts of what a replica holds at the moment at which they are written: nothing comes in between."""

Notes = Callable[[Sequence[Entry]], Mapping[str, bytes | None]]
"""Of entries that are being written, the marks to set in the same transaction."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of a batch: the entries that were new, and those that wait or were refused.

    `released` are entries that had waited and came in with this batch, whoever brought them; `filled` those that were
    held bare, and are whole now; `unheld` those that wait but are kept nowhere, for want of room: they may be brought
    again.
    """

    admitted: tuple[Entry, ...] = ()
    released: tuple[Entry, ...] = ()
    filled: tuple[Entry, ...] = ()
    waiting: tuple[bytes, ...] = ()
    unheld: tuple[bytes, ...] = ()
    refused: tuple[Refusal, ...] = ()

    @property
    def came(self) -> tuple[Entry, ...]:
        """The entries of which not even the header lay here."""
        return (*self.admitted, *self.released)

    @property
    def let_in(self) -> tuple[Entry, ...]:
        """All that the folds see now and did not see before."""
        return (*self.came, *self.filled)


class Replica:
    """See the module. Made by `open`; every method may be called from many tasks at once."""

    def __init__(self, root: bytes, store: EntryStore, content: ContentStore) -> None:
        """A replica over an opened store that has not been read yet; use `open`."""
        self.store = store
        self.content = content
        self.door = Door(root)
        self.on_news: Callable[[frozenset[bytes], bytes], None] = _nobody_listens
        """Told which spaces have grown, and by whom, after what grew them is durable."""
        self.witness: Witness = _notes_nothing
        """Shown what others have brought before it is durable: what it notes of that is so in the same transaction."""
        self._admitting = asyncio.Lock()
        self._last_at = 0
        self._proven_ms: int | None = None
        self._tips: dict[tuple[bytes, bytes], list[bytes]] = {}
        self._quarantine = Quarantine(store, self.door)
        self.weeks = Weeks(store)
        self._behind = False
        self._changes = 0
        """Grows with all that may change what folds say."""
        self._forgotten = UntilChanged[None, frozenset[bytes]](1)
        self.words_on_words = 0
        """Grows with what takes back, or holds back, what others have said: what was hidden may be shown again."""
        self.rewritten = 0
        """Grows where entries that were here may hold more, or less, than they did: who has read them reads again."""
        self.noted = 0
        """Grows with what an office notes, beside the set, of whose devices are."""
        self._readable = UntilChanged[bytes, dict[bytes, Authority]](_READERS_KEPT)
        self._deserted = UntilChanged[bytes, frozenset[bytes]](_READERS_KEPT)
        self._said = UntilChanged[tuple[Kind, bytes | None], tuple[Entry, ...]](_KINDS_KEPT)
        self._views = Views(store, self.door)
        self._quotas = Quotas(store, self.door)
        self._memory: Memory = NoMemory()
        self.bare = BareEntries(store, self.door, self._views)
        self._records = SetRecords(store)
        self.digests = SetDigests(store, self.records)

    @classmethod
    async def open(cls, root: bytes, store: EntryStore, content: ContentStore) -> Replica:
        """The replica of the territory whose root key is `root`, with what its store already holds."""
        replica = cls(root, store, content)
        await replica._remember()
        return replica

    @property
    def territory(self) -> bytes:
        """The territory's id, which is also the id of its space."""
        return self.door.territory

    @property
    def proven_ms(self) -> int | None:
        """The time that a server proved to this replica in its latest answer."""
        return self._proven_ms

    async def admit(
        self,
        entries: Sequence[Entry],
        *,
        source: bytes,
        now_ms: int,
        unsent: bool = False,
        hold: bool = True,
        marks: Mapping[str, bytes | None] | None = None,
        news: News | None = None,
        bounded: bool = False,
        tells: bool = True,
    ) -> Admission:
        """Let entries in by the door's rules, durably, with `marks` in the same transaction.

        `news` gives the marks to set besides for the spaces of which something came that was not here. Whoever admits
        with `tells` off calls `on_news` itself: there is more to come that belongs to it.

        What waits is kept in quarantine under `source` (a key, or any name of 32 bytes at most; the keys that a device
        gave itself are one source) and tried again
        whenever something is admitted that it may have waited for, unless `hold` is false. `unsent` puts what is new
        into the outbox. `bounded` refuses what is beyond a device's quota, unless a server brings it.
        """
        async with self._admitting:
            admission = await self._admit(
                entries,
                self.door.origin(source),
                now_ms,
                unsent=unsent,
                hold=hold,
                marks=marks,
                news=news,
                bounded=bounded,
            )
        if tells:
            self._tell_news(admission.let_in, source)
        return admission

    async def write(
        self,
        drafts: Sequence[Draft] | Compose,
        *,
        author: Author,
        now_ms: int,
        entropy: Entropy,
        unsent: bool = True,
        marks: Notes | None = None,
    ) -> list[Entry]:
        """Say something as `author`: all drafts become entries in one durable transaction, or none.

        Drafts that say what this replica holds at that moment (the heads of a key) are given as what composes them.
        `marks` gives, for the new entries, the marks to set in the same transaction.

        Raises `LocalFailure(INTERNAL)` if the own door refuses one of them, which callers check rights to avoid.
        """
        async with self._admitting:
            entries: list[Entry] = []
            writers: list[Author] = []
            tips: dict[tuple[bytes, bytes], list[bytes]] = {}
            at = self._before_now(now_ms)
            for draft in await drafts(self._own_tips) if callable(drafts) else drafts:
                writer = draft.author or author
                place = draft.space, writer.public
                if place not in tips:
                    tips[place] = await self._own_tips(*place)
                at = clock.tick(at, now_ms)
                entry = unsigned(
                    author=writer.public,
                    space=draft.space,
                    kind=draft.kind,
                    grant=draft.grant,
                    at=at,
                    payload=draft.payload,
                    salt=entropy(SALT_BYTES),
                    subject=draft.subject,
                    target=entries[-1].id if draft.of_previous else draft.target,
                    parents=draft.parents,
                    prev=tips[place][:MAX_PREV],
                )
                tips[place] = [entry.id, *tips[place][MAX_PREV:]]
                entries.append(entry)
                writers.append(writer)
            entries = await with_signatures(entries, writers)
            self._last_at = at
            noted = None if marks is None else marks(entries)
            await self._admit(entries, author.public, now_ms, unsent=unsent, marks=noted, whole=True)
            self._tips.update(tips)
        self._tell_news(entries, author.public)
        return entries

    def next_ms(self, now_ms: int) -> int:
        """How an entry that is written now is dated: somebody's clock that is ahead may have moved that."""
        return clock.milliseconds_of(clock.tick(self._before_now(now_ms), now_ms))

    def _before_now(self, now_ms: int) -> int:
        return clock.believable(self._last_at, now_ms, self._proven_ms or 0)

    def _tell_news(self, entries: Iterable[Entry], source: bytes) -> None:
        spaces = frozenset(entry.header.space for entry in entries)
        if spaces:
            self.on_news(spaces, source)

    @property
    def changes(self) -> int:
        """Grows with all that may change what folds say."""
        return self._changes

    async def heard(self) -> Heard:
        """What came last, and how often what lay here was filled, or went: once it is another, there are news."""
        return await self.store.latest(), self.rewritten

    @contextlib.asynccontextmanager
    async def nothing_comes(self) -> AsyncIterator[None]:
        """Inside, the set does not grow: what is decided by it is still so when it is done."""
        async with self._admitting:
            yield

    async def prove_time(self, server_ms: int) -> None:
        """Note the time that a server has just signed; it bounds how far others' clocks may move ours (R6).

        The latest answer counts, not the highest: a server whose clock was wrong for an hour binds nobody for ever.
        """
        if self._proven_ms != server_ms:
            self._proven_ms = server_ms
            await self.store.set_marks({_PROVEN_MARK: server_ms.to_bytes(8, "big")})

    async def recall_time(self) -> None:
        """Go on from the time that a server proved before this start.

        Only who hears of servers calls it: nobody proves a time to a server, and what its own database says of one,
        somebody else has written (docs/adr/0331).
        """
        proven = await self.store.mark(_PROVEN_MARK)
        self._proven_ms = None if proven is None else int.from_bytes(proven, "big")

    async def view(self, space: bytes) -> SpaceView:
        """The folds of a space, made anew when what they heed has grown."""
        return await self._views.view(space)

    async def unhidden_roster(self, space: bytes) -> Roster:
        """The roster of a space as if nobody were cut off, and nothing erased: for who takes along what is hidden."""
        return await self._views.unhidden(space)

    def note_destroyed(self, obeyed: frozenset[bytes], obeyed_at: Mapping[bytes, frozenset[bytes]]) -> None:
        """All erasures that this replica has obeyed by now, and those of single spaces (`destroyed.carried_out_at`).

        It shows nothing of it again, whoever takes them back.
        """
        self._views.note_destroyed(obeyed, obeyed_at)
        self._changes += 1
        self.rewritten += 1

    def remember(self, memory: Memory) -> None:
        """Believe from now on, in each space, the devices that this replica met first for each person."""
        self._memory = memory
        self._views.remember(memory)
        self._changes += 1

    async def changed_view(self, space: bytes, basis: Basis | None) -> SpaceView | None:
        """The folds of a space unless `basis` still stands: for who looks at very many spaces, and keeps little."""
        return await self._views.changed(space, basis)

    async def records(self, space: bytes) -> SortedRecords:
        """The space's set as reconciliation sees it."""
        return await self._records.of(space)

    async def fingerprint(self, space: bytes) -> bytes:
        """The 16-byte fingerprint of the space's set: equal exactly when two replicas agree."""
        return fingerprint_of(await self.records(space))

    async def position(self, space: bytes) -> Position:
        """Where the space stands in this store's order of arrival."""
        return await self.store.position(space)

    async def authorities(self, key: bytes) -> list[Authority]:
        """The grants of a key that no revocation cuts and nothing holds back."""
        return await authorities_in_force(self.door, self.view, key)

    async def revocations_against(self, device: bytes, spaces: Iterable[bytes]) -> list[bytes]:
        """The revocations in force in `spaces` of a device's key, and of those whose grants let it in."""
        return await revocations_against(self.door, self.view, device, spaces)

    async def readable(self, key: bytes) -> dict[bytes, Authority]:
        """The spaces that a key may read, parents before children, each with the grant of highest rank that opens it.

        A grant opens its space, those below it, and those above it, whose entries are needed to judge its own. One that
        holds in the space itself goes before one from below. What is deserted by the root's word lies below nothing.
        """

        async def found() -> dict[bytes, Authority]:
            return await readable_by(self.door, self.view, self.deserted_by_root, key)

        return dict(await self._readable.of(key, self._changes, found))

    async def deserted_by_root(self, space: bytes) -> frozenset[bytes]:
        """The spaces in this one that the root has taken back, and in which nobody is by right."""
        return await self._deserted.of(space, self._changes, lambda: deserted_by_root(self, space))

    async def said(self, kind: Kind, space: bytes | None = None) -> tuple[Entry, ...]:
        """The entries of a kind of which there are few, in one space or in all, in order of arrival.

        They are read once until something changes: who is linked with eight neighbours asks hundreds of times a minute.
        """

        async def found() -> tuple[Entry, ...]:
            if space is None:
                return tuple(await self.store.scan_kinds([kind]))
            return tuple(stored.entry for stored in await self.store.of_kinds(space, [kind]))

        return await self._said.of((kind, space), self._changes, found)

    async def forgotten(self) -> frozenset[bytes]:
        """Of whom no name is left here: all names there are, looked at once until something changes."""
        return await self._forgotten.of(None, self._changes, lambda: forgotten_persons(self.store))

    async def credentials(self, ids: Iterable[bytes]) -> tuple[Entry, ...]:
        """The entries of `ids` with all that a stranger needs to admit them, in an admissible order.

        What is needed are the grants under which they were written, up to the root, the `space` entries above them, and
        the lists without which a revocation does not count.
        """
        return await credentials_of(self.store, self.door, self.territory, ids)

    def filled(self, space: bytes) -> int:
        """How often entries of a space, read without payload before, have got theirs."""
        return self._views.filled(space)

    async def tips(self, space: bytes, author: bytes) -> list[bytes]:
        """An author's own latest entries in a space, newest first: those that none of its others names as `prev`."""
        async with self._admitting:
            return await self._own_tips(space, author)

    async def reload(self) -> None:
        """Read again what the store holds, after something else than `admit` has changed its set."""
        async with self._admitting:
            await self._remember()

    async def close(self) -> None:
        """Close content and store."""
        await self.content.close()
        await self.store.close()

    async def drop_waiting(self, held: Sequence[Held]) -> None:
        """Let go of some of what waits in quarantine. Raises `LocalFailure`."""
        await self.store.drop_held([one.entry.id for one in held])
        self._quarantine.let_go(held)

    async def _remember(self) -> None:
        """Take over what the store holds, as a whole: until then, what was known before stands."""
        door = Door(self.door.root)
        for entry in await self.store.scan_kinds(_DOOR_KINDS):
            door.learn(entry)
        held = await self.store.held()
        last = await self.store.mark(CLOCK_MARK)
        obeyed, obeyed_at = await carried_out(self.store), await carried_out_at(self.store)
        self.door = door
        self._quarantine = Quarantine(self.store, door, held)
        self._last_at = int.from_bytes(last or b"", "big")
        self._tips.clear()
        self.weeks.forget()
        self._views = Views(self.store, door)
        self._quotas = Quotas(self.store, door)
        self._views.note_destroyed(obeyed, obeyed_at)
        self._views.remember(self._memory)
        self.bare = BareEntries(self.store, door, self._views)
        self._records = SetRecords(self.store)
        self.digests = SetDigests(self.store, self.records)
        self._changes += 1
        self.rewritten += 1
        self._behind = False

    async def _admit(
        self,
        entries: Sequence[Entry],
        source: bytes,
        now_ms: int,
        *,
        unsent: bool,
        marks: Mapping[str, bytes | None] | None,
        news: News | None = None,
        hold: bool = True,
        whole: bool = False,
        bounded: bool = False,
    ) -> Admission:
        """Judge entries and make durable what comes of it; with `whole`, all of them are admitted or none."""
        if self._behind:
            await self._remember()
        filled: list[Entry] = []
        with LeftDue().where_there_is_room():
            filled = await self.bare.fill(entries)
        self._changes += bool(filled)
        self.rewritten += bool(filled)
        fresh = await self._fresh(entries)
        beyond = await self._beyond_quota(fresh.values(), source) if bounded else set()
        for name in beyond:
            del fresh[name]
        candidates = await verified([Held(source, entry, None) for entry in fresh.values()])
        passage = Passage(self.door)
        try:
            over = await self._broken(fresh.values())
            for held, signed in candidates:
                passage.judge(held, signed=signed)
            before = await self._quarantine.try_again(passage)
            if bounded and passage.learned and not await self._is_server(source):
                await self._refuse_beyond(passage, before)
            if whole:
                _check_all_admitted(passage, fresh)
            self._observe(passage.admitted.values(), now_ms)
            unheld = await self._quarantine.keep(passage, fresh if hold else {}, before)
            noted = {**over, **(marks or {})}
            # what waited, and comes in with a word of one's own, others have brought all the same
            noted |= self.witness([one for name, one in passage.admitted.items() if not (whole and name in fresh)])
            if news is not None:
                kept = [fresh[name] for name in passage.waiting if hold and name in fresh and name not in unheld]
                came = (*passage.admitted.values(), *filled, *kept)
                noted |= news({entry.header.space for entry in came})
            await self._append(passage, before, unsent=unsent, marks=noted)
        except BaseException:
            # What was learned may not be in the store: until it is read again, nothing more is admitted.
            self._changes += 1
            self._tips.clear()
            self.weeks.forget()
            self._behind = bool(passage.learned)
            if self._behind:
                await self._remember()
            raise
        self._changes += bool(passage.admitted)
        self.words_on_words += any(entry.header.kind in _ON_WORDS for entry in passage.admitted.values())
        for entry in passage.admitted.values():
            self._tips.pop((entry.header.space, entry.header.author), None)
        self._quotas.note(passage.admitted.values())
        self.bare.note(passage.admitted.values())
        waiting = [name for name in fresh if name in passage.waiting]
        refused = {**dict.fromkeys(beyond, Code.OVER_QUOTA), **passage.refused}
        return Admission(
            admitted=tuple(entry for name, entry in passage.admitted.items() if name in fresh),
            released=tuple(entry for name, entry in passage.admitted.items() if name not in fresh),
            filled=tuple(filled),
            waiting=tuple(name for name in waiting if hold and name not in unheld),
            unheld=tuple(name for name in waiting if not hold or name in unheld),
            refused=tuple(Refusal(name, code) for name, code in refused.items() if name in fresh or name in beyond),
        )

    async def _broken(self, fresh: Iterable[Entry]) -> dict[str, bytes | None]:
        """What to note of erasures that do not hold now, before the door has learned of what comes."""

        async def roster_of(space: bytes) -> Roster:
            return (await self.view(space)).roster

        return await self.weeks.broken({entry.header.space for entry in fresh}, self.door, roster_of)

    async def has_said_half(self, draft: Draft, author: bytes) -> bool:
        """Whether an author has said half of what others carry of it in a draft's space."""
        authority = None if draft.grant is None else self.door.authority(draft.grant)
        return authority is not None and await self._quotas.is_half_spent(draft.space, author, authority.role)

    async def _beyond_quota(self, entries: Iterable[Entry], source: bytes) -> set[bytes]:
        """Those that nobody but a server may bring."""
        return set() if await self._is_server(source) else await self._quotas.beyond(entries)

    async def _refuse_beyond(self, passage: Passage, before: Mapping[bytes, Held]) -> None:
        """Refuse what nobody could count before: its grant came along, as to a server made anew, or let in what waited.

        But not what the door has learned, or a server had brought.
        """
        by_servers = {name for name, held in before.items() if await self._is_server(held.source)}
        brought = [entry for name, entry in passage.admitted.items() if name not in by_servers]
        for name in await self._quotas.beyond(brought):
            if passage.admitted[name].header.kind not in _DOOR_KINDS:
                del passage.admitted[name]
                passage.refused[name] = Code.OVER_QUOTA

    async def was_a_servers(self, key: bytes) -> bool:
        """Whether a key was ever a server's: not by what a kit that was replaced says since, of any machine's key."""
        if not self.door.is_a_servers(key):
            return False
        held = (await self.view(self.territory)).roster.held_back
        return any(each.role is Role.SERVER and each.grant not in held for each in self.door.authorities_of(key))

    async def _is_server(self, source: bytes) -> bool:
        """Whether this is a server's key that nobody has cut off."""
        if not self.door.is_a_servers(source):
            return False
        return any(authority.role is Role.SERVER for authority in await self.authorities(source))

    async def _fresh(self, entries: Sequence[Entry]) -> dict[bytes, Entry]:
        """Those that are not in the set, each once, with its payload if any copy has it."""
        present = await self.store.present([entry.id for entry in entries])
        fresh: dict[bytes, Entry] = {}
        for entry in entries:
            known = fresh.get(entry.id)
            if entry.id not in present and (known is None or known.payload is None):
                fresh[entry.id] = entry
        return fresh

    async def _append(
        self, passage: Passage, before: Mapping[bytes, Held], *, unsent: bool, marks: Mapping[str, bytes | None]
    ) -> None:
        """Make the set grow, and the quarantine shrink, in one transaction."""
        admitted = list(passage.admitted.values())
        release = self._quarantine.released(passage, before)
        if admitted or marks or release:
            noted = {**marks, CLOCK_MARK: self._last_at.to_bytes(8, "big")}
            await self.store.append(admitted, unsent=unsent, marks=noted, release=release)

    def _observe(self, entries: Iterable[Entry], now_ms: int) -> None:
        reference_ms = now_ms if self._proven_ms is None else self._proven_ms
        for entry in entries:
            self._last_at = clock.observe(self._last_at, entry.header.at, reference_ms)

    async def _own_tips(self, space: bytes, author: bytes) -> list[bytes]:
        """The author's own latest entries in a space, newest first: those that none of its others names as `prev`."""
        tips = self._tips.get((space, author))
        if tips is None:
            written = await self.store.authored(space, author)
            named = {earlier for entry in written for earlier in entry.header.prev}
            latest = [entry for entry in written if entry.id not in named]
            latest.sort(key=lambda entry: (entry.header.at, entry.id), reverse=True)
            tips = [entry.id for entry in latest]
            self._tips[space, author] = tips
        return list(tips)


def _check_all_admitted(passage: Passage, fresh: Mapping[bytes, Entry]) -> None:
    if not fresh.keys() <= passage.admitted.keys():
        raise LocalFailure(
            Code.INTERNAL,
            "this device wrote something that its own rules refuse",
            refused=list(passage.refused.values()),
        )


def _nobody_listens(_spaces: frozenset[bytes], _source: bytes) -> None:
    """Nothing waits for news."""


def _notes_nothing(_came: Iterable[Entry]) -> Mapping[str, bytes | None]:
    """Whoever brings something brings it."""
    return {}
