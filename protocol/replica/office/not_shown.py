"""What lies in a class here and is not shown: what takes along all that a class holds would pass it over in silence.

Rules (docs/adr/0356):
- whoever has the server's key hides lessons and work by one word, and shows them again an hour later: what is taken
  along meanwhile lacks them, and nothing says so once the class is gone;
- what is hidden here by an erasure or a revocation, of anybody's, and is not destroyed here, lies here; so does what
  came as a header alone;
- a class as if nothing of it were hidden is one in which nobody were cut off, and nothing erased: a teacher's words are
  nobody's once she is erased, or the device that speaks for her is cut off (docs/adr/0361). Who speaks for somebody as
  it counts begins their voice there too: what counts for nothing since a theft takes nobody's name (docs/adr/0409);
- of what was said of a hand-in and is not shown the last of each device lies here: what was cut off for good is not
  told from what is hidden for an hour, and takes no place of that. In whose place something else has been said since,
  by a device that counts (`protocol.folds.remarks`), is not among it, be the work itself shown or not;
- whoever takes along what a class holds is told of each such thing whose word hides it, and of when by that word's own
  date.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from protocol.folds.coursework import Coursework, Item, Work, item_named, topics_of, with_topics, work_named
from protocol.folds.erasing import is_covered
from protocol.folds.remarks import FeedbackNote, Remarks
from protocol.model.ancestry import in_order_of_showing, led_to
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.work import Feedback
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.office.erasures import in_force
from protocol.replica.office.heard import Word, said_by
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.whose_words import names_of_words
from protocol.rights.door import covering_names
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import Role

_OF_COURSEWORK = (
    Kind.REVISION,
    Kind.WITHDRAW,
    Kind.RESTORE,
    Kind.HAND_IN,
    Kind.WRAP,
    Kind.FEEDBACK,
    Kind.RECEIPT_SAFE,
    Kind.RECEIPT_SERVER,
    Kind.RECEIPT_TEACHER,
)


@dataclass(frozen=True, slots=True)
class NotShown:
    """`whole` is a class's coursework as if nothing of it were hidden.

    `items` and `hand_ins` are what is not shown of it, each by the entry that makes it, in order of arrival: what is
    hidden and not destroyed here, and what came as a header alone, which is not in `whole`. `remarks` are, by hand-in,
    what was said of it and is not shown, the newest first; `roster` says whose words these are, by the names shown.
    """

    whole: Coursework
    items: tuple[Entry, ...]
    hand_ins: tuple[Entry, ...]
    remarks: Mapping[bytes, Sequence[FeedbackNote]]
    roster: Roster


async def not_shown(replica: Replica, view: SpaceView, gone: Collection[bytes]) -> NotShown:
    """What lies in a class and is not shown in this view of it; `gone` are the names that were destroyed here.

    What is whole was destroyed nowhere here, whatever else went under that name: it is hidden, and waits for its turn.
    """
    space = view.roster.space
    lying = [one.entry for one in await replica.store.of_kinds(space, _OF_COURSEWORK)]
    said = [entry for entry in lying if entry.payload is not None or not is_covered(entry, gone)]
    shown = view.coursework.items.keys() | view.coursework.hand_ins.keys()
    hidden = [
        entry
        for entry in said
        if entry.id in (item_named(entry), work_named(entry))
        and entry.id not in shown
        and (entry.payload is None or view.roster.hides(entry))
    ]
    nothing: frozenset[bytes] = frozenset()
    revealed = replace(await replica.unhidden_roster(space), held_back=nothing, erased=nothing, frozen=nothing)
    topics, counting = topics_of(said, revealed), topics_of(said, view.roster).works
    by_all = Remarks(revealed)
    return NotShown(
        with_topics(Coursework({}, {}), space, topics, revealed),
        tuple(entry for entry in hidden if entry.header.kind == Kind.REVISION),
        tuple(entry for entry in hidden if entry.header.kind == Kind.HAND_IN),
        {
            work: remarks
            for work, about in topics.works.items()
            if (remarks := _not_said(about, counting.get(work, ()), view.coursework.hand_ins.get(work), by_all))
        },
        replace(revealed, persons=view.roster.persons, aliases=view.roster.aliases),
    )


def _not_said(
    about: Iterable[Entry], counting: Iterable[Entry], shown: Work | None, by_all: Remarks
) -> Sequence[FeedbackNote]:
    """What was said of a hand-in and is not shown, by these entries about it, of which some are `counting`."""
    notes = {
        entry.id: entry
        for entry in about
        if entry.header.kind == Kind.FEEDBACK and parsed(entry, Feedback.parse) is not None
    }
    said = {name: by_all.of(entry) for name, entry in notes.items()}
    gone = set() if shown is None else {note.id for note in shown.remarks}
    replaced = defaultdict[tuple[Device, bytes], list[bytes]](list)
    for counted in notes.keys() & {entry.id for entry in counting}:
        replaced[said[counted].device, said[counted].voice] += notes[counted].header.parents
    for (device, voice), names in replaced.items():
        own = {note.id: notes[note.id] for note in by_all.replaced_by(device, voice, said.values())}
        gone |= led_to(names, own, notes.values()).keys()
    last: dict[bytes, FeedbackNote] = {}
    for entry in in_order_of_showing(notes):
        last.setdefault(entry.header.author, said[entry.id])
    return [note for note in last.values() if note.id not in gone and not note.record.says_nothing]


async def why_hidden(replica: Replica, roster: Roster, entries: Iterable[Entry]) -> dict[bytes, str]:
    """Of each of these entries of a class whose words hide it, and since when, for a line of a command."""
    line = replica.door.lineage(roster.space)
    erasing = [(one, covers) for one, covers in await in_force(replica) if one.header.space in line]
    cutting = await replica.store.get(sorted(roster.revocations))
    found, bare, frozen = dict[bytes, list[tuple[str, Entry]]](), set[bytes](), set[bytes]()
    for entry in entries:
        names, author = covering_names(entry), roster.granted.get(entry.header.grant or b"")
        found[entry.id] = [("erased", one) for one, covers in erasing if covers in names]
        if entry.header.kind == Kind.FEEDBACK and author is not None:
            theirs = (one for one, covers in erasing if covers == author.person)
            found[entry.id] += [("by somebody who is erased", one) for one in theirs]
        if entry.id in roster.held_back:
            cuts = (one for one in cutting.values() if roster.revocations[one.id] == entry.header.author)
            found[entry.id] += [("held back since its computer was cut off", one) for one in cuts]
        bare |= {entry.id} if entry.payload is None else set()
        frozen |= {entry.id} if roster.is_frozen(entry) else set()
    told = await _whose_words(replica, roster, [one for _, one in chain.from_iterable(found.values())])
    return {
        name: "; ".join(dict.fromkeys(f"{what} {told[one.id]}" for what, one in words))
        or _otherwise(is_bare=name in bare, is_held_back=name in roster.held_back, is_frozen=name in frozen)
        for name, words in found.items()
    }


async def whose_word(replica: Replica, roster: Roster, word: Entry) -> str:
    """By whom a word of a class is, and of when by its own date."""
    return (await _whose_words(replica, roster, [word]))[word.id]


async def switched_by(replica: Replica, item: Item) -> Entry | None:
    """The word by which an item was withdrawn, or is shown again, as it is; None where nobody said any."""
    return (await replica.store.get(item.switches[:1])).get(item.switches[0]) if item.switches else None


def _otherwise(*, is_bare: bool, is_held_back: bool, is_frozen: bool) -> str:
    if is_frozen:
        return "about somebody of whom nothing is used until `person unfreeze`"
    if is_held_back:
        return "held back with who let its computer in"
    if is_bare:
        return "here as no more than that there is one: sync first"
    return "nobody's word, since what makes its computer a teacher's is hidden"


async def _whose_words(replica: Replica, roster: Roster, words: Collection[Entry]) -> dict[bytes, str]:
    names = await names_of_words(replica, roster, {word.header.grant for word in words})

    def who(entry: Entry) -> str:
        name = names.get(entry.header.grant)
        word = Word(entry.header.author, entry.header.grant, entry.timestamp_ms)
        if name is not None:
            return f"“{name}”"
        given = replica.door.authority(word.grant)
        enrolled = "" if given is None or given.role is Role.SERVER else f", enrolled as {given.role}"
        return f"{said_by(replica, word, b'')}{enrolled}"

    return {word.id: f"by {who(word)}, {day_of(word.timestamp_ms)}" for word in words}
