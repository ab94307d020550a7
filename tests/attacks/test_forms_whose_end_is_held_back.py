"""A form lasts as long as its sender likes: who it is from is asked once all of it has come (docs/adr/0580)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from protocol.folds.sign_in import Method
from protocol.limits import MAX_FILES_PER_REVISION, KiB
from protocol.model.work import ItemKind
from protocol.roles import PersonRole
from sync_agent.hand_ins.drafts import Drafts
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.files.spool import Spool
from sync_agent.portal.files.uploads import Form, form_with_files
from tests.harness.attack import attack
from tests.harness.classroom import classroom
from tests.harness.patience import until
from tests.harness.portal import Answer, Surfer, portal
from tests.harness.sign_in import PICTURES, SignedClass, sign_in, signed_class

ROW = "a pupil acts as another on a shared PC"
_BETWEEN = "between"


@asynccontextmanager
async def _asked_as_it_begins(
    desk: Desk, request: web.Request, *, as_named: bool, most_files: int = MAX_FILES_PER_REVISION
) -> AsyncIterator[tuple[Visit, Form]]:
    """As it was: who had begun a form is who has sent it."""
    visit = await desk._visit(request)
    check = desk._token_check(request)
    kept = form_with_files(request, desk.shelf.agent.folder, check, as_named=as_named, most_files=most_files)
    async with kept as form:
        yield visit, form


AS_IT_BEGINS = {"sync_agent.portal.each_page.desk.Desk.form": _asked_as_it_begins}


class Held:
    """A hand-in's form of which all but the end has come."""

    def __init__(self, surfer: Surfer, item: bytes, fields: Mapping[str, str]) -> None:
        self._surfer = Surfer(surfer.session, surfer.url, dict(surfer.cookies))
        self._action = f"/item/{item.hex()}/hand-in"
        self._fields = fields
        self._is_let_go = asyncio.Event()
        self._answer: asyncio.Task[Answer] | None = None

    async def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Return once the portal keeps bytes of its file."""
        came: list[int] = []

        class Told(Spool):
            def add(self, piece: bytes) -> None:
                super().add(piece)
                came.append(len(piece))

        monkeypatch.setattr("sync_agent.portal.files.uploads.Spool", Told)
        hidden = await self._surfer.hidden("/who")
        kind = f"multipart/form-data; boundary={_BETWEEN}"
        body = self._body({**self._fields, "token": hidden["token"]})
        asked = self._surfer.ask("POST", self._action, body, Origin=self._surfer.origin, Content_Type=kind)
        self._answer = asyncio.create_task(asked)
        await until(lambda: came)

    async def end(self) -> int:
        """Send the rest; with what status that is answered."""
        assert self._answer is not None
        self._is_let_go.set()
        return (await self._answer).status

    async def _body(self, fields: Mapping[str, str]) -> AsyncIterator[bytes]:
        for name, value in fields.items():
            said = f'--{_BETWEEN}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            yield said.encode()
        head = 'Content-Disposition: form-data; name="files"; filename="a.txt"'
        yield f"--{_BETWEEN}\r\n{head}\r\n\r\n".encode() + bytes(512 * KiB)
        await self._is_let_go.wait()
        yield f"\r\n--{_BETWEEN}--\r\n".encode()


@asynccontextmanager
async def _she_has_begun_a_form(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SignedClass, Surfer, Held]]:
    """A class, and who is signed in in it at a portal, whose form to hand in is on its way."""
    async with classroom(folder) as room:
        school = await signed_class(room)
        item = (await room.publish(school.teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
        await school.agree()
        async with portal(school.pc.agent) as surfer:
            await sign_in(surfer, school.lea, PICTURES)
            held = Held(surfer, item, {"person": school.lea.hex()})
            await held.begin(monkeypatch)
            yield school, surfer, held


async def _handed_in(school: SignedClass) -> int:
    return len((await school.pc.agent.replica.view(school.room.space)).coursework.hand_ins)


@attack(ROW, off=AS_IT_BEGINS)
async def test_a_form_that_was_begun_while_she_was_signed_in_hands_nothing_in_once_she_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _she_has_begun_a_form(tmp_path, monkeypatch) as (school, surfer, held):
        assert (await surfer.send("/", "/sign-out", {})).status == 303
        assert await held.end() == 403
        assert await _handed_in(school) == 0


@attack(ROW, off=AS_IT_BEGINS)
async def test_nor_does_one_of_before_sign_in_was_switched_on_throw_away_what_she_has_begun_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with classroom(tmp_path) as room:
        tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
        school = SignedClass(room, await room.teacher(), await room.machine(), tom)
        await school.agree()
        item = (await room.publish(school.teacher, {"a.html": b"<p>a"}, kind=ItemKind.ASSIGNMENT)).item
        await school.agree()
        async with portal(school.pc.agent) as surfer:
            toms = Held(surfer, item, {"person": school.lea.hex(), "drop": "yes"})
            await toms.begin(monkeypatch)
            await school.book.set(room.space, {school.lea: (Method.PICTURES, PICTURES)})
            await school.book.switch(room.space, on=True)
            await school.agree()
            hers = Surfer(surfer.session, surfer.url)
            await sign_in(hers, school.lea, PICTURES)
            page, kept = f"/item/{item.hex()}", {"person": school.lea.hex(), "later": "yes"}
            assert (await hers.send(page, f"{page}/hand-in", kept, [("roman.txt", b"hours of work")])).status == 303
            assert await toms.end() == 403
        drafts = Drafts(school.pc.agent)
        begun = await drafts.find(school.lea, item)
        assert begun is not None
        assert await drafts.files_of(begun) == (("roman.txt", 13),)


async def test_a_form_with_hours_of_work_that_she_began_to_send_in_time_hands_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _she_has_begun_a_form(tmp_path, monkeypatch) as (school, _, held):
        assert await held.end() == 303
        assert await _handed_in(school) == 1
