"""What the templates show: facts of the handlers, said in somebody's words. No rule is decided here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.beside_words import beside_words
from protocol.clock import rfc3339
from protocol.model.entry import kind_name
from protocol.roles import SHARED
from sync_server.handlers.by_kit.held_rights import own_device
from sync_server.handlers.by_kit.said_again import BY_ITSELF, Facts, commands_anew, why_not_again
from sync_server.handlers.by_kit.waiting import Waiting
from sync_server.handlers.overview.device_query import WORST_FIRST
from sync_server.handlers.overview.devices import Device, DeviceState, Remark, remarks_on
from sync_server.handlers.overview.schools import ClassRow, SchoolRow, Standing
from sync_server.handlers.overview.survey import Snapshot
from sync_server.handlers.store.notices import Notice
from sync_server.opened.contacts import DIRECT
from sync_server.web.addresses import WAITING, device_address, school_address
from sync_server.web.remedies import topic_of
from sync_server.web.wording import Words

_SHORT_ID_CHARS: Final = 8
_REPORTED: Final = frozenset({DeviceState.DISK_FULL, DeviceState.ERROR})
_WITH_REMEDY: Final = frozenset({DeviceState.NEVER_SEEN, DeviceState.SILENT, DeviceState.LATE})


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: for machines, as it is shown, and in full."""

    iso: str
    shown: str
    full: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do about it; `page` is the address and the title of the page where that is done."""

    title: str
    remedy: str
    code: str | None = None
    page: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class SchoolName:
    """A school as it is named and linked: the name that it was given, if any, and its UAI."""

    uai: str
    name: str
    address: str

    @property
    def label(self) -> str:
        """One line."""
        return self.uai if self.name == self.uai else f"{self.name} ({self.uai})"


@dataclass(frozen=True, slots=True)
class PastTrouble:
    """A problem that a device reported, and when."""

    problem: Problem
    since: Moment
    until: Moment | None


class DeviceView:
    """A device as it is shown."""

    def __init__(self, device: Device, found: Snapshot, words: Words) -> None:
        self._device = device
        self._found = found
        self._words = words
        self.id: Final = device.id.hex()
        self.short_id: Final = self.id[:_SHORT_ID_CHARS]
        self.address: Final = device_address(device.id)
        self.name: Final = device.name
        self.state: Final = device.state.value
        self.role: Final = words(f"role.{device.role.value}")
        self.classes: Final = found.places.classes_of(device.spaces)
        self.schools: Final = [school_name(found, uai) for uai in found.places.schools_of(device.spaces)]
        self.seen: Final = moment(words, device.heard.seen_ms)
        self.full_sync: Final = moment(words, device.heard.current_ms)
        self.enrolled: Final = moment(words, device.heard.enrolled_ms)
        self.oldest: Final = moment(words, device.oldest_ms)
        self.health: Final = device.health

    @property
    def label(self) -> str:
        """The name, or what stands for it."""
        return self.name or f"{self._words('devices.no_name')} {self.short_id}"

    @property
    def via(self) -> str | None:
        """Through whom it was last heard of."""
        via = self._device.heard.via
        if via is None:
            return None
        if via == DIRECT:
            return self._words("via.direct")
        carrier = self._found.by_id.get(bytes.fromhex(via))
        name = None if carrier is None else carrier.name
        return self._words("via.other", name=name or via[:_SHORT_ID_CHARS])

    @property
    def original(self) -> str | None:
        """The device that it was before it found itself cloned."""
        key = self._device.clone_of
        if key is None:
            return None
        before = self._found.by_id.get(key)
        return (None if before is None else before.name) or key.hex()[:_SHORT_ID_CHARS]

    @property
    def awaits_confirmation(self) -> bool:
        """Whether it is a clone that nobody has looked at."""
        return not self._device.confirmed and self._device.state is not DeviceState.RETIRED

    @property
    def lag(self) -> str | None:
        """For how long it may not hold everything; None if that was never known."""
        lag_ms = self._device.lag_ms
        if lag_ms is None:
            return None
        return self._words.span(lag_ms) if lag_ms else self._words("devices.no_lag")

    @property
    def backlog(self) -> str | None:
        """What it has still to send, as it said itself."""
        if self.health is None:
            return None
        if not self.health.backlog_entries and not self.health.backlog_bytes:
            return self._words("devices.nothing")
        entries = self._words.count("devices.entries", self.health.backlog_entries)
        return f"{entries}, {self._words.size(self.health.backlog_bytes)}"

    @property
    def clock(self) -> str | None:
        """How its clock goes."""
        if self.health is None:
            return None
        skew_ms = self.health.skew_ms
        if not skew_ms:
            return self._words("device.clock_right")
        return self._words("device.clock_off", **self._skew(skew_ms))

    @property
    def free(self) -> str | None:
        """Room left on its disk."""
        return None if self.health is None else self._words.size(self.health.free_bytes)

    @property
    def problems(self) -> list[Problem]:
        """Everything that asks for somebody, the state's own reason first."""
        return list(self._problems())

    @property
    def past(self) -> list[PastTrouble]:
        """What it reported lately, the newest first."""
        words = self._words
        return [
            PastTrouble(
                problem_of(words, trouble.code),
                moment_at(words, trouble.since_ms),
                moment(words, trouble.until_ms),
            )
            for trouble in self._device.heard.troubles
        ]

    @property
    def remarks(self) -> list[str]:
        """What is worth a look besides the state, in a word or two each."""
        return [self._words(f"remark.{remark.value}") for remark in remarks_on(self._device, self._found.now_ms)]

    @property
    def _silence_ms(self) -> int:
        return self._found.now_ms - (self._device.heard.seen_ms or 0)

    def _problems(self) -> Iterator[Problem]:
        device, words = self._device, self._words
        if device.state in _REPORTED and device.trouble is not None:
            yield problem_of(words, device.trouble)
        elif device.state in _WITH_REMEDY:
            state = device.state.value
            since_ms = self._silence_ms if device.state is DeviceState.SILENT else device.lag_ms
            yield Problem(words(f"state_problem.{state}", span=words.span(since_ms or 0)), words(f"remedy.{state}"))
        for remark in remarks_on(device, self._found.now_ms):
            yield Problem(words(f"remark.{remark.value}"), self._remedy(remark))

    def _remedy(self, remark: Remark) -> str:
        words, health = self._words, self.health
        key = f"remark_remedy.{remark.value}"
        match remark:
            case Remark.WRONG_CLOCK:
                return words(key, **self._skew((health.skew_ms if health else None) or 0))
            case Remark.WAITING_WORK:
                return words(key, when=words.ago(self._device.oldest_ms or 0))
            case Remark.CLONE:
                return words(key, name=self.original or words("time.unknown"))
            case Remark.LET_IN_SINCE:
                return words(key, id=self._device.id.hex())
            case Remark.LITTLE_ROOM:
                return words(key, size=words.size(health.free_bytes if health else 0))

    def _skew(self, skew_ms: int) -> dict[str, str]:
        direction = "ahead" if skew_ms > 0 else "behind"
        return {"span": self._words.span(abs(skew_ms)), "direction": self._words(f"remark_remedy.{direction}")}


