"""Attacks: a copy of a PC is confirmed, and gets what a stolen key had given the PC, or what was taken from it."""

from __future__ import annotations

import html
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Successor
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.grants import grants_of
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.attack import attack
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.kept_town import keep_town, town_in_step
from tests.harness.office_devices import Town
from tests.harness.territory import new_device
from tests.harness.year_at_work import Year

ROW = "a copy is confirmed of a PC that a stolen key let in, or that was let go"


async def _all_that_was_passed_on(office: Office, device: bytes) -> list[Authority]:
    """What `confirm` repeated: every right that the copied keys ever passed on."""
    return [grant for grant in grants_of(office, device) if grant.predecessor is not None]


EVERY_SUCCESSOR = {"protocol.replica.office.grants.passed_on_now": _all_that_was_passed_on}


class _Whichever:
    """The button was about all that the keys pass on by then."""

    def __contains__(self, _space: object) -> bool:
        return True


AS_IT_IS_BY_THEN = {"sync_server.web.pages._shown_spaces": lambda _form: _Whichever()}


class Copied:
    """A class with a PC of which somebody makes a copy, and another class of the school."""

    def __init__(self, year: Year, cm1: bytes) -> None:
        self.year, self.here, self.clock, self.cm1 = year, year.here, year.here.office.clock, cm1
        self.server = year.here.office.server
        self.pc: DeviceKeys = year.machine.agent.keys

    async def brings(self, *said: Entry) -> None:
        assert len((await self.server.replica.admit(said, source=b"a PC", now_ms=self.clock())).admitted) == len(said)

    async def a_key_lets_the_pc_into(self, space: bytes) -> bytes:
        """Whoever has a copy of the server's key says so; the right."""
        server, pc = self.server, self.pc
        given = Grant(pc.signing.public, pc.agreement.public, pc.tls.fingerprint, Role.MACHINE, None, None, None)
        right = compose(
            author=server.keys.signing,
            space=space,
            kind=Kind.GRANT,
            grant=server.grant,
            at=self.clock() << 16,
            payload=given.encode(),
            salt=bytes(16),
        )
        await self.brings(right)
        return right.id

    async def takes_keys(self, under: Mapping[bytes, bytes], copy: DeviceKeys | None = None) -> str:
        """As after a copy of its disk: the old keys say new ones, in each space under the right that is named."""
        copy, said = copy or new_device(os.urandom), []
        for number, (space, grant) in enumerate(under.items(), 1):
            pair = copy.signing, copy.agreement.public, copy.tls.fingerprint
            agreed = Successor.agreed(*pair, space, self.pc.signing.public).encode()
            said.append(_of(self.pc, space, Kind.SUCCESSOR, grant, agreed, (self.clock() << 16) + number))
        await self.brings(*said)
        return copy.signing.public.hex()

    def rights(self) -> dict[bytes, bytes]:
        return {each.space: each.grant for each in self.server.replica.door.authorities_of(self.pc.signing.public)}

    async def reads(self, device: str, space: bytes) -> bool:
        return (await self.server.replica.view(space)).roster.may_read(bytes.fromhex(device))

    def told(self) -> str:
        return "\n".join(self.here.office.said.lines)

    async def moves(self, device: str) -> None:
        """Into the other class, and out of this one, an hour ago."""
        await self.year.do("grant", device=device, space=[self.cm1.hex()])
        await self.here.sync()
        await self.year.do("ungrant", device=device, space=[self.here.office.space])
        self.clock.advance(3_600_000)

    async def by_page(self, device: str, meanwhile: Callable[[], Awaitable[None]] | None = None) -> str:
        """What its page says; then, after what happens `meanwhile`, its button is pressed, shown or not."""
        await add_administrator(self.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
        async with pages_over(self.here.office) as (url, _):
            cookie = cookie_of(await sign_in(url))
            page = (await ask(url, f"/admin/devices/{device}", Cookie=cookie)).body.decode()
            if meanwhile is not None:
                await meanwhile()
            sent = dict(re.findall(r'<input type="hidden" name="(shown)" value="([^"]*)">', page))
            answer = await ask(
                url, f"/admin/devices/{device}/confirm", method="POST", form=sent, Origin=url, Cookie=cookie
            )
        assert answer.status in (303, 409)
        return page


def _of(keys: DeviceKeys, space: bytes, kind: Kind, grant: bytes, payload: bytes, at: int) -> Entry:
    return compose(author=keys.signing, space=space, kind=kind, grant=grant, at=at, payload=payload, salt=bytes(16))


@pytest.fixture(autouse=True)
async def kept() -> None:
    """What each of these begins with."""
    await keep_town(__name__)


@asynccontextmanager
async def copied(folder: Path) -> AsyncIterator[tuple[Town, Copied]]:
    async with town_in_step(folder, __name__) as (here, at_work):
        school = (await here.office.do("space list"))[0]["school"]
        made = await here.office.do("space add", name="CM1", school=school)
        yield here, Copied(Year(here, *at_work, folder), bytes.fromhex(made["space"]))


@pytest.mark.parametrize("wide", ["class", "territory"])
@attack(ROW, off=EVERY_SUCCESSOR)
async def test_a_copy_that_is_confirmed_gets_nothing_that_a_stolen_key_alone_had_given_its_pc(
    tmp_path: Path, wide: str
) -> None:
    async with copied(tmp_path) as (here, scene):
        server, clock = scene.server, scene.clock
        there = scene.cm1 if wide == "class" else server.replica.territory
        await note_arrivals(server.store, clock())
        stolen_ms = clock()
        clock.advance(3_600_000)
        right = await scene.a_key_lets_the_pc_into(there)
        copy = await scene.takes_keys({here.space: scene.rights()[here.space], there: right})
        clock.advance(3_600_000)
        await scene.year.with_kit("rotate server", since=f"{(clock() - stolen_ms) // 1000 - 60}s")
        confirmed = await scene.year.do("confirm", device=copy, restore=False)
        assert await scene.reads(copy, here.space)
        assert not await scene.reads(copy, scene.cm1)
        assert not await scene.reads(copy, there)
        assert confirmed == {"spaces": [here.space.hex()]}
        assert f"it stays out of {there.hex()}" in scene.told()


@attack(ROW, off=EVERY_SUCCESSOR)
async def test_a_copy_that_is_confirmed_is_not_back_in_the_class_that_its_pc_was_taken_out_of(tmp_path: Path) -> None:
    async with copied(tmp_path) as (here, scene):
        await scene.moves(scene.pc.signing.public.hex())
        copy = await scene.takes_keys(scene.rights())
        await scene.year.do("confirm", device=copy, restore=False)
        assert await scene.reads(copy, scene.cm1)
        assert not await scene.reads(copy, here.space)


@pytest.mark.parametrize("by", ["command", "page"])
@attack(ROW, off={**EVERY_SUCCESSOR, **AS_IT_IS_BY_THEN})
async def test_a_copy_that_was_taken_out_of_a_class_by_name_is_not_back_in_it_by_being_confirmed(
    tmp_path: Path, by: str
) -> None:
    async with copied(tmp_path) as (here, scene):
        copy = await scene.takes_keys({here.space: scene.rights()[here.space]})
        scene.clock.advance(3_600_000)
        await scene.moves(copy)
        if by == "page":
            await scene.by_page(copy)
        else:
            with suppress(BadInput):
                await scene.year.do("confirm", device=copy, restore=False)
        assert not await scene.reads(copy, here.space)
        assert await scene.reads(copy, scene.cm1)


async def test_the_page_names_the_class_into_which_confirming_a_copy_lets_it_and_no_other(tmp_path: Path) -> None:
    async with copied(tmp_path) as (here, scene):
        await scene.moves(scene.pc.signing.public.hex())
        copy = await scene.takes_keys(scene.rights())
        page = await scene.by_page(copy)
        assert re.search(rf"<li>{scene.cm1.hex()} \(«\s*CM1\s*»\)</li>", html.unescape(page))
        assert f"<li>{here.space.hex()}" not in page
        rights = scene.server.replica.door.authorities_of(bytes.fromhex(copy))
        assert {each.space for each in rights if each.predecessor is None} == {scene.cm1}


@attack(ROW, off=AS_IT_IS_BY_THEN)
async def test_nor_does_its_button_let_it_in_where_a_key_says_so_once_the_page_is_shown(tmp_path: Path) -> None:
    async with copied(tmp_path) as (here, scene):
        keys = new_device(os.urandom)
        copy = await scene.takes_keys({here.space: scene.rights()[here.space]}, keys)

        async def meanwhile() -> None:
            await scene.takes_keys({scene.cm1: await scene.a_key_lets_the_pc_into(scene.cm1)}, keys)

        await scene.by_page(copy, meanwhile)
        rights = scene.server.replica.door.authorities_of(bytes.fromhex(copy))
        assert {each.space for each in rights if each.predecessor is None} == {here.space}
