"""What a reported laptop says after a server let it in again waits, and goes on waiting once it is cut off again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from protocol.folds.coursework import HandInState
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import Receipt
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Authority
from protocol.rights.letting_back import Return, Returns
from protocol.rights.vouching import Vouch, device_id, drawn_by, prove
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, confirm_each_other, let_in_again
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class

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


async def _draws_a_phrase_for_the_spy(here: Here, waits: _Waits) -> None:
    person, signer = here.room.teacher_person, here.spy.signing
    drawn = drawn_by(signer, person, own_device(waits.lost.agent))
    phrase = PhraseKey(here.spy.agreement.public, bytes(16), Argon2Cost(8, 1, 1), signer.public, drawn)
    await waits.lost.agent.write(Draft(here.room.space, Kind.PHRASE, waits.grant, phrase.encode(), subject=person))
    proof = prove(signer, person, own_keys(here.spy), here.grant or b"")
    await here.say(Kind.VOUCH, proof.encode(), person, target=here.grant)


async def _all_that_was_said(here: Here, waits: _Waits) -> bytes:
    device = waits.lost.agent.device
    return Revocation(device, tuple(await here.room.territory.replica.tips(here.room.space, device))).encode()


async def _cut_off_with_all(here: Here, waits: _Waits) -> None:
    await here.room.territory.say(here.room.space, Kind.REVOKE, await _all_that_was_said(here, waits))


async def _reported_once_more(here: Here, waits: _Waits) -> None:
    await here.sync(waits.head)
    await Desk(waits.head.agent).ask("lost", device=waits.lost.agent.device.hex())
    await here.sync(waits.head)


async def _its_grant_is_ended(here: Here, waits: _Waits) -> None:
    said = await _all_that_was_said(here, waits)
    await here.room.territory.say(here.room.space, Kind.REVOKE, said, target=waits.grant)


async def _is_back_and_waits(here: Here, *, is_first: bool) -> _Waits:
    """Her first laptop, or her second, was reported; the server lets it in again, and names a device as hers."""
    second = await another_laptop(here, here.teacher)
    lost, hers = (here.teacher, second) if is_first else (second, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, hers, lost, hers, here.machine)
    await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
    await here.sync(head, hers, here.machine)
    grant = await let_in_again(here, lost, Role.TEACHER, here.room.teacher_person)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(hers, here.machine, lost)
    return _Waits(lost, hers, head, grant)


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
    for _ in range(3):
        await here.sync(waits.hers, here.machine)
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
    await here.sync(here.machine, waits.hers)
    assert await Desk(waits.hers.agent).files("open-hand-in", id=work.hex()) == {"b.odt": b"neu"}
    assert not await here.opens(work)
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
