"""The messages that two replicas exchange, parsed once into frozen dataclasses (docs/protocol.md, "Messages").

Every message is one canonical map inside an envelope; keys that are absent mean none. Each class has `encode()` and
`parse(data)`; `parse` raises `PeerFault` or `TooLarge` and never returns a half-read message. An entry that does not
parse is set aside as a `Refusal` and does not spoil the entries beside it, because a carrier may not have made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from blake3 import blake3

from protocol.canonical import Value, decode, encode
from protocol.checkpoint import Checkpoint, Cursor
from protocol.deflate_parameters import ALL_LEVELS, Profile
from protocol.entry import Entry, from_wire, to_wire
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.fields import Fields, compact
from protocol.held_names import HeldNames
from protocol.limits import (
    CURSOR_HASH_BYTES,
    INLINE_TOTAL_BYTES,
    MAX_BARE_IDS,
    MAX_CREDENTIALS,
    MAX_INLINE_PACKS,
    MAX_LISTED_IDS,
    MAX_MESSAGE_BYTES,
    MAX_NAME_CHARS,
    MAX_PACK_BYTES,
    MAX_REGISTER_BYTES,
    MAX_SPACES_PER_REQUEST,
    MAX_URL_CHARS,
    RECONCILE_FRAME_BYTES,
    STANDING_BYTES,
)
from protocol.lives import LIFE_BYTES, Twin

SPACE_PREFIX_BYTES: Final = 4
_GENERATION_BYTES: Final = 8
_MAX_ENTRIES: Final = 20_000
_MAX_ARRIVALS: Final = 2**63 - 1
_MAX_CAPABILITY_CHARS: Final = 256
_MAX_CODE_CHARS: Final = 64
_MAX_REASON_CHARS: Final = 500
_SECRET_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that was not taken, and why."""

    id: bytes
    code: Code


@dataclass(frozen=True, slots=True)
class InlinePack:
    """A whole small pack, and the space that it belongs to."""

    space: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """A pack that the caller could send."""

    space: bytes
    pack: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Link:
    """A pack to be fetched with a capability, for a while."""

    space: bytes
    pack: bytes
    size: int
    capability: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A pack that is wanted: send it from `offset` on, with this capability."""

    pack: bytes
    offset: int
    capability: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stream whose content is missing in a space."""

    space: bytes
    stream: bytes


@dataclass(frozen=True, slots=True)
class Held:
    """What the caller holds of a space, of whose content it misses a part."""

    space: bytes
    names: HeldNames


