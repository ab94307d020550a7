"""What shows that a lost laptop was given a key, and a server that takes that away (docs/adr/0200)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.limits import MAX_READING_KEYS_AT_ONCE
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation
from protocol.rights.door import OF_KEYS
from protocol.rights.roster import Roster
from protocol.rights.spent_keys import Doubted, keys_spent
from protocol.roles import PersonRole, Role
from protocol.trust.person_keys import KeyWraps
from sync_agent.app import Agent
from sync_agent.keys import key_wraps
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from sync_agent.keys.places import Held, Place, place_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.erasures import every_name
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    NO_NEW_KEY,
    confirm_each_other,
    keys_said,
    opens_what_is_handed_in_now,
    report_by_head,
    report_by_kit,
)
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a server takes away what shows that a lost laptop was given a key"


Before = Callable[[SpiedClass, Device], Awaitable[None]]


class Theft:
    """A teacher's laptop that is lost, and her other one, which had given it its key."""

    def __init__(self, here: SpiedClass, second: Device, head: Device) -> None:
        self.here, self.lost, self.second, self.head = here, here.teacher, second, head
        self.keys: dict[bytes, AgreementKey] = dict(reading_keys(here.teacher.agent))

    async def sync(self) -> None:
        for _ in range(3):
            await self.here.sync(self.head, self.second, self.here.machine)

    async def is_reported(self, by: str) -> None:
        await (report_by_kit if by == "kit" else report_by_head)(self.here, self.head)

    async def gifts(self) -> list[Entry]:
        """What says that the lost laptop was given a key."""
        mine = self.lost.agent.keys.agreement.public
        said = await self.here.room.territory.replica.store.scan_kinds([Kind.KEY_WRAP])
        return [each for each in said if any(to == mine for to, _ in KeyWraps.parse(each.payload or b"").wraps)]

    async def opens_new_work(self) -> bool:
        room = self.here.room
        work = await room.hand_in(self.here.machine, self.here.item, {"b.odt": b"neu"})
        await self.here.sync(self.here.machine, self.second)
        found = (await self.second.agent.replica.view(room.space)).coursework.hand_ins[work]
        assert content_key_of(found, reading_keys(self.second.agent)) is not None, "she reads it"
        return content_key_of(found, self.keys) is not None


@asynccontextmanager
async def _theft(folder: Path, before: Before | None = None) -> AsyncIterator[Theft]:
    async with spied_class(folder) as here:
        second = await here.room.teacher()
        await here.sync(second, here.teacher)
        if before is not None:
            await before(here, second)
            await here.sync(second, here.teacher)
        await confirm_each_other(here, here.teacher, second)
        head, _ = await confirmed_head(here)
        await here.sync(head, second, here.machine, here.teacher, second, here.teacher)
        yield Theft(here, second, head)


@pytest.fixture
async def theft(tmp_path: Path) -> AsyncIterator[Theft]:
    async with _theft(tmp_path) as made:
        yield made


@pytest.mark.parametrize("by", ["head", "kit"])
@attack(ROW, off={**NO_NEW_KEY, "protocol.rights.roster.covering_names": every_name})
async def test_what_says_that_a_lost_laptop_was_given_a_key_is_erased_with_its_person_only(
    theft: Theft, by: str
) -> None:
    await theft.sync()
    await theft.is_reported(by)
    await theft.sync()
    territory = theft.here.room.territory
    for gift in await theft.gifts():
        await territory.say(territory.id, Kind.ERASE, Erasure(gift.id).encode())
    await theft.sync()
    assert not await theft.opens_new_work()


def _what_nothing_holds_back(roster: Roster, entry: Entry) -> bool:
    return entry.header.kind in OF_KEYS and not roster.hides(entry)


