"""A thief's code, named by the thief in grants for those who came in otherwise (docs/attacks.md).

Whoever writes a grant chooses the code that it names: the report of the theft is to cut off whom the code let in, and
nobody whom the thief only says it let in.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TypeAlias

from protocol.clock import DAY_MS
from protocol.identity import DeviceKeys, SigningKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Invite, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_codes import let_in_by_codes_of
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.members import list_devices
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import Town, town

Came: TypeAlias = dict[bytes, dict[bytes, None]]
"""Who made a code → who came in by it, everywhere."""
AT_THE_HEADS = "a head teacher's computer lets a server's device in as a teacher's"


async def _whoever_is_named(office: Office, device: bytes) -> dict[bytes, None]:
    """As it was before: nobody asks whether the grant that names the code counts, who wrote it, or what else let in."""
    door = office.replica.door
    made = [one for one in await office.replica.store.scan_kinds([Kind.INVITE]) if one.header.author == device]
    held = {one.id for one in made if one.id in (await office.replica.view(one.header.space)).roster.held_back}
    return dict.fromkeys(grant.key for grant in door.authorities() if grant.invite in held)


async def _whoever_names_theirs(
    office: Office, makers: Collection[bytes], **_: object
) -> dict[bytes, dict[bytes, None]]:
    return {maker: await _whoever_is_named(office, maker) for maker in makers}


def code(here: Town) -> bytes:
    """What makes a code for one machine of the class."""
    return Invite(os.urandom(32), Role.MACHINE, (here.space,), None, 1, here.office.clock() + DAY_MS).encode()


def named(keys: DeviceKeys, by_code: bytes) -> bytes:
    """A machine's grant that says it was written because of a code."""
    return Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, by_code).encode()


async def those_there(here: Town) -> tuple[Device, Device]:
    """A teacher's laptop and a PC that came in by codes of the server's, a day before the theft."""
    laptop = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
    pc = await here.device("machine")
    await note_arrivals(here.office.server.store, here.office.clock())
    here.office.clock.advance(DAY_MS)
    return laptop, pc


async def a_head(here: Town) -> tuple[Device, bytes]:
    """A head teacher's laptop, and its school."""
    return await here.head_of_the_school(), here.school


