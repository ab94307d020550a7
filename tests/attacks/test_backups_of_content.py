"""A backup's index proves nothing about content: a restored server believes its packs (docs/attacks.md)."""

# ruff: noqa: S608  (what a forger writes)

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from protocol.clock import at_from
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack
from protocol.model.entry import Kind
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.replica import Draft
from protocol.transfer.chunking import encode_chunk_list
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.backups import AS_IT_IS, Case, Content, handed_in, noise, rewritten
from tests.harness.server_in_process import Member, Office, office

ROW = "a backup that claims content it lacks"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def blob(data: bytes) -> str:
    return f"X'{data.hex()}'"


def claims(work: Content, pack: str, space: str) -> str:
    """Rows that say that the pack of this number holds the work, and belongs to the class."""
    rows = [f"INSERT INTO stream VALUES ({blob(work.stream)}, {pack}, {blob(encode_chunk_list(work.chunks))});"]
    rows += [f"INSERT INTO chunk VALUES ({blob(chunk.hash)}, {pack}, 0, 0, {chunk.length});" for chunk in work.chunks]
    number = f"(SELECT number FROM space WHERE id = X'{space}')"
    return "\n".join([*rows, f"INSERT OR IGNORE INTO pack_space VALUES ({pack}, {number}, 0);"])


NO_PACK = bytes(40_000)


@attack(ROW, off=AS_IT_IS)
@pytest.mark.parametrize(
    "pack",
    [
        pytest.param("(SELECT min(number) FROM pack)", id="in a pack that holds something else"),
        pytest.param("99", id="in a pack that there is not"),
        pytest.param("98", id="in a file that is no pack"),
    ],
)
async def test_no_receipt_is_signed_for_work_that_only_the_index_of_a_backup_has(case: Case, pack: str) -> None:
    work, other = noise(1), noise(2)
    async with office(case.folder / "server", kit=case.kit) as desk:
        space = bytes.fromhex(desk.space)
        lea = await desk.add_person("Léa", "pupil")
        renard = await desk.enrol(await desk.invite("machine"))
        await desk.server.replica.content.ingest(space, other.pack)
        await case.keep(desk)
    name = blake3(NO_PACK).digest()
    no_pack = f"INSERT INTO pack VALUES (98, {blob(name)}, {len(NO_PACK)});"
    rewritten(case.backup, case.folder / "kit", no_pack + claims(work, pack, desk.space), files={name: NO_PACK})
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        member = Member(Office(server, desk.clock, desk.space), renard.keys, renard.answer)
        said = handed_in(renard, lea, space, work, at_from(desk.clock()))
        answer = await member.sync(SyncRequest(push=(said,)))
        assert not (await server.replica.view(space)).coursework.hand_ins[said.id].at_server
        assert [wanted.stream for wanted in answer.lacks] == [work.stream], "and whoever has it is asked for it"
        await member.sync(SyncRequest(packs=(InlinePack(space, work.pack),)))
        assert (await server.replica.view(space)).coursework.hand_ins[said.id].at_server
        read = b"".join([piece async for piece in server.replica.content.read_stream(work.stream)])
        assert read == work.data


@attack(ROW, off=AS_IT_IS)
async def test_a_backup_gives_no_class_the_packs_of_another(case: Case) -> None:
    exam = noise(3)
    record = Revision(ItemKind.LESSON, "Contrôle", None, None, ContentRef(exam.stream, len(exam.data), 1))
    async with office(case.folder / "server", kit=case.kit) as desk:
        space = bytes.fromhex(desk.space)
        other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
        # so that the other class has entries at all
        await desk.add_person("Tom", "pupil", other)
        await desk.server.write([Draft(space, Kind.REVISION, desk.server.grant, record.encode())])
        await desk.server.replica.content.ingest(space, exam.pack)
        await case.keep(desk)
    given = f"INSERT INTO pack_space SELECT pack, (SELECT number FROM space WHERE id = X'{other}'), 0 FROM pack_space;"
    rewritten(case.backup, case.folder / "kit", given)
    await case.restore(desk.clock)
    async with opened(case.folder / "new", now_ms=desk.clock, entropy=os.urandom) as server:
        packs = server.replica.content
        assert await packs.pack(exam.finished.hash, space) is not None, "the class that it was made for has it still"
        assert await packs.pack(exam.finished.hash, bytes.fromhex(other)) is None
