"""A copy of the server's key has somebody waited for in a class, and given in June what was opened there in the year.

The school's PC keeps the keys of that work for whom it met first there (docs/adr/0256, 0415): who was gone for a week
is met anew (docs/adr/0436), and what was opened waits for nobody for longer than that (docs/adr/0437).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protocol.clock import DAY_MS
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, Revocation
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as Pair
from protocol.roles import HAS_READING_KEYS, Role
from sync_agent.hand_ins.first_readers import _Stay
from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.harness.attack import attack
from tests.harness.before_her import Named, comes, somebody, who_says_her_key
from tests.harness.classroom import keeps_key_of
from tests.harness.copied_keys import granted
from tests.harness.next_year import NextYear

ROW = "who was in a class for an hour is back in June"
WAITING = "opened work waits for somebody all year"


def _as_if_never_gone(_: _Stay, _now_ms: int, _met_ms: int) -> _Stay:
    return _Stay()


def _whatever_its_end(roster: Roster, _now_ms: int) -> Iterator[tuple[bytes, Pair]]:
    given = ((each.person, each.pair) for each in roster.authorities if each.role in HAS_READING_KEYS)
    return ((roster.who(person), device) for person, device in given if person is not None)


def _as_anybodys(roster: Roster, now_ms: int) -> Iterator[tuple[bytes, Pair]]:
    """As if a right that the same keys have as somebody else, or as nobody, kept them in a class as anybody."""
    there = {each.pair for each in roster.authorities if each.until_ms is None or each.until_ms > now_ms}
    ever = {each.person for each in roster.granted.values() if each.person is not None}
    return ((roster.who(person), device) for person in ever for device in there)


async def _is_granted(
    year: NextYear,
    space: bytes,
    named: Named,
    *,
    until_ms: int | None = None,
    after: tuple[bytes, ...] = (),
    reading_key: bytes | None = None,
) -> None:
    """A teacher's right, and a reading key; `after` what it is let back from."""
    given = granted(named.keys, Role.TEACHER, named.person, until_ms=until_ms)
    said = await year.thief_says(space, Kind.GRANT, given, parents=after)
    year.spy, year.grants[space] = named.keys, said.id
    key = PersonKey(reading_key or named.keys.agreement.public).encode()
    await year.spy_says(space, Kind.PERSON_KEY, key, named.person)


async def _is_gone(year: NextYear, space: bytes, named: Named, *, with_all_rights: bool) -> bytes:
    """With all that he said left as it is: nothing is held back."""
    key = named.keys.signing.public
    gone = Revocation(key, tuple(await year.server.tips(space, key))).encode()
    right = None if with_all_rights else year.grants[space]
    return (await year.thief_says(space, Kind.REVOKE, gone, target=right)).id


