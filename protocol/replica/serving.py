"""The answering side of every call: what a server, and a device on the LAN, does with a request (R12, R13).

Rules:
- a request is opened, its entries go through the ordinary door, then it is answered; writing needs the door only, reading
  needs a grant that the fold holds valid;
- news goes out in order of arrival: territory, school, class; a page holds at most `PAGE_BYTES` of entries;
- content that is small travels in the answer, the rest behind links; what is lacking here is named, so that any holder
  sends it;
- nothing is remembered between calls: the same request again gets an equivalent answer.

docs/protocol.md, "Sync", "Reconcile" and "Strangers".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocol.checkpoint import EMPTY_CHAIN, Checkpoint, Cursor
from protocol.coursework import live_content, sealed_content
from protocol.entry import Entry, Kind
from protocol.envelope import OpenedRequest, open_request, seal_answer
from protocol.errors import Code, PeerFault, Refused, RelaisError
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import (
    CAPABILITY_LIFETIME_S,
    INLINE_PACK_BYTES,
    INLINE_TOTAL_BYTES,
    MAX_CLOCK_LEAD_MS,
    PAGE_BYTES,
)
from protocol.messages import (
    InlinePack,
    Link,
    Offer,
    ReconcileAnswer,
    ReconcileRequest,
    SpacePage,
    SyncAnswer,
    SyncRequest,
    Upload,
    Wanted,
    encode_chain,
    encode_error,
)
from protocol.reconcile import respond
from protocol.register import parse_register
from protocol.replica.holdings import Holdings, Need
from protocol.replica.interfaces import PackInfo, RegisterRow
from protocol.replica.replica import Admission, Draft, Entropy, Replica, SpaceView
from protocol.rights import Authority
from protocol.roles import Role
from protocol.wire import CONTENT_TYPE, Call, Capability, Purpose
from protocol.work import Receipt

_MAX_LACKS: Final = 200
_MAX_LINKS: Final = 2_000
_READS_HAND_INS: Final = frozenset({Role.TEACHER, Role.RELAY, Role.SERVER})


@dataclass(frozen=True, slots=True)
class Station:
    """Who answers: keys, the chain that proves them, the grant under which receipts are written, the store's generation."""

    signing: SigningKey
    agreement: tuple[AgreementKey, ...]
    chain: tuple[Entry, ...]
    grant: bytes
    generation: bytes
    capability_key: bytes
    writes_receipts: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes
    content_type: str = CONTENT_TYPE


@dataclass(frozen=True, slots=True)
class Contact:
    """That a device called, for who keeps a list of devices.

    `current` means that with this answer it has all that we have, and we all that it offered: nothing is left to be fetched
    or sent by another call. An answer that is lost on the way is asked for again within seconds.
    """

    device: bytes
    at_ms: int
    current: bool


Handler = Callable[[OpenedRequest], Awaitable[bytes]]


@dataclass(slots=True)
class _Content:
    """Packs gathered for an answer: small ones inline while they fit, the others as links."""

    inline: list[tuple[PackInfo, bytes]] = field(default_factory=list)
    inline_bytes: int = 0
    linked: dict[tuple[bytes, bytes], PackInfo] = field(default_factory=dict)
    seen: set[tuple[bytes, bytes]] = field(default_factory=set)


