"""Another root takes over where not all is named that the old one had said: by a server made again, or a thief's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS, rfc3339
from protocol.errors import BadInput, Code, PeerFault, Refused
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import MAX_ROTATION_HEADS
from protocol.model.entry import Entry, Kind, kind_name
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.text import local_time
from protocol.replica.office.heads import accounts_of
from protocol.rights.root_rotation import RootRotation
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.kit_file import KitInFile
from sync_server.kit.errands import RotatingRoot
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.office_devices import town
from tests.harness.server_in_process import Office, Sayings, rotate_root
from tests.integration.test_restoring_after_rotations import Scene

ROW = "another root takes over before all that the old one said is heard"


def later(old: Kit) -> Kit:
    """The kit of the next root, as the command makes it."""
    first = old.first_root or old.root.public
    keys = SigningKey(os.urandom(32)), AgreementKey(os.urandom(32))
    return Kit(old.name, *keys, b"", first, old.opening)


class Again(Scene):
    """A class whose server is made again: from a backup, or by the kit alone."""

    def __init__(self, here: Any, folder: Path) -> None:
        super().__init__(here, folder)
        self.old = kit_in(self.kit, None)
        self.new = later(self.old)

    async def begin(self) -> None:
        await super().begin()
        self.work = await self.here.work(self.machine, self.item, self.pupil)
        await self.here.sync()
        self.here.office.clock.advance(60_000)

    async def heard(self) -> None:
        for _ in range(3):
            for device in self.here.devices:
                with suppress(Refused):  # who has no access any more calls, and brings what it knows all the same
                    await device.session.sync()

    async def rotate(self, server: Server, *, anyway: bool = False) -> None:
        self.here.office.clock.advance(60_000)
        chain = await rotate_root(server, self.old, self.new, anyway=anyway)
        self.new = replace(self.new, chain=chain)
        self.here.office.clock.advance(60_000)

    async def rotate_as_soon_as_may_be(self, server: Server) -> None:
        """At once, or where that is not yet, once machines have called."""
        try:
            await self.rotate(server)
        except BadInput:
            await self.heard()
            await self.rotate(server)
        await self.heard()

    def office_of(self, server: Server) -> Office:
        return Office(server, self.here.office.clock, self.here.office.space)

    async def lets_stand(self, server: Server, *, each: bool = True) -> None:
        """What waits of the earlier root counts by the word of the new kit: each word of it, or all."""
        office, root = self.office_of(server), self.old.root.public.hex()
        theirs = [row["id"] for row in await office.do("waiting") if row["device"] == root]
        with suppress(Refused):  # "these came under …": what the test asks next shows it
            await office.with_kit("accept", self.new, named=theirs if each else [root])
        await self.heard()

    def replicas(self, server: Server) -> list[Replica]:
        return [server.replica, self.machine.agent.replica, self.teacher.agent.replica]

    async def forgot_and_cut_off(self, server: Server, stolen: bytes) -> bool:
        """Whether everywhere the pupil is gone, and the stolen key is no server's."""
        rosters = [(await replica.view(self.here.space)).roster for replica in self.replicas(server)]
        pupil = bytes.fromhex(self.pupil)
        return all(pupil not in roster.persons and stolen in roster.cut for roster in rosters)

    async def works_on(self, server: Server) -> bool:
        """Whether everywhere who was there is, and what was handed in."""
        views = [await replica.view(self.here.space) for replica in self.replicas(server)]
        names = [{person.name for person in view.roster.persons.values()} for view in views]
        return all(self.work in view.coursework.hand_ins for view in views) and names == [{"Mme Petit", "Léa"}] * 3


@asynccontextmanager
async def again(folder: Path) -> AsyncIterator[Again]:
    async with town(folder) as here:
        scene = Again(here, folder)
        await scene.begin()
        yield scene


