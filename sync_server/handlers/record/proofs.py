"""What the set says of a proof that somebody brings on paper (docs/protocol.md, "Proofs")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from protocol.errors import BadInput
from protocol.folds.coursework import Item, Work
from protocol.model.entry import Entry, Kind
from protocol.replica.content.holdings import Need
from protocol.replica.office.namesakes import called_in
from protocol.replica.office.whose_words import names_of_words
from protocol.trust.receipt_code import parse_proof
from sync_server.opened.app import Server

_MOST_FITTING: Final = 1


class Finding(StrEnum):
    """Why a proof is not valid here; `NOTHING` where it is."""

    NOTHING = ""
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    HELD_BACK = "held-back"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof as this server can judge it: the hand-in with its receipts, and whether its sealed content is here.

    `name` is what the class list calls the pupil now, and `called` that with what tells them from others of the name;
    `listed_as` is another id than the work's, where the list says that somebody was added twice.
    """

    finding: Finding
    sentence: str
    work: Work | None = None
    item: Item | None = None
    name: str | None = None
    called: str | None = None
    listed_as: bytes | None = None
    content_here: bool = False
    names: Mapping[bytes | None, str] = field(default_factory=dict)
    """Of whose word stands under the grants of its receipts."""


async def check_proof(server: Server, code: str) -> Proof:
    """Judge a proof as somebody typed it."""
    try:
        beginning = parse_proof(code)
    except BadInput as fault:
        return Proof(Finding.UNREADABLE, fault.message)
    fitting = [entry for entry in await server.store.scan_kinds([Kind.HAND_IN]) if entry.id.startswith(beginning)]
    if len(fitting) > _MOST_FITTING:
        return Proof(
            Finding.AMBIGUOUS,
            f"{len(fitting)} works fit this proof, which happens to nobody by chance: whoever made them did it on "
            "purpose, and it proves none of them",
        )
    if fitting:
        return await _judged(server, fitting[0])
    return Proof(
        Finding.UNKNOWN, "no hand-in of this proof is here: it was made elsewhere, or no machine has brought it yet"
    )


async def _judged(server: Server, entry: Entry) -> Proof:
    view = await server.replica.view(entry.header.space)
    work = view.coursework.hand_ins.get(entry.id)
    if work is None:
        if entry.id in view.roster.held_back:
            return Proof(
                Finding.HELD_BACK, "this work came from a device after it was cut off, and waits for somebody to judge"
            )
        return Proof(Finding.ERASED, "this work was here, and has been erased or cannot be read")
    listed = view.roster.who(work.person)
    person = view.roster.named(listed)
    content_here = await server.holdings.is_complete(Need(work.space, work.record.content.stream, sealed=True))
    return Proof(
        Finding.NOTHING,
        "this work was handed in",
        work,
        view.coursework.items.get(work.item),
        None if person is None else person.name,
        (await called_in(server.replica, view.roster)).get(listed),
        None if listed == work.person else listed,
        content_here,
        await names_of_words(server.replica, view.roster, work.opened_under),
    )
