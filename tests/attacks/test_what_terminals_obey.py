"""Signs that a terminal obeys, in what others have said: whoever lists it reads them, and nothing happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.model.work import Feedback
from protocol.replica.console.text import readable
from sync_agent.console.coursework import HAND_IN_COLUMNS
from tests.attacks.test_remarks_in_anothers_place import HERS, answered
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.spied_class import SpiedClass, answered_class

OBEYED = "\x1b[2J\x1b]0;Mme Petit\x07\x9b3J\x08\r\u202e\u2028"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    """A teacher has given a mark for a pupil's work."""
    async with answered_class(tmp_path, HERS, kept_for=__name__) as made:
        yield made


@attack("what somebody says is obeyed by a terminal", off={"protocol.replica.console.text.displayable": str})
async def test_what_a_copied_key_says_of_work_does_nothing_to_the_terminal_of_who_lists_it(here: SpiedClass) -> None:
    said = Feedback(f"Vu{OBEYED} hier", f"0/20{OBEYED}", False, None)
    await answered(here, f"M.{OBEYED} Roy", said)
    for desk in (Desk(here.teacher.agent), Desk(here.machine.agent)):
        for command in ("hand-ins", "items", "status"):
            assert _is_plain(readable(await desk.ask(command), 200))
        rows = await desk.ask("hand-ins")
        assert _is_plain(readable(rows, 200, HAND_IN_COLUMNS))
        shown = readable(rows[0])
        assert "hier" in shown
        assert _is_plain(shown)


def _is_plain(shown: str) -> bool:
    return all(line.isprintable() for line in shown.split("\n"))
