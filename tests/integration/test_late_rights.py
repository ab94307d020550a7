"""A server that was made anew cuts a laptop off before it knows all of the laptop's classes: who runs it is told."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.replica.at_work.replica import Replica
from sync_server.handlers.by_kit.territory import new_kit
from sync_server.handlers.record.late_rights import late_right_notices, late_rights
from tests.harness.server_in_process import Office, office


async def bring(made: Office, before: Replica, *spaces: bytes) -> None:
    """What a machine holds of these spaces comes to the server."""
    said = [stored.entry for space in spaces for stored in await before.store.scan(space)]
    await made.server.replica.admit(said, source=b"machine", now_ms=made.clock())


async def test_a_laptop_that_goes_on_in_a_class_of_which_the_server_heard_later_is_told_until_it_is_said_again(
    tmp_path: Path,
) -> None:
    kit = new_kit("Cher", os.urandom)
    async with office(tmp_path / "burnt", kit=kit) as burnt:
        other = str((await burnt.do("space add", name="CE1", school="0180001D", year="none"))["space"])
        petit = await burnt.add_person("Mme Petit", "teacher", burnt.space, other)
        laptop = await burnt.enrol(await burnt.invite("teacher", burnt.space, other, person=petit))
        device, before = laptop.keys.signing.public, burnt.server.replica
        seen, further = bytes.fromhex(burnt.space), bytes.fromhex(other)
        burnt.clock.advance(60_000)
        async with office(tmp_path / "anew", burnt.clock, kit=kit) as anew:
            await bring(anew, before, *before.door.lineage(seen)[::-1])
            await anew.do("lost", device=laptop.id, since=None, anyway=False, keep=False)
            assert await late_rights(anew.server) == []
            await bring(anew, before, further)
            assert await late_rights(anew.server) == [device]
            (notice,) = await late_right_notices(anew.server)
            assert (notice.topic, notice.facts["count"]) == ("late-rights", 1)
            anew.clock.advance(60_000)
            await anew.do("lost", device=laptop.id, since=None, anyway=False, keep=False)
            assert await late_right_notices(anew.server) == []
            anew.clock.advance(60_000)
            await anew.do("grant", device=laptop.id, space=[other])
            assert await late_right_notices(anew.server) == [], "it was found again"
