"""Whom this device has seen in its classes, and since when: what its marks say, at hand.

Noted is class by class. Whom folds go by where a class is new is whom this device met first in any (`remember`): a
class begins each year, and whoever has the server is in it before a teacher's laptop (docs/adr/0389). Whom the words of
her first laptop have led to stands right behind that one: it is hers as surely, whenever it came (docs/adr/0458).

Whom a device has met, it goes by at once, and notes; what finds no room is noted with the next look (docs/adr/0571).

What else that is good for is `keys.acquaintances`', `keys.first_met`'s and `hand_ins.known_machines`'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from protocol.limits import ACQUAINTANCE_MS
from protocol.replica.interfaces import EntryStore
from protocol.rights.speaking import DOUBTED, GONE, UNMET, Remembered
from protocol.rights.vouching import Device, device_id
from sync_agent.machine.marks import (
    BESIDE_MARKS,
    FIRST_MARKS,
    GONE_AS_MARKS,
    HEARD_MARKS,
    LED_MARKS,
    MACHINES_MARKS,
    MET_MARKS,
    beside_in,
    heard_in,
    machines_in,
    met_in,
    remembered_in,
)
from sync_agent.machine.met_order import Met, MetOrder


@dataclass(frozen=True, slots=True)
class MetBySpace:
    """What folds go by, as it was noted last: by space, and `elsewhere`, where nobody is remembered yet."""

    spaces: Mapping[bytes, Remembered] = field(default_factory=dict)
    elsewhere: Remembered = field(default_factory=Remembered)

    def of(self, space: bytes) -> Remembered:
        """What this device remembers in a space."""
        return self.spaces.get(space, self.elsewhere)

    def then(self, spaces: Mapping[bytes, Remembered], elsewhere: Remembered) -> MetBySpace:
        """What it is now: what stays as it was is the same object, for it is compared with each question."""
        kept = {space: _kept(now, self.spaces.get(space)) for space, now in spaces.items()}
        return MetBySpace(kept, _kept(elsewhere, self.elsewhere))


def _kept(now: Remembered, before: Remembered | None) -> Remembered:
    return before if before is not None and before == now else now


@dataclass(slots=True)
class Acquainted:
    """Each by space first; times are in ms."""

    first: dict[bytes, dict[bytes, tuple[Device, ...]]] = field(default_factory=dict)
    """By person: the devices that this one saw first (`first_met`)."""
    met: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    """By device: since when this one knows them (`acquaintances`)."""
    machines: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    """By beginning of their keys: since when this one knows the machines there (`known_machines`)."""
    heard: dict[bytes, dict[bytes, dict[Device, int]]] = field(default_factory=dict)
    """By person: the devices that have said a reading key, and since when this one knows them."""
    gone: dict[bytes, dict[bytes, tuple[Device, ...]]] = field(default_factory=dict)
    """By person: those of these that are cut off there, or back and not confirmed again: in a new class they come after
    all others that were met."""
    led: dict[bytes, dict[bytes, tuple[Device, ...]]] = field(default_factory=dict)
    """By person: those of these to which words of whoever came first of all there have led (`acquaintances`)."""
    beside: dict[bytes, tuple[Device, ...]] = field(default_factory=dict)
    """By person alone: the devices that grants called theirs when this one met them first (`acquaintances`)."""
    in_mind: MetBySpace = field(default_factory=MetBySpace)
    """What folds go by."""
    _due_ms: int | None = None
    _unsaved: dict[str, bytes | None] = field(default_factory=dict)
    """The marks of what is here, and found no room in the store yet."""

    @classmethod
    async def of(cls, store: EntryStore) -> Self:
        """What a store has noted. Raises `LocalFailure`."""
        return cls(
            remembered_in(await store.marks(FIRST_MARKS)),
            met_in(await store.marks(MET_MARKS)),
            machines_in(await store.marks(MACHINES_MARKS)),
            heard_in(await store.marks(HEARD_MARKS)),
            remembered_in(await store.marks(GONE_AS_MARKS), GONE_AS_MARKS),
            remembered_in(await store.marks(LED_MARKS), LED_MARKS),
            beside_in(await store.marks(BESIDE_MARKS)),
        )

    async def save(self, store: EntryStore, marks: Mapping[str, bytes | None]) -> None:
        """Note these marks, and what has found no room before. Raises `LocalFailure`: then they are not lost.

        What is here looks as if it had been noted: no other look finds it new.
        """
        self._unsaved |= marks
        if saved := dict(self._unsaved):
            await store.set_marks(saved)
            self._unsaved = dict(self._unsaved.items() - saved.items())

    def persons(self) -> set[bytes]:
        """Whom this device has met, in whatever class."""
        return {person for each in (self.first, self.heard) for there in each.values() for person in there}

    def met_anywhere(self, person: bytes) -> dict[Device, int]:
        """Since when this device has known each as a person's, in whatever class, gone there or not."""
        found: dict[Device, int] = {}
        for space in self._spaces():
            _keep_earliest(found, self._met_in(space, person))
        return found

    def met_or_led_to(self, person: bytes) -> dict[Device, int]:
        """The same, but right behind who led to it, where that is earlier: as folds have it, gone or not."""
        found = self.met_anywhere(person)
        _keep_earliest(found, self.order_of(person, self._spaces()).but(None)[1])
        return found

    def meetings_ms(self) -> Iterator[int]:
        """The times at which this device has met any other, in whatever class."""
        yield from (met_ms for met in self.met.values() for met_ms in met.values())
        yield from (met_ms for heard in self.heard.values() for met in heard.values() for met_ms in met.values())

    def remember(self, now_ms: int, lineage: Callable[[bytes], Sequence[bytes]]) -> None:
        """Have folds go by what is noted: by copies, for no fold could tell that what is changed in place was.

        `lineage` is a space and those above it.
        """
        placed = {person: self.order_of(person, met_in).but(None) for person, met_in in self._met_in_spaces().items()}
        anywhere = {person: order for person, (order, _) in placed.items()}
        since_ms = {person: order for person, (_, order) in placed.items()}
        known_below = self._known_below(lineage)
        self._due_ms = None
        spaces = {
            space: Remembered(
                dict(self.first.get(space, {})),
                dict(self.heard.get(space, {})),
                anywhere,
                since_ms,
                heard_on=self._heard_on(space, now_ms),
                known_below=frozenset(known_below.get(space, ())),
            )
            for space in sorted({*self._spaces(), *known_below})
        }
        self.in_mind = self.in_mind.then(spaces, Remembered(anywhere=anywhere, since_ms=since_ms))

    def _known_below(self, lineage: Callable[[bytes], Sequence[bytes]]) -> dict[bytes, set[bytes]]:
        """By space: of whom a device is first in one below it, and not gone there."""
        found = defaultdict[bytes, set[bytes]](set)
        for space, firsts in self.first.items():
            gone = self.gone.get(space, {})
            known = {person for person, devices in firsts.items() if not set(devices).issubset(gone.get(person, ()))}
            for above in lineage(space)[1:] if known else ():
                found[above] |= known
        return found

    def is_due(self, now_ms: Callable[[], int]) -> bool:
        """Whether folds are to go by something else by now, though nothing was noted."""
        return self._due_ms is not None and now_ms() >= self._due_ms

    def _heard_on(self, space: bytes, now_ms: int) -> dict[bytes, frozenset[Device]]:
        """Whom this device heard in a class before whoever is first there came: for a week after that, it still does.

        That one it knew from elsewhere (`first_met`); where nobody is first yet, they may come any moment.
        """
        found = {}
        for person in self.heard.get(space, {}):
            earlier, came_ms = self._before_the_first(space, person)
            before = earlier.difference(self.gone.get(space, {}).get(person, ()))
            if before and came_ms is not None:
                until_ms = came_ms + ACQUAINTANCE_MS
                if now_ms >= until_ms:
                    continue
                self._due_ms = until_ms if self._due_ms is None else min(until_ms, self._due_ms)
            if before:
                found[person] = before
        return found

    def _before_the_first(self, space: bytes, person: bytes) -> tuple[frozenset[Device], int | None]:
        """Whom this device heard in a class before whoever is first there came, if anybody is; and when that was."""
        firsts = self.firsts_ms(space, person)
        came_ms = min(firsts.values(), default=None)
        heard = self.heard.get(space, {}).get(person, {}).items()
        earlier = (each for each, heard_ms in heard if came_ms is None or heard_ms < came_ms)
        return frozenset(earlier).difference(firsts), came_ms

    def places_taken(self, space: bytes, person: bytes, sure: Container[Device]) -> list[int]:
        """When it heard those in a class that came since whoever is first there, or all while nobody is, but for some.

        `sure` are those that have a place in any case.
        """
        earlier, came_ms = self._before_the_first(space, person)
        heard = self.heard.get(space, {}).get(person, {}).items()
        is_since = [(each, heard_ms) for each, heard_ms in heard if came_ms is None or each not in earlier]
        return [heard_ms for each, heard_ms in is_since if each not in sure]

    def orders(self) -> Orders:
        """In which orders people's devices come, for who looks at one class after the other."""
        return Orders(self, self._met_in_spaces())

    def _spaces(self) -> Sequence[bytes]:
        return sorted({*self.first, *self.heard})

    def persons_in(self, space: bytes) -> set[bytes]:
        """Whom this device has met in a class."""
        return {*self.first.get(space, {}), *self.heard.get(space, {})}

    def _met_in_spaces(self) -> dict[bytes, list[bytes]]:
        """In which classes this device has met each person."""
        found = defaultdict[bytes, list[bytes]](list)
        for space in self._spaces():
            for person in self.persons_in(space):
                found[person].append(space)
        return found

    def order_of(self, person: bytes, spaces: Iterable[bytes]) -> MetOrder:
        """In which order those come that it knows in some classes as a person's."""
        order = MetOrder()
        for space in spaces:
            order.note(space, self.met_as(space, person))
        return order

    def met_as(self, space: bytes, person: bytes) -> Met:
        """What a class says of that."""
        led = self.led.get(space, {}).get(person, ())
        return Met(self._placed_in(space, person), self.came_first(space, person) if led else (), led)

    def came_first(self, space: bytes, person: bytes) -> tuple[Device, ...]:
        """Of the devices that are first in a class as a person's those that it met there before the others."""
        _, came_ms = self._before_the_first(space, person)
        return tuple(each for each, met_ms in self.firsts_ms(space, person).items() if met_ms == came_ms)

    def _placed_in(self, space: bytes, person: bytes) -> dict[Device, int]:
        """In which order those come that it knows in a class as a person's: who is gone there, or doubted, is later."""
        gone = self.gone.get(space, {}).get(person, ())
        doubted, _ = self._before_the_first(space, person)
        doubted = doubted.difference(self.led.get(space, {}).get(person, ()))
        return {
            each: met_ms + (GONE if each in gone else 0) + (DOUBTED if each in doubted else 0)
            for each, met_ms in self._met_in(space, person).items()
            if met_ms != UNMET
        }

    def _met_in(self, space: bytes, person: bytes) -> dict[Device, int]:
        """Since when it has known each in a class as a person's, gone there or not; where none is noted, `UNMET`."""
        found = self.firsts_ms(space, person)
        _keep_earliest(found, self.heard.get(space, {}).get(person, {}))
        return found

    def firsts_ms(self, space: bytes, person: bytes) -> dict[Device, int]:
        """Since when it has known each that is first in a class as a person's; where none is noted, `UNMET`.

        As that one's: a device that was met there as somebody else's was nobody of hers then.
        """
        met, heard = self.met.get(space, {}), self.heard.get(space, {}).get(person, {})
        known = {each: met.get(device_id(each), UNMET) for each in self.first.get(space, {}).get(person, ())}
        return {each: max(met_ms, heard.get(each, 0)) if met_ms else 0 for each, met_ms in known.items()}


