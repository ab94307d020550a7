"""Who, or which class, has by now a name that was another's: whoever orders something by it is asked (docs/adr/0289).

Rules:
- whoever writes a list, or has the server's key, exchanges the names of two pupils, or of two classes, by two words.
  What cannot be undone, and what hands somebody's work out, would go by what is shown by then: so it waits there for
  who orders it to say, by the id, that this one is meant;
- every name counts that was ever said here, those included that are held back by now: dates and order are chosen by
  who says them;
- two names are one where people say the same words (case, accents and order aside), and on no other ground: of brother
  and sister most letters are the same, and Marie is not Marie-Lou (docs/adr/0376). A name is another's that looks like
  it as well (docs/adr/0383); that two look alike makes them one nowhere;
- it is asked about where one is called by now what another of the same list, or school, was ever called, and was once
  called otherwise. More or less of a name will do (Léa, Léa M.), unless one's own name only got longer, by no word of
  the other's. Who was always called so, as two children may be, is not asked about;
- who is named in the same breath is no other: of two names that were exchanged both go;
- who goes by one id is asked about as well where lists call it by two names by now of which neither is the other and
  more: whoever makes ids can make one of a child of each class (docs/adr/0485);
- who is called by a number among those of one name is asked about where that was another's first (docs/adr/0523);
- of two who are to be one, or to go as one, it is asked whether either was ever called otherwise: who was added twice
  was not, and two children of whom one is called like the other by now look just so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from typing import Final

from protocol.errors import BadInput, Code
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import Outgoing
from protocol.replica.office.doubles import doubles_of
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.look_alikes import READINGS, Words, is_more_of, words_of
from protocol.replica.office.mentioned import Mentioned, mentioned
from protocol.replica.office.people import listings_of
from protocol.replica.office.renumbered import renumbered_of
from protocol.replica.office.replaced import check_in_place, told_of_replaced

NOBODY_YET: Final = "nobody has been forgotten yet"
NOBODY_MERGED: Final = "nobody has been made one yet"
MAX_NAMES_HELD: Final = 64
"""So many names of one person are held against others', the first that came here: a list can be full of them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody called `now` what another was called too, and what either was ever called."""

    person: bytes
    now: str
    names: Mentioned
    other: bytes
    others: Mentioned

    def sentence(self) -> str:
        """For whoever asked for it."""
        return (
            f"{self.person.hex()}, {self.names.called(self.now)}, has by now a name that another on the same list had: "
            f"{self.other.hex()}, {self.others.shown()}. Whoever writes a list, or has the server, can exchange two "
            "names: find out which id is whose (`person rename` puts a name right)"
        )


