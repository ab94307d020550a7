"""Taking an erasure back: a ruling that refuses it, within its week; afterwards the kit's, where a payload is left.

Rules:
- what was said of a name stands side by side: an office's word that everybody has obeyed, and a thief's of yesterday.
  Only what is in question goes by itself: what is held back; else, of what hides the name, the only one;
- what else counts goes where somebody has been told its dates, and whose word each is, and says so: a decoy among a
  thief's erasures would have the kit bring back whoever was forgotten long before (docs/adr/0290);
- with the kit nothing goes unasked that counts and that nobody questions; nor what was destroyed here, which comes back
  from whoever kept it: anybody has work come for a class that was closed long ago (docs/adr/0440);
- the kit, where all is to go, takes back what it has signed by name, however much of it is not here; where nothing of
  it is, once that is asked for: a word that ends what was not said yet ends what is said later (docs/adr/0324).

docs/protocol.md, "Erasure".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from shlex import quote
from typing import Final, NamedTuple

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.model.entry import ID_BYTES, Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.destroyed import destroyed, destroyed_names, obeyed_alone, places_taken
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.at_work.signer import RootKit
from protocol.replica.console.text import local_time
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.bureau import Office, is_own
from protocol.replica.office.erasures import ever_said, in_force, is_in_doubt, say_as, turns_of
from protocol.replica.office.spaces import space_records
from protocol.rights.erasures import rulings_of
from protocol.roles import RANK, Role

MAX_NAMED: Final = 10
"""How many erasures of one name are told: who has the server's key says as many as they like."""


def kits_line(covers: bytes, *, named: str = "NAME", day: str = "DAY") -> str:
    """The command, whole, with which the kit takes back what was said of a name: who types it says besides what it is.

    Words in capitals stand for what whoever types knows, and is told only by the command that has the kit: what shows
    an id may be in other hands (docs/adr/0342).
    """
    return f"`sync-server unerase {covers.hex()} --kit KIT --counting-too {_said_besides(covers, named, day)}`"


def _said_besides(covers: bytes, named: str = "NAME", day: str = "DAY") -> str:
    if len(covers) == ID_BYTES:  # a class, whose name is proven by its id
        return '--named "NAME, YEAR, UAI"'
    return f"--dated {day} --named {quote(named)}"


class Standing(Enum):
    """How an erasure stands where it lies, and as it is told."""

    HELD_BACK = "held back"
    DOUBTFUL = "by a key that was cut off since"
    COUNTING = "in question by nobody"
    TAKEN_BACK = "taken back already"


class Weighed(NamedTuple):
    """An erasure of the name, and how it stands."""

    entry: Entry
    standing: Standing


class TakenBack(NamedTuple):
    """What was taken back, and what else is said of the name and goes on standing; both in order of arrival."""

    taken: Sequence[Weighed]
    left: Sequence[Weighed]


