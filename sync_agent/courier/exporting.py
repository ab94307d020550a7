"""What goes onto a courier disk: of each space what the disk lacks and somebody may need.

Rules:
- the disk is a replica: what its bundles hold is not written again, what they lack is;
- what is urgent goes first, for all spaces: entries, health, pupils' sealed work, feedback; then coursework. A disk
  that gets full holds what matters most;
- content goes along while it is of use: coursework and feedback in force, a hand-in until its teacher has opened it;
- coursework that lies there under an earlier key is written again one old bundle after the other, as far as there is
  room for it beside all else: what then lies there twice goes, and makes room for the next;
- what lies there for nothing any more is removed afterwards (`removing`), unless it is only to be added to;
- what was set aside as damaged, or does not open to its end, or lacks what it lists, counts for nothing, and goes as
  the others do (docs/adr/0245, 0249, 0280); where not even its front can be read, once anything was destroyed here.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from protocol.bundles.form import NONCE_BYTES, Index, PackNote, RegisterNote
from protocol.bundles.writer import BundleWriter, Draw
from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import HandInState, live_content
from protocol.folds.space_keys import SpaceSecret
from protocol.limits import (
    BUNDLE_TARGET_BYTES,
    MAX_BUNDLE_INDEX_BYTES,
    MAX_BUNDLE_PACKS,
    MAX_BUNDLE_PREFACE_BYTES,
    PAGE_BYTES,
    MiB,
)
from protocol.model.entry import ID_BYTES, Entry, Kind
from protocol.model.register import RegisterKind
from protocol.replica.console.operation import Incoming, Outgoing
from protocol.replica.content.holdings import Need, work_need
from protocol.replica.interfaces import PackInfo, ReadInto, RegisterRow
from protocol.replica.process.native_memory import REUSED_PIECE_BYTES
from protocol.replica.upkeep.orders import DestroyedHere
from sync_agent.app import Agent
from sync_agent.courier.disk import is_set_aside
from sync_agent.courier.passed_over import passed_over
from sync_agent.courier.removing import Known, leaving
from sync_agent.courier.survey import IN_CLEAR, Card, by_space, keeps_reports, survey
from sync_agent.hand_ins.for_good import opened_for_good
from sync_agent.health import REPORT_AGE_MS, own_report
from sync_agent.machine.marks import CARRIED_MARKS
from sync_agent.upkeep.erasing import destroy_erased

_SEALED_AT_ONCE_BYTES: Final = 4 * MiB
_ENTRIES_AT_ONCE: Final = 256
_REGISTERS_AT_ONCE: Final = 128
_ENTRIES_PER_BUNDLE: Final = 8192
_ENTRY_BYTES: Final = 1_024
_FRONT_BYTES: Final = 16_384
_SEALS_SHARE: Final = 64
"""About what an entry takes in a bundle, what a bundle without content, and which part of that its seals."""
_PACK_WEIGHS_BYTES: Final = BUNDLE_TARGET_BYTES // MAX_BUNDLE_PACKS
_WORK_WEIGHS_BYTES: Final = 2 * ID_BYTES * BUNDLE_TARGET_BYTES // MAX_BUNDLE_INDEX_BYTES
"""What a pack, and a hand-in that names it, count in a bundle beside their bytes: ids fill half of an index at most."""
_MOST_WORKS: Final = BUNDLE_TARGET_BYTES // _WORK_WEIGHS_BYTES
_HEARD_OUTSIDE: Final = frozenset({Kind.GRANT, Kind.QUARANTINE})
"""What a bundle brings that must be heard by who cannot open it yet, or may not now (docs/adr/0097)."""
_HEARD_AT_MOST: Final = 2_048
_CLEAR_AT_MOST_BYTES: Final = MAX_BUNDLE_PREFACE_BYTES // 2
_SEALS_AT_MOST_BYTES: Final = _CLEAR_AT_MOST_BYTES // 2
"""What of a front is for the key and its seals: whoever is let in by what a bundle brings finds room beside them."""


@dataclass(slots=True)
class Written:
    """What an export wrote: entries and bytes; the bundles that it replaces; the spaces that it passed over.

    `waits` are the bytes of what lies there under an earlier key and found no room to be written again.
    """

    entries: int = 0
    size: int = 0
    waits: int = 0
    replaced: list[str] = field(default_factory=list)
    keyless: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Part:
    """What is to be written of a space in one or several bundles."""

    space: bytes
    secret: SpaceSecret
    preface: tuple[Entry, ...]
    ids: list[bytes] = field(default_factory=list)
    bare: list[bytes] = field(default_factory=list)
    heard: set[bytes] = field(default_factory=set)
    registers: list[RegisterRow] = field(default_factory=list)
    urgent: list[PackNote] = field(default_factory=list)
    course: list[PackNote] = field(default_factory=list)
    again: list[_Again] = field(default_factory=list)


@dataclass(slots=True)
class _Again:
    """What is to be written again of a bundle under an earlier key; whether that bundle `stays` all the same."""

    packs: list[PackNote]
    stays: bool

    @property
    def size(self) -> int:
        return sum(pack.size for pack in self.packs)


@dataclass(slots=True)
class _There:
    """The bundles of a space on the disk, by their keys (docs/adr/0218).

    `counted`: under the key that is written under, or one that all who may read the space now were given.
    `earlier`: the others. `replaceable`: of these what is wholly held here, where nobody can open it who cannot open
    that key.
    `spoilt`: damaged ones, which count for nothing and hold what they hold.
    """

    counted: list[Card] = field(default_factory=list)
    earlier: list[Card] = field(default_factory=list)
    replaceable: list[Card] = field(default_factory=list)
    spoilt: list[Card] = field(default_factory=list)

    @property
    def cards(self) -> list[Card]:
        """All of them."""
        return [*self.counted, *self.earlier, *self.spoilt]


async def write_bundles(
    agent: Agent,
    incoming: Incoming,
    outgoing: Outgoing,
    room: int | None = None,
    hollow: Collection[str] = (),
    *,
    removes: bool = True,
) -> Written:
    """Write bundles with what the disk, whose cards come in, lacks; `room` are the bytes for which it has some.

    What lies there and is `hollow` counts for nothing. Unless it `removes`, all that lies there stays.

    Raises what `outgoing` raises, `LocalFailure`.
    """
    written, keyless = Written(), list[bytes]()
    found = await survey(agent, incoming, hollow)
    secrets = {space: await agent.keyring.for_bundles(space) for space in await agent.spaces()}
    there = {space: await _by_key(agent, space, cards, secrets.get(space)) for space, cards in found.by_space().items()}
    for space, cards in by_space(found.spoilt).items():
        there.setdefault(space, _There()).spoilt = cards
    reports = await _reports(agent, [card for each in there.values() for card in each.counted])
    gone = await DestroyedHere.of(agent.replica)
    parts, stale = [], list[Card]()
    for space, secret in secrets.items():
        if secret is None:
            keyless.append(space)
            continue
        part = _Part(space, secret, await _preface(agent, space, secret))
        part.registers = reports.pop(space, [])
        stale += await _plan(agent, part, there.get(space, _There()), gone, removes=removes)
        parts.append(part)
    written.keyless = await passed_over(agent, keyless)
    waiting = _let_again(parts, room)
    written.waits = sum(pack.size for pack in waiting)
    closed = {pack.hash for pack in waiting}
    going = [card for card in stale if closed.isdisjoint(pack.hash for pack in card.index.packs)]
    unreadable = [name for name in found.damaged if is_set_aside(name)] if removes and gone.names else []
    written.replaced = list(dict.fromkeys([*(card.name for card in going), *unreadable]))
    carried: list[bytes] = []
    for part in parts:
        for index in _bundles(part):
            await _write(agent, part, index, outgoing, written)
        carried += await _on_the_way(agent, part.space)
    for part in parts:
        for packs in portions(part.course):
            await _write(agent, part, Index(packs=tuple(packs)), outgoing, written)
    now = agent.now_ms().to_bytes(8, "big")
    await agent.replica.store.set_marks({f"{CARRIED_MARKS}{work.hex()}": now for work in carried})
    # nothing was heard here: what is due, and perhaps taken back by now, is on the disk before it goes
    await destroy_erased(agent)
    return written


# --- planning ---------------------------------------------------------------------------------------------------------


async def _by_key(agent: Agent, space: bytes, cards: Sequence[Card], secret: SpaceSecret | None) -> _There:
    """Tell what everybody finds on the disk from what is closed to who came after the key was changed."""
    earlier = {card.commitment for card in cards} - ({secret.commitment} if secret else set())
    if secret is None or not earlier:
        return _There(counted=list(cards))
    found = _There()
    lacking = {name: set(await agent.keyring.lacking(space, name)) for name in earlier}
    without = set(await agent.keyring.lacking(space, secret.commitment))
    for card in cards:
        if not (closed_to := lacking.get(card.commitment)):
            found.counted.append(card)
            continue
        found.earlier.append(card)
        if without <= closed_to and await _is_held(agent, card):
            found.replaceable.append(card)
    return found


async def _is_held(agent: Agent, card: Card) -> bool:
    """Whether the content and the reports of a bundle are here."""
    for pack in card.index.packs:
        if await agent.replica.content.pack(pack.hash, card.space) is None:
            return False
    others = [note for note in card.index.registers if note.device != agent.device]
    if not others:
        return True
    here = {row.device: row.at_ms for row in await agent.replica.store.registers(RegisterKind.HEALTH)}
    return await keeps_reports(agent) and all(here.get(note.device, -1) >= note.at_ms for note in others)


def _let_again(parts: Sequence[_Part], room: int | None) -> list[PackNote]:
    """Let be written again what finds room beside all that the disk lacks, first what makes some; the rest of it."""
    left = inf if room is None else room - sum(map(_size_of, parts))
    waiting = []
    due = [(again, part) for part in parts for again in part.again]
    for again, part in sorted(due, key=lambda each: (each[0].stays, each[0].size)):
        size = again.size + again.size // _SEALS_SHARE + _FRONT_BYTES
        if size > left:
            waiting += again.packs
        else:
            left -= size
            part.course += again.packs
    return waiting


def _size_of(part: _Part) -> int:
    """About what the bundles take with all that the disk lacks of a space."""
    size = sum(pack.size for pack in (*part.urgent, *part.course))
    return size + size // _SEALS_SHARE + _ENTRY_BYTES * (len(part.ids) + len(part.bare) + len(part.registers))


async def _plan(agent: Agent, part: _Part, there: _There, gone: DestroyedHere, *, removes: bool) -> list[Card]:
    """Fill in what the disk lacks; the bundles that are to be removed afterwards."""
    order, bare, part.heard = await _arrivals(agent, part.space)
    urgent, course = await _content(agent, part.space)
    stale = []
    if removes:
        destroyed = frozenset(await _erased(agent, bare, gone))
        of_use = frozenset(pack.hash for pack in (*urgent, *course))
        held = Known(frozenset(order), frozenset(bare) - destroyed, destroyed, of_use)
        stale = await leaving(agent, part.space, there.cards, there.replaceable, held)
    staying = [card for card in there.counted if card not in stale]
    closed = {pack.hash for card in there.earlier for pack in card.index.packs}
    known = {name for card in staying for name in (*card.index.entries, *card.index.bare)}
    packs = {pack.hash for card in staying for pack in card.index.packs}
    part.ids = [name for name in order if name not in known and name not in bare]
    part.bare = [name for name in order if name not in known and name in bare]
    # a disk that gets full has what lies on it for nobody yet
    part.urgent = sorted((pack for pack in urgent if pack.hash not in packs), key=lambda pack: pack.hash in closed)
    part.course = [pack for pack in course if pack.hash not in packs and pack.hash not in closed]
    part.again = _again(there, [pack for pack in course if pack.hash not in packs and pack.hash in closed])
    return stale


def _again(there: _There, packs: Iterable[PackNote]) -> list[_Again]:
    """What lies there under earlier keys, by the bundles of which each is full."""
    left = {pack.hash: pack for pack in packs}
    replaceable = {card.name for card in there.replaceable}
    found = []
    for card in sorted(there.earlier, key=lambda card: (card.name not in replaceable, card.size)):
        some = [left.pop(pack.hash) for pack in card.index.packs if pack.hash in left]
        if some:
            found.append(_Again(some, stays=card.name not in replaceable))
    return found


async def _arrivals(agent: Agent, space: bytes) -> tuple[list[bytes], set[bytes], set[bytes]]:
    """The ids of a space's entries in their order of arrival; which go as bare headers, and which in clear as well."""
    order: list[bytes] = []
    bare: set[bytes] = set()
    heard: set[bytes] = set()
    after = 0
    while page := await agent.replica.store.page(space, after, PAGE_BYTES):
        after = page[-1].arrival
        for stored in page:
            order.append(stored.entry.id)
            if stored.entry.payload is None:
                bare.add(stored.entry.id)
            elif stored.entry.header.kind in _HEARD_OUTSIDE:
                heard.add(stored.entry.id)
    return order, bare, heard


