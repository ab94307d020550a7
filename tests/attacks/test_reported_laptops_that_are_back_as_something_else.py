"""A reported laptop that a server lets in again as something else, in the breath of the report (docs/attacks.md).

What its teacher's other devices do about a laptop of hers that is back as hers must hold for one that is back as a PC.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonKey, Revocation
from protocol.model.work import Receipt
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Standing, Voices
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.places import Place
from sync_agent.keys.reading_key import _notes_of
from tests.attacks.test_what_moves_a_teachers_keys import handed_in_now
from tests.harness.attack import attack
from tests.harness.classroom import takes_for_opened
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    cut_off,
    keys_said,
    keys_that_open,
    let_in_again,
    opens_what_is_handed_in_now,
    report_by_head,
)
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device

ROW = "a server lets a reported laptop in again as something else"
AS_HERS_WITH_ANOTHER_KEY, AS_ANOTHERS = "as hers, beside another key", "as another teacher's"


def _back_as_the_same(_ever: Iterable[Authority], _came_back: Container[bytes], voices: Voices) -> Iterable[Standing]:
    return (standing for standing in voices.standings if standing[0] in voices.let_back)


def _away_as_hers(agent: Agent, place: Place) -> tuple[frozenset[bytes], frozenset[bytes]]:
    away = {key for (key, _), whose in place.roster.away.back if whose == place.person} | place.roster.cut
    return (_notes_of(away - {agent.device}),) * 2


@pytest.mark.parametrize("by", ["head", "server"])
@pytest.mark.parametrize("how", [Role.MACHINE, Role.RELAY, AS_ANOTHERS, AS_HERS_WITH_ANOTHER_KEY], ids=str)
@attack(
    ROW,
    off={
        "protocol.rights.roster._not_confirmed_again": _back_as_the_same,
        "sync_agent.keys.reading_key._away_of_theirs": _away_as_hers,
    },
)
async def test_a_reported_laptop_opens_no_new_work_though_a_server_lets_it_in_again_as_something_else(
    tmp_path: Path, by: str, how: Role | str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, lost = here.room.territory, here.teacher
        second = await another_laptop(here, lost)
        head, _ = await confirmed_head(here)
        await here.sync(second, lost, second, here.machine, head)
        if by == "head":
            await report_by_head(here, head)
            await here.sync(head)
        else:
            await cut_off(here, lost)
        if how == AS_ANOTHERS:
            other = await territory.person("M. X", PersonRole.TEACHER, here.room.space)
            await let_in_again(here, lost, Role.TEACHER, other)
        elif how == AS_HERS_WITH_ANOTHER_KEY:
            strange = new_device(Random(99).randbytes).agreement.public
            await let_in_again(here, lost, Role.TEACHER, here.room.teacher_person, strange)
        else:
            await let_in_again(here, lost, Role(how), None)
        assert not await opens_what_is_handed_in_now(here, lost, second)


@attack(ROW, off={"protocol.rights.roster._not_confirmed_again": _back_as_the_same})
async def test_nor_before_her_other_laptop_has_heard_of_it(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost = here.teacher
        second = await another_laptop(here, lost)
        await here.sync(second, lost, second, here.machine)
        await cut_off(here, lost)
        await let_in_again(here, lost, Role.MACHINE, None)
        await here.sync(here.machine)
        handed_in = await handed_in_now(here)
        assert content_key_of(handed_in, await keys_that_open(here, lost.agent)) is None
        await here.sync(second, here.machine, second)
        handed_in = (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[handed_in.id]
        assert content_key_of(handed_in, reading_keys(second.agent)) is not None


@attack(ROW, off={"sync_agent.keys.reading_key._away_of_theirs": _away_as_hers})
async def test_her_laptop_that_is_granted_beside_another_key_again_and_again_has_no_key_made(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space, first = here.room.territory, here.room.space, here.teacher
        second = await another_laptop(here, first)
        await here.sync(second, first, second, here.machine)
        before = await keys_said(here, first.agent.device)
        for number in range(3):
            strange = new_device(Random(80_000 + number).randbytes).agreement.public
            pair = second.agent.device, strange
            beside = Grant(*pair, None, Role.TEACHER, here.room.teacher_person, None, None).encode()
            granted = await territory.say(space, Kind.GRANT, beside)
            await territory.say(space, Kind.REVOKE, Revocation(second.agent.device, ()).encode(), target=granted.id)
            await here.sync(first, second, first)
        assert await keys_said(here, first.agent.device) == before
        assert not (await territory.replica.view(space)).roster.spent


def _all_may_say(_roster: Roster, _person: bytes, _device: VouchedDevice) -> bool:
    return True


@attack(ROW, off={"protocol.folds.hand_in_keys._may_say": _all_may_say})
async def test_nor_do_its_receipts_let_go_of_work_that_waits_for_its_teacher(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space, lost = here.room.territory, here.room.space, here.teacher
        await here.sync(lost, here.machine)
        work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"neu"})
        await here.sync(here.machine)
        await cut_off(here, lost)
        await here.sync(here.machine)
        other = await territory.person("M. X", PersonRole.TEACHER, space)
        here.grant = await let_in_again(here, lost, Role.TEACHER, other)
        here.spy = lost.agent.keys
        await here.say(Kind.PERSON_KEY, PersonKey(new_device(Random(5).randbytes).agreement.public).encode(), other)
        stream = (await territory.replica.view(space)).coursework.hand_ins[work].record.content.stream
        await here.say(Kind.RECEIPT_TEACHER, Receipt(stream).encode(), here.room.pupil_person, target=work)
        await here.sync(here.machine, here.machine)
        assert not await takes_for_opened(here.machine, space, work)
