"""Whoever has the server grants an honest laptop something more: other keys, another teacher, a head's right.

`grant` on a head teacher's computer, and « Mon école », let in what was looked at, and leave no laptop out unsaid
(docs/attacks.md).
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.replica.office.bureau import Office
from protocol.replica.office.grants import Standing, _standing, standing_grants
from protocol.rights.door import Authority
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head, let_into_another_class
from tests.harness.passing_days import pass_days
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device

OF_A_LAPTOP = "a server grants an honest laptop something more"
OF_MANY = "teachers' computers that do not exist hold up who lets a teacher in"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def _head_who_has_known_them(here: Here) -> Device:
    head, _ = await confirmed_head(here)
    await pass_days(here.room.territory, 7, head)
    return head


async def _class_more(head: Device) -> str:
    return str((await Desk(head.agent).ask("space add", name="CE2", year="2026-2027"))["space"])


def _granted_in(head: Device, space: str, device: bytes) -> Authority:
    (grant,) = [each for each in head.agent.replica.door.authorities_of(device) if each.space.hex() == space]
    return grant


def _in_any_class(_office: Office, above: Iterable[Authority], _spaces: Sequence[bytes]) -> bool:
    return any(True for _ in above)


@attack(
    OF_A_LAPTOP,
    off={
        "protocol.replica.office.grants.has_already": _in_any_class,
        "sync_agent.school.devices.has_already": _in_any_class,
    },
)
async def test_a_laptop_that_the_server_grants_a_heads_right_in_one_class_stays_out_of_no_other_unsaid(
    here: Here,
) -> None:
    head, laptop = await _head_who_has_known_them(here), here.teacher.agent
    await here.room.territory.let_in(laptop.keys, Role.HEAD, here.room.space, person=here.room.teacher_person)
    await here.sync(head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert laptop.device not in inside
    assert device_words(own_device(laptop)) in told
    space = await _class_more(head)
    await Desk(head.agent).ask("grant", device=laptop.device.hex(), space=[space])
    assert _granted_in(head, space, laptop.device).role is Role.TEACHER


async def _the_last(office: Office, device: bytes, _spaces: Sequence[bytes]) -> list[Authority]:
    return list(reversed(await standing_grants(office, device)))


@attack(OF_A_LAPTOP, off={"protocol.replica.office.grants._with_a_say": _the_last})
async def test_a_laptop_that_the_server_calls_somebody_elses_as_well_is_let_in_as_whose_it_was(here: Here) -> None:
    head, laptop = await _head_who_has_known_them(here), here.teacher.agent
    other = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    await here.room.territory.let_in(laptop.keys, Role.TEACHER, here.room.space, person=other)
    await here.sync(head)
    space, desk = await _class_more(head), Desk(head.agent)
    await desk.ask("grant", device=laptop.device.hex(), space=[space])
    assert "Mme Petit" in "".join(desk.told)
    assert _granted_in(head, space, laptop.device).person == here.room.teacher_person
    assert [row["name"] for row in await desk.ask("person list", space=space)] == ["Mme Petit"]


async def _the_first(office: Office, device: bytes, spaces: Sequence[bytes], _chosen: Standing | None) -> Any:
    grant = (await standing_grants(office, device))[0]
    return _standing(grant), grant


@attack(OF_A_LAPTOP, off={"protocol.replica.office.grants._further": _the_first})
async def test_what_comes_in_on_the_page_is_the_pair_of_keys_whose_words_were_looked_at(here: Here) -> None:
    head, _ = await confirmed_head(here)
    territory, spy, hers = here.room.territory, here.spy, new_device(Random(7).randbytes)
    person = await territory.person("Mme Neuve", PersonRole.TEACHER, here.room.space)
    for agreement, certificate in (
        (spy.agreement.public, spy.tls.fingerprint),
        (hers.agreement.public, hers.tls.fingerprint),
    ):
        named = Grant(hers.signing.public, agreement, certificate, Role.TEACHER, person, None, None)
        await territory.say(here.room.space, Kind.GRANT, named.encode())
    await here.sync(head)
    space = await _class_more(head)
    async with portal(head.agent) as surfer:
        place, who = f"/school/{space}", f"device:{hers.signing.public.hex()}"
        page = html.unescape((await surfer.send(place, f"{place}/let-in", {"who": who})).text)
        shown = re.findall(r'class="proof-code">([^<]+)<.*?name="seen" value="([^"]+)"', page, re.DOTALL)
        (seen,) = [name for words, name in shown if words == device_words(own_keys(hers))]
        assert (await surfer.send(place, f"{place}/let-in", {"who": who, "seen": seen})).status == 303
    assert _granted_in(head, space, hers.signing.public).agreement == hers.agreement.public


@attack(OF_MANY, off={"protocol.replica.office.commands.MAX_TOLD_DEVICES": 10_000})
async def test_of_however_many_computers_that_grants_call_a_teachers_twenty_are_told_and_the_rest_counted(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await _head_who_has_known_them(here)
    await let_into_another_class(head, here.room.teacher_person, "CE1")  # of hers it was told
    worked_out: list[object] = []

    def counted(device: VouchedDevice) -> str:
        worked_out.append(device)
        return device_words(device)

    monkeypatch.setattr("protocol.replica.office.commands.device_words", counted)
    for seed in range(25):
        keys = new_device(Random(100 + seed).randbytes)
        await here.room.territory.let_in(keys, Role.TEACHER, here.room.space, person=here.room.teacher_person)
    await here.sync(head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert here.teacher.agent.device in inside
    assert len(worked_out) <= 20
    assert "and 5 more" in told


async def test_what_is_looked_up_for_a_teacher_is_looked_up_once_however_many_computers_there_are(here: Here) -> None:
    head = await _head_who_has_known_them(here)
    store, territory = head.agent.replica.store, here.room.territory
    asked: list[int] = []
    scan = store.scan_kinds

    async def counted(kinds: Sequence[int], after: int = 0) -> list[Entry]:
        asked.append(1)
        return await scan(kinds, after)

    async def scans() -> int:
        asked.clear()
        await let_into_another_class(head, here.room.teacher_person)
        return len(asked)

    async def more(seeds: Iterable[int]) -> None:
        for seed in seeds:
            keys = new_device(Random(100 + seed).randbytes)
            await territory.let_in(keys, Role.TEACHER, here.room.space, person=here.room.teacher_person)
        await here.sync(head)

    await more([0])
    store.scan_kinds = counted  # type: ignore[method-assign]
    before = await scans()
    await more(range(1, 13))
    assert await scans() <= before
