"""Who has a head teacher's laptop, or the server, invents teachers by the dozen, and the real one's pages show them.

The six words of a device cost a hundredth of a second and 8 MiB each (docs/attacks.md).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from protocol.identity import AgreementKey
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonKey
from protocol.rights.vouching import Device as Keys
from protocol.rights.vouching import device_words
from protocol.roles import Role
from sync_agent.keys import confirming
from sync_agent.portal.teacher.readers import MAX_NOTICES, MAX_SHOWN
from tests.harness.attack import attack
from tests.harness.caller import Caller, caller
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.territory import new_device

ROW = "teachers who do not exist hold up the real one's pages"
INVENTED = 60


class Made:
    """The words that are made: of which devices, and in which threads."""

    def __init__(self) -> None:
        self.of: list[Keys] = []
        self.threads: set[int] = set()

    def words(self, pair: Keys) -> str:
        self.of.append(pair)
        self.threads.add(threading.get_ident())
        return device_words(pair)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    noted = Made()
    monkeypatch.setattr(confirming, "device_words", noted.words)
    return noted


@pytest.fixture
async def teacher(tmp_path: Path) -> AsyncIterator[Device]:
    """Her laptop, in whose class a stolen head's laptop has let in colleagues whom nobody knows."""
    async with classroom(tmp_path) as room:
        laptop = await room.teacher()
        await laptop.session.sync()
        await laptop.session.sync()
        await invent(room)
        await laptop.session.sync()
        yield laptop


async def invent(room: Classroom) -> None:
    territory, responder = room.territory, room.territory.responder()
    school = room.school
    head = await caller(territory, responder, Role.HEAD, school, seed=77)
    said = []
    for _ in range(INVENTED):
        keys, person = new_device(head.random.randbytes), head.random.randbytes(16)
        grant = Grant(keys.signing.public, keys.agreement.public, None, Role.TEACHER, person, None)
        entry = head.say(room.space, Kind.GRANT, grant.encode())
        colleague = Caller(territory, responder, keys, head.random, {room.space: entry.id})
        key = PersonKey(AgreementKey(head.random.randbytes(32)).public)
        said += [entry, colleague.say(room.space, Kind.PERSON_KEY, key.encode(), subject=person)]
    await head.sync(SyncRequest(push=tuple(said)))


@attack(
    ROW,
    off={"sync_agent.portal.teacher.readers.MAX_SHOWN": 1_000, "sync_agent.keys.returns_told.MAX_LISTED_WORDS": 1_000},
)
async def test_however_many_teachers_are_invented_a_page_makes_words_for_those_that_it_shows(
    teacher: Device, made: Made
) -> None:
    async with portal(teacher.agent) as surfer:
        home = await surfer.page("/")
        assert made.of == [], "the home page shows no words"
        assert home.count("lit les travaux de cette classe") == MAX_NOTICES
        assert f"Et {INVENTED - MAX_NOTICES} autres ordinateurs" in home
        page = await surfer.page("/readers")
        assert len(made.of) == 1 + MAX_SHOWN, "her own, and others'"
        assert f"Et {INVENTED - MAX_SHOWN} autres ordinateurs" in page
        found = [await surfer.page(f"/readers?from={start}") for start in (MAX_SHOWN, 2 * MAX_SHOWN)]
        assert len(set(made.of)) == 1 + INVENTED, "all can be seen"
        assert "autres ordinateurs" not in found[-1]
    made.of.clear()
    desk = Desk(teacher.agent)
    rows = await desk.ask("key-readers")
    assert len(rows) == 1 + INVENTED
    assert sum(row["words"] is not None for row in rows) == len(made.of) == confirming.MAX_LISTED_WORDS == 50
    (last,) = await desk.ask("key-readers", reader=rows[-1]["id"][:12])
    assert len(last["words"].split()) == 6, "any other's are said for its id"


async def _in_the_loop(pairs: Iterable[Keys]) -> dict[Keys, str]:
    return {pair: vars(confirming)["device_words"](pair) for pair in pairs}


@attack(
    ROW,
    off={
        "sync_agent.keys.confirming.words_of": _in_the_loop,
        "sync_agent.portal.teacher.readers.words_of": _in_the_loop,
    },
)
async def test_while_words_are_made_the_agent_does_all_else(teacher: Device, made: Made) -> None:
    async with portal(teacher.agent) as surfer:
        await surfer.page("/readers")
    await Desk(teacher.agent).ask("key-readers")
    assert made.of
    assert threading.get_ident() not in made.threads