@dataclass(frozen=True, slots=True)
class SpacePage:
    """News of one space: entries in order of arrival, and where they lead; `more` says that there are more."""

    checkpoint: Checkpoint
    entries: tuple[Entry, ...]
    refused: tuple[Refusal, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """What a replica has and wants. All fields may be empty; a quiet one holds cursors only.

    A caller that has all content of many spaces says their `standing` instead. `bare` are entries whose payloads it
    asks for: nothing else is answered then.
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

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                generation=self.generation,
                cursors=[[c.space, c.count, c.chain, c.complete] for c in self.cursors],
                credentials=_wire(self.credentials),
                push=_wire(self.push),
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
                held=[[held.space, held.names.encode()] for held in self.held],
                standing=self.standing,
                bare=list(self.bare),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> SyncRequest:
        """The message in `data`."""
        fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "a sync request")
        credentials, bad = _entries(fields.rows("credentials", MAX_CREDENTIALS))
        push, refused = _entries(fields.rows("push", _MAX_ENTRIES))
        return cls(
            generation=fields.octets_or_none("generation", _GENERATION_BYTES),
            cursors=tuple(_cursor(row) for row in fields.rows("cursors", MAX_SPACES_PER_REQUEST)),
            credentials=credentials,
            push=push,
            refused=bad + refused,
            packs=_inline_packs(fields.rows("packs", MAX_INLINE_PACKS)),
            offers=tuple(_offer(row) for row in fields.rows("offers", MAX_LISTED_IDS)),
            want=tuple(_wanted(row) for row in fields.rows("want", MAX_LISTED_IDS)),
            registers=_registers(fields.rows("registers", MAX_LISTED_IDS)),
            live=fields.flag("live"),
            brief=fields.flag("brief"),
            thin=fields.flag("thin"),
            name=fields.text_or_none("name", MAX_NAME_CHARS),
            life=fields.octets_or_none("life", LIFE_BYTES),
            levels=_levels(fields),
            held=tuple(map(_held, fields.rows("held", MAX_SPACES_PER_REQUEST))),
            standing=fields.octets_or_none("standing", STANDING_BYTES),
            bare=fields.all_octets("bare", 32, MAX_BARE_IDS),
        )


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """What the recipient says: its time, news by space, content inline or by link, and what it lacks itself.

    `stale` are the spaces whose cursor it does not recognise: reconcile them. `closed` are those that the caller may
    not read. `waiting` and `refused` are the pushed entries that did not get in, `more` that another call brings
    more; `live` is the capability to listen for news, if it was asked for. `levels` are those of deflate that the
    recipient reproduces; `backup_ms` is when a server's newest backup that was read back was begun, by its clock.
    `unlike` says that the request's standing is not the recipient's: name the cursors, nothing else was answered.
    `withdrawn` are the revocations that close spaces to the caller, with what proves them. `whole` are entries for
    which the request asked, `bare` those whose payloads the recipient asks for itself.
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
    unlike: bool = False
    whole: tuple[Entry, ...] = ()
    bare: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                time=self.time_ms,
                generation=self.generation,
                pages=[_page_value(page) for page in self.pages],
                stale=list(self.stale),
                closed=list(self.closed),
                withdrawn=_wire(self.withdrawn),
                packs=[[pack.space, pack.data] for pack in self.packs],
                links=[[link.space, link.pack, link.size, link.capability] for link in self.links],
                lacks=[[wanted.space, wanted.stream] for wanted in self.lacks],
                uploads=[[upload.pack, upload.offset, upload.capability] for upload in self.uploads],
                waiting=list(self.waiting),
                refused=[[refusal.id, refusal.code.value] for refusal in self.refused],
                more=self.more,
                live=self.live,
                name=self.name,
                twin=int(self.twin) or None,
                deflates=_levels_value(self.levels),
                backup=self.backup_ms,
                unlike=self.unlike,
                whole=_wire(self.whole),
                bare=list(self.bare),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> SyncAnswer:
        """The message in `data`. Raises the `RelaisError` that the recipient sent instead of an answer, if it did."""
        fields = _answered(data, "a sync answer")
        return cls(
            time_ms=fields.count("time"),
            generation=fields.octets_or_none("generation", _GENERATION_BYTES),
            pages=tuple(_page(row) for row in fields.rows("pages", MAX_SPACES_PER_REQUEST)),
            stale=fields.all_octets("stale", 32, MAX_SPACES_PER_REQUEST),
            closed=fields.all_octets("closed", 32, MAX_SPACES_PER_REQUEST),
            withdrawn=_entries(fields.rows("withdrawn", MAX_CREDENTIALS))[0],
            packs=_inline_packs(fields.rows("packs", MAX_INLINE_PACKS)),
            links=tuple(_link(row) for row in fields.rows("links", MAX_LISTED_IDS)),
            lacks=tuple(_wanted(row) for row in fields.rows("lacks", MAX_LISTED_IDS)),
            uploads=tuple(_upload(row) for row in fields.rows("uploads", MAX_LISTED_IDS)),
            waiting=fields.all_octets("waiting", 32, _MAX_ENTRIES),
            refused=tuple(_refusal(row) for row in fields.rows("refused", _MAX_ENTRIES)),
            more=fields.flag("more"),
            live=fields.text_or_none("live", _MAX_CAPABILITY_CHARS),
            name=fields.text_or_none("name", MAX_NAME_CHARS),
            twin=_twin(fields.count_or_none("twin")),
            levels=_levels(fields),
            backup_ms=fields.count_or_none("backup"),
            unlike=fields.flag("unlike"),
            whole=_entries(fields.rows("whole", _MAX_ENTRIES))[0],
            bare=fields.all_octets("bare", 32, MAX_BARE_IDS),
        )


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """One step of range-based reconciliation of one space, with entries on the way and ids that are asked for.

    `message` is a Negentropy v1 message, or None when only entries move.
    """

    space: bytes
    message: bytes | None
    credentials: tuple[Entry, ...] = ()
    push: tuple[Entry, ...] = ()
    refused: tuple[Refusal, ...] = ()
    need: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                space=self.space,
                message=self.message,
                credentials=_wire(self.credentials),
                push=_wire(self.push),
                need=list(self.need),
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> ReconcileRequest:
        """The message in `data`."""
        fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "a reconcile request")
        credentials, bad = _entries(fields.rows("credentials", MAX_CREDENTIALS))
        push, refused = _entries(fields.rows("push", _MAX_ENTRIES))
        return cls(
            fields.octets("space", 32),
            _negentropy(fields),
            credentials,
            push,
            bad + refused,
            fields.all_octets("need", 32, MAX_LISTED_IDS),
        )


