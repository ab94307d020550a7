"""A territory takes another root: said by the old one, agreed to by the new one (docs/protocol.md, "Root rotation").

Rules:
- the old root signs the entry, the new one what it says: neither can be put into the other's place;
- it names the old root's entries: whatever else turns up under the old key is held back; where they are many, it
  names *accounts* of them, entries that the old root signs just before, so that nothing is too much to be named;
- versions count up; the territory keeps its id, which is the hash of its first root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from protocol.canonical import encode
from protocol.errors import PeerFault
from protocol.fields import Fields, compact
from protocol.identity import SigningKey, verify
from protocol.limits import MAX_ROOT_ACCOUNT_IDS, MAX_ROTATION_HEADS
from protocol.model.entry import ID_BYTES, SIGNATURE_BYTES, Entry, Kind, signature_holds

_DOMAIN = b"relais/0 root rotation"


@dataclass(frozen=True, slots=True)
class RootRotation:
    """The new root's Ed25519 key, the number of the rotation, the old root's heads, and the new root's word for it."""

    root: bytes
    version: int
    heads: tuple[bytes, ...]
    proof: bytes

    @classmethod
    def agreed(cls, new: SigningKey, territory: bytes, old: bytes, version: int, heads: tuple[bytes, ...]) -> Self:
        """What the new root agrees to take over from the `old` one."""
        said = _said(territory, old, version, heads)
        return cls(new.public, version, heads, new.sign(_DOMAIN, said))

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a rotation of the root")
        return cls(
            fields.octets("root", ID_BYTES),
            fields.count("version"),
            fields.all_octets("heads", ID_BYTES, MAX_ROTATION_HEADS),
            fields.octets("proof", SIGNATURE_BYTES),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(root=self.root, version=self.version, heads=list(self.heads), proof=self.proof))

    def holds(self, territory: bytes, old: bytes) -> bool:
        """Whether the new root has agreed to take over from the `old` one in this territory."""
        return verify(self.root, _DOMAIN, _said(territory, old, self.version, self.heads), self.proof)


@dataclass(frozen=True, slots=True)
class RootAccount:
    """Some of what a root has signed. It means nothing until a rotation of that root names it."""

    ids: tuple[bytes, ...]

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "an account of what the root signed")
        return cls(fields.all_octets("ids", ID_BYTES, MAX_ROOT_ACCOUNT_IDS))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(ids=list(self.ids)))


def accounted(heads: Iterable[bytes], written: Mapping[bytes, Entry]) -> Iterator[bytes]:
    """What a rotation with these heads names, of what its author has `written`: its heads, and what accounts list."""
    for head in heads:
        yield head
        entry = written.get(head)
        if entry is not None and entry.header.kind == Kind.ROOT_ACCOUNT:
            with suppress(PeerFault):
                yield from RootAccount.parse(entry.payload or b"").ids


def rotations_in(entries: Iterable[Entry]) -> list[tuple[Entry, RootRotation]]:
    """The rotations among entries whose signatures hold on both sides, by version."""
    found = []
    for entry in entries:
        if entry.header.kind != Kind.ROOT_ROTATION or entry.header.grant is not None or entry.payload is None:
            continue
        try:
            rotation = RootRotation.parse(entry.payload)
        except PeerFault:
            continue
        if signature_holds(entry) and rotation.holds(entry.header.space, entry.header.author):
            found.append((entry, rotation))
    return sorted(found, key=lambda pair: (pair[1].version, pair[0].header.at, pair[0].id))


def _said(territory: bytes, old: bytes, version: int, heads: tuple[bytes, ...]) -> bytes:
    return encode([territory, old, version, list(heads)])
