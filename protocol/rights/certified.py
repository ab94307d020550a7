"""Which of the certificates that a root has signed count (R4; docs/protocol.md, "New keys for a server").

Rules:
- of the certificates of a root that name others the latest decides, by its date and then its id: what is earlier and
  not named by it counts for nothing, whenever it turns up, and whoever has kept it back until then;
- what is later than that one counts: a server that is made anew from the kit has heard of none, and names none;
- the latest decides alone: one that named too few is put right by the next.

A pure function of what a root has signed, the same for every order of arrival.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable

from protocol.errors import PeerFault
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Certificate


def beside(entry: Entry) -> tuple[bytes, ...]:
    """The certificates that one names, where it is one and names any."""
    if entry.header.kind != Kind.CERTIFICATE or entry.payload is None:
        return ()
    try:
        return Certificate.parse(entry.payload).beside
    except PeerFault:
        return ()


def unnamed(entries: Iterable[Entry], held: Container[bytes] = frozenset()) -> set[bytes]:
    """The certificates among `entries` that the latest of their root that names others leaves out, and is later than.

    Those that are `held` back, since their root was replaced and they are not what it had signed, decide nothing.
    """
    by_root: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.header.kind == Kind.CERTIFICATE and entry.header.grant is None and entry.id not in held:
            by_root[entry.header.author].append(entry)
    found = set()
    for certificates in by_root.values():
        last = max((each for each in certificates if beside(each)), key=_when, default=None)
        if last is not None:
            named = frozenset(beside(last))
            found |= {each.id for each in certificates if _when(each) < _when(last) and each.id not in named}
    return found


def _when(certificate: Entry) -> tuple[int, bytes]:
    return certificate.header.at, certificate.id
