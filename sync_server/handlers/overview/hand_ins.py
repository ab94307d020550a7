"""Hand-ins as the server may see them: that they are, of whom and when, never what is in them."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.folds.coursework import Work
from protocol.replica.office.namesakes import called_in
from protocol.replica.office.whose_words import whose_words
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class ListedWork:
    """A hand-in, the pupil's name, the title of the assignment, and who opened or answered it, where they are known.

    `called` is the name with what tells the pupil from others of the list who have it.
    """

    work: Work
    name: str | None
    title: str | None
    by: str | None = None
    called: str | None = None


async def list_hand_ins(server: Server, space: bytes) -> list[ListedWork]:
    """The hand-ins of a space, the oldest first."""
    view = await server.replica.view(space)
    works = view.coursework.hand_ins.values()
    called = await called_in(server.replica, view.roster)
    said_by = await whose_words(server.replica, view.roster, works)
    listed = []
    for work in sorted(works, key=lambda work: (work.at_ms, work.id)):
        who = view.roster.who(work.person)
        person = view.roster.named(who)
        item = view.coursework.items.get(work.item)
        listed.append(
            ListedWork(
                work,
                None if person is None else person.name,
                None if item is None else item.shown.record.title,
                said_by(work),
                called.get(who),
            )
        )
    return listed
