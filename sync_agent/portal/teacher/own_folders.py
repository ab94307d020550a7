"""“Vos dossiers”: what of a teacher's watched folders is not published, why, and the brake that asks first.

Whoever publishes by dropping files in a folder gives no command and reads no log: this is where they are told. What is
watched, and what pulls the brake, is `watcher`'s and `watching.brake`'s; the words of each reason are the catalogues'.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from protocol.portable_names import displayable
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.wording import Words
from sync_agent.watching.folders import added_folders, publishing_folders
from sync_agent.watching.titles import Title

ADDRESS: Final = "/folders"


def why(title: Title, say: Words) -> str:
    """Why a title is not published, in the reader's language."""
    assert title.obstacle is not None  # noqa: S101  (that is what makes it one of those)
    key = f"folders.why.{title.obstacle.code}"
    return say(key if say.has(key) else "folders.why.other", code=title.obstacle.code)


class OwnFolders:
    """Handlers, all of them for teachers' devices only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent

    async def show(self, request: web.Request) -> web.Response:
        """Which folders are watched, and what of them is not published."""
        visit = await self._desk.visit(request)
        folders = [*await publishing_folders(self._agent), *await added_folders(self._agent.replica.store)]
        return self._desk.page(
            visit,
            "folders.html",
            folders=[displayable(str(folder.place)) for folder in folders],
            why=lambda title: why(title, visit.say),
            done=request.query.get("done"),
        )

    async def resume(self, request: web.Request) -> web.Response:
        """The teacher says that what pulled the brake is meant: as much as the page had told of it."""
        fields = await self._desk.fields(request)
        done = await self._desk.do("watch-resume", {"told": fields.get("told", "")})
        return see(f"{ADDRESS}?done=resumed" if done else ADDRESS)
