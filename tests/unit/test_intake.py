from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure, RelaisError
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES
from protocol.replica.console.operation import (
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileFlow,
    FileStart,
    Incoming,
    Restart,
)
from sync_agent.console import intake
from sync_agent.console.intake import Intake, files_of, left_behind, sizes_of, survey

posix = pytest.mark.skipif(sys.platform == "win32", reason="made with POSIX calls")


def make(folder: Path, *paths: str) -> Path:
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.encode())
    return folder


def paths_of(folder: Path, *named: str) -> list[str]:
    return [source.path for source in survey(named, folder)]


async def events_of(incoming: Incoming) -> list[FileEvent]:
    flow = FileFlow()
    events = []
    async for event in incoming:
        flow.take(event)
        events.append(event)
    return events


def at_once(named: list[str], folder: Path) -> Intake:
    """The files, without a pause between two tries."""

    async def pause(pause_s: float) -> None:
        assert pause_s > 0

    return Intake(named, folder, survey(named, folder), pause=pause)


async def refused(folder: Path, *named: str) -> RelaisError:
    with pytest.raises(BadInput) as refusal:
        files_of(named, folder=folder)
    assert refusal.value.exit_status == 2
    return refusal.value


async def test_a_file_gives_its_base_name_and_its_bytes(tmp_path: Path) -> None:
    make(tmp_path, "lessons/volcan.txt")
    assert await events_of(files_of(["lessons/volcan.txt"], folder=tmp_path)) == [
        FileStart("volcan.txt", 18),
        FileData(b"lessons/volcan.txt"),
        FileEnd(),
        Complete(),
    ]


def test_a_folder_gives_paths_relative_to_it_without_its_own_name(tmp_path: Path) -> None:
    make(tmp_path, "cours/b.txt", "cours/a/z.txt", "cours/a.txt", "cours/.caché", "cours/.git/config", "other.txt")
    expected = [".caché", ".git/config", "a.txt", "a/z.txt", "b.txt"]
    assert paths_of(tmp_path, "cours") == expected
    assert paths_of(tmp_path, "cours/") == expected
    assert paths_of(tmp_path / "cours", ".") == expected
    assert paths_of(tmp_path / "cours" / "a", "..") == expected
    assert paths_of(Path("/"), str(tmp_path / "cours")) == expected


@pytest.mark.parametrize("named", [".", "dir", "dir/keys", "dir/keys/device", "link", "cours"])
def test_the_keys_of_this_device_never_leave_it_by_whatever_name_they_are_reached(tmp_path: Path, named: str) -> None:
    make(tmp_path, "dir/keys/device", "dir/publish/CM1/Eau/a.txt", "cours/a.txt")
    (tmp_path / "link").symlink_to("dir", target_is_directory=True)
    os.link(tmp_path / "dir" / "keys" / "device", tmp_path / "cours" / "b.txt")
    with pytest.raises(BadInput, match="keys of this device") as refusal:
        files_of([named], folder=tmp_path, data_dir=tmp_path / "dir")
    assert refusal.value.code is Code.UNREADABLE_FILE
    assert files_of(["dir/publish/CM1/Eau"], folder=tmp_path, data_dir=tmp_path / "dir")


def test_several_paths_make_one_tree(tmp_path: Path) -> None:
    make(tmp_path, "cours/a.txt", "z.txt", "annexe/b.txt")
    assert paths_of(tmp_path, "z.txt", "cours", "annexe") == ["a.txt", "b.txt", "z.txt"]


async def test_paths_are_relative_to_the_callers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.txt")
    monkeypatch.chdir(tmp_path)
    assert (await events_of(files_of(["a.txt"])))[0] == FileStart("a.txt", 5)


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "vide").touch()
    assert await events_of(files_of(["vide"], folder=tmp_path)) == [FileStart("vide", 0), FileEnd(), Complete()]


