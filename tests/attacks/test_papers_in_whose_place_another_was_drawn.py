"""Who has the paper with a phrase in whose place the teacher drew another (docs/adr/0225)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import MAX_READING_KEYS_AT_ONCE, READING_KEY_PAUSE_MS
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.roster import Roster
from protocol.rights.vouching import drawn_by
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, PhraseKey, drawn_of, open_reading_key, phrase_key
from sync_agent.app import Agent
from sync_agent.keys.phrases import new_phrase
from sync_agent.keys.places import Place, _phrases
from sync_agent.keys.reading_key import _papers_open
from sync_agent.sync.after_news import tend_after_news
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import told_all_but
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    keys_said,
    let_in_again,
    opens_what_is_handed_in_now,
    report_by_head,
    report_by_kit,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device

ROW = "somebody finds the paper with a teacher's phrase"
CHEAP = Argon2Cost(8, 1, 1)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def phrases_said(here: Here) -> dict[bytes, tuple[bytes, PhraseKey]]:
    """Those of the class, each with its entry, by the public halves of their keys."""
    said = await here.room.territory.replica.store.scan_kinds([Kind.PHRASE])
    return {phrase.agreement: (each.id, phrase) for each in said if (phrase := parsed(each, PhraseKey.parse))}


async def drawn(here: Here, laptop: Device, *hearers: Device) -> AgreementKey:
    """A phrase is drawn on a laptop: what its eight words give, with what any machine of the class holds."""
    words = await new_phrase(laptop.agent, CHEAP)
    here.room.territory.clock.advance(1000)
    await here.sync(laptop, *hearers, here.machine)
    keys = [
        phrase_key(drawn_of(words), here.room.teacher_person, phrase.salt, phrase.cost)
        for _, phrase in (await phrases_said(here)).values()
    ]
    (found,) = [key for key in keys if key.public in await phrases_said(here)]
    return found


async def opens(here: Here, paper: AgreementKey, work: bytes) -> bool:
    """Whether whoever has the paper, and a machine of the class, opens a hand-in."""
    replica, keys = here.machine.agent.replica, dict[bytes, AgreementKey]()
    for entry in await replica.store.scan_kinds([Kind.KEY_WRAP]):
        record = KeyWraps.parse(entry.payload or b"")
        for to, sealed in record.wraps:
            if to == paper.public:
                space, person = entry.header.space, entry.header.subject or b""
                keys[record.agreement] = open_reading_key(sealed, space, person, record.agreement, paper)
    return content_key_of((await replica.view(here.room.space)).coursework.hand_ins[work], keys) is not None


async def handed_in(here: Here, *hearers: Device) -> bytes:
    """What a pupil hands in from now on: the teacher's laptops read it."""
    work = await here.room.hand_in(here.machine, here.item, WORK)
    await here.sync(here.machine, *hearers)
    for laptop in hearers:
        assert await Desk(laptop.agent).files("open-hand-in", id=work.hex()) == WORK
    return work


@attack(ROW, off={"sync_agent.keys.places.Place.out_of_force": frozenset()})
async def test_whoever_finds_a_paper_opens_nothing_that_is_handed_in_once_another_was_drawn(here: Here) -> None:
    paper = await drawn(here, here.teacher, here.teacher)
    assert await opens(here, paper, await handed_in(here, here.teacher))
    new = await drawn(here, here.teacher, here.teacher)
    work = await handed_in(here, here.teacher)
    assert await opens(here, new, work)
    assert not await opens(here, paper, work)


@attack(ROW, off={"sync_agent.keys.places.Place.out_of_force": frozenset()})
async def test_a_paper_of_one_laptop_opens_nothing_any_more_once_another_was_drawn_on_the_second(here: Here) -> None:
    first = here.teacher
    second = await another_laptop(here, first)
    paper = await drawn(here, first, second, first)
    new = await drawn(here, second, first, second)
    work = await handed_in(here, first, second)
    assert await opens(here, new, work)
    assert not await opens(here, paper, work)


