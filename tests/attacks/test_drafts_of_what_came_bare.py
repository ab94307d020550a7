"""What pupils have begun goes with what was destroyed here, and with nothing else (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path

from protocol.clock import DAY_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.model.work import ItemKind, Revision
from protocol.replica.upkeep.orders import DestroyedHere
from protocol.roles import PersonRole, Role
from sync_agent.machine.marks import DRAFT_MARKS
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, classroom
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, SignedClass, sign_in, signed_class


def _whatever_is_bare(_person: bytes, item: Entry | None, _destroyed: DestroyedHere) -> bool:
    return item is not None and item.payload is None


def _of_who_was_destroyed_anywhere(person: bytes, _item: Entry | None, destroyed: DestroyedHere) -> bool:
    return person in destroyed.names


async def _begun(school: SignedClass, item: bytes) -> None:
    """Léa keeps what she has begun for later."""
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        page, fields = f"/item/{item.hex()}", {"person": school.lea.hex(), "later": "yes"}
        assert (await surfer.send(page, f"{page}/hand-in", fields, [("recit.odt", b"Il etait")])).status == 303


@attack(
    "a header that came alone passes for something destroyed",
    off={"sync_agent.hand_ins.drafts._is_over": _whatever_is_bare},
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
        await _begun(school, item)
        await destroy_erased(machine.agent)
        assert len(await machine.agent.replica.store.marks(DRAFT_MARKS)) == 1


@attack(
    "a header that came alone passes for something destroyed",
    off={"sync_agent.hand_ins.drafts._is_over": _of_who_was_destroyed_anywhere},
)
async def test_nor_by_erasing_a_pupil_in_a_school_of_its_own_invention(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school, territory = await signed_class(room), room.territory
        machine = school.pc
        item = (await room.publish(school.teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        for device in (school.teacher, machine):
            await device.session.sync()
        invented = await territory.school("École B", "0180009Z")
        await territory.let_in(machine.agent.keys, Role.MACHINE, invented)
        await territory.say(invented, Kind.PERSON, PersonRecord("x", PersonRole.PUPIL).encode(), subject=school.lea)
        await territory.say(invented, Kind.ERASE, Erasure(school.lea).encode())
        for _ in range(2):
            await machine.session.sync()
        await _begun(school, item)
        for _ in range(9):
            await destroy_erased(machine.agent)
            territory.clock.advance(DAY_MS)
        assert school.lea in (await machine.agent.replica.view(room.space)).roster.persons
        assert len(await machine.agent.replica.store.marks(DRAFT_MARKS)) == 1
