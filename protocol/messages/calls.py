"""The messages that two replicas exchange, parsed once into frozen dataclasses (docs/protocol.md, "Messages").

Every message is one canonical map inside an envelope; keys that are absent mean none. Each class has `encode()` and
`parse(data)`; `parse` raises `PeerFault` or `TooLarge` and never returns a half-read message. An entry that does not
parse is set aside as a `Refusal` and does not spoil the entries beside it, because a carrier may not have made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.canonical import Value, decode, decode_member, encode
from protocol.clock import MAX_TIME_MS
from protocol.fields import Fields, compact
from protocol.limits import (
    MAX_BARE_IDS,
    MAX_CALLED,
    MAX_CHALLENGE_BYTES,
    MAX_CREDENTIALS,
    MAX_ENDED_SPACES,
    MAX_INLINE_PACKS,
    MAX_LISTED_IDS,
    MAX_MESSAGE_BYTES,
    MAX_SPACES_PER_REQUEST,
    MAX_STRANGER_VALUES,
    RECONCILE_FRAME_BYTES,
    SETS_BYTES,
    STANDING_BYTES,
)
from protocol.messages.errors import answered
from protocol.messages.lives import LIFE_BYTES, Twin
from protocol.messages.parts import (
    MAX_CAPABILITY_CHARS,
    MAX_ENTRIES,
    Held,
    InlinePack,
    Link,
    Offer,
    Refusal,
    SpacePage,
    Upload,
    Wanted,
    checkpoint_row,
    link_row,
    page_row,
    read_called,
    read_checkpoint,
    read_cursor,
    read_entries,
    read_held,
    read_inline_packs,
    read_link,
    read_offer,
    read_page,
    read_refusal,
    read_registers,
    read_upload,
    read_wanted,
    upload_row,
    wire_rows,
)
from protocol.model.entry import Entry
from protocol.reconcile.checkpoint import Checkpoint, Cursor
from protocol.transfer.deflate_parameters import ALL_LEVELS, Profile

_GENERATION_BYTES: Final = 8
WITHDRAWN_BYTES: Final = 8
"""So much of the id of a revocation says that it need not be shown again."""


def credentials_in(data: bytes) -> tuple[Entry, ...]:
    """What proves who sends a sync or reconcile request, without a look at what comes after it.

    Raises `PeerFault`, `TooLarge`. What the map holds before it is passed over, and bounded with it.
    """
    member = decode_member(data, "credentials", max_values=MAX_STRANGER_VALUES)
    return read_entries(Fields({"credentials": member}, "a request").rows("credentials", MAX_CREDENTIALS))[0]


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a replica has and wants. All fields may be empty; a quiet one holds cursors only.

    A caller that has all content of many spaces says their `standing` instead. `bare` are entries whose payloads it
    asks for: nothing else is answered then. `withdrawn` are the beginnings of revocations that it has been shown.
    `untaken` is how many entries it holds, besides what it pushes, that the recipient is not known to have taken;
    `sets` is the hash of all that it holds of what it may read, but for these and what it pushes. `ended` are the
    spaces of which it holds something, and which it may read no more. `challenge` is the latest that the recipient has
    given it. `certificate` is the SHA-256 of the TLS certificate that the caller was shown, between neighbours. `keyed`
    asks for links with keys of their own.
    """

    generation: bytes | None = None
    cursors: tuple[Cursor, ...] = ()
    credentials: tuple[Entry, ...] = ()
    push: tuple[Entry, ...] = ()
    refused: tuple[Refusal, ...] = ()
    packs: tuple[InlinePack, ...] = ()
    offers: tuple[Offer, ...] = ()
    want: tuple[Wanted, ...] = ()
    registers: tuple[bytes, ...] = ()
    live: bool = False
    brief: bool = False
    thin: bool = False
    name: str | None = None
    life: bytes | None = None
    levels: Profile = ALL_LEVELS
    held: tuple[Held, ...] = ()
    standing: bytes | None = None
    bare: tuple[bytes, ...] = ()
    withdrawn: tuple[bytes, ...] = ()
    untaken: int = 0
    sets: bytes | None = None
    ended: tuple[bytes, ...] = ()
    challenge: bytes | None = None
    certificate: bytes | None = None
    keyed: bool = False

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                generation=self.generation,
                cursors=[[c.space, c.count, c.chain, c.complete] for c in self.cursors],
                credentials=wire_rows(self.credentials),
                push=wire_rows(self.push),
                packs=[[pack.space, pack.data] for pack in self.packs],
                offers=[[offer.space, offer.pack, offer.size] for offer in self.offers],
                want=[[wanted.space, wanted.stream] for wanted in self.want],
                registers=list(self.registers),
                live=self.live,
                brief=self.brief,
                thin=self.thin,
                name=self.name,
                life=self.life,
                deflates=_levels_value(self.levels),
                held=[[held.space, held.names] for held in self.held],
                standing=self.standing,
                bare=list(self.bare),
                withdrawn=list(self.withdrawn),
                untaken=self.untaken or None,
                sets=self.sets,
                ended=list(self.ended),
                since=self.challenge,
                certificate=self.certificate,
                keyed=self.keyed,
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> SyncRequest:
        """The message in `data`."""
        fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "a sync request")
        credentials, bad = read_entries(fields.rows("credentials", MAX_CREDENTIALS))
        push, refused = read_entries(fields.rows("push", MAX_ENTRIES))
        return cls(
            generation=fields.octets_or_none("generation", _GENERATION_BYTES),
            cursors=tuple(read_cursor(row) for row in fields.rows("cursors", MAX_SPACES_PER_REQUEST)),
            credentials=credentials,
            push=push,
            refused=bad + refused,
            packs=read_inline_packs(fields.rows("packs", MAX_INLINE_PACKS)),
            offers=tuple(read_offer(row) for row in fields.rows("offers", MAX_LISTED_IDS)),
            want=tuple(read_wanted(row) for row in fields.rows("want", MAX_LISTED_IDS)),
            registers=read_registers(fields.rows("registers", MAX_LISTED_IDS)),
            live=fields.flag("live"),
            brief=fields.flag("brief"),
            thin=fields.flag("thin"),
            name=fields.name_or_none("name"),
            life=fields.octets_or_none("life", LIFE_BYTES),
            levels=_levels(fields),
            held=read_held(fields.rows("held", MAX_SPACES_PER_REQUEST)),
            standing=fields.octets_or_none("standing", STANDING_BYTES),
            bare=fields.all_octets("bare", 32, MAX_BARE_IDS),
            withdrawn=fields.all_octets("withdrawn", WITHDRAWN_BYTES, MAX_CREDENTIALS),
            untaken=fields.count_or_none("untaken") or 0,
            sets=fields.octets_or_none("sets", SETS_BYTES),
            ended=fields.all_octets("ended", 32, MAX_ENDED_SPACES),
            challenge=fields.octets_or_none("since", most=MAX_CHALLENGE_BYTES),
            certificate=fields.octets_or_none("certificate", 32),
            keyed=fields.flag("keyed"),
        )


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """What the recipient says: its time, news by space, content inline or by link, and what it lacks itself.

    `stale` are the spaces whose cursor it does not recognise: reconcile them. `closed` are those that the caller may
    not read. `waiting` and `refused` are the pushed entries that did not get in, `more` that another call brings
    more; `live` is the capability to listen for news, if it was asked for. `levels` are those of deflate that the
    recipient reproduces; `backup_ms` is when a server's newest backup that was read back was begun, by its clock, and
    `elsewhere` says that it was brought a word under its own key that it has not said.
    `unlike` says that the request's standing is not the recipient's: name the cursors, nothing else was answered.
    `withdrawn` are the revocations that close spaces to the caller, with what proves them. `whole` are entries for
    which the request asked, `bare` those whose payloads the recipient asks for itself. `called` are devices whose
    grants are among the news, with the names that they gave, for who runs their school. `challenge` is to be said with
    the requests that follow.
    """

    time_ms: int
    generation: bytes | None = None
    pages: tuple[SpacePage, ...] = ()
    stale: tuple[bytes, ...] = ()
    closed: tuple[bytes, ...] = ()
    withdrawn: tuple[Entry, ...] = ()
    packs: tuple[InlinePack, ...] = ()
    links: tuple[Link, ...] = ()
    lacks: tuple[Wanted, ...] = ()
    uploads: tuple[Upload, ...] = ()
    waiting: tuple[bytes, ...] = ()
    refused: tuple[Refusal, ...] = ()
    more: bool = False
    live: str | None = None
    name: str | None = None
    twin: Twin = Twin.NONE
    levels: Profile = ALL_LEVELS
    backup_ms: int | None = None
    elsewhere: bool = False
    unlike: bool = False
    whole: tuple[Entry, ...] = ()
    bare: tuple[bytes, ...] = ()
    called: tuple[tuple[bytes, str], ...] = ()
    challenge: bytes | None = None

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                time=self.time_ms,
                generation=self.generation,
                pages=[page_row(page) for page in self.pages],
                stale=list(self.stale),
                closed=list(self.closed),
                withdrawn=wire_rows(self.withdrawn),
                packs=[[pack.space, pack.data] for pack in self.packs],
                links=[link_row(link) for link in self.links],
                lacks=[[wanted.space, wanted.stream] for wanted in self.lacks],
                uploads=[upload_row(upload) for upload in self.uploads],
                waiting=list(self.waiting),
                refused=[[refusal.id, refusal.code.value] for refusal in self.refused],
                more=self.more,
                live=self.live,
                name=self.name,
                twin=int(self.twin) or None,
                deflates=_levels_value(self.levels),
                backup=self.backup_ms,
                elsewhere=self.elsewhere,
                unlike=self.unlike,
                whole=wire_rows(self.whole),
                bare=list(self.bare),
                called=[[key, name] for key, name in self.called],
                since=self.challenge,
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> SyncAnswer:
        """The message in `data`. Raises the `RelaisError` that the recipient sent instead of an answer, if it did."""
        fields = answered(data, "a sync answer")
        return cls(
            time_ms=fields.count("time", MAX_TIME_MS),
            generation=fields.octets_or_none("generation", _GENERATION_BYTES),
            pages=tuple(read_page(row) for row in fields.rows("pages", MAX_SPACES_PER_REQUEST)),
            stale=fields.all_octets("stale", 32, MAX_SPACES_PER_REQUEST),
            closed=fields.all_octets("closed", 32, MAX_SPACES_PER_REQUEST),
            withdrawn=read_entries(fields.rows("withdrawn", MAX_CREDENTIALS))[0],
            packs=read_inline_packs(fields.rows("packs", MAX_INLINE_PACKS)),
            links=tuple(read_link(row) for row in fields.rows("links", MAX_LISTED_IDS)),
            lacks=tuple(read_wanted(row) for row in fields.rows("lacks", MAX_LISTED_IDS)),
            uploads=tuple(read_upload(row) for row in fields.rows("uploads", MAX_LISTED_IDS)),
            waiting=fields.all_octets("waiting", 32, MAX_ENTRIES),
            refused=tuple(read_refusal(row) for row in fields.rows("refused", MAX_ENTRIES)),
            more=fields.flag("more"),
            live=fields.text_or_none("live", MAX_CAPABILITY_CHARS),
            name=fields.name_or_none("name"),
            twin=_twin(fields.count_or_none("twin")),
            levels=_levels(fields),
            backup_ms=fields.count_or_none("backup"),
            elsewhere=fields.flag("elsewhere"),
            unlike=fields.flag("unlike"),
            whole=read_entries(fields.rows("whole", MAX_ENTRIES))[0],
            bare=fields.all_octets("bare", 32, MAX_BARE_IDS),
            called=tuple(read_called(row) for row in fields.rows("called", MAX_CALLED)),
            challenge=fields.octets_or_none("since", most=MAX_CHALLENGE_BYTES),
        )


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """One step of range-based reconciliation of one space, with entries on the way and ids that are asked for.

    `message` is a Negentropy v1 message, or None when only entries move. `offered` are ids, of whatever space, of which
    the caller asks whether they are lacking.
    """

    space: bytes
    message: bytes | None
    credentials: tuple[Entry, ...] = ()
    push: tuple[Entry, ...] = ()
    refused: tuple[Refusal, ...] = ()
    need: tuple[bytes, ...] = ()
    offered: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                space=self.space,
                message=self.message,
                credentials=wire_rows(self.credentials),
                push=wire_rows(self.push),
                need=list(self.need),
                offered=list(self.offered),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> ReconcileRequest:
        """The message in `data`."""
        fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "a reconcile request")
        credentials, bad = read_entries(fields.rows("credentials", MAX_CREDENTIALS))
        push, refused = read_entries(fields.rows("push", MAX_ENTRIES))
        return cls(
            fields.octets("space", 32),
            _negentropy(fields),
            credentials,
            push,
            bad + refused,
            fields.all_octets("need", 32, MAX_LISTED_IDS),
            fields.all_octets("offered", 32, MAX_LISTED_IDS),
        )


