"""What the door asks of payloads that pupils' machines may write: classes 4 and 5 (docs/protocol.md, "Admission").

Rules:
- each kind has a largest payload, far below that of any entry: a machine's word is short, and everybody carries it;
- a payload of a known kind is what that kind's payload is, so that noise travels nowhere; keys that are not known are
  ignored there, as everywhere;
- a kind that this version does not know may be as large as `MAX_OTHER_WITNESS_BYTES`.

The size stands in the header: an entry whose payload was erased is judged by it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from protocol.errors import Code, PeerFault
from protocol.fields import Fields
from protocol.limits import (
    MAX_HAND_IN_PAYLOAD_BYTES,
    MAX_OTHER_WITNESS_BYTES,
    MAX_RECEIPT_PAYLOAD_BYTES,
    MAX_SPACE_WRAP_PAYLOAD_BYTES,
    MAX_SUCCESSOR_PAYLOAD_BYTES,
    MAX_WRAP_PAYLOAD_BYTES,
    MAX_WRAPS_PER_ENTRY,
)
from protocol.model.entry import Entry, Kind, KindClass, class_of
from protocol.model.structure import Successor
from protocol.model.work import HandIn, Receipt, Wraps


class _Rule(NamedTuple):
    """The largest payload of a kind, and what reads one."""

    most_bytes: int
    parse: Callable[[bytes], object]


def _wraps(payload: bytes) -> object:
    return Fields.of_payload(payload, "a wrap").rows("wraps", MAX_WRAPS_PER_ENTRY)


def _map(payload: bytes) -> object:
    return Fields.of_payload(payload, "a record")


_RULES: Final[Mapping[int, _Rule]] = MappingProxyType(
    {
        Kind.HAND_IN: _Rule(MAX_HAND_IN_PAYLOAD_BYTES, HandIn.parse),
        Kind.WRAP: _Rule(MAX_WRAP_PAYLOAD_BYTES, Wraps.parse),
        Kind.RECEIPT_SAFE: _Rule(MAX_RECEIPT_PAYLOAD_BYTES, Receipt.parse),
        Kind.SPACE_WRAP: _Rule(MAX_SPACE_WRAP_PAYLOAD_BYTES, _wraps),
        Kind.SUCCESSOR: _Rule(MAX_SUCCESSOR_PAYLOAD_BYTES, Successor.parse),
        Kind.SIGN_IN_WRAP: _Rule(MAX_SPACE_WRAP_PAYLOAD_BYTES, _wraps),
        Kind.SIGN_IN_LOCK: _Rule(MAX_RECEIPT_PAYLOAD_BYTES, _map),
    }
)
_OTHER: Final = _Rule(MAX_OTHER_WITNESS_BYTES, len)
_SAID_BY_HEADERS: Final = frozenset({Kind.WITHDRAW, Kind.RESTORE, Kind.SIGN_IN_LOCK})
_BOUND: Final = frozenset({KindClass.WORK, KindClass.WITNESS})


def is_said(entry: Entry) -> bool:
    """Whether what an entry says is here: in its payload, but where there is nothing but the header (docs/adr/0576)."""
    return entry.payload is not None or entry.header.kind in _SAID_BY_HEADERS


def fault_of(entry: Entry) -> Code | None:
    """Why the payload is none that its kind may have; None where nothing is wrong with it."""
    header = entry.header
    if class_of(header.kind) not in _BOUND:
        return None
    rule = _RULES.get(header.kind, _OTHER)
    if header.size > rule.most_bytes:
        return Code.TOO_LARGE
    if entry.payload is None:
        return None
    try:
        rule.parse(entry.payload)
    except PeerFault as fault:
        return fault.code
    return None
