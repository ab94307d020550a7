"""What a server has cut off itself comes back by its own word alone, by none of a copy of its key (docs/adr/0406)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import orders_by_key
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_server.handlers.record.late_rights import late_right_notices
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.copied_keys import brought, granted, said_by_copy
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "what a server has cut off, a copy of its key lets back"


def _whoever_said_it(*_: object) -> bool:
    """As if all that is said with the server's key were said by the server."""
    return True


async def _nobody(_: Office) -> Callable[[Authority], bool]:
    return lambda _given: False


async def _whoever_says_who_left(_: Office) -> Callable[[Entry], bool]:
    return lambda _said: True


async def _whatever_holds_it_back(office: Office, spaces: Iterable[bytes]) -> dict[bytes, frozenset[bytes]]:
    """As if the server knew all that is held back for a thief's."""
    return {space: (await office.replica.view(space)).roster.held_back for space in spaces}


AS_ITS_OWN = {
    "protocol.replica.office.device_cuts.is_said_here": _whoever_said_it,
    "protocol.replica.office.device_cuts.is_surely_ours": _whoever_said_it,
}


@pytest.fixture
async def thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        made = Thieving(Year(here, *at_work, tmp_path))
        await made.is_stolen()
        yield made


async def _is_let_back(thieving: Thieving, his: DeviceKeys, person: str) -> None:
    """Wherever it was cut off, by a grant that names what did it."""
    said = orders_by_key(await thieving.office.server.store.scan_kinds([Kind.REVOKE]))[his.signing.public]
    for space in {order.header.space for order in said}:
        names = [order.id for order in said]
        await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person), space=space, parents=names)
    assert await thieving.reads(his, thieving.here.space)


@attack(ROW, off=AS_ITS_OWN)
async def test_a_reported_device_of_somebody_who_has_no_other_comes_along_into_no_class_unsaid(
    thieving: Thieving,
) -> None:
    his, person = spy(), await thieving.office.add_person("M. Durand", "teacher")  # who has no computer yet
    await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person))
    assert await thieving.reads(his, await thieving.next_class(person))  # it is told, and somebody looks at it
    await thieving.year.do("lost", device=his.signing.public.hex())
    await _is_let_back(thieving, his, person)
    assert not await thieving.reads(his, await thieving.next_class(person))
    assert any(f"the device {his.signing.public.hex()} stays out" in line for line in thieving.office.said.lines)


@attack(ROW, off=AS_ITS_OWN)
async def test_nor_does_one_that_somebody_had_let_in_by_its_name(thieving: Thieving) -> None:
    his, person = spy(), thieving.year.person
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    await thieving.year.do("grant", device=his.signing.public.hex(), space=[thieving.here.space.hex()])
    await thieving.year.do("lost", device=his.signing.public.hex())
    await _is_let_back(thieving, his, person)
    space = await thieving.next_class()
    assert [await thieving.reads(each, space) for each in (thieving.year.teacher, his)] == [True, False]


@attack(ROW, off={"protocol.replica.office.device_cuts.leaves_said_here": _whoever_says_who_left})
async def test_nor_does_one_of_whose_person_the_copy_says_that_she_left_in_the_moment_of_the_report(
    thieving: Thieving,
) -> None:
    his, person = spy(), await thieving.office.add_person("M. Durand", "teacher")
    await thieving.brings(Kind.GRANT, thieving.let_in(his, person=person))  # from here on the server says what it says
    await thieving.year.do("lost", device=his.signing.public.hex())
    left = PersonRecord("M. Durand", PersonRole.TEACHER, left=True).encode()
    await brought(thieving.here, said_by_copy(thieving.here, Kind.PERSON, left, subject=person))  # in that millisecond
    (report,) = orders_by_key(await thieving.office.server.store.scan_kinds([Kind.REVOKE]))[his.signing.public]
    assert report.header.at & 0xFFFF, "it is said before the report"
    await _is_let_back(thieving, his, person)
    assert not await thieving.reads(his, await thieving.next_class(person))
    assert any(f"the device {his.signing.public.hex()} stays out" in line for line in thieving.office.said.lines)


@attack(ROW, off={"protocol.replica.office.device_cuts.held_surely": _whatever_holds_it_back})
async def test_nor_does_one_whose_report_by_a_head_teacher_the_copy_holds_back(thieving: Thieving) -> None:
    here, second = thieving.here, await thieving.here.device("teacher", thieving.year.person)
    head = await here.head_of_the_school()
    await here.sync()
    await Desk(head.agent).ask("lost", device=second.agent.device.hex())
    await here.sync(head)
    assert not await thieving.reads(second, here.space)
    cut = await thieving.brings(Kind.REVOKE, Revocation(head.agent.device, ()).encode(), space=here.school)
    keys = head.agent.keys
    again = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.HEAD, None, None).encode()
    await thieving.brings(Kind.GRANT, again, space=here.school, parents=[cut.id])
    await _is_let_back(thieving, second.agent.keys, thieving.year.person)
    space = await thieving.next_class()
    assert [await thieving.reads(each, space) for each in (thieving.year.teacher, second)] == [True, False]
    assert any(f"the device {second.agent.device.hex()} stays out" in line for line in thieving.office.said.lines)


async def _none_by_rank(*_: object) -> set[bytes]:
    return set()


