"""What a replica at rest must offer: entries on one side, packs of content on the other (R1, R8, R21).

Key invariants, held by every implementation and checked by one contract suite (`tests/contract/`):
1. `append` is one durable transaction: after it returns, a power cut loses nothing; before, nothing of it is seen.
2. Arrival numbers of a space are 1, 2, 3 … without gaps, in the order of `append`; an entry has one for ever.
3. `chain` at N is a hash of the first N arrivals, so that a store rolled back to an old image is noticed.
4. A pack is stored verbatim, is seen only when all of it is verified, and its chunks can be read back byte for byte.
5. A chunk belongs to the spaces of the packs that hold it; asked for in another space, it does not exist.
6. After a failed flush the store raises `LocalFailure(STORAGE_FAILED)` until it is opened again.
7. A content store that loses a pack takes back, in the same transaction, every mark that says that content is complete.
8. A chunk is its hash and its length: what a list is false about is no chunk of any pack, and nothing is kept for it.

Nothing here knows roles, items or networks. Ids, hashes, space ids and stream ids are 32 bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from protocol.model.entry import Entry
from protocol.replica.byte_range import Span
from protocol.replica.making import Making
from protocol.transfer.chunking import ChunkList, ChunkRef
from protocol.transfer.deflate_parameters import NO_LEVELS, Profile
from protocol.transfer.pack import FinishedPack

ReadInto: TypeAlias = Callable[[int, memoryview], int]
"""Puts bytes from a place on into memory, as many as it holds or there are; how many. Blocks: for a thread."""
Deciding: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""Makes a context inside of which what was decided before holds still; it raises where it does not."""
COMPLETE_MARKS: Final = "complete/"
"""+ space in hex / stream in hex → the content of this stream was found to be here, all of it."""
GIVEN_UP_MARKS: Final = "given-up/"
"""+ stream in hex: it was open to all who read a space, and was destroyed; nobody asks for it as sealed work."""
ERASURE_READ_MARKS: Final = "erasure-read/"
"""+ space in hex → how far a space was looked through for what is to be destroyed, and for what (`eraser`)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry and its arrival number in its space (from 1)."""

    arrival: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Position:
    """How many entries of a space have arrived, and the 8-byte hash of their ids in order (zeros at 0)."""

    count: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """An entry in quarantine: who brought it, and what it waits for (an id, or None for an erasure)."""

    source: bytes
    entry: Entry
    missing: bytes | None


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """The newest register of one (kind, subject, device): its exact signed bytes and its time in ms."""

    kind: int
    subject: bytes
    device: bytes
    at_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A stored pack: hash, size in bytes, and a space that it belongs to."""

    hash: bytes
    size: int
    space: bytes


@dataclass(frozen=True, slots=True)
class DeltaInfo:
    """A stored delta: what it is, the manifests that it brings, those that it is made of, the packs that it replaces.

    `covers` are packs of this replica that the server need not be sent once it has taken the delta. A `strong` one is
    made of nothing, for who has nothing; it brings its manifests together with the deltas in `parts`. Who takes one
    needs a deflate that gives zlib's bytes at its `levels`.
    """

    hash: bytes
    size: int
    space: bytes
    trees: tuple[bytes, ...]
    bases: tuple[bytes, ...]
    covers: tuple[bytes, ...] = ()
    strong: bool = False
    parts: tuple[bytes, ...] = ()
    levels: Profile = NO_LEVELS


@dataclass(frozen=True, slots=True)
class Damage:
    """A part that `verify` found bad and moved aside: what it is, its id, and a sentence."""

    what: str
    id: bytes
    why: str


class EntryStore(Protocol):
    """The entries, quarantine, registers and marks of one replica."""

    async def append(
        self,
        entries: Sequence[Entry],
        *,
        unsent: bool = False,
        marks: Mapping[str, bytes | None] | None = None,
        release: Iterable[bytes] = (),
    ) -> list[Stored]:
        """Add admitted entries, in order, in one durable transaction; those already present are passed over.

        `unsent` puts the new ones in the outbox; `marks` are set (None deletes) and the quarantined ids in `release`
        dropped in the same transaction. Returns the entries that were new. Raises `LocalFailure`.
        """
        ...

    async def present(self, ids: Sequence[bytes]) -> set[bytes]:
        """Those of `ids` that are in the set."""
        ...

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, Entry]:
        """The entries of `ids` that are in the set."""
        ...

    async def position(self, space: bytes) -> Position:
        """Where the space stands now."""
        ...

    async def chain_at(self, space: bytes, count: int) -> bytes | None:
        """The chain hash after `count` arrivals, or None if there are fewer."""
        ...

    async def page(self, space: bytes, after: int, max_bytes: int) -> list[Stored]:
        """Entries that arrived after number `after`, oldest first.

        At most `max_bytes` of wire, but one entry if there is any.
        """
        ...

    async def scan(self, space: bytes, after: int = 0) -> list[Stored]:
        """All entries of a space that arrived after number `after`, in order of arrival."""
        ...

    async def of_kinds(self, space: bytes, kinds: Collection[int], after: int = 0) -> list[Stored]:
        """Those entries of a space that are of these kinds and arrived after number `after`, in order of arrival."""
        ...

    async def scan_kinds(self, kinds: Sequence[int], after: int = 0) -> list[Entry]:
        """All entries of these kinds in all spaces that arrived after what `latest` numbers so, in order of arrival."""
        ...

    async def authored(self, space: bytes, author: bytes) -> list[Entry]:
        """The entries of one author in one space, in order of arrival."""
        ...

    async def latest(self) -> tuple[int, bytes] | None:
        """The last arrival over all spaces: its number, which only grows, and its id; None if there is none."""
        ...

    async def authored_by_then(self, author: bytes, latest: tuple[int, bytes]) -> set[bytes] | None:
        """The ids of an author's entries that had arrived when that was what `latest` said.

        None, if the store has been made anew since: it does not know any more.
        """
        ...

    async def written(self, space: bytes, classes: Collection[int]) -> dict[bytes, tuple[int, int]]:
        """By author, how many entries of these classes a space holds, and the bytes of their payloads."""
        ...

    async def times(self, space: bytes) -> list[tuple[int, bytes]]:
        """(timestamp in ms, id) of every entry of the space, in no promised order: what reconciliation works on."""
        ...

    async def spaces(self) -> dict[bytes, int]:
        """Each space that holds entries, and how many."""
        ...

    async def unsent(self, max_bytes: int) -> list[Entry]:
        """The oldest entries of the outbox, in order of arrival.

        At most `max_bytes` of wire, but one entry if there is any.
        """
        ...

    async def unsent_totals(self) -> tuple[int, int]:
        """How many entries lie in the outbox, and their wire bytes."""
        ...

    async def unsent_ids(self) -> Mapping[bytes, Collection[bytes]]:
        """By space: the ids of what lies in the outbox."""
        ...

    async def mark_sent(self, ids: Iterable[bytes]) -> None:
        """Take entries out of the outbox: the server holds them."""
        ...

    async def mark_unsent(self, ids: Iterable[bytes]) -> None:
        """Put entries that the set holds into the outbox: the server turned out not to hold them."""
        ...

    async def hold(self, held: Sequence[Held], *, max_entries: int, max_bytes: int) -> list[bytes]:
        """Put entries in quarantine within the bounds per source; returns the ids that did not fit any more."""
        ...

    async def held(self, ids: Collection[bytes] | None = None) -> list[Held]:
        """All entries in quarantine, or those of these ids that are there, in the order in which they came."""
        ...

    async def drop_held(self, ids: Iterable[bytes]) -> None:
        """Take entries out of quarantine."""
        ...

    async def mark(self, key: str) -> bytes | None:
        """A small local value that is not history: a cursor, a cache, a secret of this replica."""
        ...

    async def marks(self, prefix: str) -> dict[str, bytes]:
        """All local values whose key starts with `prefix`."""
        ...

    async def set_marks(self, marks: Mapping[str, bytes | None], *, by_kit: bool = False) -> None:
        """Set local values in one durable transaction; None deletes. `by_kit`: for what a kit has ordered."""
        ...

    async def drop_marks(self, seen: Mapping[str, bytes]) -> None:
        """Delete those of these local values that are still the same, in one durable transaction."""
        ...

    async def scrub(self) -> None:
        """Overwrite on the disk what has been deleted or replaced so far: names and keys that somebody has let go."""
        ...

    async def erase(self, ids: Iterable[bytes], marks: Mapping[str, bytes | None] | None = None) -> None:
        """Forget salt and payload of these entries, for good; headers and signatures stay, and so does the set.

        What stood on the disk is overwritten. `marks` are set in the same transaction.
        """
        ...

    async def bare(self) -> list[Entry]:
        """All entries of which the header alone is here, in order of arrival."""
        ...

    async def fill(self, entries: Sequence[Entry], marks: Mapping[str, bytes | None] | None = None) -> None:
        """Give entries that are held bare their salt and payload, which the caller has checked.

        `marks` are set in the same transaction.
        """
        ...

    async def put_registers(self, rows: Sequence[RegisterRow]) -> list[RegisterRow]:
        """Keep those rows that are newer than what is held; returns them."""
        ...

    async def drop_registers(self, devices: Collection[bytes]) -> None:
        """Let go of all registers of these devices, so that the file holds nothing of them."""
        ...

    async def registers(self, kind: int | None = None, since_ms: int = 0) -> list[RegisterRow]:
        """The registers held, of one kind or of all."""
        ...

    async def verify(self) -> list[Damage]:
        """Check that every stored entry has the id, commitment and chain that it should have.

        Bad ones are moved aside.
        """
        ...

    async def close(self) -> None:
        """Flush and let go."""
        ...


class PackBuild(Protocol):
    """A pack being written by this replica. Used by one task at a time; nothing is visible before `finish`."""

    async def chunk(self, data: bytes) -> bytes:
        """Add a chunk, unless the space holds it already; returns its hash."""
        ...

    async def held(self, chunks: ChunkList) -> None:
        """Let streams name chunks that the space holds already. Raises `PeerFault(MISSING_BASE)` if it does not."""
        ...

    async def stream(self, chunks: ChunkList) -> bytes:
        """Add the list of a stream whose chunks have all been added; returns the stream's id."""
        ...

    async def finish(self) -> list[FinishedPack]:
        """Make durable and visible what was added, as one or several packs (none if all was there already)."""
        ...

    async def abort(self) -> None:
        """Throw away what was added."""
        ...


