"""Which backups the server has said that it has, and since when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import DAY_MS
from protocol.limits import RECEIPT_PROOF_MS
from sync_agent.machine.backups_said import Backups, BackupSaid, encoded, is_safe_elsewhere, parsed, with_said
from sync_agent.machine.eviction import Seen

MONTH = RECEIPT_PROOF_MS
RECEIPT = Seen(500, 1_000)


def later(ms: int) -> Seen:
    """So many ms after the receipt was seen, by both clocks."""
    return Seen(RECEIPT.own_ms + ms, RECEIPT.server_ms + ms)


def said(begun_ms: int, after_ms: int = 0) -> Backups:
    """One backup, of which this device heard so long after it saw the receipt."""
    return (BackupSaid(begun_ms, later(after_ms)),)


@pytest.mark.parametrize(
    ("backups", "now", "safe"),
    [
        (said(1_000), later(MONTH), True),
        (said(999), later(MONTH), False),
        (said(5_000), Seen(500 + MONTH, 999 + MONTH), False),
        (said(5_000), Seen(499 + MONTH, 10**15), False),
        ((), later(2 * MONTH), False),
        (said(5_000), None, False),
        (said(5_000, 1), later(MONTH), False),
        (said(5_000, 1), later(MONTH + 1), True),
        ((*said(999), *said(MONTH + 1_000, MONTH)), later(MONTH), False),
        ((*said(999), *said(MONTH + 1_000, MONTH)), later(2 * MONTH), True),
    ],
)
def test_a_hand_in_may_go_a_month_after_its_receipt_and_as_long_after_a_later_backup_was_first_heard_of(
    backups: Backups, now: Seen | None, safe: bool
) -> None:
    assert is_safe_elsewhere(RECEIPT, backups, now) is safe
    assert not is_safe_elsewhere(None, backups, now)


def test_a_server_that_says_of_no_backup_or_of_an_older_one_has_taken_the_newer_one_back() -> None:
    known = (*said(1_000), *said(1_000 + DAY_MS, DAY_MS))
    assert with_said(known, None, later(2 * DAY_MS)) == ()
    assert with_said(known, 1_000, later(2 * DAY_MS)) == said(1_000)
    assert with_said(known, 1_000 + DAY_MS, later(2 * DAY_MS)) == known


def test_a_backup_of_tomorrow_holds_what_there_was_when_it_was_said() -> None:
    assert with_said((), 10**15, RECEIPT) == said(RECEIPT.server_ms)


def test_of_backups_that_are_made_each_day_or_hour_a_month_of_rows_is_kept_and_work_goes_after_that_month() -> None:
    for hours in (1, 24):
        backups: Backups = ()
        for hour in range(0, 24 * 62, hours):
            now = later(hour * 3_600_000)
            backups = with_said(backups, now.server_ms, now)
            assert len(backups) <= MONTH // DAY_MS + 1
            safe_for = is_safe_elsewhere(RECEIPT, backups, now)
            assert safe_for is (hour >= 24 * 30)


@given(st.lists(st.builds(BackupSaid, st.integers(0, 2**63), st.builds(Seen, *[st.integers(0, 2**63)] * 2))))
def test_what_was_said_is_read_as_it_was_noted(backups: list[BackupSaid]) -> None:
    assert parsed(encoded(backups)) == tuple(backups)


def test_of_what_an_earlier_version_noted_nobody_knows_since_when_it_was_said() -> None:
    assert parsed(None) == parsed((5_000).to_bytes(8, "big")) == ()
