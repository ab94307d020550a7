"""A PC of the class would have a remark about a pupil outlive her: it hands the remark in (docs/attacks.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from protocol.limits import SEALED_CHUNK_BYTES
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.parts import Wanted
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.model.work import ContentRef, HandIn, ItemKind, Revision
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.content.kept.sqlite_content import ContentIndex
from protocol.replica.content.packing.pack_remains import Remains, remains_of
from protocol.replica.interfaces import PackInfo
from protocol.replica.upkeep.content_to_go import ContentToGo, _Named
from protocol.roles import PersonRole
from protocol.transfer.chunking import ChunkList, ChunkRef, cut
from protocol.transfer.pack_writer import PackWriter
from protocol.trust.sealing import has_sealed_form
from sync_agent.hand_ins.handing_in import give_feedback
from sync_agent.sync.asking import Asked
from sync_agent.sync.content import SyncContent
from sync_agent.sync.run import Run
from tests.harness.attack import attack
from tests.harness.caller import sealed_sizes
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, classroom, read
from tests.harness.passing_days import pass_days

ROW = "a PC hands in what is to be forgotten"
REMARK = Random(3).randbytes(200_000)


@dataclass
class Here:
    """A class in which a teacher has written a remark about Léa; a PC of it is in a thief's hands, another is off."""

    room: Classroom
    teacher: Device
    evil: Device
    late: Device
    task: bytes
    remark: bytes
    """The stream of her words."""
    chunks: ChunkList = ()
    """What they consist of."""

    @property
    def reached(self) -> dict[str, Replica]:
        """Who hears of the erasure."""
        replicas = {"teacher": self.teacher.agent.replica, "the thief's PC": self.evil.agent.replica}
        return {"server": self.room.territory.replica, **replicas}

    async def sync(self, *devices: Device) -> None:
        for _ in range(2):
            for device in devices:
                await device.session.sync()

    async def hand_in(self, stream: bytes) -> None:
        """The thief says that this is what Tom has handed in."""
        right = await self.evil.agent.right(self.room.space, Kind.HAND_IN)
        said = HandIn(ContentRef(stream, len(REMARK), 0), None).encode()
        tom = b"t" * 16
        await self.evil.agent.write(
            Draft(self.room.space, Kind.HAND_IN, right.grant, said, subject=tom, target=self.task)
        )
        await self.sync(self.evil, self.teacher)

    async def list_of(self, *chunks: ChunkRef, beside: Iterable[Replica] = ()) -> bytes:
        """A list of these chunks that the thief brings, and that lies with some others already; its name."""
        writer = PackWriter()
        name = writer.add_stream(chunks)
        writer.finish()
        pack = writer.take()
        await self.evil.agent.replica.content.ingest(self.room.space, pack, unsent=True)
        for replica in beside:
            await replica.content.ingest(self.room.space, pack)
        return name

    async def forget_lea(self, *on: Device) -> None:
        """As the kit orders it, until the week is over; of the devices these are on, or all who hear of it."""
        on = on or (self.teacher, self.evil)
        territory = self.room.territory
        await territory.kit_says(territory.id, Kind.ERASE, Erasure(self.room.pupil_person).encode())
        await self.sync(*on)
        await pass_days(territory, 9, *on)

    async def the_teacher_comes_back(self) -> None:
        """Her laptop, which was off meanwhile: it speaks with the server before its own week is over, and after."""
        await self.sync(self.teacher)
        await pass_days(self.room.territory, 9, self.teacher, self.evil)
        await self.sync(self.evil, self.teacher)

    async def keepers(self) -> list[str]:
        """Who has any of the remark's bytes, of those who have heard."""
        held = {
            name: set(self.chunks) - await one.content.missing_chunks(self.room.space, self.chunks)
            for name, one in self.reached.items()
        }
        return [name for name, chunks in held.items() if chunks]

    async def kept(self) -> list[str]:
        """Who has the remark still, of those who have heard."""
        return [name for name, one in self.reached.items() if await one.content.known_streams([self.remark])]


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path) as room:
        teacher, evil, late = await room.teacher(), await room.machine(), await room.machine()
        task = await assignment(room, teacher, evil)
        work = await room.hand_in(evil, task, WORK)
        for device in (evil, teacher):
            await device.session.sync()
        await give_feedback(teacher.agent, work, "vu", None, redo=False, incoming=Given({"remarques.txt": REMARK}))
        made = Here(room, teacher, evil, late, task, b"")
        await made.sync(teacher, evil, late)
        feedback = (await teacher.agent.replica.view(room.space)).coursework.hand_ins[work].feedback
        assert feedback is not None
        assert feedback.record.content is not None
        (file, *_) = await teacher.agent.holdings.manifest(feedback.record.content.stream)
        made.remark = file.stream
        made.chunks = await teacher.agent.replica.content.chunk_list(file.stream) or ()
        assert await read(late.agent.replica, made.remark) == REMARK
        yield made


