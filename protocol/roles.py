"""Roles and their ranks (docs/protocol.md, "Rights").

A device's role is what its grant says; a person's role is what the roster says. They meet in the teacher: a device
with a teacher's grant names its person. A head teacher's device holds its grant in a school and runs it
(docs/adr/0031): what it may do there needs no server.

The door knows these roles and no others, so a later one would part old replicas from new: the table is closed with
format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Role(StrEnum):
    """What a key may be granted."""

    ROOT = "root"
    SERVER = "server"
    ADMIN = "admin"
    HEAD = "head"
    TEACHER = "teacher"
    RELAY = "relay"
    MACHINE = "machine"


class PersonRole(StrEnum):
    """What a person is in a space."""

    TEACHER = "teacher"
    PUPIL = "pupil"
    GUARDIAN = "guardian"
    ADMIN = "admin"


RANK: Final[Mapping[Role, int]] = MappingProxyType(
    {
        Role.ROOT: 6,
        Role.SERVER: 5,
        Role.ADMIN: 4,
        Role.HEAD: 3,
        Role.TEACHER: 2,
        Role.RELAY: 1,
        Role.MACHINE: 1,
    }
)


DEVICES: Final = frozenset({Role.ADMIN, Role.HEAD, Role.TEACHER, Role.RELAY, Role.MACHINE})
"""What people let in: neither the root nor a server."""

# Whose devices do what, beyond what the door decides: the one table.
SHARED: Final = frozenset({Role.MACHINE, Role.RELAY})
"""Machines that are nobody's own."""
HAS_READING_KEYS: Final = frozenset({Role.TEACHER, Role.HEAD})
"""Whose persons have keys that open hand-ins."""
READS_HAND_INS: Final = frozenset({Role.SERVER, Role.HEAD, Role.TEACHER, Role.RELAY})
"""Whose devices hold the sealed content of every hand-in of their spaces; who opens it is for the wraps to say."""
SEES_ALL_WORK: Final = frozenset({Role.TEACHER, Role.HEAD, Role.ADMIN})
"""Whose devices list the work of whole classes, and not only what was made on them."""
HOLDS_SIGN_INS: Final = frozenset({Role.HEAD, Role.TEACHER, Role.RELAY, Role.MACHINE})
"""Whose devices can prove a pupil, where they stand in the pupil's own school."""
RUNS_A_SCHOOL: Final = frozenset({Role.HEAD, Role.ADMIN})
"""Whose devices let others in and out with no server in reach."""
KEEPS_REPORTS: Final = frozenset({Role.TEACHER, Role.HEAD, Role.RELAY})
"""Whose devices pass on how others are."""
ARE_TAUGHT: Final = frozenset({PersonRole.PUPIL, PersonRole.GUARDIAN})
"""Pupils, and who is there for one: they have no computer of their own here, and what there is about them is about
nobody else."""
