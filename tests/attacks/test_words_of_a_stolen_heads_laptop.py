"""A head teacher's laptop in wrong hands says what each fold of its school has to go through (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from protocol.identity import DeviceKeys
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation
from protocol.replica.at_work.views import Views
from protocol.rights.circles import Circles
from protocol.rights.door import Authority
from protocol.rights.keys_in_use import Key
from protocol.rights.speaking import Speaking
from protocol.rights.spent_keys import keys_held
from protocol.rights.vouching import Away, Voices, Vouch
from protocol.rights.vouching import Device as Keys
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.caller import Caller, caller
from tests.harness.classroom import Classroom
from tests.harness.entries import SOME_RECEIPT
from tests.harness.territory import new_device
from tests.harness.work import assert_grows_as_its_entries, counted_work


async def work_of_a_fold(room: Classroom) -> int:
    """What the server does when it folds the class from nothing."""
    replica = room.territory.replica
    with counted_work() as work:
        await Views(replica.store, replica.door).view(room.space)
    return work.lines


async def stolen_head(room: Classroom) -> Caller:
    school = room.school
    responder, director = room.territory.responder(), b"d" * 16
    return await caller(room.territory, responder, Role.HEAD, school, seed=4, person=director)


@attack(
    "a head teacher's laptop keeps every machine of its school busy",
    off={"protocol.rights.revocations._WEIGHED_AT_ONCE": 1},
)
async def test_revocations_of_a_busy_machine_without_end_cost_each_fold_what_they_are(room: Classroom) -> None:
    head = await stolen_head(room)
    machine = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    said = [machine.say(room.space, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32)) for _ in range(300)]
    await machine.sync(SyncRequest(push=tuple(said)))
    cut = Revocation(machine.id, (said[-1].id,)).encode()
    await head.sync(SyncRequest(push=(head.say(room.space, Kind.REVOKE, cut),)))
    work = [await work_of_a_fold(room)]
    for _ in range(2):
        await head.sync(SyncRequest(push=tuple(head.say(room.space, Kind.REVOKE, cut) for _ in range(50))))
        work.append(await work_of_a_fold(room))
    assert work[2] < 2 * work[0]


def one_chain_at_a_time(same: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Whom each ends with, by walking from each."""
    ends = {}
    for first in same:
        seen = [first]
        while (after := same.get(seen[-1])) is not None and after not in seen:
            seen.append(after)
        ends[first] = seen[-1]
    return ends


