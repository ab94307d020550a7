"""Everything that a replica holds about one person: entries, names, work, feedback (docs/protocol.md, "Erasure").

Rules:
- nothing is left out: each entry whose subject the person is, with its payload as it lies there, also one of a kind
  that this version does not know, held back, or hidden by an erasure and not destroyed yet;
- who was added twice has an archive for each id, and whoever writes one is told of the others: a list that calls two
  children one may be a thief's, and hands nobody's work to another family (docs/adr/0160);
- whoever writes one is told of every name that lists ever had for whose it is (docs/adr/0289);
- what is not shown, since it is erased, or held back with who was cut off, is in it as all else, said not to be shown,
  and whoever writes one is told by whose word: nobody is to read that there was nothing (docs/adr/0361);
- how much of each class was known where it was written stands in it (docs/adr/0381);
- beside what is about the person is what they have written (`written`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.canonical import Value, decode
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, PeerFault
from protocol.folds.erasing import is_covered
from protocol.limits import MAX_PAYLOAD_BYTES
from protocol.model.entry import Entry, Kind, kind_name
from protocol.model.structure import PersonRecord
from protocol.replica.access.known import Known
from protocol.replica.access.under_way import UnderWay, under_way
from protocol.replica.access.works import Row, Works
from protocol.replica.access.written import GoneIn, Writings, Written
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.office.doubles import doubles_of, shown_as
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.not_shown import not_shown, why_hidden

_MOST_LINES: Final = 40
"""So many are told of what is not shown, the most first."""


@dataclass(slots=True)
class Gathered:
    """What was found; `works` as rows for the page, `entries` as JSON.

    `hidden` is how much of the work, and of what was said of it, is not shown in its class.
    """

    person: bytes
    names: list[dict[str, JSON]] = field(default_factory=list)
    works: list[dict[str, JSON]] = field(default_factory=list)
    entries: list[JSON] = field(default_factory=list)
    erasure: UnderWay | None = None
    hidden: int = 0
    known: list[tuple[Known, str | None]] = field(default_factory=list)
    """Of each class, with what that is called."""
    written: Written = field(default_factory=Written)

    def as_json(self) -> JSON:
        """All of it."""
        return {
            "person": self.person.hex(),
            "names": list(self.names),
            "works": list(self.works),
            "erasure": None if self.erasure is None else self.erasure.as_json(),
            "known": [known.as_json(name) for known, name in self.known],
            "entries": self.entries,
            "written": self.written.as_json(),
        }


def _is_bare_remark(entry: Entry) -> bool:
    return entry.payload is None and entry.header.kind == Kind.FEEDBACK


def _is_of(subject: bytes | None, person: bytes) -> bool:
    """Whether something belongs into this person's archive, whatever lists say of who is who."""
    return subject == person


class Gathering:
    """Gathers for one person, their work as `works` finds it, and tells whoever asks for it."""

    def __init__(self, replica: Replica, works: Works, gone_in: GoneIn, outgoing: Outgoing) -> None:
        self._replica = replica
        self._works = works
        self._gone_in = gone_in
        self._outgoing = outgoing
        self._spaces: dict[bytes, str] = {}

    async def gather(self, person: bytes, ends: Mapping[bytes, int | None], known: Iterable[Known]) -> Gathered:
        """`ends` says of each erasure until when it can be taken back here, `known` how much is known of classes.

        Raises `BadInput(UNKNOWN_PERSON)` if nothing here is about that person, `LocalFailure`.
        """
        await self._read_names_of_spaces()
        found, erased, why = Gathered(person), list[Entry](), Counter[str]()
        found.known = [(each, self._spaces.get(each.space)) for each in known]
        for space in self._replica.door.spaces():
            view = await self._replica.view(space)
            held = [stored.entry for stored in await self._replica.store.scan(space)]
            theirs = [entry for entry in held if _is_of(entry.header.subject, person)]
            if not theirs:
                continue
            for entry in theirs:
                found.entries.append(self._row(entry, view.roster.hides(entry)))
                if entry.header.kind == Kind.PERSON and (name := self._name(entry)) is not None:
                    found.names.append(name)
            erased += [each for each in theirs if each.payload is not None and view.roster.is_erased(each)]
            gone = self._gone_in(space)
            lying = await not_shown(self._replica, view, gone)
            rows, hidden = await self._works.of(view, lying, lambda subject: _is_of(subject, person), len(found.works))
            found.works += [row | {"space_name": self._spaces.get(space)} for row in rows]
            hidden += [each for each in theirs if _is_bare_remark(each) and not is_covered(each, gone)]
            why.update((await why_hidden(self._replica, view.roster, hidden)).values())
        if not found.entries:
            raise BadInput(Code.UNKNOWN_PERSON, f"nothing here is about {person.hex()}")
        await self._tell_of_doubles(person)
        await self._tell_of_hidden(why)
        writings = Writings(self._replica, self._works, self._gone_in, self._row, self._spaces.get)
        found.written = await writings.of(person)
        await self._tell_of_left_out(found.written)
        found.hidden = why.total()
        found.erasure = await under_way(self._replica, erased, ends, self._spaces)
        for sentence in () if found.erasure is None else found.erasure.sentences:
            await self._outgoing.progress(sentence)
        return found

    async def _tell_of_hidden(self, why: Counter[str]) -> None:
        for reason, many in why.most_common(_MOST_LINES):
            what = "1 hand-in or remark" if many == 1 else f"{many} hand-ins or remarks"
            await self._outgoing.progress(f"in it, and not shown in the class: {what}, {reason}")
        if len(why) > _MOST_LINES:
            await self._outgoing.progress(f"in it, and not shown in the class: {why.total()} in all")

    async def _tell_of_left_out(self, written: Written) -> None:
        if written.withheld:
            await self._outgoing.progress(
                f"not in it: {written.withheld} texts or openings, about pupils who are to be forgotten"
            )
        if written.unconfirmed:
            await self._outgoing.progress(
                f"not in it: {written.unconfirmed} entries in this name, of computers that none of theirs confirms"
            )

    async def _tell_of_doubles(self, person: bytes) -> None:
        doubles = await doubles_of(self._replica, person)
        others = (doubles.same | doubles.doubtful | await shown_as(self._replica, person)) - {person}
        for other, each in (await mentioned(self._replica, sorted(others))).items():
            await self._outgoing.progress(
                f"not in it: {each.shown()}, {other.hex()}: a list says that this is the same person, added twice; "
                f"`export-person {other.hex()}` writes that"
            )

    async def _read_names_of_spaces(self) -> None:
        self._spaces |= {space: record.name for space, record in (await made_spaces(self._replica)).items()}

    def _row(self, entry: Entry, hidden: bool) -> Row:
        header = entry.header
        return {
            "id": entry.id.hex(),
            "space": header.space.hex(),
            "space_name": self._spaces.get(header.space),
            "kind": kind_name(header.kind),
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
            "frozen": record.frozen,
            "space": entry.header.space.hex(),
            "space_name": self._spaces.get(entry.header.space),
            "at": rfc3339(entry.timestamp_ms),
        }


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
