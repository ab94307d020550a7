"""The form with which an item is changed: of which version it is made, whose that is, and what has come since.

Rules (docs/adr/0305):
- the form names the version that it is made of, and the head that was shown then; what it does not bring stays as the
  first has it;
- of a version that is not the teacher's own word no file is published in her name before she has said that she has
  looked at it, or chosen others;
- where somebody else's version has come since, nothing is published the first time: the form is shown again, with
  what has come. Sent once more it goes: whoever publishes without end keeps nobody from publishing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protocol.errors import BadInput, Code
from protocol.folds.coursework import Version
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON
from sync_agent.coursework.own_versions import OwnVoice, own_voice
from sync_agent.portal.each_page.visit import Visit
from sync_agent.portal.everybody.item_pages import ItemPages
from sync_agent.portal.files.uploads import Form
from sync_agent.portal.shown.shelf import Piece, Shelf

_YES: Final = "yes"


@dataclass(frozen=True, slots=True)
class Change:
    """What the form says beside its fields.

    `base` is the version that it is made of, and `told` what is to be known of it where another computer than the
    teacher's wrote it; `asks` says that she has to say that she has looked at it, and `took` that she has; `mine` is
    the last version of her own, to begin with that. `news` is what has come since she was shown the form.
    """

    base: Version
    seen: bytes
    told: Mapping[str, object] | None
    asks: bool
    took: bool
    mine: Mapping[str, object] | None
    news: Mapping[str, object] | None


async def change_of(
    items: ItemPages, shelf: Shelf, visit: Visit, piece: Piece, fields: Mapping[str, str], wanted: str | None
) -> Change:
    """The change of an item that is begun, of the version that is `wanted`, or goes on as `fields` were sent."""
    item = piece.item
    voice = await own_voice(shelf.agent, item.space)
    base = _version(piece, fields.get("keep") or wanted)
    mine = None if voice.has(base) else voice.newest(item)
    has_news = bool(fields) and fields.get("seen") != item.shown.id.hex() and item.shown.author != shelf.agent.device

    async def told(version: Version | None) -> Mapping[str, object] | None:
        return None if version is None else await items.told_version(visit, piece, version, nobody="unknown.somebody")

    return Change(
        base=base,
        seen=item.shown.id,
        told=None if voice.is_own(base) else await told(base),
        asks=not voice.has(base),
        took=fields.get("took") == base.id.hex(),
        mine=await told(mine),
        news=await told(item.shown if has_news else None),
    )


async def change_meant(shelf: Shelf, piece: Piece, form: Form) -> dict[str, JSON]:
    """What the form adds to the parameters of `publish`.

    Raises `BadInput` (NOT_YET where she has not said that she has looked at what would be hers; UNKNOWN_REVISION).
    """
    item = piece.item
    keep = given.identifier(form.fields, "keep", Code.UNKNOWN_REVISION, "revision")
    if (version := item.versions.get(keep)) is None:
        raise BadInput(Code.UNKNOWN_REVISION, "the version that was changed is not there any more")
    voice: OwnVoice = await own_voice(shelf.agent, item.space)
    if not (voice.has(version) or form.files.files or form.text("took") == keep.hex()):
        raise BadInput(Code.NOT_YET, "nobody has said that they have looked at that version")
    meant: dict[str, JSON] = {"keep": keep.hex()}
    if form.text("told") != _YES:
        meant["seen"] = given.identifier(form.fields, "seen", Code.UNKNOWN_REVISION, "revision").hex()
    return meant


def _version(piece: Piece, wanted: str | None) -> Version:
    named = (version for version in piece.item.versions.values() if version.id.hex() == wanted)
    return next(named, piece.item.shown)
