"""What a head teacher's computer lets in, by itself or told to, is confirmed by nobody (docs/attacks.md)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.clock import at_from
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, PersonKey, PersonRecord, Revocation, SpaceRecord
from protocol.replica.console.operation import JSON
from protocol.replica.office.acquaintance import Acquaintance
from protocol.replica.office.bureau import Office
from protocol.replica.office.commands import MAX_TOLD_DEVICES, OTHERS, STRANGE
from protocol.replica.office.grants import standing_grants
from protocol.rights.door import Authority
from protocol.rights.vouching import Device as VouchedDevice
from protocol.rights.vouching import device_id, device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk
from tests.harness.granted_words import voices_with_granted_words
from tests.harness.head_at_work import confirmed_head, let_into_another_class
from tests.harness.joined_lists import JOINED
from tests.harness.lan import listening_device
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device
from tests.harness.wire import MemoryTransport
from tests.integration.test_school_without_server import enrol, opened

ROW = "a head teacher's computer lets a server's device in as a teacher's"
CUT_BY_OTHERS = "a thief has others cut people off"
A_GRANT_IS_A_WORD: dict[str, object] = {"protocol.rights.roster.voices_of": voices_with_granted_words}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def let_in_at_the_head(here: Here, head: Device, person: bytes, folder: Path) -> None:
    """By a code that the server's key made for this person, and that the head's computer honours by itself."""
    room = here.room
    code = await room.territory.invite(Role.TEACHER, room.space, person=person)
    await here.sync(head)
    async with listening_device(head.agent) as address:
        await enrol(folder, address, code, room, "x")
    spy = await opened(folder, room)
    here.spy = spy.keys
    for _ in range(2):
        await here.sync(head)
        await Session(spy, MemoryTransport(room.frontage)).sync()
        await here.sync()
    await spy.close()


@attack(ROW, off=A_GRANT_IS_A_WORD)
async def test_a_servers_code_that_a_heads_computer_honours_makes_no_device_the_teachers(
    here: Here, tmp_path: Path
) -> None:
    head, _ = await confirmed_head(here)
    await let_in_at_the_head(here, head, here.room.teacher_person, tmp_path / "spy")
    assert not await here.sealed_to_the_spy()
    assert not await here.opens(here.work)
    async with portal(here.teacher.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" in await surfer.page("/")


@attack(ROW, off=A_GRANT_IS_A_WORD)
async def test_a_servers_code_that_a_heads_computer_honours_makes_no_device_the_heads_own(
    here: Here, tmp_path: Path
) -> None:
    head, director = await confirmed_head(here)
    work = await here.room.hand_in(here.machine, here.item, WORK)
    await here.sync(here.machine, here.teacher, head)
    await Desk(here.teacher.agent).ask("confirm-opened", id=work.hex())
    await here.sync(here.teacher, here.machine, head)
    await let_in_at_the_head(here, head, director, tmp_path / "spy")
    assert not await here.sealed_to_the_spy()
    assert not await here.opens(work)


@attack(ROW, off=A_GRANT_IS_A_WORD)
async def test_a_device_that_a_head_lets_into_one_class_more_is_no_more_the_teachers_than_before(here: Here) -> None:
    head, _ = await confirmed_head(here)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(here.teacher, here.machine, head)
    desk, spy = Desk(head.agent), here.spy.signing.public.hex()
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    for device in (here.teacher.agent.device.hex(), spy):
        await desk.ask("grant", device=device, space=[space])
    assert device_words(own_keys(here.spy)) in "".join(desk.told), "whoever lets it in is told what it has to show"
    await here.sync(head, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(head.agent)), shown_as="head")
    for _ in range(3):
        await here.sync(here.teacher, head)
    assert not await here.sealed_to_the_spy()


async def _everybody(*_: object) -> Callable[[VouchedDevice], Acquaintance]:
    """Whatever grants call somebody's is."""
    return lambda _: Acquaintance.KNOWN


async def _the_last_first(office: Office, device: bytes, _spaces: Sequence[bytes]) -> list[Authority]:
    return list(reversed(await standing_grants(office, device)))


