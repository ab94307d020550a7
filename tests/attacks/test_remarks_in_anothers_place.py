"""A copy of the server's key has somebody answer in the place of a teacher, by her name if need be (docs/adr/0360)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord, Revocation
from protocol.model.work import Feedback
from protocol.replica.console.operation import JSON
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device, work_of
from tests.harness.commands import Desk
from tests.harness.one_for_all import ONE_FOR_ALL
from tests.harness.portal import portal, words_in
from tests.harness.portfolios import remarks_in
from tests.harness.spied_class import SpiedClass, answered_class

PLACE = "somebody of a stolen key's answers in the place of a teacher"
NAME = "somebody of a stolen key's has a teacher's name"
HERS = "Très bien raconté !"
HIS = "Copié sur le voisin."


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    """A teacher has given a mark for a pupil's work."""
    async with answered_class(tmp_path, HERS, {"corrigé.txt": b"Voir page 12"}, kept_for=__name__) as made:
        yield made


def _mark(here: SpiedClass, text: str, mark: str = "18/20") -> dict[str, JSON]:
    return {"id": here.work.hex(), "text": text, "mark": mark, "redo": False}


async def answered(
    here: SpiedClass, name: str, said: Feedback, at_ms: int | None = None, person: bytes = bytes([7] * 16)
) -> bytes:
    """The copied key lists somebody, whose device says this with the mark in mind that was given; who it is."""
    territory, record = here.room.territory, PersonRecord(name, PersonRole.TEACHER)
    listed = compose(
        author=territory.keys.signing, space=here.room.space, kind=Kind.PERSON, grant=territory.certificate.id,
        at=(at_ms or territory.clock()) << 16, payload=record.encode(), salt=bytes(SALT_BYTES), subject=person,
    )  # fmt: skip
    assert (await territory.replica.admit([listed], source=b"the copy", now_ms=territory.clock())).admitted
    await here.name_the_spy(person)
    hers = tuple(note.id for note in (await work_of(here.teacher, here.room, here.work)).remarks)
    await here.say(Kind.FEEDBACK, said.encode(), here.room.pupil_person, target=here.work, parents=hers)
    for _ in range(3):
        await here.sync()
    return person


