"""Which devices were cut off for their own sake, whatever lists and grants say since (docs/adr/0175).

Rules:
- a revocation goes with somebody who leaves where its author took that person off the same list with it; else it is
  about the device, lost perhaps. No list that others write makes it the one or the other, nor, of what a server has
  noted as its own, a word that it has not (docs/adr/0498);
- what this very machine has said counts, whoever holds it back here; so does what any device that runs a school has
  said, while a word below the root's holds that back: a server would take any report back so (docs/adr/0177). But for
  a server, where a word that it has noted as its own holds it back: others say the like with its key (docs/adr/0498).
  So does what a right outranks that came after it: whoever has a server's key gives one (docs/adr/0503);
- a revocation stands until a grant that names it lets the device itself back in, and is this machine's, the root's, or
  of whoever wrote the revocation, and of no lower rank, but for what is in doubt. The server's computers are one. The
  server itself, which asks nobody, takes any.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from protocol.errors import PeerFault
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord, Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office, is_ours, is_own
from protocol.replica.office.held_without import held_surely
from protocol.replica.office.said_here import (
    is_said_here,
    is_surely_ours,
    leaves_said_here,
    noted_backs,
    noted_cuts,
)
from protocol.rights.door import Authority
from protocol.rights.reachability import bits_led_to
from protocol.rights.roster import Roster
from protocol.roles import RANK, Role

_SERVER = RANK[Role.SERVER]
_Write: TypeAlias = tuple[bytes, bytes, int, bool]
"""What is written at once in one space: by whom, where, in which millisecond; whether a server has said it itself."""


class DeviceCut(NamedTuple):
    """A revocation that stands; `is_ours` where this machine or the root wrote it.

    It is `in_doubt` where it is held back, and not by the root: it may have been a thief's, or a thief may hold it
    back. `by_server` is what a server said. `said_ms` is by its author's clock.
    """

    key: bytes
    space: bytes
    entry: bytes
    is_ours: bool
    in_doubt: bool
    by_server: bool
    said_ms: int


class TakenBack(NamedTuple):
    """A report (ms) that others' word took back; `by_rank`, that the device has a right by now that no report takes.

    `let_into` are classes of the school into which it was let since, where the report itself stands; the school, where
    it was let in above.
    """

    said_ms: int
    by_rank: bool
    let_into: tuple[bytes, ...] = ()


async def standing_cuts(office: Office, keys: Collection[bytes], persons: Collection[bytes]) -> list[DeviceCut]:
    """By what of these devices each is cut off for its own sake, and not since one of these people left."""
    orders = await _orders(office, keys)
    said_here = await _said_here(office, [order for order, _, _ in orders])
    left = await _leavings(office, persons, said_here=bool(said_here)) if orders else {}
    by_key: defaultdict[bytes, list[tuple[Entry, bool]]] = defaultdict(list)
    for order, key, in_doubt in orders:
        by_key[key].append((order, in_doubt))
    lifted = {name for key, against in by_key.items() for name in await _lifted(office, key, against)}
    found, parted = [], set[tuple[_Write, bytes]]()
    for order, key, in_doubt in orders:
        write = _write_of(order, said_here=order.id in said_here)
        # of what is said of one device in a millisecond, on a clock that stands, the first alone goes with a person
        goes_with_person = order.header.at > left.get(write, order.header.at) and (write, key) not in parted
        parted.add((write, key))
        if not goes_with_person and order.id not in lifted:
            by_server = office.replica.door.rank_of(order.header) == _SERVER
            own, space = is_ours(office, order), order.header.space
            found.append(DeviceCut(key, space, order.id, own, in_doubt, by_server, order.timestamp_ms))
    return found


async def reports_taken_back(office: Office) -> dict[bytes, TakenBack]:
    """Which devices were cut off for their own sake, and when last, and may be in again by others' word.

    By what is in doubt; where a grant that is neither this machine's nor the root's lets them back in; where a right
    that came here later is not below who had reported them (docs/adr/0199); or by a later right in another class of the
    school (docs/adr/0216). What a server cut off, servers may let in; and a server asks nobody.
    """
    replica = office.replica
    if office.rank >= _SERVER:
        return {}
    said = await replica.store.scan_kinds([Kind.REVOKE])
    rosters = {space: (await replica.view(space)).roster for space in replica.door.spaces()}
    outranked = await _outranked(office, rosters, said)
    school = set(replica.door.below(office.home))
    names = {*outranked, *(name for each in rosters.values() for name in (*each.doubtful, *_overcome(each)))}
    elsewhere = _let_in_elsewhere(office, rosters, said, await _order_of_arrival(replica))
    orders = {entry.id: entry for entry in said if entry.id in names or entry.id in elsewhere}
    keys = {key for entry in orders.values() if (key := key_cut_off(entry)) is not None}
    persons = {each.person for key in keys for each in replica.door.authorities_of(key) if each.person is not None}
    found: dict[bytes, TakenBack] = {}
    counting: dict[bytes, TakenBack] = {}
    for cut in await standing_cuts(office, keys, persons) if keys else ():
        if cut.entry not in orders or cut.by_server:
            continue
        told = found if cut.entry in names else counting
        before = told.get(cut.key, TakenBack(0, by_rank=False))
        held = elsewhere.get(cut.entry, ()) if told is counting else ()
        by_rank = cut.entry in outranked or any(each.rank >= office.rank for each in held)
        let_into = (each.space if each.space in school else office.home for each in held)
        spaces = dict.fromkeys((*before.let_into, *let_into))
        told[cut.key] = TakenBack(max(cut.said_ms, before.said_ms), before.by_rank or by_rank, tuple(spaces))
    return counting | found


async def _outranked(office: Office, rosters: Mapping[bytes, Roster], said: Iterable[Entry]) -> set[bytes]:
    """The revocations that count for nothing since their key has a right that is not below their author's.

    But for those that never counted here: of a device that had the right before. That a stolen head's laptop says of
    another head's is no report.
    """
    silent = [
        (order, key) for order in said if (key := key_cut_off(order)) is not None and _says_nothing(rosters, order)
    ]
    rights = {space: _by_key(rosters[space].authorities) for space in {order.header.space for order, _ in silent}}
    came, rank_of = await _order_of_arrival(office.replica) if silent else {}, office.replica.door.rank_of
    found = set()
    for order, key in silent:
        above = [each for each in rights[order.header.space][key] if each.rank >= rank_of(order.header)]
        if above and not any(_came_before(each.grant, order.id, came) for each in above):
            found.add(order.id)
    return found


def _says_nothing(rosters: Mapping[bytes, Roster], order: Entry) -> bool:
    """Whether a revocation is neither in force nor held back: of a device that has a right not below its author's."""
    roster = rosters.get(order.header.space)
    return roster is not None and order.id not in roster.held_back and order.id not in roster.revocations


