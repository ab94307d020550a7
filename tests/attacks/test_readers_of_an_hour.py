"""Whoever has the server lets somebody read while PCs alone are answered (docs/attacks.md; docs/adr/0272)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import pytest

from protocol.identity import AgreementKey
from protocol.limits import MAX_READERS_PER_HAND_IN, MAX_READING_KEYS_PER_DEVICE, SALT_BYTES
from protocol.messages.lives import Twin
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, PersonKey, PersonRecord, Revocation
from protocol.model.work import Wraps
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.people import first_names
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as Keys
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.binding import Part
from sync_agent.keys.confirming import list_readers
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.past_readers import (
    PastReader,
    _Sayer,
    _sayers,
    _Span,
    _spans,
    acknowledge_past,
    list_past_readers,
)
from sync_agent.keys.seals_read import Seal, SealsRead
from sync_agent.keys.seen_readers import looked_at
from sync_agent.keys.succession import TELLINGS, Place, bind
from sync_agent.machine.marks import KNOWN_READER_MARKS
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.erasures import closed_by_anybody
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import let_in_again
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a reader of an hour"
HERS = "Mme Petit"
NEWS = "M. X a pu lire 2 travaux d'élèves (CM1)"


async def _nobody(*_: object) -> list[PastReader]:
    return []


def _all_are_known(roster: Roster, starts: Mapping[bytes, Iterable[Keys]]) -> dict[str, bytes]:
    devices = (device_id(device) for theirs in starts.values() for device in theirs)
    return {f"{KNOWN_READER_MARKS}{roster.space.hex()}/{device.hex()}": b"" for device in devices}


def _by_what_counts(said: Iterable[Entry], roster: Roster, door: Door) -> Mapping[bytes, Collection[_Sayer]]:
    return _sayers([entry for entry in said if not roster.hides(entry)], roster, door)


def _whatever_is_held_back(sealed: Mapping[bytes, Seal], roster: Roster) -> Mapping[tuple[bytes, ...], _Span]:
    return _spans(sealed, replace(roster, held_back=frozenset()))


@dataclass
class Hour:
    """A class in which M. X read for an hour, while the server answered the PC alone; and the head's computer."""

    here: SpiedClass
    head: Device
    x: bytes

    async def is_over(self, *heads: bytes) -> None:
        """He is cut off but for what these lead to, and taken off the list; then everybody is answered again."""
        territory, space = self.here.room.territory, self.here.room.space
        shown = (await territory.replica.view(space)).roster.persons[self.x].entry
        await territory.say(space, Kind.REVOKE, Revocation(self.here.spy.signing.public, heads).encode())
        gone = PersonRecord("M. X", PersonRole.TEACHER, left=True).encode()
        await territory.say(space, Kind.PERSON, gone, subject=self.x, parents=(shown,))
        for _ in range(3):
            await self.here.sync(*self.here.room.devices)
        assert await self.here.room.agree()

    async def all_that_he_said(self) -> list[bytes]:
        """The heads that leave it standing."""
        here = self.here
        return await here.room.territory.replica.tips(here.room.space, here.spy.signing.public)

    async def told(self, device: Device) -> list[PastReader]:
        """Who could read for a time, as a device tells it."""
        return await list_past_readers(device.agent, await list_readers(device.agent))


@pytest.fixture
async def hour(tmp_path: Path) -> AsyncIterator[Hour]:
    async with spied_class(tmp_path, kept_for=f"{__name__}: an hour", further=_an_hour) as here:
        (x,) = here.room.territory.replica.door.authorities_of(here.spy.signing.public)
        assert x.person is not None
        yield Hour(here, here.room.devices[-1], x.person)


@pytest.fixture
async def hour_in_her_name(tmp_path: Path) -> AsyncIterator[Hour]:
    async with spied_class(tmp_path, kept_for=f"{__name__}: her name", further=partial(_an_hour, name=HERS)) as here:
        (x,) = here.room.territory.replica.door.authorities_of(here.spy.signing.public)
        assert x.person is not None
        yield Hour(here, here.room.devices[-1], x.person)


