"""Whom a server has met as whose, and in which order: it folds with a memory as every other replica does.

Rules (docs/protocol.md, "Confirmed devices"; docs/adr/0390):
- whom it knows of itself (`known_here`) goes before whom it does not: a copy of its key grants whatever it likes, and
  whoever says a reading key chooses the date of that;
- of those whom it knows dates decide, which are theirs, but whom somebody has ever cut off goes last: a laptop that was
  reported, also in a class in which nobody has heard of that. Beside the first each other one speaks whom nobody has
  ever cut off: by its own notes they are hers, and it needs no word of one about the other (docs/adr/0400);
- while it knows one of somebody's, whom it does not know begins no voice of theirs in any class, also where that one is
  not: whoever has its key lists her in a colleague's class, with a computer of theirs (docs/adr/0398). Known is a copy
  as well that made keys for itself; and who was cut off, unless this server said so, or the root, wherever hers was let
  in, and has not taken it back: others say a thief's, and who left one class is in others (docs/adr/0406);
- of the others it goes by whom it heard of first, in whatever space: that is its own order, and nobody else's;
- out of a backup that order is whoever's who wrote it: there those count alone whom somebody has let in by their own
  names since, and of the others dates decide. A code used since is a second laptop's, as likely as a first one's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Container, Sequence
from itertools import islice

from protocol.model.entry import Kind
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import cut_off_here, orders_by_key
from protocol.replica.office.known_here import KnownHere
from protocol.rights.door import Authority, Door
from protocol.rights.roster import authorities_over
from protocol.rights.speaking import UNMET, Remembered
from protocol.rights.successions import successors_of
from protocol.rights.vouching import Device
from protocol.roles import HAS_READING_KEYS

_KNOWN, _KNOWN_AND_CUT_OFF = range(2)


class ServersMemory:
    """What a server remembers (`Memory`): found out anew once a grant has come, or a note."""

    def __init__(self, office: Office) -> None:
        """Nothing is read yet."""
        self._office = office
        self._door: Door | None = None
        self._read = 0
        """How many grants of that door were read."""
        self._noted = (-1, -1)
        self._here: KnownHere | None = None
        self._called: defaultdict[bytes, list[Authority]] = defaultdict(list)
        self._cut: set[bytes] = set()
        self._is_out: Callable[[Authority], bool] = lambda _: False
        """Whether this server, or the root, has cut a device off itself where a grant of it lies."""
        self._cuts_read = 0
        self._order: dict[bytes, dict[Device, int]] = {}
        self._strangers: dict[bytes, frozenset[Device]] = {}
        self._sure: dict[bytes, frozenset[Device]] = {}
        self._by_space: dict[bytes, tuple[int, Remembered]] = {}
        self._turn = 0
        self._reading = asyncio.Lock()

    async def of(self, space: bytes) -> Remembered:
        """Those of whoever may teach in a space."""
        if not self._stands():
            async with self._reading:
                if not self._stands():
                    await self._read_on()
        kept = self._by_space.get(space)
        if kept is None or kept[0] != self._turn:
            there = filter(_calls_somebody_a_teacher, authorities_over(space, self._office.replica.door))
            persons = {each.person or b"" for each in there} & self._order.keys()
            now = Remembered(
                anywhere={person: self._order[person] for person in persons},
                strangers={person: found for person in persons if (found := self._strangers[person])},
                sure={person: found for person in persons if (found := self._sure[person])},
            )
            kept = self._turn, kept[1] if kept is not None and kept[1] == now else now
            self._by_space[space] = kept
        return kept[1]

    def _stands(self) -> bool:
        door = self._office.replica.door
        return (door, len(door.authorities()), self._now()) == (self._door, self._read, self._noted)

    def _now(self) -> tuple[int, int]:
        return self._office.replica.noted, self._office.replica.words_on_words

    async def _read_on(self) -> None:
        """Take in the grants that have come, what was noted, and who was cut off."""
        door, noted = self._office.replica.door, self._now()
        if door is not self._door:
            self._door, self._read, self._cuts_read, self._noted = door, 0, 0, (-1, -1)
            self._called.clear()
            self._order.clear()
            self._cut.clear()
            self._strangers.clear()
            self._sure.clear()
        fresh = list(islice(door.authorities(), self._read, None))
        touched = set[bytes]()
        for each in filter(_calls_somebody_a_teacher, fresh):
            self._called[each.person or b""].append(each)
            touched.add(each.person or b"")
        if noted != self._noted:
            await self._read_cuts()
            touched = set(self._called)
        if touched:
            known = KnownHere.of(self._office) if self._here is None else self._here.again()
            here = self._here = await known
            for person in touched:
                await self._sort(here, person)
        self._read += len(fresh)
        self._noted = noted
        self._turn += 1

    async def _sort(self, here: KnownHere, person: bytes) -> None:
        called = list(self._called[person])
        known = await here.known_of(called)
        first = here.named_of(called) if here.at_once else known
        self._order[person] = _in_order(first, called, self._cut, at_once=here.at_once)
        is_one_left = any(each.pair in first and not self._is_out(each) for each in called)
        self._sure[person] = _sure(first, self._cut)
        self._strangers[person] = _strangers(known, called) if is_one_left else frozenset()

    async def _read_cuts(self) -> None:
        store = self._office.replica.store
        latest = await store.latest()
        self._cut.update(orders_by_key(await store.scan_kinds([Kind.REVOKE], self._cuts_read)))
        self._is_out = await cut_off_here(self._office)
        self._cuts_read = self._cuts_read if latest is None else max(self._cuts_read, latest[0])


def _calls_somebody_a_teacher(given: Authority) -> bool:
    return given.person is not None and given.role in HAS_READING_KEYS


def _in_order(
    known: Collection[Device], called: Sequence[Authority], cut: Container[bytes], *, at_once: bool
) -> dict[Device, int]:
    """The devices that these grants, in order of arrival, call one person's: whom the server knows, then the others."""
    order = {device: (_KNOWN_AND_CUT_OFF if device[0] in cut else _KNOWN) for device in known}
    for place, device in enumerate(dict.fromkeys(each.pair for each in called)):
        if not at_once:
            order.setdefault(device, UNMET + place)
    return order


def _sure(known: Collection[Device], cut: Container[bytes]) -> frozenset[Device]:
    """Which of somebody's devices each speak for them: of whom nobody has ever cut off."""
    return frozenset(device for device in known if device[0] not in cut)


def _strangers(known: Collection[Device], called: Sequence[Authority]) -> frozenset[Device]:
    """Of these devices those of which the server knows nothing, nor of whom they are a copy."""
    copies = {key for device in known for key in successors_of(device[0], called)}
    return frozenset(each.pair for each in called if each.pair not in known and each.key not in copies)
