"""What whoever has a stolen device does before it is missed (docs/attacks.md)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Refused
from protocol.folds.space_keys import MAX_EPOCH, SpaceSecret
from protocol.identity import DeviceKeys, territory_id
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure, Grant, Invite, PersonKey, PersonRecord, Revocation, Successor
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.door import Authority
from protocol.rights.keys_in_use import Key
from protocol.rights.vouching import Away, device_words
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import Invitation
from protocol.trust.person_keys import KeyWraps
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.history import NOW_MS, World, Writer
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import office
from tests.harness.territory import new_device

TEACHER = b"t" * 16
AT_THE_HEADS = "a head teacher's computer lets a server's device in as a teacher's"


@pytest.fixture
def world() -> World:
    return World(Random(11))


async def held(world: World) -> Replica:
    replica = await Replica.open(world.root.key.public, MemoryStore(), MemoryPacks())
    await replica.admit(world.entries, source=b"a carrier", now_ms=NOW_MS)
    return replica


def passed_on(world: World, by: Writer) -> Writer:
    """Keys of a device's own making, which its keys sign."""
    key = world.new_key()
    payload = Successor.agreed(key, world.random.randbytes(32), None, by.space, by.key.public).encode()
    grant = world.say(by, by.space, Kind.SUCCESSOR, payload).id
    return Writer(key, Role.MACHINE, by.space, grant)


@attack("a device is lost", off={"protocol.rights.revocations.voided": lambda *_: {}})
async def test_keys_that_a_thief_made_before_the_report_open_nothing_after_it(world: World) -> None:
    room = world.classes[0]
    laptop = world.enrol(Role.TEACHER, room, person=bytes(16))
    first = passed_on(world, laptop)
    second = passed_on(world, first)
    tips = (world.tips[room, laptop.key.public][0], first.grant, second.grant)
    heads = tuple(head for head in tips if head)
    world.say(world.server, room, Kind.REVOKE, Revocation(laptop.key.public, heads).encode())
    roster = (await (await held(world)).view(room)).roster
    assert not [writer for writer in (laptop, first, second) if roster.may_read(writer.key.public)]


