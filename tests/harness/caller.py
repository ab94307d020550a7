"""A device that calls a `Responder` without any network, for tests that say exactly what a request holds.

It keeps what it is sent, writes what it is told to, and has packs of its own; it shares no code with the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from random import Random

from protocol.clock import at_from
from protocol.identity import AgreementKey, DeviceKeys, SigningKey
from protocol.limits import SEALED_CHUNK_BYTES
from protocol.messages.calls import ReconcileAnswer, ReconcileRequest, SyncAnswer, SyncRequest
from protocol.messages.parts import SpacePage
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Successor
from protocol.model.work import ContentRef, Feedback, HandIn, ItemKind, Revision
from protocol.reconcile.checkpoint import Cursor
from protocol.replica.answering.serving import Responder
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.roles import Role
from protocol.transfer.chunking import chunk_list, cut
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from protocol.trust.envelope import open_answer, seal_request
from protocol.trust.hpke import TAG_BYTES
from protocol.trust.sealed_chunks import COMMITMENT_BYTES
from protocol.trust.sealing import bucket
from tests.harness.territory import Territory, new_device

Files = Mapping[str, bytes]


@dataclass
class Packed:
    """Content that was made: what an entry says of it, and the bytes of the packs that hold it."""

    ref: ContentRef
    packs: list[bytes]


async def called(
    responder: Responder, device: SigningKey, call: Call, payload: bytes, entropy: Callable[[int], bytes]
) -> bytes:
    """The opened answer to a call under a key. Raises what the responder seals instead of an answer."""
    reply, station = AgreementKey(entropy(32)), responder.station
    request = seal_request(
        call,
        payload,
        device=device,
        recipient_public=station.agreement[0].public,
        reply=reply,
        ephemeral=entropy(32),
    )
    answer = await responder.answer(call, request)
    return open_answer(answer.body, request, reply=reply, server_public=station.signing.public)


@dataclass
class Caller:
    """See the module. `grants` are by space; `tips` what it wrote last in each."""

    territory: Territory
    responder: Responder
    keys: DeviceKeys
    random: Random
    grants: dict[bytes, bytes] = field(default_factory=dict)
    tips: dict[bytes, bytes] = field(default_factory=dict)
    known: dict[bytes, Entry] = field(default_factory=dict)
    cursors: dict[bytes, Cursor] = field(default_factory=dict)
    generation: bytes | None = None

    @property
    def id(self) -> bytes:
        return self.keys.signing.public

    async def enter(self, role: Role, *spaces: bytes, person: bytes | None = None) -> None:
        """Get grants from the server."""
        for space, entry in zip(
            spaces, await self.territory.let_in(self.keys, role, *spaces, person=person), strict=True
        ):
            self.grants[space] = entry.id

    # --- calls --------------------------------------------------------------------------------------------------------

    async def sync(self, request: SyncRequest | None = None) -> SyncAnswer:
        """The answer to a sync request. Raises what the responder seals instead of an answer."""
        return SyncAnswer.parse(await self.call(Call.SYNC, (request or SyncRequest()).encode()))

    async def reconcile(self, request: ReconcileRequest) -> ReconcileAnswer:
        """The answer to a reconcile request."""
        return ReconcileAnswer.parse(await self.call(Call.RECONCILE, request.encode()))

    async def call(self, call: Call, payload: bytes) -> bytes:
        """The opened answer to a call."""
        return await called(self.responder, self.keys.signing, call, payload, self.random.randbytes)

    async def catch_up(self, request: SyncRequest | None = None) -> list[SyncAnswer]:
        """Sync until the server has no more to say, with cursors as an agent keeps them."""
        answers: list[SyncAnswer] = []
        for _ in range(200):
            asked = request or SyncRequest()
            answer = await self.sync(
                SyncRequest(
                    generation=self.generation,
                    cursors=tuple(self.cursors.values()),
                    push=asked.push if not answers else (),
                    packs=asked.packs if not answers else (),
                )
            )
            self.take(answer)
            answers.append(answer)
            if not answer.more:
                return answers
        raise AssertionError("the server always has more to say")

    def take(self, answer: SyncAnswer) -> None:
        """Keep what an answer brings."""
        self.generation = answer.generation or self.generation
        for page in answer.pages:
            self.known.update({entry.id: entry for entry in page.entries})
            self.cursors[page.checkpoint.space] = cursor_of(page)

    # --- entries ------------------------------------------------------------------------------------------------------

    def say(
        self,
        space: bytes,
        kind: int,
        payload: bytes,
        *,
        subject: bytes | None = None,
        target: bytes | None = None,
        parents: tuple[bytes, ...] = (),
    ) -> Entry:
        """An entry of this device, under its grant for the space."""
        prev = self.tips.get(space)
        entry = compose(
            author=self.keys.signing,
            space=space,
            kind=kind,
            grant=self.grants.get(space, next(iter(self.grants.values()), None)),
            at=at_from(self.territory.clock(), len(self.known)),
            payload=payload,
            salt=self.random.randbytes(16),
            subject=subject,
            target=target,
            parents=parents,
            prev=() if prev is None else (prev,),
        )
        self.tips[space] = entry.id
        self.known[entry.id] = entry
        return entry

    def lesson(self, space: bytes, content: ContentRef, item: bytes | None = None, *parents: bytes) -> Entry:
        """A revision of an assignment."""
        payload = Revision(ItemKind.ASSIGNMENT, "Leçon", None, None, content).encode()
        return self.say(space, Kind.REVISION, payload, target=item, parents=parents)

    def hand_in(self, space: bytes, item: bytes, pupil: bytes, content: ContentRef) -> Entry:
        """A pupil's work."""
        return self.say(space, Kind.HAND_IN, HandIn(content, None).encode(), subject=pupil, target=item)

    def feedback(self, work: Entry, content: ContentRef | None = None) -> Entry:
        """A teacher's word about a hand-in."""
        payload = Feedback("Bien", None, False, content).encode()
        return self.say(work.header.space, Kind.FEEDBACK, payload, subject=work.header.subject, target=work.id)

    def successor(self, space: bytes) -> tuple[Caller, Entry]:
        """The clone that this device lets in, and the entry that does."""
        keys = new_device(self.random.randbytes)
        payload = Successor.agreed(keys.signing, keys.agreement.public, None, space, self.keys.signing.public).encode()
        entry = self.say(space, Kind.SUCCESSOR, payload)
        return Caller(self.territory, self.responder, keys, self.random, {space: entry.id}), entry


