"""Under which other ids somebody is listed, and which of these go along with what an office does to somebody.

Rules (docs/adr/0451):
- whoever may write a list says there of anybody that they are somebody else, and whoever has a copy of the server's key
  writes all: a list alone says nothing of whom a command means;
- what is done to somebody (let go, frozen, lifted, forgotten) is done to the id that was named, and to those that were
  made one with it, on every list that ever had them, by a word that nobody says with a copied key (`list_words`);
- what others' revocations hold back is asked as well: whoever has a copy of a server's key cuts off for a minute who
  has said that these are two (docs/adr/0505);
- it goes from the one whom lists show to the ids that were made one with them, and not the other way;
- whom else a list calls the same is told, by what they were called first here, and stays: it is said again of whom it
  is to reach.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_without import held_surely
from protocol.replica.office.list_words import SURE, ListWords
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.people import Listing, described, listing, mentions

_SAID_BY_ALL: Final = "all lists say that this is the same person, added twice; name that id as well if it is"
_IN_DOUBT: Final = "one list says that this is the same person, another does not; name that id as well if it is"
_IS_CALLED: Final = "a list says that who is named is this person, added twice; name that id as well if it is"


@dataclass(frozen=True, slots=True)
class Doubles:
    """Other ids of a person: those that are `same` on every list that ever named them, and the `doubtful` rest."""

    same: frozenset[bytes] = frozenset()
    doubtful: frozenset[bytes] = frozenset()


async def doubles_of(replica: Replica, person: bytes) -> Doubles:
    """Under which other ids somebody was listed, whoever says so; hidden lists have said nothing."""
    said: set[bytes] = set()
    for space in replica.door.spaces():
        said |= {other for other, one in (await replica.view(space)).roster.aliases.items() if one == person}
    same = set()
    for other, lists in (await mentions(replica, said)).items():
        views = [(await replica.view(space)).roster for space in lists]
        if all(roster.aliases.get(other) == person for roster in views):
            same.add(other)
    return Doubles(frozenset(same), frozenset(said - same))


async def shown_as(replica: Replica, person: bytes) -> set[bytes]:
    """Under which ids lists show somebody, whoever says so: their own, and those of whom they are said to be."""
    return {(await replica.view(space)).roster.who(person) for space in replica.door.spaces()}


async def made_one_with(office: Office, persons: Collection[bytes]) -> list[bytes]:
    """The other ids that go along with these people: somebody whom this office knows has made them one."""
    same = {other for person in persons for other in (await doubles_of(office.replica, person)).same}
    into = await _made_into(office, same.difference(persons))
    found = set[bytes]()
    while more := {other for other, one in into.items() if one in found or one in persons} - found:
        found |= more
    return sorted(found)


async def _made_into(office: Office, others: Collection[bytes]) -> dict[bytes, bytes]:
    """Whom each of these was made one with on all of their lists, in each of the ways to read these (`_same_by`)."""
    if not others:
        return {}
    found, words, listed = dict[bytes, bytes](), await ListWords.of(office), await mentions(office.replica, others)
    held = await held_surely(office, {space for lists in listed.values() for space in lists})
    for other, lists in listed.items():
        made = {one for space, said in lists.items() for one in await _same_by(office, words, space, said, held[space])}
        if len(made) == 1 and (one := made.pop()) is not None:
            found[other] = one
    return found


async def _same_by(
    office: Office, words: ListWords, space: bytes, said: Sequence[Entry], held: Container[bytes]
) -> set[bytes | None]:
    """As whom a list of which these are the words about somebody has them.

    As it shows them; as it would without what others hold back, where `held` is what is held back all the same; and as
    it would then by its sure words alone.
    """
    roster = (await office.replica.view(space)).roster
    counting = [each for each in said if each.id not in held and not roster.is_erased(each)]
    sure = [each for each in counting if await words.whose(each) in SURE]
    read = listing(said, roster.hides), *(_of(said, among) for among in (counting, sure))
    return {None if each is None else each.same_as for each in read}


def _of(said: Sequence[Entry], counting: Sequence[Entry]) -> Listing | None:
    names = {each.id for each in counting}
    return listing(said, lambda each: each.id not in names)


async def others_called(office: Office, persons: Sequence[bytes], along: Collection[bytes] = ()) -> dict[bytes, str]:
    """Whom lists call the same as one of these people, and who does not go `along`: a line for each."""
    found: dict[bytes, str] = {}
    for person in persons:
        doubles = await doubles_of(office.replica, person)
        shown = await shown_as(office.replica, person)
        found |= dict.fromkeys(shown, _IS_CALLED) | dict.fromkeys(doubles.doubtful, _IN_DOUBT)
        found |= dict.fromkeys(doubles.same, _SAID_BY_ALL)
    others = sorted(found.keys() - {*persons, *along})
    names = await mentioned(office.replica, others) if others else {}
    return {other: f"not {names[other].shown()}, {other.hex()}: {found[other]}" for other in others}


async def described_along(office: Office, along: Collection[bytes]) -> list[str]:
    """The other ids of somebody to which the same was done."""
    return [f"{await described(office, other)}: the same person, added twice" for other in along]
