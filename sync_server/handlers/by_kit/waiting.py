"""What a revocation holds back, and a human's word on it: it counts after all, or it does not (§5).

Rules:
- nothing is dropped: what was refused stays in the set, and may be accepted later; and what counts by a ruling may be
  refused, by its id: whoever has a copy of the server's key let it count, perhaps (docs/adr/0493);
- a hand-in is ruled on together with its wraps, which nobody could judge alone; one that is held back though the
  hand-in is not waits by itself, until its author has said again what it says (docs/adr/0310);
- what names somebody, or lets in a device that is theirs, is accepted by being said again, by the server: only its own
  word gives rights; what was said again waits no more, whoever holds it back, but a right that was ended since, and
  what stands no more of that of which one word stands for all; nor is it counted as accepted then (docs/adr/0569);
- a code, a ruling, that two people are one, who is forgotten, what is cut off, and a right of a shared machine are said
  in another way (`said_again`, docs/adr/0333, docs/adr/0384); whoever is out waits for no further word that says so;
- of a device as a whole only its work is accepted: what it said of rights, names and erasures is accepted one by one,
  each by its own id, since a thief's stands beside the owner's;
- a refusal settles at this server what `refuse` refused here, and what a root did: whoever has a copy of the server's
  key refuses in one breath what it holds back, and then it waits as before, and is told (docs/adr/0552);
- whom another erasure covers as far, which counts, waits for nothing: they are forgotten whatever is said of this
  one, and who takes back all that waits would bring them back (docs/adr/0290);
- keys are never accepted: who was cut off comes back by a grant;
- what a root had signed and the rotation that replaced it left out, rights and erasures too, the kit of a root after it
  lets stand, as that root's word; nobody else does, but by saying it in their own name (docs/adr/0308);
- what the kit's word holds back the server's does not free: that is said, and not counted. With the kit the root says
  it, of work alone, and of what was named by its whole id (docs/adr/0179).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from protocol.errors import BadInput, Code, PeerFault
from protocol.folds.coursework import Coursework
from protocol.limits import MAX_RULED_ENTRIES
from protocol.model.entry import PERSON_BYTES, Entry, Kind, parsed
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation, Ruling
from protocol.model.work import Revision, Wraps
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.as_root import check_kit, write_as_root
from protocol.replica.office.erasures import erased_besides
from protocol.replica.office.held_in_space import counting_where_they_lie, held_by_space
from protocol.replica.office.known_here import leave_marks, note_named, ruled_marks
from protocol.replica.office.said_here import noted_refused
from protocol.replica.office.taking_back import ruling_before
from protocol.replica.office.words_of_office import binding, is_out, said_again, still_says, topics
from protocol.rights.roster import Roster, is_acceptable
from protocol.rights.successions import successors_of
from sync_server.handlers.by_kit.held_rights import LetsIn, lets_in, names_of
from sync_server.handlers.by_kit.said_again import (
    BY_ITSELF,
    SAID_AGAIN,
    Facts,
    commands_anew,
    drafts_again,
    facts_of,
    saying,
    whom_they_show,
    why_not_again,
    with_its_certificate,
)
from sync_server.handlers.store.notices import Notice
from sync_server.kit.away import KitAway
from sync_server.kit.errands import may_be_judged_by_kit
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that a device which was cut off has written, or so it says, and that waits for somebody to judge.

    `name` is the pupil's, or what an entry of a list calls who is on none, `title` the item's, where they are known; of
    a right, which `gives` says, and of an erasure `name` is all that lists ever called the one as whom it lets in, or
    whom it forgets. `facts` are what else it says. What waits though it is `refused` was refused by no command here.
    `is_reported` says that the device which a right lets in is out there, since it was reported.
    """

    entry: Entry
    name: str | None
    title: str | None
    refused: bool
    gives: LetsIn | None = None
    facts: Facts = field(default_factory=Facts)
    is_reported: bool = False

    @property
    def person(self) -> bytes | None:
        """Whom it is about, by their id."""
        if self.gives is not None:
            return self.gives.person
        return _forgotten(self.entry) or self.entry.header.subject


def _forgotten(entry: Entry) -> bytes | None:
    """Who an erasure forgets, if it is somebody."""
    erasure = parsed(entry, Erasure.parse) if entry.header.kind == Kind.ERASE else None
    return None if erasure is None or len(erasure.covers) != PERSON_BYTES else erasure.covers