async def _erased(agent: Agent, bare: set[bytes], gone: DestroyedHere) -> set[bytes]:
    """Those of the bare headers that stay so: of others the disk may hold the whole entry, and nobody else."""
    return {name for name, entry in (await agent.replica.store.get(list(bare))).items() if gone.covers(entry)}


async def _content(agent: Agent, space: bytes) -> tuple[list[PackNote], list[PackNote]]:
    """The packs here that are of use: pupils' work and feedback, the smallest first; then coursework."""
    coursework = (await agent.replica.view(space)).coursework
    works: dict[PackInfo, list[bytes]] = {}
    feedback: dict[PackInfo, None] = {}
    noted = set()
    is_opened = await opened_for_good(agent, space)
    for work in coursework.hand_ins.values():
        if not is_opened(work):
            for pack in await agent.holdings.packs(work_need(work)):
                works.setdefault(pack, []).append(work.id)
        for content in work.said_with_files.values():
            noted.add(content.stream)
            need = Need(space, content.stream, sealed=False)
            feedback.update(dict.fromkeys(await agent.holdings.packs(need)))
    course: dict[PackInfo, None] = {}
    for ref in live_content(coursework):
        if ref.stream not in noted:
            course.update(dict.fromkeys(await agent.holdings.packs(Need(space, ref.stream, sealed=False))))
    urgent = [PackNote(pack.hash, pack.size, tuple(of[:_MOST_WORKS])) for pack, of in works.items()]
    urgent += [PackNote(pack.hash, pack.size) for pack in feedback if pack not in works]
    others = [PackNote(pack.hash, pack.size) for pack in course if pack not in works and pack not in feedback]
    return _smallest_first(urgent), _smallest_first(others)