def _by_key(rights: Iterable[Authority]) -> defaultdict[bytes, list[Authority]]:
    found: defaultdict[bytes, list[Authority]] = defaultdict(list)
    for each in rights:
        found[each.key].append(each)
    return found


async def _order_of_arrival(replica: Replica) -> dict[bytes, int]:
    """In which place each right, and each revocation, came here."""
    said = await replica.store.scan_kinds([Kind.REVOKE, Kind.GRANT, Kind.SUCCESSOR])
    return {entry.id: place for place, entry in enumerate(said)}


def _let_in_elsewhere(
    office: Office, rosters: Mapping[bytes, Roster], said: Sequence[Entry], came: Mapping[bytes, int]
) -> dict[bytes, list[Authority]]:
    """The rights by which each device that was reported in the school reads a space of it since, by report.

    In a space in which it has no other: none that was here before the report, and none that this machine gave it, the
    root, or whoever reported it.
    """
    school = dict.fromkeys(office.replica.door.below(office.home))
    reports = [
        (order, key) for order in said if order.header.space in school and (key := key_cut_off(order)) is not None
    ]
    reported = {key for _, key in reports}
    reading: defaultdict[bytes, dict[bytes, list[Authority]]] = defaultdict(dict)
    for space in school:
        for each in rosters[space].authorities:
            if each.key in reported and each.key not in rosters[space].cut:
                reading[each.key].setdefault(space, []).append(each)
    found = {}
    for order, key in reports:
        agreed = {office.own_device[0], order.header.author}
        rights = [
            held[0]
            for held in reading[key].values()
            if not any(
                each.under is None or each.author in agreed or _came_before(each.grant, order.id, came) for each in held
            )
        ]
        if rights:
            found[order.id] = rights
    return found


def _came_before(grant: bytes, order: bytes, came: Mapping[bytes, int]) -> bool:
    """Whether a right was here when an order about its key came; no order takes what a certificate gives."""
    return came.get(grant, -1) < came[order]


