"""What the program that has the store open asks of the command that has the kit (docs/adr/0128).

A question and its answer travel as files without a name, in the canonical encoding, beside those that a command sends.
Both sides check what they read: neither trusts the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from protocol.canonical import Value, decode, encode
from protocol.errors import Code, PeerFault
from protocol.folds.coursework import Work
from protocol.identity import KEY_BYTES
from protocol.limits import MAX_KIT_QUESTION_BYTES
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, from_wire, to_wire
from protocol.rights.vouching import Device
from protocol.trust.sealing import wrap_info

NAMELESS: Final = ""
"""The path of a question, and of an answer: no file that a command sends has it."""
_SIZES: Final = (ID_BYTES, ID_BYTES, PERSON_BYTES, KEY_BYTES, ID_BYTES)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A hand-in whose content key is sealed to a recovery key: what that is bound to, and the seals."""

    space: bytes
    item: bytes
    person: bytes
    author: bytes
    stream: bytes
    wraps: tuple[bytes, ...]

    @classmethod
    def of(cls, work: Work, readers: Iterable[bytes]) -> Self:
        """A work, as far as it is sealed to one of some readers."""
        stream = work.record.content.stream
        wraps = tuple(wrap for reader in readers for wrap in work.readers.get(reader, ()))
        return cls(work.space, work.item, work.person, work.author, stream, wraps)

    @property
    def info(self) -> bytes:
        """What its wraps are bound to."""
        return wrap_info(
            space=self.space, item=self.item, person=self.person, author=self.author, commitment=self.stream
        )


@dataclass(frozen=True, slots=True)
class ToSign:
    """Sign these entries as the root of the kit, or of the new one; `evidence` are entries that they are about.

    `consent` is the word of the key that one of them certifies, if one does.
    """

    new: bool
    entries: tuple[Entry, ...]
    evidence: tuple[Entry, ...]
    consent: bytes = b""


@dataclass(frozen=True, slots=True)
class ToAgree:
    """The new root's word that it takes over: a rotation's payload with this version and these heads.

    `evidence` is what the old root has said, the heads among it.
    """

    version: int
    heads: tuple[bytes, ...]
    evidence: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class ToOpen:
    """The content keys of these works. `evidence` says whose they are, first and without any work."""

    works: tuple[Sealed, ...]
    evidence: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class ToRewrap:
    """The content keys of these works, sealed to the reading key that a device of these two keys has made."""

    device: Device
    reading_key: Entry
    works: tuple[Sealed, ...]


Question: TypeAlias = ToSign | ToAgree | ToOpen | ToRewrap


def encode_question(question: Question) -> bytes:
    """The bytes of a question."""
    match question:
        case ToSign(new, entries, evidence, consent):
            return encode(["sign", new, _rows(entries), _rows(evidence), *([consent] if consent else ())])
        case ToAgree(version, heads, evidence):
            return encode(["agree", version, list(heads), _rows(evidence)])
        case ToOpen(works, evidence):
            return encode(["open", _sealed_rows(works), _rows(evidence)])
        case ToRewrap(device, reading_key, works):
            return encode(["rewrap", list(device), to_wire(reading_key), _sealed_rows(works)])


def parse_question(data: bytes) -> Question:
    """The question in `data`. Raises `PeerFault` or `TooLarge`."""
    match decode(data, max_bytes=MAX_KIT_QUESTION_BYTES):
        case ["sign", bool(new), list(entries), list(evidence)]:
            return ToSign(new, _entries(entries), _entries(evidence))
        case ["sign", bool(new), list(entries), list(evidence), bytes(consent)]:
            return ToSign(new, _entries(entries), _entries(evidence), consent)
        case ["agree", int(version), list(heads)]:  # by a program from before an update, which shows nothing
            return ToAgree(version, _all_bytes(heads), ())
        case ["agree", int(version), list(heads), list(evidence)]:
            return ToAgree(version, _all_bytes(heads), _entries(evidence))
        case ["open", list(works)]:  # by a program from before an update, which shows nothing
            return ToOpen(_works(works))
        case ["open", list(works), list(evidence)]:
            return ToOpen(_works(works), _entries(evidence))
        case ["rewrap", [bytes(key), bytes(agreement)], reading_key, list(works)]:
            return ToRewrap((key, agreement), from_wire(reading_key), _works(works))
        case _:
            raise _malformed()


def encode_answer(parts: Sequence[bytes]) -> bytes:
    """The bytes of an answer: one part for each thing that was asked for."""
    return encode(list(parts))


def parse_answer(data: bytes, count: int) -> list[bytes]:
    """The parts of an answer that has so many. Raises `PeerFault` or `TooLarge`."""
    parts = decode(data, max_bytes=MAX_KIT_QUESTION_BYTES)
    if not isinstance(parts, list) or len(parts) != count:
        raise _malformed()
    return list(_all_bytes(parts))


def _rows(entries: Iterable[Entry]) -> list[Value]:
    return [to_wire(entry) for entry in entries]


def _entries(rows: list[Value]) -> tuple[Entry, ...]:
    return tuple(from_wire(row) for row in rows)


def _sealed_rows(works: Iterable[Sealed]) -> list[Value]:
    return [[work.space, work.item, work.person, work.author, work.stream, list(work.wraps)] for work in works]


def _works(rows: list[Value]) -> tuple[Sealed, ...]:
    found = []
    for row in rows:
        match row:
            case [bytes(space), bytes(item), bytes(person), bytes(author), bytes(stream), list(wraps)]:
                if (len(space), len(item), len(person), len(author), len(stream)) != _SIZES:
                    raise _malformed()
                found.append(Sealed(space, item, person, author, stream, _all_bytes(wraps)))
            case _:
                raise _malformed()
    return tuple(found)


def _all_bytes(values: list[Value]) -> tuple[bytes, ...]:
    found = tuple(value for value in values if isinstance(value, bytes))
    if len(found) != len(values):
        raise _malformed()
    return found


def _malformed() -> PeerFault:
    return PeerFault(
        Code.MALFORMED, "the program that has the store open and this command do not understand each other"
    )
