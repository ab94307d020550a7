"""By whose word something was decided a page says in words that nobody chooses, and by no name (docs/adr/0501).

The server's key lets a device of its own in as a head's, in any listed person's name; what that device decides is
not that person's.
"""

from __future__ import annotations

import html
from pathlib import Path
from random import Random

from protocol.identity import DeviceKeys, three_words
from protocol.model.entry import Kind, compose
from protocol.model.structure import Revocation, Ruling
from protocol.roles import Role
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.shown.shelf import Shelf
from tests.attacks.test_what_a_copied_key_lets_count import found_laptop
from tests.harness.attack import attack
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device
from tests.integration.test_my_school import a_class_more

ROW = "a page says who decided it"


def _as_the_right_claims(visit: Visit, shelf: Shelf, author: bytes, grant: bytes | None) -> str:
    given = shelf.agent.replica.door.authority(grant)
    whose = None if given is None else given.person
    names = (room.voice_of(whose) for room in visit.rooms) if whose is not None else ()
    return f"{three_words(author)} ({next(filter(None, names), None)})"


NAMED = attack(ROW, off={"sync_agent.portal.each_page.visit.Visit.said_by": _as_the_right_claims})


async def _a_heads_device(here: SpiedClass, person: bytes, kind: Kind, payload: bytes) -> DeviceKeys:
    """A device that the server's key calls this person's, with a head teacher's right in the school; it says this."""
    room, territory = here.room, here.room.territory
    spy = new_device(Random(4711).randbytes)
    (given,) = await territory.let_in(spy, Role.HEAD, room.school, person=person)
    said = compose(
        author=spy.signing,
        space=room.space,
        kind=kind,
        grant=given.id,
        at=territory.clock() << 16,
        payload=payload,
        salt=bytes(16),
    )
    assert (await territory.replica.admit([said], source=b"the thief", now_ms=territory.clock())).admitted
    return spy


@NAMED
async def test_no_page_says_that_a_head_teacher_let_count_what_a_device_called_hers_did(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        here = found.here
        mark = await here.room.territory.replica.store.authored(here.room.space, found.lost.agent.device)
        word = next(each.id for each in mark if each.header.kind == Kind.FEEDBACK)
        director = found.head.agent.in_order(await found.head.agent.own_rights())[0].person
        assert director is not None
        spy = await _a_heads_device(here, director, Kind.RULING, Ruling((word,), ()).encode())
        await found.sync()
        for device in (here.teacher, found.head):
            page = await found.page(device, "/let-count")
            decided = page[page.index("Décidé") :].partition(word.hex())[0]
            assert three_words(spy.signing.public) in decided
            assert "(" not in decided, "of whom it is said to be nothing is known"


@NAMED
async def test_no_page_says_that_a_teacher_reported_her_own_laptop_where_a_device_called_hers_did(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        head, _ = await confirmed_head(here)
        cut = Revocation(here.teacher.agent.device, ()).encode()
        spy = await _a_heads_device(here, here.room.teacher_person, Kind.REVOKE, cut)
        for _ in range(2):
            await here.sync(here.machine, head)
        async with portal(head.agent) as surfer:
            place, whom = await a_class_more(surfer), f"person:{here.room.teacher_person.hex()}"
            page = html.unescape((await surfer.send(place, f"{place}/let-in", {"who": whom})).text)
        line = page[page.index("Il n'est pas entré : il a été signalé perdu") :].partition("</p>")[0]
        assert three_words(spy.signing.public) in line
        assert "Mme Petit" not in line, "she has reported nothing"
