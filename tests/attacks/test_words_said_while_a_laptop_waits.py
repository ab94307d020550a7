"""What a reported laptop says after a server let it in again waits, and goes on waiting once it is cut off again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from protocol.folds.coursework import HandInState
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import MAX_PHRASES_PER_DEVICE
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Revocation, Successor
from protocol.model.work import Receipt
from protocol.replica.at_work.replica import Draft
from protocol.rights.asked import Bits
from protocol.rights.door import Authority, Door
from protocol.rights.letting_back import LetInAgain, Return, Returns
from protocol.rights.letting_back import let_in_again as let_in_again_to
from protocol.rights.voices import _Phrases
from protocol.rights.vouching import Vouch, device_id, drawn_by, prove
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    cut_off,
    let_in_again,
    lost_and_found,
    opens_what_is_handed_in_now,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device

CHEAP = Argon2Cost(8, 1, 1)
ROW = "a server's operator names a device of their own as a teacher's"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _while_it_holds(self: Returns, under: Authority) -> Return | None:
    """What was said under such a grant waits as long as that lets somebody in."""
    if under.key in self._came_back and under.grant in self._holding:
        return Return((under.key, under.agreement))
    return None


WHILE_IT_HOLDS: dict[str, object] = {"protocol.rights.letting_back.Returns.of": _while_it_holds}


class _Waits(NamedTuple):
    """A `lost` laptop of hers that a grant let in again, the one that she works with, and the head's computer."""

    lost: Device
    hers: Device
    head: Device
    grant: bytes


Way = Callable[[Here, _Waits], Awaitable[None]]


async def _confirms_the_spy(here: Here, waits: _Waits) -> None:
    person = here.room.teacher_person
    said = Draft(here.room.space, Kind.VOUCH, waits.grant, Vouch().encode(), subject=person, target=here.grant)
    await waits.lost.agent.write(said)


async def _draws(here: Here, waits: _Waits, signer: SigningKey, agreement: bytes) -> None:
    """The laptop that waits says that it drew a phrase, which has these keys."""
    person = here.room.teacher_person
    drawn = drawn_by(signer, person, own_device(waits.lost.agent))
    phrase = PhraseKey(agreement, bytes(16), CHEAP, signer.public, drawn)
    await waits.lost.agent.write(Draft(here.room.space, Kind.PHRASE, waits.grant, phrase.encode(), subject=person))


async def _draws_a_phrase_for_the_spy(here: Here, waits: _Waits) -> None:
    person, signer = here.room.teacher_person, here.spy.signing
    await _draws(here, waits, signer, here.spy.agreement.public)
    proof = prove(signer, person, own_keys(here.spy), here.grant or b"")
    await here.say(Kind.VOUCH, proof.encode(), person, target=here.grant)


async def _cut_off_with_all(here: Here, waits: _Waits) -> None:
    await cut_off(here, waits.lost)


async def _reported_once_more(here: Here, waits: _Waits) -> None:
    await here.sync(waits.head)
    await Desk(waits.head.agent).ask("lost", device=waits.lost.agent.device.hex())
    await here.sync(waits.head)


async def _its_grant_is_ended(here: Here, waits: _Waits) -> None:
    await cut_off(here, waits.lost, ends=waits.grant)


async def _is_reported(here: Here, *, is_first: bool) -> _Waits:
    """Her first laptop, or her second, is lost, and reported on a head's computer."""
    second = await another_laptop(here, here.teacher)
    lost, hers = (here.teacher, second) if is_first else (second, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, hers, lost, hers, here.machine)
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head, hers, here.machine)
    return _Waits(lost, hers, head, b"")


async def _is_back_and_waits(here: Here, *, is_first: bool) -> _Waits:
    """The server lets it in again, and names a device as hers."""
    lost, hers, head, _ = await _is_reported(here, is_first=is_first)
    grant = await let_in_again(here, lost, Role.TEACHER, here.room.teacher_person)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(hers, here.machine, lost)
    return _Waits(lost, hers, head, grant)


