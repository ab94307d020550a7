"""Which devices there are, by their grants, and which of them have been let go.

Only where a key has been revoked or was passed on, or was let in by one whose own access may have gone, must a space be
folded to learn what still holds; everywhere else nothing is cut. So the list costs little, however many schools there
are, and is made anew only when a grant or a revocation has come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Revocation
from protocol.replica.office.device_cuts import cut_off_here, orders_by_key
from protocol.replica.office.held_codes import came_by_reported_codes, let_in_by_codes_of
from protocol.replica.office.held_in_space import not_held_back
from protocol.replica.office.known_here import agreed_to
from protocol.rights.door import Authority, Door
from protocol.roles import DEVICES, Role
from sync_server.handlers.overview.devices import Device, Member, device_of
from sync_server.opened.app import Server


class Members:
    """Every device that was ever granted anything, in the order of their first grants."""

    def __init__(self, server: Server) -> None:
        """Over an opened server; nothing is read before `list`."""
        self._server = server
        self._made_from: object = None
        self._entries: tuple[int, Mapping[bytes, int]] | None = None
        self._members: tuple[Member, ...] = ()

    async def list(self, counts: Mapping[bytes, int]) -> tuple[Member, ...]:
        """The devices; `counts` are the entries of each space, as the store counts them now."""
        noted = self._server.replica.noted
        if (noted, counts) == self._entries:
            return self._members
        authorities = [each for each in self._server.replica.door.authorities() if each.role in DEVICES]
        revoked = {key for entry in await self._server.store.scan_kinds([Kind.REVOKE]) if (key := _key_revoked(entry))}
        reached = _reached_by(revoked, authorities)
        doubtful: dict[bytes, list[Authority]] = {}
        for authority in authorities:
            if authority.key in reached or authority.predecessor is not None:
                doubtful.setdefault(authority.space, []).append(authority)
        lines = {above for space in doubtful for above in self._server.replica.door.lineage(space)}
        made_from = (noted, len(authorities), len(revoked), [(space, counts.get(space, 0)) for space in sorted(lines)])
        if made_from != self._made_from:
            closed = await self._closed(doubtful)
            self._members = _members(authorities, closed, await self._let_in_since(authorities, closed))
            self._made_from = made_from
        self._entries = noted, dict(counts)
        return self._members

    async def _closed(self, doubtful: Mapping[bytes, Iterable[Authority]]) -> set[bytes]:
        """The grants that a revocation cuts or holds back."""
        closed = set()
        for space, grants in doubtful.items():
            roster = (await self._server.replica.view(space)).roster
            giving_none = roster.held_back | roster.void
            closed |= {each.grant for each in grants if each.key in roster.cut or each.grant in giving_none}
        return closed

    async def _let_in_since(self, authorities: Iterable[Authority], closed: Container[bytes]) -> set[bytes]:
        """Whom a server has cut off, and who reads by what others have said, which came since (docs/adr/0236).

        So has whoever says it with a copy of this server's key: it has noted what it said itself (docs/adr/0406).
        """
        door, store = self._server.replica.door, self._server.store
        is_out = await cut_off_here(self._server)
        said = await store.scan_kinds([Kind.REVOKE])
        orders = orders_by_key(entry for entry in said if _is_by_server(door, entry.header.grant))
        standing: dict[bytes, list[Authority]] = {}
        for each in authorities:
            if each.key in orders and each.grant not in closed:
                standing.setdefault(each.key, []).append(each)
        by_others = {
            key: held for key, held in standing.items() if not any(_is_by_server(door, each.under) for each in held)
        }
        rights = await store.scan_kinds([Kind.REVOKE, Kind.GRANT, Kind.SUCCESSOR]) if by_others else ()
        came = {entry.id: place for place, entry in enumerate(rights)}
        found = {each.key for each in authorities if each.grant not in closed and is_out(each)}
        for key, held in by_others.items():
            # one that is held back is no order, nor does it take the place of one that is
            *_, last = [None, *(await not_held_back(self._server.replica, orders[key]))]
            if last is not None and all(came.get(each.grant, 0) > came[last.id] for each in held):
                found.add(key)
        return found | await self._let_in_by_codes(orders, closed) | await self._by_reported_codes(authorities, closed)

    async def _let_in_by_codes(self, orders: Mapping[bytes, Collection[Entry]], closed: Container[bytes]) -> set[bytes]:
        """Who came in elsewhere by codes of whom these orders cut off that their report holds back (docs/adr/0276)."""
        replica, found = self._server.replica, set[bytes]()
        door = replica.door
        by_others = await let_in_by_codes_of(
            self._server, orders, counted=lambda grant: not _is_by_server(door, grant.under)
        )
        for maker, elsewhere in by_others.items():
            for key, led in elsewhere.items() if await not_held_back(replica, orders[maker]) else ():
                there = [each for each in door.authorities_of(key) if led is None or each.space in led]
                if not any(each.grant not in closed and _is_by_server(door, each.under) for each in there):
                    found.add(key)
        return found

    async def _by_reported_codes(self, authorities: Iterable[Authority], closed: Container[bytes]) -> set[bytes]:
        """Whom servers' keys let in by codes that a report here holds back; nobody has agreed to it (docs/adr/0497)."""
        door, is_agreed_to = self._server.replica.door, await agreed_to(self._server.store)
        came = await came_by_reported_codes(self._server, lambda grant: _is_by_server(door, grant.under))
        standing = {each.key for each in authorities if each.key in came and each.grant not in closed}
        return standing - {each.key for each in authorities if each.key in came and is_agreed_to(each)}


async def list_devices(server: Server) -> list[Device]:
    """Every device as it is now, without the hand-ins that are awaited of it."""
    now_ms = server.now_ms()
    return [
        device_of(member, server.contacts.of(member.id), server.reports.of(member.id), now_ms)
        for member in await Members(server).list(await server.store.spaces())
    ]


def _is_by_server(door: Door, under: bytes | None) -> bool:
    """Whether what was written under this right is a server's, or the root's."""
    right = door.authority(under)
    return right is None or right.role is Role.SERVER


def _members(
    authorities: Iterable[Authority], closed: Container[bytes], let_in_since: Container[bytes]
) -> tuple[Member, ...]:
    grants: dict[bytes, list[Authority]] = {}
    for authority in authorities:
        grants.setdefault(authority.key, []).append(authority)
    shared: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
    members = []
    for key, held in grants.items():
        spaces = tuple(dict.fromkeys(grant.space for grant in held))
        standing = [grant for grant in held if grant.grant not in closed]
        role = max(standing or held, key=lambda grant: grant.rank).role
        cut = not standing
        clone_of = next((grant.predecessor for grant in held if grant.predecessor is not None), None)
        confirmed = any(grant.predecessor is None for grant in held)
        here = shared.setdefault(spaces, spaces)
        members.append(Member(key, role, here, cut, clone_of, confirmed, let_in_since=key in let_in_since))
    return tuple(members)


def _reached_by(revoked: Collection[bytes], authorities: Collection[Authority]) -> set[bytes]:
    """The keys that were cut off, whom they have let in, and whom these have: all whose access may be gone with it."""
    let_in: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for each in authorities:
        let_in[each.author].append(each.key)
    reached, pending = set(revoked), list(revoked)
    for author in pending:
        fresh = set(let_in.get(author, ())) - reached
        reached |= fresh
        pending += fresh
    return reached


def _key_revoked(entry: Entry) -> bytes | None:
    said = parsed(entry, Revocation.parse)
    return None if said is None else said.key
