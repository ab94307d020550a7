"""What every need of a kit has in common: what is looked at before the root signs, and what is refused.

Rules: docs/adr/0128, docs/adr/0324.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import ClassVar, Final

from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, Kind
from protocol.replica.console import parameters as given
from protocol.rights.vouching import Device
from protocol.trust.kit import Kit
from protocol.trust.sealing import unwrap_key
from sync_server.kit.questions import Sealed

NOT_SHOWN: Final = (
    ", and nothing was signed: if it was started before an update, start it again; else it is not what it was: make "
    "the server anew on another machine"
)
"""What follows on what a program does not show."""


class Errand:
    """One command's need of a kit. This one needs nothing; what is not needed is refused."""

    elsewhere: ClassVar[frozenset[Kind]] = frozenset()
    """The kinds that it has said in other spaces than the territory's: where that is, the command need not know."""

    def __init__(self, kit: Kit, new: Kit | None = None) -> None:
        self.kit = kit
        self.new = new
        self.to_name: Sequence[bytes] = ()
        """What a rotation to the new root has to name by itself."""
        self.looked_at: list[str] = []
        """What the root says, as the command has seen it itself: told once it is signed."""

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """Raise what keeps the root of the kit from signing this entry."""
        del evidence
        raise uncalled_for(entry)

    def check_new(self, entry: Entry) -> None:
        """Raise what keeps the new root from signing this entry."""
        raise uncalled_for(entry)

    def agreed(self, version: int, heads: Sequence[bytes], evidence: Iterable[Entry]) -> bytes:
        """The payload in which the new root agrees to follow that of the kit. Raises what keeps it from that."""
        del version, heads, evidence
        raise PeerFault(Code.NO_RIGHT, "no root takes over by this command")

    def opens(self, person: bytes) -> bool:
        """Whether somebody's work may be opened."""
        del person
        return False

    def content_keys(self, works: Sequence[Sealed], evidence: Iterable[Entry]) -> list[bytes]:
        """The content key of each work, empty where nothing opens it, or where that is no part of this.

        `evidence` shows whose they are. Raises what keeps the kit from opening them.
        """
        del evidence
        return [self._opened(work) if self.opens(work.person) else b"" for work in works]

    def rewrapped(self, device: Device, reading_key: Entry, works: Sequence[Sealed]) -> list[bytes]:
        """The content key of each, sealed to a device's reading key; empty where nothing opens it."""
        del device, works
        raise uncalled_for(reading_key)

    def _opened(self, work: Sealed) -> bytes:
        for key, wrap in product(self.kit.opening, work.wraps):
            with suppress(PeerFault):
                return unwrap_key(wrap, key, work.info)
        return b""


class Once:
    """What a command says once, of each name in each space; a second one is not what it was typed for.

    Whoever has it signed twice keeps one until the other was taken back (docs/adr/0324).
    """

    def __init__(self) -> None:
        self._said: dict[tuple[int, bytes, bytes], bytes] = {}

    def is_first(self, entry: Entry, about: bytes = b"") -> bool:
        """Whether this is the first of its kind about a name there, or that one again."""
        return self._said.setdefault((entry.header.kind, entry.header.space, about), entry.id) == entry.id


def whole_id(text: str) -> bytes:
    """The id of a class, a device or an entry. Raises `BadInput` for one that was cut short."""
    return whole(text, ID_BYTES)


def whole_person(text: str) -> bytes:
    """A person's id. Raises `BadInput` for one that was cut short."""
    return whole(text, PERSON_BYTES)


def whole(text: str, *sizes: int) -> bytes:
    """An id of one of these sizes. Raises `BadInput` for one that was cut short."""
    found = octets(text)
    if found is not None and len(found) in sizes:
        return found
    digits = " or ".join(str(2 * size) for size in sizes)
    raise BadInput(
        Code.USAGE,
        f"“{given.shown(text)}” is no whole id: with the kit everything is named by all of its {digits} digits, as "
        "`--json` shows them",
    )


def octets(text: str) -> bytes | None:
    """What was typed, where it is hexadecimal."""
    with suppress(ValueError):
        return bytes.fromhex(text)
    return None


def check_kind(entry: Entry, kind: Kind) -> None:
    """Raise for an entry of another kind, or without its payload."""
    if entry.header.kind != kind or entry.payload is None:
        raise uncalled_for(entry)


def uncalled_for(entry: Entry) -> PeerFault:
    """What to raise for an entry that a command does not need."""
    return not_needed(entry.header.kind)


def not_needed(kind: int) -> PeerFault:
    """The same, of a kind."""
    return PeerFault(
        Code.NO_RIGHT,
        "the program that has the store open asks the kit for something that this command does not need: it is not "
        "what it was, and nothing more was signed; make the server anew on another machine (docs/operate.md, "
        "“What to do when …”)",
        kind=kind,
    )
