"""What other devices call themselves, as far as it is known here: their own word, and no proof of anything."""

from __future__ import annotations

from blake3 import blake3

from protocol.coursework import Work
from protocol.errors import PeerFault
from protocol.identity import words_of
from protocol.register import Health, RegisterKind, stored_register
from sync_agent.app import Agent


def key_words(device: bytes) -> str:
    """Three words for a device's key, which it cannot choose as it does its name."""
    return " ".join(words_of(blake3(device).digest()))


async def machine_of(agent: Agent, work: Work) -> str:
    """What people called the machine on which something was handed in, by that machine's own word.

    Where it has no name, or another is called the same here, the words of its key tell it apart.
    """
    known = await device_names(agent)
    works = (await agent.replica.view(work.space)).coursework.hand_ins.values()
    names = [(key, name) for key, name in known.items() if name]
    names += [(other.author, other.record.machine) for other in works if other.record.machine]
    name = work.record.machine or known.get(work.author)
    if not name:
        return key_words(work.author)
    is_alone = all(key == work.author for key, other in names if other.casefold() == name.casefold())
    return name if is_alone else f"{name} ({key_words(work.author)})"


async def device_names(agent: Agent) -> dict[bytes, str | None]:
    """The names that devices gave in their reports and as neighbours, as far as known here, and this device's own."""
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
