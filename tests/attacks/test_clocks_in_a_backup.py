"""A database says what time it is, and somebody else has written it: no server dates anything by it (docs/adr/0331)."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.clock import DAY_MS, at_from
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant
from protocol.roles import Role
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.opened.app import Server, opened
from tests.harness.attack import attack
from tests.harness.backups import AS_IT_IS, make_backup, restore_backup, rewritten
from tests.harness.failures import code_of
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "a backup that somebody else has written"
YEARS_AHEAD_MS = 4_102_444_800_000
_MARKS = {"clock": at_from(YEARS_AHEAD_MS).to_bytes(8, "big"), "proven": YEARS_AHEAD_MS.to_bytes(8, "big")}
_SQL = "INSERT OR REPLACE INTO mark VALUES ('{}', x'{}');"


def _any_clock(last: int, _now_ms: int, _proven_ms: int) -> int:
    """A clock is believed however far it is ahead."""
    return last


def _a_thiefs_teacher(here: Town, server: Server) -> Entry:
    """What a copy of the server's key says."""
    spy = new_device(os.urandom)
    given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, os.urandom(16), None)
    return compose(
        author=server.keys.signing,
        space=here.space,
        kind=Kind.GRANT,
        grant=server.grant,
        at=at_from(here.office.clock()),
        salt=os.urandom(16),
        payload=given.encode(),
    )


@attack(
    ROW,
    off={
        **AS_IT_IS,
        "protocol.clock.believable": _any_clock,
    },
)
async def test_a_clock_that_is_set_ahead_in_a_backup_keeps_nobody_from_using_the_kit_afterwards(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_at_work()
        place, clock, server = tmp_path / "server" / "kit", here.office.clock, here.office.server
        kit = kit_in(place, None)
        await here.sync()
        clock.advance(DAY_MS)
        await make_backup(server, tmp_path / "backup")
        rewritten(
            tmp_path / "backup",
            tmp_path / "server" / "kit",
            "".join(_SQL.format(key, value.hex()) for key, value in _MARKS.items()),
        )
        clock.advance(DAY_MS)
        false = _a_thiefs_teacher(here, server)
        await restore_backup(tmp_path / "new", tmp_path / "backup", place, clock)
        async with opened(tmp_path / "new", now_ms=clock, entropy=os.urandom) as new:
            office = Office(new, clock, here.office.space)
            here.frontage.responder = new.responder
            for _ in range(2):
                await here.sync()
            await new.replica.admit([false], source=b"a PC", now_ms=clock())
            assert await code_of(office.with_kit("rotate server", kit, since="23h")) is None
            assert false.id in (await new.replica.view(here.space)).roster.held_back
            await here.sync()
        # and no machine takes one that is made anew later for an older one
        clock.advance(DAY_MS)
        folder = tmp_path / "anew"
        folder.mkdir()
        await begin_territory(folder, kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True)
        async with opened(folder, now_ms=clock, entropy=os.urandom) as another:
            here.frontage.responder = another.responder
            for device in here.devices:
                assert await code_of(device.session.sync()) is None
                assert (await server_of(device.agent.replica)).grant == another.grant


@attack(ROW, off={"protocol.clock.believable": _any_clock})
async def test_a_server_goes_by_no_time_that_its_database_calls_proven(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit, clock = kit_in(tmp_path / "server" / "kit", None), here.office.clock
        await here.office.server.store.set_marks(dict(_MARKS))
        await here.office.server.replica.reload()
        assert await code_of(here.office.with_kit("rotate server", kit)) is None
        assert here.office.server.replica.next_ms(clock()) < clock() + DAY_MS
