"""Work that was begun and not handed in: kept per pupil on this machine, sealed, and taken up again."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.folds.sign_in import Method
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord
from protocol.model.work import ItemKind
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import FileEvent
from protocol.replica.upkeep.orders import DestroyedHere
from protocol.roles import PersonRole
from sync_agent.hand_ins import drafts as module
from sync_agent.hand_ins.drafts import Drafts, Kept
from sync_agent.machine.enrolled import KEY_SLOTS_FILE
from sync_agent.machine.marks import DRAFT_MARKS
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.bad_disk import unreadable
from tests.harness.classroom import Given, classroom
from tests.harness.commands import Desk
from tests.harness.passing_days import pass_days
from tests.harness.portal import Surfer, portal
from tests.harness.sign_in import PICTURES, SignedClass, sign_in, signed_class

BEGUN = {"a.txt": b"", "recit.odt": b"Il etait une fois " * 9_000}


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[SignedClass]:
    async with classroom(tmp_path) as room:
        yield await signed_class(room)


async def assignment(school: SignedClass) -> bytes:
    item = (await school.room.publish(school.teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
    await school.agree()
    return item


def sizes(files: dict[str, bytes]) -> list[tuple[str, int]]:
    return [(path, len(data)) for path, data in sorted(files.items())]


def on_disk(school: SignedClass) -> list[str]:
    folder = school.pc.agent.folder / "drafts"
    return sorted(place.name for place in folder.iterdir()) if folder.exists() else []


async def test_what_is_begun_is_kept_for_its_pupil_and_handed_in_later(school: SignedClass) -> None:
    item = await assignment(school)
    page, action = f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in"
    files = list(BEGUN.items())
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        kept = await surfer.send(page, action, {"person": school.lea.hex(), "later": "yes"}, files)
        assert kept.status == 303
        assert "recit.odt" in await surfer.page(page)
        await surfer.send("/", "/sign-out", {})
        await sign_in(surfer, school.tom, "4711")
        assert "recit.odt" not in await surfer.page(page)
        tom, draft = {"person": school.tom.hex()}, {"draft": on_disk(school)[0]}
        assert (await surfer.send(page, action, {**tom, **draft}, [])).status == 400
    async with portal(school.pc.agent) as surfer:  # after a restart
        await sign_in(surfer, school.lea, PICTURES)
        sent = await surfer.send(page, action, {"person": school.lea.hex()}, [])
        assert sent.status == 303
        assert "Ton travail est gardé" in await surfer.page(sent.headers["Location"])
        assert "Gardé ici" not in await surfer.page(page)
    assert on_disk(school) == []
    for device in (school.pc, school.teacher):
        await device.session.sync()
    work = sent.headers["Location"].split("/")[2].partition("?")[0]
    assert await Desk(school.teacher.agent).files("open-hand-in", id=work) == BEGUN


async def test_what_is_chosen_besides_goes_with_what_was_begun_and_what_is_chosen_again_takes_its_place(
    school: SignedClass,
) -> None:
    item = await assignment(school)
    page, action, lea = f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in", school.lea.hex()
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        await surfer.send(page, action, {"person": lea, "later": "yes"}, [*BEGUN.items(), ("z.txt", b"z")])
        shown = await surfer.page(page)
        assert shown.count(">Rendre</button>") == 1, "there is one way to hand in, whatever was chosen"
        await surfer.send(page, action, {"person": lea, "later": "yes"}, [("Recit.odt", b"fini"), ("m.png", b"m")])
        sent = await surfer.send(page, action, {"person": lea}, [("b.txt", b"b"), ("m.png", b"mieux")])
        assert "Gardé ici" not in await surfer.page(page)
    await school.agree()
    work = sent.headers["Location"].split("/")[2].partition("?")[0]
    assert await Desk(school.teacher.agent).files("open-hand-in", id=work) == {
        "Recit.odt": b"fini",
        "a.txt": b"",
        "b.txt": b"b",
        "m.png": b"mieux",
        "z.txt": b"z",
    }


async def test_what_was_chosen_is_kept_when_what_was_begun_is_thrown_away(school: SignedClass) -> None:
    item = await assignment(school)
    page, action, lea = f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in", school.lea.hex()
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        await surfer.send(page, action, {"person": lea, "later": "yes"}, list(BEGUN.items()))
        await surfer.send(page, action, {"person": lea, "drop": "yes"}, [("dessin.png", b"d")])
        shown = await surfer.page(page)
        assert ("dessin.png" in shown, "recit.odt" in shown) == (True, False)
        old = {"person": lea, "draft": "00" * 16}  # a page from before something else was kept
        assert (await surfer.send(page, action, old, [])).status == 400
        assert (await surfer.send(page, action, {**old, "later": "yes"}, [("b.txt", b"b")])).status == 303
        assert "b.txt" in await surfer.page(page)
        assert "dessin.png" in await surfer.page(page)


async def added_twice(school: SignedClass, name: str) -> bytes:
    """Léa is on the list once more, signs in under that id, and is said to be that one."""
    space, territory = school.room.space, school.room.territory
    other = await territory.person(name, PersonRole.PUPIL, space)
    await school.agree()
    await school.book.set(space, {other: (Method.PIN, "0815")})
    await school.agree()
    return other


async def merge(school: SignedClass, into: bytes) -> None:
    space, territory = school.room.space, school.room.territory
    listed = [
        each.id for each in await territory.replica.store.scan_kinds([Kind.PERSON]) if each.header.subject == school.lea
    ]
    record = PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=into).encode()
    await territory.say(space, Kind.PERSON, record, subject=school.lea, parents=tuple(listed[-1:]))
    await school.agree()


async def test_who_was_added_twice_finds_what_was_begun_under_the_other_id_and_hands_it_in(
    school: SignedClass,
) -> None:
    item = await assignment(school)
    page, files = f"/item/{item.hex()}", list(BEGUN.items())
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        await surfer.send(page, f"{page}/hand-in", {"person": school.lea.hex(), "later": "yes"}, files)
    other = await added_twice(school, "LEA")
    await merge(school, other)
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, other, "0815")
        assert "recit.odt" in await surfer.page(page)
        sent = await surfer.send(page, f"{page}/hand-in", {"person": other.hex()}, [])
        assert "Ton travail est gardé" in await surfer.page(sent.headers["Location"])
        assert "Gardé ici" not in await surfer.page(page)
    assert on_disk(school) == []
    (work,) = (await school.pc.agent.replica.view(school.room.space)).coursework.hand_ins.values()
    assert work.person == other


async def test_who_was_added_twice_is_shown_what_was_handed_in_under_the_other_id(school: SignedClass) -> None:
    item = await assignment(school)
    work = await school.room.hand_in(school.pc, item, BEGUN)
    other = await added_twice(school, "LEA")
    await merge(school, other)
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, other, "0815")
        assert "recit.odt" in await surfer.page(f"/work/{work.hex()}")
        for page in ("/work", f"/item/{item.hex()}"):
            assert work.hex() in await surfer.page(page)


@asynccontextmanager
async def _begun_anew(
    school: SignedClass, mine: dict[str, bytes] | None = None
) -> AsyncIterator[tuple[Surfer, bytes, str]]:
    """Léa has begun something, and a list makes her one with another id, which has begun `mine`, and keeps more now."""
    item, drafts = await assignment(school), Drafts(school.pc.agent)
    await drafts.keep(school.lea, item, sizes(BEGUN), Given(BEGUN))
    other = await added_twice(school, "Léa")
    if mine is not None:
        await drafts.keep(other, item, sizes(mine), Given(mine))
    await merge(school, other)
    page = f"/item/{item.hex()}"
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, other, "0815")
        await surfer.send(page, f"{page}/hand-in", {"person": other.hex(), "later": "yes"}, [("b.txt", b"b")])
        yield surfer, other, page


async def test_what_is_begun_anew_under_the_one_id_goes_with_what_was_begun_under_the_other(
    school: SignedClass,
) -> None:
    async with _begun_anew(school) as (surfer, other, page):
        shown = await surfer.page(page)
        assert ("b.txt" in shown, "recit.odt" in shown) == (True, True)
        assert len(on_disk(school)) == 1
        await surfer.send(page, f"{page}/hand-in", {"person": other.hex(), "drop": "yes"}, [])
        assert "recit.odt" not in await surfer.page(page)
    assert on_disk(school) == []


async def test_what_was_begun_under_each_of_two_ids_is_all_there_once_a_list_says_that_they_are_one(
    school: SignedClass,
) -> None:
    async with _begun_anew(school, {"c.txt": b"c"}) as (surfer, other, page):
        shown = await surfer.page(page)
        assert ("b.txt" in shown, "c.txt" in shown) == (True, True)
        (draft,) = re.findall(r'name="draft" value="([0-9a-f]+)"', shown)
        await surfer.send(page, f"{page}/hand-in", {"person": other.hex(), "draft": draft}, [])
        assert "recit.odt" in await surfer.page(page)


async def test_drafts_are_kept_for_who_is_there_and_for_what_can_be_handed_in_and_take_no_other_place(
    school: SignedClass,
) -> None:
    item = await assignment(school)
    lesson = (await school.room.publish(school.teacher, {"b.html": b"<p>b"})).item
    await school.agree()
    page, files = f"/item/{item.hex()}", [("a.txt", b"a")]
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        lea, nobody = school.lea.hex(), "ab" * 16
        for wanted, person in ((item.hex(), nobody), (lesson.hex(), lea), ("cd" * 32, lea)):
            sent = await surfer.send(page, f"/item/{wanted}/hand-in", {"person": person, "later": "yes"}, files)
            assert sent.status in (400, 403, 404), (wanted, person)
    assert on_disk(school) == []


async def test_the_last_draft_takes_the_place_of_the_one_before_and_bytes_on_the_disk_are_sealed(
    school: SignedClass,
) -> None:
    item, drafts = await assignment(school), Drafts(school.pc.agent)
    for files in ({"brouillon.txt": b"premier"}, BEGUN):
        await drafts.keep(school.lea, item, sizes(files), Given(files))
    (name,) = on_disk(school)
    data = (school.pc.agent.folder / "drafts" / name).read_bytes()
    assert b"Il etait une fois" not in data
    assert await drafts.begun(school.lea) == {item}
    assert await drafts.begun(school.tom) == set()
    await drafts.drop(school.lea, item)
    assert on_disk(school) == []
    assert await drafts.find(school.lea, item) is None


async def test_a_draft_that_was_damaged_is_not_handed_in_and_too_much_is_not_kept(
    school: SignedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, drafts = await assignment(school), Drafts(school.pc.agent)
    await drafts.keep(school.lea, item, sizes(BEGUN), Given(BEGUN))
    place = school.pc.agent.folder / "drafts" / on_disk(school)[0]
    place.write_bytes(place.read_bytes()[:-9])
    kept = await drafts.find(school.lea, item)
    assert kept is not None
    with pytest.raises(LocalFailure) as damaged:
        [event async for event in drafts.incoming(kept)]
    assert damaged.value.code is Code.DAMAGED
    monkeypatch.setattr(module, "MAX_DRAFT_BYTES", 10)
    with pytest.raises(BadInput):
        await drafts.keep(school.tom, item, sizes(BEGUN), Given(BEGUN))
    monkeypatch.setattr(module, "MAX_DRAFTS", 1)
    with pytest.raises(LocalFailure):
        await drafts.keep(school.tom, item, [("a", 1)], Given({"a": b"a"}))
    with pytest.raises(BadInput):
        await drafts.keep(school.lea, item, [], Given({}))
    assert len(on_disk(school)) == 1


async def test_a_draft_whose_key_is_lost_is_told_as_such_and_keeps_nobody_from_handing_in(
    school: SignedClass,
) -> None:
    item = await assignment(school)
    page, action, lea = f"/item/{item.hex()}", f"/item/{item.hex()}/hand-in", {"person": school.lea.hex()}
    agent = school.pc.agent
    async with portal(agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        await surfer.send(page, action, {**lea, "later": "yes"}, list(BEGUN.items()))
        file = agent.folder / KEY_SLOTS_FILE
        with unreadable(file):
            shown = html.unescape(await surfer.page(page))
            assert "ne s'ouvre plus sur cet ordinateur. Préviens" in shown
            assert "recit.odt" not in shown, "what its files are called is under that key too"
            codes = [problem["code"] for problem in (await Desk(agent).ask("doctor"))["problems"]]
            assert codes == ["storage-failed", "damaged"]
            assert (await surfer.send(page, action, lea, [])).status == 400
            assert (await surfer.send(page, action, lea, [("encore.txt", b"encore")])).status == 303
        assert "ne s'ouvre plus" not in html.unescape(await surfer.page(page)), "what may be read again was not let go"
        file.unlink()
        assert (await surfer.send(page, action, {**lea, "drop": "yes"}, [])).status == 303
        assert "ne s'ouvre plus" not in html.unescape(await surfer.page(page))
    assert on_disk(school) == []


async def test_an_erased_pupils_draft_and_bytes_that_nobody_knows_go(school: SignedClass) -> None:
    item, drafts = await assignment(school), Drafts(school.pc.agent)
    for person in (school.lea, school.tom):
        await drafts.keep(person, item, [("a", 1)], Given({"a": b"a"}))
    (school.pc.agent.folder / "drafts" / "left-over").write_bytes(b"x")
    territory = school.room.territory
    await territory.say(territory.id, Kind.ERASE, Erasure(school.lea).encode())
    await school.pc.session.sync()
    await destroy_erased(school.pc.agent)
    assert len(await school.pc.agent.replica.store.marks(DRAFT_MARKS)) == 2  # so far it may be taken back
    await pass_days(territory, 8, school.pc)
    assert list(await school.pc.agent.replica.store.marks(DRAFT_MARKS)) == [
        f"{DRAFT_MARKS}{school.tom.hex()}/{item.hex()}"
    ]
    assert len(on_disk(school)) == 1


async def test_drafts_of_a_closed_class_go_with_it(school: SignedClass) -> None:
    item, drafts, territory = await assignment(school), Drafts(school.pc.agent), school.room.territory
    await drafts.keep(school.lea, item, [("a", 1)], Given({"a": b"a"}))
    above = territory.replica.door.parent(school.room.space)
    assert above is not None
    await territory.kit_says(above, Kind.ERASE, Erasure(school.room.space).encode())
    await school.pc.session.sync()
    await destroy_erased(school.pc.agent)
    assert await school.pc.agent.replica.store.marks(DRAFT_MARKS)
    await pass_days(territory, 8, school.pc)
    assert not await school.pc.agent.replica.store.marks(DRAFT_MARKS)
    assert not on_disk(school)


async def test_what_is_kept_while_bytes_are_swept_stays(school: SignedClass, monkeypatch: pytest.MonkeyPatch) -> None:
    item, drafts = await assignment(school), Drafts(school.pc.agent)

    async def meanwhile(replica: Replica) -> DestroyedHere:
        await drafts.keep(school.lea, item, sizes(BEGUN), Given(BEGUN))
        return DestroyedHere({}, {}, replica.door)

    monkeypatch.setattr("sync_agent.hand_ins.drafts.DestroyedHere.of", meanwhile)
    await drafts.sweep()
    kept = await drafts.find(school.lea, item)
    assert kept is not None
    assert on_disk(school) == [kept.name]


async def test_who_is_cut_off_once_the_draft_is_noted_loses_nothing(
    school: SignedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, drafts = await assignment(school), Drafts(school.pc.agent)
    store = school.pc.agent.replica.store
    set_marks = store.set_marks

    async def cut_off(marks: Mapping[str, bytes | None]) -> None:
        await set_marks(marks)
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(store, "set_marks", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await drafts.keep(school.lea, item, sizes(BEGUN), Given(BEGUN))
    await drafts.sweep()
    kept = await drafts.find(school.lea, item)
    assert kept is not None
    assert on_disk(school) == [kept.name]


async def test_what_is_kept_while_the_draft_before_it_is_handed_in_stays(
    school: SignedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, drafts = await assignment(school), Drafts(school.pc.agent)
    await drafts.keep(school.lea, item, sizes(BEGUN), Given(BEGUN))
    incoming = Drafts.incoming

    async def meanwhile(self: Drafts, kept: Kept) -> AsyncIterator[FileEvent]:
        events = [event async for event in incoming(self, kept)]
        await drafts.keep(school.lea, item, [("b.txt", 1)], Given({"b.txt": b"b"}))
        for event in events:
            yield event

    monkeypatch.setattr(Drafts, "incoming", meanwhile)
    page = f"/item/{item.hex()}"
    async with portal(school.pc.agent) as surfer:
        await sign_in(surfer, school.lea, PICTURES)
        assert (await surfer.send(page, f"{page}/hand-in", {"person": school.lea.hex()}, [])).status == 303
    left = await drafts.find(school.lea, item)
    assert left is not None
    assert await drafts.files_of(left) == (("b.txt", 1),)
    assert on_disk(school) == [left.name]
