"""Whom the portal answers at all, and which forms it takes."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from sync_agent.config import RunConfig
from sync_agent.daemon import run
from sync_agent.machine.addresses import Address
from sync_agent.operations import table
from sync_agent.portal.site import LESSONS_PORT_MARK, serve_portal
from tests.harness.classroom import Classroom, Device
from tests.harness.commands import Desk
from tests.harness.portal import portal


def _field(name: str, value: bytes) -> bytes:
    """A field of a form, as a browser sends it."""
    return b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


async def test_only_the_portals_own_name_is_answered(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        port = surfer.url.port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"x.localhost:{port}", f"127.0.0.1.:{port}"):
            answer = await surfer.get("/", Host=host)
            assert answer.status == 421, host
            assert b"CM" not in answer.body
        moved = await surfer.get("/who?back=/work", Host=f"localhost:{port}")
        assert (moved.status, moved.headers["Location"]) == (307, f"{surfer.origin}/who?back=/work")
        assert (await surfer.ask("POST", "/who", b"", Host=f"localhost:{port}", Origin=surfer.origin)).status == 421


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\r\n\r\n", b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_what_is_no_http_hears_of_no_library_on_the_portal_either(room: Classroom, sent: bytes) -> None:
    pc = await room.machine()
    async with portal(pc.agent) as surfer:
        lessons = int.from_bytes(await pc.agent.replica.store.mark(LESSONS_PORT_MARK) or b"", "big")
        for port in (surfer.url.port, lessons):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            assert head.split()[1] == b"400"
            assert b"aiohttp" not in head
            assert json.loads(body)["error"]["code"] == "malformed"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://0123456789abcdef0123456789abcdef.localhost:80"},
        {"Origin": "own", "Sec_Fetch_Dest": "iframe"},
        {"Origin": "own", "Content_Encoding": "gzip"},
        {"Origin": "own", "Cookie": ""},
        {"Origin": "own", "Cookie": "relais-visit-PORT=AAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
async def test_a_form_from_elsewhere_changes_nothing(
    room: Classroom, assignment: tuple[Device, Device, str], headers: dict[str, str]
) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as surfer:
        hidden = await surfer.hidden(f"/item/{item}")
        port = str(surfer.url.port)
        given = {
            name: surfer.origin if value == "own" else value.replace("PORT", port) for name, value in headers.items()
        }
        body = f"token={hidden['token']}&person={room.pupil_person.hex()}"
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        answer = await surfer.ask("POST", "/who", body.encode(), **given, **form)
        assert answer.status in {403, 415}, answer.text
        assert surfer.cookie("relais-who") not in surfer.cookies


async def test_a_token_that_is_wrong_or_missing_is_refused_before_a_file_is_kept(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as surfer:
        for token in ("", "0" * 64):
            fields = {"token": token, "person": room.pupil_person.hex()}
            answer = await surfer.send(f"/item/{item}", f"/item/{item}/hand-in", fields, [("a.txt", b"a")])
            assert answer.status == 403
            assert "trop vieille" in answer.text
    assert await Desk(pc.agent).ask("hand-ins") == []


async def test_nothing_but_navigation_comes_in_from_another_site(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        assert (await surfer.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")).status == 403
        assert (await surfer.get("/", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors")).status == 403
        assert (await surfer.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")).status == 200
        framed = await surfer.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")
        assert framed.status == 403
        assert (await surfer.get("/static/x.js", Service_Worker="script")).status == 403


async def test_a_form_outlives_a_restart_of_the_agent(room: Classroom, assignment: tuple[Device, Device, str]) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as before:
        hidden = await before.hidden(f"/item/{item}")
        cookies, port = before.cookies, before.url.port
    async with portal(pc.agent) as after:
        # which stands at the same port in life
        after.cookies = {name.replace(str(port), str(after.url.port)): value for name, value in cookies.items()}
        body = f"token={hidden['token']}&person={room.pupil_person.hex()}".encode()
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        assert (await after.ask("POST", "/who", body, Origin=after.origin, **form)).status == 303


async def test_a_portal_that_others_could_reach_is_refused_before_anything_starts(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(BadInput) as raised:
        await run(nowhere, RunConfig(portal="0.0.0.0:8090"), table, now_ms=lambda: 0, entropy=bytes)
    assert (raised.value.code, raised.value.exit_status) == (Code.NOT_LOOPBACK, 2)
    assert not await asyncio.to_thread(nowhere.exists)


async def test_a_port_that_is_taken_is_named(room: Classroom) -> None:
    pc = await room.machine()
    async with portal(pc.agent) as surfer:
        assert surfer.url.port is not None
        taken = Address("127.0.0.1", surfer.url.port)
        with pytest.raises(LocalFailure) as raised:
            async with serve_portal(pc.agent, table(pc.agent), taken, lambda: None, grace_s=0.1):
                pass
    assert raised.value.code is Code.ADDRESS_IN_USE
    assert taken.authority in str(raised.value)
    assert raised.value.message.endswith(f"may be using it: {os.strerror(errno.EADDRINUSE)}"), "in the system's words"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"--x\r\nbroken", 400),
        ("multipart/form-data", b"", 400),
        ("text/plain", b"", 400),
        ("multipart/mixed; boundary=x", b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--", 400),
        ("multipart/form-data; boundary=x", _field("person", b"x" * 100_000), 413),
        ("multipart/form-data; boundary=x", b"".join(_field(f"f{n}", b"x") for n in range(100)) + b"--x--", 413),
        ("multipart/form-data; boundary=x", _field("person", b"\xff") + b"--x--", 400),
    ],
)
async def test_what_none_of_our_forms_sends_is_refused(
    assignment: tuple[Device, Device, str], kind: str, body: bytes, status: int
) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as surfer:
        await surfer.page("/")
        answer = await surfer.ask("POST", f"/item/{item}/hand-in", body, Origin=surfer.origin, Content_Type=kind)
        assert answer.status == status, answer.text
        assert await surfer.page("/")
    assert await Desk(pc.agent).ask("hand-ins") == []
