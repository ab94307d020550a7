"""Attacks: grants that each name the one before, laptops that confirm one another, so that honest acts cost squares."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office import acquaintance
from protocol.replica.office.bureau import Office
from protocol.rights.vouching import Device, Vouch
from protocol.roles import Role
from tests.harness.attack import attack
from tests.harness.classroom import Device as Machine
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

CHAIN = "grants in a chain hold up who reports a laptop"
RING = "teachers' computers that do not exist hold up who lets a teacher in"
LONG = 1_200


async def _each_by_itself(office: Office, key: bytes, orders: Sequence[tuple[Entry, bool]]) -> set[bytes]:
    """As if it were kept, of each grant, all that it names."""
    grants = await office.replica.store.get([each.grant for each in office.replica.door.authorities_of(key)])
    named_by = {}
    for grant in grants.values():
        named, pending = set[bytes](), list(grant.header.parents)
        while pending:
            name = pending.pop()
            if name not in named:
                named.add(name)
                pending += grants[name].header.parents if name in grants else ()
        named_by[grant.id] = frozenset(named)
    return {order.id for order, _ in orders if any(order.id in named for named in named_by.values())}


async def _chain_of_grants(here: Town, head: Machine, laptop: Machine, person: bytes) -> None:
    keys, random, replica = laptop.agent.keys, Random(5), head.agent.replica
    under = max(await replica.authorities(head.agent.device), key=lambda held: held.rank).grant
    again = Grant(
        keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, person, None, None
    ).encode()
    said: list[Entry] = []
    for number in range(LONG):
        kind, payload = (Kind.GRANT, again) if said else (Kind.REVOKE, Revocation(keys.signing.public, ()).encode())
        before = (said[-1].id,) if said else ()
        said.append(
            compose(
                author=head.agent.keys.signing,
                space=here.space,
                kind=kind,
                grant=under,
                at=(here.office.clock() << 16) + number,
                payload=payload,
                salt=random.randbytes(16),
                parents=before,
                prev=before,
            )
        )
    here_now = await here.office.server.replica.admit(said, source=b"thief", now_ms=here.office.clock())
    assert len(here_now.admitted) == LONG


@attack(CHAIN, off={"protocol.replica.office.device_cuts._lifted": _each_by_itself})
async def test_a_laptop_that_a_thief_lets_in_a_thousand_times_is_reported_in_little_memory(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("Mme Petit", "teacher")
        head, laptop = await here.head_of_the_school(), await here.device("teacher", person)
        await here.sync(head)
        await _chain_of_grants(here, head, laptop, bytes.fromhex(person))
        await here.office.server.replica.view(here.space)
        tracemalloc.start()
        try:
            await here.office.do("lost", device=laptop.agent.device.hex())
            _, most_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most_bytes < 16 << 20
        assert here.space not in await here.office.server.replica.readable(laptop.agent.device)


def _from_each(
    places: Iterable[Device], leads_to: Callable[[Device], Iterable[Device]], bits_of: Callable[[Device], int]
) -> dict[Device, int]:
    found = {}
    for place in places:
        reached, pending = {place}, [place]
        while pending:
            fresh = set(leads_to(pending.pop())) - reached
            reached |= fresh
            pending += fresh
        found[place] = 0
        for other in reached:
            found[place] |= bits_of(other)
    return found


class _Counted(dict[Device, Any]):
    """Words of confirmation that count how often each is looked at."""

    looks: Counter[Device]

    def get(self, device: Device, default: Any = None) -> Any:
        self.looks[device] += 1
        return super().get(device, default)


@attack(RING, off={"protocol.replica.office.acquaintance.bits_led_to": _from_each})
async def test_laptops_that_confirm_one_another_in_a_ring_are_each_looked_at_twice_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, own_words = Counter[Device](), acquaintance._own_words

    def counted(*known: Any) -> _Counted:
        words = _Counted(own_words(*known))
        words.looks = looks
        return words

    monkeypatch.setattr(acquaintance, "_own_words", counted)
    async with town(tmp_path) as here:
        petit = await here.office.add_person("Mme Petit", "teacher")
        person, server = bytes.fromhex(petit), here.office.server
        head = await here.head_of_the_school()
        await here.device("teacher", petit)
        await here.sync(head)
        keys = [new_device(Random(number).randbytes) for number in range(60)]
        named = [
            Grant(each.signing.public, each.agreement.public, each.tls.fingerprint, Role.TEACHER, person, None, None)
            for each in keys
        ]
        grants = await server.write([Draft(here.space, Kind.GRANT, server.grant, each.encode()) for each in named])
        words = [
            compose(
                author=each.signing,
                space=here.space,
                kind=Kind.VOUCH,
                grant=grants[place].id,
                at=(here.office.clock() << 16) + 5,
                payload=Vouch().encode(),
                salt=bytes(16),
                subject=person,
                target=grants[(place + 1) % len(keys)].id,
            )
            for place, each in enumerate(keys)
        ]
        await server.replica.admit(words, source=b"thief", now_ms=here.office.clock())
        await here.sync(head, head)
        desk = Desk(head.agent)
        made = await desk.ask("space add", name="CE2", year="2026-2027")
        looks.clear()
        await desk.ask("grant", person=petit, space=[made["space"]])
        assert looks
        assert max(looks.values()) <= 2
