"""Publishing, reading, withdrawing, settling: commands of a teacher's device, and what others then see."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, LocalFailure, RelaisError
from protocol.limits import MAX_CHUNK_BYTES, MAX_PARENTS, MiB
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import JSON, FileData, FileEnd, FileStart
from protocol.roles import Role
from tests.harness.classroom import Classroom, Device, Files
from tests.harness.commands import Desk, Events, changed_once

LESSON: Files = {
    "images/carte du Cher.png": Random(7).randbytes(3 * MAX_CHUNK_BYTES),
    "index.html": b"<h1>Le cycle de l'eau</h1>" * 100,
    "vide.txt": b"",
    "élève/été.txt": "été".encode(),
}


@pytest.fixture
async def teacher(room: Classroom) -> Device:
    return await room.teacher()


@pytest.fixture
def desk(teacher: Device) -> Desk:
    return Desk(teacher.agent)


@pytest.fixture
def space(room: Classroom) -> str:
    return room.space.hex()


async def refused(desk: Desk, name: str, **params: JSON) -> RelaisError:
    """The error of a command that must fail and change nothing."""
    before = await fingerprint(desk)
    with pytest.raises(RelaisError) as caught:
        await desk.ask(name, **params)
    assert await fingerprint(desk) == before
    return caught.value


async def holdings(desk: Desk) -> tuple[object, ...]:
    """All that a command could have left behind, but for the free room on a disk that others use as well."""
    status = await desk.ask("status")
    return status["spaces"], status["backlog"], status["disk"]["packs"]


async def fingerprint(desk: Desk) -> list[str]:
    return [row["fingerprint"] for row in (await desk.ask("status"))["spaces"]]


# --- publishing -------------------------------------------------------------------------------------------------------


async def test_what_is_published_is_listed_whole_and_read_back_byte_for_byte(desk: Desk, space: str) -> None:
    published = await desk.publish(LESSON, space=space, title="Le cycle de l'eau", subject="Sciences", due_ms=10**12)
    row = await desk.item(published["item"])
    assert row == {
        "item": published["item"],
        "space": space,
        "kind": "lesson",
        "title": "Le cycle de l'eau",
        "subject": "Sciences",
        "due": "2001-09-09T01:46:40.000Z",
        "revision": published["revision"],
        "author": row["author"],
        "at": row["at"],
        "complete": True,
        "withdrawn": False,
        "clock_doubtful": False,
        "conflict": False,
        "heads": [published["revision"]],
        "versions": 1,
        "files": [{"path": path, "size": len(LESSON[path])} for path in sorted(LESSON, key=str.encode)],
    }
    assert await desk.files("checkout", item=published["item"]) == LESSON
    for path, data in LESSON.items():
        assert await desk.files("cat", item=published["item"], path=path) == {path: data}


async def test_the_author_is_the_teacher_and_not_the_laptop(desk: Desk, room: Classroom, space: str) -> None:
    published = await desk.publish(LESSON, space=space, title="Eau")
    assert (await desk.item(published["item"]))["author"] == room.teacher_person.hex()


async def test_an_administrator_without_a_person_is_shown_as_the_device(room: Classroom, space: str) -> None:
    admin = Desk((await room.device(Role.ADMIN)).agent)
    published = await admin.publish(LESSON, space=space, title="Eau")
    assert (await admin.item(published["item"]))["author"] == admin.agent.device.hex()


async def test_a_new_version_keeps_what_is_not_given(desk: Desk, space: str) -> None:
    first = await desk.publish(LESSON, space=space, title="Eau", subject="Sciences", due_ms=5, kind="assignment")
    second = await desk.publish({"seul.txt": b"autre"}, item=first["item"])
    row = await desk.item(first["item"])
    assert second["item"] == first["item"]
    assert (row["title"], row["subject"], row["kind"], row["due"]) == (
        "Eau",
        "Sciences",
        "assignment",
        "1970-01-01T00:00:00.005Z",
    )
    assert (row["revision"], row["heads"], row["conflict"]) == (second["revision"], [second["revision"]], False)
    assert await desk.files("checkout", item=first["item"]) == {"seul.txt": b"autre"}
    assert await desk.files("checkout", item=first["item"], revision=first["revision"]) == LESSON


async def test_earlier_versions_are_listed_with_time_and_by_whom_and_each_is_brought_back(
    room: Classroom, teacher: Device, desk: Desk, space: str
) -> None:
    await teacher.session.sync()
    first = await desk.publish(LESSON, space=space, title="Eau")
    item = first["item"]
    room.territory.clock.advance(60_000)
    second = await desk.publish({"seul.txt": b"autre"}, item=item, title="L'eau")
    assert (await desk.item(item))["versions"] == 2
    newer, older = await desk.ask("versions", item=item[:8])
    assert [(row["revision"], row["title"], row["shown"]) for row in (newer, older)] == [
        (second["revision"], "L'eau", True),
        (first["revision"], "Eau", False),
    ]
    assert (older["by"], older["author"]) == ("Mme Petit", room.teacher_person.hex())
    assert (older["files"], older["bytes"]) == (len(LESSON), sum(map(len, LESSON.values())))
    assert older["at"] < newer["at"]
    await desk.ask("restore", item=item, revision=older["revision"][:12])
    assert await desk.files("checkout", item=item) == LESSON
    assert [row["shown"] for row in await desk.ask("versions", item=item)] == [True, False, False]
    assert (await refused(desk, "versions", item="ab" * 32)).code is Code.UNKNOWN_ITEM


async def test_words_alone_can_be_changed_or_taken_away(desk: Desk, space: str) -> None:
    first = await desk.publish(LESSON, space=space, title="Eau", subject="Sciences", due_ms=5)
    await desk.publish(None, item=first["item"], title="L'eau", subject=None, due_ms=None)
    row = await desk.item(first["item"])
    assert (row["title"], row["subject"], row["due"]) == ("L'eau", None, None)
    assert await desk.files("checkout", item=first["item"]) == LESSON


async def test_who_publishes_a_title_again_as_a_new_item_is_told_how_to_make_a_new_version(
    desk: Desk, space: str
) -> None:
    first = (await desk.publish(LESSON, space=space, title="Le cycle de l'eau"))["item"]
    assert desk.told == []
    second = (await desk.publish(LESSON, space=space, title="le  cycle de l'Eau"))["item"]
    (told,) = desk.told
    assert "there is a lesson “Le cycle de l'eau” here already" in told
    assert f"`publish … --item {first[:12]}`" in told
    assert f"`withdraw {second[:12]}`" in told
    await desk.publish(LESSON, space=space, title="Le cycle de l'eau", kind="assignment")
    assert desk.told == []
    await desk.publish({"a.txt": b"a"}, item=first)
    assert desk.told == []
    for item in (first, second):
        await desk.ask("withdraw", item=item)
    await desk.publish(LESSON, space=space, title="Le cycle de l'eau")
    assert desk.told == []


async def test_who_gives_a_date_that_is_past_or_that_of_a_lesson_is_told_so(desk: Desk, space: str) -> None:
    tomorrow_ms = desk.agent.now_ms() + DAY_MS
    item = (await desk.publish(LESSON, space=space, title="Raconte", kind="assignment", due_ms=5))["item"]
    (told,) = desk.told
    assert "that date is past" in told
    assert f"`publish --item {item[:12]} --due DATE`" in told
    await desk.publish(None, item=item, title="Racontez")
    assert desk.told == [], "nobody has given it now"
    await desk.publish(None, item=item, due_ms=tomorrow_ms)
    assert desk.told == []
    lesson = (await desk.publish(LESSON, space=space, title="Eau", due_ms=tomorrow_ms))["item"]
    (told,) = desk.told
    assert "nothing is handed in for this lesson" in told
    assert f"`publish --item {lesson[:12]} --kind assignment`" in told
    await desk.publish(None, item=lesson, kind="assignment")
    assert (await desk.item(lesson))["due"] is not None


async def test_the_same_files_and_words_again_are_the_same_revision(desk: Desk, space: str) -> None:
    first = await desk.publish(LESSON, space=space, title="Eau")
    before = await fingerprint(desk)
    assert await desk.publish(LESSON, item=first["item"], title="Eau") == first
    assert await fingerprint(desk) == before
    assert (await desk.publish(LESSON, space=space, title="Eau"))["item"] != first["item"]


async def test_bytes_that_the_class_has_already_are_not_stored_again(desk: Desk, space: str) -> None:
    await desk.publish(LESSON, space=space, title="Eau")
    size = (await desk.ask("status"))["disk"]["content"]
    await desk.publish({**LESSON, "plus.txt": b"une ligne"}, space=space, title="Eau, suite")
    assert (await desk.ask("status"))["disk"]["content"] - size < 2_000


async def test_a_file_that_changes_once_while_it_is_read_is_published_as_it_became(desk: Desk, space: str) -> None:
    half = {"grand.bin": Random(1).randbytes(200_000)}
    published = await desk.ask("publish", changed_once(half, LESSON), space=space, title="Eau")
    assert await desk.files("checkout", item=published["item"]) == LESSON


async def test_a_publication_whose_caller_goes_away_leaves_nothing_to_see(desk: Desk, space: str) -> None:
    before = await holdings(desk)
    files = [
        event
        for number in range(5)
        for event in (FileStart(f"{number}", MiB), FileData(Random(number).randbytes(MiB)), FileEnd())
    ]
    gone = LocalFailure(Code.CHANGING_FILE, "a file never stops changing")
    for cut, code in ((Events(*files), Code.INTERRUPTED), (Events(*files, failure=gone), Code.CHANGING_FILE)):
        with pytest.raises(LocalFailure) as caught:
            await desk.ask("publish", cut, space=space, title="Eau")
        assert caught.value.code is code
        assert not list((desk.agent.folder / "parts").iterdir())
    assert await desk.ask("items") == []
    assert await holdings(desk) == before


async def test_every_local_write_wakes_whoever_waits_for_changes(desk: Desk, space: str) -> None:
    woken: list[bool] = []
    desk.agent.on_change = lambda: woken.append(True)
    item = (await desk.publish(LESSON, space=space, title="Eau"))["item"]
    await desk.ask("withdraw", item=item)
    assert len(woken) == 2


async def test_a_title_with_line_breaks_is_kept_on_one_line(desk: Desk, space: str) -> None:
    wish = {"space": space, "title": "Le cycle\r\nde l'eau\n", "subject": "Sciences\tde la vie"}
    item = (await desk.publish(LESSON, **wish))["item"]
    (row,) = await desk.ask("items")
    assert (row["title"], row["subject"]) == ("Le cycle de l'eau", "Sciences de la vie")
    kept = (await desk.agent.replica.store.get([bytes.fromhex(item)]))[bytes.fromhex(item)]
    assert b"Le cycle de l'eau" in (kept.payload or b"")


@pytest.mark.parametrize("title", ["", "   ", "\n\t", "x" * 201, "\udcff"])
async def test_a_title_that_nobody_could_read_is_refused(desk: Desk, space: str, title: str) -> None:
    assert (await refused(desk, "publish", space=space, title=title)).code is Code.BAD_NAME


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"title": "Eau", "space": "ab" * 32}, Code.UNKNOWN_SPACE),
        ({"title": "Eau", "space": "nowhere"}, Code.UNKNOWN_SPACE),
        ({"title": "Eau"}, Code.USAGE),
        ({"item": "ab" * 32}, Code.UNKNOWN_ITEM),
        ({"item": "nothing"}, Code.UNKNOWN_ITEM),
    ],
)
async def test_a_place_that_does_not_exist_is_named(desk: Desk, params: dict[str, str], code: Code) -> None:
    error = await refused(desk, "publish", **params)
    assert (error.code, error.exit_status) == (code, 2)


async def test_other_wrong_wishes_are_refused_before_a_file_is_read(desk: Desk, space: str) -> None:
    assert (await refused(desk, "publish", space=space)).code is Code.USAGE
    assert (await refused(desk, "publish", space=space, title="Eau", kind="poem")).code is Code.USAGE
    assert (await refused(desk, "publish", space=space, title="Eau")).code is Code.NOTHING_TO_SEND
    assert (await refused(desk, "publish", space=space, title="Eau", subject="s" * 201)).code is Code.BAD_NAME


async def test_an_item_is_not_moved_to_another_space(room: Classroom, desk: Desk, space: str) -> None:
    item = (await desk.publish(LESSON, space=space, title="Eau"))["item"]
    error = await refused(desk, "publish", item=item, space=room.territory.id.hex())
    assert error.code is Code.UNKNOWN_ITEM


@pytest.mark.parametrize("role", [Role.MACHINE, Role.RELAY])
async def test_a_machine_that_publishes_is_refused_and_nothing_is_kept(room: Classroom, space: str, role: Role) -> None:
    machine = Desk((await room.device(role)).agent)
    before = await holdings(machine)
    with pytest.raises(RelaisError) as caught:
        await machine.publish(LESSON, space=space, title="Eau")
    assert (caught.value.code, caught.value.exit_status) == (Code.NO_RIGHT, 5)
    assert await holdings(machine) == before


async def test_names_that_no_system_keeps_are_refused_whoever_sends_them(desk: Desk, space: str) -> None:
    with pytest.raises(BadInput) as caught:
        await desk.publish({"a.txt": b"1", "con.txt": b"2"}, space=space, title="Eau")
    assert caught.value.code is Code.BAD_NAME
    assert "con.txt" in caught.value.message


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_a_path_may_be_spelled_as_the_system_spells_it(desk: Desk, space: str) -> None:
    item = (await desk.publish(LESSON, space=space, title="Eau"))["item"]
    decomposed = "e\u0301le\u0300ve\\e\u0301te\u0301.txt"
    assert await desk.files("cat", item=item, path=decomposed) == {"élève/été.txt": "été".encode()}


async def test_what_is_not_there_is_said_to_be_unknown(desk: Desk, space: str) -> None:
    item = (await desk.publish(LESSON, space=space, title="Eau"))["item"]
    assert (await refused(desk, "cat", item=item, path="images")).code is Code.UNKNOWN_PATH
    assert (await refused(desk, "cat", item="ab" * 32, path="index.html")).code is Code.UNKNOWN_ITEM
    assert (await refused(desk, "checkout", item=item, revision="ab" * 32)).code is Code.UNKNOWN_REVISION
    assert (await refused(desk, "checkout", item=item, revision="old")).code is Code.UNKNOWN_REVISION
    assert (await refused(desk, "people", space="ab" * 32)).code is Code.UNKNOWN_SPACE


async def test_the_version_before_is_read_until_the_new_one_is_here_as_a_whole(
    room: Classroom, teacher: Device, desk: Desk, space: str
) -> None:
    pupils = Desk((await room.machine()).agent)
    first = await desk.publish(LESSON, space=space, title="Eau")
    for device in (teacher, room.devices[1]):
        await device.session.sync()
    second = await desk.publish({"index.html": b"nouveau"}, item=first["item"])
    entries = await desk.agent.replica.store.get([bytes.fromhex(second["revision"])])
    await pupils.agent.replica.admit(list(entries.values()), source=b"x", now_ms=room.territory.clock())

    row = await pupils.item(first["item"])
    assert (row["revision"], row["complete"], row["files"]) == (second["revision"], False, [])
    assert await pupils.files("checkout", item=first["item"]) == LESSON
    assert len(pupils.told) == 1
    with pytest.raises(LocalFailure) as caught:
        await pupils.files("checkout", item=first["item"], revision=second["revision"])
    assert (caught.value.code, caught.value.exit_status) == (Code.INCOMPLETE, 1)

    await teacher.session.sync()
    await room.devices[1].session.sync()
    assert await pupils.files("checkout", item=first["item"]) == {"index.html": b"nouveau"}


async def test_an_item_of_which_nothing_has_arrived_is_listed_and_cannot_be_read(
    room: Classroom, desk: Desk, space: str
) -> None:
    machine = await room.machine()
    await machine.session.sync()
    pupils = Desk(machine.agent)
    first = await desk.publish(LESSON, space=space, title="Eau")
    entries = await desk.agent.replica.store.get([bytes.fromhex(first["item"])])
    await pupils.agent.replica.admit(list(entries.values()), source=b"x", now_ms=room.territory.clock())
    assert (await pupils.item(first["item"]))["files"] == []
    with pytest.raises(LocalFailure) as caught:
        await pupils.files("cat", item=first["item"], path="index.html")
    assert caught.value.code is Code.INCOMPLETE


async def test_the_class_list_is_read_in_the_order_of_names(room: Classroom, teacher: Device, desk: Desk) -> None:
    await teacher.session.sync()
    assert await desk.ask("people", space=room.space.hex()) == [
        {"person": room.pupil_person.hex(), "name": "Léa", "role": "pupil", "called": "Léa"},
        {"person": room.teacher_person.hex(), "name": "Mme Petit", "role": "teacher", "called": "Mme Petit"},
    ]


# --- withdrawing, settling --------------------------------------------------------------------------------------------


async def test_an_item_is_withdrawn_and_comes_back_and_again_changes_nothing(desk: Desk, space: str) -> None:
    item = (await desk.publish(LESSON, space=space, title="Eau"))["item"]
    for command, withdrawn in (("withdraw", True), ("restore", False), ("withdraw", True)):
        assert await desk.ask(command, item=item) == {"changed": True}
        assert (await desk.item(item))["withdrawn"] is withdrawn
        before = await fingerprint(desk)
        assert await desk.ask(command, item=item) == {"changed": False}
        assert await fingerprint(desk) == before
    await desk.publish(None, item=item, title="L'eau")
    assert desk.told
    assert (await desk.item(item))["withdrawn"] is True


async def test_a_pupils_machine_neither_withdraws_nor_settles(
    room: Classroom, teacher: Device, desk: Desk, space: str
) -> None:
    pupils = Desk((await room.machine()).agent)
    published = await desk.publish(LESSON, space=space, title="Eau")
    for device in (teacher, room.devices[1]):
        await device.session.sync()
    item = published["item"]
    assert (await refused(pupils, "withdraw", item=item)).exit_status == 5
    assert (await refused(pupils, "restore", item=item)).exit_status == 5
    assert (await refused(pupils, "settle", item=item, keep=published["revision"])).exit_status == 5


async def conflict(room: Classroom, desks: list[Desk], devices: list[Device]) -> str:
    """An item that every one of these desks has changed without knowing of the others; all know all of it now."""
    item = str((await desks[0].publish(LESSON, space=room.space.hex(), title="Eau"))["item"])
    for device in devices:
        await device.session.sync()
    for number, desk in enumerate(desks):
        await desk.publish({"index.html": b"%d" % number}, item=item, title=f"Eau {number}")
    for _ in range(2):
        for device in devices:
            await device.session.sync()
    return item


async def test_two_versions_are_kept_the_same_is_shown_everywhere_and_the_teacher_settles(room: Classroom) -> None:
    devices = [await room.teacher(), await room.teacher(), await room.machine()]
    desks = [Desk(device.agent) for device in devices]
    item = await conflict(room, desks[:2], devices)
    rows = [await desk.item(item) for desk in desks]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["conflict"] is True
    assert len(rows[0]["heads"]) == 2
    assert rows[0]["heads"][0] == rows[0]["revision"]

    other = rows[0]["heads"][1]
    kept = await desks[0].files("checkout", item=item, revision=other)
    await desks[0].ask("settle", item=item, keep=other)
    for device in devices:
        await device.session.sync()
    for desk in desks:
        row = await desk.item(item)
        assert (row["conflict"], len(row["heads"])) == (False, 1)
        assert await desk.files("checkout", item=item) == kept


async def test_who_has_changed_a_lesson_reads_that_until_what_is_shown_in_its_place_is_here(room: Classroom) -> None:
    hers, colleagues = await room.teacher(), await room.teacher()
    mine, theirs = Desk(hers.agent), Desk(colleagues.agent)
    item = str((await mine.publish(LESSON, space=room.space.hex(), title="Eau"))["item"])
    for device in (hers, colleagues):
        await device.session.sync()
    changed = (await mine.publish({"index.html": b"mine"}, item=item))["revision"]
    room.territory.clock.advance(1_000)
    shown = (await theirs.publish({"index.html": b"theirs"}, item=item))["revision"]
    said = [stored.entry for stored in await colleagues.agent.replica.store.scan(room.space)]
    await hers.agent.replica.admit(said, source=colleagues.agent.device, now_ms=room.territory.clock())
    row = await mine.item(item)
    assert (row["heads"], row["conflict"]) == ([shown, changed], True)
    assert (row["revision"], row["complete"]) == (shown, False)
    assert await mine.files("checkout", item=item) == {"index.html": b"mine"}


async def test_settling_keeps_only_what_is_there_to_choose_from(room: Classroom) -> None:
    devices = [await room.teacher(), await room.teacher()]
    desks = [Desk(device.agent) for device in devices]
    item = await conflict(room, desks, devices)
    assert (await refused(desks[0], "settle", item=item, keep=item)).code is Code.UNKNOWN_REVISION
    assert (await refused(desks[0], "settle", item=item, keep="ab" * 32)).code is Code.UNKNOWN_REVISION
    assert (await refused(desks[0], "settle", item="ab" * 32, keep=item)).code is Code.UNKNOWN_ITEM
    row = await desks[0].item(item)
    await desks[0].ask("settle", item=item, keep=row["revision"])
    settled = (await desks[0].item(item))["revision"]
    before = await fingerprint(desks[0])
    await desks[0].ask("settle", item=item, keep=settled)
    assert await fingerprint(desks[0]) == before


async def test_a_new_version_of_a_conflict_replaces_what_was_shown_and_hides_nothing(room: Classroom) -> None:
    devices = [await room.teacher(), await room.teacher()]
    desks = [Desk(device.agent) for device in devices]
    item = await conflict(room, desks, devices)
    shown, other = (await desks[0].item(item))["heads"]
    revised = await desks[0].publish({"index.html": b"encore"}, item=item, keep=shown)
    assert (await desks[0].item(item))["heads"] == [revised["revision"], other]


async def test_more_versions_than_a_revision_can_name_are_settled_all_the_same(desk: Desk, space: str) -> None:
    item = (await desk.publish(LESSON, space=space, title="Eau"))["item"]
    agent, first = desk.agent, bytes.fromhex(item)
    grant = (await agent.right(bytes.fromhex(space), Kind.REVISION)).grant
    record = (await agent.replica.view(bytes.fromhex(space))).coursework.items[first].shown.record
    for number in range(2 * MAX_PARENTS):
        payload = replace(record, title=f"Eau {number}").encode()
        draft = Draft(bytes.fromhex(space), Kind.REVISION, grant, payload, target=first, parents=(first,))
        await agent.write(draft, follows=False)
    heads = (await desk.item(item))["heads"]
    assert len(heads) == 2 * MAX_PARENTS
    await desk.ask("settle", item=item, keep=heads[9])
    row = await desk.item(item)
    assert (row["conflict"], len(row["heads"])) == (False, 1)
    kept = 2 * MAX_PARENTS - 1 - 9
    assert row["title"] == f"Eau {kept}"


async def test_the_beginning_of_an_id_is_enough_wherever_one_is_asked_for(room: Classroom, teacher: Device) -> None:
    await teacher.session.sync()
    desk = Desk(teacher.agent)
    space = room.space.hex()
    task = (await desk.publish({"a.txt": b"1"}, space=space[:8], title="Devoir", kind="assignment"))["item"]
    second = (await desk.publish({"a.txt": b"2"}, item=task[:8]))["revision"]
    assert await desk.files("cat", item=task[:10].upper(), path="a.txt") == {"a.txt": b"2"}
    assert await desk.files("checkout", item=task[:12], revision=second[:12]) == {"a.txt": b"2"}
    handed = await desk.hand_in(task[:9], room.pupil_person.hex()[:8], {"reponse.txt": b"3"})
    assert await desk.files("open-hand-in", id=handed[:8]) == {"reponse.txt": b"3"}
    for unknown, code in (("item", Code.UNKNOWN_ITEM), ("space", Code.UNKNOWN_SPACE)):
        with pytest.raises(BadInput) as raised:
            await desk.publish({"a.txt": b"1"}, **{"title": "x", unknown: "ffffffff"})
        assert raised.value.code is code
    with pytest.raises(BadInput, match="first eight digits"):
        await desk.publish({"a.txt": b"1"}, space="CM1-CM2", title="x")