@pytest.mark.parametrize("is_before", [False, True], ids=["after the report", "before her other laptop hears of it"])
@pytest.mark.parametrize("by", ["head", "kit"])
@attack(ROW, off={**NO_NEW_KEY, "protocol.rights.roster.Roster.tells_of_keys": _what_nothing_holds_back})
async def test_that_a_lost_laptop_was_given_a_key_counts_though_a_server_holds_it_back(
    theft: Theft, by: str, *, is_before: bool
) -> None:
    room, territory, keys = theft.here.room, theft.here.room.territory, theft.second.agent.keys
    await theft.sync()
    await theft.is_reported(by)
    if not is_before:
        await theft.sync()
    elif by == "head":
        await theft.here.sync(theft.head)
    gifts = {gift.id for gift in await theft.gifts()}
    written = await territory.replica.store.authored(room.space, theft.second.agent.device)
    first = next(place for place, each in enumerate(written) if each.id in gifts)
    heads = tuple(each.id for each in written[:first])
    cut = await territory.say(room.space, Kind.REVOKE, Revocation(theft.second.agent.device, heads).encode())
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, room.teacher_person, None).encode()
    await territory.say(room.space, Kind.GRANT, again, parents=(cut.id,))
    await theft.sync()
    assert not await theft.opens_new_work()


def _also_of_itself(heard: Any, given: Any, door: Any, cut: Any, gone: Any, doubted: Doubted, *rest: Any) -> Any:
    return keys_spent(heard, given, door, cut, gone, Doubted((), doubted.unheard), *rest)


async def _says_that_it_gave(theft: Theft, grant: bytes, keys: Iterable[bytes], to: bytes, *, first: int = 0) -> None:
    """The lost laptop says, under a grant, that it has sealed keys of hers to somebody."""
    room, clock = theft.here.room, theft.here.room.territory.clock
    said = [
        compose(
            author=theft.lost.agent.keys.signing,
            space=room.space,
            kind=Kind.KEY_WRAP,
            grant=grant,
            at=(clock() << 16) + number,
            payload=KeyWraps(key, ((to, bytes(80)),)).encode(),
            salt=bytes(16),
            subject=room.teacher_person,
        )
        for number, key in enumerate(keys, first)
    ]
    await room.territory.replica.admit(said, source=b"thief", now_ms=clock())


@pytest.mark.parametrize("by", ["head", "kit"])
@attack(ROW, off={"protocol.rights.roster.keys_spent": _also_of_itself})
async def test_a_lost_laptop_that_says_that_it_was_given_her_new_key_spends_nothing(theft: Theft, by: str) -> None:
    room, replica, lost = theft.here.room, theft.here.room.territory.replica, theft.lost.agent
    (grant,) = [each.grant for each in await replica.authorities(lost.device) if each.person == room.teacher_person]
    await theft.sync()
    await theft.is_reported(by)
    await theft.sync()
    in_use = (await replica.view(room.space)).roster.reading_keys[room.teacher_person]
    await _says_that_it_gave(theft, grant, in_use, lost.keys.agreement.public)
    assert (await replica.view(room.space)).roster.reading_keys.get(room.teacher_person) == in_use


@pytest.mark.parametrize("by", ["head", "kit"])
@attack(ROW, off={"protocol.rights.spent_keys._is_nobodys_word": lambda *_, **__: False})
async def test_nor_does_one_that_says_it_of_a_laptop_that_was_let_in_and_cut_off_for_that(
    theft: Theft, by: str
) -> None:
    room, territory, lost = theft.here.room, theft.here.room.territory, theft.lost.agent
    (grant,) = [each.grant for each in await territory.replica.authorities(lost.device) if each.space == room.space]
    await theft.sync()
    await theft.is_reported(by)
    await theft.sync()
    nobody = new_device(Random(90_000).randbytes)
    await territory.let_in(nobody, Role.TEACHER, room.space, person=room.teacher_person)
    await territory.say(room.space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
    for number in range(MAX_READING_KEYS_AT_ONCE + 1):
        keys = sorted(await keys_said(theft.here, theft.second.agent.device))
        await _says_that_it_gave(theft, grant, keys, nobody.agreement.public, first=100 * number)
        await theft.sync()
    assert not await theft.opens_new_work()


async def _with_another_key(here: SpiedClass, second: Device) -> None:
    """The server grants her other laptop once more, beside an X25519 key of its own."""
    territory, room, keys = here.room.territory, here.room, second.agent.keys
    given = Grant(keys.signing.public, here.spy.agreement.public, None, Role.TEACHER, room.teacher_person, None)
    await territory.say(room.space, Kind.GRANT, given.encode())


async def _as_another(here: SpiedClass, second: Device) -> None:
    """Or as somebody's of whom it says on a list that she is the same."""
    territory, room, keys, other = here.room.territory, here.room, second.agent.keys, b"P" * 16
    same = PersonRecord("Mme Petit", PersonRole.TEACHER, left=True, same_as=room.teacher_person).encode()
    await territory.say(room.space, Kind.PERSON, same, subject=other)
    given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, other, None)
    await territory.say(room.space, Kind.GRANT, given.encode())


