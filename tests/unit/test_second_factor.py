"""Codes of an application and recovery codes: RFC 6238's own vectors, and what opens how often."""

from __future__ import annotations

from random import Random

import pytest

from protocol.errors import PeerFault
from sync_server.handlers.accounts.second_factor import (
    DRIFT_STEPS,
    STEP_S,
    SecondFactor,
    code_at,
    new_factor,
    opened_by,
)
from sync_server.web.signing_in import TICKET_S, TICKET_TRIES, Tickets
from tests.unit.test_signing_in import ACCOUNT, Clock

WHO = ("name anne", "address 203.0.113.7")
SECRET = b"12345678901234567890"
NOW_MS = 1_795_000_000_000
NOW = NOW_MS // 1000 // STEP_S


@pytest.mark.parametrize(
    ("at_s", "code"),
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_codes_are_those_of_the_rfc(at_s: int, code: str) -> None:
    assert code_at(SECRET, at_s // STEP_S) == code


def test_a_clock_may_be_a_step_off_and_no_more() -> None:
    factor = SecondFactor(SECRET, 0, ())
    for off in range(-3, 4):
        opened = opened_by(factor, code_at(SECRET, NOW + off), NOW_MS)
        assert (opened is not None) == (abs(off) <= DRIFT_STEPS)


def test_a_code_opens_once_and_so_does_no_earlier_one() -> None:
    factor = opened_by(SecondFactor(SECRET, 0, ()), code_at(SECRET, NOW), NOW_MS)
    assert factor is not None
    assert SecondFactor.parse(factor.encode()) == factor, "also after a restart"
    assert opened_by(factor, code_at(SECRET, NOW), NOW_MS) is None
    assert opened_by(factor, code_at(SECRET, NOW - 1), NOW_MS) is None
    assert opened_by(factor, code_at(SECRET, NOW + 1), NOW_MS) is not None


def test_each_recovery_code_opens_once_however_it_is_typed_and_is_kept_nowhere() -> None:
    factor, made = new_factor("Anne Morel", "Écoles du Cher", Random(1).randbytes)
    assert len(set(made.recovery)) == 10
    assert made.recovery[0].replace("-", "").encode() not in factor.encode()
    opened = opened_by(factor, made.recovery[3].lower().replace("-", " "), NOW_MS)
    assert opened is not None
    assert opened_by(opened, made.recovery[3], NOW_MS) is None
    assert opened_by(opened, made.recovery[4], NOW_MS) is not None


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "é" * 6, "0" * 500, "\N{FULLWIDTH DIGIT ONE}" * 6])
def test_what_is_no_code_opens_nothing(typed: str) -> None:
    factor, _ = new_factor("Anne", "Cher", Random(1).randbytes)
    assert opened_by(factor, typed, NOW_MS) is None


def test_the_address_for_applications_names_who_and_where() -> None:
    _, made = new_factor("Anne Morel", "Écoles du Cher", Random(1).randbytes)
    assert made.uri.startswith("otpauth://totp/%C3%89coles%20du%20Cher%3AAnne%20Morel?secret=")
    assert "=" not in made.uri.partition("secret=")[2].partition("&")[0], "applications want base32 without padding"


def test_a_ticket_lasts_a_few_minutes_and_a_few_tries() -> None:
    clock = Clock()
    tickets = Tickets(Random(1).randbytes, clock)
    token = tickets.begin(ACCOUNT, WHO)
    for _ in range(TICKET_TRIES):
        assert tickets.whose(token) == ACCOUNT
        tickets.use(token)
    assert tickets.whose(token) is None
    late = tickets.begin(ACCOUNT, WHO)
    clock.s += TICKET_S
    assert tickets.whose(late) == ACCOUNT
    clock.s += 1
    assert tickets.whose(late) is None
    assert tickets.whose("another") is None


def test_a_mark_of_something_else_is_refused() -> None:
    with pytest.raises(PeerFault):
        SecondFactor.parse(b"\x80")