async def _an_hour(here: SpiedClass, name: str = "M. X") -> None:
    room = here.room
    await confirmed_head(here)
    waiting = await room.hand_in(here.machine, here.item, {"w.odt": b"waits for its teacher"})
    await here.sync(here.machine)
    await here.name_the_spy(await room.territory.person(name, PersonRole.TEACHER, room.space))
    await here.sync(here.machine)
    new = await room.hand_in(here.machine, here.item, {"n.odt": b"handed in meanwhile"})
    await here.sync(here.machine)
    assert await here.opens(waiting)
    assert await here.opens(new)


@attack(
    ROW,
    off={
        "sync_agent.portal.teacher.readers.list_past_readers": _nobody,
        "sync_agent.keys.returns_told.list_past_readers": _nobody,
    },
)
async def test_who_read_for_an_hour_that_no_teacher_heard_of_is_told_to_each_of_them(hour: Hour) -> None:
    await hour.is_over(*await hour.all_that_he_said())
    for device in (hour.here.teacher, hour.head):
        async with portal(device.agent) as surfer:
            assert NEWS in (await surfer.page("/")).replace("&#39;", "'")
            assert "Ont pu lire pendant un temps" in await surfer.page("/readers")
        rows = await Desk(device.agent).ask("key-readers")
        (told,) = [row for row in rows if row["state"] == "could read"]
        assert (told["teacher"], told["past"]["works"]) == ("M. X", 2)


async def _without_a_number(replica: Replica, _rosters: object, persons: Collection[bytes]) -> dict[bytes, str]:
    return await first_names(replica, persons)


@attack(ROW, off={"sync_agent.keys.past_readers.first_signatures": _without_a_number})
async def test_of_who_was_listed_under_her_name_it_is_told_with_the_number_that_tells_him_from_her(
    hour_in_her_name: Hour,
) -> None:
    hour = hour_in_her_name
    await hour.is_over()
    for device in (hour.here.teacher, hour.head):
        assert [each.called for each in await hour.told(device)] == [f"{HERS} (2)"]


@attack(ROW, off={"sync_agent.keys.past_readers._sayers": _by_what_counts})
async def test_so_is_who_was_cut_off_with_all_that_he_ever_said(hour: Hour) -> None:
    await hour.is_over()
    (told,) = await hour.told(hour.here.teacher)
    assert (told.called, told.works, told.is_news) == ("M. X", 2, True)


@attack(ROW, off={"sync_agent.keys.confirming.closed_by_kit": closed_by_anybody})
async def test_whoever_has_the_servers_key_hides_him_by_no_word_that_closes_the_class(hour: Hour) -> None:
    await hour.is_over()
    here = hour.here
    await here.room.territory.say(here.room.school, Kind.ERASE, Erasure(here.room.space).encode())
    await here.sync(here.machine, here.teacher)
    # whose each key is lies in the class: what she alone could read is told with what he could
    assert [(each.works, each.is_news) for each in await hour.told(here.teacher)] == [(3, True)]
    async with portal(here.teacher.agent) as surfer:
        for address, words in (("/", "a pu lire 3 travaux d'élèves (CM1)"), ("/readers", "3 travaux d'élèves (CM1)")):
            assert words in html.unescape(await surfer.page(address))


@attack(ROW, off={"sync_agent.keys.past_readers._nameless": lambda *_: None})
async def test_of_who_was_erased_it_is_told_that_somebody_could_read(hour: Hour) -> None:
    await hour.is_over()
    territory, space = hour.here.room.territory, hour.here.room.space
    await territory.say(space, Kind.ERASE, Erasure(hour.x).encode())
    await hour.here.sync(hour.here.machine, hour.here.teacher)
    told = next(iter(await hour.told(hour.here.teacher)), None)
    assert told is not None
    assert (told.person, told.called, told.devices, told.works, told.is_news) == (None, None, (), 2, True)
    async with portal(hour.here.teacher.agent) as surfer:
        page = await surfer.page("/")
        assert "Quelqu&#39;un dont le nom n&#39;est pas, ou plus, connu ici a pu lire 2" in page
        assert "M. X" not in page
        await surfer.send("/readers", "/readers/seen-past", {"reader": told.id.hex()})
        assert "a pu lire" not in await surfer.page("/")


