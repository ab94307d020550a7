"""Who was added by mistake, and taken off every list again here: the name is as free as if that had not been.

Rules (docs/adr/0404):
- it is noted beside the set where somebody takes them off every list by a command here: whoever has a copy of the
  server's key writes lists, and takes off them an honest pupil who is new; not these notes, which no backup brings
  along;
- on the id nothing ever hung that came here, hidden or not: no device's right, and no work;
- it holds as long as no list says another word of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final

from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.people import listings_of

MISTAKEN_MARKS: Final = "taken-off-unused/"
"""+ person in hex → how many words of lists there were of them."""
_NUMBER_BYTES: Final = 4


async def note_if_mistaken(office: Office, person: bytes) -> None:
    """Somebody has taken a person off every list here."""
    replica = office.replica
    lists = (await listings_of(replica, [person]))[person]
    if lists and all(each.left for each in lists.values()) and not await _with_something(replica, [person]):
        count = (await _words_of(replica, [person]))[person]
        await replica.store.set_marks({MISTAKEN_MARKS + person.hex(): count.to_bytes(_NUMBER_BYTES, "big")})


async def mistaken(replica: Replica, persons: Collection[bytes]) -> set[bytes]:
    """Those of these people who were added by mistake."""
    noted = await replica.store.marks(MISTAKEN_MARKS) if persons else {}
    counts = {one: noted[mark] for one in persons if (mark := MISTAKEN_MARKS + one.hex()) in noted}
    if not counts:
        return set()
    words, used = await _words_of(replica, counts), await _with_something(replica, counts)
    return {one for one, count in counts.items() if words[one] == int.from_bytes(count, "big")} - used


async def _words_of(replica: Replica, persons: Collection[bytes]) -> Counter[bytes]:
    """How often a list has said something of each of these people."""
    said = await replica.store.scan_kinds([Kind.PERSON])
    return Counter(one for entry in said if (one := entry.header.subject) is not None and one in persons)


async def _with_something(replica: Replica, persons: Collection[bytes]) -> set[bytes]:
    """Those of these people on whose id something hangs, whatever is shown of it."""
    used = {given.person for given in replica.door.authorities() if given.person is not None}
    works = await replica.store.scan_kinds([Kind.HAND_IN])
    used |= {work.header.subject for work in works if work.header.subject is not None}
    return used.intersection(persons)
