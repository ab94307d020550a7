"""Which erasures are in force, whose word they are, which wait for another's, or count no more ("Erasure")."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.limits import SINCE_REACHES_MS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Erasure
from protocol.model.work import Revision
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.erasures import erased_besides, ever_said, in_force, is_in_doubt
from protocol.replica.office.heard import Word, said_by
from protocol.replica.office.known_here import KnownHere
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.whose_words import first_signatures
from protocol.replica.upkeep.orders import DOUBTED, DestroyedHere, ends_of
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Forgetting:
    """An erasure in force: what it covers, whether it is destroyed here, whether it waits for somebody else's word."""

    entry: Entry
    covers: bytes
    destroyed: bool
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class Told:
    """An erasure by names: who or what it covers (`once`: what else lists called them), by whose word it is.

    `until_ms` is until when it can be taken back here without the kit; None where it is destroyed, or in doubt.
    """

    forgetting: Forgetting
    name: str | None
    once: tuple[str, ...]
    by: str
    until_ms: int | None


async def list_erasures(server: Server) -> list[Forgetting]:
    """Every erasure that counts, in order of arrival."""
    here = await DestroyedHere.of(server.replica)
    return [
        Forgetting(entry, covers, covers in here.at(entry.header.space), await is_in_doubt(server.replica, entry))
        for entry, covers in await in_force(server.replica)
    ]


async def told_erasures(server: Server) -> list[Told]:
    """Every erasure that counts, for whoever decides whether it is to be taken back.

    Whose a device is, and what it calls itself, is told of those alone of which this server knows how they came in: as
    they were called here first, with a number where others were before (docs/adr/0526).
    """
    found, ends = await list_erasures(server), await ends_of(server.replica, server.now_ms())
    covered = await server.store.get([each.covers for each in found])
    theirs = {(one.header.subject or b"") for one in covered.values()}
    authors = {each.entry.id: server.replica.door.authority(each.entry.header.grant) for each in found}
    rights, here = {given.grant: given for given in authors.values() if given is not None}, await KnownHere.of(server)
    known = {grant for grant, given in rights.items() if await here.knows(given)}
    names = await mentioned(server.replica, {*(each.covers for each in found), *theirs})
    persons = {given.person for given in rights.values() if given.person is not None}
    rosters = [(await server.replica.view(space)).roster for space in {given.space for given in rights.values()}]
    called_first = await first_signatures(server.replica, rosters, persons)

    def who(entry: Entry) -> str:
        given, called = authors[entry.id], list[str | None]()
        if given is not None and given.grant in known:
            name = None if given.person is None else called_first.get(given.person)
            called = [name, server.contacts.of(entry.header.author).name]
        word = Word(entry.header.author, entry.header.grant, entry.timestamp_ms)
        return ", ".join(filter(None, called)) or said_by(server.replica, word, b"")

    def what(covers: bytes) -> str | None:
        entry = covered.get(covers)
        if entry is None:
            return names[covers].last or None
        if entry.header.kind == Kind.HAND_IN:
            return f"a hand-in of {names[entry.header.subject or b''].last or 'somebody without a name here'}"
        record = parsed(entry, Revision.parse) if entry.header.kind == Kind.REVISION else None
        return None if record is None else record.title

    return [
        Told(
            each,
            what(each.covers),
            tuple(name for name in names[each.covers].names if name != names[each.covers].last)[:MAX_NAMES_SHOWN],
            who(each.entry),
            None if each.destroyed else ends.get(each.entry.id),
        )
        for each in found
    ]


async def confirm_destroyed(server: Server, now_ms: int) -> int:
    """Say again what is destroyed here and was ordered only by devices that were cut off since; how many that were.

    Machines that come later must forget too. But not while people may still say since when such a device was in other
    hands: that takes back what it ordered, and would not reach this server's own word (docs/adr/0453). Until then what
    it ordered is hidden on each machine, and destroyed on no further one. `now_ms` is the time of a look (`Pace`).
    """
    doubtful = await _in_doubt_alone(server)
    since = await DOUBTED.look(server.store, (each.entry.id for each in doubtful), now_ms)
    due = [each for each in doubtful if each.destroyed and now_ms - since[each.entry.id] >= SINCE_REACHES_MS]
    said = {(each.entry.header.space, each.covers): None for each in due}
    drafts = [Draft(space, Kind.ERASE, server.grant, Erasure(covers).encode()) for space, covers in said]
    if drafts:
        await server.write(drafts)
    return len(drafts)


async def waiting_for_a_word(server: Server) -> int:
    """How many names are hidden by the word of keys that were cut off since, and destroyed nowhere meanwhile."""
    return len({each.covers for each in await _in_doubt_alone(server) if not each.destroyed})


async def held_back(server: Server) -> int:
    """How many people's erasures count no more, of whom nobody has said since whether they are to be forgotten.

    What asked for them is held back: a key that was in other hands by then said it, or a server from before a backup,
    which was given other keys before it had come. They are shown again, but where they had been destroyed.
    """
    replica = server.replica
    is_erased_besides = await erased_besides(replica)
    known = {entry.header.subject for entry in await replica.store.scan_kinds([Kind.PERSON, Kind.HAND_IN])}
    found: set[bytes] = set()
    for entry, covers in await ever_said(replica):
        roster = (await replica.view(entry.header.space)).roster
        is_open = entry.id in roster.held_back and entry.id not in roster.refused
        if is_open and covers in known and not is_erased_besides(entry.header.space, covers):
            found.add(covers)
    return len(found)


async def said_of_held_back(server: Server) -> str | None:
    """What is to be said beside names, and after new keys were made; None where there is nothing."""
    count = await held_back(server)
    return (
        f"who was forgotten by the word of keys that count no more ({count}) is shown again, but where they had been "
        "destroyed: `waiting` names each erasure, `erase --person PERSON` says it anew, `unerase PERSON --kit KIT` "
        "takes it back everywhere. Print or pass on nothing of it before"
        if count
        else None
    )


async def erasure_notices(server: Server) -> list[Notice]:
    """That somebody is hidden and destroyed nowhere, or shown again, which nobody sees who does not ask for it."""
    counts = {"erasures-waiting": await waiting_for_a_word(server), "erasures-held-back": await held_back(server)}
    return [Notice(topic, {"count": count}) for topic, count in counts.items() if count]


async def _in_doubt_alone(server: Server) -> list[Forgetting]:
    """The erasures of devices that were cut off since which nobody else has said too, as far as they reach."""
    erasures = await list_erasures(server)
    sure = {(each.entry.header.space, each.covers) for each in erasures if not each.in_doubt}
    lineage = server.replica.door.lineage
    return [
        each
        for each in erasures
        if each.in_doubt and sure.isdisjoint((space, each.covers) for space in lineage(each.entry.header.space))
    ]
