"""« Ont pu lire pendant un temps »: who could read a class's work, and reads it no more (docs/adr/0272)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation
from protocol.rights.door import Door
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import list_readers, rows
from sync_agent.keys.past_readers import PastReader, list_past_readers
from sync_agent.keys.seals_read import SealsRead
from sync_agent.portal.teacher.readers import MAX_NOTICES
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, cut_off, report_by_head
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def told(device: Device) -> list[PastReader]:
    return await list_past_readers(device.agent, await list_readers(device.agent))


async def a_colleague(here: SpiedClass, name: str) -> Device:
    person = await here.room.territory.person(name, PersonRole.TEACHER, here.room.space)
    colleague = await here.room.device(Role.TEACHER, person=person)
    await here.sync(colleague, here.teacher, here.machine)
    return colleague


async def hand_in(here: SpiedClass) -> None:
    await here.room.hand_in(here.machine, here.item, {"n.odt": b"handed in since"})
    await here.sync()


async def leaves(here: SpiedClass, colleague: Device) -> None:
    await cut_off(here, colleague)
    await here.sync(*(device for device in here.room.devices if device is not colleague))


async def test_who_reads_today_is_not_among_them_nor_is_the_kit(here: SpiedClass) -> None:
    await a_colleague(here, "M. Durand")
    await hand_in(here)
    assert await told(here.teacher) == []
    async with portal(here.teacher.agent) as surfer:
        assert "pendant un temps" not in await surfer.page("/readers")


async def test_a_colleague_whom_she_had_looked_at_and_who_leaves_is_there_and_no_news(here: SpiedClass) -> None:
    durand = await a_colleague(here, "M. Durand")
    (row,) = [each for each in await list_readers(here.teacher.agent) if each.device == durand.agent.device]
    async with portal(here.teacher.agent) as surfer:
        await surfer.send("/readers", "/readers/seen", {"rows": ",".join(row.hex() for row in rows([row]))})
        await hand_in(here)
        await leaves(here, durand)
        (past,) = await told(here.teacher)
        assert (past.called, past.works, past.is_news, past.mine) == ("M. Durand", 1, False, False)
        assert "a pu lire" not in html.unescape(await surfer.page("/"))
        assert "1 travail d'élève (CM1), aujourd'hui" in html.unescape(await surfer.page("/readers"))


async def test_one_at_whom_nobody_has_looked_is_news_until_somebody_does(here: SpiedClass) -> None:
    durand = await a_colleague(here, "M. Durand")
    await hand_in(here)
    await leaves(here, durand)
    here.room.territory.clock.advance(3 * 86_400_000)
    async with portal(here.teacher.agent) as surfer:
        home = html.unescape(await surfer.page("/"))
        assert "M. Durand a pu lire 1 travail d'élève (CM1)" in home
        assert "avec une clé à laquelle plus rien n'est remis. Si cela vous étonne, demandez pourquoi." in home
        (past,) = await told(here.teacher)
        seen = await surfer.send("/readers", "/readers/seen-past", {"reader": past.id.hex()})
        assert (seen.status, seen.headers["Location"]) == (303, "/readers?done=seen")
        assert "a pu lire" not in html.unescape(await surfer.page("/"))
        assert "M. Durand" in await surfer.page("/readers")
        wrong = await surfer.send("/readers", "/readers/seen-past", {"reader": "00" * 32})
        assert wrong.status >= 400


async def test_a_command_tells_of_it_and_shows_it_by_its_id(here: SpiedClass) -> None:
    durand = await a_colleague(here, "M. Durand")
    await hand_in(here)
    await leaves(here, durand)
    desk = Desk(here.teacher.agent)
    (row,) = [row for row in await desk.ask("key-readers") if row["state"] == "could read"]
    assert row["device"] == durand.agent.device.hex()
    assert (row["teacher"], row["space"], row["named_by"]) == ("M. Durand", "CM1", "server")
    assert row["past"]["works"] == 1
    assert "“M. Durand” could read 1 piece of pupils' work (CM1)" in "".join(desk.told)
    assert await desk.ask("key-readers", reader=row["id"]) == [row]
    assert await desk.ask("key-readers", reader=row["id"][:12]) == [row]


async def test_her_own_lost_laptop_is_told_in_her_name_and_is_no_news_on_the_one_that_had_confirmed_it(
    here: SpiedClass,
) -> None:
    head, _ = await confirmed_head(here)
    second = await another_laptop(here, here.teacher)
    await hand_in(here)
    await here.sync(head)
    await report_by_head(here, head)
    await here.sync(head, second, here.machine, second)
    (past,) = await told(second)
    assert (past.called, past.mine, past.is_news) == ("Mme Petit", True, False)
    async with portal(second.agent) as surfer:
        assert "Un ordinateur à votre nom" in await surfer.page("/readers")


async def test_many_are_told_a_part_at_a_time(here: SpiedClass) -> None:
    many = MAX_NOTICES + 4
    spies = [replace(here, spy=new_device(Random(7_000 + number).randbytes)) for number in range(many)]
    for number, spy in enumerate(spies):
        person = await here.room.territory.person(f"M. X{number}", PersonRole.TEACHER, here.room.space)
        await spy.name_the_spy(person)
    await here.sync(here.machine)
    await hand_in(replace(here, teacher=here.machine))
    for spy in spies:
        await cut_off_spy(spy)
    await here.sync()
    assert len(await told(here.teacher)) == many
    async with portal(here.teacher.agent) as surfer:
        home = await surfer.page("/")
        assert home.count("a pu lire 1") == MAX_NOTICES
        assert "Et 4 autres noms" in home


async def test_after_the_kit_has_closed_a_class_nobody_is_told_of_its_readers_nor_of_her_own_key(
    here: SpiedClass,
) -> None:
    await a_colleague(here, "M. Durand")
    await hand_in(here)
    assert await told(here.teacher) == []
    await here.room.territory.kit_says(here.room.school, Kind.ERASE, Erasure(here.room.space).encode())
    await here.sync()
    assert await told(here.teacher) == []
    desk = Desk(here.teacher.agent)
    assert [row for row in await desk.ask("key-readers") if row["state"] == "could read"] == []
    assert "could read" not in "".join(desk.told)
    async with portal(here.teacher.agent) as surfer:
        for address in ("/", "/readers"):
            page = html.unescape(await surfer.page(address))
            assert "a pu lire" not in page
            assert "pendant un temps" not in page


async def cut_off_spy(here: SpiedClass) -> None:
    await here.room.territory.say(here.room.space, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())


async def test_what_was_sealed_is_read_once_however_often_a_page_asks(
    here: SpiedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []
    plain = SealsRead._add

    def counted(this: SealsRead, entry: Entry, door: Door, *, is_own: bool) -> None:
        read.append(entry.id)
        plain(this, entry, door, is_own=is_own)

    monkeypatch.setattr(SealsRead, "_add", counted)
    for _ in range(3):
        await hand_in(here)
        for _ in range(2):
            await told(here.teacher)
    assert len(read) == len(set(read)) >= 3