def _overcome(roster: Roster) -> Iterable[bytes]:
    """The revocations in force of devices that read the space all the same."""
    return (name for name, key in roster.revocations.items() if roster.may_read(key))


async def _orders(office: Office, keys: Collection[bytes]) -> list[tuple[Entry, bytes, bool]]:
    """The revocations of these keys that are in force, this machine's, those in doubt, and those outranked since.

    The earliest first.
    """
    said = [
        (entry, key)
        for entry in await office.replica.store.scan_kinds([Kind.REVOKE])
        if (key := key_cut_off(entry)) is not None and key in keys
    ]
    rosters = {entry.header.space: (await office.replica.view(entry.header.space)).roster for entry, _ in said}
    in_doubt = await _in_doubt(office, [entry for entry, _ in said], rosters)
    outranked = await _outranked(office, rosters, [entry for entry, _ in said])
    found = [
        (entry, key, entry.id in in_doubt)
        for entry, key in said
        if is_own(office, entry)
        or entry.id in in_doubt
        or entry.id in rosters[entry.header.space].revocations
        or entry.id in outranked
    ]
    return sorted(found, key=lambda each: (each[0].header.at, each[0].id))


def key_cut_off(order: Entry) -> bytes | None:
    """Which device a revocation cuts off; None for one that ends a grant, or says nothing."""
    is_one = order.header.kind == Kind.REVOKE and order.header.target is None
    said = parsed(order, Revocation.parse) if is_one else None
    return None if said is None else said.key


def orders_by_key(said: Iterable[Entry]) -> dict[bytes, list[Entry]]:
    """The revocations that cut off a device, not one grant of it, by its key; in their order."""
    found: dict[bytes, list[Entry]] = {}
    for entry in said:
        if (key := key_cut_off(entry)) is not None:
            found.setdefault(key, []).append(entry)
    return found


async def _in_doubt(office: Office, orders: Iterable[Entry], rosters: Mapping[bytes, Roster]) -> set[bytes]:
    """Which of these are held back, and not by the root; nor, at a server, by what it has said itself."""
    doubtful = [order for order in orders if order.id in rosters[order.header.space].doubtful]
    held = await held_surely(office, {each.header.space for each in doubtful}) if office.rank >= _SERVER else {}
    return {each.id for each in doubtful if each.id not in held.get(each.header.space, ())}


async def _said_here(office: Office, orders: Collection[Entry]) -> set[bytes]:
    """Those of these revocations that a server has noted as its own, or that a root has said; elsewhere none."""
    noted = await noted_cuts(office.replica.store) if orders and office.rank >= _SERVER else None
    return set() if noted is None else {order.id for order in orders if is_said_here(order, noted)}


async def _leavings(office: Office, persons: Collection[bytes], *, said_here: bool) -> dict[_Write, int]:
    """Where each author took one of these people off a list, and when first of what was written at once.

    Those words that are `said_here`, at a server, once more as that.
    """
    is_said = await leaves_said_here(office) if said_here else lambda _: False
    found: dict[_Write, int] = {}
    for entry in await office.replica.store.scan_kinds([Kind.PERSON]) if persons else ():
        if entry.header.subject in persons and _says_left(entry):
            for surely in (False, True) if is_said(entry) else (False,):
                write = _write_of(entry, said_here=surely)
                found[write] = min(entry.header.at, found.get(write, entry.header.at))
    return found


async def cut_off_here(office: Office) -> Callable[[Authority], bool]:
    """Whether what a server has noted, or the root's word, cuts a device off where a grant of it lies, and stands.

    It looks at no space: what is remembered of people's devices asks this, of which views are made.
    """
    return _where_out(office, await _standing_here(office))


async def back_by_others(office: Office) -> Callable[[Authority], bool]:
    """Whether a grant lets a device in since such words had cut it off wherever one had by then, and they do not there.

    By the order in which both came here: dates are chosen by who writes. Where no such word stands, no grant is read.
    """
    standing = await _standing_here(office)
    if not standing:
        return lambda _: False
    came, is_out = await _order_of_arrival(office.replica), _where_out(office, standing)
    last = {key: max(came[order.id] for order in orders) for key, orders in standing.items()}
    gone = {
        key
        for key in last
        if all(is_out(each) for each in office.replica.door.authorities_of(key) if came.get(each.grant, -1) < last[key])
    }
    return lambda given: given.key in gone and not is_out(given)


