"""Which line of the trail a command leaves before it does anything (`protocol.replica.office.acts`, docs/adr/0418).

Rules:
- every command leaves one but those that are named here: one that is added later leaves one by itself;
- what only shows, and shows nobody's name, leaves none; what shows who is whom is one line an hour;
- it names whom and what the command is about by ids, and the accounts of the administrators that it is about by name.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from protocol.replica.console.operation import Params
from protocol.replica.console.typed_by import by_of
from protocol.replica.office.acts import ids_told
from protocol.roles import PersonRole, Role
from sync_server.opened.app import Server

UNNOTED: Final = frozenset({
    "status", "devices", "space list", "erasures", "administrator list", "administrator passkeys", "drill report",
    "verify", "backup-kept", "audit",
})  # fmt: skip
"""What shows how things stand, and no name of anybody on a list; `backup-kept` is the end of a `backup`."""
LOOKUPS: Final = frozenset({"person list", "hand-ins", "waiting", "check-receipt"})
"""What changes nothing, and shows who is whom."""
_LOOKUPS_WITHOUT_KIT: Final = frozenset({"space close"})
"""What only says what would go, unless the kit is there."""
_ID_KEYS: Final = ("person", "device", "space", "school", "covers", "named", "also")
_ID: Final = re.compile(r"[0-9a-f]{8,64}|[0-9]{7}[A-Z]", re.ASCII)
"""An id, its beginning, or a school's code: nothing that anybody is called."""
_FLAGS: Final = ("dry_run", "remove")
_ROLES: Final = frozenset(role.value for role in (*Role, *PersonRole))


@asynccontextmanager
async def noted(server: Server, command: str, params: Params, *, with_kit: bool = False) -> AsyncIterator[None]:
    """What the command does is done in the context. Raises `LocalFailure` where its line cannot be written."""
    by = by_of(params)
    if command in UNNOTED:
        yield
    elif command in LOOKUPS or (command in _LOOKUPS_WITHOUT_KIT and not with_kit):
        await server.acts.note_lookup(what_of(command, params), by, about_of(command, params))
        yield
    else:
        async with server.acts.noted(what_of(command, params), by, about_of(command, params), with_kit=with_kit):
            yield


def what_of(command: str, params: Params) -> str:
    """What is done: the command as it is typed, with what makes another one of it; no kind of entry is called so."""
    said = " ".join(f"--{key.replace('_', '-')}" for key in _FLAGS if params.get(key))
    return f"sync-server {command} {said}".rstrip()


def about_of(command: str, params: Params) -> str:
    """Whom and what a command is about: ids, a role, an account."""
    accounts = [str(params.get("name"))] if command.startswith("administrator ") else []
    role = params.get("role")
    roles = [role] if isinstance(role, str) and role in _ROLES else []
    return ids_told([*accounts, *roles, *_ids_in(params)])


def _ids_in(params: Params) -> Iterator[str]:
    for key in _ID_KEYS:
        value = params.get(key)
        some = value if isinstance(value, list | tuple) else [value]
        yield from (each for each in some if isinstance(each, str) and _ID.fullmatch(each))
