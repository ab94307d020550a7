"""A teacher's reading keys, and grants that name her laptops' X25519 keys beside keys of nobody (docs/attacks.md).

Whoever may write grants may name any public key in them. What ends such a grant, the kit's word included, takes no key
from whoever really holds it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.limits import MAX_READING_KEYS_AT_ONCE
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights import spent_keys
from protocol.rights.door import Authority
from protocol.rights.keys_in_use import Key
from protocol.rights.vouching import Away, device_id, drawn_by, phrase_signer
from protocol.rights.vouching import Device as Pair
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.school.office import SchoolOffice
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.dated_ahead import moved
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import NO_NEW_KEY
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a machine calls somebody else's key its own"
NOTHING_KEPT: dict[str, object] = {"protocol.rights.spent_keys._kept_by": lambda *_: frozenset()}
"""Each gift counts as one to whoever names its recipient's X25519 key."""


@dataclass
class TwoLaptops:
    """A teacher whose two laptops confirmed each other, and who drew a phrase."""

    here: SpiedClass
    two: Device

    @property
    def one(self) -> Device:
        return self.here.teacher

    async def named(self) -> list[bytes]:
        """The X25519 keys of both, and of the phrase."""
        shown = (await self.one.agent.replica.view(self.here.room.space)).roster
        drawn = [phrase.agreement for _, phrase in shown.phrases[self.here.room.teacher_person]]
        return [self.one.agent.keys.agreement.public, self.two.agent.keys.agreement.public, *drawn]

    def false_grant(self, agreement: bytes) -> Grant:
        """Of a key that nobody has, with an X25519 key of hers, as hers."""
        nobody = new_device(os.urandom).signing.public
        return Grant(nobody, agreement, None, Role.TEACHER, self.here.room.teacher_person, None)

    async def made(self) -> int:
        """How many reading keys her first laptop has said."""
        said = await self.here.room.territory.replica.store.scan_kinds([Kind.PERSON_KEY])
        return len({entry.payload for entry in said if entry.header.author == self.one.agent.device})

    async def opens_new_work(self) -> bool:
        """Whether she opens what is handed in now."""
        await self.here.sync(self.one, self.two, self.here.machine)
        work = await self.here.room.hand_in(self.here.machine, self.here.item, {"b.odt": b"neu"})
        await self.here.sync(self.here.machine, self.one)
        found = (await self.one.agent.replica.view(self.here.room.space)).coursework.hand_ins[work]
        return content_key_of(found, reading_keys(self.one.agent)) is not None


@pytest.fixture
async def hers(tmp_path: Path) -> AsyncIterator[TwoLaptops]:
    async with spied_class(tmp_path, kept_for=__name__, further=_second_laptop) as here:
        yield TwoLaptops(here, here.room.devices[-1])


async def _second_laptop(here: SpiedClass) -> None:
    one, two = here.teacher, await here.room.teacher()
    await here.sync(two, one)
    await confirm(one.agent, device_id(own_device(two.agent)), shown_as="own")
    await here.sync(one, two, one)
    await confirm(two.agent, device_id(own_device(one.agent)), shown_as="own")
    await new_phrase(one.agent, Argon2Cost(64, 1, 1))
    await here.sync(two, one, two, here.machine)


def _nothing(*_: object) -> frozenset[tuple[bytes, bytes]]:
    return frozenset()