def _names(person: bytes) -> Callable[[Authority], bool]:
    return lambda grant: grant.person == person


async def _nothing(_: Here) -> None:
    """The server calls its device hers, and no more."""


async def _as_a_pc_first(here: Here) -> None:
    await here.room.territory.let_in(here.spy, Role.MACHINE, here.room.space)


async def _in_a_class_of_its_own(here: Here) -> None:
    """Where the device is the first that says a key for her, and says that hers are its own."""
    territory, person = here.room.territory, here.room.teacher_person
    school = territory.replica.door.parent(here.room.space)
    assert school is not None
    made = await territory.say(school, Kind.SPACE, SpaceRecord("Groupe", year="2026-2027").encode())
    (granted,) = await territory.let_in(here.spy, Role.TEACHER, made.id, person=person)
    key = compose(
        author=here.spy.signing,
        space=made.id,
        kind=Kind.PERSON_KEY,
        grant=granted.id,
        at=at_from(territory.clock()),
        payload=PersonKey(here.spy.agreement.public).encode(),
        salt=bytes(SALT_BYTES),
        subject=person,
    )
    assert (await territory.replica.admit([key], source=b"the spy", now_ms=territory.clock())).admitted


@pytest.mark.parametrize("lead_in", [_nothing, _as_a_pc_first])
@attack(ROW, off={"protocol.replica.office.grants.acquaintances_of": _everybody})
async def test_who_lets_a_teacher_into_a_class_takes_along_no_device_that_none_of_hers_confirmed(
    here: Here, lead_in: Callable[[Here], Awaitable[None]]
) -> None:
    head, _ = await confirmed_head(here)
    await lead_in(here)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(here.teacher, here.machine, head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert here.teacher.agent.device in inside
    assert here.spy.signing.public not in inside
    assert here.spy.signing.public.hex() in told
    assert device_words(own_keys(here.spy)) in told


@attack(ROW, off={"protocol.replica.office.grants.acquaintances_of": _everybody})
async def test_a_device_that_speaks_for_a_teacher_in_a_class_of_the_servers_own_is_taken_along_to_no_other(
    here: Here,
) -> None:
    head, _ = await confirmed_head(here)
    await _in_a_class_of_its_own(here)
    await here.name_the_spy(here.room.teacher_person)
    await here.sync(here.teacher, here.machine, head)
    await here.sync(head)
    inside, _ = await let_into_another_class(head, here.room.teacher_person)
    assert here.spy.signing.public not in inside
    assert here.teacher.agent.device in inside, "nor does the server keep hers out"


@attack(ROW, off={"protocol.replica.office.grants.acquaintances_of": _everybody})
async def test_who_is_made_silent_on_the_heads_computer_alone_is_still_whom_it_met_first(here: Here) -> None:
    head, _ = await confirmed_head(here)
    territory, person, keys = here.room.territory, here.room.teacher_person, here.teacher.agent.keys
    await territory.let_in(here.spy, Role.TEACHER, here.room.space, person=person)
    pair = keys.signing.public, keys.agreement.public
    cut = await territory.say(here.room.space, Kind.REVOKE, Revocation(pair[0], ()).encode())
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, person, None, None).encode()
    await territory.say(here.room.space, Kind.GRANT, again, parents=(cut.id,))
    await here.sync(head)
    roster = (await head.agent.replica.view(here.room.space)).roster
    assert not roster.speaking.get(person), "to nobody else was any of it shown"
    inside, told = await let_into_another_class(head, person)
    assert here.spy.signing.public not in inside
    assert device_words(own_keys(here.spy)) in told


@attack(ROW, off={"protocol.replica.office.grants.acquaintances_of": _everybody})
async def test_of_two_devices_of_somebody_new_none_comes_along_before_a_human_has_looked(here: Here) -> None:
    head, _ = await confirmed_head(here)
    new = await here.room.territory.person("Mme Neuve", PersonRole.TEACHER, here.room.space)
    hers, spy = new_device(Random(5).randbytes), here.spy
    for keys in (hers, spy):
        await here.room.territory.let_in(keys, Role.TEACHER, here.room.space, person=new)
    await here.sync(head)
    inside, told = await let_into_another_class(head, new)
    assert not inside & {hers.signing.public, spy.signing.public}
    assert all(device_words(own_keys(keys)) in told for keys in (hers, spy))


