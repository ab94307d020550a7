"""What stands in clear on a stick, for who opens no bundle of it: orders, names, and letters that let a machine in."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.bundles.form import (
    NONCE_BYTES,
    TRAILER_BYTES,
    Index,
    Trailer,
)
from protocol.bundles.writer import BundleWriter
from protocol.errors import BadInput, NoAnswer, PeerFault, Refused
from protocol.folds.measures import QuarantineOrder
from protocol.limits import (
    MAX_LETTERS_PER_DISK,
    MAX_LETTERS_PER_LOOK,
)
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonRecord
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.courier.disk import CourierDisk
from sync_agent.courier.letters import Letter, name_of, read_letters
from sync_agent.school.measures import ordered
from sync_agent.transport.server_chain import host_in
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.couriers import bring, courier_class, know_keys
from tests.harness.office_devices import Town, town


def put_preface(room: Classroom, stick: Path, space: bytes, preface: Sequence[Entry]) -> None:
    """A bundle that nobody opens, with something in clear."""
    writer = BundleWriter(
        bytes(32),
        territory=room.territory.id,
        space=space,
        commitment=bytes(32),
        nonce=os.urandom(NONCE_BYTES),
        preface=preface,
        index=Index(entries=(bytes(32),)),
    )
    data = b"".join([writer.begin(), writer.finish()])
    disk = CourierDisk(stick, room.territory.id)
    disk.make()
    (disk.place / f"{Trailer.parse(data[-TRAILER_BYTES:]).name}.rls").write_bytes(data)


async def heard(device: Device, stick: Path, said: Entry) -> bool:
    """Whether a stick that nobody can open brings an entry all the same."""
    with contextlib.suppress(Refused):
        await bring(device, stick)
    return bool(await device.agent.replica.store.present([said.id]))


async def somebody(room: Classroom, space: bytes) -> Entry:
    """A name on a list."""
    return await room.territory.say(
        space, Kind.PERSON, PersonRecord("Noé", PersonRole.PUPIL).encode(), subject=bytes(range(16))
    )


@asynccontextmanager
async def quarantined_class(tmp_path: Path) -> AsyncIterator[tuple[Classroom, Device, Entry, Path]]:
    """A class whose school is under quarantine, a machine that has heard so, the order, and a stick."""
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        lea = await room.machine()
        await know_keys(room, lea)
        school = room.territory.schools[0]
        order = await room.territory.say(school, Kind.QUARANTINE, QuarantineOrder(on=True).encode())
        await lea.session.sync()
        assert (await ordered(lea.agent)).quarantined
        yield room, lea, order, stick


@attack("a hostile stick", off={"sync_agent.courier.survey._orders_in": lambda head: list(head.preface)})
async def test_under_quarantine_a_stick_brings_an_order_and_nothing_that_stands_beside_it(tmp_path: Path) -> None:
    async with quarantined_class(tmp_path) as (room, lea, order, stick):
        territory, school = room.territory, room.territory.schools[0]
        name = await somebody(room, room.space)
        lift = await territory.say(school, Kind.QUARANTINE, QuarantineOrder(on=False).encode(), parents=(order.id,))
        put_preface(room, stick, school, [*await territory.replica.credentials([lift.id]), name])
        assert not await heard(lea, stick, name)
        assert not (await ordered(lea.agent)).quarantined


async def _every_space(agent: Agent) -> list[bytes]:
    return list(await agent.spaces())


@attack("a hostile stick", off={"sync_agent.courier.survey.schools_of": _every_space})
async def test_under_quarantine_nothing_of_a_classs_bundle_is_heard(tmp_path: Path) -> None:
    async with quarantined_class(tmp_path) as (room, lea, order, stick):
        elsewhere = await room.territory.say(room.space, Kind.QUARANTINE, QuarantineOrder(on=True).encode())
        put_preface(room, stick, room.space, [elsewhere])
        assert not await heard(lea, stick, elsewhere)
        assert [each.id for each in (await ordered(lea.agent)).quarantines] == [order.id]


@attack("a hostile stick", off={"sync_agent.courier.survey.IN_CLEAR": frozenset(Kind)})
async def test_a_stick_that_lets_a_machine_into_a_class_names_nobody_of_it_in_clear(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        lea, other = await room.machine(), await room.territory.classroom("CM2")
        await know_keys(room, lea)
        (grant,) = await room.territory.let_in(lea.agent.keys, Role.MACHINE, other)
        name = await somebody(room, other)
        put_preface(room, stick, other, [grant, name])
        assert not await heard(lea, stick, name)
        assert other in await lea.agent.spaces()


class _NeverRaised(Exception):
    """What is caught in place of what is wrong."""


@attack("a hostile stick", off={"sync_agent.enrollment.by_stick.PeerFault": _NeverRaised})
async def test_a_false_answer_on_a_stick_keeps_nobody_from_being_let_in_by_the_right_one(tmp_path: Path) -> None:
    stick, pc = tmp_path / "stick" / "Relais", tmp_path / "pc"
    async with town(tmp_path) as here:
        here.office.server.responder.add_handler(Call.ENROLL, here.office.enrolment.answer)
        head = await here.device("head", space="0180001D")
        teacher = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        await here.assignment(teacher)
        code, place = await here.office.invite("machine", ttl="7d"), here.place_on(stick)
        for carrier in (teacher, head):
            await here.sync(carrier)
            await here.write_stick(carrier, stick, online=False)
        with pytest.raises(NoAnswer):
            await here.enrol_by_stick(pc, stick, code)
        asked = read_letters(place, Letter.ASK)
        assert len(asked) == 2, "of the server, and of the head teacher's computer"
        looked_at_first = host_in(next(iter(read_letters(place, Letter.WHO).values())), lambda _: True)
        assert looked_at_first is not None
        # the other one answers, so that the false answer is met first
        is_heads = looked_at_first.agreement == head.agent.keys.agreement.public
        await here.write_stick(teacher if is_heads else head, stick, online=is_heads)
        answered = read_letters(place, Letter.ANSWER)
        for name in asked.keys() - answered.keys():
            (place / f"{name}.ans").write_bytes(b"no")
        try:
            enrolled = await here.enrol_by_stick(pc, stick, code)
        except PeerFault as fault:
            raise AssertionError("the false one keeps it out") from fault
        assert here.space in enrolled.spaces


FAR_S = 4_102_444_800
"""The year 2100, in seconds."""


def put_letters(place: Path, kind: Letter, count: int, *, named: bool) -> None:
    """Letters that are none, dated ahead; under names that they have, or of which they are not the hash."""
    for _ in range(count):
        data = os.urandom(60)
        path = place / f"{name_of(data if named else data[1:])}{kind.value}"
        path.write_bytes(data)
        os.utime(path, (FAR_S, FAR_S))


async def visits(here: Town, carrier: Device, stick: Path, pc: Path, code: str, times: int) -> bool:
    """The stick goes to and fro; whether it lets the PC in."""
    for _ in range(times):
        await here.write_stick(carrier, stick, online=True)
        with contextlib.suppress(NoAnswer, Refused, BadInput):
            return here.space in (await here.enrol_by_stick(pc, stick, code)).spaces
    return False


@asynccontextmanager
async def with_a_stick(tmp_path: Path) -> AsyncIterator[tuple[Town, Device, Path, str]]:
    """A teacher whose stick names the server, and a code."""
    stick = tmp_path / "stick" / "Relais"
    async with town(tmp_path) as here:
        here.office.server.responder.add_handler(Call.ENROLL, here.office.enrolment.answer)
        teacher = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        await here.assignment(teacher)
        await here.write_stick(teacher, stick, online=True)
        yield here, teacher, stick, await here.office.invite("machine", ttl="7d")


def there(place: Path, kind: Letter, name: str) -> bytes | None:
    """What an export believed that looked at names alone."""
    path = place / f"{name}{kind.value}"
    return DAMAGED.get(path.read_bytes()) if path.exists() else None


DAMAGED: dict[bytes, bytes] = {}
"""By what lies on the stick, what is meant to."""


@attack(
    "a hostile stick",
    off={
        "sync_agent.courier.commands.read_letter": there,
        "sync_agent.courier.commands.clear_letters": lambda _place, _is_chain: None,
    },
)
async def test_junk_in_place_of_who_lets_in_is_written_over(tmp_path: Path) -> None:
    async with with_a_stick(tmp_path) as (here, teacher, stick, code):
        (who,) = here.place_on(stick).glob("*.who")
        DAMAGED[b"junk"] = who.read_bytes()
        who.write_bytes(b"junk")
        assert await visits(here, teacher, stick, tmp_path / "pc", code, 2)


def newest(place: Path, kind: Letter) -> list[str]:
    """As letters were once chosen: the newest, of which there are no more than are taken."""
    letters = sorted(place.glob(f"*{kind.value}"), key=lambda path: -path.stat().st_mtime)
    return [path.stem for path in letters[:MAX_LETTERS_PER_DISK]]


@pytest.mark.parametrize("kind", [Letter.WHO, Letter.ASK])
@attack(
    "a hostile stick",
    off={
        "sync_agent.courier.letters._drawn": newest,
        "sync_agent.courier.letters._is_named": lambda _kind, _stem, _data: True,
    },
)
async def test_letters_that_are_none_keep_nobody_from_being_let_in_by_a_stick(tmp_path: Path, kind: Letter) -> None:
    async with with_a_stick(tmp_path) as (here, teacher, stick, code):
        place = here.place_on(stick)
        for letter in Letter:
            put_letters(
                place, letter, MAX_LETTERS_PER_DISK if letter is not kind else 4 * MAX_LETTERS_PER_DISK, named=False
            )
        assert await visits(here, teacher, stick, tmp_path / "pc", code, 2)


@attack("a hostile stick", off={"sync_agent.courier.commands._names_who_lets_in": lambda _disk, _chain: True})
async def test_a_thousand_names_of_nobody_leave_a_stick_with_its_next_export(tmp_path: Path) -> None:
    async with with_a_stick(tmp_path) as (here, teacher, stick, code):
        place = here.place_on(stick)
        put_letters(place, Letter.WHO, 4 * MAX_LETTERS_PER_LOOK, named=True)
        (place / "vacances.who").write_bytes(b"not ours")
        await here.write_stick(teacher, stick, online=False)
        assert len(list(place.glob("*.who"))) <= 2 + MAX_LETTERS_PER_DISK
        assert (place / "vacances.who").exists()
        assert await visits(here, teacher, stick, tmp_path / "pc", code, 2)
