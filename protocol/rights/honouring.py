"""Who may honour an enrolment code: let in who shows it (docs/protocol.md, "Enrolment").

A newcomer knows the root that its code names, and no key that was cut off under it. So the code's `invite` says who
could let others in when it was made, in words that only the code itself can say (`Invite.is_vouched`).

Rules:
- whoever could then, may: the server in force, whoever runs the school or the territory;
- besides them a server of a later certificate: one that took the place of that server since, as the root says;
- nobody else, so that no key that was cut off before a code was made lets anybody in with it; a computer that may let
  others in only since makes codes of its own (docs/adr/0315).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

from protocol.limits import MAX_HOSTS_PER_INVITE
from protocol.model.structure import Hosts
from protocol.rights.door import Authority, Door
from protocol.roles import RUNS_A_SCHOOL, Role

Age: TypeAlias = tuple[int, int, bytes]
"""Of a certificate: the place of its root in the line of them, its time, its id. The greatest is the newest."""


def age(door: Door, certificate: Authority) -> Age:
    """How late a certificate is among those of its territory."""
    return door.place_of_root(certificate.author), certificate.at, certificate.grant


def server_in_force(door: Door, cut: Collection[bytes], held_back: Collection[bytes]) -> Authority | None:
    """The server by its newest certificate that counts; None where all have been cut off."""
    servers = (each for each in door.authorities_in(door.territory) if each.role is Role.SERVER)
    return max(_counting(servers, cut, held_back), key=lambda each: age(door, each), default=None)


def hosts_of(door: Door, own: bytes, home: bytes, cut: Collection[bytes], held_back: Collection[bytes]) -> Hosts:
    """Who may honour a code that a device makes now, by its key: that one first.

    `home` is the space that holds the code's `invite`, all that it opens below it; `cut` are the keys, `held_back` the
    entries that do not count there.
    """
    server = server_in_force(door, cut, held_back)
    spaces = door.lineage(home)
    heads = (each for space in spaces for each in door.authorities_in(space) if each.role in RUNS_A_SCHOOL)
    latest = sorted(_counting(heads, cut, held_back), key=lambda each: (each.at, each.grant), reverse=True)
    keys = dict.fromkeys([own, *([] if server is None else [server.key]), *(each.key for each in latest)])
    return Hosts(tuple(keys)[:MAX_HOSTS_PER_INVITE], None if server is None else server.grant)


def may_honour(door: Door, hosts: Hosts, key: bytes) -> bool:
    """Whether a device, by its key, is one of the hosts, or a server that took the place of theirs, as `door` knows."""
    if key in hosts.keys:
        return True
    then = door.authority(hosts.certificate)
    if then is None or then.role is not Role.SERVER:
        return False
    return any(each.role is Role.SERVER and age(door, each) > age(door, then) for each in door.authorities_of(key))


def _counting(
    authorities: Iterable[Authority], cut: Collection[bytes], held_back: Collection[bytes]
) -> Iterator[Authority]:
    return (each for each in authorities if each.key not in cut and each.grant not in held_back)
