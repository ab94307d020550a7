"""Handing in over the portal: what a pupil's form does, and what is shown of it to whom."""

from __future__ import annotations

import asyncio
import html
import io
import zipfile

import pytest

from protocol.model.entry import Kind
from protocol.roles import PersonRole
from protocol.trust.receipt_code import proof_code
from tests.harness.classroom import Classroom, Device, brought
from tests.harness.commands import Desk
from tests.harness.portal import LESSON, portal


def flat(page: str) -> str:
    return html.unescape(page).replace("\N{NO-BREAK SPACE}", " ")


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
        await brought(pc, teacher)
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
        await brought(teacher, pc)
        page = await surfer.page(place)
        for words in ("Regarde ta correction", "Très bien !\nContinue.", "Objectifs atteints", "note.txt"):
            assert words in page
        saved = await surfer.get(f"/work/{work}/note/note.txt")
        assert (saved.body, saved.headers["Content-Disposition"][:10]) == (b"bravo", "attachment")
        assert saved.headers["Cache-Control"] == "no-store"  # many use this browser


async def test_a_pupil_who_hands_in_an_empty_file_reads_so_and_so_does_the_teacher(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    teacher, pc, item = assignment
    fields = {"person": room.pupil_person.hex()}
    async with portal(pc.agent) as surfer:
        for name, data, is_told in (("vide.odt", b"", True), ("plein.odt", b"a", False)):
            sent = await surfer.send(f"/item/{item}", f"/item/{item}/hand-in", fields, [(name, data), ("b.txt", b"b")])
            place = sent.headers["Location"].partition("?")[0]
            assert (f"est vide : {name}." in flat(await surfer.page(place))) is is_told
            await brought(pc, teacher)
            async with portal(teacher.agent) as adult:
                assert (f"Fichier vide : {name}." in flat(await adult.page(place))) is is_told


async def test_the_proof_of_a_hand_in_is_a_page_to_print_for_who_may_see_how_far_it_has_come(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, item = assignment
    work = await room.hand_in(pc, bytes.fromhex(item), {"a.txt": b"a"})
    other = await room.machine()
    await brought(pc, other)
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
    await brought(pc, teacher, pc)
    async with portal(teacher.agent) as adult:
        saved = await adult.send(f"/work/{work}", f"/work/{work}/open", {"path": "a.html"})
        assert (saved.status, saved.body) == (200, b"<script>")
        assert saved.headers["Content-Type"] == "application/octet-stream"
        assert saved.headers["Content-Disposition"].startswith("attachment")
        assert "sandbox" in saved.headers["Content-Security-Policy"]
        missing = await adult.send(f"/work/{work}", f"/work/{work}/open", {"path": "../a.html"})
        assert missing.status == 404
        await adult.until(f"/work/{work}", "Ouvert")
    await brought(teacher, pc)
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


async def test_a_form_that_says_something_else_is_another_one_whatever_number_it_has(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, item = assignment
    tom = (await room.territory.person("Tom", PersonRole.PUPIL, room.space)).hex()
    await pc.session.sync()
    lea = room.pupil_person.hex()
    async with portal(pc.agent) as surfer:
        fields = await surfer.hidden(f"/item/{item}")  # a browser that goes back may show the same form again
        for person, name, data in (
            (lea, "a.txt", b"a"),
            (tom, "a.txt", b"a"),
            (tom, "b.txt", b"a"),
            (tom, "b.txt", b"b"),
        ):
            form = {**fields, "person": person}
            assert (await surfer.send(f"/item/{item}", f"/item/{item}/hand-in", form, [(name, data)])).status == 303
    assert len(await Desk(pc.agent).ask("hand-ins")) == 4


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
    await brought(teacher, pc)
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
    await brought(pc, teacher)
    await Desk(teacher.agent).ask("feedback", id=work, text="Rien que pour Léa")
    await brought(teacher, pc)
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
    await brought(pc, other)
    async with portal(other.agent) as surfer:
        await surfer.send("/who", "/who", {"person": room.pupil_person.hex()})
        page = await surfer.page("/")
        assert "Tu as tout fini" in page
        assert "À l&#39;abri" in page
    del teacher


async def test_what_a_power_cut_left_of_a_form_is_gone_at_the_next_start(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, pc, _ = assignment
    left = pc.agent.folder / ".upload-x1y2z3"
    left.write_bytes(b"a pupil's work")
    async with portal(pc.agent):
        assert not left.exists()


async def test_an_assignment_for_a_whole_school_has_a_page_on_which_who_is_on_the_schools_list_is_named(
    room: Classroom, assignment: tuple[Device, Device, str]
) -> None:
    _, machine, item = assignment
    territory = room.territory
    (first,) = (await territory.replica.store.get([bytes.fromhex(item)])).values()
    await territory.person("Max", PersonRole.PUPIL, room.school)
    said = await territory.say(room.school, Kind.REVISION, first.payload or b"")
    await machine.session.sync()
    async with portal(machine.agent) as surfer:
        assert "Max</option>" in await surfer.page(f"/item/{said.id.hex()}")
