"""Reading keys that are sealed to devices of a teacher, and opened on them ("Reading keys", K5 to K12, K23, K24).

Rules:
- those that were given lie in the set, sealed; each is of one class and of one teacher. What this device has opened, as
  given by who speaks as its teacher, it keeps in DIR too, until the class is closed and destroyed: whoever has the
  server erases the teacher, and with her all that was sealed to her devices. Once she is shown again it seals that to
  itself, and to hers, anew (docs/adr/0292);
- in a class nothing is sealed but what was made for it, or was given there: a copy of a seal opens nothing elsewhere;
- of what others seal to a device it keeps a bounded number, which follows from the set alone, and passes on what was
  given by who speaks as its teacher, or did, and nothing hides: whoever may let devices in, and who holds a reported
  laptop, seals keys of nobody to it (docs/adr/0247).
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple, TypeAlias

from protocol.errors import PeerFault
from protocol.identity import AgreementKey
from protocol.limits import (
    MAX_GIVEN_READING_KEYS,
    MAX_WRAPS_PER_ENTRY,
)
from protocol.model.entry import Entry, Kind, parsed
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import HAS_READING_KEYS
from protocol.trust.person_keys import (
    KeyWraps,
    open_reading_key,
    seal_reading_key,
)
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_in_use
from sync_agent.keys.places import Place, draft
from sync_agent.machine.reading_key_file import OwnKey, with_given

Given: TypeAlias = tuple[bytes, bytes]
"""A class, and as whose device this one was given keys there."""
_MAX_TRIED: Final = 16
"""Seals of one key that are tried, so many of one author: an honest one's first opens."""
_MAX_TRIED_OF_ONE: Final = 2


class _Seal(NamedTuple):
    """What an entry says was sealed to this device, by who signs for it; and whether what it holds may be passed on."""

    record: KeyWraps
    sealed: bytes
    by: Device
    is_theirs: bool


def reading_keys(agent: Agent) -> dict[bytes, AgreementKey]:
    """All reading keys that this device can use, of all classes, by public half."""
    held = agent.reading_keys
    given = {name: key for keys in (*held.kept_alone.values(), *held.given.values()) for name, key in keys.items()}
    return {**held.given_before, **given, **{each.key.public: each.key for each in held.own()}}


def keys_of(agent: Agent, place: Place) -> dict[bytes, AgreementKey]:
    """Those of a place: what this device made for it, or was given there as this teacher's, by who had it.

    Who says a key is not asked: whoever says another class's as theirs has it sealed to them so. What an earlier
    version has sealed to this device is bound to no class, and goes no further.
    """
    own = {key.public: key for key in place.made}
    return {**kept_alone(agent, place), **agent.reading_keys.given.get((place.space, place.person), {}), **own}


def kept_alone(agent: Agent, place: Place) -> dict[bytes, AgreementKey]:
    """Those that this device was given there and that the set gives it no more."""
    return agent.reading_keys.kept_alone.get((place.space, place.person), {})


def keys_to_pass_on(agent: Agent, place: Place) -> dict[bytes, AgreementKey]:
    """Those of `keys_of` that this device seals to others of its teacher's: what it made, and what these gave it."""
    own = {key.public for key in place.made}
    given = agent.reading_keys.to_pass_on.get((place.space, place.person), frozenset())
    named = own | given | kept_alone(agent, place).keys()
    return {name: key for name, key in keys_of(agent, place).items() if name in named}


