"""The server's keys, from an old backup say, make an honest server count work as opened that nobody has opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Container
from functools import partial
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from protocol.folds.coursework import Work
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Grant, PersonKey, PersonRecord, Revocation
from protocol.model.work import Receipt
from protocol.replica.office.not_shown import not_shown
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.roster import Roster
from protocol.rights.speaking import UNMET
from protocol.rights.vouching import Device
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.kept_town import town_at_work
from tests.harness.territory import new_device
from tests.harness.year_at_work import Year

ROW = "work that nobody has opened is counted as opened"
HIDDEN = "work is hidden, so that nobody counts it"


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[Year]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Year(here, *at_work, tmp_path)


def _by_any_receipt(
    _roster: Roster,
    _recovery: Collection[bytes],
    _claimed: Container[bytes],
    _first: frozenset[Device],
    _namesakes: Container[bytes],
) -> Callable[[Work], bool]:
    return lambda work: work.opened


async def _said_to_be_opened(
    year: Year, person: bytes, *, claims_hers: bool = False, since_ms: int | None = None, forgotten: bool = False
) -> str:
    """A work that nobody has opened, and what a teacher of the thief's says of it; a pupils' PC brings that."""
    work = bytes.fromhex(await year.work(opened=False))
    server, clock, spy = year.here.office.server, year.here.office.clock, new_device(Random(666).randbytes)
    view = await server.replica.view(year.here.space)
    given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
    let_in = Grant(spy.signing.public, spy.agreement.public, None, Role.TEACHER, person, None, None)
    say = partial(compose, space=year.here.space, salt=bytes(SALT_BYTES))
    at = (clock() if since_ms is None else since_ms) << 16
    grant = say(author=server.keys.signing, kind=Kind.GRANT, grant=given, at=at + 1, payload=let_in.encode())
    (hers,) = view.roster.reading_keys[bytes.fromhex(year.person)][:1]
    if forgotten:
        await _her_word_is_destroyed(year)
    key = PersonKey(hers if claims_hers else spy.agreement.public).encode()
    receipt = Receipt(view.coursework.hand_ins[work].record.content.stream).encode()
    by_spy = partial(say, author=spy.signing, grant=grant.id)
    said = [
        grant,
        by_spy(kind=Kind.PERSON_KEY, at=at + 2, payload=key, subject=person),
        by_spy(kind=Kind.RECEIPT_TEACHER, at=at + 3, payload=receipt, subject=bytes.fromhex(year.pupil), target=work),
    ]
    admission = await server.replica.admit(said, source=b"a computer of the class", now_ms=clock())
    assert len(admission.admitted) == len(said)
    # of who says to be her by an earlier date a server that remembers her hears nothing (docs/adr/0390)
    heard = (await server.replica.view(year.here.space)).coursework.hand_ins[work].opened
    assert heard or since_ms is not None
    return work.hex()


async def _listed(year: Year) -> bytes:
    return bytes.fromhex(await year.here.office.add_person("M. X", PersonRole.TEACHER))


@pytest.mark.parametrize("listed", [True, False])
@attack(ROW, off={"protocol.replica.office.opened.opened_by_the_listed": _by_any_receipt})
async def test_a_class_is_not_closed_with_work_of_which_a_teacher_of_nobodys_says_that_it_was_opened(
    year: Year, *, listed: bool
) -> None:
    await _said_to_be_opened(year, await _listed(year) if listed else bytes([7] * 16))
    told = await year.do("space close", space=year.here.office.space)
    assert (told["unopened"], told["opened_by"]) == (1, [{"name": "M. X" if listed else None, "hand_ins": 1}])
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space)


async def _same_as_the_teacher(year: Year) -> tuple[bytes, bytes]:
    """Whom a list calls the same as her has a laptop by a copied key, and opens what is handed in since; that work."""
    person, spy, clock = bytes([7] * 16), new_device(Random(666).randbytes), year.here.office.clock
    listed = PersonRecord("Mme Petit", PersonRole.TEACHER, left=True, same_as=bytes.fromhex(year.person))
    await _say(year, Kind.PERSON, listed.encode(), subject=person)
    let_in = Grant(spy.signing.public, spy.agreement.public, None, Role.TEACHER, person, None, None)
    grant = await _say(year, Kind.GRANT, let_in.encode())
    by_spy = partial(compose, author=spy.signing, space=year.here.space, grant=grant, salt=bytes(SALT_BYTES))
    key, at = PersonKey(spy.agreement.public).encode(), (clock() << 16) + 2
    await _brought(year, by_spy(kind=Kind.PERSON_KEY, at=at, payload=key, subject=person))
    await year.machine.session.sync()
    work = bytes.fromhex(await year.work(opened=False))
    found = (await year.here.office.server.replica.view(year.here.space)).coursework.hand_ins[work]
    receipt = Receipt(found.record.content.stream).encode()
    about, at = bytes.fromhex(year.pupil), (clock() << 16) + 2
    await _brought(year, by_spy(kind=Kind.RECEIPT_TEACHER, at=at, payload=receipt, subject=about, target=work))
    return work, spy.agreement.public


@attack(ROW, off={"protocol.replica.office.opened.opened_by_the_listed": _by_any_receipt})
async def test_nor_with_work_of_which_somebody_says_so_whom_a_list_calls_the_same_as_the_teacher(year: Year) -> None:
    work, key = await _same_as_the_teacher(year)
    found = (await year.here.office.server.replica.view(year.here.space)).coursework.hand_ins[work]
    assert found.opened
    assert key in found.meant_for
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space, unheard_too=True)


@attack(ROW, off={"protocol.replica.office.opened.opened_by_the_listed": _by_any_receipt})
async def test_nor_with_work_of_which_somebody_on_no_list_says_so_who_says_the_teachers_key(year: Year) -> None:
    await _said_to_be_opened(year, bytes([7] * 16), claims_hers=True)
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space)


@pytest.mark.parametrize("hidden", [False, True])
@attack(ROW, off={"protocol.replica.office.opened.claimed_keys": lambda *_: frozenset()})
async def test_nor_with_work_of_which_somebody_on_the_list_says_so_who_says_the_teachers_key(
    year: Year, *, hidden: bool
) -> None:
    await _said_to_be_opened(year, await _listed(year), claims_hers=True)
    if hidden:
        await _say(year, Kind.REVOKE, Revocation(year.teacher.agent.device, ()).encode())
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space)


@attack(
    ROW,
    off={
        "protocol.replica.office.opened.claimed_keys": lambda *_: frozenset(),
        "protocol.rights.speaking.Remembered.met": lambda *_: UNMET,
        "protocol.replica.office.servers_memory._strangers": lambda *_: frozenset(),
        "protocol.replica.office.servers_memory._there": lambda *_: (),
    },
)
async def test_nor_with_work_of_which_a_device_says_so_that_the_server_calls_the_teachers_own_and_that_says_her_key(
    year: Year,
) -> None:
    await _said_to_be_opened(year, bytes.fromhex(year.person), claims_hers=True, since_ms=1)
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await year.with_kit("space close", space=year.here.office.space)


async def _her_word_is_destroyed(year: Year) -> None:
    """The server's keys have the class's teacher forgotten; all machines carry that out."""
    await _say(year, Kind.ERASE, Erasure(bytes.fromhex(year.person)).encode())
    server, clock = year.here.office.server, year.here.office.clock
    for _ in range(9):
        await Eraser(server.replica, server.holdings).sweep(clock())
        clock.advance(DAY_MS)
    keys = await server.replica.store.of_kinds(year.here.space, [Kind.PERSON_KEY])
    assert keys, "her word about her key was here"
    assert all(one.entry.payload is None for one in keys), "and nobody knows any more which key it was"


@attack(ROW, off={"protocol.rights.keys_in_use.unknown_words": lambda _entries: frozenset()})
async def test_nor_with_work_of_which_who_says_the_teachers_key_says_so_once_she_is_forgotten(year: Year) -> None:
    await _said_to_be_opened(year, await _listed(year), claims_hers=True, forgotten=True)
    told = await year.do("space close", space=year.here.office.space)
    assert (told["unopened"], told["hidden"]) == (1, 0)
    with pytest.raises(BadInput, match="or went with somebody who was forgotten"):
        await year.with_kit("space close", space=year.here.office.space)
    also = {"unopened_too": True, "unheard_too": True}
    told = await year.with_kit("space close", space=year.here.office.space, **also)
    assert told["closed"] is True


@attack(ROW, off={"protocol.replica.office.opened.opened_by_the_listed": _by_any_receipt})
async def test_work_of_which_a_teacher_of_nobodys_says_that_it_was_opened_is_counted_as_readable_with_its_pc(
    year: Year,
) -> None:
    await _said_to_be_opened(year, bytes([7] * 16))
    lost = await year.do("lost", device=year.machine.agent.device.hex(), dry_run=True)
    assert [each["hand_ins_readable"] for each in lost["held"]] == [1]


HIDING = ["a work erased", "its pupil erased", "its assignment erased", "its PC cut off with all that it said"]


async def _hide(year: Year, work: str, how: str) -> None:
    kind, payload = {
        "a work erased": (Kind.ERASE, Erasure(bytes.fromhex(work)).encode()),
        "its pupil erased": (Kind.ERASE, Erasure(bytes.fromhex(year.pupil)).encode()),
        "its assignment erased": (Kind.ERASE, Erasure(year.item).encode()),
        "its PC cut off with all that it said": (Kind.REVOKE, Revocation(year.machine.agent.device, ()).encode()),
    }[how]
    await _say(year, kind, payload)


async def _say(year: Year, kind: Kind, payload: bytes, subject: bytes | None = None) -> bytes:
    """With the server's keys; any computer of the class brings it."""
    server, clock = year.here.office.server, year.here.office.clock
    given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
    at = (clock() << 16) + 1
    keys, salt = server.keys.signing, bytes(SALT_BYTES)
    say = partial(compose, author=keys, space=year.here.space, grant=given, at=at, salt=salt, subject=subject)
    said = say(kind=kind, payload=payload)
    await _brought(year, said)
    return said.id


