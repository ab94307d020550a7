"""Of whose devices are whose a backup notes what whoever has written it likes (docs/attacks.md)."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.clock import DAY_MS, at_from
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant
from protocol.replica.office.known_here import CODE_MARKS, WHOSE_MARKS, How
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping import foreign_backup
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup, rewritten
from tests.harness.office_devices import town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "a backup that somebody else has written"
_NOTES_TOO = (*foreign_backup._STAY, WHOSE_MARKS, CODE_MARKS)


@attack(ROW, off={"sync_server.keeping.foreign_backup._STAY": _NOTES_TOO})
async def test_a_device_that_a_backup_calls_let_in_by_name_comes_along_into_no_class(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = (await here.class_at_work()).person
        kit, clock, server = kit_in(tmp_path / "server" / "kit", None), here.office.clock, here.office.server
        # a copy of the server's key has said a laptop hers; and its thief may write where backups lie
        spy, whose = new_device(os.urandom), bytes.fromhex(person)
        signing, agreement = spy.signing.public, spy.agreement.public
        given = Grant(signing, agreement, spy.tls.fingerprint, Role.TEACHER, whose, None)
        grant = compose(
            author=server.keys.signing,
            space=here.space,
            kind=Kind.GRANT,
            grant=server.grant,
            at=at_from(clock()),
            salt=os.urandom(16),
            payload=given.encode(),
        )
        await server.replica.admit([grant], source=b"a PC", now_ms=clock())
        await make_backup(server, tmp_path / "backup")
        note = f"{WHOSE_MARKS}{person}-{signing.hex()}-{agreement.hex()}"
        rewritten(
            tmp_path / "backup",
            tmp_path / "server" / "kit",
            f"INSERT INTO mark VALUES ('{note}', x'{How.NAME.value.hex()}');",  # noqa: S608
        )
        clock.advance(DAY_MS)
        backup, kit_file = tmp_path / "backup", tmp_path / "server" / "kit"
        await restore_backup(tmp_path / "new", backup, kit_file, clock)
        async with opened(tmp_path / "new", now_ms=clock, entropy=os.urandom) as new:
            office = Office(new, clock, here.office.space)
            here.frontage.responder = new.responder
            await here.sync()
            await office.with_kit("rotate server", kit, since="23h")
            await here.sync()
            clock.advance(90 * DAY_MS)
            school = "0180001D"
            space = (await office.do("space add", name="CM2", school=school, year="2027-2028"))["space"]
            office.said.lines.clear()
            await office.do("grant", person=person, space=[space])
            assert bytes.fromhex(space) not in await new.replica.readable(signing)
            assert any(spy.signing.public.hex()[:8] in line for line in office.said.lines), "it is told"
