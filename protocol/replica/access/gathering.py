"""Everything that a replica holds about one person: entries, names, work, feedback (docs/protocol.md, "Erasure").

Rules:
- nothing is left out: each entry whose subject the person is, with its payload as it lies there, also one of a kind
  that this version does not know, held back, or hidden by an erasure and not destroyed yet;
- who was added twice has an archive for each id, and whoever writes one is told of the others: a list that calls two
  children one may be a thief's, and hands nobody's work to another family (docs/adr/0160);
- whoever writes one is told of every name that lists ever had for whose it is (docs/adr/0289);
- work is opened only as far as the caller can; what stays sealed is named with its size;
- a file that is not here, or is damaged, is named as missing; the rest goes on;
- what an erasure hides is among the entries, and said to be hidden: nobody is to read that there was nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protocol.canonical import Value, decode
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, RelaisError
from protocol.folds.coursework import Work
from protocol.limits import MAX_PAYLOAD_BYTES
from protocol.model.entry import Entry, Kind, kind_name
from protocol.model.structure import PersonRecord
from protocol.portable_names import portable_name
from protocol.replica.access.under_way import UnderWay, under_way
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.content.holdings import Holdings
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.people import doubles_of, whose_words
from protocol.replica.office.taken_names import names_now
from protocol.trust.sealing import SealReader

WORK_FOLDER: Final = "travaux"
FEEDBACK_FOLDER: Final = "corrections"


OpenKey: TypeAlias = Callable[[Work], Awaitable[bytes | None]]
"""The content key of a hand-in, if whoever asks can open it."""


@dataclass(slots=True)
class Gathered:
    """What was found; `works` as rows for the page, `entries` as JSON."""

    person: bytes
    names: list[dict[str, JSON]] = field(default_factory=list)
    works: list[dict[str, JSON]] = field(default_factory=list)
    entries: list[JSON] = field(default_factory=list)
    erasure: UnderWay | None = None

    def as_json(self) -> JSON:
        """All of it."""
        return {
            "person": self.person.hex(),
            "names": list(self.names),
            "works": list(self.works),
            "erasure": None if self.erasure is None else self.erasure.as_json(),
            "entries": self.entries,
        }


def _is_of(subject: bytes | None, person: bytes) -> bool:
    """Whether something belongs into this person's archive, whatever lists say of who is who."""
    return subject == person


