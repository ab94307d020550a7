"""A code is good wherever it could be honoured when it was made, and at a server that took the place of that one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.identity import AgreementKey
from protocol.messages.enrollment import EnrollRequest
from protocol.messages.wire import Call
from protocol.replica.office.known_codes import KnownCodes
from protocol.trust.envelope import OpenedRequest
from protocol.trust.invitation import parse_code
from sync_agent.enrollment.by_code import Enrolled, enroll
from sync_agent.school.letting_in import own_answer
from sync_agent.school.office import SchoolOffice
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device
from tests.harness.wire import URL, MemoryTransport


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        yield made


async def at_the_server(here: Town, folder: Path, code: str) -> Enrolled:
    here.office.server.responder.add_handler(Call.ENROLL, here.office.enrolment.answer)
    way = MemoryTransport(here.frontage)
    return await enroll(folder, URL, code, "Merle", now_ms=here.office.clock, entropy=os.urandom, connect=lambda _: way)


async def at(head: Device, code: str) -> bytes:
    known, laptop = parse_code(code), new_device(os.urandom)
    key = laptop.signing.public
    asked = EnrollRequest(
        known.shown, laptop.agreement.public, laptop.tls.fingerprint, "Merle", in_clear=True, proof=known.proof(key)
    )
    reply = AgreementKey(os.urandom(32)).public
    request = OpenedRequest(key, reply, Call.ENROLL, asked.encode(), os.urandom(32), head.agent.keys.agreement)
    return await own_answer(head.agent, await SchoolOffice.of(head.agent), request, KnownCodes())


async def test_a_heads_code_is_good_at_the_server_whose_keys_were_replaced_since(here: Town, tmp_path: Path) -> None:
    head = await here.head_of_the_school()
    wanted = {"role": "machine", "space": [here.space.hex()], "uses": 1, "ttl": "30d"}
    code = str((await Desk(head.agent).ask("invite", **wanted))["code"])  # type: ignore[arg-type]
    await here.sync(head)
    here.office.clock.advance(DAY_MS)
    await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None))
    await here.office.do("grant", device=head.agent.device.hex(), space=[here.school.hex()])
    assert await at_the_server(here, tmp_path / "new", code)


async def test_a_servers_code_is_good_at_the_head_who_was_there_and_a_later_one_makes_another(here: Town) -> None:
    head = await here.head_of_the_school()
    code = await here.office.invite("machine", uses=1)
    later = await here.head_of_the_school()
    await here.sync()
    with pytest.raises(Refused) as refused:
        await at(later, code)
    assert refused.value.code is Code.CODE_WRONG
    assert "make a new code on that computer" in refused.value.message
    assert await at(head, code), "its one use was not lost"
