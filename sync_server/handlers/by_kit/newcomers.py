"""Who came in by codes of the server's old keys where these wrote no grant: at a head teacher's computer (§5).

Rules:
- her computer honours a code by itself (docs/adr/0142): the grant is hers, and stands when the key of the code is cut
  off;
- what old keys had said since a time is held back, and so is all that stems from it, through any number of steps: a
  right of an administrator's, the head's that this one wrote, the codes of both (docs/adr/0299);
- whoever came in by such a code, at this server too, is cut off as well, as with `lost`, in the new server's name; a
  grant to the device itself lets it back in, for good;
- what such a key had said is held back as well where its device was taken out and let in again since: that is no word
  of the root's, and nobody falls by it (docs/adr/0500);
- nor does it end what this server has given on since, with keys that still count, to a device whose first grant is
  held back, of whatever role: it is cut off there, unless somebody has let it in by its own name, or a later code of
  somebody known has (docs/adr/0407); where a head teacher's computer has given it on, it is told (docs/adr/0394);
- who is cut off so and may let others in has said nothing since that time either, and whom it let in goes with it;
- without a time nobody knows which of them a thief had let in: each is told, for somebody to look at, with whoever came
  in by codes of devices that old keys let in and nobody here knows, and with these;
- who came by the latter stands apart, since a school's own PCs come in by codes of the old keys; and what came last
  stands first (docs/adr/0564).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.model.entry import Kind
from protocol.model.structure import Invite
from protocol.replica.office.held_codes import let_in_by_codes_of
from protocol.replica.office.held_in_space import fallen, not_held_back
from protocol.replica.office.known_here import KnownHere, let_in_by_code, let_in_by_name
from protocol.replica.office.withdrawals import revoke_device
from protocol.replica.office.words_of_office import in_force
from protocol.rights.door import Authority
from protocol.rights.vouching import Device
from protocol.roles import DEVICES, SHARED, Role
from sync_server.opened.app import Server

_OFFICES: Final = frozenset({Role.ADMIN, Role.HEAD})
"""Who lets others in."""


@dataclass(frozen=True, slots=True)
class CameIn:
    """The devices in use that came in by codes, each once, and the latest first."""

    by_strange: Sequence[Device] = ()
    """Whom anybody let in by a code of somebody whom this server does not know."""
    by_old: Sequence[Device] = ()
    """Whom somebody who is no server let in by a code of old keys."""


async def came_in_elsewhere(server: Server, old: Collection[bytes]) -> CameIn:
    """Who came in by codes that open nothing here any more, and stays."""
    door, known = server.replica.door, await KnownHere.of(server)
    codes, strange = set[bytes](), set[bytes]()
    for made in await server.store.scan_kinds([Kind.INVITE]):
        maker = door.authority(made.header.grant)
        if made.header.author in old:
            codes.add(made.id)
        elif not await known.is_from_known_hands(maker):
            strange.add(made.id)
    by_strange, by_old, is_named = dict[Device, None](), dict[Device, None](), await let_in_by_name(server.store)
    for grant in reversed(list(door.authorities())):
        is_old = grant.invite in codes and _is_below(door.authority(grant.under))
        came = by_strange if grant.invite in strange else by_old if is_old else None
        if came is None or is_named(grant):
            continue
        if (await server.replica.view(grant.space)).roster.may_read(grant.key):
            came[grant.pair] = None
    return CameIn(list(by_strange), [each for each in by_old if each not in by_strange])


async def strange_offices(server: Server) -> list[Device]:
    """The devices in use that let others in, and that come of replaced keys and of nobody whom this server knows.

    What came last stands first.
    """
    known, found = await KnownHere.of(server), dict[Device, None]()
    for each in [each for each in reversed(list(server.replica.door.authorities())) if each.role in _OFFICES]:
        if not await known.is_from_known_hands(each) and await in_force(server.replica, each):
            found[each.pair] = None
    return list(found)


async def cut_off_with_codes(server: Server, old: Collection[bytes], since_ms: int) -> list[bytes]:
    """Cut off whoever came in by a code of these keys, or that stems from them, and is held back; who was so.

    But for whom somebody has let in by its own name since: this is said again once machines have called.
    """
    fell = await fallen(server.replica, old)
    made = await server.store.scan_kinds([Kind.INVITE])
    codes = {each.id: each.header.author for each in made if each.header.author in old or each.header.grant in fell}
    found, is_named = [], await let_in_by_name(server.store)
    came = await let_in_by_codes_of(
        server, set(codes.values()), counted=lambda given: given.invite in codes and not is_named(given)
    )
    for device, led in _together(came.values()).items():
        if await server.replica.readable(device):
            await _cut_off(server, device, led, since_ms)
            found.append(device)
    return found


def _together(came: Iterable[Mapping[bytes, frozenset[bytes] | None]]) -> dict[bytes, frozenset[bytes] | None]:
    """To which spaces codes led each device, whoever made them; None is everywhere."""
    found = dict[bytes, frozenset[bytes] | None]()
    for of_one in came:
        for device, led in of_one.items():
            before = found.get(device, frozenset())
            found[device] = None if led is None or before is None else before | led
    return found


async def _cut_off(server: Server, device: bytes, within: frozenset[bytes] | None, since_ms: int) -> None:
    """Cut a device off with what it has said since: as of whom the old keys let in themselves, nothing of it counts."""
    await revoke_device(server, device, anyway=True, within=within, since_ms=since_ms)


async def cut_off_where_given_on(server: Server, old: Collection[bytes], since_ms: int) -> list[Device]:
    """Cut off where this server let them in further: devices whose first grant stems from these keys, and is held back.

    Those that were cut off by this.
    """
    found = []
    for key, standing in (await _given_on(server, old)).items():
        by_servers = [each for each in standing if not _is_below(server.replica.door.authority(each.under))]
        if by_servers:
            await _cut_off(server, key, frozenset(each.space for each in by_servers), since_ms)
            found.append((key, by_servers[0].agreement))
    return found


async def given_on_elsewhere(server: Server, old: Collection[bytes]) -> list[Device]:
    """Such devices as a head teacher's computer has let in further: that is her word, and stays."""
    return [(key, standing[0].agreement) for key, standing in (await _given_on(server, old)).items()]


