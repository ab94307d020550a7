"""What people did at this machine, line by line, each chained to the one before (docs/adr/0418).

Rules:
- a line is durable before what it tells of begins: nobody is handed anything that it does not tell of. What fails
  afterwards has a second line that says so;
- it says when, who (an account of the pages, or of the operating system), what, about whom or what, and whether the
  recovery kit was there. Of whoever is on a list it holds ids, never a name;
- it is this machine's own: no replica carries it, so that who administers is known where they do;
- each line holds the hash of the one before: what was altered, or taken out between two, shows. That the last ones were
  cut off shows by a copy alone, a backup or a hash that was written down;
- lines go after a year, and the oldest where there are too many, few with each that is written: whoever sets the clock
  ahead empties nothing at once. What changes nothing is one line an hour, of sign-ins that fail a day has so many, and
  of one account (`has_enough_of`), by a clock that nobody sets: who tries, looks or does often pushes nobody's out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from protocol.canonical import Value, decode, encode
from protocol.clock import DAY_MS
from protocol.errors import LocalFailure, PeerFault, TooLarge
from protocol.fields import Fields
from protocol.limits import (
    ACTS_KEPT_MS,
    MAX_ACT_BYTES,
    MAX_ACT_CHARS,
    MAX_ACTS,
    MAX_ACTS_OF_ONE_PER_DAY,
    MAX_FAILED_SIGN_INS_PER_DAY,
)
from protocol.portable_names import displayable
from protocol.replica.interfaces import EntryStore

ACT_MARKS: Final = "act/"
"""+ number in 16 hex digits → a line."""
FAILED_SIGN_IN: Final = "sign-in failed"
TOLD_BROKEN: Final = "trail told broken"
"""A line about lines, by number, of which people have been told that the chain does not hold there."""
_HASH_BYTES: Final = 32
_NUMBER_DIGITS: Final = 16
_NEVER_DONE: Final = 1 << 40
_LOOKED_UP_WITHIN_MS: Final = 3600 * 1000
_MAX_REMEMBERED: Final = 1_000
_DROPPED_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Act:
    """One line: when, who, what, about whom or what, whether the kit was there; `before` is the hash of the last."""

    at_ms: int
    by: str
    what: str
    about: str
    with_kit: bool
    failed: bool
    before: bytes

    def encode(self) -> bytes:
        """To a mark."""
        said: dict[str, Value] = {"at": self.at_ms, "by": self.by, "what": self.what, "about": self.about}
        return encode(said | {"kit": self.with_kit, "failed": self.failed, "before": self.before})

    @classmethod
    def parse(cls, data: bytes) -> Act:
        """From a mark. Raises `PeerFault`, `TooLarge`."""
        fields = Fields(decode(data, max_bytes=MAX_ACT_BYTES), "a line of the trail")
        by, what, about = (fields.text(key, MAX_ACT_CHARS) for key in ("by", "what", "about"))
        before = fields.octets("before", _HASH_BYTES)
        return cls(fields.count("at"), by, what, about, fields.flag("kit"), fields.flag("failed"), before)


@dataclass(frozen=True, slots=True)
class Line:
    """An act where it stands: its number, and its hash, which the next one holds."""

    number: int
    hash: bytes
    act: Act


@dataclass(frozen=True, slots=True)
class _End:
    """The numbers of the first and the last line, and the last one's hash."""

    first: int
    last: int
    hash: bytes


_NOTHING_YET: Final = _End(1, 0, bytes(_HASH_BYTES))