@attack(ROW, off={"protocol.rights.roster.keys_held": _nothing, **NOTHING_KEPT})
async def test_the_kits_word_against_a_server_that_named_her_laptops_keys_beside_others_takes_none_from_her(
    hers: TwoLaptops,
) -> None:
    room, territory = hers.here.room, hers.here.room.territory
    server = territory.keys.signing.public
    before = [tip for space in territory.replica.door.spaces() for tip in await territory.replica.tips(space, server)]
    for agreement in await hers.named():
        await territory.say(room.space, Kind.GRANT, hers.false_grant(agreement).encode())
    await hers.here.sync(hers.one, hers.two, hers.here.machine)
    word = compose(
        author=territory.keys.root,
        space=territory.id,
        kind=Kind.REVOKE,
        grant=None,
        at=(territory.clock() << 16) + 7,
        payload=Revocation(server, tuple(before)).encode(),
        salt=bytes(16),
    )
    replicas = [territory.replica, *(each.agent.replica for each in (hers.one, hers.two, hers.here.machine))]
    for replica in replicas:
        await replica.admit([word], source=b"the kit", now_ms=territory.clock())
    for each in (hers.one, hers.two, hers.here.machine):
        shown = (await each.agent.replica.view(room.space)).roster
        assert len(shown.reading_keys.get(room.teacher_person, ())) == 2
        assert not shown.spent


async def _a_stolen_heads_laptop_names_them(hers: TwoLaptops) -> None:
    """And cuts off, at once, the keys of nobody that it named them with."""
    head, _ = await confirmed_head(hers.here)
    office = await SchoolOffice.of(head.agent)
    for agreement in await hers.named():
        given = hers.false_grant(agreement)
        await office.say([Draft(hers.here.room.space, Kind.GRANT, None, given.encode())])
        await office.say([Draft(hers.here.room.space, Kind.REVOKE, None, Revocation(given.signing, ()).encode())])
    await hers.here.sync(head, hers.here.machine)


@attack(ROW, off={"protocol.rights.roster.keys_held": _nothing, **NOTHING_KEPT})
async def test_a_stolen_heads_laptop_that_names_and_cuts_off_her_laptops_keys_takes_none_from_her(
    hers: TwoLaptops,
) -> None:
    await _a_stolen_heads_laptop_names_them(hers)
    before = await hers.made()
    assert await hers.opens_new_work()
    assert await hers.made() == before


_keys_held = spent_keys.keys_held
_Phrases: TypeAlias = Mapping[bytes, Iterable[tuple[Pair, PhraseKey]]]


def _also_who_came_back(
    claimed: Collection[Key],
    living: Iterable[Authority],
    _away: object,
    phrases: _Phrases,
    _led: object,
) -> frozenset[tuple[bytes, bytes]]:
    living = list(living)
    everybody = {each.person: frozenset((one.key, one.agreement) for one in living) for each in living if each.person}
    return _keys_held(claimed, living, Away(), phrases, (everybody, everybody))


@attack("a device is lost", off={"protocol.rights.roster.keys_held": _also_who_came_back, **NO_NEW_KEY})
async def test_a_phrase_with_a_lost_laptops_own_key_makes_it_read_nothing_when_the_server_lets_it_back_in(
    hers: TwoLaptops,
) -> None:
    here, lost, person = hers.here, hers.two, hers.here.room.teacher_person
    room, replica, keys = here.room, lost.agent.replica, lost.agent.keys
    head, _ = await confirmed_head(here)
    (grant,) = [each for each in await replica.authorities(lost.agent.device) if each.person == person]
    signer = phrase_signer(bytes(32))
    proof = drawn_by(signer, person, own_device(lost.agent))
    drawn = PhraseKey(keys.agreement.public, bytes(16), Argon2Cost(), signer.public, proof)
    await lost.agent.write(Draft(room.space, Kind.PHRASE, grant.grant, drawn.encode(), subject=person))
    await here.sync(lost, hers.one, head)
    stolen = dict(reading_keys(lost.agent))
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head, hers.one, head, hers.one, here.machine)
    cuts = tuple((await room.territory.replica.view(room.space)).roster.revocations)
    again = Grant(lost.agent.device, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, person, None)
    await room.territory.say(room.space, Kind.GRANT, again.encode(), parents=cuts)
    await here.sync(hers.one, head, here.machine)
    work = await room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    found = (await here.machine.agent.replica.view(room.space)).coursework.hand_ins[work]
    assert content_key_of(found, stolen) is None


