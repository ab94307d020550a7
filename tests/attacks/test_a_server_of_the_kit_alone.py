"""A server made anew of its kit knows of no erasure, and its first caller may be anybody (docs/attacks.md)."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.clock import DAY_MS
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.handlers.store.restored import KIT_ALONE_MS
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.office_devices import town
from tests.harness.server_in_process import Office

ROW = "a server is made anew from before somebody was forgotten"


@attack(ROW, off={"sync_server.handlers.store.restored.made_anew_ms": lambda _mark: None})
async def test_whom_its_first_caller_brings_back_is_named_beside_a_warning_until_machines_have_called(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        pupil = (await here.class_at_work()).pupil
        kit, clock, server = kit_in(tmp_path / "server" / "kit", None), here.office.clock, here.office.server
        await here.sync()
        old_copy = [each.entry for space in server.replica.door.spaces() for each in await server.store.scan(space)]
        await here.office.do("erase", person=[pupil])
        await here.sync()
        (tmp_path / "anew").mkdir()
        clock.advance(DAY_MS)
        await begin_territory(
            tmp_path / "anew", kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True
        )
        async with opened(tmp_path / "anew", now_ms=clock, entropy=os.urandom) as new:
            office = Office(new, clock, here.office.space)
            await new.replica.admit(old_copy, source=b"a thief's PC", now_ms=clock(), bounded=False)

            async def listed() -> bool:
                office.said.lines.clear()
                rows = await office.do("person list", space=office.space)
                return pupil in {row["person"] for row in rows}

            assert await listed()
            assert any("made anew from its kit" in line for line in office.said.lines)
            assert (await office.do("status"))["restored"]["backup"] is None
            # the machines call, which know of it
            here.frontage.responder = new.responder
            await here.sync()
            await here.sync()
            assert not await listed()
            assert office.said.lines, "others, of whom nothing has been brought, may still know of erasures"
            clock.advance(KIT_ALONE_MS + DAY_MS)
            assert not await listed()
            assert not office.said.lines
            assert (await office.do("status"))["restored"] is None