@attack(ROW, off={"sync_agent.keys.first_met._there_already": _all_are_known})
async def test_a_laptop_that_meets_the_class_afterwards_tells_of_it_as_well(hour: Hour) -> None:
    await hour.is_over(*await hour.all_that_he_said())
    room = hour.here.room
    colleague = await room.device(
        Role.TEACHER, person=await room.territory.person("Mme Roy", PersonRole.TEACHER, room.space)
    )
    await hour.here.sync(colleague, hour.here.machine, colleague)
    assert [each.called for each in await hour.told(colleague) if each.is_news] == ["M. X"]


@attack(ROW, off={"sync_agent.keys.seals_read._has_the_key": lambda *_: True})
async def test_a_machine_that_wraps_what_others_handed_in_names_no_colleague_as_its_reader(hour: Hour) -> None:
    here = hour.here
    other = await here.room.machine()
    await here.sync(other)
    agent = other.agent
    right = await agent.right(here.room.space, Kind.WRAP)
    false = Wraps(((bytes(31) + b"\x09", bytes(80)),))
    async with agent.writing:
        draft = Draft(
            here.room.space, Kind.WRAP, right.grant, false.encode(), subject=here.room.pupil_person, target=here.work
        )
        await agent.write(draft)
    await here.sync(other)
    await hour.is_over()
    assert [each.called for each in await hour.told(here.teacher)] == ["M. X"]


async def _left_before(here: SpiedClass) -> bytes:
    """The reading key of an honest colleague, who left before anything of what is handed in now."""
    territory, space = here.room.territory, here.room.space
    roy = await territory.person("M. Roy", PersonRole.TEACHER, space)
    colleague = await here.room.device(Role.TEACHER, person=roy)
    await here.sync(colleague, here.teacher)
    (key, *_) = reading_keys(colleague.agent)
    here.room.devices.remove(colleague)
    await colleague.close()
    shown = (await territory.replica.view(space)).roster.persons[roy].entry
    heads = await territory.replica.tips(space, colleague.agent.device)
    await territory.say(space, Kind.REVOKE, Revocation(colleague.agent.device, tuple(heads)).encode())
    gone = PersonRecord("M. Roy", PersonRole.TEACHER, left=True).encode()
    await territory.say(space, Kind.PERSON, gone, subject=roy, parents=(shown,))
    await here.sync()
    return key


async def _cut_off(spy: SpiedClass) -> None:
    """With all that it ever said."""
    await spy.room.territory.say(spy.room.space, Kind.REVOKE, Revocation(spy.spy.signing.public, ()).encode())


async def _says_sealed(hour: Hour, spy: SpiedClass, work: bytes, keys: Iterable[bytes]) -> None:
    """A device says that it has sealed a work to these keys."""
    for wraps in _wraps(keys):
        await spy.say(Kind.WRAP, wraps, hour.here.room.pupil_person, target=work)


def _wraps(keys: Iterable[bytes]) -> Iterator[bytes]:
    """Payloads that say so."""
    listed = sorted(keys)
    for start in range(0, len(listed), MAX_READERS_PER_HAND_IN):
        yield Wraps(tuple((key, bytes(80)) for key in listed[start : start + MAX_READERS_PER_HAND_IN])).encode()


async def _invented_teacher(hour: Hour) -> SpiedClass:
    """A device of the server's, as a teacher's whom it has made up."""
    here = hour.here
    spy = replace(here, spy=new_device(Random(88).randbytes))
    await spy.name_the_spy(await here.room.territory.person("N. N.", PersonRole.TEACHER, here.room.space))
    return spy