def _whoever_holds_it(
    claimed: Collection[Key], living: Iterable[Authority], away: Away, *_: object
) -> frozenset[tuple[bytes, bytes]]:
    """As if whoever is granted with a key held it, as whosever."""
    granted = {each.agreement for each in living if each.key not in away.cut}
    return frozenset(key for key in claimed if key[1] in granted)


@pytest.mark.parametrize("is_hers_too", [False, True], ids=["as his", "as his and as hers"])
@pytest.mark.parametrize("is_listed_as_hers", [True, False], ids=["he is her", "she is him"])
@attack("a device is lost", off={"protocol.rights.roster.keys_held": _whoever_holds_it, **NO_NEW_KEY})
async def test_whom_a_list_calls_the_same_holds_no_key_of_a_lost_laptop_in_her_place(
    hers: TwoLaptops, *, is_listed_as_hers: bool, is_hers_too: bool
) -> None:
    here, lost, person = hers.here, hers.two, hers.here.room.teacher_person
    room, territory = here.room, here.room.territory
    head, _ = await confirmed_head(here)
    await here.sync(head, hers.one, lost, here.machine)
    stolen = dict(reading_keys(lost.agent))
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head, hers.one, head, hers.one, here.machine)
    other = await territory.person("M. X", PersonRole.TEACHER, room.space)
    as_his, as_hers = (
        Grant(here.spy.signing.public, lost.agent.keys.agreement.public, None, Role.TEACHER, whose, None)
        for whose in (other, person)
    )
    here.grant = (await territory.say(room.space, Kind.GRANT, as_his.encode())).id
    await here.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), other)
    await here.sync(hers.one, head, here.machine, hers.one, head, here.machine)
    if is_hers_too:
        await territory.say(room.space, Kind.GRANT, as_hers.encode())
    one, into, name = (other, person, "M. X") if is_listed_as_hers else (person, other, "Mme Petit")
    listed = (await territory.replica.view(room.space)).roster.persons[one].entry
    same = PersonRecord(name, PersonRole.TEACHER, left=True, same_as=into).encode()
    await territory.say(room.space, Kind.PERSON, same, subject=one, parents=(listed,))
    await here.sync(hers.one, head, here.machine, hers.one, head, here.machine)
    work = await room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    found = (await here.machine.agent.replica.view(room.space)).coursework.hand_ins[work]
    assert content_key_of(found, stolen) is None


def _always(*_: object, **__: object) -> bool:
    return True


@pytest.mark.parametrize("hours_ahead", [0, 20])
@attack("one laptop makes reading keys without end", off={"sync_agent.keys.reading_key._may_make_another": _always})
async def test_whatever_spends_her_keys_again_and_again_a_laptop_makes_few_within_an_hour(
    hers: TwoLaptops, monkeypatch: pytest.MonkeyPatch, hours_ahead: int
) -> None:
    monkeypatch.setattr("protocol.rights.roster.keys_held", _nothing)  # some way that nobody has thought of
    for name, nothing in NOTHING_KEPT.items():
        monkeypatch.setattr(name, nothing)
    await _a_stolen_heads_laptop_names_them(hers)
    replica, territory = hers.one.agent.replica, hers.here.room.territory
    for space in replica.door.spaces():  # by hand: what makes keys without end ends no sync
        brought = [stored.entry for stored in await territory.replica.store.scan(space)]
        await replica.admit(brought, source=b"x", now_ms=territory.clock())
    if hours_ahead:
        await moved(hers.here.room, hers.here.machine, hers.one, hours=hours_ahead)
    for _ in range(2 * MAX_READING_KEYS_AT_ONCE):
        await tend_reading_keys(hers.one.agent)
    said = await replica.store.scan_kinds([Kind.PERSON_KEY])
    made = {entry.payload for entry in said if entry.header.author == hers.one.agent.device}
    assert len(made) <= MAX_READING_KEYS_AT_ONCE
