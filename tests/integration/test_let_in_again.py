"""A computer that is taken out of a class, and comes back to it."""

from __future__ import annotations

from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.roles import Role
from tests.harness.machines import school
from tests.harness.spied_class import spied_class


async def test_what_is_handed_in_there_afterwards_reaches_the_teacher(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        pc = await here.room.device(Role.MACHINE, here.room.school)
        await here.sync(pc)
        keys, tips = pc.agent.keys, tuple(await territory.replica.tips(space, pc.agent.device))
        cut = await territory.say(space, Kind.REVOKE, Revocation(pc.agent.device, tips).encode())
        again = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None, None)
        await territory.say(space, Kind.GRANT, again.encode(), parents=(cut.id,))
        await here.sync(pc)
        work = await here.room.hand_in(pc, here.item, {"a.odt": b"what a pupil wrote"})
        await here.sync(pc, here.teacher)
        view = await here.teacher.agent.replica.view(space)
        assert work in view.coursework.hand_ins
        assert work not in view.roster.held_back


def test_one_that_was_found_again_has_told_all_that_it_knows_when_its_first_sync_ends(tmp_path: Path) -> None:
    with school(tmp_path) as here:
        pc = here.enrol("renard")
        device = pc.ok("status")["device"]
        here.server.ok("lost", device)
        assert pc.run("sync").code == "revoked"
        here.server.ok("grant", "--device", device, "--space", here.space)
        pc.ok("sync")
        told = here.server.run("space", "close", here.space)
        assert told.json["unheard"] == []
        assert "cut off" not in told.err