def cursor_of(page: SpacePage, *, complete: bool = False, prefix: bool = False) -> Cursor:
    """The cursor that stands where a page leads."""
    at = page.checkpoint
    return Cursor(at.space[:4] if prefix else at.space, at.count, at.chain, complete)


async def caller(
    territory: Territory, responder: Responder, role: Role, *spaces: bytes, seed: int, person: bytes | None = None
) -> Caller:
    """A device with a grant in each of these spaces; with none, a stranger."""
    random = Random(seed)
    made = Caller(territory, responder, new_device(random.randbytes), random)
    await made.enter(role, *spaces, person=person)
    return made


async def pack_files(files: Files, known: MemoryPacks | None = None, space: bytes = bytes(32)) -> Packed:
    """The content of a revision: its files, their manifest, in packs beside what `known` holds already."""
    content = known or MemoryPacks()
    build = await content.build(space, unsent=True)
    rows = []
    for path, data in files.items():
        chunks = cut(data)
        for chunk in chunks:
            await build.chunk(chunk)
        rows.append(ManifestEntry(path, len(data), await build.stream(chunk_list(chunks))))
    chunks = cut(encode_manifest(rows))
    for chunk in chunks:
        await build.chunk(chunk)
    stream = await build.stream(chunk_list(chunks))
    packs = [await content.read_pack(pack.hash, 0, pack.size) for pack in await build.finish()]
    return Packed(ContentRef(stream, sum(map(len, files.values())), len(files)), packs)


async def pack_sealed(data: bytes) -> Packed:
    """The content of a hand-in, as `in_sealed_form`."""
    content = MemoryPacks()
    build = await content.build(bytes(32), unsent=True, sealed=True)
    chunks = in_sealed_form(data)
    for chunk in chunks:
        await build.chunk(chunk)
    stream = await build.stream(chunk_list(chunks))
    packs = [await content.read_pack(pack.hash, 0, pack.size) for pack in await build.finish()]
    return Packed(ContentRef(stream, sum(map(len, chunks)), 0), packs)


def in_sealed_form(data: bytes) -> list[bytes]:
    """Bytes that nobody has sealed, padded and cut as sealed work is."""
    sizes = sealed_sizes(len(data))
    padded = BytesIO(data.ljust(sum(sizes), b"\0"))
    return [padded.read(size) for size in sizes]


def sealed_sizes(size: int) -> list[int]:
    """Of the chunks of sealed work of so many bytes."""
    plain = bucket(size)
    sizes = [min(SEALED_CHUNK_BYTES, plain - at) + TAG_BYTES for at in range(0, plain, SEALED_CHUNK_BYTES)]
    return [sizes[0] + COMMITMENT_BYTES, *sizes[1:]]
