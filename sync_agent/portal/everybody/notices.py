"""What is kept about people here, and what they may ask for, in the words of who reads (docs/adr/0428).

Rules:
- the texts are those of docs/privacy.md, which `tests/unit/test_notices.py` compares; who answers for it is what the
  operator has named, else it says whom to ask at the school;
- it says no more than holds: where a class of this machine has no sign-in, that others can choose one's name;
- the notice of another register is read without changing how the other pages speak.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from protocol.roles import PersonRole
from sync_agent.machine.answerable import Answerable
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.wording import Register, Words

ADDRESS: Final = "/notice"
FOR: Final = "for"
_STRONG: Final = "**"

Paragraph: TypeAlias = Sequence[tuple[str, bool]]
"""Its parts in a row, each with whether it is strong."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One text: under which title, if it is not the page's own, and its paragraphs."""

    title: str | None
    paragraphs: Sequence[Paragraph]


def notice_text(say: Words, answerable: Answerable, *, signs_in: bool) -> str:
    """The notice of a register, a paragraph per line; `signs_in`: whether each class here has its pupils sign in."""
    facts = {
        "controller": answerable.controller or say("notice.controller_unset"),
        "dpo": answerable.dpo or say("notice.dpo_unset"),
    }
    match say.register:
        case Register.YOUNG:
            shown = say("notice.children_shown" if signs_in else "notice.children_open")
            return say("notice.children", shown=shown, **facts)
        case Register.TEEN:
            shown = say("notice.teens_shown" if signs_in else "notice.teens_open")
            return say("notice.teens", shown=shown, **facts)
        case Register.ADULT:
            shown = say("notice.adults_shown" if signs_in else "notice.adults_open")
            return say("notice.adults", shown=shown, **facts)


def paragraphs(text: str) -> Sequence[Paragraph]:
    """A text as it is shown."""
    return [
        [(part, bool(place % 2)) for place, part in enumerate(line.split(_STRONG)) if part]
        for line in text.strip().splitlines()
    ]


class Notices:
    """Handlers."""

    def __init__(self, desk: Desk, answerable: Answerable) -> None:
        self._desk = desk
        self._answerable = answerable

    async def show(self, request: web.Request) -> web.Response:
        """The notice for who reads here, or for whom the address names."""
        visit = await self._desk.visit(request)
        wish = request.query.get(FOR, "")
        say = Words(visit.say.language, Register(wish) if wish in list(Register) else visit.say.register)
        guards = await self._desk.shelf.sign_in.guards(room.space for room in visit.rooms)
        signs_in = bool(visit.classes) and all(room.space in guards.spaces for room in visit.classes)
        notices = [Notice(None, paragraphs(notice_text(say, self._answerable, signs_in=signs_in)))]
        if say.register is Register.ADULT and _is_staff(visit):
            notices.append(Notice(say("notice.staff_title"), paragraphs(say("notice.staff"))))
        return self._desk.page(visit, "notice.html", notices=notices, notice_say=say)


def _is_staff(visit: Visit) -> bool:
    return visit.teaches or visit.runs_school or (visit.me is not None and visit.me.role is PersonRole.TEACHER)
