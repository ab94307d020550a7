"""A copied key cuts off and lets back in one breath, so that codes and first rights are held back (docs/adr/0502).

Nobody sees it: the codes are used up, and who came in by them reads on. What an honest server makes of it is its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.held_in_space import grants_not_held_back
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_server.handlers.overview.members import list_devices
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a device is lost"


async def _all_that_is_held_back(office: Office, spaces: Iterable[bytes]) -> dict[bytes, frozenset[bytes]]:
    """As if what a copied key holds back were so by the server's own word."""
    return {space: (await office.replica.view(space)).roster.held_back for space in spaces}


async def _by_the_present_key(office: Office) -> list[Entry]:
    return [one for one in await office.replica.store.scan_kinds([Kind.REVOKE]) if is_ours(office, one)]


async def _whoever_holds_it_back(office: Office, grants: Collection[Authority]) -> list[Authority]:
    return await grants_not_held_back(office.replica, grants)


AS_ITS_OWN = {"protocol.replica.office.held_codes.held_surely": _all_that_is_held_back}


class Codes(Thieving):
    """A head's computer, and a PC that came in by a code of hers three weeks before the key was copied."""

    async def begin(self) -> None:
        here = self.here
        self.head = await here.head_of_the_school()
        await here.sync()
        self.pc = await here.device("machine", code=await self._code())
        await here.sync()
        await note_arrivals(self.office.server.store, self.clock())
        self.clock.advance(20 * DAY_MS)
        await self.is_stolen()

    async def breath(self, keys: DeviceKeys, again: bytes, space: bytes) -> None:
        """The device is cut off with nothing that it said, but for what is said of nobody, and back at once."""
        said = () if space == self.here.school else tuple(await self._tips(keys, space))
        cut = await self.brings(Kind.REVOKE, Revocation(keys.signing.public, said).encode(), space=space)
        await self.brings(Kind.GRANT, again, space=space, parents=[cut.id])
        self.clock.advance(3_600_000)

    async def head_in_one_breath(self) -> None:
        keys = self.head.agent.keys
        await self.breath(keys, granted(keys, Role.HEAD, None), self.here.school)

    async def code_of_last_night(self) -> bytes:
        """One more code of hers, which `is_reported` holds back."""
        await self._code()
        await note_arrivals(self.office.server.store, self.clock())
        made = await self.office.server.store.scan_kinds([Kind.INVITE])
        return [one.id for one in made if one.header.author == self.head.agent.device][-1]

    async def is_reported(self, since: str | None) -> None:
        dated = {} if since is None else {"since": since}
        await self.year.do("lost", device=self.head.agent.device.hex(), **dated)

    async def is_told(self, keys: DeviceKeys) -> bool:
        """Among the devices, as one that somebody should look at."""
        (row,) = [each for each in await list_devices(self.office.server) if each.id == keys.signing.public]
        return row.let_in_since

    async def _code(self) -> str:
        made = await Desk(self.head.agent).ask("invite", role="machine", space=[self.office.space], uses=1, ttl="72h")
        await self.here.sync(self.head)
        code: str = made["code"]
        return code

    async def _tips(self, keys: DeviceKeys, space: bytes) -> Collection[bytes]:
        return await self.office.server.replica.tips(space, keys.signing.public)


@pytest.fixture
async def codes(tmp_path: Path) -> AsyncIterator[Codes]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        made = Codes(Year(here, *at_work, tmp_path))
        await made.begin()
        yield made


@pytest.mark.parametrize("new_keys", [False, True], ids=["by-the-copied-server", "by-one-with-new-keys"])
@pytest.mark.parametrize("since", [None, "12h"])
@attack(ROW, off=AS_ITS_OWN)
async def test_whom_a_heads_code_let_in_months_ago_stays_as_her_computer_is_reported_that_a_copied_key_let_back(
    codes: Codes, since: str | None, new_keys: bool
) -> None:
    await codes.head_in_one_breath()
    if new_keys:
        await codes.new_keys()
    await codes.is_reported(since)
    assert await codes.reads(codes.pc, codes.here.space)


@attack(ROW, off=AS_ITS_OWN)
async def test_nor_is_the_class_closed_then_without_asking_about_that_pc(codes: Codes) -> None:
    here, pc = codes.here, codes.pc
    await here.work(pc, codes.year.item, codes.year.pupil)  # which lies on that PC alone
    await codes.head_in_one_breath()
    await codes.is_reported(None)
    codes.clock.advance(40 * DAY_MS)
    for device in here.devices:
        if device not in (codes.head, pc):
            with suppress(Refused):  # whom this keeps out
                await here.sync(device)
    closing = await codes.office.do("space close", space=here.space.hex())
    assert pc.agent.device.hex() in [row["device"] for row in closing["unheard"]]


@attack(ROW, off={"protocol.replica.office.held_codes.cuts_of_servers": _by_the_present_key})
async def test_whom_a_copied_key_let_in_by_a_reported_code_is_told_after_the_servers_keys_are_others_too(
    codes: Codes,
) -> None:
    his, code = spy(), await codes.code_of_last_night()
    await codes.is_reported("12h")
    await codes.brings(Kind.GRANT, granted(his, Role.MACHINE, None, code=code))
    assert await codes.is_told(his)
    await codes.new_keys()
    assert await codes.reads(his, codes.here.space)
    assert await codes.is_told(his)


@attack(ROW, off={"protocol.replica.office.held_codes.grants_not_held_back_by_this_office": _whoever_holds_it_back})
async def test_nobody_is_told_to_have_come_by_a_reported_code_whom_the_key_let_back_by_it(codes: Codes) -> None:
    code, keys = await codes.code_of_last_night(), codes.year.machine.agent.keys
    await codes.is_reported("12h")
    await codes.breath(keys, granted(keys, Role.MACHINE, None, code=code), codes.here.space)
    assert not await codes.is_told(keys)
