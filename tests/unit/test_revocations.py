"""What revocations hold back: the same as when each is weighed by itself, and for all of them one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ancestry import ancestors
from protocol.entry import Entry, Kind
from protocol.limits import MAX_REVOCATION_LISTS, MAX_REVOKED_HEADS
from protocol.replica.office.heads import MOST_LISTED_HEADS, cut_by_root, lists_of
from protocol.revocations import ABOVE_ROOTS, Cuts, cuts_of
from protocol.rights import Authority, Door, Outcome
from protocol.roles import Role
from protocol.root_rotation import accounted
from protocol.roster import authorities_over
from protocol.structure import Grant, Revocation, Successor
from protocol.successions import confirmed_keys, voided
from tests.harness.entries import SOME_RECEIPT
from tests.harness.history import World, Writer
from tests.harness.work import assert_grows_as_its_entries, counted_work
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
        self.acts = [self.write, self.write, self.write, self.cut, self.cut, self.let_back, self.copy, self.let_in]

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
        self.world.say(who, self._place(who), Kind.REVOKE, Revocation(whom, heads).encode())

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
    cuts = [
        (door.rank_of(entry.header), entry.id, Revocation.parse(entry.payload or b""))
        for entry in entries
        if entry.header.kind == Kind.REVOKE
    ]
    cuts.sort(key=lambda cut: cut[0], reverse=True)
    held: dict[bytes, int] = {}
    back: dict[bytes, set[bytes]] = {}
    in_force: dict[bytes, bytes] = {}
    for rank, name, cut in cuts:
        left = [each for each in authorities if each.key == cut.key and each.grant not in held]
        left = [each for each in left if cut.key not in back or each.grant in back[cut.key]]
        if name in held or rank <= max((each.rank for each in left), default=0):
            continue
        in_force[name] = cut.key
        returning = {
            one.id
            for one in grants[cut.key].values()
            if name in _named(one, grants[cut.key]) and door.rank_of(one.header) >= rank
        }
        back[cut.key] = back.get(cut.key, returning) & returning
        written = by_author[cut.key]
        for one in written.keys() - ancestors(cut.heads, written):
            if door.rank_of(written[one].header) < rank and written[one].header.grant not in returning:
                _hold(one, under, held, rank)
    returned = {key for key, returning in back.items() if returning - held.keys()}
    held.update((grant, 0) for key in returned for grant in grants[key] if grant not in back[key])
    void = voided(authorities, back, confirmed_keys(authorities, held))
    for rank, name, cut in cuts:
        for authority in authorities if name in in_force else ():
            if void.get(authority.grant) == cut.key:
                theirs = by_author[authority.key]
                written = {one: theirs[one] for one in under[authority.grant] if one in theirs}
                for one in written.keys() - ancestors(cut.heads, written):
                    _hold(one, under, held, rank)
    assert ABOVE_ROOTS not in held.values()
    return Cuts(held, frozenset(back.keys() - returned), in_force, frozenset(void))


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
            patch.setattr("protocol.revocations._WEIGHED_AT_ONCE", at_once)
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


def test_a_root_names_all_that_it_may_in_no_more_lists_than_there_may_be() -> None:
    heads = [number.to_bytes(32, "big") for number in range(MOST_LISTED_HEADS)]
    assert len(lists_of(bytes(32), heads)) == MAX_REVOCATION_LISTS
    assert lists_of(bytes(32), heads[:MAX_REVOKED_HEADS]) == []
