"""Whom a list had by the name of somebody, and shows so no more: the one may have been put in the other's place.

Rules (docs/adr/0530):
- whoever writes a list, or has the server's key, takes a child off it by one word, or hides, freezes or renames them,
  and lists another id by their name: one made up, or a namesake's of another class. No list shows two, and neither was
  ever called otherwise: what is ordered by the name reaches the other one;
- so it is asked about each id that a list which ever had the one ever called the same, or that and something more, in
  the same role, and which it does not show so by now. What other lists show says nothing: the key writes these as well;
- but for whom that list has let go, or calls something else, by a word that nobody says with a copied key, and that
  leads to all else that it ever said of them (`leaving`);
- whom all lists call the same person is told of, and asked about, as such (docs/adr/0160, 0451), where an order does;
- who is named in the same breath is no other; and what the kit has closed, or forgotten, is nobody's place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.console.operation import Outgoing
from protocol.replica.office.doubles import doubles_of
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.leaving import Parting, last_word, said_by
from protocol.replica.office.list_words import ListWords
from protocol.replica.office.look_alikes import READINGS, is_more_of, words_of
from protocol.replica.office.not_shown import why_hidden
from protocol.replica.office.people import listings_of, mentions
from protocol.replica.office.who_that_is import who_that_is
from protocol.roles import PersonRole

MAX_TOLD: Final = 10
"""Of more it is told how many they are, those that came here first before: the key invents any number."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """Somebody whom a list called `name` as it calls `person` by now, and how it has them (`as_`) instead."""

    person: bytes
    other: bytes
    name: str
    as_: Parting

    @property
    def space(self) -> bytes:
        """Whose list that is."""
        return self.as_.space


async def replaced_of(
    replica: Replica,
    persons: Collection[bytes],
    words: ListWords | None,
    named: Collection[bytes] = (),
    *,
    same_too: bool = False,
) -> list[Replaced]:
    """In whose place one of these people may have been put, but for who is `named`; `same_too`, if called the same.

    `words` are those of an office; without them the root's alone are sure. In the order in which they came here.
    """
    called, closed, found = await listings_of(replica, persons), await closed_by_kit(replica), list[Replaced]()
    for person, lists in (await mentions(replica, persons)).items():
        now = {(each.name, each.role) for each in called[person].values()}
        there = [space for space in lists if not any(each in closed for each in replica.door.lineage(space))]
        gone = list[Replaced]()
        for space in there if now else ():
            lost = await _gone_from(replica, space, now, words, {person, *named, *closed})
            gone += [Replaced(person, other, name, as_) for other, (name, as_) in lost.items()]
        same = (await doubles_of(replica, person)).same if gone and not same_too else ()
        found += [each for each in gone if each.other not in same]
    return found


async def _gone_from(
    replica: Replica,
    space: bytes,
    now: Collection[tuple[str, PersonRole]],
    words: ListWords | None,
    passed: Collection[bytes],
) -> dict[bytes, tuple[str, Parting]]:
    """Whom a list ever called one of these, and does not by now, by no sure word: by which name, and what it says."""
    roster, said = (await replica.view(space)).roster, defaultdict[bytes, list[Entry]](list)
    for one in await replica.store.of_kinds(space, [Kind.PERSON]):
        said[one.entry.header.subject or b""].append(one.entry)
    found = {}
    for other, entries in said.items():
        shown = roster.persons.get(other)
        if other in passed or (shown is not None and _is_called_one(shown.name, shown.role, now)):
            continue
        records = (parsed(entry, PersonRecord.parse) for entry in entries)
        names = [each.name for each in records if each is not None and _is_called_one(each.name, each.role, now)]
        as_ = await last_word(replica, space, entries, words) if names else None
        if as_ is not None and not as_.is_sure:
            found[other] = names[0], as_
    return found


def _is_called_one(name: str, role: PersonRole, now: Iterable[tuple[str, PersonRole]]) -> bool:
    return any(
        role is as_role and is_more_of(words_of(name, as_), words_of(other, as_))
        for other, as_role in now
        for as_ in READINGS
    )


async def told_of_replaced(
    replica: Replica,
    persons: Collection[bytes],
    outgoing: Outgoing,
    words: ListWords | None,
    *,
    same_too: bool = False,
) -> list[Replaced]:
    """Say in whose place one of these people may have been put, and what is to be done then; who that is."""
    found = await replaced_of(replica, persons, words, persons, same_too=same_too)
    for each in found[:MAX_TOLD]:
        await outgoing.progress(f"warning: {await sentence_of(replica, each, words)}")
    if len(found) > MAX_TOLD:
        await outgoing.progress(f"warning: and {len(found) - MAX_TOLD} more, who came here later")
    if found:
        await outgoing.progress(_TO_DO if words is not None else _TO_TELL)
    return found


def check_in_place(found: Sequence[Replaced], nothing_yet: str, *, is_meant: bool) -> None:
    """Raise `BadInput(NOT_YET)` for who may have been put in these people's place, unless they are meant."""
    if found and not is_meant:
        whose = "; ".join(f"“{each.name}”, {each.other.hex()}" for each in found[:MAX_TOLD])
        raise BadInput(
            Code.NOT_YET,
            f"{nothing_yet}, since a list had another by that name, and has them so no more: {whose}. Find out first "
            "which of them is meant; --renamed-too says that it is who has this id, and nobody else",
        )


_WHY: Final = (
    "whoever writes a list, or has the server's key, puts one person in another's place by two words. Ask the school, "
    "and look whose work it is, here and of before: "
)
_TO_DO: Final = (
    f"{_WHY}where both are one person, say this of both ids; where the other one is there, `grant --person ID --space "
    "ID` lists them again, and where they have left, `ungrant --person ID --space ID` says so in a word of yours, and "
    "nothing is asked any more"
)
_TO_TELL: Final = (
    f"{_WHY}where both are one person, say this of both ids; and who keeps the list (« Mon école », or the server) "
    "says who is on it"
)


async def sentence_of(replica: Replica, each: Replaced, words: ListWords | None) -> str:
    """Who that other one is, and how the list has them by now, since when by whose word."""
    made = (await made_spaces(replica)).get(each.space)
    place = each.space.hex() if made is None else made.name
    how, who = await _how(replica, each.as_, words), await who_that_is(replica, each.other)
    return f"the list of “{place}” called another “{each.name}” as well, and {how}: {who}"


async def _how(replica: Replica, as_: Parting, words: ListWords | None) -> str:
    """How a list has somebody by now, since when by whose word."""
    roster = (await replica.view(as_.space)).roster
    if as_.has_them is not None and roster.hides(as_.has_them):
        return f"has them hidden ({(await why_hidden(replica, roster, [as_.has_them]))[as_.has_them.id]})"
    by = await said_by(replica, roster, as_, is_server=words is not None and words.are_a_servers)
    record = PersonRecord.parse(as_.said.payload or b"")
    if record.left:
        return f"has them no more, {by}"
    return f"shows them nowhere, as frozen, {by}" if record.freezes else f"has them as “{record.name}” by now, {by}"
