"""All that others hold of a hand-in, carry or see pass: no word, no name, no exact size (docs/attacks.md).

The tests look where nobody but the readers should find anything: in all files of the server, of a classmate's PC and of
the school's relay, on a courier disk, in what passed between them and the server, and on the school's own network.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from protocol.errors import RelaisError
from protocol.folds.hand_in_keys import info_of, wraps_for
from protocol.identity import AgreementKey
from protocol.limits import MAX_LATE_WRAPS_PER_DEVICE, MAX_READING_KEYS_PER_DEVICE
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.frame import Notices
from protocol.replica.content.holdings import Need
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.trust.person_keys import KeyWraps
from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import tend_hand_ins
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.lan.exchange.peer_sync import sync_with
from sync_agent.machine.addresses import Address
from sync_agent.transport.answers import Response
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, classroom, work_of
from tests.harness.commands import Desk
from tests.harness.couriers import export, know_keys
from tests.harness.lan import listening_device
from tests.harness.lost_laptop import teach_too
from tests.harness.spied_class import spied_class
from tests.harness.traces import traces_in
from tests.harness.wire import Frontage, MemoryTransport

WORD = b"Mon-chien-Plume-est-mort-dimanche"
NAME = "lettre-de-Lea-a-sa-grand-mere.odt"
SIZE = 70_123
NOISE = Random(9).randbytes(SIZE // 2)
"""Around the words: what does not compress lies in packs as it is, so that a word in it would be seen."""
FILES = {NAME: (NOISE + WORD + NOISE + NOISE)[:SIZE]}

TRACES = {
    "a word of it": WORD[:20],
    "the file's name": NAME.encode(),
    "part of the name": b"grand-mere",
    "its size, written as msgpack does": b"\xce" + SIZE.to_bytes(4, "big"),
    "its size in decimal": str(SIZE).encode(),
    "its size, little-endian": SIZE.to_bytes(8, "little"),
}


class Recording(MemoryTransport):
    """A way to the server on which somebody writes down all that passes."""

    def __init__(self, frontage: Frontage, heard: bytearray) -> None:
        super().__init__(frontage)
        self._heard = heard

    async def post(self, path: str, body: bytes) -> Response:
        response = await super().post(path, body)
        self._heard += path.encode() + body + response.body
        return response

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        async for piece in super().fetch(capability, start, length):
            self._heard += piece
            yield piece

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        return await super().send(capability, offset, length, self._copied(pieces))

    async def _copied(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self._heard += piece
            yield piece


def found_in(data: bytes) -> set[str]:
    """Which traces of the work are in these bytes, in whatever form."""
    return traces_in(data, TRACES)


def found_below(folder: Path) -> dict[str, set[str]]:
    """Which traces are in which files of a folder."""
    found = {str(path.relative_to(folder)): found_in(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    return {path: traces for path, traces in found.items() if traces}


async def synced(room: Classroom, *devices: Device) -> None:
    await know_keys(room, *devices)
    for device in devices:
        await device.session.sync()


def plain(_keys: object, plain: bytes, number: int, *, last: bool) -> bytes:
    """Sealing that seals nothing: what comes out has the right size, and says everything."""
    del last
    return (bytes(32) if number == 0 else b"") + plain + bytes(16)


@attack("content-length leak of hand-ins", off={"protocol.trust.sealed_chunks.SealedChunks.seal": plain})
async def test_nobody_but_the_readers_holds_a_word_a_name_or_the_size_of_work(tmp_path: Path) -> None:
    heard = bytearray()
    async with classroom(tmp_path, lambda frontage: Recording(frontage, heard)) as room:
        teacher, author, classmate = await room.teacher(), await room.machine(), await room.machine()
        relay = await room.device(Role.RELAY)
        item = await assignment(room, teacher, author, classmate, relay)
        heard.clear()
        await room.hand_in(author, item, FILES)
        await synced(room, author, classmate, relay, teacher)
        works = (await room.territory.replica.view(room.space)).coursework.hand_ins.values()
        assert len(works) == 1
        disk = tmp_path / "disk"
        disk.mkdir()
        await export(relay, disk)
        for device in (classmate, relay):
            assert found_below(device.agent.folder) == {}
        assert found_below(tmp_path / "server") == {}
        assert found_below(disk) == {}
        assert found_in(bytes(heard)) == set()
        # and it is there: the teacher opens it, byte for byte
        (work,) = works
        assert await Desk(teacher.agent).files("open-hand-in", id=work.id.hex()) == FILES


@asynccontextmanager
async def overheard(address: Address, heard: bytearray) -> AsyncIterator[Address]:
    """Somebody on the school's network through whom everything passes, and who writes it down."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                heard.extend(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(address.host, address.port)
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