def _keep_earliest(found: dict[Device, int], placed: Mapping[Device, int]) -> None:
    for device, at in placed.items():
        found[device] = min(at, found.get(device, at))


class Orders:
    """Of all persons, made once. Whoever notes something of a class meanwhile says so (`noted`)."""

    def __init__(self, acquainted: Acquainted, met_in: Mapping[bytes, Sequence[bytes]]) -> None:
        """`met_in` are the classes in which each person was met."""
        self._acquainted = acquainted
        self._met_in = met_in
        self._fresh = defaultdict[bytes, dict[bytes, None]](dict)
        self._orders: dict[bytes, MetOrder] = {}

    def placed(self, person: bytes, *, but: bytes) -> dict[Device, int]:
        """In which order the devices come that are known as a person's, as of all classes but one: as folds have it."""
        order = self._orders.get(person)
        if order is None:
            spaces = dict.fromkeys((*self._met_in.get(person, ()), *self._fresh[person]))
            order = self._orders[person] = self._acquainted.order_of(person, spaces)
        return order.but(but)[0]

    def noted(self, space: bytes) -> None:
        """Something was noted of a class, or is about to be believed of it."""
        for person in self._acquainted.persons_in(space):
            self._fresh[person][space] = None
            if (order := self._orders.get(person)) is not None:
                order.note(space, self._acquainted.met_as(space, person))


@dataclass(frozen=True, slots=True)
class InMind:
    """What folds go by, as it stands whenever one is asked for (`Memory`): some of it ends as time is watched."""

    acquainted: Acquainted
    now_ms: Callable[[], int]
    again: Callable[[], None]
    """Bears in mind what is so by now, and lets all know that folds say something else."""

    async def of(self, space: bytes) -> Remembered:
        """What this device remembers in a space."""
        if self.acquainted.is_due(self.now_ms):
            self.again()
        return self.acquainted.in_mind.of(space)
