"""A copy of the server's key holds back what a pupil handed in, and refuses it in the same breath (0552)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import at_from
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Revocation, Ruling
from protocol.model.work import EMPTY_PAYLOAD
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.held_in_space import held_by_space
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.roles import Role
from sync_agent.portal.head.doubles import MAX_DEVICES_NAMED
from sync_agent.school.held_back import HeldInSchool
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.by_kit.waiting import waiting_notices
from sync_server.opened.app import Server
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import granted, thief_says
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.portal import portal, words_in
from tests.harness.territory import new_device

ROW = "work is held back and refused in one breath"
FLOOD = "a thief's words that are held back hide one that is"
REFUSED_WITH_THE_SERVERS_KEYS = "refusée avec les clés du serveur : PC 2"


@dataclass
class Refused:
    """A class in which a pupil has handed something in, and the thief who undid that; a head teacher is there."""

    here: Town
    work: AtWork
    handed_in: bytes
    head: Device

    async def waits(self, *, refused: bool = False) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self.here.office.do("waiting", refused=refused)
        return [row for row in rows if row["id"] == self.handed_in.hex()]

    async def thief_refuses(self) -> None:
        grant = self.here.office.server.grant
        refusal = Ruling((), (self.handed_in,)).encode()
        await thief_says(self.here.office, Draft(self.here.space, Kind.RULING, grant, refusal))

    async def told_to_the_head(self) -> str:
        for _ in range(2):
            await self.here.sync(self.head)
        async with portal(self.head.agent) as surfer:
            return words_in(await surfer.page("/school"))


@pytest.fixture
async def undone(tmp_path: Path) -> AsyncIterator[Refused]:
    async with town(tmp_path) as here:
        work = await here.class_at_work()
        head = await here.head_of_the_school()
        replica, keys = here.office.server.replica, work.machine.agent.keys
        before = tuple(await replica.tips(here.space, keys.signing.public))
        handed_in = await here.work(work.machine, work.item, work.pupil)
        await here.sync(work.machine)
        grant = here.office.server.grant
        cut = Draft(here.space, Kind.REVOKE, grant, Revocation(keys.signing.public, before).encode())
        (said,) = await thief_says(here.office, cut)
        back = Draft(here.space, Kind.GRANT, grant, granted(keys, Role.MACHINE, None), parents=(said.id,))
        await thief_says(here.office, back)
        found = Refused(here, work, handed_in, head)
        await found.thief_refuses()
        assert handed_in in (await replica.view(here.space)).roster.refused
        yield found


async def _by_whomever(_server: Server) -> Callable[[Roster], Container[bytes]]:
    return lambda roster: roster.refused


OFF = {"sync_server.handlers.by_kit.waiting._settled": _by_whomever}


@attack(ROW, off=OFF)
async def test_it_waits_on_and_is_told_until_this_server_has_refused_it(undone: Refused) -> None:
    rows = await undone.waits()
    assert [(row["kind"], row["name"], row["refused"]) for row in rows] == [("hand-in", "Léa", True)]
    (notice,) = await waiting_notices(undone.here.office.server)
    assert (notice.topic, notice.facts["count"]) == ("words-waiting", 1)
    assert await undone.here.office.do("refuse", named=[rows[0]["device"]]) == {"refused": 1}
    assert (await undone.waits(), len(await undone.waits(refused=True))) == ([], 1)
    assert await waiting_notices(undone.here.office.server) == []
    await undone.thief_refuses()
    assert await undone.waits() == [], "what was said here is said, whoever repeats it"


@attack(ROW, off=OFF)
async def test_who_lets_it_count_is_told_when_it_is_refused_again(undone: Refused) -> None:
    await undone.here.office.do("refuse", named=[undone.handed_in.hex()])
    await undone.here.office.do("accept", named=[undone.handed_in.hex()])
    assert await undone.waits() == []
    await undone.thief_refuses()
    assert [row["refused"] for row in await undone.waits()] == [True]


@attack(ROW, off=OFF)
async def test_the_page_of_what_waits_says_by_whose_word_it_was_refused(undone: Refused) -> None:
    office = undone.here.office
    await add_administrator(office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    async with pages_over(office) as (url, _):
        page = await ask(url, "/admin/waiting", Cookie=cookie_of(await sign_in(url)))
    assert "déjà refusé avec les clés du serveur" in words_in(page.body.decode())


async def _none_is(*_: object) -> HeldInSchool:
    return HeldInSchool({}, {})


@attack(ROW, off={"sync_agent.portal.head.school.held_back_in_school": _none_is})
async def test_the_heads_page_tells_it_apart_from_what_waits(undone: Refused) -> None:
    told = await undone.told_to_the_head()
    assert REFUSED_WITH_THE_SERVERS_KEYS in told
    assert "mise de côté" not in told


async def test_what_the_kit_has_refused_waits_nowhere(undone: Refused, tmp_path: Path) -> None:
    kit = kit_in(tmp_path / "server" / "kit", None)
    done = await undone.here.office.with_kit("refuse", kit, named=[undone.handed_in.hex()])
    assert done == {"refused": 1}
    assert await undone.waits() == []
    assert REFUSED_WITH_THE_SERVERS_KEYS not in await undone.told_to_the_head()


FEW = 5


async def _the_first_by_id(
    replica: Replica, spaces: Iterable[bytes], kinds: Collection[int], **wanted: bool
) -> AsyncIterator[tuple[Roster, list[Entry]]]:
    """As if of what is held back no more than that were looked at, and only then which of it is told."""
    async for roster, held in held_by_space(replica, spaces, frozenset(Kind), **wanted):
        looked_at = sorted(held, key=lambda entry: entry.id)[:FEW]
        yield roster, [entry for entry in looked_at if entry.header.kind in kinds]


def _most_first(counts: Counter[bytes], _door: Door) -> dict[bytes, int]:
    return {device: count for device, count in counts.most_common() if count}


def _chosen(keys: DeviceKeys, right: bytes, space: bytes, below: bytes, number: int) -> Entry:
    """A word of a kind that no page tells, with an id that its author has drawn as often as it took."""
    while True:
        made = compose(
            author=keys.signing,
            space=space,
            kind=Kind.SIGN_IN_LOCK,
            grant=right,
            at=number,
            payload=EMPTY_PAYLOAD,
            salt=os.urandom(16),
            subject=bytes(16),
            target=bytes(32),
        )
        if made.id < below:
            return made


async def _flooded(undone: Refused, said: Callable[[DeviceKeys, bytes], list[Entry]]) -> list[Entry]:
    """What a device says that a copied key lets in, and cuts off as of before that."""
    office, space = undone.here.office, undone.here.space
    grant, keys = office.server.grant, new_device(os.urandom)
    (right,) = await thief_says(office, Draft(space, Kind.GRANT, grant, granted(keys, Role.MACHINE, None)))
    words = said(keys, right.id)
    admission = await office.server.replica.admit(words, source=b"a PC", now_ms=office.clock())
    assert len(admission.admitted) == len(words)
    await thief_says(office, Draft(space, Kind.REVOKE, grant, Revocation(keys.signing.public, ()).encode()))
    return words


@attack(FLOOD, off={"sync_agent.school.held_back.held_by_space": _the_first_by_id})
async def test_words_that_nobody_is_told_of_keep_none_off_the_heads_page(undone: Refused) -> None:
    space, first, now = undone.here.space, undone.handed_in, at_from(undone.here.office.clock())
    await _flooded(undone, lambda keys, right: [_chosen(keys, right, space, first, now + n) for n in range(FEW)])
    assert REFUSED_WITH_THE_SERVERS_KEYS in await undone.told_to_the_head()


@attack(FLOOD, off={"sync_agent.school.held_back._as_met": _most_first})
async def test_a_pc_of_the_school_is_named_before_devices_that_came_after_it(undone: Refused) -> None:
    here, office = undone.here, undone.here.office
    (honest,) = (await office.server.replica.store.get([undone.handed_in])).values()

    def like_it(keys: DeviceKeys, right: bytes) -> list[Entry]:
        return [
            compose(
                author=keys.signing,
                space=here.space,
                kind=Kind.HAND_IN,
                grant=right,
                at=at_from(office.clock()) + number,
                payload=honest.payload or b"",
                salt=os.urandom(16),
                subject=honest.header.subject,
                target=honest.header.target,
            )
            for number in range(2)
        ]

    for _ in range(MAX_DEVICES_NAMED):
        words = await _flooded(undone, like_it)
        refusal = Ruling((), tuple(entry.id for entry in words)).encode()
        await thief_says(office, Draft(here.space, Kind.RULING, office.server.grant, refusal))
    told = await undone.told_to_the_head()
    assert f"{2 * MAX_DEVICES_NAMED + 1} choses dites" in told
    assert "refusées avec les clés du serveur : PC 2" in told
