"""What a disk keeps for rights and for starting, as who works at the computer meets it (docs/adr/0260)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.work import ItemKind
from protocol.replica.ballast import PARTS, PLENTY_BYTES, Ballast, Rank
from protocol.replica.storage.sqlite import SqliteStore
from sync_agent.hand_ins.drafts import Drafts
from tests.harness.classroom import Classroom, classroom
from tests.harness.full_disk import FullDisk
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, sign_in, signed_class


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


@pytest.mark.parametrize("later", [True, False], ids=["kept for later", "handed in"])
async def test_what_finds_no_room_beside_what_is_kept_for_rights_is_told_to_the_pupil_and_taken_once_there_is(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, *, later: bool
) -> None:
    school = await signed_class(room)
    item = (await room.publish(school.teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    agent, lea = school.pc.agent, school.lea
    page, action = f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in"
    fields = {"person": lea.hex(), **({"later": "yes"} if later else {})}
    disk = FullDisk(agent.folder, monkeypatch)
    Ballast(agent.folder).keep()
    async with portal(agent) as surfer:
        await sign_in(surfer, lea, PICTURES)
        disk.fill()
        await agent.replica.store.set_marks({"a note": bytes(10)})
        free_bytes = disk.free_bytes
        refused = await surfer.send(page, action, fields, [("recit.odt", b"Il etait une fois")])
        assert refused.status == 507
        assert "plus de place sur cet ordinateur" in refused.text
        assert disk.free_bytes >= free_bytes - PARTS[Rank.RIGHTS] // 100, "but for a note or two"
        disk.make_room()
        assert (await surfer.send(page, action, fields, [("recit.odt", b"Il etait une fois")])).status == 303
    kept = await Drafts(agent).find(lea, item)
    assert (kept is not None) is later


async def test_rights_use_their_own_part_also_while_another_was_not_made_again(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()
    disk = FullDisk(pc.agent.folder, monkeypatch)
    ballast = Ballast(disk.folder)
    ballast.keep()
    while ballast.give_up(Rank.START):
        pass
    disk.fill(left_bytes=PLENTY_BYTES + PARTS[Rank.RIGHTS] // 2)
    ballast.keep()  # there is room for the first one only
    disk.fill()
    assert ballast.is_kept_from(Rank.RIGHTS)
    store = pc.agent.replica.store
    assert isinstance(store, SqliteStore)
    await store.database.write(lambda _: None, rank=Rank.RIGHTS)
    assert disk.free_bytes >= ballast.given_up(Rank.RIGHTS) > 0, "what is for starting is still there"