named = ContentToGo._named


async def named_alike(content: ContentToGo, entries: Iterable[Entry], *, are_going: bool = False) -> _Named:
    """Without a difference between what is sealed and what is not."""
    found = await named(content, entries, are_going=are_going)
    return _Named(found.streams, found.streams)


@attack(ROW, off={"protocol.replica.upkeep.content_to_go.ContentToGo._named": named_alike})
async def test_a_hand_in_that_names_a_remark_keeps_it_nowhere(here: Here) -> None:
    await here.hand_in(here.remark)
    await here.forget_lea()
    assert await here.kept() == []


async def nothing_shared(_packs: PackFolder, _streams: Collection[bytes]) -> set[bytes]:
    return set()


@attack(ROW, off={"protocol.replica.content.kept.packs.PackFolder.sharing": nothing_shared})
async def test_a_hand_in_that_names_the_chunks_of_a_remark_in_another_order_keeps_none_of_them(here: Here) -> None:
    await here.hand_in(await here.list_of(*reversed(here.chunks), beside=here.reached.values()))
    await here.forget_lea()
    assert await here.keepers() == []


async def nothing_comes_again(_holdings: Holdings) -> set[bytes]:
    return set()


NO_OTHER_LOOK: dict[str, object] = {"protocol.replica.content.holdings.Holdings.come_again": nothing_comes_again}
ANYTHING_IS_WORK = {"protocol.replica.content.holdings.has_sealed_form": lambda _chunks: True} | NO_OTHER_LOOK
NOTHING_IS_REMEMBERED = {"protocol.replica.content.holdings.Holdings._is_no_work": lambda *_: False}


@attack(ROW, off={**ANYTHING_IS_WORK, **NOTHING_IS_REMEMBERED})
async def test_a_remark_that_is_handed_in_later_is_not_fetched_again_from_a_pc_that_was_off(here: Here) -> None:
    await here.forget_lea()
    assert await here.kept() == []
    await here.hand_in(here.remark)
    await here.sync(here.late, here.teacher)
    assert await here.kept() == []


@attack(ROW, off=ANYTHING_IS_WORK)
async def test_a_list_of_a_remarks_chunks_that_is_handed_in_later_has_no_laptop_that_was_off_bring_them(
    here: Here,
) -> None:
    await here.forget_lea(here.evil)
    assert await here.keepers() == ["teacher"]
    await here.hand_in(await here.list_of(*reversed(here.chunks)))
    await here.the_teacher_comes_back()
    assert await here.keepers() == []


holders = ContentIndex.holders


async def holders_by_hash(
    index: ContentIndex, space: bytes, chunks: Iterable[ChunkRef], streams: Iterable[bytes]
) -> dict[PackInfo, set[bytes]]:
    """Whatever length a list says that a chunk has."""
    places = await index.places(tuple(chunks))
    true = [ChunkRef(chunk, place.length) for chunk, found in places.items() for place in found]
    return await holders(index, space, true, streams)


async def falsely_sealed(here: Here) -> bytes:
    """A list of the remark's chunks that looks like one of sealed work, since it is false about their lengths."""
    sizes = sealed_sizes(len(here.chunks) * SEALED_CHUNK_BYTES)
    listed = [ChunkRef(chunk.hash, size) for chunk, size in zip(here.chunks, sizes, strict=True)]
    assert has_sealed_form(listed)
    return await here.list_of(*listed)