async def list_waiting(server: Server, *, refused: bool = False) -> list[Waiting]:
    """All that waits, oldest first; with `refused`, what was refused instead."""
    found = []

    def named(device: bytes) -> str | None:
        return server.contacts.of(device).name

    held = await _held(server)
    about = await topics(server, (entry for entries in held.values() for entry in entries), named)
    again = await _ids_said_again(server) if held and not refused else set()
    is_erased_besides, is_out_besides = await erased_besides(server.replica), _Out(server.replica)
    settled = await _settled(server)
    for space, entries in held.items():
        view = await server.replica.view(space)
        is_shown = await _waits_by_itself(server, view.coursework, view.roster, entries)
        over = settled(view.roster)
        for entry in entries:
            is_refused = entry.id in view.roster.refused
            if not is_shown(entry) or not (is_refused if refused else entry.id not in over):
                continue
            if entry.id in again:
                continue  # the kit's word holds it back as before; what it says counts
            erasure = parsed(entry, Erasure.parse) if entry.header.kind == Kind.ERASE and not refused else None
            if erasure is not None and is_erased_besides(space, erasure.covers):
                continue
            if not refused and await is_out_besides(entry):
                continue
            subject, target = entry.header.subject, entry.header.target
            person = None if subject is None else view.roster.persons.get(view.roster.who(subject))
            work = view.coursework.hand_ins.get(target or b"")
            item = view.coursework.items.get((target if work is None else work.item) or b"")
            title = item.shown.record.title if item is not None else _title(entry) or about(entry)
            name = _listed_as(entry) if person is None else person.name
            gives = lets_in(entry)
            is_reported = gives is not None and is_out(view.roster, gives.device[0])
            found.append(Waiting(entry, name, title, is_refused, gives, facts_of(entry), is_reported))
    found = await _with_names(server, found)
    return sorted(found, key=lambda waiting: (waiting.entry.header.at, waiting.entry.id))


async def _with_names(server: Server, found: Sequence[Waiting]) -> list[Waiting]:
    """The same with all names of whom rights let in, erasures forget and rulings show; without rulings on work."""
    rulings = [each.entry for each in found if _is_ruling(each.entry)]
    by_all_names = [each for each in found if each.gives is not None or each.entry.header.kind == Kind.ERASE]
    persons = {each.person for each in by_all_names if each.person is not None}
    names = await names_of(server.replica, persons) if persons else {}
    shown = await whom_they_show(server.replica, rulings)
    told = []
    for each in found:
        if each.gives is not None or each.entry.header.kind == Kind.ERASE:
            told.append(replace(each, name=names.get(each.person or b"")))
        elif not _is_ruling(each.entry):
            told.append(each)
        elif each.entry.id in shown or _is_of_earlier_root(server, each.entry):
            told.append(replace(each, title=shown.get(each.entry.id)))
    return told


def _is_ruling(entry: Entry) -> bool:
    return entry.header.kind == Kind.RULING


class _Out:
    """Whether a device is out where a revocation that waits would have it out: by one that counts, or the right is."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._below: dict[bytes, tuple[frozenset[bytes], frozenset[bytes]]] = {}

    async def __call__(self, entry: Entry) -> bool:
        cut = parsed(entry, Revocation.parse) if entry.header.kind == Kind.REVOKE else None
        if cut is None:
            return False
        ended = self._replica.door.authority(entry.header.target)
        if ended is not None:
            return ended not in (await self._replica.view(ended.space)).roster.authorities
        reading, out = await self._looked_at(entry.header.space)
        return cut.key in out and cut.key not in reading

    async def _looked_at(self, space: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Who reads a space, or one below it, and whom a revocation that counts cuts off in one of them."""
        if space not in self._below:
            rosters = [(await self._replica.view(each)).roster for each in self._replica.door.below(space)]
            reading = {each.key for roster in rosters for each in roster.authorities if each.key not in roster.cut}
            out = {key for roster in rosters for key in roster.revocations.values()}
            self._below[space] = frozenset(reading), frozenset(out)
        return self._below[space]


async def waiting_notices(server: Server) -> list[Notice]:
    """That words of people wait, which nobody sees who does not ask: a thief holds an honest teacher's back."""
    count, settled = 0, await _settled(server)
    for space, entries in (await _held(server)).items():
        view = await server.replica.view(space)
        over = settled(view.roster)
        own = [entry for entry in entries if entry.header.kind in _MISSED and entry.id not in over]
        count += sum(map(await _waits_by_itself(server, view.coursework, view.roster, own), own))
    return [Notice("words-waiting", {"count": count})] if count else []