async def _hers_reads_what_is_handed_in_now_and_the_spy_does_not(here: Here, hers: Device) -> None:
    for _ in range(3):
        await here.sync(hers, here.machine)
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, hers)
    assert await Desk(hers.agent).files("open-hand-in", id=work.hex()) == {"b.odt": b"neu"}
    assert not await here.opens(work)


@pytest.mark.parametrize("is_first", [True, False], ids=["her first", "her second"])
@pytest.mark.parametrize("after", [_cut_off_with_all, _reported_once_more, _its_grant_is_ended])
@pytest.mark.parametrize("way", [_confirms_the_spy, _draws_a_phrase_for_the_spy])
@attack(ROW, off=WHILE_IT_HOLDS)
async def test_whom_a_laptop_confirms_while_it_waits_is_hers_by_no_later_end_of_that(
    here: Here, way: Way, after: Way, *, is_first: bool
) -> None:
    waits = await _is_back_and_waits(here, is_first=is_first)
    await way(here, waits)
    await here.sync(waits.lost, waits.hers, here.machine)
    await after(here, waits)
    await _hers_reads_what_is_handed_in_now_and_the_spy_does_not(here, waits.hers)
    roster = (await here.machine.agent.replica.view(here.room.space)).roster
    assert own_keys(here.spy) not in roster.speaking[here.room.teacher_person]


@attack(ROW, off={"protocol.rights.letting_back.Returns.of": lambda *_: None})
async def test_nor_does_a_phrase_that_it_draws_meanwhile_prove_anybody_hers(here: Here) -> None:
    waits = await _is_back_and_waits(here, is_first=True)
    await _draws_a_phrase_for_the_spy(here, waits)
    await here.sync(waits.lost, waits.hers, here.machine)
    roster = (await here.machine.agent.replica.view(here.room.space)).roster
    assert own_keys(here.spy) not in roster.speaking[here.room.teacher_person]


@attack(ROW, off=WHILE_IT_HOLDS)
async def test_a_receipt_that_it_gave_while_it_waited_is_not_hers_once_it_is_cut_off_again(here: Here) -> None:
    territory, space = here.room.territory, here.room.space
    work = await here.room.hand_in(here.machine, here.item, {"a.odt": b"1"})
    await here.sync(here.machine)
    waits = await _is_back_and_waits(here, is_first=True)
    stream = (await territory.replica.view(space)).coursework.hand_ins[work].record.content.stream
    given = Receipt(stream).encode()
    pupil = here.room.pupil_person
    await waits.lost.agent.write(Draft(space, Kind.RECEIPT_TEACHER, waits.grant, given, subject=pupil, target=work))
    await here.sync(waits.lost)
    await _cut_off_with_all(here, waits)
    await here.sync(here.machine)
    made = (await here.machine.agent.replica.view(space)).coursework.hand_ins[work]
    assert waits.lost.agent.device not in {each.by for each in made.witnesses if each.says is HandInState.TEACHER}


async def test_whom_a_found_laptop_confirms_once_it_was_confirmed_again_stays_hers_when_it_retires(
    here: Here,
) -> None:
    waits = await _is_back_and_waits(here, is_first=True)
    await confirm(waits.hers.agent, device_id(own_device(waits.lost.agent)), shown_as="own")
    await here.sync(waits.hers, waits.lost, here.machine)
    third = await here.room.teacher()
    await here.sync(third, waits.lost)
    await confirm_each_other(here, waits.lost, third)
    for after in (_cut_off_with_all, _its_grant_is_ended):
        await after(here, waits)
        await here.sync(third, waits.hers, here.machine)
        roster = (await here.machine.agent.replica.view(here.room.space)).roster
        assert own_device(third.agent) in roster.speaking[here.room.teacher_person]


async def _types_it_on_a_new_one(here: Here, paper: str) -> Device:
    """She buys a further laptop, and types the phrase that stands on her paper."""
    new = await here.room.teacher()
    await here.sync(new)
    await open_with_phrase(new.agent, paper)
    return new


