"""The content that goes out with one answer, and to whom (R1, R12, R17; docs/protocol.md, "Sync").

Rules:
- content goes out because an entry of a space that the caller reads names it: with the news, or when wished for;
- a hand-in's content goes to its author, to teachers, head teachers and relays; where hand-ins of several machines name
  the same sealed stream, whose it is cannot be told, and no machine gets it;
- content is looked for once in an answer, however many entries name it, and not when no more links fit: what is left
  out is wished for by name;
- small packs travel inside while they fit, the others behind links;
- a caller that has all content of its cursor gets only what a revision does not share with its parents, as a delta if
  there is one, or a chain of them, that is smaller;
- a caller that says what it holds of a space gets what remains of a wish in a batch, where that is clearly less;
- whoever does not reproduce the levels of deflate that a delta needs gets one without recipes, if that can be made, or
  packs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from protocol.folds.coursework import Coursework, Item, Version, Work, in_order_of_need
from protocol.limits import INLINE_PACK_BYTES, INLINE_TOTAL_BYTES, MAX_INLINE_PACKS
from protocol.messages.held_names import HeldNames
from protocol.messages.parts import Wanted
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.batches import Batches
from protocol.replica.content.deltas.plain_deltas import PlainDeltas
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.interfaces import DeltaInfo, PackInfo
from protocol.rights.door import Authority
from protocol.roles import READS_HAND_INS
from protocol.transfer.deflate_parameters import ALL_LEVELS, Profile

MAX_LINKS: Final = 2_000
MAX_DELTA_CHAIN: Final = 8

_NAMES_CONTENT: Final = frozenset({Kind.REVISION, Kind.HAND_IN, Kind.FEEDBACK})


class _Ways(NamedTuple):
    """By what the heads of a space may be brought to a caller who holds all content but that of the `news`.

    None as `news` says nothing of the caller. `kept` are the deltas that there are, by what they make; `deltas` those
    that the caller can take; `known` are the manifests that it is likely to hold.
    """

    news: set[bytes] | None
    kept: Mapping[bytes, DeltaInfo]
    deltas: Mapping[bytes, DeltaInfo]
    known: set[bytes]


class Outgoing:
    """Gathers packs for one caller, who reads `readable`: `inline` ones with their bytes, the others in `linked`."""

    def __init__(
        self,
        replica: Replica,
        holdings: Holdings,
        readable: Mapping[bytes, Authority],
        device: bytes,
        *,
        thin: bool = False,
        levels: Profile = ALL_LEVELS,
        batches: Batches | None = None,
        held: Mapping[bytes, HeldNames] | None = None,
        plain: PlainDeltas | None = None,
    ) -> None:
        """`batches` makes what a caller lacks who names what it has `held`, `plain` deltas for other kinds of zlib."""
        self.inline: list[tuple[PackInfo, bytes]] = []
        self.linked: dict[tuple[bytes, bytes], PackInfo] = {}
        self._replica = replica
        self._holdings = holdings
        self._readable = readable
        self._device = device
        self._thin = thin
        self._levels = levels
        self._batches = batches
        self._plain = plain
        self._held = held or {}
        self._inline_bytes = 0
        self._seen: set[tuple[bytes, bytes]] = set()
        self._streams: dict[bytes, NamedStreams] = {}
        self._found: dict[tuple[Need, frozenset[bytes]], list[PackInfo]] = {}

    async def add_news(self, space: bytes, entries: Sequence[Entry], *, complete: bool) -> None:
        """The content that these entries of a space name; `complete` if the caller has all that came before them."""
        news = {entry.id for entry in entries if entry.header.kind in _NAMES_CONTENT}
        if not news or (self._thin and not complete and await self._is_prepared(space)):
            # on a thin line it is asked for by name, in the fewest bytes
            return
        coursework = (await self._replica.view(space)).coursework
        ways = await self._ways(space, coursework, news if complete else None)
        for item in in_order_of_need(coursework.items.values()):
            await self._add_revisions(space, item, news, ways)
        for work in coursework.hand_ins.values():
            await self._add_work(space, work, news)

    async def add_wanted(self, want: Iterable[Wanted]) -> None:
        """The content that the caller wishes for, as far as it may have it."""
        wishes = list(dict.fromkeys(want))[:MAX_LINKS]
        if self._thin:
            partly = [wish for wish in wishes if wish.space in self._held]
            wishes = partly + await self._add_strong([wish for wish in wishes if wish.space not in self._held])
        for wanted in wishes:
            if wanted.space in self._readable and not self._is_full:
                streams = await self._streams_of(wanted.space)
                if wanted.stream in streams.open:
                    await self._add_lacking(Need(wanted.space, wanted.stream, sealed=False))
                elif wanted.stream in streams.authors and self._may_fetch(streams, wanted):
                    await self._add(Need(wanted.space, wanted.stream, sealed=True))

    async def add_entrusted(self, space: bytes, streams: Iterable[bytes]) -> None:
        """Sealed content that the caller is asked to keep for others."""
        for stream in streams:
            await self._add(Need(space, stream, sealed=True))

    async def _add_strong(self, wishes: Sequence[Wanted]) -> list[Wanted]:
        """Add strong containers, and deltas on top, where they are less than packs; what is still to be added."""
        left = list(wishes)
        for space in dict.fromkeys(wish.space for wish in wishes if wish.space in self._readable):
            streams = (await self._streams_of(space)).open
            wanted = [wish.stream for wish in wishes if wish.space == space and wish.stream in streams]
            brought, packs = await self._strong(space, wanted)
            if brought:
                await self._put(packs)
                left = [wish for wish in left if wish.space != space or wish.stream not in brought]
        return left

    async def _strong(self, space: bytes, wanted: Sequence[bytes]) -> tuple[set[bytes], list[PackInfo]]:
        """Which of the wanted manifests strong containers bring in fewer bytes than packs, and all that it takes."""
        kept = {delta.hash: delta for delta in await self._deltas(space)}
        deltas = _by_tree(kept.values())
        sets = [delta for delta in kept.values() if delta.strong and delta.trees and kept.keys() >= set(delta.parts)]
        for lead in reversed(sets):
            chosen = {part: _info(kept[part]) for part in (*lead.parts, lead.hash)}
            known, brought = set(lead.trees), set[bytes]()
            for stream in wanted:
                chain = [] if stream in known else delta_chain(stream, deltas, known)
                if stream in known or chain:
                    brought.add(stream)
                    chosen.update({delta.hash: delta for delta in chain})
            packs = {
                pack.hash: pack for stream in brought for pack in await self._packs(Need(space, stream, sealed=False))
            }
            if brought and _total(chosen.values()) < _total(packs.values()):
                return brought, list(chosen.values())
        return set(), []

    async def _is_prepared(self, space: bytes) -> bool:
        return any(delta.strong for delta in await self._deltas(space))

    async def _deltas(self, space: bytes) -> list[DeltaInfo]:
        """Those of a space that the caller can take."""
        return list(filter(self._can_take, await self._replica.content.deltas(space)))

    def _can_take(self, delta: DeltaInfo) -> bool:
        return not delta.levels & ~self._levels

    async def _ways(self, space: bytes, coursework: Coursework, news: set[bytes] | None) -> _Ways:
        kept = await self._replica.content.deltas(space)
        known = set[bytes]()
        if kept and news is not None:
            versions = (version for item in coursework.items.values() for version in item.versions.values())
            known = {version.record.content.stream for version in versions if version.id not in news}
        return _Ways(news, _by_tree(kept), _by_tree(filter(self._can_take, kept)), known)

    async def _add_revisions(self, space: bytes, item: Item, news: set[bytes], ways: _Ways) -> None:
        for version in () if item.withdrawn else item.heads:
            if version.id in news and not self._is_full:
                await self._put(await self._cheapest(space, item, version, ways))

    async def _cheapest(self, space: bytes, item: Item, head: Version, ways: _Ways) -> Sequence[PackInfo]:
        """What brings a head to the caller.

        Packs of what it does not share with versions that are held; or deltas that lead to it; or deltas that lead to
        a version before it, and packs of what changed since. One small delta is taken unseen: it was kept because it is
        less than packs, and to say which these are means to read two lists of all files with their chunks.
        """
        news, deltas, known = ways.news, ways.deltas, ways.known
        stream = head.record.content.stream
        chain = [] if stream in known else delta_chain(stream, deltas, known)
        if len(chain) == 1 and chain[0].size <= INLINE_PACK_BYTES:
            return chain
        packs = await self._beyond(space, head, _held_before(item, head, news))
        best: Sequence[PackInfo] = sorted(packs, key=lambda pack: pack.size)
        if not best:
            return ()
        for version in _newest(item, head, news):
            stream = version.record.content.stream
            chain = delta_chain(stream, deltas, known)
            if chain:
                rest = [] if version is head else await self._beyond(space, head, [version])
                if _total(chain) + _total(rest) < _total(best):
                    best = [*chain, *sorted(rest, key=lambda pack: pack.size)]
        return await self._said_plainly(ways.kept.get(head.record.content.stream), head, known, best)

    async def _said_plainly(
        self, delta: DeltaInfo | None, head: Version, known: set[bytes], best: Sequence[PackInfo]
    ) -> Sequence[PackInfo]:
        """A delta without recipes for who has no use for the one that there is, if it can be made; one in an answer."""
        if self._plain is None or delta is None or self._can_take(delta) or not delta.bases or set(delta.bases) - known:
            return best
        plain, self._plain = self._plain, None
        made = await plain.made_like(delta, head.record.content.stream, _total(best))
        return best if made is None else [made]

    async def _beyond(self, space: bytes, head: Version, held: Sequence[Version]) -> list[PackInfo]:
        """The packs of a version, without what it shares with others."""
        known = frozenset(version.record.content.stream for version in held)
        return await self._packs(Need(space, head.record.content.stream, sealed=False), known)

    async def _packs(self, need: Need, beyond: frozenset[bytes] = frozenset()) -> list[PackInfo]:
        """The packs of some content, without what streams `beyond` it need too, as they were when first asked for."""
        found = self._found.get((need, beyond))
        if found is None:
            known = [Need(need.space, stream, sealed=False) for stream in sorted(beyond)]
            found = self._found[need, beyond] = await self._holdings.packs(need, beyond=known)
        return found

    @property
    def _is_full(self) -> bool:
        return len(self.linked) >= MAX_LINKS

    async def _add_work(self, space: bytes, work: Work, news: set[bytes]) -> None:
        if work.id in news:
            wanted = Wanted(space, work.record.content.stream)
            if self._may_fetch(await self._streams_of(space), wanted):
                await self._add(Need(space, wanted.stream, sealed=True))
        for note, content in work.said_with_files.items():
            if note.id in news:
                await self._add(Need(space, content.stream, sealed=False))

    def _may_fetch(self, streams: NamedStreams, sealed: Wanted) -> bool:
        return self._readable[sealed.space].role in READS_HAND_INS or streams.authors[sealed.stream] == self._device

    async def _streams_of(self, space: bytes) -> NamedStreams:
        found = self._streams.get(space)
        if found is None:
            found = self._streams[space] = NamedStreams((await self._replica.view(space)).coursework)
        return found

    async def _add_lacking(self, need: Need) -> None:
        """What the caller does not hold of some content, as a batch where that is clearly less than packs."""
        held = self._held.get(need.space)
        packs = await self._packs(need)
        batch = []
        if held is not None and self._batches is not None:
            line = self._replica.door.origin(self._device)
            batch = await self._batches.lacking(need, held, _total(packs), line=line)
        await self._put(sorted(batch or packs, key=lambda pack: pack.size))

    async def _add(self, need: Need) -> None:
        if not self._is_full:
            await self._put(sorted(await self._packs(need), key=lambda pack: pack.size))

    async def _put(self, packs: Iterable[PackInfo]) -> None:
        for pack in packs:
            if (pack.space, pack.hash) in self._seen:
                continue
            self._seen.add((pack.space, pack.hash))
            if self._fits(pack):
                self.inline.append((pack, await self._replica.content.read_pack(pack.hash, 0, pack.size)))
                self._inline_bytes += pack.size
            elif not self._is_full:
                self.linked[pack.space, pack.hash] = pack

    def _fits(self, pack: PackInfo) -> bool:
        return (
            pack.size <= INLINE_PACK_BYTES
            and self._inline_bytes + pack.size <= INLINE_TOTAL_BYTES
            and len(self.inline) < MAX_INLINE_PACKS
        )


def _held_before(item: Item, head: Version, news: set[bytes] | None) -> list[Version]:
    """The nearest versions before a head that are none of the news."""
    held: dict[bytes, Version] = {}
    pending = list(head.parents) if news is not None else []
    seen: set[bytes] = set()
    while pending:
        name = pending.pop()
        version = item.versions.get(name)
        if version is None or name in seen:
            continue
        seen.add(name)
        if news is not None and name in news:
            pending += version.parents
        else:
            held[name] = version
    return list(held.values())


def _newest(item: Item, head: Version, news: set[bytes] | None) -> list[Version]:
    """A head and some of the versions before it that are news as well, the newest first."""
    before = [version for version in item.versions.values() if version is not head and version.id in (news or ())]
    return [head, *sorted(before, key=lambda version: (version.at_ms, version.id), reverse=True)][:MAX_DELTA_CHAIN]


def delta_chain(stream: bytes, deltas: Mapping[bytes, DeltaInfo], known: set[bytes]) -> list[PackInfo]:
    """The deltas that make a revision out of `known` ones, those that others are made of first; none if that fails."""
    chosen: dict[bytes, PackInfo] = {}
    pending = [stream]
    while pending:
        delta = deltas.get(pending.pop())
        if delta is None or len(chosen) >= MAX_DELTA_CHAIN:
            return []
        chosen = {delta.hash: _info(delta), **chosen}
        pending += [base for base in delta.bases if base not in known and base not in pending]
    return list(chosen.values())


def _by_tree(deltas: Iterable[DeltaInfo]) -> dict[bytes, DeltaInfo]:
    """The smallest delta for each manifest."""
    found: dict[bytes, DeltaInfo] = {}
    for delta in deltas:
        for tree in () if delta.strong else delta.trees:
            if tree not in found or delta.size < found[tree].size:
                found[tree] = delta
    return found


def _info(delta: DeltaInfo) -> PackInfo:
    return PackInfo(delta.hash, delta.size, delta.space)


def _total(packs: Iterable[PackInfo]) -> int:
    return sum(pack.size for pack in packs)


class NamedStreams:
    """The streams that a space's entries name: `open` ones for all who read it, sealed ones with who handed them in.

    Of several who name one sealed stream, it is whose hand-in came here first: the others have it from there.
    """

    __slots__ = ("authors", "open")

    def __init__(self, coursework: Coursework) -> None:
        self.open: set[bytes] = set()
        self.authors: dict[bytes, bytes] = {}
        for item in coursework.items.values():
            self.open.update(version.record.content.stream for version in item.versions.values())
        for work in coursework.hand_ins.values():
            self.authors.setdefault(work.record.content.stream, work.author)
            self.open.update(content.stream for content in work.said_with_files.values())
