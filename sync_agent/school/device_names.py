"""What other devices call themselves, as far as it is known here: their own word, and no proof of anything."""

from __future__ import annotations

from collections.abc import Container, Iterable

from blake3 import blake3

from protocol.errors import PeerFault
from protocol.folds.coursework import Work
from protocol.identity import words_of
from protocol.model.register import Health, RegisterKind, stored_register
from protocol.roles import RUNS_A_SCHOOL
from sync_agent.app import Agent
from sync_agent.machine.marks import CALLED_MARKS


def key_words(device: bytes) -> str:
    """Three words for a device's key, which it cannot choose as it does its name."""
    return " ".join(words_of(blake3(device).digest()))


async def machine_of(agent: Agent, work: Work) -> str:
    """What people called the machine on which something was handed in, by its own word, and the words of its key."""
    words = key_words(work.author)
    name = work.record.machine or (await device_names(agent)).get(work.author)
    return f"{name} ({words})" if name else words


async def device_names(agent: Agent) -> dict[bytes, str | None]:
    """The names that devices gave in reports, as neighbours, or when they were let in; this device's own.

    The last is what others say of them, the server too: to be shown, with words of the key where anything hangs on it.
    """
    names = await signed_names(agent)
    for mark, called in (await agent.replica.store.marks(CALLED_MARKS)).items():
        names.setdefault(bytes.fromhex(mark.removeprefix(CALLED_MARKS)), called.decode())
    return names


async def signed_names(agent: Agent) -> dict[bytes, str | None]:
    """Those alone that devices gave themselves, in reports and as neighbours; this device's own."""
    names: dict[bytes, str | None] = {agent.device: agent.enrolment.device_name}
    for near in agent.neighbours():
        match near:
            case {"device": str(key), "name": str(name)}:
                names[bytes.fromhex(key)] = name
    for row in await agent.replica.store.registers(RegisterKind.HEALTH):
        try:
            names.setdefault(row.device, Health.parse(stored_register(row.data).body).name)
        except PeerFault:
            continue
    return names


async def note_called(agent: Agent, called: Iterable[tuple[bytes, str]]) -> None:
    """Keep the names that devices gave when they were let in, where this one runs a school; only of those that were."""
    if await agent.role() not in RUNS_A_SCHOOL:
        return
    door = agent.replica.door
    marks = {CALLED_MARKS + key.hex(): name.encode() for key, name in called if name and door.authorities_of(key)}
    if marks:
        await agent.replica.store.set_marks(marks)


async def names_to_drop(agent: Agent, forgotten: Container[bytes]) -> list[str]:
    """The marks of names that are kept in vain: the device has told its own, has no right left, or is of the forgotten.

    "Portable de Léa" says who somebody was, as her name does.
    """
    marks = await agent.replica.store.marks(CALLED_MARKS)
    told = await signed_names(agent) if marks else {}
    gone = []
    for mark in marks:
        key = bytes.fromhex(mark.removeprefix(CALLED_MARKS))
        named = {grant.person for grant in agent.replica.door.authorities_of(key)}
        is_over = any(person in forgotten for person in named if person is not None)
        if is_over or told.get(key) or not await agent.replica.authorities(key):
            gone.append(mark)
    return gone