@asynccontextmanager
async def burnt(folder: Path) -> AsyncIterator[tuple[Again, Server, bytes]]:
    """A server from a backup of before the kit forgot a pupil, and cut off a key that was stolen: the machines know."""
    async with again(folder) as scene:
        stolen = scene.here.office.server.keys.signing.public
        backup = await scene.backup()
        await scene.here.office.with_kit("erase", scene.old, person=[scene.pupil])
        await scene.rotate_server()
        await scene.heard()
        async with scene.restored(backup, scene.kit) as server:
            yield scene, server, stolen


async def _nothing(_server: Server) -> None:
    return None


HEARD_ALL = {"sync_server.handlers.by_kit.rotation.unheard_since_made": _nothing}


@attack(ROW, off=HEARD_ALL)
async def test_what_the_kit_said_after_the_backup_counts_on_under_another_root(tmp_path: Path) -> None:
    async with burnt(tmp_path) as (scene, server, stolen):
        await scene.rotate_as_soon_as_may_be(server)
        assert server.replica.door.root_now == scene.new.root.public
        assert await scene.forgot_and_cut_off(server, stolen)


LEFT_OUT = {"protocol.rights.revocations._accepted_by": lambda _: ()}


@attack(ROW, off=LEFT_OUT)
async def test_what_it_said_and_the_rotation_left_out_the_new_kit_lets_stand(tmp_path: Path) -> None:
    async with burnt(tmp_path) as (scene, server, stolen):
        await scene.rotate(server, anyway=True)
        await scene.heard()
        assert not await scene.forgot_and_cut_off(server, stolen)
        await scene.lets_stand(server)
        assert await scene.forgot_and_cut_off(server, stolen)


@attack(ROW, off=HEARD_ALL)
async def test_a_server_that_was_made_anew_takes_no_other_root_before_machines_have_called(tmp_path: Path) -> None:
    async with again(tmp_path) as scene, scene.made_anew() as server:
        await scene.rotate_as_soon_as_may_be(server)
        assert await scene.works_on(server)


@attack(ROW, off=LEFT_OUT)
async def test_nor_are_all_classes_lost_where_it_did(tmp_path: Path) -> None:
    async with again(tmp_path) as scene, scene.made_anew() as server:
        await scene.rotate(server, anyway=True)
        await scene.heard()
        assert not await scene.works_on(server)
        await scene.lets_stand(server, each=False)
        assert await scene.works_on(server)


@attack(ROW, off=LEFT_OUT)
async def test_what_a_new_kit_has_let_stand_stands_under_the_roots_after_it(tmp_path: Path) -> None:
    async with burnt(tmp_path) as (scene, server, stolen):
        await scene.rotate(server, anyway=True)
        await scene.heard()
        await scene.lets_stand(server)
        scene.old, scene.new = scene.new, later(scene.new)
        await scene.rotate(server)
        await scene.heard()
        assert server.replica.door.roots[2:] == (scene.new.root.public,)
        assert await scene.forgot_and_cut_off(server, stolen)