class ContentStore(Protocol):
    """Packs, and what they hold."""

    @property
    def changes(self) -> int:
        """How often packs have come, or gone, since this was opened."""

    async def build(self, space: bytes, *, unsent: bool, sealed: bool = False) -> PackBuild:
        """Begin to write packs for a space; `sealed` content is stored as it is, not compressed."""
        ...

    async def ingest(
        self, space: bytes, data: bytes, *, unsent: bool = False, making: Making | None = None
    ) -> FinishedPack | None:
        """Take in a whole pack from memory, verified, or a delta (None), whose content is then here as packs.

        `making` bounds, and is told, what a delta makes, and what is noted of a pack. Raises `PeerFault` (MISSING_BASE
        if a delta is made of what the space does not hold), `TooLarge`, `LocalFailure`.
        """
        ...

    async def part_size(self, pack: bytes, sender: bytes = b"") -> int:
        """How many bytes of an unfinished download, or of the upload of a `sender`, are here (0 if none).

        A pack may be on its way from many senders: each has a part of its own, and none is the download.
        """
        ...

    async def parts_sent(self) -> list[tuple[tuple[bytes, bytes], int]]:
        """Unfinished uploads as pack and sender, with their sizes; those that lay still longest come first."""
        ...

    async def append_part(self, pack: bytes, offset: int, data: bytes | memoryview, sender: bytes = b"") -> int:
        """Add bytes at `offset`, which must be the part's size.

        Returns the new size. Raises `PeerFault(WRONG_OFFSET)`.
        """
        ...

    async def resume_part(self, pack: bytes, size: int) -> int:
        """As `part_size`; a copy of that size that was moved aside as damaged becomes the part first, to be mended."""
        ...

    async def bad_spans(self, pack: bytes, size: int) -> list[Span]:
        """What of a part of that size must be fetched again, as far as it can be told; nothing if there is none."""
        ...

    async def mend_part(self, pack: bytes, offset: int, data: bytes) -> None:
        """Replace bytes inside a part. Raises `PeerFault(WRONG_OFFSET)` for a place that it does not have."""
        ...

    async def finish_part(
        self,
        space: bytes,
        pack: bytes,
        size: int,
        *,
        unsent: bool = False,
        keep_bad: bool = False,
        sender: bytes = b"",
        making: Making | None = None,
    ) -> FinishedPack | None:
        """Verify a completely received pack or delta and make it visible.

        A bad one is thrown away (`PeerFault`), unless `keep_bad` says that somebody will mend it.
        """
        ...

    async def drop_part(self, pack: bytes, sender: bytes = b"") -> None:
        """Throw away an unfinished part."""
        ...

    async def lying_parts(self) -> dict[str, int]:
        """The unfinished parts to which this program is not adding: a name for each, and its size."""
        ...

    async def drop_lying(self, parts: Iterable[str]) -> None:
        """Throw away those of these parts to which this program is not adding."""
        ...

    async def share(self, pack: bytes, space: bytes) -> None:
        """Let a stored pack belong to one more space, whose member has just proved that it has the bytes."""
        ...

    async def pack(self, pack: bytes, space: bytes | None = None) -> PackInfo | None:
        """The stored pack or delta of this hash (in this space), if any."""
        ...

    async def read_pack(self, pack: bytes, start: int, length: int) -> bytes:
        """Bytes of a stored pack or delta, verbatim; fewer at its end."""
        ...

    async def pack_reader(self, pack: bytes) -> ReadInto:
        """What reads a stored pack or delta into memory that the caller has, in a thread, without asking again."""
        ...

    async def keep_delta(self, about: DeltaInfo, data: bytes, *, unsent: bool = False) -> None:
        """Keep a delta of content that is here, for others; `unsent` if it is to go to the server instead of packs.

        Deltas are a cache: the ones used longest ago make room, and losing one costs bytes, never content.
        """
        ...

    async def drop_delta(self, delta: bytes) -> bool:
        """Keep a delta no longer, whose packs then go out themselves; whether there was one."""
        ...

    async def deltas(self, space: bytes) -> list[DeltaInfo]:
        """The deltas kept of a space, in the order in which they came."""
        ...

    async def unsent_deltas(self) -> list[DeltaInfo]:
        """The deltas that are to go to the server instead of packs, in the order in which they were made."""
        ...

    async def chunk_list(self, stream: bytes) -> ChunkList | None:
        """The chunk list of a stream, if a stored pack brought it."""
        ...

    async def chunk_lists(self, streams: Sequence[bytes]) -> dict[bytes, ChunkList]:
        """The chunk lists of those streams that have one here: one look-up for a whole manifest."""
        ...

    async def known_streams(self, streams: Sequence[bytes]) -> set[bytes]:
        """Those of `streams` whose chunk list a stored pack brought."""
        ...

    async def missing_chunks(self, space: bytes, chunks: Sequence[ChunkRef]) -> set[ChunkRef]:
        """Those chunks that no stored pack of the space holds (key 8)."""
        ...

    async def missing_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        """Those of `streams` whose chunk list no stored pack of the space brought, though one of another may have."""
        ...

    async def held_names(self, space: bytes, most: int) -> list[bytes]:
        """Every chunk and stream that packs of the space brought, each once; none if they are more than `most`."""
        ...

    async def packs_holding(
        self, space: bytes, chunks: Iterable[ChunkRef], streams: Iterable[bytes] = ()
    ) -> list[PackInfo]:
        """A set of the space's packs that together hold those of `chunks` that are here, and the lists of `streams`.

        A list may lie in another pack than the chunks that it names, or name none: a file may be empty.
        """
        ...

    def read_stream(self, stream: bytes, start: int = 0) -> AsyncIterator[bytes]:
        """The bytes of a stream from byte `start` on, chunk by chunk, each checked; chunks before it are not read.

        Raises `LocalFailure(INCOMPLETE | DAMAGED)`.
        """
        ...

    async def unsent_packs(self) -> list[PackInfo]:
        """Packs that the server is not known to hold, smallest first."""
        ...

    async def mark_packs(self, packs: Iterable[bytes], *, unsent: bool) -> None:
        """Note that the server holds these packs, or that it does not; a delta that it holds counts for its packs."""
        ...

    async def forget(
        self, spaces: Collection[bytes], streams: Collection[bytes], deciding: Deciding = nullcontext
    ) -> list[bytes]:
        """Give up streams that nothing names any more in any of these spaces; returns the packs that are gone.

        A pack goes if it belongs to no other space and holds one of `streams`, or a chunk (key 8) that they alone name.
        What else it holds, streams and chunks, is written into a pack of its own first: what none names may be
        arriving. What was moved aside as damaged goes as well: it may hold them. Packs go while a context is held that
        `deciding` makes, nothing being added meanwhile; where that cannot be entered none of them goes, and it raises
        so.
        """
        ...

    async def forget_unfinished(self, spaces: Collection[bytes]) -> None:
        """Remove what these spaces keep only to be quicker, and every part of a pack that this program adds nothing to.

        Of what a part holds nobody can say whose it is.
        """
        ...

    async def unnamed(self) -> list[bytes]:
        """The packs that hold a chunk (key 8) which no stream here names, in whatever space."""
        ...

    async def forget_damaged(self) -> None:
        """Remove all that was moved aside as damaged."""
        ...

    async def is_building(self) -> bool:
        """Whether something is being written here: it may name what lies here already, in lists not seen yet.

        Sealed work names none of that: whoever hands something in slowly keeps nothing.
        """
        ...

    async def forget_unnamed(self, packs: Collection[bytes]) -> list[bytes]:
        """Give up, in these packs, each chunk that no stream names; returns those that are gone, as `forget` does."""
        ...

    async def sharing(self, streams: Collection[bytes]) -> set[bytes]:
        """Other streams whose lists name a chunk (key 8) that one of these has too, whatever space they belong to."""
        ...

    async def spaces_of(self, streams: Collection[bytes]) -> set[bytes]:
        """To which spaces the packs belong that hold these streams."""
        ...

    async def pack_sizes(self) -> dict[bytes, int]:
        """Every stored pack and its size."""
        ...

    async def drop(self, packs: Sequence[bytes]) -> None:
        """Forget packs to make room, durably, then remove their files: their content counts as missing (key 7)."""
        ...

    async def totals(self) -> tuple[int, int, int]:
        """Packs, chunks, and bytes on disk."""
        ...

    async def verify(self) -> list[Damage]:
        """Read every pack; bad ones are moved aside, so that their content counts as missing."""
        ...

    async def free_bytes(self) -> int:
        """Room left on the disk."""
        ...

    async def disk_bytes(self) -> int:
        """The size of the disk."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...
