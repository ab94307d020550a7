"""What sticks took away and brought is noted for as long as somebody may ask.

Rules:
- that a stick has taken a work away is its state until it is known to have arrived, and that one has taken or brought
  it is a line in the report of a drill: a note is kept for `REPORT_MS`, and until the server or a reader has the work;
- a work that is not here any more, or that an erasure has emptied, will not arrive;
- notes under the name that they had before, which is that of a server's accounts too, take the new one.
"""

from __future__ import annotations

from typing import Final

from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent
from sync_agent.hand_ins.for_good import still_to_arrive
from sync_agent.machine.marks import BROUGHT_MARKS, CARRIED_MARKS, FORMER_BROUGHT_MARKS

REPORT_MS: Final = 30 * 24 * 3600 * 1000
_ID_DIGITS: Final = 64


async def tidy_stick_marks(agent: Agent) -> None:
    """Let go of notes that nobody asks for any more. Raises `LocalFailure`."""
    store = agent.replica.store
    await _rename(store)
    now_ms = agent.now_ms()
    old: dict[str, bytes] = {}
    for prefix in (BROUGHT_MARKS, CARRIED_MARKS):
        for mark, value in (await store.marks(prefix)).items():
            # one from a time that is still to come was made by a clock that was wrong
            if abs(now_ms - int.from_bytes(value, "big")) > REPORT_MS:
                old[mark] = bytes.fromhex(mark.removeprefix(prefix))
    if not old:
        return
    entries = await store.get(list(set(old.values())))
    arrived: set[bytes] = set()
    for space in {entry.header.space for entry in entries.values()}:
        is_on_its_way = await still_to_arrive(agent, space)
        works = (await agent.replica.view(space)).coursework.hand_ins
        arrived |= {name for name, work in works.items() if not is_on_its_way(work)}
    gone = []
    for mark, name in old.items():
        entry = entries.get(name)
        if entry is None or entry.payload is None or name in arrived:
            gone.append(mark)
    await store.set_marks(dict.fromkeys(gone))


async def _rename(store: EntryStore) -> None:
    former = await store.marks(FORMER_BROUGHT_MARKS)
    names = {mark: mark.removeprefix(FORMER_BROUGHT_MARKS) for mark in former}
    marks: dict[str, bytes | None] = {}
    for mark, name in names.items():
        if len(name) == _ID_DIGITS:
            marks |= {mark: None, f"{BROUGHT_MARKS}{name}": former[mark]}
    await store.set_marks(marks)