def _smallest_first(packs: list[PackNote]) -> list[PackNote]:
    return sorted(packs, key=lambda pack: (pack.size, pack.hash))


async def _preface(agent: Agent, space: bytes, secret: SpaceSecret) -> tuple[Entry, ...]:
    """What opens the key to who lawfully has it, as far as there is room, and what proves that."""
    shown = _fitting(await agent.keyring.shown(space, secret.commitment), _SEALS_AT_MOST_BYTES)
    return _fitting(await agent.replica.credentials(entry.id for entry in shown), _SEALS_AT_MOST_BYTES)


async def _with_heard(agent: Agent, part: _Part, index: Index) -> tuple[Entry, ...]:
    """The preface of one bundle: what it brings of rights and orders stands there too, with what proves it.

    First what counts here, and as much as a preface holds: a right of 64 KiB makes no bundle that nobody may open.
    """
    held_back = (await agent.replica.view(part.space)).roster.held_back
    heard = sorted((name for name in index.entries if name in part.heard), key=held_back.__contains__)
    proofs = await agent.replica.credentials(heard[:_HEARD_AT_MOST])
    return _fitting({entry.id: entry for entry in (*part.preface, *proofs)}.values(), _CLEAR_AT_MOST_BYTES)


def _fitting(entries: Iterable[Entry], room: int) -> tuple[Entry, ...]:
    """Of these what may stand in clear, the first that find room; `room` is in bytes."""
    fitting = []
    for entry in entries:
        if entry.header.kind in IN_CLEAR and entry.wire_bytes <= room:
            room -= entry.wire_bytes
            fitting.append(entry)
    return tuple(fitting)