async def _pupils_page(here: SpiedClass) -> str:
    async with portal(here.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": here.room.pupil_person.hex(), "back": "/"})
        page = await surfer.page(f"/work/{here.work.hex()}")
    return words_in(page)


async def _correction(desk: Desk, here: SpiedClass) -> dict[str, str]:
    """What a family would be given with the pupil's work, by whose word it is."""
    return remarks_in(await desk.files("portfolio", space=here.room.space.hex()))


@pytest.mark.parametrize("his", [Feedback(HIS, "0/20", False, None), Feedback("", None, False, None)])
@attack(PLACE, off=ONE_FOR_ALL)
async def test_what_she_said_stays_on_the_pupils_page_and_in_the_portfolio_whatever_others_say(
    here: SpiedClass, his: Feedback
) -> None:
    await answered(here, "M. X", his)
    page = await _pupils_page(here)
    assert f"Ce que dit Mme Petit 18/20 {HERS}" in page
    desk = Desk(here.teacher.agent)
    said = await _correction(desk, here)
    assert said["Mme Petit"] == f"18/20\n{HERS}\n"
    assert ("M. X" in said) is ("M. X" in page) is not his.says_nothing
    told = "in it: what “M. X”, whom no computer of yours has confirmed, says of 1 hand-in"
    assert desk.told[1:] == ([] if his.says_nothing else [told])
    archive = await desk.files("export-person", person=here.room.pupil_person.hex())
    assert {HERS, his.text} - {""} <= set(re.findall(r"<blockquote>(.*?)</blockquote>", archive["index.html"].decode()))
    assert b"Voir page 12" in archive.values()
    (row,) = await desk.ask("hand-ins")
    assert row["remarks"][-1 if his.text else 0]["by"] == "Mme Petit"
    assert row["feedback"]["text"] == (his.text or HERS)
    assert (await Desk(here.machine.agent).files("checkout", item=here.work.hex())) == {"corrigé.txt": b"Voir page 12"}


async def _the_newest(_shelf: object, said: Sequence[object]) -> Sequence[object]:
    return said[:3]


@attack(PLACE, off={"sync_agent.portal.everybody.remarks._known_first": _the_newest})
async def test_however_many_teachers_are_listed_the_pupils_page_has_what_she_said(
    here: SpiedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.portal.everybody.remarks.MAX_SHOWN_REMARKS", 3)
    for number in range(5):
        said = Feedback(HIS, f"{number}/20", False, None)
        await answered(here, f"M. {number}", said, person=bytes([number + 1] * 16))
    page = await _pupils_page(here)
    assert page.count("Ce que dit M. ") == 2
    assert f"Ce que dit Mme Petit 18/20 {HERS}" in page
    assert "et 3 autres corrections" in page


@attack(PLACE, off=ONE_FOR_ALL)
async def test_her_form_holds_her_own_words_and_others_beside_it_and_none_that_she_would_sign_unread(
    here: SpiedClass,
) -> None:
    await answered(here, "M. X", Feedback(HIS, "0/20", False, None))
    async with portal(here.teacher.agent) as surfer:
        page = await surfer.page(f"/work/{here.work.hex()}")
    assert re.search(r'<textarea id="text"[^>]*>([^<]*)<', page)[1] == HERS  # type: ignore[index]
    assert "Ce que dit M. X" in page.replace("Correction de", "Ce que dit")
    assert "reste à côté de votre correction" in page


@attack(PLACE, off=ONE_FOR_ALL)
async def test_what_she_says_next_takes_the_place_of_her_own_words_and_is_the_newest(here: SpiedClass) -> None:
    await answered(here, "M. X", Feedback(HIS, "0/20", False, None))
    desk = Desk(here.teacher.agent)
    await desk.ask("feedback", **_mark(here, "Et bien écrit."))
    assert desk.told == [
        f"this takes the place of what Mme Petit had said: “{HERS}” (mark 18/20, 1 file)",
        f"this stands beside what M. X had said: “{HIS}” (mark 0/20)",
    ]
    for _ in range(2):
        await here.sync()
    notes = (await work_of(here.machine, here.room, here.work)).remarks
    assert [note.record.text for note in notes] == ["Et bien écrit.", HIS]
    with pytest.raises(BadInput, match="say nothing else"):
        await desk.ask("feedback", **_mark(here, HIS), take_back=True)


async def _second_laptop(here: SpiedClass) -> Device:
    """Hers, and confirmed."""
    second = await here.room.device(Role.TEACHER, person=here.room.teacher_person)
    await here.sync(second, here.teacher)
    await Desk(here.teacher.agent).ask("key-confirm", reader=device_id(own_device(second.agent)).hex(), shown_as="own")
    await here.sync(here.teacher, second, here.machine)
    return second


async def _nothing_is_hidden(*_: object) -> list[object]:
    return []


@attack(PLACE, off={"sync_agent.hand_ins.year_end._hidden": _nothing_is_hidden})
async def test_a_remark_that_is_hidden_is_asked_about_though_others_are_shown_of_the_same_work(
    here: SpiedClass,
) -> None:
    second = await _second_laptop(here)
    await Desk(second.agent).ask("feedback", **_mark(here, "Et bien écrit.", "19/20"))
    await here.sync(second, here.teacher)
    await answered(here, "M. X", Feedback(HIS, "0/20", False, None))
    cut = Revocation(second.agent.device, ()).encode()
    await here.room.territory.say(here.room.space, Kind.REVOKE, cut)
    await here.sync(here.teacher, here.teacher)
    desk = Desk(here.teacher.agent)
    with pytest.raises(BadInput, match="nothing has been written yet: 1 hand-in"):
        await _correction(desk, here)
    files = await desk.files("portfolio", space=here.room.space.hex(), hidden_too=True)
    assert "19/20\nEt bien écrit.\n" in remarks_in(files).values()


# --- by her name ------------------------------------------------------------------------------------------------------


async def _lists(here: SpiedClass, person: bytes, name: str, same_as: bytes | None = None) -> None:
    """By the copied key, in the place of all that the list said of them."""
    territory, space = here.room.territory, here.room.space
    before = [one for one in await territory.replica.store.scan_kinds([Kind.PERSON]) if one.header.subject == person]
    record = PersonRecord(name, PersonRole.TEACHER, left=same_as is not None, same_as=same_as)
    parents = tuple(one.id for one in before)
    await territory.say(space, Kind.PERSON, record.encode(), subject=person, parents=parents)


async def _nobody_came_before(_replica: object, _roster: object, names: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    return {name: [] for name in names}


@pytest.mark.parametrize(
    "how",
    [
        "beside her",
        "dated before her",
        "in her place",
        "as the same",
        "she as the same as he",
        "spelt alike",
        "with a number",
        "with a file's",
    ],
)
@attack(NAME, off={"protocol.replica.office.whose_words.namesakes_before": _nobody_came_before})
async def test_who_comes_to_a_teachers_name_after_her_bears_it_with_a_number_wherever_his_words_stand(
    here: SpiedClass, how: str
) -> None:
    names = {"spelt alike": "PETIT, Mme", "with a number": "Mme Petit (1)", "with a file's": "Mme Petit [2]"}
    name, petit = names.get(how, "Mme Petit"), here.room.teacher_person
    at_ms = 1 if how == "dated before her" else None
    his = await answered(here, name, Feedback(HIS, "0/20", False, None), at_ms)
    match how:
        case "in her place":
            await _lists(here, petit, "M. X")
        case "as the same":
            await _lists(here, his, name, same_as=petit)
        case "she as the same as he":
            await _lists(here, petit, name, same_as=his)
        case _:
            pass
    shown = (await here.machine.agent.replica.view(here.room.space)).coursework.items[here.item].shown
    later = replace(shown.record, title="Pas d'école demain").encode()
    await here.say(Kind.REVISION, later, None, target=here.item, parents=(here.item,))
    for _ in range(3):
        await here.sync()
    desk, hers = Desk(here.teacher.agent), "M. X" if how == "in her place" else "Mme Petit"
    said = await _correction(desk, here)
    assert said == {f"{name} (2)": f"0/20\n{HIS}\n", hers: f"18/20\n{HERS}\n"}
    page = await _pupils_page(here)
    assert f"Ce que dit {name} (2) 0/20" in page
    assert f"Ce que dit {hers} 18/20" in page
    (row,) = await desk.ask("hand-ins")
    assert {note["by"]: note["mark"] for note in row["remarks"]} == {f"{name} (2)": "0/20", hers: "18/20"}
    newest, *_ = await desk.ask("versions", item=here.item.hex())
    assert newest["by"] == f"{name} (2)"
    for device in (here.machine, here.teacher):
        async with portal(device.agent) as surfer:
            shown_page = words_in(await surfer.page(f"/item/{here.item.hex()}"))
        assert f"Publié par {name} (2)" in shown_page


@pytest.mark.parametrize("name", ["Mme Pe\u200btit", "Mme Pe\ufe0ftit", "M\u034fme Petit", "Mme\u3164 Peti\u115ft"])
@attack(NAME, off={"protocol.fields.name_shown": str})
async def test_nor_does_what_no_screen_shows_make_it_another_name(here: SpiedClass, name: str) -> None:
    await answered(here, name, Feedback(HIS, "0/20", False, None))
    assert (await _correction(Desk(here.teacher.agent), here)).get("Mme Petit (2)") == f"0/20\n{HIS}\n"
    assert "Ce que dit Mme Petit (2) 0/20" in await _pupils_page(here)


@attack(NAME, off={"protocol.fields.name_shown": str})
async def test_nor_is_a_name_shown_from_behind(here: SpiedClass) -> None:
    await answered(here, "\u202etiteP emM", Feedback(HIS, "0/20", False, None))
    assert "Ce que dit titeP emM 0/20" in await _pupils_page(here)
