"""Who signs what a replica writes: a key that is here, or somebody elsewhere who looks at it first.

The recovery kit is elsewhere: its keys stay with the command that has read it (docs/adr/0128).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeAlias

from protocol.errors import Code, PeerFault
from protocol.identity import SIGNATURE_BYTES, SigningKey
from protocol.model.entry import DOMAIN, Entry


class Signer(Protocol):
    """Signs elsewhere."""

    @property
    def public(self) -> bytes:
        """The Ed25519 key under which it signs."""
        ...

    async def signatures(self, entries: Sequence[Entry]) -> list[bytes]:
        """A signature for each. Raises what keeps it from signing one of them."""
        ...


Author: TypeAlias = SigningKey | Signer


class RootKit(Protocol):
    """The recovery kit, as far as it says something: read by this process, or by a command that has it."""

    @property
    def root(self) -> Author:
        """Who signs as the root."""
        ...


async def with_signatures(entries: Sequence[Entry], writers: Sequence[Author]) -> list[Entry]:
    """Entries with the signatures of their writers, each of whom is asked once. Raises what they raise."""
    found: dict[bytes, bytes] = {}
    for writer in {each.public: each for each in writers}.values():
        theirs = [entry for entry in entries if entry.header.author == writer.public]
        if isinstance(writer, SigningKey):
            given = [writer.sign(DOMAIN, entry.header_bytes) for entry in theirs]
        else:
            given = await writer.signatures(theirs)
        if len(given) != len(theirs) or any(len(signature) != SIGNATURE_BYTES for signature in given):
            raise PeerFault(Code.BAD_SIGNATURE, "who was asked to sign gave something else")
        found.update(zip((entry.id for entry in theirs), given, strict=True))
    return [replace(entry, signature=found[entry.id]) for entry in entries]