@dataclass(frozen=True, slots=True)
class ReconcileAnswer:
    """The recipient's side of a step: its Negentropy message, the entries asked for, and where its store stood before.

    `left` are ids that were asked for and did not fit: ask again.
    """

    time_ms: int
    message: bytes | None
    checkpoint: Checkpoint
    entries: tuple[Entry, ...] = ()
    left: tuple[bytes, ...] = ()
    waiting: tuple[bytes, ...] = ()
    refused: tuple[Refusal, ...] = ()

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode(
            compact(
                time=self.time_ms,
                message=self.message,
                checkpoint=_checkpoint_value(self.checkpoint),
                entries=_wire(self.entries),
                left=list(self.left),
                waiting=list(self.waiting),
                refused=[[refusal.id, refusal.code.value] for refusal in self.refused],
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> ReconcileAnswer:
        """The message in `data`. Raises the `RelaisError` that the recipient sent instead, if it did."""
        fields = _answered(data, "a reconcile answer")
        entries, bad = _entries(fields.rows("entries", _MAX_ENTRIES))
        return cls(
            fields.count("time"),
            _negentropy(fields),
            _checkpoint(fields.rows("checkpoint", 4)),
            entries,
            fields.all_octets("left", 32, MAX_LISTED_IDS),
            fields.all_octets("waiting", 32, _MAX_ENTRIES),
            tuple(_refusal(row) for row in fields.rows("refused", _MAX_ENTRIES)) + bad,
        )


@dataclass(frozen=True, slots=True)
class EnrollRequest:
    """A device asks to be let in. Its Ed25519 key is the one that signs the envelope."""

    secret: bytes
    agreement: bytes
    tls_sha256: bytes
    name: str

    def encode(self) -> bytes:
        """The message's bytes."""
        return encode({"secret": self.secret, "agreement": self.agreement, "tls": self.tls_sha256, "name": self.name})

    @classmethod
    def parse(cls, data: bytes) -> EnrollRequest:
        """The message in `data`."""
        fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "an enrolment")
        return cls(
            fields.octets("secret", _SECRET_BYTES),
            fields.octets("agreement", 32),
            fields.octets("tls", 32),
            fields.text("name", MAX_NAME_CHARS),
        )


@dataclass(frozen=True, slots=True)
class EnrollAnswer:
    """The grants made for the device, in their spaces, with all that is needed to admit them, in that order."""

    time_ms: int
    territory_name: str
    entries: tuple[Entry, ...]
    server_url: str | None = None
    """Where the server is, from a device of the school that enrols in its place."""

    def encode(self) -> bytes:
        """The message's bytes."""
        entries = _wire(self.entries)
        return encode(compact(time=self.time_ms, name=self.territory_name, entries=entries, server=self.server_url))

    @classmethod
    def parse(cls, data: bytes) -> EnrollAnswer:
        """The message in `data`. Raises the `RelaisError` that the recipient sent instead, if it did."""
        fields = _answered(data, "an enrolment's answer")
        entries, bad = _entries(fields.rows("entries", _MAX_ENTRIES))
        if bad:
            raise PeerFault(Code.MALFORMED, "an enrolment's answer holds an entry that cannot be read")
        server = fields.text_or_none("server", MAX_URL_CHARS)
        return cls(fields.count("time"), fields.text("name", MAX_NAME_CHARS), entries, server)


def encode_chain(entries: Sequence[Entry]) -> bytes:
    """A recipient's own chain, sent in clear with 421 to a caller that used a key which is not held here."""
    return encode({"chain": _wire(entries)})


def parse_chain(data: bytes) -> tuple[Entry, ...]:
    """The chain in `data`. Raises `PeerFault` or `TooLarge`."""
    fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "a chain")
    entries, bad = _entries(fields.rows("chain", MAX_CREDENTIALS))
    if bad:
        raise PeerFault(Code.MALFORMED, "a chain holds an entry that cannot be read")
    return entries