@attack(ROW, off={"sync_agent.keys.seals_read._has_the_key": lambda *_: True})
async def test_a_teachers_device_that_the_server_invents_names_no_colleague_who_has_left(hour: Hour) -> None:
    key, spy = await _left_before(hour.here), await _invented_teacher(hour)
    await _says_sealed(hour, spy, hour.here.work, [key])
    await _cut_off(spy)
    await hour.is_over()
    assert [each.called for each in await hour.told(hour.here.teacher)] == ["M. X"]


@attack(
    ROW,
    off={
        "sync_agent.keys.seals_read._has_the_key": lambda *_: True,
        "sync_agent.keys.past_readers._are_looked_at": lambda *_: False,
    },
)
async def test_nor_does_it_hide_anybody_behind_keys_of_nobody(hour: Hour) -> None:
    spy = await _invented_teacher(hour)
    works = (await hour.here.room.territory.replica.view(hour.here.room.space)).coursework.hand_ins
    for work in works:
        await _says_sealed(hour, spy, work, map(Random(7).randbytes, [32] * 1_001))
    await _cut_off(spy)
    await hour.is_over()
    for each in await hour.told(hour.here.teacher):
        await acknowledge_past(hour.here.teacher.agent, each)
    assert not [each for each in await hour.told(hour.here.teacher) if each.is_news]


@attack(ROW, off={"sync_agent.keys.past_readers._spans": _whatever_is_held_back})
async def test_nor_a_pc_that_it_invents_with_work_that_nobody_is_shown(hour: Hour) -> None:
    here = hour.here
    key, spy = await _left_before(here), replace(here, spy=new_device(Random(89).randbytes))
    (granted,) = await here.room.territory.let_in(spy.spy, Role.MACHINE, here.room.space)
    spy.grant = granted.id
    content = (await here.room.territory.replica.store.get([here.work]))[here.work].payload or b""
    made = await spy.say(Kind.HAND_IN, content, here.room.pupil_person, target=here.item)
    await _says_sealed(hour, spy, made.id, [key])
    await _cut_off(spy)
    await hour.is_over()
    assert [each.called for each in await hour.told(here.teacher)] == ["M. X"]


