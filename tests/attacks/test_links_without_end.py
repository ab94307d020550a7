"""A server in wrong hands that always has more to say, and names content all the while (docs/attacks.md)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import InlinePack, Link, SpacePage
from protocol.reconcile.checkpoint import Checkpoint
from protocol.transfer.delta import DELTA_MAGIC
from sync_agent.sync import content
from sync_agent.sync.content import SyncContent
from sync_agent.sync.run import Run
from tests.harness.attack import attack
from tests.harness.classroom import LARGE, Classroom

LINKS, DELTA_BYTES, ANSWERS = 1_000, 1_000, 12


def never(_run: Run) -> bool:
    """Whatever a server names is noted."""
    return False


@attack("a server names content without end", off={"sync_agent.sync.content._is_laden": never})
async def test_what_a_server_names_while_it_has_more_to_say_is_noted_up_to_a_bound(room: Classroom) -> None:
    machine = await room.machine()
    for _ in range(2):
        await machine.session.sync()
    draw, said_so = Random(3).randbytes, 0
    noted: list[tuple[int, int]] = []
    work_off = SyncContent.work_off

    def lying(**said: Any) -> SyncAnswer:
        nonlocal said_so
        if "pages" in said and said_so < ANSWERS:
            said_so += 1
            page = SpacePage(Checkpoint(room.space, 2**40 + said_so, bytes(8), bytes(16)), (), (), more=True)
            links = tuple(Link(room.space, draw(32), 0, "") for _ in range(LINKS))
            delta = InlinePack(room.space, DELTA_MAGIC + draw(DELTA_BYTES))
            more = said_so < ANSWERS
            said |= {"pages": (page,), "links": links, "packs": (delta,), "more": more, "unlike": False}
        return SyncAnswer(**said)

    async def counted(self: SyncContent, run: Run) -> None:
        noted.append((len(run.links), sum(len(pack.data) for pack in run.early)))
        run.links.clear()
        await work_off(self, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocol.replica.answering.serving.SyncAnswer", lying)
        patch.setattr(content, "MAX_NOTED_LINKS", 4 * LINKS)
        patch.setattr(SyncContent, "work_off", counted)
        await machine.session.sync()
    assert said_so == ANSWERS
    assert max(links for links, _ in noted) <= 5 * LINKS
    assert max(size for _, size in noted) <= 5 * (DELTA_BYTES + len(DELTA_MAGIC))


async def test_what_a_sync_did_not_note_is_asked_for_in_the_same_sync(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_NOTED_LINKS", 0)
    teacher, machine = await room.teacher(), await room.machine()
    await room.publish(teacher, LARGE)
    await teacher.session.sync()
    await machine.session.sync()
    assert await room.agree()
