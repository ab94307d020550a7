"""When each device was last heard of, through whom, and what troubled it: a cache in memory, written to marks (R14).

A quiet sync must not cost a flush of the disk, so what was heard in the last seconds before a power cut may be
forgotten; the device calls again. Nothing else depends on it.

A device that cannot reach us is heard of through others: its signed report says when it was written, by our clock as
far as it knew it, and who brought it is remembered.

What a device has sent in vain is remembered by its ids, the latest `MAX_UNTAKEN`, until programs of this server have
run for `UNTAKEN_MS` since it was sent last: who still has it sends it again within a day. Until it has come in, the
device has not told all (docs/adr/0338).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from protocol.canonical import Value, decode, encode
from protocol.clock import DAY_MS
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.limits import MAX_ENDED_SPACES, MAX_REGISTER_BYTES
from protocol.model.entry import ID_BYTES, ids_in
from protocol.model.structure import GENERATION_BYTES
from protocol.replica.answering.station import Contact, Report
from protocol.replica.interfaces import EntryStore

DIRECT: Final = "direct"
FLUSH_INTERVAL_S: Final = 10.0
MAX_TROUBLES: Final = 20
MAX_UNTAKEN: Final = 32
MAX_UNTOLD: Final = MAX_ENDED_SPACES - 1
"""Who may have named fewer than there are has told nothing, and of each space it may hold something."""
UNTAKEN_MS: Final = 7 * DAY_MS

CONTACT_MARKS: Final = "device/"
"""… then a device's id → what is remembered of it."""
_CONTACT: Final = re.compile(rf"{CONTACT_MARKS}((?:[0-9a-f]{{2}})+)")
_VIA_CHARS: Final = 64
_CODE_CHARS: Final = 64
_TROUBLE_PARTS: Final = 3
_UNTAKEN_PARTS: Final = 2
_MOST_BYTES: Final = 2 * MAX_REGISTER_BYTES


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a device reported: an error's code, since when, and until when if it is over, by our clock."""

    code: str
    since_ms: int
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What is remembered of a device: when it enrolled, was heard of, last held all that we hold, the name it gave.

    `told_ms` is when it had last told all that it knows, `told_ran_ms` how long this server's programs had run then,
    and `told` to which store (`Server.store_name`): by no report that somebody brings, and not by calling alone; one
    that says that more is left takes it back. `untold` are the spaces into which it was let in, or of which it has said
    to hold something, and of which it has not told then, or since, as they were closed to it. `untaken` are the ids of
    what it sent in vain, and how long programs had run when it did so last.

    `via` is `DIRECT`, or the id of the device that brought the latest news of it; `troubles` are its last
    `MAX_TROUBLES`, the newest first.
    """

    name: str | None = None
    enrolled_ms: int | None = None
    seen_ms: int | None = None
    current_ms: int | None = None
    via: str | None = None
    troubles: tuple[Trouble, ...] = ()
    told: bytes | None = None
    told_ms: int | None = None
    told_ran_ms: int | None = None
    untold: frozenset[bytes] = frozenset()
    untaken: tuple[tuple[bytes, int], ...] = ()

    def encode(self) -> bytes:
        """To a mark."""
        return encode(
            compact(
                name=self.name,
                enrolled=self.enrolled_ms,
                seen=self.seen_ms,
                current=self.current_ms,
                via=self.via,
                troubles=[[trouble.code, trouble.since_ms, trouble.until_ms] for trouble in self.troubles],
                told=self.told,
                told_at=self.told_ms,
                told_ran=self.told_ran_ms,
                told_but=b"".join(sorted(self.untold)) if self.untold or self.told is not None else None,
                untaken=[list(each) for each in self.untaken],
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> Heard:
        """From a mark; what cannot be read says nothing."""
        try:
            fields = Fields(decode(data, max_bytes=_MOST_BYTES), "what is known of a device")
            untold = fields.octets_or_none("told_but", most=MAX_ENDED_SPACES * ID_BYTES)
            return cls(
                fields.name_or_none("name"),
                fields.count_or_none("enrolled"),
                fields.count_or_none("seen"),
                fields.count_or_none("current"),
                fields.text_or_none("via", _VIA_CHARS),
                tuple(_trouble(row) for row in fields.rows("troubles", MAX_TROUBLES)),
                # of which spaces a device had told before that was noted nobody knows
                None if untold is None else fields.octets_or_none("told", GENERATION_BYTES),
                fields.count_or_none("told_at"),
                fields.count_or_none("told_ran"),
                frozenset(ids_in(untold or b"")),
                tuple(_untaken(row) for row in fields.rows("untaken", MAX_UNTAKEN)),
            )
        except PeerFault:
            return cls()

    def as_gone(self) -> Heard:
        """What is remembered of a device that is long gone: what it has told, and not: others may wait for that."""
        return replace(self, name=None, enrolled_ms=None, seen_ms=None, current_ms=None, via=None, troubles=())

    def untold_of(self, space: bytes) -> bool:
        """Whether it may hold something of a space, and has not told of that."""
        return space in self.untold or len(self.untold) > MAX_UNTOLD

    def with_untold(self, spaces: Iterable[bytes]) -> Heard:
        """What is remembered once it has said that it holds something of these, and told nothing."""
        return replace(self, untold=frozenset(sorted(self.untold.union(spaces))[:MAX_ENDED_SPACES]))

    def with_told(self, store: bytes, untold: frozenset[bytes], asked_ms: int, asked_ran_ms: int) -> Heard:
        """What is remembered once it has told all that it held then, but of the `untold` spaces.

        An older question says nothing new; one of which more is untold than is remembered tells nothing.
        """
        if len(untold) > MAX_UNTOLD:
            return self.with_untold(untold)
        if self.told == store and (self.told_ran_ms or 0) > asked_ran_ms:
            return self
        return replace(self, told=store, told_ms=max(0, asked_ms), told_ran_ms=max(0, asked_ran_ms), untold=untold)

    def with_untaken(self, ids: Iterable[bytes], ran_ms: int) -> Heard:
        """What is remembered once these were sent in vain; of what was not sent again for long, nothing."""
        found = {name: since for name, since in self.untaken if ran_ms - since < UNTAKEN_MS}
        latest = sorted((found | dict.fromkeys(ids, ran_ms)).items(), key=lambda each: each[1], reverse=True)
        return replace(self, untaken=tuple(latest[:MAX_UNTAKEN]))

    def with_trouble(self, code: str | None, at_ms: int) -> Heard:
        """What is remembered once the device has said what troubles it: the same again says nothing new."""
        latest = self.troubles[0] if self.troubles else None
        open_one = latest if latest is not None and latest.until_ms is None else None
        if code == (None if open_one is None else open_one.code):
            return self
        kept = self.troubles if open_one is None else (replace(open_one, until_ms=at_ms), *self.troubles[1:])
        begun = () if code is None else (Trouble(code, at_ms),)
        return replace(self, troubles=(*begun, *kept)[:MAX_TROUBLES])


class Contacts:
    """The devices heard of. `observe_lag` is told how many ms had passed when a device was current again."""

    def __init__(self, store: EntryStore) -> None:
        """Over one replica's marks; `load` reads them."""
        self.observe_lag: Callable[[int], None] = _ignore
        self._store = store
        self._heard: dict[bytes, Heard] = {}
        self._unsaved: set[bytes] = set()

    async def load(self) -> None:
        """Read what was remembered."""
        marks = await self._store.marks(CONTACT_MARKS)
        named = ((_CONTACT.fullmatch(key), data) for key, data in marks.items())
        # of no device is what somebody else has written under another name
        self._heard = {bytes.fromhex(found[1]): Heard.parse(data) for found, data in named if found is not None}

    def of(self, device: bytes) -> Heard:
        """What is remembered of a device."""
        return self._heard.get(device, _UNHEARD)

    def note(self, contact: Contact, ran_ms: int) -> None:
        """A device has called, when this server's programs had run for so long."""
        before = self.of(contact.device)
        current_ms = contact.at_ms if contact.current else before.current_ms
        since_ms = before.enrolled_ms if before.current_ms is None else before.current_ms
        if contact.current and since_ms is not None:
            self.observe_lag(max(contact.at_ms - since_ms, 0))
        heard = before.with_untaken(contact.untaken, ran_ms)
        heard = replace(heard, seen_ms=contact.at_ms, current_ms=current_ms, via=DIRECT)
        if contact.told is None:
            heard = heard.with_untold(contact.untold)
        else:
            ago_ms = contact.asked_ago_ms
            heard = heard.with_told(contact.told, contact.untold, contact.at_ms - ago_ms, ran_ms - ago_ms)
        self._keep(contact.device, heard)

    def note_report(self, report: Report, trouble: str | None, *, untold: bool = False) -> None:
        """A device's health report has come, by itself or through another; `trouble` is the code that it tells.

        `untold`: it says that something is left to be told.
        """
        device = report.register.device
        heard = self.of(device).with_trouble(trouble, report.at_ms)
        written_ms = min(report.register.at_ms, report.at_ms)
        if report.carrier != device and written_ms > (heard.seen_ms or 0):
            heard = replace(heard, seen_ms=written_ms, via=report.carrier.hex())
        if untold and heard.told is not None:
            heard = replace(heard, told=None)
        if heard is not self.of(device):
            self._keep(device, heard)

    def note_enrolment(self, device: bytes, name: str, at_ms: int) -> None:
        """A device has enrolled under a name."""
        before = self.of(device)
        enrolled_ms = at_ms if before.enrolled_ms is None else before.enrolled_ms
        self._keep(device, replace(before, name=name, enrolled_ms=enrolled_ms, seen_ms=at_ms, via=DIRECT))

    def devices(self) -> list[bytes]:
        """All of which anything is remembered."""
        return list(self._heard)

    def named(self) -> set[bytes]:
        """The devices whose name is remembered."""
        return {device for device, heard in self._heard.items() if heard.name is not None}

    def forget_names(self, devices: Iterable[bytes]) -> None:
        """What these were called is remembered no more."""
        for device in self.named().intersection(devices):
            self._keep(device, replace(self.of(device), name=None))

    def told_of(self) -> set[bytes]:
        """The devices whose name, last contact or troubles are remembered."""
        return {device for device, heard in self._heard.items() if heard != heard.as_gone()}

    def forget_devices(self, devices: Iterable[bytes]) -> None:
        """Of these nothing is remembered but what they have told, and have not."""
        for device in self.told_of().intersection(devices):
            self._keep(device, self.of(device).as_gone())

    async def flush(self) -> None:
        """Write what is new. Raises `LocalFailure`; then it stays to be written."""
        devices, self._unsaved = self._unsaved, set()
        if not devices:
            return
        try:
            await self._store.set_marks(
                {f"{CONTACT_MARKS}{device.hex()}": self._heard[device].encode() for device in devices}
            )
        except BaseException:
            self._unsaved |= devices
            raise

    def _keep(self, device: bytes, heard: Heard) -> None:
        self._heard[device] = heard
        self._unsaved.add(device)


_UNHEARD: Final = Heard()


def _trouble(row: Value) -> Trouble:
    if isinstance(row, list) and len(row) == _TROUBLE_PARTS:
        code, since_ms, until_ms = row
        if isinstance(code, str) and len(code) <= _CODE_CHARS and isinstance(since_ms, int):
            return Trouble(code, since_ms, until_ms if isinstance(until_ms, int) else None)
    raise PeerFault(Code.MALFORMED, "what troubled a device cannot be read")


def _untaken(row: Value) -> tuple[bytes, int]:
    if isinstance(row, list) and len(row) == _UNTAKEN_PARTS:
        name, at_ms = row
        if isinstance(name, bytes) and len(name) == ID_BYTES and isinstance(at_ms, int):
            return name, at_ms
    raise PeerFault(Code.MALFORMED, "what a device sent in vain cannot be read")


def _ignore(_lag_ms: int) -> None:
    """Nobody counts."""
