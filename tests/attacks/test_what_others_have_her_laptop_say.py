"""Keys that others seal to a teacher's laptop, and grants that have it say again what it said (docs/adr/0247)."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.identity import AgreementKey
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.model.work import Feedback
from protocol.replica.at_work.replica import Draft, Replica
from protocol.roles import Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, PhraseKey, open_reading_key, seal_reading_key
from sync_agent.keys import key_wraps, phrases
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.lost_laptop import another_laptop, confirm_each_other, report_by_kit
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "one laptop makes reading keys without end"
LIMIT = "protocol.replica.at_work.quotas.MAX_STAFF_ENTRIES_PER_DEVICE"


async def _never(_replica: Replica, _draft: Draft, _author: bytes) -> bool:
    return False


async def _said(here: SpiedClass, device: Device) -> int:
    return len(await device.agent.replica.store.authored(here.room.space, device.agent.device))


async def _with_a_paper(here: SpiedClass) -> Device:
    """Her other laptop: each key that it passes on it seals to the paper, at least."""
    second = await another_laptop(here, here.teacher)
    await new_phrase(second.agent, Argon2Cost(8, 1, 1))
    await here.sync(second, here.teacher, second, here.machine)
    return second


async def _seal(here: SpiedClass, to: bytes, number: int) -> list[AgreementKey]:
    """Who holds the spy's keys draws so many, and seals them to the X25519 key of a laptop, or a paper, of hers."""
    hers = here.room.teacher_person
    keys = [AgreementKey(Random(each).randbytes(32)) for each in range(number)]
    for each, key in enumerate(keys):
        sealed = seal_reading_key(key, here.room.space, hers, to, Random(1000 + each).randbytes(32))
        await here.say(Kind.KEY_WRAP, KeyWraps(key.public, ((to, sealed),)).encode(), hers)
    return keys


def _x25519(device: Device) -> bytes:
    return device.agent.keys.agreement.public


async def _as_the_lost_one(here: SpiedClass) -> None:
    here.grant = (await here.teacher.agent.right(here.room.space, Kind.KEY_WRAP)).grant
    here.spy = here.teacher.agent.keys


async def _feedback_arrives(here: SpiedClass, by: Device) -> bool:
    right = (await by.agent.right(here.room.space, Kind.FEEDBACK)).grant
    word = Feedback("bien", None, False, None).encode()
    pupil = here.room.pupil_person
    (entry,) = await by.agent.write(Draft(here.room.space, Kind.FEEDBACK, right, word, subject=pupil, target=here.work))
    await here.sync(by, by)
    return bool(await here.room.territory.replica.store.present([entry.id]))


@pytest.mark.parametrize("who", ["reported", "named-by-the-server-alone"])
@attack(ROW, off={"sync_agent.keys.key_wraps._is_given": lambda *_: True})
async def test_keys_that_nobody_of_hers_gave_a_laptop_are_passed_on_to_nobody(tmp_path: Path, who: str) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        second = await _with_a_paper(here)
        if who == "reported":
            await _as_the_lost_one(here)
            await report_by_kit(here, second)
        else:
            await here.name_the_spy(here.room.teacher_person, back_ms=0)
        await here.sync(second, here.machine, second)
        before = await _said(here, second)
        keys = await _seal(here, _x25519(second), 6)
        await here.sync(second, second)
        assert all(key.public in reading_keys(second.agent) for key in keys), "it opens work with them"
        assert await _said(here, second) == before


@attack(ROW, off={"protocol.replica.at_work.replica.Replica.has_said_half": _never})
async def test_keys_that_a_stolen_laptop_gives_before_its_report_leave_her_other_one_half_of_what_it_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMIT, 80)
    monkeypatch.setattr("sync_agent.app._UNASKED_AT_ONCE", 1)
    async with spied_class(tmp_path) as here:
        second = await _with_a_paper(here)
        await _as_the_lost_one(here)
        await _seal(here, _x25519(second), 60)
        await here.sync(second, second)
        assert await _said(here, second) <= 80 // 2 + 1


@attack(ROW, off={"protocol.replica.at_work.replica.Replica.has_said_half": _never})
async def test_a_laptop_that_is_let_in_again_and_again_says_half_of_what_it_may_about_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMIT, 24)
    async with spied_class(tmp_path) as here:
        territory, space, she = here.room.territory, here.room.space, here.teacher
        keys = she.agent.keys
        again = Grant(
            keys.signing.public,
            keys.agreement.public,
            keys.tls.fingerprint,
            Role.TEACHER,
            here.room.teacher_person,
            None,
            None,
        )
        for _ in range(14):
            roster = (await territory.replica.view(space)).roster
            (old,) = [each for each in roster.authorities if each.key == she.agent.device]
            revocation = Revocation(she.agent.device, ()).encode()
            cut = await territory.say(space, Kind.REVOKE, revocation, target=old.grant)
            await territory.say(space, Kind.GRANT, again.encode(), parents=(cut.id,))
            territory.clock.advance(20_000)
            await here.sync(she)
        assert await _feedback_arrives(here, she)


@attack(ROW, off={"sync_agent.keys.key_wraps._worth_trying": lambda seals, _in_use: seals})
async def test_seals_without_end_of_one_key_cost_a_laptop_a_few_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spied_class(tmp_path) as here:
        new, hers = await here.room.teacher(), here.room.teacher_person
        mine, wanted = new.agent.keys.agreement.public, here.teacher.agent.reading_keys.newest_of(here.room.space)
        assert wanted is not None
        await here.name_the_spy(hers, back_ms=0)
        for number in range(20):
            await here.say(Kind.KEY_WRAP, KeyWraps(wanted.public, ((mine, bytes([number] * 80)),)).encode(), hers)
        await here.sync(here.teacher, new, here.teacher)
        tried = 0

        def counted(*given: Any) -> AgreementKey:
            nonlocal tried
            tried += given[3] == wanted.public
            return open_reading_key(*given)

        monkeypatch.setattr(key_wraps, "open_reading_key", counted)
        new.agent.reading_keys.seals_that_open_nothing.clear()  # it was started again
        await confirm_each_other(here, here.teacher, new)
        await here.sync(here.teacher, new)
        assert wanted.public in reading_keys(new.agent), "the honest seal came last"
        assert tried <= 8


@attack(ROW, off={"sync_agent.keys.phrases.MAX_GIVEN_READING_KEYS": 100_000})
async def test_keys_of_nobody_sealed_to_her_paper_do_not_have_her_next_laptop_say_all_that_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIMIT, 120)
    async with spied_class(tmp_path) as here:
        words = await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
        await here.sync(here.teacher, here.machine)
        (said,) = await here.room.territory.replica.store.scan_kinds([Kind.PHRASE])
        await here.name_the_spy(here.room.teacher_person, back_ms=0)
        await _seal(here, PhraseKey.parse(said.payload or b"").agreement, 140)
        await here.sync(here.teacher, here.machine)
        following = await here.room.teacher()
        await here.sync(following)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(phrases, "MAX_GIVEN_READING_KEYS", vars(phrases)["MAX_GIVEN_READING_KEYS"] // 12)
            assert await open_with_phrase(following.agent, words) > 100
        assert reading_keys(here.teacher.agent).keys() <= reading_keys(following.agent).keys()
        await here.sync(following, here.machine, following)
        assert await _feedback_arrives(here, following)