async def cuts_said_here(office: Office) -> list[Entry]:
    """The revocations that this server has noted as its own, or that a root has said: no copy of its key says these."""
    noted = await noted_cuts(office.replica.store)
    said = await office.replica.store.scan_kinds([Kind.REVOKE])
    return [one for one in said if is_said_here(one, noted)]


async def _standing_here(office: Office) -> dict[bytes, list[Entry]]:
    """Those of them that no such word has taken back; by device."""
    store, ours = office.replica.store, await cuts_said_here(office)
    backs = await store.get(sorted(await noted_backs(store))) if ours else {}
    taken_back = {name for back in backs.values() for name in back.header.parents}
    return orders_by_key(one for one in ours if one.header.grant is None or one.id not in taken_back)


def _where_out(office: Office, standing: Mapping[bytes, Iterable[Entry]]) -> Callable[[Authority], bool]:
    door, out = office.replica.door, {key: {one.header.space for one in said} for key, said in standing.items()}
    return lambda given: given.key in out and not out[given.key].isdisjoint(door.lineage(given.space))


async def _lifted(office: Office, key: bytes, orders: Sequence[tuple[Entry, bool]]) -> set[bytes]:
    """Which of a device's revocations a grant of it takes back that names them, itself or through earlier ones.

    Of each revocation it is said whether it is in doubt.
    """
    store, door = office.replica.store, office.replica.door
    grants = await store.get([authority.grant for authority in door.authorities_of(key)])
    named_by: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for grant in grants.values():
        for name in grant.header.parents:
            named_by[name].append(grant.id)
    liftable = _Liftable(office, orders, await noted_cuts(store) | await noted_backs(store) if named_by else ())
    lifts = {grant.id: liftable.by(grant) for grant in grants.values() if await _counts(office, grant)}
    led = bits_led_to([order.id for order, _ in orders], lambda name: named_by[name], lambda name: lifts.get(name, 0))
    return {order.id for order, in_doubt in orders if led[order.id] & liftable.bit_of(order, in_doubt=in_doubt)}


async def _counts(office: Office, grant: Entry) -> bool:
    if is_own(office, grant):
        return True
    return grant.id not in (await office.replica.view(grant.header.space)).roster.held_back


class _Liftable:
    """Which of some revocations each grant may take back: a bit for all alike that one author has said of one rank.

    What is in doubt this machine may take back, whatever the rank of who said it. A server's own are those `noted`.
    """

    def __init__(self, office: Office, orders: Iterable[tuple[Entry, bool]], noted: Container[bytes]) -> None:
        self._office = office
        self._noted = noted
        self._bits: dict[tuple[bytes, int, bool, bool], int] = {}
        self._all: list[tuple[int, int]] = []
        self._by_others: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
        self._by_servers = 0
        self._in_doubt = 0
        for order, in_doubt in orders:
            author, rank, own = self._said_by(order)
            if (author, rank, own, in_doubt) in self._bits:
                continue
            bit = self._bits[author, rank, own, in_doubt] = 1 << len(self._bits)
            self._all.append((rank, bit))
            self._in_doubt |= bit if in_doubt else 0
            if not own:
                self._by_others[author].append((rank, bit))
                self._by_servers |= bit if rank == _SERVER else 0

    def bit_of(self, order: Entry, *, in_doubt: bool) -> int:
        """The bit of what is like this revocation."""
        return self._bits[*self._said_by(order), in_doubt]

    def by(self, grant: Entry) -> int:
        """The bits of what a grant may take back."""
        author, rank, own = self._said_by(grant)
        if own:
            bits, said = self._in_doubt, self._all
        else:
            bits, said = self._by_servers if rank == _SERVER else 0, self._by_others.get(author, [])
        for of, some in said:
            bits |= some if of <= rank else 0
        return bits

    def _said_by(self, entry: Entry) -> tuple[bytes, int, bool]:
        """By whom, of what rank, and whether that is this machine's own word, or the root's."""
        own = is_surely_ours(self._office, entry, self._noted)
        return entry.header.author, self._office.replica.door.rank_of(entry.header), own


def _write_of(entry: Entry, *, said_here: bool) -> _Write:
    return entry.header.author, entry.header.space, entry.timestamp_ms, said_here


def _says_left(entry: Entry) -> bool:
    try:
        record = PersonRecord.parse(entry.payload or b"")
    except PeerFault:
        return False
    return record.leaves
