"""What a human is shown before she says that a former laptop of hers was in her hands (docs/adr/0258)."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import Vouch, device_words, drawn_by, phrase_signer, prove
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from sync_agent.keys.former_returns import ASKED
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.headers_alone import show_headers_alone
from tests.harness.lost_laptop import another_laptop, cut_off, let_in_again, report_on_a_heads
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device

ROW = "a server's operator names a device of their own as a teacher's"


async def _stolen_and_let_in_for_a_breath(
    here: Here, says: Callable[[Here, Device, bytes], Awaitable[None]], *, is_told: bool = True
) -> None:
    """Her second laptop is stolen and reported; the server lets it in, it says something, and is out."""
    lost = await another_laptop(here, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(lost, head, here.teacher, here.machine)
    await report_on_a_heads(here, head, lost)
    await here.sync(head, here.teacher)
    person = here.room.teacher_person
    grant = await let_in_again(here, lost, Role.TEACHER, person)
    await here.name_the_spy(person)
    await here.sync(lost)
    await says(here, lost, grant)
    await here.sync(lost)
    await cut_off(here, lost)
    if is_told:
        await here.sync(here.teacher, here.machine, here.teacher)


async def _calls_the_spy_hers(here: Here, lost: Device, grant: bytes) -> None:
    person, word = here.room.teacher_person, Vouch().encode()
    await lost.agent.write(Draft(here.room.space, Kind.VOUCH, grant, word, subject=person, target=here.grant))


async def _draws_a_phrase_that_proves_the_spy(here: Here, lost: Device, grant: bytes) -> None:
    person, seed = here.room.teacher_person, bytes(range(32))
    signer, key = phrase_signer(seed), AgreementKey(seed)
    drawn = drawn_by(signer, person, own_device(lost.agent))
    phrase = PhraseKey(key.public, bytes(16), Argon2Cost(8, 1, 1), signer.public, drawn)
    await lost.agent.write(Draft(here.room.space, Kind.PHRASE, grant, phrase.encode(), subject=person))
    await here.sync(lost)
    proof = prove(signer, person, own_keys(here.spy), here.grant)
    await here.say(Kind.VOUCH, proof.encode(), person, target=here.grant)


async def _section(here: Here) -> str:
    """What she is asked on her page."""
    async with portal(here.teacher.agent) as surfer:
        page = html.unescape(await surfer.page("/readers"))
    return page.partition('id="h-former"')[2].partition("</section>")[0]


def _nobody(_agent: Agent, _entry: Entry) -> VouchedDevice | None:
    return None


@attack(ROW, off={"sync_agent.keys.former_returns._confirmed_by": _nobody})
async def test_whom_a_stolen_laptop_called_hers_is_shown_before_she_says_that_it_was_she(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await _stolen_and_let_in_for_a_breath(here, _calls_the_spy_hers)
        words, page = device_words(own_keys(here.spy)), await _section(here)
        assert "(nommé par le serveur)" in page
        assert words in page
        roster = (await here.machine.agent.replica.view(here.room.space)).roster
        assert own_keys(here.spy) not in roster.speaking[here.room.teacher_person], "and nothing is said by itself"


def _none(*_given: object) -> set[VouchedDevice]:
    return set()


@attack(ROW, off={"sync_agent.keys.former_returns._proven": _none})
async def test_nor_is_a_device_hidden_that_becomes_hers_by_a_phrase_which_the_stolen_one_drew(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await _stolen_and_let_in_for_a_breath(here, _draws_a_phrase_that_proves_the_spy)
        page, spy = await _section(here), own_keys(here.spy)
        assert device_words(spy) in page
        assert "qui la connaît peut encore ajouter un ordinateur à votre nom" in page
        asked = [row for row in await Desk(here.teacher.agent).ask("key-readers") if row["state"] == ASKED]
        await Desk(here.teacher.agent).ask("key-confirm", reader=asked[0]["id"], shown_as="own")
        await here.sync(here.teacher, here.machine)
        roster = (await here.machine.agent.replica.view(here.room.space)).roster
        assert spy in roster.speaking[here.room.teacher_person], "which is what a yes does"


@attack(ROW, off={"sync_agent.keys.former_returns._is_unread": lambda _entry: False})
async def test_nor_is_a_phrase_hidden_of_which_her_laptop_is_shown_the_header_alone(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space, person = here.room.territory, here.room.space, here.room.teacher_person
        await _stolen_and_let_in_for_a_breath(here, _draws_a_phrase_that_proves_the_spy, is_told=False)
        said = [one.entry for one in await territory.replica.store.of_kinds(space, [Kind.PHRASE])]
        drawn = [entry.id for entry in said if entry.header.author != here.teacher.agent.device]
        await show_headers_alone(territory, space, person, *drawn)
        await here.sync(here.teacher)
        asked = [row for row in await Desk(here.teacher.agent).ask("key-readers") if row["state"] == ASKED]
        assert [row["return"]["phrases"] for row in asked] == [1]
        assert "qui la connaît peut encore ajouter un ordinateur à votre nom" in await _section(here)


async def _is_not_noted(_agent: Agent, _asked: bytes) -> None:
    pass


@attack(ROW, off={"sync_agent.portal.teacher.readers.decline_former_return": _is_not_noted})
async def test_who_says_no_is_asked_on_no_first_page_any_more_and_told_whom_to_tell(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await _stolen_and_let_in_for_a_breath(here, _calls_the_spy_hers)
        agent, question = here.teacher.agent, "Était-ce bien vous ?"
        said = await agent.replica.position(here.room.space)
        async with portal(agent) as surfer:
            assert question in html.unescape(await surfer.page("/"))
            (row,) = [row for row in await Desk(agent).ask("key-readers") if row["state"] == ASKED]
            answered = await surfer.send("/readers", "/readers/not-me", {"reader": row["id"]})
            here.room.territory.clock.advance(150 * DAY_MS)
            await here.sync(here.teacher, here.machine)
            home, page = [html.unescape(await surfer.page(place)) for place in ("/", answered.headers["Location"])]
        assert question not in home, "who wants a clean page would press the only button that there is"
        assert "prévenez la direction de l'école" in page
        assert 'action="/readers/was-me"' in page, "it may have been hers all the same"
        assert await agent.replica.position(here.room.space) == said, "nothing is said to anybody"


def _nothing_said(_pair: VouchedDevice, grants: Iterable[bytes], *_said: object) -> bytes:
    return blake3(b"".join(grants)).digest()


@attack(ROW, off={"sync_agent.keys.former_returns._id": _nothing_said})
async def test_a_word_that_is_withheld_until_she_has_looked_is_shown_before_her_yes_is_taken(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await _stolen_and_let_in_for_a_breath(here, _calls_the_spy_hers, is_told=False)
        agent, desk = here.teacher.agent, Desk(here.teacher.agent)
        said = [stored.entry for stored in await here.room.territory.replica.store.scan(here.room.space)]
        withheld = [entry for entry in said if entry.header.target == here.grant and entry.header.kind == Kind.VOUCH]
        told = [entry for entry in said if entry not in withheld]
        await agent.replica.admit(told, source=b"the server", now_ms=agent.now_ms())
        (looked_at,) = [row for row in await desk.ask("key-readers") if row["state"] == ASKED]
        assert not looked_at["return"]["called_hers"]
        await agent.replica.admit(withheld, source=b"the server", now_ms=agent.now_ms())
        with pytest.raises(BadInput):
            await desk.ask("key-confirm", reader=looked_at["id"], shown_as="own")
        assert device_words(own_keys(here.spy)) in await _section(here)


def _no_further(_roster: Roster, _person: bytes, called: Collection[VouchedDevice]) -> set[VouchedDevice]:
    return set(called)


@attack(ROW, off={"sync_agent.keys.former_returns._led_to": _no_further})
async def test_nor_is_one_that_the_device_which_it_called_hers_calls_hers_in_turn(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        person = here.room.teacher_person
        await _stolen_and_let_in_for_a_breath(here, _calls_the_spy_hers)
        second = new_device(Random(667).randbytes)
        (granted,) = await here.room.territory.let_in(second, Role.TEACHER, here.room.space, person=person)
        await here.say(Kind.VOUCH, Vouch().encode(), person, target=granted.id)
        await here.sync(here.teacher)
        assert device_words(own_keys(second)) in await _section(here)