async def _reports(agent: Agent, cards: Iterable[Card]) -> dict[bytes, list[RegisterRow]]:
    """Health reports that the disk lacks or has only old ones of, by the space in whose bundle they go."""
    there: dict[bytes, int] = {}
    for card in cards:
        for note in card.index.registers:
            there[note.device] = max(there.get(note.device, 0), note.at_ms)
    rows = [await own_report(agent)]
    if await keeps_reports(agent):
        rows += [row for row in await agent.replica.store.registers(RegisterKind.HEALTH) if row.device != agent.device]
    found: dict[bytes, list[RegisterRow]] = {}
    spaces = list(reversed(await agent.spaces()))
    door = agent.replica.door
    for row in rows:
        before = there.get(row.device)
        if before is not None and row.at_ms - before < REPORT_AGE_MS:
            continue
        granted = door.authorities_of(row.device)
        near = next((space for space in spaces if any(door.covers(grant, space) for grant in granted)), None)
        if near is not None:
            found.setdefault(near, []).append(row)
    return found


async def _on_the_way(agent: Agent, space: bytes) -> list[bytes]:
    """The hand-ins that so far nobody else is known to hold: from now on they travel."""
    works = (await agent.replica.view(space)).coursework.hand_ins.values()
    return [work.id for work in works if work.state is HandInState.LOCAL]


# --- writing ----------------------------------------------------------------------------------------------------------


