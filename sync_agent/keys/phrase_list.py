"""A teacher's phrases as a command lists them: which there are, and what whoever has their paper can open.

Rules (docs/protocol.md, "Reading keys"):
- listed is what this teacher's own devices drew, as far as this one leads to them; lost ones included, for their paper
  is in the world;
- a phrase opens the keys that were sealed to it, for good; with those in use it opens what is handed in today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.clock import milliseconds_of, rfc3339
from protocol.model.entry import Kind, parsed
from protocol.replica.console.operation import JSON
from protocol.rights.vouching import Device, is_drawn_by
from protocol.trust.person_keys import PhraseKey
from sync_agent.app import Agent
from sync_agent.keys.confirming import circle_of, list_readers
from sync_agent.keys.places import Place, about, places_or_refuse
from sync_agent.keys.said_by_space import said_by_space
from sync_agent.space_names import space_names


@dataclass(frozen=True, slots=True)
class _Known:
    """A phrase as one class knows it: `is_in_force` says that it is the one to which new keys are sealed there."""

    place: Place
    agreement: bytes
    drawer: Device
    drawn_ms: int
    is_in_force: bool

    @property
    def opens(self) -> frozenset[bytes]:
        """The reading keys that were sealed to it."""
        sealed = (record for _, record in self.place.wraps if any(to == self.agreement for to, _ in record.wraps))
        return frozenset(record.agreement for record in sealed)

    @property
    def opens_new_work(self) -> bool:
        """Whether hand-ins are sealed to one of these now."""
        return not self.opens.isdisjoint(self.place.roster.reading_keys.get(self.place.person, ()))


async def list_phrases(agent: Agent) -> list[JSON]:
    """One row for each, the newest first. Raises `Refused(NO_RIGHT)` on a device that stands for no teacher."""
    names, called = await space_names(agent), {each.device: each.name for each in await list_readers(agent)}
    rows: dict[bytes, list[_Known]] = {}
    for each in sorted(await _known(agent), key=lambda each: each.drawn_ms, reverse=True):
        rows.setdefault(each.agreement, []).append(each)
    return [
        {
            "phrase": agreement.hex(),
            "drawn": rfc3339(min(each.drawn_ms for each in known)),
            "device": known[0].drawer[0].hex(),
            "name": called.get(known[0].drawer[0]),
            "state": _state(known),
            "keys": len({key for each in known for key in each.opens}),
            "opens_new_work_of": [names.get(each.place.space) for each in known if each.opens_new_work],
        }
        for agreement, known in rows.items()
    ]


def _state(known: Sequence[_Known]) -> str:
    if all(each.drawer[0] in each.place.roster.cut for each in known):
        return "of a lost device"
    return "in use" if any(each.is_in_force for each in known) else "earlier"


async def _known(agent: Agent) -> list[_Known]:
    said = await said_by_space(agent, Kind.PHRASE)
    found: list[_Known] = []
    for place in await places_or_refuse(agent):
        own = circle_of(agent, place.roster, place.person).own
        in_force = None if place.in_force is None else place.in_force[1].agreement
        here: dict[bytes, _Known] = {}
        for entry in about(agent, said.get(place.space, ()), place.person, place.roster):
            phrase, author = parsed(entry, PhraseKey.parse), agent.replica.door.authority(entry.header.grant)
            if phrase is None or author is None:
                continue
            drawer = author.pair
            if drawer in own and is_drawn_by(phrase, place.person, drawer, place.space):
                at_ms = milliseconds_of(entry.header.at)
                is_in_force = phrase.agreement == in_force
                here.setdefault(phrase.agreement, _Known(place, phrase.agreement, drawer, at_ms, is_in_force))
        found += here.values()
    return found
