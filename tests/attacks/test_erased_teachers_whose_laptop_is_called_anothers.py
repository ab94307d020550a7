"""A stolen server's key erases a teacher, and has her own page ask about somebody else (docs/attacks.md)."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Revocation
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from tests.harness.attack import attack
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class


def _whom_the_next_right_names_that_came(agent: Agent) -> bytes | None:
    return agent.replica.door.authorities_of(agent.device)[1].person


@attack(
    "a teacher who is erased is not told so",
    off={"sync_agent.app.Agent.person": property(_whom_the_next_right_names_that_came)},
)
@pytest.mark.parametrize("again", [False, True], ids=["her right has ended", "her right was said again"])
async def test_a_teacher_whom_a_stolen_key_erases_reads_so_on_her_first_page_whatever_it_calls_her_laptop(
    tmp_path: Path, *, again: bool
) -> None:
    async with spied_class(tmp_path) as here:
        room, territory, agent = here.room, here.room.territory, here.teacher.agent
        (was,) = territory.replica.door.authorities_of(agent.device)
        other = await territory.person("Mme Petit", PersonRole.TEACHER, room.space)
        await territory.let_in(agent.keys, Role.TEACHER, room.space, person=other)
        await here.sync()
        tips = tuple(await territory.replica.tips(room.space, agent.device))
        await territory.say(room.space, Kind.REVOKE, Revocation(agent.device, tips).encode(), target=was.grant)
        if again:
            await territory.let_in(agent.keys, Role.TEACHER, room.space, person=room.teacher_person)
        await here.sync()
        await territory.say(room.school, Kind.ERASE, Erasure(room.teacher_person).encode())
        for _ in range(3):
            await here.sync()
        async with portal(agent) as surfer:
            home = html.unescape(await surfer.page("/"))
    assert "Votre nom est effacé des listes" in home
