"""A copy of the server's key speaks beside the honest server, which is brought its words: people are told."""

from __future__ import annotations

import html
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.identity import SigningKey, school_id
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonRecord, Revocation, SpaceRecord
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.held_in_space import not_held_back
from protocol.roles import PersonRole, Role
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.spoken_elsewhere import spoken_elsewhere
from sync_server.handlers.store import keys_of_before
from sync_server.handlers.store.notices import key_notices
from sync_server.handlers.store.restored import restored
from sync_server.opened.app import Server, opened
from sync_server.opened.spoken_elsewhere import NAMED, Elsewhere
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import (
    answered_by_a_copy,
    back_up,
    brought,
    burnt_and_restored,
    granted,
    said_by_copy,
    signed_with,
)
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.portal import portal
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "a copied key speaks beside the honest server"


def _sees_nothing(_self: object, _came: Iterable[Entry]) -> Mapping[str, bytes | None]:
    return {}


SPACE_OF_HIS = SpaceRecord("CM1 C", None, "2026-2027").encode()
PUPIL = PersonRecord("Léa", PersonRole.PUPIL).encode()
OF_A_LATER_VERSION = 95
LEA = "1ea" + "0" * 29
OFF: dict[str, object] = {"sync_server.opened.spoken_elsewhere.SpokenElsewhere.witness": _sees_nothing}


@dataclass
class Copied:
    """A class at work; a copy of the server's disk has answered its PC for a minute, and called its pupil “Tom”."""

    here: Town
    machine: Device
    head: Device
    folder: Path

    async def told(self) -> list[Any]:
        """What `status` has of it."""
        return list((await self.here.office.do("status"))["spoken_elsewhere"])

    async def lines(self, command: str, **params: Any) -> list[str]:
        """What a command says beside its result."""
        self.here.office.said.alarms.clear()
        await self.here.office.do(command, **params)
        return list(self.here.office.said.alarms)

    async def new_keys(self, **params: Any) -> None:
        await self.here.office.with_kit("rotate server", kit_in(self.folder / "server" / "kit", None), **params)


async def _copied(here: Town, folder: Path) -> Copied:
    work = await here.class_at_work()
    head = await here.head_of_the_school()
    made = Copied(here, work.machine, head, folder)
    await here.sync()
    assert await made.told() == [], "whatever an honest server says, and hears again"
    await note_arrivals(here.office.server.store, here.office.clock())
    here.office.clock.advance(3600_000)
    async with answered_by_a_copy(here, folder) as false:
        await Office(false, here.office.clock, here.office.space).do("person rename", person=work.pupil, name="Tom")
        await here.sync(work.machine)
    here.office.clock.advance(60_000)
    return made


