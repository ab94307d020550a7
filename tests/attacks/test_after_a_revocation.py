"""Who was cut off, or was stolen, and goes on all the same (docs/attacks.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS, at_from, milliseconds_of
from protocol.errors import PeerFault
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import MAX_ROTATION_HEADS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Certificate, Grant, Revocation, Successor
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import erase_persons
from protocol.replica.office.stays import Stay, _end_drafts
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.door import Authority
from protocol.rights.honouring import Age
from protocol.rights.revocations import Cuts, _Cut, _Place, _placed
from protocol.rights.root_rotation import RootAccount, accounted
from protocol.roles import Role
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.school.office import end_what_is_over
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.new_root import NewKit
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.classroom import classroom
from tests.harness.history import NOW_MS, YEAR_MS, World, Writer
from tests.harness.office_devices import town
from tests.harness.server_in_process import office as new_office
from tests.harness.territory import new_device

NOTHING_CUT: dict[str, object] = {"protocol.rights.roster.cuts_of": lambda *_: Cuts()}


@pytest.fixture
def world() -> World:
    return World(Random(11))


async def held(world: World) -> Replica:
    replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
    await replica.admit(world.entries, source=b"a carrier", now_ms=NOW_MS)
    return replica


def lesson(title: str) -> bytes:
    return Revision(ItemKind.LESSON, title, None, None, ContentRef(bytes(32), 1, 1)).encode()


def revoke(world: World, by: Writer, whom: Writer, *heads: bytes) -> None:
    world.say(by, world.classes[0], Kind.REVOKE, Revocation(whom.key.public, heads).encode())


@attack("an insider backdates after revocation", off=NOTHING_CUT)
async def test_what_a_dismissed_teacher_dates_a_year_back_is_held_back(world: World) -> None:
    room = world.classes[0]
    teacher = world.enrol(Role.TEACHER, room, person=bytes(16))
    teacher.skew_ms = 0
    honest = world.say(teacher, room, Kind.REVISION, lesson("d'avant"))
    revoke(world, world.server, teacher, honest.id)
    teacher.skew_ms = -YEAR_MS
    forged = world.say(teacher, room, Kind.REVISION, lesson("antidatée"))
    replica = await held(world)
    assert milliseconds_of(forged.header.at) < milliseconds_of(honest.header.at)
    assert (await replica.view(room)).coursework.items.keys() == {honest.id}
    assert forged.id in (await replica.view(room)).roster.held_back


@attack("two administrators revoke each other", off={"protocol.rights.revocations._rank_left": lambda *_: 0})
async def test_of_two_administrators_neither_can_cut_the_other_off(world: World) -> None:
    one, other = (world.enrol(Role.ADMIN, world.school) for _ in range(2))
    revoke(world, one, other)
    revoke(world, other, one)
    roster = (await (await held(world)).view(world.classes[0])).roster
    assert roster.cut == frozenset()
    assert roster.may_read(one.key.public)
    assert roster.may_read(other.key.public)


def _every_grant_counts(authorities: Iterable[Authority], _held: object, _back: object) -> int:
    return max((each.rank for each in authorities), default=0)


@attack(
    "a right that was withdrawn shields from revocation",
    off={"protocol.rights.revocations._rank_left": _every_grant_counts},
)
async def test_a_grant_by_a_stolen_servers_key_keeps_no_laptop_from_being_cut_off(world: World) -> None:
    room = world.classes[0]
    head, laptop = world.enrol(Role.HEAD, world.school), world.enrol(Role.TEACHER, room)
    before = [tip for space in (world.territory, world.school, room) for tip in tips(world, space, world.server)]
    shield = Grant(laptop.key.public, bytes(32), bytes(32), Role.ADMIN, None, None).encode()
    given = world.say(world.server, world.school, Kind.GRANT, shield)
    world.say(world.root, world.territory, Kind.REVOKE, Revocation(world.server.key.public, tuple(before)).encode())
    world.say(head, world.school, Kind.REVOKE, Revocation(laptop.key.public, ()).encode())
    roster = (await (await held(world)).view(room)).roster
    assert given.id in roster.held_back
    assert not roster.may_read(laptop.key.public)
    assert roster.may_read(head.key.public)


@attack(
    "a right that was withdrawn shields from revocation",
    off={"protocol.rights.revocations._rank_left": _every_grant_counts},
)
async def test_who_was_an_administrator_once_is_cut_off_as_the_teacher_that_they_are(world: World) -> None:
    room = world.classes[0]
    head, device = world.enrol(Role.HEAD, world.school), world.enrol(Role.ADMIN, world.school)
    colleague = world.enrol(Role.HEAD, world.school, by=device)
    published = world.say(device, room, Kind.REVISION, lesson("d'avant"))
    heads = tuple(tip for space in (world.school, room) for tip in tips(world, space, device))
    cut = world.say(world.server, world.school, Kind.REVOKE, Revocation(device.key.public, heads).encode())
    again = Grant(device.key.public, bytes(32), bytes(32), Role.TEACHER, None, None).encode()
    device.grant = world.say(world.server, room, Kind.GRANT, again, parents=(cut.id,)).id
    stolen = world.say(device, room, Kind.REVISION, lesson("du voleur"))
    assert (await (await held(world)).view(room)).roster.may_read(device.key.public)
    world.say(head, world.school, Kind.REVOKE, Revocation(device.key.public, ()).encode())
    roster = (await (await held(world)).view(room)).roster
    assert not roster.may_read(device.key.public)
    assert stolen.id in roster.held_back
    assert published.id not in roster.held_back, "a head teacher takes nothing back that was said above her"
    assert roster.may_read(colleague.key.public), "and nobody's right who has it from there"


async def _whatever_was_granted(office: Office, device: bytes) -> list[Authority]:
    return list(office.replica.door.authorities_of(device))


async def _the_highest(_office: Office, _alike: Sequence[Authority], known: Sequence[Authority]) -> Authority:
    return max(known, key=lambda grant: grant.rank)


@attack(
    "a right that was withdrawn shields from revocation",
    off={
        "protocol.replica.office.grants.standing_grants": _whatever_was_granted,
        "protocol.replica.office.grants._repeated": _the_highest,
    },
)
async def test_a_laptop_that_is_let_back_in_has_no_role_that_a_thief_gave_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        server, person = here.office.server, await here.office.add_person("Mme Petit", "teacher")
        laptop = await here.device("teacher", person)
        stolen, certificate, keys = server.keys.signing, server.grant, laptop.agent.keys
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("rotate server", kit)
        whose = bytes.fromhex(person)
        shield = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.HEAD, whose, None)
        forged = compose(
            author=stolen,
            space=here.space,
            kind=Kind.GRANT,
            grant=certificate,
            at=at_from(here.office.clock(), 0),
            payload=shield.encode(),
            salt=bytes(16),
        )
        await server.replica.admit([forged], source=b"a carrier", now_ms=here.office.clock())
        device = laptop.agent.device
        await here.office.do("revoke", device=device.hex())
        await here.office.do("grant", device=device.hex(), space=[here.office.space])
        back = (await server.replica.view(here.space)).roster.authority_of(device)
        assert back is not None
        assert (back.role, back.person) == (Role.TEACHER, whose)


def _ended_alone(_authorities: object, cuts: Cuts) -> set[bytes]:
    return {*cuts.void}


@attack(
    "a right that was withdrawn shields from revocation", off={"protocol.rights.roster.without_right": _ended_alone}
)
async def test_a_substitute_for_whom_a_thief_signed_a_right_leaves_after_the_last_day(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory = room.territory
        school = room.school
        end_ms = territory.clock() + 15 * DAY_MS
        substitute = await room.device(Role.TEACHER, person=room.teacher_person, until_ms=end_ms)
        head = await room.head()
        await head.session.sync()
        honest = [
            tip
            for space in territory.replica.door.spaces()
            for tip in await territory.replica.tips(space, territory.keys.signing.public)
        ]
        given = await territory.let_in(substitute.agent.keys, Role.HEAD, school)
        cut = Revocation(territory.keys.signing.public, tuple(honest)).encode()
        found = await territory.replica.write(
            [Draft(territory.id, Kind.REVOKE, None, cut)],
            author=territory.keys.root,
            now_ms=territory.clock(),
            entropy=territory.entropy,
        )
        await head.agent.replica.admit([*given, *found], source=b"a stick", now_ms=territory.clock())
        territory.clock.advance(15 * DAY_MS)
        assert await end_what_is_over(head.agent) == 1
        roster = (await head.agent.replica.view(room.space)).roster
        assert not roster.may_read(substitute.agent.device)


async def _in_its_own_name(office: Office, stay: Stay) -> list[Draft]:
    """The word of an office that takes a right away for good, whoever said that it would end."""
    return [replace(draft, target=None) for draft in await _end_drafts(office, stay)]


@attack("a thief has others cut people off", off={"protocol.replica.office.stays._end_drafts": _in_its_own_name})
async def test_an_end_that_a_stolen_server_says_is_over_once_the_kit_has_cut_it_off(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory = room.territory
        head, petit, pc = await room.head(), await room.teacher(), await room.machine()
        for device in (head, petit, pc):
            await device.session.sync()
        thief = territory.keys.signing.public
        honest = [
            tip for space in territory.replica.door.spaces() for tip in await territory.replica.tips(space, thief)
        ]
        for device, role, person in ((petit, Role.TEACHER, room.teacher_person), (pc, Role.MACHINE, None)):
            keys = device.agent.keys
            tips_of = tuple(await territory.replica.tips(room.space, device.agent.device))
            cut = await territory.say(room.space, Kind.REVOKE, Revocation(device.agent.device, tips_of).encode())
            given = Grant(
                keys.signing.public,
                keys.agreement.public,
                keys.tls.fingerprint,
                role,
                person,
                None,
                territory.clock() - 1_000,
            )
            await territory.say(room.space, Kind.GRANT, given.encode(), parents=(cut.id,))
        await head.session.sync()
        assert await end_what_is_over(head.agent) == 2
        assert not (await head.agent.replica.view(room.space)).roster.may_read(pc.agent.device)
        await head.session.sync()
        await territory.kit_says(territory.id, Kind.REVOKE, Revocation(thief, tuple(honest)).encode())
        roster = (await territory.replica.view(room.space)).roster
        assert roster.may_read(petit.agent.device)
        assert roster.may_read(pc.agent.device)
        assert roster.spent == frozenset()


def _for_good(
    cuts: Iterable[_Cut], authorities: Iterable[Authority]
) -> tuple[Mapping[_Place, Sequence[_Cut]], frozenset[bytes]]:
    """As programs read an end that do not know ends of one grant."""
    return _placed([replace(cut, ends=None) for cut in cuts], authorities)


@attack("a thief has others cut people off", off={"protocol.rights.revocations._placed": _for_good})
async def test_an_end_that_a_stolen_head_teachers_laptop_says_is_over_once_that_is_cut_off(world: World) -> None:
    room = world.classes[0]
    head, pc = world.enrol(Role.HEAD, world.school), world.enrol(Role.MACHINE, room)
    cut = world.say(head, room, Kind.REVOKE, Revocation(pc.key.public, ()).encode())
    payload = Grant(pc.key.public, bytes(32), bytes(32), Role.MACHINE, None, None, 1).encode()
    given = world.say(head, room, Kind.GRANT, payload, parents=(cut.id,))
    world.say(world.server, room, Kind.REVOKE, Revocation(pc.key.public, ()).encode(), target=given.id)
    assert not (await (await held(world)).view(room)).roster.may_read(pc.key.public)
    world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, ()).encode())
    assert (await (await held(world)).view(room)).roster.may_read(pc.key.public)


@attack("who was dismissed goes on with a copy", off={"protocol.replica.office.withdrawals._copies_of": lambda *_: []})
@pytest.mark.parametrize("command", ["person retire", "ungrant"])
async def test_a_copy_that_was_confirmed_leaves_with_the_teacher_whose_laptop_it_was(
    tmp_path: Path, command: str
) -> None:
    async with new_office(tmp_path / "server") as here:
        person = await here.add_person("M. Gris", "teacher")
        laptop = await here.enrol(await here.invite("teacher", person=person))
        bystander = await here.enrol(await here.invite("machine"))
        copy, grant = new_device(os.urandom), laptop.grants[0]
        payload = Successor.agreed(
            copy.signing, copy.agreement.public, copy.tls.fingerprint, grant.header.space, laptop.keys.signing.public
        )
        await here.server.replica.write(
            [Draft(grant.header.space, Kind.SUCCESSOR, grant.id, payload.encode())],
            author=laptop.keys.signing,
            now_ms=here.clock(),
            entropy=os.urandom,
        )
        await here.do("confirm", device=copy.signing.public.hex())
        assert bytes.fromhex(here.space) in await here.server.replica.readable(copy.signing.public)
        await here.do(command, person=person, space=[here.space])
        assert await here.server.replica.readable(copy.signing.public) == {}
        assert here.space in await bystander.spaces()


def tips(world: World, space: bytes, writer: Writer) -> list[bytes]:
    return world.tips.get((space, writer.key.public), [])[:1]


@attack("a device is lost", off=NOTHING_CUT)
async def test_a_lost_laptop_opens_nothing_that_is_handed_in_afterwards(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person, pupil = (
            await here.office.add_person("Mme Petit", "teacher"),
            await here.office.add_person("Léa", "pupil"),
        )
        laptop, machine = await here.device("teacher", person), await here.device("machine")
        item = await here.assignment(laptop)
        await here.sync(machine)
        before = await here.work(machine, item, pupil)
        await here.sync(machine, laptop)
        await here.office.do("lost", device=laptop.agent.device.hex())
        await here.sync(machine)
        after = await here.work(machine, item, pupil)
        await here.sync(machine)
        # whoever has the laptop also has a stick with all that the class holds
        entries = [stored.entry for stored in await machine.agent.replica.store.scan(here.space)]
        await laptop.agent.replica.admit(entries, source=b"a stick", now_ms=here.office.clock())
        works = (await machine.agent.replica.view(here.space)).coursework.hand_ins
        keys = reading_keys(laptop.agent)
        assert content_key_of(works[before], keys) is not None
        assert content_key_of(works[after], keys) is None


_ANSWERS: list[bytes] = []


async def _whoever_answers(replica: Replica) -> tuple[Authority, Age]:
    """Belief without memory: the server is whoever has just shown its certificate."""
    servers = [each for each in replica.door.authorities() if each.role is Role.SERVER]
    return next((each for each in servers if each.key in _ANSWERS), servers[-1]), (0, 0, b"")


@attack("rollback", off={"sync_agent.transport.sealed_calls.newest_server": _whoever_answers})
async def test_a_server_of_yesterday_is_not_believed_by_who_has_met_todays(tmp_path: Path) -> None:
    _ANSWERS.clear()
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        stolen = shutil.copytree(tmp_path / "server", tmp_path / "stolen")
        here.office.clock.advance(60_000)
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("rotate server", kit)
        await here.sync(machine)
        async with opened(stolen, now_ms=here.office.clock, entropy=os.urandom) as yesterday:
            here.frontage.responder = yesterday.responder
            _ANSWERS[:] = [yesterday.keys.signing.public]
            with pytest.raises(PeerFault):
                await here.sync(machine)


@attack("root compromise", off={"protocol.rights.revocations._rotations": lambda *_: ()})
async def test_who_has_the_old_kit_makes_no_server_and_no_administrator_any_more(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        stolen = kit_in(tmp_path / "server" / "kit", None)
        here.office.clock.advance(60_000)
        made = NewKit(tmp_path / "server" / "kit", None, tmp_path / "kit-2", None, os.urandom)
        await here.office.with_kit("rotate root", stolen, made.kit)
        await here.sync(machine)
        # the thief signs under the old root, dated as they like, and a stick brings it
        server, replica = here.office.server, machine.agent.replica
        thief, seal = SigningKey(os.urandom(32)), AgreementKey(os.urandom(32))
        payload = Certificate(thief.public, seal.public).encode()
        for ahead_ms in (-YEAR_MS, 120_000):
            forged = compose(
                author=stolen.root,
                space=replica.territory,
                kind=Kind.CERTIFICATE,
                grant=None,
                at=at_from(here.office.clock() + ahead_ms, 0),
                payload=payload,
                salt=os.urandom(16),
            )
            await replica.admit([forged], source=b"a stick", now_ms=here.office.clock())
            assert (await server_of(replica)).key == server.keys.signing.public
            assert thief.public not in {each.key for each in await replica.authorities(thief.public)}
            assert forged.id in (await replica.view(replica.territory)).roster.held_back


@attack("root compromise", off={"protocol.rights.revocations.accounted": lambda heads, _written: heads})
async def test_a_thief_who_signs_without_end_keeps_no_other_root_from_taking_over(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await here.device("machine")
        stolen = kit_in(tmp_path / "server" / "kit", None)
        replica = here.office.server.replica
        pupils = [bytes.fromhex(await here.office.add_person(f"Élève {number}", "pupil")) for number in range(3)]
        await erase_persons(here.office.server, pupils, stolen)
        honest = {entry.id for entry in await replica.store.authored(replica.territory, stolen.root.public)}

        def noise(number: int) -> Entry:
            return compose(
                author=stolen.root,
                space=replica.territory,
                kind=Kind.REWRAP,
                grant=None,
                at=at_from(1, number),
                payload=b"\x80",
                salt=bytes(16),
            )

        flood = [noise(number) for number in range(2 * MAX_ROTATION_HEADS)]
        await replica.admit(flood, source=machine.agent.device, now_ms=here.office.clock())
        here.office.clock.advance(60_000)
        made = NewKit(tmp_path / "server" / "kit", None, tmp_path / "kit-2", None, os.urandom)
        await here.office.with_kit("rotate root", stolen, made.kit)
        later = noise(MAX_ROTATION_HEADS * 3)
        await replica.admit([later], source=machine.agent.device, now_ms=here.office.clock())
        await here.sync(machine)
        for each in (replica, machine.agent.replica):
            assert each.door.root_now != stolen.root.public
            held_back = (await each.view(each.territory)).roster.held_back
            assert not held_back & {*honest, *(entry.id for entry in flood)}
        assert later.id in (await replica.view(replica.territory)).roster.held_back


async def test_an_account_lists_for_a_rotation_that_names_it_and_for_no_other() -> None:
    old = SigningKey(os.urandom(32))

    def account(ids: tuple[bytes, ...]) -> Entry:
        payload = RootAccount(ids).encode()
        return compose(
            author=old,
            space=bytes(32),
            kind=Kind.ROOT_ACCOUNT,
            grant=None,
            at=1,
            payload=payload,
            salt=bytes(16),
        )

    inner = account((b"a" * 32,))
    outer, other = account((inner.id, b"b" * 32)), account((b"c" * 32,))
    written = {entry.id: entry for entry in (inner, outer, other)}
    assert list(accounted([outer.id, b"d" * 32], written)) == [outer.id, inner.id, b"b" * 32, b"d" * 32]
