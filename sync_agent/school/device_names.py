"""What other devices call themselves, as far as it is known here: their own word, and no proof of anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from weakref import WeakKeyDictionary

from blake3 import blake3

from protocol.beside_words import beside_words
from protocol.errors import PeerFault
from protocol.folds.coursework import Work
from protocol.identity import three_words, words_of
from protocol.model.entry import Kind, parsed
from protocol.model.register import Health, RegisterKind, stored_register
from protocol.model.work import HandIn
from protocol.replica.at_work.forgotten import persons_of
from protocol.rights.door import Door
from protocol.roles import RUNS_A_SCHOOL
from sync_agent.app import Agent
from sync_agent.machine.marks import CALLED_MARKS


def key_words(device: bytes, door: Door) -> str:
    """`three_words`, and three more where another key that was ever let in has the same.

    Three are soon found: whoever lets in what they like makes keys until one has those of an honest computer.
    """
    alike = _ALIKE.setdefault(door, _Alike())
    alike.take(door)
    words, digest = three_words(device), blake3(device).digest()
    return f"{words} {' '.join(words_of(digest[3:]))}" if alike.keys[words] - {device} else words


@dataclass(slots=True)
class _Alike:
    """The keys of so many grants, by their three words."""

    read: int = 0
    keys: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def take(self, door: Door) -> None:
        """Read those that have come since."""
        for given in islice(door.authorities(), self.read, None):
            self.keys[three_words(given.key)].add(given.key)
            self.read += 1


_ALIKE: Final[WeakKeyDictionary[Door, _Alike]] = WeakKeyDictionary()


async def machine_of(agent: Agent, work: Work) -> str:
    """What people called the machine on which something was handed in, by its own word, and the words of its key."""
    name = work.record.machine or (await device_names(agent)).get(work.author)
    return called_as(name, None, key_words(work.author, agent.replica.door))


def called_as(name: str | None, person: str | None, words: str) -> str:
    """What people know a device by: the name that it gives itself, whose it is, and words that it cannot choose."""
    name = beside_words(name or "")
    beside = [beside_words(person)] if person else []
    beside += [words] if name else []
    return f"{name or words} ({' · '.join(beside)})" if beside else words


async def device_names(agent: Agent) -> dict[bytes, str | None]:
    """The names that devices gave in reports, as neighbours, or when they were let in; this device's own.

    The last is what others say of them, the server too: to be shown, with words of the key where anything hangs on it.
    """
    names = await signed_names(agent)
    for mark, called in (await agent.replica.store.marks(CALLED_MARKS)).items():
        names.setdefault(bytes.fromhex(mark.removeprefix(CALLED_MARKS)), called.decode())
    return names


async def names_seen(agent: Agent, devices: Iterable[bytes]) -> dict[bytes, str | None]:
    """`device_names`, and of these devices, who has none there, what each called itself when it handed in last.

    A report goes no further than to who was near; what was handed in comes to each computer of the class. What counts
    no more since the device was lost is as good for that.
    """
    names = await device_names(agent)
    for device in set(devices) - names.keys():
        for space in await agent.spaces():
            for entry in await agent.replica.store.authored(space, device):
                record = parsed(entry, HandIn.parse) if entry.header.kind == Kind.HAND_IN else None
                if record is not None and record.machine:
                    names[device] = record.machine
    return names


async def signed_names(agent: Agent) -> dict[bytes, str | None]:
    """Those alone that devices gave themselves, in reports and as neighbours; this device's own."""
    names: dict[bytes, str | None] = {agent.device: agent.enrolment.device_name}
    names |= {bytes.fromhex(key): name for key, name in _neighbours(agent)}
    for row in await agent.replica.store.registers(RegisterKind.HEALTH):
        try:
            names.setdefault(row.device, Health.parse(stored_register(row.data).body).name)
        except PeerFault:
            continue
    return names


def _neighbours(agent: Agent) -> Iterable[tuple[str, str]]:
    for near in agent.neighbours():
        match near:
            case {"device": str(key), "name": str(name)}:
                yield key, name
            case _:
                pass


async def note_called(agent: Agent, called: Iterable[tuple[bytes, str]]) -> None:
    """Keep the names that devices gave when they were let in, where this one runs a school; only of those that were.

    Nor of the forgotten's, whoever says them: a server has old ones.
    """
    said = {key: name for key, name in called if name}
    if not said or await agent.role() not in RUNS_A_SCHOOL:
        return
    door, store, forgotten = agent.replica.door, agent.replica.store, await agent.replica.forgotten()
    known = {key: name for key, name in said.items() if door.authorities_of(key)}
    marks = {CALLED_MARKS + key.hex(): name.encode() for key, name in known.items() if not _is_of(door, key, forgotten)}
    kept = await store.marks(CALLED_MARKS) if marks else {}
    if news := {mark: name for mark, name in marks.items() if kept.get(mark) != name}:
        await store.set_marks(news)


async def note_met(agent: Agent) -> None:
    """Keep the names of those that are neighbours now: they are asked about on the day on which they are not there."""
    met = [(bytes.fromhex(key), name) for key, name in _neighbours(agent)]
    await note_called(agent, [(key, name) for key, name in met if await agent.replica.authorities(key)])


async def names_to_drop(agent: Agent, forgotten: Container[bytes]) -> list[str]:
    """The marks of names that are kept in vain: the device has no right left, or is of the forgotten.

    "Portable de Léa" says who somebody was, as her name does.
    """
    marks = await agent.replica.store.marks(CALLED_MARKS)
    keys = {mark: bytes.fromhex(mark.removeprefix(CALLED_MARKS)) for mark in marks}
    door, authorities = agent.replica.door, agent.replica.authorities
    return [mark for mark, key in keys.items() if _is_of(door, key, forgotten) or not await authorities(key)]


def _is_of(door: Door, device: bytes, forgotten: Container[bytes]) -> bool:
    return any(person in forgotten for person in persons_of(door, device))