async def open_given_keys(agent: Agent) -> None:
    """Open what other devices of this teacher have sealed to this one, of the keys that are kept (`_kept_of`).

    What they gave is made durable, and what was made so before is there though the set has lost it.
    """
    persons = {
        grant.person
        for grant in await agent.own_rights()
        if grant.role in HAS_READING_KEYS and grant.person is not None
    }
    mine = agent.keys.agreement
    rosters: dict[bytes, Roster] = {}
    sealed: defaultdict[Given, dict[bytes, list[_Seal]]] = defaultdict(dict)
    for entry in await agent.replica.store.scan_kinds([Kind.KEY_WRAP]) if persons else ():
        whose, space = entry.header.subject, entry.header.space
        author = agent.replica.door.authority(entry.header.grant)
        record = parsed(entry, KeyWraps.parse) if whose in persons and _is_hers(author, whose) else None
        to_this = None if record is None else _sealed_to(mine.public, record)
        if whose is None or author is None or record is None or to_this is None:
            continue
        if space not in rosters:
            rosters[space] = (await agent.replica.view(space)).roster
        is_theirs = _is_given(agent, entry, rosters[space])
        seal = _Seal(record, to_this, author.pair, is_theirs)
        sealed[space, whose].setdefault(record.agreement, []).append(seal)
    before, agent.reading_keys.given = agent.reading_keys.given, {}
    agent.reading_keys.to_pass_on = {
        given: frozenset(name for name, seals in here.items() if any(seal.is_theirs for seal in seals))
        for given, here in sealed.items()
    }
    for (space, person), here in sealed.items():
        kept = _kept_of(rosters[space], here)
        found = {name: key for name, key in before.get((space, person), {}).items() if name in kept}
        due = kept - found.keys()
        in_use = own_in_use(agent, rosters[space], person) if due else frozenset()
        for name in due:
            for seal in _worth_trying(here[name], in_use):
                tried = (space, person, name, seal.sealed)
                if name in found or tried in agent.reading_keys.seals_that_open_nothing:
                    continue
                found |= opened(space, person, [seal.record], mine)
                if name not in found:
                    agent.reading_keys.given_before |= opened(None, person, [seal.record], mine)
                    agent.reading_keys.seals_that_open_nothing.add(tried)
        agent.reading_keys.given[space, person] = found
    await _keep_given(agent, persons, sealed)


async def _keep_given(
    agent: Agent, persons: Collection[bytes], sealed: Mapping[Given, Mapping[bytes, Sequence[_Seal]]]
) -> None:
    """Keep what was opened, as far as it was theirs to give; and have at hand what was kept and opens no more."""
    own = {each.key.public for each in agent.reading_keys.own()}
    found = [
        OwnKey(key, space, person)
        for (space, person), keys in agent.reading_keys.given.items()
        for name, key in keys.items()
        if name not in own and any(seal.is_theirs for seal in sealed[space, person].get(name, ()))
    ]
    kept = with_given(agent.reading_keys.kept_of_given(), found)
    agent.reading_keys.keep_of_given(kept)
    alone: defaultdict[Given, dict[bytes, AgreementKey]] = defaultdict(dict)
    for each in kept if persons else ():
        if each.space is not None and each.person is not None and agent.replica.door.parent(each.space) is not None:
            given = each.space, each.person
            if each.person in persons and each.key.public not in agent.reading_keys.given.get(given, {}):
                alone[given][each.key.public] = each.key
    agent.reading_keys.kept_alone = dict(alone)


def _is_given(agent: Agent, entry: Entry, roster: Roster) -> bool:
    """Whether one of a teacher's devices gave a key, this one included: it speaks, or did, and nothing hides that."""
    is_heard = roster.speaks(entry.header.grant) and not roster.hides(entry)
    return is_heard or entry.header.author == agent.device


def _worth_trying(seals: Sequence[_Seal], in_use: Container[Device]) -> list[_Seal]:
    """Those of one key's that are tried: of the teacher's devices in use first, then of who speaks, or did."""
    of_one: Counter[bytes] = Counter()
    found = []
    for seal in sorted(seals, key=lambda seal: (seal.by not in in_use, not seal.is_theirs)):
        of_one[seal.by[0]] += 1
        if of_one[seal.by[0]] <= _MAX_TRIED_OF_ONE:
            found.append(seal)
    return found[:_MAX_TRIED]


