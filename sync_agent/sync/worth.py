"""What each piece of content that is here is worth to this device (R8); what goes first is for `eviction` to say.

Rules:
- what this device wrote stays, with whichever of its keys; a hand-in for a month that it watches after it heard that a
  teacher has opened it who was there when this one met the class, or whom one of these has confirmed, or until the
  server and a backup have held it for long: a receipt of who came since frees the key at most (docs/adr/0254), and of
  who was there first nothing before a theft is found (docs/adr/0445);
- what another laptop of its teacher's wrote does not stay: a small one would have no room left for work, and that the
  other one is gone is the server's word;
- what is nobody's to bring again once it is gone, a pupil's work on the devices of those who read it and the files of
  feedback everywhere, stays after it was opened as well: until a backup of the server has held it for a month, or its
  school year is over by what is said of the class *and* by this device's own clock, which a network sets, *and* by what
  it has watched (docs/adr/0355). Whoever has the server says of any class that it is over. What was handed in is
  no older than its assignment or a receipt;
- what is hidden (erased, or held back) is not worthless: work stays, and what was shown goes like what is, until the
  erasure destroys it, seven days after and five people a day.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from protocol.errors import LocalFailure, PeerFault
from protocol.folds.coursework import Item, Work
from protocol.folds.hand_in_keys import is_given, is_opened_for_good
from protocol.limits import RECEIPT_PROOF_MS
from protocol.model.entry import Entry, Kind
from protocol.model.work import ContentRef, Feedback, HandIn, Revision
from protocol.replica.at_work.keyring import recovery_keys_ever
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.at_work.views import SpaceView
from protocol.replica.content.holdings import Need, work_need
from protocol.rights.roster import Roster
from protocol.roles import HAS_READING_KEYS
from sync_agent.app import Agent
from sync_agent.coursework.reading import need_of, readable_version
from sync_agent.hand_ins.for_good import known_for_good
from sync_agent.hand_ins.wraps import kept_of
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.machine.backups_said import is_safe_elsewhere
from sync_agent.machine.eviction import (
    Piece,
    Seen,
    Worth,
    dated_ms,
    is_past,
    with_this_store,
    year_began_ms,
)
from sync_agent.machine.marks import RARE_MARKS

_NAMING: Final[Mapping[int, Callable[[bytes], HandIn | Revision | Feedback]]] = MappingProxyType(
    {Kind.HAND_IN: HandIn.parse, Kind.REVISION: Revision.parse, Kind.FEEDBACK: Feedback.parse}
)
"""What names content."""


class Worths:
    """See the module; over one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._noted: dict[str, bytes] = {}

    async def pieces(self) -> list[Piece]:
        """All content that is here, wholly or in part. Raises `NotReadNow`."""
        found: list[Piece] = []
        years = await self._years()
        ended = set(await self._agent.ended_classes())
        today = self._today()
        rosters: dict[bytes, Roster] = {}
        over: set[bytes] = set()
        # a teacher's device whose keys have rotted is no pupils' machine
        rights = await self._agent.own_rights()
        reads = bool(reading_keys(self._agent)) or any(grant.role in HAS_READING_KEYS for grant in rights)
        for space in await self._agent.replica.store.spaces():
            view = await self._agent.replica.view(space)
            coursework = view.coursework
            past = space in ended or is_past(years.get(space), today)
            for item in coursework.items.values():
                found += await self._pieces_of(item, past=past)
            found += await self._works_of(space, view, past=past, reads=reads)
            rosters[space] = view.roster
            if past:
                over.add(space)
        found += await self.passed_over(rosters, {(piece.need.space, piece.need.stream) for piece in found}, over)
        if self._noted:
            with contextlib.suppress(LocalFailure):  # of a disk that is really full the month begins later
                await self._agent.replica.store.set_marks(self._noted)
            self._noted = {}
        return [piece for piece in found if piece.packs]

    async def _pieces_of(self, item: Item, *, past: bool) -> list[Piece]:
        readable = await self._readable(item)
        heads = {head.id for head in item.heads}
        pieces = []
        for version in item.versions.values():
            if self._is_own(version.author):
                worth = Worth.KEPT
            elif item.withdrawn:
                worth = Worth.WITHDRAWN
            elif version.id in heads or version.id == readable:
                worth = Worth.PAST_YEAR if past else Worth.SHOWN
            else:
                worth = Worth.SUPERSEDED
            pieces.append(await self._piece(need_of(item, version), worth, version.at_ms))
        return pieces

    def _is_own(self, author: bytes) -> bool:
        """Whether this device wrote something, with the key that it has or with one from before it was cloned."""
        return author == self._agent.device or author in self._agent.former

    def _kit_opens(self, work: Work, recovery: Iterable[bytes]) -> bool:
        """Whether this device has sealed its work to a kit: else who says so may be all who ever read it."""
        return is_given(work, recovery, {self._agent.device, *self._agent.former})

    async def _readable(self, item: Item) -> bytes | None:
        """The version that people read while the newest has not arrived as a whole (R17)."""
        version = await readable_version(self._agent, item)
        return None if version is None else version.id

    async def _works_of(self, space: bytes, view: SpaceView, *, past: bool, reads: bool) -> list[Piece]:
        pieces = []
        recovery, known = await recovery_keys_ever(self._agent.replica), await known_for_good(self._agent, view.roster)
        for work in view.coursework.hand_ins.values():
            need = work_need(work)
            said_ms = self._last_said_ms(work, view.coursework.items.get(work.item))
            is_made_here = self._agent.made(work)
            heeded = known.without_newcomers() if is_made_here else known
            opened = is_opened_for_good(work, view.roster, recovery, heeded)
            if is_made_here:
                received = opened and self._kit_opens(work, recovery) and await self._has_waited(work)
                worth = Worth.RECEIVED if received or await self._is_safe_elsewhere(work, need) else Worth.KEPT
            elif not opened:
                worth = Worth.KEPT
            elif not reads:
                worth = Worth.PAST_YEAR if past else Worth.SHOWN
            else:
                worth = await self._rare(need, said_ms, past=past, held_ms=work.received_ms or None)
            pieces.append(await self._piece(need, worth, said_ms))
            for note, content in work.said_with_files.items():
                need = Need(space, content.stream, sealed=False)
                noted_ms = max(self.dated_ms(note.at_ms), said_ms)
                worth = (
                    Worth.KEPT
                    if self._is_own(note.author)
                    else await self._rare(need, noted_ms, past=past, held_ms=self.dated_ms(note.at_ms))
                )
                pieces.append(await self._piece(need, worth, noted_ms))
        return pieces

    def _last_said_ms(self, work: Work, item: Item | None) -> int:
        """When its assignment, itself or a receipt was last said: whatever clock was wrong, it is no older.

        Nor is its feedback.
        """
        first = None if item is None else item.versions.get(item.id)
        said_ms = [work.at_ms, *(one.at_ms for one in work.witnesses), *([] if first is None else [first.at_ms])]
        return max(map(self.dated_ms, said_ms))

    async def _rare(self, need: Need, at_ms: int, *, past: bool, held_ms: int | None) -> Worth:
        """What somebody else made of which there may be no other copy soon: this device's may be the last one.

        `held_ms` is before which the server did not hold it, None where it is not known to hold it at all.
        """
        if past and await self._used_ms(need, at_ms) < year_began_ms(self._today()):
            return Worth.PAST_YEAR
        if held_ms is not None and await self._is_held_for_long(need, held_ms):
            return Worth.PAST_YEAR if past else Worth.SHOWN
        return Worth.KEPT

    async def passed_over(
        self, rosters: Mapping[bytes, Roster], shown: Container[tuple[bytes, bytes]], over: Container[bytes]
    ) -> list[Piece]:
        """What entries name that the folds do not show: an erasure, or a report, may be taken back tomorrow.

        And feedback that is not shown: by whom nobody has confirmed yet, or replaced by its author's own.
        """
        pieces = []
        for entry in await self._agent.replica.store.scan_kinds(list(_NAMING)):
            header = entry.header
            roster = rosters.get(header.space)
            if roster is None or (content := _content_in(entry)) is None:
                continue
            need = Need(header.space, content.stream, sealed=header.kind == Kind.HAND_IN)
            is_own = self._is_own(header.author)
            if roster.hides(entry):
                is_kept = is_own or header.kind != Kind.REVISION
                pieces.append(await self._piece(need, Worth.KEPT if is_kept else Worth.SHOWN, entry.timestamp_ms))
            elif header.kind == Kind.FEEDBACK and (need.space, need.stream) not in shown:
                past, at_ms = header.space in over, entry.timestamp_ms
                worth = Worth.KEPT if is_own else await self._rare(need, at_ms, past=past, held_ms=self.dated_ms(at_ms))
                pieces.append(await self._piece(need, worth, at_ms))
        return pieces

    async def _has_waited(self, work: Work) -> bool:
        """Whether a month was watched since it was heard that a work was opened; an earlier version noted no time."""
        kept = await kept_of(self._agent, work.id)
        if kept is None or kept.heard_ms is None:
            return kept is not None and kept.sealed_key is None
        return self._agent.watched.now_ms() - kept.heard_ms >= RECEIPT_PROOF_MS

    async def _is_safe_elsewhere(self, work: Work, need: Need) -> bool:
        if not work.at_server:
            return False
        kept = await kept_of(self._agent, work.id)
        seen = None if kept is None else kept.seen
        # of what gave up its key before the server had it nothing was noted
        return (
            await self._is_held_for_long(need, work.received_ms)
            if seen is None
            else self._is_backed_up(seen, work.received_ms)
        )

    async def _is_held_for_long(self, need: Need, held_ms: int) -> bool:
        """Whether a backup has held something for a month; that begins when room first lacks here."""
        name = f"{RARE_MARKS}{need.stream.hex()}"
        mark = await self._agent.replica.store.mark(name)
        if mark is not None:
            return self._is_backed_up(Seen.parse(mark), held_ms)
        if (seen := self._agent.seen_now()) is not None:
            self._noted |= {name: seen.encode(), **self._agent.watched.marks()}
        return False

    def _is_backed_up(self, seen: Seen, held_ms: int) -> bool:
        """Whether what was seen so holds by now: by no month and no backup from before the server had it.

        Without a line the server's time, as it was last proven, stands still, and a receipt comes by a stick.
        """
        counted = with_this_store(seen, self._agent.store_since)
        if counted is not None:
            counted = replace(counted, server_ms=max(counted.server_ms, held_ms))
        return is_safe_elsewhere(counted, self._agent.backups, self._agent.seen_now())

    async def _piece(self, need: Need, worth: Worth, at_ms: int) -> Piece:
        packs = frozenset(pack.hash for pack in await self._agent.holdings.packs_needed(need))
        return Piece(need, worth, await self._used_ms(need, at_ms), packs)

    async def _used_ms(self, need: Need, at_ms: int) -> int:
        return max(self.dated_ms(at_ms), await self._agent.opened_ms(need.stream))

    def dated_ms(self, at_ms: int) -> int:
        """What a date counts as that somebody gave their content."""
        return dated_ms(at_ms, max(self._agent.now_ms(), self._agent.replica.proven_ms or 0))

    def _today(self) -> dt.date:
        """The day that it is at least: no clock that is set ahead ends a school year."""
        at_ms = min(self._agent.now_ms(), self._agent.watched.now_ms())
        return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).date()

    async def _years(self) -> dict[bytes, str | None]:
        return {space: record.year for space, record in (await made_spaces(self._agent.replica)).items()}


def _content_in(entry: Entry) -> ContentRef | None:
    """The content that an entry names, while its payload is here."""
    if entry.payload is None:
        return None
    try:
        return _NAMING[entry.header.kind](entry.payload).content
    except PeerFault:
        return None
