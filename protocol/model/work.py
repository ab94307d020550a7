"""Payloads of the kinds that carry coursework: revisions, hand-ins, wraps, receipts, feedback.

Each is a frozen dataclass with `parse(payload)` and `encode()`; docs/protocol.md, "Payloads", lists their keys. What
they mean together is the fold's business (`protocol.folds.coursework`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from protocol.canonical import Value, encode
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.limits import (
    MAX_FILE_BYTES,
    MAX_FILES_PER_REVISION,
    MAX_NAME_CHARS,
    MAX_READERS_PER_HAND_IN,
    MAX_TEXT_CHARS,
)
from protocol.model.entry import ID_BYTES, Entry, Kind
from protocol.shown_text import one_line

MAX_CONTENT_BYTES = MAX_FILE_BYTES * MAX_FILES_PER_REVISION
MAX_MARK_CHARS = 64
_WRAP_BYTES = 32 + 32 + 16
_KIND_CHARS = 32


class ItemKind(StrEnum):
    """What a piece of coursework is for people."""

    LESSON = "lesson"
    ASSIGNMENT = "assignment"
    ANNOUNCEMENT = "announcement"


@dataclass(frozen=True, slots=True)
class ContentRef:
    """Content that lies outside the entry: a stream, its size in bytes, and the number of files that it stands for.

    Of a revision or feedback the stream is a manifest and `size` the sum of its files; of a hand-in it is the sealed
    content itself and `files` is 0, because the number of files is nobody's business but the readers'.
    """

    stream: bytes
    size: int
    files: int

    def value(self) -> dict[str, Value]:
        """As part of a payload."""
        return {"stream": self.stream, "bytes": self.size, "files": self.files}

    @classmethod
    def from_fields(cls, fields: Fields | None) -> Self | None:
        """From part of a payload; nothing stays nothing."""
        if fields is None:
            return None
        return cls(
            fields.octets("stream", ID_BYTES),
            fields.count("bytes", MAX_CONTENT_BYTES),
            fields.count("files", MAX_FILES_PER_REVISION),
        )


def _required(content: ContentRef | None, what: str) -> ContentRef:
    if content is None:
        raise PeerFault(Code.MALFORMED, f"{what} names no content")
    return content


@dataclass(frozen=True, slots=True)
class Revision:
    """One version of an item, whole: what is not repeated is gone. `due_ms` is a time, `subject` a school subject.

    Title and subject are read as one line each; earlier versions have kept what they were given.
    """

    kind: ItemKind
    title: str
    subject: str | None
    due_ms: int | None
    content: ContentRef

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a revision")
        text = fields.text("kind", _KIND_CHARS)
        try:
            kind = ItemKind(text)
        except ValueError:
            raise PeerFault(Code.MALFORMED, "a revision is of a kind unknown to this version", kind=text) from None
        return cls(
            kind,
            one_line(fields.text("title", MAX_NAME_CHARS)),
            None if (subject := fields.text_or_none("subject", MAX_NAME_CHARS)) is None else one_line(subject),
            fields.count_or_none("due"),
            _required(ContentRef.from_fields(fields.inner("content")), "a revision"),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(
            compact(
                kind=self.kind.value,
                title=self.title,
                subject=self.subject,
                due=self.due_ms,
                content=self.content.value(),
            )
        )


@dataclass(frozen=True, slots=True)
class HandIn:
    """A pupil's sealed work: the stream of its ciphertext, and the revision that the pupil had before them.

    `machine` is what people called the device on which it was handed in: that device's own word. `clock_ms` is the
    latest time that it had of its own clock or of a server's, where others' words have moved the entry's far beyond its
    own clock.
    """

    content: ContentRef
    revision: bytes | None
    machine: str | None = None
    clock_ms: int | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a hand-in")
        content = _required(ContentRef.from_fields(fields.inner("content")), "a hand-in")
        return cls(
            content,
            fields.octets_or_none("revision", ID_BYTES),
            fields.name_or_none("machine"),
            fields.count_or_none("clock"),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(
            compact(content=self.content.value(), revision=self.revision, machine=self.machine, clock=self.clock_ms)
        )


@dataclass(frozen=True, slots=True)
class Wraps:
    """A hand-in's content key, sealed to several readers: (reader's X25519 key, `enc` ‖ ciphertext ‖ tag)."""

    wraps: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a wrap")
        return cls(fields.pairs("wraps", (ID_BYTES, _WRAP_BYTES), MAX_READERS_PER_HAND_IN + 1))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"wraps": [[reader, sealed] for reader, sealed in self.wraps]})


@dataclass(frozen=True, slots=True)
class Receipt:
    """A statement about a hand-in, over its id (the entry's target) and the hash of its sealed content."""

    stream: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a receipt").octets("stream", ID_BYTES))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"stream": self.stream})


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the teacher says of a hand-in; `redo` asks for another try; files, if any, are a manifest.

    A mark is read as it is shown, on one line: it stands beside a name.
    """

    text: str
    mark: str | None
    redo: bool
    content: ContentRef | None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "feedback")
        return cls(
            fields.text("text", MAX_TEXT_CHARS),
            fields.name_or_none("mark", MAX_MARK_CHARS),
            fields.flag("redo"),
            ContentRef.from_fields(fields.inner("content")),
        )

    @property
    def says_nothing(self) -> bool:
        """Whether it only takes back what its author said before."""
        return not (self.text.strip() or self.mark or self.redo or self.content)

    def encode(self) -> bytes:
        """To an entry's payload."""
        content = None if self.content is None else self.content.value()
        return encode(compact(text=self.text, mark=self.mark, redo=self.redo, content=content))


EMPTY_PAYLOAD = encode({})
"""What `withdraw` and `restore` carry: their meaning is in their header."""


def content_of(entry: Entry) -> ContentRef | None:
    """The content that an entry names: None where it names none, was erased, or is beyond this version."""
    record = _NAMING_CONTENT.get(entry.header.kind)
    if record is None or entry.payload is None:
        return None
    try:
        return record.parse(entry.payload).content
    except PeerFault:
        return None


_NAMING_CONTENT: Final[Mapping[int, type[Revision | HandIn | Feedback]]] = {
    Kind.REVISION: Revision,
    Kind.HAND_IN: HandIn,
    Kind.FEEDBACK: Feedback,
}
