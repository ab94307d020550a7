"""What a device has said that others are bound by: whom it let in, cut off, forgot, and which codes it made.

Rules:
- the keys that came of a device by successors speak for it;
- a grant that somebody else wrote because of its code is its doing;
- what a revocation holds back is shown all the same: it binds nobody, and waits for a word (`waiting`);
- people and devices are said by their ids, with names behind them: two children have one name, and whoever names a
  machine chooses how that is called (docs/adr/0384).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from protocol.errors import PeerFault
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Erasure, Grant, Invite, PersonRecord, Revocation, SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changes_shown
from protocol.replica.office.bureau import Office
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, Mentioned, mentioned
from protocol.replica.office.people import listings_of
from protocol.replica.office.said_before import ONE_FOR_ALL
from protocol.replica.office.spaces import shown_by_id
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.successions import successors_of

NameOf: TypeAlias = Callable[[bytes], str | None]
"""What a device calls itself, as far as this office knows."""

KINDS = (
    Kind.GRANT,
    Kind.INVITE,
    Kind.REVOKE,
    Kind.ERASE,
    Kind.PERSON,
    Kind.SPACE,
    Kind.SPACE_CHANGE,
    Kind.RULING,
    Kind.DRILL,
    Kind.QUARANTINE,
)


@dataclass(frozen=True, slots=True)
class Said:
    """One such entry; `about` says whom or what it concerns, `counts` whether it binds anybody now."""

    entry: Entry
    about: str | None
    counts: bool


async def words_of_office(office: Office, device: bytes, name_of: NameOf) -> tuple[Said, ...]:
    """All that a device and its successors have said of this kind, the latest arrival first."""
    replica = office.replica
    line = {device, *successors_of(device, replica.door.authorities())}
    entries = await replica.store.scan_kinds(KINDS)
    codes = {entry.id for entry in entries if entry.header.kind == Kind.INVITE and entry.header.author in line}
    invited = {grant.grant for grant in replica.door.authorities() if grant.invite in codes}
    chosen = [entry for entry in entries if entry.header.author in line or entry.id in invited]
    about = await topics(office, chosen, name_of)
    return tuple([Said(entry, about(entry), await counts(replica, entry)) for entry in reversed(chosen)])


async def counts(replica: Replica, entry: Entry) -> bool:
    """Whether an entry is in force where it lies."""
    granted = replica.door.authority(entry.id)
    if granted is not None:
        return await in_force(replica, granted)
    roster = (await replica.view(entry.header.space)).roster
    return entry.id not in roster.held_back and entry.id not in roster.undone


def said_again(in_order: Sequence[Entry], counting: Iterable[bytes], about: Callable[[Entry], Hashable]) -> set[bytes]:
    """The ids of those words after which, or beside which, one that counts came about the same; in order of arrival.

    Beside it: by the same author at the same moment, under another right. Else never by date: whoever has a key dates
    what they sign, and moves other people's clocks.
    """
    found, seen, binding = set[bytes](), set[Hashable](), frozenset(counting)
    beside = defaultdict[Hashable, set[bytes | None]](set)
    for entry in in_order:
        if entry.id in binding:
            beside[_moment(entry, about(entry))].add(entry.header.grant)
    for entry in reversed(in_order):
        topic = about(entry)
        if topic in seen or (entry.id not in binding and beside[_moment(entry, topic)] - {entry.header.grant}):
            found.add(entry.id)
        if entry.id in binding:
            seen.add(topic)
    return found


async def binding(replica: Replica, counting: Iterable[Entry]) -> set[bytes]:
    """Which of the words that count bind anybody: where one stands for all, that one.

    Whoever has a key says the same as an honest word that is held back, behind what is shown: it counts, and changes
    nothing.
    """
    words = list(counting)
    found = {one.id for one in words if one.header.kind not in ONE_FOR_ALL}
    if len(found) == len(words):
        return found
    persons = {one.header.subject for one in words if one.header.kind in ONE_FOR_ALL and one.header.subject is not None}
    found |= {each.entry for there in (await listings_of(replica, persons)).values() for each in there.values()}
    return found | {entry for _, entry in (await changes_shown(replica)).values()}


def still_says(roster: Roster, entry: Entry, now_ms: int) -> bool:
    """Whether an entry counts where it lies, and is no right that was ended before its day (ms), nor of who is cut off.

    Nobody but a program that finds that day past ends one right alone: whoever has a copy of the server's key says it
    again, and ends it in one breath.
    """
    given = parsed(entry, Grant.parse) if entry.header.kind == Kind.GRANT else None
    if given is None or entry.id in roster.held_back:
        return entry.id not in roster.held_back
    is_over_early = entry.id in roster.void and (given.until_ms is None or given.until_ms > now_ms)
    return not is_over_early and not is_out(roster, given.signing)


def is_out(roster: Roster, key: bytes) -> bool:
    """Whether a device is cut off, by a report, where this roster holds."""
    return key in roster.cut and key in roster.reported


def _moment(entry: Entry, topic: Hashable) -> Hashable:
    return entry.header.author, entry.timestamp_ms, topic


async def in_force(replica: Replica, grant: Authority) -> bool:
    """Whether a grant itself lets in, where it was given."""
    return lets_in((await replica.view(grant.space)).roster, grant)


def lets_in(roster: Roster, grant: Authority) -> bool:
    """The same of a grant in the space of this roster."""
    return grant.grant not in roster.held_back and grant.grant not in roster.undone and grant.key not in roster.cut


async def topics(office: Office, entries: Iterable[Entry], name_of: NameOf) -> Callable[[Entry], str | None]:
    """Whom or what each of these entries of `KINDS` concerns: people and devices by their ids, names behind them.

    Whom erasures cover is looked up for all at once: a thief has thousands forgotten.
    """
    covers = {said.covers for one in entries if (said := _erasure(one)) is not None}
    called = await mentioned(office.replica, covers) if covers else {}
    spaces = covers.union(*(each.spaces for each in called.values()))
    places = dict(zip(spaces, await shown_by_id(office, spaces), strict=True)) if covers else {}
    return lambda entry: _about(entry, name_of, called, places)


def _about(entry: Entry, name_of: NameOf, called: Mapping[bytes, Mentioned], places: Mapping[bytes, str]) -> str | None:
    payload = entry.payload or b""
    try:
        match entry.header.kind:
            case Kind.GRANT:
                given = Grant.parse(payload)
                return f"{given.role.value} {_device(given.signing, name_of)}"
            case Kind.INVITE:
                return Invite.parse(payload).role.value
            case Kind.REVOKE:
                return _device(Revocation.parse(payload).key, name_of)
            case Kind.ERASE:
                covers = Erasure.parse(payload).covers
                return _person(covers, called[covers], places) if called[covers].names else places[covers]
            case Kind.PERSON:
                return PersonRecord.parse(payload).name
            case Kind.SPACE:
                return SpaceRecord.parse(payload).name
            case Kind.SPACE_CHANGE:
                return SpaceChange.parse(payload).name
    except PeerFault:
        pass
    return None


def _device(key: bytes, name_of: NameOf) -> str:
    name = name_of(key)
    return key.hex() if name is None else f"{key.hex()} (“{name}”)"


def _person(person: bytes, called: Mentioned, places: Mapping[bytes, str]) -> str:
    """Somebody by all that lists ever called them, and by the first of these lists."""
    lists = ", ".join(places[space] for space in called.spaces[:MAX_NAMES_SHOWN])
    return f"{person.hex()} ({called.shown()}; {lists})"


def _erasure(entry: Entry) -> Erasure | None:
    return parsed(entry, Erasure.parse) if entry.header.kind == Kind.ERASE else None