def encode_error(error: RelaisError, retry_after_s: int | None = None) -> bytes:
    """What is sealed to a caller whose call failed."""
    proofs = error.facts.get("withdrawn")
    inner = compact(
        code=error.code.value,
        message=error.message[:_MAX_REASON_CHARS],
        retry=retry_after_s,
        withdrawn=_wire(proofs) if isinstance(proofs, tuple) else None,
    )
    return encode({"error": inner})


def _answered(data: bytes, what: str) -> Fields:
    fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), what)
    error = fields.inner("error")
    if error is None:
        return fields
    found = error_from(
        error.text("code", _MAX_CODE_CHARS), error.text("message", _MAX_REASON_CHARS), error.count_or_none("retry")
    )
    proofs, _ = _entries(error.rows("withdrawn", MAX_CREDENTIALS))
    if proofs:
        found.facts["withdrawn"] = proofs
    raise found


_REFUSALS: Final = frozenset(
    {
        Code.CODE_WRONG,
        Code.CODE_USED,
        Code.CODE_EXPIRED,
        Code.WRONG_TERRITORY,
        Code.NO_RIGHT,
        Code.CANNOT_READ,
        Code.REVOKED,
        Code.QUARANTINED,
        Code.UNKNOWN_DEVICE,
    }
)


def error_from(code: str, message: str, retry_after_s: int | None = None) -> RelaisError:
    """The error that a recipient's code stands for, as its caller raises it."""
    try:
        known = Code(code)
    except ValueError:
        return LocalFailure(Code.INTERNAL, message, remote_code=code)
    if known in _REFUSALS:
        return Refused(known, message)
    if known == Code.BUSY:
        return NoAnswer(known, message, retry_after_s=retry_after_s)
    if known in {Code.DISK_FULL, Code.READ_ONLY, Code.STORAGE_FAILED, Code.INTERNAL, Code.DAMAGED}:
        return NoAnswer(known, f"the server cannot take anything now: {message}; the work is kept")
    if known == Code.BAD_NAME:
        return BadInput(known, message)
    return PeerFault(known, message)


def _levels_value(levels: Profile) -> Value:
    """All of zlib's levels, which nearly every machine reproduces, are said by silence."""
    return None if levels == ALL_LEVELS else int(levels)


def _levels(fields: Fields) -> Profile:
    found = fields.count_or_none("deflates", ALL_LEVELS)
    return ALL_LEVELS if found is None else Profile(found)


def _wire(entries: Iterable[Entry]) -> list[Value]:
    return [to_wire(entry) for entry in entries]


def _entries(rows: Sequence[Value]) -> tuple[tuple[Entry, ...], tuple[Refusal, ...]]:
    entries: list[Entry] = []
    refused: list[Refusal] = []
    for row in rows:
        try:
            entries.append(from_wire(row))
        except PeerFault as fault:
            if not isinstance(row, list) or not row or type(row[0]) is not bytes:
                raise
            refused.append(Refusal(blake3(row[0]).digest(), fault.code))
    return tuple(entries), tuple(refused)


def _page_value(page: SpacePage) -> list[Value]:
    return [*_checkpoint_value(page.checkpoint), _wire(page.entries), page.more]


def _page(row: Value) -> SpacePage:
    match row:
        case [space, count, chain, fingerprint, list(rows), bool(more)]:
            entries, refused = _entries(rows)
            return SpacePage(_checkpoint([space, count, chain, fingerprint]), entries, refused, more)
        case _:
            raise _malformed("a page of a space")


def _checkpoint_value(checkpoint: Checkpoint) -> list[Value]:
    return [checkpoint.space, checkpoint.count, checkpoint.chain, checkpoint.fingerprint]


