"""Which servers' keys new ones replace, and what of each stays (§5; docs/adr/0187).

Rules:
- without a time, each key that still is a server's, with all that it has said here: a backup may hold one of those;
- with a time, each that ever was, also those that were replaced since: of what it said that stays which was noted here
  by then. The root's revocations of one key intersect, so that one which names less takes back what another had left;
- what this very server was given since then it keeps, with all that it says: its keys were made where somebody who
  had the earlier ones sees nothing. Of a key that was made elsewhere, or before a `restore`, that is not known;
- a key is replaced already that was cut off: whoever has a copy of it gives it a further right, and ends that right
  (docs/adr/0508);
- a key that was certified by then, and had said nothing here, says that too little is known: that is asked about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from protocol.errors import BadInput, Code
from protocol.model.entry import Entry
from protocol.replica.office.arrivals import NOTE_INTERVAL_S, authored_by, first_note
from protocol.replica.office.heads import MOST_LISTED_HEADS
from protocol.rights.roster import Roster
from protocol.roles import Role
from sync_server.opened.app import Server

_NOTHING_DONE: Final = "nothing was done, and the keys that counted still count"
_AT_ONCE: Final = (
    "The old keys end at once without a time, and what they have said stays until you give one: "
    "`sync-server rotate server --kit KIT`"
)


async def replaced_keys(
    server: Server, since_ms: int | None = None, *, anyway: bool = False, named: Collection[bytes] = ()
) -> Mapping[bytes, Collection[bytes] | None]:
    """The keys that new ones replace, each with what of it stays: None for all that it has said.

    Those of the certificates that are `named` beside the new one are among them, whether these count by now or not.

    Raises `BadInput`: USAGE where a thief has forked a key so often that only a time tells what stays; BAD_DATE for a
    time that no key is older than, and, if not `anyway`, of which too little was noted.
    """
    roster = (await server.replica.view(server.replica.territory)).roster
    if since_ms is not None:
        return await _by_then(server, roster, since_ms, named, anyway=anyway)
    keys = [key for key in await _certified(server, roster, named) if key not in roster.reported]
    for key in keys:
        count = sum([len(await server.replica.tips(space, key)) for space in server.replica.door.spaces()])
        if count > MOST_LISTED_HEADS:
            raise BadInput(
                Code.USAGE,
                f"the old key has {count} last words, more than there is room for: somebody else has written with it. "
                "Say when it was last in good hands (--since 36h, --since 2026-11-20): what had come by then stays",
            )
    return dict.fromkeys(keys)


async def _by_then(
    server: Server, roster: Roster, since_ms: int, named: Collection[bytes], *, anyway: bool
) -> Mapping[bytes, Collection[bytes] | None]:
    store, now_ms = server.store, server.now_ms()
    certified = await _certified(server, roster, named)
    shown = await authored_by(store, server.replica.door.roots, since_ms, now_ms)
    own, cut_off = server.own_keys, roster.reported
    known: dict[bytes, Collection[bytes]] = {}
    unheard = []
    for key, certificates in certified.items():
        earliest_ms = min(each.timestamp_ms for each in certificates)
        was_there = earliest_ms <= since_ms if shown is None else not shown.isdisjoint(each.id for each in certificates)
        if key in own and not was_there:
            continue
        said = await authored_by(store, [key], since_ms, now_ms) or set()
        if not said and earliest_ms <= since_ms and await _has_spoken(server, key):
            unheard.append(key)
        known[key] = said
    if not known or (not anyway and (unheard or shown is None)):
        raise await _too_little(server, unheard, is_any_older=bool(known))
    found: dict[bytes, Collection[bytes] | None] = {
        key: said for key, said in known.items() if key not in cut_off or await _has_said_more(server, key, said)
    }
    return {server.keys.signing.public: None, **found}


async def _certified(server: Server, roster: Roster, named: Collection[bytes]) -> Mapping[bytes, list[Entry]]:
    """The certificates of each key that is, or was, a server's."""
    counting = {each.grant: each for each in roster.authorities if each.role is Role.SERVER}
    counting |= {name: each for name in named if (each := server.replica.door.authority(name)) is not None}
    entries = await server.store.get(list(counting))
    found: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for name, each in counting.items():
        if name in entries:
            found[each.key].append(entries[name])
    return found


async def _has_spoken(server: Server, key: bytes) -> bool:
    return any([await server.replica.tips(space, key) for space in server.replica.door.spaces()])


async def _has_said_more(server: Server, key: bytes, known: Collection[bytes]) -> bool:
    """Whether a key has said anything here beside what is known: where not, its revocations take nothing more."""
    for space in server.replica.door.spaces():
        if any(entry.id not in known for entry in await server.store.authored(space, key)):
            return True
    return False


async def _too_little(server: Server, unheard: Collection[bytes], *, is_any_older: bool) -> BadInput:
    first = await first_note(server.store, server.now_ms())
    if not is_any_older:
        return BadInput(
            Code.BAD_DATE,
            f"{_NOTHING_DONE}: no server's key that is known here is older than that. A server that was made anew "
            "hears of earlier ones from the first machine that calls it: call this again then, or with a later time. "
            f"{_AT_ONCE}",
        )
    whose = "" if not unheard else f" of the key {min(unheard).hex()[:16]}…, which was a server's"
    return BadInput(
        Code.BAD_DATE,
        f"{_NOTHING_DONE}: nothing was noted by that time{whose}. What has come when is known here for two months at "
        f"most, and not from before this server was made (the first note: {first}). It is noted every "
        f"{NOTE_INTERVAL_S / 60:.0f} minutes while `run` is up: wait until that was so after machines have called, and "
        "give a time after that; with `--anyway`, all that such a key has ever said counts no more, and waits. "
        f"{_AT_ONCE}",
    )
