"""Rotations that are not alone: the power goes at each moment of one, or another one is asked for meanwhile.

What opens next, or goes on, is a server that devices believe, and that says more.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from protocol.errors import BadInput, Code
from protocol.identity import AgreementKey, SigningKey
from protocol.replica.storage.sqlite import SqliteStore
from protocol.trust.kit import Kit
from sync_agent.transport.server_chain import newest_certificate, root_after
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server, opened
from sync_server.opened.data_folder import NEXT_KEYS_FILE
from tests.harness.server_in_process import Office, office, rotate_root
from tests.harness.territory import SimClock


class PowerCutError(Exception):
    """The machine goes off."""


class Power:
    """Goes off before the act number `left` (from 0) by which a folder changes, and stays off."""

    def __init__(self, left: int) -> None:
        self.left = left

    def needed_by(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise PowerCutError
            return act(*args, **kwargs)

        return acting


class Turn(asyncio.Lock):
    """Of which a rotation is, and that tells when one has taken it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Event()

    async def acquire(self) -> Literal[True]:
        await super().acquire()
        self.taken.set()
        return True


async def is_cut_short(server: Server, command: str, old: Kit, new: Kit, *, after: int) -> bool:
    """Whether the power, gone after so many acts, cut the rotation short."""
    power = Power(after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", power.needed_by(Path.replace))
        patch.setattr(Path, "unlink", power.needed_by(Path.unlink))
        patch.setattr(SqliteStore, "append", power.needed_by(SqliteStore.append))
        try:
            await (rotate_server(server, old) if command == "server" else rotate_root(server, old, new))
        except PowerCutError:
            return True
    return False


@pytest.mark.parametrize("command", ["server", "root"])
async def test_whenever_the_power_goes_the_next_opening_is_a_server_that_devices_believe(
    command: str, tmp_path: Path
) -> None:
    clock = SimClock()
    async with office(tmp_path / "before", clock) as here:
        await here.add_person("Léa", "pupil")
        space = here.space
    old = kit_in(tmp_path / "before" / "kit", None)
    new = Kit("Cher", SigningKey(os.urandom(32)), AgreementKey(os.urandom(32)), b"", old.root.public)
    clock.advance(1_000)
    acts, cut = 0, True
    while cut:
        folder, later = tmp_path / f"off {acts}", tmp_path / f"on {acts}"
        shutil.copytree(tmp_path / "before", folder)
        async with opened(folder, now_ms=clock, entropy=os.urandom) as server:
            cut = await is_cut_short(server, command, old, new, after=acts)
            shutil.copytree(folder, later)
        async with opened(later, now_ms=clock, entropy=os.urandom) as server:
            replica = server.replica
            assert not (later / NEXT_KEYS_FILE).exists()
            root = root_after(server.responder.station.chain, old.root.public, replica.territory)
            assert root == replica.door.root_now, "who trusts the first root is led to the one in force"
            believed = newest_certificate(server.responder.station.chain, root, replica.territory)
            assert believed.id == server.grant
            here = Office(server, clock, space)
            await here.add_person("Tom", "pupil")
            roster = (await replica.view(bytes.fromhex(space))).roster
            assert {person.name for person in roster.persons.values()} == {"Léa", "Tom"}
            assert server.keys.signing.public not in roster.cut
        acts += 1
    assert acts > 5


@pytest.mark.parametrize("first", ["server", "root"])
async def test_of_two_rotations_at_once_the_second_finds_what_the_first_made(first: str, tmp_path: Path) -> None:
    clock = SimClock()
    async with office(tmp_path / "here", clock) as here:
        server, old = here.server, kit_in(tmp_path / "here" / "kit", None)
        new = Kit("Cher", SigningKey(os.urandom(32)), AgreementKey(os.urandom(32)), b"", old.root.public)
        clock.advance(1_000)
        before = server.keys.signing.public
        server.rotating = turn = Turn()
        begun = asyncio.create_task(rotate_server(server, old) if first == "server" else rotate_root(server, old, new))
        await turn.taken.wait()  # each command leaves a line before it begins
        after = rotate_root(server, old, new) if first == "server" else rotate_server(server, old)
        done = await asyncio.gather(begun, after, return_exceptions=True)
        assert server.replica.door.root_now == new.root.public
        if first == "server":
            assert server.keys.signing.public == done[0] != before
        else:
            assert isinstance(done[1], BadInput), "the old kit gives the server no keys that nobody would believe"
            assert done[1].code is Code.BAD_KIT
            assert server.keys.signing.public == before
        believed = newest_certificate(server.responder.station.chain, new.root.public, server.replica.territory)
        assert believed.id == server.grant, "devices that follow the root find the server's own certificate"


async def test_of_two_new_pairs_of_keys_at_once_the_first_is_cut_off_by_the_second(tmp_path: Path) -> None:
    clock = SimClock()
    async with office(tmp_path / "here", clock) as here:
        server, kit = here.server, kit_in(tmp_path / "here" / "kit", None)
        clock.advance(1_000)
        before = server.keys.signing.public
        one, other = await asyncio.gather(rotate_server(server, kit), rotate_server(server, kit))
        roster = (await server.replica.view(server.replica.territory)).roster
        assert server.keys.signing.public == other
        assert {before, one} <= set(roster.cut)