async def _settled(server: Server) -> Callable[[Roster], Container[bytes]]:
    """What of the held back of a space waits no more: it was refused by a command of this server's, or by a root."""
    noted = await noted_refused(server.store)
    return lambda roster: roster.refused_by_root | (roster.refused.keys() & noted)


def _notes_of(said: Sequence[Entry]) -> dict[str, bytes | None]:
    return {**leave_marks(said), **ruled_marks(said)}


@dataclass(frozen=True, slots=True)
class Ruled:
    """For how many entries a word counts, and for how many it does not: the kit's stands above it.

    Or, of those `idle`, what was said again changes nothing.
    """

    counting: int
    beyond: int
    idle: int = 0


async def rule(server: Server, named: Sequence[bytes], *, accept: bool, kit: KitAway | None = None) -> Ruled:
    """Accept or refuse entries, or all that waits of a device (accepted is its work alone); with the kit as the root.

    Raises `BadInput`: UNKNOWN_HAND_IN for what neither waits nor was ruled on; BAD_KIT; USAGE for what the root says
    nothing of, or what is said in another way.
    """
    if kit is not None:
        check_kit(server, kit)
    elif accept:
        await _check_said_again(server, frozenset(named))
    ruled = 0
    judged: list[tuple[bytes, bytes]] = []
    of_office, to_rule = list[Entry](), list[tuple[bytes, list[bytes]]]()
    wanted, found = frozenset(named), set[bytes]()
    held, settled = await _held(server), await _settled(server)
    for space, entries in (held if accept else await _and_let_count(server, held, wanted)).items():
        roster = (await server.replica.view(space)).roster
        chosen = _chosen(server, entries, wanted, settled(roster), accept=accept, is_by_kit=kit is not None)
        found |= {entry.id for entry in chosen} | {entry.header.author for entry in chosen}
        earlier = [entry for entry in chosen if _is_of_earlier_root(server, entry)] if kit is not None else []
        with_wraps = _with_wraps(chosen, entries)
        if kit is not None:  # which looks at each, and knows what was typed
            with_wraps = [entry for entry in with_wraps if not wanted.isdisjoint(_names(entry))]
        chief = _not_with_others(chosen, entries)
        ruled += len(chief)
        by_server = [entry for entry in chosen if entry.header.kind in SAID_AGAIN and entry not in earlier]
        again = by_server if accept else []
        of_office += again
        judged += [(space, entry.id) for entry in chief if entry not in again]
        to_rule.append((space, [entry.id for entry in with_wraps]))
    if unknown := wanted - found:
        raise BadInput(
            Code.UNKNOWN_HAND_IN,
            f"nothing of {min(unknown).hex()} waits; `waiting` shows what does. Rights and names are accepted one by "
            "one, by their own id",
        )
    taken, stands = {entry.id for entry in of_office}, await _say_again(server, of_office)
    drafts = []
    for space, ids in to_rule:
        for ruling in _rulings([one for one in ids if one in stands or one not in taken], taken, accept=accept):
            names = (*ruling.accepted, *ruling.refused)
            # the kit signs nothing that names parents, and stands above all of them
            parents = await ruling_before(server.replica, space, names, server.rank) if kit is None else ()
            grant = server.grant if kit is None else None
            drafts.append(Draft(space, Kind.RULING, grant, ruling.encode(), parents=parents))
    if kit is not None:
        for draft in drafts:  # one at a time: the command is shown all that it is about
            await write_as_root(server, kit, [draft])
    elif drafts:
        await server.write(drafts, _notes_of)
    beyond = 0
    for space, entry in judged:
        roster = (await server.replica.view(space)).roster
        beyond += entry in roster.held_back if accept else entry not in roster.refused
    idle = len(taken - stands)
    return Ruled(ruled - beyond - idle, beyond, idle)


def _chosen(
    server: Server,
    entries: Sequence[Entry],
    wanted: Container[bytes],
    settled: Container[bytes],
    *,
    accept: bool,
    is_by_kit: bool,
) -> list[Entry]:
    """What of the held back of one space a word is for. Raises `BadInput(USAGE)` for what the kit says nothing of."""

    def is_judged(entry: Entry) -> bool:
        is_let_stand = accept and _is_of_earlier_root(server, entry)
        return is_let_stand or may_be_judged_by_kit(entry, accept=accept)

    def is_meant(entry: Entry) -> bool:
        is_with_all = is_judged(entry) if is_by_kit else goes_with_all(entry) if accept else True
        return is_with_all and entry.header.author in wanted and entry.id not in settled

    if is_by_kit:
        for entry in entries:
            if entry.id in wanted and not is_judged(entry):
                raise BadInput(Code.USAGE, _without_kit(entry, accept=accept))
    return [entry for entry in entries if entry.id in wanted or is_meant(entry)]


