"""Another root takes over on a thief's server: he shows the rotation, and keeps back what leads to the old one's words.

The kit had forgotten a pupil, and cut off keys that were stolen: its file remembers both, and so do all machines.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from protocol.clock import at_from
from protocol.errors import BadInput, PeerFault
from protocol.limits import MAX_ROTATION_HEADS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.heads import accounts_of
from protocol.rights.root_rotation import RootRotation
from sync_server.keeping.kit_file import KitInFile
from sync_server.kit.to_name import MOST_TO_NAME, to_name
from sync_server.opened.app import Server
from tests.attacks.test_a_new_root_before_all_is_heard import Again
from tests.harness.attack import attack
from tests.harness.office_devices import town
from tests.harness.server_in_process import Sayings, rotate_root

ROW = "what leads to the words of a root is kept back"
_ORDERS = frozenset({Kind.ERASE, Kind.REVOKE})
NOTHING_TO_NAME = {"sync_server.kit.errands.to_name": lambda _: ()}


class Kept(Again):
    """See the module."""

    async def has_said(self, count: int) -> None:
        """The root has, before all else, so many words that do nothing."""
        replica = self.here.office.server.replica
        noise = [
            compose(
                author=self.old.root,
                space=replica.territory,
                kind=Kind.REWRAP,
                grant=None,
                at=at_from(1, number),
                payload=b"\x80",
                salt=bytes(16),
            )
            for number in range(count)
        ]
        await replica.admit(noise, source=bytes(32), now_ms=self.here.office.clock())
        self.noise = {one.id for one in noise}

    async def begin(self) -> None:
        await super().begin()
        self.stolen = self.server.keys.signing.public
        await self.rotate_server(noted=True)
        await self.kit_says("erase", person=[self.pupil])
        await self.heard()
        self.root = self.old.root.public
        self.words = [one for one in await self.signed(self.server.replica.territory) if one.header.kind in _ORDERS]

    @property
    def server(self) -> Server:
        return self.here.office.server

    async def signed(self, space: bytes) -> list[Entry]:
        """What the root has said there."""
        return await self.server.store.authored(space, self.root)

    async def kit_says(self, command: str, **params: object) -> None:
        """By a kit that notes it in its file."""
        await self.here.office.with_kit_in(command, self.kit, **params)
        self.here.office.clock.advance(60_000)

    async def the_thief_rotates(self, names: Iterable[bytes], lists: Collection[bytes] = ()) -> None:
        """His program has the old root name this, and this by a list; whatever becomes of it."""
        named, territory = list(names), self.server.replica.territory
        tips = self.server.replica._own_tips

        async def signed(*_: object) -> list[bytes]:
            return named

        async def accounts(*_: object) -> list[Draft]:
            return accounts_of(territory, [*lists])

        async def nothing_before(space: bytes, author: bytes) -> list[bytes]:
            return [] if author == self.root else await tips(space, author)

        with pytest.MonkeyPatch.context() as thief:
            thief.setattr("sync_server.handlers.by_kit.rotation._signed", signed)
            thief.setattr("sync_server.handlers.by_kit.rotation._accounts", accounts)
            thief.setattr(self.server.replica, "_own_tips", nothing_before)
            with suppress(BadInput, PeerFault):
                await self.rotates()

    async def rotates(self, said: Sayings | None = None) -> None:
        """Another root takes over, by the command that has read the kit's file."""
        remembered = KitInFile.read(self.kit, None).said
        await rotate_root(self.server, self.old, self.new, said=said, remembered=remembered)
        self.here.office.clock.advance(60_000)

    async def shows_a_pc_all_but(self, kept_back: Collection[bytes] = ()) -> Replica:
        """What the server says, lists left out, and this besides."""
        pc = self.machine.agent.replica
        for space in self.server.replica.door.spaces():
            entries = [stored.entry for stored in await self.server.store.scan(space)]
            shown = [one for one in entries if one.id not in kept_back and one.header.kind != Kind.ROOT_ACCOUNT]
            await pc.admit(shown, source=b"x" * 32, now_ms=self.here.office.clock())
        return pc

    async def counts_on(self, pc: Replica) -> bool:
        """Whether what the kit said does, on a PC."""
        rosters = [(await pc.view(space)).roster for space in (pc.territory, self.here.space)]
        is_forgotten = bytes.fromhex(self.pupil) not in rosters[1].persons
        return is_forgotten and all(self.stolen in roster.cut for roster in rosters)


@asynccontextmanager
async def kept(folder: Path, *, noise: int = 0) -> AsyncIterator[Kept]:
    async with town(folder) as here:
        scene = Kept(here, folder)
        await scene.has_said(noise)
        await scene.begin()
        yield scene


