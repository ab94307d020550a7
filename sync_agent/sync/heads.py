"""The heads of spaces, which the server shows to who leaves news to others (R18; docs/protocol.md, "One download")."""

from __future__ import annotations

from dataclasses import replace

from protocol.messages.calls import SyncAnswer
from protocol.messages.parts import Wanted
from sync_agent.app import Agent
from sync_agent.sync.cursors import cursor_marks
from sync_agent.sync.peer_news import settle, unsettled
from sync_agent.sync.sharing import Sharing


async def take_heads(agent: Agent, sharing: Sharing | None, answer: SyncAnswer) -> tuple[SyncAnswer, set[bytes], bool]:
    """The answer without heads, the spaces whose news is left to others, and whether this device is to ask for some.

    A head that shows the very set that lies here moves the cursor: others brought it all.
    """
    waiting: list[Wanted] = []
    due = False
    heads = [page for page in answer.pages if page.more and not page.entries]
    for head in heads:
        space, fingerprint = head.checkpoint.space, head.checkpoint.fingerprint
        # an empty set lies here of every space that there is not
        is_known = agent.replica.door.knows_space(space)
        news = await unsettled(agent.replica.store) if is_known else {}
        if is_known and await agent.replica.fingerprint(space) == fingerprint:
            await agent.replica.store.set_marks(cursor_marks(head.checkpoint))
            await settle(agent.replica.store, {space: news[space]} if space in news else {})
            if sharing is not None:
                sharing.has_come(space)
        elif sharing is None or sharing.is_mine(Wanted(space, fingerprint)):
            due = True
        else:
            waiting.append(Wanted(space, fingerprint))
    if sharing is not None:
        due = sharing.held_up(() if due else waiting) or due
    return (
        replace(answer, pages=tuple(page for page in answer.pages if page not in heads)),
        {head.space for head in waiting},
        due,
    )