def _without_kit(entry: Entry, *, accept: bool) -> str:
    name = entry.id.hex()
    if accept and (why := why_not_again(entry)) is not None:
        return f"with the kit work is accepted: {why}"
    if accept:
        return f"with the kit work is accepted; rights and names are said again: `sync-server accept {name}`"
    return f"the kit takes erasures back by `unerase`, not by `refuse`: {name} is one"


def _rulings(ids: Sequence[bytes], taken: Container[bytes], *, accept: bool) -> Iterable[Ruling]:
    """What is `taken` has been said again, and waits no more."""
    for start in range(0, len(ids), MAX_RULED_ENTRIES):
        part = ids[start : start + MAX_RULED_ENTRIES]
        counting = tuple(one for one in part if accept and one not in taken)
        yield Ruling(counting, tuple(one for one in part if one not in counting))


def _names(entry: Entry) -> set[bytes | None]:
    """By what somebody names an entry: its id, its device; a wrap with the work that it is of."""
    header = entry.header
    return {entry.id, header.author, header.target if header.kind == Kind.WRAP else None}


def goes_with_all(entry: Entry) -> bool:
    """Whether one word for all of a device's covers this entry."""
    return entry.header.kind not in BY_ITSELF


async def _check_said_again(server: Server, ids: Collection[bytes]) -> None:
    """Raise `BadInput(USAGE)` where one of these is said in another way than by `accept`."""
    for entry in (await server.store.get(sorted(ids))).values():
        given = parsed(entry, Grant.parse) if entry.header.kind == Kind.GRANT else None
        roster = (await server.replica.view(entry.header.space)).roster
        is_reported = given is not None and is_out(roster, given.signing)
        if (why := why_not_again(entry, is_reported=is_reported)) is not None:
            whom = (await topics(server, [entry], lambda device: server.contacts.of(device).name))(entry)
            is_named = bool(commands_anew(entry, is_reported=is_reported)) and whom is not None
            raise BadInput(Code.USAGE, f"{why}. It names {whom}" if is_named else why)
        if given is not None and await with_its_certificate(server, given) is None:
            raise BadInput(
                Code.USAGE,
                f"{entry.id.hex()} is a right of {given.signing.hex()}, for which certificates of several "
                "computers are named, and nothing tells which is its own: let it in anew by a code (`invite`)",
            )


_LET_STAND: Final = frozenset({Kind.CERTIFICATE, Kind.RECOVERY_KEY, Kind.REWRAP})
"""Of what only a root says, what still means something where another root has taken over."""
MAY_WAIT: Final = frozenset(kind for kind in Kind if kind in BY_ITSELF | _LET_STAND or is_acceptable(kind))


def _is_of_earlier_root(server: Server, entry: Entry) -> bool:
    """Whether a root said something that another one of the line has replaced."""
    return entry.header.grant is None and entry.header.author in server.replica.door.roots[:-1]


async def _held(server: Server) -> dict[bytes, list[Entry]]:
    """What is held back and could be accepted, by space."""
    found = {}
    async for roster, held in held_by_space(server.replica, server.replica.door.spaces(), MAY_WAIT):
        if own := [e for e in held if _may_be_accepted(e, roster) or _is_of_earlier_root(server, e)]:
            found[roster.space] = own
    return found


async def _and_let_count(
    server: Server, held: dict[bytes, list[Entry]], wanted: Collection[bytes]
) -> dict[bytes, list[Entry]]:
    """The same, and what of the `wanted` counts by a ruling, with the keys that came with it."""
    both = {space: list(entries) for space, entries in held.items()}
    for entry in (await server.store.get(sorted(wanted))).values():
        let_count = (await server.replica.view(entry.header.space)).roster.let_count
        if entry.id in let_count:
            of_keys = [name for name, each in let_count.items() if each.kind == Kind.WRAP]
            wraps = (await server.store.get(of_keys)).values() if entry.header.kind == Kind.HAND_IN else ()
            with_it = (wrap for wrap in wraps if wrap.header.target == entry.id)
            both.setdefault(entry.header.space, []).extend((entry, *with_it))
    return both