async def take_back(
    office: Office, covers: bytes, kit: RootKit | None = None, *, counting_too: bool = False, unseen_too: bool = False
) -> TakenBack:
    """Have somebody or something shown again that was erased: what is in question, or with `counting_too` all of it.

    What has been destroyed stays so, and what comes of it later is destroyed too, unless the kit says otherwise: then
    it comes back from whoever still has it. Raises `BadInput(UNKNOWN_PERSON)` if nothing that may be taken back covers
    it, `BadInput(NOT_YET)` if it takes the kit, or to be asked for with its dates. With `unseen_too`
    the kit takes back by name what it may have signed, though nothing here covers it: somebody may keep that.
    """
    replica = office.replica
    said = [entry for entry, of in await _of_use(replica, by_kit=kit is not None) if of == covers]
    if kit is None and not said and covers in await destroyed_names(replica.store):
        raise BadInput(
            Code.NOT_YET,
            f"{covers.hex()} has been destroyed here, and only the recovery kit takes that back: {kits_line(covers)}; "
            "or put the person on the list again, as somebody new",
        )
    rank = office.rank if kit is None else RANK[Role.ROOT]
    known = [Weighed(one, await _standing(replica, one)) for one in said if replica.door.rank_of(one.header) <= rank]
    if not known and said and kit is None:
        raise BadInput(Code.NOT_YET, f"the kit has said so: {kits_line(covers)} takes that back")
    is_by_kit = any(one.header.grant is None for one in said)
    is_by_name = kit is not None and (unseen_too or (counting_too and is_by_kit))
    if not known and not is_by_name:
        raise BadInput(Code.UNKNOWN_PERSON, f"no erasure of {covers.hex()} can be taken back; `erasures` shows them")
    if kit is None:  # what is held back makes the rest no thief's
        aside = [one for one, of in await ever_said(replica) if of == covers and one not in said]
        known += [each for each in [Weighed(one, await _standing(replica, one)) for one in aside] if _is_held(each)]
    taken = known if counting_too else _in_question(known, by_kit=kit is not None)
    if not taken and (known or not is_by_name):
        raise BadInput(
            Code.NOT_YET,
            f"nothing was taken back: {'; '.join(told_of(office, known))}. If that is to go, say it with "
            f"--counting-too{'' if kit is None else f' {_said_besides(covers)}'}",
        )
    if kit is None:
        taken = [each for each in taken if not _is_held(each)]
    # the kit signs nothing that names parents, and stands above all of them
    drafts = [await _refusal(replica, entry, rank if kit is None else None) for entry, _ in taken]
    if is_by_name:
        drafts.append(await _by_name(replica, covers, said, unseen_too=unseen_too))
    await say_as(office, drafts, kit)
    return TakenBack(taken, [each for each in known if each not in taken])


async def check_not_destroyed(store: EntryStore, covers: bytes) -> None:
    """Raise `BadInput(NOT_YET)` for what this replica has destroyed: people were told that it is gone."""
    if covers not in await destroyed_names(store):
        return
    what = (
        "class, with the names on its list, work and marks," if len(covers) == ID_BYTES else "person, with their work,"
    )
    raise BadInput(
        Code.NOT_YET,
        f"nothing was taken back: {covers.hex()} has been destroyed here, as people were told. Taken back by the kit, "
        f"that {what} comes back to all machines from whoever has kept it, an old disk too. Where work came late, ask "
        "first whose it is, and whether anybody waits for it. If it is to come back, say it with --destroyed-too; of a "
        "class, have that work opened and close it again the same day",
    )


async def told_of_gone(office: Office, covers: bytes) -> str | None:
    """What to say to whoever has taken back, without the kit, what has gone in some spaces by then, and not in all."""
    store, records = office.replica.store, await space_records(office)
    gone = [place.space for place, taken in (await places_taken(store)).items() if place.name == covers and taken.by]
    if not gone or covers in await destroyed_names(store):
        return None
    names = sorted(f"“{records[space].name}”" if space in records else space.hex() for space in gone if space)
    return (
        f"in {', '.join(names)} all of it has been destroyed here, and stays so; what there is elsewhere comes back. "
        f"{kits_line(covers)} takes that back as well, from whoever has kept it"
    )


async def _refusal(replica: Replica, erasure: Entry, rank: int | None) -> Draft:
    """A ruling on one erasure, after those of this rank or below."""
    space = erasure.header.space
    parents = () if rank is None else await ruling_before(replica, space, [erasure.id], rank)
    return Draft(space, Kind.RULING, None, Ruling((), (erasure.id,)).encode(), parents=parents)


async def _by_name(replica: Replica, covers: bytes, said: Sequence[Entry], *, unseen_too: bool) -> Draft:
    """What no erasure outlives that this root has signed of a name so far, whoever has kept one back."""
    by_root = [one for one in said if one.header.author == replica.door.root_now]
    turn = max((Erasure.parse(one.payload or b"").turn for one in by_root), default=0)
    if unseen_too:
        turn = max(turn, (await turns_of(replica))[covers])
    return Draft(replica.territory, Kind.RULING, None, Ruling((), (), covers, turn).encode())


