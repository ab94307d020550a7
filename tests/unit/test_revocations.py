"""What revocations hold back: the same as when each is weighed by itself, and for all of them one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.limits import MAX_PAYLOAD_BYTES, MAX_REVOCATION_LISTS, MAX_REVOKED_ABSENT, MAX_REVOKED_HEADS
from protocol.model.ancestry import ancestors
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation, Successor
from protocol.replica.office.heads import MOST_LISTED_HEADS, cut_by_root, lists_of
from protocol.rights.door import Authority, Door, Outcome
from protocol.rights.revocations import ABOVE_ROOTS, Cuts, cuts_of
from protocol.rights.root_rotation import accounted
from protocol.rights.roster import Roster, authorities_over
from protocol.rights.successions import confirmed_keys, voided
from protocol.roles import Role
from tests.harness.entries import SOME_RECEIPT
from tests.harness.history import World, Writer
from tests.harness.work import assert_grows_as_its_entries, counted_work
from tests.unit.test_arrival_order import folds
from tests.unit.test_rights import opened


class _Trouble:
    """A class in which devices are cut off again and again, come back, and go on with other keys."""

    def __init__(self, seed: int) -> None:
        self.world = world = World(Random(seed))
        self.random = world.random
        self.room = world.classes[0]
        admin, head = world.enrol(Role.ADMIN, world.school), world.enrol(Role.HEAD, world.school)
        roles = [Role.ADMIN, Role.HEAD, Role.TEACHER, Role.MACHINE, Role.MACHINE]
        self.devices = [admin, head, *(world.enrol(role, self.room) for role in roles)]
        self.acts = [
            self.write,
            self.write,
            self.write,
            self.cut,
            self.cut,
            self.let_back,
            self.copy,
            self.let_in,
            self.end,
        ]

    def live(self, steps: int) -> World:
        for _ in range(steps):
            self.random.choice(self.acts)()
        return self.world

    def write(self) -> None:
        device = self.random.choice(self.devices)
        for _ in range(self.random.randrange(1, 5)):
            forgets = self.random.random() < 0.3
            self.world.say(device, self.room, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32), fork=forgets)

    def cut(self) -> None:
        who = self.random.choice(self._mighty())
        whom = self.random.choice(self.devices[1:]).key.public
        said = [one.id for one in self.world.entries if one.header.author == whom]
        heads = tuple(self.random.sample(said, min(len(said), self.random.choice([0, 1, 1, 2, 4]))))
        cut = Revocation(whom, heads, absent=self._some(said))
        self.world.say(who, self._place(who), Kind.REVOKE, cut.encode())

    def end(self) -> None:
        who, ended = self.random.choice(self._mighty()), self.random.choice(self._said(Kind.GRANT))
        key = Grant.parse(ended.payload or b"").signing
        said = [one.id for one in self.world.entries if one.header.author == key]
        heads = tuple(self.random.sample(said, min(len(said), self.random.choice([0, 1, 2]))))
        cut = Revocation(key, heads, absent=self._some(said))
        self.world.say(who, self._place(who), Kind.REVOKE, cut.encode(), target=ended.id)

    def _some(self, said: Sequence[bytes]) -> tuple[bytes, ...]:
        return tuple(self.random.sample(said, min(len(said), self.random.choice([0, 0, 1, 2]))))

    def let_back(self) -> None:
        who, whom = self.random.choice(self._mighty()), self.random.choice(self.devices)
        key = whom.key.public
        cuts = [one.id for one in self._said(Kind.REVOKE) if Revocation.parse(one.payload or b"").key == key]
        before = [one.id for one in self._said(Kind.GRANT) if Grant.parse(one.payload or b"").signing == key]
        named = self.random.sample([*cuts, *before], min(len(cuts) + len(before), self.random.randrange(1, 9)))
        self._grant(who, whom, tuple(named))

    def let_in(self) -> None:
        self._grant(self.random.choice(self._mighty()), self.random.choice(self.devices), ())

    def copy(self) -> None:
        first = self.random.choice(self.devices)
        key = self.world.new_key()
        said = Successor.agreed(key, self.random.randbytes(32), None, self.room, first.key.public).encode()
        entry = self.world.say(first, self.room, Kind.SUCCESSOR, said)
        self.devices.append(Writer(key, Role.MACHINE, self.room, entry.id))

    def _grant(self, who: Writer, whom: Writer, named: tuple[bytes, ...]) -> None:
        may = {Role.SERVER: [Role.ADMIN], Role.ADMIN: [Role.HEAD], Role.HEAD: []}[who.role]
        role = self.random.choice([*may, Role.TEACHER, Role.MACHINE])
        given = Grant(whom.key.public, self.random.randbytes(32), None, role, None, None)
        entry = self.world.say(who, self._place(who), Kind.GRANT, given.encode(), parents=named)
        if self.random.random() < 0.7:
            whom.grant = entry.id
            whom.role = role

    def _mighty(self) -> list[Writer]:
        able = (Role.ADMIN, Role.HEAD)
        return [self.world.server, *(one for one in self.devices if one.role in able)]

    def _place(self, who: Writer) -> bytes:
        return self.room if who.space == self.room else self.random.choice([self.room, self.world.school])

    def _said(self, kind: Kind) -> list[Entry]:
        return [one for one in self.world.entries if one.header.kind == kind]


def weighed_one_by_one(entries: Sequence[Entry], authorities: Sequence[Authority], door: Door) -> Cuts:
    """What docs/protocol.md, "Roster", says of revocations, word for word and at whatever cost."""
    by_author: defaultdict[bytes, dict[bytes, Entry]] = defaultdict(dict)
    under: defaultdict[bytes | None, list[bytes]] = defaultdict(list)
    grants: defaultdict[bytes, dict[bytes, Entry]] = defaultdict(dict)
    for entry in entries:
        by_author[entry.header.author][entry.id] = entry
        under[entry.header.grant].append(entry.id)
        if (given := door.authority(entry.id)) is not None:
            grants[given.key][entry.id] = entry
    given_here = {each.grant: each for each in authorities}
    cuts: list[tuple[int, bool, int, bytes, Revocation, bytes | None]] = []
    awaited = set()
    for entry in entries:
        if entry.header.kind == Kind.REVOKE:
            rank, cut, ends = door.rank_of(entry.header), Revocation.parse(entry.payload or b""), entry.header.target
            if ends is None:
                cuts.append((rank, False, rank, entry.id, cut, ends))
            elif ends not in given_here:
                awaited.add(ends)
            elif given_here[ends].key == cut.key and given_here[ends].rank < rank:
                cuts.append((given_here[ends].rank, True, rank, entry.id, cut, ends))
    cuts.sort(key=lambda cut: cut[:3], reverse=True)
    held: dict[bytes, int] = {}
    back: dict[bytes, set[bytes]] = {}
    over: dict[bytes, bytes] = {}
    in_force: dict[bytes, bytes] = {}
    for _, _, rank, name, cut, ends in cuts:
        written = by_author[cut.key]
        if name in held or ends in held:
            continue
        if ends is not None:
            in_force[name] = over[ends] = cut.key
            for one in {*under[ends]} - _led_to(cut, written):
                _hold(one, under, held, rank)
            continue
        left = [each for each in authorities if each.key == cut.key and each.grant not in {*held, *over}]
        left = [each for each in left if cut.key not in back or each.grant in back[cut.key]]
        if rank <= max((each.rank for each in left), default=0):
            continue
        in_force[name] = cut.key
        returning = {
            one.id
            for one in grants[cut.key].values()
            if name in _named(one, grants[cut.key]) and door.rank_of(one.header) >= rank
        }
        back[cut.key] = back.get(cut.key, returning) & returning
        for one in written.keys() - _led_to(cut, written):
            if door.rank_of(written[one].header) < rank and written[one].header.grant not in returning:
                _hold(one, under, held, rank)
    returned = {key for key, returning in back.items() if returning - held.keys() - over.keys()}
    held.update((grant, 0) for key in returned for grant in grants[key] if grant not in {*back[key], *held})
    confirmed = confirmed_keys(authorities, {*held, *over})
    lasting = {key: {each.grant for each in authorities if each.key == key} - over.keys() for key in over.values()}
    voids = {False: voided(authorities, back, confirmed), True: voided(authorities, lasting, confirmed)}
    for _, is_end, rank, name, cut, _ in cuts:
        for authority in authorities if name in in_force else ():
            if voids[is_end].get(authority.grant) == cut.key:
                theirs = by_author[authority.key]
                written = {one: theirs[one] for one in under[authority.grant] if one in theirs}
                for one in written.keys() - _led_to(cut, written):
                    _hold(one, under, held, rank)
    assert ABOVE_ROOTS not in held.values()
    void = frozenset({*voids[False], *voids[True], *over})
    return Cuts(held, frozenset(back.keys() - returned), in_force, void, frozenset(awaited))


def _led_to(cut: Revocation, written: Mapping[bytes, Entry]) -> set[bytes]:
    absent = set(cut.absent) - set(cut.heads)
    return ancestors(cut.heads, {name: one for name, one in written.items() if name not in absent})


def _named(grant: Entry, grants: Mapping[bytes, Entry]) -> set[bytes]:
    found, pending = set(grant.header.parents), list(grant.header.parents)
    for name in pending:
        pending.extend(fresh := set(grants[name].header.parents) - found if name in grants else ())
        found.update(fresh)
    return found


def _hold(first: bytes, under: Mapping[bytes | None, Iterable[bytes]], held: dict[bytes, int], rank: int) -> None:
    if first not in held:
        held[first] = rank
        for one in under.get(first, ()):
            _hold(one, under, held, rank)


@given(seed=st.integers(0, 2**32), at_once=st.sampled_from([1, 2, 3, 2_048]))
@settings(max_examples=40, deadline=None)
def test_revocations_weighed_together_hold_back_what_each_does_by_itself(seed: int, at_once: int) -> None:
    world = _Trouble(seed).live(40)
    door = Door(world.root.key.public)
    admitted = [entry for entry in world.entries if _let_in(door, entry)]
    for space in (world.school, world.classes[0]):
        line = door.lineage(space)
        entries = [entry for entry in admitted if entry.header.space in line]
        authorities = authorities_over(space, door)
        expected = weighed_one_by_one(entries, authorities, door)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("protocol.rights.revocations._WEIGHED_AT_ONCE", at_once)
            assert cuts_of(entries, authorities, door) == expected
            Random(seed).shuffle(entries)
            assert cuts_of(entries, authorities[::-1], door) == expected


def _let_in(door: Door, entry: Entry) -> bool:
    if door.examine(entry).outcome is not Outcome.ADMIT:
        return False
    door.learn(entry)
    return True


def test_revocations_without_end_of_a_machine_that_has_said_much_cost_what_they_are() -> None:
    world = World(Random(3))
    room = world.classes[0]
    head, machine = world.enrol(Role.HEAD, world.school), world.enrol(Role.MACHINE, room)
    said = [world.say(machine, room, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32)) for _ in range(400)]
    world.say(head, room, Kind.REVOKE, Revocation(machine.key.public, (said[-1].id,)).encode())
    work = [weighing(world)]
    for _ in range(2):
        for number in range(200):
            heads = (said[-1].id, said[number].id)
            world.say(head, room, Kind.REVOKE, Revocation(machine.key.public, heads).encode())
        work.append(weighing(world))
    assert_grows_as_its_entries(*work)


def test_ends_without_end_of_a_machine_that_has_said_much_cost_what_they_are() -> None:
    world = World(Random(3))
    room = world.classes[0]
    head, machine = world.enrol(Role.HEAD, world.school), world.enrol(Role.MACHINE, room)
    said = [world.say(machine, room, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32)) for _ in range(400)]
    payload = Grant(machine.key.public, bytes(32), None, Role.MACHINE, None, None, 1).encode()
    cut = Revocation(machine.key.public, (said[-1].id,)).encode()
    work = []
    for _ in range(3):
        for _ in range(200):
            given = world.say(world.server, room, Kind.GRANT, payload)
            world.say(head, room, Kind.REVOKE, cut, target=given.id)
        work.append(weighing(world))
    assert_grows_as_its_entries(*work)


def test_grants_that_name_one_another_without_end_cost_what_they_are() -> None:
    world = World(Random(3))
    room = world.classes[0]
    head, machine = world.enrol(Role.HEAD, world.school), world.enrol(Role.MACHINE, room)
    cut = world.say(head, room, Kind.REVOKE, Revocation(machine.key.public, ()).encode())
    payload = Grant(machine.key.public, bytes(32), None, Role.MACHINE, None, None).encode()
    named = [cut.id]
    work = [weighing(world)]
    for _ in range(2):
        for _ in range(200):
            named.append(world.say(head, room, Kind.GRANT, payload, parents=tuple(named[-16:])).id)
        work.append(weighing(world))
    assert_grows_as_its_entries(*work)


def weighing(world: World) -> int:
    """The work of weighing the revocations in a class."""
    door, room = opened(world), world.classes[0]
    authorities = authorities_over(room, door)
    with counted_work() as work:
        assert cuts_of(world.entries, authorities, door).in_force
    return work.lines


def test_a_program_from_before_lists_finds_them_among_a_roots_heads() -> None:
    world = World(Random(1))
    heads = [number.to_bytes(32, "big") for number in range(3 * MAX_REVOKED_HEADS)]
    drafts = lists_of(world.territory, heads)
    lists = [world.say(world.root, world.territory, Kind.ROOT_ACCOUNT, draft.payload) for draft in drafts]
    revocation = Revocation.parse(cut_by_root(bytes(32), heads, lists).encode())
    assert len(revocation.heads) <= MAX_REVOKED_HEADS
    named = set(accounted(revocation.heads, {entry.id: entry for entry in lists}))
    assert named >= set(heads)
    assert set(revocation.lists) == {entry.id for entry in lists}


def test_a_revocation_has_room_for_all_that_it_may_name() -> None:
    names = [number.to_bytes(32, "big") for number in range(MAX_REVOKED_HEADS + MAX_REVOCATION_LISTS)]
    heads, lists = names[:MAX_REVOKED_HEADS], names[MAX_REVOKED_HEADS:]
    revocation = Revocation(bytes(32), tuple(heads), tuple(lists), tuple(names[:MAX_REVOKED_ABSENT]))
    assert len(revocation.encode()) <= MAX_PAYLOAD_BYTES
    assert Revocation.parse(revocation.encode()) == revocation


def test_a_root_names_all_that_it_may_in_no_more_lists_than_there_may_be() -> None:
    heads = [number.to_bytes(32, "big") for number in range(MOST_LISTED_HEADS)]
    assert len(lists_of(bytes(32), heads)) == MAX_REVOCATION_LISTS
    assert lists_of(bytes(32), heads[:MAX_REVOKED_HEADS]) == []


class _Ends:
    """A laptop that was let in twice, and a head teacher who ends the first right."""

    def __init__(self) -> None:
        self.world = world = World(Random(5))
        self.room = world.classes[0]
        self.head = world.enrol(Role.HEAD, world.school)
        self.laptop = world.enrol(Role.TEACHER, self.room)
        self.first = self.laptop.grant or b""

    def also_let_in(self) -> bytes:
        payload = Grant(self.laptop.key.public, bytes(32), None, Role.MACHINE, None, None).encode()
        return self.world.say(self.world.server, self.room, Kind.GRANT, payload).id

    def write(self) -> bytes:
        return self.world.say(self.laptop, self.room, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32)).id

    def end(self, *heads: bytes, of: bytes | None = None, key: bytes | None = None, by: Writer | None = None) -> bytes:
        payload = Revocation(key or self.laptop.key.public, heads).encode()
        return self.world.say(by or self.head, self.room, Kind.REVOKE, payload, target=of or self.first).id

    def roster(self) -> Roster:
        return folds(self.world, self.world.entries, self.room)[0]


def test_an_end_ends_the_grant_that_it_names_and_no_other_of_the_key() -> None:
    ends = _Ends()
    second = ends.also_let_in()
    ends.end()
    assert ends.roster().may_read(ends.laptop.key.public)
    assert {each.grant for each in ends.roster().authorities if each.key == ends.laptop.key.public} == {second}
    ends.end(of=second)
    assert not ends.roster().may_read(ends.laptop.key.public)


def test_what_was_said_before_the_end_stays_and_what_comes_later_waits() -> None:
    ends = _Ends()
    before = ends.write()
    ends.end(before)
    after = ends.write()
    assert ends.roster().held_back == {after}


def test_an_end_that_names_another_keys_grant_or_comes_from_nobody_higher_counts_for_nothing() -> None:
    ends = _Ends()
    colleague = ends.world.enrol(Role.HEAD, ends.world.school)
    ends.end(key=colleague.key.public)
    ends.end(of=colleague.grant, key=colleague.key.public)
    assert not ends.roster().revocations
    assert ends.roster().may_read(ends.laptop.key.public)
    assert ends.roster().may_read(colleague.key.public)


def test_who_is_let_in_again_after_the_end_is_in() -> None:
    ends = _Ends()
    ends.end()
    assert not ends.roster().may_read(ends.laptop.key.public)
    ends.also_let_in()
    assert ends.roster().may_read(ends.laptop.key.public)


def test_a_revocation_is_in_doubt_while_less_than_the_roots_word_holds_it_back() -> None:
    ends = _Ends()
    world, laptop, head = ends.world, ends.laptop.key.public, ends.head.key.public

    def cut(key: bytes, by: Writer) -> bytes:
        space = ends.room if by is ends.head else world.territory
        return world.say(by, space, Kind.REVOKE, Revocation(key, ()).encode()).id

    order = cut(laptop, ends.head)
    assert not ends.roster().doubtful
    cut(head, world.server)
    assert ends.roster().doubtful == {order}
    assert ends.roster().may_read(laptop)
    said_by_root = cut(head, world.root)
    assert not ends.roster().doubtful
    assert order in ends.roster().held_back
    world.entries = [entry for entry in world.entries if entry.id != said_by_root]
    certified = tuple(entry.id for entry in world.entries if entry.header.author == world.server.key.public)[:-1]
    world.say(world.root, world.territory, Kind.REVOKE, Revocation(world.server.key.public, certified).encode())
    assert not ends.roster().doubtful, "what the server held back counts again"
    assert not ends.roster().may_read(laptop)