class Trail:
    """The lines of one machine, in the marks of its store."""

    def __init__(
        self, store: EntryStore, now_ms: Callable[[], int], steady_ms: Callable[[], int] | None = None
    ) -> None:
        """`steady_ms` reads a clock that nobody sets, by which days are counted; else the own one does."""
        self._store = store
        self._now_ms = now_ms
        self._steady_ms = steady_ms or now_ms
        self._writing = asyncio.Lock()
        self._end: _End | None = None
        self._looked_up: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._today: tuple[int, Counter[str]] = 0, Counter()
        """A day, and how many lines there are of it by who; of sign-ins that failed, by what."""

    async def note(self, what: str, by: str, about: str = "", *, with_kit: bool = False, failed: bool = False) -> None:
        """Write a line: it is durable then. Raises `LocalFailure`."""
        async with self._writing:
            end = await self._known_end()
            at_ms = self._now_ms()
            self._of_today()[by] += 1
            data = Act(at_ms, _cut(by), _cut(what), _cut(about), with_kit, failed, end.hash).encode()
            old = await self._old(end, at_ms)
            gone: dict[str, bytes | None] = dict.fromkeys(map(_mark, old))
            self._end = None  # whoever is cut short here leaves it to the store what has been written
            await self._store.set_marks({**gone, _mark(end.last + 1): data})
            self._end = _End(old.stop, end.last + 1, hash_of(data))

    @asynccontextmanager
    async def noted(self, what: str, by: str, about: str = "", *, with_kit: bool = False) -> AsyncIterator[None]:
        """What is done in the context stands here before it begins, and once more where it fails."""
        await self.note(what, by, about, with_kit=with_kit)
        try:
            yield
        except Exception:
            with suppress(LocalFailure):
                await self.note(what, by, about, with_kit=with_kit, failed=True)
            raise

    async def note_lookup(self, what: str, by: str, about: str = "") -> None:
        """The same of what changes nothing: again within the hour is no other line."""
        now_ms, key = self._now_ms(), (what, by, about)
        if 0 <= now_ms - self._looked_up.get(key, -_LOOKED_UP_WITHIN_MS) < _LOOKED_UP_WITHIN_MS:
            return
        await self.note(what, by, about)
        self._looked_up[key] = now_ms
        self._looked_up.move_to_end(key)
        if len(self._looked_up) > _MAX_REMEMBERED:
            self._looked_up.popitem(last=False)

    async def note_failed_sign_in(self, by: str, about: str) -> None:
        """A sign-in has failed. The last line that a day has for that says that more may have."""
        today = self._of_today()
        today[FAILED_SIGN_IN] += 1
        if today[FAILED_SIGN_IN] <= MAX_FAILED_SIGN_INS_PER_DAY:
            is_last = today[FAILED_SIGN_IN] == MAX_FAILED_SIGN_INS_PER_DAY
            await self.note(FAILED_SIGN_IN, by, f"{about}; no more of this day are written" if is_last else about)

    def has_enough_of(self, by: str) -> bool:
        """Whether so much stands here of somebody today that nobody has done it by hand."""
        return self._of_today()[by] >= MAX_ACTS_OF_ONE_PER_DAY

    def _of_today(self) -> Counter[str]:
        day = self._steady_ms() // DAY_MS
        if self._today[0] != day:
            self._today = day, Counter()
        return self._today[1]

    async def lines(self) -> list[Line]:
        """All lines that can be read, oldest first."""
        return lines_in(await self.raw())

    async def broken(self) -> list[int]:
        """The numbers of lines that do not follow the one before as they should, and of which nobody was told so."""
        return broken_in(await self.raw())

    async def end(self) -> tuple[int, bytes]:
        """The number and the hash of the last line: who writes them down sees later that nothing before was altered."""
        async with self._writing:
            end = await self._known_end()
        return end.last, end.hash

    async def raw(self) -> dict[int, bytes]:
        """All lines as they lie there, by number: what `lines_in` and `broken_in` read, which may take a second."""
        return numbered(await self._store.marks(ACT_MARKS))

    async def _known_end(self) -> _End:
        if self._end is None:
            raw = await self.raw()
            self._end = _NOTHING_YET
            if raw:
                last = max(raw)
                self._end = _End(min(raw), last, hash_of(raw[last]))
        return self._end

    async def _old(self, end: _End, now_ms: int) -> range:
        """Lines that go, so many at once. One that cannot be read goes with the next that can."""
        until = end.first
        for number in range(end.first, min(end.first + _DROPPED_AT_ONCE, end.last + 1)):
            line = _read(number, await self._store.mark(_mark(number)) or b"")
            if end.last - number >= MAX_ACTS - 1 or (line is not None and line.act.at_ms < now_ms - ACTS_KEPT_MS):
                until = number + 1
            elif line is not None:
                break
        return range(end.first, until)


def lines_in(raw: Mapping[int, bytes]) -> list[Line]:
    """Those that can be read, by number."""
    return [line for number, data in sorted(raw.items()) if (line := _read(number, data)) is not None]


def broken_in(raw: Mapping[int, bytes]) -> list[int]:
    """The numbers of lines that do not follow the one before, as far as no later line tells of that."""
    told: set[int] = set()
    found = []
    first = min(raw, default=0)
    for number in sorted(raw, reverse=True):
        line = _read(number, raw[number])
        if line is not None and line.act.what == TOLD_BROKEN:
            told |= {int(each) for each in line.act.about.split() if each.isdecimal()}
        if number not in told and not _follows(line, raw, is_first=number == first):
            found.append(number)
    return found[::-1]


def _follows(line: Line | None, raw: Mapping[int, bytes], *, is_first: bool) -> bool:
    if line is None:
        return False
    if is_first:
        return line.number > 1 or line.act.before == _NOTHING_YET.hash
    return line.number - 1 in raw and line.act.before == hash_of(raw[line.number - 1])


def numbered(marks: Mapping[str, bytes]) -> dict[int, bytes]:
    """Lines by their numbers, of marks that may be somebody else's."""
    found = {}
    for mark, data in marks.items():
        digits = mark.removeprefix(ACT_MARKS)
        if len(digits) == _NUMBER_DIGITS and set(digits) <= set("0123456789abcdef"):
            found[int(digits, _NUMBER_DIGITS)] = data
    return found


def taken_over(marks: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of the marks of a store that somebody else may have written, the newest lines that are ones.

    Numbered anew where no machine has done so much: after the highest number that there is nothing would be read.
    """
    raw = numbered(marks)
    lines = lines_in(raw)[-MAX_ACTS:]
    numbers = [line.number for line in lines]
    if lines and numbers[-1] >= _NEVER_DONE:
        begin = 1 if lines[0].act.before == _NOTHING_YET.hash else 2
        numbers = list(range(begin, begin + len(lines)))
    return {_mark(number): raw[line.number] for number, line in zip(numbers, lines, strict=True)}


def hash_of(data: bytes) -> bytes:
    """What the next line holds."""
    return blake3(data).digest()


def ids_told(ids: Collection[str]) -> str:
    """Ids as a line holds them: as many as there is room for, and how many more."""
    some: list[str] = []
    room = MAX_ACT_CHARS - len(" and 999999 more")
    for each in ids:
        room -= len(each) + 1
        if room < 0:
            return f"{' '.join(some)} and {len(ids) - len(some)} more"
        some.append(each)
    return " ".join(some)


def _read(number: int, data: bytes) -> Line | None:
    try:
        return Line(number, hash_of(data), Act.parse(data))
    except (PeerFault, TooLarge):
        return None


def _mark(number: int) -> str:
    return f"{ACT_MARKS}{number:0{_NUMBER_DIGITS}x}"


def _cut(text: str) -> str:
    return displayable(text)[:MAX_ACT_CHARS]