async def _given_on(server: Server, old: Collection[bytes]) -> dict[bytes, list[Authority]]:
    """By what devices are in still whose first grant stems from these keys, and is held back; not those named since."""
    door, known = server.replica.door, await KnownHere.of(server)
    is_named, is_by_code = await let_in_by_name(server.store), await let_in_by_code(server.store)
    fell, first = await fallen(server.replica, old), dict[bytes, Authority]()
    found = defaultdict[bytes, list[Authority]](list)
    for each in door.authorities():
        if each.role in DEVICES:
            first.setdefault(each.key, each)
    for key in [each.key for each in first.values() if each.grant in fell]:
        given = door.authorities_of(key)
        standing = [each for each in given if await in_force(server.replica, each)]
        for alike in ([each for each in standing if (each.role in SHARED) is shared] for shared in (False, True)):
            shown = await _shown(known, alike, [each for each in given if each.grant in fell], is_by_code)
            if alike and not any(map(is_named, alike)) and not await _any_by_a_code(server, shown, old):
                found[key] += alike
    return found


async def _shown(
    known: KnownHere, given: Iterable[Authority], fell: Iterable[Authority], is_by_code: Callable[[Authority], bool]
) -> list[Authority]:
    """Those of these grants whose word that a device came by a code is heard: of a code that none which fell names.

    A server knows by whose code it let somebody in: what its key says of that is a thief's word as well, and so is what
    a school's computer says that it does not know.
    """
    named = {each.invite for each in fell}
    return [
        each for each in given if each.invite not in named and (is_by_code(each) or await known.is_by_a_school(each))
    ]


async def _any_by_a_code(server: Server, given: Collection[Authority], old: Collection[bytes]) -> bool:
    """Whether one of these grants names a code that counts, none of these keys', for whom it names, where it lies."""
    names = {each.invite for each in given if each.invite is not None}
    made = [one for one in (await server.store.get(sorted(names))).values() if one.header.kind == Kind.INVITE]
    counting = await not_held_back(server.replica, [one for one in made if one.header.author not in old])
    codes = {one.id: Invite.parse(one.payload) for one in counting if one.payload is not None}
    return any(
        each.space in codes[each.invite].spaces and codes[each.invite].person == each.person
        for each in given
        if each.invite in codes
    )


def _is_below(right: Authority | None) -> bool:
    """Whether a right is that of somebody who is no server."""
    return right is not None and right.role is not Role.SERVER
