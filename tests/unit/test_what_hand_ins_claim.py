"""Whatever hand-ins and feedback claim that content is, an erasure takes what it covers, and nobody's work (ADR 0132).

A class has heard of an erasure: the server, a teacher's laptop, and one that was off meanwhile. A PC of the class, and
somebody with the server's key, name what they like: streams, and lists of chunks in any order and with any lengths,
before the erasure and after, brought early, late or only when they are asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocol.folds.coursework import live_content, sealed_content
from protocol.limits import ERASURE_DELAY_MS, MIN_CHUNK_BYTES
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.model.work import ContentRef, Feedback, HandIn, ItemKind, Revision
from protocol.replica.answering.outgoing import NamedStreams
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole, Role
from protocol.transfer.chunking import ChunkList, ChunkRef, chunk_list, cut, stream_id
from protocol.transfer.pack_writer import PackWriter
from protocol.trust.sealing import has_sealed_form
from tests.harness.caller import Packed, in_sealed_form, pack_files, pack_sealed, sealed_sizes
from tests.harness.history import NOW_MS, World

GIVEN_BACK: Final = Random(1).randbytes(120_000)
REMARK: Final = Random(2).randbytes(200_000)
WORKS: Final = tuple(Random(size).randbytes(size) for size in (2_000, 70_000, 150_000))
CHUNKS: Final = {
    "remark": chunk_list(cut(REMARK)),
    "lesson": chunk_list(cut(GIVEN_BACK)),
    "work": tuple(chunk for work in WORKS for chunk in chunk_list(in_sealed_form(work))),
}
BYTES: Final = {
    chunk: piece
    for pieces in (cut(GIVEN_BACK), *map(in_sealed_form, WORKS))
    for chunk, piece in zip(chunk_list(pieces), pieces, strict=True)
}
"""Of what a thief may bring himself. Who has the remark and brings it needs nobody to give it back."""
NOBODY: Final = b"n" * 16

Lengths = Literal["true", "as sealed work has them", "the smallest"]


@dataclass(frozen=True)
class Claim:
    """What somebody names: a list of chunks, or a stream that there is; who brings the list, and when it is said."""

    chunks: tuple[tuple[str, int], ...]
    lengths: Lengths
    by: Literal["hand-in", "feedback about nobody", "nobody"]
    later: bool = False
    stream: int | None = None
    lies_with: frozenset[int] = frozenset()
    with_bytes: bool = False

    @property
    def listed(self) -> ChunkList:
        """Its chunks, as a list may name them: only the last is short."""
        named = [CHUNKS[kind][number % len(CHUNKS[kind])] for kind, number in self.chunks]
        large = [chunk for chunk in named if chunk.length >= MIN_CHUNK_BYTES]
        true = [*large, *[chunk for chunk in named if chunk.length < MIN_CHUNK_BYTES][:1]]
        if self.lengths == "true":
            return tuple(true)
        sizes = sealed_sizes(len(true) * 65_536) if self.lengths[0] == "a" else [MIN_CHUNK_BYTES] * len(true)
        return tuple(ChunkRef(chunk.hash, size) for chunk, size in zip(true, sizes, strict=False))

    @property
    def pack(self) -> bytes:
        """What brings the list."""
        writer = PackWriter()
        for chunk in dict.fromkeys(self.listed) if self.with_bytes else ():
            if chunk in BYTES:
                writer.add_chunk(BYTES[chunk])
        writer.add_stream(self.listed)
        writer.finish()
        return writer.take()


claims = st.builds(
    Claim,
    st.lists(st.tuples(st.sampled_from(sorted(CHUNKS)), st.integers(0, 5)), min_size=1, max_size=5).map(tuple),
    st.sampled_from(["true", "as sealed work has them", "the smallest"]),
    st.sampled_from(["hand-in", "feedback about nobody", "nobody"]),
    st.booleans(),
    st.none() | st.integers(0, 5),
    st.frozensets(st.integers(0, 2)),
    st.booleans(),
)


class Holder:
    """A replica of the class that reads hand-ins."""

    def __init__(self) -> None:
        self.store, self.content = MemoryStore(), MemoryPacks()
        self.holdings = Holdings(self.store, self.content)

    async def hear(self, world: World, now_ms: int) -> None:
        """All that was said so far."""
        await self.replica.admit(world.entries, source=b"somebody", now_ms=now_ms)

    async def take(self, space: bytes, packs: Iterable[bytes]) -> None:
        for pack in packs:
            await self.content.ingest(space, pack)

    async def open(self, world: World) -> None:
        self.replica = await Replica.open(world.root.key.public, self.store, self.content)


@dataclass
class School:
    """See the module."""

    claims: list[Claim]
    world: World = field(default_factory=lambda: World(Random(7)))
    holders: list[Holder] = field(default_factory=lambda: [Holder(), Holder(), Holder()])
    now_ms: int = NOW_MS

    async def begin(self) -> None:
        """A lesson, three works, and a remark about Léa, to whom the lesson was given back too."""
        world, self.room = self.world, self.world.classes[0]
        self.lea, karim = (world.person(self.room, PersonRole.PUPIL, name) for name in ("Léa", "Karim"))
        self.teacher, self.machine = (world.enrol(role, self.room) for role in (Role.TEACHER, Role.MACHINE))
        self.lesson = await pack_files({"lecon.bin": GIVEN_BACK})
        self.remark = remark = await pack_files({"corrige.bin": GIVEN_BACK, "remarque.bin": REMARK})
        self.works = [await pack_sealed(work) for work in WORKS]
        said = Revision(ItemKind.ASSIGNMENT, "Volcans", None, None, self.lesson.ref)
        self.item = world.say(self.teacher, self.room, Kind.REVISION, said.encode()).id
        self.of_karim = [self.hand_in(work.ref, karim) for work in self.works]
        of_lea = self.hand_in(ContentRef(bytes(32), 5_000, 0), self.lea)
        note = Feedback("", None, redo=False, content=remark.ref).encode()
        world.say(self.teacher, self.room, Kind.FEEDBACK, note, subject=self.lea, target=of_lea)
        named = [remark.ref, self.lesson.ref, *(work.ref for work in self.works)]
        self.streams = [stream_id(CHUNKS["remark"]), *(ref.stream for ref in named)]
        for holder in self.holders:
            await holder.open(world)
            await holder.hear(world, self.now_ms)
            for packed in (self.lesson, remark, *self.works):
                await holder.take(self.room, packed.packs)
        self.packs: dict[bytes, bytes] = {}
        for claim in self.claims:
            await self.lay(claim)

    def hand_in(self, content: ContentRef, person: bytes) -> bytes:
        said = HandIn(content, None).encode()
        return self.world.say(self.machine, self.room, Kind.HAND_IN, said, subject=person, target=self.item).id

    async def lay(self, claim: Claim) -> None:
        """Its list lies with some from the start, and with who made it."""
        self.packs[stream_id(claim.listed)] = claim.pack
        for number in claim.lies_with:
            await self.holders[number].take(self.room, [claim.pack])

    def say(self, *, later: bool) -> None:
        """What is claimed now."""
        for claim in self.claims:
            name = stream_id(claim.listed) if claim.stream is None else self.streams[claim.stream]
            content = ContentRef(name, 100_000, 1)
            if claim.later != later:
                continue
            if claim.by == "hand-in":
                self.hand_in(content, b"t" * 16)
            elif claim.by == "feedback about nobody":
                note = Feedback("", None, redo=False, content=content).encode()
                self.world.say(self.teacher, self.room, Kind.FEEDBACK, note, subject=NOBODY, target=self.of_karim[0])

    async def meet(self, *numbers: int) -> None:
        """These tell each other what they know, and give what the other may ask for; so does the thief's PC."""
        some = [self.holders[number] for number in numbers]
        for taker in some:
            await taker.hear(self.world, self.now_ms)
        for taker in some:
            coursework = (await taker.replica.view(self.room)).coursework
            needs = [Need(self.room, ref.stream, sealed=False) for ref in live_content(coursework)]
            needs += [Need(self.room, ref.stream, sealed=True) for ref in sealed_content(coursework)]
            for need in await taker.holdings.incomplete(needs):
                for giver in some:
                    await taker.take(self.room, await self.given(giver, need.stream))
                if need.stream in self.packs:
                    await taker.take(self.room, [self.packs[need.stream]])

    async def given(self, giver: Holder, stream: bytes) -> list[bytes]:
        named = NamedStreams((await giver.replica.view(self.room)).coursework)
        if stream not in named.open and stream not in named.authors:
            return []
        packs = await giver.holdings.packs(Need(self.room, stream, sealed=stream not in named.open))
        return [await giver.content.read_pack(pack.hash, 0, pack.size) for pack in packs]

    async def look(self, *numbers: int) -> None:
        """These destroy what is due."""
        for number in numbers:
            holder = self.holders[number]
            await Eraser(holder.replica, holder.holdings).sweep(self.now_ms)

    async def forget(self) -> None:
        """The kit's word about Léa, and about nobody; the server first, then one laptop, then the one that was off."""
        self.say(later=False)
        await self.meet(0, 1, 2)
        for covers in (self.lea, NOBODY):
            self.world.say(self.world.root, self.world.territory, Kind.ERASE, Erasure(covers).encode())
        await self.meet(0, 1)
        await self.look(0, 1)
        self.now_ms += ERASURE_DELAY_MS
        await self.look(0)
        self.say(later=True)
        for _ in range(2):
            await self.meet(0, 1)
        await self.look(0, 1)
        for _ in range(2):
            await self.meet(0, 1, 2)
            await self.look(0, 1, 2)
            self.now_ms += ERASURE_DELAY_MS
        await self.look(0, 1, 2)
        for holder in self.holders:
            await holder.take(self.room, self.remark.packs)
        await self.look(0, 1, 2)
        for _ in range(2):
            await self.meet(0, 1, 2)
        await self.look(0, 1, 2)

    async def assert_that_is_gone_and_nothing_else(self) -> None:
        remark = CHUNKS["remark"]
        for holder in self.holders:
            assert await holder.content.missing_chunks(self.room, remark) == set(remark)
            for packed in (self.lesson, *self.works):
                await self.assert_is_whole(holder, packed)

    async def assert_is_whole(self, holder: Holder, packed: Packed) -> None:
        assert await holder.holdings.is_complete(Need(self.room, packed.ref.stream, sealed=packed is not self.lesson))
        chunks = await holder.content.chunk_list(packed.ref.stream)
        assert chunks
        assert await holder.content.missing_chunks(self.room, chunks) == set()


