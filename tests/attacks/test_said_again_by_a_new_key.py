"""A copied key writes a list first; the server has new keys, and says the same; then `--since` ends the old words.

Whatever a command says once the keys are replaced stays so, whoever had said it before (docs/attacks.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from protocol.model.structure import PersonRecord
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.people import Listing
from protocol.rights.roster import Person
from protocol.roles import PersonRole
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving
from tests.harness.attack import attack
from tests.harness.copied_keys import thief_lists
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a list is written beforehand, so that a server's new key says nothing of it"
HOUR_MS = 3_600_000


async def _whichever_key(_office: Office, names: Collection[bytes]) -> set[bytes]:
    """As if what an earlier key of the server's has said were as good as the present one's word."""
    return set(names)


async def _whoever_said_it(_office: Office, listed: Collection[Listing]) -> list[Listing]:
    return list(listed)


LISTS: dict[str, object] = {"protocol.replica.office.further_words.said_by_this_key": _whichever_key}
FROZEN: dict[str, object] = {"protocol.replica.office.frozen.said_by_this_key": _whichever_key}


class Replaced:
    """A class with Léa, whose server's key was stolen; it gets new keys, and later the kit ends the old ones' words."""

    def __init__(self, thieving: Thieving) -> None:
        self.thieving, self.year, self.here = thieving, thieving.year, thieving.here
        self.lea = thieving.year.pupil

    async def thief_lists(self, name: str, space: bytes | None = None, *, frozen: bool = False) -> None:
        await thief_lists(self.here, self.lea, PersonRecord(name, PersonRole.PUPIL, frozen=frozen), space)

    async def gets_new_keys(self) -> None:
        await self._an_hour_goes_by()
        await self.thieving.new_keys()

    async def ends_what_the_thief_said(self) -> None:
        await self._an_hour_goes_by()
        await self.thieving.new_keys(since=True)

    async def _an_hour_goes_by(self) -> None:
        self.thieving.clock.advance(HOUR_MS)
        await note_arrivals(self.thieving.office.server.store, self.thieving.clock())

    async def on_the_list(self, space: bytes | None = None) -> Person | None:
        roster = (await self.thieving.office.server.replica.view(space or self.here.space)).roster
        return roster.persons.get(bytes.fromhex(self.lea))


@pytest.fixture
async def replaced(tmp_path: Path) -> AsyncIterator[Replaced]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Replaced(Thieving(Year(here, *at_work, tmp_path)))


@attack(ROW, off=LISTS)
async def test_whom_a_copied_key_listed_first_a_server_with_new_keys_lists_itself(replaced: Replaced) -> None:
    made = await replaced.year.do("space add", name="CM2", school="0180001D", year="2027-2028")
    new = bytes.fromhex(made["space"])
    await replaced.thieving.is_stolen()
    await replaced.thief_lists("Léa", new)
    await replaced.gets_new_keys()
    await replaced.year.do("grant", person=replaced.lea, space=[made["space"]])
    await replaced.ends_what_the_thief_said()
    assert await replaced.on_the_list(new)


@attack(ROW, off=LISTS | {"protocol.replica.office.further_words._surely_said": _whoever_said_it})
async def test_a_name_that_a_copied_key_gave_first_a_server_with_new_keys_gives_itself(replaced: Replaced) -> None:
    await replaced.thieving.is_stolen()
    await replaced.thief_lists("Léa B.")
    await replaced.gets_new_keys()
    await replaced.year.do("person rename", person=replaced.lea, name="Léa B.", renamed_too=True)
    await replaced.ends_what_the_thief_said()
    listed = await replaced.on_the_list()
    assert listed is not None
    assert listed.name == "Léa B."


@attack(ROW, off=LISTS)
async def test_who_is_taken_off_a_list_again_by_a_server_with_new_keys_stays_off_it(replaced: Replaced) -> None:
    leave = {"person": replaced.lea, "space": [replaced.here.space.hex()]}
    await replaced.thieving.is_stolen()
    await replaced.year.do("ungrant", **leave)  # it is its own word, and of after the theft
    await replaced.gets_new_keys()
    await replaced.year.do("ungrant", **leave)
    await replaced.ends_what_the_thief_said()
    assert await replaced.on_the_list() is None


@attack(ROW, off=FROZEN)
async def test_whom_a_copied_key_froze_first_a_server_with_new_keys_freezes_itself(replaced: Replaced) -> None:
    await replaced.thieving.is_stolen()
    await replaced.thief_lists("Léa", frozen=True)
    await replaced.gets_new_keys()
    assert (await replaced.year.do("person freeze", person=replaced.lea))["lists"] == 1
    await replaced.ends_what_the_thief_said()
    assert await replaced.on_the_list() is None


@attack(ROW, off=FROZEN)
async def test_whom_a_copied_key_showed_again_first_a_server_with_new_keys_shows_itself(replaced: Replaced) -> None:
    await replaced.year.do("person freeze", person=replaced.lea)
    replaced.thieving.clock.advance(HOUR_MS)
    await replaced.thieving.is_stolen()
    await replaced.thief_lists("Léa")
    await replaced.gets_new_keys()
    assert (await replaced.year.do("person unfreeze", person=replaced.lea))["lists"] == 1
    await replaced.ends_what_the_thief_said()
    assert await replaced.on_the_list()


async def test_what_a_server_has_said_with_its_present_key_it_says_once(replaced: Replaced) -> None:
    said = {"person": replaced.lea, "space": [replaced.here.space.hex()]}
    await replaced.gets_new_keys()
    await replaced.year.do("grant", **said)
    store = replaced.thieving.office.server.store
    latest = await store.latest()
    await replaced.year.do("grant", **said)
    await replaced.year.do("person rename", person=replaced.lea, name="Léa")
    assert await store.latest() == latest