def _checkpoint(row: Sequence[Value]) -> Checkpoint:
    match row:
        case [bytes(space), int(count), bytes(chain), bytes(fingerprint)] if (
            len(space) == 32  # noqa: PLR2004  (an id)
            and 0 <= count <= _MAX_ARRIVALS
            and len(chain) == CURSOR_HASH_BYTES
            and len(fingerprint) == 16  # noqa: PLR2004  (Negentropy's)
        ):
            return Checkpoint(space, count, chain, fingerprint)
        case _:
            raise _malformed("a checkpoint")


def _twin(said: int | None) -> Twin:
    """What an answer says of another process with our key; a word that is not known says nothing."""
    return Twin(said) if said in tuple(Twin) else Twin.NONE


def _cursor(row: Value) -> Cursor:
    match row:
        case [bytes(space), int(count), bytes(chain), bool(complete)] if (
            len(space) in (SPACE_PREFIX_BYTES, 32) and 0 <= count <= _MAX_ARRIVALS and len(chain) == CURSOR_HASH_BYTES
        ):
            return Cursor(space, count, chain, complete)
        case _:
            raise _malformed("a cursor")


def _inline_packs(rows: Sequence[Value]) -> tuple[InlinePack, ...]:
    packs = []
    total = 0
    for row in rows:
        match row:
            case [bytes(space), bytes(data)] if len(space) == 32:  # noqa: PLR2004  (an id)
                packs.append(InlinePack(space, data))
                total += len(data)
            case _:
                raise _malformed("a pack")
    if total > 2 * INLINE_TOTAL_BYTES:
        raise TooLarge(Code.TOO_LARGE, "a message holds too much content", size=total, max=2 * INLINE_TOTAL_BYTES)
    return tuple(packs)


def _offer(row: Value) -> Offer:
    match row:
        case [bytes(space), bytes(pack), int(size)] if _is_pack(space, pack, size):
            return Offer(space, pack, size)
        case _:
            raise _malformed("an offer")


def _link(row: Value) -> Link:
    match row:
        case [bytes(space), bytes(pack), int(size), str(capability)] if (
            _is_pack(space, pack, size) and len(capability) <= _MAX_CAPABILITY_CHARS
        ):
            return Link(space, pack, size, capability)
        case _:
            raise _malformed("a link")


def _upload(row: Value) -> Upload:
    match row:
        case [bytes(pack), int(offset), str(capability)] if (
            _is_pack(pack, pack, offset) and len(capability) <= _MAX_CAPABILITY_CHARS
        ):
            return Upload(pack, offset, capability)
        case _:
            raise _malformed("a wanted pack")


def _wanted(row: Value) -> Wanted:
    match row:
        case [bytes(space), bytes(stream)] if len(space) == len(stream) == 32:  # noqa: PLR2004  (ids)
            return Wanted(space, stream)
        case _:
            raise _malformed("a wanted stream")


def _held(row: Value) -> Held:
    match row:
        case [bytes(space), bytes(names)] if len(space) == 32:  # noqa: PLR2004  (an id)
            return Held(space, HeldNames.parse(names))
        case _:
            raise _malformed("what is held of a space")


def _refusal(row: Value) -> Refusal:
    match row:
        case [bytes(refused), str(code)] if len(refused) == 32:  # noqa: PLR2004  (an id)
            try:
                return Refusal(refused, Code(code))
            except ValueError:
                return Refusal(refused, Code.MALFORMED)
        case _:
            raise _malformed("a refusal")


def _registers(rows: Sequence[Value]) -> tuple[bytes, ...]:
    if any(type(row) is not bytes or len(row) > MAX_REGISTER_BYTES for row in rows):
        raise _malformed("a register")
    return cast("tuple[bytes, ...]", tuple(rows))


def _negentropy(fields: Fields) -> bytes | None:
    return fields.octets("message", most=RECONCILE_FRAME_BYTES) if fields.has("message") else None


def _is_pack(space: bytes, pack: bytes, size: int) -> bool:
    return len(space) == len(pack) == 32 and 0 <= size <= MAX_PACK_BYTES  # noqa: PLR2004  (ids)


def _malformed(what: str) -> PeerFault:
    return PeerFault(Code.MALFORMED, f"{what} has the wrong form")
