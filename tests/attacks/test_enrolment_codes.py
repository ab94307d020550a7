"""Codes in the wrong hands (docs/threat-model.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.errors import NoAnswer, Refused, RelaisError
from sync_agent.enrollment_by_stick import enroll_by_stick
from tests.harness.attack import attack
from tests.harness.couriers import export, silent
from tests.harness.office_devices import town
from tests.harness.server_in_process import Office
from tests.harness.server_in_process import office as new_office
from tests.harness.territory import DAY_MS

OPEN_FOR_EVER = {"protocol.replica.office.enrolment.Enrolment._check_open": lambda *_: None}


async def nothing(*_: object) -> None:
    """A check that looks at nothing."""


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with new_office(tmp_path / "server") as made:
        yield made


@attack("stolen enrolment code", off=OPEN_FOR_EVER)
async def test_a_code_that_was_used_lets_no_other_device_in(office: Office) -> None:
    code = await office.invite("teacher", person=await office.add_person("Mme Petit", "teacher"))
    await office.enrol(code)
    with pytest.raises(RelaisError):
        await office.enrol(code, name="Voleur")


@attack("stolen enrolment code", off=OPEN_FOR_EVER)
async def test_a_code_found_a_week_later_opens_nothing(office: Office) -> None:
    code = await office.invite("machine", uses=30, ttl="24h")
    office.clock.advance(7 * DAY_MS)
    with pytest.raises(RelaisError):
        await office.enrol(code)


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._check_not_cut": nothing})
async def test_a_device_that_was_let_go_does_not_come_back_with_its_old_key(office: Office) -> None:
    member = await office.enrol(await office.invite("machine", uses=2))
    await office.do("revoke", device=member.id)
    with pytest.raises(RelaisError):
        await office.enrol(await office.invite("machine"), member.keys)


@attack("stolen enrolment code", off={"protocol.invitation.Invitation.matches": lambda *_: True})
async def test_a_false_chain_on_a_stick_is_told_no_code(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    stick = tmp_path / "stick"
    async with town(tmp_path) as ours, town(theirs) as mallory:
        person = await mallory.office.add_person("Mallory", "teacher")
        device = await mallory.device("teacher", person)
        await export(device, stick)
        code = await ours.office.invite("machine")
        with pytest.raises((NoAnswer, Refused)):
            await enroll_by_stick(
                tmp_path / "pc", stick, code, "Merle", now_ms=ours.office.clock, entropy=os.urandom, say=silent
            )
    assert not list(stick.rglob("*.ask")), "nothing was sealed to who is of another root"
