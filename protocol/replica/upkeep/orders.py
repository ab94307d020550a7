"""What a replica is to destroy, from the erasures that it holds (docs/protocol.md, "Erasure").

Which of it is due the rules say (`protocol.folds.erasing`). Rules:
- an erasure counts while the fold of the space in which it lies does not hold it back, and no ruling takes it back;
- what was destroyed goes again whenever it comes, whoever takes the erasure back, until the root does;
- while its author is cut off there, it hides and destroys nothing: somebody else must say it too, and theirs waits;
- its week is the time for which it holds, in no doubt, without a break (`at_work.weeks`): what was taken back and is
  meant again waits;
- it reaches its space and all below: one in the territory's reaches every class;
- what has gone in one space goes again there, whoever takes the erasure back, in whatever others it had not gone yet
  (docs/adr/0468);
- when an erasure was first seen, and what was destroyed for which, are marks of this replica, and no part of any set;
- a mark of an earlier version, which does not say for which, spares a name its place in the day's count, and nothing
  else: not where an erasure of the name has been let go of, and not its week.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, Self

from protocol.errors import PeerFault
from protocol.folds.erasing import Order, Place, has_waited, is_covered
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import ID_BYTES, Entry, Kind
from protocol.model.structure import Erasure
from protocol.replica.at_work.destroyed import Done, Taken, destroyed, obeyed_alone, places_taken
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import by_space
from protocol.replica.lain_since import LainSince
from protocol.replica.office.erasures import in_force, is_in_doubt
from protocol.rights.door import Door
from protocol.rights.roster import Roster

DOUBTED: Final = LainSince("erasure-doubted", ID_BYTES)
"""Since when a server knows that who had said an erasure was cut off since; an agent notes none (docs/adr/0453)."""


class Judged(NamedTuple):
    """What the fold of a space says of the erasures in it: whether they hold hangs on nothing else."""

    held_back: frozenset[bytes]
    undone: frozenset[bytes]
    carried_out: frozenset[bytes]
    lasting: frozenset[bytes]
    cut: frozenset[bytes]


class Said(NamedTuple):
    """The erasures that hold here, with what they cover, in order of arrival; which are in doubt; and the others.

    `judged` is what their spaces said of them at first. Those are `lasting` that hold where they were obeyed.
    """

    holding: list[tuple[Entry, bytes]]
    doubtful: set[bytes]
    ended: dict[bytes, bytes]
    judged: dict[bytes, Judged]
    lasting: dict[bytes, bytes]
    """→ the space in which each lies."""

    @property
    def sure(self) -> list[Entry]:
        """Those that hold, and are in no doubt."""
        return [entry for entry, _ in self.holding if entry.id not in self.doubtful]

    def judged_of(self, names: Collection[bytes]) -> dict[bytes, Judged]:
        """What the spaces said in which erasures of these names hold."""
        spaces = {entry.header.space for entry, covers in self.holding if covers in names}
        spaces |= {self.lasting[one] for one, covers in self.ended.items() if covers in names and one in self.lasting}
        return {space: self.judged[space] for space in spaces}


async def said_in(replica: Replica, of: Collection[bytes] | None = None) -> Said:
    """The erasures of all names, or `of` these.

    Those hold that no fold holds back and nobody has taken back, and what was obeyed here, until the root lets go. Each
    space is looked at once: of more than folds are kept of, erasures may have been said by turns.
    """
    found: list[tuple[int, Entry, bytes]] = []
    doubtful: set[bytes] = set()
    ended: dict[bytes, bytes] = {}
    judged: dict[bytes, Judged] = {}
    lasting: dict[bytes, bytes] = {}
    alone = await obeyed_alone(replica.store)
    arrived = enumerate(await replica.store.scan_kinds([Kind.ERASE]))
    for arrival, entry in by_space(arrived, lambda each: each[1].header.space):
        try:
            covers = Erasure.parse(entry.payload or b"").covers
        except PeerFault:
            continue
        if of is not None and covers not in of:
            continue
        roster = (await replica.view(entry.header.space)).roster
        judged.setdefault(entry.header.space, _judged(roster))
        counts = entry.id not in roster.held_back and entry.id not in roster.undone
        if entry.id in roster.lasting:
            lasting[entry.id] = entry.header.space
        if counts or entry.id in roster.carried_out - alone:
            found.append((arrival, entry, covers))
            if await is_in_doubt(replica, entry):
                doubtful.add(entry.id)
        else:
            ended[entry.id] = covers
    found.sort(key=lambda each: each[0])
    return Said([(entry, covers) for _, entry, covers in found], doubtful, ended, judged, lasting)


async def judge_alike(replica: Replica, before: Mapping[bytes, Judged]) -> bool:
    """Whether these spaces say of the erasures in them what they said before."""
    for space, judged in before.items():
        if _judged((await replica.view(space)).roster) != judged:
            return False
    return True


def _judged(roster: Roster) -> Judged:
    return Judged(roster.held_back, roster.undone, roster.carried_out, roster.lasting, roster.cut)


def orders_of(
    replica: Replica, said: Said, seen: Mapping[bytes, int], done: Mapping[bytes, Done], now_ms: int
) -> list[Order]:
    """What is to be destroyed: each name once in each space that holds an erasure of it.

    Those in no doubt have been `seen` to hold since then; `done` is what was destroyed before.
    """
    record_of = _that_hold(done, said.ended)
    by_name: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry, covers in said.holding:
        by_name[covers].append(entry)
    orders: list[Order] = []
    for covers, erasures in by_name.items():
        for space in {entry.header.space for entry in erasures}:
            reaching = _reaching(replica, erasures, space)
            sure = [entry for entry in reaching if entry.id not in said.doubtful]
            signed = [entry for entry in sure if entry.header.grant is None]
            order = Order(
                covers,
                seen_ms=min((seen[entry.id] for entry in sure), default=None),
                kit_seen_ms=min((seen[entry.id] for entry in signed), default=None),
                space=space,
                reached_by=frozenset(entry.id for entry in reaching),
            )
            heard = sure if order.of_person else signed
            waited = (one for one in heard if one.header.space == space and has_waited(seen[one.id], now_ms))
            orders.append(replace(order, by=frozenset(one.id for one in waited)))
    return [replace(order, is_done=_is_done(order, record_of.get(order.covers), now_ms)) for order in orders]


def orders_again(said: Said, places: Mapping[Place, Taken]) -> list[Order]:
    """What goes again where all has gone, in each of these `places` alone, whether its erasure counts or not."""
    return [
        Order(place.name, None, space=said.lasting[one], reached_by=frozenset([one]), is_done=True, at=place.space)
        for place, taken in places.items()
        for one in sorted(taken.by & said.lasting.keys())
    ]


async def ends_of(replica: Replica, now_ms: int) -> dict[bytes, int | None]:
    """Until when each erasure in force can be taken back here, in ms; None of one in doubt, which destroys nothing.

    Where none has been noted yet, its week begins now.
    """
    noted = await replica.weeks.noted()
    return {
        entry.id: None if await is_in_doubt(replica, entry) else noted.get(entry.id, now_ms) + ERASURE_DELAY_MS
        for entry, _ in await in_force(replica)
    }


def noting(
    done: Mapping[bytes, Done], obeyed: Iterable[Order], now_ms: int, today: int, ended: Mapping[bytes, bytes]
) -> dict[bytes, Done | None]:
    """What to note of names that were destroyed `today` or before; None of one of which no obeyed erasure holds."""
    by: defaultdict[bytes, frozenset[bytes]] = defaultdict(frozenset)
    counted = set()
    for order in obeyed:
        by[order.covers] |= order.by
        if order.is_counted(now_ms):
            counted.add(order.covers)
    found: dict[bytes, Done | None] = {}
    for name in {*done, *by}:
        before = done.get(name, Done(0, frozenset()))
        ids = by[name] | ((before.by or frozenset()) - ended.keys())
        record = Done(today if name in counted else before.day, ids) if ids else None
        if record != done.get(name):
            found[name] = record
    return found


class DestroyedHere:
    """Whom and what a replica has destroyed, by the spaces in which it did. Made by `of`."""

    def __init__(self, names: Mapping[bytes, set[bytes]], alone: Mapping[bytes, set[bytes]], door: Door) -> None:
        """Whose `names` are destroyed in a space and below it, and whose in it `alone`."""
        self._names = names
        self._alone = alone
        self._door = door

    @classmethod
    async def of(cls, replica: Replica) -> Self:
        """As things stand."""
        done, places = await destroyed(replica.store), await places_taken(replica.store)
        if not done and not places:
            return cls({}, {}, replica.door)
        said = await said_in(replica)
        alone: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for order in orders_again(said, places):
            alone[order.at].add(order.covers)
        return cls(_destroyed_in(said, done), alone, replica.door)

    @property
    def names(self) -> set[bytes]:
        """All of them, wherever that was."""
        return {name for names in (*self._names.values(), *self._alone.values()) for name in names}

    def at(self, space: bytes) -> set[bytes]:
        """The names that were destroyed in a space, or above it."""
        line = self._door.lineage(space) if self._names else ()
        return {name for member in line for name in self._names.get(member, ())} | self._alone.get(space, set())

    def covers(self, entry: Entry) -> bool:
        """Whether an entry went with them: one that came as a header alone did not (docs/adr/0267)."""
        return bool(self._names or self._alone) and is_covered(entry, self.at(entry.header.space))


def _destroyed_in(said: Said, done: Mapping[bytes, Done]) -> dict[bytes, set[bytes]]:
    """Whom and what this replica has destroyed and would again, by the spaces in which (and below which) it does.

    What the root has let go of since is not among it.
    """
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for entry, covers in said.holding:
        record = done.get(covers)
        if record is not None and record.by is not None and entry.id in record.by:
            found[entry.header.space].add(covers)
    return found


def _reaching(replica: Replica, erasures: Iterable[Entry], space: bytes) -> list[Entry]:
    """Those that lie in a space or above it."""
    line = replica.door.lineage(space)
    return [entry for entry in erasures if entry.header.space in line]


def _is_done(order: Order, record: Done | None, now_ms: int) -> bool:
    """Whether an order was obeyed before. Of what an earlier version destroyed, whatever may be obeyed by now."""
    if record is None:
        return False
    return order.is_ready(now_ms) if record.by is None else not record.by.isdisjoint(order.reached_by)


def _that_hold(done: Mapping[bytes, Done], ended: Mapping[bytes, bytes]) -> dict[bytes, Done]:
    """Without the marks of earlier versions of whom somebody has brought back: which erasure was obeyed, nobody knows.

    `ended` are the erasures that do not hold → what they cover.
    """
    let_go = set(ended.values())
    return {name: record for name, record in done.items() if record.by is not None or name not in let_go}
