"""Whoever has the server's key holds back what a teacher said last, and lets her in again in the same breath (0273)."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from html import unescape
from pathlib import Path

from protocol.clock import DAY_MS, MAX_AT
from protocol.folds.coursework import Work
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonRecord, Revocation, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.hand_ins.own_words import OwnWords, own_words
from sync_agent.machine.marks import HELD_BACK_SEEN_MARKS
from sync_agent.school.held_back import HeldInSchool, HeldWord, _HeldBy, own_held_back
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.last_word import (
    AFTER,
    BEFORE,
    NOTICE,
    an_administrator_cuts_off,
    and_is_cut_off,
    her_last_word,
    hold_back_since,
    told_by_status,
    undone,
)
from tests.harness.lost_laptop import let_in_again
from tests.harness.office_devices import town
from tests.harness.portal import Surfer, portal
from tests.harness.spied_class import spied_class

ROW = "a teacher's last word is undone"


async def _nothing(_agent: object) -> list[object]:
    return []


async def _none_waits(*_: object) -> HeldInSchool:
    return HeldInSchool({}, {})


OFF = {
    "sync_agent.portal.pages.own_held_back": _nothing,
    "sync_agent.school.held_back.own_held_back": _nothing,
}


@attack(ROW, off=OFF)
async def test_her_first_page_and_status_say_that_her_last_word_is_held_back_until_she_says_it_again(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here)
        told = await told_by_status(here)
        assert told["kinds"] == {"feedback": 1}
        assert "sync-server accept" in told["message"]
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE in await surfer.page("/")
            assert AFTER in (page := unescape(await surfer.page("/held-back")))
            assert f"/work/{here.work.hex()}" in page
        await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
        assert (await told_by_status(here))["count"] == 0
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE not in await surfer.page("/")


async def _whatever_is_held_back(agent: Agent, _shown: object) -> None:
    words = await own_held_back(agent)
    await agent.replica.store.set_marks({HELD_BACK_SEEN_MARKS + word.entry.id.hex(): word.by for word in words})


@attack(ROW, off={"sync_agent.portal.teacher.held_back.acknowledge_held_back": _whatever_is_held_back})
async def test_what_is_held_back_while_the_page_lies_open_is_not_seen_with_what_it_shows(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        desk, territory, space = Desk(here.teacher.agent), here.room.territory, here.room.space
        other = await here.room.hand_in(here.machine, here.item, {"b.txt": b"y"})
        await here.sync()
        await here.sync()
        before = []
        for work, text in ((here.work, BEFORE), (here.work, AFTER), (other, "Vu.")):
            before.append(tuple(await territory.replica.tips(space, here.teacher.agent.device)))
            await desk.ask("feedback", id=work.hex(), text=text)
            await here.sync(here.teacher)
        await hold_back_since(here, before[2])
        async with portal(here.teacher.agent) as surfer:
            page = unescape(await surfer.page("/held-back"))
            assert ("Vu." in page, AFTER in page) == (True, False)
            await hold_back_since(here, before[1])
            (shown,) = re.findall(r'name="words" value="([0-9a-f,]+)"', page)
            await surfer.send("/held-back", "/held-back/seen", {"words": shown})
            assert NOTICE in await surfer.page("/")


@attack(ROW, off=OFF)
async def test_that_whoever_holds_it_back_refuses_it_too_is_told(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here)
        territory, space = here.room.territory, here.room.space
        held = await her_last_word(here)
        await territory.say(space, Kind.RULING, Ruling((), (held,)).encode())
        await here.sync(here.teacher)
        assert (await told_by_status(here))["refused"] == 1
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE in await surfer.page("/")


def _seen_for_good(entry: Entry, by: _HeldBy, seen: Mapping[str, bytes]) -> HeldWord:
    return HeldWord(entry, by.is_refused, by.names, HELD_BACK_SEEN_MARKS + entry.id.hex() in seen)


async def _for_good(*_: object) -> None:
    return


SEEN_FOR_GOOD: dict[str, object] = {
    "sync_agent.school.held_back._held_word": _seen_for_good,
    "sync_agent.school.held_back._let_go_of": _for_good,
}


async def _sees(surfer: Surfer) -> None:
    (shown,) = re.findall(r'name="words" value="([0-9a-f,]+)"', await surfer.page("/held-back"))
    await surfer.send("/held-back", "/held-back/seen", {"words": shown})
    assert NOTICE not in await surfer.page("/")


@attack(ROW, off=SEEN_FOR_GOOD)
async def test_that_another_cut_holds_it_back_is_news(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space, hers = here.room.territory, here.room.space, here.teacher
        before = tuple(await territory.replica.tips(space, hers.agent.device))
        await Desk(hers.agent).ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
        await here.sync()
        async with portal(hers.agent) as surfer:
            for number in range(2):
                await an_administrator_cuts_off(here, hers, before, number)
                await let_in_again(here, hers, Role.TEACHER, here.room.teacher_person)
                for _ in range(2):
                    await here.sync()
                assert NOTICE in await surfer.page("/")
                await _sees(surfer)
                await and_is_cut_off(here)
                await here.sync()
                assert await own_held_back(hers.agent) == [], "it counts"


@attack(ROW, off=SEEN_FOR_GOOD)
async def test_that_it_is_undone_again_once_it_was_let_count_is_news(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here)
        territory, space, held = here.room.territory, here.room.space, await her_last_word(here)

        async def rule(*, accept: bool) -> None:
            said = Ruling((held,), ()) if accept else Ruling((), (held,))
            await territory.say(space, Kind.RULING, said.encode())
            for _ in range(2):
                await here.sync(here.teacher)

        async with portal(here.teacher.agent) as surfer:
            for _ in range(2):
                await rule(accept=False)
                assert NOTICE in await surfer.page("/")
                await _sees(surfer)
                await rule(accept=True)
                assert NOTICE not in await surfer.page("/")


async def _however_it_counts(agent: Agent, work: Work) -> OwnWords:
    return replace(await own_words(agent, work), by_ruling=False)


@attack(ROW, off={"sync_agent.hand_ins.handing_in.own_words": _however_it_counts})
async def test_what_counts_by_a_ruling_alone_she_says_once_more_for_good(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here)
        territory, space, held = here.room.territory, here.room.space, await her_last_word(here)
        await territory.say(space, Kind.RULING, Ruling((held,), ()).encode())
        await here.sync(here.teacher)
        await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
        await here.sync(here.teacher)
        await territory.say(space, Kind.RULING, Ruling((), (held,)).encode())
        await here.sync(here.teacher, here.machine)
        view = await here.machine.agent.replica.view(space)
        feedback = view.coursework.hand_ins[here.work].feedback
        assert feedback is not None
        assert feedback.record.text == AFTER


@attack(ROW, off={"sync_agent.portal.head.school.held_back_in_school": _none_waits})
async def test_the_heads_page_tells_whose_words_wait(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head = await here.room.head()
        await undone(here)
        await here.sync(head)
        async with portal(head.agent) as surfer:
            page = await surfer.page("/school")
            assert NOTICE in page
            assert "Mme Petit" in page.partition(NOTICE)[2].partition("</p>")[0]


def _by_date(_said: object, held: Sequence[Entry], counting: Iterable[Entry]) -> set[bytes]:
    latest = max((entry.header.at for entry in counting if entry.header.kind == Kind.FEEDBACK), default=0)
    return {entry.id for entry in held if entry.header.at < latest}


@attack(ROW, off={"sync_agent.school.held_back._said_again": _by_date})
async def test_it_is_told_though_the_server_had_shown_a_time_to_come_as_she_said_the_earlier_word(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here, ahead_ms=3 * DAY_MS)
        assert (await told_by_status(here))["kinds"] == {"feedback": 1}
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE in await surfer.page("/")
        await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
        assert (await told_by_status(here))["count"] == 0


def _latest_by_date(
    words: Sequence[Entry], counting: Iterable[bytes], about: Callable[[Entry], Hashable]
) -> set[bytes]:
    binding = frozenset(counting)
    latest: dict[Hashable, int] = {}
    for entry in words:
        if entry.id in binding:
            latest[about(entry)] = max(latest.get(about(entry), 0), entry.header.at)
    return {entry.id for entry in words if entry.header.at < latest.get(about(entry), 0)}


@attack(ROW, off={"sync_server.handlers.by_kit.waiting.said_again": _latest_by_date})
async def test_a_name_that_waits_is_listed_though_whoever_had_the_server_had_said_the_same_before_of_a_time_to_come(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        office, server = here.office, here.office.server
        pupil = bytes.fromhex(await office.add_person("Tim", "pupil"))
        tom = PersonRecord("Tom", PersonRole.PUPIL).encode()
        thiefs = compose(
            author=server.keys.signing, space=here.space, kind=Kind.PERSON, grant=server.grant, at=MAX_AT,
            payload=tom, subject=pupil, salt=bytes(SALT_BYTES),
        )  # fmt: skip
        assert (await server.replica.admit([thiefs], source=b"a thief", now_ms=office.clock())).admitted
        head = await here.head_of_the_school()
        right = (await head.agent.right(here.space, Kind.PERSON)).grant
        (hers,) = await head.agent.write(Draft(here.space, Kind.PERSON, right, tom, subject=pupil))
        await here.sync(head)
        await office.do("revoke", device=head.agent.device.hex(), since=None)
        waiting = {row["id"] for row in await office.do("waiting", refused=False)}
        assert hers.id.hex() not in waiting, "so far it counts"
        cut = Revocation(head.agent.device, ()).encode()
        await server.write([Draft(here.space, Kind.REVOKE, server.grant, cut)])
        assert hers.id.hex() in {row["id"] for row in await office.do("waiting", refused=False)}
        await office.do("accept", named=[hers.id.hex()])
        assert hers.id.hex() not in {row["id"] for row in await office.do("waiting", refused=False)}
