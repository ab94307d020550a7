"""Another root takes over on a machine that somebody else had: its kit is there afterwards (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest

from protocol.errors import BadInput, Code, PeerFault
from protocol.identity import AgreementKey, SigningKey
from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.replica.console.command import run_command
from protocol.replica.console.control import serve_control
from protocol.replica.console.frame import Call, Program
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params
from protocol.replica.console.ownership import acquire
from protocol.trust.kit import Kit, write_kit
from sync_server.cli_lifecycle import add_lifecycle_commands
from sync_server.handlers.by_kit.rotation import rotate_root
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.keeping.new_root import NewKit
from sync_server.kit.away import KitAway
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.commands import no_table
from tests.harness.office_devices import Town, town

ROW = "whoever has the store open is asked for another root"
LAID = "somebody lays a kit of their own where the new one is to go"

Answer: TypeAlias = Callable[[KitAway], Awaitable[JSON]]


async def typed(here: Town, folder: Path, answer: Answer, what: str = "rotate root", *, take_up: bool = True) -> JSON:
    """What a rotation says, or raises, where a thief's process has DIR open and answers like this."""
    held = folder / "held"
    held.mkdir(exist_ok=True)
    (held / "territory.json").write_text("{}")
    owner = acquire(held)
    assert owner is not None

    async def run(
        call: Call,
        name: str,
        params: Params,
        outgoing: Outgoing | None = None,
        incoming: Incoming = NO_FILES,
        /,
        *,
        lasting: bool = False,
    ) -> JSON:
        del lasting
        return await run_command(call.data_dir, name, params, incoming, outgoing or here.office.said, no_table)

    async def asked(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        away = KitAway.of(here.office.server, params["kit"], incoming, outgoing)
        assert away is not None
        return await answer(away)

    program = Program("sync-server", "", lambda: "")
    add_lifecycle_commands(program, run, here.office.clock)
    command = program._commands[what].handler
    given: dict[str, object] = {"kit": str(folder / "server" / "kit")}
    if what == "rotate root":
        given |= {"new_kit": str(folder / "kit-2"), "take_up": take_up and (folder / "kit-2").exists()}
    with owner:
        async with serve_control({what: asked}, owner):
            said: JSON = await command(Call("sync-server", what, held, json=False), **given)
            return said


async def honest(here: Town, away: KitAway) -> JSON:
    chain, _ = await rotate_root(here.office.server, away)
    return {"chain": chain.hex(), "version": 1}


@attack(ROW, off={"sync_server.kit.desk.KitDesk.has_signed": property(lambda _: False)})
async def test_the_new_kit_is_kept_whatever_becomes_of_the_command_once_it_has_signed(tmp_path: Path) -> None:
    async with town(tmp_path) as here:

        async def lying(away: KitAway) -> JSON:
            await honest(here, away)
            raise BadInput(Code.BAD_KIT, "this is the kit of another territory")

        with pytest.raises(BadInput, match="kit-2"):
            await typed(here, tmp_path, lying)
        assert here.office.server.replica.door.root_now != kit_in(tmp_path / "server" / "kit", None).root.public
        assert (tmp_path / "kit-2").exists(), "the root in force is one that nobody has any more"
        await typed(here, tmp_path, lambda away: honest(here, away))  # the same again
        new = kit_in(tmp_path / "kit-2", None)
        assert here.office.server.replica.door.root_now == new.root.public
        assert parse_chain(new.chain)


async def test_where_nothing_was_signed_no_new_kit_is_left_behind(tmp_path: Path) -> None:
    async with town(tmp_path) as here:

        async def refusing(_away: KitAway) -> JSON:
            raise BadInput(Code.BAD_KIT, "this is the kit of another territory")

        with pytest.raises(BadInput):
            await typed(here, tmp_path, refusing)
        assert not (tmp_path / "kit-2").exists()


@attack(ROW, off={"sync_server.keeping.new_root.rotations_to": lambda _root, chain, _first: chain})
async def test_the_new_kit_holds_no_chain_that_does_not_prove_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        async with town(elsewhere) as other:
            foreign = NewKit(elsewhere / "server" / "kit", None, elsewhere / "kit-2", None, os.urandom)
            before = kit_in(elsewhere / "server" / "kit", None)
            shown = await other.office.with_kit("rotate root", before, foreign.kit)

        async def lying(away: KitAway) -> JSON:
            await honest(here, away)
            return {"chain": shown["chain"], "version": 1}

        with suppress(PeerFault):
            await typed(here, tmp_path, lying)
        assert kit_in(tmp_path / "kit-2", None).chain == b"", "what it holds makes no server"
        await typed(here, tmp_path, lambda away: honest(here, away))
        await rebuilt(here, tmp_path)


async def rebuilt(here: Town, folder: Path) -> None:
    """The new kit makes the server again, on another machine."""
    kit = kit_in(folder / "kit-2", None)
    made = folder / "made-anew"
    made.mkdir()
    clock = here.office.clock
    await begin_territory(made, kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom)
    async with opened(made, now_ms=clock, entropy=os.urandom) as server:
        assert server.replica.door.root_now == kit.root.public


@pytest.mark.parametrize("said", [None, {}, {"chain": "no hex"}, {"chain": "00"}, {"chain": encode_chain([]).hex()}])
async def test_an_answer_that_proves_nothing_is_said_and_the_new_kit_stays(tmp_path: Path, said: JSON) -> None:
    async with town(tmp_path) as here:

        async def lying(away: KitAway) -> JSON:
            await honest(here, away)
            return said

        with pytest.raises(PeerFault, match=r"does not prove the new root.*kit-2"):
            await typed(here, tmp_path, lying)
        assert kit_in(tmp_path / "kit-2", None).chain == b""


def _whatever_lies_there(*_: object, **__: object) -> None:
    pass


@attack(LAID, off={"sync_server.keeping.new_root.check_new_place": _whatever_lies_there})
async def test_a_kit_that_somebody_laid_where_the_new_one_goes_is_signed_by_no_root(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        old = kit_in(tmp_path / "server" / "kit", None)
        theirs = Kit(old.name, SigningKey(bytes(31) + b"\1"), AgreementKey(bytes(31) + b"\2"), b"", old.root.public)
        (tmp_path / "kit-2").write_text(write_kit(theirs, passphrase=None, salt=bytes(16)), encoding="utf-8")
        with suppress(BadInput):
            await typed(here, tmp_path, lambda away: honest(here, away), take_up=False)
        assert here.office.server.replica.door.root_now == old.root.public