@attack(ROW, off={"sync_agent.keys.places.Place.is_given_up": lambda *_: False})
async def test_a_paper_is_not_in_force_again_once_the_laptop_is_lost_that_drew_another(here: Here) -> None:
    second = await another_laptop(here, here.teacher)
    paper = await drawn(here, second, here.teacher, second)
    await drawn(here, here.teacher, second, here.teacher)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await report_by_head(here, head)
    await here.sync(head, second, here.machine, second, here.machine)
    assert not await opens(here, paper, await handed_in(here, second))


@attack(ROW, off={"sync_agent.keys.places.Place.is_given_up": lambda place, phrase: phrase in place.replaced})
async def test_whoever_has_the_server_too_brings_no_paper_back_by_cutting_off_the_laptop_that_drew_another(
    here: Here,
) -> None:
    first, territory, space = here.teacher, here.room.territory, here.room.space
    second = await another_laptop(here, first)
    paper = await drawn(here, second, first, second)
    before = tuple(await territory.replica.tips(space, first.agent.device))
    await drawn(here, first, second, first)
    await territory.say(space, Kind.REVOKE, Revocation(first.agent.device, before).encode())
    await here.sync(second, here.machine, second, here.machine)
    assert not await opens(here, paper, await handed_in(here, second))


@attack(ROW, off={"sync_agent.keys.places.ever_own": lambda *_: _Everybody()})
async def test_who_only_the_server_names_draws_nothing_in_the_place_of_her_phrase(here: Here) -> None:
    paper, person = await drawn(here, here.teacher, here.teacher), here.room.teacher_person
    ((said, _),) = (await phrases_said(here)).values()
    await here.name_the_spy(person)
    proof = drawn_by(here.spy.signing, person, own_keys(here.spy))
    false = PhraseKey(here.spy.agreement.public, bytes(16), CHEAP, here.spy.signing.public, proof)
    await here.say(Kind.PHRASE, false.encode(), person, parents=(said,))
    await here.sync(here.teacher, here.machine, here.teacher)
    (row,) = await Desk(here.teacher.agent).ask("key-phrases")
    assert row["state"] == "in use"
    assert await opens(here, paper, await handed_in(here, here.teacher))


class _Everybody(frozenset[bytes]):
    def __contains__(self, _: object) -> bool:
        return True

    def union(self, *_: object) -> _Everybody:
        return self


def _whatever_they_say(place: Place) -> frozenset[bytes]:
    in_force = set() if place.in_force is None else {place.in_force[1].agreement}
    return frozenset(said.agreement for _, said in place.drawn_in_use) - in_force


@attack(
    ROW,
    off={
        "sync_agent.keys.places.Place.out_of_force": property(_whatever_they_say),
        "sync_agent.keys.reading_key.mark_of_phrases_over": lambda _: b"",
    },
)
async def test_a_lost_laptop_has_no_keys_made_without_end_by_a_phrase_with_her_other_ones_key(here: Here) -> None:
    first, territory, person = here.teacher, here.room.territory, here.room.teacher_person
    second = await another_laptop(here, first)
    pair = first.agent.keys.signing.public, first.agent.keys.agreement.public
    proof = drawn_by(here.spy.signing, person, pair)
    grant = (await first.agent.right(here.room.space, Kind.PHRASE)).grant
    for key in (second.agent.keys.agreement.public, bytes(range(32))):
        false = PhraseKey(key, bytes(16), CHEAP, here.spy.signing.public, proof)
        await first.agent.write(Draft(here.room.space, Kind.PHRASE, grant, false.encode(), subject=person))
        territory.clock.advance(1000)
    for _ in range(2 * MAX_READING_KEYS_AT_ONCE):
        await here.sync(first, second)
        territory.clock.advance(READING_KEY_PAUSE_MS)
    assert len(await keys_said(here, second.agent.device)) <= MAX_READING_KEYS_AT_ONCE


