"""What machines that were cut off long ago were called, and when they were heard of, is remembered no more.

Rules (docs/privacy.md, "How long"):
- that is so once both the last word that cut them off, and the last that was heard of them, are a year old: a word has
  its author's date, what was heard has this server's, so nobody hides by a date what a machine in use is called;
- the last week of that is watched, as of all that waits (`pace`): the clock that is set a year ahead for one look takes
  nothing (docs/adr/0575);
- that they were there, and when they were cut off, is in the set; what they have told is waited for as before.
"""

from __future__ import annotations

from typing import Final

from protocol.limits import CUT_OFF_KEPT_MS, ERASURE_DELAY_MS
from protocol.model.entry import Kind, parsed
from protocol.model.structure import Revocation
from protocol.replica.upkeep.eraser import LONG_GONE
from sync_server.handlers.overview.members import Members
from sync_server.opened.app import Server

_WATCHED_MS: Final = ERASURE_DELAY_MS


async def forget_long_gone(server: Server, now_ms: int) -> None:
    """Let go of them, in memory, marks and reports, at a look at `now_ms` (`Pace`). Raises `LocalFailure`."""
    quiet = await _quiet_before(server, now_ms - CUT_OFF_KEPT_MS + _WATCHED_MS)
    since = await LONG_GONE.look(server.store, quiet, now_ms)
    gone = {key for key, at_ms in since.items() if at_ms <= now_ms - _WATCHED_MS}
    if gone:
        await server.forget_devices(gone)


async def _quiet_before(server: Server, until_ms: int) -> set[bytes]:
    """Of which machines that are cut off something is remembered, though nothing was said or heard of them since."""
    heard = {*server.contacts.told_of(), *server.reports.devices}
    cut_ms: dict[bytes, int] = {}
    for entry in await server.store.scan_kinds([Kind.REVOKE]) if heard else ():
        if (said := parsed(entry, Revocation.parse)) is not None and said.key in heard:
            cut_ms[said.key] = max(entry.timestamp_ms, cut_ms.get(said.key, 0))
    quiet = {key for key, at_ms in cut_ms.items() if at_ms < until_ms and _last_ms(server, key) < until_ms}
    members = await Members(server).list(await server.store.spaces()) if quiet else ()
    return {member.id for member in members if member.cut and member.id in quiet}


def _last_ms(server: Server, device: bytes) -> int:
    heard = server.contacts.of(device)
    return max(heard.enrolled_ms or 0, heard.seen_ms or 0, heard.current_ms or 0)