async def _under_the_last_grant(agent: Agent) -> list[Place]:
    """A laptop writes under the last grant of the nearest class, whatever that says."""
    grants = [each for each in await agent.replica.authorities(agent.device) if each.person is not None]
    door, spaces = agent.replica.door, await agent.spaces()
    last = {space: grant for space in spaces for grant in grants if door.covers(grant, space)}
    held = await Held.by(agent)
    return [await place_in(agent, space, grant, grant.person or b"", held) for space, grant in last.items()]


def _under_what_counts(
    heard: Any, given: Iterable[Entry], door: Any, cut: Any, gone: Any, doubted: Doubted, *rest: Any
) -> Any:
    """And what it says there of its keys counts for no more than anything else that is said there."""
    counts = [each for each in given if each.header.grant not in doubted.unheard]
    nobodys = [each for each in heard if each.header.kind != Kind.PERSON_KEY]
    made = keys_spent(heard, (), door, cut, gone, doubted, *rest)
    return made | keys_spent(nobodys, counts, door, cut, gone, doubted, *rest)


@attack(
    ROW,
    off={
        **NO_NEW_KEY,
        "sync_agent.keys.reading_key.places_of": _under_the_last_grant,
        "protocol.rights.roster.keys_spent": _under_what_counts,
    },
)
async def test_a_grant_of_her_laptop_with_another_key_hides_from_nobody_what_it_gave(tmp_path: Path) -> None:
    async with _theft(tmp_path, _with_another_key) as theft:
        await theft.is_reported("head")
        await theft.sync()
        assert not await theft.opens_new_work()


@pytest.mark.parametrize("way", [_with_another_key, _as_another])
async def test_what_a_laptop_of_an_earlier_version_says_under_such_a_grant_of_keys_that_it_gave_counts(
    tmp_path: Path, way: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.reading_key.places_of", _under_the_last_grant)
    async with _theft(tmp_path, way) as theft:
        monkeypatch.undo()
        await theft.is_reported("head")
        await theft.sync()
        assert not await theft.opens_new_work()


_lacking_of_others = key_wraps.lacking


def _whoever_sealed_it(place: Place, recipient: bytes, keys: dict[bytes, AgreementKey], _sealers: object) -> Any:
    """A seal is done by whoever made it, the recipient too."""
    return _lacking_of_others(place, recipient, keys, {entry.header.author for entry, _ in place.wraps})


@attack(ROW, off={**NO_NEW_KEY, "sync_agent.keys.reading_key.lacking": _whoever_sealed_it})
async def test_a_laptop_that_was_set_up_by_the_phrase_is_known_to_have_the_keys_by_anothers_word(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        first, room = here.teacher, here.room
        phrase = await new_phrase(first.agent)
        await here.sync(first)
        lost = await room.teacher()
        await here.sync(lost)
        await open_with_phrase(lost.agent, phrase)
        await here.sync(lost, first, lost, first)
        head, _ = await confirmed_head(here)
        await here.sync(head, first, here.machine, lost)
        stolen = dict(reading_keys(lost.agent))
        await Desk(head.agent).ask("lost", device=lost.agent.device.hex(), since="7d", anyway=True)
        for _ in range(3):
            await here.sync(head, first, here.machine)
        work = await room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
        found = (await here.machine.agent.replica.view(room.space)).coursework.hand_ins[work]
        assert content_key_of(found, reading_keys(first.agent)) is not None
        assert content_key_of(found, stolen) is None


@attack(ROW, off=NO_NEW_KEY)
async def test_a_laptop_that_opened_keys_by_the_phrase_and_told_nobody_has_none_in_use_once_it_is_lost(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        phrase = await new_phrase(here.teacher.agent)
        await here.sync(here.teacher)
        lost = await here.room.teacher()
        await here.sync(lost)
        await open_with_phrase(lost.agent, phrase)
        head, _ = await confirmed_head(here)
        await here.sync(here.teacher, head, here.machine)
        await Desk(head.agent).ask("lost", device=lost.agent.device.hex(), since="7d", anyway=True)
        assert not await opens_what_is_handed_in_now(here, lost, here.teacher, head)
