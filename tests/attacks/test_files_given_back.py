"""What a teacher gives back as files, a corrected copy, and portfolios for families (docs/adr/0386)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.portfolios import remarks_in
from tests.harness.spied_class import SpiedClass, answered_class

ROW = "a corrected copy is kept from families' portfolios"
COPY = {"copie corrigée.odt": b"Tout ce qui est en rouge. " * 40}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    """A teacher has given a mark for a pupil's work."""
    async with answered_class(tmp_path, "Très bien raconté !", kept_for=__name__) as made:
        yield made


async def _colleague(here: SpiedClass, name: str) -> Device:
    person = await here.room.territory.person(name, PersonRole.TEACHER, here.room.space)
    his = await here.room.device(Role.TEACHER, person=person)
    await here.sync(his, here.teacher)
    return his


async def _gives(here: SpiedClass, device: Device, text: str = "Voir la copie.") -> None:
    said = {"id": here.work.hex(), "text": text, "mark": None, "redo": False}
    await Desk(device.agent).ask("feedback", Given(COPY), **said)


async def _portfolio(here: SpiedClass, desk: Desk, **params: Any) -> dict[str, bytes]:
    return await desk.files("portfolio", space=here.room.space.hex(), **params)


def _copies(files: dict[str, bytes]) -> list[str]:
    """Where in its pupil's folder for what was said each copy lies."""
    return ["/".join(path.split("/")[3:]) for path, data in files.items() if data == next(iter(COPY.values()))]


async def _no_files(*_: object) -> list[object]:
    return []


@attack(ROW, off={"protocol.replica.access.works.Works.copy": _no_files})
async def test_a_corrected_copy_lies_beside_the_words_of_who_gave_it(here: SpiedClass) -> None:
    colleague = await _colleague(here, "M. Roy")
    await _gives(here, here.teacher)
    await _gives(here, colleague, "")
    await here.sync(colleague, here.teacher)
    files = await _portfolio(here, Desk(here.teacher.agent))
    assert sorted(_copies(files)) == ["M. Roy/copie corrigée.odt", "Mme Petit/copie corrigée.odt"]
    assert remarks_in(files) == {"Mme Petit": "Voir la copie.\n"}


async def _nothing_lacks(*_: object) -> bool:
    return False


@attack(ROW, off={"sync_agent.hand_ins.year_end._lacks_files": _nothing_lacks})
async def test_no_portfolio_is_written_without_a_word_about_files_that_have_not_come(here: SpiedClass) -> None:
    """Whoever has a line lets through that they were given, which is short, and holds up the files."""
    colleague = await _colleague(here, "M. Roy")
    await _gives(here, colleague)
    said = await colleague.agent.replica.store.scan_kinds([Kind.FEEDBACK])
    await here.teacher.agent.replica.admit(said, source=b"the line", now_ms=here.teacher.agent.now_ms())
    desk = Desk(here.teacher.agent)
    with pytest.raises(BadInput, match="nothing has been written yet: 1 hand-in") as caught:
        await _portfolio(here, desk)
    assert caught.value.code is Code.NOT_YET
    files = await _portfolio(here, desk, shown_only=True)
    assert any("what was said of it, whose files have not come: sync first" in line for line in desk.told)
    assert remarks_in(files)["M. Roy"] == "Voir la copie.\n"
    assert any(re.search(r"not in it: the files of .*/M\. Roy, which are not whole here", line) for line in desk.told)
    await here.sync(colleague, here.teacher)
    assert _copies(await _portfolio(here, desk)) == ["M. Roy/copie corrigée.odt"]


@attack(ROW, off={"protocol.replica.office.whose_words._AS_A_FILE": re.compile("(?!)")})
async def test_nobody_is_called_so_that_their_files_lie_where_anothers_words_do(here: SpiedClass) -> None:
    """The copied key lists “Mme Petit.txt”, and no folder is written where a file is."""
    colleague = await _colleague(here, "Mme Petit.txt")
    await _gives(here, colleague)
    await here.sync(colleague, here.teacher)
    files = await _portfolio(here, Desk(here.teacher.agent))
    folders = {path.rpartition("/")[0] for path in files}
    assert not folders & files.keys()
    assert remarks_in(files).keys() == {"Mme Petit", "Mme Petit-txt"}
