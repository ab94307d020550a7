"""The portal over HTTP: what it shows, what its forms do, and whom it answers at all."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.receipt_code import proof_code
from protocol.roles import PersonRole, Role
from protocol.work import ItemKind
from sync_agent.addresses import Address
from sync_agent.config import RunConfig
from sync_agent.daemon import run
from sync_agent.device_names import key_words
from sync_agent.operations import table
from sync_agent.portal.site import serve_portal
from sync_agent.publisher import withdraw
from sync_agent.scheduler import Outcome
from sync_agent.watched_files import Obstacle
from sync_agent.watched_titles import Brake, Title, hindered
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.commands import Desk
from tests.harness.portal import Surfer, portal

PAGE = b"<!doctype html><meta charset=utf-8><h1>Eau</h1>"
LESSON = {"index.html": PAGE, "images/Schema.png": b"\x89PNG" + bytes(range(256)) * 40, "texte.txt": "été".encode()}


def _field(name: str, value: bytes) -> bytes:
    """A field of a form, as a browser sends it."""
    return b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path) as made:
        yield made


async def brought(room: Classroom, teacher: Device, *devices: Device) -> None:
    """What the teacher has reaches the others."""
    for device in (teacher, *devices, teacher):
        await device.session.sync()


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_the_home_page_shows_what_is_to_do_to_learn_and_to_know(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    desk = Desk(teacher.agent)
    space = room.space.hex()
    await desk.publish(LESSON, space=space, title="Le cycle de l'eau", kind="lesson", subject="Sciences")
    await desk.publish({"a.html": PAGE}, space=space, title="Raconte", kind="assignment", due_ms=1_800_000_000_000)
    await desk.publish({"a.txt": b"a"}, space=space, title="Piscine <jeudi>", kind="announcement")
    await brought(room, teacher, pc)
    async with portal(pc.agent) as surfer:
        page = await surfer.page("/")
    for words in ("À faire", "Leçons", "Mots", "Sciences", "Le cycle de l&#39;eau", "Raconte", "Piscine &lt;jeudi&gt;"):
        assert words in page
    assert "Pour" in page
    assert "Publier" not in page


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (None, "On vérifie"),
        (Outcome.NO_ANSWER, "Pas d&#39;Internet. Tu peux travailler."),
        (Outcome.DONE, "Tout est à jour"),
        (Outcome.REFUSED, "Préviens Mme Petit"),
    ],
)
async def test_every_page_says_how_the_exchange_stands(room: Classroom, outcome: Outcome | None, words: str) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent, outcome) as surfer:
        for path in ("/", "/work", "/who", "/state", "/item/none"):
            assert words in (await surfer.get(path)).text
        live = json.loads((await surfer.get("/live")).body)
    assert words.replace("&#39;", "'") in live["strip"].replace("\N{NO-BREAK SPACE}", " ")


async def test_what_was_withdrawn_is_hidden_from_pupils_and_offered_to_teachers(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LESSON)).item
    await withdraw(teacher.agent, item)
    await brought(room, teacher, pc)
    async with portal(pc.agent) as surfer:
        assert "Leçon</a>" not in await surfer.page("/")
        assert (await surfer.get(f"/item/{item.hex()}")).status == 404
        assert (await surfer.get(f"/item/{item.hex()}/file/index.html")).status == 404
    async with portal(teacher.agent) as surfer:
        assert "1 élément retiré" in await surfer.page("/")
        assert (await surfer.send(f"/item/{item.hex()}", f"/item/{item.hex()}/restore", {})).status == 303
        assert "élément retiré" not in await surfer.page("/")


async def test_a_teacher_is_told_what_of_the_folders_is_not_published_and_why(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    store = teacher.agent.replica.store
    for title in (
        Title("f", "Volcans", obstacle=Obstacle(Code.UNREADABLE_FILE, "carte.png", "this is a link")),
        Title("f", "Marées", obstacle=Obstacle(Code.BAD_NAME, "CON.txt", "Windows reserves this name")),
        Title("f", "Publié", item=bytes(32)),
    ):
        await store.set_marks(title.mark())
    async with portal(teacher.agent) as surfer:
        before = json.loads((await surfer.get("/live")).body)["stamp"]
        assert "2 titres de vos dossiers ne sont pas publiés" in await surfer.page("/")
        assert "/folders" in await surfer.page("/publish")
        page = await surfer.page("/folders")
        for words in ("Volcans", "carte.png", "c&#39;est un raccourci", "Marées", "CON.txt", "Renommez-le"):
            assert words in page
        assert "Publié</h3>" not in page
        await store.set_marks(Title("f", "Volcans").mark())
        assert json.loads((await surfer.get("/live")).body)["stamp"] != before, "an open page shows it by itself"
        assert "« Marées » n&#39;est pas publié" in await surfer.page("/")
    async with portal(pc.agent) as surfer:
        assert (await surfer.get("/folders")).status == 404


async def test_the_brake_asks_on_the_teachers_pages_and_an_answer_lets_go_of_it(room: Classroom) -> None:
    teacher = await room.teacher()
    store = teacher.agent.replica.store
    await store.set_marks(Brake(teacher.agent.now_ms(), 12, ("Volcans", "Marées")).mark())
    watched: list[None] = []
    teacher.agent.on_watch = lambda: watched.append(None)
    async with portal(teacher.agent) as surfer:
        assert "La publication depuis vos dossiers est en pause" in await surfer.page("/")
        page = await surfer.page("/folders")
        assert "12 fichiers déjà publiés" in page
        assert "Volcans, Marées" in page
        assert (await surfer.ask("POST", "/folders/resume", {"token": "false"}, Origin=surfer.origin)).status == 403
        assert (await hindered(store)).brake is not None
        assert (await surfer.send("/folders", "/folders/resume", {})).status == 303
        assert "en pause" not in await surfer.page("/")
    assert (await hindered(store)).brake is None
    assert watched


async def test_an_item_whose_files_have_not_all_come_is_arriving(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LESSON)).item.hex()
    for space in await teacher.agent.spaces():
        stored = await teacher.agent.replica.store.scan(space)
        await pc.agent.replica.admit([one.entry for one in stored], source=b"test", now_ms=pc.agent.now_ms())
    async with portal(pc.agent) as surfer:
        assert "Arrive bientôt" in await surfer.page("/")
        page = await surfer.page(f"/item/{item}")
        assert "Arrive bientôt" in page
        assert "<iframe" not in page
        assert (await surfer.get(f"/item/{item}/file/index.html")).status == 404


async def test_a_machine_shows_the_words_by_which_its_head_teacher_tells_it_from_others(room: Classroom) -> None:
    pc = await room.machine()
    async with portal(pc.agent) as surfer:
        assert key_words(pc.agent.device) in await surfer.page("/state")


async def test_language_and_register_are_chosen_once(room: Classroom) -> None:
    pc = await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        assert "Choisir mon prénom" in await surfer.page("/")
        assert "Choisir un nom" in await surfer.page("/?register=adult")
        assert "Ne choisir personne" in await surfer.page("/who")
        assert "Choose a name" in await surfer.page("/?lang=en")
        assert 'lang="en"' in await surfer.page("/")
        other = Surfer(surfer.session, surfer.url)
        assert 'lang="en"' in (await other.get("/", Accept_Language="en-GB,en;q=0.9")).text
        assert (await other.get("/?lang=xx&register=yy")).status == 200


# --- handing in -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def assignment(room: Classroom) -> tuple[Device, Device, str]:
    """A teacher's device and a PC that have an assignment, and its id."""
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, {"consigne.html": PAGE}, kind=ItemKind.ASSIGNMENT)).item.hex()
    await brought(room, teacher, pc)
    return teacher, pc, item


