"""What is said with the kit: the entries are the root's, who signs them elsewhere (docs/adr/0036, 0128)."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.errors import BadInput, Code
from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Compose, Draft
from protocol.replica.at_work.signer import RootKit
from protocol.replica.office.bureau import Office


def check_kit(office: Office, kit: RootKit) -> None:
    """Raise `BadInput(BAD_KIT)` unless this is the kit of the territory, with the root in force."""
    if kit.root.public != office.replica.door.root_now:
        raise BadInput(Code.BAD_KIT, "this is the kit of another territory, or one that a newer kit has replaced")


async def write_as_root(office: Office, kit: RootKit, drafts: Sequence[Draft] | Compose) -> list[Entry]:
    """Say something as the root: all drafts in one durable transaction."""
    return await office.replica.write(
        drafts, author=kit.root, now_ms=office.now_ms(), entropy=office.entropy, unsent=False
    )