@attack(ROW, off={"sync_agent.keys.past_readers._are_looked_at": lambda *_: False})
async def test_nor_does_a_pc_keep_an_alarm_up_with_keys_of_nobody_for_work_that_is_handed_in_on_it(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        machine, teacher = here.machine.agent, here.teacher.agent
        work = await here.room.hand_in(here.machine, here.item, {"a.odt": b"mine"})
        right = await machine.right(here.room.space, Kind.WRAP)
        for number, said in enumerate(_wraps(map(Random(8).randbytes, [32] * 1_001))):
            await machine.write(Draft(here.room.space, Kind.WRAP, right.grant, said, here.room.pupil_person, work))
            await here.sync(here.machine, here.teacher)
            told = await list_past_readers(teacher, await list_readers(teacher))
            assert [(each.person, each.works) for each in told] == [(None, 1)]
            assert not number or not told[0].is_news, "she has looked at that work"
            await acknowledge_past(teacher, told[0])


async def _reads_for_an_hour(here: SpiedClass, name: str, works: int) -> None:
    """Somebody whom the server names, with as many keys as count of a device, while the PC alone is answered."""
    territory, space = here.room.territory, here.room.space
    spy = replace(here, spy=new_device(Random(name).randbytes))
    person = await territory.person(name, PersonRole.TEACHER, space)
    await spy.name_the_spy(person)
    for number in range(1, MAX_READING_KEYS_PER_DEVICE):
        made = AgreementKey(Random(f"{name} {number}").randbytes(32))
        await spy.say(Kind.PERSON_KEY, PersonKey(made.public).encode(), person)
    await here.sync(here.machine)
    for number in range(works):
        await here.room.hand_in(here.machine, here.item, {"a.odt": f"{name} {number}".encode()})
    await here.sync(here.machine)
    await _cut_off(spy)
    for _ in range(2):
        await here.sync()


async def _news_once(teacher: Device) -> list[tuple[str | None, int]]:
    """Of whom she is told, and looks at them."""
    news = [each for each in await list_past_readers(teacher.agent, await list_readers(teacher.agent)) if each.is_news]
    for each in news:
        await acknowledge_past(teacher.agent, each)
    return [(each.called, each.works) for each in news]


@attack(ROW, off={"sync_agent.keys.past_readers._have_a_name": lambda *_: frozenset()})
async def test_a_flood_of_work_that_was_sealed_to_one_of_them_makes_no_alarm_and_hides_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.seals_read.MAX_SEALED_BY_ONE", 10)
    async with spied_class(tmp_path) as here:
        await _reads_for_an_hour(here, "M. X", 6)
        # one that waited was sealed to him as well
        assert [called for called, _ in await _news_once(here.teacher)] == ["M. X"]
        await here.room.hand_in(here.machine, here.item, {"a.odt": b"sealed to Mme Petit, and to nobody else"})
        await here.sync(here.machine, here.teacher)
        assert await _news_once(here.teacher) == []
        await _reads_for_an_hour(here, "M. Y", 1)
        assert "M. Y" in [called for called, _ in await _news_once(here.teacher)]


def _never_again(read: SealsRead, said: Mapping[bytes, frozenset[bytes]]) -> list[bytes]:
    read.said = said
    return []


@attack(ROW, off={"sync_agent.keys.seals_read.SealsRead.said_by_now": _never_again})
async def test_nor_does_it_where_his_keys_are_heard_of_after_what_was_sealed_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.seals_read.MAX_SEALED_BY_ONE", 10)
    async with spied_class(tmp_path) as here:
        right = await here.machine.agent.right(here.room.space, Kind.WRAP)
        of_x = new_device(Random("M. X").randbytes).agreement.public
        for number in range(3):
            work = await here.room.hand_in(here.machine, here.item, {"a.odt": bytes([number])})
            said = Wraps(tuple((key, bytes(80)) for key in sorted({of_x, *map(Random(number).randbytes, [32] * 9)})))
            draft = Draft(here.room.space, Kind.WRAP, right.grant, said.encode(), here.room.pupil_person, work)
            await here.machine.agent.write(draft)
        await here.sync(here.machine, here.teacher)
        assert [called for called, _ in await _news_once(here.teacher)] == [None]
        # the PC hears of it too late to seal anything else to him
        spy = replace(here, spy=new_device(Random("M. X").randbytes))
        await spy.name_the_spy(await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space))
        await _cut_off(spy)
        await here.sync(here.teacher)
        assert await _news_once(here.teacher) == [("M. X", 3)]


_HERE: Final = {part: frozenset({f"{part} of this PC"}) for part in Part}


async def _begun_again(here: SpiedClass, place: Place) -> None:
    """The PC's program is started anew: if it was told that it is one of two, with keys of its own."""
    room, machine = here.room, here.machine
    folder = machine.agent.folder
    room.devices.remove(machine)
    await machine.close()
    agent = await place.open(folder, room.territory.clock, Random(9).randbytes)
    way = room.way(room.frontage)
    here.machine = Device(agent, Session(agent, way), way)
    room.devices.append(here.machine)


