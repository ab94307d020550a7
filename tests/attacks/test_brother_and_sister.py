"""Whoever has the server's key says two words of children whose names are most of the same letters (ADR 0376)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.office import erasures
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.list_words import Whose
from protocol.replica.office.people import spoken
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.server_in_process import Office, office
from tests.harness.spied_class import spied_class

SAME = "others are said to be the same as who is to be forgotten"
MERGED = "one pupil is called like another, and both are made one"
EXCHANGED = "two pupils' names are exchanged, and one of them is to be forgotten"

SIBLINGS = pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Adam Rousseau", "Jade Rousseau"),
        ("GARCIA Lucas", "GARCIA Louise"),
        ("Léa Moreau", "Léo Moreau"),
        ("Marie", "Marie-Lou"),
    ],
)


def _much_alike(one: str, other: str) -> bool:
    """As if a name were another one, spelt anew, of which most letters are the same, and Marie were Marie-Lou."""
    said = spoken(one), spoken(other)
    return SequenceMatcher(None, *said).ratio() >= 0.75 or said[0] in said[1] or said[1] in said[0]


def _much_alike_ever(one: set[frozenset[str]], other: set[frozenset[str]]) -> bool:
    names = [" ".join(sorted(words)) for words in one | other]
    return all(_much_alike(name, names[0]) for name in names)


def _called_quite_otherwise(now: str, own: list[str]) -> list[str]:
    return [name for name in own if not _much_alike(name, now)]


async def _says(here: Office, person: str, record: PersonRecord) -> None:
    """One word in the server's name, by whoever has a copy of its key."""
    server, space = here.server, bytes.fromhex(here.space)
    listed = (await server.replica.view(space)).roster.persons[bytes.fromhex(person)].entry
    here.clock.advance(60_000)
    said = Draft(space, Kind.PERSON, None, record.encode(), subject=bytes.fromhex(person), parents=(listed,))
    await server.say([said])


async def _forgotten(here: Office) -> set[str]:
    return {covers.hex() for _, covers in await erasures.ever_said(here.server.replica)}


@SIBLINGS
@attack(
    SAME,
    off={
        "protocol.replica.office.taken_names._is_one": _much_alike_ever,
        "protocol.replica.office.doubles.SURE": frozenset(Whose),
    },
)
async def test_a_server_that_forgets_a_brother_does_not_forget_his_sister_along(
    tmp_path: Path, one: str, other: str
) -> None:
    async with office(tmp_path) as here:
        adam, jade = await here.add_person(one, "pupil"), await here.add_person(other, "pupil")
        await _says(here, jade, PersonRecord(other, PersonRole.PUPIL, left=True, same_as=bytes.fromhex(adam)))
        with suppress(BadInput):
            await here.do("erase", person=[adam])
        assert jade not in await _forgotten(here)
        await here.do("erase", person=[adam], alone=True)
        assert await _forgotten(here) == {adam}


@SIBLINGS
@attack(MERGED, off={"protocol.replica.office.taken_names.called_otherwise": _called_quite_otherwise})
async def test_a_sister_who_is_called_like_her_brother_is_not_made_one_with_him_unasked(
    tmp_path: Path, one: str, other: str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space = here.room.territory, here.room.space
        adam, jade = [await territory.person(name, PersonRole.PUPIL, space) for name in (one, other)]
        head, _ = await confirmed_head(here)
        await head.session.sync()
        listed = (await territory.replica.view(space)).roster.persons[jade].entry
        called = PersonRecord(one, PersonRole.PUPIL).encode()
        await territory.say(space, Kind.PERSON, called, subject=jade, parents=(listed,))
        await head.session.sync()
        desk = Desk(head.agent)
        rows = await desk.ask("person doubles", space=space.hex())
        assert {row["person"]: row["once"] for row in rows} == {adam.hex(): "", jade.hex(): other}
        with pytest.raises(BadInput, match="nobody has been made one yet"):
            await desk.ask("person merge", person=jade.hex(), into=adam.hex())
        assert {adam, jade} <= (await head.agent.replica.view(space)).roster.persons.keys()


def _by_the_whole_name(now: frozenset[str], own: Iterable[frozenset[str]], others: Iterable[frozenset[str]]) -> bool:
    """As if who has a letter more than another had another name, and who was called much alike had the same."""
    unlike = [name for name in own if not _much_alike_ever({name}, {now})]
    return any(other == now for other in others) and bool(unlike)


async def _nobody_else(*_: object, **__: object) -> list[object]:
    """As if a list that calls somebody else so by now had never called them this."""
    return []


@SIBLINGS
@attack(
    EXCHANGED,
    off={
        "protocol.replica.office.taken_names._is_taken": _by_the_whole_name,
        "protocol.replica.office.replaced.replaced_of": _nobody_else,
    },
)
async def test_nor_is_one_forgotten_by_the_name_of_the_other_with_a_letter_more(
    tmp_path: Path, one: str, other: str
) -> None:
    async with office(tmp_path) as here:
        adam, jade = await here.add_person(one, "pupil"), await here.add_person(other, "pupil")
        await _says(here, jade, PersonRecord(f"{one} D.", PersonRole.PUPIL))
        await _says(here, adam, PersonRecord(f"{other} D.", PersonRole.PUPIL))
        with pytest.raises(BadInput, match="nobody has been forgotten yet"):
            await here.do("erase", person=[jade])
        assert not await _forgotten(here)
        await here.do("erase", person=[jade], renamed_too=True)
        assert await _forgotten(here) == {jade}


@pytest.mark.parametrize("again", ["Léa Martin", "MARTIN Lea"])
async def test_who_was_added_twice_as_people_say_one_name_goes_as_one_and_beside_others(
    tmp_path: Path, again: str
) -> None:
    async with office(tmp_path) as here:
        lea, twice, tom = [await here.add_person(name, "pupil") for name in ("Léa Martin", again, "Tom Roy")]
        await merge_persons(here.server, bytes.fromhex(twice), bytes.fromhex(lea))
        await here.do("erase", person=[lea, tom])
        assert await _forgotten(here) == {lea, twice, tom}