class StandingView:
    """How a school or a class stands, as it is shown."""

    def __init__(self, standing: Standing, words: Words) -> None:
        self.devices: Final = words.number(standing.devices)
        self.states: Final = [
            (state.value, words.number(standing.counts[state])) for state in WORST_FIRST if standing.counts[state]
        ]
        self.needing: Final = words.count("schools.needing", standing.needing) if standing.needing else None
        self.fresh: Final = moment(words, standing.freshest_ms)
        self.oldest: Final = moment(words, standing.oldest_ms)
        self.pending: Final = _pending(standing, words)
        self.conflicts: Final = words.count("school.conflicts", standing.conflicts) if standing.conflicts else None


@dataclass(frozen=True, slots=True)
class SchoolView:
    """A school in the list."""

    school: SchoolName
    classes: str
    standing: StandingView


@dataclass(frozen=True, slots=True)
class ClassView:
    """A class of a school."""

    id: str
    name: str
    standing: StandingView


def school_views(rows: Sequence[SchoolRow], words: Words) -> list[SchoolView]:
    """The rows of a list of schools."""
    return [
        SchoolView(
            SchoolName(row.uai, row.name, school_address(row.uai)),
            words.number(row.classes),
            StandingView(row.standing, words),
        )
        for row in rows
    ]


def class_views(rows: Sequence[ClassRow], words: Words) -> list[ClassView]:
    """The rows of a school's classes."""
    return [ClassView(row.space.hex(), row.name, StandingView(row.standing, words)) for row in rows]


