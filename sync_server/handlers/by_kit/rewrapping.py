"""The recovery key opens hand-ins to a teacher who has lost every key: by the kit, elsewhere, and never unseen.

Rules:
- the command that has the kit opens and seals: no content key comes here;
- for whom is said by six words that a human has read on the teacher's own screen: whoever had the server may have named
  a device as hers and dated its key before hers, and what a server believes is no reason to open earlier work;
- what is written is wraps, signed by the root; the work itself stays sealed;
- what the kit has sealed to that device before is passed over, and told: on a server in wrong hands it may have sealed
  what opens nothing, and is asked again (docs/adr/0335);
- each use is said by an entry of the territory, before anything else of it can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from protocol.clock import milliseconds_of, rfc3339
from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey, Rewrap
from protocol.model.work import Wraps
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.text import local_time
from protocol.replica.office.as_root import check_kit, write_as_root
from protocol.rights.door import Authority
from protocol.rights.vouching import Device, device_words
from protocol.roles import HAS_READING_KEYS
from sync_server.kit.away import KitAway
from sync_server.kit.errands import is_shown
from sync_server.opened.app import Server

_AT_ONCE: Final = 256

_ReadingKey: TypeAlias = tuple[Authority, Entry]
"""The grant of a device, and the entry in which it names its reading key."""


async def rewrap(
    server: Server, kit: KitAway, person: bytes, words: str | None, spaces: Sequence[bytes], *, again: bool = False
) -> tuple[int, int]:
    """Wrap, in `spaces` (none: in all), for the device of a teacher with these six words, what it has no wrap of.

    How many works, and how many were passed over, since a root of the territory has wrapped them for it (none if
    `again`). Raises `BadInput`: BAD_KIT for another territory's kit, UNKNOWN_PERSON for somebody without a key
    there, USAGE, which lists the person's devices, for no words or for those of none.
    """
    check_kit(server, kit)
    found = [
        (space, device)
        for space in spaces or server.replica.door.spaces()
        for device in await _devices(server, space, person)
    ]
    if not found:
        raise BadInput(
            Code.UNKNOWN_PERSON, "this person has no reading key there: enrol their new device, let it sync, try again"
        )
    chosen = [(space, *device) for space, device in found if is_shown(words, device[0].pair)]
    if not chosen:
        raise BadInput(Code.USAGE, _which(words, (grant for _, (grant, _) in found)))
    opened = passed_over = 0
    for space, grant, said in chosen:
        key = PersonKey.parse(said.payload or b"").agreement
        here = [*(await server.replica.view(space)).coursework.hand_ins.values()]
        works = [
            work
            for work in here
            if again or work.wrapped_by.get(key, frozenset()).isdisjoint(server.replica.door.roots)
        ]
        passed_over += len(here) - len(works)
        seals = await kit.rewrapped(works, grant.pair, said)
        drafts = [
            Draft(space, Kind.WRAP, None, Wraps(((key, seal),)).encode(), subject=work.person, target=work.id)
            for work, seal in zip(works, seals, strict=True)
            if seal is not None
        ]
        if drafts:
            used = Rewrap(space, person, len(drafts)).encode()
            await write_as_root(server, kit, [Draft(server.replica.territory, Kind.REWRAP, None, used)])
            for start in range(0, len(drafts), _AT_ONCE):
                await write_as_root(server, kit, drafts[start : start + _AT_ONCE])
            opened += len(drafts)
    return opened, passed_over


async def _devices(server: Server, space: bytes, person: bytes) -> list[_ReadingKey]:
    """The devices that were let in as a person's in a space, each with the latest reading key that it made there."""
    roster = (await server.replica.view(space)).roster
    latest: dict[bytes, _ReadingKey] = {}
    said = [entry for entry in await server.store.scan_kinds([Kind.PERSON_KEY]) if entry.header.space == space]
    theirs = {
        grant.grant: grant
        for grant in roster.authorities
        if grant.role in HAS_READING_KEYS and grant.person == person and grant.key not in roster.cut
    }
    for entry in sorted(said, key=lambda entry: (entry.header.at, entry.id)):
        grant = theirs.get(entry.header.grant or b"")
        if grant is not None and entry.header.subject == grant.person:
            with suppress(PeerFault):
                PersonKey.parse(entry.payload or b"")
                latest[grant.key] = grant, entry
    return list(latest.values())


def _which(words: str | None, grants: Iterable[Authority]) -> str:
    """The devices between which a human decides, by the words that stand on their screens; none shows `words`."""
    since: dict[Device, int] = {}
    for grant in grants:
        at_ms = milliseconds_of(grant.at)
        since[grant.pair] = min(at_ms, since.get(grant.pair, at_ms))
    devices = "; ".join(f"{device_words(pair)} (let in {_day(at_ms)})" for pair, at_ms in since.items())
    wrong = "" if words is None else f"no device that is named as this person's shows “{words}”: "
    return (
        f"{wrong}say for which device, by the six words that the teacher reads to you from its own screen (sync-agent "
        f"key readers): --words. Named as this person's, rightly or not, are: {devices}"
    )


def _day(at_ms: int) -> str:
    return local_time(rfc3339(at_ms) or "")