def _but_for_what_begins_alike(place: Place) -> frozenset[bytes]:
    """As if one memory held the beginnings of both, the keys of devices and those of phrases."""
    cut = {key[:16] for key in place.roster.cut}
    return frozenset(phrase for phrase in _papers_open(place) if phrase[:16] not in cut)


@attack(ROW, off={"sync_agent.keys.reading_key._papers_open": _but_for_what_begins_alike})
async def test_a_key_of_nobody_that_begins_as_her_phrases_leaves_no_paper_open_after_its_end(here: Here) -> None:
    territory, space, person = here.room.territory, here.room.space, here.room.teacher_person
    paper = await drawn(here, here.teacher, here.teacher)
    nobody = new_device(Random(77).randbytes)
    alike = paper.public[:16] + bytes(range(16))
    grant = Grant(alike, nobody.agreement.public, nobody.tls.fingerprint, Role.TEACHER, person, None, None)
    await territory.say(space, Kind.GRANT, grant.encode())
    await territory.say(space, Kind.REVOKE, Revocation(alike, ()).encode())
    await here.sync(here.teacher, here.machine)
    assert await opens(here, paper, await handed_in(here, here.teacher)), "the paper is good as long as it is the last"
    await drawn(here, here.teacher, here.teacher)
    assert not await opens(here, paper, await handed_in(here, here.teacher))


def _nothing_given_up(_mark: bytes) -> frozenset[bytes]:
    return frozenset()


@attack(ROW, off={"sync_agent.keys.places.phrases_over_in": _nothing_given_up})
async def test_a_laptop_that_came_since_seals_nothing_to_an_old_paper_though_a_server_hides_the_new_one(
    here: Here,
) -> None:
    first, territory, space = here.teacher, here.room.territory, here.room.space
    second = await another_laptop(here, first)
    paper = await drawn(here, second, first, second)
    before = tuple(await territory.replica.tips(space, first.agent.device))
    await drawn(here, first, second, first, second)
    third = await here.room.teacher()
    await here.sync(third, second)
    await confirm_each_other(here, second, third)
    await here.sync(third, second, here.machine)
    await territory.say(space, Kind.REVOKE, Revocation(first.agent.device, before).encode())
    await here.sync(second, third, here.machine, second, third, here.machine)
    assert not await opens(here, paper, await handed_in(here, second, third))


def _once_for_each(place: Place) -> frozenset[bytes]:
    """As it was: once a key was made for a paper's sake, the paper opened none."""
    return place.given_to & place.out_of_force - place.over


@attack(ROW, off={"sync_agent.keys.reading_key._papers_open": _once_for_each})
@pytest.mark.parametrize("drew_it", ["her other one", "this one"])
async def test_a_key_that_her_other_laptop_gives_to_the_paper_before_it_hears_of_the_next_is_replaced(
    here: Here, drew_it: str
) -> None:
    first = here.teacher
    second = await another_laptop(here, first)
    paper = await drawn(here, second if drew_it == "her other one" else first, first, second, first)
    await drawn(here, first, first)
    for _ in range(2):
        await here.sync(first)
    await _told_all_but_the_last_phrase(here, second)
    for _ in range(3):
        here.room.territory.clock.advance(READING_KEY_PAUSE_MS)
        await here.sync(second, first, second, here.machine)
    assert not await opens(here, paper, await handed_in(here, first, second))


async def _told_all_but_the_last_phrase(here: Here, laptop: Device) -> None:
    """Whoever answers in the server's place keeps one entry from a laptop, for one look."""
    territory = here.room.territory
    last = max(await territory.replica.store.scan_kinds([Kind.PHRASE]), key=lambda each: each.header.at)
    await told_all_but(territory.replica, laptop, lambda each: each.id == last.id, territory.clock())
    await tend_after_news(laptop.agent)


