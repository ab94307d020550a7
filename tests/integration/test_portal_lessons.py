"""Lessons as a browser is given them: at an origin of their own, shut in, to be sought in and saved."""

from __future__ import annotations

import pytest

from protocol.roles import Role
from tests.harness.classroom import Classroom, Device, brought
from tests.harness.portal import LESSON, PAGE, portal


@pytest.fixture
async def lesson(room: Classroom) -> tuple[Device, str]:
    """A PC that has a lesson, and its id."""
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LESSON)).item.hex()
    await brought(teacher, pc)
    return pc, item


async def test_a_lesson_opens_with_its_index_and_gives_its_files(lesson: tuple[Device, str]) -> None:
    pc, item = lesson
    async with portal(pc.agent) as surfer:
        first = await surfer.lesson(item)
        assert (first.status, first.body, first.headers["Content-Type"]) == (200, PAGE, "text/html")
        image = await surfer.lesson(item, "/images/Schema.png")
        assert (image.body, image.headers["Content-Type"]) == (LESSON["images/Schema.png"], "image/png")
        assert (await surfer.lesson(item, "/IMAGES/schema.PNG")).body == image.body
        text = await surfer.lesson(item, "/texte.txt")
        assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert (await surfer.lesson(item, "/images")).headers["Location"] == "/images/"
        assert "Schema.png" in (await surfer.lesson(item, "/images/")).text
        for path in ("/none.html", "/../index.html", "/%2e%2e/index.html", "/images/../../x", "//index.html"):
            assert (await surfer.lesson(item, path)).status in {302, 404} or path.endswith("index.html"), path


async def test_every_answer_of_a_lesson_is_shut_in(lesson: tuple[Device, str]) -> None:
    pc, item = lesson
    async with portal(pc.agent) as surfer:
        for path in ("/", "/images/Schema.png", "/none.html", "/images/"):
            answer = await surfer.lesson(item, path, Cookie="a=b")
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("sandbox allow-")
            assert "allow-top-navigation" not in policy
            assert "default-src 'self'" in policy
            assert f"frame-ancestors 'self' {surfer.origin}" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Set-Cookie" not in answer.headers
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_lesson_is_answered_only_at_its_own_origin_and_only_for_reading(lesson: tuple[Device, str]) -> None:
    pc, item = lesson
    async with portal(pc.agent) as surfer:
        port = (await surfer.page(f"/item/{item}")).partition(".localhost:")[2].partition("/")[0]
        for host in (
            f"127.0.0.1:{port}",
            f"localhost:{port}",
            "evil.example",
            f"{item[:31]}.localhost:{port}",
            f"{item[:32]}.localhost:1",
            f"{item[:32]}.localhost",
            f"{item[:32].upper()}.localhost:{port}",
            f"a.{item[:32]}.localhost:{port}",
        ):
            assert (await surfer.lesson(item, Host=host)).status == 421, host
        assert (await surfer.lesson(item, Host=f"{'0' * 32}.localhost:{port}")).status == 404
        assert (await surfer.lesson(item, method="POST")).status == 405
        assert (await surfer.lesson(item, "/sw.js", Service_Worker="script")).status == 403


@pytest.mark.parametrize(
    ("value", "status", "start", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=300000-300009", 206, 300_000, 300_010),
        ("bytes=599990-", 206, 599_990, 600_000),
        ("bytes=-5", 206, 599_995, 600_000),
        ("bytes=0-1,5-6", 200, 0, 600_000),
        ("bytes=600000-", 416, 0, 0),
    ],
)
async def test_sound_and_film_can_be_sought_in(room: Classroom, value: str, status: int, start: int, end: int) -> None:
    teacher = await room.teacher()
    film = bytes(index * index % 251 for index in range(600_000))
    item = (await room.publish(teacher, {"film.mp4": film, "vide.mp4": b""})).item.hex()
    async with portal(teacher.agent) as adult:
        answer = await adult.lesson(item, "/film.mp4", Range=value)
        assert answer.status == status
        if status == 206:
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/600000"
        if status == 416:
            assert answer.headers["Content-Range"] == "bytes */600000"
        else:
            assert answer.body == film[start:end]
            assert answer.headers["Content-Type"] == "video/mp4"
        head = await adult.lesson(item, "/film.mp4", method="HEAD")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, "600000", b"")
        tag = head.headers["ETag"]
        assert (await adult.lesson(item, "/film.mp4", If_None_Match=tag)).status == 304
        assert (await adult.lesson(item, "/film.mp4", Range="bytes=0-1", If_Range='"other"')).status == 200
        assert (await adult.lesson(item, "/vide.mp4", Range=value)).body == b""


async def test_what_a_browser_would_not_show_is_saved_under_its_name(room: Classroom) -> None:
    teacher = await room.teacher()
    item = (await room.publish(teacher, {"fiche n°1.odt": b"odt", "x.exe": b"MZ"})).item.hex()
    async with portal(teacher.agent) as adult:
        sheet = await adult.lesson(item, "/fiche%20n%C2%B01.odt")
        assert sheet.headers["Content-Disposition"].endswith("filename*=UTF-8''fiche%20n%C2%B01.odt")
        assert (await adult.lesson(item, "/x.exe")).headers["Content-Type"] == "application/octet-stream"
        assert "fiche n°1.odt" in (await adult.lesson(item)).text
        saved = await adult.get(f"/item/{item}/file/fiche%20n%C2%B01.odt")
        assert (saved.body, "sandbox" in saved.headers["Content-Security-Policy"]) == (b"odt", True)


async def test_what_a_lesson_keeps_in_a_browser_is_there_again_after_a_restart(lesson: tuple[Device, str]) -> None:
    pc, item = lesson
    ports = []
    for _ in "12":
        async with portal(pc.agent) as surfer:
            ports.append((await surfer.page(f"/item/{item}")).partition(".localhost:")[2].partition("/")[0])
    assert ports[0] == ports[1] != ""


async def test_a_device_without_a_class_still_has_a_page(room: Classroom) -> None:
    device = await room.device(Role.MACHINE)
    async with portal(device.agent) as surfer:
        assert (await surfer.get("/")).status == 200