@attack("a device is lost", off={"protocol.replica.office.losses.let_in_by_held_codes": _whoever_is_named})
async def test_whoever_a_thief_says_came_in_by_its_code_stays_when_the_laptop_is_reported(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head, school = await a_head(here)
        there = await those_there(here)
        replica, clock = head.agent.replica, here.office.clock
        under = max(await replica.authorities(head.agent.device), key=lambda each: each.rank).grant

        async def say(draft: Draft) -> Entry:
            (said,) = await replica.write([draft], author=head.agent.keys.signing, now_ms=clock(), entropy=os.urandom)
            return said

        made = await say(Draft(school, Kind.INVITE, under, code(here)))
        for device in there:
            await say(Draft(here.space, Kind.GRANT, under, named(device.agent.keys, made.id)))
        await here.sync(head)
        await note_arrivals(here.office.server.store, clock())
        await here.office.do("lost", device=head.agent.device.hex(), since="12h")
        for device in there:
            assert here.space in await here.office.server.replica.readable(device.agent.device)


@attack("a device is lost", off={"sync_server.handlers.by_kit.newcomers.let_in_by_codes_of": _whoever_names_theirs})
async def test_whoever_a_stolen_server_says_came_in_by_its_code_stays_when_its_keys_are_replaced(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        head, _ = await a_head(here)
        there = (*await those_there(here), head)
        server = here.office.server
        (made,) = await server.write([Draft(server.replica.door.territory, Kind.INVITE, server.grant, code(here))])
        for device in there:
            grant = Draft(here.space, Kind.GRANT, server.grant, named(device.agent.keys, made.id))
            await server.write([grant])
        await note_arrivals(server.store, here.office.clock())
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        for device in there:
            assert here.space in await here.office.server.replica.readable(device.agent.device)
        assert not any(line.startswith("cut off") for line in here.office.said.lines)


def _any(_: object) -> bool:
    return True


async def _out_everywhere(office: Office, makers: Collection[bytes], **_: object) -> Came:
    return {maker: dict.fromkeys(of) for maker, of in (await let_in_by_codes_of(office, makers, counted=_any)).items()}


@attack(AT_THE_HEADS, off={"sync_server.handlers.by_kit.newcomers.let_in_by_codes_of": _out_everywhere})
async def test_who_used_a_thiefs_code_for_one_more_class_stays_in_the_class_of_before(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head, _ = await a_head(here)
        laptop, _ = await those_there(here)
        server = here.office.server
        other = bytes.fromhex((await here.office.do("space add", name="CM2", school="0180001D", year="none"))["space"])
        (made,) = await server.write([Draft(server.replica.door.territory, Kind.INVITE, server.grant, code(here))])
        await here.sync(head)
        under = max(await head.agent.replica.authorities(head.agent.device), key=lambda each: each.rank).grant
        await head.agent.replica.write(
            [Draft(other, Kind.GRANT, under, named(laptop.agent.keys, made.id))],
            author=head.agent.keys.signing,
            now_ms=here.office.clock(),
            entropy=os.urandom,
        )
        await here.sync(head)
        await note_arrivals(server.store, here.office.clock())
        assert other in await server.replica.readable(laptop.agent.device)
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        readable = await here.office.server.replica.readable(laptop.agent.device)
        assert here.space in readable
        assert other not in readable


GRANT_COMES_LATER = "a device is lost"


async def _nobody(*_: object, **__: object) -> dict[bytes, dict[bytes, None]]:
    return {}


class LateGrant:
    """A head's stolen laptop has made a code; the grant that somebody got by it was lost with a server's disk.

    It has been reported at the server, as it was restored, since before that.
    """

    def __init__(self, here: Town) -> None:
        self.here = here
        self.keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))

    async def begin(self) -> None:
        here, server = self.here, self.here.office.server
        self.head, self.school = await a_head(here)
        self.other_head = await here.head_of_the_school()
        self.laptop, _ = await those_there(here)
        self.made = await self._say(self.head, await self._right_of(self.head), Kind.INVITE, self.school, code(here))
        await note_arrivals(server.store, here.office.clock())
        await here.office.do("lost", device=self.head.agent.device.hex(), since="12h")

    async def comes(self) -> None:
        """The server's own word, on a laptop that had heard it from the server as it was before."""
        server = self.here.office.server
        granted = named(self.keys, self.made)
        await self._say(self.laptop, server.grant, Kind.GRANT, self.here.space, granted, server.keys.signing)

    async def comes_from_another_head(self) -> None:
        """The word of another head's computer, which had not heard of the theft."""
        under = await self._right_of(self.other_head)
        await self._say(self.other_head, under, Kind.GRANT, self.here.space, named(self.keys, self.made))

    async def may_read(self) -> bool:
        return self.here.space in await self.here.office.server.replica.readable(self.keys.signing.public)

    async def is_told(self) -> bool:
        return await _is_told(self.here, self.keys.signing.public)

    async def let_in_by_name(self) -> None:
        await self.here.office.do("grant", device=self.keys.signing.public.hex(), space=[self.here.space.hex()])

    async def _right_of(self, head: Device) -> bytes:
        return max(await head.agent.replica.authorities(head.agent.device), key=lambda each: each.rank).grant

    async def _say(
        self, on: Device, under: bytes, kind: Kind, space: bytes, payload: bytes, author: SigningKey | None = None
    ) -> bytes:
        (said,) = await on.agent.replica.write(
            [Draft(space, kind, under, payload)],
            author=author or on.agent.keys.signing,
            now_ms=self.here.office.clock(),
            entropy=os.urandom,
        )
        await self.here.sync(on)
        return said.id


@attack(GRANT_COMES_LATER, off={"sync_server.handlers.overview.members.came_by_reported_codes": _nobody})
async def test_whom_a_restored_server_had_let_in_by_a_thiefs_code_is_told_as_it_hears_of_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        thief = LateGrant(here)
        await thief.begin()
        await thief.comes()
        assert await thief.is_told()
        await here.office.do("lost", device=thief.keys.signing.public.hex())
        assert not await thief.may_read()


async def test_who_came_by_a_thiefs_code_and_was_let_in_by_name_is_told_no_more(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        thief = LateGrant(here)
        await thief.begin()
        await thief.comes()
        await thief.let_in_by_name()
        assert await thief.may_read()
        assert not await thief.is_told()


@attack(GRANT_COMES_LATER, off={"sync_server.handlers.overview.members.let_in_by_codes_of": _nobody})
async def test_whom_another_heads_computer_let_in_by_a_thiefs_code_is_told_until_an_administrator_agrees(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        thief = LateGrant(here)
        await thief.begin()
        await thief.comes_from_another_head()
        assert await thief.is_told()
        await thief.let_in_by_name()
        assert not await thief.is_told()


async def _all_reports(office: Office) -> list[Entry]:
    """As if whatever is said with the server's key were the server's own report."""
    return await office.replica.store.scan_kinds([Kind.REVOKE])


async def _all_that_is_held_back(office: Office, spaces: Iterable[bytes]) -> dict[bytes, frozenset[bytes]]:
    """As if what a copied key holds back were so by the server's own word."""
    return {space: (await office.replica.view(space)).roster.held_back for space in spaces}


@attack(
    GRANT_COMES_LATER,
    off={
        "protocol.replica.office.held_codes.cuts_of_servers": _all_reports,
        "protocol.replica.office.held_codes.held_surely": _all_that_is_held_back,
    },
)
async def test_nobody_who_came_in_by_a_heads_code_is_told_because_a_copied_key_cuts_her_off_for_a_minute(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        server, head = here.office.server, await here.head_of_the_school()
        await here.sync()
        made = await Desk(head.agent).ask("invite", role="machine", space=[here.office.space], uses=1, ttl="72h")
        await here.sync()
        pc = await here.device("machine", code=made["code"])
        await here.sync()
        cut = Revocation(head.agent.device, ()).encode()
        await thief_says(here.office, Draft(here.school, Kind.REVOKE, server.grant, cut))
        assert here.space in await server.replica.readable(pc.agent.device)
        assert not await _is_told(here, pc.agent.device)


# --- codes that a copy of the server's key names for those who have been there all year (docs/adr/0497) ---------------


class CopiedKey:
    """A class at work, a head's computer that made a code last night, and a copy of the server's key."""

    def __init__(self, here: Town) -> None:
        self.here = here

    async def begin(self) -> None:
        here = self.here
        self.there, self.head = await those_there(here), await here.head_of_the_school()
        await here.sync()
        await note_arrivals(here.office.server.store, here.office.clock())
        here.office.clock.advance(DAY_MS)
        made = await Desk(self.head.agent).ask("invite", role="machine", space=[here.office.space], uses=2, ttl="72h")
        self.code = made["code"]
        await here.sync()

    async def names(self, *, after_a_minute_outside: bool) -> None:
        """In a grant for each device of the class; perhaps as what lets it back in, whom it has just cut off there."""
        here, server = self.here, self.here.office.server
        (made,) = [
            one for one in await server.store.scan_kinds([Kind.INVITE]) if one.header.author == self.head.agent.device
        ]
        for device in self.there:
            (first, *_) = server.replica.door.authorities_of(device.agent.device)
            given = Grant(first.key, first.agreement, first.tls_sha256, first.role, first.person, made.id).encode()
            cut: tuple[bytes, ...] = ()
            if after_a_minute_outside:
                order = Draft(here.space, Kind.REVOKE, server.grant, Revocation(first.key, ()).encode())
                cut = tuple([said.id for said in await thief_says(here.office, order)])
            await thief_says(here.office, Draft(here.space, Kind.GRANT, server.grant, given, parents=cut))
        await note_arrivals(server.store, here.office.clock())

    async def is_reported(self) -> None:
        await self.here.office.do("lost", device=self.head.agent.device.hex(), since="12h")

    async def are_there(self) -> list[bool]:
        readable = self.here.office.server.replica.readable
        return [self.here.space in await readable(device.agent.device) for device in self.there]


def _any_way_in(*_: object) -> bool:
    """As if who is named as having come by a code had no other way in."""
    return True


BY_NOTHING_ELSE = {"protocol.replica.office.held_codes._by_nothing_else": _any_way_in}


@attack("a device is lost", off=BY_NOTHING_ELSE)
async def test_whom_a_copied_key_says_to_have_come_by_it_stays_when_a_heads_computer_is_reported(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        copied = CopiedKey(here)
        await copied.begin()
        await copied.names(after_a_minute_outside=False)
        await copied.is_reported()
        assert await copied.are_there() == [True, True]


@attack("a device is lost", off={"protocol.replica.office.held_codes.held_surely": _all_that_is_held_back})
async def test_also_where_it_has_cut_them_off_and_let_them_back_by_that(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = CopiedKey(here)
        await copied.begin()
        await copied.names(after_a_minute_outside=True)
        await copied.is_reported()
        assert await copied.are_there() == [True, True]


@attack("a device is lost", off=BY_NOTHING_ELSE)
async def test_nor_is_anybody_told_whom_it_says_so_of_after_the_report(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = CopiedKey(here)
        await copied.begin()
        await copied.is_reported()
        await copied.names(after_a_minute_outside=False)
        assert await copied.are_there() == [True, True]
        assert [await _is_told(here, device.agent.device) for device in copied.there] == [False, False]


async def test_who_did_come_by_that_code_and_by_nothing_else_goes_with_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        copied = CopiedKey(here)
        await copied.begin()
        his = await here.device("machine", code=copied.code)
        await here.sync()
        await copied.is_reported()
        assert here.space not in await here.office.server.replica.readable(his.agent.device)


async def _is_told(here: Town, device: bytes) -> bool:
    (row,) = [each for each in await list_devices(here.office.server) if each.id == device]
    return row.let_in_since
