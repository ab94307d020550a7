"""What pupils have begun goes with what was destroyed here, and with nothing else (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.model.work import ItemKind, Revision
from sync_agent.hand_ins.drafts import DRAFT_MARKS
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, classroom
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, sign_in, signed_class


def _whatever_is_bare(_: Container[bytes], entry: Entry) -> bool:
    return entry.payload is None


@attack(
    "a header that came alone passes for something destroyed",
    off={"sync_agent.hand_ins.drafts.is_among": _whatever_is_bare},
)
async def test_who_has_the_server_has_no_drafts_go_by_giving_an_assignments_first_version_as_a_header(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        school, territory = await signed_class(room), room.territory
        teacher, machine, server = school.teacher, school.pc, territory.replica
        item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        await teacher.session.sync()
        (first,) = (await server.store.get([item])).values()
        erasure = await territory.say(territory.id, Kind.ERASE, Erasure(item).encode())
        await territory.say(territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
        await server.store.erase([item])
        await server.reload()
        # the server says the teacher's version again in its own name: pupils see what she has published
        again = Revision.parse(first.payload or b"")
        await territory.say(room.space, Kind.REVISION, again.encode(), target=item, parents=(item,))
        for _ in range(2):
            await machine.session.sync()
        async with portal(machine.agent) as surfer:
            await sign_in(surfer, school.lea, PICTURES)
            page = f"/item/{item.hex()}"
            fields = {"person": school.lea.hex(), "later": "yes"}
            assert (await surfer.send(page, f"{page}/hand-in", fields, [("recit.odt", b"Il etait")])).status == 303
        await destroy_erased(machine.agent)
        assert len(await machine.agent.replica.store.marks(DRAFT_MARKS)) == 1
