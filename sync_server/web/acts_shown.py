"""The page of who did what: which lines it shows, and how it says what these pages have noted themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from protocol.replica.console.typed_by import BY_COMMAND
from protocol.replica.office.acts import FAILED_SIGN_IN, TOLD_BROKEN, Line, broken_in, lines_in
from protocol.roles import DEVICES, PersonRole
from sync_server.web.wording import Words

ROWS: Final = 200
MAX_TOLD_BROKEN: Final = 20
SIGN_IN: Final = "sign-in"
ADD_PASSKEY: Final = "add a passkey"
EXPORT: Final = "export of devices"
_SAID: Final[Mapping[str, str]] = {
    SIGN_IN: "audit.sign_in",
    FAILED_SIGN_IN: "audit.sign_in_failed",
    ADD_PASSKEY: "audit.add_passkey",
    EXPORT: "audit.export",
    "look at what waits": "audit.waiting",
    "confirm": "audit.confirm",
    "accept": "audit.accept",
    "refuse": "audit.refuse",
    TOLD_BROKEN: "audit.told_broken",
}
"""What these pages note, by the catalogue's key; a command stands there as it was typed."""
BY_PAGES: Final = "pages: "
"""Before an account of these pages, as a line of the trail says it."""
NOBODY: Final = "?"
_FACTORS: Final = ("passphrase", "passkey", "code")
_ID: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_MORE: Final = re.compile(r" and ([0-9]+) more$", re.ASCII)
"""How `ids_told` ends where there was no room."""
_OF_ACCOUNTS: Final = "sync-server administrator "
_OF_PERSONS: Final[Mapping[str, str]] = {role.value: f"family.role_{role.value}" for role in PersonRole}
_OF_DEVICES: Final[Mapping[str, str]] = {role.value: f"role.{role.value}" for role in DEVICES}
"""What a command that was given a role is about, by the catalogue's key."""
_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shown:
    """Some lines, the newest first; the number before which older ones are; and where the chain does not hold."""

    lines: list[Line]
    before: int | None
    broken: list[int]

    @classmethod
    def of(cls, raw: Mapping[int, bytes], before: str) -> Self:
        """Of all lines the newest, or those before a number as an address says it. Slow: for a thread."""
        lines = lines_in(raw)
        if _NUMBER.fullmatch(before):
            lines = [line for line in lines if line.number < int(before)]
        some = lines[-ROWS:][::-1]
        return cls(some, some[-1].number if len(lines) > len(some) else None, broken_in(raw))


class ActView:
    """A line as a row."""

    def __init__(self, line: Line, words: Words) -> None:
        act = line.act
        self.number = line.number
        self.at_ms = act.at_ms
        self.by = _account(act.by, words)
        self.is_command = act.what not in _SAID
        self.what = words(_SAID[act.what]) if act.what in _SAID else act.what
        self.about = _about(act.what, act.about, words)
        self.with_kit = act.with_kit
        self.failed = act.failed and act.what != FAILED_SIGN_IN


def by_account(name: str | None) -> str:
    """Who does something on these pages, as the trail says it; None is nobody with an account."""
    return BY_PAGES + (NOBODY if name is None else name)


def _account(by: str, words: Words) -> str:
    if by.startswith(BY_COMMAND):
        return words("audit.command", account=by.removeprefix(BY_COMMAND))
    if by.startswith(BY_PAGES):
        name = by.removeprefix(BY_PAGES)
        return words("audit.nobody") if name == NOBODY else name
    return by


def _about(what: str, about: str, words: Words) -> str:
    if what in (SIGN_IN, FAILED_SIGN_IN):
        return _shown_at_sign_in(about, words)
    if what.startswith(_OF_ACCOUNTS):
        return about  # an account may be called as a role is
    more = _MORE.search(about)
    said, *ids = (about[: more.start()] if more else about).split(" ")
    roles = _OF_PERSONS if what.startswith("sync-server person ") else _OF_DEVICES
    told = [words(roles[said]) if said in roles else said, *ids]
    return " ".join([*told, words("audit.more", n=more[1])] if more else told)


def _shown_at_sign_in(about: str, words: Words) -> str:
    """The factors that a line of a sign-in names; the last line of a day for those that fail says so."""
    parts = re.split(r"[,;] ", about)
    return ", ".join(words(f"audit.{part}" if part in _FACTORS else "audit.no_more") for part in parts)


def told_id(text: str) -> str:
    """An id out of an address or a form, as a line holds it: nothing else that somebody has sent."""
    return text if _ID.fullmatch(text) else ""
