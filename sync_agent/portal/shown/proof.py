"""Proofs of hand-ins, for a pupil to keep on paper (docs/protocol.md, "Proofs"): what is on them, and a page to print.

The page stands alone: its picture of the code is in it, so that it prints with no network and without this program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from protocol.clock import rfc3339
from protocol.folds.coursework import HandInState, Work
from protocol.replica.console.operation import JSON
from protocol.replica.office.namesakes import called_in
from protocol.replica.office.whose_words import names_of_words
from protocol.trust.receipt_code import proof_code
from sync_agent.app import Agent
from sync_agent.coursework.reading import find_work
from sync_agent.hand_ins.handing_in import fate_marks, state_of
from sync_agent.space_names import space_names

if TYPE_CHECKING:
    from sync_agent.portal.wording import Words


async def proof_of(agent: Agent, wanted: bytes, language: str | None) -> dict[str, JSON]:
    """What a proof says, and with a `language` the page to print. Raises `BadInput(UNKNOWN_HAND_IN)`."""
    work = await find_work(agent, wanted)
    view = await agent.replica.view(work.space)
    item, person = view.coursework.items.get(work.item), view.roster.named(work.person)
    title = None if item is None else item.shown.record.title
    called = None if person is None else (await called_in(agent.replica, view.roster))[person.id]
    place = (await space_names(agent)).get(work.space)
    names = await names_of_words(agent.replica, view.roster, work.opened_under)
    proof: dict[str, JSON] = {
        "code": proof_code(work.id),
        "id": work.id.hex(),
        "item": work.item.hex(),
        "title": title,
        "space": work.space.hex(),
        "person": work.person.hex(),
        "name": None if person is None else person.name,
        "called": called,
        "at": rfc3339(work.at_ms),
        "late": work.late,
        "state": state_of(agent, view.roster, work, await fate_marks(agent.replica.store)).value,
        "receipts": [
            {
                "state": each.says.value,
                "device": each.by.hex(),
                "by": names.get(each.grant),
                "at": rfc3339(each.at_ms),
            }
            for each in work.witnesses
        ],
    }
    if language is not None:
        left = None if person is None or person.id in view.roster.persons else person.name
        proof["page"] = page(work, title=title, name=called, left=left, place=place, language=language, names=names)
    return proof


def page(
    work: Work,
    *,
    title: str | None,
    name: str | None,
    left: str | None,
    place: str | None,
    language: str,
    names: Mapping[bytes | None, str],
) -> str:
    """A whole HTML document of one proof; `names` are of whose word stands under each grant.

    `left` is the name of whose it is, where they have left the list.
    """
    from sync_agent.portal.rendering import rendering  # noqa: PLC0415 — loaded only when needed
    from sync_agent.portal.wording import Register, Words  # noqa: PLC0415

    say = Words(language, Register.ADULT)
    code = proof_code(work.id)
    said = attested(say, work, lambda grant: names.get(grant) or say("unknown.somebody"))
    facts = {"work": work, "code": code, "picture": picture_of(code), "place": place or "", "said": said}
    return rendering()(
        "receipt_file.html",
        facts,
        say=say,
        title=title or say("unknown.title"),
        name=name or say("unknown.person") if left is None else say("unknown.left", name=left),
    )


def attested(say: Words, work: Work, name_of: Callable[[bytes | None], str]) -> list[tuple[str, int]]:
    """What receipts say of a hand-in, each once and with the time at which that was said first.

    Who opened it is named, each by the grant of what they said: it is nobody's word but theirs.
    """
    copies = [each for each in work.witnesses if each.says is HandInState.SAFE]
    first: dict[str, int] = {}
    for each in work.witnesses:
        if each.says is HandInState.TEACHER:
            words = say.sentence("receipt.teacher", teacher=name_of(each.grant))
        elif len(copies) > 1 and each.says is HandInState.SAFE:
            words = say("receipt.copies", n=len(copies))
        else:
            words = say(f"receipt.{each.says.value}")
        first.setdefault(words, each.at_ms)
    return list(first.items())


def picture_of(code: str) -> str:
    """The code as a QR symbol: an SVG element that the library makes of figures only, so that a page may trust it."""
    import segno  # noqa: PLC0415 — loaded only when needed: 150 ms

    return segno.make(code, error="q", micro=False).svg_inline(scale=5, svgclass="qr", lineclass=None)
