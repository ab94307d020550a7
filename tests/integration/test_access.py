"""What a family gets to read: all that is held about a child, opened as far as the caller's keys go."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure, Refused
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.replica.access.archive import ZipOutlet
from protocol.replica.access.export import export_person
from protocol.replica.catalogues import DEFAULT_LANGUAGE
from protocol.roles import PersonRole
from sync_server.web.wording import Words
from tests.harness.classroom import Classroom, Device, Given
from tests.harness.commands import Desk, Received

WORK = {"dessin <1>.txt".replace("<1>", "1"): b"mon dessin", "texte.txt": b"il faisait beau"}


async def a_year(room: Classroom) -> tuple[Device, Device]:
    """Léa has handed in and got feedback with a file; Tom has handed in too."""
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    teacher, pc = await room.teacher(), await room.machine()
    for device in (teacher, pc):
        await device.session.sync()
    desk = Desk(teacher.agent)
    item = await desk.publish({"a.txt": b"a"}, space=room.space.hex(), title="Conte <b>1</b>", kind="assignment")
    for device in (teacher, pc):
        await device.session.sync()
    work = await Desk(pc.agent).hand_in(item["item"], room.pupil_person.hex(), WORK)
    await Desk(pc.agent).hand_in(item["item"], tom.hex(), {"a.txt": b"le travail de Tom"})
    for device in (pc, teacher):
        await device.session.sync()
    await desk.ask("feedback", Given({"corrige.txt": b"tres bien"}), id=work, text="Bravo <Léa>", mark="A", redo=False)
    await teacher.session.sync()
    return teacher, pc


async def exported(room: Classroom, *keys: AgreementKey) -> tuple[dict[str, bytes], dict[str, int]]:
    """What the server sends."""
    got, territory = Received(), room.territory

    async def opening(work: Work) -> bytes | None:
        return content_key_of(work, {key.public: key for key in keys})

    counted = await export_person(
        territory.replica,
        territory.holdings,
        room.pupil_person,
        opening,
        got,
        say=Words(DEFAULT_LANGUAGE, 0),
        territory_name="Cher",
        now_ms=territory.clock(),
    )
    return got.files, counted  # type: ignore[return-value]


async def test_a_teachers_device_writes_all_of_a_child_and_nothing_of_another(room: Classroom) -> None:
    teacher, _ = await a_year(room)
    desk = Desk(teacher.agent)
    files = await desk.files("export-person", person=room.pupil_person.hex())
    assert {path.rpartition("/")[2]: data for path, data in files.items() if path.startswith("travaux/")} == WORK
    (note,) = [data for path, data in files.items() if path.startswith("corrections/")]
    assert note == b"tres bien"
    page = files["index.html"].decode()
    for words in (
        "Ce que Relais garde sur Léa",
        "Conte &lt;b&gt;1&lt;/b&gt;",
        "Bravo &lt;Léa&gt;",
        "texte.txt",
        "de Mme Petit",
    ):
        assert words in page
    assert "Tom" not in page
    data = json.loads(files["donnees.json"])
    kinds = {entry["kind"] for entry in data["entries"]}
    assert {"person", "hand-in", "wrap", "receipt-server", "feedback"} <= kinds
    assert all(name["name"] == "Léa" for name in data["names"])
    assert "Tom" not in files["donnees.json"].decode()


async def test_the_server_leaves_work_sealed_unless_the_kit_opens_it(room: Classroom) -> None:
    await a_year(room)
    files, counted = await exported(room)
    assert (counted["hand_ins"], counted["opened"]) == (1, 0)
    assert not any(path.startswith("travaux/") for path in files)
    assert "Scellé" in files["index.html"].decode()
    files, counted = await exported(room, room.territory.keys.recovery)
    assert counted["opened"] == 1
    assert {path.rpartition("/")[2]: data for path, data in files.items() if path.startswith("travaux/")} == WORK


async def test_a_shared_machine_writes_nobodys_and_nobody_writes_a_strangers(room: Classroom) -> None:
    teacher, pc = await a_year(room)
    with pytest.raises(Refused) as refused:
        await Desk(pc.agent).files("export-person", person=room.pupil_person.hex())
    assert refused.value.code is Code.NO_RIGHT
    with pytest.raises(BadInput) as unknown:
        await Desk(teacher.agent).files("export-person", person="ab" * 16)
    assert unknown.value.code is Code.UNKNOWN_PERSON


async def cut_off(place: Path) -> None:
    with ZipOutlet(place) as archive:
        await archive.start("a.txt", 1)
        await archive.data(b"a")
        raise RuntimeError


async def test_an_archive_appears_whole_or_not_at_all_and_replaces_nothing(tmp_path: Path) -> None:
    place = tmp_path / "lea.zip"
    with pytest.raises(RuntimeError):
        await cut_off(place)
    assert os.listdir(tmp_path) == []  # noqa: PTH208  (no blocking pathlib in a coroutine)
    with ZipOutlet(place) as archive:
        await archive.start("travaux/a.txt", 1)
        await archive.data(b"a")
        await archive.end()
        archive.keep()
    with zipfile.ZipFile(place) as found:
        assert found.read("travaux/a.txt") == b"a"
    assert os.stat(place).st_mode & 0o077 == 0  # noqa: PTH116
    for taken in (place, tmp_path / "missing" / "lea.zip"):
        with pytest.raises(BadInput):
            ZipOutlet(taken)


async def filled(place: Path, size: int) -> None:
    with ZipOutlet(place) as archive:
        await archive.start("a.bin", size)
        await archive.data(os.urandom(size))
        await archive.end()
        archive.keep()


@pytest.mark.skipif(os.name != "posix", reason="a bound for files as POSIX knows it")
@pytest.mark.parametrize("size", [300, 30_000])
async def test_an_archive_for_which_there_is_no_room_is_told_by_its_name_and_leaves_nothing(
    tmp_path: Path, size: int
) -> None:
    import resource  # noqa: PLC0415  (not on every platform)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(LocalFailure, match=r"lea\.zip") as raised:
            await filled(tmp_path / "lea.zip", size)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.code is Code.DISK_FULL
    assert os.listdir(tmp_path) == []  # noqa: PTH208  (no blocking pathlib in a coroutine)