@attack(ROW, off={"protocol.rights.revocations._led_to": lambda _heads, said: set(said)})
async def test_who_stole_that_kit_lets_nothing_stand_once_it_is_replaced(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server, space = scene.here.office.server, scene.here.office.server.replica.territory
        first, second = scene.old, scene.new
        await scene.rotate(server)
        scene.old, scene.new = second, later(scene.new)
        await scene.rotate(server)
        now_ms = scene.here.office.clock()
        erasure = Draft(space, Kind.ERASE, None, Erasure(bytes.fromhex(scene.pupil)).encode())
        (said,) = await server.replica.write(
            [erasure], author=first.root, now_ms=now_ms, entropy=os.urandom, unsent=False
        )
        ruling = Draft(space, Kind.RULING, None, Ruling((said.id,), ()).encode())
        await server.replica.write([ruling], author=second.root, now_ms=now_ms, entropy=os.urandom, unsent=False)
        await scene.heard()
        assert await scene.works_on(server), "a pupil is gone by the word of kits that lie in other hands"


def agreed_unseen(errand: RotatingRoot, version: int, heads: Sequence[bytes], _evidence: object) -> bytes:
    kit, new = errand.kit, errand._new.root
    return RootRotation.agreed(new, kit.territory, kit.root.public, version, tuple(heads)).encode()


UNSEEN = {
    "sync_server.kit.errands.RotatingRoot.agreed": agreed_unseen,
    "sync_server.kit.errands.RotatingRoot.check": lambda *_: None,
    "sync_server.kit.errands.RotatingRoot.check_new": lambda *_: None,
}


@attack(ROW, off=UNSEEN)
async def test_a_thiefs_program_that_names_nothing_is_not_signed_for(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server = scene.here.office.server
        with pytest.MonkeyPatch.context() as thief:
            hide_what_was_signed(thief, server, scene.old.root.public, left=())
            with suppress(PeerFault):
                await scene.rotate(server)
        await scene.heard()
        assert await scene.works_on(server)


async def test_nor_hides_the_latest_words_untold_and_on_the_next_server_they_stand(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server, said = scene.here.office.server, Sayings()
        first = await server.store.authored(server.replica.territory, scene.old.root.public)
        await scene.here.office.with_kit("erase", scene.old, person=[scene.pupil])
        await scene.heard()
        pupil = bytes.fromhex(scene.pupil)
        with pytest.MonkeyPatch.context() as thief:
            hide_what_was_signed(thief, server, scene.old.root.public, left=[entry.id for entry in first])
            scene.here.office.clock.advance(60_000)
            await rotate_root(server, scene.old, scene.new, said=said)
        (told,) = [line for line in said.lines if "this stays" in line]
        assert "1 × certificate" in told
        assert "erase" not in told
        scene.here.office.clock.advance(60_000)
        await scene.heard()
        rosters = [(await replica.view(scene.here.space)).roster for replica in scene.replicas(server)]
        assert all(pupil in roster.persons for roster in rosters)
        await scene.lets_stand(server)
        rosters = [(await replica.view(scene.here.space)).roster for replica in scene.replicas(server)]
        assert not any(pupil in roster.persons for roster in rosters)


@attack(ROW, off={"sync_server.kit.errands.RotatingRoot._check_remembered": lambda *_: None})
async def test_nor_does_he_leave_out_what_the_kit_remembers(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server = scene.here.office.server
        first = await server.store.authored(server.replica.territory, scene.old.root.public)
        await scene.here.office.with_kit_in("erase", scene.kit, person=[scene.pupil])
        await scene.heard()
        remembered = KitInFile.read(scene.kit, None).said
        with pytest.MonkeyPatch.context() as thief:
            hide_what_was_signed(thief, server, scene.old.root.public, left=[entry.id for entry in first])
            with pytest.raises(BadInput, match=r"leaves out .* remembers .*\(1 × erase; the latest") as caught:
                await rotate_root(server, scene.old, scene.new, remembered=remembered)
            assert caught.value.code is Code.NOT_YET
        scene.here.office.clock.advance(60_000)
        await rotate_root(server, scene.old, scene.new, remembered=remembered)
        await scene.heard()
        rosters = [(await replica.view(scene.here.space)).roster for replica in scene.replicas(server)]
        assert not any(bytes.fromhex(scene.pupil) in roster.persons for roster in rosters)


async def test_what_the_kit_remembers_goes_where_that_is_asked_and_is_told(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server, said = scene.here.office.server, Sayings()
        first = await server.store.authored(server.replica.territory, scene.old.root.public)
        await scene.here.office.with_kit_in("erase", scene.kit, person=[scene.pupil])
        remembered = KitInFile.read(scene.kit, None).said
        with pytest.MonkeyPatch.context() as patch:
            hide_what_was_signed(patch, server, scene.old.root.public, left=[entry.id for entry in first])
            await rotate_root(server, scene.old, scene.new, said=said, anyway=True, remembered=remembered)
        assert any("remembers that it has signed this counts no more: 1 × erase" in line for line in said.lines)


def kinds_with_lists(words: Iterable[Entry]) -> str:
    said = list(words)
    latest = local_time(rfc3339(max(each.timestamp_ms for each in said)) or "")
    return f"{', '.join(kind_name(each.header.kind) for each in said)}; the latest of {latest}"


@attack(ROW, off={"sync_server.kit.root_line.counted": kinds_with_lists})
async def test_nor_does_a_list_that_is_signed_for_the_rotation_date_what_stays(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server, said = scene.here.office.server, Sayings()
        first = [one.id for one in await server.store.authored(server.replica.territory, scene.old.root.public)]
        scene.here.office.clock.advance(20 * DAY_MS)
        await scene.here.office.with_kit("erase", scene.old, person=[scene.pupil])
        scene.here.office.clock.advance(20 * DAY_MS)
        named, listed = first[:-1], first[-1:]

        async def accounts(*_: object) -> list[Draft]:
            return accounts_of(server.replica.territory, listed)

        async def no_further(*_: object) -> list[Draft]:
            raise PeerFault(Code.MALFORMED, "once the list is signed")

        with pytest.MonkeyPatch.context() as thief:
            thief.setattr("sync_server.handlers.by_kit.rotation._accounts", accounts)
            thief.setattr("sync_server.kit.root_line.MAX_ROTATION_LISTS", MAX_ROTATION_HEADS)  # as if it were full
            hide_what_was_signed(thief, server, scene.old.root.public, left=named)
            with pytest.MonkeyPatch.context() as at_first, suppress(PeerFault):
                at_first.setattr("sync_server.handlers.by_kit.rotation._succession", no_further)
                await rotate_root(server, scene.old, scene.new)
            listed += [one.id for one in await server.store.scan_kinds([Kind.ROOT_ACCOUNT])]  # of today
            await rotate_root(server, scene.old, scene.new, said=said)
        (told,) = [line for line in said.lines if "this stays" in line]
        begun = await server.store.get(first)
        latest = local_time(rfc3339(max(entry.timestamp_ms for entry in begun.values())) or "")
        assert "root-account" not in told
        assert f"the latest of {latest}." in told


async def test_where_the_kits_words_have_a_gap_it_is_asked_about(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server = scene.here.office.server
        await scene.here.office.with_kit("erase", scene.old, person=[scene.pupil])
        (gap,) = await server.store.scan_kinds([Kind.ERASE])
        await scene.rotate_server()
        with pytest.MonkeyPatch.context() as patch:
            all_said = server.store.authored

            async def but_one(space: bytes, author: bytes) -> list[Entry]:
                return [entry for entry in await all_said(space, author) if entry.id != gap.id]

            patch.setattr(server.store, "authored", but_one)
            with pytest.raises(BadInput, match="lacks 1 of the words") as caught:
                await scene.rotate(server)
            assert caught.value.code is Code.NOT_YET
            await scene.rotate(server, anyway=True)


def hide_what_was_signed(thief: pytest.MonkeyPatch, server: Server, root: bytes, *, left: Sequence[bytes]) -> None:
    """The program that has the store open is a thief's: of what the root has signed it names what is `left`."""
    tips = server.replica._own_tips

    async def named(_server: Server, _root: bytes, _tips: object) -> list[bytes]:
        return list(left)

    async def known(space: bytes, author: bytes) -> list[bytes]:
        is_hidden = (space, author) == (server.replica.territory, root)
        return list(left[-1:]) if is_hidden else await tips(space, author)

    thief.setattr("sync_server.handlers.by_kit.rotation._signed", named)
    thief.setattr(server.replica, "_own_tips", known)
