"""A thief draws a paper on a stolen laptop, and has it say phrases that it did not draw: is the paper told?"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from protocol.clock import at_from
from protocol.identity import AgreementKey
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose, parsed
from protocol.replica.office import phrases_of_lost
from protocol.replica.office.bureau import Office
from protocol.trust.person_keys import PhraseKey
from sync_agent.keys.phrases import new_phrase
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import CHEAP, another_laptop, teach_too
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class

LOST = "a device is lost"
LATER_MS = 3_600_000


async def _stolen(here: SpiedClass) -> tuple[Device, Device, bytes, PhraseKey]:
    """Her laptop of two classes is stolen, and a paper drawn on it; the head's computer, her other class, the paper."""
    lost = await another_laptop(here, here.teacher)
    other = await here.room.territory.classroom("CE1")
    await teach_too(here, other, here.teacher, lost)
    head, _ = await confirmed_head(here)
    await here.sync(head, here.teacher, lost, here.machine)
    await new_phrase(lost.agent, CHEAP)
    await here.sync(lost)
    (drawn,) = await lost.agent.replica.store.of_kinds(here.room.space, [Kind.PHRASE])
    paper = parsed(drawn.entry, PhraseKey.parse)
    assert paper is not None
    return lost, head, other, paper


async def _says(here: SpiedClass, lost: Device, space: bytes, phrases: Iterable[PhraseKey]) -> None:
    """The laptop says these in a class, of an hour later."""
    now_ms, right = lost.agent.now_ms(), await lost.agent.right(space, Kind.PHRASE)
    said = [
        compose(
            author=lost.agent.keys.signing,
            space=space,
            kind=Kind.PHRASE,
            grant=right.grant,
            at=at_from(now_ms + LATER_MS + number),
            payload=phrase.encode(),
            salt=os.urandom(SALT_BYTES),
            subject=here.room.teacher_person,
        )
        for number, phrase in enumerate(phrases)
    ]
    admission = await lost.agent.replica.admit(said, source=lost.agent.device, now_ms=now_ms, unsent=True)
    assert len(admission.admitted) == len(said)


def _nobodys(count: int) -> list[PhraseKey]:
    """With proofs that prove nothing."""
    return [
        PhraseKey(AgreementKey(os.urandom(32)).public, os.urandom(16), CHEAP, os.urandom(32), os.urandom(64))
        for _ in range(count)
    ]


def _of_the_latest(office: Office, said: Collection[Entry]) -> dict[bytes, Collection[Entry]]:
    """Those that were drawn on it of the latest fifty, whoever drew these, by the last word of each."""
    latest: dict[bytes, list[Entry]] = {}
    for entry in sorted(said, key=lambda each: (-each.header.at, each.id)):
        phrase = parsed(entry, PhraseKey.parse)
        if phrase is not None:
            latest.setdefault(phrase.agreement, []).append(entry)
    return {
        agreement: words
        for agreement, words in islice(latest.items(), phrases_of_lost.MAX_PHRASES)
        if (phrase := parsed(words[0], PhraseKey.parse)) is not None
        if phrases_of_lost._is_drawn_on_it(office, words[0], phrase)
    }


OFF = {"protocol.replica.office.phrases_of_lost._its_own": _of_the_latest}


@attack(LOST, off=OFF)
async def test_a_paper_is_told_however_many_later_phrases_a_stolen_laptop_says_that_it_did_not_draw(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head, other, paper = await _stolen(here)
        await _says(here, lost, other, _nobodys(phrases_of_lost.MAX_PHRASES))
        await here.sync(lost, head)
        desk = Desk(head.agent)
        rows = (await desk.ask("lost", device=lost.agent.device.hex()))["phrases"]
        assert [row["phrase"] for row in rows] == [paper.agreement.hex()]
        assert "phrases were drawn on it" in "".join(desk.told)


@attack(LOST, off=OFF)
async def test_so_it_is_where_the_laptop_says_that_very_phrase_again_with_a_false_proof(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        lost, head, other, paper = await _stolen(here)
        await _says(here, lost, other, [replace(paper, proof=os.urandom(64))])
        await here.sync(lost, head)
        async with portal(head.agent) as surfer:
            told = await surfer.send("/lost", "/lost", {"device": lost.agent.device.hex(), "meant": "yes"})
        assert 'id="h-phrases"' in told.text


@attack(LOST, off=OFF)
async def test_and_that_there_are_some_where_nobody_looks_at_so_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phrases_of_lost, "MAX_LOOKED_AT", 60)
    async with spied_class(tmp_path) as here:
        lost, head, other, _ = await _stolen(here)
        await _says(here, lost, other, _nobodys(70))
        await here.sync(lost, head)
        desk = Desk(head.agent)
        rows = (await desk.ask("lost", device=lost.agent.device.hex()))["phrases"]
        assert len(rows) == 11, "what is not looked at may be its own"
        assert "phrases were drawn on it" in "".join(desk.told)
