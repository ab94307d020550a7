"""Who is to be forgotten: the page of « Mon école » that asks once more before somebody is.

Rules:
- all names are said that lists ever had for whom it is; and all classes, with how much they handed in there, whichever
  the page is from which somebody is to be forgotten (docs/adr/0289, 0522);
- there is a box for one who has by now a name, or a number, that was another's (docs/adr/0523), or may have been put in
  another's place (docs/adr/0530); and one for each other id in whose place they may be, or that lists call the same
  person's (docs/adr/0160).
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from aiohttp import web

from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.office.doubles import doubles_of
from protocol.replica.office.heard import heard_first
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.renumbered import renumbered_of
from protocol.replica.office.taken_names import names_now, several_names, taken_names
from protocol.replica.office.who_that_is import MAX_CLASSES_SHOWN, classes_of
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.head.gone import MAX_GONE_SHOWN, in_whose_place, names_of_rooms, told_classes
from sync_agent.portal.shown.shelf import Room
from sync_agent.school.office import SchoolOffice

ALSO: Final = "also-"
"""+ an id: the field of a box that says that this one goes along."""
MAX_ASKED_ABOUT: Final = 20


async def who_goes(desk: Desk, visit: Visit, office: SchoolOffice, room: Room, person: bytes) -> web.Response:
    """The page that asks whether somebody on a class's list is meant: who that is, and what there is of them where."""
    say, replica = visit.say, office.replica
    same = sorted((await doubles_of(replica, person)).same)
    now = await names_now(replica, [person, *same])
    taken = await taken_names(replica, now, [person])
    replaced = await in_whose_place(desk, visit, office, person)
    renumbered, heard = await renumbered_of(replica, [person], [person]), (await heard_first(replica)).get(person)
    named, found = await mentioned(replica, [person, *same]), await classes_of(replica, [person, *same])
    called, rooms = named[person], await names_of_rooms(visit, office)
    since = [say.day(at_ms, visit.now_ms) for at_ms in called.since_ms]
    return desk.page(
        visit,
        "school_erase.html",
        room=room,
        person=person,
        name=room.called(person) or called.last or say("unknown.person"),
        known=None if heard is None else say.day(heard.timestamp_ms, visit.now_ms),
        renumbered=renumbered[:MAX_ASKED_ABOUT],
        called=list(zip(called.names, since, strict=False))[:MAX_NAMES_SHOWN],
        classes=told_classes(visit, found[person], rooms),
        more_classes=max(0, len(found[person]) - MAX_CLASSES_SHOWN),
        is_elsewhere=any(space != room.space for space in found[person]),
        taken=[
            {"now": each.now, "others": list(each.others.names[:MAX_NAMES_SHOWN])}
            for each in islice(taken.values(), MAX_ASKED_ABOUT)
        ],
        replaced=replaced[:MAX_GONE_SHOWN],
        more_replaced=max(0, len(replaced) - MAX_GONE_SHOWN),
        also=ALSO,
        several=[names[:MAX_NAMES_SHOWN] for names in islice(several_names(now).values(), MAX_ASKED_ABOUT)],
        others=[
            {
                "field": f"{ALSO}{other.hex()}",
                "names": list(named[other].names[:MAX_NAMES_SHOWN]),
                "classes": told_classes(visit, found[other], rooms),
            }
            for other in same[:MAX_ASKED_ABOUT]
        ],
        unlisted=max(0, len(same) - MAX_ASKED_ABOUT),
        back_until=say.day(visit.now_ms + ERASURE_DELAY_MS, visit.now_ms),
    )
