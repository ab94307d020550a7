"""What a teacher's first page says of sign-in: secrets that a lost computer can show, and what is held back.

Where and how that is put right: `sign_ins`; docs/adr/0281, docs/adr/0285, docs/adr/0312.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.model.entry import Kind
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Room, Shelf


@dataclass(frozen=True, slots=True)
class Notice:
    """A class whose sign-in somebody should look at.

    So many pupils sign in with what a lost computer could open; a word about the switch is held back; so many do not
    sign in, since what they were given last is.
    """

    room: Room
    opened: int
    is_unsettled: bool
    undone: int


async def home_sign_ins(visit: Visit, shelf: Shelf) -> list[Notice]:
    """What a teacher's home page says of sign-in; nothing on anybody else's."""
    if not visit.teaches or not await shelf.agent.replica.store.scan_kinds([Kind.SIGN_IN]):
        return []
    found = []
    for room in visit.classes:
        book, space = shelf.sign_in, room.space
        sign_ins, pupils = await book.of(space), {pupil.id for pupil in room.pupils}
        opened = len((await book.opened_by_gone(space)).keys() & pupils)
        notice = Notice(room, opened, bool(sign_ins.unsettled), len(sign_ins.in_doubt & pupils))
        if notice.opened or notice.is_unsettled or notice.undone:
            found.append(notice)
    return found