@attack(
    "a head teacher's laptop keeps every machine of its school busy",
    off={"protocol.rights.roster._ends_of": one_chain_at_a_time},
)
async def test_a_chain_of_people_who_are_the_same_costs_each_fold_what_it_is(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.harness.work._COUNTED", ("",))
    head, work = await stolen_head(room), [await work_of_a_fold(room)]
    for first in (0, 200):
        records = [
            (n.to_bytes(16, "big"), PersonRecord("x", PersonRole.PUPIL, left=True, same_as=(n + 1).to_bytes(16, "big")))
            for n in range(first, first + 200)
        ]
        said = [head.say(room.space, Kind.PERSON, record.encode(), subject=subject) for subject, record in records]
        await head.sync(SyncRequest(push=tuple(said)))
        work.append(await work_of_a_fold(room))
    assert_grows_as_its_entries(*work)


class WalkedForEach:
    """`Circles` that follow all words anew for each person."""

    def __init__(self, voices: Voices) -> None:
        self.voices, self.person, self.own = voices, b"", set[Keys]()

    def of(self, person: bytes) -> WalkedForEach:
        circle = WalkedForEach(self.voices)
        circle.person = person
        return circle

    def start(self, device: Keys) -> list[Keys]:
        fresh = list(self.voices.circle(self.person, device).own - self.own)
        self.own.update(fresh)
        return fresh


@attack(
    "a head teacher's laptop keeps every machine of its school busy",
    off={"protocol.rights.speaking.Circles": WalkedForEach},
)
async def test_invented_teachers_who_all_confirm_one_another_cost_each_fold_what_they_are(room: Classroom) -> None:
    head, noise, work = await stolen_head(room), Random(9), []
    work.append(await work_of_a_fold(room))
    for _ in range(2):
        said = []
        for _ in range(30):
            keys, person = new_device(noise.randbytes), noise.randbytes(16)
            given = Grant(keys.signing.public, keys.agreement.public, None, Role.TEACHER, person, None)
            grant = head.say(room.space, Kind.GRANT, given.encode())
            laptop = Caller(room.territory, head.responder, keys, noise, {room.space: grant.id})
            key = PersonKey(noise.randbytes(32)).encode()
            said += [grant, laptop.say(room.space, Kind.PERSON_KEY, key, subject=person)]
            said.append(laptop.say(room.space, Kind.VOUCH, Vouch().encode(), target=next(iter(head.grants.values()))))
            said.append(head.say(room.space, Kind.VOUCH, Vouch().encode(), target=grant.id))
        await head.sync(SyncRequest(push=tuple(said)))
        work.append(await work_of_a_fold(room))
    assert_grows_as_its_entries(*work)


class AllWordsOfOne(Circles):
    """`Circles` that walk all that a device has said for each of those whose it is."""

    def named_by(self, device: Keys, person: bytes) -> tuple[list[Keys], int]:
        heads = 0
        for word in self._words.get(device, ()):
            if word.by == person and not word.is_own:
                heads |= self._led_to.get((word.device, None if word.head else word.person), 0)
        return list(self._own.get((device, person), ())), heads


def each_id_of_each_device(
    claimed: Collection[Key],
    living: Iterable[Authority],
    away: Away,
    phrases: Any,
    led: tuple[Speaking, Speaking],
) -> frozenset[Key]:
    """The keys that are held; and for each grant of a device, all ids that lead to it, one after the other."""
    for each in living:
        device = each.key, each.agreement
        assert all(person for person, devices in led[0].items() if device in devices)
    return keys_held(claimed, living, away, phrases, led)


@dataclass
class OneLaptop:
    """A laptop that a stolen head's one grants as many people, and that calls a computer its own as each of them."""

    room: Classroom
    head: Caller
    noise: Random = field(default_factory=lambda: Random(9))

    def __post_init__(self) -> None:
        self.keys = new_device(self.noise.randbytes)

    async def granted_as(self, count: int) -> None:
        """As so many more."""
        said = []
        for _ in range(count):
            person = self.noise.randbytes(16)
            grant, other = self._grant(self.keys, person), self._grant(new_device(self.noise.randbytes), person)
            laptop = Caller(
                self.room.territory, self.head.responder, self.keys, self.noise, {self.room.space: grant.id}
            )
            key = PersonKey(self.noise.randbytes(32)).encode()
            said += [grant, other, laptop.say(self.room.space, Kind.PERSON_KEY, key, subject=person)]
            said.append(laptop.say(self.room.space, Kind.VOUCH, Vouch().encode(), target=other.id, subject=person))
        await self.head.sync(SyncRequest(push=tuple(said)))

    def _grant(self, keys: DeviceKeys, person: bytes) -> Entry:
        given = Grant(keys.signing.public, keys.agreement.public, None, Role.TEACHER, person, None)
        return self.head.say(self.room.space, Kind.GRANT, given.encode())


@attack(
    "a head teacher's laptop keeps every machine of its school busy",
    off={"protocol.rights.speaking.Circles": AllWordsOfOne, "protocol.rights.roster.keys_held": each_id_of_each_device},
)
async def test_one_laptop_that_is_granted_as_many_people_costs_each_fold_what_these_are(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.harness.work._COUNTED", ("",))
    laptop, work = OneLaptop(room, await stolen_head(room)), [await work_of_a_fold(room)]
    for _ in range(2):
        await laptop.granted_as(40)
        work.append(await work_of_a_fold(room))
    assert_grows_as_its_entries(*work)