class Responder:
    """Answers calls over one replica. `now_ms` and `entropy` are the rim's clock and randomness."""

    def __init__(
        self, replica: Replica, holdings: Holdings, station: Station, *, now_ms: Callable[[], int], entropy: Entropy
    ) -> None:
        """`on_contact` may be set by who keeps a list of devices, `on_failure` by who watches over the store."""
        self.replica = replica
        self.holdings = holdings
        self.station = station
        self.on_contact: Callable[[Contact], None] = _ignore
        self.on_failure: Callable[[RelaisError], None] = _ignore
        self._now_ms = now_ms
        self._entropy = entropy
        self._handlers: dict[Call, Handler] = {Call.SYNC: self._sync, Call.RECONCILE: self._reconcile}

    def add_handler(self, call: Call, handler: Handler) -> None:
        """Let one more call be answered."""
        self._handlers[call] = handler

    async def answer(self, call: Call, body: bytes) -> Reply:
        """Open a request that came in on the path of `call`, act, and seal the answer.

        A key that is not held here gets 421 and our chain in clear; what does not open at all raises `PeerFault` or
        `TooLarge` for the HTTP layer; a call that fails after opening gets its error sealed, with the error's status.
        """
        try:
            request = open_request(body, self.station.agreement)
        except PeerFault as fault:
            if fault.code is Code.WRONG_KEY:
                return self.chain(status=421)
            raise
        status = 200
        try:
            if request.call != call:
                raise PeerFault(Code.MALFORMED, "the call does not belong to this path", call=request.call)
            payload = await self._handlers[call](request)
        except RelaisError as error:
            self.on_failure(error)
            status, payload = error.http_status, encode_error(error)
        sealed = seal_answer(payload, request, server=self.station.signing, ephemeral=self._entropy(32))
        return Reply(status, sealed)

    def chain(self, status: int = 200) -> Reply:
        """Our chain, in clear: what an empty enrolment or a foreign key gets."""
        return Reply(status, encode_chain(self.station.chain))

    def fetch_capability(self, text: str) -> Capability:
        """The checked capability to fetch a pack. Raises `PeerFault(BAD_CAPABILITY)`."""
        return Capability.check(text, self.station.capability_key, Purpose.FETCH, self._now_ms() // 1000)

    def send_capability(self, text: str) -> Capability:
        """The checked capability to send a pack. Raises `PeerFault(BAD_CAPABILITY)`."""
        return Capability.check(text, self.station.capability_key, Purpose.SEND, self._now_ms() // 1000)

    async def received_pack(self, space: bytes) -> None:
        """A pack of the space has come in by upload: hand-ins that it completes get their receipt."""
        await self._write_receipts([space])

    async def _sync(self, opened: OpenedRequest) -> bytes:
        request = SyncRequest.parse(opened.payload)
        now_ms = self._now_ms()
        admission = await self._take_in(opened.device, request.credentials, request.push, now_ms)
        readable = await self._readable(opened.device)
        await self._keep_registers(request.registers, readable, now_ms)
        await self._keep_packs(request.packs, readable)
        touched = {entry.header.space for entry in admission.admitted} | {pack.space for pack in request.packs}
        await self._write_receipts(sorted(touched))
        pushed = {entry.id for entry in request.push}
        pages, stale, more = await self._pages(request, readable, pushed)
        content = _Content()
        complete = {cursor.space[:4] for cursor in request.cursors if cursor.complete}
        for page in pages:
            await self._gather_news(page, readable, opened.device, content, page.checkpoint.space[:4] in complete)
        await self._gather_wanted(request.want, readable, opened.device, content)
        lacks = await self._lacks(readable)
        self.on_contact(
            Contact(
                opened.device,
                now_ms,
                current=not (stale or more or request.want or content.linked or request.offers),
            )
        )
        return SyncAnswer(
            time_ms=now_ms,
            generation=None if request.generation == self.station.generation else self.station.generation,
            pages=tuple(pages),
            stale=tuple(stale),
            closed=self._closed(request.cursors, readable),
            packs=tuple(InlinePack(pack.space, data) for pack, data in content.inline),
            links=tuple(self._link(pack, now_ms) for pack in content.linked.values()),
            lacks=tuple(lacks),
            uploads=tuple([upload async for upload in self._uploads(request.offers, readable, now_ms)]),
            waiting=admission.waiting,
            refused=(*request.refused, *admission.refused),
            more=more,
        ).encode()

    async def _reconcile(self, opened: OpenedRequest) -> bytes:
        request = ReconcileRequest.parse(opened.payload)
        now_ms = self._now_ms()
        admission = await self._take_in(opened.device, request.credentials, request.push, now_ms)
        readable = await self._readable(opened.device)
        if request.space not in readable:
            raise Refused(Code.CANNOT_READ, "this device may not read that space", space=request.space.hex())
        position = await self.replica.position(request.space)
        records = await self.replica.records(request.space)
        message = None
        if request.message is not None:
            message = respond(records, request.message)
        found = await self.replica.store.get(request.need)
        entries, left = _fitting([found[wanted] for wanted in request.need if wanted in found], request.space)
        return ReconcileAnswer(
            time_ms=now_ms,
            message=message,
            checkpoint=Checkpoint(
                request.space, position.count, position.chain, await self.replica.fingerprint(request.space)
            ),
            entries=entries,
            left=left,
            waiting=admission.waiting,
            refused=(*request.refused, *admission.refused),
        ).encode()

    async def _take_in(
        self, device: bytes, credentials: Sequence[Entry], push: Sequence[Entry], now_ms: int
    ) -> Admission:
        if credentials:
            await self.replica.admit(credentials, source=device, now_ms=now_ms)
        if not push:
            return Admission((), (), ())
        return await self.replica.admit(push, source=device, now_ms=now_ms)

    async def _readable(self, device: bytes) -> dict[bytes, Authority]:
        readable = await self.replica.readable(device)
        if not readable:
            if any(authority.key == device for authority in self.replica.door.authorities()):
                raise Refused(Code.REVOKED, "this machine's access has been withdrawn; ask who runs the system")
            raise Refused(Code.UNKNOWN_DEVICE, "this machine is not known here")
        return readable

    async def _keep_registers(
        self, registers: Sequence[bytes], readable: Mapping[bytes, Authority], now_ms: int
    ) -> None:
        """Registers count from devices that have a grant here, whoever carries them."""
        if not registers or not readable:
            return
        known = {authority.key for authority in self.replica.door.authorities()}
        rows = []
        for data in registers:
            register = parse_register(data)
            if register.device in known and register.at_ms <= now_ms + MAX_CLOCK_LEAD_MS:
                rows.append(RegisterRow(register.kind, register.subject, register.device, register.at_ms, data))
        await self.replica.store.put_registers(rows)

    async def _keep_packs(self, packs: Sequence[InlinePack], readable: Mapping[bytes, Authority]) -> None:
        for pack in packs:
            if pack.space in readable:
                await self.replica.content.ingest(pack.space, pack.data)

    async def _pages(
        self, request: SyncRequest, readable: Mapping[bytes, Authority], pushed: set[bytes]
    ) -> tuple[list[SpacePage], list[bytes], bool]:
        pages: list[SpacePage] = []
        stale: list[bytes] = []
        room = PAGE_BYTES
        more = False
        ours = request.generation == self.station.generation
        for space in readable:
            cursor = _cursor_of(request.cursors, space)
            after, chain = (0, EMPTY_CHAIN) if cursor is None else (cursor.count, cursor.chain)
            position = await self.replica.position(space)
            if after and (not ours or await self.replica.store.chain_at(space, after) != chain):
                stale.append(space)
                continue
            if position.count == after:
                continue
            if room <= 0:
                more = True
                continue
            arrived = await self.replica.store.page(space, after, room)
            last = arrived[-1].arrival
            room -= sum(stored.entry.wire_bytes for stored in arrived)
            checkpoint = Checkpoint(
                space,
                last,
                await self.replica.store.chain_at(space, last) or EMPTY_CHAIN,
                await self.replica.fingerprint(space),
            )
            entries = tuple(stored.entry for stored in arrived if stored.entry.id not in pushed)
            pages.append(SpacePage(checkpoint, entries, (), more=last < position.count))
            more = more or last < position.count
        return pages, stale, more

    async def _gather_news(
        self,
        page: SpacePage,
        readable: Mapping[bytes, Authority],
        device: bytes,
        content: _Content,
        complete: bool,
    ) -> None:
        """Content of what this page brings: without what its parents brought, where the caller has all of that."""
        space = page.checkpoint.space
        view = await self.replica.view(space)
        news = {entry.id for entry in page.entries if entry.header.kind in _NAMES_CONTENT}
        if not news:
            return
        for item in view.coursework.items.values():
            for version in () if item.withdrawn else item.heads:
                if version.id in news:
                    need = Need(space, version.record.content.stream, sealed=False)
                    known = [item.versions[parent].record.content.stream for parent in version.parents if parent in item.versions]
                    beyond = [Need(space, stream, sealed=False) for stream in known] if complete else []
                    await self._gather(content, await self.holdings.packs(need, beyond=beyond))
        for work in view.coursework.hand_ins.values():
            if work.id in news and _may_fetch(work.author, readable[space], device):
                need = Need(space, work.record.content.stream, sealed=True)
                await self._gather(content, await self.holdings.packs(need))
            note = work.feedback
            if note is not None and note.id in news and note.record.content is not None:
                need = Need(space, note.record.content.stream, sealed=False)
                await self._gather(content, await self.holdings.packs(need))

    async def _gather_wanted(
        self, want: Sequence[Wanted], readable: Mapping[bytes, Authority], device: bytes, content: _Content
    ) -> None:
        for wanted in want:
            if wanted.space in readable and len(content.linked) < _MAX_LINKS:
                view = await self.replica.view(wanted.space)
                need = _known_need(view, wanted, readable[wanted.space], device)
                if need is not None:
                    await self._gather(content, await self.holdings.packs(need))

    async def _gather(self, content: _Content, packs: Iterable[PackInfo]) -> None:
        for pack in sorted(packs, key=lambda pack: pack.size):
            if (pack.space, pack.hash) in content.seen:
                continue
            content.seen.add((pack.space, pack.hash))
            if pack.size <= INLINE_PACK_BYTES and content.inline_bytes + pack.size <= INLINE_TOTAL_BYTES:
                content.inline.append((pack, await self.replica.content.read_pack(pack.hash, 0, pack.size)))
                content.inline_bytes += pack.size
            elif len(content.linked) < _MAX_LINKS:
                content.linked[pack.space, pack.hash] = pack

    async def _lacks(self, readable: Mapping[bytes, Authority]) -> list[Wanted]:
        """Content that this replica should hold and does not, in the spaces that the caller reads."""
        lacks: list[Wanted] = []
        for space in readable:
            view = await self.replica.view(space)
            needs = [Need(space, ref.stream, sealed=False) for ref in live_content(view.coursework)]
            needs += [Need(space, ref.stream, sealed=True) for ref in sealed_content(view.coursework)]
            lacks += [Wanted(need.space, need.stream) for need in await self.holdings.incomplete(needs)]
        return lacks[:_MAX_LACKS]

    async def _uploads(
        self, offers: Sequence[Offer], readable: Mapping[bytes, Authority], now_ms: int
    ) -> AsyncIterator[Upload]:
        for offer in offers:
            if offer.space not in readable:
                continue
            if await self.replica.content.pack(offer.pack, offer.space) is not None:
                yield Upload(offer.pack, offer.size, "")
                continue
            capability = self._capability(Purpose.SEND, offer.space, offer.pack, offer.size, now_ms)
            yield Upload(offer.pack, await self.replica.content.part_size(offer.pack), capability)

    async def _write_receipts(self, spaces: Iterable[bytes]) -> None:
        """A hand-in whose content is here, durably, gets the server's receipt: signed over its id and hash (R8)."""
        if not self.station.writes_receipts:
            return
        drafts = []
        for space in spaces:
            view = await self.replica.view(space)
            for work in view.coursework.hand_ins.values():
                need = Need(space, work.record.content.stream, sealed=True)
                if not work.at_server and await self.holdings.is_complete(need):
                    drafts.append(
                        Draft(
                            space=space,
                            kind=Kind.RECEIPT_SERVER,
                            grant=self.station.grant,
                            payload=Receipt(work.record.content.stream).encode(),
                            subject=work.person,
                            target=work.id,
                        )
                    )
        if drafts:
            await self.replica.write(
                drafts, author=self.station.signing, now_ms=self._now_ms(), entropy=self._entropy, unsent=False
            )

    def _link(self, pack: PackInfo, now_ms: int) -> Link:
        return Link(
            pack.space,
            pack.hash,
            pack.size,
            self._capability(Purpose.FETCH, pack.space, pack.hash, pack.size, now_ms),
        )

    def _capability(self, purpose: Purpose, space: bytes, pack: bytes, size: int, now_ms: int) -> str:
        expires_s = now_ms // 1000 + CAPABILITY_LIFETIME_S
        return Capability(purpose, space, pack, size, expires_s).issue(self.station.capability_key)

    def _closed(self, cursors: Sequence[Cursor], readable: Mapping[bytes, Authority]) -> tuple[bytes, ...]:
        """Spaces that the caller names in full and may not read; by prefix, those of ours that it names so."""
        closed = []
        for space in self.replica.door.spaces():
            if space not in readable and _cursor_of(cursors, space) is not None:
                closed.append(space)
        return tuple(closed)


_NAMES_CONTENT: Final = frozenset({Kind.REVISION, Kind.HAND_IN, Kind.FEEDBACK})


def _ignore(_told: object) -> None:
    """Nobody wants to know."""


def _cursor_of(cursors: Sequence[Cursor], space: bytes) -> Cursor | None:
    return next((cursor for cursor in cursors if space.startswith(cursor.space)), None)


def _may_fetch(author: bytes, authority: Authority, device: bytes) -> bool:
    return device == author or authority.role in _READS_HAND_INS


def _known_need(view: SpaceView, wanted: Wanted, authority: Authority, device: bytes) -> Need | None:
    """What a caller asks for, if the space's entries name it and the caller may have it."""
    for item in view.coursework.items.values():
        for version in item.versions.values():
            if version.record.content.stream == wanted.stream:
                return Need(wanted.space, wanted.stream, sealed=False)
    for work in view.coursework.hand_ins.values():
        if work.record.content.stream == wanted.stream:
            allowed = _may_fetch(work.author, authority, device)
            return Need(wanted.space, wanted.stream, sealed=True) if allowed else None
        note = work.feedback
        if note is not None and note.record.content is not None and note.record.content.stream == wanted.stream:
            return Need(wanted.space, wanted.stream, sealed=False)
    return None


def _fitting(entries: Sequence[Entry], space: bytes) -> tuple[tuple[Entry, ...], tuple[bytes, ...]]:
    """Entries of this space, as many as fit into a page, and the ids of those that did not fit."""
    room = PAGE_BYTES
    fitting: list[Entry] = []
    left: list[bytes] = []
    for entry in entries:
        if entry.header.space != space:
            continue
        room -= entry.wire_bytes
        if room >= 0 or not fitting:
            fitting.append(entry)
        else:
            left.append(entry.id)
    return tuple(fitting), tuple(left)