@attack(
    ROW,
    off={
        "protocol.replica.office.grants.stands_for": _names,
        "protocol.replica.office.grants.acquaintances_of": _everybody,
    },
)
async def test_a_pc_that_the_server_calls_a_teachers_does_not_come_along_with_her(here: Here) -> None:
    head, _ = await confirmed_head(here)
    await here.room.territory.let_in(here.spy, Role.MACHINE, here.room.space, person=here.room.teacher_person)
    await here.sync(head)
    inside, told = await let_into_another_class(head, here.room.teacher_person)
    assert here.spy.signing.public not in inside
    assert here.spy.signing.public.hex() in told


@attack(ROW, off={"protocol.replica.office.grants._with_a_say": _the_last_first})
async def test_a_computer_that_the_server_names_with_other_keys_is_let_in_with_those_that_it_has(here: Here) -> None:
    head, _ = await confirmed_head(here)
    pc, spy = here.machine.agent, here.spy
    false = Grant(pc.device, spy.agreement.public, spy.tls.fingerprint, Role.MACHINE, None, None, None).encode()
    await here.room.territory.say(here.room.space, Kind.GRANT, false)
    await here.sync(head)
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    await desk.ask("grant", device=pc.device.hex(), space=[space])
    keys = {each.agreement for each in head.agent.replica.door.authorities() if each.space.hex() == space}
    assert pc.keys.agreement.public in keys
    assert spy.agreement.public not in keys