def _bundles(part: _Part) -> list[Index]:
    """The bundles with what is urgent of a space."""
    indexes = []
    named = [(name, False) for name in part.ids] + [(name, True) for name in part.bare]
    for start in range(0, len(named), _ENTRIES_PER_BUNDLE):
        some = named[start : start + _ENTRIES_PER_BUNDLE]
        ids, bare = ([name for name, is_bare in some if is_bare is wanted] for wanted in (False, True))
        indexes.append(Index(entries=tuple(ids), bare=tuple(bare)))
    shares = [tuple(packs) for packs in portions(part.urgent)] or [()]
    notes = tuple(RegisterNote(row.device, row.at_ms) for row in part.registers)
    last = indexes.pop() if indexes else Index()
    indexes.append(replace(last, packs=shares[0], registers=notes))
    indexes += [Index(packs=packs) for packs in shares[1:]]
    return [index for index in indexes if not index.is_empty]


def portions(packs: Iterable[PackNote]) -> list[list[PackNote]]:
    """Packs in portions of which each makes a bundle of a good size, with an index that can be read."""
    found: list[list[PackNote]] = []
    room = 0
    for pack in packs:
        weight = pack.size + _PACK_WEIGHS_BYTES + len(pack.works) * _WORK_WEIGHS_BYTES
        if not found or weight > room:
            found.append([])
            room = BUNDLE_TARGET_BYTES
        found[-1].append(pack)
        room -= weight
    return found


async def _write(agent: Agent, part: _Part, index: Index, outgoing: Outgoing, written: Written) -> None:
    """Write one bundle."""
    writer = BundleWriter(
        part.secret.bundle,
        territory=agent.replica.territory,
        space=part.space,
        commitment=part.secret.commitment,
        nonce=agent.entropy(NONCE_BYTES),
        preface=await _with_heard(agent, part, index),
        index=index,
    )
    await outgoing.start("bundle", None)
    await outgoing.data(writer.begin())
    for start in range(0, len(index.entries), _ENTRIES_AT_ONCE):
        await _write_entries(agent, index.entries[start : start + _ENTRIES_AT_ONCE], writer, outgoing)
    for start in range(0, len(index.bare), _ENTRIES_AT_ONCE):
        await _write_entries(agent, index.bare[start : start + _ENTRIES_AT_ONCE], writer, outgoing)
    if index.registers:
        for start in range(0, len(part.registers), _REGISTERS_AT_ONCE):
            rows = part.registers[start : start + _REGISTERS_AT_ONCE]
            await _put(outgoing, writer.registers([row.data for row in rows]))
    for pack in index.packs:
        await _write_pack(agent, pack, writer, outgoing)
    await outgoing.data(writer.finish())
    await outgoing.end()
    written.entries += len(index.entries) + len(index.bare)
    written.size += writer.size


async def _write_entries(agent: Agent, ids: Sequence[bytes], writer: BundleWriter, outgoing: Outgoing) -> None:
    found = await agent.replica.store.get(ids)
    batch: list[Entry] = []
    room = PAGE_BYTES
    for name in ids:
        entry = found[name]
        if entry.wire_bytes > room and batch:
            await _put(outgoing, writer.entries(batch))
            batch, room = [], PAGE_BYTES
        batch.append(entry)
        room -= entry.wire_bytes
    await _put(outgoing, writer.entries(batch))


async def _write_pack(agent: Agent, pack: PackNote, writer: BundleWriter, outgoing: Outgoing) -> None:
    """Read, seal and hash a pack in a thread, a part at a time, while the part before it goes onto the disk."""
    await _put(outgoing, writer.pack(pack))
    read = await agent.replica.content.pack_reader(pack.hash)
    for start in range(0, pack.size, _SEALED_AT_ONCE_BYTES):
        size = min(_SEALED_AT_ONCE_BYTES, pack.size - start)
        await _put(outgoing, await asyncio.to_thread(writer.drawn, size, _drawing(read, start)))


def _drawing(read: ReadInto, start: int) -> Draw:
    """The bytes of a pack from `start` on, one part behind the other."""
    at = start

    def draw(memory: memoryview) -> None:
        nonlocal at
        if read(at, memory) < len(memory):
            raise LocalFailure(Code.INCOMPLETE, "content went away while it was written onto a disk")
        at += len(memory)

    return draw


async def _put(outgoing: Outgoing, sealed: memoryview) -> None:
    for start in range(0, len(sealed), REUSED_PIECE_BYTES):
        await outgoing.data(bytes(sealed[start : start + REUSED_PIECE_BYTES]))
