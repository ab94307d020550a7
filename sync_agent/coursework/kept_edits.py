"""What people changed in DIR/coursework and was set aside there, under dated names: told on the page of its item.

The disk alone says what is still there; it is asked when somebody looks, and no further than a page shows.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from protocol.portable_names import displayable
from sync_agent.app import Agent
from sync_agent.coursework.rules import is_dated
from sync_agent.coursework.space_folders import COURSEWORK_FOLDER, remembered_folder
from sync_agent.coursework.titles import Shown
from sync_agent.machine.marks import TREE_MARKS

MOST_SHOWN: Final = 20
_MOST_FOLDERS: Final = 500


async def kept_edits(agent: Agent, item: bytes) -> list[str]:
    """Their paths below DIR, fit to be shown; the first `MOST_SHOWN`."""
    store = agent.replica.store
    mark = await store.mark(TREE_MARKS + item.hex())
    title = None if mark is None else Shown.read(mark)
    name = None if title is None else await remembered_folder(store, title.space)
    if title is None or name is None:
        return []
    below = Path(COURSEWORK_FOLDER) / name / title.folder
    return await asyncio.to_thread(_dated_in, agent.folder, below)


def _dated_in(root: Path, below: Path) -> list[str]:
    found: list[str] = []
    for number, (folder, _, names) in enumerate(os.walk(root / below)):
        found += (displayable((Path(folder).relative_to(root) / name).as_posix()) for name in names if is_dated(name))
        if number >= _MOST_FOLDERS or len(found) >= MOST_SHOWN:
            break
    return sorted(found)[:MOST_SHOWN]
