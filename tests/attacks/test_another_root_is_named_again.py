"""Another root is named more than once: by a server that a thief has, one that burns, or who has stolen the old kit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.canonical import decode, encode
from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, PeerFault
from protocol.identity import SigningKey
from protocol.limits import MAX_PAYLOAD_BYTES, KiB
from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Certificate, Erasure, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.rights.root_rotation import RootAccount, RootRotation, accounted
from sync_server.opened.app import Server
from tests.attacks.test_a_new_root_before_all_is_heard import Again, again, agreed_unseen
from tests.attacks.test_the_kit_on_a_hostile_server import Thief
from tests.harness.attack import attack

ROW = "another root is named more than once"
EARLIEST_ALONE = {
    "protocol.rights.door.Door.is_followed": lambda door, name: name in {step.entry for step in door._steps}
}


async def lets_out(scene: Again, server: Server, said: Sequence[Entry]) -> None:
    """Some computer brings what nobody had heard of, months later."""
    scene.here.office.clock.advance(60 * DAY_MS)
    for replica in scene.replicas(server):
        await replica.admit(said, source=b"x", now_ms=scene.here.office.clock())
    await scene.heard()


# --- a rotation that was signed where nobody heard of it --------------------------------------------------------------


@attack(ROW, off=EARLIEST_ALONE)
async def test_a_rotation_that_a_thiefs_server_has_kept_back_takes_nothing_that_the_next_one_names(
    tmp_path: Path,
) -> None:
    async with again(tmp_path) as scene:
        office = scene.here.office
        (certificate,) = await office.server.store.scan_kinds([Kind.CERTIFICATE])
        tom = await office.add_person("Tom", "pupil")
        await office.with_kit("erase", scene.old, person=[tom])
        await scene.heard()
        backup = await scene.backup()
        # it names the least that the command signs, keeps that back, and says that it failed
        kept = await Thief(scene.here, scene.old, "rotate root", scene.new).takes_over(heads=[certificate.id])
        async with scene.restored(backup, scene.kit) as server:
            await scene.heard()
            await scene.rotate(server)  # the same again, with the same kits
            await scene.heard()
            assert await scene.works_on(server)
            await lets_out(scene, server, [kept])
            assert await scene.works_on(server)
            assert server.replica.door.contested_roots == ()


@attack(ROW, off=EARLIEST_ALONE)
async def test_nor_does_an_honest_one_that_burnt_with_the_server_and_turns_up(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        here = scene.here
        backup = await scene.backup()
        await scene.rotate(here.office.server)
        burnt = await here.office.server.store.scan_kinds([Kind.ROOT_ROTATION])
        scene.new = replace(scene.new, chain=b"")  # before its answer came
        async with scene.restored(backup, scene.kit) as server:
            await scene.heard()
            here.office = scene.office_of(server)
            machine = await here.device("machine")
            works = [await here.work(each, scene.item, scene.pupil) for each in (machine, scene.machine)]
            await scene.heard()
            await scene.rotate(server)
            await scene.heard()
            await lets_out(scene, server, burnt)
            for replica in (*scene.replicas(server), machine.agent.replica):
                assert {scene.work, *works} <= (await replica.view(here.space)).coursework.hand_ins.keys()
            assert here.space in await machine.agent.spaces()


# --- who has the old kit says the same rotation again -----------------------------------------------------------------


def said_again(scene: Again, rotation: Entry, *, at: int, prev: Sequence[bytes] = (), padding: int = 0) -> Entry:
    """What the new root has agreed to, in an entry of his own."""
    said = decode(rotation.payload or b"", max_bytes=MAX_PAYLOAD_BYTES)
    assert isinstance(said, dict)
    return compose(
        author=scene.old.root,
        space=rotation.header.space,
        kind=Kind.ROOT_ROTATION,
        grant=None,
        at=at,
        payload=encode({**said, "z": bytes(padding)} if padding else said),
        salt=os.urandom(16),
        prev=prev,
    )


async def rotated(scene: Again) -> Entry:
    """The rotation that all have heard of."""
    await scene.rotate(scene.here.office.server)
    await scene.heard()
    (rotation,) = await scene.here.office.server.store.scan_kinds([Kind.ROOT_ROTATION])
    return rotation


def with_what_led_to_it(entry: bytes, rotation: RootRotation, said: dict[bytes, Entry]) -> Sequence[bytes]:
    return (*accounted(rotation.heads, said), entry)


@attack(ROW, off={"protocol.rights.revocations._left_by": with_what_led_to_it})
@pytest.mark.parametrize("later_ms", [-60_000, 60_000])
async def test_the_same_rotation_around_words_of_a_thief_makes_none_of_them_count(
    tmp_path: Path, later_ms: int
) -> None:
    async with again(tmp_path) as scene:
        rotation = await rotated(scene)
        thief = SigningKey(os.urandom(32))
        server_of_his = compose(
            author=scene.old.root,
            space=rotation.header.space,
            kind=Kind.CERTIFICATE,
            grant=None,
            at=rotation.header.at,
            payload=Certificate(thief.public, os.urandom(32)).encode(),
            salt=os.urandom(16),
        )
        at = at_from(rotation.timestamp_ms + later_ms)
        server = scene.here.office.server
        await lets_out(scene, server, [server_of_his, said_again(scene, rotation, at=at, prev=[server_of_his.id])])
        for replica in scene.replicas(server):
            roster = (await replica.view(replica.territory)).roster
            assert server_of_his.id in roster.held_back
            assert thief.public not in {each.key for each in roster.authorities}
        assert await scene.works_on(server)


async def test_nor_does_one_that_is_dated_back_make_what_the_old_kit_ruled_the_older_word(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        office, server = scene.here.office, scene.here.office.server
        pupil = bytes.fromhex(scene.pupil)
        (erasure,) = await server.write([Draft(scene.here.space, Kind.ERASE, server.grant, Erasure(pupil).encode())])
        office.clock.advance(60_000)
        await office.with_kit("unerase", scene.old, covers=scene.pupil, counting_too=True)
        hidden = compose(  # by who had the server's key, dated before the kit's ruling
            author=server.keys.signing,
            space=scene.here.space,
            kind=Kind.RULING,
            grant=server.grant,
            at=at_from(office.clock() - 30_000),
            payload=Ruling((erasure.id,), ()).encode(),
            salt=os.urandom(16),
        )
        await server.replica.admit([hidden], source=b"x", now_ms=office.clock())
        rotation = await rotated(scene)
        assert await scene.works_on(server)
        await lets_out(scene, server, [said_again(scene, rotation, at=1)])
        assert await scene.works_on(server)


@attack(ROW, off={"protocol.rights.door.Door.steps": property(lambda door: tuple(door._followed))})
async def test_however_often_it_is_said_the_chain_that_proves_a_server_is_as_long_as_before(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        rotation = await rotated(scene)
        server, replica = scene.here.office.server, scene.here.office.server.replica
        before = await replica.credentials([server.grant])
        await lets_out(scene, server, [said_again(scene, rotation, at=at, padding=60 * KiB) for at in range(1, 40)])
        assert await replica.credentials([server.grant]) == before
        await scene.rotate(server)  # the same command again: what it gives the new kit
        assert [entry.payload for entry in parse_chain(scene.new.chain)] == [rotation.payload]


# --- what the command with both kits agrees to, and lists -------------------------------------------------------------


@attack(ROW, off={"sync_server.kit.errands.RotatingRoot.agreed": agreed_unseen})
async def test_a_new_root_agrees_once_and_to_nothing_that_it_is_not_shown(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        thief = Thief(scene.here, scene.old, "rotate root", scene.new)
        server = scene.here.office.server
        said = [entry.id for entry in await server.store.authored(scene.old.territory, scene.old.root.public)]
        with pytest.raises(PeerFault, match="does not show"):
            await thief.kit.agree(1, [*said, os.urandom(32)])
        await thief.kit.agree(1, said)
        await thief.kit.agree(1, said)
        with pytest.raises(PeerFault, match="does not need"):
            await thief.kit.agree(1, said[:1])


@attack(ROW, off={"sync_server.kit.errands.RotatingRoot.agreed": agreed_unseen})
async def test_nor_to_anything_more_once_its_kit_is_whole(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        whole = replace(scene.new, chain=encode_chain([]))
        (certificate,) = await scene.here.office.server.store.scan_kinds([Kind.CERTIFICATE])
        with pytest.raises(BadInput, match="is whole"):
            await Thief(scene.here, scene.old, "rotate root", whole).kit.agree(1, [certificate.id])
        account = Draft(scene.old.territory, Kind.ROOT_ACCOUNT, None, RootAccount((certificate.id,)).encode())
        with pytest.raises(BadInput, match="is whole"):
            await Thief(scene.here, scene.old, "rotate root", whole).has_signed_of_a_header(account)


@attack(ROW, off={"sync_server.kit.errands._lists_only": lambda *_: True})
@pytest.mark.parametrize("command", ["rotate server", "revoke", "rotate root"])
async def test_the_kit_signs_no_list_of_what_is_no_part_of_its_command(tmp_path: Path, command: str) -> None:
    async with again(tmp_path) as scene:
        new = scene.new if command == "rotate root" else None
        thief = Thief(scene.here, scene.old, command, new, device=scene.machine.agent.device.hex())
        (certificate,) = await scene.here.office.server.store.scan_kinds([Kind.CERTIFICATE])
        unseen = os.urandom(32)
        for listed in [unseen] if command == "rotate root" else [unseen, certificate.id]:
            account = Draft(scene.old.territory, Kind.ROOT_ACCOUNT, None, RootAccount((listed,)).encode())
            with pytest.raises(PeerFault, match="does not need"):
                await thief.has_signed_of_a_header(account)
