"""What somebody of a copied key says, or hands in, is written so as if a teacher had said it (docs/adr/0371)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.work import Feedback
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Given
from tests.harness.commands import Desk
from tests.harness.portfolios import remarks_in
from tests.harness.spied_class import SpiedClass, answered_class

ROW = "a text signs for another"
HERS = "Très bien raconté !"
HIS = "Ce travail est copié sur le voisin."


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    """A teacher has given a mark for a pupil's work."""
    async with answered_class(tmp_path, HERS, kept_for=__name__) as made:
        yield made


def _by_number(whose: Iterable[str | None]) -> list[str]:
    return [str(number) for number, _ in enumerate(whose, 1)]


BY_NUMBER = {"protocol.replica.access.works.files_of": _by_number}


@pytest.mark.parametrize(
    ("name", "mark", "text"),
    [
        ("M. X", "0/20", f"{HIS}\n(Mme Petit)\n\nVu"),
        ("M. X", f"0/20\n{HIS}\n(Mme Petit)", "Vu"),
        (f"M. X)\n\n0/20\n{HIS}\n(Mme Petit", "", "Vu"),
    ],
    ids=["text", "mark", "name"],
)
@attack(ROW, off={**BY_NUMBER, "protocol.fields.name_shown": str})
async def test_a_portfolio_has_a_file_of_each_who_said_something_and_no_text_signs_for_another(
    here: SpiedClass, name: str, mark: str, text: str
) -> None:
    await here.name_the_spy(await here.room.territory.person(name, PersonRole.TEACHER, here.room.space))
    said = Feedback(text, mark or None, False, None).encode()
    await here.say(Kind.FEEDBACK, said, here.room.pupil_person, target=here.work)
    for _ in range(3):
        await here.sync()
    files = await Desk(here.teacher.agent).files("portfolio", space=here.room.space.hex())
    assert [path.rpartition("/")[2] for path, data in files.items() if HERS.encode() in data] == ["Mme Petit.txt"]
    hers, his = sorted(remarks_in(files).items(), key=lambda each: HERS not in each[1])
    assert hers == ("Mme Petit", f"18/20\n{HERS}\n")
    assert his[0].startswith("M. X")
    assert his[1].splitlines()[-1] == "Vu"


@attack(ROW, off={"sync_agent.hand_ins.year_end.WORK_FOLDER": "corrections"})
async def test_nothing_that_is_handed_in_lies_where_a_portfolio_has_what_was_said(here: SpiedClass) -> None:
    handed = {"corrections/Mme Petit.txt": HIS.encode(), "correction\u200b.txt": f"{HIS}\n(Mme Petit)".encode()}
    here.room.territory.clock.advance(60_000)
    await here.room.hand_in(here.machine, here.item, handed)
    await here.sync(here.machine, here.teacher)
    files = await Desk(here.teacher.agent).files("portfolio", space=here.room.space.hex())
    places = {path.split("/")[1] for path, data in files.items() if data in handed.values()}
    assert places == {"travaux"}
    assert remarks_in(files) == {"Mme Petit": f"18/20\n{HERS}\n"}


@attack(ROW, off=BY_NUMBER)
async def test_a_file_that_belongs_to_what_was_said_lies_in_a_familys_archive_under_whose_word_it_is(
    here: SpiedClass,
) -> None:
    person = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    his = await here.room.device(Role.TEACHER, person=person)
    await here.sync(his, here.teacher)
    said = {"id": here.work.hex(), "text": "Vu", "mark": None, "redo": False}
    await Desk(his.agent).ask("feedback", Given({"Mme Petit.txt": HIS.encode()}), **said)
    await here.sync(his, here.teacher)
    archive = await Desk(here.teacher.agent).files("export-person", person=here.room.pupil_person.hex())
    (path,) = [path for path, data in archive.items() if data == HIS.encode()]
    assert path.split("/")[0] == "corrections"
    assert path.split("/")[2:] == ["M. X", "Mme Petit.txt"]