async def _a_week_passes(year: NextYear) -> None:
    await year.here.days_pass(ACQUAINTANCE_MS // DAY_MS + 1, year.machine)


async def _opened_in_a_month(year: NextYear, space: bytes) -> list[bytes]:
    works = []
    for _ in range(4):
        await _a_week_passes(year)
        works.append(await year.opened_work(space))
    return works


async def _there_for_an_hour(year: NextYear, *, with_all_rights: bool) -> tuple[bytes, Named, bytes]:
    """Somebody was in Mme Petit's new class before her laptop, and is gone; her key is said as his."""
    named, space = somebody(1), await who_says_her_key(year)
    gone = await _is_gone(year, space, named, with_all_rights=with_all_rights)
    await year.sync()
    return space, named, gone


@pytest.mark.parametrize("with_all_rights", [False, True])
@attack(ROW, off={"sync_agent.hand_ins.first_readers._Stay.seen_here": _as_if_never_gone})
async def test_who_was_there_for_an_hour_before_her_and_is_back_months_later_is_given_nothing_that_she_opened(
    year: NextYear, *, with_all_rights: bool
) -> None:
    space, named, gone = await _there_for_an_hour(year, with_all_rights=with_all_rights)
    works = await _opened_in_a_month(year, space)
    await _is_granted(year, space, named, after=(gone,))
    await year.sync(year.machine)
    assert not [work for work in works if await year.is_given(space, work, named.keys)]


async def _nothing(_: object) -> None:
    pass


@attack(ROW, off={"sync_agent.hand_ins.wraps.note_stays": _nothing})
async def test_nor_where_there_was_no_work_while_he_was_gone_but_what_she_has_opened_today(year: NextYear) -> None:
    space, named, gone = await _there_for_an_hour(year, with_all_rights=True)
    await _a_week_passes(year)
    work = await year.opened_work(space)
    await _is_granted(year, space, named, after=(gone,))
    await year.sync(year.machine)
    assert not await year.is_given(space, work, named.keys)


@pytest.mark.parametrize("was_in_for_ten_minutes", [False, True])
@attack(ROW, off={"sync_agent.hand_ins.first_readers._living": _whatever_its_end})
async def test_nor_is_whom_the_pc_met_in_a_class_of_the_keys_own_and_whose_right_here_was_over_all_year(
    year: NextYear, *, was_in_for_ten_minutes: bool
) -> None:
    named, own = somebody(1), await year.new_class()
    await comes(year, own, named)
    await year.sync(year.machine)
    space = await year.new_class()
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    await year.sync(year.machine)
    after: tuple[bytes, ...] = ()
    if was_in_for_ten_minutes:
        await comes(year, space, named)
        await year.sync(year.machine)
        after = (await _is_gone(year, space, named, with_all_rights=False),)
    yesterday_ms = year.here.office.clock() - DAY_MS
    await _is_granted(year, space, named, until_ms=yesterday_ms, after=after)
    await year.sync()
    works = await _opened_in_a_month(year, space)
    await _is_granted(year, space, named)
    await year.sync(year.machine)
    assert not [work for work in works if await year.is_given(space, work, named.keys)]


@pytest.mark.parametrize("as_who", ["somebody else", "nobody, a head"])
@attack(ROW, off={"sync_agent.hand_ins.first_readers._living": _as_anybodys})
async def test_nor_is_he_there_meanwhile_by_another_right_of_the_same_keys_as_somebody_else(
    year: NextYear, as_who: str
) -> None:
    named, space, clock = somebody(1), await year.new_class(), year.here.office.clock
    await _is_granted(year, space, named, until_ms=clock() + 3_600_000)
    await year.sync(year.machine)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    await year.sync(year.machine)
    clock.advance(2 * 3_600_000)
    if as_who == "nobody, a head":
        await year.thief_says(year.here.school, Kind.GRANT, granted(named.keys, Role.HEAD, None))
    else:
        await year.thief_says(space, Kind.GRANT, granted(named.keys, Role.TEACHER, (b"Y" * 16).hex()))
    await year.sync()
    for _ in range(3):
        await _a_week_passes(year)
        await tend_hand_ins(year.machine.agent)
    work = await year.opened_work(space)
    await _is_granted(year, space, named)
    await year.sync(year.machine)
    assert not await year.is_given(space, work, named.keys)


# --- whom it has not met anew ----------------------------------------------------------------------------------------

WAITS_FOR_EVER: dict[str, object] = {"sync_agent.hand_ins.wraps._Class._is_over": lambda *_: False}


@attack(WAITING, off=WAITS_FOR_EVER)
async def test_a_pc_keeps_no_key_for_longer_than_a_week_after_she_has_opened_that_whoever_says_her_key_as_his(
    year: NextYear,
) -> None:
    space = await who_says_her_key(year)
    work = await year.opened_work(space)
    assert await keeps_key_of(year.machine, work)
    await _a_week_passes(year)
    await year.hand_in(space)  # it looks when there is news
    assert not await keeps_key_of(year.machine, work)


@attack(WAITING, off=WAITS_FOR_EVER)
async def test_who_was_there_before_her_with_a_key_to_which_nothing_can_be_sealed_is_given_nothing_in_june(
    year: NextYear,
) -> None:
    named, space = somebody(1), await year.new_class()
    await _is_granted(year, space, named, reading_key=bytes(32))
    await year.sync(year.machine)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    await year.sync()
    works = await _opened_in_a_month(year, space)
    await _a_week_passes(year)
    await year.spy_says(space, Kind.PERSON_KEY, PersonKey(named.keys.agreement.public).encode(), named.person)
    await year.sync(year.machine)
    assert not [work for work in works if await year.is_given(space, work, named.keys)]