@attack(ROW, off={"protocol.rights.door.Door.began_as": Door.origin})
async def test_so_is_he_where_the_pc_has_keys_of_its_own_by_then_to_which_the_server_gave_its_right(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space = here.room.territory, here.room.space
        place, first = Place(_HERE), here.machine.agent.device
        bind(here.machine.agent.folder, _HERE, Random(9).randbytes)
        await _begun_again(here, place)
        work = await here.room.hand_in(here.machine, here.item, {"a.odt": b"waits for its teacher"})
        await here.sync(here.machine)
        for _ in range(TELLINGS):
            here.machine.agent.on_twin(Twin.LATER)
        await _begun_again(here, place)
        assert here.machine.agent.device != first
        for _ in range(2):
            await here.sync(here.machine)
        await territory.let_in(here.machine.agent.keys, Role.MACHINE, space)
        await here.sync(here.machine)
        hour = Hour(here, here.teacher, await territory.person("M. X", PersonRole.TEACHER, space))
        await here.name_the_spy(hour.x)
        for _ in range(2):
            await here.sync(here.machine)
        assert await here.opens(work)
        await hour.is_over(*await hour.all_that_he_said())
        assert [(each.called, each.is_news) for each in await hour.told(here.teacher)] == [("M. X", True)]


# --- nor does an honest colleague bear the thief's reading ------------------------------------------------------------


def _whoever_a_grant_calls_it(_self: object, _sayer: _Sayer) -> bool:
    return True


async def _says_it_as(hour: Hour, name: str) -> bytes:
    """A colleague with a laptop of his own, whom everybody knows, as whom the thief's device says its key as well."""
    here, territory, space = hour.here, hour.here.room.territory, hour.here.room.space
    durand = await territory.person(name, PersonRole.TEACHER, space)
    colleague = await here.room.device(Role.TEACHER, person=durand)
    for _ in range(2):
        await here.sync(colleague, here.teacher, here.machine, hour.head)
    (grant,) = await territory.let_in(here.spy, Role.TEACHER, space, person=durand)
    key = PersonKey(here.spy.agreement.public).encode()
    at, salt = (territory.clock() << 16) + 9, bytes(SALT_BYTES)
    said = compose(
        author=here.spy.signing,
        space=space,
        kind=Kind.PERSON_KEY,
        grant=grant.id,
        at=at,
        payload=key,
        salt=salt,
        subject=durand,
    )
    await territory.replica.admit([said], source=b"the server", now_ms=territory.clock())
    return durand


@attack(ROW, off={"sync_agent.keys.past_readers._Class._is_led_to": _whoever_a_grant_calls_it})
async def test_a_colleague_as_whom_a_thiefs_device_was_let_in_too_is_not_named_for_what_it_read(hour: Hour) -> None:
    await _says_it_as(hour, "M. Durand")
    await hour.is_over(*await hour.all_that_he_said())
    assert {past.called for past in await hour.told(hour.here.teacher)} == {"M. X"}


@attack(ROW, off={"sync_agent.keys.past_readers._Class._is_led_to": _whoever_a_grant_calls_it})
async def test_what_a_device_read_in_a_colleagues_name_alone_is_said_to_be_an_unconfirmed_devices(
    hour: Hour,
) -> None:
    await _says_it_as(hour, "M. Durand")
    await hour.is_over()  # nothing that he said as M. X is known by now
    async with portal(hour.here.teacher.agent) as surfer:
        page = html.unescape(await surfer.page("/readers"))
    assert "<h3>M. Durand</h3>" not in page.partition('id="h-past"')[2]


def _none_is_let_in_still(_self: Roster, _key: bytes) -> bool:
    return False


@attack(ROW, off={"protocol.rights.roster.Roster.may_read": _none_is_let_in_still})
async def test_who_reads_on_in_her_name_on_computers_that_were_told_so_is_not_said_to_read_no_more(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        hers, territory, space = here.teacher, here.room.territory, here.room.space
        said = tuple(await territory.replica.tips(space, hers.agent.device))
        await territory.say(space, Kind.REVOKE, Revocation(hers.agent.device, said).encode())
        await here.name_the_spy(here.room.teacher_person)
        await here.sync(here.machine)
        await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
        for _ in range(2):
            await here.sync()
        work = await here.room.hand_in(here.machine, here.item, {"n.txt": b"n"})
        await here.sync(here.machine, hers)
        assert await here.opens(work)
        async with portal(hers.agent) as surfer:
            home, page = [html.unescape(await surfer.page(path)) for path in ("/", "/readers")]
        assert "peut lire 1 travail d'élève (CM1)" in home
        assert "plus rien n'est remis" not in home
        assert "lui donnent encore des travaux" in page
        assert "Personne d'autre ne lit" not in page


async def _as_a_reader(agent: Agent, past: PastReader) -> None:
    assert past.person is not None
    shown = [(each.space, each.what, past.person, True) for each in past.noted]
    await agent.replica.store.set_marks(await looked_at(agent, shown))


def _never_back(*_: object) -> bool:
    return False


@attack(
    ROW,
    off={
        "sync_agent.portal.teacher.readers.acknowledge_past": _as_a_reader,
        "sync_agent.keys.confirming.has_another": _never_back,
        "sync_agent.keys.past_readers.has_another": _never_back,
    },
)
async def test_who_was_seen_as_gone_is_news_as_soon_as_they_read_again_and_once_they_could_read_more(
    hour: Hour,
) -> None:
    here, territory, space = hour.here, hour.here.room.territory, hour.here.room.space

    async def is_cut_off() -> bytes:
        said = await territory.say(space, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())
        for _ in range(2):
            await here.sync(*here.room.devices)
        return said.id

    cut = await is_cut_off()
    async with portal(here.teacher.agent) as surfer:
        (past,) = await hour.told(here.teacher)
        await surfer.send("/readers", "/readers/seen-past", {"reader": past.id.hex()})
        assert "M. X" not in await surfer.page("/")
        before = (await territory.replica.store.get([here.grant]))[here.grant]
        again = await territory.say(space, Kind.GRANT, before.payload or b"", parents=(here.grant, cut))
        said = replace(here, grant=again.id)
        await said.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), hour.x)
        for _ in range(2):
            await here.sync(*here.room.devices)
        assert "M. X lit les travaux" in await surfer.page("/")
        await here.room.hand_in(here.machine, here.item, {"z.txt": b"z"})
        await here.sync(here.machine)
        await is_cut_off()
        assert "M. X" in await surfer.page("/")