@attack(ROW, off={"sync_agent.keys.reading_key._kept_for_losses": lambda: (0, 0)})
async def test_a_lost_laptop_that_draws_for_days_leaves_her_a_key_to_make_when_it_is_reported(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.reading_key.MAX_OWN_READING_KEYS", 4)
    lost, second = here.teacher, await another_laptop(here, here.teacher)
    for _ in range(5):
        await new_phrase(lost.agent, CHEAP)
        await here.sync(lost, second)
        here.room.territory.clock.advance(READING_KEY_PAUSE_MS)
    await report_by_kit(here, second)
    assert not await opens_what_is_handed_in_now(here, lost, second)


@attack(ROW, off={"sync_agent.keys.reading_key._kept_for_losses": lambda: (0, 0)})
async def test_a_lost_laptop_that_draws_again_and_again_has_her_wait_for_no_key_when_it_is_reported(here: Here) -> None:
    lost, second = here.teacher, await another_laptop(here, here.teacher)
    for _ in range(2 * MAX_READING_KEYS_AT_ONCE):
        await new_phrase(lost.agent, CHEAP)
        here.room.territory.clock.advance(1000)
        await here.sync(lost, second)
    await report_by_kit(here, second)
    assert not await opens_what_is_handed_in_now(here, lost, second)


async def _draws_in_its_place(here: Here, lost: Device, beside: AgreementKey) -> None:
    """Whoever holds a lost laptop that the server has let in again as hers, and that is away, draws another phrase."""
    hers, ((entry, _),) = here.room.teacher_person, (await phrases_said(here)).values()
    here.spy = replace(lost.agent.keys, agreement=beside)
    here.grant = await let_in_again(here, lost, Role.TEACHER, hers, beside.public)
    signer = SigningKey(bytes([3]) * 32)
    proof = drawn_by(signer, hers, own_keys(here.spy))
    false = PhraseKey(AgreementKey(bytes([4]) * 32).public, bytes(16), CHEAP, signer.public, proof)
    await here.say(Kind.PHRASE, false.encode(), hers, parents=(entry,))


def _whoever_drew(agent: Agent, said: Iterable[Entry], by: Container[bytes], person: bytes, roster: Roster) -> object:
    """As if who is back and away still drew in the place of hers."""
    return _phrases(agent, said, by, person, replace(roster, again={}))


@pytest.mark.parametrize("beside", ["its own key", "another key"])
@attack(ROW, off={"sync_agent.keys.places._phrases": _whoever_drew})
async def test_a_reported_laptop_that_is_let_in_again_puts_no_paper_out_of_force(here: Here, beside: str) -> None:
    lost = here.teacher
    second = await another_laptop(here, lost)
    paper = await drawn(here, second, lost, second)
    head, _ = await confirmed_head(here)
    await here.sync(head, second, here.machine)
    await report_by_head(here, head)
    await here.sync(head, second, here.machine, second, here.machine)
    await _draws_in_its_place(
        here, lost, lost.agent.keys.agreement if beside == "its own key" else AgreementKey(bytes([5]) * 32)
    )
    await here.sync(second, here.machine, second, here.machine)
    assert await opens(here, paper, await handed_in(here, second))
    await report_by_kit(here, second)  # once more, with all that it has said since
    await here.sync(second, here.machine, second, here.machine)
    assert await opens(here, paper, await handed_in(here, second))


@attack(ROW, off={"sync_agent.keys.places.Place.is_given_up": lambda *_: False})
async def test_what_it_drew_before_the_report_stays_drawn_while_it_is_let_in_again(here: Here) -> None:
    lost = here.teacher
    second = await another_laptop(here, lost)
    paper = await drawn(here, second, lost, second)
    await drawn(here, lost, second, lost)
    head, _ = await confirmed_head(here)
    third = await here.room.teacher()
    await here.sync(third, head, second, here.machine)
    await confirm_each_other(here, second, third)
    await report_by_head(here, head)
    await let_in_again(here, lost, Role.TEACHER, here.room.teacher_person)
    await here.sync(head, second, third, here.machine, second, third, here.machine)
    assert not await opens(here, paper, await handed_in(here, second, third))