async def test_a_pupil_hands_in_sees_that_it_is_kept_and_reads_the_answer(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    teacher, pc, item = assignment
    files = [("réponse.odt", b"r" * 70_000), ("dessin.png", b"1"), ("dessin.png", b"22"), ("CON?.txt", b"3")]
    async with portal(pc.agent) as surfer:
        sent = await surfer.send(f"/item/{item}", f"/item/{item}/hand-in", {"person": room.pupil_person.hex()}, files)
        assert sent.status == 303
        place = sent.headers["Location"]
        page = await surfer.page(place)
        assert "Ton travail est gardé" in page
        assert "Gardé sur l&#39;ordinateur PC 2" in page
        assert "dessin (2).png" in page
        home = await surfer.page("/")
        assert "Bonjour Léa" in home
        assert "Fini" in home
        await brought(room, pc, teacher)
        assert "À l&#39;abri" in await surfer.page(place)
        work = place.removeprefix("/work/").partition("?")[0]
        async with portal(teacher.agent) as adult:
            assert "Rendu, à ouvrir" in await adult.page(f"/item/{item}")
            zipped = await adult.send(f"/work/{work}", f"/work/{work}/open", {"path": ""})
            with zipfile.ZipFile(io.BytesIO(zipped.body)) as archive:
                found = {name: archive.read(name) for name in archive.namelist()}
            assert found == {
                "CON-.txt": b"3",
                "dessin.png": b"1",
                "dessin (2).png": b"22",
                "réponse.odt": b"r" * 70_000,
            }
            await adult.until(f"/item/{item}", "Ouvert")
            said = {"text": "Très bien !\r\nContinue.", "level": "level_3"}
            given = await adult.send(f"/work/{work}", f"/work/{work}/feedback", said, [("note.txt", b"bravo")])
            assert given.headers["Location"] == f"/work/{work}?done=given"
        await brought(room, teacher, pc)
        page = await surfer.page(place)
        for words in ("Regarde ta correction", "Très bien !\nContinue.", "Objectifs atteints", "note.txt"):
            assert words in page
        saved = await surfer.get(f"/work/{work}/note/note.txt")
        assert (saved.body, saved.headers["Content-Disposition"][:10]) == (b"bravo", "attachment")
        assert saved.headers["Cache-Control"] == "no-store"  # many use this browser


async def test_the_proof_of_a_hand_in_is_a_page_to_print_for_who_may_see_how_far_it_has_come(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, item = assignment
    work = await room.hand_in(pc, bytes.fromhex(item), {"a.txt": b"a"})
    other = await room.machine()
    await brought(room, pc, other)
    async with portal(pc.agent) as surfer:
        assert f"/work/{work.hex()}/receipt" in await surfer.page(f"/work/{work.hex()}")
        page = await surfer.page(f"/work/{work.hex()}/receipt")
        for words in (proof_code(work), "Léa", "<path", "Le serveur l&#39;a reçu"):
            assert words in page
    async with portal(other.agent) as surfer:
        assert (await surfer.get(f"/work/{work.hex()}/receipt")).status == 404


async def test_one_file_of_a_hand_in_is_saved_alone_and_tells_the_pupil(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    teacher, pc, item = assignment
    work = (await room.hand_in(pc, bytes.fromhex(item), {"a.html": b"<script>", "b.txt": b"b"})).hex()
    await brought(room, pc, teacher, pc)
    async with portal(teacher.agent) as adult:
        saved = await adult.send(f"/work/{work}", f"/work/{work}/open", {"path": "a.html"})
        assert (saved.status, saved.body) == (200, b"<script>")
        assert saved.headers["Content-Type"] == "application/octet-stream"
        assert saved.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in saved.headers["Content-Security-Policy"]
        missing = await adult.send(f"/work/{work}", f"/work/{work}/open", {"path": "../a.html"})
        assert missing.status == 404
        await adult.until(f"/work/{work}", "Ouvert")
    await brought(room, teacher, pc)
    async with portal(pc.agent) as surfer:
        assert "Mme Petit l&#39;a vu" in await surfer.page("/work")


async def test_the_same_form_sent_twice_hands_in_once(room: Classroom, assignment: tuple[Device, Device, str]) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as surfer:
        fields = {**await surfer.hidden(f"/item/{item}"), "person": room.pupil_person.hex()}
        sending = [
            surfer.send(f"/item/{item}", f"/item/{item}/hand-in", fields, [("a.txt", b"a" * 300_000)]) for _ in "12"
        ]
        first, second = await asyncio.gather(*sending)
        assert first.headers["Location"] == second.headers["Location"]
    assert len(await Desk(pc.agent).ask("hand-ins")) == 1


@pytest.mark.parametrize(
    ("person", "files", "status", "words"),
    [
        ("", [("a.txt", b"a")], 400, "Choisis ton prénom"),
        ("00" * 16, [("a.txt", b"a")], 400, "Choisis ton prénom"),
        (None, [], 400, "Choisis au moins un fichier"),
        (None, [("", b"")], 400, "Choisis au moins un fichier"),
    ],
)
async def test_a_form_that_lacks_something_says_what(
    room: Classroom,
    assignment: tuple[Device, Device, str],
    person: str | None,
    files: list[tuple[str, bytes]],
    status: int,
    words: str,
) -> None:
    _, pc, item = assignment
    fields = {"person": room.pupil_person.hex() if person is None else person}
    async with portal(pc.agent) as surfer:
        answer = await surfer.send(f"/item/{item}", f"/item/{item}/hand-in", fields, files)
    assert answer.status == status
    assert words in answer.text
    assert await Desk(pc.agent).ask("hand-ins") == []


async def test_nothing_is_handed_in_for_a_lesson(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LESSON)).item.hex()
    await brought(room, teacher, pc)
    async with portal(pc.agent) as surfer:
        fields = {"person": room.pupil_person.hex()}
        answer = await surfer.send("/who", f"/item/{item}/hand-in", fields, [("a.txt", b"a")])
    assert answer.status == 400
    assert "rien rendre ici" in answer.text


async def test_what_a_classmate_was_told_is_read_only_under_the_name_it_was_told(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    teacher, pc, item = assignment
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    work = (await room.hand_in(pc, bytes.fromhex(item), {"a.txt": b"a"})).hex()
    await brought(room, pc, teacher)
    await Desk(teacher.agent).ask("feedback", id=work, text="Rien que pour Léa")
    await brought(room, teacher, pc)
    async with portal(pc.agent) as surfer:
        page = await surfer.page(f"/work/{work}")
        assert "Rien que pour" not in page
        assert "Lis ce que dit" not in page
        assert f'href="/who?back=%2Fwork%2F{work}"' in page
        await surfer.send("/who", "/who", {"person": tom.hex(), "back": "/"})
        assert "Bonjour Tom" in await surfer.page("/")
        assert "Rien que pour" not in (await surfer.get(f"/work/{work}")).text
        await surfer.send("/who", "/who", {"person": room.pupil_person.hex(), "back": "/work"})
        assert "Rien que pour" in await surfer.page(f"/work/{work}")
        gone = await surfer.send("/who", "/who", {"person": "", "back": "//evil.example/"})
        assert gone.headers["Location"] == "/"
        assert "Bonjour Léa" not in await surfer.page("/")


async def test_a_hand_in_made_on_another_pc_is_known_as_done_here(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    teacher, pc, item = assignment
    other = await room.machine()
    await room.hand_in(pc, bytes.fromhex(item), {"a.txt": b"a"})
    await brought(room, pc, other)
    async with portal(other.agent) as surfer:
        await surfer.send("/who", "/who", {"person": room.pupil_person.hex()})
        page = await surfer.page("/")
        assert "Tu as tout fini" in page
        assert "À l&#39;abri" in page
    del teacher


# --- teaching ---------------------------------------------------------------------------------------------------------


async def test_a_teacher_publishes_a_folder_and_changes_it(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    fields = {"space": room.space.hex(), "kind": "assignment", "title": "Dictée", "subject": "Français"}
    async with portal(teacher.agent) as adult:
        files = [("mon dossier/index.html", PAGE), ("mon dossier/images/a.png", b"png")]
        sent = await adult.send("/publish", "/publish", {**fields, "due": "2026-12-11"}, files)
        place = sent.headers["Location"]
        item = place.removeprefix("/item/").partition("?")[0]
        page = await adult.page(place)
        assert "Dictée" in page
        assert "images/a.png" in page
        assert 'value="2026-12-11"' in await adult.page(f"/item/{item}/publish")
        changed = {"kind": "assignment", "title": "Dictée 2", "subject": "", "due": ""}
        await adult.send(f"/item/{item}/publish", f"/item/{item}/publish", changed, [])
    row = await Desk(teacher.agent).item(item)
    assert (row["title"], row["subject"], row["due"]) == ("Dictée 2", None, None)
    assert [file["path"] for file in row["files"]] == ["images/a.png", "index.html"]


@pytest.mark.parametrize(
    ("fields", "files", "words"),
    [
        ({"title": ""}, [("a.txt", b"a")], "Il manque quelque chose"),
        ({}, [], "au moins un fichier"),
        ({}, [("CON.txt", b"a")], "CON.txt"),
        ({}, [("d/../a.txt", b"a")], "../a.txt"),
        ({}, [("a.txt", b"a"), ("A.txt", b"b")], "A.txt"),
        ({"due": "2026-13-45"}, [("a.txt", b"a")], "Cette date"),
        ({"space": "00"}, [("a.txt", b"a")], "pas cette classe"),
    ],
)
async def test_what_cannot_be_published_is_named(
    room: Classroom, fields: dict[str, str], files: list[tuple[str, bytes]], words: str
) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    given = {"space": room.space.hex(), "kind": "lesson", "title": "T", **fields}
    async with portal(teacher.agent) as adult:
        answer = await adult.send("/publish", "/publish", given, files)
    assert answer.status == 400
    assert words in answer.text
    assert await Desk(teacher.agent).ask("items") == []


async def test_a_conflict_is_shown_looked_at_and_settled(room: Classroom) -> None:
    one, two = await room.teacher(), await room.teacher()
    item = (await room.publish(one, {"index.html": b"<h1>un"})).item
    await brought(room, one, two)
    await room.publish(one, {"index.html": b"<h1>deux"}, item=item)
    await room.publish(two, {"index.html": b"<h1>trois"}, item=item)
    await brought(room, one, two)
    row = await Desk(one.agent).item(item.hex())
    assert row["conflict"]
    other = row["heads"][1]
    async with portal(one.agent) as adult:
        assert "Deux versions" in await adult.page("/")
        page = await adult.page(f"/item/{item.hex()}")
        assert "Deux versions à départager" in page
        shown = await adult.lesson(item.hex(), "/", Accept="*/*")
        port = page.partition(".localhost:")[2].partition("/")[0]
        second = await adult.lesson(item.hex(), "/", Host=f"{other[:32]}.localhost:{port}")
        assert {shown.body, second.body} == {b"<h1>deux", b"<h1>trois"}
        done = await adult.send(f"/item/{item.hex()}", f"/item/{item.hex()}/settle", {"keep": other})
        assert done.status == 303
        assert "départager" not in await adult.page(f"/item/{item.hex()}")
    row = await Desk(one.agent).item(item.hex())
    assert not row["conflict"]


async def test_a_pupils_machine_has_no_page_for_teachers(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as surfer:
        assert (await surfer.get("/publish")).status == 404
        for action in ("withdraw", "restore", "settle"):
            assert (await surfer.send(f"/item/{item}", f"/item/{item}/{action}", {})).status == 404
        assert (await surfer.send("/who", "/publish", {"title": "x"}, [("a", b"a")])).status == 404


# --- whom it answers --------------------------------------------------------------------------------------------------


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


# --- lessons ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def lesson(room: Classroom) -> tuple[Device, str]:
    """A PC that has a lesson, and its id."""
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LESSON)).item.hex()
    await brought(room, teacher, pc)
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