def _so_many(works: Collection[bytes], mark: bytes | None) -> bool:
    return len(works) > len(mark or b"") // 8


@attack(ROW, off={"sync_agent.keys.past_readers.has_more_works": _so_many})
async def test_works_that_are_held_back_since_make_no_room_for_others_to_be_read_untold(hour: Hour) -> None:
    here, territory, space = hour.here, hour.here.room.territory, hour.here.room.space
    seat = await here.room.machine()
    for _ in range(2):
        await here.sync(seat, here.machine)
    for content in (b"a", b"b"):
        await here.room.hand_in(seat, here.item, {"s.txt": content})
    await here.sync(seat)

    async def is_cut_off(key: bytes) -> bytes:
        said = await territory.say(space, Kind.REVOKE, Revocation(key, ()).encode())
        return said.id

    cut = await is_cut_off(here.spy.signing.public)
    for _ in range(2):
        await here.sync()
    async with portal(here.teacher.agent) as surfer:
        (past,) = await hour.told(here.teacher)
        assert past.works == 4
        await surfer.send("/readers", "/readers/seen-past", {"reader": past.id.hex()})
        assert "M. X" not in await surfer.page("/")
        await is_cut_off(seat.agent.device)
        before = (await territory.replica.store.get([here.grant]))[here.grant]
        again = await territory.say(space, Kind.GRANT, before.payload or b"", parents=(here.grant, cut))
        said = replace(here, grant=again.id)
        await said.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), hour.x)
        for _ in range(2):
            await here.sync(here.machine)
        for content in (b"c", b"d"):
            await here.room.hand_in(here.machine, here.item, {"h.txt": content})
        await here.sync(here.machine)
        await is_cut_off(here.spy.signing.public)
        for _ in range(2):
            await here.sync()
        (past,) = await hour.told(here.teacher)
        assert past.works == 4
        assert "a pu lire 4 travaux" in await surfer.page("/")