async def test_a_large_file_comes_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(2 * FILE_PIECE_BYTES + 7)
    (tmp_path / "film").write_bytes(content)
    pieces = [
        event.data for event in await events_of(files_of(["film"], folder=tmp_path)) if isinstance(event, FileData)
    ]
    assert [len(piece) for piece in pieces] == [FILE_PIECE_BYTES, FILE_PIECE_BYTES, 7]
    assert b"".join(pieces) == content


async def test_names_travel_in_their_composed_form(tmp_path: Path) -> None:
    make(tmp_path, "e\u0301te\u0301.txt")
    assert (await events_of(files_of(["."], folder=tmp_path)))[0] == FileStart("\u00e9t\u00e9.txt", 11)


async def test_a_command_that_needs_no_file_may_name_none(tmp_path: Path) -> None:
    assert await events_of(files_of([], folder=tmp_path, required=False)) == [Complete()]
    assert (await refused(tmp_path)).code == Code.NOTHING_TO_SEND


# --- links ------------------------------------------------------------------------------------------------------------


@posix
async def test_a_link_is_followed_to_what_lies_in_the_same_folder_whatever_way_it_goes(tmp_path: Path) -> None:
    make(tmp_path, "real/a.txt", "real/images/b.txt")
    (tmp_path / "real" / "link.txt").symlink_to("images/b.txt")
    (tmp_path / "real" / "folder").symlink_to(tmp_path / "real" / "images")
    (tmp_path / "real" / "around").symlink_to("../again/images")
    (tmp_path / "again").symlink_to("real")
    expected = ["a.txt", "around/b.txt", "folder/b.txt", "images/b.txt", "link.txt"]
    assert paths_of(tmp_path, "real") == expected
    events = await events_of(files_of(["real"], folder=tmp_path))
    assert events.count(FileData(b"real/images/b.txt")) == 4


@posix
async def test_what_was_named_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path, "disk/Documents/cours/a.txt", "disk/b.txt")
    (tmp_path / "Documents").symlink_to("disk/Documents")
    (tmp_path / "cours").symlink_to("Documents/cours")
    (tmp_path / "b.txt").symlink_to("disk/b.txt")
    for named in ("cours", "cours/", "Documents/cours", "Documents"):
        assert FileData(b"disk/Documents/cours/a.txt") in await events_of(files_of([named], folder=tmp_path))
    assert FileData(b"disk/b.txt") in await events_of(files_of(["b.txt"], folder=tmp_path))


@posix
@pytest.mark.parametrize("target", ["/", "..", "../elsewhere", "../elsewhere/b.txt", "../courses/c.txt", "images/out"])
async def test_a_link_that_leads_out_of_the_folder_is_named_with_where_it_leads(tmp_path: Path, target: str) -> None:
    make(tmp_path, "cours/images/a.txt", "elsewhere/b.txt", "courses/c.txt")
    (tmp_path / "cours" / "a-link").symlink_to(target)
    (tmp_path / "cours" / "images" / "out").symlink_to("../../elsewhere")
    error = await refused(tmp_path, "cours")
    assert error.code == Code.UNREADABLE_FILE
    assert "leads out of the folder" in error.message
    assert str((tmp_path / "cours" / target).resolve()) in error.message


@posix
@pytest.mark.parametrize("target", [".", "..", "../../cours"])
async def test_links_that_turn_in_a_circle_are_named(tmp_path: Path, target: str) -> None:
    make(tmp_path, "cours/a/b.txt")
    (tmp_path / "cours" / "a" / "again").symlink_to(target)
    error = await refused(tmp_path, "cours")
    assert error.code == Code.UNREADABLE_FILE
    assert "again" in error.message


@posix
async def test_links_that_multiply_folders_without_end_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_FOLDERS_PER_REVISION", 1000)
    for level in range(40):
        (tmp_path / str(level)).mkdir()
        for name in ("left", "right"):
            (tmp_path / str(level) / name).symlink_to(f"../{level + 1}")
    (tmp_path / "40").mkdir()
    assert (await refused(tmp_path, ".")).code == Code.TOO_MANY_FILES