@attack(ROW, off=OFF)
async def test_the_honest_server_tells_of_it_once_a_machine_has_brought_a_word(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        assert await copied.told() == []
        await here.sync(copied.machine)
        key = here.office.server.keys.signing.public.hex()
        assert [(each["key"], each["replaced"]) for each in await copied.told()] == [(key, False)]
        (told,) = await copied.told()
        assert told["words"] == len(told["shown"]) > 0
        assert "person" in {word["kind"] for word in told["shown"]}
        (line,) = await copied.lines("person list", space=here.office.space)
        assert "rotate server --kit KIT --since TIME" in line
        assert await copied.lines("status") == [line], "once"
        assert not await copied.lines("audit")


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_the_overview_says_so_first(tmp_path: Path, language: str) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        await here.sync(copied.machine)
        (told,) = await copied.told()
        (notice,) = await key_notices(here.office.server)
        shown = notice_of(Words(language, here.office.clock()), notice)
        assert "--since" in shown.remedy
        assert str(told["words"]) in shown.remedy


@attack(ROW, off=OFF)
async def test_it_is_told_after_a_restart_and_each_word_counts_once(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        await here.sync(copied.machine)
        before = await copied.told()
        await here.sync(copied.machine, copied.head)
        assert await copied.told() == before, "the others bring it as well"
        await here.office.server.close()
        async with opened(tmp_path / "server", now_ms=here.office.clock, entropy=os.urandom) as again:
            assert [each.row() for each in await spoken_elsewhere(again)] == before != []


@attack(ROW, off=OFF)
async def test_who_goes_by_lists_is_told_on_her_own_computer(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        async with portal(copied.head.agent) as surfer:
            assert 'id="elsewhere"' not in await surfer.page("/school")
        await here.sync(copied.machine, copied.head)
        async with portal(copied.head.agent) as surfer:
            for page in ("/school", "/"):
                assert "La clé du serveur parle ailleurs" in html.unescape(await surfer.page(page))
        desk = Desk(copied.head.agent)
        await desk.ask("person doubles", space=here.office.space)
        assert any("spoken elsewhere" in line for line in desk.told)


@attack(ROW, off=OFF)
async def test_whoever_answers_with_the_copy_takes_that_back_nowhere(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        await here.sync(copied.machine, copied.head)
        async with answered_by_a_copy(here, tmp_path) as false:
            await false.store.set_marks(dict.fromkeys(await false.store.marks("spoken-elsewhere/")))
            false.elsewhere.by_key.clear()
            await here.sync(copied.head)
        async with portal(copied.head.agent) as surfer:
            assert 'id="elsewhere"' in await surfer.page("/school")


async def test_nor_does_it_keep_that_away_by_having_said_it_first(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        async with answered_by_a_copy(here, tmp_path) as false:
            false.responder.has_spoken_elsewhere = lambda: True
            await here.sync(copied.head)
        await here.sync(copied.machine, copied.head)
        async with portal(copied.head.agent) as surfer:
            assert 'id="elsewhere"' in await surfer.page("/school")


async def test_new_keys_since_a_time_end_it_everywhere(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        await here.sync(copied.machine, copied.head)
        await copied.new_keys(since="30m")
        assert await copied.told() == []
        await here.sync()
        async with portal(copied.head.agent) as surfer:
            assert 'id="elsewhere"' not in await surfer.page("/school")


@attack(ROW, off=OFF)
async def test_new_keys_without_a_time_keep_its_words_and_that_is_told(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        await here.sync(copied.machine)
        await copied.new_keys()
        assert [each["replaced"] for each in await copied.told()] == [True]
        (line,) = await copied.lines("person list", space=here.office.space)
        assert "whose words count still" in line


@attack(ROW, off=OFF)
async def test_a_word_that_had_to_wait_is_told_too(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        space = said_by_copy(here, Kind.SPACE, SPACE_OF_HIS, here.school)
        listed = said_by_copy(here, Kind.PERSON, PUPIL, space.id, subject=LEA)
        server: Server = here.office.server
        await server.replica.admit([listed], source=b"a PC", now_ms=here.office.clock())
        await brought(here, space)
        told = (await here.office.do("status"))["spoken_elsewhere"]
        assert {word["id"] for each in told for word in each["shown"]} == {space.id.hex(), listed.id.hex()}


@attack(ROW, off=OFF)
async def test_so_is_one_that_waited_for_a_word_of_the_honest_servers(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        server: Server = here.office.server
        listed = said_by_copy(here, Kind.PERSON, PUPIL, school_id(server.replica.territory, "0189999W"), subject=LEA)
        admission = await server.replica.admit([listed], source=b"a PC", now_ms=here.office.clock())
        assert admission.waiting == (listed.id,)
        await here.office.do("space add", name="CM1", school="0189999W", year="2026-2027")
        told = (await here.office.do("status"))["spoken_elsewhere"]
        assert [word["id"] for each in told for word in each["shown"]] == [listed.id.hex()]


def _of_this_version_alone(kind: int) -> str:
    return Kind(kind).name.lower()


@attack(ROW, off={"sync_server.handlers.overview.spoken_elsewhere.kind_name": _of_this_version_alone})
async def test_status_names_a_word_of_a_kind_that_a_later_version_knows(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await brought(here, said_by_copy(here, OF_A_LATER_VERSION, b"x", here.space))
        try:
            told = (await here.office.do("status"))["spoken_elsewhere"]
        except ValueError:
            told = []
        assert [word["kind"] for each in told for word in each["shown"]] == [str(OF_A_LATER_VERSION)]


def _by_the_first(_heard: Elsewhere) -> bool:
    return False


@attack(ROW, off={"sync_server.opened.spoken_elsewhere.Elsewhere.is_more": property(_by_the_first)})
async def test_nor_do_many_words_first_that_he_ends_himself_keep_away_that_the_next_count(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = await _copied(here, tmp_path)
        spy = granted(new_device(Random(666).randbytes), Role.TEACHER, None)
        decoys = [said_by_copy(here, Kind.GRANT, spy) for _ in range(NAMED)]
        here.office.clock.advance(1000)
        cut = said_by_copy(here, Kind.REVOKE, Revocation(Grant.parse(spy).signing, ()).encode())
        here.office.clock.advance(1000)
        again = said_by_copy(here, Kind.GRANT, spy, parents=(cut.id,))
        for word in (*decoys, cut, again):
            await brought(here, word)
        await copied.new_keys()
        assert await not_held_back(here.office.server.replica, [again])
        assert await copied.told()
        here.office.clock.advance(60_000)
        await copied.new_keys(since="1h")
        assert await copied.told() == []
        await here.office.server.close()
        async with opened(tmp_path / "server", now_ms=here.office.clock, entropy=os.urandom) as again_open:
            assert await spoken_elsewhere(again_open) == []


async def _heeds_none(_server: object) -> None:
    return


@dataclass
class MadeAnew:
    """A server that was restored after a fire; somebody has a copy of the key of before."""

    here: Town
    head: Device
    work: AtWork
    key: SigningKey
    grant: bytes

    def says(self, kind: Kind, payload: bytes, subject: bytes | None = None, parents: tuple[bytes, ...] = ()) -> Entry:
        """A word of his."""
        space, now_ms = self.here.space, self.here.office.clock()
        return signed_with(self.key, self.grant, space, now_ms, kind, payload, subject=subject, parents=parents)

    def calls_her_tom(self) -> Entry:
        """That pupil is called “Tom”."""
        return self.says(Kind.PERSON, PersonRecord("Tom", PersonRole.PUPIL).encode(), bytes.fromhex(self.work.pupil))

    async def days(self, count: int) -> None:
        """So many days, in each of which all machines call, and the server looks which keys it is to heed."""
        for _ in range(count):
            self.here.office.clock.advance(DAY_MS)
            await self.here.sync()
            await keys_of_before.heed_keys_of_before(self.here.office.server)

    async def told(self) -> list[Any]:
        return list((await self.here.office.do("status"))["spoken_elsewhere"])


@asynccontextmanager
async def _made_anew(folder: Path) -> AsyncIterator[MadeAnew]:
    async with town(folder) as here:
        work = await here.class_at_work()
        head = await here.head_of_the_school()
        await here.sync()
        key, grant = here.office.server.keys.signing, here.office.server.grant
        await back_up(here)
        async with burnt_and_restored(here) as new:
            here.office = new
            yield MadeAnew(here, head, work, key, grant)


@attack(ROW, off={"sync_server.handlers.store.keys_of_before.heed_keys_of_before": _heeds_none})
async def test_a_restored_server_tells_of_the_key_of_before_once_all_have_told(tmp_path: Path) -> None:
    async with _made_anew(tmp_path) as made:
        await made.days(2)
        assert (await made.here.office.do("status"))["restored"] is None
        assert await made.told() == []
        await brought(made.here, made.calls_her_tom())
        told = [(each["key"], each["replaced"], each["words"]) for each in await made.told()]
        assert told == [(made.key.public.hex(), True, 1)]
        made.here.office.said.alarms.clear()
        await made.here.office.do("person list", space=made.here.office.space)
        (line,) = made.here.office.said.alarms
        assert "a key of the server before this one" in line
        await made.here.sync(made.head)
        async with portal(made.head.agent) as surfer:
            assert 'id="elsewhere"' in await surfer.page("/school")


async def _is_looked_at_anew(server: Server) -> None:
    """As it was: heeded is a key as long as no machine is waited for."""
    before = frozenset(await keys_of_before.keys_that_still_count(server)).difference(server.own_keys)
    server.elsewhere.of_before = before if await restored(server) is None else frozenset()


@attack(ROW, off={"sync_server.handlers.store.keys_of_before.heed_keys_of_before": _is_looked_at_anew})
async def test_who_has_the_key_of_before_does_not_end_that_by_a_machine_that_there_is_not(tmp_path: Path) -> None:
    async with _made_anew(tmp_path) as made:
        await made.days(2)
        nobody = new_device(Random(77).randbytes)
        right = granted(nobody, Role.MACHINE, None)
        await brought(made.here, made.says(Kind.GRANT, right))
        await made.days(1)
        cut = made.says(Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
        await brought(made.here, cut)
        made.here.office.clock.advance(60_000)
        await brought(made.here, made.says(Kind.GRANT, right, parents=(cut.id,)))
        await brought(made.here, made.calls_her_tom())
        await made.days(1)
        assert [each["words"] for each in await made.told()] == [4]


async def test_what_a_backup_lacks_comes_back_and_nothing_is_told_of_that(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        work = await here.class_at_work()
        await here.sync()
        await back_up(here)
        await here.office.do("person rename", person=work.pupil, name="Zoé")
        await here.sync()
        async with burnt_and_restored(here) as new:
            here.office = new
            await keys_of_before.heed_keys_of_before(new.server)
            await here.sync()
            assert (await new.do("status"))["spoken_elsewhere"] == []
            view = await new.server.replica.view(here.space)
            assert view.roster.persons[bytes.fromhex(work.pupil)].name == "Zoé"


async def test_new_keys_of_the_kits_end_that_too(tmp_path: Path) -> None:
    async with _made_anew(tmp_path) as made:
        await made.days(2)
        await brought(made.here, made.calls_her_tom())
        kit = kit_in(tmp_path / "server" / "kit", None)
        await made.here.office.with_kit("rotate server", kit, since="1h", anyway=True)
        await made.days(2)
        assert await made.told() == []
        await made.here.sync(made.head)
        async with portal(made.head.agent) as surfer:
            assert 'id="elsewhere"' not in await surfer.page("/school")