async def story(claimed: list[Claim]) -> None:
    school = School(claimed)
    await school.begin()
    await school.forget()
    await school.assert_that_is_gone_and_nothing_else()


def test_no_part_of_the_remark_happens_to_have_the_size_of_sealed_work() -> None:
    assert not any(has_sealed_form([chunk]) for chunk in CHUNKS["remark"])


PERMUTED: Final = tuple(("remark", number) for number in (2, 1, 0))


@settings(max_examples=40, deadline=None)
@given(st.lists(claims, max_size=4))
@example([])
@example([Claim(PERMUTED, "true", "hand-in", later=True)])
@example([Claim(PERMUTED, "as sealed work has them", "hand-in")])
@example(
    [
        Claim(
            (("work", 1), ("work", 3)), "true", "feedback about nobody", lies_with=frozenset({0, 1, 2}), with_bytes=True
        )
    ]
)
@example([Claim(PERMUTED, "true", "nobody", lies_with=frozenset({0, 2}))])
@example([Claim(PERMUTED, "true", "feedback about nobody", stream=4)])
def test_whatever_is_claimed_of_content_what_was_forgotten_goes_and_no_work_does(claimed: list[Claim]) -> None:
    asyncio.run(story(claimed))


@settings(max_examples=10, deadline=None)
@given(st.lists(claims, max_size=3))
@example([])
@example([Claim(PERMUTED, "true", "hand-in", later=True)])
def test_the_same_holds_of_what_fills_packs_without_lists(claimed: list[Claim]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("protocol.transfer.pack_writer.PACK_TARGET_BYTES", MIN_CHUNK_BYTES)
        asyncio.run(story(claimed))
