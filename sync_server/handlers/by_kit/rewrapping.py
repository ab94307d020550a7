"""The recovery key opens hand-ins to a teacher who has lost every key: by the kit, elsewhere, and never unseen.

Rules:
- the command that has the kit opens and seals: no content key comes here;
- for which device, and in which classes, a human has said (`standing`);
- nothing is sealed to a key that a device which is gone has too (docs/adr/0520);
- what is written is wraps, signed by the root; the work itself stays sealed;
- what the kit has sealed to that device before is passed over, and told: on a server in wrong hands it may have sealed
  what opens nothing, and is asked again (docs/adr/0335);
- each use is said by an entry of the territory, before anything else of it can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from protocol.model.entry import Kind
from protocol.model.structure import Rewrap
from protocol.model.work import Wraps
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.as_root import write_as_root
from sync_server.handlers.by_kit.standing import Standing
from sync_server.kit.away import KitAway
from sync_server.opened.app import Server

_AT_ONCE: Final = 256


async def rewrap(
    server: Server, kit: KitAway, person: bytes, chosen: Iterable[Standing], *, again: bool = False
) -> tuple[int, int]:
    """Wrap for a teacher's device, where it was chosen to stand as theirs, with a key of its own, what it lacks.

    How many works, and how many were passed over, since a root of the territory has wrapped them for it (none if
    `again`). Raises what the command with the kit refuses with.
    """
    opened, passed_over, roots = 0, 0, frozenset(server.replica.door.roots)
    for each in chosen:
        if each.is_spent:
            continue
        space, key = each.space, each.reading_key
        here = [*(await server.replica.view(space)).coursework.hand_ins.values()]
        works = [work for work in here if again or roots.isdisjoint(work.wrapped_by.get(key, ()))]
        passed_over += len(here) - len(works)
        seals = await kit.rewrapped(works, each.device, each.said)
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
