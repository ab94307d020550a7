"""When a title of a watched folder may be published: the pure rules, over a simulated clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_agent.watching.rules import (
    BUSY_S,
    EMPTY_S,
    HARMED_S,
    LOST_S,
    MOST_FOR_BYTES_S,
    MOST_FOR_TIME_S,
    QUIET_S,
    UNFINISHED_S,
    Changing,
    Glimpse,
    Standing,
    disturbed,
    is_settled,
    looked,
    may_be_a_title,
    quiet_s,
    settled_at_s,
    standing,
    title_of,
)

LOOKS_APART_S = 0.3


@dataclass
class Writer:
    """A program that writes at certain times; what a look finds is how many writes it has done."""

    writes_s: list[float]

    def look(self, now_s: float) -> Glimpse:
        return Glimpse(likeness=str(sum(at <= now_s for at in self.writes_s)).encode())

    @property
    def end_s(self) -> float:
        return self.writes_s[-1]


def published(writer: Writer, *, events: bool, rescan_s: float = 60.0) -> list[tuple[float, bytes]]:
    """What the rules publish, and when: looks follow events, if there are any, and the rules' own clock."""
    found: list[tuple[float, bytes]] = []
    state: Changing | None = None
    seen = b"0"
    noticed = list(writer.writes_s) if events else []
    next_s = noticed[0] if events else rescan_s
    looked_s = -LOOKS_APART_S
    while next_s <= writer.end_s + 2 * rescan_s:
        now_s = next_s
        glimpse = writer.look(now_s)
        if glimpse.likeness == seen:
            state = None
            next_s = now_s + rescan_s
        else:
            state = looked(state, glimpse, now_s)
            if is_settled(state, now_s):
                found.append((now_s, glimpse.likeness))
                seen, state = glimpse.likeness, None
                next_s = now_s + rescan_s
            else:
                next_s = settled_at_s(state)
        looked_s = now_s
        noticed = [at for at in noticed if at > now_s]
        if noticed:
            next_s = min(next_s, max(noticed[0], looked_s + LOOKS_APART_S))
    return found


gaps = st.lists(st.floats(0.0, QUIET_S * 0.95), min_size=1, max_size=60)


@given(gaps, st.booleans())
def test_whatever_the_writes_half_of_it_is_never_published(between_s: list[float], events: bool) -> None:
    writes_s = [sum(between_s[:count]) for count in range(1, len(between_s) + 1)]
    writer = Writer(writes_s)
    whole = str(len(writes_s)).encode()
    assert [likeness for _, likeness in published(writer, events=events)] == [whole]


@given(st.lists(st.floats(0.0, 120.0), min_size=1, max_size=20))
def test_what_is_published_was_at_rest(between_s: list[float]) -> None:
    writes_s = [sum(between_s[:count]) for count in range(1, len(between_s) + 1)]
    for at_s, likeness in published(Writer(writes_s), events=True):
        last_s = writes_s[int(likeness) - 1]
        assert at_s - last_s >= QUIET_S - 1e-6  # floats
        assert not [write_s for write_s in writes_s if last_s < write_s <= at_s]


@given(st.floats(1.0, 500.0), st.floats(0.0, 0.95))
def test_a_long_copy_may_stall_for_longer(long_s: float, part: float) -> None:
    steady = [number / 2 for number in range(int(long_s * 2) + 1)]
    stall_s = part * (QUIET_S + min(MOST_FOR_TIME_S, steady[-1] / 4))
    writer = Writer([*steady, steady[-1] + stall_s + 0.01])
    assert [likeness for _, likeness in published(writer, events=True)] == [str(len(writer.writes_s)).encode()]


def test_a_small_save_is_published_a_second_later() -> None:
    assert published(Writer([10.0]), events=True) == [(10.0 + QUIET_S, b"1")]


def test_a_folder_without_events_is_published_at_a_rescan() -> None:
    ((at_s, likeness),) = published(Writer([1.0, 2.0]), events=False)
    assert likeness == b"2"
    assert at_s == 60.0 + QUIET_S


def changing(**found: bool | int) -> Changing:
    return looked(None, Glimpse(b"x", **found), 100.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "at_least_s"),
    [
        ({}, QUIET_S),
        ({"lost": True}, LOST_S),
        ({"empty": True}, EMPTY_S),
        ({"harmed": True}, HARMED_S),
        ({"busy": True}, BUSY_S),
        ({"unfinished": True}, UNFINISHED_S),
        ({"changed_bytes": 400_000_000}, QUIET_S + 2.0),
        ({"changed_bytes": 10**12}, QUIET_S + MOST_FOR_BYTES_S),
    ],
)
def test_doubt_makes_the_rules_wait(found: dict[str, bool | int], at_least_s: float) -> None:
    assert quiet_s(changing(**found)) == at_least_s


def test_a_title_that_was_read_in_motion_begins_to_wait_again() -> None:
    state = disturbed(changing(), 103.0)
    assert not is_settled(state, 103.5)
    assert is_settled(state, settled_at_s(state))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cours.odt", Standing.CONTENT),
        ("20261124", Standing.CONTENT),
        (".htaccess", Standing.CONTENT),
        ("Partie 1", Standing.CONTENT),
        ("~$cours.docx", Standing.ASIDE),
        (".~lock.cours.odt#", Standing.ASIDE),
        ("Thumbs.db", Standing.ASIDE),
        (".DS_Store", Standing.ASIDE),
        ("desktop.ini", Standing.ASIDE),
        ("cours.odt~", Standing.ASIDE),
        ("._cours.pdf", Standing.ASIDE),
        (".nfs000000000000012b", Standing.ASIDE),
        (".cours.odt.swp", Standing.WORKING),
        ("~WRL0001.tmp", Standing.WORKING),
        (".goutputstream-1X2Y3Z", Standing.WORKING),
        ("cours.pages.sb-1a2b3c4d-AbCdEf", Standing.WORKING),
        ("film.mp4.part", Standing.UNFINISHED),
        ("film.mp4.crdownload", Standing.UNFINISHED),
        ("Unconfirmed 123456.crdownload", Standing.UNFINISHED),
    ],
)
def test_names_that_programs_leave_behind_are_known(name: str, expected: Standing) -> None:
    assert standing(name) is expected
    assert may_be_a_title(name) is (expected is Standing.CONTENT and not name.startswith("."))


@pytest.mark.parametrize(
    ("name", "is_file", "title"),
    [
        ("Le cycle de l'eau", False, "Le cycle de l'eau"),
        ("Chapitre 1.5", False, "Chapitre 1.5"),
        ("Le cycle de l'eau.pdf", True, "Le cycle de l'eau"),
        ("Consignes", True, "Consignes"),
        ("3. Les volcans.odt", True, "3. Les volcans"),
        ("Les\nvolcans", False, "Les volcans"),
        ("Les\t\nvolcans\n.odt", True, "Les volcans"),
    ],
)
def test_a_title_is_the_folders_name_or_the_files_without_its_extension(name: str, is_file: bool, title: str) -> None:
    assert title_of(name, is_file=is_file) == title
