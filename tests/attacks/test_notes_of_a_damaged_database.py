"""What others have said of a device becomes none of its own notes, whatever is read back (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.model.entry import Kind
from protocol.model.structure import Grant
from protocol.replica.storage.second_copy import SecondCopy
from protocol.replica.storage.sqlite import DATABASE
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.machine.enrolled import INTRODUCTION_FILE
from sync_agent.machine.marks import SPACE_FOLDER_MARKS
from tests.harness.attack import attack
from tests.harness.classroom import assignment, classroom

ROW = "a right holds what its device would have noted itself"


def record(marks: Mapping[str, Value]) -> bytes:
    """As a second copy holds it; whoever writes it needs no key."""
    body = canonical.encode({"entries": [], "marks": dict(marks)})
    return b"RLS0" + len(body).to_bytes(4, "big") + blake3(body).digest()[:8] + body


def _as_own(_copy: SecondCopy, noted: Mapping[str, Value]) -> Mapping[str, bytes]:
    return {key: value for key, value in noted.items() if isinstance(value, bytes)}


@attack(ROW, off={"protocol.replica.storage.second_copy.SecondCopy._own": _as_own})
async def test_no_right_that_is_read_back_when_a_database_was_lost_says_where_a_class_lies(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await assignment(room, teacher)
        agent, mark = teacher.agent, SPACE_FOLDER_MARKS + bytes(32).hex()
        given = room.territory.replica.door.authorities_of(agent.device)[0]
        right = Grant(given.key, given.agreement, given.tls_sha256, Role.TEACHER, given.person, None).encode()
        fields = canonical.decode(right, max_bytes=65_536)
        assert isinstance(fields, dict)
        for number in range(2):
            payload = canonical.encode({**fields, "zz": record({mark: b"../keys"}) + bytes([number])})
            await room.territory.say(room.space, Kind.GRANT, payload)
        await teacher.session.sync()
        await agent.close()
        database, introduction = agent.folder / DATABASE, agent.folder / INTRODUCTION_FILE
        database.write_bytes(bytes(4096) + database.read_bytes()[4096:])
        data = bytearray(introduction.read_bytes())
        data[20] ^= 1
        introduction.write_bytes(data)
        teacher.agent = await Agent.open(agent.folder, now_ms=agent.now_ms, entropy=agent.entropy)
        assert teacher.agent.rebuilt
        assert await teacher.agent.replica.store.mark(mark) is None
