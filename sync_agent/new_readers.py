"""Whose devices read pupils' work, which of them are new, and whether old work is handed on to them (docs/adr/0049).

Devices of teachers are let in by the server. One that a thief has taken can let in a device "of Mme Petit", and hers
would give it her keys. A server cannot do that unseen, though, and need not be obeyed.

Rules:
- a device of a teacher notes each device that reads its classes when it first sees it, and shows new ones for a while;
- usually keys, and work that was opened, are handed on by themselves, so that a new laptop works; where somebody has
  said so (`key hand-over ask`), to a device that was accepted only;
- what was there when the device first looked, and when it was told to ask, is accepted: it has been given them already;
- all of it is this device's own; no entry says it, so that no server can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from protocol.canonical import decode, encode
from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, PeerFault, TooLarge
from protocol.fields import Fields, compact
from protocol.replica.operation import JSON
from protocol.roles import Role
from sync_agent.app import Agent

READER_MARKS: Final = "reader/"
"""+ device in hex → canonical {seen, accepted}: when this device first saw that it reads."""
LOOKED_MARK: Final = "readers-looked"
ASK_MARK: Final = "readers-ask"
SHOWN_FOR_MS: Final = 14 * 24 * 3600 * 1000

_READS: Final = frozenset({Role.TEACHER, Role.HEAD})
_MAX_MARK_BYTES: Final = 256
_LEAST_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Reader:
    """A device that stands for a teacher in a class of this one."""

    device: bytes
    person: bytes
    name: str
    seen_ms: int
    accepted: bool

    def is_shown(self, now_ms: int, *, asks: bool) -> bool:
        """Whether people are told of it now."""
        return not self.accepted and (asks or now_ms - self.seen_ms < SHOWN_FOR_MS)


@dataclass(frozen=True, slots=True)
class _Noted:
    seen_ms: int
    accepted: bool

    @classmethod
    def parse(cls, data: bytes) -> Self:
        fields = Fields(decode(data, max_bytes=_MAX_MARK_BYTES), "a reader")
        return cls(fields.count("seen"), fields.flag("accepted"))

    def encode(self) -> bytes:
        return encode(compact(seen=self.seen_ms, accepted=self.accepted))


async def asks(agent: Agent) -> bool:
    """Whether old work is handed on to accepted devices only."""
    return await agent.replica.store.mark(ASK_MARK) is not None


async def readers(agent: Agent) -> list[Reader]:
    """The devices besides this one that read its classes, the newest first; nothing on a device that reads none."""
    if not any(grant.role in _READS for grant in await agent.replica.authorities(agent.device)):
        return []
    store = agent.replica.store
    noted = _parsed(await store.marks(READER_MARKS))
    looked = await store.mark(LOOKED_MARK) is not None
    found: dict[bytes, Reader] = {}
    for space in await agent.spaces():
        roster = (await agent.replica.view(space)).roster
        for grant in roster.authorities:
            if grant.role not in _READS or grant.person is None or grant.key in roster.cut or grant.key == agent.device:
                continue
            listed = roster.persons.get(grant.person)
            known = noted.get(grant.key) or _Noted(agent.now_ms() if looked else 0, not looked)
            name = "" if listed is None else listed.name
            if grant.key not in found or (name and not found[grant.key].name):
                found[grant.key] = Reader(grant.key, grant.person, name, known.seen_ms, known.accepted)
    fresh = {
        f"{READER_MARKS}{key.hex()}": _Noted(reader.seen_ms, reader.accepted).encode()
        for key, reader in found.items()
        if key not in noted
    }
    if fresh or not looked:
        await store.set_marks({**fresh, LOOKED_MARK: b"\x01"})
    return sorted(found.values(), key=lambda reader: (-reader.seen_ms, reader.device))


async def accepted(agent: Agent) -> frozenset[bytes] | None:
    """The devices to which old work is handed on; None for all."""
    found = await readers(agent)
    return frozenset(reader.device for reader in found if reader.accepted) if await asks(agent) else None


async def set_hand_over(agent: Agent, *, ask: bool) -> None:
    """Hand old work on to accepted devices only from now on, or to all again."""
    found = await readers(agent)
    marks: dict[str, bytes | None] = {ASK_MARK: b"\x01" if ask else None}
    if ask and not await asks(agent):
        marks |= {_mark(reader): _Noted(reader.seen_ms, accepted=True).encode() for reader in found}
    await agent.replica.store.set_marks(marks)
    agent.on_change()


async def accept(agent: Agent, text: str) -> Reader:
    """Hand old work on to a device, by its id or the beginning of it. Raises `BadInput(UNKNOWN_DEVICE)`."""
    named = text.strip().lower()
    fitting = [reader for reader in await readers(agent) if reader.device.hex().startswith(named)]
    if len(named) < _LEAST_DIGITS or len(fitting) != 1:
        raise BadInput(Code.UNKNOWN_DEVICE, f"no single device that reads here is “{text}”; see `key readers`")
    reader = replace(fitting[0], accepted=True)
    await agent.replica.store.set_marks({_mark(reader): _Noted(reader.seen_ms, accepted=True).encode()})
    agent.on_change()
    return reader


async def listing(agent: Agent) -> JSON:
    """As `key readers` has it."""
    return [
        {
            "device": reader.device.hex(),
            "person": reader.person.hex(),
            "name": reader.name,
            "seen": rfc3339(reader.seen_ms) if reader.seen_ms else None,
            "accepted": reader.accepted,
        }
        for reader in await readers(agent)
    ]


def _mark(reader: Reader) -> str:
    return f"{READER_MARKS}{reader.device.hex()}"


def _parsed(marks: Mapping[str, bytes]) -> dict[bytes, _Noted]:
    found = {}
    for name, data in marks.items():
        try:
            found[bytes.fromhex(name.removeprefix(READER_MARKS))] = _Noted.parse(data)
        except (PeerFault, TooLarge, ValueError):
            continue
    return found