class Gathering:
    """Gathers for one person, writing files to `outgoing` as they are found."""

    def __init__(self, replica: Replica, holdings: Holdings, open_key: OpenKey, outgoing: Outgoing) -> None:
        """`open_key` gives the content key of a work, as far as it was sealed to the caller."""
        self._replica = replica
        self._holdings = holdings
        self._open_key = open_key
        self._outgoing = outgoing
        self._spaces: dict[bytes, str] = {}

    async def gather(self, person: bytes, ends: Mapping[bytes, int | None]) -> Gathered:
        """`ends` says of each erasure until when it can be taken back here.

        Raises `BadInput(UNKNOWN_PERSON)` if nothing here is about that person, `LocalFailure`.
        """
        await self._read_names_of_spaces()
        found, hidden = Gathered(person), list[Entry]()
        for space in self._replica.door.spaces():
            view = await self._replica.view(space)
            held = [stored.entry for stored in await self._replica.store.scan(space)]
            for entry in (each for each in held if _is_of(each.header.subject, person)):
                found.entries.append(self._row(entry, hidden=view.roster.hides(entry)))
                if entry.header.kind == Kind.PERSON and (name := self._name(entry)) is not None:
                    found.names.append(name)
                if entry.payload is not None and view.roster.is_erased(entry):
                    hidden.append(entry)
            works = [work for work in view.coursework.hand_ins.values() if _is_of(work.person, person)]
            said_by = await whose_words(self._replica, view.roster, works)
            for work in sorted(works, key=lambda work: (work.at_ms, work.id)):
                item = view.coursework.items.get(work.item)
                title = "?" if item is None else item.shown.record.title
                row = await self._work(work, title, len(found.works) + 1)
                found.works.append(row | {"by": said_by(work)})
        if not found.entries:
            raise BadInput(Code.UNKNOWN_PERSON, f"nothing here is about {person.hex()}")
        await self._tell_of_names(person)
        await self._tell_of_doubles(person)
        found.erasure = await under_way(self._replica, hidden, ends)
        if found.erasure is not None:
            await self._outgoing.progress(found.erasure.sentence)
        return found

    async def _tell_of_names(self, person: bytes) -> None:
        names = (await mentioned(self._replica, [person]))[person]
        for now in sorted((await names_now(self._replica, [person]))[person]):
            if names.names != (now,):
                await self._outgoing.progress(f"what is about {names.called(now)}, {person.hex()}")

    async def _tell_of_doubles(self, person: bytes) -> None:
        doubles = await doubles_of(self._replica, person)
        for other, each in (await mentioned(self._replica, sorted(doubles.same | doubles.doubtful))).items():
            await self._outgoing.progress(
                f"not in it: {each.shown()}, {other.hex()}: a list says that this is the same person, added twice; "
                f"`export-person {other.hex()}` writes that"
            )

    async def _read_names_of_spaces(self) -> None:
        self._spaces |= {space: record.name for space, record in (await made_spaces(self._replica)).items()}

    def _row(self, entry: Entry, *, hidden: bool) -> JSON:
        header = entry.header
        known = header.kind in set(Kind)
        return {
            "id": entry.id.hex(),
            "space": header.space.hex(),
            "space_name": self._spaces.get(header.space),
            "kind": kind_name(header.kind) if known else header.kind,
            "at": rfc3339(entry.timestamp_ms),
            "author": header.author.hex(),
            "target": None if header.target is None else header.target.hex(),
            "hidden": hidden,
            "erased": entry.payload is None,
            "payload": None if entry.payload is None else _readable(entry.payload),
        }

    def _name(self, entry: Entry) -> dict[str, JSON] | None:
        try:
            record = PersonRecord.parse(entry.payload or b"")
        except PeerFault:
            return None
        return {
            "name": record.name,
            "role": record.role.value,
            "left": record.left,
            "space": entry.header.space.hex(),
            "space_name": self._spaces.get(entry.header.space),
            "at": rfc3339(entry.timestamp_ms),
        }

    async def _work(self, work: Work, title: str, number: int) -> dict[str, JSON]:
        folder = f"{number:03} {portable_name(title)[:60].strip()}"
        note = None if work.feedback is None else work.feedback.record
        row: dict[str, JSON] = {
            "id": work.id.hex(),
            "title": title,
            "space_name": self._spaces.get(work.space),
            "at": rfc3339(work.at_ms),
            "state": work.state.value,
            "sealed_bytes": work.record.content.size,
            "files": None,
            "missing": None,
            "feedback": None,
        }
        try:
            row["files"] = await self._open(work, f"{WORK_FOLDER}/{folder}")
        except RelaisError as error:
            row["missing"] = error.code.value
        if note is not None:
            said: dict[str, JSON] = {"text": note.text, "mark": note.mark, "redo": note.redo, "files": []}
            if note.content is not None:
                try:
                    said["files"] = await self._copy(note.content.stream, f"{FEEDBACK_FOLDER}/{folder}")
                except RelaisError as error:
                    said["missing"] = error.code.value
            row["feedback"] = said
        return row

    async def _open(self, work: Work, folder: str) -> list[JSON] | None:
        """The files of a hand-in, opened; None if it stays sealed to the caller."""
        key = await self._open_key(work)
        if key is None:
            return None
        content = self._replica.content
        chunks = await content.chunk_list(work.record.content.stream)
        if chunks is None:
            raise LocalFailure(Code.INCOMPLETE, "this work is not here")
        for dry in (True, False):  # a work that does not open to its end shows none of itself
            reader, left, at = SealReader(key), len(chunks), -1
            async for chunk in content.read_stream(work.record.content.stream):
                left -= 1
                for index, piece in reader.feed(chunk, last=left == 0):
                    if not dry:
                        at = await self._begin_up_to(reader, folder, at, index)
                        await self._outgoing.data(piece)
            reader.finish()
            if not dry:
                last = len(reader.files or ()) - 1
                await self._begin_up_to(reader, folder, at, last)
                if last >= 0:
                    await self._outgoing.end()
        return [{"path": f"{folder}/{file.path}", "size": file.size} for file in reader.files or ()]

    async def _begin_up_to(self, reader: SealReader, folder: str, at: int, index: int) -> int:
        files = reader.files or ()
        while at < index:
            if at >= 0:
                await self._outgoing.end()
            at += 1
            await self._outgoing.start(f"{folder}/{files[at].path}", files[at].size)
        return at

    async def _copy(self, stream: bytes, folder: str) -> list[JSON]:
        found: list[JSON] = []
        for file in await self._holdings.manifest(stream):
            await self._outgoing.start(f"{folder}/{file.path}", file.size)
            async for piece in self._replica.content.read_stream(file.stream):
                await self._outgoing.data(piece)
            await self._outgoing.end()
            found.append({"path": f"{folder}/{file.path}", "size": file.size})
        return found


def _readable(payload: bytes) -> JSON:
    """A payload as JSON: bytes in hexadecimal, what cannot be read as hexadecimal as a whole."""
    try:
        return _plain(decode(payload, max_bytes=MAX_PAYLOAD_BYTES))
    except PeerFault:
        return payload.hex()


def _plain(value: Value) -> JSON:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value
