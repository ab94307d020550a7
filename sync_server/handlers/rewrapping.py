"""The recovery key opens hand-ins to teachers who have lost every key: by the kit, in memory, and never unseen.

Rules:
- the kit's private keys are an argument and nowhere else: not in DIR, not in a log;
- what is written is wraps, signed by the root; the work itself stays sealed;
- each use is said by an entry of the territory, before anything else of it can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.entry import Kind
from protocol.errors import BadInput, Code
from protocol.hand_in_keys import content_key_of, info_of, teachers_keys, wraps_for
from protocol.kit import Kit
from protocol.limits import MAX_READERS_PER_HAND_IN
from protocol.replica.replica import Draft
from protocol.structure import Rewrap
from sync_server.app import Server
from sync_server.handlers.as_root import check_kit, write_as_root

_AT_ONCE = 256


async def rewrap(server: Server, kit: Kit, person: bytes | None, spaces: Sequence[bytes]) -> int:
    """Wrap for the teachers of `spaces` (none: of all), or for one of them, what they have no wrap of; how many works.

    Raises `BadInput(BAD_KIT)` for another territory's kit, `BadInput(UNKNOWN_PERSON)` for somebody without a key there.
    """
    check_kit(server, kit)
    opened, seen = 0, False
    for space in spaces or server.replica.door.spaces():
        view = await server.replica.view(space)
        theirs = teachers_keys(view.roster)
        keys = list(theirs.values()) if person is None else [theirs[person]] if person in theirs else []
        seen = seen or bool(keys)
        drafts = []
        for work in view.coursework.hand_ins.values():
            lacking = [key for each in keys if work.given.isdisjoint(each) for key in each]
            content_key = content_key_of(work, {kit.recovery.public: kit.recovery}) if lacking else None
            if content_key is not None:
                wraps = wraps_for(lacking[:MAX_READERS_PER_HAND_IN], content_key, info_of(work), server.entropy)
                drafts.append(Draft(space, Kind.WRAP, None, wraps.encode(), subject=work.person, target=work.id))
        if drafts:
            said = Rewrap(space, person, len(drafts)).encode()
            await write_as_root(server, kit, [Draft(server.replica.territory, Kind.REWRAP, None, said)])
            for start in range(0, len(drafts), _AT_ONCE):
                await write_as_root(server, kit, drafts[start : start + _AT_ONCE])
            opened += len(drafts)
    if person is not None and not seen:
        raise BadInput(
            Code.UNKNOWN_PERSON, "this person has no reading key there: enrol their new device, let it sync, try again"
        )
    return opened