@attack("a device is lost", off={"protocol.rights.revocations.surplus": lambda *_: set()})
async def test_one_machine_makes_itself_no_crowd(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", 3)
    machine = world.enrol(Role.MACHINE, world.classes[0])
    machine.skew_ms = 0
    crowd = [machine]
    for _ in range(7):
        crowd.append(passed_on(world, world.random.choice(crowd)))
    roster = (await (await held(world)).view(world.classes[0])).roster
    assert [roster.may_read(writer.key.public) for writer in crowd] == [True] * 4 + [False] * 4


def _by_agreement_alone(authorities: Iterable[Authority], away: Away) -> dict[Key, set[bytes]]:
    return {(TEACHER, authority.agreement): {authority.key} for authority in authorities if authority.key in away.cut}


@attack("a machine calls somebody else's key its own", off={"protocol.rights.roster.keys_cut_off": _by_agreement_alone})
async def test_a_cut_off_machine_that_calls_a_laptops_key_its_own_spends_no_key_of_the_teacher(world: World) -> None:
    room = world.classes[0]
    laptop, other = (world.enrol(Role.TEACHER, room, person=TEACHER) for _ in range(2))
    given = Grant.parse(world.entries[-1].payload or b"").agreement
    world.say(laptop, room, Kind.PERSON_KEY, PersonKey(b"k" * 32).encode(), subject=TEACHER)
    sealed = KeyWraps(b"k" * 32, ((given, bytes(80)),)).encode()
    world.say(laptop, room, Kind.KEY_WRAP, sealed, subject=TEACHER)
    machine, key = world.enrol(Role.MACHINE, room), world.new_key()
    claim = Successor.agreed(key, given, None, room, machine.key.public)
    world.say(machine, room, Kind.SUCCESSOR, claim.encode())
    world.say(world.server, room, Kind.REVOKE, Revocation(machine.key.public, (world.entries[-1].id,)).encode())
    roster = (await (await held(world)).view(room)).roster
    assert roster.reading_keys.get(TEACHER) == (b"k" * 32,)
    world.say(world.server, room, Kind.REVOKE, Revocation(other.key.public, ()).encode())
    assert (await (await held(world)).view(room)).roster.reading_keys == {}, "it held it, and was cut off itself"


async def _never(*_: object) -> bool:
    return False


@attack("a device is lost", off={"protocol.replica.office.enrolment.Enrolment._is_void": _never})
async def test_codes_of_a_device_that_was_cut_off_let_nobody_in(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school, head = await head_of(here)
        agent, server = head.agent, here.office.server
        code = Invitation.create(territory_id(server.replica.door.root_now), os.urandom(10))
        forever = Invite(code.secret_hash, Role.MACHINE, (here.space,), None, 10_000, 2**62)
        await say(here, head, Draft(school, Kind.INVITE, None, forever.encode()))
        await here.office.do("lost", device=agent.device.hex())
        here.office.clock.advance(200 * DAY_MS)
        with pytest.raises(Refused):
            await here.office.enrol(code.code())


async def head_of(here: Town) -> tuple[bytes, Device]:
    """The school, and its head teacher's device."""
    return here.school, await here.head_of_the_school()


async def _whatever_was_brought(store: EntryStore, authors: Iterable[bytes], *_times_ms: int) -> set[bytes]:
    latest = await store.latest()
    assert latest is not None
    return {one for author in authors for one in await store.authored_by_then(author, latest) or ()}


@attack("a device is lost", off={"protocol.replica.office.withdrawals.authored_by": _whatever_was_brought})
async def test_what_a_thief_did_with_a_head_teachers_laptop_counts_no_more_than_the_thief(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        server, clock = here.office.server, here.office.clock
        petit = await here.office.add_person("Mme Petit", "teacher")
        lea = await here.office.add_person("Léa", "pupil")
        school, head = await head_of(here)
        machine, spy = await here.device("machine"), new_device(Random(3).randbytes)
        await note_arrivals(server.store, clock())
        clock.advance(DAY_MS)
        given = Grant(
            spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, bytes.fromhex(petit), None
        )
        await say(
            here,
            head,
            Draft(school, Kind.ERASE, None, Erasure(bytes.fromhex(lea)).encode()),
            Draft(school, Kind.ERASE, None, Erasure(here.space).encode()),
            Draft(school, Kind.REVOKE, None, Revocation(machine.agent.device, ()).encode()),
            Draft(here.space, Kind.GRANT, None, given.encode()),
        )
        await note_arrivals(server.store, clock())
        assert here.space in await server.replica.readable(spy.signing.public)
        loss = await here.office.do("lost", device=head.agent.device.hex(), since="12h")
        assert {row["kind"] for row in loss["said"]} == {"erase", "revoke", "grant"}
        assert not any(row["counts"] for row in loss["said"])
        assert bytes.fromhex(lea) in (await server.replica.view(here.space)).roster.persons
        assert here.space not in await server.replica.readable(spy.signing.public)
        await here.sync(machine)


async def _in_no_doubt(*_: object) -> bool:
    return False


async def _nothing_is_broken(*_: object) -> dict[str, bytes | None]:
    return {}


NOTHING_IS_IN_DOUBT: dict[str, object] = {
    "protocol.replica.upkeep.orders.is_in_doubt": _in_no_doubt,
    "protocol.replica.at_work.weeks.Weeks.broken": _nothing_is_broken,
}


@attack("a device is lost", off=NOTHING_IS_IN_DOUBT)
async def test_what_a_thief_ordered_to_be_forgotten_is_destroyed_nowhere(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        server, clock = here.office.server, here.office.clock
        lea = await here.office.add_person("Léa", "pupil")
        school, head = await head_of(here)
        await say(here, head, Draft(school, Kind.ERASE, None, Erasure(bytes.fromhex(lea)).encode()))
        eraser = Eraser(server.replica, server.holdings)
        await eraser.sweep(clock())
        await here.office.do("lost", device=head.agent.device.hex())
        clock.advance(30 * DAY_MS)
        await eraser.sweep(clock())
        with contextlib.suppress(BadInput):
            await here.office.do("unerase", covers=lea)
        assert bytes.fromhex(lea) in (await server.replica.view(here.space)).roster.persons


@attack("a device is lost", off={"protocol.folds.space_keys._last_in_a_row": lambda epochs: max(epochs, default=0)})
async def test_a_thief_breaks_no_spaces_key_for_good(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        server, (_, head) = here.office.server, await head_of(here)
        thiefs = SpaceSecret(os.urandom(32)).record(MAX_EPOCH, None)
        await say(here, head, Draft(here.space, Kind.SPACE_KEY, None, thiefs.encode()))
        keys = await Keyring(server.replica, (server.keys.agreement,)).keys(here.space)
        assert keys.current != thiefs
        await server.space_keeper.tend_grown()
        await server.space_keeper.tend_grown()
        assert await server.space_keeper.tend_grown() == 0


async def head_of_another_school(here: Town) -> tuple[bytes, Device]:
    """A class of another school, and the device of who runs that one."""
    made = await here.office.do("space add", name="CP", school="0180002Y", year="none")
    return bytes.fromhex(made["space"]), await here.device("head", None, "0180002Y")


async def _whoever_it_leads_to(office: Office, persons: Sequence[bytes]) -> list[bytes]:
    rosters = [(await office.replica.view(space)).roster for space in office.replica.door.spaces()]
    return list({roster.who(person) for roster in rosters for person in persons})


@attack(
    "others are said to be the same as who is to be forgotten",
    off={"protocol.replica.office.withdrawals.made_one_with": _whoever_it_leads_to},
)
async def test_whoever_another_school_has_made_the_same_as_a_teacher_leaves_alone(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        petit = await here.office.add_person("Mme Petit", "teacher")
        laptop = await here.device("teacher", petit)
        room, head = await head_of_another_school(here)
        record = PersonRecord("M. Gris", PersonRole.TEACHER, left=True, same_as=bytes.fromhex(petit)).encode()
        await say(here, head, Draft(room, Kind.PERSON, None, record, subject=bytes(16)))
        await here.office.do("person retire", person=bytes(16).hex())
        assert (await here.office.server.replica.view(here.space)).roster.may_read(laptop.agent.device)


@attack("another school calls a laptop a teacher's", off={"protocol.replica.office.grants._has_a_say": lambda *_: True})
async def test_a_laptop_that_another_school_calls_a_teachers_comes_into_no_class_with_the_teacher(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        petit = await here.office.add_person("Mme Petit", "teacher")
        laptop, spy = await here.device("teacher", petit), new_device(Random(3).randbytes)
        room, head = await head_of_another_school(here)
        given = Grant(
            spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, bytes.fromhex(petit), None
        )
        await say(here, head, Draft(room, Kind.GRANT, None, given.encode()))
        other = (await here.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
        await here.office.do("grant", person=petit, space=[other])
        readable = here.office.server.replica.readable
        assert bytes.fromhex(other) in await readable(laptop.agent.device)
        assert bytes.fromhex(other) not in await readable(spy.signing.public)
        assert f"grant --device {spy.signing.public.hex()}" in here.office.said.lines[-1]


async def by_code(here: Town, head: Device, person: str, seed: int) -> bytes:
    """Who comes in at the head teacher's computer by the last code of the server's."""
    (*_, code) = await here.office.server.store.scan_kinds([Kind.INVITE])
    keys = new_device(Random(seed).randbytes)
    given = Grant(
        keys.signing.public,
        keys.agreement.public,
        keys.tls.fingerprint,
        Role.TEACHER,
        bytes.fromhex(person),
        code.id,
    )
    await say(here, head, Draft(here.space, Kind.GRANT, None, given.encode()))
    assert here.space in await here.office.server.replica.readable(keys.signing.public)
    return keys.signing.public


async def two_who_came_in_at_the_heads(here: Town) -> tuple[bytes, bytes]:
    """By codes of the server's: one from a day before the theft, one since."""
    desk = here.office
    petit = await desk.add_person("Mme Petit", "teacher")
    _, head = await head_of(here)
    await desk.invite("teacher", desk.space, person=petit)
    before = await by_code(here, head, petit, 1)
    await note_arrivals(desk.server.store, desk.clock())
    desk.clock.advance(DAY_MS)
    await desk.invite("teacher", desk.space, person=petit)
    return before, await by_code(here, head, petit, 2)


async def _nobody_came(*_: object) -> list[bytes]:
    return []


@attack(AT_THE_HEADS, off={"sync_server.operations.newcomers.cut_off_with_codes": _nobody_came})
async def test_whom_a_heads_computer_let_in_by_a_stolen_servers_code_goes_with_the_servers_keys(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        before, since = await two_who_came_in_at_the_heads(here)
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        readable = here.office.server.replica.readable
        assert here.space in await readable(before)
        assert not await readable(since)
        assert any(since.hex() in line and "grant --device" in line for line in here.office.said.lines)


async def test_whoever_has_new_keys_made_is_told_by_six_words_who_came_in_by_codes_of_the_old_ones(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        came = await two_who_came_in_at_the_heads(here)
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None))
        for device in came:
            assert here.space in await here.office.server.replica.readable(device)
            (told,) = [line for line in here.office.said.lines if f"sync-server revoke {device.hex()}" in line]
            (granted,) = here.office.server.replica.door.authorities_of(device)
            assert device_words((device, granted.agreement)) in told


async def say(here: Town, device: Device, *drafts: Draft) -> None:
    """Have a device say something under the best of its rights, and bring it to the server."""
    replica = device.agent.replica
    grant = max(await replica.authorities(device.agent.device), key=lambda each: each.rank).grant
    said = [replace(draft, grant=grant) for draft in drafts]
    await replica.write(said, author=device.agent.keys.signing, now_ms=here.office.clock(), entropy=os.urandom)
    await here.sync(device)


@attack("a device is lost", off={"sync_server.handlers.by_kit.waiting.goes_with_all": lambda _entry: True})
async def test_one_word_for_all_of_a_stolen_laptops_work_accepts_no_right_and_no_erasure(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as here:
        server, space = here.server, bytes.fromhex(here.space)
        person = bytes.fromhex(await here.add_person("Mme Dir", "teacher"))
        lea = bytes.fromhex(await here.add_person("Léa", "pupil"))
        school = server.replica.door.parent(space)
        assert school is not None
        head, spy = new_device(os.urandom), new_device(os.urandom)

        def let_in(keys: DeviceKeys, role: Role) -> bytes:
            return Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, person, None).encode()

        (grant,) = await server.write([Draft(school, Kind.GRANT, server.grant, let_in(head, Role.HEAD))])
        content = ContentRef(os.urandom(32), 10, 1)
        said = [
            compose(
                author=head.signing,
                space=space,
                kind=kind,
                grant=grant.id,
                at=at_from(here.clock(), number),
                payload=payload,
                salt=bytes(16),
            )
            for number, (kind, payload) in enumerate(
                (
                    (Kind.REVISION, Revision(ItemKind.LESSON, "Leçon", None, None, content).encode()),
                    (Kind.GRANT, let_in(spy, Role.TEACHER)),
                    (Kind.ERASE, Erasure(lea).encode()),
                )
            )
        ]
        await server.replica.admit(said, source=b"a device", now_ms=here.clock())
        revoked = Revocation(head.signing.public, ()).encode()
        await server.write([Draft(school, Kind.REVOKE, server.grant, revoked)])
        accepted = await here.do("accept", named=[head.signing.public.hex()])
        roster = (await server.replica.view(space)).roster
        assert said[0].id not in roster.held_back
        assert not roster.may_read(spy.signing.public)
        assert lea not in roster.erased
        assert accepted == {"accepted": 1}