async def _brought(year: Year, said: Entry) -> None:
    """Any computer of the class brings it to the server."""
    replica, now_ms = year.here.office.server.replica, year.here.office.clock()
    assert (await replica.admit([said], source=b"a computer of the class", now_ms=now_ms)).admitted


def _none_is_hidden(*_: object) -> tuple[int, int]:
    return 0, 0


async def _only_what_is_shown(*_: object) -> tuple[Work, ...]:
    return ()


@pytest.mark.parametrize("how", HIDING)
@attack(HIDDEN, off={"sync_server.handlers.by_kit.closing._hidden": _none_is_hidden})
async def test_a_class_is_not_closed_with_work_that_somebody_has_hidden(year: Year, how: str) -> None:
    await _hide(year, await year.work(opened=False), how)
    told = await year.do("space close", space=year.here.office.space)
    assert (told["hand_ins"], told["unopened"], told["hidden"]) == (0, 0, 1)
    with pytest.raises(BadInput, match="1 of the hand-ins are hidden"):
        await year.with_kit("space close", space=year.here.office.space)
    told = await year.with_kit("space close", space=year.here.office.space, unopened_too=True)
    assert told["closed"] is True


@pytest.mark.parametrize("how", HIDING)
@attack(HIDDEN, off={"protocol.replica.office.losses._hidden_works": _only_what_is_shown})
async def test_work_that_somebody_has_hidden_is_counted_as_readable_with_its_pc(year: Year, how: str) -> None:
    await _hide(year, await year.work(opened=False), how)
    lost = await year.do("lost", device=year.machine.agent.device.hex(), dry_run=True)
    assert [(each["hand_ins_made"], each["hand_ins_readable"]) for each in lost["held"]] == [(1, 1)]


@pytest.mark.parametrize("how", HIDING)
@attack(HIDDEN, off={"protocol.replica.office.losses._hidden_works": _only_what_is_shown})
async def test_work_that_somebody_has_hidden_is_counted_as_readable_with_its_teachers_laptop(
    year: Year, how: str
) -> None:
    await _hide(year, await year.work(opened=False), how)
    lost = await year.do("lost", device=year.teacher.agent.device.hex(), dry_run=True)
    assert [each["hand_ins_readable"] for each in lost["held"]] == [1]


async def test_nor_with_work_that_lies_there_whole_under_an_id_that_was_destroyed_in_another_class(year: Year) -> None:
    """A copied key has such an id be a child of this class by now."""
    replica = year.here.office.server.replica
    await _hide(year, await year.work(opened=False), "its pupil erased")
    view = await replica.view(year.here.space)
    assert len((await not_shown(replica, view, {bytes.fromhex(year.pupil)})).hand_ins) == 1