def _while_never_away_alone(backs: Mapping[Return, Bits]) -> Callable[[Return | None], Bits]:
    """As if nothing that was said since an earlier return came before a later one."""
    return lambda one: sum(backs.values()) if one is None else 0


@pytest.mark.parametrize("by", ["a head", "the server"])
@attack(ROW, off={"protocol.rights.letting_back._those_after": _while_never_away_alone})
async def test_a_found_laptop_that_is_stolen_later_waits_for_whom_it_has_confirmed_since(here: Here, by: str) -> None:
    head, _ = await confirmed_head(here)
    lost, hers = here.teacher, here.room.teacher_person
    if by == "a head":
        await lost_and_found(here, head, lost)
    else:
        await cut_off(here, lost)
        await let_in_again(here, lost, Role.TEACHER, hers)
        await here.sync(lost, here.machine, head)
    paper = await new_phrase(lost.agent, CHEAP)
    await here.sync(lost, here.machine, head)
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head, here.machine)
    new = await _types_it_on_a_new_one(here, paper)
    await here.sync(new, head, here.machine, new, here.machine)
    await let_in_again(here, lost, Role.TEACHER, hers)
    await here.sync(lost, new, here.machine)
    assert not await opens_what_is_handed_in_now(here, lost, new)


def _named_by_grants_alone(entries: Iterable[Entry], door: Door, reports: Mapping[bytes, bytes]) -> LetInAgain:
    return let_in_again_to([each for each in entries if each.header.kind != Kind.SUCCESSOR], door, reports)


@pytest.mark.parametrize("after", [_cut_off_with_all, _its_grant_is_ended])
@attack(ROW, off={"protocol.rights.roster.let_in_again": _named_by_grants_alone})
async def test_a_return_that_names_the_report_through_a_machines_successor_is_one(here: Here, after: Way) -> None:
    territory, space = here.room.territory, here.room.space
    waits = await _is_reported(here, is_first=False)
    roster = (await territory.replica.view(space)).roster
    cuts = tuple(cut for cut, key in roster.revocations.items() if key == waits.lost.agent.device)
    machine = new_device(Random(77).randbytes)
    (given,) = await territory.let_in(machine, Role.MACHINE, space)
    keys = waits.lost.agent.keys
    agreed = Successor.agreed(keys.signing, keys.agreement.public, keys.tls.fingerprint, space, machine.signing.public)
    between = compose(
        author=machine.signing,
        space=space,
        kind=Kind.SUCCESSOR,
        grant=given.id,
        at=territory.clock() << 16,
        payload=agreed.encode(),
        salt=bytes(16),
        parents=cuts,
    )
    await territory.replica.admit([between], source=b"a machine", now_ms=territory.clock())
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    grant = (await territory.say(space, Kind.GRANT, again, parents=(between.id,))).id
    waits = waits._replace(grant=grant)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(waits.hers, here.machine, waits.lost)
    await _confirms_the_spy(here, waits)
    await here.sync(waits.lost, waits.hers, here.machine)
    await after(here, waits)
    await _hers_reads_what_is_handed_in_now_and_the_spy_does_not(here, waits.hers)


def _without_what_is_held_back(
    entries: Iterable[Entry], held: Mapping[bytes, int], door: Door, reports: Mapping[bytes, bytes]
) -> LetInAgain:
    return let_in_again_to((each for each in entries if held.get(each.id, 0) == 0), door, reports)


async def _by_a_head_who_is_held_back(here: Here, lost: Device) -> bytes:
    """A head's computer that the server invented lets it in again, and is cut off; a further grant names that one."""
    territory, keys, space = here.room.territory, lost.agent.keys, here.room.space
    head, school = new_device(Random(7).randbytes), territory.schools[0]
    let = await territory.let_in(head, Role.HEAD, school)
    roster = (await territory.replica.view(space)).roster
    cuts = tuple(cut for cut, key in roster.revocations.items() if key == lost.agent.device)
    pair = keys.signing.public, keys.agreement.public
    given = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    (between,) = await territory.replica.write(
        [Draft(space, Kind.GRANT, let[0].id, given, parents=cuts)],
        author=head.signing,
        now_ms=territory.clock(),
        entropy=territory.entropy,
        unsent=False,
    )
    await territory.say(school, Kind.REVOKE, Revocation(head.signing.public, ()).encode())
    return (await territory.say(space, Kind.GRANT, given, parents=(between.id,))).id


