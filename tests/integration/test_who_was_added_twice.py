"""A teacher who was added twice, by the operator's commands: two who both read, then one with two laptops.

docs/operate.md, "A school by itself"; docs/adr/0461.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.machines import Machine, School, school


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def _sync(*machines: Machine) -> None:
    for machine in machines:
        machine.ok("sync")


def _enrol(here: School, name: str, *invited: str) -> Machine:
    """A computer that enrols with a code."""
    machine = Machine(name, here.folder / name, "sync-agent")
    code = here.server.ok("invite", *invited)["code"]
    machine.ok("enroll", "--server", here.url, "--code", code, "--name", name)
    return machine


def _confirm(one: Machine, other: Machine, shown_as: str) -> None:
    """What somebody says on a computer of another one, whose six words they have compared."""
    device = other.ok("status")["device"]
    (row,) = [row for row in one.ok("key", "readers") if row["device"] == device]
    assert row["words"] == next(each["words"] for each in other.ok("key", "readers") if each["device"] == device)
    one.ok("key", "confirm", row["id"], "--as", shown_as)


def _handed_in(here: School, folder: Path, teacher: Machine, pc: Machine, what: str) -> str:
    """What the pupil hands in, once a laptop has it."""
    path = folder / f"{what}.txt"
    path.write_text(what)
    space = ("--space", here.space, "--title", what, "--kind", "assignment")
    item = teacher.ok("publish", str(path), *space)["item"]
    _sync(teacher, pc)
    work: str = pc.ok("hand-in", item, str(path), "--person", here.pupil)["id"]
    _sync(pc, teacher)
    return work


def _opens(folder: Path, laptop: Machine, work: str) -> bool:
    return laptop.run("open-hand-in", work, str(folder / f"{laptop.name}-{work[:8]}")).status == 0


def test_a_teacher_who_was_added_twice_has_her_laptops_under_one_id_and_loses_nothing(
    here: School, tmp_path: Path
) -> None:
    space, hers = here.space, here.teacher_person
    head, pc = _enrol(here, "direction", "--role", "head", "--space", "0180001X"), here.enrol("renard")
    first = here.enrol("portable", "teacher")
    _sync(head, first, pc)
    before = _handed_in(here, tmp_path, first, pc, "avant")
    assert _opens(tmp_path, first, before)
    _sync(first, pc)

    other = here.server.ok("person", "add", "PETIT Claire", "--role", "teacher", "--space", space)["person"]
    second = _enrol(here, "bureau", "--role", "teacher", "--space", space, "--person", other)
    _sync(second, head, first, pc)
    head.ok("person", "merge", other, "--into", hers)
    _sync(head, second, first, pc)
    both = _handed_in(here, tmp_path, second, pc, "ensemble")
    _sync(first)
    assert [_opens(tmp_path, laptop, both) for laptop in (first, second)] == [True, True], "she reads by either id"
    assert not _opens(tmp_path, second, before), "but what was opened before is given to nobody by a list"
    second.ok("feedback", both, "--text", "Bien vu.")
    _sync(second, pc)

    anew = _enrol(here, "bureau-2", "--role", "teacher", "--space", space, "--person", hers)
    _sync(anew, first, second)
    _confirm(first, anew, "own")
    _confirm(anew, first, "own")
    _confirm(second, anew, "other")
    _sync(first, second, anew, first, second, anew)
    assert [_opens(tmp_path, anew, work) for work in (before, both)] == [True, True], "once a human has compared words"

    here.server.ok("ungrant", "--device", second.ok("status")["device"], "--space", space)
    _sync(first, anew, pc)
    later = _handed_in(here, tmp_path, first, pc, "après")
    _sync(anew)
    assert [_opens(tmp_path, laptop, later) for laptop in (first, anew)] == [True, True]
    assert second.run("sync").code == "revoked", "the folder of before reads nothing more"
    (said,) = [row["remarks"] for row in pc.ok("hand-ins") if row["id"] == both]
    assert [(note["by"], note["text"]) for note in said] == [("PETIT Claire", "Bien vu.")]
