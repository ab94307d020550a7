"""The work of one person in a class, and what was said of it, as families have it: in an archive, or a portfolio.

Rules:
- work is opened only as far as the caller can; what stays sealed is named with its size;
- a file that is not here, or is damaged, is named as missing, and so is work of which only that there is some has come;
  the rest goes on;
- files that belong to what was said lie in a folder that is called after who said it alone (docs/adr/0371), and are
  written for whomever what is handed in is written for (docs/adr/0386);
- what is not shown in the class, or of what was said there, is in an archive, and said not to be shown
  (docs/adr/0361). How far it has come is as if nothing were hidden;
- what lies here is not only on the machine on which it was handed in, though nothing says so: of what is held back when
  it comes, no receipt is given.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocol.clock import rfc3339
from protocol.errors import Code, LocalFailure, RelaisError
from protocol.folds.coursework import HandInState, Work
from protocol.folds.remarks import FeedbackNote
from protocol.model.entry import Entry
from protocol.model.work import Feedback
from protocol.portable_names import portable_name
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.content.holdings import Holdings, Need, work_need
from protocol.replica.office.not_shown import NotShown
from protocol.replica.office.whose_words import files_of, names_of_words, whose_words
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.trust.sealing import SealReader

WORK_FOLDER: Final = "travaux"
FEEDBACK_FOLDER: Final = "corrections"
_HIDDEN: Final = " (masqué)"
_BARE: Final[dict[str, JSON]] = {
    "state": None,
    "sealed_bytes": None,
    "files": None,
    "missing": Code.INCOMPLETE.value,
    "feedback": None,
    "said_besides": [],
    "by": None,
}
"""Of work of which only that there is some has come."""

LiesAs: TypeAlias = Callable[[Work], HandInState]
"""How far a hand-in has come at least whose content lies where this is written."""
OpenKey: TypeAlias = Callable[[Work], Awaitable[bytes | None]]
"""The content key of a hand-in, if whoever asks can open it."""
Row: TypeAlias = dict[str, JSON]
_NEVER: Final = 1 << 64, b""
_TITLE_CHARS: Final = 60


def _as_it_says(work: Work) -> HandInState:
    return work.state


@dataclass(frozen=True, slots=True)
class Works:
    """Finds them, writing files to `outgoing` as they are found.

    `open_key` gives the content key of a work, as far as it was sealed to the caller.
    """

    replica: Replica
    holdings: Holdings
    open_key: OpenKey
    outgoing: Outgoing
    lies_as: LiesAs = _as_it_says

    async def of(
        self, view: SpaceView, lying: NotShown, is_theirs: Callable[[bytes | None], bool], before: int
    ) -> tuple[list[Row], list[Entry]]:
        """All of one person in a class that lies here, as rows; and the entries among it that are not shown.

        `before` so many works of theirs stand elsewhere.
        """
        hidden = [entry for entry in lying.hand_ins if is_theirs(entry.header.subject)]
        shown, whole = view.coursework.hand_ins, lying.whole.hand_ins
        works = sorted(
            (shown.get(work.id, work) for work in whole.values() if is_theirs(work.person)),
            key=lambda work: (work.at_ms, work.id),
        )
        said_by = await whose_words(self.replica, view.roster, works)
        rows, unseen = list[Row](), list[bytes]()
        for number, work in enumerate(works, before + 1):
            row = self._heading(view, lying, work.id, work.item, work.at_ms)
            folder = f"{folder_of(number, str(row['title']))}{_HIDDEN if row['hidden'] else ''}"
            row |= {"state": await self._state_of(work)}
            row |= {"sealed_bytes": work.record.content.size, "by": said_by(work)}
            row |= await self.handed([work, whole[work.id]], f"{WORK_FOLDER}/{folder}")
            besides = lying.remarks.get(work.id, ())
            notes = [(note, True) for note in work.remarks if work.id in shown and not note.record.says_nothing]
            notes += [(note, work.id not in shown) for note in besides]
            row |= await self._said_of(lying.roster, notes, f"{FEEDBACK_FOLDER}/{folder}")
            unseen += [note.id for note, is_shown in notes if not is_shown]
            rows.append(row)
        for entry in (each for each in hidden if each.payload is None):
            heading = self._heading(view, lying, entry.id, entry.header.target, entry.timestamp_ms)
            rows.append(heading | _BARE)
        return rows, [*hidden, *(await self.replica.store.get(unseen)).values()]

    async def _state_of(self, work: Work) -> str:
        is_nowhere_else = work.state in {HandInState.LOCAL, HandInState.SAFE}
        is_here = is_nowhere_else and await self.holdings.is_complete(work_need(work))
        return (self.lies_as(work) if is_here else work.state).value

    def _heading(self, view: SpaceView, lying: NotShown, work: bytes, item: bytes | None, at_ms: int) -> Row:
        asked = view.coursework.items.get(item or b"") or lying.whole.items.get(item or b"")
        return {
            "id": work.hex(),
            "title": "?" if asked is None else asked.shown.record.title,
            "at": rfc3339(at_ms),
            "hidden": work not in view.coursework.hand_ins,
        }

    async def _said_of(self, roster: Roster, notes: Sequence[tuple[FeedbackNote, bool]], folder: str) -> Row:
        said = await self.said(roster, [note for note, _ in notes], folder)
        remarks: list[JSON] = [row | {"hidden": not shown} for (_, row), (_, shown) in zip(said, notes, strict=True)]
        first = remarks.pop(0) if notes and notes[0][1] else None
        return {"feedback": first, "said_besides": remarks}

    async def said(self, roster: Roster, notes: Sequence[FeedbackNote], folder: str) -> list[tuple[str, Row]]:
        """Each of these, and its place in `folder`, which is called after whose word it is; its files lie there.

        Where several computers speak by one name, that is of the one that has been in the class for longest: all
        replicas that have heard the same call them the same (docs/adr/0401).
        """
        names = await names_of_words(self.replica, roster, {note.grant for note in notes})
        since = _let_in_at(roster) if len(notes) > 1 else {}
        in_order = sorted(notes, key=lambda note: since.get(note.device, _NEVER))
        called = files_of(names.get(note.grant) for note in in_order)
        files = {note.id: name for note, name in zip(in_order, called, strict=True)}
        found = list[tuple[str, Row]]()
        for note in notes:
            place = f"{folder}/{files[note.id]}"
            by: Row = {"by": names.get(note.grant), "at": rfc3339(note.at_ms)}
            found.append((place, await self._said(roster.space, note.record, place) | by))
        return found

    async def _said(self, space: bytes, note: Feedback, folder: str) -> Row:
        said: Row = {"text": note.text, "mark": note.mark, "redo": note.redo, "files": []}
        if note.content is not None:
            try:
                said["files"] = await self.copy(Need(space, note.content.stream, sealed=False), folder)
            except RelaisError as error:
                said["missing"] = error.code.value
        return said

    async def handed(self, ways: Sequence[Work], folder: str) -> Row:
        """The files of a hand-in, by the keys that are shown, else by all that lie here; None for what stays sealed."""
        found: Row = {"files": None, "missing": None}
        for way in ways:
            try:
                files = await self._open(way, folder)
            except RelaisError as error:
                found["missing"] = error.code.value
            else:
                if files is not None:
                    return {"files": files, "missing": None}
        return found

    async def _open(self, work: Work, folder: str) -> list[JSON] | None:
        """The files of a hand-in, opened; None if it stays sealed to the caller."""
        key = await self.open_key(work)
        if key is None:
            return None
        chunks = await self.replica.content.chunk_list(work.record.content.stream)
        if chunks is None or not await self.holdings.is_complete(work_need(work)):
            raise LocalFailure(Code.INCOMPLETE, "this work is not here")
        for dry in (True, False):  # a work that does not open to its end shows none of itself
            reader, left, at = SealReader(key), len(chunks), -1
            async with self._reading(work.record.content.stream) as sealed:
                async for chunk in sealed:
                    left -= 1
                    for index, piece in reader.feed(chunk, last=left == 0):
                        if not dry:
                            at = await self._begin_up_to(reader, folder, at, index)
                            await self.outgoing.data(piece)
            reader.finish()
            if not dry:
                last = len(reader.files or ()) - 1
                await self._begin_up_to(reader, folder, at, last)
                if last >= 0:
                    await self.outgoing.end()
        return [{"path": f"{folder}/{file.path}", "size": file.size} for file in reader.files or ()]

    async def _begin_up_to(self, reader: SealReader, folder: str, at: int, index: int) -> int:
        files = reader.files or ()
        while at < index:
            if at >= 0:
                await self.outgoing.end()
            at += 1
            await self.outgoing.start(f"{folder}/{files[at].path}", files[at].size)
        return at

    async def copy(self, need: Need, folder: str, written: dict[bytes, str] | None = None) -> list[JSON]:
        """The files of content that is not sealed, but those of the same bytes as one that was `written` already.

        Raises `LocalFailure(INCOMPLETE | DAMAGED)` before any of it is written.
        """
        lying = {} if written is None else written
        if not await self.holdings.is_complete(need):
            raise LocalFailure(Code.INCOMPLETE, "these files are not here")
        files = await self.holdings.manifest(need.stream)
        for file in (each for each in files if each.stream not in lying):  # what does not open shows none of itself
            async with self._reading(file.stream) as pieces:
                async for _ in pieces:
                    pass
        found: list[JSON] = []
        for file in files:
            if written is not None and (there := written.get(file.stream)) is not None:
                found.append({"path": there, "size": file.size})
                continue
            lying[file.stream] = f"{folder}/{file.path}"
            await self.outgoing.start(f"{folder}/{file.path}", file.size)
            async with self._reading(file.stream) as pieces:
                async for piece in pieces:
                    await self.outgoing.data(piece)
            await self.outgoing.end()
            found.append({"path": f"{folder}/{file.path}", "size": file.size})
        return found

    def _reading(self, stream: bytes) -> aclosing[AsyncGenerator[bytes, None]]:
        return aclosing(self.holdings.read_checked(stream))


def folder_of(number: int, title: str) -> str:
    """What the folder of a hand-in or a lesson is called."""
    return f"{number:03} {portable_name(title)[:_TITLE_CHARS].strip()}"


def _let_in_at(roster: Roster) -> dict[Device, tuple[int, bytes]]:
    """Since when each teacher's computer is in a class, by the earliest of its grants there, over or not."""
    found: dict[Device, tuple[int, bytes]] = {}
    for given in roster.granted.values():
        at = given.at, given.grant
        found[given.pair] = min(at, found.get(given.pair, at))
    return found
