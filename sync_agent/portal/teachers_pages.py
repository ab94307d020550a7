"""The pages of a teacher's device, and of a head teacher's: which address means what, and on which device.

Rules:
- elsewhere there is no such page: a pupils' PC answers as for any address that means nothing;
- what makes a page is loaded when the first of its kind is asked for: most machines are pupils' PCs, and keep none of
  it.
"""

# ruff: noqa: PLC0415, PLW0108  (the second rule: a module is named, and its object asked for, once somebody calls)

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from aiohttp import web

from protocol.replica.console.operation import Table
from protocol.roles import Role
from sync_agent.portal.door import Handler
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import DRILL
from sync_agent.portal.everybody.item_pages import ItemPages
from sync_agent.portal.teacher.held_back import ADDRESS as HELD_BACK
from sync_agent.portal.teacher.held_back import HeldBack
from sync_agent.portal.teacher.let_count import ADDRESS as LET_COUNT
from sync_agent.portal.teacher.let_count import LetCountPage
from sync_agent.portal.teacher.own_folders import ADDRESS as FOLDERS
from sync_agent.portal.teacher.own_folders import OwnFolders
from sync_agent.portal.teacher.readers import ADDRESS as READERS
from sync_agent.portal.teacher.readers import Readers

if TYPE_CHECKING:
    from sync_agent.portal.head.drills import Drills
    from sync_agent.portal.head.losses import Losses
    from sync_agent.portal.head.school import SchoolPages
    from sync_agent.portal.teacher.sign_ins import ClassSignIns
    from sync_agent.portal.teacher.teaching import Teaching


class TeachersPages:
    """See the module."""

    def __init__(self, desk: Desk, items: ItemPages, table: Table) -> None:
        self._desk = desk
        self._items = items
        self._table = table

    def add_to(self, app: web.Application) -> None:
        """Let the listener serve them."""
        self._add_teaching(app)
        self._add_folders_and_readers(app)
        self._add_school(app)
        self._add_drills(app)

    def _add_teaching(self, app: web.Application) -> None:
        get, post, teachers = app.router.add_get, app.router.add_post, self._only_teachers
        for address in ("/publish", "/item/{item}/publish"):
            get(address, teachers(lambda request: self._teaching.publish_form(request)))
            post(address, teachers(lambda request: self._teaching.publish(request)))
        post("/item/{item}/withdraw", teachers(lambda request: self._teaching.withdraw(request)))
        post("/item/{item}/restore", teachers(lambda request: self._teaching.restore(request)))
        post("/item/{item}/go-back", teachers(lambda request: self._teaching.go_back(request)))
        post("/item/{item}/settle", teachers(lambda request: self._teaching.settle(request)))
        post("/work/{work}/open", teachers(lambda request: self._teaching.open(request)))
        post("/work/{work}/feedback", teachers(lambda request: self._teaching.feedback(request)))
        get("/sign-ins/{space}", teachers(lambda request: self._sign_ins.show(request)))
        post("/sign-ins/{space}/switch", teachers(lambda request: self._sign_ins.switch(request)))
        post("/sign-ins/{space}/draw", teachers(lambda request: self._sign_ins.draw(request)))
        post("/sign-ins/{space}/set", teachers(lambda request: self._sign_ins.set(request)))
        post("/sign-ins/{space}/again", teachers(lambda request: self._sign_ins.say_again(request)))
        post("/sign-ins/{space}/unlock", teachers(lambda request: self._sign_ins.unlock(request)))

    def _add_folders_and_readers(self, app: web.Application) -> None:
        # the home page says what these have to say, so that they are loaded in any case
        folders, readers, teachers = OwnFolders(self._desk), Readers(self._desk), self._only_teachers
        held_back, let_count = HeldBack(self._desk), LetCountPage(self._desk)
        app.router.add_get(HELD_BACK, teachers(held_back.show))
        app.router.add_post(f"{HELD_BACK}/seen", teachers(held_back.seen))
        app.router.add_get(LET_COUNT, teachers(let_count.show))
        app.router.add_post(f"{LET_COUNT}/seen", teachers(let_count.seen))
        app.router.add_get(FOLDERS, teachers(folders.show))
        app.router.add_post(f"{FOLDERS}/resume", teachers(folders.resume))
        app.router.add_get(READERS, teachers(readers.show))
        app.router.add_post(f"{READERS}/{{act}}", teachers(readers.act))

    def _add_school(self, app: web.Application) -> None:
        get, post, teachers = app.router.add_get, app.router.add_post, self._only_teachers
        get("/school", teachers(lambda request: self._school.show(request)))
        post("/school", teachers(lambda request: self._school.add_class(request)))
        get("/school/{space}", teachers(lambda request: self._school.show_class(request)))
        post("/school/{space}/rename", teachers(lambda request: self._school.rename(request)))
        post("/school/{space}/person", teachers(lambda request: self._school.add_person(request)))
        post("/school/{space}/name", teachers(lambda request: self._school.rename_person(request)))
        post("/school/{space}/merge", teachers(lambda request: self._school.merge(request)))
        post("/school/{space}/leave", teachers(lambda request: self._school.leave(request)))
        post("/school/{space}/erase", teachers(lambda request: self._school.erase(request)))
        post("/school/{space}/code", teachers(lambda request: self._school.code(request)))
        post("/school/{space}/let-in", teachers(lambda request: self._school.let_in(request)))
        get("/lost", teachers(lambda request: self._losses.show(request)))
        post("/lost", teachers(lambda request: self._losses.report(request)))

    def _add_drills(self, app: web.Application) -> None:
        app.router.add_get(DRILL, self._only_heads(lambda request: self._drills.show(request)))
        app.router.add_get(f"{DRILL}/report", self._only_heads(lambda request: self._drills.report(request)))
        app.router.add_post(f"{DRILL}/{{act}}", self._only_heads(lambda request: self._drills.act(request)))

    def _only_teachers(self, handler: Handler) -> Handler:
        """`handler`, on a teacher's device."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not await self._desk.shelf.teaches():
                raise web.HTTPNotFound
            return await handler(request)

        return guarded

    def _only_heads(self, handler: Handler) -> Handler:
        """`handler`, on a head teacher's device."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if Role.HEAD not in await self._desk.shelf.agent.roles():
                raise web.HTTPNotFound
            return await handler(request)

        return guarded

    @cached_property
    def _teaching(self) -> Teaching:
        from sync_agent.portal.teacher.teaching import Teaching

        return Teaching(self._desk, self._items, self._table)

    @cached_property
    def _sign_ins(self) -> ClassSignIns:
        from sync_agent.portal.teacher.sign_ins import ClassSignIns

        return ClassSignIns(self._desk)

    @cached_property
    def _school(self) -> SchoolPages:
        from sync_agent.portal.head.school import SchoolPages

        return SchoolPages(self._desk)

    @cached_property
    def _losses(self) -> Losses:
        from sync_agent.portal.head.losses import Losses

        return Losses(self._desk)

    @cached_property
    def _drills(self) -> Drills:
        from sync_agent.portal.head.drills import Drills

        return Drills(self._desk)
