"""Enrolment at a server, which may have been made anew since a code was (docs/protocol.md, "Enrolment"; docs/adr/0322).

Rules:
- how often a code was used is counted in the set, and who made it may have been cut off: a server that was restored, or
  made anew, takes what it has not been told for what is not so. Until its machines have told it all that they know a
  code that its present keys did not make lets nobody in, whoever made it, and a new one is asked for;
- so with every code of before where it has lost entries (docs/adr/0350): those of its present keys too;
- whom such a code has let in already gets the same answer again.
"""

from __future__ import annotations

from protocol.errors import Code, Refused
from protocol.model.entry import Entry
from protocol.replica.office.bureau import is_own
from protocol.replica.office.enrolment import Enrolment
from sync_server.handlers.store.restored import restored
from sync_server.opened.app import Server


def enrolment_at(server: Server) -> Enrolment:
    """What answers `enroll` at a server."""

    async def check_use(invite: Entry) -> None:
        await check_not_of_before(server, invite)

    return Enrolment(server, server.contacts.note_enrolment, check_use=check_use)


async def check_not_of_before(server: Server, invite: Entry) -> None:
    """Raise `Refused(CODE_WRONG)` for a code that may have been used, or taken back, untold as yet."""
    is_since = server.loss is None or invite.timestamp_ms > server.loss.at_ms
    if (is_own(server, invite) and is_since) or await restored(server) is None:
        return
    raise Refused(
        Code.CODE_WRONG,
        "this server was made anew after this code, or has lost entries, or made it not itself, and does not know yet "
        "whether it was used: ask for a new one, made at the server (`sync-server invite`, or the administrators' "
        "pages)",
    )
