"""A server in wrong hands hands out codes of a territory of its own (docs/attacks.md).

All that a newcomer knows of its territory is the code. What people compare has to be what no other territory can have,
and what the code itself says, whatever the server says beside it.
"""

from __future__ import annotations

import asyncio
import html
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from protocol.errors import Refused
from protocol.identity import AgreementKey, SigningKey, territory_id, words_of
from protocol.messages.wire import Call
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.trust.kit import Kit
from sync_agent.app import Agent
from sync_agent.enrollment.by_code import Enrolled, enroll, told
from sync_agent.scheduler import Outcome
from sync_agent.status import status
from sync_agent.sync.session import Session
from sync_server.cli import PROGRAM
from sync_server.keeping.trying_a_kit import try_kit
from sync_server.opened.app import Server
from sync_server.operations import table
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.server_in_process import Office, office
from tests.harness.wire import URL, Frontage, MemoryTransport

ROW = "a server hands out codes of another territory"
OUR_ROOT = SigningKey(bytes.fromhex("b4c534bdb1e6256d31986502b575163c352623d7e650943bc5d106bddb931018"))
THIEFS_ROOT = SigningKey(bytes.fromhex("7468696566000000d4fc0c000000000000000000000000000000000000000000"))
"""Its territory has the first three bytes of ours: two minutes of one core's trying."""

FINGERPRINT = "territory_fingerprint"
ROOMS = (
    "protocol.trust.invitation",
    "protocol.trust.kit",
    "protocol.replica.office.invitations",
    "sync_agent.enrollment.by_code",
    "sync_agent.status",
    "sync_server.operations.table",
)


def _three_words(territory: bytes) -> str:
    return " ".join(words_of(territory))


class Two(NamedTuple):
    """Our territory and the thief's, with servers that answer."""

    folder: Path
    ours: Office
    thiefs: Office

    @property
    def kit(self) -> Path:
        """Our kit."""
        return self.folder / "ours" / "kit"

    async def shown_to_us(self) -> set[JSON]:
        """What the kit and the server of ours show."""
        found = try_kit(self.kit, None, lambda _: None)
        assert isinstance(found, dict)
        assert f"Empreinte : {found['fingerprint']}\n" in self.kit.read_text(encoding="utf-8")
        return {found["fingerprint"], (await self.ours.do("status"))["fingerprint"]}

    async def shown_by(self, at: Office, code: str, name: str) -> set[JSON]:
        """What is shown of a new computer's territory, by the code that let it in."""

        enrolled = await self.enrol(at, code, name)
        async with self.computer(name) as agent, portal(agent) as surfer:
            said = (await status(agent))["fingerprint"]
            assert f"<dd>{said}</dd>" in html.unescape(await surfer.page("/state"))
        return {told(enrolled, code)["fingerprint"], said}

    async def enrol(self, at: Office, code: str, name: str) -> Enrolled:
        """Let a new computer in where that server answers."""
        clock, way = self.ours.clock, MemoryTransport(Frontage(at.server.responder))
        folder = self.folder / name
        return await enroll(folder, URL, code, name, now_ms=clock, entropy=os.urandom, connect=lambda _: way)

    @asynccontextmanager
    async def computer(self, name: str) -> AsyncIterator[Agent]:
        """A computer that is in."""
        agent = await Agent.open(self.folder / name, now_ms=self.ours.clock, entropy=os.urandom)
        try:
            yield agent
        finally:
            await agent.close()


@pytest_asyncio.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    kits = [Kit("Écoles du Cher", root, AgreementKey(os.urandom(32))) for root in (OUR_ROOT, THIEFS_ROOT)]
    async with office(tmp_path / "ours", kit=kits[0]) as ours, office(tmp_path / "thiefs", kit=kits[1]) as thiefs:
        for each in (ours, thiefs):
            each.server.responder.add_handler(Call.ENROLL, each.enrolment.answer)
        yield Two(tmp_path, ours, thiefs)


@attack(ROW, off={f"{room}.{FINGERPRINT}": _three_words for room in ROOMS})
async def test_a_computer_that_was_led_into_a_thiefs_territory_shows_what_nothing_of_ours_shows(two: Two) -> None:
    assert _three_words(territory_id(OUR_ROOT.public)) == _three_words(territory_id(THIEFS_ROOT.public))
    shown = await two.shown_to_us()
    assert len(shown) == 1
    assert await two.shown_by(two.ours, await two.ours.invite("machine"), "Hibou") == shown
    led_away = await two.shown_by(two.thiefs, await two.thiefs.invite("machine"), "Renard")
    assert not led_away & shown


@attack(ROW, off={"sync_server.cli.told_of_code": lambda made: made})
async def test_invite_shows_what_the_code_says_of_its_territory_whatever_the_server_says(
    two: Two, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (ours,) = await two.shown_to_us()
    (theirs,) = {(await two.thiefs.do("status"))["fingerprint"]}
    code, space = await two.thiefs.invite("machine"), two.ours.space

    async def invite(_server: Server, _params: Params, _outgoing: Outgoing) -> JSON:
        return {"code": code, "expires": "2026-12-01T00:00:00Z", "fingerprint": ours}

    monkeypatch.setitem(table._COMMANDS, "invite", invite)
    elsewhere = two.folder / "operators"
    begin = ["init", "--name", "Cher", "--data", str(elsewhere)]
    assert await asyncio.to_thread(PROGRAM.main, begin) == 0
    capsys.readouterr()
    asked = ["invite", "--role", "machine", "--space", space, "--data", str(elsewhere), "--json"]
    assert await asyncio.to_thread(PROGRAM.main, asked) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["fingerprint"] == theirs
    assert str(theirs) in said.err


@attack(ROW, off={"sync_agent.sync.session.seen_in": lambda _: None})
async def test_a_computer_that_was_led_away_says_so_once_the_true_server_answers_it(two: Two) -> None:
    await two.enrol(two.thiefs, await two.thiefs.invite("machine"), "Renard")
    async with two.computer("Renard") as agent:
        way = MemoryTransport(Frontage(two.ours.server.responder))
        with pytest.raises(Refused):
            await Session(agent, way).sync()
        found = await Desk(agent).ask("doctor")
        assert any("a server of another territory answers" in each["message"] for each in found["problems"])
        server = (await Desk(agent).ask("status"))["server"]
        assert server["problem"]["code"] == "another-territory"
        async with portal(agent, Outcome.REFUSED) as surfer:
            assert "Un serveur d'un autre territoire répond" in html.unescape(await surfer.page("/?register=adult"))
