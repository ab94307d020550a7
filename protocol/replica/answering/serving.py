"""The answering side of every call: what a server, and a device on the LAN, does with a request (R12, R13).

Rules:
- a request is opened, its entries go through the ordinary door, then it is answered; writing needs the door only,
  reading needs a grant that the fold holds valid;
- of somebody unknown only the proof of who they are is read; what stands for much more than its bytes (`held`) is read
  for who may be answered;
- one bad entry, pack or register does not spoil what came beside it;
- news goes out in order of arrival: territory, school, class; a page holds at most `PAGE_BYTES` of entries;
- content that is small travels in the answer, the rest behind links; what is lacking here is named, so that any holder
  sends it;
- what finds no room of what a caller brings, or of what is written for others, keeps nobody from being answered: it
  waits where it is, and of entries their bringer is told (docs/adr/0587);
- nothing is remembered between calls: the same request again gets an equivalent answer.

docs/protocol.md, "Sync", "Reconcile" and "Strangers".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from blake3 import blake3

from protocol.errors import Code, PeerFault, Refused, RelaisError
from protocol.limits import (
    CAPABILITY_LIFETIME_S,
    MAX_CREDENTIALS,
    MAX_OFFERS,
)
from protocol.messages.calls import (
    WITHDRAWN_BYTES,
    ReconcileAnswer,
    ReconcileRequest,
    SyncAnswer,
    SyncRequest,
    credentials_in,
)
from protocol.messages.enrollment import encode_chain
from protocol.messages.errors import encode_error
from protocol.messages.held_names import HeldNames
from protocol.messages.likeness import MOVED
from protocol.messages.lives import Lives, Twin
from protocol.messages.parts import InlinePack, Link, Refusal, SpacePage, Upload
from protocol.messages.wire import Call, Capability, Purpose
from protocol.model.entry import Entry, Kind
from protocol.reconcile.checkpoint import Checkpoint
from protocol.reconcile.negentropy import respond
from protocol.reconcile.set_digest import fingerprint_of
from protocol.replica.answering.allowances import Allowance, Allowances
from protocol.replica.answering.challenges import Challenges
from protocol.replica.answering.lacks import Lacks
from protocol.replica.answering.listeners import Listener, Listeners
from protocol.replica.answering.named_cursors import NamedCursors, names_of
from protocol.replica.answering.news import News, called_in
from protocol.replica.answering.outgoing import Outgoing
from protocol.replica.answering.receipts import receipts_due
from protocol.replica.answering.reports import keep_reports
from protocol.replica.answering.scope import Scope
from protocol.replica.answering.station import Contact, Reply, Report, Station
from protocol.replica.answering.told import differing, has_told_all, untaken_of, untold_by
from protocol.replica.at_work.bare_entries import Rounds, page_of
from protocol.replica.at_work.credentials import lists_of
from protocol.replica.at_work.replica import Admission, Draft, Entropy, Notes, Replica
from protocol.replica.content.batches import Batches
from protocol.replica.content.deltas.plain_deltas import PlainDeltas
from protocol.replica.content.holdings import Holdings
from protocol.replica.interfaces import PackInfo
from protocol.replica.left_due import LeftDue
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.roles import RUNS_A_SCHOOL
from protocol.transfer.deflate_parameters import ALL_LEVELS, Profile
from protocol.trust.envelope import OpenedRequest, open_request, seal_answer

Handler = Callable[[OpenedRequest], Awaitable[bytes]]
_Request = TypeVar("_Request", bound=SyncRequest | ReconcileRequest)


class Responder:
    """Answers calls over one replica. `now_ms` and `entropy` are the rim's clock and randomness."""

    def __init__(
        self,
        replica: Replica,
        holdings: Holdings,
        station: Station,
        *,
        now_ms: Callable[[], int],
        entropy: Entropy,
        scope: Scope | None = None,
    ) -> None:
        """Over one replica, of which `scope` is shared (default: all).

        `on_contact` and `on_report` may be set by who keeps a list of devices, `on_failure` by who watches the store.
        """
        self.replica = replica
        self.holdings = holdings
        self.station = station
        self.scope = scope or Scope(replica)
        self.listeners = Listeners()
        self.lives = Lives()
        self.allowances = Allowances(replica, holdings)
        self._news = News(replica)
        self._rounds = Rounds()
        self._lacks = Lacks(replica, holdings, self.scope)
        replica.on_news = self.listeners.tell
        self.backup_ms: int | None = None
        """When the newest backup of this store that was read back was begun; for a server to say."""
        self.has_spoken_elsewhere: Callable[[], bool] = lambda: False
        """Whether a server was brought a word under its own key that it had not said."""
        self.on_servers_call: Callable[[bytes], Awaitable[None]] = _nobody_notes
        """Told under which server's key somebody has called; for a server to note."""
        self.on_contact: Callable[[Contact], None] = _ignore
        self.on_report: Callable[[Report], None] = _ignore
        self.on_failure: Callable[[RelaisError], None] = _ignore
        self.challenges: Challenges | None = None
        """For a server, which asks who has told all, and since when."""
        self.name_of: Callable[[bytes], str | None] = _nameless
        """What a device calls itself; for a server to say."""
        self.levels: Profile = ALL_LEVELS
        """Those of deflate that this machine reproduces, once somebody has looked."""
        self._now_ms = now_ms
        self._entropy = entropy
        self.pen = asyncio.Lock()
        """Held while something is written as the station, and while another takes its place."""
        self._batches = Batches(replica.content, holdings, now_ms=now_ms)
        self._plain = PlainDeltas(replica.content)
        self._receipting = asyncio.Lock()
        # in the others a hand-in may have become durable just before the power went, and its receipt not
        self._receipted: set[bytes] = set()
        self._words_on_words = 0
        self._handlers: dict[Call, Handler] = {Call.SYNC: self._sync, Call.RECONCILE: self._reconcile}

    def add_handler(self, call: Call, handler: Handler) -> None:
        """Let one more call be answered."""
        self._handlers[call] = handler

    async def answer(self, call: Call, body: bytes) -> Reply:
        """Open a request that came in on the path of `call`, act, and seal the answer.

        A key that is not held here gets 421 and our chain in clear; what does not open at all raises `PeerFault` or
        `TooLarge` for the HTTP layer; a call that fails after opening gets its error sealed, with the error's status.
        """
        # whoever was asked signs the answer, also where other keys take its place meanwhile
        asked = self.station
        try:
            request = open_request(body, asked.agreement)
        except PeerFault as fault:
            if fault.code is Code.WRONG_KEY:
                return self.chain(status=421)
            raise
        status = 200
        try:
            if request.call != call:
                raise PeerFault(Code.MALFORMED, "the call does not belong to this path", call=request.call)
            await self._refuse_servers(request.device)
            payload = await self._handlers[call](request)
        except RelaisError as error:
            self.on_failure(error)
            status, payload = error.http_status, encode_error(error)
        sealed = seal_answer(payload, request, server=asked.signing, ephemeral=self._entropy(32))
        return Reply(status, sealed)

    async def _refuse_servers(self, caller: bytes) -> None:
        """No server calls anybody: whoever does so under a server's key has a copy of it (docs/adr/0549)."""
        if await self.replica.was_a_servers(caller):
            await self.on_servers_call(caller)
            raise Refused(Code.NO_RIGHT, "this is a server's key, and no server calls: somebody has a copy of it")

    @contextlib.contextmanager
    def _where_there_is_room(self) -> Iterator[LeftDue]:
        """Something that no answer hangs on; whoever watches the store hears what found no room."""
        left = LeftDue()
        with left.where_there_is_room():
            yield left
        if left.failure is not None:
            self.on_failure(left.failure)

    def chain(self, status: int = 200) -> Reply:
        """Our chain, in clear: what an empty enrolment or a foreign key gets."""
        return Reply(status, encode_chain(self.station.chain))

    def fetch_capability(self, text: str) -> Capability:
        """The checked capability to fetch a pack. Raises `PeerFault(BAD_CAPABILITY)`."""
        return Capability.check(text, self.station.capability_key, Purpose.FETCH, self._now_ms() // 1000)

    def send_capability(self, text: str) -> Capability:
        """The checked capability to send a pack. Raises `PeerFault(BAD_CAPABILITY)`."""
        return Capability.check(text, self.station.capability_key, Purpose.SEND, self._now_ms() // 1000)

    def listener(self, text: str) -> Listener:
        """Who listens with this capability. Raises `PeerFault(BAD_CAPABILITY)`."""
        capability = Capability.check(text, self.station.capability_key, Purpose.LISTEN, self._now_ms() // 1000)
        return self.listeners.add(capability.pack)

    async def say(self, drafts: Sequence[Draft], marks: Notes | None = None) -> list[Entry]:
        """Write as the station, by its key and under its grant, in one durable transaction, with `marks`.

        Raises `LocalFailure`.
        """
        async with self.pen:
            station = self.station
            return await self.replica.write(
                [replace(draft, grant=station.grant) for draft in drafts],
                author=station.signing,
                now_ms=self._now_ms(),
                entropy=self._entropy,
                unsent=False,
                marks=marks,
            )

    async def concerns(self, listener: Listener, spaces: frozenset[bytes]) -> bool:
        """Whether the device that listens may read one of `spaces`."""
        return not spaces.isdisjoint(await self.replica.readable(listener.device))

    async def word(self, listener: Listener) -> str:
        """What somebody who listens is told when something has moved: no more than that."""
        del listener
        return MOVED

    async def heed(self, listener: Listener, text: str) -> str | None:
        """What to say to somebody who listens, and says something: nothing."""
        del listener, text
        return None

    async def received_pack(self, space: bytes) -> None:
        """A pack of the space has come in by upload: hand-ins that it completes get their receipt."""
        await self._write_receipts([space])
        self._tell(frozenset([space]), self.station.signing.public)

    async def _sync(self, opened: OpenedRequest) -> bytes:
        now_ms = self._now_ms()
        request, taken, readable = await self._bring(opened, now_ms)
        self.station.check_shown(request.certificate)
        if request.bare:
            whole = await self.replica.bare.whole(request.bare, readable)
            return SyncAnswer(time_ms=now_ms, refused=taken.refused, whole=page_of(whole)).encode()
        twin = self._hear_life(opened.device, request)
        await self._keep_reports(opened.device, request.registers, now_ms)
        if self._words_on_words != self.replica.words_on_words:
            # … and in any, what came while an erasure hid it, which somebody has taken back since
            self._words_on_words = self.replica.words_on_words
            self._receipted.clear()
        unseen = readable.keys() - self._receipted
        await self._write_receipts({*taken.handed_in, *_brought(request.packs, readable), *unseen})
        ours = request.generation == self.station.generation
        if request.standing is not None and not (ours and request.standing == await self._news.standing(readable)):
            return SyncAnswer(time_ms=now_ms, refused=taken.refused, unlike=True).encode()
        cursors = NamedCursors(request.cursors)
        pages: list[SpacePage] = []
        stale: list[bytes] = []
        more = False
        known = cursors if ours else cursors.unrecognised()
        if request.standing is None:
            pushed = {entry.id for entry in request.push}
            pages, stale, more = await self._news.pages(known, readable, pushed, brief=request.brief)
        content = await self._content(opened.device, request, readable, cursors, pages)
        lacks = await self._lacks.asked_of(opened.device, readable)
        closed = self._closed(cursors, readable)
        says_all = ours and not more and has_told_all(request, cursors, pages, unlike=(*stale, *closed))
        # what is left to send is in no set, and keeps nobody from hearing where the others differ
        compares = says_all or (ours and request.sets is not None and not (pages or stale))
        differ = await differing(self.replica, request, cursors, readable) if compares else None
        heads = await self._news.heads(differ) if differ and not pages else []
        asked_ago_ms = self.challenges.age_ms(opened.device, request.challenge) if self.challenges else None
        has_told = says_all and differ is None and asked_ago_ms is not None
        self.on_contact(
            Contact(
                opened.device,
                now_ms,
                current=not (stale or more or request.want or content.linked or request.offers),
                name=request.name,
                told=self.station.generation if has_told else None,
                untold=await untold_by(self.replica, opened.device, request, closed, readable),
                asked_ago_ms=asked_ago_ms or 0,
                untaken=untaken_of(request, taken.waiting, taken.refused, self._is_own_of(opened.device)),
            )
        )
        return SyncAnswer(
            time_ms=now_ms,
            generation=None if request.generation == self.station.generation else self.station.generation,
            pages=(*pages, *heads),
            stale=tuple(stale),
            closed=closed,
            withdrawn=await self._withdrawals(opened.device, closed, request.withdrawn),
            packs=tuple(InlinePack(pack.space, data) for pack, data in content.inline),
            links=tuple(self._link(pack, now_ms, keyed=request.keyed) for pack in content.linked.values()),
            lacks=tuple(lacks),
            uploads=tuple([upload async for upload in self._uploads(request, opened.device, readable, now_ms)]),
            waiting=taken.waiting,
            refused=(*request.refused, *taken.refused),
            more=more,
            live=self._listen_capability(opened.device, now_ms) if request.live else None,
            name=None if request.name is None else self.station.name,
            twin=twin,
            levels=self.levels,
            backup_ms=self.backup_ms,
            elsewhere=self.has_spoken_elsewhere(),
            bare=self._rounds.next(opened.device, await self.replica.bare.lacking(), readable),
            called=await self._called(request, known, pages, readable),
            challenge=self._challenge_for(opened.device, request, ours=ours),
        ).encode()

    def _hear_life(self, device: bytes, request: SyncRequest) -> Twin:
        """What the caller is told of a twin; who gives no challenges says nothing of one."""
        given = self.challenges
        if given is None:
            return self.lives.hear(device, request.life)
        return self.lives.hear(device, request.life, given.given_ms(device, request.challenge), given.now_ms())

    def _challenge_for(self, device: bytes, request: SyncRequest, *, ours: bool) -> bytes | None:
        """What a server has a device say from now on; who brings a report and nothing else gets it with the next."""
        if self.challenges is None or (ours and request.registers and not request.push):
            return None
        serves = self.lives.knows_to_live(device, self.challenges.given_ms(device, request.challenge))
        return self.challenges.next_for(device, request.challenge, serves=serves)

    def _is_own_of(self, device: bytes) -> Callable[[bytes], bool]:
        """Whether a key is of the same line as a device's."""
        door = self.replica.door
        return lambda key: door.began_as(key) == door.began_as(device)

    async def _called(
        self,
        request: SyncRequest,
        cursors: NamedCursors,
        pages: Sequence[SpacePage],
        readable: Mapping[bytes, Authority],
    ) -> tuple[tuple[bytes, str], ...]:
        """What devices are called whose grants are news to the caller, also where it takes the news from neighbours."""
        if request.brief:
            led = {each: readable[each] for each in (page.checkpoint.space for page in pages)}
            led = {space: right for space, right in led.items() if right.role in RUNS_A_SCHOOL}
            pages, _, _ = await self._news.pages(cursors, led, set(), brief=False)
        return called_in(pages, readable, self.replica.door, self.name_of)

    async def _content(
        self,
        device: bytes,
        request: SyncRequest,
        readable: Mapping[bytes, Authority],
        cursors: NamedCursors,
        pages: Sequence[SpacePage],
    ) -> Outgoing:
        """The content that goes with an answer: that of its entries, what was asked for, what is entrusted."""
        content = Outgoing(
            self.replica,
            self.holdings,
            readable,
            device,
            thin=request.thin,
            levels=request.levels,
            batches=self._batches,
            held={held.space: HeldNames.parse(held.names) for held in request.held if held.space in readable},
            # between neighbours a school's own network is not what is scarce
            plain=self._plain if self.station.writes_receipts else None,
        )
        for page in () if request.brief else pages:
            space = page.checkpoint.space
            await content.add_news(space, page.entries, complete=cursors.says_complete(space))
        await content.add_wanted(request.want)
        for space in readable:
            await content.add_entrusted(space, await self.scope.entrusted(space, device))
        return content

    async def _reconcile(self, opened: OpenedRequest) -> bytes:
        now_ms = self._now_ms()
        request, taken = await self._take_in(opened, ReconcileRequest.parse, now_ms)
        self._tell(taken.grown, opened.device)
        readable = await self._readable(opened.device)
        if request.space not in readable:
            raise Refused(Code.CANNOT_READ, "this device may not read that space", space=request.space.hex())
        await self._write_receipts(taken.handed_in)
        position = await self.replica.position(request.space)
        records = await self.replica.records(request.space)
        message = None
        if request.message is not None:
            message = respond(records, request.message)
        entries, left = await self._news.entries(request.space, request.need)
        await self.scope.brought_back(entries, opened.device)
        here = await self.replica.store.present(request.offered)
        return ReconcileAnswer(
            time_ms=now_ms,
            message=message,
            checkpoint=Checkpoint(request.space, position.count, position.chain, fingerprint_of(records)),
            entries=entries,
            left=left,
            waiting=taken.waiting,
            refused=(*request.refused, *taken.refused),
            lacks=tuple(name for name in request.offered if name not in here),
        ).encode()

    async def _bring(self, opened: OpenedRequest, now_ms: int) -> tuple[SyncRequest, _Taken, Mapping[bytes, Authority]]:
        """Take in what a caller brings, and say what it may read; who listens hears of entries and content at once."""
        request, taken = await self._take_in(opened, SyncRequest.parse, now_ms)
        device, grown = opened.device, taken.grown
        try:
            readable = await self._readable(device, request.withdrawn)
            if not request.bare:
                kept, no_room = await self._keep_packs(device, request.packs, readable)
                grown, taken = grown | kept, replace(taken, refused=(*taken.refused, *no_room))
        finally:
            self._tell(grown, device)
        return request, taken, readable

    def _tell(self, grown: frozenset[bytes], source: bytes) -> None:
        if grown:
            self.replica.on_news(grown, source)

    async def _take_in(
        self, opened: OpenedRequest, parse: Callable[[bytes], _Request], now_ms: int
    ) -> tuple[_Request, _Taken]:
        """Read a request and let its entries in. Somebody unknown can only prove who they are: nothing else is read."""
        device, authorities_of = opened.device, self.replica.door.authorities_of
        request = parse(opened.payload) if authorities_of(device) else None
        credentials = credentials_in(opened.payload) if request is None else request.credentials
        admissions = []
        with self._where_there_is_room() as left:
            if credentials:
                admissions.append(
                    await self.replica.admit(
                        credentials, source=device, now_ms=now_ms, news=self.scope.marks, hold=False, bounded=True
                    )
                )
        if not authorities_of(device):
            left.tell()
            raise Refused(Code.UNKNOWN_DEVICE, "this machine is not known here")
        request = request or parse(opened.payload)
        pushed = Admission()
        if request.push:
            pushed = await self._take_pushed(request.push, device, now_ms)
            admissions.append(pushed)
        await self.scope.let_in([entry for admission in admissions for entry in admission.came])
        let_in = [entry for admission in admissions for entry in admission.let_in]
        return request, _Taken(
            waiting=(*pushed.waiting, *pushed.unheld),
            refused=pushed.refused,
            handed_in=frozenset(entry.header.space for entry in let_in if entry.header.kind == Kind.HAND_IN),
            grown=frozenset(entry.header.space for entry in pushed.let_in),
        )

    async def _take_pushed(self, push: Sequence[Entry], device: bytes, now_ms: int) -> Admission:
        """Let in what somebody known brings. What finds no room waits where it is, and its bringer is told why."""
        with self._where_there_is_room():
            spaces = await self.scope.wanted(push)
            wanted = [entry for entry in push if entry.header.space in spaces]
            return await self.replica.admit(
                wanted, source=device, now_ms=now_ms, news=self.scope.marks, bounded=True, tells=False
            )
        left = tuple(entry.id for entry in push)
        return Admission(unheld=left, refused=tuple(Refusal(name, Code.DISK_FULL) for name in left))

    async def _readable(self, device: bytes, shown: Collection[bytes] = ()) -> dict[bytes, Authority]:
        readable = await self.replica.readable(device)
        if not readable:
            granted = dict.fromkeys(each.space for each in self.replica.door.authorities_of(device))
            raise Refused(
                Code.REVOKED,
                "this machine's access has been withdrawn; ask who runs the system",
                withdrawn=await self._withdrawals(device, granted, shown),
            )
        shared = await self.scope.shared(readable)
        if not shared:
            raise Refused(Code.CANNOT_READ, "this machine and the one that answers have no class in common")
        return shared

    async def _withdrawals(self, device: bytes, spaces: Iterable[bytes], shown: Collection[bytes]) -> tuple[Entry, ...]:
        """The revocations in force in `spaces` of a device, and of those who let it in, with what proves them.

        But for those that were `shown` to it: a call that is refused over and over draws them once.
        """
        found = await self.replica.revocations_against(device, spaces)
        found = [each for each in found if each[:WITHDRAWN_BYTES] not in shown]
        # one with many lists, which counts as a whole only, keeps no other out
        entries = await self.replica.store.get(found)
        first = sorted(entries, key=lambda name: len(lists_of(entries[name])))
        # in an admissible order, so that as much as fits is of use
        return (await self.replica.credentials(first))[:MAX_CREDENTIALS] if first else ()

    async def _keep_reports(self, carrier: bytes, registers: Sequence[bytes], now_ms: int) -> None:
        if registers and await self.scope.keeps_reports():
            with self._where_there_is_room():
                for row in await keep_reports(self.replica, registers, now_ms):
                    self.on_report(Report(row, carrier, now_ms))

    async def _keep_packs(
        self, device: bytes, packs: Sequence[InlinePack], readable: Mapping[bytes, Authority]
    ) -> tuple[frozenset[bytes], list[Refusal]]:
        """Store small packs; their spaces, and what found no room. What a damaged one holds is lacking here."""
        kept, no_room = set(), list[Refusal]()
        open_to = _OpenTo(self.allowances, device)
        for pack in packs:
            if pack.space in readable and await self.scope.takes(pack.space, len(pack.data)):
                allowance = await open_to.space(pack.space)
                with contextlib.suppress(PeerFault), self._where_there_is_room() as left:
                    if await self.allowances.ingest(pack.space, device, pack.data, allowance):
                        kept.add(pack.space)
                if left.failure is not None:
                    no_room.append(Refusal(blake3(pack.data).digest(), Code.DISK_FULL))
        return frozenset(kept), no_room

    async def _uploads(
        self, request: SyncRequest, device: bytes, readable: Mapping[bytes, Authority], now_ms: int
    ) -> AsyncIterator[Upload]:
        open_to = _OpenTo(self.allowances, device)
        key = self.station.capability_key
        for offer in request.offers[:MAX_OFFERS]:
            if offer.space not in readable:
                continue
            if await self.replica.content.pack(offer.pack, offer.space) is not None:
                yield Upload(offer.pack, offer.size, "")
                continue
            if not await self.scope.takes(offer.space, offer.size):
                continue
            if not (await open_to.space(offer.space)).take(offer.size):
                continue
            expiry_s = _expiry_s(now_ms)
            may = Capability.to_send(offer.space, offer.pack, offer.size, expiry_s, device, keyed=request.keyed)
            if not await self.scope.lets_send(offer.pack, may.sender):
                continue
            self.allowances.open_parts.offered(may)
            held = await self.replica.content.part_size(offer.pack, may.sender)
            yield Upload(offer.pack, held, may.issue(key), may.link_key_under(key))

    async def _write_receipts(self, spaces: Collection[bytes]) -> None:
        """A hand-in whose content is here, durably, gets the server's receipt: signed over its id and hash (R8)."""
        if not self.station.writes_receipts:
            return
        # One at a time: what one call is about to sign, another must not sign too.
        async with self._receipting:
            self._receipted.difference_update(spaces)
            words = self.replica.words_on_words
            drafts = [
                draft for space in sorted(spaces) for draft in await receipts_due(self.replica, self.holdings, space)
            ]
            with self._where_there_is_room() as left:
                if drafts:
                    await self.say(drafts)
            if left.failure is None and words == self.replica.words_on_words:
                rosters = [(await self.replica.view(space)).roster for space in spaces]
                self._receipted.update(roster.space for roster in rosters if is_settled(roster))

    def _link(self, pack: PackInfo, now_ms: int, *, keyed: bool) -> Link:
        key = self.station.capability_key
        may = Capability(Purpose.FETCH, pack.space, pack.hash, pack.size, _expiry_s(now_ms), keyed=keyed)
        return Link(pack.space, pack.hash, pack.size, may.issue(key), may.link_key_under(key))

    def _listen_capability(self, device: bytes, now_ms: int) -> str:
        may = Capability(Purpose.LISTEN, self.replica.territory, device, 0, _expiry_s(now_ms))
        return may.issue(self.station.capability_key)

    def _closed(self, cursors: NamedCursors, readable: Mapping[bytes, Authority]) -> tuple[bytes, ...]:
        """Those of our spaces that the caller names, in full or by their beginning, and may not read."""
        named = cursors.beside(readable)
        if not named:
            return ()
        spaces = self.replica.door.spaces()
        return tuple(space for space in spaces if space not in readable and not named.isdisjoint(names_of(space)))


class _OpenTo:
    """What a caller may bring within one request, space by space."""

    def __init__(self, allowances: Allowances, device: bytes) -> None:
        self._allowances, self._device = allowances, device
        self._spaces: dict[bytes, Allowance] = {}

    async def space(self, space: bytes) -> Allowance:
        """What is left of it."""
        if space not in self._spaces:
            self._spaces[space] = await self._allowances.of(space, self._device)
        return self._spaces[space]


@dataclass(frozen=True, slots=True)
class _Taken:
    """What became of a caller's entries, the spaces that grew by them, and those in which hand-ins came in."""

    waiting: tuple[bytes, ...]
    refused: tuple[Refusal, ...]
    handed_in: frozenset[bytes]
    grown: frozenset[bytes] = frozenset()


def _brought(packs: Iterable[InlinePack], readable: Collection[bytes]) -> set[bytes]:
    """The spaces of packs that their bringer may read: of others that it names there need be none."""
    return {pack.space for pack in packs if pack.space in readable}


def is_settled(roster: Roster) -> bool:
    """Whether nobody's hand-ins in a space wait for their receipts until a freeze is lifted (docs/adr/0429)."""
    return not roster.frozen


def _expiry_s(now_ms: int) -> int:
    return now_ms // 1000 + CAPABILITY_LIFETIME_S


def _nameless(_device: bytes) -> str | None:
    return None


def _ignore(_told: object) -> None:
    """Nobody wants to know."""


async def _nobody_notes(_key: bytes) -> None:
    return
