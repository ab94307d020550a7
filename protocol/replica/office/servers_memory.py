"""Whom a server has met as whose, and in which order: it folds with a memory as every other replica does.

Rules (docs/protocol.md, "Confirmed devices", C44 to C46; docs/adr/0390):
- from whom it knows of itself (`known_here`) a voice starts, from each of them: by its own notes they are hers, and it
  needs no word of one about the other, nor a date (docs/adr/0400). Who is cut off is among them, and what it had said
  stays said: a cut is the end of a laptop, and anybody's word. But where hers are beside it not whom this server had
  cut off wherever it was, and others have let in since: a reported laptop, and a copied key (docs/adr/0413);
- while it knows one of somebody's, whom it does not know begins no voice of theirs in any class, also where that one is
  not: whoever has its key lists her in a colleague's class, with a computer of theirs (docs/adr/0398). Known is a copy
  as well that made keys for itself; and who was cut off, unless this server said so, or the root, wherever hers was let
  in, and has not taken it back: others say a thief's, and who left one class is in others (docs/adr/0406);
- of the others it goes by whom it heard of first, in whatever space: that is its own order, and nobody else's;
- out of a backup that order is whoever's who wrote it: there dates decide, until somebody has let one of hers in by its
  own name. A code used since is a second laptop's, as likely as a first one's, and makes nobody known alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice

from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import back_by_others, cut_off_here
from protocol.replica.office.known_here import KnownHere
from protocol.rights.door import Authority, Door
from protocol.rights.roster import authorities_over
from protocol.rights.speaking import UNMET, Remembered
from protocol.rights.successions import successors_of
from protocol.rights.vouching import Device
from protocol.roles import HAS_READING_KEYS


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
        self._is_out: Callable[[Authority], bool] = lambda _: False
        """Whether this server, or the root, has cut a device off itself where a grant of it lies."""
        self._is_back: Callable[[Authority], bool] = lambda _: False
        """Whether others have let a device in with a grant since it had been cut off so wherever it was."""
        self._known: dict[bytes, tuple[Device, ...]] = {}
        self._order: dict[bytes, dict[Device, int]] = {}
        self._strangers: dict[bytes, frozenset[Device]] = {}
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
            called = defaultdict[bytes, dict[Device, bool]](dict)
            for each in there:
                theirs = called[each.person or b""]
                theirs[each.pair] = theirs.get(each.pair, True) and self._is_back(each)
            persons = called.keys() & self._known.keys()
            now = Remembered(
                firsts={person: here for person in persons if (here := _there(self._known[person], called[person]))},
                anywhere={person: order for person in persons if (order := self._order[person])},
                strangers={person: found for person in persons if (found := self._strangers[person])},
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
            self._door, self._read, self._noted = door, 0, (-1, -1)
            self._called.clear()
            self._known.clear()
            self._order.clear()
            self._strangers.clear()
        fresh = list(islice(door.authorities(), self._read, None))
        touched = set[bytes]()
        for each in filter(_calls_somebody_a_teacher, fresh):
            self._called[each.person or b""].append(each)
            touched.add(each.person or b"")
        if noted != self._noted:
            self._is_out, self._is_back = await cut_off_here(self._office), await back_by_others(self._office)
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
        devices = tuple(dict.fromkeys(each.pair for each in called))
        says_who = not here.at_once or bool(here.named_of(called))
        known = await here.known_of(called) if says_who else set()
        self._known[person] = tuple(each for each in devices if each in known)
        in_order = () if here.at_once else devices
        self._order[person] = {each: UNMET + place for place, each in enumerate(in_order) if each not in known}
        is_one_left = any(each.pair in known and not self._is_out(each) for each in called)
        self._strangers[person] = _strangers(known, called) if is_one_left else frozenset()


def _calls_somebody_a_teacher(given: Authority) -> bool:
    return given.person is not None and given.role in HAS_READING_KEYS


def _there(known: Sequence[Device], called: Mapping[Device, bool]) -> tuple[Device, ...]:
    """Which of those that the server knows as somebody's a space's grants call theirs, whatever became of them.

    Of each that is called so, whether others alone have let it in there since it was gone: one that is back so is not
    among them, unless all are.
    """
    here = tuple(each for each in known if each in called)
    return tuple(each for each in here if not called[each]) or here


def _strangers(known: Collection[Device], called: Sequence[Authority]) -> frozenset[Device]:
    """Of these devices those of which the server knows nothing, nor of whom they are a copy."""
    copies = {key for device in known for key in successors_of(device[0], called)}
    return frozenset(each.pair for each in called if each.pair not in known and each.key not in copies)
