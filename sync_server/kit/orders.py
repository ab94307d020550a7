"""What the kit has had forgotten of a name, and taken back, by what is shown: in turns (docs/adr/0324)."""

from __future__ import annotations

from collections.abc import Container, Mapping

from protocol.model.entry import Entry, Kind, signature_holds
from protocol.model.structure import Erasure, Ruling
from protocol.rights.erasures import order_in
from protocol.trust.kit import Kit
from sync_server.kit.errand import check_kind


def erased_by(entry: Entry) -> bytes:
    """What an erasure covers. Raises for another entry."""
    check_kind(entry, Kind.ERASE)
    return Erasure.parse(entry.payload or b"").covers


def is_next(said: Erasure | Ruling, evidence: Mapping[bytes, Entry], kit: Kit) -> bool:
    """Whether this is of the first turn, or the kit's taking back of the one before is shown."""
    return said.turn == 0 or (Kind.RULING, said.covers, said.turn - 1) in turns_in(evidence, {kit.root.public})


def turns_in(evidence: Mapping[bytes, Entry], roots: Container[bytes]) -> set[tuple[int, bytes | None, int]]:
    """What some roots have had forgotten, and taken back by name: the kind, the name, the turn."""
    by_root = (
        (one, order_in(one))
        for one in evidence.values()
        if one.header.grant is None and one.header.author in roots and signature_holds(one)
    )
    return {(one.header.kind, said.covers, said.turn) for one, said in by_root if said is not None}
