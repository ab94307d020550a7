"""“Piscine demain”: a text that a teacher publishes without any file, and that pupils read with no network."""

from __future__ import annotations

import html
from typing import Any

import pytest

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.limits import MAX_TEXT_CHARS
from sync_agent.portal.pages import MAX_CARD_CHARS
from sync_agent.scheduler import Outcome
from tests.harness.classroom import Classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal

WORD = "Piscine demain.\nApportez <b>maillot</b> & bonnet."


@pytest.fixture
async def desk(room: Classroom) -> Desk:
    return Desk((await room.teacher()).agent)


async def paths(desk: Desk, item: str) -> list[str]:
    return [file["path"] for file in (await desk.item(item))["files"]]


async def refused(desk: Desk, files: dict[str, bytes] | None, **params: Any) -> RelaisError:
    with pytest.raises(RelaisError) as caught:
        await desk.publish(files, **params)
    return caught.value


async def test_a_text_alone_is_published_and_is_an_ordinary_file_elsewhere(room: Classroom, desk: Desk) -> None:
    item = (await desk.publish(None, space=room.space.hex(), title="Piscine", kind="announcement", text=WORD))["item"]
    assert await desk.files("checkout", item=item) == {"mot.txt": f"{WORD}\n".encode()}
    again = await desk.publish(None, item=item, text=WORD)
    assert again["revision"] == (await desk.item(item))["revision"] == item, "the same text again is the same revision"


async def test_a_text_stands_beside_files_and_each_is_changed_without_the_other(room: Classroom, desk: Desk) -> None:
    files = {"plan.pdf": b"%PDF", "photos/a.png": b"png"}
    item = (await desk.publish(files, space=room.space.hex(), title="Sortie", text="À lundi"))["item"]
    assert await paths(desk, item) == ["mot.txt", "photos/a.png", "plan.pdf"]
    await desk.publish(None, item=item, text="À mardi")
    assert await desk.files("checkout", item=item) == {**files, "mot.txt": "À mardi\n".encode()}
    await desk.publish(None, item=item, title="La sortie")
    assert len(await paths(desk, item)) == 3, "what is not given stays"
    await desk.publish(None, item=item, text="")
    assert await desk.files("checkout", item=item) == files
    await desk.publish({"autre.pdf": b"%PDF"}, item=item, text="Le plan a changé")
    assert await paths(desk, item) == ["autre.pdf", "mot.txt"]
    await desk.publish({"autre.pdf": b"%PDF"}, item=item)
    assert await paths(desk, item) == ["autre.pdf"], "new files take the place of all"


async def test_a_text_that_cannot_be_published_is_refused_with_a_reason(room: Classroom, desk: Desk) -> None:
    space = room.space.hex()
    assert (await refused(desk, None, space=space, title="Mot", text=" \n ")).code is Code.NOTHING_TO_SEND
    assert (await refused(desk, None, space=space, title="Mot", text="x" * (MAX_TEXT_CHARS + 1))).code is Code.USAGE
    assert (await refused(desk, {"mot.txt": b"y"}, space=space, title="Mot", text="x")).code is Code.BAD_NAME
    assert await desk.ask("items") == []
    item = (await desk.publish(None, space=space, title="Mot", text="x"))["item"]
    assert (await refused(desk, None, item=item, text="")).code is Code.NOTHING_TO_SEND
    assert await paths(desk, item) == ["mot.txt"]


async def test_a_text_beside_files_that_have_not_arrived_waits_for_them(room: Classroom, desk: Desk) -> None:
    item = (await desk.publish({"plan.pdf": b"%PDF"}, space=room.space.hex(), title="Sortie"))["item"]
    await room.devices[0].session.sync()
    other, lacking = await room.teacher(), await room.teacher()
    await other.session.sync()
    there = Desk(other.agent)
    await there.publish(None, item=item, text="À lundi", keep=item)
    assert await there.files("checkout", item=item) == {"plan.pdf": b"%PDF", "mot.txt": "À lundi\n".encode()}
    door = room.territory.replica.door
    for space in sorted(door.lineage(room.space), key=lambda space: len(door.lineage(space))):
        entries = [stored.entry for stored in await room.territory.replica.store.scan(space)]
        source, now_ms = room.territory.keys.signing.public, room.territory.clock()
        await lacking.agent.replica.admit(entries, source=source, now_ms=now_ms)
    with pytest.raises(LocalFailure) as caught:
        await Desk(lacking.agent).publish(None, item=item, text="À mardi", keep=item)
    assert caught.value.code is Code.INCOMPLETE


async def test_the_teacher_writes_it_on_the_page_and_pupils_read_it_with_no_network(
    room: Classroom, desk: Desk
) -> None:
    pc = await room.machine()
    fields = {"space": room.space.hex(), "kind": "announcement", "title": "Piscine"}
    async with portal(desk.agent) as adult:
        nothing = await adult.send("/publish", "/publish", fields, [])
        assert nothing.status == 400
        assert "écrire un texte" in html.unescape(nothing.text)
        sent = await adult.send("/publish", "/publish", {**fields, "text": WORD.replace("\n", "\r\n")}, [])
        assert sent.status == 303, sent.text
    for device in (room.devices[0], pc):
        await device.session.sync()
    item = (await desk.ask("items"))[0]["item"]
    shown = html.escape(WORD)
    async with portal(pc.agent, Outcome.NO_ANSWER) as child:
        for page in (await child.page(f"/item/{item}"), await child.page("/")):
            assert f'<p class="said">{shown}</p>' in page, "as text, its lines kept"
            assert "<b>maillot" not in page
        assert "mot.txt" not in await child.page(f"/item/{item}"), "a text is no file to open"


async def test_the_form_shows_the_text_again_and_keeps_changes_or_takes_it_away(room: Classroom, desk: Desk) -> None:
    item = (await desk.publish({"a.pdf": b"%PDF"}, space=room.space.hex(), title="Sortie", text="À <lundi>"))["item"]
    form, fields = f"/item/{item}/publish", {"title": "Sortie", "kind": "lesson"}
    async with portal(desk.agent) as adult:
        page = await adult.page(form)
        assert ">À &lt;lundi&gt;</textarea>" in page
        assert 'name="had_text" value="yes"' in page
        kept = {**fields, "had_text": "yes", "text": "À <lundi>"}
        await adult.send(form, form, kept, [("b.pdf", b"%PDF")])
        assert await paths(desk, item) == ["b.pdf", "mot.txt"], "new files leave the text where it was"
        await adult.send(form, form, {**kept, "text": ""}, [])
        assert await paths(desk, item) == ["b.pdf"]
        assert "had_text" not in await adult.page(form)


async def test_a_long_text_begins_on_the_card_and_goes_on_on_its_page(room: Classroom, desk: Desk) -> None:
    text = "mot " * MAX_CARD_CHARS
    item = (await desk.publish(None, space=room.space.hex(), title="Long", kind="announcement", text=text))["item"]
    async with portal(desk.agent) as adult:
        card = (await adult.page("/")).partition('<p class="said">')[2].partition("</p>")[0]
        assert MAX_CARD_CHARS - 4 <= len(card) <= MAX_CARD_CHARS + 2
        assert card.endswith("mot …")
        assert text.strip() in await adult.page(f"/item/{item}")