@attack(ROW, off=NO_OTHER_LOOK | {"protocol.replica.content.kept.sqlite_content.ContentIndex.holders": holders_by_hash})
async def test_a_list_that_is_false_about_a_remarks_chunks_has_no_laptop_that_was_off_bring_them(here: Here) -> None:
    await here.hand_in(await falsely_sealed(here))
    await here.forget_lea(here.evil)
    assert await here.keepers() == ["teacher"]
    await here.the_teacher_comes_back()
    assert await here.keepers() == []


@attack(ROW, off=NO_OTHER_LOOK | {"protocol.replica.content.kept.sqlite_content.ContentIndex.holders": holders_by_hash})
async def test_a_false_list_brings_a_remark_back_from_nobody_though_the_thiefs_pc_is_off(here: Here) -> None:
    await here.hand_in(await falsely_sealed(here))
    await here.sync(here.evil, here.teacher)
    await here.forget_lea(here.late)
    await here.sync(here.teacher)
    await pass_days(here.room.territory, 9, here.teacher)
    await here.sync(here.teacher)
    assert await here.keepers() == ["the thief's PC"]


async def as_if_it_were_a_lesson(content: SyncContent, lack: Wanted, _streams: object) -> list[PackInfo]:
    return await content._agent.holdings.packs(Need(lack.space, lack.stream, sealed=False))


@attack(ROW, off={"sync_agent.sync.content.SyncContent._content_of": as_if_it_were_a_lesson})
async def test_a_laptop_gives_the_server_nothing_for_a_list_that_no_entry_which_it_knows_names(here: Here) -> None:
    """It lay there already when its hand-in had not come yet."""
    name = await here.list_of(*reversed(here.chunks), beside=[here.teacher.agent.replica])
    run = Run()
    answer = SyncAnswer(time_ms=here.room.territory.clock(), lacks=(Wanted(here.room.space, name),))
    await here.teacher.session._moving.answer_lacks(run, Asked(SyncRequest(), (), (), None), answer)
    assert run.said.due == {}


@attack(ROW, off=NO_OTHER_LOOK)
async def test_the_pack_of_a_remark_that_somebody_brings_again_goes_at_the_next_look(here: Here) -> None:
    """A stick, or a machine with an earlier version, has it still."""
    content = here.late.agent.replica.content
    packs = await content.packs_holding(here.room.space, here.chunks, [here.remark])
    whole = [await content.read_pack(pack.hash, 0, pack.size) for pack in packs]
    await here.forget_lea()
    assert await here.keepers() == []
    for replica in here.reached.values():
        for pack in whole:
            await replica.content.ingest(here.room.space, pack)
    assert await here.keepers() == list(here.reached)
    await pass_days(here.room.territory, 1, here.teacher, here.evil)
    assert await here.keepers() == []
    assert await here.kept() == []


async def comes_again_and_goes_within_a_week(here: Here, packs: Iterable[bytes], why_not_at_once: str) -> None:
    """Somebody brings these to the thief's PC; they stay there a day, and no week."""
    territory = here.room.territory
    for pack in packs:
        await here.evil.agent.replica.content.ingest(here.room.space, pack)
    await pass_days(territory, 1, here.evil)
    assert await here.keepers() == ["the thief's PC"], why_not_at_once
    await pass_days(territory, 7, here.evil)
    assert await here.keepers() == []


@attack(ROW, off={"protocol.replica.upkeep.come_again.WAITING_MS": 1 << 60})
async def test_what_comes_again_goes_within_a_week_though_a_lesson_that_is_named_never_comes(here: Here) -> None:
    room, content = here.room, here.room.territory.replica.content
    names = [
        pack.hash for pack in await here.room.territory.holdings.packs(Need(room.space, here.remark, sealed=False))
    ]
    sizes = await content.pack_sizes()
    packs = [await content.read_pack(name, 0, sizes[name]) for name in names]
    await here.forget_lea()
    lesson = Revision(ItemKind.LESSON, "Les volcans", None, None, ContentRef(bytes([7]) * 32, 10, 1))
    await room.territory.say(room.space, Kind.REVISION, lesson.encode())
    await here.sync(here.evil, here.teacher)
    await comes_again_and_goes_within_a_week(here, packs, "the list of an entry that names it may be on its way")


