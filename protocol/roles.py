"""Roles and their ranks (docs/protocol.md, "Rights").

A device's role is what its grant says; a person's role is what the roster says. They meet in the teacher: a device
with a teacher's grant names its person.
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
    {Role.ROOT: 5, Role.SERVER: 4, Role.ADMIN: 3, Role.TEACHER: 2, Role.RELAY: 1, Role.MACHINE: 1}
)
