"""What the words of replaced keys lead to and nobody here has: it counts no more, and that is asked about and told.

Rules:
- a server lacks none of its own words, until it is made anew: so where this one was, and its machines have not told all
  that they know, earlier words of its keys may be on their way, and new keys wait for them unless told not to;
- else they have burnt, or somebody who has a copy of the keys keeps them back: that is told, and they are held back;
- who has a copy writes words that lead to others without end: where there are more than a revocation names, only a time
  tells what stays.

docs/adr/0330.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from protocol.errors import BadInput, Code
from protocol.limits import MAX_REVOKED_ABSENT
from protocol.model.entry import Kind, parsed
from protocol.model.structure import Revocation
from protocol.replica.office.absent import gaps_of
from sync_server.handlers.store.restored import told_since, unheard_since_made
from sync_server.opened.app import Server


async def check_gaps(server: Server, replaced: Mapping[bytes, Collection[bytes] | None], since_ms: int | None) -> None:
    """Raise `BadInput`: USAGE for more gaps than there is room for, NOT_YET for some that machines may still fill."""
    spaces, absent = server.replica.door.spaces(), 0
    for key, known in replaced.items():
        gaps = await gaps_of([key], spaces, server.store, known)
        absent += len(gaps.absent)
        if gaps.beyond:
            raise BadInput(
                Code.USAGE,
                f"what the old key {key.hex()[:16]}… has said leads to more than {MAX_REVOKED_ABSENT} words that "
                "nobody here has: somebody else has written with it. Say when it was last in good hands (--since 36h, "
                "--since 2026-11-20); with `--anyway`, what leads to more of them counts no more either, and waits",
            )
    unheard = await unheard_since_made(server) if absent and since_ms is None else None
    if unheard is not None:
        raise BadInput(
            Code.NOT_YET,
            f"this server lacks {absent} earlier words of the old keys, which would count no more when they turn up: "
            f"it was made anew, and {told_since(unheard)}. Call this again once they have; if they never will, or the "
            "keys have to end now, with --anyway",
        )


async def told_of_gaps(server: Server) -> list[str]:
    """What to tell of the gaps in what keys had said that were replaced last."""
    store, root = server.store, server.replica.door.root_now
    certificate = (await store.get([server.grant]))[server.grant]
    found = []
    for cut in await store.scan_kinds([Kind.REVOKE]):
        if cut.header.author != root or cut.header.at <= certificate.header.at:
            continue
        said = parsed(cut, Revocation.parse)
        if said is not None and said.key in server.replica.door.server_keys() and said.absent:
            found.append(
                f"the words of the old key {said.key.hex()[:16]}… lead to {len(said.absent)} earlier ones that nobody "
                "here has, or had by then: wherever they turn up, they count for nothing and wait. A server that was "
                "never made anew lacks none of its own: somebody else has that key, and keeps back what they signed"
            )
    return found
