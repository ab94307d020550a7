"""What a server in wrong hands refuses, and what becomes of it afterwards (docs/threat-model.md)."""

from __future__ import annotations

from pathlib import Path

from protocol.errors import Code
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Refusal
from protocol.replica.answering.serving import _Taken
from protocol.trust.envelope import OpenedRequest
from sync_agent.machine.marks import REFUSED_MARKS
from tests.harness.attack import attack
from tests.harness.classroom import WORK, assignment, classroom


async def nothing(_repair: object) -> None:
    """What was refused once is refused."""


@attack("a server that refuses everything", off={"sync_agent.sync.repair.SyncRepair.ask_again": nothing})
async def test_what_a_server_in_wrong_hands_refused_reaches_the_one_that_the_kit_makes(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, lea = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, lea)
        work = await room.hand_in(lea, task, WORK)

        async def refusing(opened: OpenedRequest, _parse: object, _now_ms: int) -> tuple[SyncRequest, _Taken]:
            request = SyncRequest.parse(opened.payload)
            refused = tuple(Refusal(entry.id, Code.NO_RIGHT) for entry in request.push)
            return request, _Taken((), refused, frozenset())

        room.frontage.responder._take_in = refusing  # type: ignore[assignment, method-assign]
        await lea.session.sync()
        assert f"{REFUSED_MARKS}{work.hex()}" in await lea.agent.replica.store.marks(REFUSED_MARKS)
        old = room.territory
        old.clock.advance(60_000)
        new = await old.reborn(tmp_path / "reborn")
        for space in old.replica.door.spaces():
            told = [scanned.entry for scanned in await old.replica.store.scan(space)]
            await new.replica.admit(told, source=b"old", now_ms=new.clock())
        await room.replace_server(new)
        for _ in range(3):
            await lea.session.sync()
        assert work in (await new.replica.view(room.space)).coursework.hand_ins
        assert not await lea.agent.replica.store.marks(REFUSED_MARKS)
