"""A machine brings its server what lies there of classes that are closed to it, where the server lacks it."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.roles import Role
from sync_server.handlers.overview.spoken_elsewhere import spoken_elsewhere
from sync_server.handlers.store.keys_of_before import heed_keys_of_before
from sync_server.opened.app import opened
from tests.harness.backups import restore_backup
from tests.harness.classroom import Device
from tests.harness.copied_keys import back_up, burnt_and_restored, granted, thief_says
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device


async def _in_and_out_again(here: Town, device: Device, space: bytes) -> list[bytes]:
    """The ids of what the server says: a head's computer is let into a class, and shut out of it."""
    grant, keys = here.office.server.grant, device.agent.keys
    let_in = await thief_says(here.office, Draft(space, Kind.GRANT, grant, granted(keys, Role.HEAD, None)))
    await here.sync(device)
    cut = Draft(space, Kind.REVOKE, grant, Revocation(keys.signing.public, ()).encode())
    shut_out = await thief_says(here.office, cut)
    await here.sync(device)
    return [said.id for said in (*let_in, *shut_out)]


async def test_a_server_made_anew_is_brought_what_only_a_machine_that_was_shut_out_has_heard(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        made = await here.office.do("space add", name="CM1", school="0180002E", year="2026-2027")
        await back_up(here)
        said = await _in_and_out_again(here, head, bytes.fromhex(made["space"]))
        async with burnt_and_restored(here) as new:
            assert await new.server.store.present(said) == set(said)


async def test_nor_is_a_neighbours_right_that_it_lost_taken_for_a_word_of_a_copied_key(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        made = await here.office.do("space add", name="CM1", school="0180002E", year="2026-2027")
        await back_up(here)
        neighbour = granted(new_device(Random(7).randbytes), Role.MACHINE, None)
        grant, space = here.office.server.grant, bytes.fromhex(made["space"])
        (said,) = await thief_says(here.office, Draft(space, Kind.GRANT, grant, neighbour))
        shown = await here.office.server.replica.credentials([said.id])
        await head.agent.replica.admit(shown, source=b"a neighbour", now_ms=here.office.clock(), hold=False)
        await here.sync()
        clock = here.office.clock
        await restore_backup(tmp_path / "new", tmp_path / "backup", tmp_path / "server" / "kit", clock)
        async with opened(tmp_path / "new", now_ms=clock, entropy=os.urandom) as new:
            here.frontage.responder = new.responder
            for _ in range(3):
                await here.sync()
                await heed_keys_of_before(new)
                clock.advance(DAY_MS)
            assert await new.store.present([said.id])
            assert await spoken_elsewhere(new) == []