def _may_be_accepted(entry: Entry, roster: Roster) -> bool:
    """Work, and what was said of rights and names by who was cut off, or under access that does not count any more."""
    kind = entry.header.kind
    return is_acceptable(kind) or (kind in BY_ITSELF and roster.is_held_with_its_author(entry))


async def _say_again(server: Server, entries: Sequence[Entry]) -> set[bytes]:
    """Say these in the server's own name; the ids of what stands by that, or by others, and waits no more."""
    if not entries:
        return set()
    await _note_let_in(server, entries)
    await server.write(await drafts_again(server, entries, server.grant), _notes_of)
    return await _ids_said_again(server)


async def _note_let_in(server: Server, again: Iterable[Entry]) -> None:
    """Whose devices those are of which somebody says a grant again, by its own id."""
    for entry in again:
        given = parsed(entry, Grant.parse) if entry.header.kind == Kind.GRANT else None
        if given is not None:
            await note_named(server, given.person, (given.signing, given.agreement), given.role)


_MISSED: Final = frozenset({Kind.REVISION, Kind.WITHDRAW, Kind.RESTORE, Kind.FEEDBACK, Kind.HAND_IN, Kind.WRAP})
"""What somebody misses who does not hear of it. Erasures have a notice of their own."""


async def _ids_said_again(server: Server) -> set[bytes]:
    """What is accepted by being said again, and was: the same came here since, and counts.

    Of what one word stands for all that is asked of the one that stands; of an erasure, and a report, of what they
    order: whoever has a copy of the server's key says the same and takes it back in one breath.
    """
    said = await server.store.scan_kinds(sorted(BY_ITSELF - {Kind.ERASE, Kind.REVOKE}))
    now_ms = server.now_ms()
    counting = await counting_where_they_lie(
        server.replica, said, lambda one: one.header.space, lambda roster, one: still_says(roster, one, now_ms)
    )
    return said_again(said, await binding(server.replica, counting), saying)


async def _waits_by_itself(
    server: Server, coursework: Coursework, roster: Roster, held: Sequence[Entry]
) -> Callable[[Entry], bool]:
    """Whether somebody is asked about an entry that is held back: of a wrap while it alone opens a work to a reader.

    So is one by the author of a work that is shown, for a key in use, or the kit's, for which the author, or a key that
    came of its key, has no other that counts.
    """
    if not any(entry.header.kind == Kind.WRAP for entry in held):
        return lambda _entry: True
    in_use = {key for keys in roster.reading_keys.values() for key in keys}.union(await recovery_keys(server.replica))
    authorities = server.replica.door.authorities()
    lines: dict[bytes, frozenset[bytes]] = {}

    def is_asked(entry: Entry) -> bool:
        if entry.header.kind != Kind.WRAP:
            return True
        author, work = entry.header.author, coursework.hand_ins.get(entry.header.target or b"")
        record = parsed(entry, Wraps.parse)
        if work is None or work.author != author or record is None:
            return False
        if author not in lines:
            lines[author] = frozenset({author, *successors_of(author, authorities)})
        lacking = (key for key, _ in record.wraps if lines[author].isdisjoint(work.wrapped_by.get(key, ())))
        return any(key in in_use for key in lacking)

    return is_asked


def _not_with_others(chosen: Iterable[Entry], all_held: Iterable[Entry]) -> list[Entry]:
    """Without the wraps of hand-ins that are held back themselves."""
    held = {entry.id for entry in all_held}
    return [entry for entry in chosen if entry.header.kind != Kind.WRAP or entry.header.target not in held]


def _with_wraps(chosen: Collection[Entry], all_held: Iterable[Entry]) -> list[Entry]:
    ids = {entry.id for entry in chosen}
    wraps = [
        entry
        for entry in all_held
        if entry.header.kind == Kind.WRAP and entry.header.target in ids and entry.id not in ids
    ]
    return [*chosen, *wraps]


def _listed_as(entry: Entry) -> str | None:
    """What an entry of a list calls somebody whom no list shows."""
    record = parsed(entry, PersonRecord.parse) if entry.header.kind == Kind.PERSON else None
    return None if record is None else record.name


def _title(entry: Entry) -> str | None:
    if entry.header.kind != Kind.REVISION:
        return None
    try:
        return Revision.parse(entry.payload or b"").title
    except PeerFault:
        return None