@attack(ROW, off={"protocol.replica.upkeep.come_again.WAITING_MS": 1 << 60})
async def test_what_comes_again_goes_within_a_week_though_a_server_takes_nothing_of_what_a_pc_has(here: Here) -> None:
    room, content = here.room, here.late.agent.replica.content
    packs = await content.packs_holding(room.space, here.chunks, [here.remark])
    whole = [await content.read_pack(pack.hash, 0, pack.size) for pack in packs]
    await here.forget_lea()
    room.pupil_person = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    await here.sync(here.evil)
    await room.hand_in(here.evil, here.task, WORK)
    assert await here.evil.agent.replica.content.unsent_packs()
    await comes_again_and_goes_within_a_week(here, whole, "what is on its way may come to name it")


@pytest.fixture
def small_packs() -> Iterator[None]:
    """A pack is full when it holds so much: the remark fills some that hold no list of it, as a film does of others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocol.transfer.pack_writer.PACK_TARGET_BYTES", len(REMARK) // 4)
        yield


def packs_that_hold_a_list(
    connection: sqlite3.Connection, spaces: Collection[bytes], given_up: Collection[bytes]
) -> list[Remains]:
    """Of what is given up, and no others."""
    rows = connection.execute("SELECT stream.id, hash FROM stream JOIN pack ON pack.number = stream.pack")
    listed = {pack for name, pack in rows if name in given_up}
    return [one for one in remains_of(connection, spaces, given_up) if one.pack in listed]


@pytest.mark.usefixtures("small_packs")
@attack(
    "what is forgotten fills packs that hold no list",
    off={"protocol.replica.content.kept.sqlite_content.remains_of": packs_that_hold_a_list},
)
async def test_of_a_remark_that_fills_packs_no_byte_lies_on_any_disk_once_it_is_forgotten(here: Here) -> None:
    assert len(await here.reached["server"].content.packs_holding(here.room.space, here.chunks)) > 1
    await here.forget_lea()
    assert await here.keepers() == []


async def never_looked(_store: object, _content: object, _now_ms: int) -> None:
    """What an earlier version did with chunks of which it has no list."""


@pytest.mark.usefixtures("small_packs")
@attack(
    "nobody can say whose the chunks are that lie here",
    off={"protocol.replica.upkeep.eraser.let_go_of_unnamed": never_looked},
)
async def test_of_a_remark_of_which_only_chunks_ever_came_none_lies_here_two_weeks_after_it_was_forgotten(
    here: Here,
) -> None:
    server = here.reached["server"].content
    lists = await server.packs_holding(here.room.space, (), [here.remark])
    await server.drop([pack.hash for pack in lists])
    await here.forget_lea()
    assert await here.keepers() == ["server"]
    await pass_days(here.room.territory, 15)
    assert await here.keepers() == []


def without_a_list(*chunks: bytes) -> bytes:
    """A pack that holds these alone."""
    writer = PackWriter()
    for chunk in chunks:
        writer.add_chunk(chunk)
    writer.finish()
    return writer.take()


every_one = PackFolder.unnamed


async def _sixteen(packs: PackFolder) -> list[bytes]:
    """Those that came first, as a bound on what is noted would have it."""
    return (await every_one(packs))[:16]


@pytest.mark.usefixtures("small_packs")
@attack(
    "nobody can say whose the chunks are that lie here",
    off={"protocol.replica.content.kept.packs.PackFolder.unnamed": _sixteen},
)
async def test_chunks_of_a_remark_go_as_soon_whatever_else_without_a_list_was_brought_before_them(here: Here) -> None:
    space, server = here.room.space, here.reached["server"].content
    await server.drop([pack.hash for pack in await server.packs_holding(space, here.chunks, [here.remark])])
    for number in range(40):
        await server.ingest(space, without_a_list(b"brought by a PC of the class: %d" % number))
    await server.ingest(space, without_a_list(*cut(REMARK)))
    await here.forget_lea()
    assert await here.keepers() == ["server"]
    await pass_days(here.room.territory, 15)
    assert await here.keepers() == []