@posix
async def test_a_link_that_points_to_itself_or_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "nothing").symlink_to("missing")
    assert (await refused(tmp_path, "self")).code == Code.UNREADABLE_FILE
    assert (await refused(tmp_path, "nothing")).code == Code.MISSING_FILE
    (tmp_path / "nothing").unlink()
    assert (await refused(tmp_path, ".")).code == Code.UNREADABLE_FILE
    (tmp_path / "self").unlink()
    (tmp_path / "nothing").symlink_to("missing")
    assert (await refused(tmp_path, ".")).code == Code.MISSING_FILE


# --- what cannot be sent ----------------------------------------------------------------------------------------------


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    for path in ("b.txt", "a.txt/c.txt", "nul\0", ""):
        error = await refused(tmp_path, "a.txt", path)
        assert error.code in (Code.MISSING_FILE, Code.BAD_NAME)
    assert "b.txt" in (await refused(tmp_path, "b.txt")).message


@posix
async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tube")
    assert (await refused(tmp_path, ".")).code == Code.UNREADABLE_FILE
    assert (await refused(tmp_path, "/dev/null")).code == Code.UNREADABLE_FILE


@posix
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root reads everything")
async def test_a_file_or_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    make(tmp_path, "secret.txt", "closed/a.txt")
    (tmp_path / "secret.txt").chmod(0)
    assert (await refused(tmp_path, "secret.txt")).code == Code.UNREADABLE_FILE
    (tmp_path / "closed").chmod(0)
    try:
        assert (await refused(tmp_path, "closed")).code == Code.UNREADABLE_FILE
    finally:
        (tmp_path / "closed").chmod(0o700)


async def test_a_file_of_4_gib_is_refused_before_it_is_read(tmp_path: Path) -> None:
    for size, code in ((MAX_FILE_BYTES, None), (MAX_FILE_BYTES + 1, Code.FILE_TOO_LARGE)):
        with (tmp_path / "film").open("wb") as file:
            file.truncate(size)
        if code is None:
            assert paths_of(tmp_path, "film") == ["film"]
        else:
            assert (await refused(tmp_path, "film")).code == code


async def test_too_many_files_are_refused_while_walking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_FILES_PER_REVISION", 3)
    make(tmp_path, "a", "b", "c")
    assert len(paths_of(tmp_path, ".")) == 3
    make(tmp_path, "d")
    assert (await refused(tmp_path, ".")).code == Code.TOO_MANY_FILES


async def test_a_folder_without_a_file_is_nothing_to_send(tmp_path: Path) -> None:
    (tmp_path / "vide" / "vide").mkdir(parents=True)
    assert (await refused(tmp_path, "vide")).code == Code.NOTHING_TO_SEND


async def test_what_programs_left_in_a_folder_is_sent_and_told_of_and_what_is_named_is_meant(tmp_path: Path) -> None:
    make(tmp_path, "cours/Thumbs.db", "cours/fiche.odt", "cours/.git/HEAD", "cours/.htaccess", "plan.bak")
    incoming = files_of(["cours", "plan.bak"], folder=tmp_path)
    assert len(sizes_of(incoming)) == 5
    assert left_behind(incoming) == [".git/HEAD", "Thumbs.db"]


async def test_two_files_with_one_path_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "a/x.txt", "b/x.txt")
    for named in (["a/x.txt", "b/x.txt"], ["a", "b"], ["a/x.txt", "a/x.txt"], ["a", "a/x.txt"]):
        error = await refused(tmp_path, *named)
        assert error.code == Code.BAD_NAME
        assert "x.txt" in error.message


@posix
@pytest.mark.parametrize("name", ["aux.txt", "a:b", "fin.", "q?", "back\\slash"])
async def test_a_name_that_not_every_system_keeps_is_named(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"cours/{name}")
    error = await refused(tmp_path, "cours")
    assert error.code == Code.BAD_NAME
    assert name.encode("unicode_escape").decode()[:2] in error.message


