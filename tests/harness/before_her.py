"""Somebody whom a copied key names is in a class of next year for an hour before Mme Petit's laptop."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, PersonRecord
from protocol.roles import PersonRole
from tests.harness.next_year import NextYear
from tests.harness.territory import new_device


class Named(NamedTuple):
    """Somebody whom the copied key names."""

    keys: DeviceKeys
    person: str


def somebody(number: int) -> Named:
    return Named(new_device(Random(number).randbytes), bytes([number] * 16).hex())


async def comes(year: NextYear, space: bytes, *named: Named) -> None:
    """On the class's list, granted, and with a reading key."""
    for one in named:
        record = PersonRecord(f"M. {one.person[:2]}", PersonRole.TEACHER).encode()
        await year.thief_says(space, Kind.PERSON, record, subject=one.person)
        year.spy = one.keys
        await year.spy_comes(space, dated_days_ago=0, person=one.person)


async def an_hour_before_her(year: NextYear, *named: Named, is_cut_off_elsewhere: bool = False) -> bytes:
    space = await year.new_class()
    await comes(year, space, *named)
    await year.sync(year.machine)
    await year.lets_her_in(space)
    await year.sync(year.teacher)
    if is_cut_off_elsewhere:
        old = year.here.space
        await year.thief_cuts_her_off(old, *await year.server.tips(old, year.teacher.agent.device))
    await year.sync()
    return space


async def who_says_her_key(year: NextYear, *, is_cut_off_elsewhere: bool = False) -> bytes:
    """Mme Petit works in a new class, where somebody was before her, and says her reading key as his own."""
    named = somebody(1)
    space = await an_hour_before_her(year, named, is_cut_off_elsewhere=is_cut_off_elsewhere)
    (hers,) = (await year.server.view(space)).roster.reading_keys[bytes.fromhex(year.person)]
    await year.spy_says(space, Kind.PERSON_KEY, PersonKey(hers).encode(), named.person)
    await year.sync()
    return space
