"""Which entries open a space's key to its readers, in the order in which a bundle shows them.

Any machine of a space may say seals without end, to whom it likes, and the front of a bundle has a size
(docs/protocol.md, "Bundles"; docs/adr/0491).

Rules:
- first the entry that names the key: no seal counts without it;
- of the seals those alone that may open it to who reads the space, each once: of one author a few for each reader;
- first those of who writes the bundle: it knows them to hold the key, and made them wherever it could not believe
  another; then those of who may make such keys; then all others;
- among these the machines in turn: one that has said thousands takes no other's place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from protocol.folds.space_keys import SpaceKeyRecord, SpaceKeys, SpaceWraps, may_make_keys
from protocol.model.entry import Entry, Kind, parsed
from protocol.rights.roster import Roster


def shown_of(
    commitment: bytes,
    keys: SpaceKeys,
    entries: Iterable[Entry],
    roster: Roster,
    readers: Iterable[bytes],
    own: Collection[bytes],
    machine_of: Callable[[bytes], bytes],
) -> list[Entry]:
    """Of a space's key entries those that open the key of this name to `readers`, X25519 keys, the foremost first.

    `own` are the Ed25519 keys of who shows them, `machine_of` names the machine that a key belongs to.
    """
    said = sorted(
        (entry for entry in entries if not roster.hides(entry)), key=lambda entry: (entry.header.at, entry.id)
    )
    sealed = keys.given.of(commitment)
    wanted = {(reader, seal) for reader in readers for seal in sealed.get(reader, ())}
    makers = {each.grant for each in roster.authorities if each.key not in roster.cut and may_make_keys(each)}
    shown, turns = list[Entry](), Counter[bytes]()
    queue: list[tuple[tuple[bool, bool, int], Entry, frozenset[tuple[bytes, bytes]]]] = []
    for entry in said:
        author = entry.header.author
        if entry.header.kind == Kind.SPACE_KEY and author not in roster.cut:
            record = parsed(entry, SpaceKeyRecord.parse)
            shown = [entry] if record is not None and record.commitment == commitment else shown
        elif entry.header.kind == Kind.SPACE_WRAP and (opens := _seals_in(entry, commitment) & wanted):
            turns[machine_of(author)] += 1
            place = author not in own, entry.header.grant not in makers, turns[machine_of(author)]
            queue.append((place, entry, opens))
    for _, entry, opens in sorted(queue, key=lambda each: each[0]):
        if opens & wanted:
            wanted -= opens
            shown.append(entry)
    return shown


def _seals_in(entry: Entry, commitment: bytes) -> frozenset[tuple[bytes, bytes]]:
    """The seals of a key in an entry, each with its recipient."""
    wraps = parsed(entry, SpaceWraps.parse)
    return frozenset(wraps.wraps) if wraps is not None and wraps.commitment == commitment else frozenset()