@dataclass(frozen=True, slots=True)
class ReconcileAnswer:
    """The recipient's side of a step: its Negentropy message, the entries asked for, and where its store stood before.

    `left` are ids that were asked for and did not fit: ask again. `lacks` are those that were offered and are not here.
    """

    time_ms: int
    message: bytes | None
    checkpoint: Checkpoint
    entries: tuple[Entry, ...] = ()
    left: tuple[bytes, ...] = ()
    waiting: tuple[bytes, ...] = ()
    refused: tuple[Refusal, ...] = ()
    lacks: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                time=self.time_ms,
                message=self.message,
                checkpoint=checkpoint_row(self.checkpoint),
                entries=wire_rows(self.entries),
                left=list(self.left),
                waiting=list(self.waiting),
                refused=[[refusal.id, refusal.code.value] for refusal in self.refused],
                lacks=list(self.lacks),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> ReconcileAnswer:
        """The message in `data`. Raises the `RelaisError` that the recipient sent instead, if it did."""
        fields = answered(data, "a reconcile answer")
        entries, bad = read_entries(fields.rows("entries", MAX_ENTRIES))
        return cls(
            fields.count("time", MAX_TIME_MS),
            _negentropy(fields),
            read_checkpoint(fields.rows("checkpoint", 4)),
            entries,
            fields.all_octets("left", 32, MAX_LISTED_IDS),
            fields.all_octets("waiting", 32, MAX_ENTRIES),
            tuple(read_refusal(row) for row in fields.rows("refused", MAX_ENTRIES)) + bad,
            fields.all_octets("lacks", 32, MAX_LISTED_IDS),
        )


def _levels_value(levels: Profile) -> Value:
    """All of zlib's levels, which nearly every machine reproduces, are said by silence."""
    return None if levels == ALL_LEVELS else int(levels)


def _levels(fields: Fields) -> Profile:
    found = fields.count_or_none("deflates", ALL_LEVELS)
    return ALL_LEVELS if found is None else Profile(found)


def _twin(said: int | None) -> Twin:
    """What an answer says of another process with our key; a word that is not known says nothing."""
    return Twin(said) if said in tuple(Twin) else Twin.NONE


def _negentropy(fields: Fields) -> bytes | None:
    return fields.octets("message", most=RECONCILE_FRAME_BYTES) if fields.has("message") else None
