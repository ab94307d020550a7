"""Who comes new is let in by whoever had the server before its keys were replaced (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, PeerFault
from protocol.messages.enrollment import EnrollAnswer, EnrollRequest
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Hosts, Invite
from protocol.replica.at_work.replica import Draft
from protocol.replica.private_file import make_private_folder
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from protocol.trust.invitation import parse_code
from sync_agent.enrollment.by_code import Enrolled, enroll
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server, opened
from sync_server.opened.keys import Territory
from tests.harness.attack import attack
from tests.harness.backups import make_backup, members_of
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.wire import URL, Frontage, MemoryTransport

ROW = "stolen enrolment code"
Rewrite = Callable[[Invite], Invite]


@dataclass
class Replaced:
    """A town whose server's keys were replaced a day ago, and a server of before beside it, from a stolen backup."""

    here: Town
    false: Server
    machine: Device
    """A computer of the class, whose disk the thief reads."""
    folder: Path

    async def newcomer_of_the_false_server(self, code: str, write: Rewrite | None = None) -> Enrolled:
        """A new computer, between which and the honest server the false one stands, is let in there.

        With `write` the false server says an invitation of its own; else it shows the one that the computer reads.
        """
        replica, false = self.machine.agent.replica, self.false
        read = [each.entry for space in replica.door.spaces() for each in await replica.store.scan(space)]
        wanted = parse_code(code).secret_hash
        (invite,) = (each for each in _invites(read) if Invite.parse(each.payload or b"").secret_hash == wanted)
        # what leads to the new keys is left out of all that it shows
        known = [each for each in read if each.header.grant is not None or each.header.kind == Kind.RECOVERY_KEY]
        await false.replica.admit(known, source=b"PC", now_ms=self.here.office.clock(), hold=False)

        async def lets_in(opened: OpenedRequest) -> bytes:
            asked = EnrollRequest.parse(opened.payload)
            given = Grant(opened.device, asked.agreement, asked.tls_sha256, Role.MACHINE, None, None).encode()
            drafts = [Draft(self.here.space, Kind.GRANT, None, given)]
            if write is not None:
                written = write(Invite.parse(invite.payload or b""))
                drafts.append(Draft(self.here.space, Kind.INVITE, None, written.encode()))
            said = await false.write(drafts)
            entries = await false.replica.credentials([each.id for each in said])
            shown = () if write is not None else (invite,)
            return EnrollAnswer(self.here.office.clock(), "Cher", (*entries, *shown)).encode()

        false.responder.add_handler(Call.ENROLL, lets_in)
        way = MemoryTransport(Frontage(false.responder))
        return await self._enroll(code, way)

    async def newcomer(self, code: str) -> Enrolled:
        """The same, with nobody in between."""
        office = self.here.office
        office.server.responder.add_handler(Call.ENROLL, office.enrolment.answer)
        return await self._enroll(code, MemoryTransport(Frontage(office.server.responder)))

    async def _enroll(self, code: str, way: MemoryTransport) -> Enrolled:
        clock = self.here.office.clock
        return await enroll(self.folder, URL, code, "Merle", now_ms=clock, entropy=os.urandom, connect=lambda _: way)


def _invites(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.header.kind == Kind.INVITE]


@asynccontextmanager
async def replaced(tmp_path: Path) -> AsyncIterator[Replaced]:
    async with town(tmp_path) as here, AsyncExitStack() as stack:
        await here.class_at_work()
        machine = await here.device("machine")
        await make_backup(here.office.server, tmp_path / "backup")
        stolen = tmp_path / "stolen"
        make_private_folder(stolen)
        for name, data in members_of(tmp_path / "backup", tmp_path / "server" / "kit").items():
            (stolen / name).parent.mkdir(parents=True, exist_ok=True)
            (stolen / name).write_bytes(data)
        known = here.office.server.territory
        Territory(known.name, known.root, known.certificate, known.generation).write(stolen)
        here.office.clock.advance(DAY_MS)
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None))
        here.office.clock.advance(DAY_MS)
        await here.sync()
        false = await stack.enter_async_context(opened(stolen, now_ms=here.office.clock, entropy=os.urandom))
        yield Replaced(here, false, machine, tmp_path / "new-pc")


ANYBODY = {"sync_agent.enrollment.by_code.may_honour": lambda *_: True}


@attack(ROW, off=ANYBODY)
async def test_a_server_of_before_lets_no_newcomer_in_with_a_code_that_a_machine_of_the_class_reads(
    tmp_path: Path,
) -> None:
    async with replaced(tmp_path) as case:
        code = await case.here.office.invite("machine")
        await case.here.sync(case.machine)
        with pytest.raises(PeerFault) as refused:
            await case.newcomer_of_the_false_server(code)
        assert refused.value.code is Code.WRONG_KEY
        assert not (case.folder / "enrolment.json").exists()
        assert await case.newcomer(code), "the code is as good as before"


@attack(ROW, off={"protocol.model.structure.is_vouched": lambda *_: True})
async def test_nor_with_an_invitation_of_that_code_in_which_it_names_itself(tmp_path: Path) -> None:
    async with replaced(tmp_path) as case:
        own = Hosts((case.false.keys.signing.public,), case.false.territory.certificate)
        code = await case.here.office.invite("machine")
        await case.here.sync(case.machine)
        with pytest.raises(PeerFault):
            await case.newcomer_of_the_false_server(code, lambda honest: replace(honest, hosts=own))


@attack(ROW, off={"protocol.trust.invitation.Invitation.vouches": False})
async def test_nor_with_one_that_names_nobody_as_programs_wrote_them_before(tmp_path: Path) -> None:
    async with replaced(tmp_path) as case:
        code = await case.here.office.invite("machine")
        await case.here.sync(case.machine)
        with pytest.raises(PeerFault):
            await case.newcomer_of_the_false_server(code, lambda honest: replace(honest, hosts=None, vouch=None))