_DECIDED_THERE: Final = frozenset({"words-waiting", "erasures-held-back"})
"""The notices about what the page of what waits shows."""


def notice_of(words: Words, notice: Notice) -> Problem:
    """What concerns the server itself, in words."""
    topic = f"notice.{notice.topic}"
    at_ms = notice.facts.get("at_ms")
    facts = {**notice.facts, "when": words.ago(at_ms)} if isinstance(at_ms, int) else notice.facts
    page = (WAITING, words("waiting.title")) if notice.topic in _DECIDED_THERE else None
    return Problem(words(f"{topic}.title", **facts), words(f"{topic}.remedy", **facts), page=page)


def problem_of(words: Words, code: str) -> Problem:
    """What an error's code means, and what to do."""
    topic = topic_of(code)
    return Problem(words(f"trouble.{topic}.title"), words(f"trouble.{topic}.remedy"), code)


def school_name(found: Snapshot, uai: str) -> SchoolName:
    """A school's name and link."""
    school = found.places.schools.get(uai)
    return SchoolName(uai, uai if school is None else school.name, school_address(uai))


def moment(words: Words, at_ms: int | None) -> Moment | None:
    """A time that may be unknown."""
    return None if at_ms is None else moment_at(words, at_ms)


def moment_at(words: Words, at_ms: int) -> Moment:
    """A time."""
    return Moment(rfc3339(at_ms) or "", words.ago(at_ms), words.full(at_ms))


def _pending(standing: Standing, words: Words) -> str:
    if standing.pending is None:
        return words("schools.unknown")
    return words.count("schools.pending", standing.pending) if standing.pending else words("schools.nothing")


def _facts(facts: Facts, words: Words) -> Iterator[str]:
    """What else a word says that waits for a decision."""
    if facts.role is not None and not facts.leaves:
        yield words(f"waiting.as_{facts.role.value}")
    if facts.leaves:
        yield words("waiting.leaves")
    if facts.freezes:
        yield words("waiting.freezes")
    if facts.same_as is not None:
        yield words("waiting.same", person=facts.same_as.hex()[:_SHORT_ID_CHARS])
    if facts.until_ms is not None:
        yield words("waiting.until", when=words.full(facts.until_ms))
    if facts.with_all:
        yield words("waiting.with_all")


def _anew(waiting: Waiting, words: Words) -> Iterator[str]:
    """By which commands it is said anew what is not accepted."""
    anew = commands_anew(waiting.entry, is_reported=waiting.is_reported)
    key = "waiting.anew_pc" if anew and waiting.gives is not None and waiting.gives.role in SHARED else "waiting.anew"
    return (words(key, command=command) for command in anew)


def _beside(six_words: str | None, name: str | None) -> str | None:
    """A name as it stands in a row, which may have words that people compare."""
    return name if six_words is None or name is None else beside_words(name)


class WaitingView:
    """What waits for a decision, as a row: what, of whom, where, from whose device, and what it says of its time.

    `place` is what the space is called now, and `author` as whose the device was let in, by the list; None is nobody's.
    """

    def __init__(
        self,
        waiting: Waiting,
        found: Snapshot,
        words: Words,
        six_words: str | None,
        place: str | None,
        author: str | None,
    ) -> None:
        header = waiting.entry.header
        self.space = header.space.hex()
        self.six_words = six_words
        is_of_office = header.kind in BY_ITSELF
        self.person = waiting.person.hex() if is_of_office and waiting.person is not None else None
        self.place = _beside(six_words, place)
        self.author = _beside(six_words, author)
        self.id = waiting.entry.id.hex()
        self.kind = kind_name(header.kind)
        self.name = _beside(six_words, waiting.name)
        self.title = _beside(six_words, waiting.title)
        is_without_words = own_device(waiting.gives) is not None and six_words is None
        by_command = [words("waiting.no_words", id=self.id)] if is_without_words else []
        by_others = [words("waiting.refused_by_others")] if waiting.refused else []
        self.facts = (*_facts(waiting.facts, words), *_anew(waiting, words), *by_command, *by_others)
        why_not = why_not_again(waiting.entry, is_reported=waiting.is_reported)
        self.may_be_accepted = why_not is None and not is_without_words
        self.at_ms = waiting.entry.timestamp_ms
        self.device = header.author
        known = found.by_id.get(header.author)
        self.label = header.author.hex()[:8] if known is None else DeviceView(known, found, words).label
