"""What others have said of a device becomes none of its own notes, whatever is read back (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.replica.storage.second_copy import SecondCopy
from protocol.replica.storage.sqlite import DATABASE
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.machine.enrolled import INTRODUCTION_FILE, OUTBOX_FILE
from sync_agent.machine.marks import SPACE_FOLDER_MARKS
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Classroom, Device, assignment, classroom
from tests.harness.commands import Desk

ROW = "a right holds what its device would have noted itself"


def record(marks: Mapping[str, Value]) -> bytes:
    """As a second copy holds it; whoever writes it needs no key."""
    body = canonical.encode({"entries": [], "marks": dict(marks)})
    return b"RLS0" + len(body).to_bytes(4, "big") + blake3(body).digest()[:8] + body


def _as_own(_copy: SecondCopy, noted: Mapping[str, Value]) -> Mapping[str, bytes]:
    return {key: value for key, value in noted.items() if isinstance(value, bytes)}


MARK = SPACE_FOLDER_MARKS + bytes(32).hex()
LATE = (1 << 62).to_bytes(8, "big")


def _with_any_field(body: bytes) -> Value:
    return canonical.decode(body, max_bytes=65_536)


def _keys_that_are_a_record(signing: bytes) -> tuple[bytes, bytes]:
    """A key and a fingerprint between which a right of a pupils' PC is a record that says what time it is."""
    tls = b"\xa7entries\x90\xa5marks\x81\xa5clock\xc4\x08" + LATE
    filler = bytes(11)
    swallowed = filler + b"\xa4role\xa7machine\xa7signing\xc4\x20" + signing + b"\xa3tls\xc4\x20"
    body = b"\x83\xa1a\xc4" + bytes([len(swallowed)]) + swallowed + tls
    return b"RLS0" + len(body).to_bytes(4, "big") + blake3(body).digest()[:8] + body[:5] + filler, tls


async def _given_again(room: Classroom, teacher: Device) -> list[Entry]:
    """Two further rights of her laptop, which it has anyhow, with a note of its own in each."""
    given = room.territory.replica.door.authorities_of(teacher.agent.device)[0]
    right = Grant(given.key, given.agreement, given.tls_sha256, Role.TEACHER, given.person, None).encode()
    fields = canonical.decode(right, max_bytes=65_536)
    assert isinstance(fields, dict)
    payloads = [canonical.encode({**fields, "zz": record({MARK: b"../keys"}) + bytes([n])}) for n in range(2)]
    return [await room.territory.say(room.space, Kind.GRANT, payload) for payload in payloads]


async def _is_made_anew(agent: Agent, torn: str, *, bad_byte: int = 20, whole: bool = False) -> Agent:
    """Its database is lost, or all of it with `whole`, and a byte of the file beside it is bad."""
    await agent.close()
    database, beside = agent.folder / DATABASE, agent.folder / torn
    database.write_bytes(bytes(4096) if whole else bytes(4096) + database.read_bytes()[4096:])
    data = bytearray(beside.read_bytes())
    data[bad_byte] ^= 1
    beside.write_bytes(data)
    anew = await Agent.open(agent.folder, now_ms=agent.now_ms, entropy=agent.entropy)
    assert anew.rebuilt
    return anew


@attack(ROW, off={"protocol.replica.storage.second_copy.SecondCopy._own": _as_own})
async def test_no_right_that_is_read_back_when_a_database_was_lost_says_where_a_class_lies(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await assignment(room, teacher)
        await _given_again(room, teacher)
        await teacher.session.sync()
        teacher.agent = await _is_made_anew(teacher.agent, INTRODUCTION_FILE)
        assert await teacher.agent.replica.store.mark(MARK) is None


@attack(ROW, off={"sync_agent.app._own_words": lambda entries, _: list(entries)})
async def test_nor_does_one_that_a_server_says_it_lacks(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await assignment(room, teacher)
        replica, now_ms = teacher.agent.replica, room.territory.clock()
        await replica.admit(await _given_again(room, teacher), source=bytes(32), now_ms=now_ms, unsent=True)
        await room.publish(teacher, SMALL)
        await teacher.agent.forget_copies()
        teacher.agent = await _is_made_anew(teacher.agent, OUTBOX_FILE)
        assert await teacher.agent.replica.store.mark(MARK) is None


@attack(ROW, off={"protocol.replica.storage.second_copy._fields_of": _with_any_field})
async def test_nor_do_the_keys_of_a_pc_that_a_head_teachers_computer_lets_in(tmp_path: Path) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        head = await room.head()
        pc = SigningKey(b"\x07" * 32).public
        right = Grant(pc, *_keys_that_are_a_record(pc), Role.MACHINE, None, None)
        await room.territory.say(room.space, Kind.GRANT, right.encode())
        await head.session.sync()
        (other,) = (await head.agent.spaces()).keys() - {room.space, room.school, room.territory.id}
        await Desk(head.agent).ask("grant", device=pc.hex(), space=[other.hex()])
        head.agent = await _is_made_anew(head.agent, OUTBOX_FILE, bad_byte=0, whole=True)
        assert await head.agent.replica.store.mark("clock") != LATE
