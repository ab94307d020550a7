"""A thief's server has the kit sign far more than was typed, so that its file has no room for what it had said."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from, rfc3339
from protocol.errors import BadInput, Code
from protocol.limits import MAX_REVOCATION_LISTS, MAX_REVOKED_HEADS
from protocol.model.entry import Entry, Kind, unsigned
from protocol.model.structure import Revocation, Ruling
from protocol.replica.console.operation import Params
from protocol.replica.console.text import local_time
from protocol.rights.root_rotation import RootAccount
from sync_server.keeping.kit_file import KitInFile
from sync_server.kit import memory
from sync_server.kit.away import KitAway
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from tests.attacks.test_a_new_root_before_all_is_heard import again, hide_what_was_signed
from tests.attacks.test_what_a_kit_remembers import _all_of, _made_anew
from tests.harness.attack import attack
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office, rotate_root

ROW = "a server in wrong hands has the kit's file let go of what it had said"

NEWEST_FIRST = {
    "sync_server.kit.memory._rooms": lambda said, _named: defaultdict(
        list, {memory._Room.CUTS: [(each,) for each in said]}
    )
}


class Thief:
    """Has the store open while somebody types a command with the kit: what is signed for it, the file notes."""

    def __init__(self, here: Town, kit: Path) -> None:
        self.office, self.kit, self.server = here.office, kit, here.office.server
        self.root = KitInFile.read(kit, None).kit.root.public

    def wish(self, kind: Kind, payload: bytes, *, space: bytes | None = None) -> Entry:
        return unsigned(
            author=self.root,
            space=self.server.replica.territory if space is None else space,
            kind=kind,
            grant=None,
            at=at_from(self.office.clock() + 2_000),
            payload=payload,
            salt=os.urandom(16),
        )

    def cut(self, device: bytes, heads: int = 0, lists: Sequence[Entry] = (), *, space: bytes | None = None) -> Entry:
        names = tuple(os.urandom(32) for _ in range(heads))
        listed = tuple(each.id for each in lists)
        return self.wish(Kind.REVOKE, Revocation(device, (*names, *listed), listed).encode(), space=space)

    async def signed(self, command: str, params: Params, wishes: Sequence[Entry]) -> list[Entry]:
        """The command ends well. It was asked for these."""
        found = KitInFile.read(self.kit, None)
        errand, notes = errand_of(command, found.kit, params, None, os.urandom), found.notes()
        desk = KitDesk(errand, self.office.said, self.office.clock, notes.take)
        away, said = KitAway(self.server, desk.keys, desk, desk), list[Entry]()
        for start in range(0, len(wishes), 8):
            some = wishes[start : start + 8]
            said += [
                replace(each, signature=signature)
                for each, signature in zip(some, await away.root.signatures(some), strict=True)
            ]
        notes.tell(self.office.said.lines.append)
        return said

    async def revoke(self, flood: Callable[[bytes], Sequence[Entry]]) -> bytes:
        """Somebody cuts a device off; this is the id of what was to be signed for that."""
        device = os.urandom(32)
        *_, said = await self.signed("revoke", {"device": device.hex()}, [*flood(device), self.cut(device)])
        await self.server.replica.admit([said], source=b"root", now_ms=self.office.clock(), bounded=False)
        return said.id


async def _is_forgotten_and_cut_off(here: Town, old_copy: Sequence[Entry], pupil: str, laptop: bytes) -> bool:
    async with _made_anew(here, "recover") as new:
        await new.replica.admit(old_copy, source=b"a thief's PC", now_ms=here.office.clock(), bounded=False)
        office = Office(new, here.office.clock, here.office.space)
        listed = {row["person"] for row in await office.do("person list", space=office.space)}
        return pupil not in listed and laptop in (await new.replica.view(here.space)).roster.cut


async def _stays_after(folder: Path, flood: Callable[[Thief, bytes], Sequence[Entry]], commands: int = 1) -> None:
    async with town(folder) as here:
        laptop, _, _, pupil, _ = await here.class_at_work()
        old_copy, kit = await _all_of(here.office.server), folder / "server" / "kit"
        await here.office.with_kit_in("erase", kit, person=[pupil])
        await here.office.with_kit_in("revoke", kit, device=laptop.agent.device.hex())
        here.office.clock.advance(DAY_MS)
        thief = Thief(here, kit)
        typed = [await thief.revoke(lambda device: flood(thief, device)) for _ in range(commands)]
        assert await _is_forgotten_and_cut_off(here, old_copy, pupil, laptop.agent.device)
        assert typed[-1] in {each.id for each in KitInFile.read(kit, None).said}


@attack(ROW, off=NEWEST_FIRST)
async def test_lists_that_are_signed_beside_a_revocation_put_nothing_out(tmp_path: Path) -> None:
    await _stays_after(
        tmp_path, lambda thief, _: [thief.wish(Kind.ROOT_ACCOUNT, RootAccount(()).encode()) for _ in range(480)]
    )


@attack(ROW, off=NEWEST_FIRST)
async def test_nor_do_revocations_of_the_device_in_spaces_that_there_are_not(tmp_path: Path) -> None:
    await _stays_after(tmp_path, lambda thief, device: [thief.cut(device, space=os.urandom(32)) for _ in range(480)])


@attack(ROW, off=NEWEST_FIRST)
async def test_nor_do_long_ones_in_however_many_commands(tmp_path: Path) -> None:
    sizes = (MAX_REVOKED_HEADS, 600, 300, 100, 30, 9, 3, 1, 0, 0, 0)
    await _stays_after(
        tmp_path,
        lambda thief, device: [thief.cut(device, heads, space=os.urandom(32)) for heads in sizes],
        commands=6,
    )


@attack(ROW, off=NEWEST_FIRST)
async def test_nor_do_lists_that_a_revocation_names(tmp_path: Path) -> None:
    def flood(thief: Thief, device: bytes) -> Sequence[Entry]:
        lists = [thief.wish(Kind.ROOT_ACCOUNT, RootAccount(()).encode()) for _ in range(8 * MAX_REVOCATION_LISTS)]
        some = [lists[start : start + MAX_REVOCATION_LISTS] for start in range(0, len(lists), MAX_REVOCATION_LISTS)]
        return [*lists, *(thief.cut(device, lists=each, space=os.urandom(32)) for each in some)]

    await _stays_after(tmp_path, flood, commands=2)


@attack(ROW, off=NEWEST_FIRST)
async def test_nor_do_rulings_on_what_a_device_has_written(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, machine, _, pupil, item = await here.class_at_work()
        await here.work(machine, item, pupil)
        await here.sync(machine)
        old_copy, kit = await _all_of(here.office.server), tmp_path / "server" / "kit"
        await here.office.with_kit_in("erase", kit, person=[pupil])
        await here.office.with_kit_in("revoke", kit, device=laptop.agent.device.hex())
        here.office.clock.advance(DAY_MS)
        thief, author = Thief(here, kit), machine.agent.device
        (work,) = [one for one in old_copy if (one.header.kind, one.header.author) == (Kind.HAND_IN, author)]
        ruling = Ruling((work.id,), ()).encode()
        wishes = [thief.wish(Kind.RULING, ruling, space=work.header.space) for _ in range(400)]
        await thief.signed("accept", {"named": [author.hex()]}, wishes)
        assert await _is_forgotten_and_cut_off(here, old_copy, pupil, laptop.agent.device)


@attack(ROW, off=NEWEST_FIRST)
async def test_so_a_rotation_of_the_root_leaves_out_nothing_of_it_unasked(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server, root = scene.here.office.server, scene.old.root.public
        first = [each.id for each in await server.store.authored(server.replica.territory, root)]
        await scene.here.office.with_kit_in("erase", scene.kit, person=[scene.pupil])
        await scene.heard()
        scene.here.office.clock.advance(DAY_MS)
        thief = Thief(scene.here, scene.kit)
        revoked = await thief.revoke(
            lambda _: [thief.wish(Kind.ROOT_ACCOUNT, RootAccount(()).encode()) for _ in range(480)]
        )
        scene.here.office.clock.advance(60_000)
        with pytest.MonkeyPatch.context() as patch:
            hide_what_was_signed(patch, server, root, left=[*first, revoked])
            remembered = KitInFile.read(scene.kit, None).said
            with pytest.raises(BadInput, match=r"leaves out .* remembers .*\(1 × erase; the latest") as caught:
                await rotate_root(server, scene.old, scene.new, remembered=remembered)
            assert caught.value.code is Code.NOT_YET


@attack(ROW, off={"sync_server.keeping.kit_file.told_of_gone": lambda *_: "noted"})
async def test_what_has_no_room_any_more_is_named(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit, stolen = tmp_path / "server" / "kit", here.office.server.keys.signing.public
        thief = Thief(here, kit)
        replaced = thief.cut(stolen, 600)
        await thief.signed("rotate server", {}, [replaced])
        here.office.clock.advance(DAY_MS)
        for _ in range(4):
            device = os.urandom(32)
            await thief.signed("revoke", {"device": device.hex()}, [thief.cut(device, 600)])
        assert replaced.id not in {each.id for each in KitInFile.read(kit, None).said}
        words = (
            f"(1 × revoke; the latest of {local_time(rfc3339(replaced.timestamp_ms) or '')}): revoke of {stolen.hex()}"
        )
        assert any(f"for 1 of the words that the kit had remembered {words}" in line for line in here.office.said.lines)
