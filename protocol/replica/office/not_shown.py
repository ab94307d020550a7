"""What lies in a class here and is not shown: what takes along all that a class holds would pass it over in silence.

Rules (docs/adr/0356):
- whoever has the server's key hides lessons and work by one word, and shows them again an hour later: what is taken
  along meanwhile lacks them, and nothing says so once the class is gone;
- what is hidden here by an erasure or a revocation, of anybody's, and is not destroyed here, lies here; so does what
  came as a header alone;
- whoever takes along what a class holds is told of each such thing whose word hides it, and of when by that word's own
  date.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import chain

from protocol.folds.coursework import Coursework, Item, fold_coursework, item_named, work_named
from protocol.folds.erasing import is_covered
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import SpaceView
from protocol.replica.office.erasures import in_force
from protocol.replica.office.heard import Word, said_by
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.whose_words import names_of_words
from protocol.rights.door import covering_names
from protocol.rights.roster import Roster

_OF_COURSEWORK = (
    Kind.REVISION,
    Kind.WITHDRAW,
    Kind.RESTORE,
    Kind.HAND_IN,
    Kind.WRAP,
    Kind.FEEDBACK,
)


@dataclass(frozen=True, slots=True)
class NotShown:
    """`whole` is a class's coursework as if nothing of it were hidden.

    `items` and `hand_ins` are what is not shown of it, each by the entry that makes it, in order of arrival: what is
    hidden and not destroyed here, and what came as a header alone, which is not in `whole`.
    """

    whole: Coursework
    items: tuple[Entry, ...]
    hand_ins: tuple[Entry, ...]


async def not_shown(replica: Replica, view: SpaceView, gone: Collection[bytes]) -> NotShown:
    """What lies in a class and is not shown in this view of it; `gone` are the names that were destroyed here."""
    space = view.roster.space
    said = [one.entry for one in await replica.store.of_kinds(space, _OF_COURSEWORK)]
    shown = view.coursework.items.keys() | view.coursework.hand_ins.keys()
    hidden = [
        entry
        for entry in said
        if entry.id in (item_named(entry), work_named(entry))
        and entry.id not in shown
        and (entry.payload is None or view.roster.hides(entry))
        and not is_covered(entry, gone)
    ]
    revealed = replace(view.roster, held_back=frozenset(), erased=frozenset())
    return NotShown(
        fold_coursework(space, said, revealed),
        tuple(entry for entry in hidden if entry.header.kind == Kind.REVISION),
        tuple(entry for entry in hidden if entry.header.kind == Kind.HAND_IN),
    )


async def why_hidden(replica: Replica, roster: Roster, entries: Iterable[Entry]) -> dict[bytes, str]:
    """Of each of these entries of a class whose words hide it, and since when, for a line of a command."""
    line = replica.door.lineage(roster.space)
    erasing = [(one, covers) for one, covers in await in_force(replica) if one.header.space in line]
    cutting = await replica.store.get(sorted(roster.revocations))
    found: dict[bytes, list[tuple[str, Entry]]] = {}
    for entry in entries:
        names = covering_names(entry)
        found[entry.id] = [("erased", one) for one, covers in erasing if covers in names]
        if entry.id in roster.held_back:
            cuts = (one for one in cutting.values() if roster.revocations[one.id] == entry.header.author)
            found[entry.id] += [("held back since its computer was cut off", one) for one in cuts]
    told = await _whose_words(replica, roster, [one for _, one in chain.from_iterable(found.values())])
    return {
        name: "; ".join(f"{what} {told[one.id]}" for what, one in words) or _otherwise(name in roster.held_back)
        for name, words in found.items()
    }


async def whose_word(replica: Replica, roster: Roster, word: Entry) -> str:
    """By whom a word of a class is, and of when by its own date."""
    return (await _whose_words(replica, roster, [word]))[word.id]


async def switched_by(replica: Replica, item: Item) -> Entry | None:
    """The word by which an item was withdrawn, or is shown again, as it is; None where nobody said any."""
    return (await replica.store.get(item.switches[:1])).get(item.switches[0]) if item.switches else None


def _otherwise(is_held_back: bool) -> str:
    if is_held_back:
        return "held back with who let its computer in"
    return "here as no more than that there is one: sync first"


async def _whose_words(replica: Replica, roster: Roster, words: Collection[Entry]) -> dict[bytes, str]:
    names = await names_of_words(replica, roster, {word.header.grant for word in words})

    def who(entry: Entry) -> str:
        name = names.get(entry.header.grant)
        word = Word(entry.header.author, entry.header.grant, entry.timestamp_ms)
        return said_by(replica, word, b"") if name is None else f"“{name}”"

    return {word.id: f"by {who(word)}, {day_of(word.timestamp_ms)}" for word in words}