@attack("content-length leak of hand-ins", off={"protocol.trust.sealed_chunks.SealedChunks.seal": plain})
async def test_a_neighbour_who_keeps_a_copy_and_who_listens_on_the_schools_network_learn_nothing(
    tmp_path: Path,
) -> None:
    heard = bytearray()
    async with classroom(tmp_path) as room:
        teacher, author, keeper = await room.teacher(), await room.machine(), await room.machine()
        item = await assignment(room, teacher, author, keeper)
        await know_keys(room, author, keeper)
        hand_in = await room.hand_in(author, item, FILES)
        async with listening_device(keeper.agent) as address, overheard(address, heard) as through:
            await sync_with(author.agent, [through], Notices().progress)
        work = (await keeper.agent.replica.view(room.space)).coursework.hand_ins[hand_in]
        assert await keeper.agent.holdings.is_complete(Need(room.space, work.record.content.stream, sealed=True))
        assert len(heard) > SIZE, "all of it went by"
        assert found_in(bytes(heard)) == set()
        assert found_below(keeper.agent.folder) == {}


@attack(
    "a machine gives a teacher a false key to another's work",
    off={"sync_agent.hand_ins.wraps.is_given": lambda work, keys, _trusted: not work.readers.keys().isdisjoint(keys)},
)
async def test_a_false_key_from_a_classmates_machine_keeps_no_new_teacher_out(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, author, classmate = await room.teacher(), await room.machine(), await room.machine()
        item = await assignment(room, teacher, author, classmate)
        hand_in = await room.hand_in(author, item, FILES)
        await synced(room, author, teacher)
        await Desk(teacher.agent).ask("confirm-opened", id=hand_in.hex())
        await synced(room, teacher, author)
        colleague = await room.device(
            Role.TEACHER, person=await room.territory.person("M. Roux", PersonRole.TEACHER, room.space)
        )
        await synced(room, colleague, classmate)
        work = (await classmate.agent.replica.view(room.space)).coursework.hand_ins[hand_in]
        key = colleague.agent.reading_keys.newest_of(room.space)
        assert key is not None
        right = await classmate.agent.right(room.space, Kind.WRAP)
        false = wraps_for([key.public], bytes(32), info_of(work), classmate.agent.entropy).encode()
        await classmate.agent.write(
            Draft(room.space, Kind.WRAP, right.grant, false, subject=work.person, target=hand_in)
        )
        await classmate.session.sync()
        await teacher.session.sync()
        await confirm(teacher.agent, device_id(own_device(colleague.agent)))
        for device in (teacher, colleague, teacher, colleague):
            await device.session.sync()
        opened: object = None
        with contextlib.suppress(RelaisError):
            opened = await Desk(colleague.agent).files("open-hand-in", id=hand_in.hex())
        assert opened == FILES


@attack(
    "a machine gives a teacher a false key to another's work",
    off={
        "sync_agent.hand_ins.opening._opens": lambda *_: True,
        "protocol.folds.hand_in_keys._doubt": lambda *_: False,
    },
)
async def test_a_false_key_to_another_of_her_keys_keeps_no_teacher_from_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spied_class(tmp_path) as here:
        territory, teacher = here.room.territory, here.teacher
        earlier = await territory.classroom("Aide aux devoirs")
        await teach_too(here, earlier, teacher)
        await here.sync(teacher, teacher)
        classmate = await here.room.device(Role.MACHINE, here.room.space, earlier)
        await here.sync(classmate)
        roster = (await classmate.agent.replica.view(earlier)).roster
        elsewhere = [key for keys in roster.reading_keys.values() for key in keys]
        hand_in = await here.room.hand_in(here.machine, here.item, FILES)
        await here.sync(here.machine, classmate)
        work = (await classmate.agent.replica.view(here.room.space)).coursework.hand_ins[hand_in]
        right = await classmate.agent.right(here.room.space, Kind.WRAP)
        false = wraps_for(elsewhere, bytes(32), info_of(work), classmate.agent.entropy).encode()
        said = Draft(here.room.space, Kind.WRAP, right.grant, false, subject=work.person, target=hand_in)
        await classmate.agent.write(said)
        await here.sync(classmate, teacher, teacher)

        def those_of_the_other_class_first(agent: Agent) -> dict[bytes, AgreementKey]:
            return dict(sorted(reading_keys(agent).items(), key=lambda each: each[0] not in elsewhere))

        monkeypatch.setattr("sync_agent.hand_ins.opening.reading_keys", those_of_the_other_class_first)
        opened: object = None
        with contextlib.suppress(RelaisError):
            opened = await Desk(teacher.agent).files("open-hand-in", id=hand_in.hex())
        assert opened == FILES


async def another_reading_key(room: Classroom, laptop: Device, hearer: Device) -> None:
    """A laptop in wrong hands says a reading key more of its teacher's; a pupils' PC hears of it."""
    grant = (await laptop.agent.right(room.space, Kind.PERSON_KEY)).grant
    key = PersonKey(AgreementKey(laptop.agent.entropy(32)).public).encode()
    said = await laptop.agent.write(Draft(room.space, Kind.PERSON_KEY, grant, key, subject=room.teacher_person))
    await hearer.agent.replica.admit(said, source=laptop.agent.device, now_ms=room.territory.clock())
    await tend_hand_ins(hearer.agent)


@attack(
    "one laptop makes reading keys without end", off={"protocol.rights.keys_in_use.MAX_READING_KEYS_PER_DEVICE": 1_000}
)
async def test_work_is_sealed_to_few_of_the_keys_that_one_laptop_makes(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, author = await room.teacher(), await room.machine()
        item = await assignment(room, teacher, author)
        for _ in range(12):
            await another_reading_key(room, teacher, author)
        hand_in = await room.hand_in(author, item, FILES)
        readers = (await work_of(author, room, hand_in)).readers
        assert len(readers.keys() - {room.territory.keys.recovery.public}) == MAX_READING_KEYS_PER_DEVICE


@attack("one laptop makes reading keys without end", off={"sync_agent.hand_ins.wraps.MAX_LATE_WRAPS_PER_DEVICE": 1_000})
async def test_work_that_waits_is_not_sealed_again_for_each_key_that_a_laptop_makes(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, author = await room.teacher(), await room.machine()
        item = await assignment(room, teacher, author)
        hand_in = await room.hand_in(author, item, FILES)
        for _ in range(MAX_LATE_WRAPS_PER_DEVICE + 4):
            await another_reading_key(room, teacher, author)
        readers = (await work_of(author, room, hand_in)).readers
        assert len(readers.keys() - {room.territory.keys.recovery.public}) == MAX_LATE_WRAPS_PER_DEVICE


async def second_laptop(room: Classroom, teacher: Device, *others: Device) -> Device:
    """Another computer of the teacher's, which the first one has confirmed."""
    laptop = await room.teacher()
    await synced(room, laptop, teacher)
    await confirm(teacher.agent, device_id(own_device(laptop.agent)), shown_as="own")
    await synced(room, teacher, laptop, teacher, *others)
    return laptop


async def cut_off(room: Classroom, laptop: Device) -> None:
    """The server lets a laptop go; what it had said by then stays."""
    heads = await room.territory.replica.tips(room.space, laptop.agent.device)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(laptop.agent.device, tuple(heads)).encode())


@attack(
    "one laptop makes reading keys without end",
    off={"sync_agent.hand_ins.wraps._who_said": lambda key, roster: roster.said_as.get(key, frozenset())},
)
async def test_the_keys_of_a_lost_laptop_keep_waiting_work_from_no_other_of_its_teacher(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        lost, author = await room.teacher(), await room.machine()
        item = await assignment(room, lost, author)
        hand_in = await room.hand_in(author, item, FILES)
        for _ in range(MAX_LATE_WRAPS_PER_DEVICE):
            await another_reading_key(room, lost, author)
        await synced(room, author, lost)
        await cut_off(room, lost)
        new = await room.teacher()
        await synced(room, new, author, new)
        key = new.agent.reading_keys.newest_of(room.space)
        assert key is not None
        assert key.public in (await work_of(author, room, hand_in)).readers


def _first_come(_roster: object, names: Collection[bytes]) -> set[bytes]:
    return set(list(names)[:4])


@attack(
    "one laptop makes reading keys without end",
    off={"sync_agent.keys.key_wraps._kept_of": _first_come},
)
async def test_the_keys_that_a_lost_laptop_gave_take_no_place_from_those_of_the_teachers_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.key_wraps.MAX_GIVEN_READING_KEYS", 4)
    async with classroom(tmp_path) as room:
        lost, author = await room.teacher(), await room.machine()
        item = await assignment(room, lost, author)
        kept, new = await second_laptop(room, lost, author), await second_laptop(room, lost, author)
        await synced(room, kept)
        for other in (lost, new):
            await confirm(kept.agent, device_id(own_device(other.agent)), shown_as="own")
        await synced(room, kept, new, lost)
        for _ in range(8):
            await another_reading_key(room, lost, author)
            said = (await lost.agent.replica.store.authored(room.space, lost.agent.device))[-1]
            false = KeyWraps(
                PersonKey.parse(said.payload or b"").agreement, ((new.agent.keys.agreement.public, bytes(80)),)
            )
            right = await lost.agent.right(room.space, Kind.KEY_WRAP)
            await lost.agent.write(
                Draft(room.space, Kind.KEY_WRAP, right.grant, false.encode(), subject=room.teacher_person)
            )
        await synced(room, lost, new)
        await cut_off(room, lost)
        await synced(room, kept, new, author, kept)
        # to the other laptop's new key alone: the new laptop was off
        hand_in = await room.hand_in(author, item, FILES)
        await synced(room, author, kept, new)
        key = kept.agent.reading_keys.newest_of(room.space)
        assert key is not None
        assert key.public in new.agent.reading_keys.given[room.space, room.teacher_person]
        assert await Desk(new.agent).files("open-hand-in", id=hand_in.hex()) == FILES