@pytest.mark.parametrize("new_keys", [False, True], ids=["by-the-copied-server", "by-one-with-new-keys"])
@pytest.mark.parametrize("role", [Role.HEAD, Role.ADMIN])
@attack(ROW, off={"protocol.replica.office.device_cuts._outranked": _none_by_rank})
async def test_nor_does_one_that_a_head_teacher_reported_and_the_copy_then_makes_a_heads(
    thieving: Thieving, role: Role, new_keys: bool
) -> None:
    here, person = thieving.here, thieving.year.person
    second, head = await here.device("teacher", person), await here.head_of_the_school()
    await here.sync()
    await Desk(head.agent).ask("lost", device=second.agent.device.hex())
    await here.sync(head)
    assert not await thieving.reads(second, here.space)
    await thieving.brings(Kind.GRANT, granted(second.agent.keys, role, person))
    assert await thieving.reads(second, here.space)
    if new_keys:
        await thieving.new_keys()
    space = await thieving.next_class()
    assert [await thieving.reads(each, space) for each in (thieving.year.teacher, second)] == [True, False]
    told = f"the device {second.agent.device.hex()} stays out: it was reported lost, or cut off"
    assert any(line.startswith(told) for line in thieving.office.said.lines)


async def test_who_has_found_it_says_so_by_one_command_and_it_comes_along_again(thieving: Thieving) -> None:
    here, person = thieving.here, thieving.year.person
    second, head = await here.device("teacher", person), await here.head_of_the_school()
    await here.sync()
    await Desk(head.agent).ask("lost", device=second.agent.device.hex())
    await here.sync(head)
    await thieving.brings(Kind.GRANT, granted(second.agent.keys, Role.HEAD, person))
    await thieving.year.do("grant", device=second.agent.device.hex(), space=[here.space.hex()])
    assert await thieving.reads(second, await thieving.next_class())


async def test_what_a_stolen_heads_computer_had_reported_keeps_nobody_out_once_that_is_reported_here(
    thieving: Thieving,
) -> None:
    here, teacher, head = thieving.here, thieving.year.teacher, await thieving.here.head_of_the_school()
    await here.sync()
    await note_arrivals(thieving.office.server.store, thieving.clock())
    thieving.clock.advance(DAY_MS)
    await Desk(head.agent).ask("lost", device=teacher.agent.device.hex())
    await here.sync(head)
    assert not await thieving.reads(teacher, here.space)
    await thieving.year.do("lost", device=head.agent.device.hex(), since="12h")
    assert await thieving.reads(teacher, await thieving.next_class())
    assert thieving.office.said.lines == []


async def test_whose_computer_was_cut_off_as_she_left_one_class_comes_along_into_the_next(thieving: Thieving) -> None:
    person, old = thieving.year.person, thieving.here.space
    await thieving.next_class()
    await thieving.year.do("ungrant", person=person, space=[old.hex()])
    assert not await thieving.reads(thieving.year.teacher, old)
    assert await thieving.reads(thieving.year.teacher, await thieving.next_class())
    assert thieving.office.said.lines == []


async def _told_of(thieving: Thieving) -> str:
    del thieving.office.said.lines[:]
    await thieving.year.do("devices")
    return "\n".join(thieving.office.said.lines)


@attack(ROW, off={"sync_server.handlers.overview.members.cut_off_here": _nobody})
async def test_where_it_is_let_back_it_is_told_among_the_devices(thieving: Thieving) -> None:
    his, person = spy(), thieving.year.person
    await thieving.brings(Kind.GRANT, thieving.let_in(his))
    await thieving.year.do("lost", device=his.signing.public.hex())
    assert "a copy of this server's key" not in await _told_of(thieving)
    await _is_let_back(thieving, his, person)
    assert f"the device {his.signing.public.hex()} was cut off here" in await _told_of(thieving)


async def test_who_is_found_again_and_let_back_by_a_command_comes_along_and_nothing_is_told(thieving: Thieving) -> None:
    hers = thieving.year.teacher.agent.device.hex()
    await thieving.year.do("lost", device=hers)
    await thieving.year.do("grant", device=hers, space=[thieving.here.space.hex()])
    assert await thieving.reads(thieving.year.teacher, await thieving.next_class())
    assert thieving.office.said.lines == []
    assert await _told_of(thieving) == ""


async def test_also_once_the_servers_keys_are_others(thieving: Thieving) -> None:
    hers = thieving.year.teacher.agent.device.hex()
    await thieving.year.do("lost", device=hers)
    await thieving.year.do("grant", device=hers, space=[thieving.here.space.hex()])
    await thieving.new_keys()
    assert await thieving.reads(thieving.year.teacher, await thieving.next_class())
    assert await _told_of(thieving) == ""


async def _all_cuts(office: Office) -> list[Entry]:
    return await office.replica.store.scan_kinds([Kind.REVOKE])


@attack(ROW, off={"sync_server.handlers.record.late_rights.cuts_of_servers": _all_cuts})
async def test_nobody_is_asked_to_report_again_whom_a_copied_key_cut_off_in_a_class_where_they_never_were(
    thieving: Thieving,
) -> None:
    other = await thieving.year.do("space add", name="CM2", school="0180001D", year="none")
    cut = Revocation(thieving.year.teacher.agent.device, ()).encode()
    await thieving.brings(Kind.REVOKE, cut, space=bytes.fromhex(other["space"]))
    assert await late_right_notices(thieving.office.server) == []