def told_of(office: Office, known: Sequence[Weighed]) -> list[str]:
    """For people, in order of arrival: whose word each is, its date, which is its author's word, and how it stands."""
    lines = [
        f"forgotten by {_whose(office, entry)}, dated {local_time(rfc3339(entry.timestamp_ms) or '')}: {standing.value}"
        for entry, standing in known[:MAX_NAMED]
    ]
    more = len(known) - MAX_NAMED
    return [*lines, f"and by {more} more that came later"] if more > 0 else lines


async def ruling_before(replica: Replica, space: bytes, names: Collection[bytes], rank: int) -> tuple[bytes, ...]:
    """The ruling that one of this rank, about these entries of a space, has to name: it counts as later, then."""
    line = replica.door.lineage(space)
    rulings = [each for each in await replica.store.scan_kinds([Kind.RULING]) if each.header.space in line]
    held = (await replica.view(space)).roster.held_back if rulings else frozenset[bytes]()
    before = [
        entry.id
        for entry, ruling in rulings_of(rulings, held, replica.door)
        if replica.door.standing_of(entry.header) <= rank and not {*ruling.accepted, *ruling.refused}.isdisjoint(names)
    ]
    return tuple(before[-1:])


def _in_question(known: Sequence[Weighed], *, by_kit: bool) -> list[Weighed]:
    """Which of them go without being asked for with their dates; none where somebody has to be asked."""
    held = [each for each in known if _is_held(each)]
    hiding = [each for each in known if each.standing in {Standing.DOUBTFUL, Standing.COUNTING}]
    if held and not by_kit:
        return []
    if held or not hiding:
        return held or list(known)
    is_plain = len(hiding) == 1 and not (by_kit and hiding[0].standing is Standing.COUNTING)
    return hiding if is_plain else []


def _is_held(each: Weighed) -> bool:
    return each.standing is Standing.HELD_BACK


async def _standing(replica: Replica, erasure: Entry) -> Standing:
    roster = (await replica.view(erasure.header.space)).roster
    if erasure.id in roster.held_back:
        return Standing.HELD_BACK
    if erasure.id in roster.undone and erasure.id not in roster.carried_out - await obeyed_alone(replica.store):
        return Standing.TAKEN_BACK
    return Standing.DOUBTFUL if await is_in_doubt(replica, erasure) else Standing.COUNTING


def _whose(office: Office, erasure: Entry) -> str:
    header, door = erasure.header, office.replica.door
    if header.grant is None:
        return "the kit"
    if is_own(office, erasure):
        return "this server's key"  # by a command of its own, or by a copy of that
    author = door.authority(header.grant)
    is_server = author is not None and author.role is Role.SERVER
    return f"{'another key of the server' if is_server else 'the device'} {header.author.hex()}"


async def _of_use(replica: Replica, *, by_kit: bool) -> list[tuple[Entry, bytes]]:
    """The erasures of which somebody may say that they do not count; without the kit, while nothing is destroyed."""
    if by_kit:
        return await ever_said(replica)
    said = await in_force(replica)
    done = await _done_at(replica, said)
    return [(one, of) for one, of in said if (one.header.space, of) not in done]


async def _done_at(replica: Replica, said: Sequence[tuple[Entry, bytes]]) -> set[tuple[bytes, bytes]]:
    """In which spaces this replica has destroyed which names: what else is said of them there is of no use any more.

    Of what an earlier version has destroyed nobody knows where: everywhere.
    """
    done = await destroyed(replica.store)
    pairs = ((entry, covers, done.get(covers)) for entry, covers in said)
    return {
        (entry.header.space, covers)
        for entry, covers, record in pairs
        if record is not None and (record.by is None or entry.id in record.by)
    }