def _is_hers(author: Authority | None, person: bytes | None) -> bool:
    """Whether a grant is, or was, a device's of the teacher about whom it speaks: a colleague's keys are not hers."""
    return author is not None and author.person == person and author.role in HAS_READING_KEYS


def _kept_of(roster: Roster, names: Collection[bytes]) -> set[bytes]:
    """Which of a class's keys that are sealed to this device it keeps; that follows from the set alone.

    So many of those that devices have said whose right holds, each device's in turn, the earliest first; and so many of
    all others: what whoever was cut off since has made takes no place from these. What is in use is kept in any case.
    """
    in_use = {name for keys in roster.reading_keys.values() for name in keys if name in names}
    said: defaultdict[Device, dict[bytes, None]] = defaultdict(dict)
    holding: set[Device] = set()
    for name, devices in roster.said_by.items():
        for device in devices if name in names else ():
            said[device][name] = None
            if device[0] not in roster.cut:
                holding.add(device)
    first = _in_turn(said[device] for device in sorted(holding))[:MAX_GIVEN_READING_KEYS]
    others = [said[device] for device in sorted(said.keys() - holding)]
    unsaid = sorted(set(names).difference(*said.values()))
    rest = [name for name in _in_turn([*others, unsaid]) if name not in first]
    return {*first, *rest[:MAX_GIVEN_READING_KEYS], *in_use}


def _in_turn(lists: Iterable[Iterable[bytes]]) -> list[bytes]:
    """The first of each, then the second ones."""
    return list(dict.fromkeys(name for turn in zip_longest(*lists) for name in turn if name is not None))


def _sealed_to(recipient: bytes, record: KeyWraps) -> bytes | None:
    """What a record says was sealed to a recipient: an honest device says one thing to each, of others the first."""
    return next((sealed for named, sealed in record.wraps if named == recipient), None)


def opened(
    space: bytes | None, person: bytes, records: Iterable[KeyWraps], recipient: AgreementKey
) -> dict[bytes, AgreementKey]:
    """What is sealed to a recipient in a space, or, without one, what an earlier version sealed."""
    found: dict[bytes, AgreementKey] = {}
    for record in records:
        sealed = _sealed_to(recipient.public, record)
        if sealed is not None and record.agreement not in found:
            with contextlib.suppress(PeerFault):
                found[record.agreement] = open_reading_key(sealed, space, person, record.agreement, recipient)
    return found


def lacking(
    place: Place, recipient: bytes, keys: dict[bytes, AgreementKey], sealers: Container[bytes]
) -> dict[bytes, AgreementKey]:
    """Those keys that none of the teacher's devices that count, the `sealers`, has sealed to the recipient here.

    What others say they sealed proves nothing: it might not open.
    """
    done = {
        record.agreement
        for entry, record in place.wraps
        if entry.header.author in sealers and any(to == recipient for to, _ in record.wraps)
    }
    return {public: key for public, key in keys.items() if public not in done}


def seals(
    agent: Agent, place: Place, wanted: dict[bytes, dict[bytes, AgreementKey]], *, of_all: bool = False
) -> list[Draft]:
    """Keys for recipients, bound to the place; or to none, what an earlier version had sealed so (`of_all` classes)."""
    by_key: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for recipient, keys in wanted.items():
        for public, key in keys.items():
            try:
                space = None if of_all else place.space
                sealed = seal_reading_key(key, space, place.person, recipient, agent.entropy(32))
            except PeerFault:
                continue  # a device whose key is of low order reads nothing
            by_key.setdefault(public, []).append((recipient, sealed))
    return [
        draft(place, Kind.KEY_WRAP, KeyWraps(public, tuple(wraps[start : start + MAX_WRAPS_PER_ENTRY])).encode())
        for public, wraps in by_key.items()
        for start in range(0, len(wraps), MAX_WRAPS_PER_ENTRY)
    ]