LISTS_FOR_ALL = {**NOTHING_TO_NAME, "sync_server.kit.errands.are_lists_needed": lambda *_: True}


@attack(ROW, off=LISTS_FOR_ALL)
async def test_no_list_is_named_for_what_a_rotation_has_room_for(tmp_path: Path) -> None:
    async with kept(tmp_path) as scene:
        words = [one.id for one in scene.words]
        proofs = [one.id for one in await scene.signed(scene.old.territory) if one.id not in words]
        await scene.the_thief_rotates(proofs, words)
        assert await scene.counts_on(await scene.shows_a_pc_all_but())


@attack(ROW, off=NOTHING_TO_NAME)
async def test_what_the_kit_remembers_stays_by_no_list_where_there_are_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as scene:
        words = [one.id for one in scene.words]
        proofs = [one.id for one in await scene.signed(scene.old.territory) if one.id not in words]
        monkeypatch.setattr("sync_server.kit.root_line.MAX_ROTATION_LISTS", MAX_ROTATION_HEADS)  # as if it were full
        await scene.the_thief_rotates(proofs, words)
        assert await scene.counts_on(await scene.shows_a_pc_all_but())


@attack(ROW, off=NOTHING_TO_NAME)
async def test_nor_by_a_later_word_that_nobody_ever_heard_of(tmp_path: Path) -> None:
    async with kept(tmp_path) as scene:
        tom = await scene.here.office.add_person("Tom", "pupil")
        await scene.heard()
        before = {one.id for one in await scene.signed(scene.old.territory)}
        await scene.kit_says("erase", person=[tom])
        (later,) = {one.id for one in await scene.signed(scene.old.territory)} - before
        await scene.the_thief_rotates([*before - {one.id for one in scene.words}, later])
        assert await scene.counts_on(await scene.shows_a_pc_all_but([later]))


EVERYWHERE = {"sync_server.kit.root_line._led_to": lambda entry, _shown: entry.header.prev}


@attack(ROW, off=EVERYWHERE)
async def test_nor_does_a_word_in_a_class_lead_to_those_in_the_territory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as scene:
        monkeypatch.setattr("sync_server.kit.to_name.MOST_TO_NAME", 0)  # of so many words that these have no room
        territory, tips = scene.old.territory, scene.server.replica._own_tips
        lost = await scene.here.device("machine")

        async def of_the_territory(space: bytes, author: bytes) -> list[bytes]:
            return await tips(territory if author == scene.root else space, author)

        with pytest.MonkeyPatch.context() as thief:
            thief.setattr(scene.server.replica, "_own_tips", of_the_territory)
            await scene.kit_says("revoke", device=lost.agent.device.hex())
        (leading,) = await scene.signed(scene.here.space)
        assert leading.header.prev
        words = {one.id for one in scene.words}
        proofs = [one.id for one in await scene.signed(territory) if one.id not in words]
        await scene.the_thief_rotates([*proofs, leading.id])
        assert await scene.counts_on(await scene.shows_a_pc_all_but())


@attack(ROW, off=NOTHING_TO_NAME)
async def test_of_a_root_that_said_more_than_there_is_room_for_what_its_kit_remembers_is_named(tmp_path: Path) -> None:
    async with kept(tmp_path, noise=2 * MAX_ROTATION_HEADS) as scene:
        said = Sayings()
        await scene.rotates(said)
        (rotation,) = await scene.server.store.scan_kinds([Kind.ROOT_ROTATION])
        heads = RootRotation.parse(rotation.payload or b"").heads
        assert len(heads) < MAX_ROTATION_HEADS
        assert any("keeps nothing of it back, " in line for line in said.lines)
        assert await scene.counts_on(await scene.shows_a_pc_all_but())
        replica = scene.server.replica
        assert not (await replica.view(replica.territory)).roster.held_back.intersection(scene.noise)


async def test_what_a_thief_has_the_kit_say_of_one_laptop_takes_no_room_from_others(tmp_path: Path) -> None:
    async with kept(tmp_path) as scene:
        flood = [
            compose(
                author=scene.old.root,
                space=os.urandom(32),
                kind=Kind.REVOKE,
                grant=None,
                at=at_from(scene.here.office.clock(), number),
                payload=Revocation(bytes(32), ()).encode(),
                salt=bytes(16),
            )
            for number in range(2 * MOST_TO_NAME)
        ]
        chosen = to_name([*scene.words, *flood])
        assert len(chosen) == MOST_TO_NAME
        assert {one.id for one in scene.words} <= {*chosen}
