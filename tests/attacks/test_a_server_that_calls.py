"""Whoever has a copy of the server's key calls the honest server, or a machine, under it, and only listens."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code, PeerFault, Refused
from protocol.identity import SigningKey
from protocol.limits import CAPABILITY_LIFETIME_S
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.wire import Call, Capability, Purpose
from protocol.replica.answering.serving import Responder
from sync_agent.lan.exchange.listener import LanResponder
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.spoken_elsewhere import spoken_elsewhere
from sync_server.handlers.store.keys_of_before import heed_keys_of_before
from sync_server.handlers.store.notices import key_notices
from sync_server.opened.app import opened
from sync_server.opened.keys import ServerKeys
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.harness.attack import attack
from tests.harness.caller import called
from tests.harness.copied_keys import back_up, burnt_and_restored
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal

ROW = "a copied key calls the honest server"


async def _anybody(_responder: Responder, _caller: bytes) -> None:
    return


OFF: dict[str, object] = {"protocol.replica.answering.serving.Responder._refuse_servers": _anybody}


async def _calls(responder: Responder, key: SigningKey) -> SyncAnswer:
    """The thief calls under the copied key. Raises what the answer says."""
    return SyncAnswer.parse(await called(responder, key, Call.SYNC, SyncRequest().encode(), os.urandom))


async def _listens(here: Town, key: SigningKey | None = None) -> list[object]:
    """What the honest server shows whoever calls it under its own key."""
    server = here.office.server
    with suppress(Refused):
        return list((await _calls(server.responder, key or server.keys.signing)).pages)
    return []


async def _told(here: Town) -> list[Any]:
    """What `status` has of it."""
    return list((await here.office.do("status"))["spoken_elsewhere"])


@attack(ROW, off=OFF)
async def test_whoever_only_listens_under_the_servers_key_is_shown_nothing(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_at_work()
        assert await _listens(here) == []


@attack(ROW, off=OFF)
async def test_that_somebody_listens_is_told_until_there_are_new_keys(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_at_work()
        head = await here.head_of_the_school()
        office = here.office
        await _listens(here)
        told = await _told(here)
        assert [(each["words"], each["shown"], each["called"] == each["first"]) for each in told] == [(0, [], True)]
        office.said.alarms.clear()
        await office.do("person list", space=office.space)
        (line,) = office.said.alarms
        assert "somebody has called this server under it" in line
        await here.sync(head)
        async with portal(head.agent) as surfer:
            assert 'id="elsewhere"' in await surfer.page("/school")
        await office.server.close()
        async with opened(tmp_path / "server", now_ms=office.clock, entropy=os.urandom) as again:
            assert [each.row() for each in await spoken_elsewhere(again)] == told
        office.clock.advance(60_000)


async def test_new_keys_end_that(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_at_work()
        before = here.office.server.keys.signing
        await _listens(here)
        here.office.clock.advance(60_000)
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None))
        await _listens(here, before)
        assert await _told(here) == []


@pytest.mark.parametrize("language", ["fr", "en"])
async def test_the_overview_and_the_figures_say_so(tmp_path: Path, language: str) -> None:
    async with town(tmp_path) as here:
        await _listens(here)
        await _listens(here)
        (notice,) = await key_notices(here.office.server)
        assert "--since" in notice_of(Words(language, here.office.clock()), notice).remedy


@attack(ROW, off=OFF)
async def test_under_the_key_of_the_server_before_a_restored_one_it_is_told_too(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_at_work()
        before = here.office.server.keys.signing
        await here.sync()
        await back_up(here)
        async with burnt_and_restored(here) as new:
            here.office = new
            for _ in range(2):
                new.clock.advance(86_400_000)
                await here.sync()
            await heed_keys_of_before(new.server)
            assert await _listens(here, before) == []
            assert [each["key"] for each in await _told(here)] == [before.public.hex()]


@attack(ROW, off=OFF)
async def test_no_machine_shows_a_server_anything(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        work = await here.class_at_work()
        responder = LanResponder(work.machine.agent)
        with pytest.raises(Refused):
            await _calls(responder, here.office.server.keys.signing)


async def test_a_copy_of_the_disk_issues_no_links(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        work = await here.class_at_work()
        server, now_s = here.office.server, here.office.clock() // 1_000
        device, space = work.machine.agent.device, server.replica.territory
        forged = Capability(Purpose.LISTEN, space, device, 0, now_s + CAPABILITY_LIFETIME_S)
        with pytest.raises(PeerFault) as refused:
            server.responder.listener(forged.issue(ServerKeys.read(server.folder).capability))
        assert refused.value.code is Code.BAD_CAPABILITY
