"""What erasures cover goes from this machine when it is due, with the keys that were kept for it.

It is hidden as soon as the erasure arrives, whatever else happens. `run` looks every hour; where nobody runs it, each
`sync` and each stick does. `run`, a `sync` and whoever reads a stick look after hearing: what was taken back while the
machine was off is in the first answer, or on that very stick. Whoever writes one looks after that. No first sync is
waited for without end: content that comes by drops, from a server in wrong hands or over a line in such, would keep a
machine that is switched off each evening from destroying anything. What sticks did is forgotten on the way.

docs/protocol.md, "Erasure".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

from protocol.errors import LocalFailure
from protocol.replica.at_work.destroyed import destroyed_names, forgotten_persons
from protocol.replica.process.unforeseen import lasting
from protocol.replica.upkeep.eraser import LEFTOVERS_MARK, SWEEP_INTERVAL_S, Destroyed
from protocol.replica.upkeep.orders import DestroyedHere
from sync_agent.app import Agent
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.hand_ins.wraps import give_up_keys
from sync_agent.machine.marks import HAND_IN_MARKS
from sync_agent.school.device_names import names_to_drop
from sync_agent.school.sign_in import TRIES_MARKS
from sync_agent.upkeep.stick_marks import tidy_stick_marks

ASKED_WITHIN_S: Final = 600.0
"""So long the first sync of a program is waited for: a lesson is not over by then."""

_log = logging.getLogger(__name__)


async def destroy_erased(agent: Agent) -> Destroyed:
    """One sweep: payloads, content, and the content keys of hand-ins made here. Raises `LocalFailure`."""
    destroyed = await agent.pace.look()
    store = agent.replica.store
    await store.set_marks(agent.watched.marks())
    kept = {bytes.fromhex(key.removeprefix(HAND_IN_MARKS)): key for key in await store.marks(HAND_IN_MARKS)}
    works, here = await store.get(list(kept)), await DestroyedHere.of(agent.replica)
    erased = [name for name, work in works.items() if work.payload is None and here.covers(work)]
    await give_up_keys(agent, erased)
    over = {kept[name]: None for name in erased}
    await store.set_marks({**over, LEFTOVERS_MARK: b"\1"} if over else {})
    await Drafts(agent).sweep()
    agent.reading_keys.let_go_of_given(agent.replica.door.lineage, await destroyed_names(store))
    tries = await store.marks(TRIES_MARKS)
    # who is only hidden keeps the count of their misses: they may come back
    forgotten = await forgotten_persons(store)
    gone = [key for key in tries if bytes.fromhex(key.removeprefix(TRIES_MARKS).partition("/")[0]) in forgotten]
    gone += await names_to_drop(agent, forgotten)
    await store.set_marks({**dict.fromkeys(gone), LEFTOVERS_MARK: b"\1"} if gone else {})
    if await store.mark(LEFTOVERS_MARK) is not None:
        async with agent.writing:
            await agent.forget_copies()
            await store.set_marks({LEFTOVERS_MARK: None})
    await tidy_stick_marks(agent)
    await agent.key_slots.draw_free()
    return destroyed


@contextlib.asynccontextmanager
async def destroying(agent: Agent, asked: asyncio.Event) -> AsyncIterator[None]:
    """Sweep once the server was `asked` what is new, reached or not, and every hour while the context lasts.

    It is waited for no longer than `ASKED_WITHIN_S`.
    """
    async with lasting("destroying what has been erased", lambda: _sweep(agent, asked), agent.unforeseen):
        yield


async def destroy_or_say(agent: Agent) -> None:
    """One sweep, for whom a failure of it is no reason to stop: it is in the log."""
    try:
        if (destroyed := await destroy_erased(agent)).entries:
            _log.info("%d erased entries have been destroyed", len(destroyed.entries))
    except LocalFailure as failure:
        _log.error("what has been erased cannot be destroyed: %s", failure)


async def _sweep(agent: Agent, asked: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asked.wait(), ASKED_WITHIN_S)
    while True:
        await destroy_or_say(agent)
        await asyncio.sleep(SWEEP_INTERVAL_S)