@attack(ROW, off={"protocol.replica.office.grants.acquaintances_of": _everybody})
async def test_who_was_met_this_week_comes_along_with_a_line_that_says_the_words(here: Here) -> None:
    head, _ = await confirmed_head(here)
    twin = await here.room.territory.person("Mme Petit", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(twin)
    await here.sync(head)
    _, told = await let_into_another_class(head, twin)
    assert device_words(own_keys(here.spy)) in told


@attack(ROW, off=JOINED)
async def test_a_list_that_calls_two_teachers_one_for_a_while_makes_no_memory_of_it(here: Here) -> None:
    head, _ = await confirmed_head(here)
    territory, person = here.room.territory, here.room.teacher_person
    stranger = await territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(stranger)
    await here.sync(here.machine, head)
    same = PersonRecord("M. X", PersonRole.TEACHER, left=True, same_as=person).encode()
    await territory.say(here.room.space, Kind.PERSON, same, subject=stranger)
    await here.sync(here.machine, head)
    again = PersonRecord("M. X", PersonRole.TEACHER).encode()
    await territory.say(here.room.space, Kind.PERSON, again, subject=stranger)
    await territory.let_in(here.spy, Role.TEACHER, here.room.space, person=person)
    await here.sync(here.machine, head)
    for device in (here.machine, head):
        roster = (await device.agent.replica.view(here.room.space)).roster
        assert own_keys(here.spy) not in roster.starts[person]


async def _whoever_a_grant_names(office: Office, _person: bytes) -> set[VouchedDevice]:
    """A grant is a word, and a list too."""
    return {(each.key, each.agreement) for each in office.replica.door.authorities()}


@pytest.mark.parametrize("at", ["the command", "the page"])
@attack(CUT_BY_OTHERS, off={"protocol.replica.office.withdrawals._speaking_for": _whoever_a_grant_names})
async def test_who_takes_a_teacher_off_a_class_is_told_which_computer_may_be_somebody_elses(
    here: Here, at: str
) -> None:
    head, _ = await confirmed_head(here)
    room, petit = here.room, here.room.teacher_person
    durand = await room.territory.person("Mme Durand", PersonRole.TEACHER, room.space)
    hers = await room.device(Role.TEACHER, person=durand)
    await here.sync(hers)
    await room.territory.let_in(hers.agent.keys, Role.TEACHER, room.space, person=petit)
    await here.sync(head, hers, head)
    if at == "the page":
        place = f"/school/{room.space.hex()}"
        async with portal(head.agent) as surfer:
            answer = await surfer.send(place, f"{place}/leave", {"person": petit.hex()})
            page = await surfer.page(answer.headers["Location"])
        assert "aucun des siens n'a confirmé" in html.unescape(page)
        return
    desk = Desk(head.agent)
    await desk.ask("ungrant", person=petit.hex(), space=[room.space.hex()])
    told = {
        key: line
        for line in desk.told
        for key in (hers.agent.device.hex(), here.teacher.agent.device.hex())
        if key in line
    }
    words = device_words(own_device(hers.agent))
    assert words in told[hers.agent.device.hex()]
    assert "somebody else's" in told[hers.agent.device.hex()]
    assert "somebody else's" not in told[here.teacher.agent.device.hex()]


def _the_first(answered: Mapping[str, JSON], _own: str) -> list[str]:
    """As if one word were room enough, and what reads on came first."""
    what = {"remains": "left_kept", STRANGE: "left_strange", OTHERS: "left_others"}
    return [next((said for key, said in what.items() if answered.get(key)), "left")]


@attack(CUT_BY_OTHERS, off={"sync_agent.portal.head.school._left_as": _the_first})
async def test_what_reads_on_hides_nobody_who_went_along_on_the_page_of_who_takes_a_teacher_off(here: Here) -> None:
    head, _ = await confirmed_head(here)
    room, petit = here.room, here.room.teacher_person
    durand = await room.territory.person("Mme Durand", PersonRole.TEACHER, room.space)
    hers = await room.device(Role.TEACHER, person=durand)
    await here.sync(hers)
    for each in (hers, head):
        await room.territory.let_in(each.agent.keys, Role.TEACHER, room.space, person=petit)
    await here.sync(head, hers, head)
    place = f"/school/{room.space.hex()}"
    async with portal(head.agent) as surfer:
        answer = await surfer.send(place, f"{place}/leave", {"person": petit.hex()})
        page = html.unescape(await surfer.page(answer.headers["Location"]))
    assert "aucun des siens n'a confirmé" in page
    assert "lit encore cette classe" not in page


@attack(CUT_BY_OTHERS, off={"protocol.replica.office.withdrawals._speaking_for": _whoever_a_grant_names})
async def test_who_takes_a_teacher_off_a_class_is_told_of_computers_that_only_a_list_calls_that_teachers(
    here: Here,
) -> None:
    room, petit, key = here.room, here.room.teacher_person, here.teacher.agent.device.hex()
    durand = await room.territory.person("M. Durand", PersonRole.TEACHER, room.space)
    his = await room.device(Role.TEACHER, person=durand)
    await here.sync(his)
    head, _ = await confirmed_head(here)
    await here.sync(head, his, here.teacher, head)
    desk = Desk(head.agent)
    await desk.ask("person merge", person=petit.hex(), into=durand.hex())  # a list alone takes nobody along (0451)
    await desk.ask("ungrant", person=durand.hex(), space=[room.space.hex()])
    (hers,) = [line for line in desk.told if key in line]
    assert device_words(own_device(here.teacher.agent)) in hers
    assert "somebody else's" in hers
    (line,) = [line for line in desk.told if his.agent.device.hex() in line]
    assert "somebody else's" not in line


async def test_however_many_computers_are_invented_a_pc_that_goes_with_a_teacher_is_among_those_that_are_told(
    here: Here,
) -> None:
    room, petit, pc = here.room, here.room.teacher_person, here.machine.agent
    head, _ = await confirmed_head(here)
    for number in range(MAX_TOLD_DEVICES):
        await room.territory.let_in(new_device(Random(400 + number).randbytes), Role.TEACHER, room.space, person=petit)
    await room.territory.let_in(pc.keys, Role.TEACHER, room.space, person=petit)
    await here.sync(head)
    desk = Desk(head.agent)
    await desk.ask("ungrant", person=petit.hex(), space=[room.space.hex()])
    (line,) = [line for line in desk.told if pc.device.hex() in line]
    assert "somebody else's" in line