@posix
async def test_of_several_such_names_all_are_named_with_the_reason_of_each(tmp_path: Path) -> None:
    names = ("a:b?.txt", "aux.txt", "con.txt", "fin.", "q?")
    make(tmp_path, "bon.txt", *(f"cours/{name}" for name in names))
    message = (await refused(tmp_path, "bon.txt", "cours")).message
    assert all(name in message for name in names)
    assert "bon.txt" not in message
    assert message.count("Windows reserves this name for a device") == 1
    assert "root of a disk" not in message, "a colon in a name makes no path of it"
    make(tmp_path, *(f"viel/{number}?" for number in range(60)))
    assert (await refused(tmp_path, "viel")).message.endswith("(and 10 more)")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such names")
async def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.txt", os.O_CREAT | os.O_WRONLY))
    error = await refused(tmp_path, ".")
    assert error.code == Code.BAD_NAME
    error.message.encode()


# --- files that change ------------------------------------------------------------------------------------------------


class Meddling:
    """Changes the file at the n-th read from it, for each n that is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], times: int) -> None:
        self._read = intake._piece
        self._change = change
        self.times = times
        self.pauses: list[float] = []
        monkeypatch.setattr(intake, "_piece", self)

    def __call__(self, file: object, place: Path) -> bytes:
        piece = self._read(file, place)  # type: ignore[arg-type]
        if self.times:
            self.times -= 1
            self._change()
        return piece

    async def pause(self, pause_s: float) -> None:
        self.pauses.append(pause_s)


def changes(folder: Path) -> dict[str, Callable[[], object]]:
    place = folder / "b.txt"

    def grow() -> None:
        with place.open("ab") as file:
            file.write(b"more")

    def replace() -> None:
        (folder / "new").write_bytes(place.read_bytes())
        os.utime(folder / "new", ns=(place.stat().st_atime_ns, place.stat().st_mtime_ns))
        (folder / "new").replace(place)

    return {
        "grows": grow,
        "shrinks": lambda: os.truncate(place, 1),
        "is touched": lambda: os.utime(place, ns=(1, place.stat().st_mtime_ns + 1)),
        "is replaced by its equal": replace,
    }


@pytest.mark.parametrize("what", changes(Path()))
async def test_a_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    make(tmp_path, "a.txt", "b.txt")
    meddling = Meddling(monkeypatch, lambda: None, 0)
    found = Intake(["a.txt", "b.txt"], tmp_path, survey(["a.txt", "b.txt"], tmp_path), pause=meddling.pause)
    meddling._change, meddling.times = changes(tmp_path)[what], 3  # two reads of a.txt, then one of b.txt
    events = await events_of(found)
    assert events.count(Restart()) >= 1
    assert events[-1] == Complete()
    last = events[len(events) - events[::-1].index(Restart()) :]
    assert last[-3] == FileData((tmp_path / "b.txt").read_bytes())
    assert all(pause_s > 0 for pause_s in meddling.pauses)


async def test_a_file_that_changes_before_it_is_opened_is_found_again(tmp_path: Path) -> None:
    make(tmp_path, "b.txt")
    found = at_once(["b.txt"], tmp_path)
    (tmp_path / "b.txt").write_bytes(b"another text")
    assert await events_of(found) == [
        Restart(), FileStart("b.txt", 12), FileData(b"another text"), FileEnd(), Complete(),
    ]  # fmt: skip


async def test_a_file_that_disappears_is_missing(tmp_path: Path) -> None:
    make(tmp_path, "b.txt")
    found = at_once(["b.txt"], tmp_path)
    (tmp_path / "b.txt").unlink()
    with pytest.raises(BadInput) as refusal:
        await events_of(found)
    assert refusal.value.code == Code.MISSING_FILE


async def test_a_file_that_never_stops_changing_is_given_up_after_three_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "b.txt")
    meddling = Meddling(monkeypatch, changes(tmp_path)["grows"], 1000)
    found = Intake(["b.txt"], tmp_path, survey(["b.txt"], tmp_path), pause=meddling.pause)
    with pytest.raises(LocalFailure) as failure:
        await events_of(found)
    assert (failure.value.code, failure.value.exit_status) == (Code.CHANGING_FILE, 1)
    assert "b.txt" in failure.value.message
    assert len(meddling.pauses) == 2