def is_taken(now: str, own: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one who was called `own`, and is called `now`, has by now a name that is one of `others`."""
    own, others = list(own), list(others)
    return any(
        _is_taken(words_of(now, as_), {words_of(name, as_) for name in own}, [words_of(name, as_) for name in others])
        for as_ in READINGS
    )


def several_names(called: Mapping[bytes, Collection[str]]) -> dict[bytes, list[str]]:
    """Who of these people, `called` so by now on one list and another, may be more than one; and the names."""
    return {person: sorted(names) for person, names in called.items() if _are_several(names)}


def _are_several(names: Iterable[str]) -> bool:
    said = {words_of(name) for name in names}
    return any(not is_more_of(one, other) for one, other in combinations(said, 2))


def called_otherwise(now: str, own: Iterable[str]) -> list[str]:
    """What of `own` is another name than `now`."""
    shown = words_of(now)
    return [name for name in own if words_of(name) != shown]


def _is_taken(now: Words, own: Iterable[Words], others: Iterable[Words]) -> bool:
    fitting = [other for other in others if is_more_of(other, now)]
    return any(before - now or other & (now - before) for before in own for other in fitting)


async def taken_names(
    replica: Replica, called: Mapping[bytes, Collection[str]], named: Collection[bytes] = ()
) -> dict[bytes, Taken]:
    """Who of these people, `called` so by now, has a name that was another's, of whom is not `named` besides."""
    everybody, words = await mentioned(replica), cache(words_of)
    listed: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for other, each in everybody.items():
        for space in each.spaces:
            listed[space].append(other)
    found = {}
    for person, names in called.items():
        own = everybody.get(person, Mentioned())
        beside = {one: None for space in own.spaces for one in listed[space] if one != person and one not in named}
        said = {as_: {words(name, as_) for name in own.names[:MAX_NAMES_HELD]} for as_ in READINGS}
        for now, other, as_ in product(sorted(names), beside, READINGS):
            others = (words(name, as_) for name in everybody[other].names)
            if person not in found and _is_taken(words(now, as_), said[as_], others):
                found[person] = Taken(person, now, own, other, everybody[other])
    return found


async def names_now(replica: Replica, persons: Collection[bytes]) -> dict[bytes, frozenset[str]]:
    """What lists call each of these people by now; of whom none has a name, nothing."""
    found = await listings_of(replica, persons)
    return {person: frozenset(each.name for each in lists.values()) for person, lists in found.items()}


async def ask_about_names(
    replica: Replica,
    persons: Collection[bytes],
    named: Collection[bytes],
    outgoing: Outgoing,
    nothing_yet: str,
    *,
    words: ListWords | None = None,
    is_meant: bool,
) -> None:
    """Say who of these people has by now a name, or a number, that was another's, or several; not go on unless meant.

    `named` are those of them that whoever asks has named; `nothing_yet` says what has not been done; `words` whose each
    word of a list is, where an office asks. Raises `BadInput(NOT_YET)`.
    """
    called, replaced = await names_now(replica, persons), await told_of_replaced(replica, persons, outgoing, words)
    await _ask_whether_several(called, outgoing, nothing_yet, is_meant=is_meant)
    taken = await _told_of_taken(replica, called, named, outgoing)
    await _ask_about_numbers(replica, persons, named, outgoing, nothing_yet, is_meant=is_meant)
    _check_meant(taken, nothing_yet, is_meant=is_meant)
    check_in_place(replaced, nothing_yet, is_meant=is_meant)


async def ask_about_the_hidden(
    replica: Replica, person: bytes, outgoing: Outgoing, nothing_yet: str, *, is_meant: bool
) -> None:
    """The same of somebody whom no list shows, by what was said of them last (docs/adr/0525).

    Raises `BadInput(NOT_YET)`.
    """
    names = (await mentioned(replica, [person]))[person]
    called = {person: (names.last,)} if names.last else {}
    taken = await _told_of_taken(replica, called, [person], outgoing)
    _check_meant(taken, nothing_yet, is_meant=is_meant)


async def _told_of_taken(
    replica: Replica, called: Mapping[bytes, Collection[str]], named: Collection[bytes], outgoing: Outgoing
) -> dict[bytes, Taken]:
    taken = await taken_names(replica, called, named)
    for each in taken.values():
        await outgoing.progress(f"warning: {each.sentence()}")
    return taken


def _check_meant(taken: Mapping[bytes, Taken], nothing_yet: str, *, is_meant: bool) -> None:
    if taken and not is_meant:
        whose = "; ".join(f"“{each.now}”, {each.person.hex()}" for each in taken.values())
        raise BadInput(
            Code.NOT_YET,
            f"{nothing_yet}, since this name was another's on the same list: {whose}. --renamed-too says that who has "
            "this id is meant all the same",
        )


async def _ask_about_numbers(
    replica: Replica,
    persons: Collection[bytes],
    named: Collection[bytes],
    outgoing: Outgoing,
    nothing_yet: str,
    *,
    is_meant: bool,
) -> None:
    renumbered = await renumbered_of(replica, persons, named)
    for each, place in renumbered:
        await outgoing.progress(f"warning: {each.sentence(place)}")
    if renumbered and not is_meant:
        whose = "; ".join(f"“{each.now}”, {each.person.hex()}, was “{each.before}”" for each, _ in renumbered)
        raise BadInput(
            Code.NOT_YET,
            f"{nothing_yet}, since this number is not the one by which the list first had them here: {whose}. "
            "--renamed-too says that who has this id is meant all the same",
        )


async def _ask_whether_several(
    called: Mapping[bytes, Collection[str]], outgoing: Outgoing, nothing_yet: str, *, is_meant: bool
) -> None:
    several = [
        f"{person.hex()}, {', '.join(f'“{name}”' for name in names)}" for person, names in several_names(called).items()
    ]
    for each in several:
        await outgoing.progress(
            f"warning: lists have this id for several names: {each}. Who has the server can give one id to a child of "
            "each class: all that is listed under it goes together (`person rename` puts a name right)"
        )
    if several and not is_meant:
        raise BadInput(
            Code.NOT_YET,
            f"{nothing_yet}, since lists have this id for several names: {'; '.join(several)}. --renamed-too "
            "says that all who have this id are meant",
        )


async def once_otherwise(replica: Replica, persons: Collection[bytes]) -> dict[bytes, list[str]]:
    """What each of these people was ever called, other than what some list calls them now; of whom nothing is, none."""
    everybody, now = await mentioned(replica, persons), await names_now(replica, persons)
    found = {}
    for person in persons:
        names = everybody[person].names
        others = {other for shown in now[person] for other in called_otherwise(shown, names[:MAX_NAMES_HELD])}
        found[person] = [name for name in names if name in others]
    return {person: others for person, others in found.items() if others}


async def ask_whether_one(replica: Replica, persons: Collection[bytes], outgoing: Outgoing, *, is_meant: bool) -> None:
    """Say who of these, who are to be one, was once called otherwise. Raises `BadInput(NOT_YET)` before it is meant."""
    once = await once_otherwise(replica, persons)
    everybody = await mentioned(replica, once)
    for person in once:
        await outgoing.progress(
            f"warning: {person.hex()} was called {everybody[person].shown()}. Whoever writes a list, or has the "
            "server, can call one child like another: look whose work it is, before two become one (`person rename` "
            "puts a name right)"
        )
    if once and not is_meant:
        whose = "; ".join(f"{person.hex()}, {everybody[person].shown()}" for person in once)
        raise BadInput(
            Code.NOT_YET,
            f"{NOBODY_MERGED}, since this one was called otherwise: {whose}. --renamed-too says that they are the same "
            "all the same",
        )


async def ask_about_those_along(replica: Replica, named: Collection[bytes], along: Collection[bytes]) -> None:
    """Whom all lists call the same as one of those who are `named` goes `along`, and was ever called so, and no more.

    Raises `BadInput(NOT_YET)` else: whoever has the server's key calls a class the same as a pupil who has left. Nobody
    goes along with one whom no list has by now: who made them up is gone, and whom a head made one with them is a child
    (docs/adr/0531).
    """
    unlike, have = dict[bytes, Mentioned](), await _whom_lists_have(replica, named)
    for person in named:
        same = (await doubles_of(replica, person)).same.difference(named)
        everybody = await mentioned(replica, [person, *same]) if same else {}
        ever = {one: {words_of(name) for name in each.names} for one, each in everybody.items()}
        is_sure = {one for one in same if person in have and one in along and _is_one(ever[one], ever[person])}
        unlike |= {one: everybody[one] for one in same - is_sure}
    if unlike:
        whose = "; ".join(f"{one.hex()}, {each.shown()}" for one, each in sorted(unlike.items()))
        raise BadInput(
            Code.NOT_YET,
            f"{NOBODY_YET}: lists call others the same as who is named, and nobody known here has said so, or either "
            f"was called otherwise, or no list has who is named by now: {whose}. "
            "Name each who is to be forgotten too, with one more --person ID, and say --alone if that is all",
        )


async def _whom_lists_have(replica: Replica, persons: Collection[bytes]) -> set[bytes]:
    """Of whom a list says something by now, be it that they have left."""
    return {person for person, lists in (await listings_of(replica, persons)).items() if lists}


def _is_one(one: Collection[Words], other: Collection[Words]) -> bool:
    """Whether two were ever called one name, both the same."""
    return len(one) == 1 and one == other
