"""A copied key lets somebody in as a teacher, of whose reading key nothing can be read (docs/adr/0554, 0576).

Destroyed before anybody got it; no key at all; or never said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Entry, Kind, compose, parsed
from protocol.model.structure import Erasure, PersonKey, Revocation, Ruling
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import YOURS, Reader, list_readers
from tests.harness.attack import attack
from tests.harness.headers_alone import show_headers_alone
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import heading_above, spied_class
from tests.harness.territory import new_device

ROW = "a teacher of whose reading key nothing can be read"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _is_readable(entry: Entry) -> bool:
    return entry.header.kind == Kind.PERSON_KEY and parsed(entry, PersonKey.parse) is not None


async def _let_in(here: Here, person: bytes) -> None:
    (grant,) = await here.room.territory.let_in(here.spy, Role.TEACHER, here.room.space, person=person)
    here.grant = grant.id


async def _mr_x(here: Here) -> bytes:
    return await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)


async def _says_a_key_that_is_destroyed(here: Here, person: bytes) -> None:
    """Somebody of this id is erased for a moment, in which a device says one as theirs: the header alone is taken."""
    room, territory = here.room, here.room.territory
    await _let_in(here, person)
    gone = await territory.say(room.space, Kind.ERASE, Erasure(person).encode())
    here.said += 1
    key = compose(
        author=here.spy.signing,
        space=room.space,
        kind=Kind.PERSON_KEY,
        grant=here.grant,
        at=(territory.clock() << 16) + here.said,
        payload=PersonKey(here.spy.agreement.public).encode(),
        salt=bytes(16),
        subject=person,
    )
    bare = replace(key, salt=None, payload=None)
    admission = await territory.replica.admit([bare], source=b"the operator", now_ms=territory.clock())
    assert admission.admitted
    await territory.say(room.space, Kind.RULING, Ruling((), (gone.id,)).encode())
    for _ in range(2):
        await here.sync()


async def _listed(here: Here) -> list[Reader]:
    return [each for each in await list_readers(here.teacher.agent) if each.device == here.spy.signing.public]


async def _is_told_on_her_first_page(here: Here, words: str) -> bool:
    async with portal(here.teacher.agent) as surfer:
        return words in await surfer.page("/")


@attack(ROW, off={"sync_agent.keys.confirming.says_a_key": _is_readable})
async def test_a_computer_in_her_name_whose_key_is_destroyed_is_asked_about(here: Here) -> None:
    await _says_a_key_that_is_destroyed(here, here.room.teacher_person)
    assert [each.state for each in await _listed(here)] == [YOURS]
    assert await _is_told_on_her_first_page(here, "Est-ce bien votre nouvel ordinateur")


def _unless_it_holds_none(entry: Entry) -> bool:
    return entry.header.kind == Kind.PERSON_KEY and (entry.payload is None or _is_readable(entry))


@attack(ROW, off={"sync_agent.keys.confirming.says_a_key": _unless_it_holds_none})
async def test_so_is_one_whose_word_holds_no_key_on_her_laptop(here: Here) -> None:
    await _let_in(here, here.room.teacher_person)
    await here.say(Kind.PERSON_KEY, b"\xa0", here.room.teacher_person)
    await here.sync()
    assert [each.state for each in await _listed(here)] == [YOURS]
    assert await _is_told_on_her_first_page(here, "Est-ce bien votre nouvel ordinateur")


async def test_so_is_a_colleague_told_of_who_speaks(here: Here) -> None:
    await _says_a_key_that_is_destroyed(here, await _mr_x(here))
    assert "M. X" in (await heading_above(here, "Travail nul.") or "")
    assert [each.is_news for each in await _listed(here)] == [True]
    assert await _is_told_on_her_first_page(here, "M. X")


@attack(ROW, off={"sync_agent.keys.confirming._is_listed": lambda key, **_: key is not None})
async def test_so_is_one_that_has_said_none_and_speaks_by_the_word_of_one_that_has_gone(here: Here) -> None:
    room, territory, person = here.room, here.room.territory, await _mr_x(here)
    await here.name_the_spy(person, back_ms=0)
    first, here.spy = here.spy, new_device(Random(667).randbytes)
    (given,) = await territory.let_in(here.spy, Role.TEACHER, room.space, person=person)
    second, here.spy = here.spy, first
    await here.say(Kind.VOUCH, Vouch().encode(), person, target=given.id)
    said = tuple(await territory.replica.tips(room.space, first.signing.public))
    await territory.say(room.space, Kind.REVOKE, Revocation(first.signing.public, said).encode())
    here.spy, here.grant = second, given.id
    assert "M. X" in (await heading_above(here, "Travail nul.") or "")
    assert [each.is_news for each in await _listed(here)] == [True]
    assert await _is_told_on_her_first_page(here, "M. X")


@attack(
    ROW,
    off={
        "protocol.rights.voices.says_a_key": _unless_it_holds_none,
        "sync_agent.keys.confirming.says_a_key": _unless_it_holds_none,
    },
)
async def test_so_is_one_whose_word_holds_no_key_and_is_a_header_alone_on_the_pc(here: Here) -> None:
    territory, person = here.room.territory, await _mr_x(here)
    await _let_in(here, person)
    word = await here.say(Kind.PERSON_KEY, b"\xa0", person)
    await here.sync(here.teacher)
    await show_headers_alone(territory, here.room.space, person, word.id)
    for _ in range(2):
        await here.sync()
    assert "M. X" in (await heading_above(here, "Travail nul.") or "")
    assert await _is_told_on_her_first_page(here, "M. X")


def _by_what_it_holds(_entry: Entry, vouch: Vouch | None, *_: object) -> bool:
    return vouch is not None and vouch.proof is None


@attack(ROW, off={"protocol.rights.voices._is_its_authors": _by_what_it_holds})
async def test_a_confirmation_is_its_authors_word_whatever_it_holds(here: Here) -> None:
    territory, person = here.room.territory, await _mr_x(here)
    await here.name_the_spy(person)
    confirmed = set[bytes]()
    for number, payload in enumerate((b"\x80", b"\xa0", Vouch(bytes(64), bytes(32)).encode())):
        device = new_device(Random(number).randbytes)
        (given,) = await territory.let_in(device, Role.TEACHER, here.room.space, person=person)
        await here.say(Kind.VOUCH, payload, person, target=given.id)
        confirmed.add(device.signing.public)
    await here.sync()
    for hearer in (here.machine, here.teacher):
        speaking = (await hearer.agent.replica.view(here.room.space)).roster.speaking[person]
        assert confirmed <= {key for key, _ in speaking}
