"""What is held back, and what is not, in the space in which it lies.

What is held back above, a thief's words by the thousand, is so in each space below it. Whoever looks through many
spaces looks in each at no more than has been said in it, and at each once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from itertools import groupby
from typing import TypeVar

from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.views import by_space
from protocol.rights.door import Authority
from protocol.rights.roster import Roster

T = TypeVar("T")


async def held_by_space(
    replica: Replica, spaces: Iterable[bytes], kinds: Collection[int], *, refused_by_root: bool = True
) -> AsyncIterator[tuple[Roster, list[Entry]]]:
    """Of these kinds what is held back in each of these spaces, and lies there, with what holds it back.

    All of it, where there is anything: of what is cut short by its ids or dates, which who writes chooses, a thief's
    is what is left (docs/adr/0558). What somebody has refused is among it, what a root has unless `refused_by_root`.
    """
    sizes, above = await replica.store.spaces(), dict[bytes, frozenset[bytes]]()
    for space in spaces:
        if not (size := sizes.get(space, 0)):
            continue
        # before its own fold, which may be so large that no other one is kept beside it
        line = replica.door.lineage(space)[1:]
        for higher in line:
            if higher not in above:
                above[higher] = (await replica.view(higher)).roster.held_back
        roster = (await replica.view(space)).roster
        waiting = roster.held_back if refused_by_root else roster.held_back - roster.refused_by_root
        if size <= len(waiting):
            said = [stored.entry for stored in await replica.store.of_kinds(space, kinds)]
            held = [entry for entry in said if entry.id in waiting]
        else:
            waiting = waiting.difference(*[above[higher] for higher in line])
            found = (await replica.store.get(sorted(waiting))).values() if waiting else ()
            held = [entry for entry in found if entry.header.space == space and entry.header.kind in kinds]
        if held:
            yield roster, held


async def not_held_back(replica: Replica, entries: Collection[Entry]) -> list[Entry]:
    """Those of these that nothing holds back where they lie, in their order."""
    return await counting_where_they_lie(
        replica, entries, lambda entry: entry.header.space, lambda roster, entry: entry.id not in roster.held_back
    )


async def grants_not_held_back(replica: Replica, grants: Collection[Authority]) -> list[Authority]:
    """The same of grants."""
    return await counting_where_they_lie(
        replica, grants, lambda grant: grant.space, lambda roster, grant: grant.grant not in roster.held_back
    )


async def grants_not_undone(replica: Replica, grants: Collection[Authority]) -> list[Authority]:
    """Those of these that the root's own word does not hold back: the others were never given (docs/adr/0470)."""
    return await counting_where_they_lie(
        replica, grants, lambda grant: grant.space, lambda roster, grant: grant.grant not in roster.held_by_root
    )


async def fallen(replica: Replica, keys: Collection[bytes]) -> set[bytes]:
    """The grants that are held back because of these keys: written by them, or by whom they let in, and so on.

    Of a server's key, which nobody but the root cuts off, those that the root's own word holds back. Whoever cuts a
    device off and lets it in again holds back as well what it came in by.
    """
    servers = replica.door.server_keys()
    given = await counting_where_they_lie(
        replica,
        list(replica.door.authorities()),
        lambda grant: grant.space,
        lambda roster, grant: grant.grant in _fell(roster, by_server=grant.author in servers),
    )
    fell, pending = set[bytes](), [each for each in given if each.author in keys]
    below = defaultdict[bytes | None, list[Authority]](list)
    for each in given:
        below[each.under].append(each)
    while pending:
        here = pending.pop()
        if here.grant not in fell:
            fell.add(here.grant)
            pending += below[here.grant]
    return fell


def _fell(roster: Roster, *, by_server: bool) -> Collection[bytes]:
    return roster.held_by_root if by_server else roster.held_back


async def counting_where_they_lie(
    replica: Replica, things: Collection[T], space_of: Callable[[T], bytes], counts: Callable[[Roster, T], bool]
) -> list[T]:
    """Those of these that count by the roster of their own space, in their order; each space is looked at once."""
    numbered = by_space(enumerate(things), lambda each: space_of(each[1]))
    found: list[tuple[int, T]] = []
    for space, lying in groupby(numbered, lambda each: space_of(each[1])):
        roster = (await replica.view(space)).roster
        found += [each for each in lying if counts(roster, each[1])]
    return [thing for _, thing in sorted(found, key=lambda each: each[0])]