@pytest.mark.parametrize("after", [_cut_off_with_all, _its_grant_is_ended])
@attack(ROW, off={"protocol.rights.roster._let_in_again": _without_what_is_held_back})
async def test_so_is_one_that_names_it_through_a_grant_that_is_held_back(here: Here, after: Way) -> None:
    waits = await _is_reported(here, is_first=False)
    waits = waits._replace(grant=await _by_a_head_who_is_held_back(here, waits.lost))
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(waits.hers, here.machine, waits.lost)
    await _confirms_the_spy(here, waits)
    await here.sync(waits.lost, waits.hers, here.machine)
    await after(here, waits)
    await _hers_reads_what_is_handed_in_now_and_the_spy_does_not(here, waits.hers)


class _InOneBasket(_Phrases):
    """Of all phrases that a device drew the latest count, whenever it drew them."""

    def __init__(self, drawn: Mapping[Any, Iterable[Any]], *others: Any) -> None:
        baskets = defaultdict[Any, list[Any]](list)
        for (person, device, _), said in drawn.items():
            baskets[person, device, None] += said
        super().__init__(baskets, *others)


@attack(ROW, off={"protocol.rights.voices._Phrases": _InOneBasket})
async def test_phrases_that_it_draws_while_it_waits_take_the_place_of_none_that_was_good(here: Here) -> None:
    head, _ = await confirmed_head(here)
    lost, person = here.teacher, here.room.teacher_person
    second = await another_laptop(here, lost)
    await lost_and_found(here, head, lost, second)
    await confirm(second.agent, device_id(own_device(lost.agent)), shown_as="own")
    await here.sync(second, lost, here.machine)
    paper = await new_phrase(lost.agent, CHEAP)
    await here.sync(lost, here.machine)
    third = await _types_it_on_a_new_one(here, paper)
    await here.sync(third, here.machine, head)
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head, third, here.machine)
    grant = await let_in_again(here, lost, Role.TEACHER, person)
    await here.sync(lost)
    waits = _Waits(lost, second, head, grant)
    for number in range(MAX_PHRASES_PER_DEVICE):
        signer = SigningKey(bytes([3 + number]) * 32)
        await _draws(here, waits, signer, AgreementKey(bytes([40 + number]) * 32).public)
    await here.sync(lost, third, here.machine)
    roster = (await here.machine.agent.replica.view(here.room.space)).roster
    assert own_device(third.agent) in roster.speaking[person]


@attack(ROW, off={"protocol.rights.letting_back._names_others": lambda _: False})
async def test_a_return_among_more_reports_than_are_told_apart_counts_by_nobodys_word_for_another(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.rights.letting_back.MAX_REPORTS_TOLD_APART", 2)
    lost, person = here.teacher, here.room.teacher_person
    hers = await another_laptop(here, lost)
    for _ in range(4):
        await cut_off(here, lost)
        here.room.territory.clock.advance(1_000)
    await let_in_again(here, lost, Role.TEACHER, person)
    await here.sync(lost, hers, here.machine)
    await confirm(hers.agent, device_id(own_device(lost.agent)), shown_as="own")
    await here.sync(hers, here.machine)
    roster = (await here.machine.agent.replica.view(here.room.space)).roster
    assert own_device(lost.agent) in roster.speaking[person], "it was found, and she has said that it is hers"
    await cut_off(here, lost)
    await here.name_the_spy(person, back_ms=0)
    waits = _Waits(lost, hers, lost, await let_in_again(here, lost, Role.TEACHER, person))
    await here.sync(hers, here.machine, lost)
    await _confirms_the_spy(here, waits)
    await here.sync(lost, hers, here.machine)
    await _cut_off_with_all(here, waits)
    await _hers_reads_what_is_handed_in_now_and_the_spy_does_not(here, hers)
