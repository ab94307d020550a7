"""The portal over HTTP: its pages, and what its forms do for a teacher."""

from __future__ import annotations

import html
import json

import pytest

from protocol.errors import Code
from protocol.identity import three_words
from sync_agent.coursework.publisher import withdraw
from sync_agent.scheduler import Outcome
from sync_agent.watching.files import Obstacle
from sync_agent.watching.titles import Brake, Title, hindered
from tests.harness.classroom import Classroom, Device, brought
from tests.harness.commands import Desk
from tests.harness.portal import LESSON, PAGE, Surfer, portal


async def test_the_home_page_shows_what_is_to_do_to_learn_and_to_know(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    desk = Desk(teacher.agent)
    space = room.space.hex()
    await desk.publish(LESSON, space=space, title="Le cycle de l'eau", kind="lesson", subject="Sciences")
    await desk.publish({"a.html": PAGE}, space=space, title="Raconte", kind="assignment", due_ms=1_800_000_000_000)
    await desk.publish({"a.txt": b"a"}, space=space, title="Piscine <jeudi>", kind="announcement")
    await brought(teacher, pc)
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
    await brought(teacher, pc)
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
        assert three_words(pc.agent.device) in await surfer.page("/state")


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
        ({}, [("CON.txt", b"a")], "<code>CON.txt</code> – Windows réserve ce nom"),
        ({"text": "t"}, [("mot.txt", b"a")], "l&#39;un de vos fichiers s&#39;appelle ainsi"),
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
    given = {"space": room.space.hex(), "kind": "assignment", "title": "Raconte", **fields}
    async with portal(teacher.agent) as adult:
        answer = await adult.send("/publish", "/publish", given, files)
    assert answer.status == 400
    assert words in answer.text
    assert f'value="{given["title"]}"' in answer.text, "what was written is still in the form"
    assert 'value="assignment" required checked' in answer.text
    assert await Desk(teacher.agent).ask("items") == []


async def test_what_programs_left_in_a_folder_is_not_published_with_it_and_named(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    fields = {"space": room.space.hex(), "kind": "lesson", "title": "Volcans"}
    left = [(f"volcans/{path}", b"x") for path in ("Thumbs.db", "images/.DS_Store", "~$fiche.docx", "a.part")]
    async with portal(teacher.agent) as adult:
        meant = [("volcans/images/a.png", b"a"), ("~$choisi.docx", b"named by itself")]
        sent = await adult.send("/publish", "/publish", fields, left + meant)
        page = await adult.page(sent.headers["Location"])
        for name, _ in left:
            assert f"<code>{name.removeprefix('volcans/')}</code>" in page
        assert "ne sont pas publiés" not in await adult.page(sent.headers["Location"].partition("?")[0])
        assert (await adult.send("/publish", "/publish", fields, left)).status == 400
    (row,) = await Desk(teacher.agent).ask("items")
    assert [file["path"] for file in row["files"]] == ["images/a.png", "~$choisi.docx"]


async def test_a_teacher_who_publishes_a_title_again_is_led_to_the_first(room: Classroom) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    fields = {"space": room.space.hex(), "kind": "lesson", "title": "Volcans"}
    async with portal(teacher.agent) as adult:
        first, second = [
            (await adult.send("/publish", "/publish", fields, [("a.txt", data)])).headers["Location"]
            for data in (b"a", b"b")
        ]
        assert "déjà un élément de ce titre" not in await adult.page(second.partition("?")[0])
        page = await adult.page(second)
        assert "déjà un élément de ce titre" in page
        assert f'href="{first.partition("?")[0]}"' in page


@pytest.mark.parametrize(
    ("kind", "due", "said"),
    [
        ("assignment", "2020-01-15", "La date indiquée est déjà passée"),
        ("assignment", "2126-01-15", None),
        ("assignment", "", None),
        ("lesson", "2126-01-15", "Rien n'est à rendre ici"),
    ],
)
async def test_a_teacher_is_told_of_a_date_that_is_past_or_means_nothing_when_it_was_published(
    room: Classroom, kind: str, due: str, said: str | None
) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    fields = {"space": room.space.hex(), "kind": kind, "title": "Volcans", "due": due}
    async with portal(teacher.agent) as adult:
        place = (await adult.send("/publish", "/publish", fields, [("a.txt", b"a")])).headers["Location"]
        page = html.unescape(await adult.page(place))
        for sentence in ("La date indiquée est déjà passée", "Rien n'est à rendre ici"):
            assert (sentence in page) is (sentence == said)
        assert said is None or said not in html.unescape(await adult.page(place.partition("?")[0]))


async def test_all_names_that_do_not_fit_are_named_with_why_and_what_was_written_stays_in_the_form(
    room: Classroom,
) -> None:
    teacher = await room.teacher()
    await teacher.session.sync()
    written = {"space": room.space.hex(), "title": "Les volcans", "text": "À lire.", "subject": "Géographie"}
    bad = [("con.txt", b"a"), ("a:b?.txt", b"b"), ("bon.txt", b"c"), ("fin.", b"d"), ("x:y", b"e")]
    async with portal(teacher.agent) as adult:
        answer = await adult.send("/publish", "/publish", {**written, "due": "2027-01-15"}, bad)
        for name, why in (
            ("con.txt", "Windows réserve ce nom"),
            ("a:b?.txt", "ce nom contient un de ces signes"),
            ("fin.", "ce nom finit par un point"),
            ("x:y", "ce nom contient « : »"),
        ):
            assert f"<code>{name}</code> – {why}" in answer.text
        assert "<code>bon.txt" not in answer.text
        for kept in ("Les volcans", ">À lire.</textarea>", "Géographie", "2027-01-15", "à choisir de nouveau"):
            assert kept in answer.text
        many = await adult.send("/publish", "/publish", written, [(f"{number}?", b"x") for number in range(40)])
        assert "… et 10 autres" in many.text
        item = (await room.publish(teacher, {"a.txt": b"a"})).item.hex()
        again = await adult.send(f"/item/{item}/publish", f"/item/{item}/publish", written, bad[:1])
        assert "Les volcans" in again.text


async def test_a_conflict_is_shown_looked_at_and_settled(room: Classroom) -> None:
    one, two = await room.teacher(), await room.teacher()
    item = (await room.publish(one, {"index.html": b"<h1>un"})).item
    await brought(one, two)
    await room.publish(one, {"index.html": b"<h1>deux"}, item=item)
    await room.publish(two, {"index.html": b"<h1>trois"}, item=item)
    await brought(one, two)
    row = await Desk(one.agent).item(item.hex())
    assert row["conflict"]
    other = row["heads"][1]
    async with portal(one.agent) as adult:
        assert "Deux versions" in await adult.page("/")
        page = await adult.page(f"/item/{item.hex()}")
        assert "Deux versions à départager" in page
        shown = await adult.lesson(item.hex(), "/", Accept="*/*")
        port = page.partition(".localhost:")[2].partition("/")[0]
        second = await adult.lesson(item.hex(), "/", Host=f"{other[32:]}.localhost:{port}")
        assert {shown.body, second.body} == {b"<h1>deux", b"<h1>trois"}
        choice = {"keep": other, "shown": _shown_on(page)}
        done = await adult.send(f"/item/{item.hex()}", f"/item/{item.hex()}/settle", choice)
        assert done.status == 303
        assert "départager" not in await adult.page(f"/item/{item.hex()}")
    row = await Desk(one.agent).item(item.hex())
    assert not row["conflict"]


async def test_a_version_that_came_while_she_looked_stays_one_to_choose_from(room: Classroom) -> None:
    one, two, three = await room.teacher(), await room.teacher(), await room.teacher()
    item = (await room.publish(one, {"index.html": b"<h1>un"})).item
    await brought(one, two)
    await brought(one, three)
    await room.publish(one, {"index.html": b"<h1>deux"}, item=item)
    await room.publish(two, {"index.html": b"<h1>trois"}, item=item)
    late = (await room.publish(three, {"index.html": b"<h1>une heure de travail"}, item=item)).revision
    await brought(two, one)
    async with portal(one.agent) as adult:
        place = f"/item/{item.hex()}"
        shown = _shown_on(await adult.page(place))
        await brought(three, one)
        await adult.send(place, f"{place}/settle", {"keep": shown.split(",")[0], "shown": shown})
        again = _shown_on(await adult.page(place)).split(",")
    assert len(again) == 2
    assert late.hex() in again


def _shown_on(page: str) -> str:
    """The versions among which a page has somebody choose."""
    return page.partition('name="shown" value="')[2].partition('"')[0]


async def test_a_teacher_looks_at_earlier_versions_and_goes_back_to_the_first(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await teacher.session.sync()
    first = await room.publish(teacher, {"index.html": b"<h1>un"})
    page = f"/item/{first.item.hex()}"
    async with portal(teacher.agent) as adult:
        assert "précédente" not in await adult.page(page)
        for text in (b"<h1>deux", b"<h1>trois"):
            await room.publish(teacher, {"index.html": text}, item=first.item)
        shown = await adult.page(page)
        assert "2 versions précédentes" in shown
        assert shown.count("Mme Petit, ") == 2
        port = shown.partition(".localhost:")[2].partition("/")[0]
        here = {"Accept": "*/*", "Host": f"{first.revision.hex()[32:]}.localhost:{port}"}
        assert (await adult.lesson(first.item.hex(), "/index.html", **here)).body == b"<h1>un"
        done = await adult.send(page, f"{page}/go-back", {"revision": first.revision.hex()})
        assert done.status == 303
        assert "de nouveau celle que tous voient" in await adult.page(done.headers["Location"])
        assert (await adult.lesson(first.item.hex(), "/index.html", Accept="*/*")).body == b"<h1>un"
        assert "3 versions précédentes" in await adult.page(page)
    await brought(teacher, pc)
    async with portal(pc.agent) as pupil:
        assert "précédente" not in await pupil.page(page)
        assert (await pupil.lesson(first.item.hex(), "/index.html", **here)).status in {404, 421}


async def test_a_pupils_machine_has_no_page_for_teachers(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, item = assignment
    async with portal(pc.agent) as surfer:
        assert (await surfer.get("/publish")).status == 404
        for action in ("withdraw", "restore", "go-back", "settle"):
            assert (await surfer.send(f"/item/{item}", f"/item/{item}/{action}", {})).status == 404
        assert (await surfer.send("/who", "/publish", {"title": "x"}, [("a", b"a")])).status == 404
