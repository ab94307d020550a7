"""What people type, read once: names, ids, roles, lifetimes. Every refusal is a `BadInput` that says what to type."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Iterable
from typing import Final, TypeVar

from protocol.errors import BadInput, Code
from protocol.limits import MAX_NAME_CHARS
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.roles import PersonRole, Role
from protocol.shown_text import name_shown

INVITED_ROLES: Final = (Role.MACHINE, Role.TEACHER, Role.RELAY, Role.HEAD, Role.ADMIN)
_MOST_DAYS: Final = 366
MAX_LIFETIME_MS: Final = _MOST_DAYS * 24 * 3600 * 1000

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LIFETIME: Final = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_BEGINNING: Final = re.compile(r"[0-9a-f]{8,}", re.ASCII | re.IGNORECASE)
NO_YEAR: Final = "none"
_MADE_FOR_THE_NEXT_FROM: Final = 7
_PERHAPS_FOR_THE_NEXT_FROM: Final = 4
"""The month."""
_YEAR: Final = re.compile(r"([0-9]{4})-([0-9]{4})", re.ASCII)

T = TypeVar("T")


def name_of(text: str, what: str) -> str:
    """A name as it is kept, which is as it is shown. Raises `BadInput(BAD_NAME)`."""
    name = name_shown(text)
    if not name:
        raise BadInput(Code.BAD_NAME, f"{what} needs a name")
    if len(name) > MAX_NAME_CHARS:
        raise BadInput(Code.BAD_NAME, f"the name of {what} is longer than {MAX_NAME_CHARS} characters")
    # C is what has no shape: control characters, lone surrogates, what Unicode has not assigned.
    if any(unicodedata.category(char) in {"Cc", "Cs", "Cn", "Co"} for char in text.strip()):
        raise BadInput(Code.BAD_NAME, f"the name of {what} holds a character that cannot be shown")
    return name


def person_role(text: str) -> PersonRole:
    """A person's role. Raises `BadInput(UNKNOWN_ROLE)`."""
    try:
        return PersonRole(text)
    except ValueError:
        raise _unknown_role(text, PersonRole) from None


def invited_role(text: str) -> Role:
    """The role that a code may give. Raises `BadInput(UNKNOWN_ROLE)`."""
    for role in INVITED_ROLES:
        if role.value == text:
            return role
    raise _unknown_role(text, INVITED_ROLES)


def device_id(text: str) -> bytes:
    """A device's id. Raises `BadInput(UNKNOWN_DEVICE)`."""
    return _id(text, ID_BYTES, Code.UNKNOWN_DEVICE, "a device", "`devices`")


def entry_id(text: str) -> bytes:
    """The id of an entry or of a device that wrote some. Raises `BadInput(UNKNOWN_HAND_IN)`."""
    return _id(text, ID_BYTES, Code.UNKNOWN_HAND_IN, "an entry", "`waiting`")


def person_id(text: str) -> bytes:
    """A person's id. Raises `BadInput(UNKNOWN_PERSON)`."""
    return _id(text, PERSON_BYTES, Code.UNKNOWN_PERSON, "a person", "`person list`")


def hex_or_none(text: str, size: int) -> bytes | None:
    """The `size` bytes that `text` spells in hexadecimal, if it does."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        return None
    return data if len(data) == size and len(text) == 2 * size else None


def school_year(text: str | None) -> str | None:
    """A school year, as in 2026-2027. Raises `BadInput(BAD_DATE)`."""
    if text is None:
        return None
    years = _YEAR.fullmatch(text.strip())
    if years is None or int(years[2]) != int(years[1]) + 1:
        raise BadInput(Code.BAD_DATE, f"“{text}” is no school year: two years in a row are expected, as in 2026-2027")
    return text.strip()


def year_meant(text: str | None, now_ms: int) -> str | None:
    """The school year of a class that is made now, as somebody said it (`NO_YEAR`: of none), else the one it is.

    From July on that is the one that begins in September. Raises `BadInput(BAD_DATE)`.
    """
    if text is not None:
        return None if text.strip().casefold() == NO_YEAR else school_year(text)
    day = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    first = day.year if day.month >= _MADE_FOR_THE_NEXT_FROM else day.year - 1
    return f"{first}-{first + 1}"


def next_year_perhaps(now_ms: int) -> str | None:
    """The school year after today's, in the months in which people begin to make its classes."""
    day = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
    is_spring = _PERHAPS_FOR_THE_NEXT_FROM <= day.month < _MADE_FOR_THE_NEXT_FROM
    return f"{day.year}-{day.year + 1}" if is_spring else None


def lifetime_ms(text: str) -> int:
    """How long a code, or what it opens, lasts, in ms: a number and s, m, h or d. Raises `BadInput(BAD_DATE)`."""
    found = _LIFETIME.fullmatch(text.strip())
    lifetime = int(found[1]) * _UNITS_MS[found[2]] if found else 0
    if not 0 < lifetime <= MAX_LIFETIME_MS:
        raise BadInput(Code.BAD_DATE, f"“{text}” is no time here: 30m, 24h and 7d are, up to {_MOST_DAYS}d")
    return lifetime


def moment_ms(text: str, now_ms: int) -> int:
    """A time in the past, in ms: a date with or without a time of day, local unless it says otherwise, or how long ago.

    Raises `BadInput(BAD_DATE)`.
    """
    ago = _LIFETIME.fullmatch(text.strip())
    try:
        if ago is not None:
            found = now_ms - int(ago[1]) * _UNITS_MS[ago[2]]
        else:
            found = int(dt.datetime.fromisoformat(text.strip()).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        found = -1
    if not 0 <= found <= now_ms:
        raise BadInput(Code.BAD_DATE, f"“{text}” is no time that has been: 2026-11-20, 2026-11-20T14:30 and 36h are")
    return found


def distinct(values: Iterable[T]) -> list[T]:
    """The values in their order, each once."""
    return list(dict.fromkeys(values))


def _id(text: str, size: int, code: Code, what: str, listed: str) -> bytes:
    """`listed`: the command that shows such ids."""
    found = hex_or_none(text.strip(), size)
    if found is None:
        is_one = _BEGINNING.fullmatch(text.strip()) is not None and len(text.strip()) <= 2 * size
        why = "no id here begins so" if is_one else f"{2 * size} hexadecimal digits, or the first eight"
        raise BadInput(code, f"“{text}” is not the id of {what}: {why}; {listed} shows them")
    return found


def _unknown_role(text: str, roles: Iterable[Role] | type[PersonRole]) -> BadInput:
    known = ", ".join(role.value for role in roles)
    return BadInput(Code.UNKNOWN_ROLE, f"there is no role “{text}”; the roles are {known}", role=text)
