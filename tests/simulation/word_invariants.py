"""What must hold in the end of what one computer has said of a thing more than once (docs/adr/0378, 0561).

32. Of what a computer that remembers has said about the same thing, the last that counts stands before its earlier
    words, whatever of these was hidden from it while it spoke.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from typing import Final

from protocol.model.ancestry import along, in_order_of_showing
from protocol.model.entry import Entry
from protocol.replica.office.said_before import _of
from tests.simulation.ledger import BrokenError
from tests.simulation.sound import server_of, sound
from tests.simulation.world import World


async def _last_words(world: World) -> None:
    server = server_of(world.office)
    remembering = {machine.device: machine.name for machine, _ in sound(world) if machine.remembers}
    for space in server.door.spaces():
        held_back = (await server.view(space)).roster.held_back
        here = [each.entry for each in await server.store.scan(space)]
        place = along({entry.id: entry for entry in here}, lambda _: 1, lambda entry: entry.header.prev)
        for said in _by_topic(here):
            last: dict[bytes, Entry] = {}
            for entry in _in_order(said, held_back):
                first = last.setdefault(entry.header.author, entry)
                name = remembering.get(entry.header.author)
                if name is not None and place[entry.id] > place[first.id]:
                    raise BrokenError(f"{first.id.hex()[:8]} stands before {entry.id.hex()[:8]}, said later by {name}")


def _by_topic(entries: Iterable[Entry]) -> Iterable[Sequence[Entry]]:
    topics: defaultdict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        topics[_of(entry)].append(entry)
    return [said for topic, said in topics.items() if topic is not None]


def _in_order(said: Sequence[Entry], held_back: Container[bytes]) -> Sequence[Entry]:
    counting = {entry.id: entry for entry in said if entry.id not in held_back}
    return in_order_of_showing(counting, [entry for entry in said if entry.id in held_back])


WORDS: Final = (_last_words,)
